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

static bool find(const struct option_table *table, const char *name, size_t len,
		 struct option_iter *ret)
{
	return option_find(table, NAMES_COMMAND_LINE, name, len, ret);
}

static bool find_letter(const struct option_table *table, char letter, struct option_iter *ret)
{
	struct option_iter at = option_iter(table);

	while (option_next(&at)) {
		if (letter != '\0' && at.option->name != NULL && at.option->letter == letter) {
			*ret = at;
			return true;
		}
	}
	return false;
}

static void clear(const struct option *option, void *member)
{
	static const size_t sizes[] = {
		[OPTION_FLAG] = sizeof(bool),	   [OPTION_BOOL] = sizeof(bool),
		[OPTION_STRING] = sizeof(char *),  [OPTION_U32] = sizeof(uint32_t),
		[OPTION_SIZE] = sizeof(uint64_t),  [OPTION_DURATION] = sizeof(uint64_t),
		[OPTION_ENUM] = sizeof(int),	   [OPTION_MAC] = 6,
		[OPTION_FD] = sizeof(int),	   [OPTION_LIST] = 0,
		[OPTION_U64] = sizeof(uint64_t),   [OPTION_OBJECT] = 0,
		[OPTION_OBJECTS] = sizeof(void *), [OPTION_INCLUDE] = 0,
	};

	if (option->type == OPTION_FD) {
		*(int *)member = -1; /* 0 is standard input */
	} else {
		memset(member, 0, sizes[option->type]);
	}
}

/* Tables nest as deep as their structs do. */
static int set_defaults(const struct option_table *table, void *object, bool theirs,
			struct error *e)
{
	struct option_iter at = option_iter(table);

	while (option_next(&at)) {
		const struct option *option = at.option;
		const char *fallback =
			theirs && option->theirs != NULL ? option->theirs : option->fallback;
		char *owner = (char *)object + at.base;
		int r = 0;

		clear(option, owner + option->offset);
		if (option->present != 0) {
			*((bool *)owner + option->present - 1) = false;
		}
		if (option->type == OPTION_OBJECT) {
			r = set_defaults(option->object, owner + option->offset, theirs, e);
		} else if (fallback != NULL) {
			const char *name = option->name != NULL ? option->name : option->json;

			r = option_set_value(option, owner, name != NULL ? name : "?", fallback, e);
		}
		if (r < 0) {
			return error_prefix(e, "default of option table '%s'", table->name);
		}
	}
	return 0;
}

int options_defaults(const struct option_table *table, void *object, struct error *e)
{
	return set_defaults(table, object, false, e);
}

int options_their_defaults(const struct option_table *table, void *object, struct error *e)
{
	return set_defaults(table, object, true, e);
}

const char *options_foreign(const struct option_foreign *list, const char *word, size_t len)
{
	for (; list != NULL && list->words != NULL; list++) {
		size_t size;

		for (const char *at = list->words; *at != '\0'; at += size + (at[size] == ' ')) {
			size = strcspn(at, " ");
			if (size == len && memcmp(at, word, len) == 0) {
				return list->here;
			}
		}
	}
	return NULL;
}

/* What another program's flag is here; NULL if it is nobody's. `word` has its dashes. */
static const char *find_foreign(const struct option_table *table, const char *word)
{
	return options_foreign(table->foreign, word, strcspn(word, "="));
}

static int foreign_flag(const char *word, const char *here, struct error *e)
{
	error_set(e, ERROR_USAGE, EINVAL, "unknown flag '%.*s'",
		  (int)MIN(strcspn(word, "="), (size_t)NAME_MAX_BYTES), word);
	return error_hint(e, "%s", here);
}

static int unknown_flag(const struct option_table *table, const char *name, size_t len,
			struct error *e)
{
	const char *meant = option_nearest(table, NAMES_COMMAND_LINE, name, len);

