/* SPDX-License-Identifier: Apache-2.0 */
/* Option tables: values, command lines, device strings, help. */
#include "harness/check_main.h"

#include <errno.h>
#include <unistd.h>

#include "vmm/options.h"

struct config {
	bool flag, on, quiet, erase;
	const char *name;
	uint32_t cpus, plain;
	uint64_t memory, timeout;
	int mode, fd;
	uint8_t mac[6];
	bool has_mac, has_memory;
	const char *list[4];
	int list_count;
};

static const struct option_value modes[] = { { "fast", 3 }, { "safe", 4 }, { NULL, 0 } };

static int add_item(void *object, const char *value, struct error *e)
{
	struct config *c = object;

	if (c->list_count == ARRAY_SIZE(c->list)) {
		return error_set(e, ERROR_USAGE, E2BIG, "too many items");
	}
	c->list[c->list_count++] = value;
	return 0;
}

#define AT(member)    .offset = offsetof(struct config, member)
#define GIVEN(member) .present = offsetof(struct config, member) + 1

static const struct option option_list[] = {
	{ .name = "name",
	  .letter = 'n',
	  .type = OPTION_STRING,
	  AT(name),
	  .first = true,
	  .argument = "NAME",
	  .help = "name of the thing" },
	{ .name = "memory",
	  .letter = 'm',
	  .type = OPTION_SIZE,
	  AT(memory),
	  GIVEN(has_memory),
	  .min = MIB(32),
	  .max = GIB(64),
	  .unit = "32M to 64G",
	  .fallback = "512M",
	  .help = "memory" },
	{ .name = "cpus",
	  .letter = 'c',
	  .type = OPTION_U32,
	  AT(cpus),
	  .min = 1,
	  .max = 32,
	  .fallback = "2" },
	{ .name = "plain", .type = OPTION_U32, AT(plain) },
	{ .name = "timeout", .type = OPTION_DURATION, AT(timeout), .min = 1000000 },
	{ .name = "mode",
	  .type = OPTION_ENUM,
	  AT(mode),
	  .values = modes,
	  .fallback = "safe",
	  .argument = "fast|safe" },
	{ .name = "on", .type = OPTION_BOOL, AT(on), .fallback = "yes" },
	{ .name = "mac", .type = OPTION_MAC, AT(mac), GIVEN(has_mac) },
	{ .name = "fd", .type = OPTION_FD, AT(fd) },
	{ .name = "item", .letter = 'i', .type = OPTION_LIST, .add = add_item },
	{ .name = "flag", .letter = 'f', .type = OPTION_FLAG, AT(flag) },
	{ .name = "quiet", .letter = 'q', .type = OPTION_FLAG, AT(quiet), .help = "say less" },
	{ .name = "erase", .type = OPTION_FLAG, AT(erase), .careful = true },
};
static const struct option_foreign foreign[] = {
	{ "-smp --vcpus", "here it is -c N" },
	{ "-nographic", "not needed here" },
	{ "-fda", "there are no floppy disks" },
	{ NULL, NULL },
};
static const struct option_table table = {
	.name = "run", .options = option_list, .count = ARRAY_SIZE(option_list), .foreign = foreign
};

static struct config config;
static struct error err;

static void setup(void)
{
	memset(&config, 0x55, sizeof(config));
	config.list_count = 0;
	check_ok(options_defaults(&table, &config, &err), &err);
}

static const struct option *named(const char *name)
{
	for (size_t i = 0; i < table.count; i++) {
		if (strcmp(table.options[i].name, name) == 0) {
			return &table.options[i];
		}
	}
	ck_abort_msg("no option %s", name);
}

START_TEST(test_defaults)
{
	ck_assert_uint_eq(config.memory, MIB(512));
	ck_assert(!config.has_memory && !config.has_mac && !config.flag);
	ck_assert_uint_eq(config.cpus, 2);
	ck_assert_uint_eq(config.plain, 0);
	ck_assert_int_eq(config.mode, 4);
	ck_assert_int_eq(config.fd, -1);
	ck_assert(config.on);
	ck_assert_ptr_null(config.name);
}
END_TEST

