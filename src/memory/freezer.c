/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy before write: include/vmm/freezer.h is the contract; the kernel's Documentation/admin-guide/mm/userfaultfd.rst has the rules of
 * write protection.
 *
 * A chunk of 2 MiB is copied and let go as a whole, so that a huge page stays one and the guest has one fault for 512 pages.
 *
 *	BARE	nothing was in it as it was looked at	-> freeze: looked at once more, ARMED or GONE
 *	ARMED	protected				-> a write before freeze: WRITTEN; copied after it: GONE
 *	WRITTEN	not protected				-> freeze: ARMED
 *	GONE	not protected, and no more to be done
 *
 * In a chunk that is ARMED pages that do not exist are protected as well (UFFD_FEATURE_WP_UNPOPULATED, Linux 6.4). In one that
 * is BARE nothing is, so that it gets its huge pages as ever; whether anything has come there meanwhile is asked of its page
 * tables, of which it has none if nothing has.
 *
 * Pages that are given back lose their protection without a word. While a region is `held` (guest_memory.h) none are, and a
 * machine reset ends the freezer first.
 *
 * One thread, a worker, does all of this but the moment itself: it hears of faults, and a post that posts itself again arms, and later
 * copies, one piece at a time, so that a fault waits for one piece at most. It waits for nobody who may write guest memory: whoever
 * does waits for it, with whatever locks he has. So a lock that it takes is never held over such a write: that of all states here,
 * which only the thread that has stopped the VM takes as well, to arm and for the moment (a call would cost two switches, while the VM stands still);
 * and that of the queue to the taker (freezer_queue.c), held for a few instructions. The taker writes no guest memory.
 *
 * Of what nobody has written yet up to FREEZER_AHEAD copies wait for the taker; what is written is copied in any case, into address
 * space that was reserved, and what the taker is in a hurry for as soon as it is heard of, and put in front.
 *
 * The guest controls which pages are written, and when. Saved: nothing.
 */
#include "vmm/freezer.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "freezer_internal.h"
#include "internal.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/overflow.h"
#include "vmm/worker.h"

LOG_DOMAIN("memory");

/* linux/userfaultfd.h since 5.19 and 6.4 */
#define FEATURE_WP_FILES       (1ULL << 12)
#define FEATURE_WP_UNPOPULATED (1ULL << 13)
#define FEATURES	       (UFFD_FEATURE_PAGEFAULT_FLAG_WP | FEATURE_WP_FILES | FEATURE_WP_UNPOPULATED)

#define FAULTS_AT_ONCE 16
#define CHUNK_WORDS    (FREEZER_CHUNK_PAGES / 64)

static const struct syscall_rule rules[] = {
	SYSCALL("read"),
	SYSCALL_IOCTL(UFFDIO_REGISTER),
	SYSCALL_IOCTL(UFFDIO_UNREGISTER),
	SYSCALL_IOCTL(UFFDIO_WRITEPROTECT),
	SYSCALL_IOCTL(UFFDIO_WAKE),
	/* What is in use: /proc/self/pagemap, files. */
	SYSCALL_IOCTL(0xc0606610 /* PAGEMAP_SCAN */),
	SYSCALL("pread64"),
	SYSCALL("lseek"),
};
const struct syscall_list freezer_syscalls = SYSCALL_LIST(rules);

/* --- the descriptor ------------------------------------------------------------------------------ */

int freezer_open(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = FEATURES };
	int fd = userfault_open();

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api) != 0) {
		int sys = errno;

		(void)close(fd);
		return sys == EINVAL ? -EOPNOTSUPP : -sys;
	}
	return fd;
}

/* ------------------------------------------------------------------------------------------------- */

/* Nothing is protected, and nobody waits, from here on. */
static void conclude(struct freezer *f)
{
	for (uint32_t i = 0; i < ARRAY_SIZE(f->regions); i++) {
		freezer_unregister(f, &f->regions[i]);
	}
	if (!f->over) {
		f->over = true;
		freezer_queue_ended(&f->queue);
	}
}

