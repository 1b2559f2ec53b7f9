/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saved state as tables. A device describes each member of its struct that has to survive snapshot, migration and fork once:
 * tag, member, since-version. Save, load, inspect, the round-trip test and the fuzzer work from that table.
 *
 *	static const struct state_field serial_fields[] = {
 *		STATE_FIELD(1, struct serial, lcr, 1),
 *		STATE_BYTES(2, struct serial, fifo, 1),			uint8_t fifo[N], whole
 *		STATE_STRUCTS(3, struct serial, queues, &queue_state, N, 1),	N structs with a table of their own
 *	};
 *	const struct state_desc serial_state =
 *		STATE_DESC("serial", 1, struct serial, serial_fields, .validate = serial_validate);
 *
 * Only uint8_t, uint16_t, uint32_t, uint64_t, int64_t and bool members (atomic ones included) compile as STATE_FIELD: the
 * width on the wire is the type's. Tags are unique within a table and never reused. Encoding: for each field u16 tag, u32
 * length, little-endian value; each element of a nested table is a u32 length and the same encoding. A field that is absent
 * keeps the object's current value (load into a freshly reset object); an unknown tag, a wrong length or a failed validate()
 * refuses the whole section and names the field. Loading is done into a scratch copy first by the caller if the object must
 * stay untouched on failure: state_load() itself validates framing of everything before it writes the first member.
 *
 * Never saved: pointers, descriptors, threads, statistics.
 */
#ifndef VMM_STATE_H
#define VMM_STATE_H

#include <stdatomic.h>

#include "vmm/error.h"
#include "vmm/types.h"

enum state_kind {
	STATE_KIND_U8 = 1,
	STATE_KIND_U16,
	STATE_KIND_U32,
	STATE_KIND_U64,
	STATE_KIND_BOOL,
	STATE_KIND_BYTES,
	STATE_KIND_STRUCTS
};

struct state_desc;

struct state_field {
	uint16_t tag;
	uint16_t since; /* version of the table that introduced it, from 1 */
	enum state_kind kind;
	const char *name;
	size_t offset;
	size_t size;			 /* of one element */
	size_t count;			 /* elements: 1 for scalars */
	const struct state_desc *nested; /* STATE_KIND_STRUCTS */
};

struct state_desc {
	const char *name;
	uint16_t version;
	const struct state_field *fields;
	size_t count;
	size_t object_size;
	/* Treats the loaded object as hostile: every index, size, address, enum. NULL: nothing to
	 * check. */
	int (*validate)(const void *object, struct error *e);
};

/* The kind of a member, or a compile-time error for anything that has no fixed meaning on the wire.
 */
#define STATE_KIND_OF(type, member)                 \
	_Generic(((type *)0)->member, uint8_t       \
		 : STATE_KIND_U8, _Atomic uint8_t   \
		 : STATE_KIND_U8, uint16_t          \
		 : STATE_KIND_U16, _Atomic uint16_t \
		 : STATE_KIND_U16, uint32_t         \
		 : STATE_KIND_U32, _Atomic uint32_t \
		 : STATE_KIND_U32, uint64_t         \
		 : STATE_KIND_U64, _Atomic uint64_t \
		 : STATE_KIND_U64, int64_t          \
		 : STATE_KIND_U64, bool             \
		 : STATE_KIND_BOOL, _Atomic bool    \
		 : STATE_KIND_BOOL)

#define STATE_FIELD(tag_, type, member_, since_)                                        \
	{                                                                               \
		.tag = (tag_), .since = (since_), .kind = STATE_KIND_OF(type, member_), \
		.name = #member_, .offset = offsetof(type, member_),                    \
		.size = sizeof(((type *)0)->member_), .count = 1                        \
	}
/* A byte array member, saved whole. */
#define STATE_BYTES(tag_, type, member_, since_)                                              \
	{                                                                                     \
		.tag = (tag_), .since = (since_), .kind = STATE_KIND_BYTES, .name = #member_, \
		.offset = offsetof(type, member_), .size = sizeof(((type *)0)->member_[0]),   \
		.count = sizeof(((type *)0)->member_) / sizeof(((type *)0)->member_[0])       \
	}
/* A struct member, or an array of them, with a table of its own. */
#define STATE_STRUCTS(tag_, type, member_, desc_, count_, since_)                               \
	{                                                                                       \
		.tag = (tag_), .since = (since_), .kind = STATE_KIND_STRUCTS, .name = #member_, \
		.offset = offsetof(type, member_),                                              \
		.size = sizeof(((type *)0)->member_) / (count_), .count = (count_),             \
		.nested = (desc_)                                                               \
	}
#define STATE_DESC(name_, version_, type_, fields_, ...)                                  \
	{                                                                                 \
		.name = (name_), .version = (version_), .fields = (fields_),              \
		.count = ARRAY_SIZE(fields_), .object_size = sizeof(type_), ##__VA_ARGS__ \
	}

/* A growing byte buffer; `failed` sticks after an allocation failure. */
struct state_buf {
	uint8_t *data;
	size_t len, size;
	bool failed;
};
void state_buf_finish(struct state_buf *buf);

/* Appends the encoding of `object`; on failure `buf` ends where it did. The owner must be quiesced.
 */
int state_save(const struct state_desc *desc, const void *object, struct state_buf *buf,
	       struct error *e);
/* Decodes exactly `len` bytes into `object`, written by version `version` (from 1) of the table.
 * ERROR_STATE. */
int state_load(const struct state_desc *desc, void *object, const uint8_t *data, size_t len,
	       uint16_t version, struct error *e);
/* Checks the table itself (unique tags, members inside the object): used by tests on every table.
 */
int state_desc_check(const struct state_desc *desc, struct error *e);

#endif
