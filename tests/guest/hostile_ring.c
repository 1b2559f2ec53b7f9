/* SPDX-License-Identifier: Apache-2.0 */
/* Abuses of descriptors, chains, indices and indirect tables; and block requests in odd shapes. See
 * hostile.h. */
#include "hostile.h"

static bool lies_in_ram(struct hostile *h, uint64_t address, uint64_t length)
{
	return address < h->ram_end && length <= h->ram_end - address;
}

/* A chain of honest descriptors but for one. */
static void try_descriptor(struct hostile *h, uint64_t address, uint32_t length, unsigned kind,
			   unsigned at, bool three)
{
	hostile_begin(h);
	hostile_block_header(h, 0, 0);
	hostile_desc(h, 0, h->arena->header, 16, VIRTQ_F_NEXT, 1);
	hostile_desc(h, 1, h->arena->data, 512, three ? VIRTQ_F_NEXT | VIRTQ_F_WRITE : 0, 2);
	hostile_desc(h, 2, h->arena->status, 1, VIRTQ_F_WRITE, 0);
	if (h->v.id == VIRTIO_ID_RNG) {
		hostile_desc(h, 0, h->arena->data, 16, VIRTQ_F_NEXT | VIRTQ_F_WRITE, 1);
	}
	if (!(kind & VIRTQ_F_INDIRECT)) {
		kind |= h->arena->desc[at].flags & VIRTQ_F_NEXT;
	}
	hostile_desc(h, at, (void *)address, length, kind, at + 1);
	hostile_make_available(h, 0);
	hostile_expect(h, "descriptor", address ^ (uint64_t)length << 24 ^ kind << 4 ^ at,
		       DONE | BROKEN);
	/* The rings may have been written over, by the driver's own wish. */
	if (lies_in_ram(h, address, length) && address >= (uint64_t)h->arena) {
		h->ready = false;
	}
}

/* One descriptor, any address, length and flags, at each place of a chain. */
void hostile_abuse_descriptors(struct hostile *h)
{
	const uint64_t addresses[] = {
		0,
		1,
		h->ram_end - 1,
		h->ram_end,
		h->ram_end - 8,
		PLATFORM_RAM_LOW_END - 1,
		PLATFORM_RAM_LOW_END,
		PLATFORM_RAM_HIGH_START - 1,
		PLATFORM_LAPIC,
		PLATFORM_IOAPIC,
		h->v.base,
		h->v.base + VIRTIO_QUEUE_NOTIFY,
		PLATFORM_VIRTIO_MMIO,
		(uint64_t)h->arena,
		(uint64_t)&h->arena->used,
		1ULL << 63,
		0ULL - 16,
		~0ULL,
	};
	static const uint32_t lengths[] = { 0,	   1,	  11,	      12,	  511,
					    512,   513,	  4095,	      4096,	  4097,
					    65535, 65536, 0x7fffffff, 0x80000000, 0xffffffff };
	static const uint8_t kinds[] = { 0, VIRTQ_F_WRITE, VIRTQ_F_INDIRECT,
					 VIRTQ_F_INDIRECT | VIRTQ_F_WRITE };
	unsigned places = h->v.id == VIRTIO_ID_BLOCK ? 3 : 2;

	for (size_t a = 0; a < GUEST_ARRAY_SIZE(addresses); a++) {
		for (size_t l = 0; l < GUEST_ARRAY_SIZE(lengths); l++) {
			/* Honest, and it would hit the loader's tables. */
			if (addresses[a] < 0x100000 && lengths[l] > 8192) {
				continue;
			}
			for (unsigned k = 0; k < GUEST_ARRAY_SIZE(kinds) * places; k++) {
				try_descriptor(h, addresses[a], lengths[l], kinds[k / places],
					       k % places, places == 3);
			}
		}
	}
	hostile_alive(h, "descriptors");
}

void hostile_abuse_flags(struct hostile *h)
{
	for (unsigned flags = 0; flags < 0x10000; flags = flags < 16 ? flags + 1 : flags << 1) {
		static const uint16_t nexts[] = { 0, 1, 0xffff };

		for (size_t n = 0; n < GUEST_ARRAY_SIZE(nexts) + 2; n++) {
			unsigned next = n < 3 ? nexts[n] : h->queue_size - (n == 3);

			hostile_begin(h);
			hostile_block_header(h, 0, 0);
			hostile_desc(h, 0, h->arena->header, 16, flags, next);
			hostile_desc(h, 1, h->arena->status, 1, VIRTQ_F_WRITE, 0);
			hostile_desc(h, h->queue_size - 1, h->arena->status, 1, VIRTQ_F_WRITE, 0);
			hostile_make_available(h, 0);
			hostile_expect(h, "flags", flags << 16 | next, DONE | BROKEN);
		}
	}
	hostile_alive(h, "flags");
}

