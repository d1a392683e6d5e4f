/* disk_test.c - files beneath a directory: where a path may lead, short and failing reads, files
 * that change or go while they are read, handles that are closed meanwhile. */
#define _GNU_SOURCE /* RWF_NOWAIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "helper.h"

static const struct neap_handle none;
static char directory[sizeof "/tmp/neap-disk-XXXXXX"];
static struct neap_handle pool, allocator, root;
static int descriptors_before;

/* ---- what the system answers to a read ---- */

enum { AS_IT_IS, ONE_BYTE, NOT_CACHED, FAILS };
static int answer, error_to_set;
static int reads, waiting_reads;

ssize_t preadv2(int fd, const struct iovec *room, int count, off_t offset, int flags)
{
    reads++;
    waiting_reads += flags == 0;
    bool fails = answer == FAILS || (answer == NOT_CACHED && flags & RWF_NOWAIT);
    if (fails && (flags || answer == FAILS)) {
        errno = error_to_set;
        return -1;
    }
    struct iovec part = room[0];
    if (answer == ONE_BYTE && part.iov_len) part.iov_len = 1;
    return syscall(SYS_preadv2, fd, &part, count, offset, 0L, 0);
}

/* ---- before and after ---- */

static int descriptors(void)
{
    int count = 0;
    DIR *fds = opendir("/proc/self/fd");
    while (readdir(fds)) count++;
    closedir(fds);
    return count;
}

