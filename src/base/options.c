/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Option tables applied to a command line or to a device string. The text is the user's own, but
 * device strings will also come from configuration files and the API: every length and character is
 * checked, and messages repeat a bounded part of it.
 *
 * Pure functions of their arguments; any thread.
 */
#include "vmm/options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "options_internal.h"

#define NAME_MAX_BYTES 48 /* longer ones are not compared for a hint, and cut in messages */

static const struct option *find(const struct option_table *table, const char *name, size_t len)
{
	for (size_t i = 0; i < table->count; i++) {
		if (strlen(table->options[i].name) == len &&
		    memcmp(table->options[i].name, name, len) == 0) {
			return &table->options[i];
		}
	}
	return NULL;
}

static const struct option *find_letter(const struct option_table *table, char letter)
{
	for (size_t i = 0; i < table->count; i++) {
		if (letter != '\0' && table->options[i].letter == letter) {
			return &table->options[i];
		}
	}
	return NULL;
}

/* How many letters have to be changed, added, left out or swapped with a neighbour to get from `a`
 * to `b`. */
static size_t distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t rows[3][NAME_MAX_BYTES + 1] = { 0 };

	for (size_t j = 0; j <= b_len; j++) {
		rows[0][j] = j;
	}
	for (size_t i = 1; i <= a_len; i++) {
		size_t *row = rows[i % 3];
		const size_t *above = rows[(i + 2) % 3];
		const size_t *above2 = rows[(i + 1) % 3];

		row[0] = i;
		for (size_t j = 1; j <= b_len; j++) {
			size_t best = above[j - 1] + (a[i - 1] != b[j - 1]);

			best = MIN(best, above[j] + 1);
			best = MIN(best, row[j - 1] + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
				best = MIN(best, above2[j - 2] + 1);
			}
			row[j] = best;
		}
	}
	return rows[a_len % 3][b_len];
}

/* The option that was probably meant; NULL if none is near. */
static const struct option *nearest(const struct option_table *table, const char *name, size_t len)
{
	const struct option *found = NULL;
	size_t best = len / 3 + 1;

	if (len > NAME_MAX_BYTES) {
		return NULL;
	}
	for (size_t i = 0; i < table->count; i++) {
		const char *other = table->options[i].name;
		size_t other_len = strlen(other);
		size_t d;

		if (other_len > NAME_MAX_BYTES) {
			continue;
		}
		if (len >= 2 && len < other_len && memcmp(other, name, len) == 0) {
			return &table->options[i]; /* the beginning of it */
		}
		d = distance(name, len, other, other_len);
		if (d < best || (d == best && found == NULL)) {
			best = d;
			found = &table->options[i];
		}
	}
	return found;
}

int options_defaults(const struct option_table *table, void *object, struct error *e)
{
	static const size_t sizes[] = {
		[OPTION_FLAG] = sizeof(bool),	  [OPTION_BOOL] = sizeof(bool),
		[OPTION_STRING] = sizeof(char *), [OPTION_U32] = sizeof(uint32_t),
		[OPTION_SIZE] = sizeof(uint64_t), [OPTION_DURATION] = sizeof(uint64_t),
		[OPTION_ENUM] = sizeof(int),	  [OPTION_MAC] = 6,
		[OPTION_FD] = sizeof(int),	  [OPTION_LIST] = 0,
	};

	for (size_t i = 0; i < table->count; i++) {
		const struct option *option = &table->options[i];
		char *member = (char *)object + option->offset;

		if (option->type == OPTION_FD) {
			*(int *)(void *)member = -1; /* 0 is standard input */
		} else {
			memset(member, 0, sizes[option->type]);
		}
		if (option->present != 0) {
			*((bool *)object + option->present - 1) = false;
		}
		if (option->fallback != NULL) {
			int r = option_set_value(option, object, option->name, option->fallback, e);

			if (r < 0) {
				return error_prefix(e, "default of option table '%s'", table->name);
			}
		}
	}
	return 0;
}