START_TEST(test_bad_default)
{
	const struct option bad = { .name = "x", .type = OPTION_U32, .fallback = "y" };
	const struct option_table t = { .name = "t", .options = &bad, .count = 1 };
	uint32_t x;

	ck_assert_int_lt(options_defaults(&t, &x, &err), 0);
	check_error(&err, ERROR_USAGE, "default of option table 't'");
}
END_TEST

/* option, text -> number */
static const struct {
	const char *option, *text;
	uint64_t value;
} numbers[] = {
	{ "memory", "32M", MIB(32) },
	{ "memory", "33554432", MIB(32) },
	{ "memory", "64G", GIB(64) },
	{ "memory", "65536K", MIB(64) },
	{ "memory", "1GiB", GIB(1) },
	{ "memory", "128MiB", MIB(128) },
	{ "memory", "1g", GIB(1) },
	{ "memory", "0000000000000000000000000064M", MIB(64) },
	{ "cpus", "1", 1 },
	{ "cpus", "32", 32 },
	{ "plain", "0", 0 },
	{ "plain", "4294967295", UINT32_MAX },
	{ "timeout", "30", 30000000000ULL },
	{ "timeout", "30s", 30000000000ULL },
	{ "timeout", "1ms", 1000000 },
	{ "timeout", "5m", 300000000000ULL },
	{ "timeout", "1h", 3600000000000ULL },
};

START_TEST(test_number)
{
	const struct option *option = named(numbers[_i].option);
	const void *member = (const char *)&config + option->offset;

	check_ok(options_set(option, &config, "--x", numbers[_i].text, &err), &err);
	ck_assert_uint_eq(option->type == OPTION_U32 ? *(const uint32_t *)member
						     : *(const uint64_t *)member,
			  numbers[_i].value);
}
END_TEST

/* Each message names the flag and what is accepted. */
static const struct {
	const char *option, *text, *message;
} refused[] = {
	{ "memory", "31M",
	  "'31M' is too small; accepted is a size such as 512M or 2G, 32M to 64G" },
	{ "memory", "0", "too small" },
	{ "memory", "65G", "too large" },
	{ "memory", "18446744073709551616", "too large" },
	{ "memory", "18014398509481984K", "too large" },
	{ "memory", "99999999999999999999999999999999999T", "too large" },
	{ "memory", "-1", "'-1' is not a size" },
	{ "memory", "+64M", "not a size" },
	{ "memory", " 64M", "not a size" },
	{ "memory", "64M ", "not a size" },
	{ "memory", "64 M", "not a size" },
	{ "memory", "1.5G", "not a size" },
	{ "memory", "0x4000000", "not a size" },
	{ "memory", "64MB", "not a size" },
	{ "memory", "64Mi", "not a size" },
	{ "memory", "M", "not a size" },
	{ "memory", "1e9", "not a size" },
	{ "memory", "", "the value is empty; accepted is a size" },
	{ "memory", "64M\n", "control character 0x0a at byte 4" },
	{ "memory", "\x1b[2J", "control character 0x1b at byte 1" },
	{ "cpus", "0", "too small; accepted is a whole number from 1 to 32" },
	{ "cpus", "33", "too large" },
	{ "cpus", "1000", "1 to 32" },
	{ "cpus", "-2", "not a whole number" },
	{ "cpus", "2x", "not a whole number" },
	{ "cpus", "2M", "not a whole number" },
	{ "cpus", "4294967297", "too large" },
	{ "cpus", "18446744073709551617", "too large" },
	{ "plain", "4294967296", "too large" },
	{ "timeout", "0",
	  "too small; accepted is a duration such as 30s, 500ms or 5m, at least 1ms" },
	{ "timeout", "30x", "not a duration" },
	{ "timeout", "30M", "not a duration" },
	{ "timeout", "-5s", "not a duration" },
	{ "timeout", "18446744074", "too large" },
	{ "timeout", "9999999999h", "too large" },
	{ "mode", "Fast", "'Fast' is not known; accepted is one of: fast, safe" },
	{ "mode", "fas", "fast, safe" },
	{ "on", "1", "on or off" },
	{ "on", "ON", "on or off" },
	{ "mac", "52:54:00:12:34", "not a MAC" },
	{ "mac", "52:54:00:12:34:567", "not a MAC" },
	{ "mac", "52:54:00:12:34:5g", "not a MAC" },
	{ "mac", "52-54-00-12-34-56", "not a MAC" },
	{ "mac", "525:4:00:12:34:56", "not a MAC" },
	{ "mac", "01:00:5e:00:00:01", "multicast" },
	{ "mac", "ff:ff:ff:ff:ff:ff", "multicast" },
	{ "mac", "00:00:00:00:00:00", "zero" },
	{ "fd", "999", "not an open descriptor" },
	{ "fd", "-1", "not a whole number" },
	{ "fd", "4294967296", "not an open descriptor" },
	{ "fd", "", "empty" },
	{ "name", "", "empty" },
	{ "name", "a\tb", "0x09" },
	{ "name", "a\x7f", "0x7f" },
	{ "item", "", "empty" },
	{ "item", "x\ry", "0x0d at byte 2" },
	{ "flag", "on", "takes no value" },
	{ "flag", "", "takes no value" },
};

