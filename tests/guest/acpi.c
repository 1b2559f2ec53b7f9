/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI tables as a guest finds them: RSDP, XSDT, and what hangs on it (ACPI 6.5, chapter 5). */
#include "guest.h"

struct rsdp {
	char signature[8];
	uint8_t checksum;
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt, length;
	uint64_t xsdt;
	uint8_t extended_checksum, reserved[3];
} __attribute__((packed));

#define FADT_DSDT	     40
#define FADT_FLAGS	     112
#define FADT_RESET_REG	     116
#define FADT_RESET_VALUE     128
#define FADT_X_DSDT	     140
#define FADT_SLEEP_CONTROL   244
#define FADT_SLEEP_STATUS    256
#define FADT_FLAG_RESET	     (1U << 10)
#define FADT_FLAG_HW_REDUCED (1U << 20)
#define MADT_ENTRIES	     44
#define MADT_LAPIC	     0
#define MADT_IOAPIC	     1
#define MADT_X2APIC	     9

bool guest_acpi_checksum(const void *table, size_t size)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < size; i++) {
		sum = (uint8_t)(sum + ((const uint8_t *)table)[i]);
	}
	return sum == 0;
}

static const struct rsdp *find_rsdp(void)
{
	uint64_t address = guest_rsdp();

	for (uint64_t at = PLATFORM_ACPI; !address && at < PLATFORM_ACPI_END; at += 16) {
		if (!memcmp((const void *)at, "RSD PTR ", 8)) {
			address = at;
		}
	}
	return (const struct rsdp *)address;
}

static const struct guest_acpi_header *xsdt_entry(unsigned index)
{
	const struct rsdp *rsdp = find_rsdp();
	const struct guest_acpi_header *xsdt;
	uint64_t entry;

	if (!rsdp) {
		return NULL;
	}
	xsdt = (const void *)rsdp->xsdt;
	if (sizeof(*xsdt) + (index + 1) * 8UL > xsdt->length) {
		return NULL;
	}
	memcpy(&entry, (const uint8_t *)xsdt + sizeof(*xsdt) + index * 8UL, sizeof(entry));
	return (const void *)entry;
}

static uint64_t field(const void *table, unsigned offset, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, (const uint8_t *)table + offset, size);
	return value;
}

const struct guest_acpi_header *guest_acpi_table(const char *signature)
{
	const struct guest_acpi_header *table;

	if (!memcmp(signature, "DSDT", 4)) {
		const struct guest_acpi_header *fadt = guest_acpi_table("FACP");

		if (!fadt) {
			return NULL;
		}
		return (const void *)(field(fadt, FADT_X_DSDT, 8) ? field(fadt, FADT_X_DSDT, 8)
								  : field(fadt, FADT_DSDT, 4));
	}
	for (unsigned i = 0; (table = xsdt_entry(i)); i++) {
		if (!memcmp(table->signature, signature, 4)) {
			return table;
		}
	}
	return NULL;
}

unsigned guest_acpi_cpus(uint8_t *ids, unsigned max)
{
	const struct guest_acpi_header *madt = guest_acpi_table("APIC");
	const uint8_t *at = (const uint8_t *)madt + MADT_ENTRIES, *end;
	unsigned count = 0;

	if (!madt) {
		return 0;
	}
	end = (const uint8_t *)madt + madt->length;
	for (; at + 2 <= end && at[1] >= 2; at += at[1]) {
		uint8_t id;

		if (at[0] == MADT_LAPIC && (at[4] & 1)) {
			id = at[3];
		} else if (at[0] == MADT_X2APIC && (at[8] & 1)) {
			id = at[4];
		} else {
			continue;
		}
		if (count < max) {
			ids[count] = id;
		}
		count++;
	}
	return count;
}

static void dump(const struct guest_acpi_header *table)
{
	for (uint32_t i = 0; i < table->length; i++) {
		guest_printf("%02x", ((const uint8_t *)table)[i]);
	}
	guest_putc('\n');
}

