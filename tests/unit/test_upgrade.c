/* SPDX-License-Identifier: Apache-2.0 */
/* What an upgrade in place passes: descriptors by their names, there and by somebody who means harm; the token; guest memory that goes
 * from one mapping to another. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/check_main.h"
#include "vmm/bytes.h"
#include "vmm/crc32c.h"
#include "vmm/guest_memory.h"
#include "vmm/migration_descriptors.h"

#define SIZE	MIB(4)
#define LIMIT	10000000000ULL
#define SHORTLY 50000000ULL

static struct error err;
static int pair[2];
static struct migration_descriptors sent, got;

static void setup(void)
{
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
			 0);
	sent = got = (struct migration_descriptors){ .count = 0 };
}

static void teardown(void)
{
	migration_descriptors_finish(&got);
	(void)close(pair[0]);
	(void)close(pair[1]);
}

static int count_fds(void)
{
	int count = 0;

	for (int fd = 0; fd < 1024; fd++) {
		count += fcntl(fd, F_GETFD) >= 0;
	}
	return count;
}

/* The other side greets; in a process of its own, since both sides wait for each other. */
static pid_t send_in_child(void)
{
	pid_t child = fork();

	if (child == 0) {
		_exit(migration_descriptors_send(&sent, pair[0], LIMIT, NULL) == 0 ? 0 : 1);
	}
	ck_assert_int_gt(child, 0);
	return child;
}

