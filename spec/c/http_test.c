/* http_test.c - the scanner of HTTP heads and of the lines between chunks, beside a page that
 * cannot be read, on whole inputs, on every front part of them, and on damaged ones. */
#include <string.h>

#include "helper.h"

enum { MUTATIONS = 20000 };

static struct neap_http_head head;

static int scan(const char *text, size_t n, int kind)
{
    return neap_http_scan(guard_copy(text, n), (uint32_t)n, kind, &head);
}

static const char *const requests[] = {
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\nGET /a?b HTTP/1.1\r\nHost:\r\nX:\t y \t\r\n\r\n",
    "POST http://example.org:80/x?y=z HTTP/1.1\r\nhost: b\r\nContent-Length: 3\r\n\r\n",
    "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
    "OPTIONS * HTTP/1.0\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "PUT /x HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: Chunked\r\nExpect: 100-Continue\r\n\r\n",
    "GET /long HTTP/1.1\r\nHost: a\r\nCookie: 0123456789abcdef0123456789abcdef \xc3\xbc!\r\n\r\n",
};

static const char *const responses[] = {
    "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n",
    "HTTP/1.0 301\r\n\r\n",
    "HTTP/1.1 599 Any \xfc phrase\r\nTransfer-Encoding: gzip, chunked\r\nConnection: close\r\n\r\n",
};

/* ---- parts ---- */

static void is_text(const char *in, uint32_t at, uint32_t size, const char *text)
{
    assert_int_equal(size, strlen(text));
    assert_memory_equal(in + at, text, size);
}

static void a_requests_parts_are_where_they_stand(void **state)
{
    (void)state;
    const char *in = "POST http://h.example:80/x/y?a=b HTTP/1.1\r\nHost: other\r\n"
                     "Content-Length: 0042\r\nX-Empty:\r\nx-two:  a b \t\r\n\r\nbody";
    assert_int_equal(scan(in, strlen(in), NEAP_HTTP_REQUEST), strlen(in) - 4);
    assert_int_equal(head.method, NEAP_HTTP_POST);
    assert_int_equal(head.version, 11);
    assert_true(head.length == 42);
    assert_int_equal(head.target_form, NEAP_HTTP_ABSOLUTE);
    is_text(in, head.method_at, head.method_size, "POST");
    is_text(in, head.target_at, head.target_size, "http://h.example:80/x/y?a=b");
    is_text(in, head.host_at, head.host_size, "h.example:80");
    is_text(in, head.path_at, head.path_size, "/x/y");
    is_text(in, head.query_at, head.query_size, "a=b");
    assert_int_equal(head.count, 4);
    is_text(in, head.name_at[2], head.name_size[2], "X-Empty");
    is_text(in, head.value_at[2], head.value_size[2], "");
    is_text(in, head.value_at[3], head.value_size[3], "a b");
    assert_int_equal(neap_http_find(in, (uint32_t)strlen(in), &head, "X-TWO", 5, 0), 3);
    assert_int_equal(neap_http_find(in, (uint32_t)strlen(in), &head, "x-two", 5, 4), NEAP_E_EOF);
    assert_int_equal(neap_http_find(in, 10, &head, "x-two", 5, 0), NEAP_E_EOF);
}

static void flags_tell_what_follows(void **state)
{
    (void)state;
    scan(requests[4], strlen(requests[4]), NEAP_HTTP_REQUEST);
    assert_int_equal(head.flags, NEAP_HTTP_KEEP_ALIVE | NEAP_HTTP_UPGRADE_NAMED |
                                     NEAP_HTTP_OLD); /* of 1.0: no */
    scan(requests[5], strlen(requests[5]), NEAP_HTTP_REQUEST);
    assert_int_equal(head.flags, NEAP_HTTP_HAS_HOST | NEAP_HTTP_HAS_CODING | NEAP_HTTP_CHUNKED |
                                     NEAP_HTTP_CONTINUE);
    scan(responses[2], strlen(responses[2]), NEAP_HTTP_RESPONSE);
    assert_int_equal(head.flags,
                     NEAP_HTTP_HAS_CODING | NEAP_HTTP_CHUNKED | NEAP_HTTP_CODED | NEAP_HTTP_CLOSE);
    assert_int_equal(head.status, 599);
}

/* ---- front parts ---- */

/* A front part is not complete, or wrong as the whole is; what follows a head changes nothing. */
static void every_front_part(const char *in, size_t n, int kind)
{
    int whole = scan(in, n, kind);
    uint32_t wrong = head.wrong, wrong_at = head.wrong_at;
    for (size_t part = 0; part < n; part++) {
        int result = scan(in, part, kind);
        if (result == NEAP_E_AGAIN && whole != NEAP_E_AGAIN && (whole < 0 || (int)part < whole))
            continue;
        assert_int_equal(result, whole);
        assert_int_equal(head.wrong, wrong);
        assert_int_equal(head.wrong_at, wrong_at);
    }
}

