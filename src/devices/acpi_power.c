/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: see vmm/acpi_power.h for the ports (ACPI 6.4 §4.8.3.7 sleep registers,
 * §4.8.3.6 reset register, §5.6.9 event device). All registers are bytes, also the four of the
 * event word: a read takes the pending bits of the bytes it covers, so no width can lose an event.
 *
 * vCPU threads read and write ports, main and the machine's thread raise events. Under the lock the
 * line is high if and only if an event is pending. The guest controls all accesses. Saved: the pending
 * events, from which the line follows.
 */
#include "vmm/acpi_power.h"

#include <errno.h>
#include <inttypes.h>

#include "byte_ports.h"
#include "vmm/cleanup.h"

#define SLP_EN	      0x20
#define SLP_TYP_SHIFT 2
#define SLP_TYP_MASK  7
#define EVENTS_KNOWN \
	(ACPI_EVENT_POWER_BUTTON | ACPI_EVENT_PCI_HOTPLUG | ACPI_EVENT_VMGENID | ACPI_EVENT_VMCLOCK)

/* Under the lock. */
static void set_events(struct acpi_power *pm, uint32_t events)
{
	bool was_high = pm->state.events != 0;

	pm->state.events = events;
	if (was_high != (events != 0)) {
		irq_set_level(pm->irq, events != 0);
	}
}

static uint8_t take_events(struct acpi_power *pm, unsigned int shift)
{
	uint32_t before;

	SCOPED_LOCK(&pm->lock);
	before = pm->state.events;
	set_events(pm, before & ~(UINT32_C(0xff) << shift));
	return (uint8_t)(before >> shift);
}

static uint8_t read_port(void *device, uint64_t offset)
{

	if (offset < ACPI_POWER_EVENTS) {
		return 0;
	}
	if (offset >= ACPI_POWER_PORTS) {
		return 0xff;
	}
	return take_events(device, 8 * (unsigned int)(offset - ACPI_POWER_EVENTS));
}

static void write_port(void *device, uint64_t offset, uint8_t value)
{
	struct acpi_power *pm = device;

	if (offset == ACPI_POWER_SLEEP_CONTROL && (value & SLP_EN) != 0 &&
	    ((value >> SLP_TYP_SHIFT) & SLP_TYP_MASK) == ACPI_POWER_SLP_TYP_S5) {
		power_report(pm->power, POWER_OFF, 0);
	} else if (offset == ACPI_POWER_RESET && value == ACPI_POWER_RESET_VALUE) {
		power_report(pm->power, POWER_RESET, 0);
	}
}

static uint64_t acpi_power_read(void *device, uint64_t offset, unsigned int size)
{
	return byte_ports_read(read_port, device, offset, size);
}

static void acpi_power_write(void *device, uint64_t offset, unsigned int size, uint64_t value)
{
	byte_ports_write(write_port, device, offset, size, value);
}

const struct bus_ops acpi_power_bus_ops = { .read = acpi_power_read, .write = acpi_power_write };

static int acpi_power_validate(const void *object, const void *owner, struct error *e)
{
	const struct acpi_power_state *state = object;
	uint32_t events = state->events;

	(void)owner;
	if ((events & ~EVENTS_KNOWN) != 0) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "acpi-power: events 0x%" PRIx32 ": unknown bits", events);
	}
	return 0;
}

static const struct state_field acpi_power_fields[] = {
	STATE_FIELD(1, struct acpi_power_state, events, 1),
};
const struct state_desc acpi_power_state =
	STATE_DESC("acpi-power", 1, struct acpi_power_state, acpi_power_fields,
		   .validate = acpi_power_validate);

void acpi_power_init(struct acpi_power *pm, struct irq_line *irq, struct power_sink *power)
{
	pm->irq = irq;
	pm->power = power;
	(void)pthread_mutex_init(&pm->lock, NULL);
	pm->state.events = 0;
}

void acpi_power_finish(struct acpi_power *pm)
{
	if (pm->irq != NULL) {
		(void)pthread_mutex_destroy(&pm->lock);
		pm->irq = NULL;
	}
}

void acpi_power_reset(struct acpi_power *pm)
{
	SCOPED_LOCK(&pm->lock);
	set_events(pm, 0);
}

void acpi_power_loaded(struct acpi_power *pm)
{
	SCOPED_LOCK(&pm->lock);
	irq_set_level(pm->irq, pm->state.events != 0);
}

void acpi_power_notify(struct acpi_power *pm, uint32_t events)
{
	SCOPED_LOCK(&pm->lock);
	set_events(pm, pm->state.events | (events & EVENTS_KNOWN));
}
