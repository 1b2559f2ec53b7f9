/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory that comes when it is touched, with the host's userfaultfd: what is touched, by us and by the kernel, what
 * nobody touches, and what cannot be brought.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "harness/check_main.h"
#include "vmm/cleanup.h"
#include "vmm/pager.h"
#include "vmm/platform.h"

#define SIZE	 (MIB(16) + KIB(12)) /* its last chunk is a short one */
#define CHUNKS	 9
#define NO_CHUNK 99

static struct guest_memory mem;
static struct pager *pager;
static struct error e;
/* The source: page n of the region has the bytes n, n+1, ... , every third is zero. */
static struct {
	_Atomic unsigned reads[CHUNKS];
	_Atomic unsigned order[CHUNKS], count; /* chunks, as they were read */
	_Atomic unsigned held;		       /* chunk whose read waits until this is another */
	_Atomic unsigned bad;		       /* chunk that cannot be read */
	_Atomic unsigned done, destroyed, lost;
} source;

static bool is_zero(uint64_t page)
{
	return page % 3 == 1;
}

static uint8_t byte_of(uint64_t page)
{
	return is_zero(page) ? 0 : (uint8_t)(page % 250 + 1);
}

static int read_chunk(void *arg, uint32_t index, uint64_t offset, uint8_t *buf,
		      uint64_t present[PAGER_CHUNK_PAGES / 64], struct error *error)
{
	const uint64_t chunk = offset / PAGER_CHUNK;

	ck_assert_ptr_eq(arg, &source);
	ck_assert_uint_eq(index, 0);
	atomic_fetch_add(&source.reads[chunk], 1);
	atomic_store(&source.order[atomic_load(&source.count) % CHUNKS], (unsigned)chunk);
	atomic_fetch_add(&source.count, 1);
	while (atomic_load(&source.held) == chunk) {
		(void)usleep(1000);
	}
	if (atomic_load(&source.bad) == chunk) {
		return error_set(error, ERROR_SNAPSHOT, EBADMSG, "chunk %u is bad",
				 (unsigned)chunk);
	}
	for (uint64_t i = 0; i < PAGER_CHUNK_PAGES; i++) {
		uint64_t page = offset / PAGE_SIZE_4K + i;

		/* What is not present need not be zero here. */
		memset(buf + i * PAGE_SIZE_4K, is_zero(page) ? 0xee : byte_of(page), PAGE_SIZE_4K);
		if (!is_zero(page)) {
			present[i / 64] |= 1ULL << i % 64;
		}
	}
	return 0;
}

static void done(void *arg)
{
	(void)arg;
	atomic_fetch_add(&source.done, 1);
}

static void destroy(void *arg)
{
	(void)arg;
	atomic_fetch_add(&source.destroyed, 1);
}

static void lost(struct guest_memory *memory, const struct error *why)
{
	ck_assert_ptr_eq(memory, &mem);
	ck_assert_ptr_nonnull(strstr(why->msg, "is bad"));
	atomic_fetch_add(&source.lost, 1);
}

static const struct pager_source whole = {
	.read = read_chunk, .done = done, .destroy = destroy, .arg = &source
};

static void make(enum guest_memory_backing backing, uint64_t size)
{
	const struct guest_region_config config = { .size = size, .backing = backing };
	uint64_t *content;

	mem = (struct guest_memory){ .lost = lost };
	check_ok(guest_memory_add(&mem, &config, &e), &e);
	check_ok(pager_create(&pager, &mem, &e), &e);
	pager_attach(pager);
	content = malloc(CHUNKS * PAGER_CHUNK_PAGES / 8);
	memset(content, 0xff, CHUNKS * PAGER_CHUNK_PAGES / 8);
	guest_region_set_content(&mem, 0, content);
}

static void skip_without_userfaultfd(void)
{
	struct guest_memory none = { 0 };
	struct pager *probe;

	if (pager_create(&probe, &none, &e) < 0) {
		printf("1..0 # SKIP %s\n", e.msg);
		exit(EXIT_SUCCESS);
	}
	pager_destroy(probe);
}

static void setup(void)
{
	memset(&source, 0, sizeof(source));
	atomic_store(&source.bad, NO_CHUNK);
	atomic_store(&source.held, NO_CHUNK);
}

static void teardown(void)
{
	guest_memory_finish(&mem);
}

static const volatile uint8_t *at(uint64_t page)
{
	return mem.regions[0].host + page * PAGE_SIZE_4K;
}

static void wait_for(_Atomic unsigned *what)
{
	while (atomic_load(what) == 0) {
		(void)usleep(1000);
	}
}

static void check_page(uint64_t page)
{
	const volatile uint8_t *bytes = at(page);

	for (uint64_t i = 0; i < PAGE_SIZE_4K; i += 512) {
		ck_assert_uint_eq(bytes[i], byte_of(page));
	}
}

