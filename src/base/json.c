/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON text from files and peers (RFC 8259), read by jansson. Before jansson sees a text, a scan
 * that knows strings and little else counts how deep it nests: jansson's parser calls itself for
 * each level and would go down 2048 of them. Everything else that we want refused, jansson refuses
 * when it is asked to; here its reasons get our words, line and column.
 *
 * All of the text is hostile. Time is linear in its length: the scan is one pass, and keys are
 * hashed with a seed that a peer cannot know. Memory is linear too, but with a factor: an empty
 * object of 3 bytes ("{},") takes some 300, so the scan bounds the number of values as well.
 *
 * Pure functions of their arguments, any thread; the seed is the one exception, json_prepare() draws
 * it before there are threads.
 */
#include "vmm/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "vmm/cleanup.h"
#include "vmm/text.h"

#define LARGEST	    "9223372036854775807" /* number of jansson's */
#define LARGEST_LEN (sizeof(LARGEST) - 1)
#define PATH_SHOWN  160 /* bytes of a path that a message repeats */

void json_prepare(void)
{
	uint32_t seed = 0;

	/* What jansson does on its own costs an open, a read and a close of /dev/urandom. */
	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed)) {
		seed = 0;
	}
	json_object_seed(seed); /* 0: it draws one its own way */
}

struct scan {
	uint32_t depth;
	size_t values; /* at least as many as there are */
	bool in_string, escaped;
	size_t line, column;
};

static void scan_byte(struct scan *scan, unsigned char c)
{
	if (c == '\n') {
		scan->line++;
		scan->column = 0;
	} else if ((c & 0xc0) != 0x80) {
		scan->column++; /* characters, as jansson counts */
	}
	if (scan->escaped) {
		scan->escaped = false;
	} else if (c == '"') {
		scan->in_string = !scan->in_string;
	} else if (scan->in_string) {
		scan->escaped = c == '\\';
	} else if (c == '[' || c == '{') {
		scan->depth++;
		scan->values++;
	} else if (c == ',' || c == ':') {
		scan->values++;
	} else if ((c == ']' || c == '}') && scan->depth > 0) {
		scan->depth--;
	}
}

/*
 * Depth, and NUL bytes, which jansson swallows behind a number. What a text that is no JSON nests
 * like does not matter: jansson refuses it where it breaks the grammar, and has not gone deeper
 * before that than this scan.
 */
static int scan_text(const char *text, size_t len, struct error *e)
{
	struct scan scan = { .line = 1 };

	for (size_t i = 0; i < len; i++) {
		scan_byte(&scan, (unsigned char)text[i]);
		if (text[i] == '\0') {
			return error_set(e, ERROR_JSON, EINVAL,
					 "JSON, line %zu, column %zu: a NUL byte", scan.line,
					 scan.column);
		}
		if (scan.depth > JSON_DEPTH_MAX) {
			return error_set(
				e, ERROR_JSON, EINVAL,
				"JSON, line %zu, column %zu: more than %d levels of arrays "
				"and objects",
				scan.line, scan.column, JSON_DEPTH_MAX);
		}
		if (scan.values > JSON_VALUES_MAX) {
			return error_set(e, ERROR_TOO_LARGE, E2BIG,
					 "JSON, line %zu, column %zu: more than %d values",
					 scan.line, scan.column, JSON_VALUES_MAX);
		}
	}
	return 0;
}

/* Digits of a whole number of 64 bits that jansson, whose numbers are signed, does not take? */
static bool is_too_large(const char *digits, size_t count)
{
	return (count == LARGEST_LEN && memcmp(digits, LARGEST, count) > 0) ||
	       (count == LARGEST_LEN + 1 && digits[0] != '0' &&
		memcmp(digits, "18446744073709551615", count) <= 0);
}

/* A part of a number that is no digit. */
static bool continues_number(char c)
{
	return c == '.' || c == 'e' || c == 'E' || c == '+' || c == '-';
}

/*
 * Clients mean "no limit" by the largest number of 64 bits: such ones become the largest that there
 * is here, which is one too many for whatever has a limit. *copy stays NULL if there is none.
 */
static int saturate(const char *text, size_t len, char **copy)
{
	bool in_string = false;
	size_t digits;

	for (size_t i = 0; i < len; i += digits != 0 ? digits : 1) {
		for (digits = 0; !in_string && i + digits < len && text[i + digits] >= '0' &&
				 text[i + digits] <= '9';) {
			digits++;
		}
		if (text[i] == '"') {
			in_string = !in_string;
		} else if (in_string && text[i] == '\\') {
			i++;
		}
		if (!is_too_large(text + i, digits) || (i != 0 && continues_number(text[i - 1])) ||
		    (i + digits < len && continues_number(text[i + digits]))) {
			continue;
		}
		if (*copy == NULL) {
			*copy = malloc(len);
			if (*copy == NULL) {
				return -ENOMEM;
			}
			memcpy(*copy, text, len);
		}
		memset(*copy + i, ' ', digits);
		memcpy(*copy + i, LARGEST, LARGEST_LEN);
	}
	return 0;
}

