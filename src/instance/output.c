/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files and FIFOs that somebody named to get our lines: opened so that writing never waits, and
 * without a signal when a FIFO's reader goes away.
 *
 * A FIFO is opened for reading and writing: that works before its reader is there, and as we are a
 * reader ourselves there is no SIGPIPE. What a full one does not take is lost and counted. A FIFO
 * can take half of a long line; the next one then starts with the missing newline.
 *
 * Main thread. Paths are a client's; they are opened with the rights of the process.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/cleanup.h"

#define OUTPUT_MODE 0600 /* what guests and figures say is its owner's business */

int output_open(int *ret, const char *what, const char *path, enum error_code code, struct error *e)
{
	auto_close int fd = -1;
	struct stat st;
	int flags = O_WRONLY | O_CREAT | O_APPEND;

	if (stat(path, &st) == 0 && S_ISFIFO(st.st_mode)) {
		flags = O_RDWR;
	}
	fd = open(path, flags | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, OUTPUT_MODE);
	if (fd < 0) {
		int sys = errno;

		(void)error_set_sys(e, code, sys, "%s: open '%s'", what, path);
		return error_hint(e, sys == ENXIO ? "this is a socket: name a file or a FIFO"
						  : "name a file or a FIFO in a directory that "
						    "exists and that you may write to");
	}
	if (fstat(fd, &st) < 0) {
		return error_set_sys(e, code, errno, "%s: stat '%s'", what, path);
	}
	if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode) && !S_ISCHR(st.st_mode)) {
		(void)error_set(e, code, EINVAL, "%s: '%s' is no file and no FIFO", what, path);
		return error_hint(e, "name a file or a FIFO");
	}
	*ret = take_fd(&fd);
	return 0;
}

/* What a renamed file is followed by; in main's filter by these flags (syscalls.c). */
static int open_anew(const char *path)
{
	return open(path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY,
		    OUTPUT_MODE);
}

int output_reopen(int fd, const char *what, const char *path, struct error *e)
{
	auto_close int next = -1;
	struct stat st;

	if (fd < 0 || path == NULL || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		return 0;
	}
	next = open_anew(path);
	if (next < 0 || fstat(next, &st) < 0) {
		(void)error_set_sys(e, ERROR_CONFIG, errno, "%s: open '%s' anew", what, path);
		return error_hint(e, "lines go on into the file that was open before");
	}
	if (!S_ISREG(st.st_mode)) {
		return error_set(e, ERROR_CONFIG, EINVAL, "%s: '%s' is no file any more", what,
				 path);
	}
	/* Other threads write through the number: at no time does it stand for nothing. */
	if (dup3(next, fd, O_CLOEXEC) < 0) {
		return error_set_sys(e, ERROR_CONFIG, errno, "%s: dup3", what);
	}
	return 0;
}

bool output_write(struct output *output, const char *text, size_t len)
{
	/* The kernel does not change what it writes; its type just does not say so. */
	struct iovec end = { .iov_base = (void *)(uintptr_t) "\n", .iov_len = 1 };
	struct iovec parts[] = { end,
				 { .iov_base = (void *)(uintptr_t)text, .iov_len = len },
				 end };
	int skip = output->cut ? 0 : 1;
	size_t all = len + 1 + (output->cut ? 1 : 0);
	ssize_t n;

	if (output->fd < 0) {
		return false;
	}
	do {
		n = writev(output->fd, parts + skip, 3 - skip);
	} while (n < 0 && errno == EINTR);
	if (n == (ssize_t)all) {
		output->cut = false;
		output->lines++;
		return true;
	}
	output->lost++;
	if (n > 0) {
		output->cut = true;
	}
	return false;
}
