/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel and initrd files. They are opened without ever blocking, and read with pread(2) at
 * offsets: no file position is kept, so a machine reset loads the same descriptor again, and a file
 * that shrinks is an error and not a SIGBUS.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/cleanup.h"
#include "vmm/overflow.h"

/* Stays in the cache between the two copies. */
#define PIECE_SIZE KIB(128)

static const char *image_name(enum error_code code)
{
	return code == ERROR_INITRD ? "initrd" : "kernel";
}

/* What a file that cannot be loaded is, or NULL if it can. */
static const char *unusable_type(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
	case S_IFBLK:
		return NULL;
	case S_IFDIR:
		return "a directory";
	case S_IFIFO:
		return "a FIFO";
	case S_IFCHR:
		return "a character device";
	case S_IFSOCK:
		return "a socket";
	default:
		return "not a file";
	}
}

int loader_open(struct loader_image *image, const char *path, enum error_code code, struct error *e)
{
	auto_close int fd = -1;
	const char *type;
	struct stat st;
	int r;

	/* Opening a device can have effects (watchdogs, tapes) and a FIFO's writer would notice:
	 * look first. */
	if (stat(path, &st) == 0) {
		type = unusable_type(st.st_mode);
		if (type != NULL) {
			goto wrong_type;
		}
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0) {
		r = errno;
		error_set(e, code, r, "%s '%s': %s", image_name(code), path, strerror(r));
		if (r == EACCES) {
			error_hint(e, "Debian and Ubuntu let only root read some files of /boot: "
				      "copy it, or change its mode");
		}
		if (r == ENOENT) {
			error_hint(e, "check the path of the %s", image_name(code));
		}
		return -r;
	}
	if (fstat(fd, &st) < 0) {
		return error_set_sys(e, code, errno, "%s '%s': fstat", image_name(code), path);
	}
	type = unusable_type(st.st_mode);
	if (type == NULL) {
		image->path = path;
		image->fd = take_fd(&fd);
		return 0;
	}
wrong_type:
	error_set(e, code, S_ISDIR(st.st_mode) ? EISDIR : EINVAL, "%s '%s': this is %s",
		  image_name(code), path, type);
	return error_hint(e, "name a file with a %s image", image_name(code));
}

int source_error(const struct source *src, struct error *e, const char *fmt, ...)
{
	char text[320];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	return error_set(e, src->code, EINVAL, "%s '%s': %s", src->what, src->path, text);
}

int source_init(struct source *src, const struct loader_image *image, const char *what,
		enum error_code code, struct error *e)
{
	struct source s = { .fd = image->fd, .what = what, .path = image->path, .code = code };
	struct stat st;
	off_t size;

	if (fstat(s.fd, &st) < 0) {
		return error_set_sys(e, code, errno, "%s '%s': fstat", what, s.path);
	}
	size = st.st_size;
	s.base = image->offset;
	if (S_ISBLK(st.st_mode)) {
		size = lseek(s.fd, 0, SEEK_END);
		if (size < 0) {
			return error_set_sys(e, code, errno, "%s '%s': size", what, s.path);
		}
	}
	if (size <= 0) {
		return source_error(&s, e, "the file is empty");
	}
	if (image->offset >= (uint64_t)size || image->size > (uint64_t)size - image->offset) {
		return source_error(&s, e, "the file shrank to %" PRIu64 " bytes", (uint64_t)size);
	}
	s.size = image->size != 0 ? image->size : (uint64_t)size - image->offset;
	*src = s;
	return 0;
}

int source_read(const struct source *src, uint64_t offset, void *buf, uint64_t len, struct error *e)
{
	uint8_t *to = buf;
	uint64_t done = 0;
	ssize_t n;

	if (!range_within(offset, len, src->size)) {
		return source_error(src, e,
				    "truncated: %" PRIu64 " bytes at %" PRIu64
				    " are needed, the file has %" PRIu64,
				    len, offset, src->size);
	}
	while (done < len) {
		/* Linux caps one read at 0x7ffff000 bytes; the cast never truncates on a 64-bit
		 * host. */
		n = pread(src->fd, to + done, (size_t)(len - done),
			  (off_t)(src->base + offset + done));
		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return error_set_sys(e, src->code, errno, "%s '%s': read at %" PRIu64,
					     src->what, src->path, (offset + done));
		}
		if (n == 0) {
			return source_error(
				src, e, "the file shrank to %" PRIu64 " bytes while it was read",
				(offset + done));
		}
		done += (uint64_t)n;
	}
	return 0;
}

int source_load(const struct source *src, uint64_t offset, struct guest_memory *mem, gpa_t gpa,
		uint64_t len, struct error *e)
{
	uint8_t *host = guest_memory_write_pointer(mem, gpa, len);
	int r;

	if (host == NULL) {
		return source_error(src, e, "0x%" PRIx64 " bytes at 0x%" PRIx64 " are outside RAM",
				    len, gpa);
	}
	r = source_read(src, offset, host, len, e);
	guest_memory_written(mem, host, len);
	return r;
}

int memory_write_sparse(struct guest_memory *mem, gpa_t gpa, const uint8_t *data, uint64_t len,
			struct error *e)
{
	static const uint8_t zeroes[PAGE_SIZE_4K];
	uint8_t *host = guest_memory_write_pointer(mem, gpa, len);
	uint64_t n;

	if (host == NULL) {
		return error_set(e, ERROR_INTERNAL, 0,
				 "0x%" PRIx64 " bytes at 0x%" PRIx64 " are outside RAM", len, gpa);
	}
	for (; len != 0; gpa += n, host += n, data += n, len -= n) {
		n = MIN(len, PAGE_SIZE_4K - gpa % PAGE_SIZE_4K);
		if (memcmp(data, zeroes, n) != 0) {
			memcpy(host, data, n);
			guest_memory_written(mem, host, n);
		}
	}
	return 0;
}

int source_load_sparse(const struct source *src, uint64_t offset, struct guest_memory *mem,
		       gpa_t gpa, uint64_t len, struct error *e)
{
	uint8_t *piece = malloc(PIECE_SIZE);
	uint64_t n;
	int r = 0;

	if (piece == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "%s '%s': no memory", src->what,
				 src->path);
	}
	for (; r == 0 && len != 0; offset += n, gpa += n, len -= n) {
		n = MIN(len, (uint64_t)PIECE_SIZE);
		r = source_read(src, offset, piece, n, e);
		if (r == 0) {
			r = memory_write_sparse(mem, gpa, piece, n, e);
		}
	}
	free(piece);
	return r;
}
