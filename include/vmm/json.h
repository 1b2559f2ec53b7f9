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
/* A string of any bytes: each that is no UTF-8 becomes `instead`. NULL if memory is short. */
json_t *json_any_string(const char *text, const char *instead);
/* The first key of an object that is not in the list, which ends in NULL; NULL: there is none. */
const char *json_unknown_key(const json_t *value, const char *const *known);
/* Compact text with sorted keys; malloc'ed, NULL if memory is short. *len without the NUL. */
char *json_text(const json_t *value, size_t *len);
/* The same with the keys as they were put in. */
char *json_text_in_order(const json_t *value, size_t *len);

/* Takes `value` in any case. False if memory is short, now or when `object` or `value` was made. */
static inline bool json_put(json_t *object, const char *key, json_t *value)
{
	return json_object_set_new(object, key, value) == 0;
}
/* Numbers are signed in JSON here: what is beyond is cut. */
static inline bool json_put_number(json_t *object, const char *key, uint64_t value)
{
	return json_put(object, key, json_integer((json_int_t)MIN(value, (uint64_t)INT64_MAX)));
}

static inline void cleanup_json_(json_t **value)
{
	json_decref(*value);
}
#define auto_json __attribute__((cleanup(cleanup_json_)))

#endif
