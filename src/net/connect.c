/* connect.c - the ways to a stream that nobody has to accept: an address to connect to, a
 * descriptor that the process was started with, a pair. Thread: the loop's. */
#include <stddef.h>

#include "net/net.h"
#include "net/socket.h"

static int take_inherited(const struct neap_endpoint *to, struct neap_arrival *arrival)
{
    enum neap_descriptor_kind kind;
    int fd = neap_inherited_take(to->descriptor, &kind);
    if (fd < 0) return fd;
    if (kind == NEAP_IS_LISTENER) {
        neap_socket_close(fd);
        return NEAP_E_DESCRIPTOR;
    }
    arrival->file = kind == NEAP_IS_FILE;
    struct neap_endpoint peer;
    neap_socket_peer(fd, &peer);
    neap_address_from(peer.size && !arrival->file ? &peer : to, &arrival->peer);
    return fd;
}

static int open_connection(const char *text, const struct neap_socket_options *options,
                           struct neap_arrival *arrival)
{
    struct neap_endpoint to;
    int result = neap_endpoint_parse(text, &to);
    if (result < 0) return result;
    if (to.descriptor >= 0) return take_inherited(&to, arrival);
    arrival->connecting = true;
    neap_address_from(&to, &arrival->peer);
    return neap_socket_connect(&to, options);
}

int neap_stream_connect(struct neap_loop *loop, uint32_t pool_slot, uint32_t pool_gen,
                        const char *text, const struct neap_socket_options *options,
                        struct neap_connection *connection)
{
    struct neap_pool *pool = neap_pool_of(pool_slot, pool_gen);
    if (!pool) return NEAP_E_STALE;
    int result = neap_pool_reserve(pool, options->max_read);
    if (result < 0) return result;
    struct neap_arrival arrival = {0};
    arrival.fd = open_connection(text, options, &arrival);
    if (arrival.fd < 0) return arrival.fd;
    result = neap_stream_adopt(loop, pool, &arrival, options, connection);
    if (result == NEAP_OK) neap_net_counts.connected++;
    return result;
}

int neap_stream_pair(struct neap_loop *loop, uint32_t pool_slot, uint32_t pool_gen,
                     const struct neap_socket_options *options, struct neap_connection pair[2])
{
    struct neap_pool *pool = neap_pool_of(pool_slot, pool_gen);
    if (!pool) return NEAP_E_STALE;
    int fds[2];
    int result = neap_socket_pair(fds);
    if (result < 0) return result;
    struct neap_arrival arrival = {.fd = fds[0], .peer.family = AF_UNIX};
    result = neap_stream_adopt(loop, pool, &arrival, options, &pair[0]);
    if (result < 0) {
        neap_socket_close(fds[1]);
        return result;
    }
    arrival.fd = fds[1];
    result = neap_stream_adopt(loop, pool, &arrival, options, &pair[1]);
    if (result < 0) neap_stream_close(pair[0].stream.slot, pair[0].stream.gen);
    return result;
}
