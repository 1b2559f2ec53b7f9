/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console hub with real sockets and files, driven by loop_step(), and its clients. What the file
 * system does with the log is the test's to say, through wrapped calls.
 */
#ifndef TESTS_HARNESS_HUB_RIG_H
#define TESTS_HARNESS_HUB_RIG_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "harness/console_guest.h"
#include "vmm/console_hub.h"

#define CLIENTS_MAX 64

static struct console_hub *hub;
static struct console_channel *channel;

static struct sockaddr_un address;
static socklen_t address_len;
static int clients[CLIENTS_MAX];
static size_t client_count;
static int log_fd; /* ours */

/* What the file system does. */
static struct {
	bool full, no_holes;
	int refused;
} disk;

/* Both names, of which the C library's headers choose one. */
int __real_fallocate64(int fd, int mode, off_t offset, off_t len);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t len);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t len)
{
	ck_assert_int_eq(mode, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
	if (disk.no_holes) {
		disk.refused++;
		errno = EOPNOTSUPP;
		return -1;
	}
	return __real_fallocate64(fd, mode, offset, len);
}

int __wrap_fallocate(int fd, int mode, off_t offset, off_t len);
int __wrap_fallocate(int fd, int mode, off_t offset, off_t len)
{
	return __wrap_fallocate64(fd, mode, offset, len);
}

ssize_t __real_pwrite64(int fd, const void *buf, size_t len, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t offset)
{
	if (disk.full) {
		errno = ENOSPC;
		return -1;
	}
	/* Short writes are allowed, so there are some. */
	return __real_pwrite64(fd, buf, MIN(len, (size_t)5000), offset);
}

ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t offset)
{
	return __wrap_pwrite64(fd, buf, len, offset);
}

static inline size_t deliver(void *arg, const uint8_t *data, size_t len)
{
	ck_assert_ptr_eq(arg, &guest);
	return guest_take(data, len);
}

/* As settle(), and the log's timer. */
static inline void settle_log(void)
{
	settle();
	while (loop.timers != NULL) {
		ck_assert_int_eq(loop_step(&loop, -1), 0);
	}
}

static inline void make_with(struct console_channel *terminal)
{
	struct console_hub_config config = {
		.loop = &loop, .terminal = terminal, .deliver = deliver, .arg = &guest
	};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	check_ok(console_hub_create(&hub, &config, &e), &e);
	channel = console_hub_channel(hub);
	/* An abstract address that the kernel chooses. */
	address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	address_len = sizeof(address);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &address_len), 0);
	ck_assert_int_eq(listen(fd, 128), 0);
	check_ok(console_hub_listen(hub, fd, &e), &e);
}

static inline void make(void)
{
	make_with(NULL);
	console_hub_start(hub);
}

static inline void log_to_file(void)
{
	log_fd = memfd_create("log", MFD_CLOEXEC);
	ck_assert_int_ge(log_fd, 0);
	console_hub_log_to(hub, fcntl(log_fd, F_DUPFD_CLOEXEC, 0));
}

static inline void setup(void)
{
	(void)signal(SIGPIPE, SIG_IGN);
	memset(&disk, 0, sizeof(disk));
	guest_begin();
	client_count = 0;
	log_fd = -1;
	hub = NULL;
}

static inline void teardown(void)
{
	console_hub_destroy(hub, 0);
	for (size_t i = 0; i < client_count; i++) {
		if (clients[i] >= 0) {
			(void)close(clients[i]);
		}
	}
	if (log_fd >= 0) {
		(void)close(log_fd);
	}
	loop_finish(&loop);
}

/* Not yet accepted; its index. */
static inline size_t connect_client(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_uint_lt(client_count, CLIENTS_MAX);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, address_len), 0);
	clients[client_count] = fd;
	return client_count++;
}

static inline size_t attach(void)
{
	size_t client = connect_client();

	settle();
	return client;
}

