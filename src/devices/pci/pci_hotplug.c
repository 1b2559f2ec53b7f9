/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hot-plug registers; vmm/pci_hotplug.h has their rules.
 *
 * A read takes the bits that it returns, in one step, so that two vCPUs never tell their kernel of one
 * device twice, and none is lost. The life of a slot whose device was asked for: `leaving`; a vCPU
 * that ejects it puts it into `ejecting` for as long as it takes to get it off the bus, and then into
 * `left`; take() ends it. Only from `leaving` alone can it be ejected, so one vCPU does it once.
 *
 * The guest controls offset, width, value and order. Saved: masks, with all vCPUs parked, so that none
 * is in `ejecting`.
 */
#include "vmm/pci_hotplug.h"

#include <errno.h>

#include "vmm/cleanup.h"

#define SLOTS (~UINT32_C(1)) /* all but the host bridge's */

static uint32_t take(struct pci_hotplug *hotplug, uint32_t *mask)
{
	uint32_t bits;

	SCOPED_LOCK(&hotplug->lock);
	bits = *mask;
	*mask = 0;
	return bits;
}

static uint64_t hotplug_read(void *device, uint64_t offset, unsigned int size)
{
	struct pci_hotplug *hotplug = device;

	if (size != 4) {
		return bus_all_ones(size);
	}
	switch (offset) {
	case PCI_HOTPLUG_ARRIVED:
		return take(hotplug, &hotplug->state.arrived);
	case PCI_HOTPLUG_WANTED:
		return take(hotplug, &hotplug->state.wanted);
	case PCI_HOTPLUG_EJECT:
		return 0;
	default:
		return bus_all_ones(size);
	}
}

/* Those of `slots` that can be ejected, which the caller has to do now. */
static uint32_t begin_eject(struct pci_hotplug *hotplug, uint32_t slots)
{
	struct pci_hotplug_state *state = &hotplug->state;

	SCOPED_LOCK(&hotplug->lock);
	slots &= state->leaving & ~state->left & ~hotplug->ejecting;
	hotplug->ejecting |= slots;
	/* It need not be told any more. */
	state->wanted &= ~slots;
	return slots;
}

static void eject(struct pci_hotplug *hotplug, uint32_t slots)
{
	slots = begin_eject(hotplug, slots);
	if (slots == 0) {
		return;
	}
	for (uint32_t slot = 0; slot < 32; slot++) {
		if ((slots >> slot & 1) != 0) {
			hotplug->sink->eject(hotplug->sink, slot);
		}
	}
	{
		SCOPED_LOCK(&hotplug->lock);
		hotplug->ejecting &= ~slots;
		hotplug->state.left |= slots;
	}
	hotplug->sink->left(hotplug->sink);
}

static void hotplug_write(void *device, uint64_t offset, unsigned int size, uint64_t value)
{
	if (offset == PCI_HOTPLUG_EJECT && size == 4) {
		eject(device, (uint32_t)value);
	}
}

const struct bus_ops pci_hotplug_bus_ops = { .read = hotplug_read, .write = hotplug_write };

static int hotplug_validate(const void *object, const void *owner, struct error *e)
{
	const struct pci_hotplug_state *state = object;

	(void)owner;
	if (((state->arrived | state->leaving) & ~SLOTS) != 0 ||
	    (state->wanted & ~state->leaving) != 0 || (state->left & ~state->leaving) != 0) {
		return error_set(
			e, ERROR_STATE, EINVAL,
			"PCI hot-plug: impossible slots: arrived 0x%x, wanted 0x%x, leaving "
			"0x%x, left 0x%x",
			state->arrived, state->wanted, state->leaving, state->left);
	}
	return 0;
}

static const struct state_field hotplug_fields[] = {
	STATE_FIELD(1, struct pci_hotplug_state, arrived, 1),
	STATE_FIELD(2, struct pci_hotplug_state, wanted, 1),
	STATE_FIELD(3, struct pci_hotplug_state, leaving, 1),
	STATE_FIELD(4, struct pci_hotplug_state, left, 1),
};

const struct state_desc pci_hotplug_state = STATE_DESC(
	"pci-hotplug", 1, struct pci_hotplug_state, hotplug_fields, .validate = hotplug_validate);

void pci_hotplug_init(struct pci_hotplug *hotplug, struct pci_hotplug_sink *sink)
{
	*hotplug = (struct pci_hotplug){ .sink = sink };
	(void)pthread_mutex_init(&hotplug->lock, NULL);
}

void pci_hotplug_finish(struct pci_hotplug *hotplug)
{
	if (hotplug->sink != NULL) {
		(void)pthread_mutex_destroy(&hotplug->lock);
		hotplug->sink = NULL;
	}
}

void pci_hotplug_reset(struct pci_hotplug *hotplug)
{
	SCOPED_LOCK(&hotplug->lock);
	hotplug->state = (struct pci_hotplug_state){ 0 };
}

void pci_hotplug_added(struct pci_hotplug *hotplug, uint32_t slot)
{
	{
		SCOPED_LOCK(&hotplug->lock);
		hotplug->state.arrived |= UINT32_C(1) << slot & SLOTS;
	}
	hotplug->sink->notify(hotplug->sink);
}

void pci_hotplug_request(struct pci_hotplug *hotplug, uint32_t slot)
{
	struct pci_hotplug_state *state = &hotplug->state;
	const uint32_t bit = UINT32_C(1) << slot & SLOTS;

	{
		SCOPED_LOCK(&hotplug->lock);
		state->leaving |= bit;
		state->wanted |= bit & ~state->left & ~hotplug->ejecting;
	}
	hotplug->sink->notify(hotplug->sink);
}

/* Of these slots nothing is known any more. Under the lock. */
static void forget(struct pci_hotplug_state *state, uint32_t slots)
{
	state->arrived &= ~slots;
	state->wanted &= ~slots;
	state->leaving &= ~slots;
	state->left &= ~slots;
}

bool pci_hotplug_withdraw(struct pci_hotplug *hotplug, uint32_t slot)
{
	const uint32_t bit = UINT32_C(1) << slot;

	SCOPED_LOCK(&hotplug->lock);
	if (((hotplug->state.left | hotplug->ejecting) & bit) != 0) {
		return false;
	}
	forget(&hotplug->state, bit);
	return true;
}

uint32_t pci_hotplug_take(struct pci_hotplug *hotplug, bool all)
{
	uint32_t slots;

	SCOPED_LOCK(&hotplug->lock);
	slots = all ? hotplug->state.leaving : hotplug->state.left;
	forget(&hotplug->state, slots);
	return slots;
}

bool pci_hotplug_heard(struct pci_hotplug *hotplug, uint32_t slot)
{
	const uint32_t bit = UINT32_C(1) << slot;

	SCOPED_LOCK(&hotplug->lock);
	return (hotplug->state.leaving & ~hotplug->state.wanted & bit) != 0;
}
