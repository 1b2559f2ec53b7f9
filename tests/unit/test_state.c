/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/check_main.h"

#include "vmm/bytes.h"
#include "vmm/state_set.h"

struct inner {
	uint16_t index;
	_Atomic bool ready;
	uint32_t not_saved;
};

struct outer {
	uint8_t u8;
	_Atomic uint16_t u16;
	uint32_t u32;
	_Atomic uint64_t u64;
	int64_t i64;
	bool flag;
	uint8_t bytes[5];
	struct inner inner[2];
	void *pointer;
	uint32_t young;
};

static int inner_validate(const void *object, const void *owner, struct error *e)
{
	const struct inner *inner = object;

	(void)owner;
	return inner->index < 1000 ? 0 : error_set(e, ERROR_STATE, 0, "index %u", inner->index);
}

static const struct state_field inner_fields[] = {
	STATE_FIELD(1, struct inner, index, 1),
	STATE_FIELD(2, struct inner, ready, 1),
};
static const struct state_desc inner_state =
	STATE_DESC("inner", 1, struct inner, inner_fields, .validate = inner_validate);

static int outer_validate(const void *object, const void *owner, struct error *e)
{
	const struct outer *outer = object;

	(void)owner;
	return outer->u8 != 0xee ? 0 : error_set(e, ERROR_STATE, 0, "u8 is 0xee");
}

static const struct state_field outer_fields[] = {
	STATE_FIELD(1, struct outer, u8, 1),
	STATE_FIELD(2, struct outer, u16, 1),
	STATE_FIELD(3, struct outer, u32, 1),
	STATE_FIELD(4, struct outer, u64, 1),
	STATE_FIELD(5, struct outer, i64, 1),
	STATE_FIELD(6, struct outer, flag, 1),
	STATE_BYTES(7, struct outer, bytes, 1),
	STATE_STRUCTS(8, struct outer, inner, &inner_state, 2, 1),
	STATE_FIELD(9, struct outer, young, 2),
};
static const struct state_desc outer_state =
	STATE_DESC("outer", 2, struct outer, outer_fields, .validate = outer_validate);

static struct error err;
static struct state_buf buf;

static void setup(void)
{
	buf = (struct state_buf){ 0 };
}

static void teardown(void)
{
	state_buf_finish(&buf);
	state_buf_finish(&buf);
}

static void fill(struct outer *o)
{
	memset(o, 0, sizeof(*o));
	o->u8 = 0xa1;
	o->u16 = 0xb2b1;
	o->u32 = 0xc4c3c2c1;
	o->u64 = 0xd8d7d6d5d4d3d2d1;
	o->i64 = -2;
	o->flag = true;
	memcpy(o->bytes, "hello", 5);
	o->inner[0].index = 7;
	o->inner[1].index = 999;
	o->inner[1].ready = true;
	o->inner[1].not_saved = 5;
	o->pointer = o;
	o->young = 3;
}

/* The format, byte by byte: what is written today has to be read for ever. */
static const uint8_t golden[] = {
	1,  0, 1,  0, 0, 0, 0xa1,					    /* 0: u8 */
	2,  0, 2,  0, 0, 0, 0xb1, 0xb2,					    /* 7: u16 */
	3,  0, 4,  0, 0, 0, 0xc1, 0xc2, 0xc3, 0xc4,			    /* 15: u32 */
	4,  0, 8,  0, 0, 0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, /* 25: u64 */
	5,  0, 8,  0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, /* 39: i64 */
	6,  0, 1,  0, 0, 0, 1,						    /* 53: flag */
	7,  0, 5,  0, 0, 0, 'h',  'e',	'l',  'l',  'o',		    /* 60: bytes */
	8,  0, 44, 0, 0, 0,						    /* 71: inner */
	1,  0, 2,  0, 0, 0, /* 77: their version, how many */
	15, 0, 0,  0, 1, 0, 2,	  0,	0,    0,    7,	  0,	2,    0,    1, 0, 0, 0, 0, /* 83 */
	15, 0, 0,  0, 1, 0, 2,	  0,	0,    0,    0xe7, 3,	2,    0,    1, 0, 0, 0, 1, /* 102 */
	9,  0, 4,  0, 0, 0, 3,	  0,	0,    0, /* 121: young */
};

