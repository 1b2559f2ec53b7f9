/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: text to JSON. The bytes stand as they are, and, because few bytes are JSON by chance,
 * also as indexes into its tokens. Beyond crashes: a refusal says why in printable UTF-8 and little
 * of it, and what was accepted is not deep and reads back as itself.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t depth(const json_t *value)
{
	json_t *any = (json_t *)(uintptr_t)value;
	size_t deepest = 0;

	for (void *i = json_object_iter(any); i != NULL; i = json_object_iter_next(any, i)) {
		deepest = MAX(deepest, depth(json_object_iter_value(i)));
	}
	for (size_t i = 0; i < json_array_size(value); i++) {
		deepest = MAX(deepest, depth(json_array_get(value, i)));
	}
	return json_is_object(value) || json_is_array(value) ? deepest + 1 : 0;
}

static void check_error(const struct error *e)
{
	json_t *message = json_string(e->msg);

	VMM_BUG_ON(e->code != ERROR_JSON || e->msg[0] == '\0' || strlen(e->msg) > 200);
	VMM_BUG_ON(message == NULL); /* not UTF-8 */
	json_decref(message);
}

static void check_accepted(const json_t *value)
{
	struct error e = { 0 };
	json_t *again = NULL;
	size_t len = 0;
	char *text = json_text(value, &len);

	VMM_BUG_ON(depth(value) > JSON_DEPTH_MAX);
	VMM_BUG_ON(text == NULL || memchr(text, '\0', len) != NULL);
	VMM_BUG_ON(json_parse(&again, text, len, &e) != 0 || !json_equal(value, again));
	json_decref(again);
	free(text);
}

static void run(const char *text, size_t len)
{
	struct error e = { 0 };
	json_t *value = NULL;

	if (json_parse(&value, text, len, &e) < 0) {
		VMM_BUG_ON(value != NULL);
		check_error(&e);
		return;
	}
	check_accepted(value);
	json_decref(value);
}

static void run_tokens(const uint8_t *data, size_t size)
{
	static const char *const tokens[] = {
		"{",	  "}",	     "[",     "]",    ",",    ":",
		"\"a\"",  "\"b\"",   "1",     "-0.5", "null", "true",
		"\"a\":", "{\"c\":", "\"\\u", "\"",   "e",    "00",
		"\\",	  "\n",	     "[[[[",  "]]]]", "d800", "9223372036854775807",
		"{}",	  "[]",	     "1e",    "-",    "\xc3", "\xef\xbb\xbf",
		"false",  "\"\"",
	};
	char *text = malloc(20 * size + 1);
	size_t len = 0;

	for (size_t i = 0; text != NULL && i < size; i++) {
		const char *token = tokens[data[i] % ARRAY_SIZE(tokens)];

		memcpy(text + len, token, strlen(token));
		len += strlen(token);
	}
	if (text != NULL) {
		run(text, len);
	}
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	run((const char *)data, size);
	run_tokens(data, size);
	return 0;
}
