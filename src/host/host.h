/* host.h - what the neap command offers to its own Lua code (command.lua, prompt.lua).
 *
 * As neap.h: LuaJIT's ffi.cdef reads this file as it is, so it holds only enums and
 * prototypes. The program exports these functions, and ffi.C finds them.
 *
 * The prompt. One line at a time: show, feed for each NEAP_READY_INPUT until the
 * answer is not NEAP_PROMPT_MORE, then line. On a terminal libedit edits it and
 * keeps a history; anything else is read as it comes. While a line is edited, what
 * the process prints waits for neap_prompt_refresh(). Every function may be called
 * at any time. Thread: the interpreter's. */
#pragma once
#pragma GCC visibility push(default)

enum neap_prompt_answer {
    NEAP_PROMPT_MORE = 0, /* the line is not complete */
    NEAP_PROMPT_LINE = 1, /* it is: neap_prompt_line() */
    NEAP_PROMPT_END = 2   /* there are no more lines */
};

/* The text of this header. own: returns borrowed, for ever. */
const char *neap_host_header(void);

/* Are somebody's eyes and fingers at standard input? */
bool neap_host_interactive(void);

/* Print the counters to standard error when the process exits. Twice is once. */
void neap_host_stats_at_exit(void);

/* Get ready; the history comes from `history` and goes there when the process exits; NULL:
 * nowhere. Twice is once. own: borrows. */
void neap_prompt_open(const char *history);

/* Begin a line behind `text`. Until it is complete SIGINT, if it is caught, ends nothing; from
 * then on a second one ends the process. own: borrows. */
void neap_prompt_show(const char *text);

/* Standard input can be read: read it as far as it goes, but not beyond the end of the line.
 * Returns an enum neap_prompt_answer. */
int neap_prompt_feed(void);

/* The last complete line, without its end. own: returns borrowed, until the next show. */
const char *neap_prompt_line(void);

/* Bytes of that line. */
int neap_prompt_line_size(void);

/* Give the line up that is being edited. */
void neap_prompt_cancel(void);

/* Print what the process wrote while a line is edited, and show the line again below it. */
void neap_prompt_refresh(void);

#pragma GCC visibility pop