	error_set(e, ERROR_USAGE, EINVAL, "unknown flag '--%.*s'",
		  (int)MIN(len, (size_t)NAME_MAX_BYTES), name);
	if (meant != NULL) {
		return error_hint(e, "did you mean --%s?", meant);
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
	struct option_iter at;

	if (strcmp(text, "--") == 0) {
		return true;
	}
	return text[0] == '-' && text[1] == '-' &&
	       find(table, text + 2, strcspn(text + 2, "="), &at);
}

/* A command line on its way into an object. */
struct parse {
	const struct option_table *table;
	void *object;
	uint64_t *given; /* a bit for each option of the table */
	int argc, at;	 /* the word that is looked at */
	char *const *argv;
};

static int note_given(const struct parse *parse, const struct option_iter *found, const char *what,
		      const char *text, struct error *e)
{
	enum option_type type = found->option->type;
	uint64_t bit;

	VMM_BUG_ON(found->index >= 64);
	bit = 1ULL << found->index;
	if ((*parse->given & bit) != 0 && type != OPTION_LIST && type != OPTION_FLAG) {
		(void)error_set(e, ERROR_USAGE, EINVAL, "%s is given %s", what,
				found->option->more_of == NULL ? "twice" : "too often");
		return error_hint(e, "'%.*s' would replace what came before: leave one of them out",
				  NAME_MAX_BYTES, text);
	}
	*parse->given |= bit;
	return 0;
}

/* A flag that is given again goes to the next option that is more of it. */
static struct option_iter free_place(const struct parse *parse, const struct option_iter *found)
{
	struct option_iter place = *found, next = *found;

	while ((*parse->given >> place.index & 1) != 0 && option_next(&next) &&
	       next.option->more_of != NULL &&
	       strcmp(next.option->more_of, found->option->name) == 0) {
		place = next;
	}
	return place;
}

/* The argument of the option is `attached` or the next word; `at` is moved to the last word that was
 * used. */
static int set_with_argument(struct parse *parse, const struct option_iter *found, const char *what,
			     const char *attached, struct error *e)
{
	const struct option *option = found->option;
	struct option_iter place;
	int r;

	if (attached == NULL && option->type != OPTION_FLAG) {
		if (parse->at + 1 >= parse->argc) {
			return needs_value(option, what, NULL, e);
		}
		if (is_flag(parse->table, parse->argv[parse->at + 1])) {
			return needs_value(option, what, parse->argv[parse->at + 1], e);
		}
		attached = parse->argv[++parse->at];
	}
	place = free_place(parse, found);
	r = note_given(parse, &place, what, attached, e);
	return r == 0 ? options_set(place.option, (char *)parse->object + place.base, what,
				    attached, e)
		      : r;
}

static int parse_long(struct parse *parse, struct error *e)
{
	const char *word = parse->argv[parse->at];
	const char *name = word + 2;
	size_t len = strcspn(name, "=");
	struct option_iter found;
	char what[NAME_MAX_BYTES + 3];

	if (!find(parse->table, name, len, &found)) {
		const char *here = find_foreign(parse->table, word);

		return here != NULL ? foreign_flag(word, here, e)
				    : unknown_flag(parse->table, name, len, e);
	}
	(void)snprintf(what, sizeof(what), "--%s", found.option->name);
	return set_with_argument(parse, &found, what, name[len] == '=' ? name + len + 1 : NULL, e);
}

/* "-q", "-m512M", "-m 512M", "-m=512M", "-qm512M" */
static int parse_short(struct parse *parse, struct error *e)
{
	const struct option_table *table = parse->table;
	const char *word = parse->argv[parse->at];
	const char *here = find_foreign(table, word);
	size_t len = strcspn(word + 1, "=");
	struct option_iter found;

	/* Others have long flags with one dash: what they mean comes before what the letters say. */
	if (here != NULL) {
		return foreign_flag(word, here, e);
	}
	if (len > 1 && find(table, word + 1, len, &found)) {
		error_set(e, ERROR_USAGE, EINVAL, "unknown flag '%.*s'", NAME_MAX_BYTES, word);
		return error_hint(e, "did you mean -%.*s, with two dashes?", NAME_MAX_BYTES, word);
	}
	for (const char *p = word + 1; *p != '\0'; p++) {
		char what[NAME_MAX_BYTES + 8];
		const char *attached = NULL;
		int r;

		if (!find_letter(table, *p, &found)) {
			error_set(e, ERROR_USAGE, EINVAL, "unknown flag '-%c' in '%.*s'", *p,
				  NAME_MAX_BYTES, word);
			return error_hint(e, "vmm %s --help lists the flags", table->name);
		}
		(void)snprintf(what, sizeof(what), "-%c (--%s)", *p, found.option->name);
		if (found.option->type != OPTION_FLAG && p[1] != '\0') {
			attached = p[1] == '=' ? p + 2 : p + 1;
		}
		r = set_with_argument(parse, &found, what, attached, e);
		if (r < 0 || found.option->type != OPTION_FLAG) {
			return r;
		}
	}
	return 0;
}

int options_parse_part(const struct option_table *table, void *object, uint64_t *given, int argc,
		       char *const argv[], struct error *e)
{
	struct parse parse = { .table = table,
			       .object = object,
			       .given = given,
			       .argc = argc,
			       .at = 1,
			       .argv = argv };

	for (; parse.at < argc && argv[parse.at][0] == '-' && argv[parse.at][1] != '\0';
	     parse.at++) {
		int r;

		if (strcmp(argv[parse.at], "--") == 0) {
			return parse.at + 1;
		}
		r = argv[parse.at][1] == '-' ? parse_long(&parse, e) : parse_short(&parse, e);
		if (r < 0) {
			return r;
		}
	}
	return MIN(parse.at, MAX(argc, 1));
}

int options_parse(const struct option_table *table, void *object, int argc, char *const argv[],
		  struct error *e)
{
	uint64_t given = 0;

