/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saved state as tables. A device describes each member that has to survive snapshot, migration and fork once: tag, member,
 * since-version. Save, load, inspect, the round-trip test and the fuzzer work from that table.
 *
 *	static const struct state_field serial_fields[] = {
 *		STATE_FIELD(1, struct serial, lcr, 1),			a number or bool
 *		STATE_BYTES(2, struct serial, fifo, 1),			uint8_t fifo[N]
 *		STATE_ARRAY(3, struct pic, priorities, 1),		uint16_t priorities[N], or any number
 *		STATE_BLOB(4, struct lapic, kvm, 1),			a struct of KVM's, opaque
 *		STATE_STRUCTS(5, struct serial, queues, &queue_state, N, 1),	N structs with a table of their own
 *		STATE_STRUCTS_USED(6, struct vcpu, msrs, msr_count, &msr_state, 1),	the first msr_count of them
 *	};
 *	const struct state_desc serial_state =
 *		STATE_DESC("serial", 1, struct serial, serial_fields, .validate = serial_validate);
 *	const struct state_desc msix_state =
 *		STATE_DESC_IN(struct msix, registers, "msix", 1, msix_fields, .validate = msix_validate);
 *
 * What is saved is a plain struct: numbers, bytes and structs of those. Where its meaning depends on what the machine is made of,
 * it stands in the struct of its owner, which the functions below take as `object`, and validate() and post_load() get both.
 *
 * Only uint8_t, uint16_t, uint32_t, uint64_t, int64_t and bool members (atomic ones included) compile as STATE_FIELD and
 * STATE_ARRAY: the width on the wire is the type's. Tags are unique within a table and never reused.
 *
 * Encoding, little-endian, no padding: for each field u16 tag, u32 length, value. Values: the number; one byte 0 or 1; the
 * bytes; the numbers of an array one after the other; for structs u16 version of their table, u32 count, and each element
 * as u32 length and the same encoding. So how many elements there are, and of which version, is on the wire.
 *
 * Loading: a field that is absent keeps the object's value (load into a freshly reset object), and so do the elements behind
 * the last one on the wire; with a `used` member that one tells how many came. An unknown tag, a field younger than the
 * version it claims, a wrong length, more elements than the table has, or a failed validate() refuse all of it, name the
 * field, and leave the object as it was: state_load() decodes into a copy of the plain struct, which takes its place when
 * nothing can fail any more. Then post_load() runs. Many objects are loaded in the same way, all or none: vmm/state_set.h.
 *
 * A table that has been released can only grow: new fields with a new tag and a higher version, longer arrays.
 *
 * Never saved: pointers, descriptors, threads, locks, statistics.
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
	STATE_KIND_BLOB,
	STATE_KIND_STRUCTS
};

struct state_desc;

struct state_field {
	uint16_t tag;
	uint16_t since; /* version of the table that introduced it, from 1 */
	enum state_kind kind;
	const char *name;
	size_t offset;
	size_t size;  /* of one element */
	size_t count; /* elements: 1 for scalars, bytes for a blob */
	size_t used; /* offset + 1 of the uint32_t that says how many elements are in use; 0: all */
	const struct state_desc *nested; /* STATE_KIND_STRUCTS */
};

struct state_desc {
	const char *name;
	uint16_t version;
	const struct state_field *fields;
	size_t count;
	size_t object_size; /* of the plain struct */
	size_t inside;	    /* its offset in `owner`; of a nested table 0 */
	/*
	 * Treats the plain struct as hostile: every index, size, address, enum. `owner` is the object
	 * that it is for, as it is now, of a nested struct that of the outermost. NULL: nothing to check.
	 */
	int (*validate)(const void *state, const void *owner, struct error *e);
	/* Makes of what was loaded what is not saved: levels of lines, caches. Runs once the whole state
	 * has been accepted and is in place, on nested structs first; cannot fail. NULL: nothing to do. */
	void (*post_load)(void *state, void *owner);
};

/* The kind of a member, or a compile-time error for anything that has no fixed meaning on the wire.
 */
#define STATE_KIND_OF(type, member)                   \
	_Generic(((type *)0)->member, uint8_t         \
		 : STATE_KIND_U8, _Atomic uint8_t     \
		 : STATE_KIND_U8, uint16_t            \
		 : STATE_KIND_U16, _Atomic uint16_t   \
		 : STATE_KIND_U16, uint32_t           \
		 : STATE_KIND_U32, _Atomic uint32_t   \
		 : STATE_KIND_U32, uint64_t           \
		 : STATE_KIND_U64, _Atomic uint64_t   \
		 : STATE_KIND_U64, unsigned long long \
		 : STATE_KIND_U64, int64_t            \
		 : STATE_KIND_U64, bool               \
		 : STATE_KIND_BOOL, _Atomic bool      \
		 : STATE_KIND_BOOL)

#define STATE_FIELD(tag_, type, member_, since_)                                        \
	{                                                                               \
		.tag = (tag_), .since = (since_), .kind = STATE_KIND_OF(type, member_), \
		.name = #member_, .offset = offsetof(type, member_),                    \
		.size = sizeof(((type *)0)->member_), .count = 1                        \
	}
/* How many elements an array member has. */
#define STATE_COUNT(type, member) (sizeof(((type *)0)->member) / sizeof(((type *)0)->member[0]))
/* `offset + 1` of a member, which has to be a uint32_t. */
#define STATE_USED(type, member) \
	_Generic(((type *)0)->member, uint32_t : offsetof(type, member) + 1)

