/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueue, device side (virtio 1.2 §2.7): include/vmm/virtqueue.h is the contract.
 *
 * Threads: configuration under the device's lock; between start and stop the owning worker alone.
 * No lock, no allocation, no system call.
 *
 * The guest controls all three areas at any time. Loads from them are volatile or atomic, once per
 * field, into locals; what decides where we write (used position, heads in flight) is kept on our
 * side.
 *
 * Memory order. The avail index is loaded with acquire before the entries below it. The used index
 * is stored after its elements. Two places need the store before them to be visible before the load
 * after them: used index against used_event (or avail flags), and avail_event (or used flags)
 * against the avail index. Both pairs are sequentially consistent accesses (guest_memory_store16()):
 * one locked instruction each on x86.
 *
 * Saved: configuration, positions, broken.
 */
#include "vmm/virtqueue.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "vmm/overflow.h"

#define DESC_SIZE      16U
#define USED_ELEM_SIZE 8U
#define RING_HEADER    4U /* flags and index */
#define RING_EVENT \
	2U /* used_event, avail_event: always part of the area (§2.7, table of sizes) \
	    */

/* §2.7.5.1 (driver): a chain is no longer than 2^32 bytes in total. */
#define CHAIN_BYTES_MAX GIB(4)

/* A descriptor, copied. */
struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

/* A descriptor table, direct or indirect. */
struct desc_table {
	const uint8_t *host;
	uint32_t count;
};

typedef uint64_t unaligned_u64 __attribute__((aligned(1), may_alias));
typedef uint16_t ring_u16 __attribute__((may_alias));

static uint16_t load_relaxed(const uint8_t *p)
{
	return le16toh(__atomic_load_n((const ring_u16 *)(const void *)p, __ATOMIC_RELAXED));
}

static uint16_t load_acquire(const uint8_t *p)
{
	return le16toh(__atomic_load_n((const ring_u16 *)(const void *)p, __ATOMIC_ACQUIRE));
}

static uint16_t load_ordered(const uint8_t *p)
{
	return le16toh(__atomic_load_n((const ring_u16 *)(const void *)p, __ATOMIC_SEQ_CST));
}

/* Two volatile loads, so that no field can be read twice. An indirect table may have any alignment.
 */
static struct desc desc_load(const struct desc_table *table, uint32_t index)
{
	const volatile unaligned_u64 *p =
		(const volatile unaligned_u64 *)(const void *)(table->host +
							       (size_t)index * DESC_SIZE);
	uint64_t addr = le64toh(p[0]);
	uint64_t rest = le64toh(p[1]);

	return (struct desc){
		.addr = addr,
		.len = (uint32_t)rest,
		.flags = (uint16_t)(rest >> 32),
		.next = (uint16_t)(rest >> 48),
	};
}

static uint64_t desc_bytes(uint16_t size)
{
	return (uint64_t)DESC_SIZE * size;
}

static uint64_t avail_bytes(uint16_t size)
{
	return RING_HEADER + sizeof(uint16_t) * size + RING_EVENT;
}

static uint64_t used_bytes(uint16_t size)
{
	return RING_HEADER + (uint64_t)USED_ELEM_SIZE * size + RING_EVENT;
}

static bool size_usable(uint32_t size, uint32_t max)
{
	return size != 0 && size <= max && (size & (size - 1)) == 0;
}

/* The three areas, translated. */
struct areas {
	const uint8_t *desc, *avail;
	uint8_t *used;
};

static bool find_areas(const struct virtqueue_state *state, uint16_t size_max,
		       struct guest_memory *mem, struct areas *ret)
{
	uint16_t size = state->size;