/* jansson may cut what it quotes within a character; our messages are UTF-8. */
static void make_utf8(char *text)
{
	json_t *value = json_string(text);

	for (; value == NULL && *text != '\0'; text++) {
		if ((unsigned char)*text >= 0x80) {
			*text = '?';
		}
	}
	json_decref(value);
}

/* jansson's reason, or our words where its own speak of its programming interface. */
static int refuse(json_error_t *why, struct error *e)
{
	const char *text = why->text;

	make_utf8(why->text);
	switch (json_error_code(why)) {
	case json_error_out_of_memory:
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "JSON: out of memory");
	case json_error_null_character:
	case json_error_null_byte_in_key:
		text = "a NUL (\\u0000) inside a string";
		break;
	case json_error_numeric_overflow:
		text = strncmp(text, "too big", strlen("too big")) == 0
			       ? "an integer that does not fit into 64 bits"
			       : "a number that is too large";
		break;
	default:
		break;
	}
	return error_set(e, ERROR_JSON, EINVAL, "JSON, line %d, column %d: %s", why->line,
			 why->column, text);
}

int json_parse(json_t **ret, const char *text, size_t len, struct error *e)
{
	auto_free char *copy = NULL;
	json_error_t why;
	json_t *value;
	int r;

	if (len == 0 || text == NULL) {
		return error_set(e, ERROR_JSON, EINVAL, "JSON: the text is empty");
	}
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
		(void)error_set(e, ERROR_JSON, EINVAL, "JSON, line 1, column 1: a byte order mark");
		return error_hint(e, "JSON is UTF-8 without a mark at its start");
	}
	r = scan_text(text, len, e);
	if (r < 0) {
		return r;
	}
	if (saturate(text, len, &copy) < 0) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "JSON: out of memory");
	}
	value = json_loadb(copy != NULL ? copy : text, len,
			   JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
	if (value == NULL) {
		return refuse(&why, e);
	}
	*ret = value;
	return 0;
}

int json_read_file(json_t **ret, const char *path, size_t max, struct error *e)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	auto_free char *text = NULL;
	struct stat st;
	ssize_t len;
	int r;

	VMM_BUG_ON(max > GIB(1));
	if (fd < 0) {
		return error_set_sys(e, ERROR_CONFIG, errno, "open '%.*s'", PATH_SHOWN, path);
	}
	len = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size >= 0 ? st.st_size : 0;
	len = read_whole(fd, (size_t)len, max, &text);
	if (len < 0) {
		return error_set_sys(e, len == -ENOMEM ? ERROR_NO_MEMORY : ERROR_CONFIG, (int)-len,
				     "read '%.*s'", PATH_SHOWN, path);
	}
	if ((size_t)len > max) {
		return error_set(e, ERROR_TOO_LARGE, EFBIG, "'%.*s': larger than %zu bytes",
				 PATH_SHOWN, path, max);
	}
	r = json_parse(ret, text, (size_t)len, e);
	if (r < 0) {
		(void)error_prefix(e, "'%.*s'", PATH_SHOWN, path);
	}
	return r;
}

json_t *json_any_string(const char *text, const char *instead)
{
	json_t *value = json_string(text);
	size_t size = strlen(instead);
	char *copy, *end;

	if (value != NULL) {
		return value;
	}
	copy = malloc(size * strlen(text) + 1);
	for (end = copy; copy != NULL && *text != '\0';) {
		uint32_t character;
		size_t len = utf8_length(text, &character);

		memcpy(end, len != 0 ? text : instead, len != 0 ? len : size);
		end += len != 0 ? len : size;
		text += len != 0 ? len : 1;
	}
	value = copy != NULL ? json_stringn(copy, (size_t)(end - copy)) : NULL;
	free(copy);
	return value;
}

const char *json_unknown_key(const json_t *value, const char *const *known)
{
	/* The iteration does not change the object, its type just does not say so. */
	json_t *object = (json_t *)(uintptr_t)value;

	for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i)) {
		const char *key = json_object_iter_key(i);
		size_t k = 0;

		while (known[k] != NULL && strcmp(known[k], key) != 0) {
			k++;
		}
		if (known[k] == NULL) {
			return key;
		}
	}
	return NULL;
}

static char *dump(const json_t *value, size_t flags, size_t *len)
{
	char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | flags);

	if (text != NULL) {
		*len = strlen(text);
	}
	return text;
}

char *json_text(const json_t *value, size_t *len)
{
	return dump(value, JSON_SORT_KEYS, len);
}

char *json_text_in_order(const json_t *value, size_t *len)
{
	return dump(value, 0, len);
}