static inline void go(size_t client)
{
	(void)close(clients[client]);
	clients[client] = -1;
}

static inline uint32_t attached(void)
{
	struct console_hub_stats stats;

	console_hub_stats(hub, &stats);
	return stats.clients;
}

static inline void output(const void *data, size_t len)
{
	channel->output(channel, data, len);
}

static inline void say(const char *text)
{
	output(text, strlen(text));
	settle();
}

static inline void type(size_t client, const char *text)
{
	ck_assert_int_eq(send(clients[client], text, strlen(text), 0), (ssize_t)strlen(text));
	settle();
}

/* What is there for a client now; *ended if its stream is over. */
static inline size_t take(size_t client, char *buf, size_t size, bool *ended)
{
	size_t len = 0;

	*ended = false;
	while (len < size) {
		ssize_t n = recv(clients[client], buf + len, size - len, MSG_DONTWAIT);

		if (n < 0) {
			ck_assert_int_eq(errno, EAGAIN);
			break;
		}
		if (n == 0) {
			*ended = true;
			break;
		}
		len += (size_t)n;
	}
	return len;
}

static inline void expect(size_t client, const char *text)
{
	static char buf[KIB(128)];
	bool ended;
	size_t len = take(client, buf, sizeof(buf), &ended);

	ck_assert_msg(len == strlen(text) && memcmp(buf, text, len) == 0, "got '%.*s', want '%s'",
		      (int)len, buf, text);
	ck_assert(!ended);
}

static inline void expect_end(size_t client)
{
	char buf[16];
	bool ended;

	ck_assert_uint_eq(take(client, buf, sizeof(buf), &ended), 0);
	ck_assert(ended);
}

/* A guest that writes `len` bytes, in pieces. */
static inline void write_pattern(uint64_t from, uint64_t len)
{
	write_pieces(from, len, 1000);
}

/* Checks a stream of the pattern with notes of loss in it. */
struct reader {
	uint64_t at, lost;
	unsigned notes;
	char note[64];
	size_t note_len;
};

static inline void check_pattern(struct reader *reader, const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned long long n;

		if (reader->note_len == 0 && data[i] != '[') {
			/* libcheck notes each assertion that holds, with a system call. */
			if (data[i] != pattern(reader->at)) {
				ck_abort_msg("byte %llu", (unsigned long long)reader->at);
			}
			reader->at++;
			continue;
		}
		ck_assert_uint_lt(reader->note_len, sizeof(reader->note) - 1);
		reader->note[reader->note_len++] = data[i];
		if (data[i] == '\n') {
			reader->note[reader->note_len] = '\0';
			ck_assert_msg(strstr(reader->note, " bytes lost]\r\n") != NULL, "'%s'",
				      reader->note);
			ck_assert_int_eq(sscanf(reader->note, "[%llu", &n), 1);
			reader->at += n;
			reader->lost += n;
			reader->notes++;
			reader->note_len = 0;
		}
	}
}

static inline void read_pattern(size_t client, struct reader *reader)
{
	static char buf[KIB(64)];
	bool ended;
	size_t n;

	while ((n = take(client, buf, sizeof(buf), &ended)) > 0) {
		check_pattern(reader, buf, n);
		settle();
	}
	ck_assert(!ended);
}

/* The whole log from `from` on. */
static inline char *read_log(uint64_t from, size_t *len)
{
	struct stat st;
	char *text;

	ck_assert_int_eq(fstat(log_fd, &st), 0);
	*len = (size_t)st.st_size - (size_t)from;
	text = malloc(*len + 1);
	ck_assert_ptr_nonnull(text);
	ck_assert_int_eq(pread(log_fd, text, *len, (off_t)from), (ssize_t)*len);
	text[*len] = '\0';
	return text;
}

static inline void expect_log(const char *text)
{
	size_t len;
	char *log = read_log(0, &len);

	ck_assert_str_eq(log, text);
	free(log);
}

#endif
