/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages on demand, of a source that somebody else still writes: vmm/pager.h, `look`. The writer fills the file of which the region is a private
 * mapping; where a chunk has not been written as a whole, anonymous memory lies over the file, and whoever touches it waits.
 *
 *	waited for	asked for, then looked for again and again, soon at first, until it has arrived
 *	the rest	is looked for now and then; when the last chunk has arrived all are mapped
 *
 * A chunk arrives by one mmap() of its place in the file over the anonymous memory, which nobody has got a page of, and a wake-up. Whoever came into
 * this descriptor's queue before the mapping changed is found by the wake-up, since a fault is queued under the lock that mmap() takes; whoever
 * comes later finds the file. So nobody sees a byte of a chunk that is not whole, whatever the file has at that time, and what nobody writes is shared
 * by all who map the file. A chunk of zeroes is anonymous memory already: it is only let go.
 *
 * Nobody tells this thread what has arrived: the writer cannot be trusted by it with a descriptor, nor it by the writer. So it looks, but only while
 * the writer writes.
 *
 * What a region has is not known before all has arrived; then its file says it. The file is not asked for its holes sooner: that waits for whoever
 * writes it.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "internal.h"
#include "pager_internal.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"

LOG_DOMAIN("memory");

#define NS_PER_S 1000000000ULL
/* While somebody waits: from the first to the second, half as much again each time. */
#define SOON_NS	 100000
#define LATER_NS 2000000
/* While nobody does: what comes is mapped when all has come. Of many children each look is taken from the writer's time. */
#define REST_NS 20000000
/* Chunks that are mapped at a time: who waits for another thing waits for these. */
#define PIECE 64U

_Static_assert(PIECE <= PAGER_LOOK_MAX, "a piece is looked at by one call");

static uint64_t length_of(const struct guest_region *region, uint64_t chunk, uint64_t count)
{
	return MIN(count * PAGER_CHUNK, region->size - chunk * PAGER_CHUNK);
}

static void arm(const struct arrival *arrival, uint64_t ns)
{
	const struct itimerspec when = { .it_value = { .tv_sec = (time_t)(ns / NS_PER_S),
						       .tv_nsec = (long)(ns % NS_PER_S) } };

	(void)timerfd_settime(arrival->clock, 0, &when, NULL);
}

/* --- a run of chunks that have arrived ----------------------------------------------------------- */

/* What the file has, in place of memory of which nobody has a page. By the system call itself: a thread sanitizer takes mmap() for a write that races with
 * whoever waits here, and knows nothing of the kernel's order. 0 or negative. */
static int map_file(const struct guest_region *region, uint64_t offset, uint64_t len,
		    struct error *e)
{
	uint8_t *host = region->host + offset;

	if (syscall(SYS_mmap, host, len, PROT_READ | PROT_WRITE,
		    MAP_FIXED | MAP_PRIVATE | MAP_NORESERVE, region->fd,
		    region->offset + offset) == -1) {
		return error_set_sys(e, errno == ENOMEM ? ERROR_NO_MEMORY : ERROR_INTERNAL, errno,
				     "map %" PRIu64 " bytes of guest memory that have arrived",
				     len);
	}
	(void)syscall(SYS_madvise, host, len, MADV_DONTDUMP);
	return 0;
}

/* 0 or negative. */
static int let_go(struct pager *pager, uint32_t index, uint64_t chunk, uint64_t count, bool in_file,
		  struct error *e)
{
	const struct guest_region *region = &pager->mem->regions[index];
	const uint64_t offset = chunk * PAGER_CHUNK, len = length_of(region, chunk, count);
	struct uffdio_range range = { .start = (uintptr_t)region->host + offset, .len = len };
	int r = 0;

	if (in_file) {
		r = map_file(region, offset, len, e);
	} else if (ioctl(pager->fd, UFFDIO_UNREGISTER, &range) != 0) {
		r = error_set_sys(e, ERROR_INTERNAL, errno, "UFFDIO_UNREGISTER");
	}
	if (r < 0) {
		return r;
	}
	for (uint64_t i = chunk; i < chunk + count; i++) {
		pager->pending[index][i / 64] &= ~(1ULL << i % 64);
	}
	(void)ioctl(pager->fd, UFFDIO_WAKE, &range);
	return 0;
}

/* --- what is waited for -------------------------------------------------------------------------- */

