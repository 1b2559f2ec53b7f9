/* SPDX-License-Identifier: Apache-2.0 */
/* Places of devices as a stranger may write them (src/vmm/places.h). What is written of a machine is in
 * test_vm_load.c. */
#include "../../src/vmm/places.h"

#include <stdlib.h>
#include <string.h>

#include "harness/check_main.h"
#include "vmm/bytes.h"

static struct places places;
static struct state_buf buf;
static struct error e;

static void setup(void)
{
	memset(&places, 0, sizeof(places));
	memset(&e, 0, sizeof(e));
}

static void teardown(void)
{
	state_buf_finish(&buf);
	memset(&buf, 0, sizeof(buf));
}

static void add(const char *id, uint8_t devfn)
{
	struct place *place = &places.list[places.count++];

	place->devfn = devfn;
	place->id_len = (uint32_t)strlen(id);
	memcpy(place->id, id, place->id_len);
}

/* As places_save() does, and something behind it. */
static void encode(void)
{
	teardown();
	(void)state_buf_grow(&buf, 6);
	check_ok(state_save(&places_state, &places, &buf, &e), &e);
	store_le32(buf.data, (uint32_t)(buf.len - 4));
	store_le16(buf.data + 4, places_state.version);
	memcpy(state_buf_grow(&buf, 3), "end", 3);
}

static int read_back(struct places **ret, size_t len)
{
	const uint8_t *data = buf.data;
	int r = places_read(ret, &data, &len, &e);

	if (r == 0) {
		ck_assert_uint_eq(len, 3);
		ck_assert_mem_eq(data, "end", 3);
	} else {
		ck_assert_ptr_null(*ret);
		ck_assert_int_eq(e.code, ERROR_STATE);
	}
	return r;
}

START_TEST(test_table)
{
	check_ok(state_desc_check(&places_state, &e), &e);
}
END_TEST

START_TEST(test_round_trip)
{
	struct places *read = NULL;
	uint8_t devfn = 0;

	add("rootfs", 0x10);
	add("x", 0x18);
	encode();
	check_ok(read_back(&read, buf.len), &e);
	ck_assert(places_find(read, "rootfs", &devfn));
	ck_assert_uint_eq(devfn, 0x10);
	ck_assert(places_find(read, "x", &devfn));
	ck_assert_uint_eq(devfn, 0x18);
	ck_assert(!places_find(read, "", &devfn));
	ck_assert(!places_find(read, "rootf", &devfn));
	ck_assert(!places_find(read, "rootfsx", &devfn));
	free(read);
	places.count = 0;
	encode();
	check_ok(read_back(&read, buf.len), &e);
	free(read);
}
END_TEST

START_TEST(test_hostile)
{
	struct places *read;

	add("a", 0x10);
	add("b", 0x10);
	encode();
	ck_assert_int_lt(read_back(&read, buf.len), 0);
	places.list[1].devfn = 0x18;
	places.list[1].id[0] = 'a';
	encode();
	ck_assert_int_lt(read_back(&read, buf.len), 0);
	places.list[1].id[0] = 'b';
	places.list[1].devfn = 0x7; /* the bridge's */
	encode();
	ck_assert_int_lt(read_back(&read, buf.len), 0);
	places.list[1].devfn = 0x18;
	encode();
	for (size_t len = 0; len + 3 < buf.len; len++) {
		ck_assert_int_lt(read_back(&read, len), 0);
	}
	store_le16(buf.data + 4, (uint16_t)(places_state.version + 1));
	ck_assert_int_lt(read_back(&read, buf.len), 0);
	store_le16(buf.data + 4, places_state.version);
	store_le32(buf.data, UINT32_MAX);
	ck_assert_int_lt(read_back(&read, buf.len), 0);
}
END_TEST

CHECK_MAIN("places", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_table);
	   CHECK_TEST(test_round_trip); CHECK_TEST(test_hostile))
