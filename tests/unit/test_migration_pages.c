/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory as PAGES messages: there and back, what is not sent, and payloads by somebody who means harm. */
#include <errno.h>

#include "harness/check_main.h"
#include "vmm/bytes.h"
#include "vmm/migration_pages.h"

#define SIZE  MIB(4)
#define PAGES (SIZE / PAGE_SIZE_4K)

static struct guest_memory here, there;
static struct compressor unpacks;
static struct migration_pages pages;
static struct error err;
static uint32_t messages, fail_after;
static uint8_t payload[MIGRATION_PAGES_HEADER + MIGRATION_PAGES_MAX * PAGE_SIZE_4K + 1];

static void setup(void)
{
	check_ok(guest_memory_init(&here, SIZE, GUEST_MEMORY_ANON, &err), &err);
	check_ok(guest_memory_init(&there, SIZE, GUEST_MEMORY_ANON, &err), &err);
	check_ok(migration_pages_init(&pages, &here, &err), &err);
	fail_after = UINT32_MAX;
}

static void teardown(void)
{
	migration_pages_finish(&pages);
	guest_memory_finish(&here);
	guest_memory_finish(&there);
	compressor_finish(&unpacks);
}

static int deliver(void *arg, const uint8_t *bytes, uint32_t len, struct error *e)
{
	uint64_t got;

	ck_assert_ptr_eq(arg, &messages);
	if (messages == fail_after) {
		return error_set(e, ERROR_MIGRATION, EPIPE, "gone");
	}
	messages++;
	return migration_pages_store(&there, &unpacks, bytes, len, &got, e);
}

static void want(uint64_t page)
{
	uint64_t bits, *look = migration_pages_wanted(&pages, 0, &bits);

	ck_assert_ptr_nonnull(look);
	ck_assert_uint_lt(page, bits);
	look[page / 64] |= 1ULL << page % 64;
}

static void want_all(void)
{
	for (uint64_t page = 0; page < PAGES; page++) {
		want(page);
	}
}

static void fill(uint64_t page, uint8_t with)
{
	memset(here.regions[0].host + page * PAGE_SIZE_4K, with, PAGE_SIZE_4K);
}

static void send_all(void)
{
	messages = 0;
	check_ok(migration_pages_send(&pages, deliver, &messages, &err), &err);
	ck_assert_uint_eq(migration_pages_left(&pages), 0);
}

static void same(void)
{
	ck_assert_int_eq(memcmp(here.regions[0].host, there.regions[0].host, SIZE), 0);
}

#define NEED_ZSTD()                                               \
	do {                                                      \
		if (!compress_supported()) {                      \
			CHECK_SKIP("vmm was built without zstd"); \
		}                                                 \
	} while (0)

/* Patterns of full, zero and untouched pages, again and again: what is there afterwards is what is here. */
START_TEST(test_there_and_back)
{
	srand(7);
	if (_i == 1) {
		NEED_ZSTD();
		check_ok(migration_pages_pack(&pages, &err), &err);
	}
	for (int pass = 0; pass < 40; pass++) {
		for (uint64_t page = 0; page < PAGES; page++) {
			int dice = rand() % 8;

			if (dice < 3) {
				fill(page, dice == 0 ? 0 : (uint8_t)rand());
				want(page);
			} else if (dice == 3) {
				want(page);
			}
		}
		send_all();
		same();
	}
}
END_TEST

START_TEST(test_zero_pages_are_not_sent)
{
	want_all();
	ck_assert_uint_eq(migration_pages_left(&pages), SIZE);
	send_all();
	ck_assert_uint_eq(messages, 0);
	ck_assert_uint_eq(pages.sent, 0);
	/* One run, but for what a message cannot take. */
	for (uint64_t page = 3; page < 3 + MIGRATION_PAGES_BATCH + 1; page++) {
		fill(page, 1);
	}
	want_all();
	send_all();
	ck_assert_uint_eq(messages, 2);
	ck_assert_uint_eq(pages.sent, (MIGRATION_PAGES_BATCH + 1) * PAGE_SIZE_4K);
	same();
	/* What is zero now has to be said, without the page. */
	fill(4, 0);
	want(4);
	send_all();
	ck_assert_uint_eq(messages, 1);
	ck_assert_uint_eq(pages.sent, (MIGRATION_PAGES_BATCH + 1) * PAGE_SIZE_4K);
	same();
}
END_TEST

/* What could not be sent is still wanted. */
START_TEST(test_failed_send)
{
	for (uint64_t page = 0; page < 64; page += 2) {
		fill(page, 9);
		want(page);
	}
	fail_after = 5;
	messages = 0;
	ck_assert_int_eq(migration_pages_send(&pages, deliver, &messages, &err), -EPIPE);
	ck_assert_uint_eq(migration_pages_left(&pages), 27 * PAGE_SIZE_4K);
	fail_after = UINT32_MAX;
	send_all();
	same();
}
END_TEST