START_TEST(test_refused)
{
	struct config before;

	config.has_memory = false;
	memcpy(&before, &config, sizeof(config));
	ck_assert_int_lt(options_set(named(refused[_i].option), &config, "--the-flag",
				     refused[_i].text, &err),
			 0);
	check_error(&err, ERROR_USAGE, refused[_i].message);
	check_error(&err, ERROR_USAGE, "--the-flag: ");
	ck_assert_mem_eq(&before, &config, sizeof(config)); /* untouched, `present` too */
}
END_TEST

START_TEST(test_set_others)
{
	static const uint8_t mac[6] = { 0x52, 0x54, 0, 0xab, 0xCD, 0xef };

	check_ok(options_set(named("mac"), &config, "--mac", "52:54:00:aB:Cd:eF", &err), &err);
	ck_assert_mem_eq(config.mac, mac, 6);
	ck_assert(config.has_mac);
	check_ok(options_set(named("on"), &config, "--on", "off", &err), &err);
	ck_assert(!config.on);
	check_ok(options_set(named("on"), &config, "--on", "true", &err), &err);
	ck_assert(config.on);
	check_ok(options_set(named("fd"), &config, "--fd", "2", &err), &err);
	ck_assert_int_eq(config.fd, 2);
	check_ok(options_set(named("flag"), &config, "--flag", NULL, &err), &err);
	ck_assert(config.flag);
	check_ok(options_set(named("memory"), &config, "--memory", "1G", &err), &err);
	ck_assert(config.has_memory);
	check_ok(options_set(named("name"), &config, "--name", "\xc3\xa9 x", &err), &err);
	ck_assert_str_eq(config.name, "\xc3\xa9 x");
}
END_TEST

/* A long value is repeated in part, so that flag and cure stay in the message. */
START_TEST(test_long_value)
{
	static char text[100000], command[] = "run";
	char *const argv[] = { command, text };

	memset(text, 'x', sizeof(text) - 1);
	ck_assert_int_lt(options_set(named("mode"), &config, "--mode", text, &err), 0);
	check_error(&err, ERROR_USAGE, "fast, safe");
	text[0] = '-';
	text[1] = '-';
	ck_assert_int_lt(options_parse(&table, &config, 2, argv, &err), 0);
	check_error(&err, ERROR_USAGE, "vmm run --help");
}
END_TEST

#define ARGV_MAX 8
#define MAKE_ARGV(row)                                                                 \
	char copies[ARGV_MAX][64];                                                     \
	char *argv[ARGV_MAX + 1] = { NULL };                                           \
	int argc = 0;                                                                  \
                                                                                       \
	while ((row)[argc] != NULL) {                                                  \
		(void)snprintf(copies[argc], sizeof(copies[argc]), "%s", (row)[argc]); \
		argv[argc] = copies[argc];                                             \
		argc++;                                                                \
	}

