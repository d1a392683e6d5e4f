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
    struct neap_socket_options options;
    uint32_t connections; /* open, of those that came here */
    bool waited_for;      /* the system has reported a connection that was not accepted yet */
    bool full;            /* there are max_connections: nothing is accepted */
    struct neap_path path;
};

static struct neap_slots listeners = NEAP_SLOTS(struct neap_listener, LISTENERS_MAX);

static neap_watch_ready on_ready;

static struct neap_listener *listener_of(uint32_t slot, uint32_t gen)
{
    return neap_slots_find(&listeners, slot, gen);
}

/* Looks for connections, unless nobody could or would take them now. */
static void watch(struct neap_listener *l)
{
    bool rests = l->full || l->rest.link.next || l->loop->refusing;
    neap_watch_set(l->loop, &l->watch, rests ? 0 : NEAP_WATCH_READ);
}

static void on_rested(struct neap_alarm *alarm)
{
    watch(neap_owner_of(alarm, struct neap_listener, rest));
}

/* own: takes fd, also when it fails. */
static int adopt(struct neap_loop *loop, struct neap_pool *pool, int fd,
                 const struct neap_socket_options *options, struct neap_handle *handle)
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
    l->options = *options;
    l->mark.slot = slot;
    l->rest.ring = on_rested;
    neap_watch_init(&l->watch, fd, on_ready);
    watch(l);
    loop->listener_count++;
    neap_net_counts.listeners_live++;
    *handle = (struct neap_handle){slot, l->head.gen};
    return NEAP_OK;
}

static int take_inherited(int number)
{
    enum neap_descriptor_kind kind;
    int fd = neap_inherited_take(number, &kind);
    if (fd < 0 || kind == NEAP_IS_LISTENER) return fd;
    neap_socket_close(fd);
    return NEAP_E_DESCRIPTOR;
}

int neap_listener_open(struct neap_loop *loop, uint32_t pool_slot, uint32_t pool_gen,
                       const char *text, const struct neap_socket_options *options,
                       struct neap_handle *handle)
{
    struct neap_pool *pool = neap_pool_of(pool_slot, pool_gen);
    if (!pool) return NEAP_E_STALE;
    if (pool->closed) return NEAP_E_CLOSED;
    struct neap_endpoint at;
    int result = neap_endpoint_parse(text, &at);
    if (result == NEAP_OK) result = neap_pool_reserve(pool, options->max_read);
    if (result < 0) return result;
    bool inherited = at.descriptor >= 0;
    int fd = inherited ? take_inherited(at.descriptor) : neap_socket_listen(&at, options);
    if (fd < 0) return fd;
    result = adopt(loop, pool, fd, options, handle);
    if (result == NEAP_OK && !inherited)
        neap_path_note(&at, &listener_of(handle->slot, handle->gen)->path);
    return result;
}

/* What waits can't be taken now; asking at once would only spin. */
static void rest(struct neap_listener *l)
{
    neap_net_counts.accept_pauses++;
    neap_alarm_set(l->loop, &l->rest, rest_seconds);
    watch(l);
}

static void on_ready(struct neap_watch *watch, int events)
{
    (void)events;
    struct neap_listener *l = neap_owner_of(watch, struct neap_listener, watch);
    l->waited_for = true;
    neap_mark_set(l->loop, &l->mark, NEAP_READY_ACCEPT);
    if (!neap_watch_events(watch)) rest(l); /* the system had no memory to watch it */
}

/* Who comes now waits in the kernel, until one of those that are here has ended. */
static int wait_for_end(struct neap_listener *l)
{
    if (!l->waited_for) return NEAP_E_AGAIN;
    if (!l->full) neap_net_counts.accept_limited++;
    l->full = true;
    watch(l);
    return NEAP_E_LIMIT;
}

void neap_listener_left(struct neap_handle listener)
{
    struct neap_listener *l = listener_of(listener.slot, listener.gen);
    if (!l) return;
    l->connections--;
    if (!l->full) return;
    l->full = false;
    watch(l);
}

int neap_listener_accept(uint32_t slot, uint32_t gen, struct neap_connection *connection)
{
    struct neap_listener *l = listener_of(slot, gen);
    if (!l) return NEAP_E_STALE;
    if (l->connections >= l->options.max_connections) return wait_for_end(l);
    struct neap_arrival arrival = {.listener = {slot, gen}};
    arrival.fd = neap_socket_accept(l->fd, &arrival.peer, &l->options);
    int result = arrival.fd;
    if (result >= 0)
        result = neap_stream_adopt(l->loop, l->pool, &arrival, &l->options, connection);
    if (result == NEAP_OK) {
        neap_net_counts.accepted++;
        l->connections++;
        l->waited_for = false; /* if another waits, it is reported */
    }
    /* SYSTEM: as when whoever else has an inherited socket has shut it down */
    if (result == NEAP_E_DESCRIPTORS || result == NEAP_E_MEMORY || result <= NEAP_E_SYSTEM) rest(l);
    return result;
}

int neap_listener_next(uint32_t slot, struct neap_handle *listener)
{
    for (slot = slot ? slot : 1; slot < listeners.count; slot++) {
        struct neap_listener *l = neap_slots_at(&listeners, slot);
        if (!(l->head.gen & 1)) continue;
        *listener = (struct neap_handle){slot, l->head.gen};
        return 1;
    }
    return 0;
}

int neap_listener_address(uint32_t slot, uint32_t gen, char *room)
{
    struct neap_listener *l = listener_of(slot, gen);
    if (!l) return NEAP_E_STALE;
    struct neap_endpoint local;
    neap_socket_local(l->fd, &local);
    neap_endpoint_print(&local, room);
    return NEAP_OK;
}

static void end(struct neap_listener *l)
{
    neap_watch_set(l->loop, &l->watch, 0);
    neap_mark_clear(l->loop, &l->mark);
    neap_alarm_clear(l->loop, &l->rest);
    neap_path_remove(&l->path);
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

void neap_loop_accept(struct neap_loop *loop, bool on)
{
    loop->refusing = !on;
    for (uint32_t slot = 1; slot < listeners.count; slot++) {
        struct neap_listener *l = neap_slots_at(&listeners, slot);
        if ((l->head.gen & 1) && l->loop == loop) watch(l);
    }
}

void neap_listeners_end(struct neap_loop *loop)
{
    for (uint32_t slot = 1; slot < listeners.count; slot++) {
        struct neap_listener *l = neap_slots_at(&listeners, slot);
        if ((l->head.gen & 1) && l->loop == loop) end(l);
    }
}
