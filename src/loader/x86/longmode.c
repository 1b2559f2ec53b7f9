/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the 64-bit boot protocol wants the CPU to start with: paging that maps the kernel,
 * boot_params and the command line to themselves, and flat segments __BOOT_CS 0x10 and __BOOT_DS
 * 0x18 (boot.rst "64-bit Boot Protocol"). The first 4 GiB are mapped with 2 MiB pages (Intel SDM 3A
 * §4.5; 1 GiB pages are not on every CPU). Only the boot vCPU uses these tables, and only until the
 * kernel has its own.
 */
#include "x86.h"
#include "vmm/bytes.h"
#include "vmm/platform.h"

#define PAGE_TABLE_ENTRIES 512
#define PAGE_PRESENT_WRITE 0x3ULL
#define PAGE_LARGE	   0x80ULL
#define MAPPED_GIB	   4

/* Segment descriptors (SDM 3A §3.4.5), with the accessed bit set so that the CPU need not write
 * them. */
#define GDT_CODE64 0x00af9b000000ffffULL
#define GDT_DATA   0x00cf93000000ffffULL

static bool write_table(struct guest_memory *mem, gpa_t gpa, const uint64_t *entries, size_t count)
{
	return guest_memory_write(mem, gpa, entries, count * sizeof(*entries));
}

int longmode_write(struct guest_memory *mem, struct boot_entry *entry, struct error *e)
{
	static const uint64_t gdt[] = { 0, 0, GDT_CODE64, GDT_DATA };
	const gpa_t pml4 = PLATFORM_PAGE_TABLES;
	const gpa_t pdpt = pml4 + PAGE_SIZE_4K;
	uint64_t table[PAGE_TABLE_ENTRIES] = { htole64(pdpt | PAGE_PRESENT_WRITE) };
	uint64_t gdt_le[ARRAY_SIZE(gdt)];
	bool ok = write_table(mem, pml4, table, ARRAY_SIZE(table));

	for (unsigned int i = 0; i < MAPPED_GIB; i++) {
		table[i] = htole64((pdpt + (i + 1) * PAGE_SIZE_4K) | PAGE_PRESENT_WRITE);
	}
	ok = ok && write_table(mem, pdpt, table, ARRAY_SIZE(table));
	for (unsigned int i = 0; i < MAPPED_GIB; i++) {
		for (unsigned int j = 0; j < PAGE_TABLE_ENTRIES; j++) {
			table[j] =
				htole64((GIB(i) + MIB(2ULL * j)) | PAGE_PRESENT_WRITE | PAGE_LARGE);
		}
		ok = ok &&
		     write_table(mem, pdpt + (i + 1) * PAGE_SIZE_4K, table, ARRAY_SIZE(table));
	}
	for (size_t i = 0; i < ARRAY_SIZE(gdt); i++) {
		gdt_le[i] = htole64(gdt[i]);
	}
	ok = ok && write_table(mem, PLATFORM_GDT, gdt_le, ARRAY_SIZE(gdt_le));
	if (!ok) {
		return error_set(e, ERROR_INTERNAL, 0, "the boot page tables are outside RAM");
	}
	entry->page_tables = pml4;
	entry->gdt = PLATFORM_GDT;
	entry->gdt_limit = sizeof(gdt) - 1;
	return 0;
}
