/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages on demand: include/vmm/pager.h is the contract; userfaultfd(2) and the kernel's
 * Documentation/admin-guide/mm/userfaultfd.rst have the rules of the descriptor.
 *
 * One thread, which is a worker: its loop hears of faults, and a post that posts itself again brings the next chunk that
 * nobody has asked for, so that a fault waits for one chunk at most. What is pending is known to this thread alone.
 *
 * While it records nothing comes that nobody has asked for: what comes by itself would not be asked for, and be missing in the
 * record.
 *
 * A page that is missing in a chunk that has come was given back since (guest_memory_discard() and the like): it is zero.
 * Pages are not given back while a pager may still bring what they had (backing.c).
 *
 * The guest controls which pages are touched, and when. Saved: nothing, memory has a bitmap of what will come
 * (guest_region_set_content()).
 */
#include "vmm/pager.h"

#include <errno.h>
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

LOG_DOMAIN("memory");

#define FAULTS_AT_ONCE 16
/* Until then only what is waited for is brought: each page that comes holds the lock of this process' mappings, of which a VM
 * that is being made needs many. */
#define QUIET_NS 20000000

static const struct syscall_rule rules[] = {
	SYSCALL("read"),
	SYSCALL_IOCTL(UFFDIO_COPY),
	SYSCALL_IOCTL(UFFDIO_ZEROPAGE),
	SYSCALL_IOCTL(UFFDIO_WAKE),
	SYSCALL_IOCTL(UFFDIO_UNREGISTER),
	/* Of a source whose chunks arrive: files are mapped, and looked for holes. */
	SYSCALL_IF_MASKED("mmap", 2, PROT_EXEC, 0),
	SYSCALL("madvise"),
	SYSCALL("lseek"),
	SYSCALL("timerfd_settime"),
	/* lost(): vCPUs are interrupted. */
	SYSCALL("tgkill"),
	SYSCALL("getpid"),
	SYSCALL("gettid"),
};
const struct syscall_list pager_syscalls = SYSCALL_LIST(rules);

/* --- the descriptor ------------------------------------------------------------------------------ */

int pager_create(struct pager **ret, struct guest_memory *mem, struct error *e)
{
	struct pager *pager = calloc(1, sizeof(*pager));
	struct uffdio_api api = { .api = UFFD_API };

	if (pager == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "a pager of guest memory");
	}
	pager->mem = mem;
	pager->arrival.clock = -1;
	(void)pthread_mutex_init(&pager->telling, NULL);
	(void)pthread_mutex_init(&pager->noting, NULL);
	pager->fd = userfault_open();
	if (pager->fd < 0) {
		int sys = -pager->fd;

		pager_destroy(pager);
		(void)error_set_sys(e, ERROR_NOT_SUPPORTED, sys, "pages on demand: userfaultfd");
		return error_hint(e, "give this user /dev/userfaultfd, set "
				     "vm.unprivileged_userfaultfd=1, or map the file");
	}
	if (ioctl(pager->fd, UFFDIO_API, &api) != 0) {
		int sys = errno;

		pager_destroy(pager);
		return error_set_sys(e, ERROR_NOT_SUPPORTED, sys, "userfaultfd: UFFDIO_API");
	}
	*ret = pager;
	return 0;
}

int pager_add(struct pager *pager, uint32_t index, uint64_t offset, uint64_t len, struct error *e)
{
	const struct guest_region *region = &pager->mem->regions[index];
	struct uffdio_register range = {
		.range = { .start = (uintptr_t)region->host + offset, .len = len },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	VMM_BUG_ON(offset % PAGER_CHUNK != 0 ||
		   (len % PAGER_CHUNK != 0 && offset + len != region->size));
	if (pager->pending[index] == NULL) {
		pager->pending[index] = calloc(pager_chunks(region) / 64 + 1, sizeof(uint64_t));
		if (pager->pending[index] == NULL) {
			return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "a pager of guest memory");
		}
	}
	if (ioctl(pager->fd, UFFDIO_REGISTER, &range) != 0) {
		return error_set_sys(e, ERROR_NOT_SUPPORTED, errno,
				     "pages on demand: UFFDIO_REGISTER");
	}
	for (uint64_t at = offset; at < offset + len; at += PAGER_CHUNK) {
		pager->pending[index][at / PAGER_CHUNK / 64] |= 1ULL << at / PAGER_CHUNK % 64;
	}
	return 0;
}

void pager_attach(struct pager *pager)
{
	VMM_BUG_ON(pager->mem->pager != NULL);
	pager->mem->pager = pager;
}