#define STATE_ELEMENTS(tag_, type, member_, kind_, used_, since_)                       \
	{                                                                               \
		.tag = (tag_), .since = (since_), .kind = (kind_), .name = #member_,    \
		.offset = offsetof(type, member_), .count = STATE_COUNT(type, member_), \
		.size = sizeof(((type *)0)->member_[0]), .used = (used_)                \
	}
/* A byte array member: the first `used_` of it, or all. */
#define STATE_BYTES(tag_, type, member_, since_) \
	STATE_ELEMENTS(tag_, type, member_, STATE_KIND_BYTES, 0, since_)
#define STATE_BYTES_USED(tag_, type, member_, used_, since_) \
	STATE_ELEMENTS(tag_, type, member_, STATE_KIND_BYTES, STATE_USED(type, used_), since_)
/* An array of numbers. */
/* NOLINTBEGIN(bugprone-macro-parentheses): a member's name cannot have them */
#define STATE_ARRAY(tag_, type, member_, since_) \
	STATE_ELEMENTS(tag_, type, member_, STATE_KIND_OF(type, member_[0]), 0, since_)
#define STATE_ARRAY_USED(tag_, type, member_, used_, since_)                 \
	STATE_ELEMENTS(tag_, type, member_, STATE_KIND_OF(type, member_[0]), \
		       STATE_USED(type, used_), since_)
/* NOLINTEND(bugprone-macro-parentheses) */
/* A member whose layout is somebody else's promise (KVM's ABI): its bytes, exactly as many. */
#define STATE_BLOB(tag_, type, member_, since_)                                              \
	{                                                                                    \
		.tag = (tag_), .since = (since_), .kind = STATE_KIND_BLOB, .name = #member_, \
		.offset = offsetof(type, member_), .size = 1,                                \
		.count = sizeof(((type *)0)->member_)                                        \
	}
/* A struct member, or an array of them, with a table of its own. */
#define STATE_STRUCTS(tag_, type, member_, desc_, count_, since_)                               \
	{                                                                                       \
		.tag = (tag_), .since = (since_), .kind = STATE_KIND_STRUCTS, .name = #member_, \
		.offset = offsetof(type, member_),                                              \
		.size = sizeof(((type *)0)->member_) / (count_), .count = (count_),             \
		.nested = (desc_)                                                               \
	}
#define STATE_STRUCTS_USED(tag_, type, member_, used_, desc_, since_)                           \
	{                                                                                       \
		.tag = (tag_), .since = (since_), .kind = STATE_KIND_STRUCTS, .name = #member_, \
		.offset = offsetof(type, member_), .count = STATE_COUNT(type, member_),         \
		.size = sizeof(((type *)0)->member_[0]), .used = STATE_USED(type, used_),       \
		.nested = (desc_)                                                               \
	}
#define STATE_DESC(name_, version_, type_, fields_, ...)                                  \
	{                                                                                 \
		.name = (name_), .version = (version_), .fields = (fields_),              \
		.count = ARRAY_SIZE(fields_), .object_size = sizeof(type_), ##__VA_ARGS__ \
	}

/* The same of a member of `owner_`, which is a struct. */
#define STATE_DESC_IN(owner_, member_, name_, version_, fields_, ...)              \
	{                                                                          \
		.name = (name_), .version = (version_), .fields = (fields_),       \
		.count = ARRAY_SIZE(fields_), .inside = offsetof(owner_, member_), \
		.object_size = sizeof(((owner_ *)0)->member_), ##__VA_ARGS__       \
	}

/* One object with its table. */
struct state_part {
	const struct state_desc *desc;
	void *object;
};

/* A growing byte buffer; `failed` sticks after an allocation failure. */
struct state_buf {
	uint8_t *data;
	size_t len, size;
	bool failed;
};
void state_buf_finish(struct state_buf *buf);
/* Room for `len` more bytes at the end; NULL once an allocation has failed. */
uint8_t *state_buf_grow(struct state_buf *buf, size_t len);

/* Appends the encoding of `object`; on failure `buf` ends where it did. The owner must be quiesced.
 */
int state_save(const struct state_desc *desc, const void *object, struct state_buf *buf,
	       struct error *e);
/* Decodes exactly `len` bytes into `object`, written by version `version` (from 1) of the table. The
 * owner must be quiesced. ERROR_STATE, ERROR_NO_MEMORY; the object is then as it was. */
int state_load(const struct state_desc *desc, void *object, const uint8_t *data, size_t len,
	       uint16_t version, struct error *e);
/* validate(), with 0 where there is none: what a device is by itself can always be loaded. */
int state_validate(const struct state_desc *desc, const void *object, struct error *e);

/*
 * The halves of state_load(). Decode: *ret is the plain struct as it would be, valid; free().
 * Exchange: the object gets it, and it gets what the object had. Then post_load.
 */
int state_decode(const struct state_desc *desc, const void *object, const uint8_t *data, size_t len,
		 uint16_t version, void **ret, struct error *e);
void state_exchange(const struct state_desc *desc, void *object, void *decoded);
void state_run_post_load(const struct state_desc *desc, void *object);

/* Checks the table itself (unique tags, members inside the object): used by tests on every table.
 */
int state_desc_check(const struct state_desc *desc, struct error *e);

#endif