static const char *path_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void put(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static struct neap_handle open_file(const char *name)
{
    struct neap_handle file;
    assert_int_equal(neap_disk_open(AT(root), name, &file), NEAP_OK);
    return file;
}

static int begin(void **state)
{
    test_begin(state);
    strcpy(directory, "/tmp/neap-disk-XXXXXX");
    assert_non_null(mkdtemp(directory));
    descriptors_before = descriptors();
    pool = pool_make(0);
    allocator = allocator_make(pool, 0);
    assert_int_equal(neap_disk_open(AT(none), directory, &root), NEAP_OK);
    answer = AS_IT_IS;
    reads = waiting_reads = 0;
    return 0;
}

static int end(void **state)
{
    char command[128];
    neap_disk_close(AT(root));
    assert_int_equal(descriptors(), descriptors_before);
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    pool_end(pool);
    snprintf(command, sizeof command, "rm -r %s", directory);
    assert_int_equal(system(command), 0);
    return test_end(state);
}

/* Reads n bytes into a slice of their own; returns what came of it, having compared. */
static int read_at(struct neap_handle file, double offset, uint32_t n, bool wait, const char *text)
{
    struct neap_handle slice = slice_alloc(allocator, n);
    int result = neap_disk_read(AT(file), offset, AT(slice), wait);
    if (result > 0) {
        assert_int_equal(result, strlen(text));
        assert_int_equal(neap_slice_truncate_back(AT(slice), n - (uint32_t)result), result);
        slice_reads(slice, text);
    }
    slice_end(slice);
    return result;
}

/* ---- where a path may lead ---- */

static void a_path_stays_beneath_its_root(void **state)
{
    (void)state;
    assert_int_equal(mkdir(path_of("d"), 0755), 0);
    put("d/file", "text");
    assert_int_equal(symlink("../d/file", path_of("d/inside")), 0);
    assert_int_equal(symlink("/etc/passwd", path_of("d/absolute")), 0);
    assert_int_equal(symlink("../../..", path_of("d/outside")), 0);
    assert_int_equal(symlink("loop", path_of("loop")), 0);
    const struct {
        const char *path;
        int error; /* 0: it is found */
    } cases[] = {
        {"d/file", 0},
        {"d/../d/file", 0},
        {"d/inside", 0},
        {"d", 0},
        {".", 0},
        {"..", EXDEV},
        {"d/../../x", EXDEV},
        {"d/absolute", EXDEV},
        {"d/outside", EXDEV},
        {"/etc", EXDEV},
        {"d/file/x", ENOTDIR},
        {"d/none", ENOENT},
        {"", ENOENT},
        {"loop", ELOOP},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct neap_handle file = none;
        int result = neap_disk_open(AT(root), cases[i].path, &file);
        assert_int_equal(result, cases[i].error ? NEAP_E_SYSTEM - cases[i].error : NEAP_OK);
        assert_int_equal(file.slot != 0, !cases[i].error);
        neap_disk_close(AT(file));
    }
}

static void nothing_but_files_and_directories_is_opened(void **state)
{
    (void)state;
    struct neap_handle file;
    assert_int_equal(mkfifo(path_of("fifo"), 0644), 0);
    assert_int_equal(neap_disk_open(AT(root), "fifo", &file), NEAP_E_PERMISSION);
    assert_int_equal(neap_disk_open(AT(none), "/dev/null", &file), NEAP_E_PERMISSION);
}

static void it_is_told_when_there_is_no_descriptor(void **state)
{
    (void)state;
    struct rlimit limit, few;
    struct neap_handle file;
    put("file", "text");
    getrlimit(RLIMIT_NOFILE, &limit);
    few = (struct rlimit){3, limit.rlim_max};
    setrlimit(RLIMIT_NOFILE, &few);
    int result = neap_disk_open(AT(root), "file", &file);
    setrlimit(RLIMIT_NOFILE, &limit);
    assert_int_equal(result, NEAP_E_DESCRIPTORS);
    file = open_file("file"); /* its slot was given back */
    neap_disk_close(AT(file));
}

/* ---- reads ---- */

static void a_read_gives_what_stands_there(void **state)
{
    (void)state;
    put("file", "0123456789");
    struct neap_handle file = open_file("file");
    assert_int_equal(read_at(file, 0, 10, true, "0123456789"), 10);
    assert_int_equal(read_at(file, 3, 4, true, "3456"), 4);
    assert_int_equal(read_at(file, 8, 100, true, "89"), 2);
    assert_int_equal(read_at(file, 10, 5, true, ""), 0);
    assert_int_equal(read_at(file, 0x1p53, 5, true, ""), 0);
    struct neap_disk_info info;
    assert_int_equal(neap_disk_info(AT(file), &info), NEAP_OK);
    assert_int_equal(info.bytes, 10);
    assert_false(info.directory);
    neap_disk_close(AT(file));
}

static void a_short_read_says_how_short(void **state)
{
    (void)state;
    put("file", "0123456789");
    struct neap_handle file = open_file("file");
    char text[2] = "";
    answer = ONE_BYTE;
    for (int i = 0; i < 10; i++) {
        text[0] = (char)('0' + i);
        assert_int_equal(read_at(file, i, 10, i % 2, text), 1);
    }
    assert_int_equal(read_at(file, 10, 10, false, ""), 0);
    neap_disk_close(AT(file));
}

static void what_is_not_cached_is_fetched_and_read_later(void **state)
{
    (void)state;
    put("file", "text");
    struct neap_handle file = open_file("file");
    answer = NOT_CACHED;
    error_to_set = EAGAIN;
    for (int i = 0; i < 3; i++) assert_int_equal(read_at(file, 0, 4, false, ""), NEAP_E_AGAIN);
    assert_int_equal(waiting_reads, 0); /* none of them could block */
    assert_int_equal(read_at(file, 0, 4, true, "text"), 4);
    assert_int_equal(waiting_reads, 1);
    answer = AS_IT_IS;
    assert_int_equal(read_at(file, 0, 4, false, "text"), 4);
    neap_disk_close(AT(file));
}

static void a_file_system_that_cannot_say_is_read_at_once(void **state)
{
    (void)state;
    const int errors[] = {EOPNOTSUPP, ENOSYS};
    put("file", "text");
    struct neap_handle file = open_file("file");
    answer = NOT_CACHED;
    for (int i = 0; i < 2; i++) {
        error_to_set = errors[i];
        assert_int_equal(read_at(file, 0, 4, false, "text"), 4);
    }
    neap_disk_close(AT(file));
}

static void a_read_that_fails_says_why(void **state)
{
    (void)state;
    const int errors[][2] = {{EIO, NEAP_E_SYSTEM - EIO},
                             {ENOMEM, NEAP_E_MEMORY},
                             {EINTR, NEAP_E_SYSTEM - EINTR},
                             {ESTALE, NEAP_E_SYSTEM - ESTALE}};
    put("file", "text");
    struct neap_handle file = open_file("file");
    for (int i = 0; i < 4; i++) {
        answer = FAILS;
        error_to_set = errors[i][0];
        assert_int_equal(read_at(file, 0, 4, false, ""), errors[i][1]);
        assert_int_equal(read_at(file, 0, 4, true, ""), errors[i][1]);
        answer = AS_IT_IS;
        assert_int_equal(read_at(file, 0, 4, false, "text"), 4);
    }
    neap_disk_close(AT(file));
    assert_int_equal(read_at(root, 0, 4, true, ""), NEAP_E_SYSTEM - EISDIR);
}

static void a_mistake_reads_nothing(void **state)
{
    (void)state;
    struct neap_handle foreign;
    put("file", "text");
    struct neap_handle file = open_file("file");
    const double bad[] = {-1, NAN, INFINITY, -INFINITY, 0x1p53 + 2, 1e300};
    for (int i = 0; i < 6; i++) assert_int_equal(read_at(file, bad[i], 4, true, ""), NEAP_E_RANGE);
    struct neap_handle slice = slice_text(allocator, "mine"), again = slice_retain(slice);
    assert_int_equal(neap_disk_read(AT(file), 0, AT(slice), true), NEAP_E_OVERLAP);
    slice_reads(again, "mine");
    slice_end(again);
    slice_end(slice);
    assert_int_equal(neap_disk_read(AT(file), 0, AT(slice), true), NEAP_E_STALE);
    assert_int_equal(neap_foreign_slice("mine", 4, 1, &foreign), NEAP_OK);
    assert_int_equal(neap_disk_read(AT(file), 0, AT(foreign), true), NEAP_E_READ_ONLY);
    slice_end(foreign);
    assert_int_equal(reads, 0);
    neap_disk_close(AT(file));
}

/* ---- files that change ---- */

static void a_file_that_becomes_shorter_ends_there(void **state)
{
    (void)state;
    put("file", "0123456789");
    struct neap_handle file = open_file("file");
    assert_int_equal(read_at(file, 0, 4, false, "0123"), 4);
    assert_int_equal(truncate(path_of("file"), 6), 0);
    assert_int_equal(read_at(file, 4, 4, false, "45"), 2);
    assert_int_equal(truncate(path_of("file"), 0), 0);
    assert_int_equal(read_at(file, 6, 4, false, ""), 0);
    neap_disk_close(AT(file));
}

static void a_file_that_was_replaced_or_removed_is_read_to_its_end(void **state)
{
    (void)state;
    put("file", "old");
    put("new", "new");
    struct neap_handle file = open_file("file");
    assert_int_equal(rename(path_of("new"), directory), -1); /* not over a directory */
    char from[512];
    snprintf(from, sizeof from, "%s", path_of("new"));
    assert_int_equal(rename(from, path_of("file")), 0);
    assert_int_equal(read_at(file, 0, 3, false, "old"), 3);
    struct neap_handle newer = open_file("file");
    assert_int_equal(unlink(path_of("file")), 0);
    assert_int_equal(read_at(newer, 0, 3, false, "new"), 3);
    neap_disk_close(AT(newer));
    neap_disk_close(AT(file));
}

/* ---- handles ---- */

static void a_file_closed_while_a_read_is_under_way_is_stale(void **state)
{
    (void)state;
    put("file", "text");
    put("other", "other's");
    struct neap_handle file = open_file("file"), slice = slice_alloc(allocator, 4);
    answer = NOT_CACHED;
    error_to_set = EAGAIN;
    assert_int_equal(neap_disk_read(AT(file), 0, AT(slice), false), NEAP_E_AGAIN);
    neap_disk_close(AT(file));
    struct neap_handle other = open_file("other"); /* in its place */
    assert_int_equal(other.slot, file.slot);
    answer = AS_IT_IS;
    assert_int_equal(neap_disk_read(AT(file), 0, AT(slice), true), NEAP_E_STALE);
    struct neap_disk_info info;
    struct neap_disk_entry entry;
    assert_int_equal(neap_disk_info(AT(file), &info), NEAP_E_STALE);
    assert_int_equal(neap_disk_next(AT(file), &entry), NEAP_E_STALE);
    assert_int_equal(neap_disk_open(AT(file), "x", &other), NEAP_E_STALE);
    neap_disk_close(AT(file)); /* again: nothing */
    neap_disk_finalize(&file);
    assert_int_equal(read_at(other, 0, 7, true, "other's"), 7);
    slice_end(slice);
    neap_disk_finalize(&other);
    assert_int_equal(neap_disk_info(AT(other), &info), NEAP_E_STALE);
}

/* ---- directories ---- */

static void a_directory_lists_what_is_in_it(void **state)
{
    (void)state;
    char longest[256];
    memset(longest, 'x', 255);
    longest[255] = 0;
    put(longest, "12345");
    assert_int_equal(mkdir(path_of("d"), 0755), 0);
    assert_int_equal(symlink("nowhere", path_of("broken")), 0);
    struct neap_handle list = open_file(".");
    struct neap_disk_entry entry;
    int found = 0, result;
    while ((result = neap_disk_next(AT(list), &entry)) == 1) {
        bool file = !strcmp(entry.name, longest), broken = !strcmp(entry.name, "broken");
        found += file || broken || !strcmp(entry.name, "d");
        assert_int_equal(entry.regular, file);
        assert_int_equal(entry.directory, !file && !broken);
        if (file) assert_int_equal(entry.bytes, 5);
    }
    assert_int_equal(result, 0);
    assert_int_equal(found, 3);
    assert_int_equal(neap_disk_next(AT(list), &entry), 0);
    neap_disk_close(AT(list));
}

static void a_list_may_be_closed_in_its_middle_and_a_file_has_none(void **state)
{
    (void)state;
    struct neap_disk_entry entry;
    put("file", "text");
    struct neap_handle list = open_file("."), file = open_file("file");
    assert_int_equal(neap_disk_next(AT(list), &entry), 1);
    neap_disk_close(AT(list));
    assert_int_equal(neap_disk_next(AT(file), &entry), NEAP_E_SYSTEM - ENOTDIR);
    assert_int_equal(read_at(file, 0, 4, true, "text"), 4);
    neap_disk_close(AT(file));
}

#define DISK(function) cmocka_unit_test_setup_teardown(function, begin, end)

static const struct CMUnitTest tests[] = {
    DISK(a_path_stays_beneath_its_root),
    DISK(nothing_but_files_and_directories_is_opened),
    DISK(it_is_told_when_there_is_no_descriptor),
    DISK(a_read_gives_what_stands_there),
    DISK(a_short_read_says_how_short),
    DISK(what_is_not_cached_is_fetched_and_read_later),
    DISK(a_file_system_that_cannot_say_is_read_at_once),
    DISK(a_read_that_fails_says_why),
    DISK(a_mistake_reads_nothing),
    DISK(a_file_that_becomes_shorter_ends_there),
    DISK(a_file_that_was_replaced_or_removed_is_read_to_its_end),
    DISK(a_file_closed_while_a_read_is_under_way_is_stale),
    DISK(a_directory_lists_what_is_in_it),
    DISK(a_list_may_be_closed_in_its_middle_and_a_file_has_none),
};

int main(void)
{
    if (neap_disk_open(AT(none), "/", &root) == NEAP_E_SYSTEM - ENOSYS) { /* under valgrind */
        print_message("[ RUN      ] disk_test\n[  SKIPPED ] disk_test: no openat2() here\n"
                      "[==========] 0 test(s) run.\n");
        return 0;
    }
    neap_disk_close(AT(root));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
