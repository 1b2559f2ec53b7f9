/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI tables: structure and checksums as a guest would check them, bounds, and the judgement
 * of ACPICA's own compiler, which has to disassemble every table and translate the DSDT back to the
 * same bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../src/vmm/acpi_nodes.h"
#include "../../src/vmm/devices/kinds.h"
#include "../../src/vmm/x86/acpi_events.h"
#include "harness/check_main.h"
#include "vmm/acpi.h"
#include "vmm/acpi_power.h"
#include "vmm/bytes.h"
#include "vmm/platform.h"

#define AREA_SIZE (PLATFORM_ACPI_END - PLATFORM_ACPI)

extern char **environ;

static uint8_t area[AREA_SIZE];
static size_t used;
static uint32_t apic_ids[PLATFORM_VCPUS_MAX];
static struct acpi_virtio_mmio virtio[PLATFORM_VIRTIO_MMIO_MAX];
static struct error error;

static const struct size_row {
	uint32_t vcpus, apic_step, virtio;
	bool serial, pvpanic, pci;
} machines[] = {
	{ 1, 1, 0, false, false, false },
	{ 1, 1, 4, true, true, false },
	{ 4, 2, 3, true, false, false },
	{ PLATFORM_VCPUS_MAX, 1, PLATFORM_VIRTIO_MMIO_MAX, true, true, false },
	{ PLATFORM_VCPUS_MAX, 16, PLATFORM_VIRTIO_MMIO_MAX, true, true, true }, /* ids up to 496 */
	{ 2, 1, 0, true, true, true },
};

static const struct acpi_pci pci = {
	.ecam = PLATFORM_PCI_ECAM,
	.ecam_size = PLATFORM_PCI_ECAM_SIZE,
	.aperture = GIB(5),
	.aperture_size = PLATFORM_PCI_APERTURE_SIZE,
};

/* As the devices of such a machine do it. */
static void describe_devices(const struct acpi_machine *machine, struct aml *aml)
{
	const struct size_row *row = machine->devices;

	if (row->serial) {
		acpi_describe_node(aml, &serial_kind);
	}
	acpi_describe_node(aml, &rtc_kind);
	acpi_describe_node(aml, &i8042_kind);
	acpi_describe_events(aml, row->pci);
	acpi_describe_vmgenid(aml);
	acpi_describe_vmclock(aml);
	if (row->pvpanic) {
		acpi_describe_node(aml, &pvpanic_kind);
	}
	if (row->pci) {
		acpi_describe_pci(aml, &pci);
	}
}

static struct acpi_machine describe(const struct size_row *row)
{
	for (uint32_t i = 0; i < row->vcpus; i++) {
		apic_ids[i] = i * row->apic_step;
	}
	for (uint32_t i = 0; i < row->virtio; i++) {
		virtio[i] = (struct acpi_virtio_mmio){
			.base = platform_virtio_address(i),
			.size = PLATFORM_VIRTIO_MMIO_SIZE,
			.gsi = platform_virtio_gsi(i),
		};
	}
	return (struct acpi_machine){
		.vcpus = row->vcpus,
		.apic_ids = apic_ids,
		.virtio = virtio,
		.virtio_count = row->virtio,
		.pci = row->pci ? &pci : NULL,
		.describe = describe_devices,
		.devices = (void *)(uintptr_t)row,
	};
}

static void build(const struct size_row *row)
{
	struct acpi_machine machine = describe(row);

	memset(area, 0xee, sizeof(area));
	check_ok(acpi_build_tables(area, sizeof(area), PLATFORM_ACPI, &machine, &used, &error),
		 &error);
	ck_assert_uint_gt(used, 0);
	ck_assert_uint_lt(used, sizeof(area));
}

static uint8_t sum(const uint8_t *bytes, size_t len)
{
	uint8_t total = 0;

	for (size_t i = 0; i < len; i++) {
		total += bytes[i];
	}
	return total;
}

