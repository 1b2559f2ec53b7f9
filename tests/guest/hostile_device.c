/* SPDX-License-Identifier: Apache-2.0 */
/* Abuses of the status, features, queue registers and every other register; rings written by
 * another CPU. See hostile.h. */
#include "hostile.h"

static void status(struct hostile *h, uint32_t value)
{
	virtio_write(&h->v, VIRTIO_STATUS, value);
}

void hostile_abuse_states(struct hostile *h)
{
	/* A kick before DRIVER_OK must not start anything. */
	virtio_negotiate(&h->v, h->features);
	hostile_clear_rings(h);
	hostile_place(h, h->queue, h->queue_size, (uint64_t)h->arena->desc,
		      (uint64_t)&h->arena->avail, (uint64_t)&h->arena->used);
	hostile_desc(h, 0, h->arena->header, 16, 0, 0);
	hostile_make_available(h, 0);
	hostile_expect(h, "kick before DRIVER_OK", 0, QUIET);
	guest_check(h->arena->used.index == 0);
	hostile_alive(h, "kick before DRIVER_OK");
	/* After FAILED. */
	hostile_set_up(h);
	status(h, virtio_read(&h->v, VIRTIO_STATUS) | VIRTIO_S_FAILED);
	hostile_make_available(h, 0);
	hostile_expect(h, "kick after FAILED", 0, QUIET | DONE | BROKEN);
	hostile_alive(h, "FAILED");
	/* After a reset the old ring is nobody's. */
	hostile_set_up(h);
	virtio_reset(&h->v);
	hostile_desc(h, 0, h->arena->header, 16, 0, 0);
	hostile_make_available(h, 0);
	hostile_expect(h, "kick after reset", 0, QUIET);
	guest_check(h->arena->used.index == 0);
	guest_check(virtio_read(&h->v, VIRTIO_STATUS) == 0);
	/* Bits are never cleared one by one, and DRIVER_OK twice is once. */
	hostile_set_up(h);
	status(h, 15);
	status(h, 15);
	status(h, 3);
	status(h, 1);
	status(h, 11);
	hostile_alive(h, "clearing status bits");
	/* Steps left out. */
	virtio_reset(&h->v);
	status(h, VIRTIO_S_DRIVER_OK);
	hostile_kick(h);
	status(h, 15);
	hostile_kick(h);
	virtio_reset(&h->v);
	status(h, VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER | VIRTIO_S_DRIVER_OK);
	hostile_kick(h);
	hostile_alive(h, "DRIVER_OK without features");
	for (unsigned value = 1; value < 256; value++) {
		status(h, value);
	}
	hostile_alive(h, "every status value");
	for (unsigned i = 0; i < 500; i++) {
		status(h, 0);
		status(h, 15);
	}
	hostile_alive(h, "500 resets");
}

void hostile_abuse_features(struct hostile *h)
{
	uint64_t offered = virtio_offered(&h->v);

	/* Features: none (so no VERSION_1), what was not offered, all. */
	virtio_reset(&h->v);
	status(h, 3);
	status(h, 11);
	guest_check(!(virtio_read(&h->v, VIRTIO_STATUS) & VIRTIO_S_FEATURES_OK));
	for (unsigned bit = 0; bit < 64; bit++) {
		if (offered >> bit & 1) {
			continue;
		}
		virtio_reset(&h->v);
		status(h, 3);
		virtio_write(&h->v, VIRTIO_DRIVER_FEATURES_SEL, 0);
		virtio_write(&h->v, VIRTIO_DRIVER_FEATURES, bit < 32 ? 1U << bit : 0);
		virtio_write(&h->v, VIRTIO_DRIVER_FEATURES_SEL, 1);
		virtio_write(&h->v, VIRTIO_DRIVER_FEATURES, 1 | (bit < 32 ? 0 : 1U << (bit - 32)));
		status(h, 11);
		if (virtio_read(&h->v, VIRTIO_STATUS) & VIRTIO_S_FEATURES_OK) {
			guest_printf("%s: took feature %u, which it did not offer\n", h->device,
				     bit);
			guest_check(!"FEATURES_OK refused");
		}
	}
	/* Beyond the second word there is nothing. */
	virtio_write(&h->v, VIRTIO_DEVICE_FEATURES_SEL, 2);
	guest_check(virtio_read(&h->v, VIRTIO_DEVICE_FEATURES) == 0);
	virtio_write(&h->v, VIRTIO_DEVICE_FEATURES_SEL, 0xffffffff);
	guest_check(virtio_read(&h->v, VIRTIO_DEVICE_FEATURES) == 0);
	virtio_write(&h->v, VIRTIO_DRIVER_FEATURES_SEL, 0xffffffff);
	virtio_write(&h->v, VIRTIO_DRIVER_FEATURES, 0xffffffff);
	hostile_alive(h, "features");
	/* Features after FEATURES_OK do not count. */
	hostile_set_up(h);
	virtio_write(&h->v, VIRTIO_DRIVER_FEATURES_SEL, 0);
	virtio_write(&h->v, VIRTIO_DRIVER_FEATURES, 0xffffffff);
	hostile_alive(h, "late features");
}

