/* memory_test.c - the 1st, 2nd, 3rd … request for memory fails, until none does. Whatever
 * failed says so, has changed nothing, works the second time, and nothing leaks. */
#include <string.h>

#include "base/mem.h"
#include "helper.h"
#include "iobuf/writer.h"

static int failures;

/* Once more after a failure, which must be for want of memory. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        int result_ = (call);                                                                      \
        if (result_ < 0) {                                                                         \
            assert_int_equal(result_, NEAP_E_MEMORY);                                              \
            failures++;                                                                            \
            assert_true((call) >= 0);                                                              \
        }                                                                                          \
    } while (0)

static struct neap_handle pool, allocator;

static void begin(bool classes)
{
    struct neap_pool_options options = {.classes = classes};
    TRY(neap_pool_create(&options, &pool));
    TRY(neap_allocator_create(AT(pool), 4, &allocator));
}

static void end(void)
{
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    struct neap_pool_stats s = pool_stats(pool);
    assert_int_equal(s.slices_live, 0);
    assert_int_equal(s.bufs_live, 0);
    assert_int_equal(s.bytes_referenced, 0);
    pool_adds_up(pool);
    assert_int_equal(neap_pool_close(AT(pool)), NEAP_OK);
    assert_int_equal(pool_stats(pool).bytes_held, 0);
    assert_int_equal(neap_pool_release(AT(pool)), NEAP_OK);
}

static void slices(void)
{
    struct neap_handle a, b, large, clone, front;
    TRY(neap_allocator_alloc(AT(allocator), 100, &a));
    TRY(neap_allocator_copy(AT(allocator), "bytes", 5, &b));
    TRY(neap_allocator_alloc(AT(allocator), 100000, &large));
    TRY(neap_slice_retain(AT(b), &clone));
    TRY(neap_slice_split(AT(b), 2, &front));
    slice_reads(front, "by");
    slice_reads(b, "tes");
    TRY(neap_slice_detach(AT(clone)));
    slice_reads(clone, "bytes");
    slice_end(a);
    slice_end(clone);
    struct neap_handle list[] = {front, b};
    uint32_t where;
    assert_int_equal(neap_slice_coalesce(list, 2, 100, &where), 1);
    slice_end(list[0]);
    slice_end(large);
}

static void foreign(void)
{
    struct neap_handle s, clone;
    TRY(neap_foreign_slice("text", 4, 9, &s));
    assert_int_equal(neap_foreign_next(), 0); /* a failed one leaves no anchor */
    TRY(neap_slice_retain(AT(s), &clone));
    slice_end(s);
    slice_end(clone);
    assert_int_equal(neap_foreign_next(), 9);
}

static void reader(void)
{
    static char large[40000];
    struct neap_handle r, s, empty, rest;
    TRY(neap_reader_create(AT(pool), 50000, &r));
    TRY(neap_reader_read(AT(r), 0, &empty));
    TRY(neap_reader_feed(AT(r), "line\nrest", 9));
    TRY(neap_reader_read_until(AT(r), "\n", 1, 100, false, &s));
    slice_reads(s, "line");
    struct neap_room room;
    TRY(neap_reader_room(AT(r), 40000, &room));
    assert_int_equal(neap_reader_buffered(AT(r)), 4);
    while (neap_reader_buffered(AT(r)) < 40000) {
        TRY(neap_reader_room(AT(r), 40000, &room));
        uint32_t left = 40000 - (uint32_t)neap_reader_buffered(AT(r));
        uint32_t n = room.size < left ? room.size : left;
        memcpy(room.at, large, n);
        assert_int_equal(neap_reader_filled(AT(r), n), NEAP_OK);
    }
    TRY(neap_reader_read(AT(r), 39999, &rest));
    assert_memory_equal(neap_slice_bytes(AT(rest)), "rest", 5);
    slice_end(rest);
    TRY(neap_reader_read_any(AT(r), 5, &rest));
    slice_end(rest);
    slice_end(s);
    slice_end(empty);
    assert_int_equal(neap_reader_release(AT(r)), NEAP_OK);
}