static void fail(struct freezer *f, const struct error *why)
{
	freezer_queue_failed(&f->queue, why);
	conclude(f);
}

static int fail_sys(struct freezer *f, int r)
{
	struct error e = { 0 };

	(void)error_set_sys(&e, ERROR_INTERNAL, -r, "guest memory as it was at one moment");
	fail(f, &e);
	return r;
}

/* --- copies -------------------------------------------------------------------------------------- */

/* Nobody writes to it; that the kernel sees to this, a thread sanitizer does not know. */
__attribute__((noinline, no_sanitize("thread"))) static void copy_page(uint8_t *to,
								       const uint8_t *from)
{
	const volatile uint64_t *words = (const volatile uint64_t *)(const void *)from;
	uint64_t *copy = (uint64_t *)(void *)to;

	for (size_t i = 0; i < PAGE_SIZE_4K / sizeof(*copy); i++) {
		copy[i] = words[i];
	}
}

/* Which pages of a chunk are wanted. 0 or a negative errno. */
static int choose_pages(const struct freezer *f, uint32_t index, uint32_t chunk,
			uint64_t pages[CHUNK_WORDS])
{
	const struct frozen_region *r = &f->regions[index];

	if (f->wanted != NULL) {
		memcpy(pages, f->wanted[index] + (uint64_t)chunk * CHUNK_WORDS,
		       CHUNK_WORDS * sizeof(pages[0]));
		return 0;
	}
	return region_touched(r->region, (uint64_t)chunk * FREEZER_CHUNK,
			      freezer_length(r, chunk, 1), f->pagemap_fd, pages);
}

/* The chunk goes to the taker, `first` of all if somebody waits for it there, and is let go. */
static int save(struct freezer *f, uint32_t index, uint32_t chunk, bool first)
{
	struct frozen_region *r = &f->regions[index];
	const uint8_t *host = r->region->host + (uint64_t)chunk * FREEZER_CHUNK;
	struct freezer_chunk copy = { .index = index,
				      .offset = (uint64_t)chunk * FREEZER_CHUNK,
				      .slot = FREEZER_NO_SLOT };
	int x = choose_pages(f, index, chunk, copy.pages);
	uint8_t *bytes = NULL;

	for (uint32_t page = 0; x == 0 && page < FREEZER_CHUNK_PAGES; page++) {
		if ((copy.pages[page / 64] >> page % 64 & 1) == 0) {
			continue;
		}
		if (bytes == NULL) {
			copy.slot = freezer_queue_take_slot(&f->queue);
			copy.bytes = bytes = freezer_queue_slot(&f->queue, copy.slot);
		}
		copy_page(bytes + page * PAGE_SIZE_4K, host + page * PAGE_SIZE_4K);
	}
	x = x == 0 ? freezer_protect(f, r, chunk, 1, false) : x;
	if (x < 0) {
		return fail_sys(f, x);
	}
	r->states[chunk] = GONE;
	if (copy.bytes != NULL || f->wanted == NULL) {
		freezer_queue_put(&f->queue, &copy, first);
	}
	return 0;
}

/* Pages that the first copies go to are there when they are made. */
static bool warm_more(struct freezer *f, uint32_t wanted)
{
	volatile uint8_t *slot;

	/* One that was taken has a copy. */
	f->warm = MAX(f->warm, freezer_queue_used(&f->queue));
	if (f->warm >= MIN(f->total, (uint64_t)wanted)) {
		return false;
	}
	slot = freezer_queue_slot(&f->queue, f->warm++);
	for (uint64_t at = 0; at < FREEZER_CHUNK; at += PAGE_SIZE_4K) {
		/* The kernel has cleared it; a huge page comes with the first. */
		slot[at] = 0;
	}
	return true;
}

/* The next chunk that is still to be saved; false: there is none. */
static bool find_armed(struct freezer *f)
{
	for (; f->region < ARRAY_SIZE(f->regions); f->region++, f->chunk = 0) {
		const struct frozen_region *r = &f->regions[f->region];

		for (; r->region != NULL && f->chunk < r->count; f->chunk++) {
			if (r->states[f->chunk] == ARMED) {
				return true;
			}
		}
	}
	return false;
}

