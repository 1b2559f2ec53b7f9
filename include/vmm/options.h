/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Option tables: one table per configuration object describes each option once: flag, key, type,
 * range, default, help. Parsing the command line and "key=value" device strings, `--help`, the man
 * page, shell completion, JSON (vmm/options_json.h) and the OpenAPI schema are made from it, so they
 * cannot disagree.
 *
 * An option has a name for command lines, a key for JSON, or both. OPTION_INCLUDE puts the options
 * of another table in its place, for an object that embeds another one.
 *
 * A table writes straight into a plain struct (no descriptors, no run-time pointers). Strings point
 * into argv or into memory that outlives the struct. Every parse error is ERROR_USAGE and names
 * flag, value and what is accepted.
 */
#ifndef VMM_OPTIONS_H
#define VMM_OPTIONS_H

#include "vmm/error.h"
#include "vmm/types.h"

enum option_type {
	OPTION_FLAG,	 /* bool, no argument */
	OPTION_BOOL,	 /* bool: on|off, true|false, yes|no */
	OPTION_STRING,	 /* const char * */
	OPTION_U32,	 /* uint32_t, decimal, range checked */
	OPTION_SIZE,	 /* uint64_t bytes: 512M, 2G, 64K, 1048576; binary units; plain numbers are
			    bytes. K M G T, optional iB */
	OPTION_DURATION, /* uint64_t nanoseconds: 30s, 500ms, 5m, 1h; plain numbers are seconds */
	OPTION_ENUM,	 /* int: one of .values */
	OPTION_MAC,	 /* uint8_t[6]; unicast only; sets the bool at .present if given */
	OPTION_FD,	 /* int: number of an open descriptor; -1 by default */
	OPTION_LIST,	 /* repeatable: calls .add(object, value, e) for each occurrence */
	OPTION_U64,	 /* uint64_t, decimal, range checked */
	OPTION_OBJECT, /* JSON only: a struct embedded at .offset, described by .object; .present says
			    whether it was given */
	OPTION_OBJECTS, /* JSON only: json_t *, an array of objects that .object describes, borrowed as
			   strings are; NULL: not given */
	OPTION_INCLUDE, /* the options of .object, whose struct is embedded at .offset, stand here */
};

/*
 * A key that a version adds is OPTION_ZERO_NOT_GIVEN, and 0 or false means what was before there was such a key: so whoever does not use
 * it is understood by versions that do not know it, which refuse unknown keys.
 */
enum option_zero {
	OPTION_ZERO_SHOWN,
	OPTION_ZERO_NOT_GIVEN, /* like a value that is not given */
	/* Where Firecracker's clients look: */
	OPTION_ZERO_NOT_THEIRS, /* left out */
	OPTION_ZERO_NO_OBJECT,	/* the embedded object that has it is null */
};

struct option_value {
	const char *name; /* NULL ends the list */
	int value;
};

struct option {
	const char *name; /* long flag without "--", or the key in "key=value"; NULL: not there */
	char letter;	  /* short flag, 0 if none */
	enum option_type type;
	size_t offset;			   /* of the member in the object */
	size_t present;			   /* offset + 1 of a bool that says "was given"; 0: none */
	uint64_t min, max;		   /* for numbers; both 0: the type's own range */
	const char *unit;		   /* range in words for messages, such as "32M to 64G" */
	const struct option_value *values; /* OPTION_ENUM */
	int (*add)(void *object, const char *value, struct error *e); /* OPTION_LIST */
	const char *argument; /* placeholder in help, such as "FILE" */
	const char *fallback; /* the default, in the option's own syntax; applied by
				 options_defaults(); NULL: zero */
	const char *help;     /* one line, no full stop */
	const char *json;     /* key in JSON objects; NULL: not there */
	uint64_t json_unit;   /* numbers: the member is the JSON number times this; 0: 1 */
	const struct option_value *json_values; /* OPTION_ENUM: spelling in JSON; NULL: .values */
	bool json_required;
	bool ours;	 /* Firecracker has no such key: its clients are not shown it */
	bool deprecated; /* JSON: Firecracker says so, and tells who uses it */
	enum option_zero
		zero; /* JSON, for numbers, enums and flags: what 0 and false look like when written */
	const char *theirs;		   /* Firecracker's default, where it is not `fallback` */
	const struct option_table *object; /* OPTION_OBJECT, OPTION_OBJECTS, OPTION_INCLUDE */
	bool verbatim; /* OPTION_STRING: empty values and control characters are for the user of the object to judge */
	bool any_case; /* OPTION_ENUM: values are known in capitals and small letters alike */
	bool first;    /* in device strings: the value may stand without "key=" at the front */
	const char *
		more_of; /* takes the value when the flag of this name, the option or some before it,
			      * is given once more; has a key in JSON only */
	bool file;	 /* a path, which means something else in another working directory */
	bool careful; /* what it asks for cannot be taken back: not proposed for a misspelt flag */
};