START_TEST(test_golden)
{
	struct outer o;

	fill(&o);
	check_ok(state_save(&outer_state, &o, &buf, &err), &err);
	ck_assert_uint_eq(buf.len, sizeof(golden));
	ck_assert_mem_eq(buf.data, golden, sizeof(golden));
	/* Appends. */
	check_ok(state_save(&outer_state, &o, &buf, &err), &err);
	ck_assert_uint_eq(buf.len, 2 * sizeof(golden));
	ck_assert_mem_eq(buf.data + sizeof(golden), golden, sizeof(golden));
}
END_TEST

START_TEST(test_load)
{
	struct outer o = { .pointer = &buf, .inner[1].not_saved = 77 };

	check_ok(state_load(&outer_state, &o, golden, sizeof(golden), 2, &err), &err);
	ck_assert_uint_eq(o.u8, 0xa1);
	ck_assert_uint_eq(o.u16, 0xb2b1);
	ck_assert_uint_eq(o.u32, 0xc4c3c2c1);
	ck_assert_uint_eq(o.u64, 0xd8d7d6d5d4d3d2d1);
	ck_assert_int_eq(o.i64, -2);
	ck_assert(o.flag);
	ck_assert_mem_eq(o.bytes, "hello", 5);
	ck_assert_uint_eq(o.inner[0].index, 7);
	ck_assert(!o.inner[0].ready);
	ck_assert_uint_eq(o.inner[1].index, 999);
	ck_assert(o.inner[1].ready);
	ck_assert_uint_eq(o.inner[1].not_saved, 77);
	ck_assert_ptr_eq(o.pointer, &buf);
	ck_assert_uint_eq(o.young, 3);
}
END_TEST

START_TEST(test_absent_keeps)
{
	struct outer o;

	fill(&o);
	check_ok(state_load(&outer_state, &o, NULL, 0, 1, &err), &err);
	check_ok(state_load(&outer_state, &o, golden + 7, 8, 1, &err), &err);
	ck_assert_uint_eq(o.u8, 0xa1);
	ck_assert_uint_eq(o.young, 3);
}
END_TEST

#define GOLDEN_V1 (sizeof(golden) - 10) /* without `young` */

START_TEST(test_versions)
{
	struct outer o = { .young = 42 };

	check_ok(state_load(&outer_state, &o, golden, GOLDEN_V1, 1, &err), &err);
	ck_assert_uint_eq(o.young, 42);
	ck_assert_int_lt(state_load(&outer_state, &o, golden, sizeof(golden), 1, &err), 0);
	check_error(&err, ERROR_STATE, "'young'");
	ck_assert_int_lt(state_load(&outer_state, &o, golden, sizeof(golden), 3, &err), 0);
	check_error(&err, ERROR_STATE, "version 3");
	check_error(&err, ERROR_STATE, "newer");
	ck_assert_int_lt(state_load(&outer_state, &o, golden, sizeof(golden), 0, &err), 0);
}
END_TEST

/* A change of the golden bytes that has to be refused before anything is stored. */
static const struct {
	size_t offset;
	uint8_t value;
	const char *text;
} damages[] = {
	{ 0, 99, "tag 99" },
	{ 0, 0, "tag 0" },
	{ 1, 1, "tag 257" },
	{ 0, 3, "'u32' has 1 bytes, expected 4" },
	{ 0, 2, "'u16' has 1 bytes" },
	{ 2, 0, "'u8' has 0 bytes" },
	{ 2, 2, "'u8' has 2 bytes" },
	{ 5, 0xff, "cut off at byte 0" },
	{ 7, 1, "'u8' is there twice" },
	{ 59, 2, "'flag' is 2" },
	{ 62, 4, "cut off" },
	{ 62, 6, "'bytes' has 6 bytes, expected whole numbers in up to 5" },
	{ 73, 5, "'inner' has 5 bytes, expected 6 and more" },
	{ 73, 43, "" },
	{ 77, 0, "inner: state of version 0" },
	{ 77, 2, "inner: state of version 2" },
	{ 79, 1, "more than its 1 elements" },
	{ 79, 3, "'inner' has 3 elements, there is room for 2" },
	{ 82, 0xff, "there is room for 2" },
	{ 83, 14, "" },
	{ 83, 255, "element 0 of 2 is cut off" },
	{ 83, 34, "" },
	{ 87, 2, "inner" },
};

