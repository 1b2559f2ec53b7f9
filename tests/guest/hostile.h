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
#ifndef GUEST_HOSTILE_H
#define GUEST_HOSTILE_H

#include "virtio.h"

#define TABLE_ENTRIES 512
#define DATA_SIZE     0x40000

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

struct hostile {
	volatile struct arena *arena;
	struct virtio v;
	unsigned queue, queue_size; /* which one is abused */
	unsigned cases, answers;
	uint64_t features, ram_end;
	const char *device;
	bool ready; /* set up, and nothing has gone wrong yet */
};

/* The queue that the device serves without waiting for data from outside. */
unsigned hostile_busy_queue(struct hostile *h);
void hostile_place(struct hostile *h, unsigned index, unsigned size, uint64_t desc, uint64_t avail,
		   uint64_t used);
void hostile_clear_rings(struct hostile *h);
void hostile_set_up(struct hostile *h);
void hostile_desc(struct hostile *h, unsigned i, const volatile void *address, uint32_t length,
		  unsigned flags, unsigned next);
void hostile_entry(struct hostile *h, unsigned i, const volatile void *address, uint32_t length,
		   unsigned flags, unsigned next);
void hostile_block_header(struct hostile *h, uint32_t type, uint64_t sector);
void hostile_make_available(struct hostile *h, unsigned head);
void hostile_kick(struct hostile *h);
/* Kick, and see that the device does one of what is allowed. */
unsigned hostile_expect(struct hostile *h, const char *name, uint64_t parameter, unsigned allowed);
/* Set up, unless all is well. */
void hostile_begin(struct hostile *h);
/* After a reset, an honest request passes; if not, the test ends. */
void hostile_alive(struct hostile *h, const char *after);
void hostile_abuse_descriptors(struct hostile *h);
void hostile_abuse_flags(struct hostile *h);
void hostile_abuse_chains(struct hostile *h);
void hostile_abuse_indices(struct hostile *h);
void hostile_abuse_indirect(struct hostile *h);
void hostile_abuse_block_framing(struct hostile *h);
void hostile_abuse_states(struct hostile *h);
void hostile_abuse_features(struct hostile *h);
void hostile_abuse_placement(struct hostile *h);
void hostile_abuse_queue_registers(struct hostile *h);
void hostile_abuse_mmio_registers(struct hostile *h);
/* hostile_pci.c */
void hostile_abuse_pci_registers(struct hostile *h);
void hostile_abuse_config_space(struct hostile *h);
void hostile_abuse_vectors(struct hostile *h);
/* BARs that move, an MSI-X table that changes, while a queue runs. Returns how many requests were
 * answered meanwhile; 0 with one CPU. */
unsigned hostile_move_concurrently(struct hostile *h, unsigned rounds);
/* Returns how often the device had to be set up; 0 with one CPU. */
unsigned hostile_abuse_concurrently(struct hostile *h, unsigned rounds);

#endif
