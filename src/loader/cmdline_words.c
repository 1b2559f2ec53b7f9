/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The words of a command line as Linux takes them apart (lib/cmdline.c, next_arg()): between blanks,
 * but quotes keep blanks together, up to the "--" behind which words are init's. Pure.
 */
#include <string.h>

#include "internal.h"

#define BLANKS " \t\n\v\f\r"

/*
 * The next word at or behind `line`: *len gets its length, 0 at the end. As Linux' next_arg() has
 * it: quotes keep blanks together, a closing one at the end of the line may be missing.
 */
static const char *next_word(const char *line, size_t *len)
{
	bool quoted = false;
	size_t n = 0;

	line += strspn(line, BLANKS);
	while (line[n] != '\0' && (quoted || strchr(BLANKS, line[n]) == NULL)) {
		if (line[n] == '"') {
			quoted = !quoted;
		}
		n++;
	}
	*len = n;
	return line;
}

static bool is_end(const char *word, size_t len)
{
	return len == 0 || (len == 2 && memcmp(word, "--", 2) == 0);
}

static const char *find_word(const char *line, const char *text, bool whole, size_t *len)
{
	size_t want = strlen(text);

	for (const char *word = next_word(line, len); !is_end(word, *len);
	     word = next_word(word + *len, len)) {
		if ((whole ? *len == want : *len >= want) && memcmp(word, text, want) == 0) {
			return word;
		}
	}
	return NULL;
}

bool cmdline_has_word(const char *line, const char *word)
{
	size_t len;

	return find_word(line, word, true, &len) != NULL;
}

bool cmdline_has_prefix(const char *line, const char *prefix)
{
	size_t len;

	return find_word(line, prefix, false, &len) != NULL;
}

bool cmdline_remove_word(char *line, const char *word)
{
	bool found = false;
	const char *at;
	size_t len;

	while ((at = find_word(line, word, true, &len)) != NULL) {
		char *to = line + (at - line);
		size_t gap = len + strspn(at + len, BLANKS);

		found = true;
		if (at[gap] == '\0') {
			/* The last one takes the blanks before it along. */
			while (to > line && strchr(BLANKS, to[-1]) != NULL) {
				to--;
			}
		}
		memmove(to, at + gap, strlen(at + gap) + 1);
	}
	return found;
}