/* Of those that the taker is asked for. False: there is none. */
static bool save_hurried(struct freezer *f)
{
	uint32_t index, chunk;

	if (!freezer_queue_next_hurried(&f->queue, &index, &chunk)) {
		return false;
	}
	if (f->regions[index].states[chunk] == ARMED) {
		(void)save(f, index, chunk, true);
	} else {
		freezer_queue_to_front(&f->queue, index, (uint64_t)chunk * FREEZER_CHUNK);
	}
	return true;
}

/* True: there is more to do now. */
static bool save_more(struct freezer *f)
{
	if (save_hurried(f)) {
		return !f->over;
	}
	if (warm_more(f, FREEZER_WARM)) {
		return true;
	}
	if (freezer_queue_is_long(&f->queue)) {
		return false;
	}
	if (!find_armed(f)) {
		conclude(f);
		return false;
	}
	return save(f, f->region, f->chunk, false) == 0;
}

static void save_all(struct freezer *f)
{
	while (!f->over && find_armed(f)) {
		(void)save(f, f->region, f->chunk, false);
	}
}

/* --- before the moment --------------------------------------------------------------------------- */

static bool any_touched(const struct frozen_region *r, uint32_t chunk)
{
	const uint64_t *words = r->touched + (uint64_t)chunk * CHUNK_WORDS;
	uint64_t any = 0;

	for (uint32_t i = 0; i < CHUNK_WORDS; i++) {
		any |= words[i];
	}
	return any != 0;
}

/* Chunks from `first` on, up to `limit`, that are in that state. */
static uint32_t run_of(const struct frozen_region *r, uint32_t first, uint32_t limit,
		       enum freezer_state state)
{
	uint32_t n = 0;

	while (n < limit && first + n < r->count && r->states[first + n] == state) {
		n++;
	}
	return n;
}

/* BARE chunks of [first, first + n) that are in use become `state`. */
static int look(const struct freezer *f, struct frozen_region *r, uint32_t first, uint32_t n,
		enum freezer_state state)
{
	int x = region_touched(r->region, (uint64_t)first * FREEZER_CHUNK,
			       freezer_length(r, first, n), f->pagemap_fd,
			       r->touched + (uint64_t)first * CHUNK_WORDS);

	for (uint32_t i = first; x == 0 && i < first + n; i++) {
		if (r->states[i] == BARE && any_touched(r, i)) {
			r->states[i] = (uint8_t)state;
		}
	}
	return x;
}

/* Protects all of a state, in runs. */
static int arm(const struct freezer *f, struct frozen_region *r, uint32_t first, uint32_t end,
	       enum freezer_state state)
{
	int x = 0;

	for (uint32_t i = first, n; x == 0 && i < end; i += MAX(n, 1U)) {
		n = run_of(r, i, end - i, state);
		if (n != 0) {
			x = freezer_protect(f, r, i, n, true);
			memset(r->states + i, ARMED, n);
		}
	}
	return x;
}

static void count_bytes(struct freezer *f, const struct frozen_region *r, uint32_t first,
			uint32_t n)
{
	uint64_t pages = 0;

	for (uint64_t word = (uint64_t)first * CHUNK_WORDS;
	     word < (uint64_t)(first + n) * CHUNK_WORDS; word++) {
		pages += (uint64_t)__builtin_popcountll(r->touched[word]);
	}
	freezer_queue_add_bytes(&f->queue, pages * PAGE_SIZE_4K);
}

