/* report.c - what was forgotten, written to standard error as the process ends: also after
 * os.exit(), and in any program that uses the library, which is why this is C. */
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "iobuf/ledger.h"

enum { LINE_BYTES = 1024 };

static const char *const levels[] = {"off", "sample", "touch", "all"};

const char *neap_deed_text(int deed)
{
    static const char *const texts[] = {
        [NEAP_DEED_NONE] = "",           [NEAP_DEED_RELEASE] = "released",
        [NEAP_DEED_MERGE] = "merged",    [NEAP_DEED_END] = "ended",
        [NEAP_DEED_SPLIT] = "split",     [NEAP_DEED_RETAIN] = "retained",
        [NEAP_DEED_WRITE] = "written",   [NEAP_DEED_SEND] = "sent",
        [NEAP_DEED_RECEIVE] = "received"};
    bool known = deed >= 0 && deed < (int)(sizeof texts / sizeof texts[0]);
    return known ? texts[deed] : "";
}

/* One line or more; to where standard error was, and not to a connection that has its number. */
static __attribute__((format(printf, 1, 2))) void say(const char *format, ...)
{
    char text[LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (n >= (int)sizeof text) n = sizeof text - 1;
    if (n > 0) neap_log_write_last(text, (uint32_t)n);
}

/* The most bytes first. */
static int worst_first(const void *a, const void *b)
{
    const struct neap_forgotten *x = a, *y = b;
    double more = y->pinned - x->pinned;
    if (more == 0) more = y->bytes - x->bytes;
    if (more == 0) more = y->slices - x->slices;
    return more > 0 ? 1 : more < 0 ? -1 : 0;
}

static void print_kind(const struct neap_forgotten *kind)
{
    say("  %.0f slice%s, %.0f bytes, held %.0f: made at %s\n", kind->slices,
        kind->slices < 1.5 ? "" : "s", kind->bytes, kind->pinned, neap_site_text(kind->born));
    for (int i = 0; i < NEAP_PLACES && kind->last[i].deed; i++)
        say("    %s at %s\n", neap_deed_text((int)kind->last[i].deed),
            neap_site_text(kind->last[i].site));
}

static uint32_t kinds_count(void)
{
    struct neap_forgotten kind;
    uint32_t count = 0;
    while (neap_ledger_forgotten(count, &kind) == NEAP_OK) count++;
    return count;
}

static void print_forgotten(void)
{
    uint32_t count = kinds_count();
    struct neap_forgotten *kinds = neap_mem_calloc(count + 1, sizeof *kinds);
    if (!kinds) return;
    for (uint32_t i = 0; i < count; i++) neap_ledger_forgotten(i, &kinds[i]);
    qsort(kinds, count, sizeof *kinds, worst_first);
    for (uint32_t i = 0; i < count; i++) print_kind(&kinds[i]);
    neap_mem_free(kinds);
}

static void print_live(void)
{
    struct neap_site_stats stats;
    for (uint32_t site = 1; neap_site_stats(site, &stats) == NEAP_OK; site++)
        if (stats.slices_live > 0.5)
            say("  %.0f slice%s, %.0f bytes: made at %s\n", stats.slices_live,
                stats.slices_live < 1.5 ? "" : "s", stats.bytes_live, neap_site_text(site));
}

static void print_heading(int level, const struct neap_ledger_stats *stats)
{
    unsigned long long slices = stats->slices, watched = stats->watched;
    if (slices)
        say("neap: leaks (%s): %llu slice%s forgotten and left to the collector: %llu bytes, which "
            "held %llu\n",
            levels[level], slices, slices == 1 ? " was" : "s were",
            (unsigned long long)stats->bytes, (unsigned long long)stats->pinned);
    else
        say("neap: leaks (%s): no slice was forgotten\n", levels[level]);
    if (watched && watched < slices)
        say("  by line, estimated from the %llu of them that were sampled:\n", watched);
    else if (slices && !watched)
        say("  none of them was sampled; --leaks=all tells where they were made\n");
}

void neap_ledger_report(void)
{
    static atomic_flag done = ATOMIC_FLAG_INIT;
    struct neap_ledger_stats stats;
    struct neap_slice_stats slices;
    int level = neap_ledger_level();
    neap_ledger_stats(&stats);
    neap_slice_stats(&slices);
    bool wanted = level > NEAP_LEAKS_SAMPLE || (level == NEAP_LEAKS_SAMPLE && stats.slices);
    if (atomic_flag_test_and_set(&done) || !wanted) return;
    fflush(stdout); /* what the program printed comes before */
    print_heading(level, &stats);
    print_forgotten();
    if (stats.missed)
        say("  %llu slices could not be watched, for want of memory\n",
            (unsigned long long)stats.missed);
    if (level == NEAP_LEAKS_SAMPLE || !slices.live) return;
    say("  and %llu %s still there at the end:\n", (unsigned long long)slices.live,
        slices.live == 1 ? "is" : "are");
    print_live();
}

void neap_ledger_report_at_exit(void)
{
    static atomic_flag asked = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&asked)) atexit(neap_ledger_report);
}
