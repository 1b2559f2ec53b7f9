/* SPDX-License-Identifier: Apache-2.0 */
/* Between option_value.c (one value), option_names.c, options.c (tables), options_help.c and
 * options_json.c. */
#ifndef VMM_BASE_OPTIONS_INTERNAL_H
#define VMM_BASE_OPTIONS_INTERNAL_H

#include "vmm/options.h"

#define NAME_MAX_BYTES 48 /* longer ones are not compared for a hint, and cut in messages */

/* An option may have either name or both; it is skipped where it has none. */
enum option_names { NAMES_COMMAND_LINE, NAMES_JSON };

const char *option_name(const struct option *option, enum option_names names);
bool option_find(const struct option_table *table, enum option_names names, const char *name,
		 size_t len, struct option_iter *ret);
/* The name that was probably meant; NULL if none is near. */
const char *option_nearest(const struct option_table *table, enum option_names names,
			   const char *name, size_t len);
/* "path, ro, serial", cut at the end of `buf`. */
void option_list_names(const struct option_table *table, enum option_names names, char *buf,
		       size_t size);
/* As options_set(), without marking the option as given. */
int option_set_value(const struct option *option, void *object, const char *what, const char *text,
		     struct error *e);
/* NULL, or what is wrong with it: "not a MAC address". `any`: also what no card can have. */
const char *option_parse_mac(const char *text, bool any, uint8_t *mac);
/* Does `text` name it? */
bool option_is_value(const struct option *option, const struct option_value *value,
		     const char *text);
/* Of a number, in the unit of its member. */
uint64_t option_upper_bound(const struct option *option);
/* "fast, safe", cut at the end of `buf`. */
void option_join_values(char *buf, size_t size, const struct option_value *values);
/* The member is the number in JSON times this. */
uint64_t option_json_unit(const struct option *option);
const struct option_value *option_json_values(const struct option *option);
/* Has required keys: given as a whole, never changed in part. */
bool option_table_is_whole(const struct option_table *table);
/* Has a form in JSON, and a key. */
bool option_has_json(const struct option *option);
/* What the option accepts, in words: "a size such as 512M or 2G, 32M to 64G". */
void option_describe(const struct option *option, char *buf, size_t size);

#endif
