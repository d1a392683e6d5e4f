/* disk.c - files and directories below a directory, for servers of files.
 *
 * A path is resolved by the kernel, and stays beneath the directory that it starts from, symbolic
 * links included. A read takes what the page cache has; where it has nothing the kernel is told to
 * fetch it, and the caller comes again. Only a file system that cannot say so is read at once.
 * What goes to a stream as it is, the kernel sends: it is in no buf. */
#define _GNU_SOURCE /* preadv2(), O_PATH */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/slots.h"
#include "iobuf/slice.h"
#include "net/socket.h"
#include "net/stream.h"

enum { FILES_MAX = 65536, AHEAD_BYTES = 1 << 20 };

struct file {
    struct neap_slot head;
    int fd;
    DIR *entries; /* NULL until they are listed; has fd then */
};

static struct neap_slots files = NEAP_SLOTS(struct file, FILES_MAX);

static struct file *file_of(uint32_t slot, uint32_t gen)
{
    return neap_slots_find(&files, slot, gen);
}

/* Not what may wait for somebody, such as a FIFO, or do something when it is opened. */
static int open_at(int directory, const char *path, uint64_t resolve)
{
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
                           .resolve = resolve | RESOLVE_NO_MAGICLINKS};
    struct stat about;
    int fd = (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
    if (fd < 0) return -1;
    if (fstat(fd, &about) == 0 && (S_ISREG(about.st_mode) || S_ISDIR(about.st_mode))) return fd;
    close(fd);
    errno = EACCES;
    return -1;
}

int neap_disk_open(uint32_t root_slot, uint32_t root_gen, const char *path,
                   struct neap_handle *file)
{
    const struct file *root = file_of(root_slot, root_gen);
    if (root_slot && !root) return NEAP_E_STALE;
    uint32_t slot;
    struct file *f = neap_slots_take(&files, &slot);
    if (!f) return NEAP_E_MEMORY;
    f->fd = open_at(root ? root->fd : AT_FDCWD, path, root ? RESOLVE_BENEATH : 0);
    if (f->fd < 0) {
        int result = neap_error_of(errno);
        neap_slots_give(&files, slot);
        return result;
    }
    *file = (struct neap_handle){slot, f->head.gen};
    return NEAP_OK;
}

int neap_disk_info(uint32_t slot, uint32_t gen, struct neap_disk_info *info)
{
    const struct file *f = file_of(slot, gen);
    struct stat about;
    if (!f) return NEAP_E_STALE;
    if (fstat(f->fd, &about) < 0) return neap_error_of(errno);
    *info = (struct neap_disk_info){
        .bytes = (uint64_t)about.st_size,
        .modified_s = (double)about.st_mtim.tv_sec,
        .modified_ns = (uint32_t)about.st_mtim.tv_nsec,
        .inode = about.st_ino,
        .directory = S_ISDIR(about.st_mode),
    };
    return NEAP_OK;
}

static int64_t read_at(int fd, const struct iovec *room, off_t offset, bool may_wait)
{
    if (may_wait) return preadv2(fd, room, 1, offset, 0);
    ssize_t n = preadv2(fd, room, 1, offset, RWF_NOWAIT);
    if (n < 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) return preadv2(fd, room, 1, offset, 0);
    if (n < 0 && errno == EAGAIN) {
        posix_fadvise(fd, offset, AHEAD_BYTES, POSIX_FADV_WILLNEED);
        errno = EAGAIN;
    }
    return n;
}

int neap_disk_read(uint32_t slot, uint32_t gen, double offset, uint32_t slice_slot,
                   uint32_t slice_gen, bool may_wait)
{
    const struct file *f = file_of(slot, gen);
    const struct neap_slice *s = neap_slice_of(slice_slot, slice_gen);
    if (!f || !s) return NEAP_E_STALE;
    if (!(offset >= 0 && offset <= 0x1p53)) return NEAP_E_RANGE;
    if (!s->buf->slab) return NEAP_E_READ_ONLY;
    if (neap_slice_contested(s, s->base, s->bound)) return NEAP_E_OVERLAP;
    struct iovec room = {neap_slice_data(s), neap_slice_bytes_count(s)};
    int64_t n = read_at(f->fd, &room, (off_t)offset, may_wait);
    return n < 0 ? neap_error_of(errno) : (int)n;
}

/* The last byte tells: what is before it was read into the cache earlier. Else the kernel is told to
 * fetch it all. */
static bool is_cached(int fd, off_t offset, uint32_t n)
{
    uint8_t byte;
    struct iovec room = {&byte, 1};
    return preadv2(fd, &room, 1, offset + n - 1, RWF_NOWAIT) >= 0 || errno != EAGAIN ||
           posix_fadvise(fd, offset, AHEAD_BYTES, POSIX_FADV_WILLNEED) != 0;
}

int neap_stream_send_file(uint32_t slot, uint32_t gen, uint32_t file_slot, uint32_t file_gen,
                          double offset, uint32_t n, bool may_wait)
{
    struct neap_stream *s = neap_slots_find(&neap_streams, slot, gen);
    const struct file *f = file_of(file_slot, file_gen);
    if (!f) return NEAP_E_STALE;
    int result = neap_stream_writable(s);
    if (result < 0) return result;
    if (!(offset >= 0 && offset <= 0x1p53) || n < 1 || n > INT32_MAX) return NEAP_E_RANGE;
    if (!may_wait && !is_cached(f->fd, (off_t)offset, n)) return NEAP_E_BUSY;
    if (s->connect_result < 0 || !neap_stream_send(s)) return neap_stream_await_room(s);
    int64_t sent = neap_socket_send_file(s->fd, f->fd, (off_t)offset, n);
    if (sent == NEAP_E_AGAIN) return neap_stream_await_room(s);
    if (sent == 0) return NEAP_E_SHORT;
    if (sent > 0) neap_stream_sent(s, (uint64_t)sent);
    return (int)sent;
}

static void entry_of(int directory, const struct dirent *found, struct neap_disk_entry *entry)
{
    struct stat about;
    memset(entry, 0, sizeof *entry);
    memcpy(entry->name, found->d_name, strnlen(found->d_name, sizeof entry->name - 1));
    if (fstatat(directory, found->d_name, &about, 0) < 0) return;
    entry->directory = S_ISDIR(about.st_mode);
    entry->regular = S_ISREG(about.st_mode);
    entry->bytes = (uint64_t)about.st_size;
    entry->modified_s = (double)about.st_mtim.tv_sec;
}

int neap_disk_next(uint32_t slot, uint32_t gen, struct neap_disk_entry *entry)
{
    struct file *f = file_of(slot, gen);
    if (!f) return NEAP_E_STALE;
    if (!f->entries && !(f->entries = fdopendir(f->fd))) return neap_error_of(errno);
    errno = 0;
    const struct dirent *found = readdir(f->entries);
    if (!found) return errno ? neap_error_of(errno) : 0;
    entry_of(f->fd, found, entry);
    return 1;
}

void neap_disk_close(uint32_t slot, uint32_t gen)
{
    struct file *f = file_of(slot, gen);
    if (!f) return;
    if (f->entries)
        closedir(f->entries);
    else
        close(f->fd);
    neap_slots_give(&files, slot);
}

void neap_disk_finalize(void *handle)
{
    const struct neap_handle *h = handle;
    neap_disk_close(h->slot, h->gen);
}