static void buffer(void)
{
    static char large[40000];
    struct neap_handle b, s;
    TRY(neap_buffer_create(AT(pool), &b));
    TRY(neap_buffer_put(AT(b), "head", 4));
    TRY(neap_buffer_put_number(AT(b), 4 | NEAP_BIG, 7));
    int before = neap_buffer_size(AT(b));
    TRY(neap_buffer_put(AT(b), large, sizeof large));
    assert_int_equal(neap_buffer_size(AT(b)), before + (int)sizeof large);
    while (neap_buffer_take(AT(b), &s) == 1) slice_end(s);
    assert_int_equal(neap_buffer_release(AT(b)), NEAP_OK);
}

static void writer(void)
{
    static const uint8_t bytes[10000];
    struct neap_writer w = {.pool = neap_pool_of(AT(pool))};
    TRY(neap_writer_add_bytes(&w, bytes, 100));
    assert_int_equal(w.queued, 100); /* a failure added nothing */
    TRY(neap_writer_add_bytes(&w, bytes, sizeof bytes));
    TRY(neap_writer_add_bytes(&w, bytes, sizeof bytes));
    struct neap_handle small;
    TRY(neap_allocator_copy(AT(allocator), "small", 5, &small));
    int result = neap_writer_add(&w, neap_slice_of(AT(small)));
    if (result < 0) failures++; /* taken all the same */
    assert_int_equal(neap_slice_size(AT(small)), NEAP_E_STALE);
    uint64_t all = 100 + 2 * sizeof bytes + (result == NEAP_OK ? 5 : 0);
    assert_int_equal(w.queued, all);
    neap_writer_sent(&w, 150);
    assert_int_equal(neap_writer_clear(&w), all - 150);
}

static void fail_each(void (*scenario)(void))
{
    for (int classes = 0; classes < 2; classes++) {
        int64_t count = 0;
        for (failures = 1; failures; count++) {
            failures = 0;
            neap_mem_fail_after(count);
            begin(classes);
            scenario();
            neap_mem_fail_after(-1);
            end();
            assert_true(failures <= 1);
            assert_int_equal(slice_stats().live, 0);
        }
        assert_true(count > 1);
    }
}

static void memory_fails_for_slices(void **state)
{
    (void)state;
    fail_each(slices);
}

static void memory_fails_for_foreign_slices(void **state)
{
    (void)state;
    fail_each(foreign);
}

static void memory_fails_for_readers(void **state)
{
    (void)state;
    fail_each(reader);
}

static void memory_fails_for_buffers(void **state)
{
    (void)state;
    fail_each(buffer);
}

static void memory_fails_for_writers(void **state)
{
    (void)state;
    fail_each(writer);
}

static void grow_the_table_of_slices(void)
{
    enum { MANY = 5000 };
    static struct neap_handle s[MANY];
    for (int i = 0; i < MANY; i++) TRY(neap_allocator_alloc(AT(allocator), 0, &s[i]));
    for (int i = 0; i < MANY; i++) slice_end(s[i]);
}

static void memory_fails_while_the_table_of_slices_grows(void **state)
{
    (void)state;
    fail_each(grow_the_table_of_slices);
}

/* Its buf goes again when there is no descriptor for it. */
static void memory_fails_for_the_descriptor_of_a_foreign_slice(void **state)
{
    (void)state;
    static struct neap_handle s[20000];
    uint32_t count = 0;
    do {
        assert_int_equal(neap_foreign_slice("text", 4, 1, &s[count]), NEAP_OK);
    } while (++count < 20000 && neap_here.slices.live + 1 < neap_here.slices.committed);
    struct neap_handle none;
    neap_mem_fail_after(1);
    assert_int_equal(neap_foreign_slice("text", 4, 1, &none), NEAP_E_MEMORY);
    assert_int_equal(neap_foreign_next(), 0);
    while (count) slice_end(s[--count]);
}

static const struct CMUnitTest tests[] = {
    TEST(memory_fails_while_the_table_of_slices_grows),
    TEST(memory_fails_for_the_descriptor_of_a_foreign_slice),
    TEST(memory_fails_for_slices),
    TEST(memory_fails_for_foreign_slices),
    TEST(memory_fails_for_readers),
    TEST(memory_fails_for_buffers),
    TEST(memory_fails_for_writers),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
