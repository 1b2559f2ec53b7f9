/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel file that is packed as a whole: vmlinux.gz, .xz, .zst. It is unpacked once, before the
 * start and outside of the sandbox, into memory that stands in the file's place: a machine reset
 * loads from there again.
 *
 * gzip is unpacked here (inflate.c). For xz and zstd the program of that name does it: their decoders
 * would add more to vmm than the rest of the loader is (docs/dependencies.md), for what is done once
 * by who has such a file. The program gets the file as standard input, an environment without the
 * variables that would steer it, and no descriptor of ours; what it writes comes through a pipe and
 * is bounded. Where there is no such program, as in a jail, the hint says how to unpack.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/cleanup.h"
#include "vmm/overflow.h"

#define UNPACKED_MAX GIB(1)
#define PIECE_SIZE   KIB(64)

struct memory_file {
	struct unpack_sink sink;
	const struct source *src; /* for messages */
	int fd;
	uint64_t size;
};

static int write_memory(struct unpack_sink *sink, const uint8_t *data, size_t len, struct error *e)
{
	struct memory_file *file = container_of(sink, struct memory_file, sink);

	if (len > UNPACKED_MAX - file->size) {
		return source_error(file->src, e, "it unpacks to more than %llu MiB",
				    (unsigned long long)(UNPACKED_MAX >> 20));
	}
	while (len != 0) {
		ssize_t n = pwrite(file->fd, data, len, (off_t)file->size);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			return error_set_sys(e, ERROR_NO_MEMORY, errno, "kernel '%s': unpack",
					     file->src->path);
		}
		data += n;
		len -= (size_t)n;
		file->size += (uint64_t)n;
	}
	return 0;
}

static int copy_output(int from, struct memory_file *file, struct error *e)
{
	uint8_t piece[PIECE_SIZE];

	for (;;) {
		ssize_t n = read(from, piece, sizeof(piece));
		int r;

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			return n == 0 ? 0
				      : error_set_sys(e, ERROR_INTERNAL, errno, "kernel '%s': read",
						      file->src->path);
		}
		r = write_memory(&file->sink, piece, (size_t)n, e);
		if (r < 0) {
			return r;
		}
	}
}

static int spawn(const struct source *src, const char *program, int out, pid_t *pid)
{
	char *argv[] = { (char *)(uintptr_t)program, (char *)(uintptr_t) "-dcq", NULL };
	char *environment[] = { (char *)(uintptr_t) "LC_ALL=C", NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int r;

	(void)sigemptyset(&none);
	(void)sigfillset(&all);
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawnattr_init(&attributes);
	/* Main blocks the signals that it reads from a descriptor. */
	(void)posix_spawnattr_setsigmask(&attributes, &none);
	(void)posix_spawnattr_setsigdefault(&attributes, &all);
	(void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	r = posix_spawn_file_actions_adddup2(&actions, src->fd, 0);
	if (r == 0) {
		r = posix_spawn_file_actions_adddup2(&actions, out, 1);
	}
	if (r == 0) {
		r = posix_spawnp(pid, program, &actions, &attributes, argv, environment);
	}
	(void)posix_spawnattr_destroy(&attributes);
	(void)posix_spawn_file_actions_destroy(&actions);
	return r;
}

static int judge_end(const struct source *src, const char *program, int status, struct error *e)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		return 0;
	}
	if (WIFSIGNALED(status)) {
		return source_error(src, e, "%s was ended by signal %d while it unpacked it",
				    program, WTERMSIG(status));
	}
	source_error(src, e, "%s could not unpack it (exit status %d)", program,
		     WEXITSTATUS(status));
	return error_hint(e, "the file is damaged or truncated: fetch or build it again");
}

static int run_program(const struct source *src, const char *program, struct memory_file *file,
		       struct error *e)
{
	auto_close int from = -1, to = -1;
	int ends[2], status = 0, r;
	pid_t pid;

	if (lseek(src->fd, 0, SEEK_SET) < 0 || pipe2(ends, O_CLOEXEC) < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "kernel '%s': unpack", src->path);
	}
	from = ends[0];
	to = ends[1];
	r = spawn(src, program, to, &pid);
	close_fd(&to);
	if (r != 0) {
		source_error(src, e, "this is packed by %s, which cannot be run here: %s", program,
			     strerror(r));
		return error_hint(e, "install %s, or unpack the file: %s -dc FILE > vmlinux",
				  strcmp(program, "xz") == 0 ? "xz-utils" : program, program);
	}
	r = copy_output(from, file, e);
	close_fd(&from);
	if (r < 0) {
		(void)kill(pid, SIGKILL);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
	}
	return r < 0 ? r : judge_end(src, program, status, e);
}

int packed_open(struct loader_image *image, const struct source *src, enum image_format format,
		struct error *e)
{
	auto_close int fd = memfd_create("kernel", MFD_CLOEXEC);
	struct memory_file file = { .sink.write = write_memory, .src = src, .fd = fd };
	int r;

	if (fd < 0) {
		return error_set_sys(e, ERROR_NO_MEMORY, errno, "kernel '%s': unpack", src->path);
	}
	if (format == IMAGE_GZIP) {
		r = gzip_unpack(src, &file.sink, e);
	} else {
		r = run_program(src, format == IMAGE_XZ ? "xz" : "zstd", &file, e);
	}
	if (r == 0) {
		close_fd(&image->fd);
		image->fd = take_fd(&fd);
	}
	return r;
}
