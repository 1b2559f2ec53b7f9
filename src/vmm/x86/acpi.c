/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: the tables of a hardware-reduced ACPI machine (ACPI 6.4 §5.2), built one
 * after the other in the area that the firmware of a PC would use: RSDP, DSDT, FADT, MADT, MCFG,
 * XSDT.
 * Runs on the main thread before the first instruction; guests only read the result, nothing is
 * saved (the tables are part of guest RAM).
 *
 * Hardware-reduced means for Linux: no SCI, no 8259 and no PIT. A PM timer is not in that model
 * either, but Linux takes its port from the FADT all the same (arch/x86/kernel/acpi/boot.c), and
 * without kvm-clock has no other clock to measure the TSC by. Interrupts below 16
 * exist only as far as a device's _CRS names them, which is why every device of the board is
 * described in the DSDT: devices do that themselves (src/vmm/acpi_nodes.h).
 */
#include "vmm/acpi.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../aml.h"
#include "vmm/acpi_power.h"
#include "vmm/bytes.h"
#include "vmm/overflow.h"
#include "vmm/platform.h"
#include "vmm/pm_timer.h"

#define TABLE_ALIGNMENT 16

#define HEADER_SIZE	    36
#define HEADER_LENGTH	    4
#define HEADER_REVISION	    8
#define HEADER_CHECKSUM	    9
#define HEADER_OEM_ID	    10
#define HEADER_OEM_TABLE_ID 16
#define HEADER_OEM_REVISION 24
#define HEADER_CREATOR	    28
#define HEADER_CREATOR_REV  32
#define OEM_ID		    "VMM   "
#define OEM_TABLE_ID	    "VMM     "
#define CREATOR_ID	    "VMM "
#define OEM_REVISION	    1

#define RSDP_SIZE	    36
#define RSDP_V1_SIZE	    20
#define DSDT_REVISION	    2 /* 64-bit integers */
#define FADT_REVISION	    6
#define FADT_MINOR_REVISION 4
#define FADT_SIZE	    276
#define MADT_REVISION	    5
#define MCFG_REVISION	    1
#define XSDT_REVISION	    1

/* FADT flags (table 5.10) */
#define FADT_WBINVD	 (1U << 0)
#define FADT_PROC_C1	 (1U << 2)
#define FADT_PWR_BUTTON	 (1U << 4) /* a device, not a fixed register */
#define FADT_SLP_BUTTON	 (1U << 5) /* not a fixed register either: there is none */
#define FADT_FIX_RTC	 (1U << 6) /* the RTC does not wake through a fixed register */
#define FADT_TMR_VAL_EXT (1U << 8) /* the PM timer has 32 bits */
#define FADT_RESET_REG	 (1U << 10)
#define FADT_HW_REDUCED	 (1U << 20)

/* IA-PC boot architecture flags (table 5.11) */
#define BOOT_LEGACY_DEVICES (1U << 0)
#define BOOT_8042	    (1U << 1)
#define BOOT_NO_VGA	    (1U << 2)
#define BOOT_NO_ASPM	    (1U << 4) /* no link has power states: nobody need look */

#define CMOS_CENTURY 0x32

#define GAS_SYSTEM_IO	 1
#define GAS_BYTE_ACCESS	 1
#define GAS_DWORD_ACCESS 3

#define MADT_LAPIC	 0
#define MADT_IOAPIC	 1
#define MADT_X2APIC	 9
#define MADT_CPU_ENABLED 1
#define LAPIC_ID_LAST	 254 /* 255 is the broadcast address */

#define ECAM_BUS_BITS 20

struct builder {
	uint8_t *area;
	size_t size;
	gpa_t base;
	size_t len;
};

static int no_room(const struct builder *b, const char *table, struct error *e)
{
	return error_set(e, ERROR_INTERNAL, ENOSPC,
			 "ACPI table %s: does not fit in %zu bytes at 0x%" PRIx64, table, b->size,
			 b->base);
}

