/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile driver, against every virtio device through its registers: descriptors, chains, rings,
 * states and registers that no honest driver makes. After each abuse the device has finished the
 * chain, or has said DEVICE_NEEDS_RESET (with a configuration interrupt), or, where the abuse gives
 * it nothing to do, is quiet. A reset then revives it: an honest request must pass.
 *
 * All buffers lie in one arena, apart from the program: where an abuse makes a device write,
 * nothing else is hit.
 */
#include "virtio.h"

#define ARENA_SIZE    0x80000
#define TABLE_ENTRIES 512
#define DATA_SIZE     0x40000
#define QUIET_CYCLES  5000000ULL
#define ANSWER_CYCLES 10000000000ULL

enum { DONE = 1, BROKEN = 2, QUIET = 4 };

struct arena {
	struct virtq_desc desc[VIRTQ_SIZE_MAX];
	struct {
		uint16_t flags, index, ring[VIRTQ_SIZE_MAX + 1];
	} avail __attribute__((aligned(4096)));
	struct {
		uint16_t flags, index;
		struct {
			uint32_t id, length;
		} ring[VIRTQ_SIZE_MAX];
		uint16_t avail_event;
	} used __attribute__((aligned(4096)));
	struct virtq_desc table[TABLE_ENTRIES] __attribute__((aligned(4096)));
	uint8_t header[4096];
	uint8_t status[4096];
	uint8_t data[DATA_SIZE];
};

static volatile struct arena *arena;
static struct virtio v;
static unsigned queue, queue_size, cases, answers;
static uint64_t features, ram_end;
static const char *device;
static bool ready;

/* Which queues a driver fills for the device to read at once; the others wait for data from
 * outside. */
static unsigned busy_queue(void)
{
	return v.id == VIRTIO_ID_NET || v.id == VIRTIO_ID_CONSOLE ? 1 : 0;
}

static void place(unsigned index, unsigned size, uint64_t desc, uint64_t avail, uint64_t used)
{
	virtio_write(&v, VIRTIO_QUEUE_SEL, index);
	virtio_write(&v, VIRTIO_QUEUE_NUM, size);
	virtio_write(&v, VIRTIO_QUEUE_DESC, (uint32_t)desc);
	virtio_write(&v, VIRTIO_QUEUE_DESC + 4, (uint32_t)(desc >> 32));
	virtio_write(&v, VIRTIO_QUEUE_DRIVER, (uint32_t)avail);
	virtio_write(&v, VIRTIO_QUEUE_DRIVER + 4, (uint32_t)(avail >> 32));
	virtio_write(&v, VIRTIO_QUEUE_DEVICE, (uint32_t)used);
	virtio_write(&v, VIRTIO_QUEUE_DEVICE + 4, (uint32_t)(used >> 32));
	virtio_write(&v, VIRTIO_QUEUE_READY, 1);
}

static void clear_rings(void)
{
	memset((void *)arena->desc, 0, sizeof(arena->desc));
	memset((void *)&arena->avail, 0, sizeof(arena->avail));
	memset((void *)&arena->used, 0, sizeof(arena->used));
}

static void set_up(void)
{
	virtio_negotiate(&v, features);
	clear_rings();
	virtio_write(&v, VIRTIO_QUEUE_SEL, queue);
	queue_size = virtio_read(&v, VIRTIO_QUEUE_NUM_MAX);
	queue_size = queue_size > VIRTQ_SIZE_MAX ? VIRTQ_SIZE_MAX : queue_size;
	place(queue, queue_size, (uint64_t)arena->desc, (uint64_t)&arena->avail,
	      (uint64_t)&arena->used);
	virtio_write(&v, VIRTIO_STATUS,
		     VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER | VIRTIO_S_FEATURES_OK |
			     VIRTIO_S_DRIVER_OK);
	ready = true;
}

static void desc(unsigned i, const volatile void *address, uint32_t length, unsigned flags,
		 unsigned next)
{
	arena->desc[i].address = (uint64_t)address;
	arena->desc[i].length = length;
	arena->desc[i].flags = (uint16_t)flags;
	arena->desc[i].next = (uint16_t)next;
}

static void entry(unsigned i, const volatile void *address, uint32_t length, unsigned flags,
		  unsigned next)
{
	arena->table[i].address = (uint64_t)address;
	arena->table[i].length = length;
	arena->table[i].flags = (uint16_t)flags;
	arena->table[i].next = (uint16_t)next;
}

