/* quiet.h - writes that raise SIGPIPE: one that they raise is as if it had never been. Thread: any. */
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

/* writev() */
ssize_t neap_write_quietly(int fd, const struct iovec *parts, int count);

/* sendfile() */
ssize_t neap_send_file_quietly(int fd, int file, off_t offset, size_t n);