static uint8_t checksum(const uint8_t *bytes, size_t len)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++) {
		sum += bytes[i];
	}
	return (uint8_t)-sum;
}

/* Reserves `len` zeroed bytes; NULL if there is no room. */
static uint8_t *reserve(struct builder *b, size_t len)
{
	size_t start = ALIGN_UP(b->len, TABLE_ALIGNMENT);

	if (!range_within(start, len, b->size)) {
		return NULL;
	}
	memset(b->area + b->len, 0, start + len - b->len);
	b->len = start + len;
	return b->area + start;
}

static gpa_t address_of(const struct builder *b, const uint8_t *table)
{
	return b->base + (gpa_t)(table - b->area);
}

/* Fills the header (§5.2.6) and, over everything, the checksum. */
static void finish_table(uint8_t *table, const char *signature, uint8_t revision, size_t len)
{
	memcpy(table, signature, 4);
	store_le32(table + HEADER_LENGTH, (uint32_t)len);
	table[HEADER_REVISION] = revision;
	memcpy(table + HEADER_OEM_ID, OEM_ID, 6);
	memcpy(table + HEADER_OEM_TABLE_ID, OEM_TABLE_ID, 8);
	store_le32(table + HEADER_OEM_REVISION, OEM_REVISION);
	memcpy(table + HEADER_CREATOR, CREATOR_ID, 4);
	store_le32(table + HEADER_CREATOR_REV, OEM_REVISION);
	table[HEADER_CHECKSUM] = 0;
	table[HEADER_CHECKSUM] = checksum(table, len);
}

/* DSDT --------------------------------------------------------------------------------------- */

static void describe_processor(struct aml *aml, uint32_t index)
{
	char name[] = "C000";
	size_t device;

	(void)snprintf(name, sizeof(name), "C%03" PRIX32, index & 0xfff);
	device = aml_device_begin(aml, name);
	aml_name_string(aml, "_HID", "ACPI0007");
	aml_name_integer(aml, "_UID", index);
	aml_end(aml, device);
}

static bool shares_line(const struct acpi_machine *machine, uint32_t index)
{
	for (uint32_t i = 0; i < machine->virtio_count; i++) {
		if (i != index && machine->virtio[i].gsi == machine->virtio[index].gsi) {
			return true;
		}
	}
	return false;
}

static void describe_virtio(struct aml *aml, const struct acpi_machine *machine, uint32_t index)
{
	const struct acpi_virtio_mmio *virtio = &machine->virtio[index];
	char name[] = "V000";
	size_t device, resources;

	(void)snprintf(name, sizeof(name), "V%03" PRIX32, index & 0xfff);
	device = aml_device_begin(aml, name);
	aml_name_string(aml, "_HID", "LNRO0005");
	aml_name_integer(aml, "_UID", index);
	aml_name_integer(aml, "_CCA", 1);
	aml_name(aml, "_CRS");
	resources = aml_resources_begin(aml);
	aml_resource_memory32(aml, (uint32_t)virtio->base, (uint32_t)virtio->size);
	aml_resource_interrupt(aml, virtio->gsi, shares_line(machine, index));
	aml_resources_end(aml, resources);
	aml_end(aml, device);
}

/* \_S5: the sleep type that powers off; the other elements mean nothing here. */
static void describe_soft_off(struct aml *aml)
{
	size_t package;

	aml_name(aml, "\\_S5");
	package = aml_package_begin(aml, 4);
	aml_integer(aml, ACPI_POWER_SLP_TYP_S5);
	aml_integer(aml, 0);
	aml_integer(aml, 0);
	aml_integer(aml, 0);
	aml_end(aml, package);
}

static void describe_machine(struct aml *aml, const struct acpi_machine *machine)
{
	size_t scope = aml_scope_begin(aml, "\\_SB");

	for (uint32_t i = 0; i < machine->vcpus; i++) {
		describe_processor(aml, i);
	}
	if (machine->describe != NULL) {
		machine->describe(machine, aml);
	}
	for (uint32_t i = 0; i < machine->virtio_count; i++) {
		describe_virtio(aml, machine, i);
	}
	aml_end(aml, scope);
	describe_soft_off(aml);
}