static void block_header(uint32_t type, uint64_t sector)
{
	memset((void *)arena->header, 0, 64);
	memcpy((void *)arena->header, &type, sizeof(type));
	memcpy((void *)(arena->header + 8), &sector, sizeof(sector));
}

static void make_available(unsigned head)
{
	arena->avail.ring[arena->avail.index % queue_size] = (uint16_t)head;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	arena->avail.index++;
}

static void kick(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	virtio_write(&v, VIRTIO_QUEUE_NOTIFY, queue);
}

/* Kick, and see that the device does one of what is allowed. */
static unsigned expect(const char *name, uint64_t parameter, unsigned allowed)
{
	uint16_t before = arena->used.index;
	uint64_t start, patience;
	unsigned outcome = QUIET;
	uint32_t status;

	cases++;
	/* A queue that waits for data from outside may well do nothing yet. */
	if (queue != busy_queue()) {
		allowed |= QUIET;
	}
	patience = allowed & QUIET ? QUIET_CYCLES : ANSWER_CYCLES;
	kick();
	start = guest_tsc();
	do {
		status = virtio_read(&v, VIRTIO_STATUS);
		if (status & VIRTIO_S_NEEDS_RESET) {
			outcome = BROKEN;
		} else if (arena->used.index != before) {
			outcome = DONE;
		}
	} while (outcome == QUIET && guest_tsc() - start < patience);
	answers += outcome != QUIET;
	if (!(outcome & allowed)) {
		guest_printf("%s: %s (%lx): outcome %u, allowed %u, status %x\n", device, name,
			     parameter, outcome, allowed, status);
		guest_check(!"an allowed outcome");
	}
	if (outcome == BROKEN) {
		/* 2.1.2: the driver is told. */
		guest_check(guest_wait(virtio_read(&v, VIRTIO_INTERRUPT_STATUS) & 2));
		/* Broken is broken: a kick changes nothing. */
		kick();
		ready = false;
	}
	if (outcome == QUIET) {
		ready = false;
	}
	return outcome;
}

static void begin(void)
{
	if (!ready) {
		set_up();
	}
}

/* An honest request after a reset. */
static void alive(const char *after)
{
	unsigned failures = guest_failures();
	unsigned saved = queue;

	queue = busy_queue();
	set_up();
	if (v.id == VIRTIO_ID_BLOCK) {
		block_header(0, 0);
		arena->status[0] = 0xee;
		desc(0, arena->header, 16, VIRTQ_F_NEXT, 1);
		desc(1, arena->data, 512, VIRTQ_F_NEXT | VIRTQ_F_WRITE, 2);
		desc(2, arena->status, 1, VIRTQ_F_WRITE, 0);
	} else if (v.id == VIRTIO_ID_NET) {
		memset((void *)arena->data, 0, 128);
		desc(0, arena->data, 12 + 60, 0, 0);
	} else if (v.id == VIRTIO_ID_CONSOLE) {
		arena->data[0] = '.';
		desc(0, arena->data, 1, 0, 0);
	} else {
		desc(0, arena->data, 16, VIRTQ_F_WRITE, 0);
	}
	make_available(0);
	expect("honest request", 0, DONE);
	if (v.id == VIRTIO_ID_BLOCK) {
		guest_check(arena->status[0] == 0);
	}
	guest_check(arena->used.index == 1 && arena->used.ring[0].id == 0);
	if (guest_failures() != failures) {
		guest_printf("%s: not alive after %s\n", device, after);
		guest_exit(GUEST_FAIL);
	}
	queue = saved;
	ready = false;
}

static bool lies_in_ram(uint64_t address, uint64_t length)
{
	return address < ram_end && length <= ram_end - address;
}