static const struct hostile {
	uint32_t region, count;
	uint64_t first;
	uint32_t flags, reserved, len;
} hostiles[] = {
	{ 1, 1, 0, 0, 0, MIGRATION_PAGES_HEADER + 4096 },
	{ UINT32_MAX, 1, 0, 0, 0, MIGRATION_PAGES_HEADER + 4096 },
	{ 0, 0, 0, 0, 0, MIGRATION_PAGES_HEADER },
	{ 0, 1, PAGES, 0, 0, MIGRATION_PAGES_HEADER + 4096 },
	{ 0, 2, PAGES - 1, 0, 0, MIGRATION_PAGES_HEADER + 8192 },
	{ 0, 1, UINT64_MAX, 0, 0, MIGRATION_PAGES_HEADER + 4096 },
	{ 0, 2, UINT64_MAX, 0, 0, MIGRATION_PAGES_HEADER + 8192 },
	{ 0, 1, 0, 0, 0, MIGRATION_PAGES_HEADER + 4095 },
	{ 0, 1, 0, 0, 0, MIGRATION_PAGES_HEADER + 4097 },
	{ 0, 2, 0, 0, 0, MIGRATION_PAGES_HEADER + 4096 },
	{ 0, 1, 0, MIGRATION_PAGES_ZERO, 0, MIGRATION_PAGES_HEADER + 4096 },
	{ 0, 1, 0, MIGRATION_PAGES_PACKED, 0, MIGRATION_PAGES_HEADER + 4096 },
	{ 0, 1, 0, MIGRATION_PAGES_PACKED, 0, MIGRATION_PAGES_HEADER },
	{ 0, 1, 0, MIGRATION_PAGES_PACKED, 0, MIGRATION_PAGES_HEADER + 8192 },
	{ 0, 1, 0, MIGRATION_PAGES_PACKED | MIGRATION_PAGES_ZERO, 0, MIGRATION_PAGES_HEADER },
	{ 0, 1, 0, MIGRATION_PAGES_PACKED | MIGRATION_PAGES_ZERO, 0, MIGRATION_PAGES_HEADER + 9 },
	{ 0, 2, PAGES - 1, MIGRATION_PAGES_PACKED, 0, MIGRATION_PAGES_HEADER + 100 },
	{ 0, 1, 0, 4, 0, MIGRATION_PAGES_HEADER + 4096 },
	{ 0, 1, 0, 0, 1, MIGRATION_PAGES_HEADER + 4096 },
	{ 0, MIGRATION_PAGES_MAX + 1, 0, MIGRATION_PAGES_ZERO, 0, MIGRATION_PAGES_HEADER },
	{ 0, UINT32_MAX, 0, MIGRATION_PAGES_ZERO, 0, MIGRATION_PAGES_HEADER },
	{ 0, 1, 0, 0, 0, MIGRATION_PAGES_HEADER - 1 },
	{ 0, 1, 0, 0, 0, 0 },
};

START_TEST(test_hostile_payload)
{
	const struct hostile *row = &hostiles[_i];
	uint64_t got;

	memset(payload, 0xee, sizeof(payload));
	store_le32(payload, row->region);
	store_le32(payload + 4, row->count);
	store_le64(payload + 8, row->first);
	store_le32(payload + 16, row->flags);
	store_le32(payload + 20, row->reserved);
	ck_assert_int_eq(migration_pages_store(&there, &unpacks, payload, row->len, &got, &err),
			 -EPROTO);
	check_error(&err, ERROR_MIGRATION, "pages");
	ck_assert_uint_eq(got, 0);
	if (row->len >= MIGRATION_PAGES_HEADER) {
		ck_assert_ptr_null(migration_pages_place(&there, payload, row->len));
	}
	same();
}
END_TEST

/* Read to where they belong, as a connection does it. */
static int deliver_in_place(void *arg, const uint8_t *bytes, uint32_t len, struct error *e)
{
	uint8_t *to = migration_pages_place(&there, bytes, len);
	uint64_t got = 0;

	(void)arg;
	messages++;
	if (to == NULL) {
		ck_assert_uint_eq(len, MIGRATION_PAGES_HEADER);
		return migration_pages_store(&there, &unpacks, bytes, len, &got, e);
	}
	memcpy(to, bytes + MIGRATION_PAGES_HEADER, len - MIGRATION_PAGES_HEADER);
	migration_pages_placed(&there, bytes, &got);
	ck_assert_uint_eq(got, len - MIGRATION_PAGES_HEADER);
	return 0;
}