static int unknown_flag(const struct option_table *table, const char *name, size_t len,
			struct error *e)
{
	const struct option *meant = nearest(table, name, len);

	error_set(e, ERROR_USAGE, EINVAL, "unknown flag '--%.*s'",
		  (int)MIN(len, (size_t)NAME_MAX_BYTES), name);
	if (meant != NULL) {
		return error_hint(e, "did you mean --%s?", meant->name);
	}
	return error_hint(e, "vmm %s --help lists the flags", table->name);
}

static int needs_value(const struct option *option, const char *what, const char *next,
		       struct error *e)
{
	char accepted[256];

	option_describe(option, accepted, sizeof(accepted));
	error_set(e, ERROR_USAGE, EINVAL, "%s: needs a value: %s", what, accepted);
	if (next != NULL) {
		return error_hint(
			e, "'%s' follows, which is a flag; if it is meant as the value: --%s=%s",
			next, option->name, next);
	}
	return -EINVAL;
}

/* True if `text` is a flag of this table rather than a value that happens to start with a dash. */
static bool is_flag(const struct option_table *table, const char *text)
{
	if (strcmp(text, "--") == 0) {
		return true;
	}
	return text[0] == '-' && text[1] == '-' &&
	       find(table, text + 2, strcspn(text + 2, "=")) != NULL;
}

/* The argument of `option` is `attached` or the next word of argv; *at is moved to the last word
 * that was used. */
static int set_with_argument(const struct option_table *table, const struct option *option,
			     void *object, const char *what, const char *attached, int argc,
			     char *const argv[], int *at, struct error *e)
{
	if (attached == NULL && option->type != OPTION_FLAG) {
		if (*at + 1 >= argc) {
			return needs_value(option, what, NULL, e);
		}
		if (is_flag(table, argv[*at + 1])) {
			return needs_value(option, what, argv[*at + 1], e);
		}
		attached = argv[++*at];
	}
	return options_set(option, object, what, attached, e);
}

static int parse_long(const struct option_table *table, void *object, int argc, char *const argv[],
		      int *at, struct error *e)
{
	const char *name = argv[*at] + 2;
	size_t len = strcspn(name, "=");
	const struct option *option = find(table, name, len);
	char what[NAME_MAX_BYTES + 3];

	if (option == NULL) {
		return unknown_flag(table, name, len, e);
	}
	(void)snprintf(what, sizeof(what), "--%s", option->name);
	return set_with_argument(table, option, object, what,
				 name[len] == '=' ? name + len + 1 : NULL, argc, argv, at, e);
}

/* "-q", "-m512M", "-m 512M", "-m=512M", "-qm512M" */
static int parse_short(const struct option_table *table, void *object, int argc, char *const argv[],
		       int *at, struct error *e)
{
	const char *word = argv[*at];
	size_t len = strcspn(word + 1, "=");

	if (len > 1 && find(table, word + 1, len) != NULL) {
		error_set(e, ERROR_USAGE, EINVAL, "unknown flag '%.*s'", NAME_MAX_BYTES, word);
		return error_hint(e, "did you mean -%.*s, with two dashes?", NAME_MAX_BYTES, word);
	}
	for (const char *p = word + 1; *p != '\0'; p++) {
		const struct option *option = find_letter(table, *p);
		char what[NAME_MAX_BYTES + 8];
		const char *attached = NULL;
		int r;

		if (option == NULL) {
			error_set(e, ERROR_USAGE, EINVAL, "unknown flag '-%c' in '%.*s'", *p,
				  NAME_MAX_BYTES, word);
			return error_hint(e, "vmm %s --help lists the flags", table->name);
		}
		(void)snprintf(what, sizeof(what), "-%c (--%s)", *p, option->name);
		if (option->type != OPTION_FLAG && p[1] != '\0') {
			attached = p[1] == '=' ? p + 2 : p + 1;
		}
		r = set_with_argument(table, option, object, what, attached, argc, argv, at, e);
		if (r < 0 || option->type != OPTION_FLAG) {
			return r;
		}
	}
	return 0;
}