/* One descriptor, any address, length and flags, at each place of a chain. */
static void abuse_descriptors(void)
{
	const uint64_t addresses[] = {
		0,
		1,
		ram_end - 1,
		ram_end,
		ram_end - 8,
		PLATFORM_RAM_LOW_END - 1,
		PLATFORM_RAM_LOW_END,
		PLATFORM_RAM_HIGH_START - 1,
		PLATFORM_LAPIC,
		PLATFORM_IOAPIC,
		v.base,
		v.base + VIRTIO_QUEUE_NOTIFY,
		PLATFORM_VIRTIO_MMIO,
		(uint64_t)arena,
		(uint64_t)&arena->used,
		1ULL << 63,
		0ULL - 16,
		~0ULL,
	};
	static const uint32_t lengths[] = { 0,	   1,	  11,	      12,	  511,
					    512,   513,	  4095,	      4096,	  4097,
					    65535, 65536, 0x7fffffff, 0x80000000, 0xffffffff };
	static const uint8_t flags[] = { 0, VIRTQ_F_WRITE, VIRTQ_F_INDIRECT,
					 VIRTQ_F_INDIRECT | VIRTQ_F_WRITE };
	unsigned places = v.id == VIRTIO_ID_BLOCK ? 3 : 2;

	for (size_t a = 0; a < GUEST_ARRAY_SIZE(addresses); a++) {
		for (size_t l = 0; l < GUEST_ARRAY_SIZE(lengths); l++) {
			for (unsigned f = 0; f < GUEST_ARRAY_SIZE(flags) * places; f++) {
				unsigned kind = flags[f / places], at = f % places;

				/* Honest, and it would hit the loader's tables. */
				if (addresses[a] < 0x100000 && lengths[l] > 8192) {
					continue;
				}
				begin();
				block_header(0, 0);
				desc(0, arena->header, 16, VIRTQ_F_NEXT, 1);
				desc(1, arena->data, 512,
				     (places == 3 ? VIRTQ_F_NEXT | VIRTQ_F_WRITE : 0), 2);
				desc(2, arena->status, 1, VIRTQ_F_WRITE, 0);
				if (v.id == VIRTIO_ID_RNG) {
					desc(0, arena->data, 16, VIRTQ_F_NEXT | VIRTQ_F_WRITE, 1);
				}
				desc(at, (void *)addresses[a], lengths[l],
				     kind | (kind & VIRTQ_F_INDIRECT
						     ? 0
						     : arena->desc[at].flags & VIRTQ_F_NEXT),
				     at + 1);
				make_available(0);
				expect("descriptor",
				       addresses[a] ^ (uint64_t)lengths[l] << 24 ^ kind << 4 ^ at,
				       DONE | BROKEN);
				/* The rings may have been written over, by the driver's own wish.
				 */
				if (lies_in_ram(addresses[a], lengths[l]) &&
				    addresses[a] >= (uint64_t)arena) {
					ready = false;
				}
			}
		}
	}
	alive("descriptors");
}

static void abuse_flags(void)
{
	for (unsigned flags = 0; flags < 0x10000; flags = flags < 16 ? flags + 1 : flags << 1) {
		static const uint16_t nexts[] = { 0, 1, 0xffff };

		for (size_t n = 0; n < GUEST_ARRAY_SIZE(nexts) + 2; n++) {
			unsigned next = n < 3 ? nexts[n] : queue_size - (n == 3);

			begin();
			block_header(0, 0);
			desc(0, arena->header, 16, flags, next);
			desc(1, arena->status, 1, VIRTQ_F_WRITE, 0);
			desc(queue_size - 1, arena->status, 1, VIRTQ_F_WRITE, 0);
			make_available(0);
			expect("flags", flags << 16 | next, DONE | BROKEN);
		}
	}
	alive("flags");
}

static void abuse_chains(void)
{
	/* Loops: to itself, of two, and through the whole table. */
	for (unsigned loop = 1; loop <= queue_size;
	     loop = loop * 2 > queue_size && loop != queue_size ? queue_size : loop * 2) {
		for (unsigned write = 0; write < 2; write++) {
			begin();
			for (unsigned i = 0; i < loop; i++) {
				desc(i, arena->data, 16, VIRTQ_F_NEXT | (write ? VIRTQ_F_WRITE : 0),
				     (i + 1) % loop);
			}
			make_available(0);
			expect("loop", loop, BROKEN);
		}
	}
	/* A loop of empty buffers. */
	begin();
	desc(0, arena->data, 0, VIRTQ_F_NEXT, 0);
	make_available(0);
	expect("empty loop", 0, BROKEN);
	/* Readable after writable. */
	begin();
	desc(0, arena->data, 16, VIRTQ_F_NEXT | VIRTQ_F_WRITE, 1);
	desc(1, arena->data, 16, 0, 0);
	make_available(0);
	expect("readable after writable", 0, DONE | BROKEN);
	/* Heads. */
	begin();
	make_available(queue_size);
	expect("head = size", queue_size, BROKEN);
	begin();
	make_available(0xffff);
	expect("head = 0xffff", 0xffff, BROKEN);
	begin();
	block_header(0, 0);
	desc(0, arena->header, 16, 0, 0);
	make_available(0);
	make_available(0);
	expect("head twice", 0, DONE | BROKEN);
	/* The sum of lengths passes 4 GiB; the same page again and again. */
	begin();
	for (unsigned i = 0; i < queue_size; i++) {
		desc(i, (void *)0x100000, 0x4000000,
		     VIRTQ_F_WRITE | (i + 1 < queue_size ? VIRTQ_F_NEXT : 0), i + 1);
	}
	desc(0, (void *)0x100000, 0x4000000, VIRTQ_F_NEXT, 1);
	/* Not for entropy: it would fill the program, as asked. */
	if (v.id != VIRTIO_ID_RNG) {
		make_available(0);
		expect("4 GiB in a chain", 0, DONE | BROKEN);
	}
	ready = false;
	alive("chains");
}

