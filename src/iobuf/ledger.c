#include "iobuf/ledger.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/panic.h"

enum {
    GROUPS_MAX = 1 << 16,
    ENDS = 1 << 16,         /* ends of slices that are remembered */
    SAMPLED_ENDS = 1 << 12, /* … at the level sample: in the second-level cache, not in the third */
};

_Static_assert(NEAP_SLICES_MAX < (int)NEAP_TRACK_KEPT, "NEAP_TRACK_KEPT is the number of no track");

struct track {
    struct neap_slot head;
    uint32_t born;  /* site */
    uint32_t bytes; /* when it was born */
    double weight;  /* slices that it stands for */
    struct neap_place last[NEAP_PLACES];
};

/* Forgotten slices with the same origin and the same last place. */
struct group {
    struct neap_slot head; /* never given back */
    uint32_t next;         /* in its chain */
    struct neap_forgotten sum;
};

struct end {
    uint32_t slot, gen;
    struct neap_end what;
};

const struct neap_slots neap_no_tracks = NEAP_SLOTS(struct track, NEAP_SLICES_MAX);
const struct neap_slots neap_no_groups = NEAP_SLOTS(struct group, GROUPS_MAX);

static struct neap_ledger_state *state(void)
{
    return &neap_here.realm->ledger;
}

/* ---- levels, and who is watched ---- */

/* xorshift64*, and of its upper bits a number in (0, 1]. */
static double next_random(void)
{
    uint64_t *x = &state()->random_state;
    *x ^= *x >> 12;
    *x ^= *x << 25;
    *x ^= *x >> 27;
    uint64_t bits = (*x * 0x2545f4914f6cdd1dull) >> 11;
    return (double)(bits + 1) * 0x1p-53;
}

static int64_t next_interval(void)
{
    return (int64_t)(-log(next_random()) * NEAP_LEAKS_BYTES);
}

int neap_ledger_set_level(int wanted)
{
    if (wanted < NEAP_LEAKS_OFF || wanted > NEAP_LEAKS_ALL) return NEAP_E_RANGE;
    if (!neap_realm_mine()) return NEAP_E_MEMORY;
    state()->level = wanted;
    state()->sample_left = next_interval();
    neap_here.ledger_left = state()->level == NEAP_LEAKS_OFF      ? INT64_MAX
                            : state()->level == NEAP_LEAKS_SAMPLE ? state()->sample_left
                                                                  : -1;
    return NEAP_OK;
}

int neap_ledger_level(void)
{
    return state()->level;
}

static struct track *track_of(const struct neap_slice *s)
{
    bool has_one = s->track && s->track != NEAP_TRACK_KEPT;
    return has_one ? neap_slots_at(&state()->tracks, s->track) : NULL;
}

static int watch(struct neap_slice *s, double weight)
{
    uint32_t slot;
    struct track *track = neap_slots_take(&state()->tracks, &slot);
    if (!track) {
        state()->counts.missed++;
        return NEAP_OK;
    }
    track->bytes = neap_slice_bytes_count(s);
    track->weight = weight;
    s->track = slot;
    return NEAP_NOTE;
}

/* A slice of n bytes is sampled with probability 1 - exp(-n / NEAP_LEAKS_BYTES), and the next one is
 * often as large. */
static double weight_of(uint32_t n)
{
    if (n != state()->sample_bytes) {
        state()->sample_bytes = n;
        state()->sample_weight = n ? -1 / expm1(-(double)n / NEAP_LEAKS_BYTES) : 1;
    }
    return state()->sample_weight;
}

static int sample(struct neap_slice *s)
{
    state()->sample_left = next_interval();
    return watch(s, weight_of(neap_slice_bytes_count(s)));
}

/* No handle is used again at these levels, and one that is used once is not worth a finalizer. */
static int hold(struct neap_slice *s)
{
    if (state()->level <= NEAP_LEAKS_SAMPLE) return NEAP_OK;
    s->held = true;
    if (!s->track) s->track = NEAP_TRACK_KEPT;
    return NEAP_HOLD;
}

