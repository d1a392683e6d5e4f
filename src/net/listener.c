/* listener.c - a socket that connections come to. Accepting is left to whoever asks
 * (a script, once it was told that some wait). When the process has no descriptor or
 * no memory left, accepting rests for a moment instead of spinning; the connections
 * wait in the kernel's backlog. Thread: the loop's. */
#include <stddef.h>

#include "base/slots.h"
#include "net/net.h"
#include "net/socket.h"

enum { LISTENERS_MAX = 65536 };

static const double rest_seconds = 0.1;

struct neap_listener {
    struct neap_slot head;
    uint32_t slot;
    int fd;
    struct neap_loop *loop;
    struct neap_pool *pool; /* kept open: its connections read into it */
    struct neap_watch watch;
    struct neap_mark mark;
    struct neap_alarm rest;
};

static struct neap_slots listeners = NEAP_SLOTS(struct neap_listener, LISTENERS_MAX);

static struct neap_listener *listener_of(uint32_t slot, uint32_t gen)
{
    return neap_slots_find(&listeners, slot, gen);
}

static void on_ready(struct neap_watch *watch, int events)
{
    (void)events;
    struct neap_listener *l = neap_owner_of(watch, struct neap_listener, watch);
    neap_mark_set(l->loop, &l->mark, NEAP_READY_ACCEPT);
}

static void on_rested(struct neap_alarm *alarm)
{
    struct neap_listener *l = neap_owner_of(alarm, struct neap_listener, rest);
    neap_watch_set(l->loop, &l->watch, NEAP_WATCH_READ);
}

static int adopt(struct neap_loop *loop, struct neap_pool *pool, int fd, struct neap_handle *handle)
{
    uint32_t slot;
    struct neap_listener *l = neap_slots_take(&listeners, &slot);
    if (!l) {
        neap_socket_close(fd);
        return NEAP_E_MEMORY;
    }
    neap_pool_keep(pool);
    l->slot = slot;
    l->fd = fd;
    l->loop = loop;
    l->pool = pool;
    l->mark.slot = slot;
    l->rest.ring = on_rested;
    neap_watch_init(&l->watch, fd, on_ready);
    neap_watch_set(loop, &l->watch, NEAP_WATCH_READ);
    loop->listener_count++;
    neap_net_counts.listeners_live++;
    *handle = (struct neap_handle){slot, l->head.gen};
    return NEAP_OK;
}

int neap_listener_open(struct neap_loop *loop, uint32_t pool_slot, uint32_t pool_gen,
                       const char *text, struct neap_handle *handle)
{
    struct neap_pool *pool = neap_pool_of(pool_slot, pool_gen);
    if (!pool) return NEAP_E_STALE;
    if (pool->closed) return NEAP_E_CLOSED;
    struct neap_address address;
    int result = neap_address_parse(text, &address);
    if (result < 0) return result;
    int fd = neap_socket_listen(&address);
    return fd < 0 ? fd : adopt(loop, pool, fd, handle);
}

/* What waits can't be taken now; asking at once would only spin. */
static void rest(struct neap_listener *l)
{
    neap_net_counts.accept_pauses++;
    neap_watch_set(l->loop, &l->watch, 0);
    neap_alarm_set(l->loop, &l->rest, rest_seconds);
}

int neap_listener_accept(uint32_t slot, uint32_t gen, struct neap_connection *connection)
{
    struct neap_listener *l = listener_of(slot, gen);
    if (!l) return NEAP_E_STALE;
    struct neap_address peer;
    int fd = neap_socket_accept(l->fd, &peer);
    int result = fd < 0 ? fd : neap_stream_adopt(l->loop, l->pool, fd, &peer, false, connection);
    if (result == NEAP_OK) neap_net_counts.accepted++;
    if (result == NEAP_E_DESCRIPTORS || result == NEAP_E_MEMORY) rest(l);
    return result;
}

int neap_listener_address(uint32_t slot, uint32_t gen, char *room)
{
    struct neap_listener *l = listener_of(slot, gen);
    if (!l) return NEAP_E_STALE;
    struct neap_address address;
    neap_socket_local(l->fd, &address);
    neap_address_print(&address, room);
    return NEAP_OK;
}

static void end(struct neap_listener *l)
{
    neap_watch_set(l->loop, &l->watch, 0);
    neap_mark_clear(l->loop, &l->mark);
    neap_alarm_clear(l->loop, &l->rest);
    neap_socket_close(l->fd);
    neap_pool_unkeep(l->pool);
    l->loop->listener_count--;
    neap_net_counts.listeners_live--;
    neap_slots_give(&listeners, l->slot);
}

int neap_listener_close(uint32_t slot, uint32_t gen)
{
    struct neap_listener *l = listener_of(slot, gen);
    if (!l) return NEAP_E_STALE;
    end(l);
    return NEAP_OK;
}

void neap_listener_finalize(void *handle)
{
    const struct neap_handle *h = handle;
    if (neap_listener_close(h->slot, h->gen) == NEAP_OK) neap_net_counts.closed_forgotten++;
}

void neap_listeners_end(struct neap_loop *loop)
{
    for (uint32_t slot = 1; slot < listeners.count; slot++) {
        struct neap_listener *l = neap_slots_at(&listeners, slot);
        if ((l->head.gen & 1) && l->loop == loop) end(l);
    }
}
