/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the loader handed over, by either way of booting: struct hvm_start_info of PVH (Xen's
 * arch-x86/hvm/start_info.h), or Linux's boot_params ("zero page",
 * Documentation/arch/x86/zero-page.rst). Also the page tables above 4 GiB.
 */
#include "guest.h"

#define PVH_MAGIC   0x336ec578
#define HDRS_MAGIC  0x53726448
#define PAGE_FLAGS  0x87 /* present, writable, user, 2 MiB */
#define TABLE_FLAGS 0x07
#define GIB	    (1ULL << 30)

extern uint64_t guest_boot_info;
extern uint32_t guest_boot_kind;
extern uint64_t guest_pdpt[512];

struct start_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, command_line, rsdp;
	uint64_t memory_map;
	uint32_t memory_map_entries, reserved;
};

struct start_info_module {
	uint64_t start, size, command_line, reserved;
};

struct start_info_memory {
	uint64_t start, size;
	uint32_t type, reserved;
};

struct e820_entry {
	uint64_t start, size;
	uint32_t type;
} __attribute__((packed));

bool guest_booted_by_pvh(void)
{
	return guest_boot_kind == 1;
}

static const struct start_info *start_info(void)
{
	const struct start_info *info = (const void *)guest_boot_info;

	guest_require(info->magic == PVH_MAGIC);
	guest_require(info->version >= 1);
	return info;
}

static uint32_t zero_page32(unsigned offset)
{
	return guest_read32(guest_boot_info + offset);
}

const char *guest_command_line(void)
{
	uint64_t address;

	if (guest_booted_by_pvh()) {
		address = start_info()->command_line;
	} else {
		address = zero_page32(0x228) | (uint64_t)zero_page32(0xc8) << 32;
	}
	return address ? (const char *)address : "";
}

unsigned guest_memory_map(struct guest_memory *map, unsigned max)
{
	unsigned count;

	if (guest_booted_by_pvh()) {
		const struct start_info_memory *entry = (const void *)start_info()->memory_map;

		count = start_info()->memory_map_entries;
		for (unsigned i = 0; i < count && i < max; i++) {
			map[i] = (struct guest_memory){ entry[i].start, entry[i].size,
							entry[i].type };
		}
	} else {
		const struct e820_entry *entry = (const void *)(guest_boot_info + 0x2d0);

		count = guest_read8(guest_boot_info + 0x1e8);
		for (unsigned i = 0; i < count && i < max; i++) {
			map[i] = (struct guest_memory){ entry[i].start, entry[i].size,
							entry[i].type };
		}
	}
	guest_require(count > 0 && count <= max);
	return count;
}

uint64_t guest_rsdp(void)
{
	if (guest_booted_by_pvh()) {
		return start_info()->rsdp;
	}
	return zero_page32(0x70) | (uint64_t)zero_page32(0x74) << 32;
}

bool guest_initrd(uint64_t *start, uint64_t *size)
{
	if (guest_booted_by_pvh()) {
		const struct start_info_module *module = (const void *)start_info()->modules;

		if (!start_info()->module_count) {
			return false;
		}
		*start = module->start;
		*size = module->size;
	} else {
		*start = zero_page32(0x218) | (uint64_t)zero_page32(0xc0) << 32;
		*size = zero_page32(0x21c) | (uint64_t)zero_page32(0xc4) << 32;
	}
	return *size != 0;
}

void guest_map(uint64_t address)
{
	uint64_t at = address & ~(GIB - 1), *directory;

	guest_require(at < 512 * GIB);
	if (guest_pdpt[at / GIB]) {
		return;
	}
	directory = guest_alloc(4096, 4096);
	for (unsigned page = 0; page < 512; page++) {
		directory[page] = (at + ((uint64_t)page << 21)) | PAGE_FLAGS;
	}
	guest_pdpt[at / GIB] = (uint64_t)directory | TABLE_FLAGS;
}

void guest_map_high_memory(void)
{
	struct guest_memory map[32];
	unsigned count = guest_memory_map(map, GUEST_ARRAY_SIZE(map));

	for (unsigned i = 0; i < count; i++) {
		uint64_t end = map[i].start + map[i].size;

		/* One page directory per GiB; what lies beyond 512 GiB stays unmapped. */
		for (uint64_t at = map[i].start & ~(GIB - 1); at < end && at < 512 * GIB;
		     at += GIB) {
			guest_map(at);
		}
	}
}

int test_boot(void)
{
	struct guest_memory map[32];
	unsigned count = guest_memory_map(map, GUEST_ARRAY_SIZE(map));
	uint64_t start, size, ram = 0;

	guest_printf("boot %s\n", guest_booted_by_pvh() ? "pvh" : "linux64");
	guest_printf("cmdline-length %lu\n", guest_strlen(guest_command_line()));
	guest_printf("cmdline %s\n", guest_command_line());
	for (unsigned i = 0; i < count; i++) {
		guest_printf("memory %lx+%lx type %u\n", map[i].start, map[i].size, map[i].type);
		guest_check(map[i].size != 0);
		for (unsigned j = 0; j < i; j++) {
			guest_check(map[i].start >= map[j].start + map[j].size ||
				    map[j].start >= map[i].start + map[i].size);
		}
		if (map[i].type == GUEST_RAM) {
			ram += map[i].size;
			guest_check(map[i].start + map[i].size <= PLATFORM_RAM_LOW_END ||
				    map[i].start >= PLATFORM_RAM_HIGH_START);
		}
	}
	guest_printf("ram %lu KiB\n", ram >> 10);
	if (!guest_booted_by_pvh()) {
		guest_check(zero_page32(0x202) == HDRS_MAGIC);
		guest_check(guest_read16(guest_boot_info + 0x1fe) == 0xaa55);
		/* A loader says who it is: 0 is "LILO". */
		guest_check(guest_read8(guest_boot_info + 0x210) != 0);
	}
	guest_check(guest_rsdp() != 0);
	if (guest_initrd(&start, &size)) {
		uint32_t sum = 0;

		for (uint64_t i = 0; i < size; i++) {
			sum = (sum << 1 | sum >> 31) ^ guest_read8(start + i);
		}
		guest_check((start & 0xfff) == 0);
		guest_printf("initrd %lu bytes sum %08x\n", size, sum);
	}
	return 0;
}
