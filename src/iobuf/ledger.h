/* ledger.h - who made what is live, and what was forgotten.
 *
 * A *site* is a line of a script, interned: a small integer with a text. A slice that is watched has
 * a *track*: where it was born, the last places that it passed, and for how many slices it stands.
 * Which slices are watched is the level's matter (enum neap_leaks). At `sample` that is decided by a
 * count of bytes that runs down, one subtraction for each slice; the intervals are drawn from an
 * exponential distribution with a mean of SAMPLE_BYTES, so that a slice of n bytes is watched with
 * probability 1 - exp(-n / SAMPLE_BYTES) whatever the pattern of the traffic, and stands for the
 * inverse of that many.
 *
 * C never calls Lua, so whoever makes or ends a slice is told by its result (NEAP_NOTE) that a site
 * is wanted, and hands it over.
 *
 *     return neap_slice_born(s);                  // at the end of what makes a slice for a script
 *     if (s->track) neap_ledger_end(s, ending);   // before it ends
 *
 * Limits: SITES_MAX sites and GROUPS_MAX kinds of forgotten slices, what is beyond counts together
 * as the first of them; the ends of some 65,536 slices are remembered. Thread: the pool's. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "iobuf/slice.h"
#include "neap.h"

/* private: what the function below leaves aside. */
int neap_ledger_birth(struct neap_slice *s);

/* A slice was made that a script gets. Returns NEAP_OK or wishes: NEAP_NOTE: its site is wanted;
 * NEAP_HOLD, at the levels touch and all. */
static inline int neap_slice_born(struct neap_slice *s)
{
    neap_here.ledger_left -= neap_slice_bytes_count(s);
    return __builtin_expect(neap_here.ledger_left < 0, 0) ? neap_ledger_birth(s) : NEAP_OK;
}

/* A slice with a track is about to end. Returns what its handle's owner is told: NEAP_OK,
 * NEAP_NOTE, NEAP_KEEP, or both. */
int neap_ledger_end(struct neap_slice *s, enum neap_slice_ending ending);

/* Shall the next place that this slice passes be noted? */
bool neap_ledger_touches(const struct neap_slice *s);

/* The collector found a slice that nobody released. */
void neap_ledger_forget(const struct neap_slice *s);

/* Nothing is left in this realm: forget what was. */
void neap_ledger_clear(void);

/* ---- sites (site.c) ---- */

/* The same for all sites. */
void neap_sites_clear(void);

/* One more slice, or one fewer, that stands for `weight` ones of n bytes. */
void neap_site_made(uint32_t site, double weight, uint32_t n);
void neap_site_ended(uint32_t site, double weight, uint32_t n);

/* ---- for reports ---- */

/* The site where a slice was born (0: not known), and the last place that it passed. */
void neap_ledger_places(const struct neap_slice *s, uint32_t *born, struct neap_place *last);
