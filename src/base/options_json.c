/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON objects read by option tables. Two walks over the same table: the first checks everything and
 * writes nothing, the second cannot fail, so a refused object leaves the struct as it was.
 *
 * The JSON comes from peers and files. Its depth is bounded (vmm/json.h), what is looked at is
 * bounded by the table, and messages repeat a bounded part of it, whole characters only.
 *
 * In a change (OPTIONS_JSON_PATCH) an embedded object is changed the same way, except where its
 * table has required keys: such an object means something as a whole only (a token bucket: its size
 * and its refill time), and takes the place of the one before.
 *
 * Pure functions of their arguments; any thread.
 */
#include "vmm/options_json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "options_internal.h"
#include "vmm/overflow.h"

#define NS_PER_MS  1000000ULL
#define SHOWN	   60 /* bytes of a string that a message repeats */
#define PATH_SHOWN 160

/* Where in the JSON a value stands, from the inside out. */
struct place {
	const struct place *parent;
	const char *key; /* NULL: the outermost object */
};

union member {
	bool on;
	int chosen;
	const char *text;
	const json_t *array;
	uint64_t number;
	uint8_t mac[6];
};

bool option_has_json(const struct option *option)
{
	return option->json != NULL && option->type != OPTION_FD && option->type != OPTION_LIST;
}

uint64_t option_json_unit(const struct option *option)
{
	if (option->json_unit != 0) {
		return option->json_unit;
	}
	return option->type == OPTION_DURATION ? NS_PER_MS : 1;
}

const struct option_value *option_json_values(const struct option *option)
{
	return option->json_values != NULL ? option->json_values : option->values;
}

/* "/rate_limiter/bandwidth/size"; of a path that is too long, its end. */
static const char *path(const struct place *place, char *buf, size_t size)
{
	size_t at = size - 1;

	buf[at] = '\0';
	for (; place != NULL && place->key != NULL; place = place->parent) {
		size_t len = strlen(place->key);

		if (len + 1 > at) {
			break;
		}
		at -= len;
		memcpy(buf + at, place->key, len);
		buf[--at] = '/';
	}
	return buf + at;
}

/* How many bytes of the text to show: at most SHOWN, no half character. */
static int shown(const char *text, size_t len, size_t max)
{
	if (len > max) {
		len = max;
		while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80) {
			len--;
		}
	}
	return (int)len;
}

static void describe_value(const json_t *value, char *buf, size_t size)
{
	const char *text;
	size_t len;

	switch (json_typeof(value)) {
	case JSON_OBJECT:
		(void)snprintf(buf, size, "an object");
		break;
	case JSON_ARRAY:
		(void)snprintf(buf, size, "an array");
		break;
	case JSON_STRING:
		text = json_string_value(value);
		len = json_string_length(value);
		(void)snprintf(buf, size, "the string \"%.*s\"%s", shown(text, len, SHOWN), text,
			       len > SHOWN ? "..." : "");
		break;
	case JSON_INTEGER: /* see json_parse() */
		(void)snprintf(buf, size, "%" JSON_INTEGER_FORMAT "%s", json_integer_value(value),
			       json_integer_value(value) == INT64_MAX ? " or more" : "");
		break;
	case JSON_REAL:
		(void)snprintf(buf, size, "the number %g, with a fraction or an exponent,",
			       json_real_value(value));
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		(void)snprintf(buf, size, "%s", json_is_true(value) ? "true" : "false");
		break;
	case JSON_NULL:
		(void)snprintf(buf, size, "null");
		break;
	}
}

static void describe_number(const struct option *option, char *buf, size_t size)
{
	uint64_t unit = option_json_unit(option);
	uint64_t low = option->min / unit + (option->min % unit != 0);
	uint64_t high = option_upper_bound(option) / unit;

	if (high < INT64_MAX) {
		(void)snprintf(buf, size, "a whole number from %" PRIu64 " to %" PRIu64, low, high);
	} else {
		(void)snprintf(buf, size, "a whole number, at least %" PRIu64, low);
	}
}

