/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One option's value: from text to the member of the object. Syntax is strict: no signs, no spaces,
 * no fractions, nothing behind the number; what does not fit the type or the range is refused, and
 * the message says what is accepted.
 *
 * Pure functions of their arguments; any thread.
 */
#include "vmm/options.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "options_internal.h"
#include "vmm/overflow.h"
#include "vmm/text.h"

#define NS_PER_MS 1000000ULL
#define NS_PER_S  1000000000ULL
#define SHOWN	  80 /* bytes of a bad value that a message repeats */

struct unit {
	const char *suffix;
	uint64_t factor;
};

static const struct unit size_units[] = {
	{ "", 1 },	    { "K", KIB(1) },	{ "KiB", KIB(1) },
	{ "M", MIB(1) },    { "MiB", MIB(1) },	{ "G", GIB(1) },
	{ "GiB", GIB(1) },  { "T", GIB(1024) }, { "TiB", GIB(1024) },
	{ "k", KIB(1) },    { "m", MIB(1) },	{ "g", GIB(1) },
	{ "t", GIB(1024) }, { NULL, 0 },
};
static const struct unit duration_units[] = {
	{ "", NS_PER_S },	{ "s", NS_PER_S },	  { "ms", NS_PER_MS },
	{ "m", 60 * NS_PER_S }, { "h", 3600 * NS_PER_S }, { NULL, 0 },
};
static const struct unit plain_units[] = { { "", 1 }, { NULL, 0 } };

static const struct option_value switches[] = {
	{ "on", 1 },  { "off", 0 }, { "true", 1 }, { "false", 0 },
	{ "yes", 1 }, { "no", 0 },  { NULL, 0 },
};

enum number { NUMBER_OK, NUMBER_SYNTAX, NUMBER_RANGE };

/* The text of a number in the option's own syntax. */
static void show_number(char *buf, size_t size, enum option_type type, uint64_t n)
{
	const struct unit *best = plain_units;
	const struct unit *units = type == OPTION_SIZE	     ? size_units
				   : type == OPTION_DURATION ? duration_units
							     : plain_units;

	for (; units->suffix != NULL; units++) {
		if (units->factor > best->factor && n != 0 && n % units->factor == 0) {
			best = units;
		}
	}
	(void)snprintf(buf, size, "%" PRIu64 "%s%s", n / best->factor, best->suffix,
		       type == OPTION_DURATION && best == plain_units ? "ns" : "");
}

void option_join_values(char *buf, size_t size, const struct option_value *values)
{
	size_t len = 0;

	buf[0] = '\0';
	for (; values != NULL && values->name != NULL && len < size; values++) {
		len += (size_t)snprintf(buf + len, size - len, "%s%s", len == 0 ? "" : ", ",
					values->name);
	}
}

uint64_t option_upper_bound(const struct option *option)
{
	if (option->max != 0) {
		return option->max;
	}
	return option->type == OPTION_U32 ? UINT32_MAX : UINT64_MAX;
}

static void describe_range(const struct option *option, char *buf, size_t size)
{
	char low[32], high[32];

	buf[0] = '\0';
	if (option->unit != NULL) {
		(void)snprintf(buf, size, ", %s", option->unit);
	} else if (option->min != 0 || option->max != 0) {
		show_number(low, sizeof(low), option->type, option->min);
		show_number(high, sizeof(high), option->type, option_upper_bound(option));
		(void)snprintf(buf, size, option->max != 0 ? " from %s to %s" : ", at least %s",
			       low, high);
	}
}

void option_describe(const struct option *option, char *buf, size_t size)
{
	char detail[200];

	describe_range(option, detail, sizeof(detail));
	switch (option->type) {
	case OPTION_U32:
	case OPTION_U64:
		(void)snprintf(buf, size, "a whole number%s", detail);
		break;
	case OPTION_SIZE:
		(void)snprintf(buf, size, "a size such as 512M or 2G%s", detail);
		break;
	case OPTION_DURATION:
		(void)snprintf(buf, size, "a duration such as 30s, 500ms or 5m%s", detail);
		break;
	case OPTION_BOOL:
		(void)snprintf(buf, size, "on or off");
		break;
	case OPTION_ENUM:
		option_join_values(detail, sizeof(detail), option->values);
		(void)snprintf(buf, size, "one of: %s", detail);
		break;
	case OPTION_MAC:
		(void)snprintf(buf, size, "a unicast MAC address such as 52:54:00:12:34:56");
		break;
	case OPTION_FD:
		(void)snprintf(buf, size, "the number of an open file descriptor");
		break;
	case OPTION_FLAG:
	case OPTION_STRING:
	case OPTION_LIST:
	case OPTION_OBJECT:
	case OPTION_OBJECTS:
	case OPTION_INCLUDE:
		(void)snprintf(buf, size, "%s",
			       option->argument != NULL ? option->argument : "text");
		break;
	}
}