int pager_descriptor(const struct pager *pager)
{
	return pager->fd;
}

const struct pager_source *pager_source_of(const struct pager *pager)
{
	return &pager->source;
}

void pager_prefer(struct pager *pager, struct pager_place *list, size_t count)
{
	VMM_BUG_ON(pager->preferred != NULL || pager->record != NULL);
	pager->preferred = list;
	pager->preferred_count = count;
}

int pager_record(struct pager *pager, struct error *e)
{
	VMM_BUG_ON(pager->preferred != NULL || pager->record != NULL);
	for (uint32_t i = 0; i < GUEST_MEMORY_REGIONS_MAX; i++) {
		pager->record_room +=
			pager->pending[i] != NULL ? pager_chunks(&pager->mem->regions[i]) : 0;
	}
	pager->record = malloc((pager->record_room + 1) * sizeof(*pager->record));
	return pager->record != NULL ? 0
				     : error_set_sys(e, ERROR_NO_MEMORY, ENOMEM,
						     "a record of what a guest touches");
}

const struct pager_place *pager_mark(struct pager *pager, size_t *count)
{
	bool first;

	if (pager == NULL || pager->record == NULL) {
		return NULL;
	}
	{
		SCOPED_LOCK(&pager->noting);
		first = !pager->marked;
		pager->marked = true;
		*count = pager->record_count;
	}
	if (first) {
		loop_post(&pager->worker.loop, &pager->release);
	}
	return pager->record;
}

/* Whoever waits goes on; what is not there is zeroes. */
static void unregister(struct pager *pager)
{
	for (uint32_t i = 0; i < GUEST_MEMORY_REGIONS_MAX; i++) {
		const struct guest_region *region = &pager->mem->regions[i];
		struct uffdio_range range = { .start = (uintptr_t)region->host,
					      .len = region->size };

		if (pager->source.look == NULL && pager->pending[i] != NULL &&
		    ioctl(pager->fd, UFFDIO_UNREGISTER, &range) != 0) {
			log_error("UFFDIO_UNREGISTER: %s", strerrordesc_np(errno));
		}
	}
	if (pager->source.look != NULL) {
		arrival_unregister(pager);
	}
	if (pager->source.want != NULL) {
		putting_unregister(pager);
	}
}

/* --- the thread ---------------------------------------------------------------------------------- */

void pager_conclude(struct pager *pager)
{
	if (!pager->over) {
		pager->over = true;
		unregister(pager);
		pager->source.done(pager->source.arg);
	}
}

static void tell_lost(struct pager *pager)
{
	SCOPED_LOCK(&pager->telling);

	if (!pager->silent && pager->mem->lost != NULL) {
		pager->mem->lost(pager->mem, &pager->failure);
	}
}

void pager_fail(struct pager *pager, const struct error *why)
{
	pager->failure = *why;
	atomic_store(&pager->failed, true);
	tell_lost(pager);
	pager_conclude(pager);
}

int pager_place(const struct pager *pager, uint64_t at, uint64_t len, const uint8_t *from)
{
	while (len > 0) {
		struct uffdio_copy copy = { .dst = at, .src = (uintptr_t)from, .len = len };
		struct uffdio_zeropage zero = { .range = { .start = at, .len = len } };
		int r = from != NULL ? ioctl(pager->fd, UFFDIO_COPY, &copy)
				     : ioctl(pager->fd, UFFDIO_ZEROPAGE, &zero);
		int64_t done = from != NULL ? copy.copy : zero.zeropage;

		if (r != 0 && errno == EEXIST && done <= 0) {
			/* Somebody was faster; a page is skipped. */
			struct uffdio_range range = { .start = at, .len = PAGE_SIZE_4K };

			(void)ioctl(pager->fd, UFFDIO_WAKE, &range);
			done = PAGE_SIZE_4K;
		} else if (r != 0 && errno != EAGAIN && done <= 0) {
			return -errno;
		}
		done = MAX(done, (int64_t)0);
		at += (uint64_t)done;
		len -= (uint64_t)done;
		from = from != NULL ? from + done : NULL;
	}
	return 0;
}

static uint64_t equal_bits(const uint64_t *bitmap, uint64_t first, uint64_t end)
{
	uint64_t n = 1;

	while (first + n < end && pager_bit(bitmap, first + n) == pager_bit(bitmap, first)) {
		n++;
	}
	return n;
}