static void describe_accepted(const struct option *option, char *buf, size_t size)
{
	char values[200];

	switch (option->type) {
	case OPTION_FLAG:
	case OPTION_BOOL:
		(void)snprintf(buf, size, "true or false");
		break;
	case OPTION_STRING:
		(void)snprintf(buf, size, "a string");
		break;
	case OPTION_ENUM:
		option_join_values(values, sizeof(values), option_json_values(option));
		(void)snprintf(buf, size, "one of the strings: %s", values);
		break;
	case OPTION_MAC:
		(void)snprintf(buf, size,
			       "a unicast MAC address such as \"06:00:ac:10:00:02\", a string");
		break;
	case OPTION_OBJECT:
		(void)snprintf(buf, size, "an object");
		break;
	case OPTION_OBJECTS:
		(void)snprintf(buf, size, "an array of objects");
		break;
	case OPTION_U32:
	case OPTION_U64:
	case OPTION_SIZE:
	case OPTION_DURATION:
		describe_number(option, buf, size);
		break;
	case OPTION_FD:
	case OPTION_LIST:
	case OPTION_INCLUDE:
		(void)snprintf(buf, size, "nothing");
		break;
	}
}

/* "/vcpu_count: 33 is too large; accepted is a whole number from 1 to 32" */
static int refuse(const struct place *place, const struct option *option, const json_t *value,
		  const char *why, struct error *e)
{
	char where[PATH_SHOWN], what[160], accepted[256];
	int r;

	describe_value(value, what, sizeof(what));
	describe_accepted(option, accepted, sizeof(accepted));
	r = error_set(e, ERROR_JSON, EINVAL, "%s: %s is %s; accepted is %s",
		      path(place, where, sizeof(where)), what, why, accepted);
	if (json_is_string(value) && option->type != OPTION_STRING && option->type != OPTION_ENUM &&
	    option->type != OPTION_MAC && option->type != OPTION_OBJECT &&
	    option->type != OPTION_OBJECTS) {
		return error_hint(e, "numbers, true and false are written without quotes");
	}
	if (json_is_number(value) && option->type == OPTION_STRING) {
		return error_hint(e, "strings are written in quotes");
	}
	return r;
}

static int read_number(const struct place *place, const struct option *option, const json_t *value,
		       unsigned int flags, uint64_t *ret, struct error *e)
{
	uint64_t unit = option_json_unit(option);
	uint64_t high = option_upper_bound(option);
	uint64_t n;
	bool large;

	if (!json_is_integer(value)) {
		return refuse(place, option, value, "not a whole number", e);
	}
	if (json_integer_value(value) < 0) {
		return refuse(place, option, value, "negative", e);
	}
	large = mul_overflow((uint64_t)json_integer_value(value), unit, &n) || n > high;
	if (large && option->type == OPTION_SIZE && (flags & OPTIONS_JSON_FIRECRACKER) != 0) {
		n = high - high % unit; /* no host has that much, which the start says */
	} else if (large) {
		return refuse(place, option, value, "too large", e);
	}
	if (n < option->min) {
		return refuse(place, option, value, "too small", e);
	}
	*ret = n;
	return 0;
}

static int read_string(const struct place *place, const struct option *option, const json_t *value,
		       const char **ret, struct error *e)
{
	const char *text = json_string_value(value);
	char where[PATH_SHOWN];

	if (text == NULL) {
		return refuse(place, option, value, "not a string", e);
	}
	if (strlen(text) != json_string_length(value)) {
		return error_set(e, ERROR_JSON, EINVAL, "%s: a NUL inside the string",
				 path(place, where, sizeof(where)));
	}
	if (!option->verbatim && text[0] == '\0') {
		return error_set(e, ERROR_JSON, EINVAL, "%s: the string is empty",
				 path(place, where, sizeof(where)));
	}
	for (size_t i = 0; !option->verbatim && text[i] != '\0'; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c < 0x20 || c == 0x7f) {
			return error_set(e, ERROR_JSON, EINVAL,
					 "%s: control character 0x%02x at byte %zu of the string",
					 path(place, where, sizeof(where)), c, i + 1);
		}
	}
	*ret = text;
	return 0;
}

/* A NUL inside makes the text another one than its bytes say; no name and no address has one. */
static const char *plain_text(const json_t *value)
{
	const char *text = json_string_value(value);

	return text != NULL && strlen(text) == json_string_length(value) ? text : NULL;
}

static int read_enum(const struct place *place, const struct option *option, const json_t *value,
		     int *ret, struct error *e)
{
	const char *text = plain_text(value);

	if (text == NULL) {
		return refuse(place, option, value, "not a string", e);
	}
	for (const struct option_value *v = option_json_values(option); v->name != NULL; v++) {
		if (option_is_value(option, v, text)) {
			*ret = v->value;
			return 0;
		}
	}
	return refuse(place, option, value, "not known", e);
}