/* The table at a guest address, after the checks that every reader makes. */
static const uint8_t *table_at(uint64_t address, const char *signature)
{
	const uint8_t *table;
	uint32_t len;

	ck_assert_uint_ge(address, PLATFORM_ACPI);
	ck_assert_uint_le(address - PLATFORM_ACPI + 36, used);
	table = area + (address - PLATFORM_ACPI);
	len = load_le32(table + 4);
	ck_assert_msg(memcmp(table, signature, 4) == 0, "'%.4s', expected '%s'",
		      (const char *)table, signature);
	ck_assert_uint_le(address - PLATFORM_ACPI + len, used);
	ck_assert_uint_eq(sum(table, len), 0);
	return table;
}

static const uint8_t *xsdt(void)
{
	ck_assert_int_eq(memcmp(area, "RSD PTR ", 8), 0);
	ck_assert_uint_eq(sum(area, 20), 0);
	ck_assert_uint_eq(sum(area, 36), 0);
	ck_assert_uint_eq(area[15], 2);
	ck_assert_uint_eq(load_le32(area + 20), 36);
	return table_at(load_le64(area + 24), "XSDT");
}

static const uint8_t *fadt(void)
{
	return table_at(load_le64(xsdt() + 36), "FACP");
}

static const uint8_t *madt(void)
{
	return table_at(load_le64(xsdt() + 44), "APIC");
}

static const uint8_t *mcfg(void)
{
	return table_at(load_le64(xsdt() + 52), "MCFG");
}

static const uint8_t *dsdt(void)
{
	return table_at(load_le64(fadt() + 140), "DSDT");
}

START_TEST(test_mcfg)
{
	const uint8_t *table;

	build(&machines[1]);
	ck_assert_uint_eq(load_le32(xsdt() + 4), 36 + 2 * 8);
	build(&machines[5]);
	ck_assert_uint_eq(load_le32(xsdt() + 4), 36 + 3 * 8);
	table = mcfg();
	ck_assert_uint_eq(load_le32(table + 4), 36 + 8 + 16);
	ck_assert_uint_eq(load_le64(table + 44), PLATFORM_PCI_ECAM);
	ck_assert_uint_eq(load_le16(table + 52), 0); /* segment */
	ck_assert_uint_eq(table[54], 0);	     /* first bus */
	ck_assert_uint_eq(table[55], 0);	     /* last bus */
}
END_TEST

START_TEST(test_fadt_describes_reduced_hardware)
{
	const uint8_t *table;

	build(&machines[1]);
	table = fadt();
	ck_assert_uint_eq(load_le32(table + 4), 276);
	ck_assert_uint_eq(table[8], 6);
	ck_assert_uint_ne(load_le32(table + 112) & 1U << 20, 0); /* hardware-reduced */
	ck_assert_uint_ne(load_le32(table + 112) & 1U << 10, 0); /* reset register */
	ck_assert_uint_ne(load_le32(table + 112) & 1U << 4, 0);	 /* no fixed power button */
	ck_assert_uint_eq(load_le16(table + 109) & 7, 7);	 /* legacy, 8042, no VGA */
	ck_assert_uint_eq(table[108], 0x32);
	ck_assert_uint_eq(table[116], 1);
	ck_assert_uint_eq(load_le64(table + 120), PLATFORM_PORT_ACPI + ACPI_POWER_RESET);
	ck_assert_uint_eq(table[128], ACPI_POWER_RESET_VALUE);
	ck_assert_uint_eq(load_le64(table + 248), PLATFORM_PORT_ACPI + ACPI_POWER_SLEEP_CONTROL);
	ck_assert_uint_eq(load_le64(table + 260), PLATFORM_PORT_ACPI + ACPI_POWER_SLEEP_STATUS);
	ck_assert_uint_eq(load_le32(table + 40), load_le64(table + 140));
	/* The PM timer, by its extended address alone: what Linux reads. */
	ck_assert_uint_eq(table[208], 1);
	ck_assert_uint_eq(table[209], 32);
	ck_assert_uint_eq(load_le64(table + 212), PLATFORM_PORT_PM_TIMER);
	ck_assert_uint_ne(load_le32(table + 112) & 1U << 8, 0); /* of 32 bits */
	/* No other fixed hardware: SCI, PM1, GPE. */
	ck_assert_uint_eq(sum(table + 46, 108 - 46), 0);
}
END_TEST

