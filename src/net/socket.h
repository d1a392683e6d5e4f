/* socket.h - the system calls on TCP sockets, with neap's results.
 *
 * Every descriptor is non-blocking and close-on-exec; no call raises SIGPIPE; an
 * interrupted call is made again. Thread: any. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "net/address.h"

/* The enum neap_err that an errno means. */
int neap_error_of(int system_errno);

/* Results: the descriptor, or a negative enum neap_err. */
int neap_socket_listen(const struct neap_address *address);
int neap_socket_connect(const struct neap_address *address); /* may still be under way */
int neap_socket_accept(int listener, struct neap_address *peer);

/* How a connect went: OK or why it failed. */
int neap_socket_error(int fd);

/* Bytes moved; 0: the end (read) or nothing could be sent; AGAIN, RESET, …. */
int64_t neap_socket_read(int fd, void *room, size_t bytes);
int64_t neap_socket_send(int fd, struct iovec *parts, int count);

void neap_socket_shutdown(int fd);
void neap_socket_close(int fd);
void neap_socket_local(int fd, struct neap_address *address);
