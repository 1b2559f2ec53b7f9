/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MSI-X table and pending bits; vmm/msix.h says what they do.
 *
 * Workers trigger vectors while vCPUs write the table, and a worker never waits for a vCPU. So a
 * trigger takes no lock: it looks whether the vector is open (the mode is MSIX_ON, the vector not
 * masked) and writes to the line, or sets the pending bit. Why that is right, with every step atomic
 * and in one order that all threads agree on:
 *
 * No event is lost. A trigger that finds the vector closed sets the pending bit, then looks again.
 * Who opens a vector opens it first, then takes the bit. If the trigger's second look comes before
 * the opening, so does the bit it has set, and the opener finds it; if not, the trigger finds the
 * vector open and tries to take the bit itself. Taking is one exchange: the message is sent once.
 *
 * Nothing is sent under a mask. A trigger counts itself in `sending` before it looks, and out after
 * it has sent. Who closes a vector closes it first, then waits until nobody is counted: whoever came
 * before is through, whoever comes later finds it closed. The counted part is one write to an
 * eventfd, which does not block; vCPUs may wait for workers.
 *
 * Nothing is sent to an old address. The table's address and data are read under the lock only. They
 * become the line's message before the vector opens. Drivers write them under a mask; a write to an
 * open vector, whose effect §6.8.2 leaves undefined, changes the line's message at once.
 *
 * Routing is one call to the host for all of a function's vectors: at a write that unmasks a vector
 * whose message has changed, or that opens the function. Linux writes addresses of masked vectors,
 * so that a vector costs one call when its interrupt is set up, and one when it moves to another
 * processor.
 *
 * The guest controls offset, width, value and order. Saved: the table and the pending bits.
 */
#include "vmm/msix.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "vmm/bus.h"
#include "vmm/cleanup.h"

#define ENTRY_MASK    1U
#define ADDRESS_FIXED 3U /* these bits are 0 */

static const struct state_field entry_fields[] = {
	STATE_FIELD(1, struct msix_entry, address, 1),
	STATE_FIELD(2, struct msix_entry, data, 1),
	STATE_FIELD(3, struct msix_entry, masked, 1),
};

static const struct state_desc entry_state =
	STATE_DESC("msix-entry", 1, struct msix_entry, entry_fields);

static const struct state_field msix_fields[] = {
	STATE_STRUCTS_USED(1, struct msix_registers, entries, count, &entry_state, 1),
	STATE_FIELD(2, struct msix_registers, pending, 1),
};

static uint64_t bits_below(uint32_t count)
{
	return count >= 64 ? UINT64_MAX : (UINT64_C(1) << count) - 1;
}

static int msix_validate(const void *object, const void *owner, struct error *e)
{
	const struct msix_registers *registers = object;
	const struct msix *msix = owner;
	uint64_t pending = atomic_load(&registers->pending);

	if (registers->count != msix->vectors) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "MSI-X table: %u entries, the function has %u", registers->count,
				 msix->vectors);
	}
	for (uint32_t i = 0; i < registers->count; i++) {
		if ((registers->entries[i].address & ADDRESS_FIXED) != 0) {
			return error_set(e, ERROR_STATE, EINVAL,
					 "MSI-X table: impossible address 0x%llx of vector %u",
					 (unsigned long long)registers->entries[i].address, i);
		}
	}
	if ((pending & ~bits_below(msix->vectors)) != 0) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "MSI-X table: pending bits 0x%llx, the function has %u vectors",
				 (unsigned long long)pending, msix->vectors);
	}
	return 0;
}

const struct state_desc msix_state =
	STATE_DESC_IN(struct msix, registers, "msix", 1, msix_fields, .validate = msix_validate);

int msix_init(struct msix *msix, struct msi_controller *controller, uint32_t vectors,
	      struct error *e)
{
	int r;

	VMM_BUG_ON(vectors == 0 || vectors > MSIX_VECTORS_MAX);
	memset(msix, 0, sizeof(*msix));
	r = controller->ops->open(controller, vectors, &msix->lines, e);
	if (r < 0) {
		return r;
	}
	msix->controller = controller;
	msix->vectors = msix->registers.count = vectors;
	(void)pthread_mutex_init(&msix->lock, NULL);
	msix_reset(msix);
	return 0;
}

void msix_finish(struct msix *msix)
{
	if (msix->controller != NULL) {
		msix->controller->ops->close(msix->controller, msix->lines, msix->vectors);
		(void)pthread_mutex_destroy(&msix->lock);
		msix->controller = NULL;
	}
}

void msix_reset(struct msix *msix)
{
	msix_set_mode(msix, MSIX_OFF);
	for (uint32_t i = 0; i < msix->vectors; i++) {
		struct msix_entry *entry = &msix->registers.entries[i];

		entry->address = 0;
		entry->data = 0;
		atomic_store(&entry->masked, true);
	}
	msix_forget_pending(msix);
}

void msix_forget_pending(struct msix *msix)
{
	atomic_store(&msix->registers.pending, 0);
}

static bool is_open(const struct msix *msix, uint32_t vector)
{
	return atomic_load(&msix->mode) == MSIX_ON &&
	       !atomic_load(&msix->registers.entries[vector].masked);
}

static bool take_pending(struct msix *msix, uint32_t vector)
{
	const uint64_t bit = UINT64_C(1) << vector;

	return (atomic_fetch_and(&msix->registers.pending, ~bit) & bit) != 0;
}

