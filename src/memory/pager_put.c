/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages on demand that somebody else puts: vmm/pager.h, `want`. Memory that is there in part, of which some pages are missing; each is put
 * when it comes, by whichever thread has got it.
 *
 * All of a region is registered, not its missing pages alone, whose ranges could be more than a process may have mappings. So faults come
 * also of pages that never had anything: they are zero at once.
 *
 * A page is put, and then its bit is cleared. A fault that is heard of in between finds the bit set and asks once too often; were it the other
 * way round, such a fault would take the page for one that is zero. Two who put the same page find it there (EEXIST), and it is the
 * same. Nothing gives a page back before all are there, since the region has a content until then (backing.c): what comes late cannot
 * take the place of what the guest has done since.
 *
 * Giving back costs a call for each run of pages, in a time in which the guest stands still: a chunk with more runs than a few is missing as
 * a whole.
 *
 * Threads: as the contract says. `wanted` is the pager's thread's; `missing` and `left` are atomic.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"
#include "pager_internal.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/overflow.h"

LOG_DOMAIN("memory");

/* Of a chunk: more are given back with all that is between. */
#define RUNS_MAX 6
#define BITS	 64U

static const struct syscall_rule rules[] = {
	SYSCALL("madvise"),
	SYSCALL_IF("fallocate", 1, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE),
	SYSCALL_IOCTL(UFFDIO_REGISTER),
	SYSCALL("brk"),
	SYSCALL_IF_MASKED("mmap", 2, PROT_EXEC, 0),
	SYSCALL("munmap"),
};
const struct syscall_list pager_arm_syscalls = SYSCALL_LIST(rules);

static uint64_t pages_of(const struct guest_region *region)
{
	return atomic_load(&region->size) / PAGE_SIZE_4K;
}

static uint64_t words_of(const struct guest_region *region)
{
	return ALIGN_UP(pages_of(region), (uint64_t)PAGER_CHUNK_PAGES) / BITS;
}

static bool is_missing(const struct putting *putting, uint32_t index, uint64_t page)
{
	return (atomic_load(&putting->missing[index][page / BITS]) >> page % BITS & 1) != 0;
}

/* --- the thread ---------------------------------------------------------------------------------- */

static void finish(void *arg)
{
	struct pager *pager = arg;

	if (pager->over) {
		return;
	}
	for (uint32_t i = 0; i < GUEST_MEMORY_REGIONS_MAX; i++) {
		if (pager->putting.missing[i] != NULL) {
			guest_region_forget_content(pager->mem, i);
		}
	}
	pager_conclude(pager);
}

static void lose(void *arg)
{
	struct pager *pager = arg;

	if (!pager->over) {
		pager_fail(pager, &pager->putting.why);
	}
}

void putting_serve(struct pager *pager, uint32_t index, uint64_t offset)
{
	struct putting *putting = &pager->putting;
	const uint64_t page = offset / PAGE_SIZE_4K;
	uint64_t *wanted = &putting->wanted[index][page / BITS];

	if (!is_missing(putting, index, page)) {
		(void)pager_place(pager,
				  (uintptr_t)pager->mem->regions[index].host + page * PAGE_SIZE_4K,
				  PAGE_SIZE_4K, NULL);
	} else if ((*wanted >> page % BITS & 1) == 0) {
		*wanted |= 1ULL << page % BITS;
		pager->source.want(pager->source.arg, index, page);
	}
}

void pager_want_again(struct pager *pager)
{
	struct putting *putting = &pager->putting;

	for (uint32_t i = 0; i < GUEST_MEMORY_REGIONS_MAX && !pager->over; i++) {
		const uint64_t words =
			putting->missing[i] != NULL ? words_of(&pager->mem->regions[i]) : 0;

		for (uint64_t word = 0; word < words; word++) {
			uint64_t bits = putting->wanted[i][word];

			bits = bits != 0 ? bits & atomic_load(&putting->missing[i][word]) : 0;
			for (; bits != 0; bits &= bits - 1) {
				pager->source.want(pager->source.arg, i,
						   word * BITS + (uint64_t)__builtin_ctzll(bits));
			}
		}
	}
}