START_TEST(test_damage)
{
	uint8_t data[sizeof(golden)];
	struct outer o = { 0 };
	static const struct outer untouched;
	int r;

	memcpy(data, golden, sizeof(golden));
	data[damages[_i].offset] = damages[_i].value;
	r = state_load(&outer_state, &o, data, sizeof(data), 2, &err);
	ck_assert_int_lt(r, 0);
	check_error(&err, ERROR_STATE, damages[_i].text);
	check_error(&err, ERROR_STATE, "outer");
	ck_assert_mem_eq(&o, &untouched, sizeof(o));
}
END_TEST

START_TEST(test_truncated)
{
	static const size_t whole[] = { 0, 7, 15, 25, 39, 53, 60, 71, 121, 131 };

	for (size_t len = 0; len < sizeof(golden); len++) {
		/* On the heap, so that the sanitizer sees a read behind the end. */
		uint8_t *data = malloc(len + 1);
		struct outer o = { 0 };
		bool valid = false;

		ck_assert_ptr_nonnull(data);
		data = realloc(data, len != 0 ? len : 1);
		memcpy(data, golden, len);
		for (size_t i = 0; i < ARRAY_SIZE(whole); i++) {
			valid |= whole[i] == len;
		}
		ck_assert_int_eq(state_load(&outer_state, &o, data, len, 2, &err) == 0, valid);
		free(data);
	}
}
END_TEST

START_TEST(test_twice)
{
	uint8_t data[14];
	struct outer o = { 0 };

	memcpy(data, golden, 7);
	memcpy(data + 7, golden, 7);
	ck_assert_int_lt(state_load(&outer_state, &o, data, sizeof(data), 2, &err), 0);
	check_error(&err, ERROR_STATE, "'u8' is there twice");
}
END_TEST

START_TEST(test_validate)
{
	static const struct outer untouched;
	uint8_t data[sizeof(golden)];
	struct outer o = { 0 };

	memcpy(data, golden, sizeof(golden));
	data[6] = 0xee;
	ck_assert_int_lt(state_load(&outer_state, &o, data, sizeof(data), 2, &err), 0);
	ck_assert_str_eq(err.msg, "outer: u8 is 0xee");
	ck_assert_mem_eq(&o, &untouched, sizeof(o));
	memcpy(data, golden, sizeof(golden));
	data[113] = 0xff;
	ck_assert_int_lt(state_load(&outer_state, &o, data, sizeof(data), 2, &err), 0);
	check_error(&err, ERROR_STATE, "outer: field 'inner', element 1: inner: index");
	ck_assert_mem_eq(&o, &untouched, sizeof(o));
}
END_TEST

/* Every single byte changed to every value: no crash, and what was accepted can be saved and loaded
 * again. */
START_TEST(test_every_byte)
{
	uint8_t data[sizeof(golden)];

	for (size_t i = 0; i < sizeof(golden); i++) {
		for (int value = 0; value < 256; value++) {
			struct outer o = { 0 }, again = { 0 };

			memcpy(data, golden, sizeof(golden));
			data[i] = (uint8_t)value;
			if (state_load(&outer_state, &o, data, sizeof(data), 2, NULL) != 0) {
				continue;
			}
			buf.len = 0;
			check_ok(state_save(&outer_state, &o, &buf, &err), &err);
			check_ok(state_load(&outer_state, &again, buf.data, buf.len, 2, &err),
				 &err);
			ck_assert_mem_eq(&o, &again, sizeof(o));
		}
	}
}
END_TEST

START_TEST(test_failed_sticks)
{
	struct outer o = { 0 };

	buf.failed = true;
	ck_assert_int_eq(state_save(&outer_state, &o, &buf, &err), -12);
	check_error(&err, ERROR_NO_MEMORY, "outer");
	ck_assert_uint_eq(buf.len, 0);
}
END_TEST