/* True: it is not there yet, and nothing has failed. */
static bool is_missing(struct pager *pager, const struct pager_place *place)
{
	uint8_t state[PAGER_LOOK_MAX];
	struct error e = { 0 };
	int r;

	if (pager->over || !pager_bit(pager->pending[place->index], place->chunk)) {
		return false;
	}
	r = pager->source.look(pager->source.arg, place->index, place->chunk, 1, state, &e);
	if (r == 0 && state[0] == PAGER_MISSING) {
		return true;
	}
	r = r == 0 ? let_go(pager, place->index, place->chunk, 1, state[0] == PAGER_IN_FILE, &e)
		   : r;
	if (r < 0) {
		pager_fail(pager, &e);
	}
	return false;
}

static void look_for_waiting(struct pager *pager)
{
	struct arrival *arrival = &pager->arrival;
	size_t left = 0;

	for (size_t i = 0; i < arrival->waiting_count; i++) {
		const struct pager_place place = arrival->waiting[i];

		if (is_missing(pager, &place)) {
			if (arrival->wait_ns == LATER_NS) {
				/* The first time may have been lost. */
				pager->source.ask(pager->source.arg, place.index, place.chunk);
			}
			arrival->waiting[left++] = place;
		}
	}
	arrival->waiting_count = left;
}

void arrival_serve(struct pager *pager, uint32_t index, uint64_t offset)
{
	struct arrival *arrival = &pager->arrival;
	const struct pager_place place = { .index = index,
					   .chunk = (uint32_t)(offset / PAGER_CHUNK) };

	if (!pager_bit(pager->pending[index], place.chunk)) {
		/* It has come since the fault was queued, and its wake-up with it. */
		return;
	}
	for (size_t i = 0; i < arrival->waiting_count; i++) {
		if (arrival->waiting[i].index == index &&
		    arrival->waiting[i].chunk == place.chunk) {
			return;
		}
	}
	if (is_missing(pager, &place)) {
		VMM_BUG_ON(arrival->waiting_count == arrival->waiting_room);
		arrival->waiting[arrival->waiting_count++] = place;
		pager->source.ask(pager->source.arg, index, place.chunk);
		arrival->wait_ns = SOON_NS;
		arm(arrival, SOON_NS);
	}
}

/* --- the rest ------------------------------------------------------------------------------------ */

/* Chunks of a region from `chunk` on that are pending, in a row. */
static uint64_t pending_run(const struct pager *pager, uint32_t index, uint64_t chunk, uint64_t max)
{
	const uint64_t end = MIN(chunk + max, pager_chunks(&pager->mem->regions[index]));
	uint64_t n = 0;

	while (chunk + n < end && pager_bit(pager->pending[index], chunk + n)) {
		n++;
	}
	return n;
}

/* The next pending run from where the last one ended. 0: there is none. */
static uint64_t next_run(struct pager *pager, uint64_t max)
{
	struct arrival *arrival = &pager->arrival;

	for (; arrival->region < GUEST_MEMORY_REGIONS_MAX; arrival->region++, arrival->chunk = 0) {
		const struct guest_region *region = &pager->mem->regions[arrival->region];

		if (pager->pending[arrival->region] == NULL) {
			continue;
		}
		for (; arrival->chunk < pager_chunks(region); arrival->chunk++) {
			uint64_t n = pending_run(pager, arrival->region, arrival->chunk, max);

			if (n != 0) {
				return n;
			}
		}
	}
	return 0;
}

/* Goes on as far as everything has arrived. 1: that is the end; 0: not yet. */
static int look_ahead(struct pager *pager, struct error *e)
{
	struct arrival *arrival = &pager->arrival;
	uint8_t states[PAGER_LOOK_MAX];
	uint64_t n;

	while ((n = next_run(pager, PAGER_LOOK_MAX)) != 0) {
		int r = pager->source.look(pager->source.arg, arrival->region, arrival->chunk,
					   (uint32_t)n, states, e);

		if (r < 0) {
			return r;
		}
		for (uint64_t i = 0; i < n; i++) {
			if (states[i] == PAGER_MISSING) {
				arrival->chunk += i;
				return 0;
			}
		}
		arrival->chunk += n;
	}
	return 1;
}

/* One piece of what has arrived. 1: that was the last; 0: there is more. */
static int map_piece(struct pager *pager, struct error *e)
{
	struct arrival *arrival = &pager->arrival;
	const uint64_t n = next_run(pager, PIECE);
	uint8_t states[PAGER_LOOK_MAX];
	uint64_t i = 0;
	int r;

	if (n == 0) {
		return 1;
	}
	r = pager->source.look(pager->source.arg, arrival->region, arrival->chunk, (uint32_t)n,
			       states, e);
	while (r == 0 && i < n) {
		uint64_t first = i;

		if (states[i] == PAGER_MISSING) {
			return error_set(e, ERROR_SNAPSHOT, EBADMSG,
					 "memory that had arrived is missing again");
		}
		while (i < n && states[i] == states[first]) {
			i++;
		}
		r = let_go(pager, arrival->region, arrival->chunk + first, i - first,
			   states[first] == PAGER_IN_FILE, e);
	}
	return r;
}

