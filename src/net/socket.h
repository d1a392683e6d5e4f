/* socket.h - the system calls on sockets and other descriptors, with neap's results.
 *
 * Every descriptor is close-on-exec; no call raises SIGPIPE, or blocks on a socket; an
 * interrupted call is made again. Thread: any. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "net/address.h"

/* The enum neap_err that an errno means. */
int neap_error_of(int system_errno);

/* Results: the descriptor, or a negative enum neap_err. */
int neap_socket_listen(const struct neap_endpoint *at, const struct neap_socket_options *options);
int neap_socket_connect(const struct neap_endpoint *to, const struct neap_socket_options *options);
int neap_socket_accept(int listener, struct neap_address *peer,
                       const struct neap_socket_options *options);

/* The file of a unix socket that listens: removed with it, if it is still the same. */
struct neap_path {
    char text[108]; /* "": none */
    uint64_t device, inode;
};

void neap_path_note(const struct neap_endpoint *at, struct neap_path *path);
void neap_path_remove(const struct neap_path *path);

/* Two sockets that are connected with each other. */
int neap_socket_pair(int pair[2]);

/* How a connect went: OK or why it failed. */
int neap_socket_error(int fd);

/* Bytes moved; 0: the end (read) or nothing could be sent; AGAIN, RESET, …. */
int64_t neap_socket_read(int fd, void *room, size_t bytes);
int64_t neap_socket_send(int fd, struct iovec *parts, int count);

/* The same for n bytes of a file; 0: it ends before the first. */
int64_t neap_socket_send_file(int fd, int file, off_t offset, uint32_t n);

/* The same for a descriptor that is no socket. */
int64_t neap_file_read(int fd, void *room, size_t bytes);
int64_t neap_file_write(int fd, struct iovec *parts, int count);

void neap_socket_shutdown(int fd);
void neap_socket_break(int fd); /* its close will be a reset */
void neap_socket_close(int fd);
void neap_socket_local(int fd, struct neap_endpoint *endpoint);
void neap_socket_peer(int fd, struct neap_endpoint *endpoint);

/* What an inherited descriptor is. */
enum neap_descriptor_kind { NEAP_IS_LISTENER, NEAP_IS_SOCKET, NEAP_IS_FILE };

/* A descriptor of ours for the inherited one, which is no longer used: from 3 on it is
 * replaced by /dev/null, so that its peer sees the end when ours is closed.
 * err: DESCRIPTOR (none was inherited under this number, or it was taken before), …. */
int neap_inherited_take(int number, enum neap_descriptor_kind *kind);
