/* prompt.c - a line of input, a key at a time, so that the loop turns between the keys.
 *
 * On a terminal libedit (through the interface that readline made known) edits the line. It
 * reads keys through next_char(), which has what feed() got: only whole keys, since libedit
 * would otherwise wait for the rest of one, and the loop with it. */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <readline.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include "host/host.h"

enum {
    HISTORY_LINES = 1000,
    KEY_BYTES = 16, /* of the longest key; what is longer is taken in pieces */
    ESCAPE = 0x1b,
    CONTROL_V = 0x16, /* takes the next key as it is */
    CONTROL_X = 0x18, /* begins keys of two characters */
};

static bool is_open;
static bool edits;   /* with libedit; else lines are read as they come */
static bool editing; /* a line is on the screen, and the terminal is libedit's */
static int answer;

static char *line; /* the line, complete or not yet (with libedit only when complete) */
static size_t line_size, line_room;

static char key[KEY_BYTES];
static int key_size, key_taken;

static FILE *screen; /* libedit's own, so that only others' output waits in stdout */
static char *history_path;
static struct sigaction caught; /* what catches SIGINT, when something does */
static volatile sig_atomic_t resized;

static void free_line(void)
{
    free(line);
    line = NULL;
    line_size = line_room = 0;
}

/* ---- signals ---- */

static void set_interrupts(bool once)
{
    struct sigaction now;
    sigaction(SIGINT, NULL, &now);
    if (now.sa_handler != SIG_DFL && now.sa_handler != SIG_IGN) caught = now;
    if (!caught.sa_handler) return;
    if (once)
        caught.sa_flags |= (int)SA_RESETHAND;
    else
        caught.sa_flags &= ~(int)SA_RESETHAND;
    sigaction(SIGINT, &caught, NULL);
}

static void on_resize(int signal_number)
{
    (void)signal_number;
    resized = 1;
}

/* ---- keys ---- */

static int bytes_of_character(unsigned char first)
{
    if (first < 0xc0 || MB_CUR_MAX == 1) return 1;
    return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/* Are these bytes a key, and not the beginning of one? */
static bool is_whole_key(const char *bytes, int n)
{
    unsigned char last = (unsigned char)bytes[n - 1];
    if (n == KEY_BYTES) return true;
    if (bytes[0] == CONTROL_V || bytes[0] == CONTROL_X) return n > 1;
    if (bytes[0] != ESCAPE) return n >= bytes_of_character((unsigned char)bytes[0]);
    if (n == 1) return false;
    if (bytes[1] == '[') return n > 2 && last >= 0x40 && last <= 0x7e;
    return bytes[1] != 'O' || n > 2;
}

static bool input_waits(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&input, 1, 0) > 0;
}

/* One byte, so that what follows the line is left to whoever reads then. Returns 1; 0 at the
 * end. */
static int read_byte(char *byte)
{
    ssize_t n;
    do n = read(STDIN_FILENO, byte, 1);
    while (n < 0 && errno == EINTR);
    return n == 1;
}

/* The next character of the key, as libedit asks for it. (Some of its commands, as those that a
 * user bound in ~/.editrc, ask for more than the key: they get it when it comes.) */
static int next_char(FILE *file)
{
    (void)file;
    if (key_taken == key_size) {
        key_taken = key_size = 0;
        do
            if (!read_byte(&key[key_size++])) return -1;
        while (!is_whole_key(key, key_size));
    }
    wchar_t wide;
    int n = mbtowc(&wide, key + key_taken, (size_t)(key_size - key_taken));
    if (n < 1) {
        mbtowc(NULL, NULL, 0);
        key_taken++;
        return '?';
    }
    key_taken += n;
    return (int)wide;
}

/* ---- the screen while a line is edited ---- */

/* glibc heeds a change only after the next flush of something: that is the NUL, which a terminal
 * ignores. */
static void set_buffering(FILE *file, int mode)
{
    if (!isatty(fileno(file))) return;
    fflush(file);
    setvbuf(file, NULL, mode, BUFSIZ);
    putc(0, file);
    fflush(file);
}

/* What the process prints meanwhile shall not stand in the line: it waits in stdio. */
static void hold_output(bool on)
{
    set_buffering(stdout, on ? _IOFBF : _IOLBF);
    set_buffering(stderr, on ? _IOFBF : _IONBF);
}