static const struct {
	const char *argv[ARGV_MAX];
	int operand;
	uint64_t memory;
	uint32_t cpus;
	bool flag, quiet;
	const char *name;
	int items;
} lines[] = {
	{ { "run" }, 1, MIB(512), 2, false, false, NULL, 0 },
	{ { "run", "--memory=1G", "--cpus", "4" }, 4, GIB(1), 4, false, false, NULL, 0 },
	{ { "run", "-m1G", "-c", "3", "-fq" }, 5, GIB(1), 3, true, true, NULL, 0 },
	{ { "run", "-qm64M", "-fc=5" }, 3, MIB(64), 5, true, true, NULL, 0 },
	{ { "run", "-qfn", "web", "op" }, 3 + 0, MIB(512), 2, true, true, "web", 0 },
	{ { "run", "op", "--memory", "1G" }, 1, MIB(512), 2, false, false, NULL, 0 },
	{ { "run", "-q", "--", "-f" }, 3, MIB(512), 2, false, true, NULL, 0 },
	{ { "run", "--" }, 2, MIB(512), 2, false, false, NULL, 0 },
	{ { "run", "-", "-q" }, 1, MIB(512), 2, false, false, NULL, 0 },
	{ { "run", "-i", "a", "--item=b", "-ic", "x" }, 5, MIB(512), 2, false, false, NULL, 3 },
	{ { "run", "-q", "--quiet", "-qq" }, 4, MIB(512), 2, false, true, NULL, 0 },
	{ { "run", "--name", "-x" }, 3, MIB(512), 2, false, false, "-x", 0 },
	{ { "run", "--name=--flag", "--flag" }, 3, MIB(512), 2, true, false, "--flag", 0 },
	{ { "run", "--name=a=b" }, 2, MIB(512), 2, false, false, "a=b", 0 },
	{ { "run", "--name", "root=/dev/vda ro" },
	  3,
	  MIB(512),
	  2,
	  false,
	  false,
	  "root=/dev/vda ro",
	  0 },
};

START_TEST(test_parse)
{
	MAKE_ARGV(lines[_i].argv)
	int r = options_parse(&table, &config, argc, argv, &err);

	ck_assert_msg(r >= 0, "%s", err.msg);
	ck_assert_int_eq(r, lines[_i].operand);
	ck_assert_uint_eq(config.memory, lines[_i].memory);
	ck_assert_uint_eq(config.cpus, lines[_i].cpus);
	ck_assert_int_eq(config.flag, lines[_i].flag);
	ck_assert_int_eq(config.quiet, lines[_i].quiet);
	ck_assert_int_eq(config.list_count, lines[_i].items);
	ck_assert_pstr_eq(config.name, lines[_i].name);
	for (int i = 0; i < argc; i++) {
		ck_assert_str_eq(argv[i], lines[_i].argv[i]);
	}
}
END_TEST

