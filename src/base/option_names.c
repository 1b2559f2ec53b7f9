/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options by name: walking a table with what it includes, finding an option by its name on command
 * lines or by its JSON key, and guessing which one a misspelt name means. Names come from the user
 * and, as JSON keys, from peers: the work for one is bounded by NAME_MAX_BYTES and the table.
 *
 * Pure functions of their arguments; any thread.
 */
#include <stdio.h>
#include <string.h>

#include "options_internal.h"

struct option_iter option_iter(const struct option_table *table)
{
	return (struct option_iter){ .levels = { { .table = table } }, .depth = 1 };
}

bool option_next(struct option_iter *at)
{
	while (at->depth > 0) {
		struct option_level *level = &at->levels[at->depth - 1];
		const struct option *option;

		if (level->next == level->table->count) {
			at->depth--;
			continue;
		}
		option = &level->table->options[level->next++];
		if (option->type == OPTION_INCLUDE) {
			VMM_BUG_ON(at->depth == OPTION_INCLUDE_DEPTH);
			at->levels[at->depth++] =
				(struct option_level){ .table = option->object,
						       .base = level->base + option->offset };
			continue;
		}
		at->index = at->begun ? at->index + 1 : 0;
		at->begun = true;
		at->option = option;
		at->base = level->base;
		return true;
	}
	return false;
}

const char *option_name(const struct option *option, enum option_names names)
{
	return names == NAMES_JSON ? option->json : option->name;
}

bool option_find(const struct option_table *table, enum option_names names, const char *name,
		 size_t len, struct option_iter *ret)
{
	struct option_iter at = option_iter(table);

	while (option_next(&at)) {
		const char *other = option_name(at.option, names);

		if (other != NULL && strlen(other) == len && memcmp(other, name, len) == 0) {
			*ret = at;
			return true;
		}
	}
	return false;
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

const char *option_nearest(const struct option_table *table, enum option_names names,
			   const char *name, size_t len)
{
	struct option_iter at = option_iter(table);
	const struct option *found = NULL;
	size_t best = len <= 3 ? 1 : len / 3 + 1;

	if (len > NAME_MAX_BYTES) {
		return NULL;
	}
	while (option_next(&at)) {
		const char *other = option_name(at.option, names);
		size_t other_len = other != NULL ? strlen(other) : 0;
		size_t d;

		if (other == NULL || other_len > NAME_MAX_BYTES) {
			continue;
		}
		if (len >= 2 && len < other_len && memcmp(other, name, len) == 0) {
			found = at.option; /* the beginning of it */
			break;
		}
		d = distance(name, len, other, other_len);
		if (d < best || (d == best && found == NULL)) {
			best = d;
			found = at.option;
		}
	}
	/* No other one in its place, either: that would not be what was meant. */
	return found != NULL && !found->careful ? option_name(found, names) : NULL;
}

const char *options_nearest(const struct option_table *table, const char *name)
{
	return option_nearest(table, NAMES_COMMAND_LINE, name, strlen(name));
}

void option_list_names(const struct option_table *table, enum option_names names, char *buf,
		       size_t size)
{
	struct option_iter at = option_iter(table);
	size_t used = 0;

	buf[0] = '\0';
	while (option_next(&at) && used < size) {
		const char *name = option_name(at.option, names);

		if (name != NULL) {
			used += (size_t)snprintf(buf + used, size - used, "%s%s",
						 used == 0 ? "" : ", ", name);
		}
	}
}
