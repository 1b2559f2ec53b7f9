/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MSI-X table and pending bits of a PCI function (PCI Local Bus 3.0 §6.8.2, §6.8.3). The table
 * has 16 bytes a vector: address, data, vector control with the mask bit; the pending bit array one
 * bit a vector. Aligned accesses of 4 and 8 bytes; others read as all ones and write nothing.
 *
 * An event of a vector that is masked, or whose function is, sets its pending bit; unmasking sends
 * the message and clears it. While MSI-X is off nothing is sent and nothing remembered. Without bus
 * mastering a function cannot write messages: that counts as masked.
 *
 * Threads: msix_trigger() any thread, no lock, never waits. The rest vCPU threads, and main while
 * vCPUs are parked, under `lock`, which is the innermost one. That no event is lost and none is sent
 * under a mask is argued in msix.c.
 */
#ifndef VMM_MSIX_H
#define VMM_MSIX_H

#include <pthread.h>
#include <stdatomic.h>

#include "vmm/error.h"
#include "vmm/irq.h"
#include "vmm/state.h"
#include "vmm/types.h"

#define MSIX_VECTORS_MAX 64 /* one word of pending bits */
#define MSIX_ENTRY_SIZE	 16

struct msix_entry {
	uint64_t address;
	uint32_t data;
	_Atomic bool masked;
};

/* What is saved. */
struct msix_registers {
	uint32_t count; /* as many as the function has */
	struct msix_entry entries[MSIX_VECTORS_MAX];
	_Atomic uint64_t pending;
};

enum msix_mode {
	MSIX_OFF,
	MSIX_MASKED, /* all vectors */
	MSIX_ON
};

struct msix {
	struct msix_registers registers;
	uint32_t vectors;
	_Atomic uint32_t mode; /* enum msix_mode, from configuration space */
	pthread_mutex_t lock;
	struct msi_controller *controller; /* borrowed */
	struct irq_line *lines;
	_Atomic uint32_t sending[MSIX_VECTORS_MAX];
};

extern const struct state_desc msix_state; /* of struct msix */

int msix_init(struct msix *msix, struct msi_controller *controller, uint32_t vectors,
	      struct error *e);
/* Nobody triggers any more. Accepts a zeroed one. */
void msix_finish(struct msix *msix);
/* Power-on: off, every vector masked, nothing pending. */
void msix_reset(struct msix *msix);

/* Configuration space says so now. When it returns, what the new mode forbids is not sent. */
void msix_set_mode(struct msix *msix, enum msix_mode mode);
/* Events so far have been dealt with: a reset of the device behind the function. */
void msix_forget_pending(struct msix *msix);

/* Offsets into the table and into the pending bits, any width. */
uint64_t msix_table_read(struct msix *msix, uint64_t offset, unsigned int size);
void msix_table_write(struct msix *msix, uint64_t offset, unsigned int size, uint64_t value);
uint64_t msix_pending_read(struct msix *msix, uint64_t offset, unsigned int size);

/* An event. A vector that is not there: nothing. */
void msix_trigger(struct msix *msix, uint32_t vector);

#endif