	if (!size_usable(size, size_max) || state->desc_gpa % 16 != 0 ||
	    state->avail_gpa % 2 != 0 || state->used_gpa % 4 != 0) {
		return false;
	}
	ret->desc = guest_memory_read_pointer(mem, state->desc_gpa, desc_bytes(size));
	ret->avail = guest_memory_read_pointer(mem, state->avail_gpa, avail_bytes(size));
	ret->used = guest_memory_write_pointer(mem, state->used_gpa, used_bytes(size));
	return ret->desc != NULL && ret->avail != NULL && ret->used != NULL &&
	       !ranges_overlap(state->desc_gpa, desc_bytes(size), state->avail_gpa,
			       avail_bytes(size)) &&
	       !ranges_overlap(state->desc_gpa, desc_bytes(size), state->used_gpa,
			       used_bytes(size)) &&
	       !ranges_overlap(state->avail_gpa, avail_bytes(size), state->used_gpa,
			       used_bytes(size));
}

static const struct state_field virtqueue_fields[] = {
	STATE_FIELD(1, struct virtqueue_state, size, 1),
	STATE_FIELD(2, struct virtqueue_state, ready, 1),
	STATE_FIELD(3, struct virtqueue_state, desc_gpa, 1),
	STATE_FIELD(4, struct virtqueue_state, avail_gpa, 1),
	STATE_FIELD(5, struct virtqueue_state, used_gpa, 1),
	STATE_FIELD(6, struct virtqueue_state, avail_next, 1),
	STATE_FIELD(7, struct virtqueue_state, used_next, 1),
	STATE_FIELD(8, struct virtqueue_state, broken, 1),
};

/* Where a queue is that has not run is the driver's affair: virtqueue_start() checks it, also after a
 * load. */
static int virtqueue_validate(const void *object, const void *owner, struct error *e)
{
	const struct virtqueue_state *state = object;
	const struct virtqueue *q = owner;
	bool has_run = state->avail_next != 0 || state->used_next != 0;
	struct areas areas;

	if (state->size != 0 && !size_usable(state->size, q->size_max)) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "virtqueue: size %u is not a power of two up to %u", state->size,
				 q->size_max);
	}
	if ((uint16_t)(state->avail_next - state->used_next) > state->size) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "virtqueue: positions %u (avail) and %u (used) are further apart "
				 "than size %u",
				 state->avail_next, state->used_next, state->size);
	}
	if (has_run && q->mem != NULL && !find_areas(state, q->size_max, q->mem, &areas)) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "virtqueue: it has run, and its areas at 0x%llx, 0x%llx and "
				 "0x%llx are not in this machine's memory",
				 (unsigned long long)state->desc_gpa,
				 (unsigned long long)state->avail_gpa,
				 (unsigned long long)state->used_gpa);
	}
	return 0;
}

const struct state_desc virtqueue_state = STATE_DESC_IN(
	struct virtqueue, state, "virtqueue", 1, virtqueue_fields, .validate = virtqueue_validate);

static const uint8_t *used_event(const struct virtqueue *q)
{
	return q->avail + RING_HEADER + sizeof(uint16_t) * q->state.size;
}

static uint8_t *avail_event(const struct virtqueue *q)
{
	return q->used + RING_HEADER + (size_t)USED_ELEM_SIZE * q->state.size;
}

static bool head_in_flight(const struct virtqueue *q, uint16_t head)
{
	return (q->in_flight[head / 64] >> (head % 64) & 1) != 0;
}

static void head_toggle(struct virtqueue *q, uint16_t head)
{
	q->in_flight[head / 64] ^= UINT64_C(1) << (head % 64);
}

void virtqueue_init(struct virtqueue *q, uint16_t size_max)
{
	VMM_BUG_ON(!size_usable(size_max, VIRTQUEUE_SIZE_MAX));
	memset(q, 0, sizeof(*q));
	q->size_max = size_max;
	q->state.size = size_max;
}

void virtqueue_reset(struct virtqueue *q)
{
	struct guest_memory *mem = q->mem;

	VMM_BUG_ON(q->running);
	virtqueue_init(q, q->size_max);
	q->mem = mem;
}

void virtqueue_set_size(struct virtqueue *q, uint32_t size)
{
	q->state.size = size_usable(size, q->size_max) ? (uint16_t)size : 0;
}

