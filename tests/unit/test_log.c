/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/check_main.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/error.h"
#include "vmm/log.h"

LOG_DOMAIN("unit");

static int reader = -1, writer = -1;
static char got[1 << 20];

static void setup(void)
{
	int fds[2];

	(void)signal(SIGPIPE, SIG_IGN);
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	reader = fds[0];
	writer = fds[1];
	ck_assert_int_eq(fcntl(reader, F_SETFL, O_NONBLOCK), 0);
	log_init(LOG_TRACE, writer);
}

static void teardown(void)
{
	log_init(LOG_WARN, -1);
	(void)close(reader);
	(void)close(writer);
}

/* Everything that can be read now. */
static const char *drain(void)
{
	size_t len = 0;
	ssize_t n;

	while ((n = read(reader, got + len, sizeof(got) - 1 - len)) > 0) {
		len += (size_t)n;
	}
	got[len] = '\0';
	return got;
}

START_TEST(test_levels)
{
	log_error("e %d", 1);
	log_warn("w");
	log_info("i");
	log_debug("d");
	log_trace("t");
	ck_assert_str_eq(drain(), "vmm: error: unit: e 1\nvmm: warning: unit: w\nvmm: unit: i\n"
				  "vmm: debug: unit: d\nvmm: trace: unit: t\n");
	log_init(LOG_WARN, writer);
	ck_assert(log_enabled(LOG_ERROR) && log_enabled(LOG_WARN) && !log_enabled(LOG_INFO));
	log_error("e");
	log_warn("w");
	log_info("i");
	log_debug("d");
	ck_assert_str_eq(drain(), "vmm: error: unit: e\nvmm: warning: unit: w\n");
}
END_TEST

/* Arguments of a line that is not shown are not evaluated. */
START_TEST(test_lazy)
{
	int evaluated = 0;

	log_init(LOG_INFO, writer);
	log_debug("%d", ++evaluated);
	log_guest(LOG_DEBUG, "%d", ++evaluated);
	ck_assert_int_eq(evaluated, 0);
	ck_assert_str_eq(drain(), "");
}
END_TEST