int putting_prepare(struct pager *pager, struct error *e)
{
	struct putting *putting = &pager->putting;
	const uint32_t count = atomic_load(&pager->mem->region_count);

	putting->finish = (struct loop_post){ .run = finish, .arg = pager };
	putting->lose = (struct loop_post){ .run = lose, .arg = pager };
	for (uint32_t i = 0; i < count; i++) {
		const struct guest_region *region = &pager->mem->regions[i];
		const uint64_t words = words_of(region);

		if (words == 0) {
			continue;
		}
		if (region->backing != GUEST_MEMORY_ANON && region->backing != GUEST_MEMORY_MEMFD) {
			(void)error_set(e, ERROR_NOT_SUPPORTED, ENOTSUP,
					"memory of which pages come later cannot be on huge pages "
					"of hugetlb, nor in a file");
			return error_hint(e, "move the VM without post-copy");
		}
		putting->missing[i] = calloc(words, sizeof(*putting->missing[i]));
		putting->wanted[i] = calloc(words, sizeof(*putting->wanted[i]));
		if (putting->missing[i] == NULL || putting->wanted[i] == NULL) {
			return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "a pager of guest memory");
		}
	}
	return 0;
}

void putting_unregister(struct pager *pager)
{
	struct putting *putting = &pager->putting;

	atomic_store(&putting->over, true);
	for (uint32_t i = 0; putting->armed && i < GUEST_MEMORY_REGIONS_MAX; i++) {
		const struct guest_region *region = &pager->mem->regions[i];
		struct uffdio_range range = { .start = (uintptr_t)region->host,
					      .len = atomic_load(&region->size) };

		if (putting->missing[i] != NULL &&
		    ioctl(pager->fd, UFFDIO_UNREGISTER, &range) != 0) {
			log_error("UFFDIO_UNREGISTER: %s", strerrordesc_np(errno));
		}
	}
}

void putting_finish(struct pager *pager)
{
	for (uint32_t i = 0; i < GUEST_MEMORY_REGIONS_MAX; i++) {
		free((void *)(uintptr_t)pager->putting.missing[i]);
		free(pager->putting.wanted[i]);
	}
}

/* --- which are missing --------------------------------------------------------------------------- */

/* 0 or a negative errno. */
static int give_back(const struct guest_region *region, uint64_t page, uint64_t count)
{
	const uint64_t offset = page * PAGE_SIZE_4K, len = count * PAGE_SIZE_4K;
	int r;

	if (region->backing == GUEST_MEMORY_ANON) {
		r = madvise(region->host + offset, len, MADV_DONTNEED);
	} else {
		r = fallocate(region->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      (off_t)(region->offset + offset), (off_t)len);
	}
	return r == 0 ? 0 : -errno;
}

/* Pages from `page` on that are alike, in a bitmap whose bit 0 is page 0. */
static uint64_t run_of(const uint64_t *bits, uint64_t page, uint64_t end)
{
	const bool set = pager_bit(bits, page);
	uint64_t n = 1;

	while (page + n < end && pager_bit(bits, page + n) == set) {
		n++;
	}
	return n;
}

static uint32_t count_runs(const uint64_t *bits, uint64_t end)
{
	uint32_t runs = 0;

	for (uint64_t page = 0; page < end; page += run_of(bits, page, end)) {
		runs += pager_bit(bits, page);
	}
	return runs;
}

static int give_back_runs(const struct guest_region *region, uint64_t first, const uint64_t *bits,
			  uint64_t end)
{
	int r = 0;

	for (uint64_t page = 0, n; r == 0 && page < end; page += n) {
		n = run_of(bits, page, end);
		r = pager_bit(bits, page) ? give_back(region, first + page, n) : 0;
	}
	return r;
}

