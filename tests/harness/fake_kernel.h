/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels for tests of the loader, built byte by byte: a bzImage and an ELF file whose every field
 * a test can spoil, files that exist only in memory, and a guest to load them into.
 */
#ifndef VMM_TESTS_FAKE_KERNEL_H
#define VMM_TESTS_FAKE_KERNEL_H

#include <asm/bootparam.h>
#include <check.h>
#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/bytes.h"
#include "vmm/guest_memory.h"
#include "vmm/loader.h"
#include "vmm/platform.h"

/* A file with these bytes that nobody else sees. */
static inline int fake_file(const void *bytes, size_t len)
{
	int fd = memfd_create("fake-kernel", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, bytes, len, 0), (ssize_t)len);
	return fd;
}

static inline void fake_fill(uint8_t *to, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525U + 1013904223U;
		to[i] = (uint8_t)(seed >> 24) | 1; /* never 0 */
	}
}

/* A guest, and one load into it. */
struct fake_guest {
	struct guest_memory mem;
	struct loader_request request;
	struct boot_entry entry;
	struct error e;
};

static inline void fake_guest_init(struct fake_guest *g, uint64_t ram)
{
	memset(g, 0, sizeof(*g));
	g->request.kernel = (struct loader_image){ "kernel.test", -1 };
	g->request.initrds[0] = (struct loader_image){ "initrd.test", -1 };
	g->request.cmdline = "console=ttyS0";
	g->request.rsdp = PLATFORM_ACPI;
	ck_assert_msg(guest_memory_init(&g->mem, ram, GUEST_MEMORY_MEMFD, &g->e) == 0, "%s",
		      g->e.msg);
}

static inline void fake_guest_finish(struct fake_guest *g)
{
	guest_memory_finish(&g->mem);
}

/* Loads the bytes as kernel into emptied RAM. */
static inline int fake_guest_load(struct fake_guest *g, const void *kernel, size_t len)
{
	int r;

	memset(&g->e, 0, sizeof(g->e));
	ck_assert_int_eq(guest_memory_discard(&g->mem, &g->e), 0);
	memset(&g->entry, 0xa5, sizeof(g->entry));
	g->request.kernel.fd = fake_file(kernel, len);
	r = loader_load(&g->mem, &g->request, &g->entry, &g->e);
	close(g->request.kernel.fd);
	g->request.kernel.fd = -1;
	return r;
}

static inline uint8_t *fake_guest_at(struct fake_guest *g, gpa_t gpa, uint64_t len)
{
	uint8_t *host = guest_memory_write_pointer(&g->mem, gpa, len);

	ck_assert_ptr_nonnull(host);
	return host;
}

/* Success or a refusal that names the kernel; whatever was claimed lies in RAM. */
static inline void fake_guest_check(struct fake_guest *g, int r)
{
	if (r != 0) {
		ck_assert_int_lt(r, 0);
		ck_assert_int_eq(g->e.code, ERROR_KERNEL_IMAGE);
		ck_assert_ptr_nonnull(strstr(g->e.msg, "kernel.test"));
		ck_assert_uint_eq(g->entry.entry, 0xa5a5a5a5a5a5a5a5);
		return;
	}
	(void)fake_guest_at(g, g->entry.entry, 1);
	(void)fake_guest_at(g, g->entry.info, 1);
	if (g->entry.protocol == BOOT_PVH) {
		ck_assert_uint_eq(load_le32(fake_guest_at(g, g->entry.info, 4)), 0x336ec578);
	}
}

#define FAKE_SETUP_SECTS  4
#define FAKE_CODE_OFFSET  ((FAKE_SETUP_SECTS + 1) * 512UL)
#define FAKE_CODE_SIZE	  4096UL
#define FAKE_BZIMAGE_SIZE (FAKE_CODE_OFFSET + FAKE_CODE_SIZE)
#define FAKE_PREF	  MIB(16)
#define FAKE_ALIGN	  MIB(2)
#define FAKE_INIT_SIZE	  MIB(8)
#define FAKE_HDR	  0x1f1

static inline void fake_header_put(uint8_t *image, const struct setup_header *hdr)
{
	memcpy(image + FAKE_HDR, hdr, sizeof(*hdr));
}

static inline struct setup_header fake_header_get(const uint8_t *image)
{
	struct setup_header hdr;

	memcpy(&hdr, image + FAKE_HDR, sizeof(hdr));
	return hdr;
}