static const struct {
	const char *in, *out;
} texts[] = {
	{ "plain", "plain" },
	{ "", "" },
	{ "line\n", "line" },
	{ "line\n\n\n", "line" },
	{ "two\nlines", "two?lines" },
	{ "\x1b[2J\x07\r\x7f\t", "?[2J????" },
	{ "\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\xa7", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\xa7" },
	{ "\xc2\x9b"
	  "31m",
	  "??31m" }, /* C1 control: CSI */
	{ "\x9b"
	  "31m",
	  "?31m" },
	{ "\xff\xfe\x80", "???" },
	{ "\xc0\xaf\xe0\x80\xaf\xf0\x80\x80\xaf", "?????????" }, /* overlong forms */
	{ "\xed\xa0\x80", "???" },				 /* surrogate */
	{ "\xf4\x90\x80\x80", "????" },				 /* beyond Unicode */
	{ "\xe2\x80\xae"
	  "abc",
	  "???abc" },	      /* right-to-left override */
	{ "\xe2\x82", "??" }, /* cut off */
	{ "%s%n", "%s%n" },
};

START_TEST(test_harmless)
{
	char expected[256];
	struct error e;

	log_info("%s", texts[_i].in);
	(void)snprintf(expected, sizeof(expected), "vmm: unit: %s\n", texts[_i].out);
	ck_assert_str_eq(drain(), expected);
	error_set(&e, ERROR_DISK, 0, "a%s", texts[_i].in);
	error_hint(&e, "b%s", texts[_i].in);
	log_error_object(&e);
	(void)snprintf(expected, sizeof(expected), "vmm: a%s\nhint: b%s\n", texts[_i].out,
		       texts[_i].out);
	ck_assert_str_eq(drain(), expected);
}
END_TEST

START_TEST(test_error_object)
{
	struct error e;

	error_set(&e, ERROR_DISK, 0, "disk 'vda': broken");
	log_error_object(&e);
	ck_assert_str_eq(drain(), "vmm: disk 'vda': broken\n");
	log_error_object(NULL);
	ck_assert_str_eq(drain(), "");
	memset(&e, 0, sizeof(e));
	log_error_object(&e);
	ck_assert_str_eq(drain(), "vmm: unknown error\n");
	/* The longest error there can be is shown whole. */
	memset(e.msg, 'm', sizeof(e.msg) - 1);
	memset(e.hint, 'h', sizeof(e.hint) - 1);
	log_error_object(&e);
	ck_assert_uint_eq(strlen(drain()),
			  strlen("vmm: \nhint: \n") + sizeof(e.msg) + sizeof(e.hint) - 2);
}
END_TEST

START_TEST(test_long_line)
{
	static char text[20000];
	size_t len;

	memset(text, 'x', sizeof(text) - 1);
	errno = 77;
	log_info("%s", text);
	ck_assert_int_eq(errno, 77);
	len = strlen(drain());
	ck_assert_uint_lt(len, 1100);
	ck_assert_uint_gt(len, 800);
	ck_assert_str_eq(got + len - 5, "x...\n");
	log_line(LOG_INFO, 1, NULL, "no domain");
	ck_assert_str_eq(drain(), "vmm: no domain\n");
}
END_TEST

/* As Firecracker's: time, id, thread, and level and origin on demand; one source alone. */
static void check_stamped(const char *line, const char *want)
{
	int used = 0;

	/* 2026-11-28T19:25:13.202390493 */
	ck_assert_msg(sscanf(line, "%*4d-%*2d-%*2dT%*2d:%*2d:%*2d.%*9d %n", &used) == 0 &&
			      used == 30,
		      "%s", line);
	ck_assert_str_eq(line + used, want);
}

START_TEST(test_stamped)
{
	struct log_style style = { .stamped = true, .id = "i-1" };
	struct error e = { 0 };
	char want[200];
	int here;

	log_set_style(&style);
	log_warn("w\033[1m");
	check_stamped(drain(), "[i-1:main] w?[1m\n");
	log_name_thread("vcpu0");
	style.show_level = true;
	log_set_style(&style);
	log_warn("w");
	check_stamped(drain(), "[i-1:vcpu0:WARN] w\n");
	style.show_origin = true;
	log_set_style(&style);
	here = __LINE__ + 1;
	log_error("e");
	(void)snprintf(want, sizeof(want), "[i-1:vcpu0:ERROR:tests/unit/test_log.c:%d] e\n", here);
	check_stamped(drain(), want);
	log_name_thread(NULL);
	style.show_origin = false;
	log_set_style(&style);
	(void)error_set(&e, ERROR_CONFIG, EINVAL, "that is wrong");
	log_error_object(&e);
	check_stamped(drain(), "[i-1:main:ERROR] that is wrong\n");
	log_set_style(&(struct log_style){ 0 });
}
END_TEST

static void utc_now(char *buf, size_t size)
{
	time_t now = time(NULL);
	struct tm tm;

	ck_assert_ptr_nonnull(gmtime_r(&now, &tm));
	ck_assert_uint_ne(strftime(buf, size, "%Y-%m-%dT%H:%M:%S", &tm), 0);
}

/* Whatever the zone is; said where nobody expects Firecracker's lines. */
START_TEST(test_stamp_is_utc)
{
	char before[32], after[32];
	const char *line;

	ck_assert_int_eq(setenv("TZ", "XYZ-12", 1), 0);
	log_set_style(&(struct log_style){ .stamped = true, .zoned = true });
	utc_now(before, sizeof(before));
	log_warn("w");
	utc_now(after, sizeof(after));
	line = drain();
	ck_assert_int_ge(strncmp(line, before, strlen(before)), 0);
	ck_assert_int_le(strncmp(line, after, strlen(after)), 0);
	ck_assert_str_eq(line + strlen("2026-11-28T19:25:13.202390493"), "Z [vm:main] w\n");
	log_set_style(&(struct log_style){ 0 });
}
END_TEST

START_TEST(test_module)
{
	static const struct {
		const char *module;
		bool shown;
	} modules[] = { { "vmm::unit", true }, { "vmm::", true },	{ "unit", true },
			{ "un", true },	       { "vmm::units", false }, { "firecracker", false } };

	for (size_t i = 0; i < ARRAY_SIZE(modules); i++) {
		log_set_style(&(struct log_style){ .module = modules[i].module });
		log_info("i");
		ck_assert_str_eq(drain(), modules[i].shown ? "vmm: unit: i\n" : "");
	}
	log_set_style(&(struct log_style){ 0 });
}
END_TEST

START_TEST(test_counts)
{
	const struct log_counts before = log_counts();

	for (int i = 0; i < 30; i++) {
		log_guest(LOG_INFO, "i");
	}
	ck_assert_uint_ge(log_counts().limited, before.limited + 10);
	ck_assert_uint_eq(log_counts().lost, before.lost);
}
END_TEST

/* Nobody reads: lines are dropped, nothing blocks, the count is told when somebody reads again; the
 * flags stay. */
static void check_stuck(int flags)
{
	char expected[200];
	const char *rest;
	int lines = 0;

	for (int i = 0; i < 5000; i++) {
		log_info("line %04d 0123456789012345678901234567890123456789", i);
	}
	ck_assert_int_eq(fcntl(writer, F_GETFL), flags);
	for (rest = drain(); (rest = strchr(rest, '\n')) != NULL; rest++) {
		lines++;
	}
	ck_assert_int_gt(lines, 10);
	ck_assert_int_lt(lines, 5000);
	log_info("again");
	(void)snprintf(expected, sizeof(expected),
		       "vmm: warning: %d messages were lost, nobody read them\nvmm: unit: again\n",
		       5000 - lines);
	ck_assert_str_eq(drain(), expected);
	log_info("normal");
	ck_assert_str_eq(drain(), "vmm: unit: normal\n");
}

START_TEST(test_stuck_pipe)
{
	check_stuck(fcntl(writer, F_GETFL));
}
END_TEST

START_TEST(test_stuck_socket)
{
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, _i == 0 ? SOCK_STREAM : SOCK_SEQPACKET, 0, fds), 0);
	ck_assert_int_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	(void)close(reader);
	(void)close(writer);
	reader = fds[0];
	writer = fds[1];
	log_init(LOG_TRACE, writer);
	check_stuck(fcntl(writer, F_GETFL));
}
END_TEST