/* The next piece. True: there is more. */
static bool arm_more(struct freezer *f)
{
	struct frozen_region *r;
	uint32_t n;
	int x;

	if (warm_more(f, f->soon ? FREEZER_WARM_SOON : FREEZER_WARM)) {
		return true;
	}
	while (f->region < ARRAY_SIZE(f->regions) && f->chunk >= f->regions[f->region].count) {
		f->region++;
		f->chunk = 0;
	}
	if (f->region == ARRAY_SIZE(f->regions)) {
		f->arming = false;
		f->region = 0;
		freezer_queue_armed(&f->queue);
		return false;
	}
	r = &f->regions[f->region];
	n = MIN(FREEZER_PIECE, r->count - f->chunk);
	x = look(f, r, f->chunk, n, WRITTEN);
	x = x == 0 ? arm(f, r, f->chunk, f->chunk + n, WRITTEN) : x;
	f->chunk += n;
	count_bytes(f, r, f->chunk - n, n);
	return x == 0 || fail_sys(f, x) == 0;
}

/* --- the moment ---------------------------------------------------------------------------------- */

static int freeze_region(const struct freezer *f, struct frozen_region *r)
{
	int x = 0;

	for (uint32_t i = 0, n; x == 0 && i < r->count; i += MAX(n, 1U)) {
		n = run_of(r, i, r->count, BARE);
		x = n != 0 ? look(f, r, i, n, WRITTEN) : 0;
	}
	for (uint32_t i = 0; x == 0 && i < r->count; i++) {
		r->states[i] = r->states[i] == BARE ? GONE : r->states[i];
	}
	x = x == 0 ? arm(f, r, 0, r->count, WRITTEN) : x;
	for (uint32_t i = 0; x == 0 && i < r->count; i++) {
		r->due[i / 64] |= (uint64_t)(r->states[i] == ARMED) << i % 64;
	}
	return x;
}

static void freeze(struct freezer *f, uint64_t *const *pages)
{
	SCOPED_LOCK(&f->lock);
	int x = 0;

	for (uint32_t i = 0; !f->over && x == 0 && i < ARRAY_SIZE(f->regions); i++) {
		x = f->regions[i].region != NULL ? freeze_region(f, &f->regions[i]) : 0;
	}
	if (x < 0) {
		(void)fail_sys(f, x);
	}
	f->frozen = true;
	f->wanted = pages;
	f->region = f->chunk = 0;
}

/* --- the thread ---------------------------------------------------------------------------------- */

static void kick(struct freezer *f)
{
	if (!atomic_exchange(&f->posted, true)) {
		loop_post(&f->worker.loop, &f->more);
	}
}

static void go_on(void *arg)
{
	struct freezer *f = arg;
	SCOPED_LOCK(&f->lock);
	bool more = false;

	atomic_store(&f->posted, false);
	if (!f->over && f->arming) {
		more = arm_more(f);
	} else if (!f->over && f->frozen) {
		more = save_more(f);
	}
	if (more) {
		kick(f);
	}
}

static void serve_fault(struct freezer *f, uint64_t address)
{
	for (uint32_t i = 0; i < ARRAY_SIZE(f->regions); i++) {
		struct frozen_region *r = &f->regions[i];
		uint64_t offset = r->region != NULL ? address - (uintptr_t)r->region->host : 0;
		const uint32_t chunk = (uint32_t)(offset / FREEZER_CHUNK);
		int x;

		if (r->region == NULL || offset >= r->region->size) {
			continue;
		}
		if (f->frozen && r->states[chunk] == ARMED) {
			(void)save(f, i, chunk, false);
			return;
		}
		/* Before the moment; or a second one who has waited for the same chunk. */
		if (r->states[chunk] == ARMED) {
			r->states[chunk] = WRITTEN;
		}
		x = freezer_protect(f, r, chunk, 1, false);
		if (x < 0) {
			(void)fail_sys(f, x);
		}
		return;
	}
}

static void faults_ready(struct loop_source *source, uint32_t events)
{
	struct freezer *f = container_of(source, struct freezer, faults);
	struct uffd_msg messages[FAULTS_AT_ONCE];
	ssize_t n = read(f->fd, messages, sizeof(messages));
	SCOPED_LOCK(&f->lock);

	(void)events;
	for (ssize_t i = 0; i < n / (ssize_t)sizeof(messages[0]) && !f->over; i++) {
		if (messages[i].event == UFFD_EVENT_PAGEFAULT) {
			serve_fault(f, messages[i].arg.pagefault.address);
		}
	}
}