/* `len` bytes whose code part has `len - FAKE_CODE_OFFSET` (a multiple of 16). */
static inline void fake_bzimage(uint8_t *image, size_t len)
{
	struct setup_header hdr = {
		.setup_sects = FAKE_SETUP_SECTS,
		.syssize = (uint32_t)((len - FAKE_CODE_OFFSET) / 16),
		.boot_flag = 0xaa55,
		.jump = 0x6aeb,
		.header = 0x53726448,
		.version = 0x20f,
		.loadflags = LOADED_HIGH,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = FAKE_ALIGN,
		.relocatable_kernel = 1,
		.min_alignment = 21,
		.xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G,
		.cmdline_size = 2047,
		.pref_address = FAKE_PREF,
		.init_size = FAKE_INIT_SIZE,
	};

	memset(image, 0, FAKE_CODE_OFFSET);
	fake_fill(image + FAKE_CODE_OFFSET, len - FAKE_CODE_OFFSET, 1);
	image[0] = 'M';
	image[1] = 'Z';
	image[0x1ef] = 0xff; /* the sentinel */
	fake_header_put(image, &hdr);
}

#define FAKE_ELF_DATA  0x1000UL /* of segment 0 in the file */
#define FAKE_ELF_SIZE  0x3000UL
#define FAKE_ELF_NOTES 0x1800UL
#define FAKE_ELF_GPA   MIB(2)
#define FAKE_ELF_ENTRY (FAKE_ELF_GPA + 0x10)
#define FAKE_ELF_PVH   (FAKE_ELF_GPA + 0x20)

struct fake_elf {
	Elf64_Ehdr ehdr;
	Elf64_Phdr phdr[3]; /* load, load with bss, note */
};

static inline size_t fake_note(uint8_t *to, const char *name, uint32_t type, uint64_t value,
			       uint32_t descsz)
{
	uint32_t namesz = (uint32_t)strlen(name) + 1;

	store_le32(to, namesz);
	store_le32(to + 4, descsz);
	store_le32(to + 8, type);
	memcpy(to + 12, name, namesz);
	store_le(to + 12 + ALIGN_UP(namesz, 4), value, descsz);
	return 12 + ALIGN_UP(namesz, 4) + ALIGN_UP(descsz, 4);
}

/*
 * Segment 0: 0x1000 bytes at 2 MiB; segment 1: 0x1000 bytes and as much bss at 3 MiB. With `pvh`, a
 * note in segment 0.
 */
static inline void fake_elf(uint8_t *image, bool pvh)
{
	struct fake_elf elf = {
		.ehdr = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
			  .e_type = ET_EXEC,
			  .e_machine = EM_X86_64,
			  .e_version = EV_CURRENT,
			  .e_entry = FAKE_ELF_ENTRY,
			  .e_phoff = sizeof(Elf64_Ehdr),
			  .e_ehsize = sizeof(Elf64_Ehdr),
			  .e_phentsize = sizeof(Elf64_Phdr),
			  .e_phnum = pvh ? 3 : 2 },
		.phdr = { { .p_type = PT_LOAD,
			    .p_offset = FAKE_ELF_DATA,
			    .p_vaddr = 0xffffffff80000000 + FAKE_ELF_GPA,
			    .p_paddr = FAKE_ELF_GPA,
			    .p_filesz = 0x1000,
			    .p_memsz = 0x1000 },
			  { .p_type = PT_LOAD,
			    .p_offset = 0x2000,
			    .p_vaddr = 0xffffffff80000000 + MIB(3),
			    .p_paddr = MIB(3),
			    .p_filesz = 0x1000,
			    .p_memsz = 0x2000 },
			  { .p_type = PT_NOTE,
			    .p_offset = FAKE_ELF_NOTES,
			    .p_filesz = 0x100,
			    .p_memsz = 0x100,
			    .p_align = 4 } },
	};
	uint8_t *note = image + FAKE_ELF_NOTES;

	memset(image, 0, FAKE_ELF_DATA);
	memcpy(image, &elf, sizeof(elf));
	fake_fill(image + FAKE_ELF_DATA, FAKE_ELF_SIZE - FAKE_ELF_DATA, 2);
	memset(note, 0, 0x100);
	note += fake_note(note, "GNU", 3, 0x1122334455667788, 8);
	note += fake_note(note, "Xen", 6, 0x78756e696c, 6);
	fake_note(note, "Xen", 18, FAKE_ELF_PVH, 8);
}

static inline struct fake_elf *fake_elf_headers(uint8_t *image)
{
	return (struct fake_elf *)(void *)image;
}

#endif