/* Flags of other programs, as users of theirs type them, and what stands here in their place. */
struct option_foreign {
	const char
		*words; /* with their dashes, between blanks: "-smp --vcpus"; NULL ends the list */
	const char *here; /* a hint: "here it is -c N" */
};
/* The hint for a word; NULL if it is nobody's. `list` may be NULL. */
const char *options_foreign(const struct option_foreign *list, const char *word, size_t len);

struct option_table {
	const char *name; /* "run", "disk", "net" */
	const struct option *options;
	size_t count; /* at most 64 for device strings, with what is included */
	bool keys; /* describes a device string: help shows "key=VALUE" instead of "--key VALUE" */
	bool open; /* JSON: Firecracker ignores keys of it that it does not know */
	const struct option_foreign *foreign; /* on command lines; NULL: none */
};
/* One of a list of options, whose further members may follow: OPTION_TABLE("disk", list, .open = true). */
#define OPTION_TABLE(name_, list_, ...)                                                      \
	{                                                                                    \
		.name = (name_), .options = (list_), .count = ARRAY_SIZE(list_), __VA_ARGS__ \
	}
/* The options of another table, for the struct that is `member` of `struct_`. */
#define OPTION_INCLUDED(struct_, member, table_)                                                 \
	{                                                                                        \
		.type = OPTION_INCLUDE, .offset = offsetof(struct_, member), .object = &(table_) \
	}

#define OPTION_INCLUDE_DEPTH 4 /* a table, one that it includes, one that that includes ... */

/*
 * Walks the options of a table as they stand on command lines and in JSON, those of included tables
 * in their place:
 *
 *	struct option_iter at = option_iter(table);
 *
 *	while (option_next(&at)) {
 *		use(at.option, (char *)object + at.base);
 *	}
 */
struct option_iter {
	const struct option *option;
	size_t base;  /* offset of the struct that `option` is a member of, in the outermost one */
	size_t index; /* 0 for the first option that was found */
	struct option_level {
		const struct option_table *table;
		size_t next, base;
	} levels[OPTION_INCLUDE_DEPTH];
	size_t depth;
	bool begun;
};
struct option_iter option_iter(const struct option_table *table);
bool option_next(struct option_iter *at);
/* The name on command lines that was probably meant; NULL if none is near. Never a careful one. */
const char *options_nearest(const struct option_table *table, const char *name);

/* Fills the defaults of every option and clears the `present` flags. */
int options_defaults(const struct option_table *table, void *object, struct error *e);
/* The same with Firecracker's defaults where it has others. */
int options_their_defaults(const struct option_table *table, void *object, struct error *e);
/*
 * Sets one option from text, NULL for an OPTION_FLAG. Empty text and control characters are
 * refused. `what` names it in messages: "--memory" or "--disk key 'serial'".
 */
int options_set(const struct option *option, void *object, const char *what, const char *text,
		struct error *e);
/*
 * GNU-style: long flags with "=" or a following argument, bundled short flags, "--" ends. argv[0]
 * is the command's name and is skipped. Returns the index of the first operand in argv, or a
 * negative errno. Operands after the first are untouched.
 *
 * The same flag twice: an OPTION_LIST adds, an OPTION_FLAG has been said already, every other one is
 * refused, since the second would replace the first in silence.
 *
 * Unknown flags: those of the table's `foreign` list get its hint, others the nearest name.
 */
int options_parse(const struct option_table *table, void *object, int argc, char *const argv[],
		  struct error *e);
/* As above for a command line that is read in parts, with operands between them: `given` begins
 * as 0 and knows which options have come. At most 64 options. */
int options_parse_part(const struct option_table *table, void *object, uint64_t *given, int argc,
		       char *const argv[], struct error *e);
/* A whole command line: defaults, then flags, which may stand before, between and behind operands.
 * These are moved to argv[1] and up; their number, or negative. */
int options_parse_all(const struct option_table *table, void *object, uint64_t *given, int argc,
		      char *argv[], struct error *e);
/* Was the flag of that long name given? `given` is from one of the above. */
bool options_given(const struct option_table *table, uint64_t given, const char *name);
/*
 * "value,key=value,flag": `text` is modified in place and must outlive the object. `what` is the
 * flag's name. A comma inside a value is written as two commas. A key given twice is an error.
 */
int options_parse_keys(const struct option_table *table, void *object, const char *what, char *text,
		       struct error *e);
/* What stands for the option's value in help: "SIZE"; "" for a flag. */
const char *options_placeholder(const struct option *option);
/* What the option accepts, in words: "a size such as 512M or 2G, 32M to 64G". */
void options_accepted(const struct option *option, char *buf, size_t size);
/* Aligned two-column help. Writes to `fd`-less buffer: returns bytes needed as snprintf does. */
size_t options_help(const struct option_table *table, char *buf, size_t size);

#endif