	return options_parse_part(table, object, &given, argc, argv, e);
}

int options_parse_all(const struct option_table *table, void *object, uint64_t *given, int argc,
		      char *argv[], struct error *e)
{
	int r = options_defaults(table, object, e);
	int operands = 0;

	*given = 0;
	/* Each round parses flags up to an operand, which then stands where the next round expects
	 * the command's name. */
	for (int at = 0; r >= 0 && at < argc;) {
		r = options_parse_part(table, object, given, argc - at, argv + at, e);
		if (r < 0) {
			break;
		}
		at += r;
		if (r > 1 && strcmp(argv[at - 1], "--") == 0) {
			while (at < argc) {
				argv[++operands] = argv[at++];
			}
		} else if (at < argc) {
			argv[++operands] = argv[at];
		}
	}
	return r < 0 ? r : operands;
}

bool options_given(const struct option_table *table, uint64_t given, const char *name)
{
	struct option_iter found;

	return find(table, name, strlen(name), &found) && (given >> found.index & 1) != 0;
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

static bool find_first(const struct option_table *table, struct option_iter *ret)
{
	struct option_iter at = option_iter(table);

	while (option_next(&at)) {
		if (at.option->first) {
			*ret = at;
			return true;
		}
	}
	return false;
}

static int unknown_key(const struct option_table *table, const char *what, const char *key,
		       size_t len, struct error *e)
{
	const char *meant = option_nearest(table, NAMES_COMMAND_LINE, key, len);
	char keys[200];

	option_list_names(table, NAMES_COMMAND_LINE, keys, sizeof(keys));
	error_set(e, ERROR_USAGE, EINVAL, "%s: unknown key '%.*s'", what,
		  (int)MIN(len, (size_t)NAME_MAX_BYTES), key);
	if (meant != NULL) {
		return error_hint(e, "did you mean '%s'? The keys are: %s", meant, keys);
	}
	return error_hint(e, "the keys are: %s; a comma inside a value is written as two", keys);
}

/* Sets one part of a device string. Returns the option that it named in *ret. */
static int set_part(const struct option_table *table, void *object, const char *what, char *part,
		    bool is_first, struct option_iter *ret, struct error *e)
{
	size_t len = strcspn(part, "=");
	bool known = find(table, part, len, ret);
	const struct option *option;
	char name[2 * NAME_MAX_BYTES];

	if (is_first && (!known || part[len] == '\0') && find_first(table, ret)) {
		return options_set(ret->option, (char *)object + ret->base, what, part, e);
	}
	if (part[0] == '\0') {
		error_set(e, ERROR_USAGE, EINVAL, "%s: nothing stands before or after a comma",
			  what);
		return error_hint(e, "a comma inside a value is written as two");
	}
	if (!known) {
		return unknown_key(table, what, part, len, e);
	}
	option = ret->option;
	(void)snprintf(name, sizeof(name), "%s key '%s'", what, option->name);
	if (part[len] == '\0' && option->type != OPTION_FLAG) {
		return needs_value(option, name, NULL, e);
	}
	return options_set(option, (char *)object + ret->base, name,
			   part[len] == '=' ? part + len + 1 : NULL, e);
}

int options_parse_keys(const struct option_table *table, void *object, const char *what, char *text,
		       struct error *e)
{
	bool is_first = true;
	uint64_t given = 0;

	while (text != NULL) {
		struct option_iter found;
		char *part = text;
		uint64_t bit;
		int r;

		text = split_part(part);
		r = set_part(table, object, what, part, is_first, &found, e);
		if (r < 0) {
			return r;
		}
		VMM_BUG_ON(found.index >= 64);
		bit = 1ULL << found.index;
		if ((given & bit) != 0 && found.option->type != OPTION_LIST) {
			return error_set(e, ERROR_USAGE, EINVAL, "%s: key '%s' is given twice",
					 what, found.option->name);
		}
		given |= bit;
		is_first = false;
	}
	return 0;
}