int neap_ledger_moved(struct neap_slice *s)
{
    return s->held ? NEAP_HOLD : hold(s);
}

int neap_ledger_birth(struct neap_slice *s)
{
    int wishes = NEAP_OK;
    switch (state()->level) {
    case NEAP_LEAKS_OFF: neap_here.ledger_left = INT64_MAX; break;
    case NEAP_LEAKS_SAMPLE:
        wishes = sample(s);
        neap_here.ledger_left = state()->sample_left;
        break;
    case NEAP_LEAKS_TOUCH:
        neap_here.ledger_left = -1;
        state()->sample_left -= neap_slice_bytes_count(s);
        if (state()->sample_left < 0) wishes = sample(s);
        break;
    default: neap_here.ledger_left = -1; wishes = watch(s, 1);
    }
    return wishes | hold(s);
}

void neap_ledger_born(uint32_t slot, uint32_t gen, uint32_t site)
{
    struct neap_slice *s = neap_slice_of(slot, gen);
    struct track *track = s ? track_of(s) : NULL;
    if (!track || track->born) return;
    track->born = site;
    neap_site_made(site, track->weight, track->bytes);
}

/* ---- where they pass ---- */

bool neap_ledger_touches(const struct neap_slice *s)
{
    return state()->level > NEAP_LEAKS_SAMPLE && track_of(s);
}

int neap_ledger_wants(uint32_t slot, uint32_t gen)
{
    const struct neap_slice *s = neap_slice_of(slot, gen);
    return s && s->track && neap_ledger_touches(s);
}

void neap_ledger_pass(uint32_t slot, uint32_t gen, uint32_t site, int deed)
{
    struct neap_slice *s = neap_slice_of(slot, gen);
    struct track *track = s ? track_of(s) : NULL;
    if (!track) return;
    memmove(track->last + 1, track->last, sizeof track->last - sizeof track->last[0]);
    track->last[0] = (struct neap_place){site, (uint32_t)deed};
}

void neap_ledger_places(const struct neap_slice *s, uint32_t *born, struct neap_place *last)
{
    const struct track *track = track_of(s);
    *born = track ? track->born : 0;
    *last = track ? track->last[0] : (struct neap_place){0, NEAP_DEED_NONE};
}

/* ---- how they end ---- */

static struct end *end_of(uint32_t slot, uint32_t gen)
{
    uint32_t hash = (slot * 0x9e3779b1u ^ gen * 0x85ebca6bu) >> 16;
    return &state()->ends[hash % (state()->level > NEAP_LEAKS_SAMPLE ? ENDS : SAMPLED_ENDS)];
}

/* A handle that names s is about to be stale. */
static void remember_end(const struct neap_slice *s, const struct track *track, enum neap_deed deed)
{
    if (s->owned) return;
    if (!state()->ends) state()->ends = neap_mem_map(ENDS * sizeof *state()->ends);
    if (!state()->ends) return;
    uint32_t slot = neap_slice_slot(s);
    uint32_t gen = s->head.gen - !(s->head.gen & 1); /* one that coalesce hides had this one */
    *end_of(slot, gen) = (struct end){slot, gen, {track->born, {0, deed}}};
}

void neap_ledger_rename(const struct neap_slice *s)
{
    const struct track *track = track_of(s);
    if (track) remember_end(s, track, NEAP_DEED_END);
}

/* Where it ends is worth a look at the stack, as long as that is nothing beside its bytes. */
static bool ends_somewhere(const struct track *track)
{
    return state()->level > NEAP_LEAKS_SAMPLE || track->bytes >= NEAP_LEAKS_BYTES;
}

int neap_ledger_end(struct neap_slice *s, enum neap_slice_ending ending)
{
    static const enum neap_deed deeds[] = {[NEAP_RELEASED] = NEAP_DEED_RELEASE,
                                           [NEAP_TAKEN] = NEAP_DEED_MERGE,
                                           [NEAP_DROPPED] = NEAP_DEED_END,
                                           [NEAP_COLLECTED] = NEAP_DEED_END};
    int keep = state()->level > NEAP_LEAKS_SAMPLE || s->held ? NEAP_KEEP : NEAP_OK;
    struct track *track = track_of(s);
    uint32_t slot = s->track;
    s->track = 0;
    if (!track) return keep;
    remember_end(s, track, deeds[ending]);
    neap_site_ended(track->born, track->weight, track->bytes);
    int note = ends_somewhere(track) ? NEAP_NOTE : NEAP_OK;
    neap_slots_give(&state()->tracks, slot);
    return keep | note;
}

