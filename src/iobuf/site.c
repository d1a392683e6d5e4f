/* site.c - lines of scripts, by number, and what was made at each of them. */
#include <string.h>

#include "base/mem.h"
#include "iobuf/ledger.h"

enum { SITES_MAX = 1 << 16, TEXT_BYTES = 200 };

struct site {
    struct neap_slot head; /* never given back */
    char *text;
    struct neap_site_stats stats;
};

const struct neap_slots neap_no_sites = NEAP_SLOTS(struct site, SITES_MAX);
static char others_text[] = "(a line of those that came too late to be told apart)";

static struct site *site_at(uint32_t number)
{
    const struct neap_slots *sites = &neap_here.realm->sites;
    return number && number < sites->count ? neap_slots_at(sites, number) : NULL;
}

static char *copy_of(const char *text, uint32_t n)
{
    if (n > TEXT_BYTES) n = TEXT_BYTES;
    char *copy = neap_mem_calloc(1, (size_t)n + 1);
    if (copy && n) memcpy(copy, text, n);
    return copy;
}

/* The first site is for those that there is no room for. */
static uint32_t others(void)
{
    if (!neap_realm_mine()) return 0;
    if (neap_here.realm->sites.count > 1) return 1;
    uint32_t number;
    struct site *first = neap_slots_take(&neap_here.realm->sites, &number);
    if (!first) return 0;
    first->text = others_text;
    return number;
}

uint32_t neap_site_add(const char *text, uint32_t n)
{
    uint32_t number = others();
    char *copy = number ? copy_of(text, n) : NULL;
    struct site *made = copy ? neap_slots_take(&neap_here.realm->sites, &number) : NULL;
    if (made)
        made->text = copy;
    else
        neap_mem_free(copy);
    return number;
}

const char *neap_site_text(uint32_t number)
{
    const struct site *site = site_at(number);
    return site ? site->text : "?";
}

int neap_site_stats(uint32_t number, struct neap_site_stats *stats)
{
    const struct site *site = site_at(number);
    if (!site) return NEAP_E_RANGE;
    *stats = site->stats;
    return NEAP_OK;
}

void neap_site_made(uint32_t number, double weight, uint32_t n)
{
    struct site *site = site_at(number);
    if (!site) return;
    site->stats.slices_made += weight;
    site->stats.bytes_made += weight * n;
    site->stats.slices_live += weight;
    site->stats.bytes_live += weight * n;
}

void neap_site_ended(uint32_t number, double weight, uint32_t n)
{
    struct site *site = site_at(number);
    if (!site) return;
    site->stats.slices_live -= weight;
    site->stats.bytes_live -= weight * n;
}

void neap_sites_clear(void)
{
    struct neap_slots *sites = &neap_here.realm->sites;
    for (uint32_t number = 2; number < sites->count; number++) neap_mem_free(site_at(number)->text);
    sites->live = 0;
    neap_slots_end(sites);
}