/* A terminal takes a part of a line; afterwards lines are whole again. */
START_TEST(test_stuck_terminal)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	struct termios raw;
	const char *last;
	int slave, flags;

	if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) {
		CHECK_SKIP("no pseudo terminals");
	}
	slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	ck_assert_int_ge(slave, 0);
	ck_assert_int_eq(tcgetattr(slave, &raw), 0);
	cfmakeraw(&raw);
	ck_assert_int_eq(tcsetattr(slave, TCSANOW, &raw), 0);
	flags = fcntl(slave, F_GETFL);
	(void)close(reader);
	(void)close(writer);
	reader = master;
	writer = slave;
	log_init(LOG_TRACE, slave);
	for (int i = 0; i < 5000; i++) {
		log_info("line %04d 0123456789012345678901234567890123456789", i);
	}
	ck_assert_int_eq(fcntl(slave, F_GETFL), flags);
	(void)drain();
	log_info("again");
	last = strstr(drain(), "vmm: warning: ");
	ck_assert_ptr_nonnull(last);
	ck_assert_ptr_nonnull(
		strstr(last, " messages were lost, nobody read them\nvmm: unit: again\n"));
	ck_assert(last == got || last[-1] == '\n');
	log_info("normal");
	ck_assert_str_eq(drain(), "vmm: unit: normal\n");
}
END_TEST

START_TEST(test_reader_gone)
{
	(void)close(reader);
	reader = -1;
	log_error("nobody");
	log_init(LOG_ERROR, -1);
	log_error("nowhere");
	log_init(LOG_ERROR, 999);
	log_error("closed");
}
END_TEST

START_TEST(test_file)
{
	FILE *f = tmpfile();
	char text[64] = "";

	ck_assert_ptr_nonnull(f);
	log_init(LOG_INFO, fileno(f));
	log_info("to a file");
	log_info("2");
	ck_assert_int_gt(pread(fileno(f), text, sizeof(text) - 1, 0), 0);
	ck_assert_str_eq(text, "vmm: unit: to a file\nvmm: unit: 2\n");
	log_init(LOG_INFO, -1);
	(void)fclose(f);
}
END_TEST