void options_accepted(const struct option *option, char *buf, size_t size)
{
	option_describe(option, buf, size);
}

static int refuse(const struct option *option, const char *what, const char *text, const char *why,
		  struct error *e)
{
	char accepted[256];

	option_describe(option, accepted, sizeof(accepted));
	return error_set(e, ERROR_USAGE, EINVAL, "%s: '%.*s' is %s; accepted is %s", what, SHOWN,
			 text, why, accepted);
}

static enum number parse_number(const char *text, const struct unit *units, uint64_t *ret)
{
	uint64_t n = 0;
	const char *p = text;
	bool overflow = false;

	for (; *p >= '0' && *p <= '9'; p++) {
		overflow |= mul_overflow(n, 10, &n) || add_overflow(n, (uint64_t)(*p - '0'), &n);
	}
	if (p == text) {
		return NUMBER_SYNTAX;
	}
	for (; units->suffix != NULL; units++) {
		if (strcmp(p, units->suffix) == 0) {
			overflow |= mul_overflow(n, units->factor, &n);
			*ret = n;
			return overflow ? NUMBER_RANGE : NUMBER_OK;
		}
	}
	return NUMBER_SYNTAX;
}

/* Units as people write them, small letters. */
static const struct meant {
	const char *suffix, *unit;
	uint32_t times;
} meant_sizes[] = {
	{ "kb", "K", 1 },  { "kib", "K", 1 }, { "mb", "M", 1 },	 { "mib", "M", 1 }, { "gb", "G", 1 },
	{ "gib", "G", 1 }, { "tb", "T", 1 },  { "tib", "T", 1 }, { "ki", "K", 1 },  { "mi", "M", 1 },
	{ "gi", "G", 1 },  { "ti", "T", 1 },  { "k", "K", 1 },	 { "m", "M", 1 },   { "g", "G", 1 },
	{ "t", "T", 1 },   { NULL, NULL, 0 },
}, meant_durations[] = {
	{ "sec", "s", 1 },     { "secs", "s", 1 },    { "second", "s", 1 },
	{ "seconds", "s", 1 }, { "min", "m", 1 },     { "mins", "m", 1 },
	{ "minute", "m", 1 },  { "minutes", "m", 1 }, { "hr", "h", 1 },
	{ "hrs", "h", 1 },     { "hour", "h", 1 },    { "hours", "h", 1 },
	{ "d", "h", 24 },      { "day", "h", 24 },    { "days", "h", 24 },
	{ "s", "s", 1 },       { "h", "h", 1 },	      { NULL, NULL, 0 },
};

/* "2GB", "2 gb", "1.5G": what was meant, in our own syntax. */
static int hint_at_unit(const struct option *option, const char *text, struct error *e)
{
	const struct meant *meant = option->type == OPTION_SIZE ? meant_sizes : meant_durations;
	const char *units = "TGMK";
	size_t digits = strspn(text, "0123456789");
	const char *suffix = text + digits;
	unsigned long tenths = 0;
	uint64_t n;

	if (digits == 0 || digits > 9) {
		return -EINVAL;
	}
	n = strtoull(text, NULL, 10);
	if (option->type == OPTION_SIZE && suffix[0] == '.' && suffix[1] >= '0' &&
	    suffix[1] <= '9') {
		tenths = (unsigned long)(suffix[1] - '0');
		suffix += 2;
	}
	suffix += strspn(suffix, " ");
	while (meant->suffix != NULL && strcasecmp(meant->suffix, suffix) != 0) {
		meant++;
	}
	if (meant->suffix == NULL) {
		return -EINVAL;
	}
	if (tenths == 0) {
		return error_hint(e, "did you mean %" PRIu64 "%s?", n * meant->times, meant->unit);
	}
	units = strchr(units, meant->unit[0]);
	return units != NULL && units[1] != '\0'
		       ? error_hint(e, "did you mean %" PRIu64 "%c?", n * 1024 + tenths * 1024 / 10,
				    units[1])
		       : -EINVAL;
}

static int number_value(const struct option *option, const char *what, const char *text,
			uint64_t *ret, struct error *e)
{
	const struct unit *units = plain_units;
	const char *kind = "not a whole number";
	enum number result;

	if (option->type == OPTION_SIZE) {
		units = size_units;
		kind = "not a size";
	} else if (option->type == OPTION_DURATION) {
		units = duration_units;
		kind = "not a duration";
	}
	result = parse_number(text, units, ret);
	if (result == NUMBER_SYNTAX) {
		int r = refuse(option, what, text, kind, e);

		if (units != plain_units) {
			(void)hint_at_unit(option, text, e);
		}
		return r;
	}
	if (result == NUMBER_OK && *ret < option->min) {
		return refuse(option, what, text, "too small", e);
	}
	if (result == NUMBER_RANGE || *ret > option_upper_bound(option)) {
		return refuse(option, what, text, "too large", e);
	}
	return 0;
}

