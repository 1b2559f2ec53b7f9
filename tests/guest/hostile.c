/* SPDX-License-Identifier: Apache-2.0 */
/* See hostile.h. */
#include "hostile.h"

#define QUIET_CYCLES  5000000ULL
#define ANSWER_CYCLES 10000000000ULL

/* Which queues a driver fills for the device to read at once; the others wait for data from
 * outside. */
unsigned hostile_busy_queue(struct hostile *h)
{
	return h->v.id == VIRTIO_ID_NET || h->v.id == VIRTIO_ID_CONSOLE ? 1 : 0;
}

void hostile_place(struct hostile *h, unsigned index, unsigned size, uint64_t desc, uint64_t avail,
		   uint64_t used)
{
	virtio_write(&h->v, VIRTIO_QUEUE_SEL, index);
	virtio_write(&h->v, VIRTIO_QUEUE_NUM, size);
	virtio_write(&h->v, VIRTIO_QUEUE_DESC, (uint32_t)desc);
	virtio_write(&h->v, VIRTIO_QUEUE_DESC + 4, (uint32_t)(desc >> 32));
	virtio_write(&h->v, VIRTIO_QUEUE_DRIVER, (uint32_t)avail);
	virtio_write(&h->v, VIRTIO_QUEUE_DRIVER + 4, (uint32_t)(avail >> 32));
	virtio_write(&h->v, VIRTIO_QUEUE_DEVICE, (uint32_t)used);
	virtio_write(&h->v, VIRTIO_QUEUE_DEVICE + 4, (uint32_t)(used >> 32));
	virtio_write(&h->v, VIRTIO_QUEUE_READY, 1);
}

void hostile_clear_rings(struct hostile *h)
{
	memset((void *)h->arena->desc, 0, sizeof(h->arena->desc));
	memset((void *)&h->arena->avail, 0, sizeof(h->arena->avail));
	memset((void *)&h->arena->used, 0, sizeof(h->arena->used));
}

void hostile_set_up(struct hostile *h)
{
	virtio_negotiate(&h->v, h->features);
	hostile_clear_rings(h);
	virtio_write(&h->v, VIRTIO_QUEUE_SEL, h->queue);
	h->queue_size = virtio_read(&h->v, VIRTIO_QUEUE_NUM_MAX);
	h->queue_size = h->queue_size > VIRTQ_SIZE_MAX ? VIRTQ_SIZE_MAX : h->queue_size;
	hostile_place(h, h->queue, h->queue_size, (uint64_t)h->arena->desc,
		      (uint64_t)&h->arena->avail, (uint64_t)&h->arena->used);
	virtio_write(&h->v, VIRTIO_STATUS,
		     VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER | VIRTIO_S_FEATURES_OK |
			     VIRTIO_S_DRIVER_OK);
	h->ready = true;
}

void hostile_desc(struct hostile *h, unsigned i, const volatile void *address, uint32_t length,
		  unsigned flags, unsigned next)
{
	h->arena->desc[i].address = (uint64_t)address;
	h->arena->desc[i].length = length;
	h->arena->desc[i].flags = (uint16_t)flags;
	h->arena->desc[i].next = (uint16_t)next;
}

void hostile_entry(struct hostile *h, unsigned i, const volatile void *address, uint32_t length,
		   unsigned flags, unsigned next)
{
	h->arena->table[i].address = (uint64_t)address;
	h->arena->table[i].length = length;
	h->arena->table[i].flags = (uint16_t)flags;
	h->arena->table[i].next = (uint16_t)next;
}

void hostile_block_header(struct hostile *h, uint32_t type, uint64_t sector)
{
	memset((void *)h->arena->header, 0, 64);
	memcpy((void *)h->arena->header, &type, sizeof(type));
	memcpy((void *)(h->arena->header + 8), &sector, sizeof(sector));
}

void hostile_make_available(struct hostile *h, unsigned head)
{
	h->arena->avail.ring[h->arena->avail.index % h->queue_size] = (uint16_t)head;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	h->arena->avail.index++;
}

void hostile_kick(struct hostile *h)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	virtio_write(&h->v, VIRTIO_QUEUE_NOTIFY, h->queue);
}

/* Kick, and see that the device does one of what is allowed. */
unsigned hostile_expect(struct hostile *h, const char *name, uint64_t parameter, unsigned allowed)
{
	uint16_t before = h->arena->used.index;
	uint64_t start, patience;
	unsigned outcome = QUIET;
	uint32_t status;

	h->cases++;
	/* A queue that waits for data from outside may well do nothing yet. */
	if (h->queue != hostile_busy_queue(h)) {
		allowed |= QUIET;
	}
	patience = allowed & QUIET ? QUIET_CYCLES : ANSWER_CYCLES;
	hostile_kick(h);
	start = guest_tsc();
	do {
		status = virtio_read(&h->v, VIRTIO_STATUS);
		if (status & VIRTIO_S_NEEDS_RESET) {
			outcome = BROKEN;
		} else if (h->arena->used.index != before) {
			outcome = DONE;
		}
	} while (outcome == QUIET && guest_tsc() - start < patience);
	h->answers += outcome != QUIET;
	if (!(outcome & allowed)) {
		guest_printf("%s: %s (%lx): outcome %u, allowed %u, status %x\n", h->device, name,
			     parameter, outcome, allowed, status);
		guest_check(!"an allowed outcome");
	}
	if (outcome == BROKEN) {
		/* 2.1.2: the driver is told. */
		guest_check(guest_wait(virtio_read(&h->v, VIRTIO_INTERRUPT_STATUS) & 2));
		/* Broken is broken: a kick changes nothing. */
		hostile_kick(h);
		h->ready = false;
	}
	if (outcome == QUIET) {
		h->ready = false;
	}
	return outcome;
}

void hostile_begin(struct hostile *h)
{
	if (!h->ready) {
		hostile_set_up(h);
	}
}

/* An honest request after a reset. */
void hostile_alive(struct hostile *h, const char *after)
{
	unsigned failures = guest_failures();
	unsigned saved = h->queue;

	h->queue = hostile_busy_queue(h);
	hostile_set_up(h);
	if (h->v.id == VIRTIO_ID_BLOCK) {
		hostile_block_header(h, 0, 0);
		h->arena->status[0] = 0xee;
		hostile_desc(h, 0, h->arena->header, 16, VIRTQ_F_NEXT, 1);
		hostile_desc(h, 1, h->arena->data, 512, VIRTQ_F_NEXT | VIRTQ_F_WRITE, 2);
		hostile_desc(h, 2, h->arena->status, 1, VIRTQ_F_WRITE, 0);
	} else if (h->v.id == VIRTIO_ID_NET) {
		memset((void *)h->arena->data, 0, 128);
		hostile_desc(h, 0, h->arena->data, 12 + 60, 0, 0);
	} else if (h->v.id == VIRTIO_ID_CONSOLE) {
		h->arena->data[0] = '.';
		hostile_desc(h, 0, h->arena->data, 1, 0, 0);
	} else {
		hostile_desc(h, 0, h->arena->data, 16, VIRTQ_F_WRITE, 0);
	}
	hostile_make_available(h, 0);
	hostile_expect(h, "honest request", 0, DONE);
	if (h->v.id == VIRTIO_ID_BLOCK) {
		guest_check(h->arena->status[0] == 0);
	}
	guest_check(h->arena->used.index == 1 && h->arena->used.ring[0].id == 0);
	if (guest_failures() != failures) {
		guest_printf("%s: not alive after %s\n", h->device, after);
		guest_exit(GUEST_FAIL);
	}
	h->queue = saved;
	h->ready = false;
}
