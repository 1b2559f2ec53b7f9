/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: what goes ahead of an upgrade (vmm/migration_descriptors.h), as a peer sends it who means harm. The first byte: & 1 the side that
 * passes, which hears a greeting; otherwise the side that takes, & 2 with a right header over what follows; the rest of it says how many
 * descriptors come along.
 *
 * Beyond crashes and hangs: no descriptor is left open, and a list that was taken has as many as came, each with a name.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/bytes.h"
#include "vmm/crc32c.h"
#include "vmm/migration_descriptors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEADER	  16
#define MANY	  4
#define LIMIT_NS  100000000ULL
#define BYTES_MAX 4096

static void check(bool right)
{
	if (!right) {
		abort();
	}
}

/* The number that the next one has: it grows when one is left open. */
static int next_descriptor(void)
{
	int fd = dup(STDERR_FILENO);

	check(fd >= 0);
	(void)close(fd);
	return fd;
}

static void send_with(int fd, const uint8_t *bytes, size_t len, uint32_t count)
{
	union {
		struct cmsghdr header;
		uint8_t bytes[CMSG_SPACE(MANY * sizeof(int))];
	} control = { .bytes = { 0 } };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (count != 0) {
		struct cmsghdr *header;

		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
		header = CMSG_FIRSTHDR(&msg);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(count * sizeof(int));
		for (uint32_t i = 0; i < count; i++) {
			memcpy(CMSG_DATA(header) + i * sizeof(int), &fd, sizeof(int));
		}
	}
	check(sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len);
}

static void be_taken_from(int ours, int theirs, const uint8_t *data, size_t size)
{
	static struct migration_descriptors list;
	struct error e = { 0 };

	list = (struct migration_descriptors){ 0 };
	check(migration_descriptors_add(&list, theirs, &e, "one") == 0);
	if (size != 0) {
		send_with(theirs, data, size, 0);
	}
	(void)shutdown(theirs, SHUT_WR);
	(void)migration_descriptors_send(&list, ours, LIMIT_NS, &e);
	migration_descriptors_finish(&list);
}

static void take(int ours, int theirs, const uint8_t *data, size_t size, bool right, uint32_t count)
{
	static struct migration_descriptors list;
	static uint8_t message[HEADER + BYTES_MAX];
	struct error e = { 0 };
	size_t len = right ? HEADER : 0;

	memcpy(message + len, data, size);
	if (right) {
		memcpy(message, "VMMD", 4);
		store_le16(message + 4, MIGRATION_DESCRIPTORS_VERSION);
		store_le16(message + 6, (uint16_t)count);
		store_le32(message + 8, (uint32_t)size);
		store_le32(message + 12, crc32c(0, data, size));
	}
	if (len + size != 0) {
		send_with(theirs, message, len + size, count);
	}
	(void)shutdown(theirs, SHUT_WR);
	if (migration_descriptors_receive(&list, ours, LIMIT_NS, &e) == 0) {
		check(list.count == count && count != 0);
		for (uint32_t i = 0; i < list.count; i++) {
			check(list.all[i].fd >= 0 && list.all[i].name[0] != '\0');
		}
		migration_descriptors_finish(&list);
	} else {
		check(e.code != ERROR_NONE && e.msg[0] != '\0');
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const int before = next_descriptor();
	int fds[2];

	if (size < 1 || size > BYTES_MAX) {
		return 0;
	}
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
	if ((data[0] & 1) != 0) {
		be_taken_from(fds[0], fds[1], data + 1, size - 1);
	} else {
		take(fds[0], fds[1], data + 1, size - 1, (data[0] & 2) != 0,
		     (data[0] >> 2) % (MANY + 1));
	}
	(void)close(fds[0]);
	(void)close(fds[1]);
	check(next_descriptor() == before);
	return 0;
}
