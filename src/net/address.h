/* address.h - where to listen and where to connect, as text and as the system has it.
 * Thread: any. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "neap.h"

/* A small copy of a socket address, for streams that are many. */
struct neap_address {
    uint8_t family; /* AF_INET, AF_INET6; 0: unknown */
    uint16_t port;
    uint8_t ip[16]; /* network order; IPv4 in the first four */
};

/* Read tcp://IP:PORT, IPv6 in brackets; "localhost" is 127.0.0.1 (RFC 6761, 6.3).
 * err: ADDRESS. */
int neap_address_parse(const char *text, struct neap_address *address);

/* Write tcp://IP:PORT into room[NEAP_ADDRESS_BYTES]; "an unknown address" for none. */
void neap_address_print(const struct neap_address *address, char *room);

/* The size of *sa that is used. */
socklen_t neap_address_to_system(const struct neap_address *address, struct sockaddr_storage *sa);
void neap_address_from_system(const struct sockaddr_storage *sa, struct neap_address *address);