static int build_dsdt(struct builder *b, const struct acpi_machine *machine, gpa_t *dsdt,
		      struct error *e)
{
	uint8_t *table = reserve(b, HEADER_SIZE);
	struct aml aml;

	if (table == NULL) {
		return no_room(b, "DSDT", e);
	}
	aml_init(&aml, b->area + b->len, b->size - b->len);
	describe_machine(&aml, machine);
	if (aml.failed) {
		return no_room(b, "DSDT", e);
	}
	b->len += aml.len;
	finish_table(table, "DSDT", DSDT_REVISION, HEADER_SIZE + aml.len);
	*dsdt = address_of(b, table);
	return 0;
}

/* FADT (§5.2.9) ------------------------------------------------------------------------------- */

enum {
	FADT_DSDT = 40,
	FADT_CENTURY = 108,
	FADT_BOOT_ARCH = 109,
	FADT_FLAGS = 112,
	FADT_RESET_REGISTER = 116,
	FADT_RESET_VALUE = 128,
	FADT_MINOR_VERSION = 131,
	FADT_X_DSDT = 140,
	FADT_X_PM_TIMER = 208,
	FADT_SLEEP_CONTROL = 244,
	FADT_SLEEP_STATUS = 256,
	FADT_HYPERVISOR = 268,
};

/* A Generic Address Structure (§5.2.3.2) for a port of `bytes`. */
static void put_port(uint8_t *gas, uint16_t port, uint8_t bytes)
{
	gas[0] = GAS_SYSTEM_IO;
	gas[1] = 8 * bytes;
	gas[2] = 0;
	gas[3] = bytes == 1 ? GAS_BYTE_ACCESS : GAS_DWORD_ACCESS;
	store_le64(gas + 4, port);
}

static int build_fadt(struct builder *b, gpa_t dsdt, gpa_t *fadt, struct error *e)
{
	uint8_t *table = reserve(b, FADT_SIZE);

	if (table == NULL) {
		return no_room(b, "FADT", e);
	}
	if (dsdt <= UINT32_MAX) {
		store_le32(table + FADT_DSDT, (uint32_t)dsdt);
	}
	store_le64(table + FADT_X_DSDT, dsdt);
	table[FADT_CENTURY] = CMOS_CENTURY;
	store_le16(table + FADT_BOOT_ARCH,
		   BOOT_LEGACY_DEVICES | BOOT_8042 | BOOT_NO_VGA | BOOT_NO_ASPM);
	store_le32(table + FADT_FLAGS, FADT_WBINVD | FADT_PROC_C1 | FADT_PWR_BUTTON |
					       FADT_TMR_VAL_EXT | FADT_SLP_BUTTON | FADT_FIX_RTC |
					       FADT_RESET_REG | FADT_HW_REDUCED);
	put_port(table + FADT_RESET_REGISTER, PLATFORM_PORT_ACPI + ACPI_POWER_RESET, 1);
	table[FADT_RESET_VALUE] = ACPI_POWER_RESET_VALUE;
	table[FADT_MINOR_VERSION] = FADT_MINOR_REVISION;
	put_port(table + FADT_SLEEP_CONTROL, PLATFORM_PORT_ACPI + ACPI_POWER_SLEEP_CONTROL, 1);
	put_port(table + FADT_SLEEP_STATUS, PLATFORM_PORT_ACPI + ACPI_POWER_SLEEP_STATUS, 1);
	put_port(table + FADT_X_PM_TIMER, PLATFORM_PORT_PM_TIMER, PM_TIMER_PORTS);
	memcpy(table + FADT_HYPERVISOR, OEM_TABLE_ID, 8);
	finish_table(table, "FACP", FADT_REVISION, FADT_SIZE);
	*fadt = address_of(b, table);
	return 0;
}

/* MADT (§5.2.12) ------------------------------------------------------------------------------ */