void hostile_abuse_chains(struct hostile *h)
{
	/* Loops: to itself, of two, and through the whole table. */
	for (unsigned loop = 1; loop <= h->queue_size;
	     loop = loop * 2 > h->queue_size && loop != h->queue_size ? h->queue_size : loop * 2) {
		for (unsigned write = 0; write < 2; write++) {
			hostile_begin(h);
			for (unsigned i = 0; i < loop; i++) {
				hostile_desc(h, i, h->arena->data, 16,
					     VIRTQ_F_NEXT | (write ? VIRTQ_F_WRITE : 0),
					     (i + 1) % loop);
			}
			hostile_make_available(h, 0);
			hostile_expect(h, "loop", loop, BROKEN);
		}
	}
	/* A loop of empty buffers. */
	hostile_begin(h);
	hostile_desc(h, 0, h->arena->data, 0, VIRTQ_F_NEXT, 0);
	hostile_make_available(h, 0);
	hostile_expect(h, "empty loop", 0, BROKEN);
	/* Readable after writable. */
	hostile_begin(h);
	hostile_desc(h, 0, h->arena->data, 16, VIRTQ_F_NEXT | VIRTQ_F_WRITE, 1);
	hostile_desc(h, 1, h->arena->data, 16, 0, 0);
	hostile_make_available(h, 0);
	hostile_expect(h, "readable after writable", 0, DONE | BROKEN);
	/* Heads. */
	hostile_begin(h);
	hostile_make_available(h, h->queue_size);
	hostile_expect(h, "head = size", h->queue_size, BROKEN);
	hostile_begin(h);
	hostile_make_available(h, 0xffff);
	hostile_expect(h, "head = 0xffff", 0xffff, BROKEN);
	hostile_begin(h);
	hostile_block_header(h, 0, 0);
	hostile_desc(h, 0, h->arena->header, 16, 0, 0);
	hostile_make_available(h, 0);
	hostile_make_available(h, 0);
	hostile_expect(h, "head twice", 0, DONE | BROKEN);
	/* The sum of lengths passes 4 GiB; the same page again and again. */
	hostile_begin(h);
	for (unsigned i = 0; i < h->queue_size; i++) {
		hostile_desc(h, i, (void *)0x100000, 0x4000000,
			     VIRTQ_F_WRITE | (i + 1 < h->queue_size ? VIRTQ_F_NEXT : 0), i + 1);
	}
	hostile_desc(h, 0, (void *)0x100000, 0x4000000, VIRTQ_F_NEXT, 1);
	/* Not for entropy: it would fill the program, as asked. */
	if (h->v.id != VIRTIO_ID_RNG) {
		hostile_make_available(h, 0);
		hostile_expect(h, "4 GiB in a chain", 0, DONE | BROKEN);
	}
	h->ready = false;
	hostile_alive(h, "chains");
}