/* A huge page comes in one piece, with its zeroes. */
static int place_huge(const struct pager *pager, uint64_t at, const uint64_t *present)
{
	for (uint64_t page = 0; page < PAGER_CHUNK_PAGES; page++) {
		if (!pager_bit(present, page)) {
			memset(pager->buffer + page * PAGE_SIZE_4K, 0, PAGE_SIZE_4K);
		}
	}
	return pager_place(pager, at, PAGER_CHUNK, pager->buffer);
}

static int place_chunk(const struct pager *pager, const struct guest_region *region,
		       uint64_t offset, const uint64_t *present)
{
	uint64_t pages = MIN(region->size - offset, (uint64_t)PAGER_CHUNK) / PAGE_SIZE_4K;
	uint64_t at = (uintptr_t)region->host + offset;
	int r = 0;

	if (region->backing == GUEST_MEMORY_HUGETLB) {
		return place_huge(pager, at, present);
	}
	for (uint64_t page = 0, n; r == 0 && page < pages; page += n) {
		n = equal_bits(present, page, pages);
		r = pager_place(pager, at + page * PAGE_SIZE_4K, n * PAGE_SIZE_4K,
				pager_bit(present, page) ? pager->buffer + page * PAGE_SIZE_4K
							 : NULL);
	}
	return r;
}

static void bring(struct pager *pager, uint32_t index, uint64_t chunk)
{
	const struct guest_region *region = &pager->mem->regions[index];
	uint64_t present[PAGER_CHUNK_PAGES / 64] = { 0 };
	struct error e = { 0 };
	int r = pager->source.read(pager->source.arg, index, chunk * PAGER_CHUNK, pager->buffer,
				   present, &e);

	if (r == 0) {
		r = place_chunk(pager, region, chunk * PAGER_CHUNK, present);
		if (r < 0) {
			(void)error_set_sys(&e, ERROR_INTERNAL, -r, "a page of guest memory");
		}
	}
	if (r < 0) {
		pager_fail(pager, &e);
		return;
	}
	pager->pending[index][chunk / 64] &= ~(1ULL << chunk % 64);
}

static void note(struct pager *pager, uint32_t index, uint64_t chunk)
{
	SCOPED_LOCK(&pager->noting);

	if (!pager->marked && pager->record_count < pager->record_room) {
		pager->record[pager->record_count++] =
			(struct pager_place){ .index = index, .chunk = (uint32_t)chunk };
	}
}

static void serve_fault(struct pager *pager, uint64_t address)
{
	for (uint32_t i = 0; i < GUEST_MEMORY_REGIONS_MAX; i++) {
		const struct guest_region *region = &pager->mem->regions[i];
		uint64_t offset = address - (uintptr_t)region->host;

		if (pager->source.want != NULL && offset < region->size) {
			putting_serve(pager, i, offset);
			return;
		}
		if (pager->pending[i] == NULL || offset >= region->size) {
			continue;
		}
		if (pager->source.look != NULL) {
			arrival_serve(pager, i, offset);
			return;
		}
		if (pager_bit(pager->pending[i], offset / PAGER_CHUNK)) {
			note(pager, i, offset / PAGER_CHUNK);
			bring(pager, i, offset / PAGER_CHUNK);
		} else if (region->backing != GUEST_MEMORY_HUGETLB) {
			(void)pager_place(pager, ALIGN_DOWN(address, (uint64_t)PAGE_SIZE_4K),
					  PAGE_SIZE_4K, NULL);
		}
		return;
	}
}

static void faults_ready(struct loop_source *source, uint32_t events)
{
	struct pager *pager = container_of(source, struct pager, faults);
	struct uffd_msg messages[FAULTS_AT_ONCE];
	ssize_t n = read(pager->fd, messages, sizeof(messages));

	(void)events;
	for (ssize_t i = 0; i < n / (ssize_t)sizeof(messages[0]) && !pager->over; i++) {
		if (messages[i].event == UFFD_EVENT_PAGEFAULT) {
			serve_fault(pager, messages[i].arg.pagefault.address);
		}
	}
}

static bool find_preferred(struct pager *pager, struct pager_place *ret)
{
	while (pager->preferred_next < pager->preferred_count) {
		*ret = pager->preferred[pager->preferred_next++];
		if (ret->index < GUEST_MEMORY_REGIONS_MAX && pager->pending[ret->index] != NULL &&
		    ret->chunk < pager_chunks(&pager->mem->regions[ret->index]) &&
		    pager_bit(pager->pending[ret->index], ret->chunk)) {
			return true;
		}
	}
	return false;
}

