/* log.h - what the end of the process has to say. (Entries of the log: neap_log_write() in neap.h.)
 * Thread: one. */
#pragma once

#include <stdint.h>

/* As neap_log_write(), but waits for a pipe that is full, for a second in all. own: borrows. */
void neap_log_write_last(const char *bytes, uint32_t n);