static void abuse_indices(void)
{
	static const uint16_t jumps[] = { 0x7fff, 0x8000, 0xffff, 0xfffe };

	for (size_t i = 0; i < GUEST_ARRAY_SIZE(jumps) + 2; i++) {
		uint16_t jump = i < 4 ? jumps[i] : (uint16_t)(queue_size + (i == 5));

		ready = false;
		begin();
		block_header(0, 0);
		desc(0, arena->header, 16, 0, 0);
		arena->avail.index = jump;
		/* queue_size is in order, and gives the same head again and again. */
		expect("avail index", jump, jump == queue_size ? DONE | BROKEN : BROKEN);
	}
	begin();
	expect("kick without a new entry", 0, QUIET);
	/* A used ring that the driver writes over: the device has its own index. */
	begin();
	block_header(0, 0);
	desc(0, arena->header, 16, 0, 0);
	make_available(0);
	expect("before the used ring is overwritten", 0, DONE | BROKEN);
	if (ready) {
		memset((void *)&arena->used, 0xa5, sizeof(arena->used));
		make_available(0);
		expect("used ring overwritten", 0, DONE | BROKEN);
		guest_check(arena->used.index == 2);
		ready = false;
	}
	/* used_event anywhere. */
	for (unsigned i = 0; i < 4; i++) {
		static const uint16_t events[] = { 0, 0xffff, 0x8000, 1 };

		begin();
		desc(0, arena->header, 16, 0, 0);
		arena->avail.ring[queue_size] = events[i];
		make_available(0);
		expect("used_event", events[i], DONE | BROKEN);
		ready = false;
	}
	alive("indices");
}

static void indirect(const char *name, uint64_t address, uint32_t length, unsigned flags,
		     unsigned allowed)
{
	begin();
	block_header(0, 0);
	desc(1, arena->status, 1, VIRTQ_F_WRITE, 0);
	desc(0, (void *)address, length, flags, 1);
	make_available(0);
	expect(name, (uint64_t)length << 32 | flags, allowed);
}

static void abuse_indirect(void)
{
	static const uint32_t lengths[] = {
		0, 1, 15, 17, 24, 0xfffffff0, 0xffffffff, 0x80000000, 0x100000, 0x100010
	};
	uint64_t table = (uint64_t)arena->table;

	if (!(v.features & VIRTIO_F_INDIRECT)) {
		return;
	}
	for (unsigned i = 0; i < TABLE_ENTRIES; i++) {
		entry(i, arena->data, 16,
		      VIRTQ_F_WRITE | (i + 1 < TABLE_ENTRIES ? VIRTQ_F_NEXT : 0), i + 1);
	}
	for (size_t i = 0; i < GUEST_ARRAY_SIZE(lengths); i++) {
		indirect("indirect length", table, lengths[i], VIRTQ_F_INDIRECT, DONE | BROKEN);
	}
	indirect("indirect with next", table, 32, VIRTQ_F_INDIRECT | VIRTQ_F_NEXT, DONE | BROKEN);
	indirect("indirect outside RAM", PLATFORM_RAM_LOW_END, 32, VIRTQ_F_INDIRECT, BROKEN);
	indirect("indirect across the end of RAM", ram_end - 16, 32, VIRTQ_F_INDIRECT, BROKEN);
	indirect("indirect at the top", ~0ULL - 15, 32, VIRTQ_F_INDIRECT, BROKEN);
	entry(0, arena->table, 32, VIRTQ_F_INDIRECT, 0);
	indirect("nested", table, 32, VIRTQ_F_INDIRECT, BROKEN);
	entry(0, arena->data, 16, VIRTQ_F_NEXT, 0);
	indirect("indirect loop", table, 32, VIRTQ_F_INDIRECT, BROKEN);
	entry(0, arena->data, 16, VIRTQ_F_NEXT, 2);
	indirect("indirect next out of the table", table, 32, VIRTQ_F_INDIRECT, BROKEN);
	entry(0, arena->data, 16, VIRTQ_F_NEXT, 0xffff);
	indirect("indirect next 0xffff", table, 32, VIRTQ_F_INDIRECT, BROKEN);
	/* Longer than the queue: a device may refuse it or serve it. */
	for (unsigned i = 0; i < TABLE_ENTRIES; i++) {
		entry(i, arena->data, 16,
		      VIRTQ_F_WRITE | (i + 1 < TABLE_ENTRIES ? VIRTQ_F_NEXT : 0), i + 1);
	}
	indirect("indirect longer than the queue", table, TABLE_ENTRIES * 16, VIRTQ_F_INDIRECT,
		 DONE | BROKEN);
	/* An odd address is in order: the specification asks for no alignment of the table. */
	if (v.id == VIRTIO_ID_BLOCK) {
		block_header(0, 0);
		entry(0, arena->header, 16, VIRTQ_F_NEXT, 1);
		entry(1, arena->data, 512, VIRTQ_F_NEXT | VIRTQ_F_WRITE, 2);
		entry(2, arena->status, 1, VIRTQ_F_WRITE, 0);
		memcpy((void *)(arena->data + 0x10001), (void *)arena->table, 48);
		ready = false;
		indirect("indirect table at an odd address", (uint64_t)arena->data + 0x10001, 48,
			 VIRTQ_F_INDIRECT, DONE);
		guest_check(arena->status[0] == 0);
	}
	/* Not negotiated. */
	features &= ~VIRTIO_F_INDIRECT;
	ready = false;
	indirect("indirect not negotiated", table, 48, VIRTQ_F_INDIRECT, BROKEN);
	features |= VIRTIO_F_INDIRECT;
	alive("indirect descriptors");
}