void hostile_abuse_indices(struct hostile *h)
{
	static const uint16_t jumps[] = { 0x7fff, 0x8000, 0xffff, 0xfffe };
	unsigned outcome;

	for (size_t i = 0; i < GUEST_ARRAY_SIZE(jumps) + 2; i++) {
		uint16_t jump = i < 4 ? jumps[i] : (uint16_t)(h->queue_size + (i == 5));

		h->ready = false;
		hostile_begin(h);
		hostile_block_header(h, 0, 0);
		hostile_desc(h, 0, h->arena->header, 16, 0, 0);
		h->arena->avail.index = jump;
		/* queue_size is in order, and gives the same head again and again. */
		hostile_expect(h, "avail index", jump,
			       jump == h->queue_size ? DONE | BROKEN : BROKEN);
	}
	hostile_begin(h);
	hostile_expect(h, "kick without a new entry", 0, QUIET);
	/* A used ring that the driver writes over: the device has its own index. */
	hostile_begin(h);
	hostile_block_header(h, 0, 0);
	hostile_desc(h, 0, h->arena->header, 16, 0, 0);
	hostile_make_available(h, 0);
	hostile_expect(h, "before the used ring is overwritten", 0, DONE | BROKEN);
	if (h->ready) {
		memset((void *)&h->arena->used, 0xa5, sizeof(h->arena->used));
		hostile_make_available(h, 0);
		outcome = hostile_expect(h, "used ring overwritten", 0, DONE | BROKEN);
		/* It has counted for itself; or nothing was used, by a broken queue or one that
		 * has not woken up yet. */
		guest_check(h->arena->used.index == 2 ||
			    (outcome != DONE && h->arena->used.index == 0xa5a5));
		h->ready = false;
	}
	/* used_event anywhere. */
	for (unsigned i = 0; i < 4; i++) {
		static const uint16_t events[] = { 0, 0xffff, 0x8000, 1 };

		hostile_begin(h);
		hostile_desc(h, 0, h->arena->header, 16, 0, 0);
		h->arena->avail.ring[h->queue_size] = events[i];
		hostile_make_available(h, 0);
		hostile_expect(h, "used_event", events[i], DONE | BROKEN);
		h->ready = false;
	}
	hostile_alive(h, "indices");
}

static void indirect(struct hostile *h, const char *name, uint64_t address, uint32_t length,
		     unsigned flags, unsigned allowed)
{
	hostile_begin(h);
	hostile_block_header(h, 0, 0);
	hostile_desc(h, 1, h->arena->status, 1, VIRTQ_F_WRITE, 0);
	hostile_desc(h, 0, (void *)address, length, flags, 1);
	hostile_make_available(h, 0);
	hostile_expect(h, name, (uint64_t)length << 32 | flags, allowed);
}

void hostile_abuse_indirect(struct hostile *h)
{
	static const uint32_t lengths[] = {
		0, 1, 15, 17, 24, 0xfffffff0, 0xffffffff, 0x80000000, 0x100000, 0x100010
	};
	uint64_t table = (uint64_t)h->arena->table;

	if (!(h->v.features & VIRTIO_F_INDIRECT)) {
		return;
	}
	for (unsigned i = 0; i < TABLE_ENTRIES; i++) {
		hostile_entry(h, i, h->arena->data, 16,
			      VIRTQ_F_WRITE | (i + 1 < TABLE_ENTRIES ? VIRTQ_F_NEXT : 0), i + 1);
	}
	for (size_t i = 0; i < GUEST_ARRAY_SIZE(lengths); i++) {
		indirect(h, "indirect length", table, lengths[i], VIRTQ_F_INDIRECT, DONE | BROKEN);
	}
	indirect(h, "indirect with next", table, 32, VIRTQ_F_INDIRECT | VIRTQ_F_NEXT,
		 DONE | BROKEN);
	indirect(h, "indirect outside RAM", PLATFORM_RAM_LOW_END, 32, VIRTQ_F_INDIRECT, BROKEN);
	indirect(h, "indirect across the end of RAM", h->ram_end - 16, 32, VIRTQ_F_INDIRECT,
		 BROKEN);
	indirect(h, "indirect at the top", ~0ULL - 15, 32, VIRTQ_F_INDIRECT, BROKEN);
	hostile_entry(h, 0, h->arena->table, 32, VIRTQ_F_INDIRECT, 0);
	indirect(h, "nested", table, 32, VIRTQ_F_INDIRECT, BROKEN);
	hostile_entry(h, 0, h->arena->data, 16, VIRTQ_F_NEXT, 0);
	indirect(h, "indirect loop", table, 32, VIRTQ_F_INDIRECT, BROKEN);
	hostile_entry(h, 0, h->arena->data, 16, VIRTQ_F_NEXT, 2);
	indirect(h, "indirect next out of the table", table, 32, VIRTQ_F_INDIRECT, BROKEN);
	hostile_entry(h, 0, h->arena->data, 16, VIRTQ_F_NEXT, 0xffff);
	indirect(h, "indirect next 0xffff", table, 32, VIRTQ_F_INDIRECT, BROKEN);
	/* Longer than the queue: a device may refuse it or serve it. */
	for (unsigned i = 0; i < TABLE_ENTRIES; i++) {
		hostile_entry(h, i, h->arena->data, 16,
			      VIRTQ_F_WRITE | (i + 1 < TABLE_ENTRIES ? VIRTQ_F_NEXT : 0), i + 1);
	}
	indirect(h, "indirect longer than the queue", table, TABLE_ENTRIES * 16, VIRTQ_F_INDIRECT,
		 DONE | BROKEN);
	/* An odd address is in order: the specification asks for no alignment of the table. */
	if (h->v.id == VIRTIO_ID_BLOCK) {
		hostile_block_header(h, 0, 0);
		hostile_entry(h, 0, h->arena->header, 16, VIRTQ_F_NEXT, 1);
		hostile_entry(h, 1, h->arena->data, 512, VIRTQ_F_NEXT | VIRTQ_F_WRITE, 2);
		hostile_entry(h, 2, h->arena->status, 1, VIRTQ_F_WRITE, 0);
		memcpy((void *)(h->arena->data + 0x10001), (void *)h->arena->table, 48);
		h->ready = false;
		indirect(h, "indirect table at an odd address", (uint64_t)h->arena->data + 0x10001,
			 48, VIRTQ_F_INDIRECT, DONE);
		guest_check(h->arena->status[0] == 0);
	}
	/* Not negotiated. */
	h->features &= ~VIRTIO_F_INDIRECT;
	h->ready = false;
	indirect(h, "indirect not negotiated", table, 48, VIRTQ_F_INDIRECT, BROKEN);
	h->features |= VIRTIO_F_INDIRECT;
	hostile_alive(h, "indirect descriptors");
}

