/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copying a disk's file: include/vmm/disk_copy.h is the contract. Any thread, no state. The file's content decides nothing but
 * what is a hole.
 *
 * copy_file_range(2) is tried for each step until it says that it cannot (another file system, an old kernel), then the rest
 * goes through a buffer. A block device has no holes; there, pages of zeroes are left out.
 */
#include "vmm/disk_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/cleanup.h"

#define BUFFER_SIZE KIB(256)

struct copying {
	const struct disk_copy *copy;
	int to;
	uint64_t size;	      /* bytes of the file */
	uint64_t done, total; /* bytes of data */
	bool is_device;
	bool no_range;	 /* copy_file_range() is of no use here */
	uint8_t *buffer; /* allocated when it is needed */
	struct error *e;
};

static int fail(struct copying *c, int sys, const char *step)
{
	(void)error_set_sys(c->e, ERROR_DISK, sys, "copy disk '%s' to '%s': %s", c->copy->path,
			    c->copy->name, step);
	return sys == ENOSPC ? error_hint(c->e, "the copy has up to %llu MiB",
					  (unsigned long long)(c->total >> 20))
			     : -sys;
}

static int ask(struct copying *c)
{
	if (c->copy->go_on != NULL && !c->copy->go_on(c->copy->arg, c->done, c->total)) {
		return error_set(c->e, ERROR_CANCELLED, ECANCELED, "copy disk '%s': cancelled",
				 c->copy->path);
	}
	return 0;
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
	return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

static int write_all(struct copying *c, const uint8_t *bytes, size_t len, uint64_t at)
{
	while (len != 0) {
		ssize_t n = pwrite(c->to, bytes, len, (off_t)at);

		if (n < 0 && errno != EINTR) {
			return fail(c, errno, "write");
		}
		if (n > 0) {
			bytes += n;
			at += (uint64_t)n;
			len -= (size_t)n;
		}
	}
	return 0;
}

/* Those of the buffer's pages that are not zeroes: the file has holes instead. */
static int write_pages(struct copying *c, size_t len, uint64_t at)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < len; i += PAGE_SIZE_4K) {
		size_t part = MIN(len - i, (size_t)PAGE_SIZE_4K);

		if (!is_zero(c->buffer + i, part)) {
			r = write_all(c, c->buffer + i, part, at + i);
		}
	}
	return r;
}

/* At most `len` bytes through the buffer; how many, or negative. */
static int64_t move_by_buffer(struct copying *c, uint64_t at, uint64_t len)
{
	ssize_t n;
	int r;

	if (c->buffer == NULL) {
		c->buffer = malloc(BUFFER_SIZE);
		if (c->buffer == NULL) {
			return error_set_sys(c->e, ERROR_NO_MEMORY, ENOMEM, "copy disk '%s'",
					     c->copy->path);
		}
	}
	do {
		n = pread(c->copy->from, c->buffer, (size_t)MIN(len, BUFFER_SIZE), (off_t)at);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		return fail(c, errno, "read");
	}
	r = c->is_device ? write_pages(c, (size_t)n, at) : write_all(c, c->buffer, (size_t)n, at);
	return r < 0 ? r : n;
}

/* At most `len` bytes, by the best way that is left; how many, or negative. */
static int64_t move(struct copying *c, uint64_t at, uint64_t len)
{
	while (!c->no_range && !c->is_device) {
		off_t in = (off_t)at, out = (off_t)at;
		ssize_t n = copy_file_range(c->copy->from, &in, c->to, &out, (size_t)len, 0);

		if (n >= 0) {
			return n;
		}
		if (errno == ENOSPC || errno == EIO || errno == EDQUOT || errno == EFBIG) {
			return fail(c, errno, "copy");
		}
		c->no_range = errno != EINTR;
	}
	return move_by_buffer(c, at, len);
}

