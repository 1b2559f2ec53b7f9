/* SPDX-License-Identifier: Apache-2.0 */
/* Local APIC (xAPIC mode) and IOAPIC. */
#include "guest.h"

#define IOAPIC_SELECT		(PLATFORM_IOAPIC + 0x00)
#define IOAPIC_WINDOW		(PLATFORM_IOAPIC + 0x10)
#define IOAPIC_REDIRECTION(gsi) (0x10 + 2 * (gsi))
#define IOAPIC_MASKED		(1U << 16)

uint32_t guest_lapic_read(unsigned reg)
{
	return guest_read32(PLATFORM_LAPIC + reg);
}

void guest_lapic_write(unsigned reg, uint32_t value)
{
	guest_write32(PLATFORM_LAPIC + reg, value);
}

void guest_lapic_enable(void)
{
	guest_lapic_write(GUEST_LAPIC_SPURIOUS, 0x100 | GUEST_VECTOR_SPURIOUS);
}

unsigned guest_apic_id(void)
{
	return guest_lapic_read(GUEST_LAPIC_ID) >> 24;
}

static void ioapic_write(unsigned reg, uint32_t value)
{
	guest_write32(IOAPIC_SELECT, reg);
	guest_write32(IOAPIC_WINDOW, value);
}

void guest_ioapic_route(unsigned gsi)
{
	guest_lapic_enable();
	ioapic_write(IOAPIC_REDIRECTION(gsi) + 1, guest_apic_id() << 24);
	ioapic_write(IOAPIC_REDIRECTION(gsi), GUEST_VECTOR_GSI(gsi));
}

void guest_ioapic_mask(unsigned gsi)
{
	ioapic_write(IOAPIC_REDIRECTION(gsi), IOAPIC_MASKED);
}
