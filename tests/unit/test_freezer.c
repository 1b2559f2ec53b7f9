/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory as it was at one moment, with the host's userfaultfd: of every kind of memory, while threads write every page of it;
 * what ends it early, and where it is not possible.
 */
#include "harness/memory_rig.h"

#include <linux/userfaultfd.h>
#include <stdatomic.h>

#include "vmm/freezer.h"
#include "vmm/pager.h"

#define SIZE	(MIB(20) + KIB(12)) /* its last chunk is a short one */
#define PAGES	(SIZE / PAGE_SIZE_4K)
#define CHUNKS	11
#define WORDS	(CHUNKS * FREEZER_CHUNK_PAGES / 64)
#define WRITERS 2

static struct guest_memory mem;
static struct freezer *freezer;
static int freezer_fd = -1, pagemap = -1;
static uint8_t *want, *got;
static unsigned taken[CHUNKS];

/* Those who write: each bumps a number in each of its pages, again and again. */
static struct {
	pthread_t threads[WRITERS];
	pthread_rwlock_t at_rest; /* held to write by who stops them */
	_Atomic unsigned rounds[WRITERS];
	_Atomic bool end;
	uint32_t count;
} writers;

static void *write_pages(void *arg)
{
	const uintptr_t which = (uintptr_t)arg;

	while (!atomic_load(&writers.end)) {
		for (uint64_t page = which; page < PAGES; page += WRITERS) {
			uint8_t *bytes = mem.regions[0].host + page * PAGE_SIZE_4K;

			(void)pthread_rwlock_rdlock(&writers.at_rest);
			/* Both ends of it, and what was fresh. */
			atomic_fetch_add((_Atomic uint32_t *)(void *)bytes, 1);
			atomic_fetch_add((_Atomic uint32_t *)(void *)(bytes + PAGE_SIZE_4K - 4), 1);
			(void)pthread_rwlock_unlock(&writers.at_rest);
		}
		atomic_fetch_add(&writers.rounds[which], 1);
	}
	return NULL;
}

static void start_writers(void)
{
	atomic_store(&writers.end, false);
	for (uintptr_t i = 0; i < WRITERS; i++) {
		atomic_store(&writers.rounds[i], 0);
		ck_assert_int_eq(pthread_create(&writers.threads[i], NULL, write_pages, (void *)i),
				 0);
		writers.count++;
	}
}

/* Each has been at each of its pages after this was called. */
static void await_writers(void)
{
	for (size_t i = 0; i < WRITERS; i++) {
		unsigned before = atomic_load(&writers.rounds[i]);

		while (atomic_load(&writers.rounds[i]) < before + 2) {
			(void)usleep(1000);
		}
	}
}

static void stop_writers(void)
{
	atomic_store(&writers.end, true);
	while (writers.count > 0) {
		(void)pthread_join(writers.threads[--writers.count], NULL);
	}
}

static uint8_t *place(uint64_t offset)
{
	return mem.regions[0].host + offset;
}

/* Some chunks whole, some in parts, some not at all. */
static void fill(void)
{
	for (uint64_t page = 0; page < PAGES; page++) {
		uint64_t chunk = page / FREEZER_CHUNK_PAGES;

		if (chunk % 4 == 0 || (chunk % 4 == 1 && page % 3 == 0) || page == PAGES - 1) {
			memset(place(page * PAGE_SIZE_4K) + 8, (int)(page % 250 + 1), 100);
		}
	}
}

enum kind { KIND_ANON, KIND_SMALL_PAGES, KIND_MEMFD, KIND_PRIVATE, KINDS };

static void add_file(void)
{
	struct guest_region_config config = { .size = SIZE,
					      .backing = GUEST_MEMORY_FILE_PRIVATE,
					      .fd = memfd_create("image", MFD_CLOEXEC) };

	ck_assert_int_ge(config.fd, 0);
	ck_assert_int_eq(ftruncate(config.fd, SIZE), 0);
	for (uint64_t page = 0; page < PAGES; page += 7) {
		ck_assert_int_eq(pwrite(config.fd, "file", 4, (off_t)(page * PAGE_SIZE_4K)), 4);
	}
	check_ok(guest_memory_add(&mem, &config, &err), &err);
	/* As a restore has it: where the image has nothing, and what came from elsewhere. */
	check_ok(guest_region_overlay(&mem, 0, 3 * FREEZER_CHUNK, FREEZER_CHUNK, -1, 0, &err),
		 &err);
}