START_TEST(test_in_place)
{
	uint64_t bits = ALIGN_UP(PAGES, (uint64_t)64), written[PAGES / 64] = { 0 };

	fill(0, 1);
	for (uint64_t page = 7; page < 90; page++) {
		fill(page, (uint8_t)page);
	}
	want_all();
	check_ok(guest_memory_dirty_start(&there, &err), &err);
	check_ok(guest_region_dirty_collect(&there, 0, written, bits, &err), &err);
	memset(written, 0, sizeof(written));
	check_ok(migration_pages_send(&pages, deliver_in_place, NULL, &err), &err);
	same();
	check_ok(guest_region_dirty_collect(&there, 0, written, bits, &err), &err);
	ck_assert_uint_eq(written[0], ~0ULL << 7 | 1);
	ck_assert_uint_eq(written[1], (1ULL << (90 - 64)) - 1);
	fill(8, 0);
	want(8);
	check_ok(migration_pages_send(&pages, deliver_in_place, NULL, &err), &err);
	same();
	guest_memory_dirty_stop(&there);
}
END_TEST

/* Only what is less by it is packed. */
START_TEST(test_packed)
{
	NEED_ZSTD();
	check_ok(migration_pages_pack(&pages, &err), &err);
	for (uint64_t page = 0; page < 8; page++) {
		fill(page, 7);
	}
	want_all();
	send_all();
	same();
	ck_assert_uint_eq(pages.sent, 8 * PAGE_SIZE_4K);
	ck_assert_uint_lt(pages.wire, PAGE_SIZE_4K);
	for (uint64_t i = 0; i < 8 * PAGE_SIZE_4K; i++) {
		here.regions[0].host[i] = (uint8_t)rand();
	}
	want_all();
	pages.wire = 0;
	send_all();
	same();
	ck_assert_uint_ge(pages.wire, MIGRATION_PAGES_HEADER + 8 * PAGE_SIZE_4K);
}
END_TEST

/* A block that is none, is cut off, or is of more or fewer bytes than its pages have; what is beside them stays as it was. */
START_TEST(test_hostile_block)
{
	enum { NONSENSE, CUT_OFF, SHORT, LONG, KINDS };
	static uint8_t raw[16 * 4096];
	struct compressor packs = { 0 };

	NEED_ZSTD();
	for (size_t i = 0; i < sizeof(raw); i++) {
		raw[i] = (uint8_t)(rand() % 5);
	}
	for (int kind = 0; kind < KINDS; kind++) {
		const size_t len = kind == SHORT ? 8191 : kind == LONG ? sizeof(raw) : 8192;
		int64_t n = compress_block(&packs, payload + MIGRATION_PAGES_HEADER,
					   sizeof(payload) - MIGRATION_PAGES_HEADER, raw, len);
		uint64_t got = 1;

		ck_assert_int_gt(n, 0);
		memset(payload, 0, MIGRATION_PAGES_HEADER);
		store_le32(payload + 4, kind == LONG ? 15 : 2);
		store_le64(payload + 8, 4);
		store_le32(payload + 16, MIGRATION_PAGES_PACKED);
		if (kind == NONSENSE) {
			memset(payload + MIGRATION_PAGES_HEADER, 0x5a, (size_t)n);
		}
		n -= kind == CUT_OFF;
		ck_assert_int_eq(migration_pages_store(&there, &unpacks, payload,
						       MIGRATION_PAGES_HEADER + (uint32_t)n, &got,
						       &err),
				 -EPROTO);
		check_error(&err, ERROR_MIGRATION, "cannot be unpacked");
		ck_assert_uint_eq(got, 0);
		ck_assert(page_is_zero(there.regions[0].host + 3 * PAGE_SIZE_4K));
		ck_assert(page_is_zero(there.regions[0].host +
				       (kind == LONG ? 19 : 6) * PAGE_SIZE_4K));
	}
	compressor_finish(&packs);
}
END_TEST

START_TEST(test_without_zstd)
{
	if (compress_supported()) {
		check_ok(migration_pages_pack(&pages, &err), &err);
		return;
	}
	ck_assert_int_eq(migration_pages_pack(&pages, &err), -ENOTSUP);
	check_error(&err, ERROR_NOT_SUPPORTED, "without zstd");
}
END_TEST

CHECK_MAIN("migration_pages", CHECK_FIXTURE(setup, teardown); CHECK_LOOP(test_there_and_back, 2);
	   CHECK_TEST(test_zero_pages_are_not_sent); CHECK_TEST(test_failed_send);
	   CHECK_TEST(test_in_place); CHECK_TEST(test_packed); CHECK_TEST(test_hostile_block);
	   CHECK_TEST(test_without_zstd); CHECK_TABLE(test_hostile_payload, hostiles))