int options_parse(const struct option_table *table, void *object, int argc, char *const argv[],
		  struct error *e)
{
	int at = 1;

	for (; at < argc && argv[at][0] == '-' && argv[at][1] != '\0'; at++) {
		int r;

		if (strcmp(argv[at], "--") == 0) {
			return at + 1;
		}
		r = argv[at][1] == '-' ? parse_long(table, object, argc, argv, &at, e)
				       : parse_short(table, object, argc, argv, &at, e);
		if (r < 0) {
			return r;
		}
	}
	return MIN(at, MAX(argc, 1));
}

/*
 * Ends the part that starts at `text` at its comma, turns doubled commas into single ones, and
 * returns the start of the next part, NULL after the last.
 */
static char *split_part(char *text)
{
	char *out = text;

	for (; *text != '\0'; text++) {
		if (*text == ',') {
			if (text[1] != ',') {
				*out = '\0';
				return text + 1;
			}
			text++;
		}
		*out++ = *text;
	}
	*out = '\0';
	return NULL;
}

static const struct option *first_option(const struct option_table *table)
{
	for (size_t i = 0; i < table->count; i++) {
		if (table->options[i].first) {
			return &table->options[i];
		}
	}
	return NULL;
}

static int unknown_key(const struct option_table *table, const char *what, const char *key,
		       size_t len, struct error *e)
{
	const struct option *meant = nearest(table, key, len);
	char keys[200] = "";
	size_t used = 0;

	for (size_t i = 0; i < table->count && used < sizeof(keys); i++) {
		used += (size_t)snprintf(keys + used, sizeof(keys) - used, "%s%s",
					 i == 0 ? "" : ", ", table->options[i].name);
	}
	error_set(e, ERROR_USAGE, EINVAL, "%s: unknown key '%.*s'", what,
		  (int)MIN(len, (size_t)NAME_MAX_BYTES), key);
	if (meant != NULL) {
		return error_hint(e, "did you mean '%s'? The keys are: %s", meant->name, keys);
	}
	return error_hint(e, "the keys are: %s; a comma inside a value is written as two", keys);
}

/* Sets one part of a device string. Returns the option that it named in *ret. */
static int set_part(const struct option_table *table, void *object, const char *what, char *part,
		    bool is_first, const struct option **ret, struct error *e)
{
	size_t len = strcspn(part, "=");
	const struct option *option = find(table, part, len);
	char name[2 * NAME_MAX_BYTES];

	if (is_first && (option == NULL || part[len] == '\0')) {
		const struct option *first = first_option(table);

		if (first != NULL) {
			*ret = first;
			return options_set(first, object, what, part, e);
		}
	}
	if (part[0] == '\0') {
		error_set(e, ERROR_USAGE, EINVAL, "%s: nothing stands before or after a comma",
			  what);
		return error_hint(e, "a comma inside a value is written as two");
	}
	if (option == NULL) {
		return unknown_key(table, what, part, len, e);
	}
	*ret = option;
	(void)snprintf(name, sizeof(name), "%s key '%s'", what, option->name);
	if (part[len] == '\0' && option->type != OPTION_FLAG) {
		return needs_value(option, name, NULL, e);
	}
	return options_set(option, object, name, part[len] == '=' ? part + len + 1 : NULL, e);
}

int options_parse_keys(const struct option_table *table, void *object, const char *what, char *text,
		       struct error *e)
{
	bool is_first = true;
	uint64_t given = 0;

	VMM_BUG_ON(table->count > 64);
	while (text != NULL) {
		const struct option *option = NULL;
		char *part = text;
		uint64_t bit;
		int r;

		text = split_part(part);
		r = set_part(table, object, what, part, is_first, &option, e);
		if (r < 0) {
			return r;
		}
		bit = 1ULL << (option - table->options);
		if ((given & bit) != 0 && option->type != OPTION_LIST) {
			return error_set(e, ERROR_USAGE, EINVAL, "%s: key '%s' is given twice",
					 what, option->name);
		}
		given |= bit;
		is_first = false;
	}
	return 0;
}
