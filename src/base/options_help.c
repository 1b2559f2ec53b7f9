/* SPDX-License-Identifier: Apache-2.0 */
/* `--help` from an option table: two columns, wrapped at 100. Pure functions of their arguments;
 * any thread. */
#include "vmm/options.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define WIDTH	 100
#define LEFT_MAX 34 /* a longer left column gets a line of its own */
#define GAP	 2

struct out {
	char *buf;
	size_t size;
	size_t len; /* needed so far, also what did not fit */
};

static void __printf_like(2, 3) put(struct out *out, const char *fmt, ...)
{
	size_t left = out->len < out->size ? out->size - out->len : 0;
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(left != 0 ? out->buf + out->len : NULL, left, fmt, args);
	va_end(args);
	if (n > 0) {
		out->len += (size_t)n;
	}
}

const char *options_placeholder(const struct option *option)
{
	static const char *const names[] = {
		[OPTION_FLAG] = "",	  [OPTION_BOOL] = "on|off", [OPTION_STRING] = "TEXT",
		[OPTION_U32] = "N",	  [OPTION_SIZE] = "SIZE",   [OPTION_DURATION] = "TIME",
		[OPTION_ENUM] = "CHOICE", [OPTION_MAC] = "MAC",	    [OPTION_FD] = "N",
		[OPTION_LIST] = "TEXT",	  [OPTION_U64] = "N",	    [OPTION_OBJECT] = "",
		[OPTION_OBJECTS] = "",	  [OPTION_INCLUDE] = "",
	};

	return option->argument != NULL && option->type != OPTION_FLAG ? option->argument
								       : names[option->type];
}

static void put_left(struct out *out, const struct option_table *table, const struct option *option)
{
	const char *argument = options_placeholder(option);

	if (table->keys) {
		put(out, "  %s%s%s", option->name, argument[0] != '\0' ? "=" : "", argument);
		return;
	}
	if (option->letter != '\0') {
		put(out, "  -%c, ", option->letter);
	} else {
		put(out, "      ");
	}
	put(out, "--%s%s%s", option->name, argument[0] != '\0' ? " " : "", argument);
}

static size_t left_width(const struct option_table *table, const struct option *option)
{
	struct out out = { 0 };

	put_left(&out, table, option);
	return out.len;
}

/* The help with range and default; cut at the buffer's end, which is longer than any help line. */
static void describe(const struct option *option, char *buf, size_t size)
{
	const char *separator = " (";
	struct out out = { .buf = buf, .size = size };

	put(&out, "%s", option->help != NULL ? option->help : "");
	if (option->unit != NULL) {
		put(&out, "%s%s", separator, option->unit);
		separator = ", ";
	}
	if (option->fallback != NULL) {
		put(&out, "%sdefault %s", separator, option->fallback);
		separator = ", ";
	}
	if (separator[0] == ',') {
		put(&out, ")");
	}
}

static void put_wrapped(struct out *out, const char *text, size_t indent)
{
	size_t room = WIDTH - indent;

	for (;;) {
		size_t len = strlen(text);

		if (len > room) {
			len = room;
			while (len > 0 && text[len] != ' ') {
				len--;
			}
			if (len == 0) {
				len = strcspn(text, " "); /* one word, longer than the column */
			}
		}
		put(out, "%.*s\n", (int)len, text);
		text += len;
		text += strspn(text, " ");
		if (*text == '\0') {
			return;
		}
		put(out, "%*s", (int)indent, "");
	}
}

size_t options_help(const struct option_table *table, char *buf, size_t size)
{
	struct out out = { .buf = buf, .size = size };
	struct option_iter at = option_iter(table);
	size_t column = 0;

	if (size != 0) {
		buf[0] = '\0';
	}
	while (option_next(&at)) {
		size_t width = at.option->name != NULL ? left_width(table, at.option) : 0;

		if (width <= LEFT_MAX) {
			column = MAX(column, width);
		}
	}
	column += GAP;
	at = option_iter(table);
	while (option_next(&at)) {
		char text[512];
		size_t width;

		if (at.option->name == NULL) {
			continue;
		}
		width = left_width(table, at.option);
		describe(at.option, text, sizeof(text));
		put_left(&out, table, at.option);
		if (width + GAP > column) {
			put(&out, "\n");
			width = 0;
		}
		put(&out, "%*s", (int)(column - width), "");
		put_wrapped(&out, text, column);
	}
	return out.len;
}