/* --- making one ---------------------------------------------------------------------------------- */

static int refuse(struct error *e, int sys, const char *what)
{
	return error_set_sys(e, ERROR_NOT_SUPPORTED, sys, "write protection of guest memory: %s",
			     what);
}

/* Whom a protection in this process cannot stop: others that have the file. */
static bool is_ours(const struct guest_region *region)
{
	return region->backing == GUEST_MEMORY_ANON || region->backing == GUEST_MEMORY_MEMFD ||
	       region->backing == GUEST_MEMORY_FILE_PRIVATE;
}

static int add_region(struct freezer *f, uint32_t index, struct error *e)
{
	struct guest_region *region = &f->mem->regions[index];
	struct frozen_region *r = &f->regions[index];

	if (!is_ours(region)) {
		return refuse(e, EOPNOTSUPP, "it is shared, or on huge pages of hugetlb");
	}
	r->count = (uint32_t)((region->size + FREEZER_CHUNK - 1) / FREEZER_CHUNK);
	r->states = calloc(r->count, 1);
	r->touched = calloc(r->count, CHUNK_WORDS * sizeof(uint64_t));
	r->due = calloc(r->count / 64 + 1, sizeof(uint64_t));
	if (r->states == NULL || r->touched == NULL || r->due == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "guest memory, frozen");
	}
	r->region = region;
	f->total += r->count;
	return 0;
}

struct registering {
	struct freezer *freezer;
	struct error *e;
	int result;
};

static void register_all(void *arg)
{
	struct registering *registering = arg;
	struct freezer *f = registering->freezer;
	SCOPED_LOCK(&f->lock);

	for (uint32_t i = 0; registering->result == 0 && i < ARRAY_SIZE(f->regions); i++) {
		struct frozen_region *r = &f->regions[i];
		struct uffdio_register range = { .mode = UFFDIO_REGISTER_MODE_WP };

		if (r->region == NULL) {
			continue;
		}
		range.range.start = (uintptr_t)r->region->host;
		range.range.len = r->region->size;
		if (ioctl(f->fd, UFFDIO_REGISTER, &range) != 0) {
			registering->result = refuse(registering->e, errno, "UFFDIO_REGISTER");
		} else {
			r->registered = true;
			atomic_store(&r->region->held, true);
		}
	}
	if (registering->result < 0) {
		conclude(f);
	}
}

static int start(struct freezer *f, const struct freezer_config *config, struct error *e)
{
	struct registering registering = { .freezer = f, .e = e };
	int r = worker_init(&f->worker, "freezer", e);

	if (r == 0) {
		r = loop_source_add(&f->worker.loop, &f->faults, f->fd, EPOLLIN, faults_ready, e);
	}
	r = r == 0 ? worker_start(&f->worker, config->enter, config->arg, e) : r;
	if (r < 0) {
		return r;
	}
	f->has_thread = true;
	(void)worker_call(&f->worker, register_all, &registering);
	return registering.result;
}

int freezer_create(struct freezer **ret, const struct freezer_config *config, struct error *e)
{
	struct guest_memory *mem = config->mem;
	const uint32_t count = atomic_load(&mem->region_count);
	struct freezer *f;
	int r = 0;

	if (config->fd < 0 || config->pagemap_fd < 0) {
		return refuse(e, config->fd < 0 ? -config->fd : ENOENT,
			      config->fd < 0 ? "userfaultfd" : "/proc/self/pagemap");
	}
	f = calloc(1, sizeof(*f));
	if (f == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "guest memory, frozen");
	}
	f->mem = mem;
	f->fd = config->fd;
	f->pagemap_fd = config->pagemap_fd;
	f->soon = config->soon;
	f->more = (struct loop_post){ .run = go_on, .arg = f };
	(void)pthread_mutex_init(&f->lock, NULL);
	for (uint32_t i = 0; r == 0 && i < count; i++) {
		r = mem->regions[i].size != 0 ? add_region(f, i, e) : 0;
	}
	r = r == 0 ? freezer_queue_init(&f->queue, f->total, e) : r;
	r = r == 0 ? start(f, config, e) : r;
	if (r < 0) {
		freezer_destroy(f);
		return r;
	}
	{
		SCOPED_LOCK(&mem->freezer_lock);
		VMM_BUG_ON(mem->freezer != NULL);
		mem->freezer = f;
	}
	*ret = f;
	return 0;
}