START_TEST(test_madt_lists_every_processor)
{
	const struct size_row *row = &machines[_i];
	const uint8_t *table, *entry, *end;
	uint32_t processors = 0, ioapics = 0;

	build(row);
	table = madt();
	ck_assert_uint_eq(load_le32(table + 36), PLATFORM_LAPIC);
	end = table + load_le32(table + 4);
	for (entry = table + 44; entry < end; entry += entry[1]) {
		ck_assert_uint_ge(entry[1], 8);
		switch (entry[0]) {
		case 0:
			ck_assert_uint_eq(entry[2], processors);
			ck_assert_uint_eq(entry[3], processors * row->apic_step);
			ck_assert_uint_lt(entry[3], 255);
			ck_assert_uint_eq(load_le32(entry + 4), 1);
			processors++;
			break;
		case 1:
			ck_assert_uint_eq(load_le32(entry + 4), PLATFORM_IOAPIC);
			ck_assert_uint_eq(load_le32(entry + 8), 0);
			ioapics++;
			break;
		case 9:
			ck_assert_uint_eq(load_le32(entry + 4), processors * row->apic_step);
			ck_assert_uint_ge(load_le32(entry + 4), 255);
			ck_assert_uint_eq(load_le32(entry + 8), 1);
			ck_assert_uint_eq(load_le32(entry + 12), processors);
			processors++;
			break;
		default:
			ck_abort_msg("unexpected MADT entry of type %u", entry[0]);
		}
	}
	ck_assert_ptr_eq(entry, end);
	ck_assert_uint_eq(processors, row->vcpus);
	ck_assert_uint_eq(ioapics, 1);
}
END_TEST

static size_t count_bytes(const uint8_t *table, const void *bytes, size_t len)
{
	const uint8_t *end = table + load_le32(table + 4);
	size_t count = 0;

	for (const uint8_t *p = memmem(table, (size_t)(end - table), bytes, len); p != NULL;
	     p = memmem(p + 1, (size_t)(end - p - 1), bytes, len)) {
		count++;
	}
	return count;
}

