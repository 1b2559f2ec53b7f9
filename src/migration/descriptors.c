/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors and a token between two processes: include/vmm/migration_descriptors.h is the contract.
 *
 * All that comes is the peer's: how many descriptors are said is compared with how many have come, and whatever has come is closed when
 * anything is wrong. What a descriptor is of, its user judges. Nothing is saved.
 */
#include "vmm/migration_descriptors.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/bytes.h"
#include "vmm/cleanup.h"
#include "vmm/crc32c.h"
#include "vmm/loop.h"

#define HEADER_SIZE   16
#define GREETING_SIZE 8
#define NAMES_MAX     (MIGRATION_DESCRIPTORS_MAX * MIGRATION_DESCRIPTOR_NAME)

static const uint8_t magic[4] = { 'V', 'M', 'M', 'D' };

int migration_descriptors_add(struct migration_descriptors *list, int fd, struct error *e,
			      const char *name, ...)
{
	va_list args;
	int len = -1;

	if (list->count < MIGRATION_DESCRIPTORS_MAX) {
		va_start(args, name);
		len = vsnprintf(list->all[list->count].name, MIGRATION_DESCRIPTOR_NAME, name, args);
		va_end(args);
	}
	if (len <= 0 || len >= MIGRATION_DESCRIPTOR_NAME) {
		return error_set(e, ERROR_NOT_SUPPORTED, E2BIG,
				 "migration: too many descriptors, or one of too long a name");
	}
	list->all[list->count++].fd = fd;
	return 0;
}

int migration_descriptors_take(struct migration_descriptors *list, const char *name)
{
	for (uint32_t i = 0; i < list->count; i++) {
		if (strcmp(list->all[i].name, name) == 0) {
			return take_fd(&list->all[i].fd);
		}
	}
	return -1;
}

const char *migration_descriptors_next(const struct migration_descriptors *list, uint32_t *at,
				       const char *prefix)
{
	while (*at < list->count) {
		const char *name = list->all[(*at)++].name;

		if (strncmp(name, prefix, strlen(prefix)) == 0) {
			return name + strlen(prefix);
		}
	}
	return NULL;
}

void migration_descriptors_finish(struct migration_descriptors *list)
{
	for (uint32_t i = 0; list->owned && i < list->count; i++) {
		close_fd(&list->all[i].fd);
	}
	list->count = 0;
}

/* --- the wire ------------------------------------------------------------------------------------ */

/* Room for the descriptors of one message. */
union control {
	struct cmsghdr header;
	uint8_t bytes[CMSG_SPACE(MIGRATION_DESCRIPTORS_MAX * sizeof(int))];
};

static int wait_for(int fd, short events, uint64_t until_ns)
{
	struct pollfd poller = { .fd = fd, .events = events };

	for (;;) {
		const uint64_t now = loop_now_ns();
		int n = poll(&poller, 1,
			     until_ns > now ? (int)MIN((until_ns - now) / 1000000 + 1, 1000000ULL)
					    : 0);

		if (n > 0) {
			return 0;
		}
		if (n < 0 && errno != EINTR) {
			return -errno;
		}
		if (n == 0 && loop_now_ns() >= until_ns) {
			return -ETIMEDOUT;
		}
	}
}

static int __cold broken(int sys, uint64_t limit_ns, struct error *e)
{
	if (sys == EPIPE || sys == ECONNRESET) {
		(void)error_set(e, ERROR_MIGRATION, sys, "upgrade: the other process has ended");
		return error_hint(e, "is it a vmm, of a version that knows 'vmm upgrade'?");
	}
	if (sys == ETIMEDOUT) {
		(void)error_set(e, ERROR_MIGRATION, sys,
				"upgrade: the other process has said nothing for %llu ms",
				(unsigned long long)(limit_ns / 1000000));
		return error_hint(e, "is it a vmm? --silence TIME waits longer");
	}
	return error_set_sys(e, ERROR_MIGRATION, sys, "upgrade: pass descriptors");
}

static int __cold other_version(uint16_t version, struct error *e)
{
	(void)error_set(e, ERROR_MIGRATION, EPROTONOSUPPORT,
			"upgrade: the other process hands over by version %u, this vmm by version "
			"%u",
			version, MIGRATION_DESCRIPTORS_VERSION);
	return error_hint(e, "stop the VM, and start it with the new vmm");
}

