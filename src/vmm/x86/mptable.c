/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Intel MultiProcessor table (MP specification 1.4, §4): a floating pointer, the header, and
 * entries for processors, bus, I/O APIC and interrupts. Runs on the main thread before the first
 * instruction; guests only read the result, nothing is saved (the table is part of guest RAM).
 *
 * All 24 lines are interrupts of one ISA bus, edge triggered and active high, line N at pin N: that
 * is how KVM routes them by default, line 0 (the PIT's) included. Lines beyond 15 are none that an
 * ISA bus has; Linux takes them all the same, and virtio devices are there.
 */
#include "vmm/mptable.h"

#include <errno.h>
#include <string.h>

#include "vmm/bytes.h"
#include "vmm/platform.h"

#define POINTER_SIZE	 16
#define HEADER_SIZE	 44
#define PROCESSOR_SIZE	 20
#define ENTRY_SIZE	 8 /* all others */
#define SPECIFICATION_14 4

enum { ENTRY_PROCESSOR, ENTRY_BUS, ENTRY_IOAPIC, ENTRY_INTERRUPT, ENTRY_LOCAL_INTERRUPT };
enum { INTERRUPT_VECTORED = 0, INTERRUPT_NMI = 1, INTERRUPT_EXTINT = 3 };

#define PROCESSOR_ENABLED 1
#define PROCESSOR_BOOT	  2
#define PROCESSOR_P6	  0x600 /* "signature": family 6; guests ask CPUID */
#define FEATURES_FPU_APIC 0x201
#define IOAPIC_USABLE	  1
#define LAPIC_VERSION	  0x14
#define IOAPIC_VERSION	  0x11
#define ALL_LAPICS	  0xff

static uint8_t checksum(const uint8_t *bytes, size_t len)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++) {
		sum += bytes[i];
	}
	return (uint8_t)-sum;
}

static uint8_t *put_processors(uint8_t *p, uint32_t vcpus)
{
	for (uint32_t i = 0; i < vcpus; i++, p += PROCESSOR_SIZE) {
		p[0] = ENTRY_PROCESSOR;
		p[1] = (uint8_t)i;
		p[2] = LAPIC_VERSION;
		p[3] = PROCESSOR_ENABLED | (i == 0 ? PROCESSOR_BOOT : 0);
		store_le32(p + 4, PROCESSOR_P6);
		store_le32(p + 8, FEATURES_FPU_APIC);
	}
	return p;
}

static uint8_t *put_interrupt(uint8_t *p, uint8_t entry, uint8_t type, uint8_t line, uint8_t apic,
			      uint8_t pin)
{
	p[0] = entry;
	p[1] = type;
	/* 2: flags, "as the bus has it"; 4: the bus */
	p[5] = line;
	p[6] = apic;
	p[7] = pin;
	return p + ENTRY_SIZE;
}

/* Everything behind the header; the area is zero. Counts the entries. */
static uint8_t *put_entries(uint8_t *p, uint32_t vcpus, uint16_t *count)
{
	const uint8_t ioapic = (uint8_t)vcpus; /* the first id that no processor has */

	p = put_processors(p, vcpus);
	p[0] = ENTRY_BUS;
	memcpy(p + 2, "ISA   ", 6);
	p += ENTRY_SIZE;
	p[0] = ENTRY_IOAPIC;
	p[1] = ioapic;
	p[2] = IOAPIC_VERSION;
	p[3] = IOAPIC_USABLE;
	store_le32(p + 4, PLATFORM_IOAPIC);
	p += ENTRY_SIZE;
	for (uint8_t line = 0; line < PLATFORM_GSIS; line++) {
		p = put_interrupt(p, ENTRY_INTERRUPT, INTERRUPT_VECTORED, line, ioapic, line);
	}
	/* The 8259s are at LINT0 of the boot processor, as KVM wires them. */
	p = put_interrupt(p, ENTRY_LOCAL_INTERRUPT, INTERRUPT_EXTINT, 0, 0, 0);
	p = put_interrupt(p, ENTRY_LOCAL_INTERRUPT, INTERRUPT_NMI, 0, ALL_LAPICS, 1);
	*count = (uint16_t)(vcpus + 2 + PLATFORM_GSIS + 2);
	return p;
}

int mptable_build(uint8_t *area, size_t size, gpa_t base, uint32_t vcpus, size_t *used,
		  struct error *e)
{
	const size_t table_size = HEADER_SIZE + (size_t)vcpus * PROCESSOR_SIZE +
				  (size_t)(2 + PLATFORM_GSIS + 2) * ENTRY_SIZE;
	uint8_t *table = area + POINTER_SIZE;
	uint16_t count;

	if (vcpus == 0 || vcpus > PLATFORM_VCPUS_MAX || size < POINTER_SIZE + table_size) {
		return error_set(e, ERROR_INTERNAL, ENOSPC,
				 "MP table: %u vCPUs do not fit in %zu bytes", vcpus, size);
	}
	memset(area, 0, POINTER_SIZE + table_size);
	memcpy(area, "_MP_", 4);
	store_le32(area + 4, (uint32_t)base + POINTER_SIZE);
	area[8] = 1; /* length, in 16 bytes */
	area[9] = SPECIFICATION_14;
	area[10] = checksum(area, POINTER_SIZE);

	(void)put_entries(table + HEADER_SIZE, vcpus, &count);
	memcpy(table, "PCMP", 4);
	store_le16(table + 4, (uint16_t)table_size);
	table[6] = SPECIFICATION_14;
	memcpy(table + 8, "VMM     ", 8);
	memcpy(table + 16, "VMM         ", 12);
	store_le16(table + 34, count);
	store_le32(table + 36, PLATFORM_LAPIC);
	table[7] = checksum(table, table_size);
	*used = POINTER_SIZE + table_size;
	return 0;
}

int mptable_write(struct guest_memory *mem, uint32_t vcpus, struct error *e)
{
	const size_t size = PLATFORM_MPTABLE_END - PLATFORM_MPTABLE;
	uint8_t *area = guest_memory_write_pointer(mem, PLATFORM_MPTABLE, size);
	size_t used;
	int r;

	if (area == NULL) {
		return error_set(e, ERROR_INTERNAL, EFAULT, "MP table: no guest RAM at 0x%x",
				 PLATFORM_MPTABLE);
	}
	/* No vCPU runs yet, so the table is built in place. */
	r = mptable_build(area, size, PLATFORM_MPTABLE, vcpus, &used, e);
	guest_memory_written(mem, area, size);
	return r;
}

_Static_assert(PLATFORM_VCPUS_MAX < 0xff, "the I/O APIC has an id of its own");
