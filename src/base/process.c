/* process.c - giving root up, once the ports below 1024 are bound. */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "neap.h"

/* A name, or else a number. */
static bool number_of(const char *text, uint32_t *id)
{
    char *end;
    if (*text < '0' || *text > '9') return false;
    unsigned long long value = strtoull(text, &end, 10);
    if (*end || value >= UINT32_MAX) return false;
    *id = (uint32_t)value;
    return true;
}

static struct passwd *entry_of(const char *user)
{
    uint32_t uid;
    struct passwd *entry = getpwnam(user);
    return !entry && number_of(user, &uid) ? getpwuid(uid) : entry;
}

int neap_process_find_user(const char *user, struct neap_user *found)
{
    if (!user || !found) return NEAP_E_RANGE;
    struct passwd *entry = entry_of(user);
    *found = (struct neap_user){.listed = entry != NULL};
    if (!entry) return number_of(user, &found->uid);
    found->uid = entry->pw_uid;
    found->gid = entry->pw_gid;
    return 1;
}

int neap_process_find_group(const char *group, uint32_t *gid)
{
    if (!group || !gid) return NEAP_E_RANGE;
    struct group *entry = getgrnam(group);
    if (!entry) return number_of(group, gid);
    *gid = entry->gr_gid;
    return 1;
}

/* Half a drop is worse than none: the process must not go on with it. */
static void require_step(bool done, const char *what)
{
    if (done) return;
    fprintf(stderr, "neap: dropping privileges failed half-way (%s): the process ends\n", what);
    _exit(1);
}

static bool without_capabilities(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2];
    if (syscall(SYS_capget, &head, sets) < 0) return false;
    return !(sets[0].effective | sets[1].effective | sets[0].permitted | sets[1].permitted);
}

static bool ids_are(uid_t uid, gid_t gid)
{
    uid_t u[3];
    gid_t g[3];
    return getresuid(&u[0], &u[1], &u[2]) == 0 && getresgid(&g[0], &g[1], &g[2]) == 0 &&
           u[0] == uid && u[1] == uid && u[2] == uid && g[0] == gid && g[1] == gid && g[2] == gid;
}

int neap_process_drop(const char *user, uint32_t gid)
{
    struct neap_user found;
    if (neap_process_find_user(user, &found) != 1) return NEAP_E_RANGE;
    if (found.uid == 0 || gid == 0 || gid == UINT32_MAX) return NEAP_E_RANGE;
    if (geteuid() != 0) return NEAP_E_PERMISSION;
    struct passwd *entry = entry_of(user);
    gid_t only = gid;
    int failed = entry ? initgroups(entry->pw_name, gid) : setgroups(1, &only);
    if (failed) return errno == EPERM ? NEAP_E_PERMISSION : NEAP_E_SYSTEM;
    /* from here on there is no way back */
    require_step(setresgid(gid, gid, gid) == 0, "setresgid");
    require_step(prctl(PR_SET_KEEPCAPS, 0L, 0L, 0L, 0L) == 0, "PR_SET_KEEPCAPS");
    require_step(setresuid(found.uid, found.uid, found.uid) == 0, "setresuid");
    require_step(prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L) == 0, "PR_SET_NO_NEW_PRIVS");
    require_step(ids_are(found.uid, gid), "the ids are not those asked for");
    require_step(without_capabilities(), "capabilities are left");
    require_step(setresuid(-1, 0, -1) < 0, "root could be had back");
    require_step(setresgid(-1, 0, -1) < 0, "the group of root could be had back");
    return NEAP_OK;
}