static void end_editing(void)
{
    if (!editing) return;
    editing = false;
    rl_callback_handler_remove();
    fflush(screen);
    hold_output(false);
}

static void on_line(char *edited)
{
    end_editing();
    free_line();
    answer = edited ? NEAP_PROMPT_LINE : NEAP_PROMPT_END;
    line = edited;
    line_size = edited ? strlen(edited) : 0;
}

static void remember(const char *entry)
{
    static char *last;
    if (!*entry || (last && strcmp(entry, last) == 0)) return;
    add_history(entry);
    free(last);
    last = strdup(entry);
}

void neap_prompt_refresh(void)
{
    if (!editing) return;
    if (resized) {
        resized = 0;
        rl_resize_terminal();
    }
    if (__fpending(stdout) == 0 && __fpending(stderr) == 0) return;
    fputs("\r\033[K", screen);
    fflush(screen);
    fflush(stdout);
    fflush(stderr);
    rl_forced_update_display();
}

/* ---- the two ways to get a line ---- */

static int feed_keys(void)
{
    while (answer == NEAP_PROMPT_MORE && input_waits()) {
        if (!read_byte(&key[key_size++])) {
            on_line(NULL);
            break;
        }
        if (!is_whole_key(key, key_size)) continue;
        while (key_taken < key_size && editing) rl_callback_read_char();
        key_taken = key_size = 0;
    }
    if (answer == NEAP_PROMPT_LINE) remember(line);
    return answer;
}

static bool put_in_line(char byte)
{
    if (line_size + 1 >= line_room) {
        size_t room = line_room ? 2 * line_room : 256;
        char *larger = realloc(line, room);
        if (!larger) return false;
        line = larger;
        line_room = room;
    }
    line[line_size++] = byte;
    line[line_size] = 0;
    return true;
}

static int feed_bytes(void)
{
    char byte;
    while (answer == NEAP_PROMPT_MORE && input_waits()) {
        if (!read_byte(&byte))
            answer = line_size ? NEAP_PROMPT_LINE : NEAP_PROMPT_END;
        else if (byte == '\n')
            answer = NEAP_PROMPT_LINE;
        else if (!put_in_line(byte))
            answer = NEAP_PROMPT_END;
    }
    return answer;
}

int neap_prompt_feed(void)
{
    int got = edits && editing ? feed_keys() : feed_bytes();
    if (got != NEAP_PROMPT_MORE) set_interrupts(true);
    return got;
}

/* ---- a line, from its beginning to its end ---- */

void neap_prompt_show(const char *text)
{
    free_line();
    answer = NEAP_PROMPT_MORE;
    key_taken = key_size = 0;
    set_interrupts(false);
    if (edits) {
        hold_output(true);
        editing = true;
        rl_callback_handler_install(text, on_line);
        fflush(screen);
    } else {
        fputs(text, stdout);
        fflush(stdout);
    }
}

const char *neap_prompt_line(void)
{
    return line ? line : "";
}

int neap_prompt_line_size(void)
{
    return (int)line_size;
}

void neap_prompt_cancel(void)
{
    bool was_editing = editing;
    end_editing();
    if (was_editing) fputs("\n", screen);
    if (was_editing) fflush(screen);
    free_line();
}

static void at_exit(void)
{
    end_editing();
    if (history_path) write_history(history_path);
}

static void open_editor(const char *history)
{
    screen = fdopen(fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1), "w");
    if (!screen) return;
    edits = true;
    setlocale(LC_CTYPE, "");
    rl_readline_name = "neap";
    rl_instream = stdin;
    rl_outstream = screen;
    rl_getc_function = next_char;
    rl_catch_signals = 0; /* the loop has them */
    rl_initialize();
    using_history();
    stifle_history(HISTORY_LINES);
    /* the search that readline has there would read keys while the loop stands still */
    rl_parse_and_bind("bind ^R ed-search-prev-history");
    rl_parse_and_bind("bind ^I ed-insert");
    history_path = history ? strdup(history) : NULL;
    if (history_path) read_history(history_path);
    signal(SIGWINCH, on_resize);
}

void neap_prompt_open(const char *history)
{
    if (is_open) return;
    is_open = true;
    if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)) open_editor(history);
    /* else a chunk that reads standard input goes on behind the last line */
    if (!edits) setvbuf(stdin, NULL, _IONBF, 0);
    atexit(at_exit);
}

bool neap_host_interactive(void)
{
    return isatty(STDIN_FILENO) == 1;
}