START_TEST(test_tables_are_good)
{
	check_ok(state_desc_check(&outer_state, &err), &err);
	check_ok(state_desc_check(&inner_state, &err), &err);
}
END_TEST

/* One field of a good table spoiled. */
static const struct {
	struct state_field field;
	const char *text;
} bad_tables[] = {
	{ { 0, 1, STATE_KIND_U8, "x", 0, 1, 1, 0, NULL }, "start at 1" },
	{ { 7, 1, STATE_KIND_U8, "x", 0, 1, 1, 0, NULL }, "tag is used twice" },
	{ { 1, 0, STATE_KIND_U8, "x", 0, 1, 1, 0, NULL }, "since" },
	{ { 1, 3, STATE_KIND_U8, "x", 0, 1, 1, 0, NULL }, "since" },
	{ { 1, 1, STATE_KIND_U8, NULL, 0, 1, 1, 0, NULL }, "no name" },
	{ { 1, 1, STATE_KIND_U8, "x", sizeof(struct outer), 1, 1, 0, NULL }, "inside" },
	{ { 1, 1, STATE_KIND_BYTES, "x", 1, 1, sizeof(struct outer), 0, NULL }, "inside" },
	{ { 1, 1, STATE_KIND_BYTES, "x", SIZE_MAX, 1, 2, 0, NULL }, "inside" },
	{ { 1, 1, STATE_KIND_BYTES, "x", 0, SIZE_MAX, 2, 0, NULL }, "inside" },
	{ { 1, 1, STATE_KIND_BYTES, "x", 0, 2, 1, 0, NULL }, "other than bytes" },
	{ { 1, 1, STATE_KIND_U32, "x", 0, 2, 1, 0, NULL }, "size" },
	{ { 1, 1, STATE_KIND_U32, "x", 2, 4, 1, 0, NULL }, "alignment" },
	{ { 1, 1, STATE_KIND_STRUCTS, "x", 0, 8, 1, 0, NULL }, "nested" },
	{ { 1, 1, STATE_KIND_STRUCTS, "x", 0, 4, 1, 0, &inner_state }, "nested" },
	{ { 1, 1, STATE_KIND_U8, "x", 0, 1, 1, 0, &inner_state }, "nested" },
	{ { 1, 1, STATE_KIND_U16, "x", 0, 2, 2, 1, NULL }, "holds its own count" },
	{ { 1, 1, STATE_KIND_U16, "x", 0, 2, 2, sizeof(struct outer) - 2, NULL },
	  "its count is not" },
	{ { 1, 1, STATE_KIND_U16, "x", 0, 2, 2, offsetof(struct outer, bytes) + 1, NULL },
	  "overlaps another field" },
	{ { 1, 1, STATE_KIND_BLOB, "x", 0, 1, 2, 5, NULL }, "its count is not" },
	{ { 1, 1, STATE_KIND_BLOB, "x", 0, 2, 2, 0, NULL }, "other than bytes" },
	{ { 1, 1, (enum state_kind)99, "x", 0, 1, 1, 0, NULL }, "kind" },
	{ { 1, 1, STATE_KIND_U8, "x", offsetof(struct outer, bytes), 1, 1, 0, NULL }, "overlaps" },
};

START_TEST(test_bad_table)
{
	struct state_field fields[] = { STATE_BYTES(7, struct outer, bytes, 1),
					bad_tables[_i].field };
	const struct state_desc desc = STATE_DESC("bad", 2, struct outer, fields);

	ck_assert_int_lt(state_desc_check(&desc, &err), 0);
	check_error(&err, ERROR_INTERNAL, bad_tables[_i].text);
}
END_TEST

/* --- arrays, blobs, counts, growth -------------------------------------------------------------- */

struct item {
	uint64_t value;
	uint8_t added; /* in version 2 of its table */
};

struct opaque { /* stands for a struct of KVM's ABI */
	uint8_t a;
	uint32_t b;
};

struct lists {
	uint16_t numbers[3];
	bool switches[2];
	uint32_t text_len, ids_len, items_len;
	uint8_t text[8];
	uint32_t ids[4];
	struct item items[3];
	struct opaque opaque;
	uint32_t sum; /* made by post_load */
	uint32_t loads;
};

