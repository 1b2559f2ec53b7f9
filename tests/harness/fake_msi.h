/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An MSI controller that keeps what is sent: each line has a message that is routed, one that is
 * committed, and a count of how often it was triggered. A trigger notes the message that was
 * committed then. Doorbells are kept as a list. Everything may be called from any thread, as the
 * contract has it.
 */
#ifndef TESTS_FAKE_MSI_H
#define TESTS_FAKE_MSI_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cleanup.h"
#include "vmm/irq.h"

#define FAKE_MSI_LINES 128
#define FAKE_DOORBELLS 64

struct fake_msi_line {
	bool used, changed;
	struct msi_message routed, committed;
	_Atomic uint32_t sent;
	_Atomic uint64_t last; /* data of the last message, and its address */
};

struct fake_msi {
	struct msi_controller controller;
	struct doorbells doorbells;
	pthread_mutex_t lock;
	struct fake_msi_line lines[FAKE_MSI_LINES]; /* by gsi - 24 */
	uint32_t commits;			    /* that changed something */
	struct {
		gpa_t address;
		int fd;
	} bells[FAKE_DOORBELLS]; /* fd -1: free */
	uint32_t bells_added, bells_refused;
	bool refuse;					   /* no more lines */
	void (*sent)(struct fake_msi *msi, uint32_t line); /* NULL: nobody wants to know */
};

static inline struct fake_msi *fake_msi_of_(struct msi_controller *controller)
{
	return container_of(controller, struct fake_msi, controller);
}

static inline void fake_msi_trigger_(struct irq_line *line)
{
	struct fake_msi *msi = (struct fake_msi *)line->owner;
	struct fake_msi_line *mine = &msi->lines[line->gsi - 24];

	SCOPED_LOCK(&msi->lock);
	atomic_store(&mine->last, mine->committed.address << 32 | mine->committed.data);
	atomic_fetch_add(&mine->sent, 1);
	if (msi->sent != NULL) {
		msi->sent(msi, line->gsi - 24);
	}
}

static inline int fake_msi_open_(struct msi_controller *controller, uint32_t count,
				 struct irq_line **lines, struct error *e)
{
	static const struct irq_ops ops = { .trigger = fake_msi_trigger_ };
	struct fake_msi *msi = fake_msi_of_(controller);
	uint32_t given = 0;

	if (msi->refuse) {
		return error_set(e, ERROR_KVM, 28 /* ENOSPC */, "no more interrupts");
	}
	*lines = (struct irq_line *)calloc(count, sizeof(**lines));
	for (uint32_t i = 0; i < FAKE_MSI_LINES && given < count; i++) {
		if (!msi->lines[i].used) {
			memset(&msi->lines[i], 0, sizeof(msi->lines[i]));
			msi->lines[i].used = true;
			(*lines)[given++] = (struct irq_line){
				.ops = &ops, .gsi = 24 + i, .fd = -1, .owner = msi
			};
		}
	}
	VMM_BUG_ON(given < count);
	return 0;
}

static inline void fake_msi_close_(struct msi_controller *controller, struct irq_line *lines,
				   uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		fake_msi_of_(controller)->lines[lines[i].gsi - 24].used = false;
	}
	free(lines);
}

static inline void fake_msi_route_(struct msi_controller *controller, struct irq_line *line,
				   const struct msi_message *message)
{
	struct fake_msi *msi = fake_msi_of_(controller);
	struct fake_msi_line *mine = &msi->lines[line->gsi - 24];

	SCOPED_LOCK(&msi->lock);
	mine->changed |=
		mine->routed.address != message->address || mine->routed.data != message->data;
	mine->routed = *message;
}

static inline void fake_msi_commit_(struct msi_controller *controller)
{
	struct fake_msi *msi = fake_msi_of_(controller);
	bool changed = false;

	SCOPED_LOCK(&msi->lock);
	for (uint32_t i = 0; i < FAKE_MSI_LINES; i++) {
		changed |= msi->lines[i].changed;
		msi->lines[i].changed = false;
		msi->lines[i].committed = msi->lines[i].routed;
	}
	msi->commits += changed;
}

static inline void fake_bell_add_(struct doorbells *doorbells, gpa_t address, int fd)
{
	struct fake_msi *msi = container_of(doorbells, struct fake_msi, doorbells);

	SCOPED_LOCK(&msi->lock);
	for (uint32_t i = 0; i < FAKE_DOORBELLS; i++) {
		/* KVM says EEXIST. */
		msi->bells_refused += msi->bells[i].fd >= 0 && msi->bells[i].address == address;
	}
	for (uint32_t i = 0; i < FAKE_DOORBELLS; i++) {
		if (msi->bells[i].fd < 0) {
			msi->bells[i].address = address;
			msi->bells[i].fd = fd;
			msi->bells_added++;
			return;
		}
	}
	VMM_BUG_ON(true);
}

static inline void fake_bell_remove_(struct doorbells *doorbells, gpa_t address, int fd)
{
	struct fake_msi *msi = container_of(doorbells, struct fake_msi, doorbells);

	SCOPED_LOCK(&msi->lock);
	for (uint32_t i = 0; i < FAKE_DOORBELLS; i++) {
		if (msi->bells[i].fd == fd && msi->bells[i].address == address) {
			msi->bells[i].fd = -1;
			return;
		}
	}
	msi->bells_refused++;
}

static inline void fake_msi_init(struct fake_msi *msi)
{
	static const struct msi_ops ops = { .open = fake_msi_open_,
					    .close = fake_msi_close_,
					    .route = fake_msi_route_,
					    .commit = fake_msi_commit_ };
	static const struct doorbell_ops doorbell_ops = { .add = fake_bell_add_,
							  .remove = fake_bell_remove_ };

	memset(msi, 0, sizeof(*msi));
	msi->controller.ops = &ops;
	msi->doorbells.ops = &doorbell_ops;
	(void)pthread_mutex_init(&msi->lock, NULL);
	for (uint32_t i = 0; i < FAKE_DOORBELLS; i++) {
		msi->bells[i].fd = -1;
	}
}

/* Of a function whose lines were the first, or the next, to be opened: by gsi - 24. */
static inline uint32_t fake_msi_sent(struct fake_msi *msi, uint32_t line)
{
	return atomic_load(&msi->lines[line].sent);
}

static inline uint32_t fake_msi_bells(struct fake_msi *msi)
{
	uint32_t count = 0;

	SCOPED_LOCK(&msi->lock);
	for (uint32_t i = 0; i < FAKE_DOORBELLS; i++) {
		count += msi->bells[i].fd >= 0;
	}
	return count;
}

/* What a write of the guest at `address` does before anybody sees it: false if there is no doorbell. */
static inline bool fake_msi_ring(struct fake_msi *msi, gpa_t address)
{
	const uint64_t one = 1;

	SCOPED_LOCK(&msi->lock);
	for (uint32_t i = 0; i < FAKE_DOORBELLS; i++) {
		if (msi->bells[i].fd >= 0 && msi->bells[i].address == address) {
			return write(msi->bells[i].fd, &one, sizeof(one)) == sizeof(one);
		}
	}
	return false;
}

#endif
