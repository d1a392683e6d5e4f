#include "net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

enum { DESCRIPTOR_LAST = 99999 }; /* five digits, as a port */

static bool skip_prefix(const char **text, const char *prefix)
{
    size_t n = strlen(prefix);
    if (strncmp(*text, prefix, n) != 0) return false;
    *text += n;
    return true;
}

/* 1 to 5 digits and nothing behind them. */
static bool parse_number(const char *text, long most, long *value)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 5 || text[digits]) return false;
    *value = strtol(text, NULL, 10);
    return *value <= most;
}

/* ---- tcp ---- */

static bool parse_ip(const char *host, uint16_t port, struct neap_endpoint *e)
{
    if (strcmp(host, "localhost") == 0) host = "127.0.0.1";
    if (strchr(host, ':')) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&e->sa;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        e->size = sizeof *in6;
        return inet_pton(AF_INET6, host, &in6->sin6_addr) == 1;
    }
    struct sockaddr_in *in = (struct sockaddr_in *)&e->sa;
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    e->size = sizeof *in;
    return inet_pton(AF_INET, host, &in->sin_addr) == 1;
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

static bool parse_tcp(const char *text, struct neap_endpoint *e)
{
    char host[64];
    long port;
    const char *rest = take_host(text, host, sizeof host);
    if (!rest || *rest != ':' || !parse_number(rest + 1, UINT16_MAX, &port)) return false;
    return parse_ip(host, (uint16_t)port, e);
}

/* ---- unix ---- */

/* An abstract name is its bytes, without an end; a path ends in a zero byte. */
static bool parse_unix(const char *text, struct neap_endpoint *e)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&e->sa;
    size_t n = strlen(text);
    bool abstract = *text == '@';
    if (n < 2 || (!abstract && *text != '/') || n >= sizeof un->sun_path) return false;
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, text, n + 1);
    if (abstract) un->sun_path[0] = 0;
    e->size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + !abstract);
    return true;
}

static void print_unix(const struct neap_endpoint *e, char *room)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)&e->sa;
    int n = (int)e->size - (int)offsetof(struct sockaddr_un, sun_path);
    if (n <= 0)
        snprintf(room, NEAP_ADDRESS_BYTES, "unix://");
    else if (un->sun_path[0])
        snprintf(room, NEAP_ADDRESS_BYTES, "unix://%.*s", n, un->sun_path);
    else
        snprintf(room, NEAP_ADDRESS_BYTES, "unix://@%.*s", n - 1, un->sun_path + 1);
}

/* ---- all ---- */

int neap_endpoint_parse(const char *text, struct neap_endpoint *e)
{
    long number;
    bool parsed = false;
    *e = (struct neap_endpoint){.descriptor = -1};
    if (skip_prefix(&text, "tcp://")) {
        parsed = parse_tcp(text, e);
    } else if (skip_prefix(&text, "unix://")) {
        parsed = parse_unix(text, e);
    } else if (skip_prefix(&text, "fd://")) {
        parsed = parse_number(text, DESCRIPTOR_LAST, &number);
        if (parsed) e->descriptor = (int)number;
    }
    return parsed ? NEAP_OK : NEAP_E_ADDRESS;
}

void neap_endpoint_print(const struct neap_endpoint *e, char *room)
{
    if (e->sa.ss_family == AF_UNIX) {
        print_unix(e, room);
        return;
    }
    struct neap_address address;
    neap_address_from(e, &address);
    neap_address_print(&address, room);
}

void neap_address_print(const struct neap_address *address, char *room)
{
    char ip[INET6_ADDRSTRLEN];
    if (address->family == 0) {
        snprintf(room, NEAP_ADDRESS_BYTES, "fd://%u", address->port);
        return;
    }
    if (address->family == AF_UNIX || !inet_ntop(address->family, address->ip, ip, sizeof ip)) {
        snprintf(room, NEAP_ADDRESS_BYTES, "unix://");
        return;
    }
    const char *form = address->family == AF_INET6 ? "tcp://[%s]:%u" : "tcp://%s:%u";
    snprintf(room, NEAP_ADDRESS_BYTES, form, ip, address->port);
}

static void from_ip6(const struct sockaddr_in6 *in6, struct neap_address *address)
{
    bool mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
    address->family = mapped ? AF_INET : AF_INET6;
    address->port = ntohs(in6->sin6_port);
    if (mapped)
        memcpy(address->ip, &in6->sin6_addr.s6_addr[12], 4);
    else
        memcpy(address->ip, &in6->sin6_addr, 16);
}

void neap_address_from(const struct neap_endpoint *e, struct neap_address *address)
{
    *address = (struct neap_address){0};
    if (e->descriptor >= 0) {
        address->port = (uint16_t)e->descriptor;
    } else if (e->sa.ss_family == AF_INET6) {
        from_ip6((const struct sockaddr_in6 *)&e->sa, address);
    } else if (e->sa.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&e->sa;
        address->family = AF_INET;
        address->port = ntohs(in->sin_port);
        memcpy(address->ip, &in->sin_addr, 4);
    } else {
        address->family = AF_UNIX;
    }
}
