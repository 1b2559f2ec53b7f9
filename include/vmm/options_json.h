/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects described by an option table (vmm/options.h) as JSON: reading, writing, copying, schema.
 *
 * Reading is strict: a key that the table does not have, a wrong type, a number with a fraction, a
 * value out of range or an embedded NUL is ERROR_JSON, and the message names the key
 * ("/rate_limiter/bandwidth/size"). `null` means "not given" for what is not required. Nothing is
 * half-applied: on failure the object is as it was.
 *
 * Strings: options_from_json() borrows them from the JSON value, which must outlive the object;
 * options_clone() gives an object that owns all of its strings, and options_release() frees such a
 * one. OPTION_MAC is "06:00:ac:10:00:02". OPTION_FLAG is a JSON boolean; OPTION_DURATION is a number
 * of milliseconds unless json_unit says otherwise. OPTION_LIST and OPTION_FD have no JSON.
 * Numbers reach from 0 to INT64_MAX.
 */
#ifndef VMM_OPTIONS_JSON_H
#define VMM_OPTIONS_JSON_H

#include "vmm/json.h"
#include "vmm/options.h"

/* All keys are optional: the object's present members stay where a key is missing. */
#define OPTIONS_JSON_PATCH (1U << 0)
/* For clients that know Firecracker only. Reading: its defaults, and what its parser lets pass: unknown
 * keys of tables that say so, any MAC address. Writing: its keys and no others, and
 * null for what is not given, as it does. */
#define OPTIONS_JSON_FIRECRACKER (1U << 1)

/*
 * Without OPTIONS_JSON_PATCH the object gets its defaults first, and required keys must be there.
 * With it an empty object is an error, and embedded objects are changed the same way; one whose
 * table has required keys is replaced, and must have them. `value` must be a JSON object.
 */
int options_from_json(const struct option_table *table, void *object, const json_t *value,
		      unsigned int flags, struct error *e);
/* Every option with a JSON key, in the table's order: strings that are NULL, optional parts that were
 * not given, MAC addresses that were not given and what the table calls so are left out. NULL if
 * memory is short. */
json_t *options_to_json(const struct option_table *table, const void *object, unsigned int flags);
/* Does `value` give a key that Firecracker would rather not see any more? */
bool options_json_deprecated(const struct option_table *table, const json_t *value);
/* Puts `directory` before the relative paths in an object of that form, so that they mean the same
 * elsewhere. False if memory is short. */
bool options_absolute_paths(const struct option_table *table, json_t *object,
			    const char *directory);
/* JSON Schema (2020-12) of the object: types, ranges, enums, defaults, descriptions,
 * additionalProperties: false; `required` only without OPTIONS_JSON_PATCH. */
json_t *options_schema(const struct option_table *table, unsigned int flags);

/* `size` is that of the object, which is copied whole; strings are then duplicated. -ENOMEM. */
int options_clone(const struct option_table *table, void *copy, const void *object, size_t size,
		  struct error *e);
/* Puts what keep() makes of it in place of every string, also in embedded objects. False: it has given
 * NULL once; some strings then are the old ones. */
bool options_keep(const struct option_table *table, void *object,
		  char *(*keep)(void *arg, const char *text), void *arg);
/* Frees the strings of a clone and sets them to NULL. Accepts a zeroed object. */
void options_release(const struct option_table *table, void *clone);

#endif