/* Block requests in shapes that are odd but allowed, and in those that are not. */
static void abuse_block_framing(void)
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

		begin();
		block_header(0, 0);
		memset((void *)arena->data, 0xee, 8192);
		for (unsigned i = 0; i < 4 && shapes[s].out[i]; i++, count++) {
			desc(count, arena->header + out, shapes[s].out[i], VIRTQ_F_NEXT, count + 1);
			out += shapes[s].out[i];
		}
		for (unsigned i = 0; i < 4 && shapes[s].in[i]; i++, count++) {
			desc(count, arena->data + in, shapes[s].in[i], VIRTQ_F_NEXT | VIRTQ_F_WRITE,
			     count + 1);
			in += shapes[s].in[i];
		}
		arena->desc[count - 1].flags &= (uint16_t)~VIRTQ_F_NEXT;
		make_available(0);
		outcome = expect(shapes[s].name, s, shapes[s].good ? DONE : DONE | BROKEN);
		if (shapes[s].good && outcome == DONE) {
			if (arena->data[512] != 0) {
				guest_printf("%s: status %x\n", shapes[s].name, arena->data[512]);
			}
			guest_check(arena->data[512] == 0);
			guest_check(arena->used.ring[(arena->used.index - 1) % queue_size].length ==
				    513);
		} else if (outcome == DONE && in) {
			guest_check(arena->used.ring[(arena->used.index - 1) % queue_size].length <=
				    in);
		}
	}
	alive("block framing");
}

static void status(uint32_t value)
{
	virtio_write(&v, VIRTIO_STATUS, value);
}