void hostile_abuse_placement(struct hostile *h)
{
	static const uint32_t sizes[] = { 0, 3, 0x8000, 0xffff, 0x10000, 0xffffffff, 513, 1 };
	const uint64_t bad[] = {
		h->ram_end - 16,
		h->ram_end,
		PLATFORM_RAM_LOW_END - 16,
		PLATFORM_RAM_LOW_END,
		h->v.base,
		PLATFORM_LAPIC,
		~0ULL - 15,
		1ULL << 63,
		PLATFORM_RAM_HIGH_START - 16,
		1,
		0x1001,
	};
	uint64_t d = (uint64_t)h->arena->desc, a = (uint64_t)&h->arena->avail,
		 u = (uint64_t)&h->arena->used;

	for (size_t i = 0; i < GUEST_ARRAY_SIZE(sizes) + GUEST_ARRAY_SIZE(bad) * 3; i++) {
		virtio_negotiate(&h->v, h->features);
		hostile_clear_rings(h);
		if (i < GUEST_ARRAY_SIZE(sizes)) {
			hostile_place(h, h->queue, sizes[i], d, a, u);
		} else {
			size_t which = i - GUEST_ARRAY_SIZE(sizes);
			uint64_t address = bad[which / 3];

			hostile_place(h, h->queue, h->queue_size, which % 3 == 0 ? address : d,
				      which % 3 == 1 ? address : a, which % 3 == 2 ? address : u);
		}
		status(h, 15);
		hostile_desc(h, 0, h->arena->header, 16, 0, 0);
		hostile_make_available(h, 0);
		h->ready = true;
		hostile_expect(h, "ring placement", i, DONE | BROKEN | QUIET);
	}
	/* All parts in one place; both queues on one ring. */
	virtio_negotiate(&h->v, h->features);
	hostile_place(h, h->queue, h->queue_size, d, d, d);
	status(h, 15);
	hostile_expect(h, "one place for all parts", 0, DONE | BROKEN | QUIET);
	virtio_negotiate(&h->v, h->features);
	hostile_clear_rings(h);
	hostile_place(h, 0, h->queue_size, d, a, u);
	hostile_place(h, 1, h->queue_size, d, a, u);
	status(h, 15);
	hostile_desc(h, 0, h->arena->header, 16, 0, 0);
	hostile_make_available(h, 0);
	hostile_expect(h, "two queues on one ring", 0, DONE | BROKEN | QUIET);
	hostile_alive(h, "ring placement");
}

void hostile_abuse_queue_registers(struct hostile *h)
{
	uint64_t d = (uint64_t)h->arena->desc, a = (uint64_t)&h->arena->avail,
		 u = (uint64_t)&h->arena->used;

	/* READY with other values, unready again, a selector out of range. */
	virtio_negotiate(&h->v, h->features);
	virtio_write(&h->v, VIRTIO_QUEUE_SEL, h->queue);
	virtio_write(&h->v, VIRTIO_QUEUE_READY, 2);
	virtio_write(&h->v, VIRTIO_QUEUE_READY, 0xffffffff);
	virtio_write(&h->v, VIRTIO_QUEUE_READY, 0);
	for (uint32_t sel = 4; sel; sel <<= 1) {
		virtio_write(&h->v, VIRTIO_QUEUE_SEL, sel | 0xffff);
		guest_check(virtio_read(&h->v, VIRTIO_QUEUE_NUM_MAX) == 0);
		guest_check(virtio_read(&h->v, VIRTIO_QUEUE_READY) == 0);
		hostile_place(h, sel | 0xffff, 8, d, a, u);
		guest_check(virtio_read(&h->v, VIRTIO_QUEUE_READY) == 0);
	}
	hostile_alive(h, "queue registers");
	/* Frozen once the driver is ready. */
	hostile_set_up(h);
	hostile_place(h, h->queue, 8, d + 64, a + 64, u + 64);
	virtio_write(&h->v, VIRTIO_QUEUE_NUM, 3);
	virtio_write(&h->v, VIRTIO_QUEUE_DESC + 4, 0xffffffff);
	hostile_kick(h);
	hostile_block_header(h, 0, 0);
	hostile_desc(h, 0, h->arena->header, 16,
		     VIRTQ_F_NEXT | (h->v.id == VIRTIO_ID_RNG ? VIRTQ_F_WRITE : 0), 1);
	hostile_desc(h, 1, h->arena->data, 512,
		     h->v.id == VIRTIO_ID_BLOCK || h->v.id == VIRTIO_ID_RNG ? VIRTQ_F_WRITE : 0, 2);
	hostile_make_available(h, 0);
	hostile_expect(h, "registers of a running queue", 0,
		       h->queue == hostile_busy_queue(h) ? DONE | BROKEN : DONE | BROKEN | QUIET);
	hostile_alive(h, "registers of a running queue");
}