START_TEST(test_dsdt_has_the_devices_of_the_machine)
{
	const struct size_row *row = &machines[_i];
	const uint8_t com1[] = { 0x0c, 0x41, 0xd0, 0x05, 0x01 }, off[] = "_S5_\x12\x07\x04\x0a\x05";
	const uint8_t events[9] = { 0x89, 6, 0, 0x01 /* level */, 1, PLATFORM_GSI_ACPI };
	/* Package (2) { PLATFORM_VMGENID, 0 } */
	const uint8_t guid[] = "ADDR\x12\x08\x02\x0c\x00\xff\x0f\x00";
	const uint8_t clock[12] = { 0x86, 9, 0, 1, 0x00, 0xe0, 0x0f, 0, 0x00, 0x10 };
	const uint8_t *table;

	build(row);
	table = dsdt();
	ck_assert_uint_eq(table[8], 2);
	ck_assert_uint_eq(count_bytes(table, "LNRO0005", 9), row->virtio);
	ck_assert_uint_eq(count_bytes(table, "ACPI0007", 9), row->vcpus);
	ck_assert_uint_eq(count_bytes(table, "QEMU0001", 9), row->pvpanic ? 1 : 0);
	ck_assert_uint_eq(count_bytes(table, "ACPI0013", 9), 1);
	ck_assert_uint_eq(count_bytes(table, "VMGENCTR", 9), 1);
	ck_assert_uint_eq(count_bytes(table, "VM_Gen_Counter", 15), 2);
	ck_assert_uint_eq(count_bytes(table, guid, sizeof(guid)), 1);
	ck_assert_uint_eq(count_bytes(table, "AMZNC10C", 9), 1);
	ck_assert_uint_eq(count_bytes(table, "VMCLOCK", 8), 2);
	ck_assert_uint_eq(count_bytes(table, clock, sizeof(clock)), 1);
	ck_assert_uint_eq(count_bytes(table, com1, sizeof(com1)), row->serial ? 1 : 0);
	ck_assert_uint_eq(count_bytes(table, off, sizeof(off) - 1), 1);
	/* The device, and where the event method calls its method. */
	ck_assert_uint_eq(count_bytes(table, "PCI0", 4), row->pci ? 2 : 0);
	ck_assert_uint_eq(count_bytes(table, "_EJ0", 4), row->pci ? 31 : 0);
	ck_assert_uint_eq(count_bytes(table, events, sizeof(events)), 1);
	if (row->pci) {
		uint8_t window[46] = { 0x8a, 43, 0, 0, 0x0c, 1 };
		const uint8_t buses[16] = { 0x88, 13, 0, 2, 0x0c, [14] = 1 };
		const uint8_t ports[8] = { 0x47, 1, 0xf8, 0x0c, 0xf8, 0x0c, 1, 8 };
		uint8_t ecam[12] = { 0x86, 9, 0, 1 };

		store_le64(window + 14, pci.aperture);
		store_le64(window + 22, pci.aperture + pci.aperture_size - 1);
		store_le64(window + 38, pci.aperture_size);
		store_le32(ecam + 4, PLATFORM_PCI_ECAM);
		store_le32(ecam + 8, PLATFORM_PCI_ECAM_SIZE);
		ck_assert_uint_eq(count_bytes(table, window, sizeof(window)), 1);
		ck_assert_uint_eq(count_bytes(table, buses, sizeof(buses)), 1);
		ck_assert_uint_eq(count_bytes(table, ports, sizeof(ports)), 1);
		ck_assert_uint_eq(count_bytes(table, ecam, sizeof(ecam)), 1);
	}
	for (uint32_t i = 0; i < row->virtio; i++) {
		uint8_t window[12] = { 0x86, 9, 0, 1 }, interrupt[9] = { 0x89, 6, 0, 3, 1 };
		uint32_t sharing = 0;

		store_le32(window + 4, (uint32_t)virtio[i].base);
		store_le32(window + 8, (uint32_t)virtio[i].size);
		store_le32(interrupt + 5, virtio[i].gsi);
		for (uint32_t j = 0; j < row->virtio; j++) {
			sharing += virtio[j].gsi == virtio[i].gsi ? 1 : 0;
		}
		interrupt[3] = sharing > 1 ? 0x0b : 0x03; /* Shared or Exclusive */
		ck_assert_uint_eq(count_bytes(table, window, sizeof(window)), 1);
		ck_assert_uint_eq(count_bytes(table, interrupt, sizeof(interrupt)), sharing);
	}
}
END_TEST

/* A slot's device, as an interpreter reads it: address and number are its own, and eject writes its bit
 * and no other. The method tells of each register once, of every slot with its own bit. */
START_TEST(test_slots_of_hotplug)
{
	const uint8_t *table;

	build(&machines[5]);
	table = dsdt();
	for (uint32_t slot = 1; slot < 32; slot++) {
		const uint32_t bit = UINT32_C(1) << slot;
		char name[5];
		uint8_t device[64], branch[32];
		struct aml aml;
		size_t method;

		(void)snprintf(name, sizeof(name), "S%03X", slot);
		aml_init(&aml, device, sizeof(device));
		aml_path(&aml, name);
		aml_name_integer(&aml, "_ADR", (uint64_t)slot << 16);
		aml_name_integer(&aml, "_SUN", slot);
		method = aml_method_begin(&aml, "_EJ0", 1, false);
		aml_store(&aml);
		aml_integer(&aml, bit);
		aml_path(&aml, "HPEJ");
		aml_end(&aml, method);
		ck_assert(!aml.failed);
		ck_assert_uint_eq(count_bytes(table, device, aml.len), 1);
		for (uint32_t value = 1; value <= 3; value += 2) {
			aml_init(&aml, branch, sizeof(branch));
			aml_and_begin(&aml);
			aml_local(&aml, 0);
			aml_integer(&aml, bit);
			aml_and_end(&aml);
			aml_notify(&aml, name, (uint8_t)value);
			ck_assert_uint_eq(count_bytes(table, branch, aml.len), 1);
		}
	}
	ck_assert_uint_eq(count_bytes(table, "\x70HPAR\x60", 6), 1);
	ck_assert_uint_eq(count_bytes(table, "\x70HPWA\x60", 6), 1);
	ck_assert_uint_eq(count_bytes(table, "HPAR", 4), 2);
	ck_assert_uint_eq(count_bytes(table, "HPWA", 4), 2);
}
END_TEST