bool virtqueue_start(struct virtqueue *q, struct guest_memory *mem, uint64_t features)
{
	struct areas areas;

	VMM_BUG_ON(q->running);
	if (!find_areas(&q->state, q->size_max, mem, &areas)) {
		return false;
	}
	q->mem = mem;
	q->desc = areas.desc;
	q->avail = areas.avail;
	q->used = areas.used;
	q->event_idx = (features >> VIRTIO_RING_F_EVENT_IDX & 1) != 0;
	q->indirect = (features >> VIRTIO_RING_F_INDIRECT_DESC & 1) != 0;
	q->avail_seen = q->state.avail_next;
	q->used_published = q->state.used_next;
	q->pass_open = false;
	memset(q->in_flight, 0, sizeof(q->in_flight));
	q->in_flight_count = 0;
	q->running = true;
	/* An earlier run may have left something; with EVENT_IDX it must be 0 (§2.7.10.2). */
	q->kicks_suppressed = false;
	guest_memory_store16(mem, q->used, 0);
	virtqueue_suppress_kicks(q, false);
	return true;
}

void virtqueue_stop(struct virtqueue *q)
{
	q->running = false;
	q->desc = NULL;
	q->avail = NULL;
	q->used = NULL;
}

uint16_t virtqueue_available(struct virtqueue *q)
{
	if (!q->running || q->state.broken) {
		return 0;
	}
	q->pass_open = false;
	return (uint16_t)(load_ordered(q->avail + 2) - q->state.avail_next);
}

bool virtqueue_has_work(struct virtqueue *q)
{
	return virtqueue_available(q) != 0;
}

/* Reads the avail index once for a whole pass. */
static int pass_begin(struct virtqueue *q)
{
	uint16_t seen = load_acquire(q->avail + 2);
	uint16_t count = (uint16_t)(seen - q->state.avail_next);

	if (count > q->state.size) {
		return -EIO;
	}
	q->avail_seen = seen;
	q->pass_open = count != 0;
	return count != 0;
}

/* Adds one buffer to the chain. False if the driver may not do that. */
static bool chain_add(const struct virtqueue *q, struct virtqueue_chain *chain,
		      const struct desc *d, size_t max)
{
	bool writable = (d->flags & VRING_DESC_F_WRITE) != 0;
	uint8_t *host = guest_memory_write_pointer(q->mem, d->addr, d->len);

	if (host == NULL) {
		return false;
	}
	if (writable) {
		chain->in_len += d->len;
	} else if (chain->writable_seen) {
		return false;
	} else {
		chain->out_len += d->len;
	}
	chain->writable_seen |= writable;
	if (chain->in_len + chain->out_len > CHAIN_BYTES_MAX) {
		return false;
	}
	if (d->len == 0) {
		return true;
	}
	if ((size_t)chain->out_count + chain->in_count >= max) {
		return false;
	}
	chain->iov[chain->out_count + chain->in_count] =
		(struct iovec){ .iov_base = host, .iov_len = d->len };
	if (writable) {
		chain->in_count++;
	} else {
		chain->out_count++;
	}
	return true;
}

/* The table that an INDIRECT descriptor refers to. WRITE on it means nothing (§2.7.5.3.2). */
static bool indirect_table(const struct virtqueue *q, const struct desc *d, struct desc_table *ret)
{
	if (!q->indirect || (d->flags & VRING_DESC_F_NEXT) != 0 || d->len == 0 ||
	    d->len % DESC_SIZE != 0) {
		return false;
	}
	ret->host = guest_memory_read_pointer(q->mem, d->addr, d->len);
	ret->count = d->len / DESC_SIZE;
	return ret->host != NULL;
}

static bool chain_walk(const struct virtqueue *q, struct virtqueue_chain *chain, size_t max)
{
	struct desc_table table = { .host = q->desc, .count = q->state.size };
	uint32_t index = chain->head;
	uint32_t buffers = 0;
	bool inside = false;

	for (;;) {
		struct desc d;

		if (index >= table.count) {
			return false;
		}
		d = desc_load(&table, index);
		if ((d.flags & VRING_DESC_F_INDIRECT) != 0) {
			if (inside || !indirect_table(q, &d, &table)) {
				return false;
			}
			inside = true;
			index = 0;
			continue;
		}
		if (++buffers > q->state.size || !chain_add(q, chain, &d, max)) {
			return false;
		}
		if ((d.flags & VRING_DESC_F_NEXT) == 0) {
			return true;
		}
		index = d.next;
	}
}