/* Block requests in shapes that are odd but allowed, and in those that are not. */
void hostile_abuse_block_framing(struct hostile *h)
{
	static const struct {
		const char *name;
		uint16_t out[4], in[4]; /* lengths; 0 ends */
		bool good;
	} shapes[] = {
		{ "header 1 + 15", { 1, 15 }, { 512, 1 }, true },
		{ "header 8 + 8", { 8, 8 }, { 512, 1 }, true },
		{ "header of 16 pieces of 4", { 4, 4, 4, 4 }, { 512, 1 }, true },
		{ "data and status together", { 16 }, { 513 }, true },
		{ "data in pieces", { 16 }, { 100, 412, 1 }, true },
		{ "status behind 511", { 16 }, { 511, 1 }, false },
		{ "no status", { 16 }, { 0 }, false },
		{ "short header", { 15 }, { 512, 1 }, false },
		{ "header only of a byte", { 1 }, { 0 }, false },
		{ "nothing to read", { 0 }, { 512, 1 }, false },
		{ "status of two bytes", { 16 }, { 512, 2 }, false },
		{ "status of 4096 bytes", { 16 }, { 512, 4096 }, false },
		{ "long header", { 17 }, { 512, 1 }, false },
	};

	for (size_t s = 0; s < GUEST_ARRAY_SIZE(shapes); s++) {
		unsigned count = 0, outcome;
		uint32_t out = 0, in = 0;

		hostile_begin(h);
		hostile_block_header(h, 0, 0);
		memset((void *)h->arena->data, 0xee, 8192);
		for (unsigned i = 0; i < 4 && shapes[s].out[i]; i++, count++) {
			hostile_desc(h, count, h->arena->header + out, shapes[s].out[i],
				     VIRTQ_F_NEXT, count + 1);
			out += shapes[s].out[i];
		}
		for (unsigned i = 0; i < 4 && shapes[s].in[i]; i++, count++) {
			hostile_desc(h, count, h->arena->data + in, shapes[s].in[i],
				     VIRTQ_F_NEXT | VIRTQ_F_WRITE, count + 1);
			in += shapes[s].in[i];
		}
		h->arena->desc[count - 1].flags &= (uint16_t)~VIRTQ_F_NEXT;
		hostile_make_available(h, 0);
		outcome =
			hostile_expect(h, shapes[s].name, s, shapes[s].good ? DONE : DONE | BROKEN);
		if (shapes[s].good && outcome == DONE) {
			if (h->arena->data[512] != 0) {
				guest_printf("%s: status %x\n", shapes[s].name,
					     h->arena->data[512]);
			}
			guest_check(h->arena->data[512] == 0);
			guest_check(h->arena->used.ring[(h->arena->used.index - 1) % h->queue_size]
					    .length == 513);
		} else if (outcome == DONE && in) {
			guest_check(h->arena->used.ring[(h->arena->used.index - 1) % h->queue_size]
					    .length <= in);
		}
	}
	hostile_alive(h, "block framing");
}