/* Each event is told to its own device, as a change that is the device's own. */
START_TEST(test_events_are_told_to_their_devices)
{
	static const struct {
		uint32_t event;
		const char *path;
	} rows[] = {
		{ ACPI_EVENT_POWER_BUTTON, "\\_SB.PWRB" },
		{ ACPI_EVENT_VMGENID, "\\_SB.VGEN" },
		{ ACPI_EVENT_VMCLOCK, "\\_SB.VCLK" },
	};

	build(&machines[_i]);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint8_t bytes[64];
		struct aml aml;
		size_t branch;

		aml_init(&aml, bytes, sizeof(bytes));
		branch = aml_if_begin(&aml);
		aml_and_begin(&aml);
		aml_local(&aml, 0);
		aml_integer(&aml, rows[i].event);
		aml_and_end(&aml);
		aml_notify(&aml, rows[i].path, 0x80);
		aml_end(&aml, branch);
		ck_assert(!aml.failed);
		ck_assert_uint_eq(count_bytes(dsdt(), bytes, aml.len), 1);
		/* Its device has that name. */
		aml_init(&aml, bytes, sizeof(bytes));
		aml_path(&aml, rows[i].path + sizeof("\\_SB"));
		ck_assert_uint_ge(count_bytes(dsdt(), bytes, aml.len), 2);
	}
}
END_TEST

/* Lines are shared when there are none left, and never with a device of the board. */
START_TEST(test_lines_of_virtio_devices)
{
	static const unsigned int board[] = { 0,
					      PLATFORM_GSI_I8042_KEYBOARD,
					      2,
					      PLATFORM_GSI_SERIAL,
					      PLATFORM_GSI_RTC,
					      PLATFORM_GSI_ACPI };
	unsigned int users[PLATFORM_GSIS] = { 0 };

	for (unsigned int i = 0; i < PLATFORM_VIRTIO_MMIO_MAX; i++) {
		unsigned int gsi = platform_virtio_gsi(i);

		ck_assert_uint_lt(gsi, PLATFORM_GSIS);
		for (size_t j = 0; j < ARRAY_SIZE(board); j++) {
			ck_assert_uint_ne(gsi, board[j]);
		}
		ck_assert_uint_eq(users[gsi]++, i < PLATFORM_VIRTIO_GSI_COUNT ? 0 : 1);
		ck_assert_uint_eq(platform_virtio_address(i),
				  PLATFORM_VIRTIO_MMIO + i * PLATFORM_VIRTIO_MMIO_SIZE);
	}
}
END_TEST

/* Nothing beyond the given size is touched, whatever the size; the sanitizers watch the heap block.
 */