static void check_table(const struct guest_acpi_header *table)
{
	bool in_area = (uint64_t)table >= PLATFORM_ACPI &&
		       (uint64_t)table + table->length <= PLATFORM_ACPI_END;

	guest_printf("table %c%c%c%c length %u revision %u at %lx\n", table->signature[0],
		     table->signature[1], table->signature[2], table->signature[3], table->length,
		     table->revision, (uint64_t)table);
	guest_check(guest_acpi_checksum(table, table->length));
	guest_check(in_area);
	if (guest_option("dump")) {
		guest_printf("dump %c%c%c%c ", table->signature[0], table->signature[1],
			     table->signature[2], table->signature[3]);
		dump(table);
	}
}

/* VMGenID and VMClock: where their nodes say, and nobody has asked the guest to change anything. */
static void check_generation(void)
{
	const uint8_t *page = (const void *)PLATFORM_VMCLOCK;
	uint64_t guid[2];

	memcpy(guid, (const void *)PLATFORM_VMGENID, sizeof(guid));
	guest_check(guid[0] != 0 && guid[1] != 0);
	guest_check(!memcmp(page, "VCLK", 4));
	guest_check(field(page, 4, 4) == 4096 && field(page, 8, 2) == 1);
	guest_check(field(page, 12, 4) % 2 == 0); /* no change is under way */
	guest_check(field(page, 16, 8) != 0 && field(page, 104, 8) != 0);
	guest_check(field(page, 24, 8) == 0x300);
}

int test_acpi(void)
{
	const struct rsdp *rsdp = find_rsdp();
	const struct guest_acpi_header *fadt, *madt, *table;
	uint8_t ids[256];
	unsigned cpus;

	guest_require(rsdp != NULL);
	guest_check(!memcmp(rsdp->signature, "RSD PTR ", 8));
	guest_check(rsdp->revision == 2);
	guest_check(guest_acpi_checksum(rsdp, 20));
	guest_check(guest_acpi_checksum(rsdp, rsdp->length));
	/* Kernels that are not told the address find it by the scan. */
	guest_check((uint64_t)rsdp == PLATFORM_ACPI);
	check_table((const void *)rsdp->xsdt);
	for (unsigned i = 0; (table = xsdt_entry(i)); i++) {
		check_table(table);
	}
	fadt = guest_acpi_table("FACP");
	guest_require(fadt != NULL);
	guest_require(guest_acpi_table("DSDT") != NULL);
	check_table(guest_acpi_table("DSDT"));
	guest_check(fadt->length >= 268);
	guest_check(field(fadt, FADT_FLAGS, 4) & FADT_FLAG_HW_REDUCED);
	guest_check(field(fadt, FADT_FLAGS, 4) & FADT_FLAG_RESET);
	/* Generic addresses: space 1 is port I/O; the address is 4 bytes in. */
	guest_check(field(fadt, FADT_RESET_REG, 1) == 1);
	guest_check(field(fadt, FADT_RESET_REG + 4, 8) == GUEST_ACPI_RESET);
	guest_check(field(fadt, FADT_RESET_VALUE, 1) == 1);
	guest_check(field(fadt, FADT_SLEEP_CONTROL, 1) == 1);
	guest_check(field(fadt, FADT_SLEEP_CONTROL + 4, 8) == GUEST_ACPI_SLEEP_CONTROL);
	guest_check(field(fadt, FADT_SLEEP_STATUS + 4, 8) == GUEST_ACPI_SLEEP_STATUS);
	check_generation();
	madt = guest_acpi_table("APIC");
	guest_require(madt != NULL);
	guest_check(field(madt, 36, 4) == PLATFORM_LAPIC);
	cpus = guest_acpi_cpus(ids, GUEST_ARRAY_SIZE(ids));
	guest_printf("cpus %u\n", cpus);
	guest_check(cpus == guest_option_number("cpus", cpus));
	return 0;
}