static const struct {
	const char *argv[ARGV_MAX];
	const char *message, *hint;
} bad_lines[] = {
	{ { "run", "--memroy", "1G" }, "unknown flag '--memroy'", "did you mean --memory?" },
	{ { "run", "--mem=1G" }, "unknown flag '--mem'", "did you mean --memory?" },
	{ { "run", "--cpu", "1" }, "unknown flag '--cpu'", "did you mean --cpus?" },
	{ { "run", "--falg" }, "unknown flag '--falg'", "did you mean --flag?" },
	{ { "run", "--kubernetes" }, "unknown flag '--kubernetes'", "vmm run --help" },
	{ { "run", "--=x" }, "unknown flag '--'", "" },
	{ { "run", "-memory", "1G" }, "unknown flag '-memory'", "did you mean --memory" },
	{ { "run", "-x" }, "unknown flag '-x' in '-x'", "vmm run --help" },
	{ { "run", "-qx" }, "unknown flag '-x' in '-qx'", "" },
	{ { "run", "-q=1" }, "unknown flag '-=' in '-q=1'", "" },
	{ { "run", "--memory" }, "--memory: needs a value: a size", "" },
	{ { "run", "-m" }, "-m (--memory): needs a value", "" },
	{ { "run", "--name", "--quiet" }, "--name: needs a value", "--name=--quiet" },
	{ { "run", "--name", "--memory=1G" }, "--name: needs a value", "--memory=1G" },
	{ { "run", "--name", "--", "x" }, "--name: needs a value", "" },
	{ { "run", "--memory=" }, "--memory: the value is empty", "" },
	{ { "run", "--memory", "lots" }, "--memory: 'lots' is not a size", "" },
	{ { "run", "-mlots" }, "-m (--memory): 'lots' is not a size", "" },
	{ { "run", "--quiet=yes" }, "--quiet: takes no value, but 'yes'", "" },
	{ { "run", "-i1", "-i2", "-i3", "-i4", "-i5" }, "too many items", "" },
	{ { "run", "-c", "3", "-c", "4" }, "-c (--cpus) is given twice", "'4' would replace" },
	{ { "run", "-c3", "-q", "--cpus=3" }, "--cpus is given twice", "leave one of them out" },
	{ { "run", "--name", "a", "--name", "a" }, "--name is given twice", "" },
	{ { "run", "--mac", "52:54:00:12:34:56", "--mac=52:54:00:12:34:57" },
	  "--mac is given",
	  "" },
	{ { "run", "--erse" }, "unknown flag '--erse'", "vmm run --help" },
	{ { "run", "--eras" }, "unknown flag '--eras'", "vmm run --help" },
	{ { "run", "-smp", "4" }, "unknown flag '-smp'", "here it is -c N" },
	{ { "run", "--vcpus=4" }, "unknown flag '--vcpus'", "here it is -c N" },
	{ { "run", "-nographic" }, "unknown flag '-nographic'", "not needed here" },
	{ { "run", "-fda", "x" }, "unknown flag '-fda'", "no floppy disks" },
	{ { "run", "-m", "2GB" }, "'2GB' is not a size", "did you mean 2G?" },
	{ { "run", "-m", "512 mib" }, "is not a size", "did you mean 512M?" },
	{ { "run", "-m", "1.5G" }, "'1.5G' is not a size", "did you mean 1536M?" },
	{ { "run", "--timeout", "2min" }, "'2min' is not a duration", "did you mean 2m?" },
	{ { "run", "--timeout", "2 days" }, "is not a duration", "did you mean 48h?" },
	{ { "run", "-m", "2GX" }, "'2GX' is not a size", "" },
};

START_TEST(test_parse_bad)
{
	MAKE_ARGV(bad_lines[_i].argv)

	ck_assert_int_lt(options_parse(&table, &config, argc, argv, &err), 0);
	check_error(&err, ERROR_USAGE, bad_lines[_i].message);
	ck_assert_msg(strstr(err.hint, bad_lines[_i].hint) != NULL, "hint '%s'", err.hint);
}
END_TEST

/* Operands between the parts of a line: a flag behind them is the second one all the same. */
START_TEST(test_parse_parts)
{
	static char run[] = "run", c[] = "-c3", operand[] = "x", list[] = "-ia", again[] = "-c4";
	char *const line[] = { run, c, list, operand, list, again };
	uint64_t given = 0;

	ck_assert_int_eq(options_parse_part(&table, &config, &given, 6, line, &err), 3);
	ck_assert_int_lt(options_parse_part(&table, &config, &given, 3, line + 3, &err), 0);
	check_error(&err, ERROR_USAGE, "-c (--cpus) is given twice");
	ck_assert_int_eq(config.list_count, 2);
	ck_assert_uint_eq(config.cpus, 3);
}
END_TEST