static void a_head_is_had_with_its_last_byte_and_not_before(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        size_t n = strlen(requests[i]);
        assert_int_equal(scan(requests[i], n, NEAP_HTTP_REQUEST), n);
        every_front_part(requests[i], n, NEAP_HTTP_REQUEST);
    }
    for (size_t i = 0; i < sizeof responses / sizeof responses[0]; i++) {
        size_t n = strlen(responses[i]);
        assert_int_equal(scan(responses[i], n, NEAP_HTTP_RESPONSE), n);
        every_front_part(responses[i], n, NEAP_HTTP_RESPONSE);
    }
    assert_int_equal(scan("\r\n", 2, NEAP_HTTP_TRAILERS), 2);
    every_front_part("A: b\r\n\r\n", 8, NEAP_HTTP_TRAILERS);
}

/* ---- what is accepted holds what the RFC says, whatever came ---- */

static void no_line_ends_but_as_it_should(const char *in, int n)
{
    assert_memory_equal(in + n - 2, "\r\n", 2);
    for (int i = 0; i < n; i++) {
        if (in[i] == '\r') assert_true(i + 1 < n && in[i + 1] == '\n');
        if (in[i] == '\n') assert_true(i > 0 && in[i - 1] == '\r');
        assert_true(in[i] != 0);
    }
}

static void fields_are_in_order(const char *in, int n)
{
    uint32_t behind = 0;
    for (uint32_t i = 0; i < head.count; i++) {
        assert_true(head.name_at[i] >= behind && head.value_at[i] > head.name_at[i]);
        assert_true(neap_http_is_token(in + head.name_at[i], head.name_size[i]));
        assert_true(neap_http_is_text(in + head.value_at[i], head.value_size[i]));
        assert_true(in[head.name_at[i] + head.name_size[i]] == ':');
        behind = head.value_at[i] + head.value_size[i];
        assert_true((int)behind <= n);
    }
}

static void damage(char *in, size_t *n, struct random *random)
{
    static const char bytes[] = "\r\n :\t,;0\0\x7f\xff/AzHT";
    uint32_t at = random_below(random, (uint32_t)*n);
    switch (random_below(random, 4)) {
    case 0: in[at] = (char)random_next(random); break;
    case 1: in[at] = bytes[random_below(random, sizeof bytes)]; break;
    case 2:
        memmove(in + at, in + at + 1, *n - at - 1);
        --*n;
        break;
    default:
        memmove(in + at + 1, in + at, *n - at);
        in[at] = bytes[random_below(random, sizeof bytes)];
        ++*n;
    }
}

static void damaged_heads_are_refused_or_sound(void **state)
{
    (void)state;
    struct random random = {1};
    int sound = 0, refused = 0;
    for (int i = 0; i < MUTATIONS; i++) {
        char in[512];
        bool request = random_below(&random, 2);
        const char *text =
            request ? requests[random_below(&random, 7)] : responses[random_below(&random, 3)];
        size_t n = strlen(text);
        memcpy(in, text, n);
        for (uint32_t times = 1 + random_below(&random, 3); times > 0; times--)
            damage(in, &n, &random);
        int kind = request ? NEAP_HTTP_REQUEST : NEAP_HTTP_RESPONSE;
        int result = scan(in, n, kind);
        sound += result > 0;
        refused += result == NEAP_E_MALFORMED;
        if (result > 0) no_line_ends_but_as_it_should(in, result);
        if (result > 0) fields_are_in_order(in, result);
        if (i % 16 == 0) every_front_part(in, n, kind);
    }
    assert_true(sound > MUTATIONS / 20 && refused > MUTATIONS / 20);
}

/* ---- chunks ---- */

static const struct {
    const char *line;
    double size;
} lines[] = {
    {"5\r\n", 5},          {"fF;a\r\n", 255},
    {"0\r\n", 0},          {"000a;a=b;c=\"d \\\" e\";f\r\n", 10},
    {"1 ; a = b \r\n", 1}, {"20000000000000\r\n", 0x1p53},
};

static void a_chunks_line_is_had_with_its_last_byte(void **state)
{
    (void)state;
    struct neap_http_chunk chunk;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        char in[64] = "\r\n";
        size_t n = strlen(strcat(in, lines[i].line));
        for (uint32_t part = 0; part < n; part++) {
            assert_int_equal(neap_http_chunk(guard_copy(in, part), part, false, &chunk),
                             NEAP_E_AGAIN);
        }
        assert_int_equal(neap_http_chunk(guard_copy(in, n), (uint32_t)n, false, &chunk), n);
        assert_true(chunk.size == lines[i].size);
        assert_int_equal(neap_http_chunk(in + 2, (uint32_t)n - 2, true, &chunk), n - 2);
    }
}

