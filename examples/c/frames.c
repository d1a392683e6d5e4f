/* frames.c - reads frames from standard input and prints what is in them. A frame is its
 * length, 4 bytes big-endian, and then that many bytes.
 *
 *     cc frames.c -o frames $(pkg-config --cflags --libs neap)
 *     printf '\0\0\0\5hello' | ./frames
 *
 * It uses neap's buffers and nothing else: no loop and no Lua. read(2) puts the bytes into a
 * buf of the pool; header and payload are slices of that buf, not copies. */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <neap.h>

enum {
    HEADER_BYTES = 4,
    FRAME_BYTES = 65536,      /* a longer frame is refused before memory is taken for it */
    POOL_BYTES = 1024 * 1024, /* all bufs together */
    PREVIEW_BYTES = 16
};

/* One read(2) into the reader, which is told of the end, too. */
static int fill(struct neap_handle reader, uint32_t want)
{
    struct neap_room room;
    int result = neap_reader_room(reader.slot, reader.gen, want, &room);
    if (result < 0) return result;
    ssize_t n;
    do n = read(STDIN_FILENO, room.at, room.size);
    while (n < 0 && errno == EINTR);
    if (n < 0) return NEAP_E_SYSTEM;
    if (n == 0) return neap_reader_end(reader.slot, reader.gen, NEAP_E_EOF);
    return neap_reader_filled(reader.slot, reader.gen, (uint32_t)n);
}

/* Exactly n bytes. own: returns owned. err: EOF (the input is over), SHORT (… too early). */
static int read_exactly(struct neap_handle reader, uint32_t n, struct neap_handle *slice)
{
    int result = neap_reader_read(reader.slot, reader.gen, n, slice);
    while (result == NEAP_E_AGAIN) {
        result = fill(reader, n);
        if (result == NEAP_OK) result = neap_reader_read(reader.slot, reader.gen, n, slice);
    }
    return result;
}

/* The next frame without its header. own: returns owned. err: as read_exactly(), OVERSIZED. */
static int read_frame(struct neap_handle reader, struct neap_handle *payload)
{
    struct neap_handle header;
    int result = read_exactly(reader, HEADER_BYTES, &header);
    if (result < 0) return result;
    uint64_t length = neap_slice_get_bits(header.slot, header.gen, 0, HEADER_BYTES | NEAP_BIG);
    neap_slice_release(header.slot, header.gen);
    if (length > FRAME_BYTES) return NEAP_E_OVERSIZED;
    result = read_exactly(reader, (uint32_t)length, payload);
    return result == NEAP_E_EOF ? NEAP_E_SHORT : result; /* the header promised more */
}

/* own: borrows the payload. */
static void print_frame(unsigned number, struct neap_handle payload)
{
    int size = neap_slice_size(payload.slot, payload.gen);
    const uint8_t *bytes = neap_slice_bytes(payload.slot, payload.gen);
    printf("frame %u: %d bytes: ", number, size);
    for (int i = 0; i < size && i < PREVIEW_BYTES; i++)
        putchar(bytes[i] >= ' ' && bytes[i] <= '~' ? bytes[i] : '.');
    puts(size > PREVIEW_BYTES ? "..." : "");
}

_Static_assert(FRAME_BYTES == 65536, "reason() names the limit");

static const char *reason(int err)
{
    switch (err) {
    case NEAP_E_SHORT: return "the input ends within it";
    case NEAP_E_OVERSIZED: return "it is longer than 65536 bytes";
    case NEAP_E_LIMIT: return "the pool is at its limit";
    case NEAP_E_MEMORY: return "no memory";
    case NEAP_E_SYSTEM: return strerror(errno);
    default: return "neap was misused";
    }
}

static void print_counters(struct neap_handle pool)
{
    struct neap_pool_stats s;
    if (neap_pool_stats(pool.slot, pool.gen, &s) < 0) return;
    printf("bufs: %ju allocated, %ju reused, %ju live\n", (uintmax_t)s.bufs_allocated,
           (uintmax_t)s.bufs_reused, (uintmax_t)s.bufs_live);
    printf("slices: %ju made, %ju live; bytes moved: %ju\n", (uintmax_t)s.slices_made,
           (uintmax_t)s.slices_live, (uintmax_t)s.bytes_moved);
}

int main(void)
{
    struct neap_pool_options options = {.limit = POOL_BYTES, .classes = true};
    struct neap_handle pool = {0}, reader = {0}, payload;
    unsigned number = 1;
    int result = neap_pool_create(&options, &pool);
    if (result == NEAP_OK) result = neap_reader_create(pool.slot, pool.gen, FRAME_BYTES, &reader);
    while (result == NEAP_OK && (result = read_frame(reader, &payload)) == NEAP_OK) {
        print_frame(number++, payload);
        neap_slice_release(payload.slot, payload.gen);
    }
    if (result != NEAP_E_EOF) fprintf(stderr, "frames: frame %u: %s\n", number, reason(result));
    neap_reader_release(reader.slot, reader.gen); /* a handle of nothing, {0}, is only refused */
    print_counters(pool);
    neap_pool_release(pool.slot, pool.gen);
    if (fflush(stdout) == 0 && !ferror(stdout)) return result == NEAP_E_EOF ? 0 : 1;
    perror("frames: standard output");
    return 1;
}