static int read_mac(const struct place *place, const struct option *option, const json_t *value,
		    unsigned int flags, uint8_t *mac, struct error *e)
{
	const char *text = plain_text(value);
	bool any = (flags & OPTIONS_JSON_FIRECRACKER) != 0;
	const char *why = text != NULL ? option_parse_mac(text, any, mac) : "not a MAC address";

	return why == NULL ? 0 : refuse(place, option, value, why, e);
}

static int read_value(const struct place *place, const struct option *option, const json_t *value,
		      unsigned int flags, union member *ret, struct error *e)
{
	switch (option->type) {
	case OPTION_FLAG:
	case OPTION_BOOL:
		if (!json_is_boolean(value)) {
			return refuse(place, option, value, "not a boolean", e);
		}
		ret->on = json_is_true(value);
		return 0;
	case OPTION_STRING:
		return read_string(place, option, value, &ret->text, e);
	case OPTION_U32:
	case OPTION_U64:
	case OPTION_SIZE:
	case OPTION_DURATION:
		return read_number(place, option, value, flags, &ret->number, e);
	case OPTION_ENUM:
		return read_enum(place, option, value, &ret->chosen, e);
	case OPTION_MAC:
		return read_mac(place, option, value, flags, ret->mac, e);
	case OPTION_FD:
	case OPTION_LIST:
	case OPTION_OBJECT:
	case OPTION_OBJECTS:
	case OPTION_INCLUDE:
		break;
	}
	return refuse(place, option, value, "not to be given as JSON", e);
}

static void store(const struct option *option, void *member, const union member *value)
{
	switch (option->type) {
	case OPTION_FLAG:
	case OPTION_BOOL:
		*(bool *)member = value->on;
		break;
	case OPTION_STRING:
		*(const char **)member = value->text;
		break;
	case OPTION_U32:
		*(uint32_t *)member = (uint32_t)value->number;
		break;
	case OPTION_U64:
	case OPTION_SIZE:
	case OPTION_DURATION:
		*(uint64_t *)member = value->number;
		break;
	case OPTION_ENUM:
		*(int *)member = value->chosen;
		break;
	case OPTION_MAC:
		memcpy(member, value->mac, sizeof(value->mac));
		break;
	case OPTION_OBJECTS:
		*(const json_t **)member = value->array;
		break;
	case OPTION_FD:
	case OPTION_LIST:
	case OPTION_OBJECT:
	case OPTION_INCLUDE:
		break;
	}
}

bool option_table_is_whole(const struct option_table *table)
{
	struct option_iter at = option_iter(table);

	while (option_next(&at)) {
		if (at.option->json_required) {
			return true;
		}
	}
	return false;
}

static int unknown_key(const struct option_table *table, const struct place *place, const char *key,
		       struct error *e)
{
	const char *meant = option_nearest(table, NAMES_JSON, key, strlen(key));
	int len = shown(key, strlen(key), NAME_MAX_BYTES);
	char where[PATH_SHOWN], keys[200];

	error_set(e, ERROR_JSON, EINVAL, "unknown key '%.*s'%s%s", len, key,
		  place->key != NULL ? " in " : "", path(place, where, sizeof(where)));
	if (meant != NULL) {
		return error_hint(e, "did you mean '%s'?", meant);
	}
	option_list_names(table, NAMES_JSON, keys, sizeof(keys));
	return error_hint(e, keys[0] != '\0' ? "the keys are: %s" : "there are no keys%s", keys);
}

static int check_keys(const struct option_table *table, const struct place *place,
		      const json_t *value, unsigned int flags, struct error *e)
{
	/* The iteration does not change the object, its type just does not say so. */
	json_t *object = (json_t *)(uintptr_t)value;
	bool open = table->open && (flags & OPTIONS_JSON_FIRECRACKER) != 0;
	struct option_iter at = option_iter(table);

	for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i)) {
		const char *key = json_object_iter_key(i);
		struct option_iter found;

		if (open) {
			break;
		}
		if (!option_find(table, NAMES_JSON, key, strlen(key), &found) ||
		    !option_has_json(found.option)) {
			return unknown_key(table, place, key, e);
		}
	}
	while ((flags & OPTIONS_JSON_PATCH) == 0 && option_next(&at)) {
		const json_t *given = json_object_get(value, at.option->json);
		struct place here = { .parent = place, .key = at.option->json };
		char where[PATH_SHOWN];

		if (at.option->json_required && (given == NULL || json_is_null(given))) {
			return error_set(e, ERROR_JSON, EINVAL, "%s: is required, but %s",
					 path(&here, where, sizeof(where)),
					 given == NULL ? "not given" : "null");
		}
	}
	return 0;
}