static void make(enum kind kind)
{
	struct guest_region_config config = { .size = SIZE,
					      .backing = kind == KIND_MEMFD ? GUEST_MEMORY_MEMFD
									    : GUEST_MEMORY_ANON };

	if (kind == KIND_PRIVATE) {
		add_file();
	} else {
		check_ok(guest_memory_add(&mem, &config, &err), &err);
	}
	(void)madvise(mem.regions[0].host, SIZE,
		      kind == KIND_SMALL_PAGES ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
	fill();
}

static int create(void)
{
	const struct freezer_config config = { .mem = &mem,
					       .fd = freezer_fd,
					       .pagemap_fd = pagemap };

	return freezer_create(&freezer, &config, &err);
}

static bool go_on(void *arg)
{
	(void)arg;
	return true;
}

static void arm(void)
{
	check_ok(create(), &err);
	freezer_arm(freezer);
	check_ok(freezer_wait(freezer, go_on, NULL, &err), &err);
}

/* The moment: everybody stands still. */
static void freeze(uint64_t *const *pages)
{
	(void)pthread_rwlock_wrlock(&writers.at_rest);
	check_ok(freezer_freeze(freezer, pages, &err), &err);
	memcpy(want, mem.regions[0].host, SIZE);
	(void)pthread_rwlock_unlock(&writers.at_rest);
}

/* One, into `got`; false: that was the last. */
static bool take(void)
{
	struct freezer_chunk chunk;
	int r;

	do {
		r = freezer_take(freezer, &chunk, &err);
		ck_assert_msg(r >= 0, "%s", err.msg);
	} while (r == FREEZER_LATER);
	if (r == FREEZER_END) {
		return false;
	}
	ck_assert_uint_eq(chunk.index, 0);
	taken[chunk.offset / FREEZER_CHUNK]++;
	for (uint64_t page = 0; page < FREEZER_CHUNK_PAGES; page++) {
		if ((chunk.pages[page / 64] >> page % 64 & 1) != 0) {
			memcpy(got + chunk.offset + page * PAGE_SIZE_4K,
			       chunk.bytes + page * PAGE_SIZE_4K, PAGE_SIZE_4K);
		}
	}
	freezer_give_back(freezer, &chunk);
	return true;
}

static void take_all(void)
{
	while (take()) {
	}
	for (size_t i = 0; i < CHUNKS; i++) {
		ck_assert_uint_le(taken[i], 1);
	}
}

static void check_same(void)
{
	for (uint64_t page = 0; page < PAGES; page++) {
		ck_assert_msg(memcmp(want + page * PAGE_SIZE_4K, got + page * PAGE_SIZE_4K,
				     PAGE_SIZE_4K) == 0,
			      "page %u", (unsigned)page);
	}
}

static void check_free(void)
{
	ck_assert(!atomic_load(&mem.regions[0].held));
	ck_assert_ptr_null(mem.freezer);
	memset(mem.regions[0].host, 9, SIZE);
}

static void setup_one(void)
{
	pthread_rwlockattr_t attr;

	mem = (struct guest_memory){ 0 };
	freezer = NULL;
	freezer_fd = freezer_open();
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	want = calloc(1, SIZE);
	got = calloc(1, SIZE);
	memset(taken, 0, sizeof(taken));
	/* Who stops the others gets his turn. */
	(void)pthread_rwlockattr_init(&attr);
	(void)pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	(void)pthread_rwlock_init(&writers.at_rest, &attr);
}

static void teardown_one(void)
{
	stop_writers();
	freezer_destroy(freezer);
	guest_memory_finish(&mem);
	close_fd(&freezer_fd);
	close_fd(&pagemap);
	free(want);
	free(got);
}

/* Whatever is written from the moment on, by whom it may be, and before it while memory is armed. */
START_TEST(test_frozen)
{
	make((enum kind)(_i / 2));
	if (_i % 2 == 0) {
		start_writers();
	}
	arm();
	if (_i % 2 == 0) {
		await_writers();
	}
	freeze(NULL);
	if (_i % 2 != 0) {
		start_writers();
	}
	await_writers();
	take_all();
	stop_writers();
	check_same();
	freezer_destroy(take_ptr(freezer));
	check_free();
}
END_TEST

/* The next one, of the same descriptor; nobody writes, or what was fresh before. */
START_TEST(test_again)
{
	make(KIND_ANON);
	for (int i = 0; i < 3; i++) {
		arm();
		/* Where nothing was as it was armed. */
		memset(place(2 * FREEZER_CHUNK + (uint64_t)i * PAGE_SIZE_4K), 0x11, 100);
		freeze(NULL);
		memset(place(2 * FREEZER_CHUNK), 0x22, FREEZER_CHUNK);
		memset(place(6 * FREEZER_CHUNK), 0x33, 10);
		memset(got, 0, SIZE);
		memset(taken, 0, sizeof(taken));
		take_all();
		check_same();
		freezer_destroy(take_ptr(freezer));
	}
	check_free();
}
END_TEST

/* Our own writes: by the kernel for us, by a copy, zeroes that would give pages back. */
START_TEST(test_own_writes)
{
	int pipes[2];

	make((enum kind)_i);
	ck_assert_int_eq(pipe(pipes), 0);
	arm();
	ck_assert(guest_memory_zero(&mem, 5 * FREEZER_CHUNK, FREEZER_CHUNK));
	ck_assert_int_eq(write(pipes[1], "before", 6), 6);
	ck_assert_int_eq(read(pipes[0], place(8 * FREEZER_CHUNK), 6), 6);
	freeze(NULL);
	ck_assert(guest_memory_zero(&mem, 4 * FREEZER_CHUNK, 2 * FREEZER_CHUNK));
	ck_assert_int_eq(write(pipes[1], "after", 5), 5);
	ck_assert_int_eq(read(pipes[0], place(9 * FREEZER_CHUNK), 5), 5);
	ck_assert(guest_memory_write(&mem, 5, "x", 1));
	ck_assert_int_eq(place(5)[0], 'x');
	for (uint64_t i = 0; i < 2 * FREEZER_CHUNK; i++) {
		ck_assert_uint_eq(place(4 * FREEZER_CHUNK)[i], 0);
	}
	take_all();
	check_same();
	(void)close(pipes[0]);
	(void)close(pipes[1]);
}
END_TEST

/* Of a difference: only what is wanted, whether it is in use or not. */
START_TEST(test_wanted)
{
	uint64_t pages[WORDS] = { 0 };
	uint64_t *list[GUEST_MEMORY_REGIONS_MAX] = { pages };

	make(KIND_ANON);
	pages[0] = 5;
	pages[3 * FREEZER_CHUNK_PAGES / 64] = 1; /* of a chunk without pages */
	pages[8 * FREEZER_CHUNK_PAGES / 64 + 1] = 1ULL << 63;
	arm();
	freeze(list);
	start_writers();
	await_writers();
	take_all();
	stop_writers();
	ck_assert_uint_eq(taken[0], 1);
	ck_assert_uint_eq(taken[8], 1);
	ck_assert_uint_eq(taken[4] + taken[5] + taken[1], 0);
	for (uint64_t page = 0; page < PAGES; page++) {
		if ((pages[page / 64] >> page % 64 & 1) == 0) {
			memset(want + page * PAGE_SIZE_4K, 0, PAGE_SIZE_4K);
		}
	}
	check_same();
}
END_TEST

/* What somebody waits for, whether it has been copied by then or not; what is no chunk, or was given; and more than there are. */
START_TEST(test_hurried)
{
	make(KIND_ANON);
	arm();
	freeze(NULL);
	for (uint32_t i = 0; i < CHUNKS; i++) {
		bool due = (freezer_due(freezer, 0)[0] >> i & 1) != 0;

		/* As fill() has it. */
		ck_assert(due == (i % 4 <= 1 || i == CHUNKS - 1));
	}
	ck_assert_ptr_null(freezer_due(freezer, 1));
	ck_assert_ptr_null(freezer_due(freezer, UINT32_MAX));
	if (_i == 1) {
		/* It copies ahead by now, whatever that is. */
		ck_assert(take());
	}
	freezer_hurry(freezer, 0, 2);
	freezer_hurry(freezer, 0, CHUNKS);
	freezer_hurry(freezer, 0, UINT32_MAX);
	freezer_hurry(freezer, 7, 0);
	freezer_hurry(freezer, UINT32_MAX, 0);
	freezer_hurry(freezer, 0, 9);
	ck_assert(take());
	ck_assert(_i == 1 || taken[9] == 1);
	for (uint32_t i = 0; i < 3 * CHUNKS; i++) {
		freezer_hurry(freezer, 0, i % CHUNKS);
	}
	take_all();
	check_same();
}
END_TEST

/* Given up at any time: who writes goes on, and nothing is protected. */
START_TEST(test_given_up)
{
	make(KIND_ANON);
	start_writers();
	check_ok(create(), &err);
	if (_i >= 1) {
		freezer_arm(freezer);
	}
	if (_i >= 2) {
		check_ok(freezer_wait(freezer, go_on, NULL, &err), &err);
	}
	if (_i >= 3) {
		freeze(NULL);
	}
	if (_i >= 4) {
		ck_assert(take());
	}
	if (_i >= 5) {
		await_writers();
	}
	freezer_destroy(take_ptr(freezer));
	await_writers();
	stop_writers();
	check_free();
}
END_TEST

static bool stop_waiting(void *arg)
{
	(void)arg;
	return false;
}

START_TEST(test_cancelled)
{
	make(KIND_ANON);
	check_ok(create(), &err);
	ck_assert_int_lt(freezer_wait(freezer, stop_waiting, NULL, &err), 0);
	check_error(&err, ERROR_CANCELLED, "cancelled");
}
END_TEST

/* A machine reset. */
START_TEST(test_discard)
{
	struct freezer_chunk chunk;

	make((enum kind)_i);
	arm();
	freeze(NULL);
	ck_assert(take());
	check_ok(guest_memory_discard(&mem, &err), &err);
	for (uint64_t i = 0; i < SIZE; i += PAGE_SIZE_4K) {
		ck_assert_uint_eq(*place(i + 8), 0);
		*place(i) = 5;
	}
	take_all();
	check_same();
	freezer_destroy(take_ptr(freezer));
	if (_i != KIND_PRIVATE) {
		arm();
		check_ok(guest_memory_discard(&mem, &err), &err);
		ck_assert_int_lt(freezer_freeze(freezer, NULL, &err), 0);
		check_error(&err, ERROR_BUSY, "resets");
		ck_assert_int_lt(freezer_take(freezer, &chunk, &err), 0);
		freezer_destroy(take_ptr(freezer));
	}
	check_free();
}
END_TEST

/* Memory that others may write, a host that has nothing, and a pager that is not done. */
START_TEST(test_refused)
{
	struct guest_region_config config = { .size = SIZE };
	struct pager *pager = NULL;
	int fd = freezer_fd;

	config.backing = _i == 0 ? GUEST_MEMORY_FILE_SHARED : GUEST_MEMORY_ANON;
	if (_i == 0) {
		config.fd = memfd_create("shared", MFD_CLOEXEC);
		ck_assert_int_eq(ftruncate(config.fd, SIZE), 0);
	}
	check_ok(guest_memory_add(&mem, &config, &err), &err);
	if (_i == 1) {
		check_ok(pager_create(&pager, &mem, &err), &err);
		pager_attach(pager);
		check_ok(pager_add(pager, 0, FREEZER_CHUNK, FREEZER_CHUNK, &err), &err);
	} else if (_i == 2) {
		freezer_fd = -EPERM;
	}
	ck_assert_int_lt(create(), 0);
	check_error(&err, ERROR_NOT_SUPPORTED, "write protection");
	ck_assert(!atomic_load(&mem.regions[0].held));
	ck_assert_ptr_null(mem.freezer);
	freezer_fd = fd;
	if (pager != NULL) {
		pager_end(pager);
		arm();
	}
}
END_TEST

static void skip_without_protection(void)
{
	int fd = freezer_open();

	if (fd < 0) {
		printf("1..0 # SKIP userfaultfd with write protection: %s\n", strerrordesc_np(-fd));
		exit(EXIT_SUCCESS);
	}
	(void)close(fd);
}

CHECK_MAIN("freezer", skip_without_protection(); CHECK_FIXTURE(setup_one, teardown_one);
	   CHECK_LOOP(test_frozen, 2 * KINDS); CHECK_TEST(test_again);
	   CHECK_LOOP(test_own_writes, KINDS); CHECK_TEST(test_wanted); CHECK_LOOP(test_hurried, 2);
	   CHECK_LOOP(test_given_up, 6); CHECK_TEST(test_cancelled);
	   CHECK_LOOP(test_discard, KINDS); CHECK_LOOP(test_refused, 3))