static void abuse_states(void)
{
	uint64_t offered = virtio_offered(&v);

	/* A kick before DRIVER_OK must not start anything. */
	virtio_negotiate(&v, features);
	clear_rings();
	place(queue, queue_size, (uint64_t)arena->desc, (uint64_t)&arena->avail,
	      (uint64_t)&arena->used);
	desc(0, arena->header, 16, 0, 0);
	make_available(0);
	expect("kick before DRIVER_OK", 0, QUIET);
	guest_check(arena->used.index == 0);
	alive("kick before DRIVER_OK");
	/* After FAILED. */
	set_up();
	status(virtio_read(&v, VIRTIO_STATUS) | VIRTIO_S_FAILED);
	make_available(0);
	expect("kick after FAILED", 0, QUIET | DONE | BROKEN);
	alive("FAILED");
	/* After a reset the old ring is nobody's. */
	set_up();
	virtio_reset(&v);
	desc(0, arena->header, 16, 0, 0);
	make_available(0);
	expect("kick after reset", 0, QUIET);
	guest_check(arena->used.index == 0);
	guest_check(virtio_read(&v, VIRTIO_STATUS) == 0);
	/* Bits are never cleared one by one, and DRIVER_OK twice is once. */
	set_up();
	status(15);
	status(15);
	status(3);
	status(1);
	status(11);
	alive("clearing status bits");
	/* Steps left out. */
	virtio_reset(&v);
	status(VIRTIO_S_DRIVER_OK);
	kick();
	status(15);
	kick();
	virtio_reset(&v);
	status(VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER | VIRTIO_S_DRIVER_OK);
	kick();
	alive("DRIVER_OK without features");
	for (unsigned value = 1; value < 256; value++) {
		status(value);
	}
	alive("every status value");
	/* Features: none (so no VERSION_1), what was not offered, all. */
	virtio_reset(&v);
	status(3);
	status(11);
	guest_check(!(virtio_read(&v, VIRTIO_STATUS) & VIRTIO_S_FEATURES_OK));
	for (unsigned bit = 0; bit < 64; bit++) {
		if (offered >> bit & 1) {
			continue;
		}
		virtio_reset(&v);
		status(3);
		virtio_write(&v, VIRTIO_DRIVER_FEATURES_SEL, 0);
		virtio_write(&v, VIRTIO_DRIVER_FEATURES, bit < 32 ? 1U << bit : 0);
		virtio_write(&v, VIRTIO_DRIVER_FEATURES_SEL, 1);
		virtio_write(&v, VIRTIO_DRIVER_FEATURES, 1 | (bit < 32 ? 0 : 1U << (bit - 32)));
		status(11);
		if (virtio_read(&v, VIRTIO_STATUS) & VIRTIO_S_FEATURES_OK) {
			guest_printf("%s: took feature %u, which it did not offer\n", device, bit);
			guest_check(!"FEATURES_OK refused");
		}
	}
	/* Beyond the second word there is nothing. */
	virtio_write(&v, VIRTIO_DEVICE_FEATURES_SEL, 2);
	guest_check(virtio_read(&v, VIRTIO_DEVICE_FEATURES) == 0);
	virtio_write(&v, VIRTIO_DEVICE_FEATURES_SEL, 0xffffffff);
	guest_check(virtio_read(&v, VIRTIO_DEVICE_FEATURES) == 0);
	virtio_write(&v, VIRTIO_DRIVER_FEATURES_SEL, 0xffffffff);
	virtio_write(&v, VIRTIO_DRIVER_FEATURES, 0xffffffff);
	alive("features");
	/* Features after FEATURES_OK do not count. */
	set_up();
	virtio_write(&v, VIRTIO_DRIVER_FEATURES_SEL, 0);
	virtio_write(&v, VIRTIO_DRIVER_FEATURES, 0xffffffff);
	alive("late features");
	for (unsigned i = 0; i < 500; i++) {
		status(0);
		status(15);
	}
	alive("500 resets");
}