/* Data of [from, to). */
static int copy_run(struct copying *c, uint64_t from, uint64_t to)
{
	while (from < to) {
		int64_t n;
		int r = ask(c);

		if (r < 0) {
			return r;
		}
		n = move(c, from, MIN(to - from, DISK_COPY_STEP));
		if (n < 0) {
			return (int)n;
		}
		if (n == 0) {
			return error_set(c->e, ERROR_DISK, EIO,
					 "copy disk '%s': it ends at byte %llu, and had %llu",
					 c->copy->path, (unsigned long long)from,
					 (unsigned long long)c->size);
		}
		from += (uint64_t)n;
		c->done += (uint64_t)n;
	}
	return 0;
}

/* Where the next data or hole is, at most the size. A file system that does not know says that all is data. */
static int seek(struct copying *c, uint64_t at, int whence, uint64_t *ret)
{
	off_t found = c->is_device ? -1 : lseek(c->copy->from, (off_t)at, whence);

	if (found < 0 && !c->is_device && errno != EINVAL && errno != ENXIO) {
		return fail(c, errno, "look for holes");
	}
	if (found >= 0) {
		*ret = MIN((uint64_t)found, c->size);
	} else if (!c->is_device && errno == ENXIO) {
		*ret = c->size;
	} else {
		*ret = whence == SEEK_DATA ? at : c->size;
	}
	return 0;
}

static int copy_data(struct copying *c)
{
	uint64_t at = 0, hole = 0;
	int r = 0;

	while (r == 0 && at < c->size) {
		r = seek(c, at, SEEK_DATA, &at);
		if (r == 0 && at < c->size) {
			r = seek(c, at, SEEK_HOLE, &hole);
			if (r == 0) {
				r = copy_run(c, at, MAX(hole, at + 1));
				at = MAX(hole, at + 1);
			}
		}
	}
	if (r == 0 && ftruncate(c->to, (off_t)c->size) != 0) {
		r = fail(c, errno, "set its size");
	}
	return r;
}

/* 0; negative: it has to be copied, without an error yet. */
static int share(struct copying *c)
{
	int r;

	if (c->is_device) {
		return -EOPNOTSUPP;
	}
	do {
		r = ioctl(c->to, FICLONE, c->copy->from);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

static int fill(struct copying *c, bool *shared)
{
	int r = c->copy->way == DISK_COPY_BYTES ? -EOPNOTSUPP : share(c);

	*shared = r == 0;
	if (r < 0 && c->copy->way == DISK_COPY_REFLINK) {
		(void)error_set_sys(c->e, ERROR_NOT_SUPPORTED, -r,
				    "disk '%s' cannot share its content with '%s'", c->copy->path,
				    c->copy->name);
		return error_hint(c->e,
				  "reflinks need one file system that has them for both (XFS, "
				  "btrfs), and files, not devices");
	}
	if (r < 0) {
		r = copy_data(c);
	} else {
		c->done = c->total;
	}
	if (r == 0 && c->copy->sync && fsync(c->to) != 0) {
		r = fail(c, errno, "sync");
	}
	return r == 0 ? ask(c) : r;
}

static int measure(struct copying *c)
{
	struct stat st;
	off_t end;

	if (fstat(c->copy->from, &st) != 0) {
		return fail(c, errno, "stat");
	}
	c->is_device = S_ISBLK(st.st_mode);
	end = c->is_device ? lseek(c->copy->from, 0, SEEK_END) : st.st_size;
	if (end < 0) {
		return fail(c, errno, "its size");
	}
	c->size = (uint64_t)end;
	c->total = c->is_device ? c->size : MIN(c->size, (uint64_t)st.st_blocks * 512);
	return 0;
}

int disk_copy(const struct disk_copy *copy, bool *shared, struct error *e)
{
	struct copying c = { .copy = copy, .to = -1, .e = e };
	bool is_shared = false;
	int r = measure(&c);

	if (r == 0) {
		r = ask(&c);
	}
	if (r == 0) {
		c.to = openat(copy->folder, copy->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
			      0600);
		r = c.to < 0 ? fail(&c, errno, "make it") : fill(&c, &is_shared);
	}
	if (r < 0 && c.to >= 0) {
		(void)unlinkat(copy->folder, copy->name, 0);
	}
	close_fd(&c.to);
	free(c.buffer);
	if (r == 0 && shared != NULL) {
		*shared = is_shared;
	}
	return r;
}