static const struct state_field item_v1_fields[] = { STATE_FIELD(1, struct item, value, 1) };
static const struct state_desc item_v1 = STATE_DESC("item", 1, struct item, item_v1_fields);

static void item_post_load(void *object, void *owner)
{
	(void)owner;
	((struct item *)object)->value |= 1ULL << 63;
}
static const struct state_field item_fields[] = {
	STATE_FIELD(1, struct item, value, 1),
	STATE_FIELD(2, struct item, added, 2),
};
static const struct state_desc item_state =
	STATE_DESC("item", 2, struct item, item_fields, .post_load = item_post_load);

static void lists_post_load(void *object, void *owner)
{
	struct lists *lists = object;

	(void)owner;
	/* After the nested ones. */
	lists->sum = lists->numbers[0] + (uint32_t)(lists->items[0].value >> 63);
	lists->loads++;
}

#define LISTS_FIELDS(items_)                                                                \
	{                                                                                   \
		STATE_ARRAY(1, struct lists, numbers, 1),                                   \
			STATE_ARRAY(2, struct lists, switches, 1),                          \
			STATE_BYTES_USED(3, struct lists, text, text_len, 1),               \
			STATE_ARRAY_USED(4, struct lists, ids, ids_len, 1),                 \
			STATE_STRUCTS_USED(5, struct lists, items, items_len, (items_), 1), \
			STATE_BLOB(6, struct lists, opaque, 1),                             \
	}
static const struct state_field lists_fields[] = LISTS_FIELDS(&item_state);
static const struct state_desc lists_state =
	STATE_DESC("lists", 1, struct lists, lists_fields, .post_load = lists_post_load);
static const struct state_field lists_v1_fields[] = LISTS_FIELDS(&item_v1);
static const struct state_desc lists_v1 = STATE_DESC("lists", 1, struct lists, lists_v1_fields);

static void fill_lists(struct lists *lists)
{
	memset(lists, 0, sizeof(*lists));
	*lists = (struct lists){
		.numbers = { 0x102, 0x304, 0x506 },
		.switches = { true, false },
		.text = "abcdefg",
		.text_len = 2,
		.ids = { 9, 8, 7, 6 },
		.ids_len = 1,
		.items = { { 5, 6 }, { 7, 8 }, { 9, 10 } },
		.items_len = 1,
	};
	memset(&lists->opaque, 0x5a, sizeof(lists->opaque));
}

static const uint8_t lists_golden[] = {
	1, 0, 6, 0, 0,	0, 2, 1, 4,   3,    6,	  5,	2,    0,    2,	  0,	0,    0,
	1, 0, 3, 0, 2,	0, 0, 0, 'a', 'b',  4,	  0,	4,    0,    0,	  0,	9,    0,
	0, 0, 5, 0, 31, 0, 0, 0, 2,   0,    1,	  0,	0,    0,    21,	  0,	0,    0,
	1, 0, 8, 0, 0,	0, 5, 0, 0,   0,    0,	  0,	0,    0,    2,	  0,	1,    0,
	0, 0, 6, 6, 0,	8, 0, 0, 0,   0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a,
};

START_TEST(test_lists)
{
	struct lists from, to = { .ids = { 1, 2, 3, 4 }, .items = { [1] = { 3, 4 } } };

	check_ok(state_desc_check(&lists_state, &err), &err);
	fill_lists(&from);
	check_ok(state_save(&lists_state, &from, &buf, &err), &err);
	ck_assert_uint_eq(buf.len, sizeof(lists_golden));
	ck_assert_mem_eq(buf.data, lists_golden, sizeof(lists_golden));
	check_ok(state_load(&lists_state, &to, buf.data, buf.len, 1, &err), &err);
	ck_assert_mem_eq(to.numbers, from.numbers, sizeof(to.numbers));
	ck_assert(to.switches[0] && !to.switches[1]);
	ck_assert_uint_eq(to.text_len, 2);
	ck_assert_str_eq((const char *)to.text, "ab");
	ck_assert_uint_eq(to.ids_len, 1);
	ck_assert_uint_eq(to.ids[0], 9);
	ck_assert_uint_eq(to.ids[1], 2); /* behind the last one: as it was */
	ck_assert_uint_eq(to.items_len, 1);
	ck_assert_uint_eq(to.items[0].added, 6);
	ck_assert_uint_eq(to.items[1].added, 4);
	ck_assert_mem_eq(&to.opaque, &from.opaque, sizeof(to.opaque));
	ck_assert_uint_eq(to.sum, 0x103);
	ck_assert_uint_eq(to.loads, 1);
}
END_TEST