START_TEST(test_every_size_too_small_fails_cleanly)
{
	struct acpi_machine machine = describe(&machines[ARRAY_SIZE(machines) - 1]);
	size_t needed = 0, taken;

	check_ok(acpi_build_tables(area, sizeof(area), PLATFORM_ACPI, &machine, &needed, &error),
		 &error);
	for (size_t size = 0; size < needed; size++) {
		uint8_t *block = malloc(size + 1);

		ck_assert_ptr_nonnull(block);
		block[size] = 0x5a;
		taken = 12345;
		ck_assert_int_eq(
			acpi_build_tables(block, size, PLATFORM_ACPI, &machine, &taken, &error),
			-ENOSPC);
		check_error(&error, ERROR_INTERNAL, "does not fit");
		ck_assert_uint_eq(taken, 12345);
		ck_assert_uint_eq(block[size], 0x5a);
		free(block);
	}
	ck_assert_int_eq(acpi_build_tables(area, needed, PLATFORM_ACPI, &machine, &taken, &error),
			 0);
	ck_assert_uint_eq(taken, needed);
}
END_TEST

START_TEST(test_untouched_beyond_what_is_used)
{
	build(&machines[3]);
	for (size_t i = used; i < sizeof(area); i++) {
		ck_assert_uint_eq(area[i], 0xee);
	}
}
END_TEST

START_TEST(test_impossible_machines_are_refused)
{
	struct acpi_machine machine = describe(&machines[1]);
	size_t taken;

	machine.vcpus = 0;
	ck_assert_int_lt(
		acpi_build_tables(area, sizeof(area), PLATFORM_ACPI, &machine, &taken, &error), 0);
	check_error(&error, ERROR_INTERNAL, "0 vCPUs");
	machine.vcpus = PLATFORM_VCPUS_MAX + 1;
	ck_assert_int_lt(
		acpi_build_tables(area, sizeof(area), PLATFORM_ACPI, &machine, &taken, &error), 0);
	machine = describe(&machines[1]);
	machine.virtio_count = PLATFORM_VIRTIO_MMIO_MAX + 1;
	ck_assert_int_lt(
		acpi_build_tables(area, sizeof(area), PLATFORM_ACPI, &machine, &taken, &error), 0);
	machine = describe(&machines[1]);
	virtio[2].base = UINT64_C(0xfffff001);
	ck_assert_int_lt(
		acpi_build_tables(area, sizeof(area), PLATFORM_ACPI, &machine, &taken, &error), 0);
	check_error(&error, ERROR_INTERNAL, "virtio device 2");
	virtio[2].base = UINT64_MAX - 5;
	ck_assert_int_lt(
		acpi_build_tables(area, sizeof(area), PLATFORM_ACPI, &machine, &taken, &error), 0);
}
END_TEST

START_TEST(test_tables_land_in_guest_memory)
{
	struct acpi_machine machine = describe(&machines[1]);
	struct guest_memory mem = { 0 };
	gpa_t rsdp = 0;

	check_ok(guest_memory_init(&mem, MIB(64), GUEST_MEMORY_AUTO, &error), &error);
	check_ok(acpi_write_tables(&mem, &machine, &rsdp, &error), &error);
	ck_assert_uint_eq(rsdp, PLATFORM_ACPI);
	ck_assert(guest_memory_read(&mem, rsdp, area, sizeof(area)));
	used = sizeof(area);
	(void)madt();
	(void)dsdt();
	guest_memory_finish(&mem);
}
END_TEST

static const struct integer_row {
	uint64_t value;
	size_t len;
	uint8_t bytes[9];
} integers[] = {
	{ 0, 1, { 0x00 } },
	{ 1, 1, { 0x01 } },
	{ 2, 2, { 0x0a, 2 } },
	{ 0xff, 2, { 0x0a, 0xff } },
	{ 0x100, 3, { 0x0b, 0x00, 0x01 } },
	{ 0x10000, 5, { 0x0c, 0, 0, 1, 0 } },
	{ UINT64_C(0x123456789a), 9, { 0x0e, 0x9a, 0x78, 0x56, 0x34, 0x12, 0, 0, 0 } },
};

START_TEST(test_aml_integers)
{
	const struct integer_row *row = &integers[_i];
	struct aml aml;

	aml_init(&aml, area, sizeof(area));
	aml_integer(&aml, row->value);
	ck_assert(!aml.failed);
	ck_assert_uint_eq(aml.len, row->len);
	ck_assert_mem_eq(area, row->bytes, row->len);
}
END_TEST