void hostile_abuse_mmio_registers(struct hostile *h)
{
	static const uint32_t values[] = { 0, 1, 0xffffffff, 0x80000000, 0x5a5a5a5a };

	for (unsigned state = 0; state < 2; state++) {
		if (state) {
			hostile_set_up(h);
		} else {
			virtio_reset(&h->v);
		}
		for (unsigned at = 0; at < 0x200; at++) {
			guest_read8(h->v.base + at);
			guest_read16(h->v.base + at);
			guest_read32(h->v.base + at);
			guest_read64(h->v.base + at);
			for (size_t i = 0; i < GUEST_ARRAY_SIZE(values); i++) {
				guest_write8(h->v.base + at, (uint8_t)values[i]);
				guest_write16(h->v.base + at, (uint16_t)values[i]);
				guest_write64(h->v.base + at, values[i] * 0x100000001ULL);
				guest_write32(h->v.base + at, values[i]);
			}
		}
		/* The end of the window and the seam to the next. */
		for (unsigned at = 0xff0; at < 0x1000; at++) {
			guest_read8(h->v.base + at);
			guest_read16(h->v.base + at);
			guest_read32(h->v.base + at);
			guest_read64(h->v.base + at);
			guest_write64(h->v.base + at, ~0ULL);
		}
		hostile_alive(h, "registers");
	}
	/* Not a 32-bit access to a register: nothing to be had. */
	guest_check(virtio_read(&h->v, VIRTIO_MAGIC) == 0x74726976);
	/* Every shape of queue number. */
	hostile_set_up(h);
	for (unsigned bit = 0; bit < 32; bit++) {
		virtio_write(&h->v, VIRTIO_QUEUE_NOTIFY, 1U << bit);
		virtio_write(&h->v, VIRTIO_QUEUE_NOTIFY, ~(1U << bit));
		guest_write8(h->v.base + VIRTIO_QUEUE_NOTIFY, (uint8_t)bit);
		guest_write16(h->v.base + VIRTIO_QUEUE_NOTIFY, (uint16_t)(0xffff - bit));
	}
	hostile_alive(h, "notifications");
}

#define ROUND_CYCLES 100000000ULL

/* What the other CPU works on; it stops when there is nothing. */
static struct hostile *volatile mutated;
static volatile bool mutate_wildly;

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* One field of a descriptor. Tame: what might be honest, so that the device works on while it
 * changes. */
static void mutate_descriptor(struct hostile *h, uint64_t r)
{
	const uint64_t addresses[] = {
		(uint64_t)h->arena->data,
		(uint64_t)h->arena->header,
		(uint64_t)h->arena->status,
		(uint64_t)h->arena->table,
		h->ram_end - 1,
		PLATFORM_RAM_LOW_END,
		h->v.base,
		~0ULL,
	};
	static const uint32_t lengths[] = { 1, 12, 16, 512, 0, 48, 4096, 0xffffffff };
	volatile struct virtq_desc *d =
		r & 1 ? &h->arena->desc[r >> 8 & 7] : &h->arena->table[r >> 8 & 7];
	unsigned choice = r >> 20 & (mutate_wildly ? 7 : 3);

	switch (r >> 1 & 3) {
	case 0:
		d->address = addresses[choice];
		break;
	case 1:
		d->length = lengths[choice];
		break;
	case 2:
		d->flags = (uint16_t)choice;
		break;
	default:
		d->next = (uint16_t)(mutate_wildly ? choice : (r >> 8 & 7) + 1);
	}
}

static void mutate(unsigned cpu)
{
	uint64_t random = 88172645463325252ULL + cpu;
	struct hostile *h;

	while ((h = mutated)) {
		uint64_t r = next_random(&random);

		switch (r >> 3 & 7) {
		case 0:
			h->arena->avail.ring[r >> 20 & 255] = (uint16_t)(r >> 30 & 7);
			break;
		case 1:
			h->arena->avail.index++;
			break;
		case 2:
			/* Type and sector of a block request, also what there is not. */
			h->arena->header[0] = (uint8_t)(r >> 20 & 15);
			h->arena->header[8] = (uint8_t)(r >> 30);
			break;
		case 3:
			h->arena->used.index = (uint16_t)(r >> 20);
			break;
		default:
			mutate_descriptor(h, r);
		}
	}
}

/* Another CPU writes over the rings while this one kicks, and sets up again what has broken. */
unsigned hostile_abuse_concurrently(struct hostile *h, unsigned rounds)
{
	unsigned set_ups = 0;

	hostile_set_up(h);
	mutated = h;
	if (!guest_smp_run(mutate)) {
		return 0;
	}
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t start = guest_tsc();

		mutate_wildly = i & 1;
		do {
			hostile_set_up(h);
			set_ups++;
			while (!(virtio_read(&h->v, VIRTIO_STATUS) & VIRTIO_S_NEEDS_RESET) &&
			       guest_tsc() - start < ROUND_CYCLES) {
				hostile_kick(h);
			}
			virtio_write(&h->v, VIRTIO_INTERRUPT_ACK, 3);
		} while (guest_tsc() - start < ROUND_CYCLES);
	}
	mutated = NULL;
	guest_require(guest_wait(guest_smp_finished() > 0));
	virtio_reset(&h->v);
	return set_ups;
}