/* A table that has grown reads what its earlier self wrote; the earlier one says why it cannot. */
START_TEST(test_growth)
{
	struct lists lists, to = { .items = { { 1, 42 } } };

	fill_lists(&lists);
	check_ok(state_save(&lists_v1, &lists, &buf, &err), &err);
	check_ok(state_load(&lists_state, &to, buf.data, buf.len, 1, &err), &err);
	ck_assert_uint_eq(to.items[0].value, 5 | 1ULL << 63);
	ck_assert_uint_eq(to.items[0].added, 42);
	ck_assert_int_lt(state_load(&lists_v1, &to, lists_golden, sizeof(lists_golden), 1, &err),
			 0);
	check_error(&err, ERROR_STATE,
		    "lists: field 'items': item: state of version 2, known are 1");
}
END_TEST

static const struct {
	size_t offset;
	uint8_t value;
	const char *text;
} lists_damages[] = {
	{ 2, 5, "'numbers' has 5 bytes, expected whole numbers in up to 6" },
	{ 2, 8, "'numbers' has 8 bytes" },
	{ 19, 2, "'switches' is 2" },
	{ 22, 9, "'text' has 9 bytes" },
	{ 30, 3, "'ids' has 3 bytes" },
	{ 44, 1, "'added' is new in version 2, but the state is of version 1" },
	{ 46, 4, "'items' has 4 elements, there is room for 3" },
	{ 77, 7, "'opaque' has 7 bytes, expected 8" },
};

START_TEST(test_lists_damage)
{
	uint8_t data[sizeof(lists_golden)];
	static const struct lists untouched;
	struct lists lists = { 0 };

	memcpy(data, lists_golden, sizeof(data));
	data[lists_damages[_i].offset] = lists_damages[_i].value;
	ck_assert_int_lt(state_load(&lists_state, &lists, data, sizeof(data), 1, &err), 0);
	check_error(&err, ERROR_STATE, lists_damages[_i].text);
	ck_assert_mem_eq(&lists, &untouched, sizeof(lists));
}
END_TEST

/* ---- sets ---- */

static struct outer set_objects[2];
static struct item set_item;
static const struct state_entry set_entries[] = {
	{ "one", "outer", 1, { { &outer_state, &set_objects[0] } } },
	{ "two", "pair", 2, { { &outer_state, &set_objects[1] }, { &item_state, &set_item } } },
};

static void fill_set(void)
{
	fill(&set_objects[0]);
	fill(&set_objects[1]);
	set_objects[1].u32 = 7;
	set_item = (struct item){ .value = 5, .added = 6 };
	buf.len = 0;
	check_ok(state_set_save(set_entries, 2, &buf, &err), &err);
}

static int read_set(struct state_reading *reading, const uint8_t *data, size_t len)
{
	err = (struct error){ 0 };
	return state_set_read(set_entries, 2, data, len, reading, &err);
}

/* What was read takes the place of what is there, and gives it back; in any order. */
START_TEST(test_set)
{
	struct state_reading reading;
	uint8_t turned[1024];
	size_t first;

	fill_set();
	first = 4 + load_le32(buf.data);
	ck_assert_uint_le(buf.len, sizeof(turned));
	memcpy(turned, buf.data + first, buf.len - first);
	memcpy(turned + buf.len - first, buf.data, first);
	set_objects[0].u32 = 1;
	set_objects[1].u32 = 2;
	set_item.value = 3;
	check_ok(read_set(&reading, turned, buf.len), &err);
	ck_assert_uint_eq(set_objects[0].u32, 1);
	state_set_exchange(&reading);
	ck_assert_uint_eq(set_objects[0].u32, 0xc4c3c2c1);
	ck_assert_uint_eq(set_objects[1].u32, 7);
	ck_assert_uint_eq(set_item.value, 5 | 1ULL << 63);
	state_set_exchange(&reading);
	ck_assert_uint_eq(set_objects[0].u32, 1);
	ck_assert_uint_eq(set_objects[1].u32, 2);
	ck_assert_uint_eq(set_item.value, 3 | 1ULL << 63);
	state_set_finish(&reading);
	state_set_finish(&reading);
}
END_TEST