#define MADT_HEADER_SIZE (HEADER_SIZE + 8)
#define MADT_LAPIC_SIZE	 8
#define MADT_X2APIC_SIZE 16
#define MADT_IOAPIC_SIZE 12

static size_t madt_processor_size(uint32_t apic_id)
{
	return apic_id > LAPIC_ID_LAST ? MADT_X2APIC_SIZE : MADT_LAPIC_SIZE;
}

static void put_processor(uint8_t *entry, uint32_t uid, uint32_t apic_id)
{
	entry[1] = (uint8_t)madt_processor_size(apic_id);
	if (apic_id > LAPIC_ID_LAST) {
		entry[0] = MADT_X2APIC;
		store_le32(entry + 4, apic_id);
		store_le32(entry + 8, MADT_CPU_ENABLED);
		store_le32(entry + 12, uid);
	} else {
		entry[0] = MADT_LAPIC;
		entry[2] = (uint8_t)uid;
		entry[3] = (uint8_t)apic_id;
		store_le32(entry + 4, MADT_CPU_ENABLED);
	}
}

static int build_madt(struct builder *b, const struct acpi_machine *machine, gpa_t *madt,
		      struct error *e)
{
	size_t len = MADT_HEADER_SIZE + MADT_IOAPIC_SIZE;
	uint8_t *table, *entry;

	for (uint32_t i = 0; i < machine->vcpus; i++) {
		len += madt_processor_size(machine->apic_ids[i]);
	}
	table = reserve(b, len);
	if (table == NULL) {
		return no_room(b, "MADT", e);
	}
	store_le32(table + HEADER_SIZE, PLATFORM_LAPIC);
	/* Flags stay 0: there is no pair of 8259s on a hardware-reduced machine. */
	entry = table + MADT_HEADER_SIZE;
	for (uint32_t i = 0; i < machine->vcpus; i++) {
		put_processor(entry, i, machine->apic_ids[i]);
		entry += madt_processor_size(machine->apic_ids[i]);
	}
	entry[0] = MADT_IOAPIC;
	entry[1] = MADT_IOAPIC_SIZE;
	store_le32(entry + 4, PLATFORM_IOAPIC);
	finish_table(table, "APIC", MADT_REVISION, len);
	*madt = address_of(b, table);
	return 0;
}

/* MCFG (PCI Firmware Specification 3.2, §4.1.2): where configuration space is. */

#define MCFG_SIZE (HEADER_SIZE + 8 + 16)

static int build_mcfg(struct builder *b, const struct acpi_pci *pci, gpa_t *mcfg, struct error *e)
{
	uint8_t *table = reserve(b, MCFG_SIZE), *entry;

	if (table == NULL) {
		return no_room(b, "MCFG", e);
	}
	entry = table + HEADER_SIZE + 8;
	store_le64(entry, pci->ecam);
	entry[11] = (uint8_t)((pci->ecam_size >> ECAM_BUS_BITS) - 1); /* last bus */
	finish_table(table, "MCFG", MCFG_REVISION, MCFG_SIZE);
	*mcfg = address_of(b, table);
	return 0;
}

/* Those that there are: an address of 0 is none. */
static int build_xsdt(struct builder *b, const gpa_t tables[], size_t count, gpa_t *xsdt,
		      struct error *e)
{
	size_t len = HEADER_SIZE;
	uint8_t *table = reserve(b, len + count * sizeof(uint64_t));

	if (table == NULL) {
		return no_room(b, "XSDT", e);
	}
	for (size_t i = 0; i < count; i++) {
		if (tables[i] != 0) {
			store_le64(table + len, tables[i]);
			len += sizeof(uint64_t);
		}
	}
	finish_table(table, "XSDT", XSDT_REVISION, len);
	*xsdt = address_of(b, table);
	return 0;
}