static int __cold not_them(const char *why, struct error *e)
{
	(void)error_set(e, ERROR_MIGRATION, EPROTO, "upgrade: %s", why);
	return error_hint(e, "the other side is no vmm of this version");
}

static int send_rest(int fd, const uint8_t *data, size_t len, uint64_t until_ns)
{
	while (len != 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n >= 0) {
			data += n;
			len -= (size_t)n;
		} else if (errno == EAGAIN) {
			int r = wait_for(fd, POLLOUT, until_ns);

			if (r < 0) {
				return r;
			}
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

/* The header, with all descriptors; the bytes that were taken, or a negative errno. */
static ssize_t send_first(const struct migration_descriptors *list, int fd, uint8_t *data,
			  size_t len, uint64_t until_ns)
{
	union control control = { .bytes = { 0 } };
	struct iovec iov = { .iov_base = data, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.bytes,
			      .msg_controllen = CMSG_SPACE(list->count * sizeof(int)) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&msg);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(list->count * sizeof(int));
	for (uint32_t i = 0; i < list->count; i++) {
		memcpy(CMSG_DATA(header) + i * sizeof(int), &list->all[i].fd, sizeof(int));
	}
	for (;;) {
		ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL);
		int r;

		if (n >= 0) {
			return n;
		}
		r = errno == EAGAIN ? wait_for(fd, POLLOUT, until_ns) : -errno;
		if (r < 0 && r != -EINTR) {
			return r;
		}
	}
}

static int read_rest(int fd, uint8_t *data, size_t len, uint64_t until_ns)
{
	while (len != 0) {
		ssize_t n = recv(fd, data, len, MSG_DONTWAIT);
		int r;

		if (n == 0) {
			return -EPIPE;
		}
		if (n > 0) {
			data += n;
			len -= (size_t)n;
			continue;
		}
		r = errno == EAGAIN ? wait_for(fd, POLLIN, until_ns) : -errno;
		if (r < 0 && r != -EINTR) {
			return r;
		}
	}
	return 0;
}

/* The other process is one that knows what to do with descriptors. */
static int hear_greeting(int fd, uint64_t limit_ns, uint64_t until, struct error *e)
{
	uint8_t greeting[GREETING_SIZE];
	int r = read_rest(fd, greeting, sizeof(greeting), until);

	if (r < 0) {
		return broken(-r, limit_ns, e);
	}
	if (memcmp(greeting, magic, sizeof(magic)) != 0) {
		return not_them("the other process does not greet as a vmm does", e);
	}
	return load_le16(greeting + 4) == MIGRATION_DESCRIPTORS_VERSION
		       ? 0
		       : other_version(load_le16(greeting + 4), e);
}

int migration_descriptors_send(const struct migration_descriptors *list, int fd, uint64_t limit_ns,
			       struct error *e)
{
	const uint64_t until = loop_now_ns() + limit_ns;
	uint8_t header[HEADER_SIZE];
	char names[NAMES_MAX];
	size_t len = 0;
	ssize_t n;
	int r = hear_greeting(fd, limit_ns, until, e);

	if (r < 0) {
		return r;
	}
	for (uint32_t i = 0; i < list->count; i++) {
		const size_t one = strlen(list->all[i].name);

		memcpy(names + len, list->all[i].name, one);
		names[len + one] = '\n';
		len += one + 1;
	}
	memcpy(header, magic, sizeof(magic));
	store_le16(header + 4, MIGRATION_DESCRIPTORS_VERSION);
	store_le16(header + 6, (uint16_t)list->count);
	store_le32(header + 8, (uint32_t)len);
	store_le32(header + 12, crc32c(0, names, len));
	n = send_first(list, fd, header, sizeof(header), until);
	r = n < 0 ? (int)n : send_rest(fd, header + n, sizeof(header) - (size_t)n, until);
	r = r == 0 ? send_rest(fd, (const uint8_t *)names, len, until) : r;
	return r == 0 ? 0 : broken(-r, limit_ns, e);
}

/* What descriptors a message has, into the list. */
static void take_control(struct migration_descriptors *list, struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		const bool good = c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS;
		const size_t n = good ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;

		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (list->count < MIGRATION_DESCRIPTORS_MAX) {
				list->all[list->count++].fd = fd;
			} else {
				(void)close(fd);
			}
		}
	}
}

