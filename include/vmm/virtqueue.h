/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A split virtqueue seen from the device (virtio 1.2 §2.7), with INDIRECT_DESC and EVENT_IDX.
 *
 * Life: the transport writes size and addresses while the driver configures (device lock held);
 * virtqueue_start() checks and translates them once, at DRIVER_OK; from then on only the owning
 * worker touches the run-time part, until virtqueue_stop().
 *
 * The guest controls everything in the three areas, at any time. Therefore: the avail index is read
 * once per pass and a pass is bounded by the queue size; each descriptor is copied once; a chain
 * has at most `size` buffers, direct and indirect together; a head that is in flight cannot be
 * taken again; used index and used ring positions come from our own shadow. Anything else makes the
 * queue broken: virtqueue_pop() returns -EIO for ever and the device asks for a reset, nothing more
 * happens, and what was in flight is not given back.
 *
 * Pass of a worker (virtio_queue_begin() and virtio_queue_more() in vmm/virtio.h do it for devices,
 * and bound the outer loop as well):
 *
 *	virtqueue_suppress_kicks(q, true);
 *	do {
 *		while ((r = virtqueue_pop(q, &chain, iov, max)) > 0) {
 *			... later, in any order: virtqueue_push(q, &chain, written);
 *		}
 *		virtqueue_publish(q)              -> true: interrupt the driver
 *		virtqueue_suppress_kicks(q, false);
 *	} while (virtqueue_has_work(q));          -> it may have added before it saw the setting
 *
 * Saved: configuration, next avail and used positions, broken. Nothing is in flight at a save: the
 * queue has been stopped, which waits for what a back end works on and gives it back; only chains of a
 * broken queue are never given back. A queue with positions has run, so its areas have to be in memory
 * when it is loaded.
 */
#ifndef VMM_VIRTQUEUE_H
#define VMM_VIRTQUEUE_H

#include <sys/uio.h>

#include "vmm/error.h"
#include "vmm/guest_memory.h"
#include "vmm/state.h"
#include "vmm/types.h"

#define VIRTQUEUE_SIZE_MAX 1024

struct virtqueue_state {
	/* Configuration: written by the transport under the device's lock while !ready. */
	uint64_t desc_gpa, avail_gpa, used_gpa;
	uint16_t size; /* what the driver chose: power of 2, 1..size_max; 0: something else */
	bool ready;
	/* Run time: owning worker only. */
	bool broken;
	uint16_t avail_next; /* position of the next entry to take */
	uint16_t used_next;  /* position of the next entry to fill */
};

struct virtqueue {
	struct virtqueue_state state;
	uint16_t size_max; /* power of 2; what the device offers */

	/* Run time: owning worker only. */
	struct guest_memory *mem; /* borrowed; NULL: it was never started, nor given any */
	bool running;
	bool event_idx, indirect;
	const uint8_t *desc, *avail; /* translated */
	uint8_t *used;
	uint16_t avail_seen;	 /* avail index as of the last read */
	uint16_t used_published; /* used index that the driver can see */
	bool pass_open;		 /* something was taken since the avail index was read */
	bool kicks_suppressed;
	uint64_t in_flight[VIRTQUEUE_SIZE_MAX / 64]; /* one bit per head */
	uint32_t in_flight_count;
};

extern const struct state_desc virtqueue_state; /* of struct virtqueue */

/* One request: the driver's readable buffers first, then the writable ones, all translated. */
struct virtqueue_chain {
	uint16_t head;
	uint16_t out_count;	  /* iov[0 ... out_count - 1]: readable */
	uint16_t in_count;	  /* the entries after them: writable */
	uint64_t out_len, in_len; /* bytes; at most 2^32 together, a longer chain is refused */
	bool writable_seen;	  /* a writable descriptor was met, maybe of length 0 */
	struct iovec *iov;	  /* the caller's array; unchanged until virtqueue_push() */
};

/* Sets size_max, everything else to reset values. */
void virtqueue_init(struct virtqueue *q, uint16_t size_max);
/* Back to reset values (keeps size_max and mem). Only while not running. */
void virtqueue_reset(struct virtqueue *q);

/*
 * What the driver writes as queue size: anything but a power of 2 up to size_max is kept as 0,
 * which virtqueue_start() refuses.
 */
void virtqueue_set_size(struct virtqueue *q, uint32_t size);

/*
 * Checks size, alignment and place of the three areas (16, 2 and 4 bytes; wholly in RAM, not
 * overlapping each other) and starts. Returns false, and leaves the queue stopped, if the driver's
 * settings are unusable.
 */
bool __must_use virtqueue_start(struct virtqueue *q, struct guest_memory *mem, uint64_t features);
/*
 * Nothing touches the rings any more; pushes that come later are dropped. All popped chains must
 * have been pushed, or be dropped for good (reset).
 */
void virtqueue_stop(struct virtqueue *q);

/*
 * True if there is something to pop, reading the avail index anew: the next virtqueue_pop() then
 * gives 1 or -EIO. False for a broken queue.
 */
bool virtqueue_has_work(struct virtqueue *q);
/*
 * How many chains wait, reading the avail index anew; more than q->size if the driver broke it (the
 * next pop says so).
 */
uint16_t virtqueue_available(struct virtqueue *q);
/*
 * Takes the next chain. `iov` has room for `max` entries; a chain that needs more breaks the queue,
 * so give at least q->size. Zero-length descriptors are checked and left out of the list. Returns
 * 1; 0 at the end of the pass: nothing was left when the pass read the avail index
 * (virtqueue_has_work() looks again); -EIO if the queue is broken (now or before).
 */
int virtqueue_pop(struct virtqueue *q, struct virtqueue_chain *chain, struct iovec *iov,
		  size_t max);
/*
 * Puts the last popped chain back, as if it had not been taken; several of them in the reverse
 * order of their pops, none of them pushed. What was written to one all the same has been said to
 * guest_memory_written_list().
 */
void virtqueue_unpop(struct virtqueue *q, const struct virtqueue_chain *chain);
/*
 * Gives a chain back with `written` bytes written from the first writable buffer on. Everything has
 * arrived that was to be written to its writable buffers; all of these are marked dirty, whatever
 * `written` says, because an error or a status byte may be anywhere. The driver sees it after
 * virtqueue_publish().
 */
void virtqueue_push(struct virtqueue *q, const struct virtqueue_chain *chain, uint32_t written);
/* The same by a device that has written the first `written` bytes and nothing else, or has said so
 * before: only these are marked. */
void virtqueue_push_exact(struct virtqueue *q, const struct virtqueue_chain *chain,
			  uint32_t written);
/* Makes pushed chains visible. True if the driver wants an interrupt for them. */
bool __must_use virtqueue_publish(struct virtqueue *q);
/* Tells the driver not to kick (a hint), or to kick for the next entry. */
void virtqueue_suppress_kicks(struct virtqueue *q, bool suppress);

#endif