static const struct path_row {
	const char *path;
	size_t len; /* 0: cannot be spelled */
	const char *bytes;
} paths[] = {
	{ "_HID", 4, "_HID" },
	{ "GED", 4, "GED_" },
	{ "\\", 2, "\\\0" },
	{ "\\_SB.PWRB", 10, "\\\x2e_SB_PWRB" },
	{ "A.B.C", 14,
	  "\x2f\x03"
	  "A___B___C___" },
	{ "TOOLONG", 0, "" },
	{ "A..B", 0, "" },
};

START_TEST(test_aml_paths)
{
	const struct path_row *row = &paths[_i];
	struct aml aml;

	aml_init(&aml, area, sizeof(area));
	aml_path(&aml, row->path);
	ck_assert(aml.failed == (row->len == 0));
	if (!aml.failed) {
		ck_assert_uint_eq(aml.len, row->len);
		ck_assert_mem_eq(area, row->bytes, row->len);
	}
}
END_TEST

/* The body's size at which the length takes one more byte, and its neighbours. */
static const struct length_row {
	size_t body, bytes;
} lengths[] = {
	{ 1, 1 },    { 61, 1 },	  { 62, 1 },   { 63, 2 },
	{ 4092, 2 }, { 4093, 2 }, { 4094, 3 }, { 70000, 3 },
};

START_TEST(test_aml_package_lengths)
{
	const struct length_row *row = &lengths[_i];
	size_t start, length;
	struct aml aml;

	aml_init(&aml, area, sizeof(area));
	start = aml_if_begin(&aml);
	for (size_t i = 0; i < row->body; i++) {
		aml_byte(&aml, (uint8_t)(i * 7));
	}
	aml_end(&aml, start);
	ck_assert(!aml.failed);
	ck_assert_uint_eq(aml.len, 1 + row->bytes + row->body);
	ck_assert_uint_eq(area[1] >> 6, row->bytes - 1);
	length = row->bytes == 1 ? area[1] & 0x3f : area[1] & 0x0f;
	for (size_t i = 1; i < row->bytes; i++) {
		length |= (size_t)area[1 + i] << (8 * i - 4);
	}
	ck_assert_uint_eq(length, row->bytes + row->body);
	for (size_t i = 0; i < row->body; i++) {
		ck_assert_uint_eq(area[1 + row->bytes + i], (uint8_t)(i * 7));
	}
}
END_TEST

static bool run(char *const argv[], const char *directory)
{
	posix_spawn_file_actions_t actions;
	int status = -1, r;
	pid_t pid;

	ck_assert_int_eq(posix_spawn_file_actions_init(&actions), 0);
	ck_assert_int_eq(posix_spawn_file_actions_addchdir_np(&actions, directory), 0);
	ck_assert_int_eq(posix_spawn_file_actions_addopen(&actions, 1, "log",
							  O_WRONLY | O_CREAT | O_TRUNC, 0600),
			 0);
	ck_assert_int_eq(posix_spawn_file_actions_adddup2(&actions, 1, 2), 0);
	r = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	(void)posix_spawn_file_actions_destroy(&actions);
	if (r != 0) {
		return false;
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static size_t read_file(const char *directory, const char *name, uint8_t *buf, size_t size)
{
	char path[128];
	FILE *file;
	size_t len;

	(void)snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "rb");
	if (file == NULL) {
		return 0;
	}
	len = fread(buf, 1, size, file);
	(void)fclose(file);
	return len;
}

static void write_file(const char *directory, const char *name, const uint8_t *table)
{
	size_t len = load_le32(table + 4);
	char path[128];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "wb");
	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fwrite(table, 1, len, file), len);
	ck_assert_int_eq(fclose(file), 0);
}

