/* SPDX-License-Identifier: Apache-2.0 */
/* The service manager's end of the notification socket is the test's: by path and by abstract name. */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "harness/check_main.h"

#include "vmm/notify.h"

static struct error e;
static struct notify notify;
static char directory[64];
static int manager;

static void setup(void)
{
	e = (struct error){ 0 };
	notify.fd = -7;
	(void)snprintf(directory, sizeof(directory), "/tmp/vmm-notify-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(directory));
	manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ck_assert_int_ge(manager, 0);
}

static void teardown(void)
{
	char path[128];

	(void)close(manager);
	(void)snprintf(path, sizeof(path), "%s/s", directory);
	(void)unlink(path);
	(void)rmdir(directory);
}

static void listen_at(const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t len = strlen(name);

	memcpy(address.sun_path, name, len);
	if (name[0] == '@') {
		address.sun_path[0] = '\0';
	}
	ck_assert_int_eq(bind(manager, (struct sockaddr *)&address,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)),
			 0);
	(void)setenv("NOTIFY_SOCKET", name, 1);
}

static void check_next(const char *expected)
{
	char text[256] = "";
	ssize_t n = recv(manager, text, sizeof(text) - 1, 0);

	ck_assert_int_eq(n, (ssize_t)strlen(expected));
	ck_assert_str_eq(text, expected);
}

START_TEST(test_path)
{
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/s", directory);
	listen_at(path);
	check_ok(notify_open(&notify, &e), &e);
	ck_assert_int_ge(notify.fd, 0);
	ck_assert_int_ne(fcntl(notify.fd, F_GETFD) & FD_CLOEXEC, 0);
	notify_send(&notify, "READY=1\nSTATUS=the guest runs");
	notify_send(&notify, "STOPPING=1");
	check_next("READY=1\nSTATUS=the guest runs");
	check_next("STOPPING=1");
	notify_close(&notify);
	ck_assert_int_eq(notify.fd, -1);
}
END_TEST

START_TEST(test_abstract)
{
	char name[128];

	(void)snprintf(name, sizeof(name), "@%s", directory + 1);
	listen_at(name);
	check_ok(notify_open(&notify, &e), &e);
	notify_send(&notify, "READY=1");
	check_next("READY=1");
	notify_close(&notify);
}
END_TEST

START_TEST(test_nobody)
{
	(void)unsetenv("NOTIFY_SOCKET");
	check_ok(notify_open(&notify, &e), &e);
	ck_assert_int_eq(notify.fd, -1);
	notify_send(&notify, "READY=1");
	notify_close(&notify);
	(void)setenv("NOTIFY_SOCKET", "", 1);
	check_ok(notify_open(&notify, &e), &e);
	ck_assert_int_eq(notify.fd, -1);
}
END_TEST

static const char *const bad_names[] = {
	"relative",
	"/",
	"@",
	"vsock:2:1234",
	"/nowhere/at/all",
	"@nobody-has-this-name",
	("/0123456789012345678901234567890123456789012345678901234567890123456789"
	 "0123456789012345678901234567890123456789"),
};

START_TEST(test_bad_names)
{
	(void)setenv("NOTIFY_SOCKET", bad_names[_i], 1);
	ck_assert_int_lt(notify_open(&notify, &e), 0);
	check_error(&e, ERROR_CONFIG, "NOTIFY_SOCKET");
	ck_assert_str_ne(e.hint, "");
	ck_assert_int_eq(notify.fd, -1);
}
END_TEST

/* Nobody reads, then nobody is there: neither waits nor dies. */
START_TEST(test_stuck_manager)
{
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/s", directory);
	listen_at(path);
	check_ok(notify_open(&notify, &e), &e);
	for (int i = 0; i < 10000; i++) {
		notify_send(&notify, "STATUS=busy");
	}
	check_next("STATUS=busy");
	(void)close(manager);
	notify_send(&notify, "STATUS=alone");
	notify_close(&notify);
	manager = -1;
}
END_TEST

CHECK_MAIN("notify", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_path);
	   CHECK_TEST(test_abstract); CHECK_TEST(test_nobody);
	   CHECK_TABLE(test_bad_names, bad_names); CHECK_TEST(test_stuck_manager))