static void abuse_placement(void)
{
	static const uint32_t sizes[] = { 0, 3, 0x8000, 0xffff, 0x10000, 0xffffffff, 513, 1 };
	const uint64_t bad[] = {
		ram_end - 16,
		ram_end,
		PLATFORM_RAM_LOW_END - 16,
		PLATFORM_RAM_LOW_END,
		v.base,
		PLATFORM_LAPIC,
		~0ULL - 15,
		1ULL << 63,
		PLATFORM_RAM_HIGH_START - 16,
		1,
		0x1001,
	};
	uint64_t d = (uint64_t)arena->desc, a = (uint64_t)&arena->avail, u = (uint64_t)&arena->used;

	for (size_t i = 0; i < GUEST_ARRAY_SIZE(sizes) + GUEST_ARRAY_SIZE(bad) * 3; i++) {
		virtio_negotiate(&v, features);
		clear_rings();
		if (i < GUEST_ARRAY_SIZE(sizes)) {
			place(queue, sizes[i], d, a, u);
		} else {
			size_t which = i - GUEST_ARRAY_SIZE(sizes);
			uint64_t address = bad[which / 3];

			place(queue, queue_size, which % 3 == 0 ? address : d,
			      which % 3 == 1 ? address : a, which % 3 == 2 ? address : u);
		}
		status(15);
		desc(0, arena->header, 16, 0, 0);
		make_available(0);
		ready = true;
		expect("ring placement", i, DONE | BROKEN | QUIET);
	}
	/* All parts in one place; both queues on one ring. */
	virtio_negotiate(&v, features);
	place(queue, queue_size, d, d, d);
	status(15);
	expect("one place for all parts", 0, DONE | BROKEN | QUIET);
	virtio_negotiate(&v, features);
	clear_rings();
	place(0, queue_size, d, a, u);
	place(1, queue_size, d, a, u);
	status(15);
	desc(0, arena->header, 16, 0, 0);
	make_available(0);
	expect("two queues on one ring", 0, DONE | BROKEN | QUIET);
	/* READY with other values, unready again, a selector out of range. */
	virtio_negotiate(&v, features);
	virtio_write(&v, VIRTIO_QUEUE_SEL, queue);
	virtio_write(&v, VIRTIO_QUEUE_READY, 2);
	virtio_write(&v, VIRTIO_QUEUE_READY, 0xffffffff);
	virtio_write(&v, VIRTIO_QUEUE_READY, 0);
	for (uint32_t sel = 4; sel; sel <<= 1) {
		virtio_write(&v, VIRTIO_QUEUE_SEL, sel | 0xffff);
		guest_check(virtio_read(&v, VIRTIO_QUEUE_NUM_MAX) == 0);
		guest_check(virtio_read(&v, VIRTIO_QUEUE_READY) == 0);
		place(sel | 0xffff, 8, d, a, u);
		guest_check(virtio_read(&v, VIRTIO_QUEUE_READY) == 0);
	}
	alive("ring placement");
	/* Frozen once the driver is ready. */
	set_up();
	place(queue, 8, d + 64, a + 64, u + 64);
	virtio_write(&v, VIRTIO_QUEUE_NUM, 3);
	virtio_write(&v, VIRTIO_QUEUE_DESC + 4, 0xffffffff);
	kick();
	block_header(0, 0);
	desc(0, arena->header, 16, VIRTQ_F_NEXT | (v.id == VIRTIO_ID_RNG ? VIRTQ_F_WRITE : 0), 1);
	desc(1, arena->data, 512,
	     v.id == VIRTIO_ID_BLOCK || v.id == VIRTIO_ID_RNG ? VIRTQ_F_WRITE : 0, 2);
	make_available(0);
	expect("registers of a running queue", 0,
	       queue == busy_queue() ? DONE | BROKEN : DONE | BROKEN | QUIET);
	alive("registers of a running queue");
}

static void abuse_registers(void)
{
	static const uint32_t values[] = { 0, 1, 0xffffffff, 0x80000000, 0x5a5a5a5a };

	for (unsigned state = 0; state < 2; state++) {
		if (state) {
			set_up();
		} else {
			virtio_reset(&v);
		}
		for (unsigned at = 0; at < 0x200; at++) {
			guest_read8(v.base + at);
			guest_read16(v.base + at);
			guest_read32(v.base + at);
			guest_read64(v.base + at);
			for (size_t i = 0; i < GUEST_ARRAY_SIZE(values); i++) {
				guest_write8(v.base + at, (uint8_t)values[i]);
				guest_write16(v.base + at, (uint16_t)values[i]);
				guest_write64(v.base + at, values[i] * 0x100000001ULL);
				guest_write32(v.base + at, values[i]);
			}
		}
		/* The end of the window and the seam to the next. */
		for (unsigned at = 0xff0; at < 0x1000; at++) {
			guest_read8(v.base + at);
			guest_read16(v.base + at);
			guest_read32(v.base + at);
			guest_read64(v.base + at);
			guest_write64(v.base + at, ~0ULL);
		}
		alive("registers");
	}
	/* Not a 32-bit access to a register: nothing to be had. */
	guest_check(virtio_read(&v, VIRTIO_MAGIC) == 0x74726976);
	/* Every shape of queue number. */
	set_up();
	for (unsigned bit = 0; bit < 32; bit++) {
		virtio_write(&v, VIRTIO_QUEUE_NOTIFY, 1U << bit);
		virtio_write(&v, VIRTIO_QUEUE_NOTIFY, ~(1U << bit));
		guest_write8(v.base + VIRTIO_QUEUE_NOTIFY, (uint8_t)bit);
		guest_write16(v.base + VIRTIO_QUEUE_NOTIFY, (uint16_t)(0xffff - bit));
	}
	alive("notifications");
}

