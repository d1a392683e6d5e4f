#include "net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char scheme[] = "tcp://";

/* 1 to 5 digits and nothing behind them. */
static bool parse_port(const char *text, uint16_t *port)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 5 || text[digits]) return false;
    long value = strtol(text, NULL, 10);
    *port = (uint16_t)value;
    return value <= UINT16_MAX;
}

static bool parse_ip(const char *host, struct neap_address *address)
{
    if (strcmp(host, "localhost") == 0) host = "127.0.0.1";
    address->family = strchr(host, ':') ? AF_INET6 : AF_INET;
    return inet_pton(address->family, host, address->ip) == 1;
}

/* [host] or host, without the brackets, into room. Returns what follows, or NULL. */
static const char *take_host(const char *text, char *room, size_t room_bytes)
{
    bool bracket = *text == '[';
    const char *end = bracket ? strchr(text, ']') : strrchr(text, ':');
    text += bracket;
    if (!end || (size_t)(end - text) >= room_bytes) return NULL;
    if (!bracket && memchr(text, ':', (size_t)(end - text))) return NULL; /* IPv6 needs [] */
    memcpy(room, text, (size_t)(end - text));
    room[end - text] = 0;
    return end + bracket;
}

int neap_address_parse(const char *text, struct neap_address *address)
{
    char host[64];
    *address = (struct neap_address){0};
    if (strncmp(text, scheme, strlen(scheme)) != 0) return NEAP_E_ADDRESS;
    const char *port = take_host(text + strlen(scheme), host, sizeof host);
    if (!port || *port != ':' || !parse_port(port + 1, &address->port)) return NEAP_E_ADDRESS;
    return parse_ip(host, address) ? NEAP_OK : NEAP_E_ADDRESS;
}

void neap_address_print(const struct neap_address *address, char *room)
{
    char ip[INET6_ADDRSTRLEN];
    if (!address->family || !inet_ntop(address->family, address->ip, ip, sizeof ip)) {
        snprintf(room, NEAP_ADDRESS_BYTES, "an unknown address");
        return;
    }
    const char *form = address->family == AF_INET6 ? "%s[%s]:%u" : "%s%s:%u";
    snprintf(room, NEAP_ADDRESS_BYTES, form, scheme, ip, address->port);
}

socklen_t neap_address_to_system(const struct neap_address *address, struct sockaddr_storage *sa)
{
    memset(sa, 0, sizeof *sa);
    if (address->family == AF_INET6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)sa;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(address->port);
        memcpy(&in6->sin6_addr, address->ip, 16);
        return sizeof *in6;
    }
    struct sockaddr_in *in = (struct sockaddr_in *)sa;
    in->sin_family = AF_INET;
    in->sin_port = htons(address->port);
    memcpy(&in->sin_addr, address->ip, 4);
    return sizeof *in;
}

void neap_address_from_system(const struct sockaddr_storage *sa, struct neap_address *address)
{
    *address = (struct neap_address){0};
    if (sa->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)sa;
        address->port = ntohs(in6->sin6_port);
        memcpy(address->ip, &in6->sin6_addr, 16);
    } else if (sa->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)sa;
        address->port = ntohs(in->sin_port);
        memcpy(address->ip, &in->sin_addr, 4);
    } else {
        return;
    }
    address->family = (uint8_t)sa->ss_family;
}
