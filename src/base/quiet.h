/* quiet.h - a write to what may be a pipe. */
#pragma once

#include <sys/uio.h>

/* writev(), and a SIGPIPE that it raises is as if it had never been. Thread: any. */
ssize_t neap_write_quietly(int fd, const struct iovec *parts, int count);