static void forget_content(const struct pager *pager)
{
	for (uint32_t i = 0; i < GUEST_MEMORY_REGIONS_MAX; i++) {
		if (pager->pending[i] != NULL) {
			guest_region_forget_content(pager->mem, i);
		}
	}
}

static void look_for_rest(struct pager *pager)
{
	struct arrival *arrival = &pager->arrival;
	struct error e = { 0 };
	int r;

	if (!arrival->whole) {
		r = look_ahead(pager, &e);
		if (r == 1) {
			arrival->whole = true;
			arrival->region = 0;
			arrival->chunk = 0;
			r = 0;
			loop_post(&pager->worker.loop, &pager->more);
		}
	} else {
		r = map_piece(pager, &e);
		if (r == 1) {
			forget_content(pager);
			pager_conclude(pager);
			r = 0;
		} else if (r == 0) {
			loop_post(&pager->worker.loop, &pager->more);
		}
	}
	if (r < 0) {
		pager_fail(pager, &e);
	}
}

/* --- the clock ----------------------------------------------------------------------------------- */

static void go_on(void *arg)
{
	struct pager *pager = arg;

	if (!pager->over) {
		look_for_rest(pager);
	}
}

static void ticked(struct loop_source *source, uint32_t events)
{
	struct arrival *arrival = container_of(source, struct arrival, ticks);
	struct pager *pager = container_of(arrival, struct pager, arrival);
	uint64_t times;

	(void)events;
	if (read(arrival->clock, &times, sizeof(times)) < 0 || pager->over) {
		return;
	}
	look_for_waiting(pager);
	if (!pager->over && !arrival->whole) {
		look_for_rest(pager);
	}
	if (pager->over || arrival->whole) {
		return;
	}
	arrival->wait_ns = MIN(arrival->wait_ns + arrival->wait_ns / 2, (uint64_t)LATER_NS);
	arm(arrival, arrival->waiting_count != 0 ? arrival->wait_ns : REST_NS);
}

int arrival_prepare(struct pager *pager, struct error *e)
{
	struct arrival *arrival = &pager->arrival;

	for (uint32_t i = 0; i < GUEST_MEMORY_REGIONS_MAX; i++) {
		const struct guest_region *region = &pager->mem->regions[i];

		VMM_BUG_ON(pager->pending[i] != NULL &&
			   region->backing != GUEST_MEMORY_FILE_PRIVATE);
		arrival->waiting_room += pager->pending[i] != NULL ? pager_chunks(region) : 0;
	}
	arrival->waiting = calloc(arrival->waiting_room + 1, sizeof(*arrival->waiting));
	if (arrival->waiting == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "a pager of guest memory");
	}
	arrival->clock = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (arrival->clock < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "a timer");
	}
	return loop_source_add(&pager->worker.loop, &arrival->ticks, arrival->clock, EPOLLIN,
			       ticked, e);
}

void arrival_begin(struct pager *pager)
{
	pager->more = (struct loop_post){ .run = go_on, .arg = pager };
	pager->arrival.wait_ns = SOON_NS;
	arm(&pager->arrival, REST_NS);
}

void arrival_unregister(struct pager *pager)
{
	for (uint32_t i = 0; i < GUEST_MEMORY_REGIONS_MAX; i++) {
		const struct guest_region *region = &pager->mem->regions[i];

		for (uint64_t chunk = 0, n;
		     pager->pending[i] != NULL && chunk < pager_chunks(region); chunk += n + 1) {
			n = pending_run(pager, i, chunk, UINT32_MAX);
			if (n != 0) {
				struct uffdio_range range = { .start = (uintptr_t)region->host +
								       chunk * PAGER_CHUNK,
							      .len = length_of(region, chunk, n) };

				if (ioctl(pager->fd, UFFDIO_UNREGISTER, &range) != 0) {
					log_error("UFFDIO_UNREGISTER: %s", strerrordesc_np(errno));
				}
			}
		}
	}
}

void arrival_finish(struct pager *pager)
{
	close_fd(&pager->arrival.clock);
	free(pager->arrival.waiting);
}