static struct end *known_end(uint32_t slot, uint32_t gen)
{
    struct end *end = state()->ends && slot ? end_of(slot, gen) : NULL;
    return end && end->slot == slot && end->gen == gen ? end : NULL;
}

int neap_ledger_ended(uint32_t slot, uint32_t gen, struct neap_end *what)
{
    const struct end *end = known_end(slot, gen);
    if (end) *what = end->what;
    return end != NULL;
}

void neap_ledger_end_at(uint32_t slot, uint32_t gen, uint32_t site, int deed)
{
    struct end *end = known_end(slot, gen);
    if (end) end->what.how = (struct neap_place){site, (uint32_t)deed};
}

/* ---- what was forgotten ---- */

static struct group *group_at(uint32_t slot)
{
    return neap_slots_at(&state()->groups, slot);
}

static struct group *new_group(const struct track *track, uint32_t *head)
{
    uint32_t slot;
    struct group *group = neap_slots_take(&state()->groups, &slot);
    if (!group) return NULL;
    group->sum.born = track->born;
    group->sum.last[0] = track->last[0];
    group->next = *head;
    *head = slot;
    return group;
}

/* err: NULL: it is a new one, and there is no room. */
static struct group *group_of(const struct track *track)
{
    const struct neap_place *last = &track->last[0];
    uint32_t hash = (track->born * 31 + last->site) * 31 + last->deed;
    uint32_t *head = &state()->group_heads[hash % NEAP_GROUP_HEADS];
    for (uint32_t slot = *head; slot; slot = group_at(slot)->next) {
        struct group *group = group_at(slot);
        if (group->sum.born == track->born && group->sum.last[0].site == last->site &&
            group->sum.last[0].deed == last->deed)
            return group;
    }
    return new_group(track, head);
}

void neap_ledger_forget(const struct neap_slice *s)
{
    const struct track *track = track_of(s);
    uint32_t pinned = s->buf->refs == 1 ? s->buf->capacity : 0; /* its last holder */
    uint32_t n = neap_slice_bytes_count(s);
    state()->news = true;
    state()->counts.slices++;
    state()->counts.bytes += n;
    state()->counts.pinned += pinned;
    if (!track) return;
    state()->counts.watched++;
    struct group *group = group_of(track);
    if (!group && state()->groups.count > 1) group = group_at(1);
    if (!group) return;
    memcpy(group->sum.last, track->last, sizeof track->last);
    group->sum.watched++;
    group->sum.slices += track->weight;
    group->sum.bytes += track->weight * n;
    group->sum.pinned += track->weight * pinned;
}

int neap_ledger_forgotten(uint32_t i, struct neap_forgotten *forgotten)
{
    if (state()->groups.count == 0 || i >= state()->groups.count - 1) return NEAP_E_RANGE;
    *forgotten = group_at(i + 1)->sum;
    return NEAP_OK;
}

void neap_ledger_stats(struct neap_ledger_stats *stats)
{
    *stats = state()->counts;
    stats->live = state()->tracks.live;
}

bool neap_ledger_news(void)
{
    if (!state()->news) return false;
    state()->news = false;
    return true;
}

void neap_ledger_clear(void)
{
    struct neap_ledger_state *ledger = state();
    neap_slots_end(&ledger->tracks);
    ledger->groups.live = 0; /* none is ever given back */
    neap_slots_end(&ledger->groups);
    if (ledger->ends) neap_mem_unmap(ledger->ends, ENDS * sizeof *ledger->ends);
    *ledger = (struct neap_ledger_state){.tracks = ledger->tracks, .groups = ledger->groups};
    neap_sites_clear();
}