/* Bytes of the good set that become others: of the ids, kinds, names and counts of the two entries. */
#define DAMAGE(from, to, message)                   \
	{                                           \
		from, to, sizeof(from) - 1, message \
	}
static const struct {
	const char *from, *to;
	size_t len;
	const char *message;
} set_damages[] = {
	DAMAGE("\003\0one", "\003\0onf", "a outer 'onf', which is not here"),
	DAMAGE("\003\0one", "\003\0two", "a outer 'two', which is not here"),
	DAMAGE("\003\0one\005\0outer", "\003\0two\004\0pairx", "pair 'two': the saved state has"),
	DAMAGE("\003\0one", "\003\0on\n", "damaged"),
	DAMAGE("\003\0one", "\003\377one", "damaged"),
	DAMAGE("\004\0pair\002", "\004\0pair\001",
	       "the saved state has 1 tables of it, here are 2"),
	DAMAGE("\004\0item", "\004\0itex", "a table 'itex' where 'item' is expected"),
	DAMAGE("\004\0item\002", "\004\0item\011", "state of version 9"),
	DAMAGE("\004\0item\002", "\377\0item\002", "damaged"),
};
#undef DAMAGE

START_TEST(test_set_damage)
{
	struct state_reading reading;
	struct outer before;
	size_t len;
	uint8_t *at;

	fill_set();
	before = set_objects[0];
	len = set_damages[_i].len;
	at = memmem(buf.data, buf.len, set_damages[_i].from, len);
	ck_assert_ptr_nonnull(at);
	memcpy(at, set_damages[_i].to, len);
	ck_assert_int_lt(read_set(&reading, buf.data, buf.len), 0);
	check_error(&err, ERROR_STATE, set_damages[_i].message);
	ck_assert_mem_eq(&before, &set_objects[0], sizeof(before));
	ck_assert_ptr_null(reading.decoded);
}
END_TEST

START_TEST(test_set_twice_and_missing)
{
	struct state_reading reading;
	size_t first;
	uint8_t *copy;

	fill_set();
	first = 4 + load_le32(buf.data);
	ck_assert_int_lt(read_set(&reading, buf.data, first), 0);
	check_error(&err, ERROR_STATE, "the saved state has no pair 'two'");
	copy = state_buf_grow(&buf, first);
	memcpy(copy, buf.data, first);
	ck_assert_int_lt(read_set(&reading, buf.data, buf.len), 0);
	check_error(&err, ERROR_STATE, "has outer 'one' twice");
	/* On the heap and exactly as long, so that the sanitizer sees a read behind the end. */
	for (size_t len = 0; len < buf.len - first; len++) {
		copy = malloc(len + 1);
		ck_assert_ptr_nonnull(copy);
		memcpy(copy, buf.data, len);
		ck_assert_int_lt(read_set(&reading, copy, len), 0);
		ck_assert_int_eq(err.code, ERROR_STATE);
		free(copy);
	}
}
END_TEST

CHECK_MAIN("state", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_golden); CHECK_TEST(test_load);
	   CHECK_TEST(test_absent_keeps); CHECK_TEST(test_versions);
	   CHECK_TABLE(test_damage, damages); CHECK_TEST(test_truncated); CHECK_TEST(test_twice);
	   CHECK_TEST(test_validate); CHECK_TEST(test_every_byte); CHECK_TEST(test_failed_sticks);
	   CHECK_TEST(test_tables_are_good); CHECK_TABLE(test_bad_table, bad_tables);
	   CHECK_TEST(test_lists); CHECK_TEST(test_growth);
	   CHECK_TABLE(test_lists_damage, lists_damages); CHECK_TEST(test_set);
	   CHECK_TABLE(test_set_damage, set_damages); CHECK_TEST(test_set_twice_and_missing))