/* Not a call: the VM may stand still. */
void freezer_arm(struct freezer *freezer)
{
	SCOPED_LOCK(&freezer->lock);

	freezer->arming = true;
	kick(freezer);
}

/* --- the taker ----------------------------------------------------------------------------------- */

int freezer_wait(struct freezer *freezer, bool (*go_on_waiting)(void *arg), void *arg,
		 struct error *e)
{
	int r = 0;

	while (r == 0) {
		if (!go_on_waiting(arg)) {
			return error_set(e, ERROR_CANCELLED, ECANCELED, "cancelled");
		}
		r = freezer_queue_await_armed(&freezer->queue, e);
	}
	return MIN(r, 0);
}

int freezer_freeze(struct freezer *freezer, uint64_t *const *pages, struct error *e)
{
	freeze(freezer, pages);
	return freezer_queue_check(&freezer->queue, e);
}

const uint64_t *freezer_due(const struct freezer *freezer, uint32_t index)
{
	return index < GUEST_MEMORY_REGIONS_MAX ? freezer->regions[index].due : NULL;
}

void freezer_hurry(struct freezer *freezer, uint32_t index, uint32_t chunk)
{
	const uint64_t *due = freezer_due(freezer, index);

	if (due != NULL && chunk < freezer->regions[index].count &&
	    (due[chunk / 64] >> chunk % 64 & 1) != 0) {
		freezer_queue_hurry(&freezer->queue, index, chunk);
		kick(freezer);
	}
}

int freezer_take(struct freezer *freezer, struct freezer_chunk *chunk, struct error *e)
{
	kick(freezer);
	return freezer_queue_take(&freezer->queue, chunk, e);
}

uint64_t freezer_bytes(struct freezer *freezer)
{
	SCOPED_LOCK(&freezer->queue.lock);

	return freezer->queue.bytes;
}

void freezer_give_back(struct freezer *freezer, const struct freezer_chunk *chunk)
{
	freezer_queue_give_back(&freezer->queue, chunk->slot);
}

/* --- the end ------------------------------------------------------------------------------------- */

static void end(void *arg)
{
	struct freezer *f = arg;
	SCOPED_LOCK(&f->lock);

	conclude(f);
}

static void end_early(void *arg)
{
	struct freezer *f = arg;
	SCOPED_LOCK(&f->lock);
	struct error e = { 0 };

	if (f->frozen) {
		save_all(f);
		conclude(f);
	} else if (!f->over) {
		(void)error_set(&e, ERROR_BUSY, EBUSY, "the guest resets at this moment");
		(void)error_hint(&e, "try again");
		fail(f, &e);
	}
}

void freezer_end(struct guest_memory *mem)
{
	SCOPED_LOCK(&mem->freezer_lock);

	if (mem->freezer != NULL) {
		(void)worker_call(&mem->freezer->worker, end_early, mem->freezer);
	}
}

void freezer_destroy(struct freezer *freezer)
{
	if (freezer == NULL) {
		return;
	}
	{
		SCOPED_LOCK(&freezer->mem->freezer_lock);
		if (freezer->mem->freezer == freezer) {
			freezer->mem->freezer = NULL;
		}
	}
	if (freezer->has_thread) {
		(void)worker_call(&freezer->worker, end, freezer);
	}
	worker_finish(&freezer->worker);
	for (uint32_t i = 0; i < ARRAY_SIZE(freezer->regions); i++) {
		free(freezer->regions[i].states);
		free(freezer->regions[i].touched);
		free(freezer->regions[i].due);
	}
	freezer_queue_finish(&freezer->queue);
	(void)pthread_mutex_destroy(&freezer->lock);
	free(freezer);
}
