/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that works for ever, and notices what is lost or changed behind its back: for tests that save and load
 * it. The boot CPU has writes and reads on its disk in flight, each block with what only this guest can
 * know (a nonce that it drew when it started), waits for its timer in each round, and looks at pages all
 * over RAM; the other CPUs count. It says "work NONCE" once, "round N NONCE" every so often, and what it
 * finds wrong ends it.
 *
 *	every=N		a line each N rounds (default 1)
 *	pages=N		pages of RAM that it keeps a mark in (default 256)
 *	rounds=N	ends well after so many; 0: never
 */
#include "virtio.h"

#define DEPTH	     8
#define BLOCK	     4096
#define SECTOR	     512
#define TIMER_COUNTS 200000 /* of a bus clock of 1 GHz: 0.2 ms */

enum { BLK_IN = 0, BLK_OUT = 1 };

struct job {
	struct {
		uint32_t type, reserved;
		uint64_t sector;
	} header;
	volatile uint8_t status;
	uint64_t sequence;
	uint64_t *data;
};

struct page {
	volatile uint64_t mark;
	uint64_t unused[511];
};

static struct virtio disk;
static struct job jobs[DEPTH];
static struct page *pages;
static unsigned page_count;
static volatile uint64_t counts[GUEST_CPUS_MAX], stamps[GUEST_CPUS_MAX];
static uint64_t nonce;

static uint64_t word_of(const struct job *job, unsigned i)
{
	return nonce ^ job->sequence << 16 ^ (uint64_t)(job - jobs) << 8 ^ i;
}

static void send(struct job *job, uint32_t type)
{
	const struct virtio_buffer buffers[] = {
		{ &job->header, sizeof(job->header), false },
		{ job->data, BLOCK, type == BLK_IN },
		{ (void *)&job->status, 1, true },
	};

	job->header.type = type;
	job->header.sector = (uint64_t)(job - jobs) * (BLOCK / SECTOR);
	job->status = 0xff;
	for (unsigned i = 0; i < BLOCK / sizeof(job->data[0]); i++) {
		job->data[i] = type == BLK_OUT ? word_of(job, i) : 0;
	}
	guest_require(virtio_add(&disk, 0, buffers, GUEST_ARRAY_SIZE(buffers), job));
}

/* What was written is read, what was read compared. */
static void take(struct job *job)
{
	guest_require(job->status == 0);
	if (job->header.type == BLK_OUT) {
		send(job, BLK_IN);
		return;
	}
	for (unsigned i = 0; i < BLOCK / sizeof(job->data[0]); i++) {
		guest_require(job->data[i] == word_of(job, i));
	}
	job->sequence++;
	send(job, BLK_OUT);
}

static void work_on_disk(void)
{
	struct job *job = virtio_take_wait(&disk, 0, NULL);

	for (unsigned taken = 0; job && taken < DEPTH; taken++) {
		take(job);
		job = virtio_take(&disk, 0, NULL);
	}
	if (job) {
		take(job);
	}
	virtio_kick(&disk, 0);
}

static void wait_for_timer(void)
{
	uint32_t before = guest_irq_count[GUEST_VECTOR_TIMER];

	guest_lapic_write(GUEST_LAPIC_TIMER_INITIAL, TIMER_COUNTS);
	guest_require(guest_wait(guest_irq_count[GUEST_VECTOR_TIMER] != before));
}

static void look_at_pages(uint64_t round)
{
	for (unsigned i = 0; i < page_count; i++) {
		guest_require(pages[i].mark == nonce + (round - 1) * page_count + i);
		pages[i].mark = nonce + round * page_count + i;
	}
}

static void stamp(unsigned cpu)
{
	uint64_t now = guest_tsc();

	guest_require(now >= stamps[cpu]);
	stamps[cpu] = now;
}

static void count(unsigned cpu)
{
	while (true) {
		stamp(cpu);
		counts[cpu]++;
		guest_pause();
	}
}

static void wait_for_others(unsigned others)
{
	for (unsigned cpu = 1; cpu <= others; cpu++) {
		uint64_t before = counts[cpu];

		guest_require(guest_wait(counts[cpu] != before));
	}
}

static void open_disk(void)
{
	guest_require(virtio_find(&disk, VIRTIO_ID_BLOCK, 0));
	virtio_negotiate(&disk, VIRTIO_F_INDIRECT | VIRTIO_F_EVENT_IDX);
	virtio_queue(&disk, 0, 0);
	virtio_ready(&disk);
	virtio_interrupts(&disk);
	for (unsigned i = 0; i < DEPTH; i++) {
		jobs[i].data = guest_alloc(BLOCK, BLOCK);
		send(&jobs[i], BLK_OUT);
	}
	virtio_kick(&disk, 0);
}

int test_work(void)
{
	uint64_t every = guest_option_number("every", 1), rounds = guest_option_number("rounds", 0);
	unsigned others;

	nonce = guest_tsc() * 0x9e3779b97f4a7c15ULL;
	page_count = (unsigned)guest_option_number("pages", 256);
	pages = guest_alloc(page_count * sizeof(*pages), 4096);
	for (unsigned i = 0; i < page_count; i++) {
		pages[i].mark = nonce + i;
	}
	guest_lapic_enable();
	guest_irq_enable();
	guest_lapic_write(GUEST_LAPIC_TIMER_DIVIDE, 0xb);
	guest_lapic_write(GUEST_LAPIC_TIMER, GUEST_VECTOR_TIMER);
	others = guest_smp_run(count);
	open_disk();
	guest_printf("work %lx\n", nonce);
	for (uint64_t round = 1; rounds == 0 || round <= rounds; round++) {
		work_on_disk();
		wait_for_timer();
		look_at_pages(round);
		wait_for_others(others);
		stamp(0);
		if (round % every == 0) {
			guest_printf("round %lu %lx\n", round, nonce);
		}
	}
	return 0;
}