void msix_trigger(struct msix *msix, uint32_t vector)
{
	if (vector >= msix->vectors) {
		return;
	}
	atomic_fetch_add(&msix->sending[vector], 1);
	if (is_open(msix, vector)) {
		irq_trigger(&msix->lines[vector]);
	} else if (atomic_load(&msix->mode) != MSIX_OFF) {
		atomic_fetch_or(&msix->registers.pending, UINT64_C(1) << vector);
		if (is_open(msix, vector) && take_pending(msix, vector)) {
			irq_trigger(&msix->lines[vector]);
		}
	}
	atomic_fetch_sub(&msix->sending[vector], 1);
}

static void wait_until_sent(const struct msix *msix, uint32_t vector)
{
	while (atomic_load(&msix->sending[vector]) != 0) {
		(void)sched_yield();
	}
}

static void send_pending(struct msix *msix, uint32_t vector)
{
	if (is_open(msix, vector) && take_pending(msix, vector)) {
		irq_trigger(&msix->lines[vector]);
	}
}

static void route(struct msix *msix, uint32_t vector)
{
	const struct msix_entry *entry = &msix->registers.entries[vector];
	const struct msi_message message = { .address = entry->address, .data = entry->data };

	msix->controller->ops->route(msix->controller, &msix->lines[vector], &message);
}

void msix_set_mode(struct msix *msix, enum msix_mode mode)
{
	SCOPED_LOCK(&msix->lock);

	if (mode == MSIX_ON) {
		for (uint32_t i = 0; i < msix->vectors; i++) {
			if (!atomic_load(&msix->registers.entries[i].masked)) {
				route(msix, i);
			}
		}
		msix->controller->ops->commit(msix->controller);
	}
	atomic_store(&msix->mode, mode);
	for (uint32_t i = 0; i < msix->vectors; i++) {
		if (mode == MSIX_ON) {
			send_pending(msix, i);
		} else {
			wait_until_sent(msix, i);
		}
	}
}

/* Double words of an entry. */
enum { DWORD_ADDRESS, DWORD_ADDRESS_HIGH, DWORD_DATA, DWORD_CONTROL };

static uint32_t entry_read(const struct msix_entry *entry, uint64_t dword)
{
	switch (dword) {
	case DWORD_ADDRESS:
		return (uint32_t)entry->address;
	case DWORD_ADDRESS_HIGH:
		return (uint32_t)(entry->address >> 32);
	case DWORD_DATA:
		return entry->data;
	default:
		return atomic_load(&entry->masked) ? ENTRY_MASK : 0;
	}
}

/* `masked` is what the mask bit becomes. */
static void entry_write(struct msix_entry *entry, uint64_t dword, uint32_t value, bool *masked)
{
	switch (dword) {
	case DWORD_ADDRESS:
		entry->address =
			(entry->address & ~(uint64_t)UINT32_MAX) | (value & ~ADDRESS_FIXED);
		break;
	case DWORD_ADDRESS_HIGH:
		entry->address = (uint32_t)entry->address | (uint64_t)value << 32;
		break;
	case DWORD_DATA:
		entry->data = value;
		break;
	default:
		*masked = (value & ENTRY_MASK) != 0;
		break;
	}
}

static bool width_is_known(uint64_t offset, unsigned int size)
{
	return (size == 4 || size == 8) && offset % size == 0;
}

uint64_t msix_table_read(struct msix *msix, uint64_t offset, unsigned int size)
{
	uint64_t vector = offset / MSIX_ENTRY_SIZE, dword = offset % MSIX_ENTRY_SIZE / 4;
	const struct msix_entry *entry;

	if (!width_is_known(offset, size) || vector >= msix->vectors) {
		return bus_all_ones(size);
	}
	entry = &msix->registers.entries[vector];
	SCOPED_LOCK(&msix->lock);
	return entry_read(entry, dword) |
	       (size == 8 ? (uint64_t)entry_read(entry, dword + 1) << 32 : 0);
}

void msix_table_write(struct msix *msix, uint64_t offset, unsigned int size, uint64_t value)
{
	uint64_t vector = offset / MSIX_ENTRY_SIZE, dword = offset % MSIX_ENTRY_SIZE / 4;
	struct msix_entry *entry;
	bool masked;

	if (!width_is_known(offset, size) || vector >= msix->vectors) {
		return;
	}
	entry = &msix->registers.entries[vector];
	SCOPED_LOCK(&msix->lock);
	masked = atomic_load(&entry->masked);
	entry_write(entry, dword, (uint32_t)value, &masked);
	if (size == 8) {
		entry_write(entry, dword + 1, (uint32_t)(value >> 32), &masked);
	}
	if (masked) {
		atomic_store(&entry->masked, true);
		wait_until_sent(msix, (uint32_t)vector);
		return;
	}
	if (atomic_load(&msix->mode) == MSIX_ON) {
		route(msix, (uint32_t)vector);
		msix->controller->ops->commit(msix->controller);
	}
	atomic_store(&entry->masked, false);
	send_pending(msix, (uint32_t)vector);
}

uint64_t msix_pending_read(struct msix *msix, uint64_t offset, unsigned int size)
{
	uint64_t pending = atomic_load(&msix->registers.pending);

	if (!width_is_known(offset, size) || offset >= sizeof(pending)) {
		return bus_all_ones(size);
	}
	return (pending >> 8 * offset) & bus_all_ones(size);
}