/* Operands move to the front, wherever they stood. */
START_TEST(test_parse_all)
{
	static char run[] = "run", c[] = "-c3", a[] = "a", b[] = "-b", quiet[] = "-q", end[] = "--",
		    bad[] = "--falg";
	char *line[] = { run, a, c, quiet, end, b, a };
	char *wrong[] = { run, a, bad };
	uint64_t given = 1;

	config.memory = 1;
	ck_assert_int_eq(options_parse_all(&table, &config, &given, 7, line, &err), 3);
	ck_assert_str_eq(line[1], "a");
	ck_assert_str_eq(line[2], "-b");
	ck_assert_str_eq(line[3], "a");
	ck_assert(config.quiet && !config.flag);
	ck_assert_uint_eq(config.cpus, 3);
	ck_assert_uint_eq(config.memory, MIB(512));
	ck_assert(options_given(&table, given, "cpus"));
	ck_assert(!options_given(&table, given, "memory"));
	ck_assert_int_lt(options_parse_all(&table, &config, &given, 3, wrong, &err), 0);
	check_error(&err, ERROR_USAGE, "unknown flag '--falg'");
	ck_assert_int_eq(options_parse_all(&table, &config, &given, 0, wrong, &err), 0);
}
END_TEST

START_TEST(test_parse_nothing)
{
	ck_assert_int_eq(options_parse(&table, &config, 0, (char *const[]){ NULL }, &err), 1);
}
END_TEST

static const struct {
	const char *text, *name;
	uint32_t cpus;
	bool flag;
	int items;
} keys[] = {
	{ "disk.img", "disk.img", 2, false, 0 },
	{ "disk.img,flag", "disk.img", 2, true, 0 },
	{ "name=disk.img,cpus=3,flag", "disk.img", 3, true, 0 },
	{ "cpus=3,name=x", "x", 3, false, 0 },
	{ "flag,cpus=4", "flag", 4, false, 0 }, /* the first one may stand without its key */
	{ "cpus=4,flag", NULL, 4, true, 0 },
	{ "a,,b", "a,b", 2, false, 0 },
	{ "a,,,cpus=5", "a,", 5, false, 0 },
	{ ",,", ",", 2, false, 0 },
	{ "name=a,,b,,,,c,flag", "a,b,,c", 2, true, 0 },
	{ "/tmp/x=y.img,flag", "/tmp/x=y.img", 2, true, 0 },
	{ "name=x=y", "x=y", 2, false, 0 },
	{ "item=1,item=2,item=3", NULL, 2, false, 3 },
};

START_TEST(test_keys)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "%s", keys[_i].text);
	check_ok(options_parse_keys(&table, &config, "--disk", text, &err), &err);
	ck_assert_pstr_eq(config.name, keys[_i].name);
	ck_assert_uint_eq(config.cpus, keys[_i].cpus);
	ck_assert_int_eq(config.flag, keys[_i].flag);
	ck_assert_int_eq(config.list_count, keys[_i].items);
}
END_TEST

static const struct {
	const char *text, *message, *hint;
} bad_keys[] = {
	{ "", "--disk: the value is empty", "" },
	{ ",flag", "--disk: the value is empty", "" },
	{ "x,", "nothing stands before or after a comma", "two" },
	{ "x,flag,", "nothing stands", "" },
	{ "x,flga", "--disk: unknown key 'flga'",
	  "did you mean 'flag'? The keys are: name, memory" },
	{ "x,zzzzz=1", "unknown key 'zzzzz'", "the keys are: name, " },
	{ "x,cpus", "--disk key 'cpus': needs a value: a whole number from 1 to 32", "" },
	{ "x,cpus=", "--disk key 'cpus': the value is empty", "" },
	{ "x,cpus=99", "--disk key 'cpus': '99' is too large", "" },
	{ "x,flag=on", "--disk key 'flag': takes no value", "" },
	{ "x,flag,flag", "key 'flag' is given twice", "" },
	{ "x,name=y", "key 'name' is given twice", "" },
	{ "x,=1", "unknown key ''", "" },
	{ "x,CPUS=1", "unknown key 'CPUS'", "" },
	{ "x\x01y", "control character 0x01", "" },
};