/* RSDP (§5.2.5) */
static void finish_rsdp(uint8_t *rsdp, gpa_t xsdt)
{
	memcpy(rsdp, "RSD PTR ", 8);
	memcpy(rsdp + 9, OEM_ID, 6);
	rsdp[15] = 2; /* revision */
	store_le32(rsdp + 20, RSDP_SIZE);
	store_le64(rsdp + 24, xsdt);
	rsdp[8] = checksum(rsdp, RSDP_V1_SIZE);
	rsdp[32] = checksum(rsdp, RSDP_SIZE);
}

static int check_machine(const struct acpi_machine *machine, struct error *e)
{
	if (machine->vcpus == 0 || machine->vcpus > PLATFORM_VCPUS_MAX) {
		return error_set(e, ERROR_INTERNAL, EINVAL,
				 "ACPI tables: %" PRIu32 " vCPUs: 1 to %d can be described",
				 machine->vcpus, PLATFORM_VCPUS_MAX);
	}
	if (machine->virtio_count > PLATFORM_VIRTIO_MMIO_MAX) {
		return error_set(e, ERROR_INTERNAL, EINVAL,
				 "ACPI tables: %" PRIu32 " virtio devices: at most %d can be "
				 "described",
				 machine->virtio_count, PLATFORM_VIRTIO_MMIO_MAX);
	}
	for (uint32_t i = 0; i < machine->virtio_count; i++) {
		const struct acpi_virtio_mmio *virtio = &machine->virtio[i];

		if (virtio->size == 0 ||
		    !range_within(virtio->base, virtio->size, UINT64_C(1) << 32)) {
			return error_set(e, ERROR_INTERNAL, EINVAL,
					 "ACPI tables: virtio device %" PRIu32 " at 0x%" PRIx64
					 "+0x%" PRIx64 ": not below 4 GiB",
					 i, virtio->base, virtio->size);
		}
	}
	return 0;
}

int acpi_build_tables(uint8_t *area, size_t size, gpa_t base, const struct acpi_machine *machine,
		      size_t *used, struct error *e)
{
	struct builder b = { .area = area, .size = size, .base = base };
	enum { FADT, MADT, MCFG, TABLES };
	gpa_t dsdt = 0, tables[TABLES] = { 0 }, xsdt = 0;
	uint8_t *rsdp;
	int r = check_machine(machine, e);

	if (r != 0) {
		return r;
	}
	rsdp = reserve(&b, RSDP_SIZE);
	if (rsdp == NULL) {
		return no_room(&b, "RSDP", e);
	}
	r = build_dsdt(&b, machine, &dsdt, e);
	if (r == 0) {
		r = build_fadt(&b, dsdt, &tables[FADT], e);
	}
	if (r == 0) {
		r = build_madt(&b, machine, &tables[MADT], e);
	}
	if (r == 0 && machine->pci != NULL) {
		r = build_mcfg(&b, machine->pci, &tables[MCFG], e);
	}
	if (r == 0) {
		r = build_xsdt(&b, tables, TABLES, &xsdt, e);
	}
	if (r != 0) {
		return r;
	}
	finish_rsdp(rsdp, xsdt);
	*used = b.len;
	return 0;
}

int acpi_write_tables(struct guest_memory *mem, const struct acpi_machine *machine, gpa_t *rsdp,
		      struct error *e)
{
	size_t size = PLATFORM_ACPI_END - PLATFORM_ACPI, used;
	uint8_t *area = guest_memory_write_pointer(mem, PLATFORM_ACPI, size);
	int r;

	if (area == NULL) {
		return error_set(e, ERROR_INTERNAL, EFAULT,
				 "ACPI tables: no guest RAM at 0x%x to 0x%x", PLATFORM_ACPI,
				 PLATFORM_ACPI_END);
	}
	/* No vCPU runs yet, so the tables are built in place. */
	r = acpi_build_tables(area, size, PLATFORM_ACPI, machine, &used, e);
	guest_memory_written(mem, area, r == 0 ? used : size);
	if (r != 0) {
		return r;
	}
	*rsdp = PLATFORM_ACPI;
	return 0;
}
