/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/check_main.h"

#include "vmm/metrics.h"

static struct metrics_text text;

static void teardown(void)
{
	free(text.data);
	text = (struct metrics_text){ 0 };
}

START_TEST(test_format)
{
	metrics_begin(&text, "vmm_exits_total", METRIC_COUNTER, "Exits of vCPUs");
	metrics_sample(&text, "vcpu", "0", 12);
	metrics_sample(&text, "vcpu", "1", UINT64_MAX);
	metrics_begin(&text, "vmm_up_seconds", METRIC_GAUGE, "Time since start");
	metrics_sample_seconds(&text, NULL, NULL, 1500000000);
	metrics_begin(&text, "vmm_memory_bytes", METRIC_GAUGE, "Guest memory");
	metrics_sample(&text, NULL, NULL, 0);
	ck_assert(!text.failed);
	ck_assert_str_eq(text.data, "# HELP vmm_exits_total Exits of vCPUs\n"
				    "# TYPE vmm_exits_total counter\n"
				    "vmm_exits_total{vcpu=\"0\"} 12\n"
				    "vmm_exits_total{vcpu=\"1\"} 18446744073709551615\n"
				    "# HELP vmm_up_seconds Time since start\n"
				    "# TYPE vmm_up_seconds gauge\n"
				    "vmm_up_seconds 1.500000000\n"
				    "# HELP vmm_memory_bytes Guest memory\n"
				    "# TYPE vmm_memory_bytes gauge\n"
				    "vmm_memory_bytes 0\n");
	ck_assert_uint_eq(text.len, strlen(text.data));
}
END_TEST

static const struct {
	const char *value, *line;
} labels[] = {
	{ "", "m{l=\"\"} 7\n" },
	{ "a b", "m{l=\"a b\"} 7\n" },
	{ "\"", "m{l=\"\\\"\"} 7\n" },
	{ "\\", "m{l=\"\\\\\"} 7\n" },
	{ "a\nm 9", "m{l=\"a\\nm 9\"} 7\n" },
	{ "\"} 1\nx{l=\"", "m{l=\"\\\"} 1\\nx{l=\\\"\"} 7\n" },
	{ "\xc3\xa9", "m{l=\"\xc3\xa9\"} 7\n" },
	{ "%s%n", "m{l=\"%s%n\"} 7\n" },
};

START_TEST(test_labels)
{
	text.name = "m";
	metrics_sample(&text, "l", labels[_i].value, 7);
	ck_assert_str_eq(text.data, labels[_i].line);
}
END_TEST

static const struct {
	uint64_t ns;
	const char *text;
} seconds[] = {
	{ 0, "m 0.000000000\n" },
	{ 1, "m 0.000000001\n" },
	{ 999999999, "m 0.999999999\n" },
	{ 1000000000, "m 1.000000000\n" },
	{ UINT64_MAX, "m 18446744073.709551615\n" },
};

START_TEST(test_seconds)
{
	text.name = "m";
	metrics_sample_seconds(&text, NULL, NULL, seconds[_i].ns);
	ck_assert_str_eq(text.data, seconds[_i].text);
}
END_TEST

START_TEST(test_grows)
{
	static char label[20000];
	size_t len = 0;

	memset(label, 'x', sizeof(label) - 1);
	text.name = "m";
	for (int i = 0; i < 5000; i++) {
		metrics_sample(&text, "l", "abc", (uint64_t)i);
		metrics_sample(&text, NULL, NULL, 1);
	}
	metrics_sample(&text, "l", label, 1);
	ck_assert(!text.failed);
	ck_assert_uint_eq(text.len, strlen(text.data));
	ck_assert_uint_lt(text.len, text.room);
	for (int i = 0; i < 5000; i++) {
		char line[64];
		size_t n = (size_t)snprintf(line, sizeof(line), "m{l=\"abc\"} %d\nm 1\n", i);

		ck_assert_int_eq(strncmp(text.data + len, line, n), 0);
		len += n;
	}
}
END_TEST

/* Without memory whole lines are missing, and the text says so. */
START_TEST(test_no_memory)
{
	const struct metrics_text full = { .room = SIZE_MAX / 2,
					   .len = SIZE_MAX / 2 - 4,
					   .name = "m" };

	text = full;
	metrics_sample(&text, NULL, NULL, 123456);
	ck_assert(text.failed);
	ck_assert_uint_eq(text.len, full.len);
	metrics_sample(&text, NULL, NULL, 1);
	ck_assert_uint_eq(text.len, full.len);
	text = (struct metrics_text){ 0 };
}
END_TEST

CHECK_MAIN("metrics", CHECK_FIXTURE(NULL, teardown); CHECK_TEST(test_format);
	   CHECK_TABLE(test_labels, labels); CHECK_TABLE(test_seconds, seconds);
	   CHECK_TEST(test_grows); CHECK_TEST(test_no_memory))