/* `bits`: of a chunk, which begins with page `first`; none is past the region's end. */
static int miss_chunk(struct pager *pager, uint32_t index, uint64_t first,
		      uint64_t bits[PAGER_CHUNK_PAGES / BITS])
{
	struct guest_region *region = &pager->mem->regions[index];
	struct putting *putting = &pager->putting;
	const uint64_t end = MIN(pages_of(region) - first, (uint64_t)PAGER_CHUNK_PAGES);
	int r;

	if (count_runs(bits, end) > RUNS_MAX) {
		memset(bits, 0, PAGER_CHUNK_PAGES / 8);
		for (uint64_t page = 0; page < end; page++) {
			bits[page / BITS] |= 1ULL << page % BITS;
		}
		r = give_back(region, first, end);
	} else {
		r = give_back_runs(region, first, bits, end);
	}
	for (uint64_t i = 0; r == 0 && i < PAGER_CHUNK_PAGES / BITS; i++) {
		uint64_t before =
			atomic_fetch_or(&putting->missing[index][first / BITS + i], bits[i]);

		atomic_fetch_add(&putting->left, (uint64_t)__builtin_popcountll(bits[i] & ~before));
	}
	return r;
}

/* What `bitmap`, whose bit 0 is page `first`, has of the chunk that begins with page `at`. */
static bool take_bits(uint64_t bits[PAGER_CHUNK_PAGES / BITS], uint64_t at, uint64_t first,
		      uint64_t count, const uint64_t *bitmap)
{
	uint64_t any = 0;

	for (uint64_t i = 0; i < PAGER_CHUNK_PAGES / BITS; i++) {
		const uint64_t page = at + i * BITS;

		bits[i] = page >= first && page - first < count ? bitmap[(page - first) / BITS] : 0;
		if (bits[i] != 0 && count - (page - first) < BITS) {
			bits[i] &= (1ULL << (count - (page - first))) - 1;
		}
		any |= bits[i];
	}
	return any != 0;
}

int pager_miss(struct pager *pager, uint32_t index, uint64_t first, uint64_t count,
	       const uint64_t *bitmap, struct error *e)
{
	const struct guest_region *region;
	int r = 0;

	VMM_BUG_ON(pager->source.want == NULL || pager->putting.armed);
	if (index >= GUEST_MEMORY_REGIONS_MAX || pager->putting.missing[index] == NULL ||
	    first % BITS != 0 ||
	    !range_within(first, count, pages_of(&pager->mem->regions[index]))) {
		return error_set(e, ERROR_MIGRATION, EINVAL,
				 "%" PRIu64 " pages from %" PRIu64 " on of region %" PRIu32
				 " cannot be missing: it has none such",
				 count, first, index);
	}
	region = &pager->mem->regions[index];
	VMM_BUG_ON(atomic_load(&region->held));
	for (uint64_t at = ALIGN_DOWN(first, (uint64_t)PAGER_CHUNK_PAGES);
	     r == 0 && at < first + count; at += PAGER_CHUNK_PAGES) {
		uint64_t bits[PAGER_CHUNK_PAGES / BITS];

		r = take_bits(bits, at, first, count, bitmap) ? miss_chunk(pager, index, at, bits)
							      : 0;
	}
	return r == 0 ? 0
		      : error_set_sys(e, ERROR_INTERNAL, -r,
				      "give back pages of guest memory that are to come anew");
}

static int arm_region(struct pager *pager, uint32_t index, struct error *e)
{
	const struct guest_region *region = &pager->mem->regions[index];
	const uint64_t words = words_of(region);
	uint64_t *content = calloc(words, sizeof(*content));
	struct uffdio_register range = {
		.range = { .start = (uintptr_t)region->host, .len = atomic_load(&region->size) },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	if (content == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "a pager of guest memory");
	}
	pager_missing(pager, index, 0, content, words);
	guest_region_set_content(pager->mem, index, content);
	if (ioctl(pager->fd, UFFDIO_REGISTER, &range) != 0) {
		return error_set_sys(e, ERROR_NOT_SUPPORTED, errno,
				     "pages on demand: UFFDIO_REGISTER");
	}
	return 0;
}

