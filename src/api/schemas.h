/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What answers look like, and the few bodies that no option table describes. Private to the API's
 * room.
 */
#ifndef VMM_API_SCHEMAS_H
#define VMM_API_SCHEMAS_H

#include "vmm/types.h"

/*
 * One key of an object. `key` ends in '?' if it may be absent. `type` is one of
 *	"string", "integer" (not negative), "number", "boolean", "object"
 *	"error-code"	a name of enum error_code
 *	"a|b|c"		one of these strings
 *	"Name"		the schema of that name
 *	"X[]"		an array of X
 *	"X?"		X or null
 */
struct schema_field {
	const char *key, *type;
	const char *help; /* may be NULL */
};

struct schema {
	const char *name, *help;
	const struct schema_field *fields;
	size_t count;
	bool closed; /* a body: no other keys. An answer may get more of them in time */
};

extern const struct schema schemas[];
extern const size_t schema_count;

#endif
