/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON text from files and peers, over jansson. Strict: one value, duplicate keys refused, valid
 * UTF-8, no NUL inside strings, integers within 64 bits, reals within a double, nesting up to
 * JSON_DEPTH_MAX, up to JSON_VALUES_MAX values; time and memory are linear in the text. Errors are ERROR_JSON and name line and
 * column.
 *
 * jansson draws a hash seed on its first object: json_prepare() does that before the sandbox.
 */
#ifndef VMM_JSON_H
#define VMM_JSON_H

#include <jansson.h>

#include "vmm/error.h"
#include "vmm/types.h"

#define JSON_DEPTH_MAX 64
/* Of a text, keys counted as well: some 30 MB at most, whatever the text is. */
#define JSON_VALUES_MAX 100000
/* For json_dumps(): 0.1 is shown as that, and not as the 0.10000000000000001 of its 17 digits. */
#define JSON_DIGITS JSON_REAL_PRECISION(15)

/* Main thread, before any other thread uses jansson. */
void json_prepare(void);
/* The caller owns *ret. An empty text is an error. Whole numbers from 2^63 to 2^64 - 1 are read as
 * 2^63 - 1, the largest that there is. */
int json_parse(json_t **ret, const char *text, size_t len, struct error *e);
/* Reads a whole file, at most `max` bytes. */
int json_read_file(json_t **ret, const char *path, size_t max, struct error *e);
/* Compact text with sorted keys; malloc'ed, NULL if memory is short. *len without the NUL. */
char *json_text(const json_t *value, size_t *len);
/* The same with the keys as they were put in. */
char *json_text_in_order(const json_t *value, size_t *len);

static inline void cleanup_json_(json_t **value)
{
	json_decref(*value);
}
#define auto_json __attribute__((cleanup(cleanup_json_)))

#endif