/* Each chunk once, whoever touches it first; at the end memory is as any other. */
START_TEST(test_comes)
{
	static const uint64_t touched[] = { 4098, 4098, 4097, 511, 512, 0, 2000 };

	make(GUEST_MEMORY_ANON, SIZE);
	check_ok(pager_add(pager, 0, 0, SIZE, &e), &e);
	check_ok(pager_serve(pager, &whole, NULL, NULL, &e), &e);
	for (size_t i = 0; i < ARRAY_SIZE(touched); i++) {
		check_page(touched[i]);
	}
	wait_for(&source.done);
	for (uint64_t page = 0; page < SIZE / PAGE_SIZE_4K; page++) {
		check_page(page);
	}
	for (size_t i = 0; i < CHUNKS; i++) {
		ck_assert_uint_eq(source.reads[i], 1);
	}
	ck_assert_int_eq(pager_check(pager, &e), 0);
	guest_memory_finish(&mem);
	ck_assert_uint_eq(source.destroyed, 1);
	ck_assert_uint_eq(source.done, 1);
	ck_assert_uint_eq(source.lost, 0);
}
END_TEST

/* What a write has put there is not written over; the kernel's copies fault as well. */
START_TEST(test_writes)
{
	int pipes[2];
	uint8_t byte;

	make(GUEST_MEMORY_ANON, SIZE);
	check_ok(pager_add(pager, 0, 0, SIZE, &e), &e);
	check_ok(pager_serve(pager, &whole, NULL, NULL, &e), &e);
	ck_assert(guest_memory_write(&mem, 7 * PAGER_CHUNK + 5, "x", 1));
	ck_assert_int_eq(pipe(pipes), 0);
	ck_assert_int_eq(write(pipes[1], mem.regions[0].host + 6 * PAGER_CHUNK, 1), 1);
	ck_assert_int_eq(read(pipes[0], &byte, 1), 1);
	ck_assert_uint_eq(byte, byte_of(6 * PAGER_CHUNK_PAGES));
	/* A page that is zeroed does not come back. */
	ck_assert(guest_memory_zero(&mem, 5 * PAGER_CHUNK, PAGER_CHUNK));
	wait_for(&source.done);
	ck_assert_uint_eq(mem.regions[0].host[7 * PAGER_CHUNK + 5], 'x');
	ck_assert_uint_eq(mem.regions[0].host[7 * PAGER_CHUNK + 6], byte_of(7 * PAGER_CHUNK_PAGES));
	for (uint64_t page = 0; page < PAGER_CHUNK_PAGES; page++) {
		ck_assert_uint_eq(*at(5 * PAGER_CHUNK_PAGES + page), 0);
	}
	(void)close(pipes[0]);
	(void)close(pipes[1]);
}
END_TEST

/* Outside of its ranges memory is fresh. */
START_TEST(test_ranges)
{
	make(GUEST_MEMORY_ANON, SIZE);
	check_ok(pager_add(pager, 0, 2 * PAGER_CHUNK, PAGER_CHUNK, &e), &e);
	check_ok(pager_add(pager, 0, 8 * PAGER_CHUNK, KIB(12), &e), &e);
	check_ok(pager_serve(pager, &whole, NULL, NULL, &e), &e);
	wait_for(&source.done);
	for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
		bool its = chunk == 2 || chunk == 8;

		ck_assert_uint_eq(source.reads[chunk], its);
		ck_assert_uint_eq(*at(chunk * PAGER_CHUNK_PAGES),
				  its ? byte_of(chunk * PAGER_CHUNK_PAGES) : 0);
	}
}
END_TEST

static void *touch_all(void *arg)
{
	(void)arg;
	for (uint64_t page = 0; page < SIZE / PAGE_SIZE_4K; page += 7) {
		check_page(page);
	}
	return NULL;
}

START_TEST(test_threads)
{
	pthread_t threads[4];

	make(GUEST_MEMORY_ANON, SIZE);
	check_ok(pager_add(pager, 0, 0, SIZE, &e), &e);
	check_ok(pager_serve(pager, &whole, NULL, NULL, &e), &e);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		ck_assert_int_eq(pthread_create(&threads[i], NULL, touch_all, NULL), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	}
	wait_for(&source.done);
}
END_TEST