static void expect_clean_log(const char *directory, const char *what)
{
	static uint8_t log[65536];
	size_t len = read_file(directory, "log", log, sizeof(log) - 1);
	const char *text = (const char *)log;
	bool compiled;

	log[len] = '\0';
	compiled = strstr(text, " 0 Errors, 0 Warnings") != NULL;
	ck_assert_msg(strstr(text, "rror") == NULL || compiled, "%s: %s", what, text);
	ck_assert_msg(strstr(text, "arning") == NULL || compiled, "%s: %s", what, text);
}

static void remove_files(const char *directory)
{
	static const char *const names[] = { "dsdt.aml",  "dsdt.dsl", "dsdt.hex", "dsdt2.aml",
					     "dsdt2.hex", "facp.aml", "facp.dsl", "apic.aml",
					     "apic.dsl",  "xsdt.aml", "xsdt.dsl", "mcfg.aml",
					     "mcfg.dsl",  "log" };
	char path[128];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
		(void)unlink(path);
	}
	(void)rmdir(directory);
}

static void judge_table(const char *directory, const char *name, const uint8_t *table)
{
	char arg0[] = "iasl", arg1[] = "-d", file[32];
	char *argv[] = { arg0, arg1, file, NULL };

	(void)snprintf(file, sizeof(file), "%s.aml", name);
	write_file(directory, file, table);
	ck_assert_msg(run(argv, directory), "iasl -d %s failed", file);
	expect_clean_log(directory, name);
}

START_TEST(test_acpica_accepts_the_tables)
{
	char directory[] = "/tmp/vmm-test-acpi-XXXXXX";
	char arg0[] = "iasl", version[] = "-v", hex[] = "-tc", plain[] = "-oa", prefix[] = "-p",
	     out[] = "dsdt2", source[] = "dsdt.dsl", ignore[] = "-vw",
	     /* VMGENCTR, by which Linux knows VMGenID, does not end in digits. */
		suffix[] = "6035";
	char *probe[] = { arg0, version, NULL };
	char *compile[] = { arg0, hex, plain, ignore, suffix, prefix, out, source, NULL };
	static uint8_t again[AREA_SIZE];
	size_t len;

	ck_assert_ptr_nonnull(mkdtemp(directory));
	if (!run(probe, directory)) {
		remove_files(directory);
		CHECK_SKIP("iasl (package acpica-tools) is not installed");
	}
	build(&machines[_i]);
	judge_table(directory, "xsdt", xsdt());
	judge_table(directory, "facp", fadt());
	judge_table(directory, "apic", madt());
	judge_table(directory, "dsdt", dsdt());
	if (machines[_i].pci) {
		judge_table(directory, "mcfg", mcfg());
	}
	ck_assert_msg(run(compile, directory), "iasl -tc dsdt.dsl failed");
	expect_clean_log(directory, "compiling the DSDT again");
	/* Everything but the header's compiler fields and checksum comes back as it was. */
	len = read_file(directory, "dsdt2.aml", again, sizeof(again));
	ck_assert_uint_eq(len, load_le32(dsdt() + 4));
	ck_assert_mem_eq(again + 36, dsdt() + 36, len - 36);
	remove_files(directory);
}
END_TEST

CHECK_MAIN("acpi", CHECK_TEST(test_mcfg); CHECK_TEST(test_fadt_describes_reduced_hardware);
	   CHECK_TABLE(test_madt_lists_every_processor, machines);
	   CHECK_TABLE(test_dsdt_has_the_devices_of_the_machine, machines);
	   CHECK_TABLE(test_events_are_told_to_their_devices, machines);
	   CHECK_TEST(test_slots_of_hotplug); CHECK_TEST(test_lines_of_virtio_devices);
	   CHECK_TEST(test_every_size_too_small_fails_cleanly);
	   CHECK_TEST(test_untouched_beyond_what_is_used);
	   CHECK_TEST(test_impossible_machines_are_refused);
	   CHECK_TEST(test_tables_land_in_guest_memory); CHECK_TABLE(test_aml_integers, integers);
	   CHECK_TABLE(test_aml_paths, paths); CHECK_TABLE(test_aml_package_lengths, lengths);
	   CHECK_TABLE(test_acpica_accepts_the_tables, machines))