/* Another CPU writes over the rings while this one kicks. */
static volatile bool mutate_stop;

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void mutate(unsigned cpu)
{
	uint64_t random = 88172645463325252ULL + cpu;
	const uint64_t addresses[] = {
		(uint64_t)arena->data,
		(uint64_t)arena->header,
		(uint64_t)arena->status,
		(uint64_t)arena->table,
		ram_end - 1,
		PLATFORM_RAM_LOW_END,
		v.base,
		~0ULL,
		(uint64_t)&arena->used,
		(uint64_t)arena->desc,
	};
	static const uint32_t lengths[] = { 0, 1, 12, 16, 48, 512, 4096, 0xffffffff };

	while (!mutate_stop) {
		uint64_t r = next_random(&random);
		volatile struct virtq_desc *d =
			r & 1 ? &arena->desc[r >> 8 & 7] : &arena->table[r >> 8 & 7];

		switch (r >> 1 & 7) {
		case 0:
			d->address = addresses[(r >> 20) % GUEST_ARRAY_SIZE(addresses)];
			break;
		case 1:
			d->length = lengths[r >> 20 & 7];
			break;
		case 2:
			d->flags = (uint16_t)(r >> 20 & 7);
			break;
		case 3:
			d->next = (uint16_t)(r >> 20 & 7);
			break;
		case 4:
			arena->avail.ring[r >> 20 & 255] = (uint16_t)(r >> 30 & 7);
			break;
		case 5:
			arena->avail.index++;
			break;
		case 6:
			/* Type and sector of a block request: reads, writes, and what there is not.
			 */
			arena->header[0] = (uint8_t)(r >> 20 & 15);
			arena->header[8] = (uint8_t)(r >> 30);
			break;
		default:
			arena->used.index = (uint16_t)(r >> 20);
		}
	}
}

static void abuse_concurrently(unsigned rounds)
{
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t start = guest_tsc();

		set_up();
		while (guest_tsc() - start < 10000000) {
			kick();
		}
		virtio_write(&v, VIRTIO_INTERRUPT_ACK, 3);
	}
	virtio_reset(&v);
	/* After the reset no byte of the rings may change by the device's hand: seen by alive() as
	 * well. */
}

static void abuse_device(void)
{
	static const char *const names[] = { "?", "net", "block", "console", "rng" };
	uint64_t offered;

	device = v.id < GUEST_ARRAY_SIZE(names) ? names[v.id] : names[0];
	offered = virtio_offered(&v);
	guest_printf("%s at slot %u, offers %lx\n", device, v.slot, offered);
	features = VIRTIO_F_INDIRECT | VIRTIO_F_EVENT_IDX;
	queue = (unsigned)guest_option_number("queue", busy_queue());
	cases = 0;
	answers = 0;
	ready = false;
	alive("start");
	abuse_descriptors();
	abuse_flags();
	abuse_chains();
	abuse_indices();
	abuse_indirect();
	if (v.id == VIRTIO_ID_BLOCK) {
		abuse_block_framing();
	}
	abuse_states();
	abuse_placement();
	abuse_registers();
	/* Once more without the event index: the flags of the rings count then. */
	features = VIRTIO_F_INDIRECT;
	ready = false;
	abuse_flags();
	abuse_chains();
	abuse_indices();
	guest_printf("%s: %u abuses, %u answered\n", device, cases, answers);
	/* Silence alone would prove nothing. */
	guest_check(answers > cases / 20);
}

/*
 * id=N the devices with this virtio id (default: all); queue=N the queue that is abused (default:
 * the one that the device serves without waiting for data from outside); rounds=N of writing from
 * another CPU, 0 for none.
 */
int test_hostile(void)
{
	struct guest_memory map[32];
	unsigned count = guest_memory_map(map, GUEST_ARRAY_SIZE(map)),
		 rounds = (unsigned)guest_option_number("rounds", 20);
	unsigned only = (unsigned)guest_option_number("id", 0);

	for (unsigned i = 0; i < count; i++) {
		if (map[i].type == GUEST_RAM &&
		    map[i].start + map[i].size <= PLATFORM_RAM_LOW_END) {
			ram_end = map[i].start + map[i].size;
		}
	}
	/* A buffer of 2 GiB - 1 from the arena must not be honest. */
	guest_require(ram_end && ram_end <= 512UL << 20);
	arena = guest_alloc(ARENA_SIZE, 0x1000);
	guest_require(sizeof(*arena) <= ARENA_SIZE);
	for (unsigned n = 0; virtio_find(&v, only, n); n++) {
		abuse_device();
	}
	for (unsigned n = 0; rounds && virtio_find(&v, only, n); n++) {
		queue = (unsigned)guest_option_number("queue", busy_queue());
		alive("all of it");
		set_up();
		mutate_stop = false;
		if (!guest_smp_run(mutate)) {
			guest_puts("one CPU: nobody to write from\n");
			break;
		}
		abuse_concurrently(rounds);
		mutate_stop = true;
		guest_require(guest_wait(guest_smp_finished() > 0));
		alive("writing by another CPU");
		guest_printf("slot %u stood %u rounds\n", v.slot, rounds);
	}
	return 0;
}