START_TEST(test_keys_bad)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "%s", bad_keys[_i].text);
	ck_assert_int_lt(options_parse_keys(&table, &config, "--disk", text, &err), 0);
	check_error(&err, ERROR_USAGE, bad_keys[_i].message);
	check_error(&err, ERROR_USAGE, "--disk");
	ck_assert_msg(strstr(err.hint, bad_keys[_i].hint) != NULL, "hint '%s'", err.hint);
}
END_TEST

START_TEST(test_keys_without_first)
{
	const struct option_table no_first = { .name = "net",
					       .options = option_list + 1,
					       .count = ARRAY_SIZE(option_list) - 1 };
	char good[] = "cpus=7,flag", bad[] = "eth0", flag[] = "flag";

	check_ok(options_parse_keys(&no_first, &config, "--net", good, &err), &err);
	ck_assert_uint_eq(config.cpus, 7);
	ck_assert_int_lt(options_parse_keys(&no_first, &config, "--net", bad, &err), 0);
	check_error(&err, ERROR_USAGE, "--net: unknown key 'eth0'");
	check_ok(options_parse_keys(&no_first, &config, "--net", flag, &err), &err);
}
END_TEST

START_TEST(test_help)
{
	static char text[8192], small[64], whole[8192];
	struct option long_option[] = {
		{ .name = "name",
		  .letter = 'n',
		  .type = OPTION_STRING,
		  .argument = "NAME",
		  .help = "short" },
		{ .name = "a-very-long-name-of-an-option",
		  .type = OPTION_SIZE,
		  .unit = "1M to 2M",
		  .fallback = "1M",
		  .help = "words that go on and on until they need a second line because a "
			  "terminal is only so wide and no wider" },
		{ .name = "ro", .type = OPTION_FLAG, .help = "read only" },
	};
	struct option_table t = { .name = "t", .options = long_option, .count = 3 };
	size_t need = options_help(&t, text, sizeof(text));
	char *line;

	ck_assert_uint_eq(need, strlen(text));
	ck_assert_ptr_nonnull(strstr(text, "  -n, --name NAME  short\n"));
	ck_assert_ptr_nonnull(strstr(text, "      --ro         read only\n"));
	ck_assert_ptr_nonnull(strstr(text, "      --a-very-long-name-of-an-option SIZE\n"));
	ck_assert_ptr_nonnull(strstr(text, "(1M to 2M, default 1M)\n"));
	/* As snprintf: the length needed, whatever fits, always terminated. */
	for (size_t size = 0; size <= sizeof(small); size++) {
		memset(small, 'x', sizeof(small));
		ck_assert_uint_eq(options_help(&t, small, size), need);
		if (size != 0) {
			ck_assert_uint_eq(strlen(small), size - 1);
			ck_assert_int_eq(strncmp(small, text, size - 1), 0);
		}
	}
	ck_assert_uint_eq(options_help(&t, NULL, 0), need);
	for (line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		ck_assert_uint_le(strlen(line), 100);
	}
	t.keys = true;
	(void)options_help(&t, text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, "  name=NAME  short\n"));
	ck_assert_ptr_nonnull(strstr(text, "  ro         read only\n"));
	(void)options_help(&table, whole, sizeof(whole));
	ck_assert_ptr_nonnull(strstr(whole, "-m, --memory SIZE"));
	ck_assert_ptr_nonnull(strstr(whole, "(default safe)"));
}
END_TEST

CHECK_MAIN("options", CHECK_FIXTURE(setup, NULL); CHECK_TEST(test_defaults);
	   CHECK_TEST(test_bad_default); CHECK_TABLE(test_number, numbers);
	   CHECK_TABLE(test_refused, refused); CHECK_TEST(test_set_others);
	   CHECK_TEST(test_long_value); CHECK_TABLE(test_parse, lines);
	   CHECK_TABLE(test_parse_bad, bad_lines); CHECK_TEST(test_parse_nothing);
	   CHECK_TEST(test_parse_parts); CHECK_TEST(test_parse_all); CHECK_TABLE(test_keys, keys);
	   CHECK_TABLE(test_keys_bad, bad_keys); CHECK_TEST(test_keys_without_first);
	   CHECK_TEST(test_help))