static ssize_t receive_first(struct migration_descriptors *list, int fd, uint8_t *data, size_t len,
			     uint64_t until_ns)
{
	union control control;

	for (;;) {
		struct iovec iov = { .iov_base = data, .iov_len = len };
		struct msghdr msg = { .msg_iov = &iov,
				      .msg_iovlen = 1,
				      .msg_control = control.bytes,
				      .msg_controllen = sizeof(control.bytes) };
		ssize_t n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
		int r;

		if (n >= 0) {
			take_control(list, &msg);
			return n == 0 ? -EPIPE : n;
		}
		r = errno == EAGAIN ? wait_for(fd, POLLIN, until_ns) : -errno;
		if (r < 0 && r != -EINTR) {
			return r;
		}
	}
}

static int check_header(const struct migration_descriptors *list, const uint8_t *header,
			struct error *e)
{
	const uint16_t version = load_le16(header + 4);

	if (memcmp(header, magic, sizeof(magic)) != 0) {
		return not_them("what came is no list of descriptors", e);
	}
	if (version != MIGRATION_DESCRIPTORS_VERSION) {
		return other_version(version, e);
	}
	if (load_le16(header + 6) != list->count || list->count == 0) {
		return not_them("not as many descriptors have come as were said", e);
	}
	if (load_le32(header + 8) > NAMES_MAX) {
		return not_them("the names of descriptors are too long", e);
	}
	return 0;
}

/* One line each: printable, and as many as there are descriptors. */
static int take_names(struct migration_descriptors *list, const char *names, size_t len,
		      struct error *e)
{
	size_t at = 0;

	for (uint32_t i = 0; i < list->count; i++) {
		const char *end = memchr(names + at, '\n', len - at);
		const size_t one = end != NULL ? (size_t)(end - names) - at : 0;

		if (one == 0 || one >= MIGRATION_DESCRIPTOR_NAME) {
			return not_them("a descriptor has no name", e);
		}
		memcpy(list->all[i].name, names + at, one);
		list->all[i].name[one] = '\0';
		at += one + 1;
	}
	return at == len ? 0 : not_them("there are more names than descriptors", e);
}

static int greet(int fd, uint64_t until)
{
	uint8_t greeting[GREETING_SIZE] = { 0 };

	memcpy(greeting, magic, sizeof(magic));
	store_le16(greeting + 4, MIGRATION_DESCRIPTORS_VERSION);
	return send_rest(fd, greeting, sizeof(greeting), until);
}

static int receive(struct migration_descriptors *list, int fd, uint64_t limit_ns, struct error *e)
{
	const uint64_t until = loop_now_ns() + limit_ns;
	uint8_t header[HEADER_SIZE];
	char names[NAMES_MAX];
	int r = greet(fd, until);
	ssize_t n = r == 0 ? receive_first(list, fd, header, sizeof(header), until) : r;
	size_t len;

	r = n < 0 ? (int)n : read_rest(fd, header + n, sizeof(header) - (size_t)n, until);
	if (r < 0) {
		return broken(-r, limit_ns, e);
	}
	r = check_header(list, header, e);
	if (r < 0) {
		return r;
	}
	len = load_le32(header + 8);
	r = read_rest(fd, (uint8_t *)names, len, until);
	if (r < 0) {
		return broken(-r, limit_ns, e);
	}
	if (crc32c(0, names, len) != load_le32(header + 12)) {
		return not_them("the checksum of a list of descriptors is wrong", e);
	}
	return take_names(list, names, len, e);
}

int migration_descriptors_receive(struct migration_descriptors *list, int fd, uint64_t limit_ns,
				  struct error *e)
{
	int r;

	*list = (struct migration_descriptors){ .owned = true };
	r = receive(list, fd, limit_ns, e);
	if (r < 0) {
		migration_descriptors_finish(list);
	}
	return r;
}

/* --- the token ----------------------------------------------------------------------------------- */

int migration_token_make(void)
{
	int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);

	return fd >= 0 ? fd : -errno;
}

bool migration_token_take(int token)
{
	uint64_t count = 0;
	ssize_t n;

	do {
		n = read(token, &count, sizeof(count));
	} while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(count) && count == 1;
}

void migration_token_give_back(int token)
{
	const uint64_t one = 1;

	(void)!write(token, &one, sizeof(one));
}