bool option_is_value(const struct option *option, const struct option_value *value,
		     const char *text)
{
	return (option->any_case ? strcasecmp(value->name, text) : strcmp(value->name, text)) == 0;
}

static int named_value(const struct option *option, const struct option_value *values,
		       const char *what, const char *text, int *ret, struct error *e)
{
	for (const struct option_value *v = values; v != NULL && v->name != NULL; v++) {
		if (option_is_value(option, v, text)) {
			*ret = v->value;
			return 0;
		}
	}
	return refuse(option, what, text, "not known", e);
}

const char *option_parse_mac(const char *text, bool any, uint8_t *mac)
{
	static const uint8_t zero[6];
	uint8_t bytes[6];

	if (strlen(text) != 17) {
		return "not a MAC address";
	}
	for (size_t i = 0; i < sizeof(bytes); i++) {
		int high = hex_value(text[3 * i]), low = hex_value(text[3 * i + 1]);

		if (high < 0 || low < 0 || (i < 5 && text[3 * i + 2] != ':')) {
			return "not a MAC address";
		}
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	if (!any && (bytes[0] & 1) != 0) {
		return "a multicast address (its first byte is odd)";
	}
	if (!any && memcmp(bytes, zero, sizeof(bytes)) == 0) {
		return "the zero address";
	}
	memcpy(mac, bytes, sizeof(bytes));
	return NULL;
}

static int mac_value(const struct option *option, const char *what, const char *text, uint8_t *mac,
		     struct error *e)
{
	const char *why = option_parse_mac(text, false, mac);

	return why == NULL ? 0 : refuse(option, what, text, why, e);
}

static int fd_value(const struct option *option, const char *what, const char *text, int *fd,
		    struct error *e)
{
	uint64_t n;
	int r = number_value(option, what, text, &n, e);

	if (r < 0) {
		return r;
	}
	if (n > INT_MAX || fcntl((int)n, F_GETFD) < 0) {
		return refuse(option, what, text, "not an open descriptor", e);
	}
	*fd = (int)n;
	return 0;
}

/* Nothing that a terminal, a log or the guest's command line could take for something else. */
static int check_text(const struct option *option, const char *what, const char *text,
		      struct error *e)
{
	char accepted[256];

	if (text[0] == '\0') {
		option_describe(option, accepted, sizeof(accepted));
		return error_set(e, ERROR_USAGE, EINVAL, "%s: the value is empty; accepted is %s",
				 what, accepted);
	}
	for (size_t i = 0; text[i] != '\0'; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c < 0x20 || c == 0x7f) {
			return error_set(e, ERROR_USAGE, EINVAL,
					 "%s: control character 0x%02x at byte %zu of the value",
					 what, c, i + 1);
		}
	}
	return 0;
}

int option_set_value(const struct option *option, void *object, const char *what, const char *text,
		     struct error *e)
{
	void *member = (char *)object + option->offset;
	uint64_t number;
	int chosen;
	int r;

	if (option->type == OPTION_FLAG) {
		if (text != NULL) {
			return error_set(e, ERROR_USAGE, EINVAL,
					 "%s: takes no value, but '%.*s' is given", what, SHOWN,
					 text);
		}
		*(bool *)member = true;
		return 0;
	}
	r = option->verbatim && text != NULL
		    ? 0
		    : check_text(option, what, text == NULL ? "" : text, e);
	if (r < 0) {
		return r;
	}
	switch (option->type) {
	case OPTION_BOOL:
		r = named_value(option, switches, what, text, &chosen, e);
		if (r == 0) {
			*(bool *)member = chosen != 0;
		}
		return r;
	case OPTION_ENUM:
		return named_value(option, option->values, what, text, member, e);
	case OPTION_STRING:
		*(const char **)member = text;
		return 0;
	case OPTION_U32:
		r = number_value(option, what, text, &number, e);
		if (r == 0) {
			*(uint32_t *)member = (uint32_t)number;
		}
		return r;
	case OPTION_U64:
	case OPTION_SIZE:
	case OPTION_DURATION:
		r = number_value(option, what, text, &number, e);
		if (r == 0) {
			*(uint64_t *)member = number;
		}
		return r;
	case OPTION_MAC:
		return mac_value(option, what, text, member, e);
	case OPTION_FD:
		return fd_value(option, what, text, member, e);
	case OPTION_LIST:
		return option->add(object, text, e);
	case OPTION_FLAG:
	case OPTION_OBJECT:
	case OPTION_OBJECTS:
	case OPTION_INCLUDE:
		break;
	}
	return error_set(e, ERROR_INTERNAL, EINVAL, "%s: not an option with a value", what);
}

int options_set(const struct option *option, void *object, const char *what, const char *text,
		struct error *e)
{
	int r = option_set_value(option, object, what, text, e);

	if (r == 0 && option->present != 0) {
		*((bool *)object + option->present - 1) = true;
	}
	return r;
}
