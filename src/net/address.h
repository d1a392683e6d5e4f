/* address.h - where to listen and where to connect, as text and as the system has it.
 * Thread: any. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "neap.h"

/* A place that was written as text. */
struct neap_endpoint {
    struct sockaddr_storage sa;
    socklen_t size;
    int descriptor; /* fd://N: N, and no sa; else -1 */
};

/* A small copy of a socket address, for streams that are many. A unix socket's path is not in
 * it: the system is asked for that when somebody wants to see it. */
struct neap_address {
    uint8_t family; /* AF_INET, AF_INET6, AF_UNIX; 0: no socket, `port` is its descriptor */
    uint16_t port;
    uint8_t ip[16]; /* network order; IPv4 in the first four */
};

/* Read tcp://IP:PORT (IPv6 in brackets; "localhost" is 127.0.0.1: RFC 6761, 6.3),
 * unix:///PATH, unix://@NAME (Linux's abstract sockets), or fd://N. err: ADDRESS. */
int neap_endpoint_parse(const char *text, struct neap_endpoint *endpoint);

/* Write one of these into room[NEAP_ADDRESS_BYTES]. */
void neap_endpoint_print(const struct neap_endpoint *endpoint, char *room);

/* The same for the small copy; a unix socket is printed as "unix://". */
void neap_address_print(const struct neap_address *address, char *room);

/* An IPv4 peer of an IPv6 socket becomes an IPv4 address. */
void neap_address_from(const struct neap_endpoint *endpoint, struct neap_address *address);