int virtqueue_pop(struct virtqueue *q, struct virtqueue_chain *chain, struct iovec *iov, size_t max)
{
	uint16_t head;

	if (!q->running) {
		return 0;
	}
	if (q->state.broken) {
		return -EIO;
	}
	if (q->state.avail_next == q->avail_seen) {
		int r;

		if (q->pass_open) {
			q->pass_open = false;
			return 0;
		}
		r = pass_begin(q);
		if (r < 0) {
			goto broken;
		}
		if (r == 0) {
			return 0;
		}
	}
	head = load_relaxed(q->avail + RING_HEADER +
			    sizeof(uint16_t) * (q->state.avail_next & (q->state.size - 1U)));
	if (head >= q->state.size || head_in_flight(q, head)) {
		goto broken;
	}
	*chain = (struct virtqueue_chain){ .head = head, .iov = iov };
	if (!chain_walk(q, chain, max)) {
		goto broken;
	}
	head_toggle(q, head);
	q->in_flight_count++;
	q->state.avail_next++;
	return 1;

broken:
	q->state.broken = true;
	return -EIO;
}

void virtqueue_unpop(struct virtqueue *q, const struct virtqueue_chain *chain)
{
	if (!q->running || q->state.broken) {
		return;
	}
	VMM_BUG_ON(!head_in_flight(q, chain->head));
	head_toggle(q, chain->head);
	q->in_flight_count--;
	q->state.avail_next--;
	q->pass_open = true;
}

static void push(struct virtqueue *q, const struct virtqueue_chain *chain, uint32_t written,
		 uint64_t touched)
{
	uint8_t *elem;

	/* Also if the queue has stopped meanwhile: the bytes have arrived all the same. */
	guest_memory_written_list(q->mem, chain->iov + chain->out_count, chain->in_count, touched);
	if (!q->running || q->state.broken) {
		return;
	}
	VMM_BUG_ON(chain->head >= q->state.size || !head_in_flight(q, chain->head));
	elem = q->used + RING_HEADER +
	       (size_t)USED_ELEM_SIZE * (q->state.used_next & (q->state.size - 1U));
	guest_memory_store32(q->mem, elem, chain->head);
	guest_memory_store32(q->mem, elem + 4, written);
	head_toggle(q, chain->head);
	q->in_flight_count--;
	q->state.used_next++;
}

void virtqueue_push(struct virtqueue *q, const struct virtqueue_chain *chain, uint32_t written)
{
	push(q, chain, (uint32_t)MIN((uint64_t)written, chain->in_len), chain->in_len);
}

void virtqueue_push_exact(struct virtqueue *q, const struct virtqueue_chain *chain,
			  uint32_t written)
{
	written = (uint32_t)MIN((uint64_t)written, chain->in_len);
	push(q, chain, written, written);
}

bool virtqueue_publish(struct virtqueue *q)
{
	uint16_t old = q->used_published;

	if (!q->running || q->state.broken || q->state.used_next == old) {
		return false;
	}
	guest_memory_store16(q->mem, q->used + 2, q->state.used_next);
	q->used_published = q->state.used_next;
	if (q->event_idx) {
		return vring_need_event(load_ordered(used_event(q)), q->state.used_next, old) != 0;
	}
	return (load_ordered(q->avail) & VRING_AVAIL_F_NO_INTERRUPT) == 0;
}

void virtqueue_suppress_kicks(struct virtqueue *q, bool suppress)
{
	if (!q->running || q->state.broken) {
		return;
	}
	if (q->event_idx) {
		/* An event index that the driver has passed already asks for nothing. */
		if (!suppress) {
			guest_memory_store16(q->mem, avail_event(q), q->avail_seen);
		}
		return;
	}
	if (q->kicks_suppressed != suppress) {
		q->kicks_suppressed = suppress;
		guest_memory_store16(q->mem, q->used, suppress ? VRING_USED_F_NO_NOTIFY : 0);
	}
}