/* Of all the others. */
static bool find_next(struct pager *pager, struct pager_place *ret)
{
	for (; pager->region < GUEST_MEMORY_REGIONS_MAX; pager->region++, pager->chunk = 0) {
		const uint64_t *pending = pager->pending[pager->region];

		if (pending == NULL) {
			continue;
		}
		for (; pager->chunk < pager_chunks(&pager->mem->regions[pager->region]);
		     pager->chunk++) {
			if (pager_bit(pending, pager->chunk)) {
				*ret = (struct pager_place){ pager->region,
							     (uint32_t)pager->chunk };
				return true;
			}
		}
	}
	return false;
}

static void bring_more(void *arg)
{
	struct pager *pager = arg;
	struct pager_place next;

	pager->idle = false;
	if (!pager->over &&
	    (find_preferred(pager, &next) || (!pager->quiet && find_next(pager, &next)))) {
		bring(pager, next.index, next.chunk);
		loop_post(&pager->worker.loop, &pager->more);
	} else if (!pager->quiet) {
		pager_conclude(pager);
	} else {
		pager->idle = true;
	}
}

/* The moment has come for what nobody has asked for. */
static void begin_rest(void *arg)
{
	struct pager *pager = arg;

	pager->quiet = false;
	if (pager->idle) {
		bring_more(pager);
	}
}

static void quiet_over(struct loop_timer *timer)
{
	begin_rest(container_of(timer, struct pager, later));
}

static void begin_work(struct pager *pager)
{
	pager->quiet = true;
	pager->idle = pager->preferred_count == 0;
	if (!pager->idle) {
		loop_post(&pager->worker.loop, &pager->more);
	}
	if (pager->record == NULL) {
		loop_timer_set(&pager->worker.loop, &pager->later, QUIET_NS, quiet_over);
	}
}

int pager_serve(struct pager *pager, const struct pager_source *source,
		int (*enter)(void *arg, struct error *e), void *enter_arg, struct error *e)
{
	int r;

	pager->source = *source;
	pager->more = (struct loop_post){ .run = bring_more, .arg = pager };
	pager->release = (struct loop_post){ .run = begin_rest, .arg = pager };
	pager->buffer =
		mmap(NULL, PAGER_CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pager->buffer == MAP_FAILED) {
		pager->buffer = NULL;
		return error_set_sys(e, ERROR_NO_MEMORY, errno, "a pager of guest memory");
	}
	r = worker_init(&pager->worker, "pager", e);
	r = r == 0 && source->look != NULL ? arrival_prepare(pager, e) : r;
	r = r == 0 && source->want != NULL ? putting_prepare(pager, e) : r;
	if (r == 0) {
		r = loop_source_add(&pager->worker.loop, &pager->faults, pager->fd, EPOLLIN,
				    faults_ready, e);
	}
	if (r == 0 && source->look != NULL) {
		arrival_begin(pager);
	} else if (r == 0 && source->read != NULL) {
		begin_work(pager);
	}
	if (r == 0) {
		r = worker_start(&pager->worker, enter, enter_arg, e);
	}
	return r;
}

/* --- the end ------------------------------------------------------------------------------------- */

static void end(void *arg)
{
	pager_conclude(arg);
}

void pager_end(struct pager *pager)
{
	if (pager->source.read != NULL || pager->source.look != NULL ||
	    pager->source.want != NULL) {
		(void)worker_call(&pager->worker, end, pager);
	} else if (!pager->over) {
		pager->over = true;
		unregister(pager);
	}
}

void pager_silence(struct pager *pager)
{
	if (pager != NULL) {
		SCOPED_LOCK(&pager->telling);
		pager->silent = true;
	}
}

void pager_destroy(struct pager *pager)
{
	if (pager == NULL) {
		return;
	}
	if (pager->source.stop != NULL) {
		pager->source.stop(pager->source.arg);
	}
	worker_finish(&pager->worker);
	if (pager->source.destroy != NULL) {
		pager->source.destroy(pager->source.arg);
	}
	close_fd(&pager->fd);
	arrival_finish(pager);
	putting_finish(pager);
	(void)pthread_mutex_destroy(&pager->telling);
	(void)pthread_mutex_destroy(&pager->noting);
	free(pager->preferred);
	free(pager->record);
	if (pager->buffer != NULL) {
		(void)munmap(pager->buffer, PAGER_CHUNK);
	}
	for (uint32_t i = 0; i < GUEST_MEMORY_REGIONS_MAX; i++) {
		free(pager->pending[i]);
	}
	free(pager);
}

int pager_check(struct pager *pager, struct error *e)
{
	if (pager == NULL || !atomic_load(&pager->failed)) {
		return 0;
	}
	if (e != NULL) {
		*e = pager->failure;
	}
	return pager->failure.sys != 0 ? -pager->failure.sys : -EIO;
}