static int bind(const struct option_table *table, void *object, const json_t *value,
		const struct place *place, unsigned int flags, struct error *e);

/* An embedded object. */
static int bind_object(const struct option *option, char *member, const json_t *value,
		       const struct place *place, unsigned int flags, struct error *e)
{
	if (!json_is_object(value)) {
		return refuse(place, option, value, "not an object", e);
	}
	if ((flags & OPTIONS_JSON_PATCH) != 0 && option_table_is_whole(option->object)) {
		int r = member != NULL ? options_defaults(option->object, member, e) : 0;

		if (r < 0) {
			return r;
		}
		flags &= ~OPTIONS_JSON_PATCH;
	}
	return bind(option->object, member, value, place, flags, e);
}

/* Each object is looked at by itself: whoever reads them then meets no surprise. */
static int check_objects(const struct option *option, const json_t *value,
			 const struct place *place, unsigned int flags, struct error *e)
{
	int r = 0;

	if (!json_is_array(value)) {
		return refuse(place, option, value, "not an array", e);
	}
	flags &= ~OPTIONS_JSON_PATCH;
	for (size_t i = 0; r == 0 && i < json_array_size(value); i++) {
		const json_t *object = json_array_get(value, i);
		char number[24];
		struct place here = { .parent = place, .key = number };

		(void)snprintf(number, sizeof(number), "%zu", i);
		r = json_is_object(object) ? bind(option->object, NULL, object, &here, flags, e)
					   : refuse(&here, option, object, "not an object", e);
	}
	return r;
}

/* Checks the value, or puts it into `object` if that is not NULL. */
static int bind(const struct option_table *table, void *object, const json_t *value,
		const struct place *place, unsigned int flags, struct error *e)
{
	struct option_iter at = option_iter(table);
	int r = check_keys(table, place, value, flags, e);

	while (r == 0 && option_next(&at)) {
		const struct option *option = at.option;
		char *owner = object != NULL ? (char *)object + at.base : NULL;
		char *member = owner != NULL ? owner + option->offset : NULL;
		struct place here = { .parent = place, .key = option->json };
		const json_t *given;
		union member read = { .number = 0 };

		given = option_has_json(option) ? json_object_get(value, option->json) : NULL;
		if (given == NULL || json_is_null(given)) {
			continue;
		}
		if (option->type == OPTION_OBJECT) {
			r = bind_object(option, member, given, &here, flags, e);
		} else if (option->type == OPTION_OBJECTS) {
			read.array = given;
			r = check_objects(option, given, &here, flags, e);
			if (r == 0 && member != NULL) {
				store(option, member, &read);
			}
		} else {
			r = read_value(&here, option, given, flags, &read, e);
			if (r == 0 && member != NULL) {
				store(option, member, &read);
			}
		}
		if (r == 0 && owner != NULL && option->present != 0) {
			*((bool *)owner + option->present - 1) = true;
		}
	}
	return r;
}

bool options_json_deprecated(const struct option_table *table, const json_t *value)
{
	struct option_iter at = option_iter(table);

	while (option_next(&at)) {
		const json_t *given =
			at.option->deprecated ? json_object_get(value, at.option->json) : NULL;

		if (given != NULL && !json_is_null(given)) {
			return true;
		}
	}
	return false;
}

int options_from_json(const struct option_table *table, void *object, const json_t *value,
		      unsigned int flags, struct error *e)
{
	const struct place top = { 0 };
	char what[160];
	int r;

	if (!json_is_object(value)) {
		describe_value(value, what, sizeof(what));
		return error_set(e, ERROR_JSON, EINVAL, "JSON: %s where an object is expected",
				 what);
	}
	if ((flags & OPTIONS_JSON_PATCH) != 0 && json_object_size(value) == 0) {
		char keys[200];

		option_list_names(table, NAMES_JSON, keys, sizeof(keys));
		(void)error_set(e, ERROR_JSON, EINVAL,
				"JSON: the object is empty: nothing to change");
		return error_hint(e, "what can be changed: %s", keys);
	}
	r = bind(table, NULL, value, &top, flags, e);
	if (r == 0 && (flags & OPTIONS_JSON_PATCH) == 0) {
		r = (flags & OPTIONS_JSON_FIRECRACKER) != 0
			    ? options_their_defaults(table, object, e)
			    : options_defaults(table, object, e);
	}
	if (r == 0) {
		r = bind(table, object, value, &top, flags, e);
	}
	return r;
}