/* A reset: whatever has not come is gone, and memory is zeroes; again and again. */
START_TEST(test_discard)
{
	make(GUEST_MEMORY_ANON, SIZE);
	check_ok(pager_add(pager, 0, 0, SIZE, &e), &e);
	check_ok(pager_serve(pager, &whole, NULL, NULL, &e), &e);
	check_page(_i == 0 ? 0 : 4098);
	if (_i == 1) {
		wait_for(&source.done);
	}
	check_ok(guest_memory_discard(&mem, &e), &e);
	ck_assert_uint_eq(source.done, 1);
	for (uint64_t page = 0; page < SIZE / PAGE_SIZE_4K; page++) {
		ck_assert_uint_eq(*at(page), 0);
	}
	check_ok(guest_memory_discard(&mem, &e), &e);
	ck_assert_uint_eq(*at(3), 0);
	ck_assert_uint_eq(source.done, 1);
}
END_TEST

/* Who waits is told first, then let go; nothing hangs. */
START_TEST(test_lost)
{
	make(GUEST_MEMORY_ANON, SIZE);
	atomic_store(&source.bad, 8);
	check_ok(pager_add(pager, 0, 0, SIZE, &e), &e);
	if (_i == 1) {
		pager_silence(pager);
	}
	check_ok(pager_serve(pager, &whole, NULL, NULL, &e), &e);
	ck_assert_uint_eq(*at(4098), 0);
	ck_assert_uint_eq(source.lost, _i == 0);
	wait_for(&source.done);
	ck_assert_int_eq(pager_check(pager, &e), -EBADMSG);
	check_error(&e, ERROR_SNAPSHOT, "chunk 8 is bad");
	ck_assert_uint_eq(source.done, 1);
}
END_TEST

static int note_entry(void *arg, struct error *error)
{
	*(bool *)arg = true;
	(void)error;
	return 0;
}

START_TEST(test_enters)
{
	bool entered = false;

	make(GUEST_MEMORY_ANON, SIZE);
	check_ok(pager_add(pager, 0, 0, SIZE, &e), &e);
	check_ok(pager_serve(pager, &whole, note_entry, &entered, &e), &e);
	wait_for(&source.done);
	ck_assert(entered);
}
END_TEST

/* What will come counts as there is something, what was thrown away does not. */
START_TEST(test_touched)
{
	auto_close int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t *content = calloc(CHUNKS * PAGER_CHUNK_PAGES / 64, 8);
	uint64_t found[CHUNKS * PAGER_CHUNK_PAGES / 64] = { 0 };

	make(GUEST_MEMORY_ANON, SIZE);
	check_ok(pager_add(pager, 0, 0, SIZE, &e), &e);
	content[0] = 5;
	guest_region_set_content(&mem, 0, content);
	check_ok(guest_region_touched(&mem, 0, pagemap, found, sizeof(found) * 8, &e), &e);
	ck_assert_uint_eq(found[0], 5);
	ck_assert_uint_eq(found[1], 0);
	check_ok(guest_memory_discard(&mem, &e), &e);
	memset(found, 0, sizeof(found));
	check_ok(guest_region_touched(&mem, 0, pagemap, found, sizeof(found) * 8, &e), &e);
	ck_assert_uint_eq(found[0], 0);
	/* No source has been there, and nothing waits for one. */
	ck_assert_uint_eq(*at(3), 0);
}
END_TEST

/* On huge pages a chunk is one page. */
START_TEST(test_huge)
{
	struct guest_region_config config = { .size = 4 * PAGER_CHUNK,
					      .backing = GUEST_MEMORY_HUGETLB };
	struct guest_memory probe = { 0 };

	if (guest_memory_add(&probe, &config, &e) < 0) {
		CHECK_SKIP("no huge pages are reserved");
	}
	guest_memory_finish(&probe);
	make(GUEST_MEMORY_HUGETLB, 4 * PAGER_CHUNK);
	check_ok(pager_add(pager, 0, 0, 3 * PAGER_CHUNK, &e), &e);
	check_ok(pager_serve(pager, &whole, NULL, NULL, &e), &e);
	check_page(2 * PAGER_CHUNK_PAGES + 1);
	wait_for(&source.done);
	for (uint64_t page = 0; page < 3ULL * PAGER_CHUNK_PAGES; page++) {
		check_page(page);
	}
	ck_assert_uint_eq(*at(3ULL * PAGER_CHUNK_PAGES), 0);
	check_ok(guest_memory_discard(&mem, &e), &e);
	ck_assert_uint_eq(*at(0), 0);
}
END_TEST

/* --- what comes first ---------------------------------------------------------------------------- */

/* With some that it cannot bring, and one twice. */
static void prefer(void)
{
	static const struct pager_place list[] = {
		{ 0, 5 },  { 1, 0 },	      { 0, 2 }, { 0, 9 },
		{ 99, 1 }, { 0, UINT32_MAX }, { 0, 5 }, { 0, 8 },
	};
	struct pager_place *copy = malloc(sizeof(list));

	ck_assert_ptr_nonnull(copy);
	memcpy(copy, list, sizeof(list));
	pager_prefer(pager, copy, ARRAY_SIZE(list));
}

