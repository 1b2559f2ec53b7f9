/* SPDX-License-Identifier: Apache-2.0 */
/* The exit report is JSON whatever the end was: read back with a JSON library and compared member
 * by member. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/check_main.h"

#include "../../src/cli/exit_report.h"

static int fd;
static struct error e;
static json_t *root;

static void setup(void)
{
	e = (struct error){ 0 };
	root = NULL;
	fd = memfd_create("report", MFD_CLOEXEC);
	ck_assert_int_ge(fd, 0);
}

static void teardown(void)
{
	json_decref(root);
	(void)close(fd);
}

static void write_and_parse(const struct exit_report *report)
{
	json_error_t where;
	char text[8192];
	ssize_t len;

	check_ok(exit_report_write(fd, report, &e), &e);
	len = pread(fd, text, sizeof(text), 0);
	ck_assert_int_gt(len, 0);
	ck_assert_int_eq(text[len - 1], '\n');
	ck_assert_ptr_null(memchr(text, '\0', (size_t)len));
	root = json_loadb(text, (size_t)len, JSON_REJECT_DUPLICATES, &where);
	ck_assert_msg(root != NULL, "line %d: %s\n%.*s", where.line, where.text, (int)len, text);
}

static const char *string_at(const json_t *object, const char *key)
{
	const char *value = json_string_value(json_object_get(object, key));

	ck_assert_msg(value != NULL, "no string '%s'", key);
	return value;
}

static json_int_t integer_at(const json_t *object, const char *key)
{
	ck_assert_msg(json_is_integer(json_object_get(object, key)), "no integer '%s'", key);
	return json_integer_value(json_object_get(object, key));
}

START_TEST(test_good_end)
{
	const struct exit_report report = {
		.name = "web",
		.reason = "power-off",
		.exit_code = 0,
		.uptime_ns = 1250000000,
		.stats = { .resets = 3, .exits_io = 1, .exits_mmio = 1ULL << 40, .exits_other = 7 },
	};
	const json_t *stats;

	write_and_parse(&report);
	ck_assert_str_ne(string_at(root, "vmm_version"), "");
	ck_assert_str_eq(string_at(root, "name"), "web");
	ck_assert_str_eq(string_at(root, "reason"), "power-off");
	ck_assert_int_eq(integer_at(root, "exit_code"), 0);
	ck_assert(json_real_value(json_object_get(root, "uptime_seconds")) == 1.25);
	stats = json_object_get(root, "stats");
	ck_assert_int_eq(integer_at(stats, "resets"), 3);
	ck_assert_int_eq(integer_at(stats, "exits_io"), 1);
	ck_assert_int_eq(integer_at(stats, "exits_mmio"), 1LL << 40);
	ck_assert_int_eq(integer_at(stats, "exits_other"), 7);
	ck_assert_ptr_null(json_object_get(root, "error"));
}
END_TEST

/* What is in a message -> what arrives */
static const struct text_row {
	const char *text, *expected;
} texts[] = {
	{ "disk 'a': Permission denied", "disk 'a': Permission denied" },
	{ "\"quoted\" \\ back\tslash\n", "\"quoted\" \\ back\tslash\n" },
	{ "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xa7",
	  "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xa7" },
	/* File names need not be UTF-8, and a message may be cut within a character. */
	{ "open '\xff\xfe'", "open '?\?'" },
	{ "cut \xe2\x82", "cut ??" },
	{ "latin gr\xfc\xdf.", "latin gr??." },
	{ "overlong \xc0\xaf, surrogate \xed\xa0\x80", "overlong ??, surrogate ???" },
	{ "too high \xf4\x90\x80\x80", "too high ????" },
	{ "", "" },
};

START_TEST(test_error_texts)
{
	struct exit_report report = { .name = texts[_i].text, .reason = "error", .exit_code = 125 };
	struct error failure = { 0 };
	const json_t *error;

	(void)error_set(&failure, ERROR_DISK, EACCES, "%s", texts[_i].text);
	(void)error_hint(&failure, "%s", texts[_i].text);
	report.error = &failure;
	write_and_parse(&report);
	ck_assert_int_eq(integer_at(root, "exit_code"), 125);
	ck_assert_str_eq(string_at(root, "name"), texts[_i].expected);
	error = json_object_get(root, "error");
	ck_assert_ptr_nonnull(error);
	ck_assert_str_eq(string_at(error, "code"), error_code_name(ERROR_DISK));
	ck_assert_str_eq(string_at(error, "message"), texts[_i].expected);
	ck_assert_str_eq(string_at(error, "hint"), texts[_i].expected);
}
END_TEST

START_TEST(test_open)
{
	char path[] = "/tmp/vmm-report-XXXXXX", missing[64];
	struct stat st;
	int report_fd = -1, old = mkstemp(path);

	ck_assert_int_ge(old, 0);
	ck_assert_int_eq(write(old, "old text", 8), 8);
	check_ok(exit_report_open(path, &report_fd, &e), &e);
	ck_assert_int_ge(report_fd, 0);
	ck_assert_int_eq(fstat(report_fd, &st), 0);
	ck_assert_int_eq(st.st_size, 0);
	ck_assert_int_ne(fcntl(report_fd, F_GETFD) & FD_CLOEXEC, 0);
	(void)close(report_fd);
	(void)close(old);
	(void)unlink(path);

	report_fd = -7;
	(void)snprintf(missing, sizeof(missing), "%s/report", path);
	ck_assert_int_lt(exit_report_open(missing, &report_fd, &e), 0);
	check_error(&e, ERROR_CONFIG, "--exit-report");
	check_error(&e, ERROR_CONFIG, missing);
	ck_assert_str_ne(e.hint, "");
	ck_assert_int_eq(report_fd, -7);
	ck_assert_int_lt(exit_report_open("/tmp", &report_fd, &e), 0);
	check_error(&e, ERROR_CONFIG, "'/tmp'");
}
END_TEST

START_TEST(test_full_disk)
{
	const struct exit_report report = { .name = "vm", .reason = "power-off" };
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

	if (full < 0) {
		CHECK_SKIP("no /dev/full");
	}
	ck_assert_int_lt(exit_report_write(full, &report, &e), 0);
	check_error(&e, ERROR_CONFIG, "--exit-report");
	(void)close(full);
}
END_TEST

CHECK_MAIN("exit_report", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_good_end);
	   CHECK_TABLE(test_error_texts, texts); CHECK_TEST(test_open); CHECK_TEST(test_full_disk))