static int end_of(pid_t child)
{
	int status;

	ck_assert_int_eq(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool same_file(int a, int b)
{
	struct stat one, other;

	return fstat(a, &one) == 0 && fstat(b, &other) == 0 && one.st_dev == other.st_dev &&
	       one.st_ino == other.st_ino;
}

START_TEST(test_there)
{
	int one = memfd_create("one", 0), two = memfd_create("two", 0), fd;
	const int before = count_fds();
	uint32_t at = 0;
	pid_t child;

	check_ok(migration_descriptors_add(&sent, one, &err, "tap:%s", "net0"), &err);
	check_ok(migration_descriptors_add(&sent, two, &err, "lock"), &err);
	check_ok(migration_descriptors_add(&sent, one, &err, "tap:%s", "net1"), &err);
	child = send_in_child();
	check_ok(migration_descriptors_receive(&got, pair[1], LIMIT, &err), &err);
	ck_assert_int_eq(end_of(child), 0);
	ck_assert_uint_eq(got.count, 3);
	ck_assert_str_eq(migration_descriptors_next(&got, &at, "tap:"), "net0");
	ck_assert_str_eq(migration_descriptors_next(&got, &at, "tap:"), "net1");
	ck_assert_ptr_null(migration_descriptors_next(&got, &at, "tap:"));
	fd = migration_descriptors_take(&got, "lock");
	ck_assert(same_file(fd, two) && !same_file(fd, one));
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ck_assert_int_eq(migration_descriptors_take(&got, "lock"), -1);
	ck_assert_int_eq(migration_descriptors_take(&got, "lo"), -1);
	(void)close(fd);
	/* What nobody has taken is closed. */
	migration_descriptors_finish(&got);
	ck_assert_int_eq(count_fds(), before);
	(void)close(one);
	(void)close(two);
}
END_TEST

START_TEST(test_too_many)
{
	for (int i = 0; i < MIGRATION_DESCRIPTORS_MAX; i++) {
		check_ok(migration_descriptors_add(&sent, 0, &err, "%d", i), &err);
	}
	ck_assert_int_lt(migration_descriptors_add(&sent, 0, &err, "one more"), 0);
	ck_assert_int_eq(err.code, ERROR_NOT_SUPPORTED);
	sent.count = 0;
	ck_assert_int_lt(migration_descriptors_add(&sent, 0, &err, "%0100d", 1), 0);
	ck_assert_int_lt(migration_descriptors_add(&sent, 0, &err, "%s", ""), 0);
	ck_assert_uint_eq(sent.count, 0);
}
END_TEST

/* Nothing is given to who does not greet. */
START_TEST(test_greetings)
{
	static const struct {
		const char *bytes;
		size_t len;
		int result;
	} cases[] = {
		{ "", 0, -ETIMEDOUT },
		{ "VMM", 3, -ETIMEDOUT },
		{ "HTTP/1.1", 8, -EPROTO },
		{ "VMMD\2\0\0\0", 8, -EPROTONOSUPPORT },
	};
	char byte;

	check_ok(migration_descriptors_add(&sent, pair[0], &err, "x"), &err);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		teardown();
		ck_assert_int_eq(
			socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
			0);
		ck_assert_int_eq(write(pair[1], cases[i].bytes, cases[i].len),
				 (ssize_t)cases[i].len);
		ck_assert_int_eq(migration_descriptors_send(&sent, pair[0], SHORTLY, &err),
				 cases[i].result);
		ck_assert_int_eq(err.code, ERROR_MIGRATION);
		ck_assert_int_eq(read(pair[1], &byte, 1), -1);
	}
	(void)shutdown(pair[1], SHUT_WR);
	ck_assert_int_eq(migration_descriptors_send(&sent, pair[0], LIMIT, &err), -EPIPE);
}
END_TEST

/* A list with `fds` descriptors that says `says`. */
static void say(uint16_t version, uint16_t says, int fds, const char *names, size_t len, bool good)
{
	union {
		struct cmsghdr header;
		uint8_t bytes[CMSG_SPACE(100 * sizeof(int))];
	} control = { .bytes = { 0 } };
	uint8_t data[16 + 8192];
	struct iovec iov = { .iov_base = data, .iov_len = 16 + len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	memcpy(data, "VMMD", 4);
	store_le16(data + 4, version);
	store_le16(data + 6, says);
	store_le32(data + 8, (uint32_t)len);
	store_le32(data + 12, crc32c(0, names, len) ^ !good);
	memcpy(data + 16, names, len);
	if (fds != 0) {
		struct cmsghdr *header;

		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE((size_t)fds * sizeof(int));
		header = CMSG_FIRSTHDR(&msg);
		ck_assert_ptr_nonnull(header);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN((size_t)fds * sizeof(int));
		for (int i = 0; i < fds; i++) {
			memcpy(CMSG_DATA(header) + (size_t)i * sizeof(int), &pair[0], sizeof(int));
		}
	}
	ck_assert_int_eq(sendmsg(pair[0], &msg, 0), (ssize_t)(16 + len));
}

START_TEST(test_hostile)
{
	static const struct {
		uint16_t version, says;
		int fds;
		const char *names;
		bool good;
		int result;
	} cases[] = {
		{ 1, 1, 1, "a\n", true, 0 },	      { 2, 1, 1, "a\n", true, -EPROTONOSUPPORT },
		{ 1, 0, 0, "", true, -EPROTO },	      { 1, 1, 0, "a\n", true, -EPROTO },
		{ 1, 1, 2, "a\n", true, -EPROTO },    { 1, 2, 1, "a\nb\n", true, -EPROTO },
		{ 1, 65, 65, "a\n", true, -EPROTO },  { 1, 2, 2, "a\n", true, -EPROTO },
		{ 1, 2, 2, "a\nb", true, -EPROTO },   { 1, 2, 2, "\n\n", true, -EPROTO },
		{ 1, 1, 1, "a\nb\n", true, -EPROTO }, { 1, 1, 1, "a\n", false, -EPROTO },
		{ 1, 1, 1, "", true, -EPROTO },
	};
	const int before = count_fds();
	char greeting[8];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		say(cases[i].version, cases[i].says, cases[i].fds, cases[i].names,
		    strlen(cases[i].names), cases[i].good);
		ck_assert_msg(migration_descriptors_receive(&got, pair[1], SHORTLY, &err) ==
				      cases[i].result,
			      "case %zu", i);
		ck_assert_int_eq(read(pair[0], greeting, sizeof(greeting)), sizeof(greeting));
		migration_descriptors_finish(&got);
		ck_assert_int_eq(count_fds(), before);
		teardown();
		setup();
	}
	ck_assert_int_eq(migration_descriptors_receive(&got, pair[1], SHORTLY, &err), -ETIMEDOUT);
	ck_assert_int_eq(write(pair[0], "VMMD\1\0", 6), 6);
	(void)shutdown(pair[0], SHUT_WR);
	ck_assert_int_eq(migration_descriptors_receive(&got, pair[1], LIMIT, &err), -EPIPE);
}
END_TEST

START_TEST(test_token)
{
	int token = migration_token_make(), other = dup(token);

	ck_assert_int_ge(token, 0);
	ck_assert(migration_token_take(token));
	ck_assert(!migration_token_take(other) && !migration_token_take(token));
	migration_token_give_back(token);
	ck_assert(migration_token_take(other));
	ck_assert(!migration_token_take(token));
	(void)close(token);
	(void)close(other);
	/* What is no token gives none. */
	ck_assert(!migration_token_take(pair[0]));
	ck_assert(!migration_token_take(-1));
}
END_TEST

START_TEST(test_memory)
{
	struct guest_memory here = { .size = 0 }, there = { .size = 0 };
	const uint8_t *host;
	uint64_t bits[SIZE / PAGE_SIZE_4K / 64] = { 0 };
	int small = memfd_create("small", 0);

	check_ok(guest_memory_init(&here, SIZE, GUEST_MEMORY_MEMFD, &err), &err);
	check_ok(guest_memory_init(&there, SIZE, GUEST_MEMORY_ANON, &err), &err);
	ck_assert(guest_memory_is_passable(&here) && !guest_memory_is_passable(&there));
	memset(here.regions[0].host, 1, SIZE);
	memset(there.regions[0].host, 2, SIZE);
	host = there.regions[0].host;
	check_ok(guest_memory_dirty_start(&there, &err), &err);
	check_ok(guest_region_dirty_collect(&there, 0, bits, SIZE / PAGE_SIZE_4K, &err), &err);
	memset(bits, 0, sizeof(bits));

	/* One that is too short would be a SIGBUS later. */
	ck_assert_int_eq(ftruncate(small, SIZE - 1), 0);
	ck_assert_int_lt(guest_region_adopt(&there, 0, GUEST_MEMORY_MEMFD, small, &err), 0);
	ck_assert_uint_eq(there.regions[0].host[SIZE - 1], 2);
	(void)close(small);

	check_ok(guest_region_adopt(&there, 0, GUEST_MEMORY_MEMFD, dup(here.regions[0].fd), &err),
		 &err);
	ck_assert_ptr_eq(there.regions[0].host, host);
	ck_assert_int_eq(memcmp(host, here.regions[0].host, SIZE), 0);
	there.regions[0].host[4711] = 3;
	ck_assert_uint_eq(here.regions[0].host[4711], 3);
	check_ok(guest_region_dirty_collect(&there, 0, bits, SIZE / PAGE_SIZE_4K, &err), &err);
	for (size_t i = 0; i < ARRAY_SIZE(bits); i++) {
		ck_assert_uint_eq(bits[i], UINT64_MAX);
	}
	/* It outlives the first owner, and can be passed on. */
	ck_assert(guest_memory_is_passable(&there));
	guest_memory_finish(&here);
	ck_assert_uint_eq(there.regions[0].host[4711], 3);
	check_ok(guest_memory_discard(&there, &err), &err);
	ck_assert_uint_eq(there.regions[0].host[4711], 0);
	guest_memory_finish(&there);
}
END_TEST

CHECK_MAIN("upgrade", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_there);
	   CHECK_TEST(test_too_many); CHECK_TEST(test_greetings); CHECK_TEST(test_hostile);
	   CHECK_TEST(test_token); CHECK_TEST(test_memory))