int pager_arm(struct pager *pager, struct error *e)
{
	struct putting *putting = &pager->putting;
	int r = 0;

	VMM_BUG_ON(pager->source.want == NULL || putting->armed);
	putting->armed = true;
	for (uint32_t i = 0; r == 0 && i < GUEST_MEMORY_REGIONS_MAX; i++) {
		r = putting->missing[i] != NULL ? arm_region(pager, i, e) : 0;
	}
	if (r == 0 && atomic_load(&putting->left) == 0) {
		loop_post(&pager->worker.loop, &putting->finish);
	}
	return r;
}

/* --- what comes ---------------------------------------------------------------------------------- */

/* Bits [page, page + count), which are there now. */
static void clear(struct pager *pager, uint32_t index, uint64_t page, uint64_t count)
{
	struct putting *putting = &pager->putting;
	uint64_t cleared = 0;

	while (count > 0) {
		const uint64_t bit = page % BITS, n = MIN(count, BITS - bit);
		const uint64_t mask = UINT64_MAX >> (BITS - n) << bit;
		const uint64_t before =
			atomic_fetch_and(&putting->missing[index][page / BITS], ~mask);

		cleared += (uint64_t)__builtin_popcountll(before & mask);
		page += n;
		count -= n;
	}
	/* One of those who clear the last ones sees that they were. */
	if (cleared != 0 && atomic_fetch_sub(&putting->left, cleared) == cleared) {
		loop_post(&pager->worker.loop, &putting->finish);
	}
}

int pager_put(struct pager *pager, uint32_t index, uint64_t page, uint64_t count,
	      const uint8_t *from, struct error *e)
{
	struct putting *putting = &pager->putting;
	const struct guest_region *region = &pager->mem->regions[index];
	const uint64_t end = page + count;
	int r = 0;

	VMM_BUG_ON(!putting->armed || putting->missing[index] == NULL ||
		   !range_within(page, count, pages_of(region)));
	while (r == 0 && page < end && !atomic_load(&putting->over)) {
		uint64_t n = 0;

		while (page + n < end && is_missing(putting, index, page + n)) {
			n++;
		}
		if (n == 0) {
			page++;
			from = from != NULL ? from + PAGE_SIZE_4K : NULL;
			continue;
		}
		r = pager_place(pager, (uintptr_t)region->host + page * PAGE_SIZE_4K,
				n * PAGE_SIZE_4K, from);
		if (r == 0) {
			clear(pager, index, page, n);
		}
		page += n;
		from = from != NULL ? from + n * PAGE_SIZE_4K : NULL;
	}
	/* It has been given up meanwhile: nothing is registered. */
	if (r == 0 || atomic_load(&putting->over)) {
		return 0;
	}
	return error_set_sys(e, ERROR_INTERNAL, -r, "a page of guest memory");
}

void pager_lose(struct pager *pager, const struct error *why)
{
	struct putting *putting = &pager->putting;

	if (!atomic_exchange(&putting->lost, true)) {
		putting->why = *why;
		loop_post(&pager->worker.loop, &putting->lose);
	}
}

uint64_t pager_left(const struct pager *pager)
{
	return atomic_load(&pager->putting.left);
}

void pager_missing(const struct pager *pager, uint32_t index, uint64_t first, uint64_t *bitmap,
		   size_t words)
{
	const _Atomic uint64_t *missing = pager->putting.missing[index];
	const uint64_t have = missing != NULL ? words_of(&pager->mem->regions[index]) : 0;

	for (size_t i = 0; i < words; i++) {
		bitmap[i] = first / BITS + i < have ? atomic_load(&missing[first / BITS + i]) : 0;
	}
}

struct loop *pager_loop(struct pager *pager)
{
	return &pager->worker.loop;
}