/* Ten at once, then what was suppressed is counted and told with the next line allowed. */
START_TEST(test_rate)
{
	struct log_rate rate = { 0 };
	uint32_t suppressed = 99;
	struct timespec now;
	int allowed = 0;

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	/* A window that starts far ahead: no token comes back while the test runs. */
	atomic_store(&rate.window_start, now.tv_sec + 1000);
	for (int i = 0; i < 100; i++) {
		if (log_rate_allow(&rate, &suppressed)) {
			ck_assert_uint_eq(suppressed, 0);
			allowed++;
		}
	}
	ck_assert_int_eq(allowed, 10);
	/* Two seconds later: two more. */
	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	atomic_store(&rate.window_start, now.tv_sec - 2);
	ck_assert(log_rate_allow(&rate, &suppressed));
	ck_assert_uint_eq(suppressed, 90);
	atomic_store(&rate.window_start, now.tv_sec + 1000);
	ck_assert(log_rate_allow(&rate, &suppressed));
	ck_assert_uint_eq(suppressed, 0);
	ck_assert(!log_rate_allow(&rate, &suppressed));
	/* A long silence gives the whole burst back and no more. */
	atomic_store(&rate.window_start, 0);
	allowed = 0;
	for (int i = 0; i < 100; i++) {
		allowed += log_rate_allow(&rate, &suppressed);
		atomic_store(&rate.window_start, now.tv_sec + 1000);
	}
	ck_assert_int_eq(allowed, 10);
}
END_TEST

START_TEST(test_guest_lines)
{
	int lines = 0;

	for (int i = 0; i < 1000; i++) {
		log_guest(LOG_WARN, "queue %d is broken", i);
	}
	for (const char *p = drain(); (p = strchr(p, '\n')) != NULL; p++) {
		lines++;
	}
	ck_assert_int_ge(lines, 10);
	ck_assert_int_lt(lines, 100); /* the burst and one for each second that the loop took */
}
END_TEST

#define THREADS 4
#define LINES	200

static void *talker(void *arg)
{
	for (int i = 0; i < LINES; i++) {
		log_info("thread %d line %d end", (int)(intptr_t)arg, i);
		log_guest(LOG_INFO, "guest");
	}
	return NULL;
}

/* Lines of several threads do not mix. The pipe is large enough for all of them. */
START_TEST(test_threads)
{
	pthread_t threads[THREADS];
	int next[THREADS] = { 0 };
	char *line;

	ck_assert_int_gt(fcntl(writer, F_SETPIPE_SZ, 1 << 20), 0);
	for (intptr_t i = 0; i < THREADS; i++) {
		ck_assert_int_eq(pthread_create(&threads[i], NULL, talker, (void *)i), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	}
	(void)drain();
	for (line = strtok(got, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		int thread, number, end = -1;

		if (strstr(line, "guest") != NULL) {
			continue;
		}
		ck_assert_int_eq(
			sscanf(line, "vmm: unit: thread %d line %d end%n", &thread, &number, &end),
			2);
		ck_assert_int_eq(end, (int)strlen(line));
		ck_assert(thread >= 0 && thread < THREADS);
		ck_assert_int_eq(number, next[thread]++);
	}
	for (int i = 0; i < THREADS; i++) {
		ck_assert_int_eq(next[i], LINES);
	}
}
END_TEST

CHECK_MAIN("log", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_levels); CHECK_TEST(test_lazy);
	   CHECK_TEST(test_stamped); CHECK_TEST(test_stamp_is_utc); CHECK_TEST(test_module);
	   CHECK_TEST(test_counts); CHECK_TABLE(test_harmless, texts);
	   CHECK_TEST(test_error_object); CHECK_TEST(test_long_line); CHECK_TEST(test_stuck_pipe);
	   CHECK_LOOP(test_stuck_socket, 2); CHECK_TEST(test_stuck_terminal);
	   CHECK_TEST(test_reader_gone); CHECK_TEST(test_file); CHECK_TEST(test_rate);
	   CHECK_TEST(test_guest_lines); CHECK_TEST(test_threads))
