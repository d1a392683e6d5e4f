/* peer.c - whom a stream is with, by name: also when it is closed, since that is when most errors
 * are told. A closed stream's slot is soon another's, so the last GONE of them are noted here. */
#include <string.h>
#include <sys/socket.h>

#include "net/socket.h"
#include "net/stream.h"

enum { GONE = 1024 };

static struct {
    uint32_t slot, gen;
    struct neap_address peer;
} gone[GONE];
static char gone_unix[GONE]
                     [NEAP_ADDRESS_BYTES]; /* a socket is asked for its name while it is open */
static uint32_t gone_count;                /* ever */

/* A client of a unix socket has no name of its own: it is known by whom it came to. */
static void print_unix(const struct neap_stream *s, char *room)
{
    struct neap_endpoint peer;
    neap_socket_peer(s->fd, &peer);
    neap_endpoint_print(&peer, room);
    if (room[sizeof "unix://" - 1]) return;
    struct neap_endpoint local;
    neap_socket_local(s->fd, &local);
    neap_endpoint_print(&local, room);
}

void neap_stream_gone(const struct neap_stream *s, uint32_t slot, uint32_t gen)
{
    uint32_t at = gone_count++ % GONE;
    gone[at].slot = slot;
    gone[at].gen = gen;
    gone[at].peer = s->peer;
    if (s->peer.family == AF_UNIX) print_unix(s, gone_unix[at]);
}

static int print_gone(uint32_t slot, uint32_t gen, char *room)
{
    for (uint32_t i = 0; i < GONE; i++) {
        if (gone[i].slot != slot || gone[i].gen != gen || !(gen & 1)) continue;
        if (gone[i].peer.family == AF_UNIX)
            memcpy(room, gone_unix[i], NEAP_ADDRESS_BYTES);
        else
            neap_address_print(&gone[i].peer, room);
        return NEAP_E_CLOSED;
    }
    return NEAP_E_STALE;
}

int neap_stream_peer(uint32_t slot, uint32_t gen, char *room)
{
    const struct neap_stream *s = neap_slots_find(&neap_streams, slot, gen);
    if (!s) return print_gone(slot, gen, room);
    if (s->peer.family == AF_UNIX)
        print_unix(s, room);
    else
        neap_address_print(&s->peer, room);
    return NEAP_OK;
}

int neap_stream_local(uint32_t slot, uint32_t gen, char *room)
{
    const struct neap_stream *s = neap_slots_find(&neap_streams, slot, gen);
    if (!s) return NEAP_E_STALE;
    struct neap_endpoint local;
    if (s->file) {
        neap_address_print(&s->peer, room);
        return NEAP_OK;
    }
    neap_socket_local(s->fd, &local);
    neap_endpoint_print(&local, room);
    return NEAP_OK;
}