static const struct {
    const char *in;
    bool first;
    int wrong;
} bad_lines[] = {
    {"\r\n", true, NEAP_HTTP_CHUNK_SIZE},
    {"g\r\n", true, NEAP_HTTP_CHUNK_SIZE},
    {"-1\r\n", true, NEAP_HTTP_CHUNK_SIZE},
    {"0x5\r\n", true, NEAP_HTTP_CHUNK_SIZE},
    {" 5\r\n", true, NEAP_HTTP_CHUNK_SIZE},
    {"5 \r\n", true, NEAP_HTTP_CHUNK_SIZE},
    {"5\n", true, NEAP_HTTP_CHUNK_SIZE},
    {"5\rX", true, NEAP_HTTP_CHUNK_SIZE},
    {"20000000000001\r\n", true, NEAP_HTTP_CHUNK_SIZE},
    {"00000000000000001\r\n", true, NEAP_HTTP_CHUNK_SIZE},
    {"5;\r\n", true, NEAP_HTTP_CHUNK_EXTENSION},
    {"5;a=\r\n", true, NEAP_HTTP_CHUNK_EXTENSION},
    {"5;a=\"\x01\"\r\n", true, NEAP_HTTP_CHUNK_EXTENSION},
    {"5;a=\"b\r\n", true, NEAP_HTTP_CHUNK_EXTENSION},
    {"5;a\n", true, NEAP_HTTP_CHUNK_EXTENSION},
    {"5;a b\r\n", true, NEAP_HTTP_CHUNK_EXTENSION},
    {"x\r\n5\r\n", false, NEAP_HTTP_CHUNK_END},
    {"\n5\r\n", false, NEAP_HTTP_CHUNK_END},
    {"\rx5\r\n", false, NEAP_HTTP_CHUNK_END},
};

static void a_bad_chunks_line_is_refused(void **state)
{
    (void)state;
    struct neap_http_chunk chunk;
    for (size_t i = 0; i < sizeof bad_lines / sizeof bad_lines[0]; i++) {
        uint32_t n = (uint32_t)strlen(bad_lines[i].in);
        const char *in = guard_copy(bad_lines[i].in, n);
        assert_int_equal(neap_http_chunk(in, n, bad_lines[i].first, &chunk), NEAP_E_MALFORMED);
        assert_int_equal(chunk.wrong, bad_lines[i].wrong);
    }
}

static void a_chunks_line_without_end_is_refused_at_its_limit(void **state)
{
    (void)state;
    struct neap_http_chunk chunk;
    char in[NEAP_HTTP_CHUNK_LINE];
    memset(in, 'x', sizeof in);
    memcpy(in, "5;", 2);
    for (uint32_t n = 0; n < sizeof in; n++)
        assert_int_equal(neap_http_chunk(guard_copy(in, n), n, true, &chunk), NEAP_E_AGAIN);
    assert_int_equal(neap_http_chunk(guard_copy(in, sizeof in), sizeof in, true, &chunk),
                     NEAP_E_MALFORMED);
    assert_int_equal(chunk.wrong, NEAP_HTTP_CHUNK_EXTENSION);
}

/* ---- views ---- */

static void a_view_is_scanned_again_only_when_a_line_has_ended(void **state)
{
    (void)state;
    struct neap_handle pool = pool_make(0), reader;
    assert_int_equal(neap_reader_create(AT(pool), 1000, &reader), NEAP_OK);
    const char *in = "GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
    int scans = 0, result = NEAP_E_AGAIN;
    for (uint32_t n = 1; n <= strlen(in) && result == NEAP_E_AGAIN; n++) {
        assert_int_equal(neap_reader_feed(AT(reader), in + n - 1, 1), 1);
        int epoch = neap_reader_peek(AT(reader), n);
        struct neap_view view = {reader.slot, reader.gen, (uint32_t)epoch, 0, n};
        head.version = 99; /* a scan would overwrite it */
        result = neap_view_http_scan(&view, NEAP_HTTP_REQUEST, &head);
        scans += head.version != 99;
        view.epoch++;
        assert_int_equal(neap_view_http_scan(&view, NEAP_HTTP_REQUEST, &head), NEAP_E_STALE);
        assert_int_equal(neap_view_http_find(&view, &head, "a", 1, 0), NEAP_E_STALE);
        struct neap_http_chunk chunk;
        assert_int_equal(neap_view_http_chunk(&view, true, &chunk), NEAP_E_STALE);
    }
    assert_int_equal(result, strlen(in) - 4);
    assert_int_equal(scans, 7); /* the first byte, and CR and LF of three lines */
    assert_int_equal(neap_reader_release(AT(reader)), NEAP_OK);
    pool_end(pool);
}

static const struct CMUnitTest tests[] = {
    TEST(a_requests_parts_are_where_they_stand),
    TEST(flags_tell_what_follows),
    TEST(a_head_is_had_with_its_last_byte_and_not_before),
    TEST(damaged_heads_are_refused_or_sound),
    TEST(a_chunks_line_is_had_with_its_last_byte),
    TEST(a_bad_chunks_line_is_refused),
    TEST(a_chunks_line_without_end_is_refused_at_its_limit),
    TEST(a_view_is_scanned_again_only_when_a_line_has_ended),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