static void check_order(const unsigned order[CHUNKS])
{
	for (size_t i = 0; i < CHUNKS; i++) {
		ck_assert_uint_eq(source.order[i], order[i]);
	}
	ck_assert_uint_eq(source.count, CHUNKS);
}

START_TEST(test_prefers)
{
	static const unsigned order[CHUNKS] = { 5, 2, 8, 0, 1, 3, 4, 6, 7 };

	make(GUEST_MEMORY_ANON, SIZE);
	check_ok(pager_add(pager, 0, 0, SIZE, &e), &e);
	prefer();
	check_ok(pager_serve(pager, &whole, NULL, NULL, &e), &e);
	wait_for(&source.done);
	check_order(order);
	ck_assert_ptr_null(pager_mark(pager, &(size_t){ 0 }));
}
END_TEST

static void *touch_one(void *arg)
{
	(void)arg;
	check_page(7ULL * PAGER_CHUNK_PAGES);
	return NULL;
}

/* Who waits waits for one chunk at most, or one more if both were ready at once. */
START_TEST(test_prefers_faults)
{
	pthread_t thread;
	struct pollfd fault;

	make(GUEST_MEMORY_ANON, SIZE);
	check_ok(pager_add(pager, 0, 0, SIZE, &e), &e);
	prefer();
	atomic_store(&source.held, 5);
	check_ok(pager_serve(pager, &whole, NULL, NULL, &e), &e);
	wait_for(&source.count);
	fault = (struct pollfd){ .fd = pager_descriptor(pager), .events = POLLIN };
	ck_assert_int_eq(pthread_create(&thread, NULL, touch_one, NULL), 0);
	ck_assert_int_eq(poll(&fault, 1, -1), 1);
	atomic_store(&source.held, NO_CHUNK);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	wait_for(&source.done);
	ck_assert_uint_eq(source.order[0], 5);
	ck_assert(source.order[1] == 7 || source.order[2] == 7);
	for (size_t i = 0; i < CHUNKS; i++) {
		ck_assert_uint_eq(source.reads[i], 1);
	}
}
END_TEST

/* Nothing comes but what is asked for, until it is marked; then all does, and nothing is noted. */
START_TEST(test_records)
{
	static const unsigned order[CHUNKS] = { 8, 3, 0, 1, 2, 4, 5, 6, 7 };
	static const uint64_t touched[] = { 4098, 1536, 4097, 1537, 0 };
	const struct pager_place *record;
	size_t count;

	make(GUEST_MEMORY_ANON, SIZE);
	check_ok(pager_add(pager, 0, 0, SIZE, &e), &e);
	check_ok(pager_record(pager, &e), &e);
	check_ok(pager_serve(pager, &whole, NULL, NULL, &e), &e);
	for (size_t i = 0; i < ARRAY_SIZE(touched); i++) {
		check_page(touched[i]);
	}
	record = pager_mark(pager, &count);
	ck_assert_uint_eq(count, 3);
	wait_for(&source.done);
	check_order(order);
	for (size_t i = 0; i < count; i++) {
		ck_assert_uint_eq(record[i].index, 0);
		ck_assert_uint_eq(record[i].chunk, order[i]);
	}
	ck_assert_ptr_eq(pager_mark(pager, &count), record);
	ck_assert_uint_eq(count, 3);
}
END_TEST

/* A reset is the end of what is noted; the mark still has it. */
START_TEST(test_records_discard)
{
	const struct pager_place *record;
	size_t count;

	make(GUEST_MEMORY_ANON, SIZE);
	check_ok(pager_add(pager, 0, 0, SIZE, &e), &e);
	check_ok(pager_record(pager, &e), &e);
	check_ok(pager_serve(pager, &whole, NULL, NULL, &e), &e);
	check_page(512);
	check_ok(guest_memory_discard(&mem, &e), &e);
	ck_assert_uint_eq(*at(0), 0);
	record = pager_mark(pager, &count);
	ck_assert_uint_eq(count, 1);
	ck_assert_uint_eq(record[0].chunk, 1);
	ck_assert_uint_eq(source.count, 1);
	ck_assert_uint_eq(source.done, 1);
}
END_TEST

CHECK_MAIN("pager", skip_without_userfaultfd(); CHECK_FIXTURE(setup, teardown);
	   CHECK_TEST(test_comes); CHECK_TEST(test_writes); CHECK_TEST(test_ranges);
	   CHECK_TEST(test_threads); CHECK_LOOP(test_discard, 2); CHECK_LOOP(test_lost, 2);
	   CHECK_TEST(test_enters); CHECK_TEST(test_touched); CHECK_TEST(test_huge);
	   CHECK_TEST(test_prefers); CHECK_TEST(test_prefers_faults); CHECK_TEST(test_records);
	   CHECK_TEST(test_records_discard))
