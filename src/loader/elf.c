/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ELF64 kernels for x86-64 (System V gABI, chapters 4 and 5): every PT_LOAD segment goes to its
 * physical address. The entry is the 32-bit one of the Xen note PHYS32_ENTRY where a kernel has it
 * (PVH), else e_entry in 64-bit mode with boot_params.
 *
 * The same parser serves files and the unpacked payload of a bzImage, which arrives as a stream:
 * everything that decides where bytes go is in the first ELF_HEADERS_MAX bytes. All of a file is
 * hostile; what is not checked here is never used.
 */
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "internal.h"
#include "vmm/bytes.h"
#include "vmm/cleanup.h"
#include "vmm/overflow.h"
#include "vmm/platform.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18 /* xen/include/public/elfnote.h */

static int check_segment(const struct source *src, unsigned int index,
			 const struct elf_segment *seg, uint64_t file_size,
			 const struct guest_memory *mem, struct error *e)
{
	uint64_t gpa = seg->gpa;
	uint64_t memsz = seg->memsz;
	uint64_t low_end = arch_low_end(mem);
	uint64_t end;

	if (!range_within(seg->offset, seg->filesz, file_size)) {
		return source_error(src, e,
				    "truncated: ELF segment %u is %" PRIu64
				    " bytes at offset %" PRIu64 ", the file has %" PRIu64,
				    index, seg->filesz, seg->offset, file_size);
	}
	if (seg->filesz > seg->memsz) {
		return source_error(src, e,
				    "ELF segment %u has more bytes in the file (%" PRIu64
				    ") than in memory (%" PRIu64 ")",
				    index, seg->filesz, memsz);
	}
	if (add_overflow(seg->gpa, seg->memsz, &end)) {
		return source_error(src, e,
				    "ELF segment %u wraps: 0x%" PRIx64 " bytes at 0x%" PRIx64,
				    index, memsz, gpa);
	}
	if (seg->gpa < PLATFORM_KERNEL_MIN) {
		source_error(src, e, "ELF segment %u is at 0x%" PRIx64 ", below 1 MiB", index, gpa);
		return error_hint(e, "boot structures are there: link the kernel to 0x%x or higher",
				  PLATFORM_KERNEL_MIN);
	}
	if (guest_memory_read_pointer(mem, seg->gpa, seg->memsz) == NULL) {
		source_error(src, e,
			     "ELF segment %u (0x%" PRIx64 "-0x%" PRIx64
			     ") is outside RAM (0-0x%" PRIx64 ")",
			     index, gpa, end, low_end);
		if (end <= PLATFORM_RAM_LOW_END) {
			return error_hint(
				e, "the kernel needs more memory: --memory %" PRIu64 "M or more",
				(ALIGN_UP(end, MIB(1)) >> 20));
		}
		return error_hint(e, "the kernel is linked to an address that is never RAM here");
	}
	return 0;
}

static int check_overlaps(const struct source *src, const struct elf_image *elf, struct error *e)
{
	for (uint32_t i = 1; i < elf->segment_count; i++) {
		const struct elf_segment *a = &elf->segments[i];

		for (uint32_t j = 0; j < i; j++) {
			const struct elf_segment *b = &elf->segments[j];

			if (ranges_overlap(a->gpa, a->memsz, b->gpa, b->memsz)) {
				return source_error(src, e,
						    "ELF segments overlap: 0x%" PRIx64 "-0x%" PRIx64
						    " and 0x%" PRIx64 "-0x%" PRIx64,
						    b->gpa, (b->gpa + b->memsz), a->gpa,
						    (a->gpa + a->memsz));
			}
		}
	}
	return 0;
}

static void insert_by_offset(struct elf_image *elf, const struct elf_segment *seg)
{
	uint32_t i = elf->segment_count++;

	for (; i > 0 && elf->segments[i - 1].offset > seg->offset; i--) {
		elf->segments[i] = elf->segments[i - 1];
	}
	elf->segments[i] = *seg;
}

static int parse_program_header(struct elf_image *elf, const struct source *src, unsigned int index,
				const Elf64_Phdr *phdr, const struct guest_memory *mem,
				struct error *e)
{
	const struct elf_segment seg = {
		.offset = le64toh(phdr->p_offset),
		.filesz = le64toh(phdr->p_filesz),
		.gpa = le64toh(phdr->p_paddr),
		.memsz = le64toh(phdr->p_memsz),
	};
	int r;

	if (le32toh(phdr->p_type) == PT_INTERP) {
		source_error(src, e, "this is a program for an operating system, not a kernel");
		return error_hint(e, "name a bzImage (/boot/vmlinuz-*) or an ELF vmlinux");
	}
	if (le32toh(phdr->p_type) == PT_NOTE && elf->note_count < ARRAY_SIZE(elf->notes) &&
	    range_within(seg.offset, seg.filesz, elf->size)) {
		elf->notes[elf->note_count].offset = seg.offset;
		elf->notes[elf->note_count].len = MIN(seg.filesz, (uint64_t)ELF_NOTES_MAX);
		elf->notes[elf->note_count].align = le64toh(phdr->p_align) == 8 ? 8 : 4;
		elf->note_count++;
	}
	if (le32toh(phdr->p_type) != PT_LOAD || (seg.memsz == 0 && seg.filesz == 0)) {
		return 0;
	}
	if (elf->segment_count == ELF_SEGMENTS_MAX) {
		return source_error(src, e, "more than %u ELF segments to load", ELF_SEGMENTS_MAX);
	}
	r = check_segment(src, index, &seg, elf->size, mem, e);
	if (r != 0) {
		return r;
	}
	insert_by_offset(elf, &seg);
	elf->start = elf->segment_count == 1 ? seg.gpa : MIN(elf->start, seg.gpa);
	elf->end = MAX(elf->end, seg.gpa + seg.memsz);
	return 0;
}

static int check_header(const struct source *src, const Elf64_Ehdr *ehdr, uint64_t len,
			struct error *e)
{
	uint64_t phoff = le64toh(ehdr->e_phoff);
	uint64_t table = (uint64_t)le16toh(ehdr->e_phnum) * sizeof(Elf64_Phdr);

	if (le16toh(ehdr->e_type) != ET_EXEC && le16toh(ehdr->e_type) != ET_DYN) {
		source_error(src, e, "ELF type %u is not an executable", le16toh(ehdr->e_type));
		return error_hint(e,
				  "a vmlinux is needed, not an object file, module or core dump");
	}
	if (le16toh(ehdr->e_phnum) == 0) {
		return source_error(src, e, "the ELF file has no program headers");
	}
	if (le16toh(ehdr->e_phentsize) != sizeof(Elf64_Phdr)) {
		return source_error(src, e, "ELF program headers have %u bytes instead of %zu",
				    le16toh(ehdr->e_phentsize), sizeof(Elf64_Phdr));
	}
	if (!range_within(phoff, table, len)) {
		return source_error(src, e,
				    "%u ELF program headers at offset %" PRIu64
				    " are beyond %s of %" PRIu64 " bytes",
				    le16toh(ehdr->e_phnum), phoff,
				    len < ELF_HEADERS_MAX ? "the file" : "its head", len);
	}
	return 0;
}

int elf_parse(struct elf_image *elf, const struct source *src, const uint8_t *head, uint64_t len,
	      uint64_t size, const struct guest_memory *mem, struct error *e)
{
	Elf64_Ehdr ehdr;
	Elf64_Phdr phdr;
	int r;

	if (len < sizeof(ehdr)) {
		return source_error(
			src, e, "truncated: %" PRIu64 " bytes are less than an ELF header", len);
	}
	memcpy(&ehdr, head, sizeof(ehdr));
	r = check_header(src, &ehdr, len, e);
	if (r != 0) {
		return r;
	}
	*elf = (struct elf_image){ .size = size, .entry64 = le64toh(ehdr.e_entry) };
	for (unsigned int i = 0; i < le16toh(ehdr.e_phnum); i++) {
		memcpy(&phdr, head + le64toh(ehdr.e_phoff) + i * sizeof(phdr), sizeof(phdr));
		r = parse_program_header(elf, src, i, &phdr, mem, e);
		if (r != 0) {
			return r;
		}
	}
	if (elf->segment_count == 0) {
		return source_error(src, e, "the ELF file has nothing to load (no PT_LOAD)");
	}
	return check_overlaps(src, elf, e);
}

bool elf_find_pvh(const uint8_t *notes, uint64_t len, uint64_t align, gpa_t *entry)
{
	static const char xen[4] = "Xen";
	uint64_t at = 0;

	while (at <= len && len - at >= sizeof(Elf64_Nhdr)) {
		uint32_t namesz = load_le32(notes + at);
		uint32_t descsz = load_le32(notes + at + 4);
		uint32_t type = load_le32(notes + at + 8);
		/* 32-bit sizes: none of these sums can wrap. */
		uint64_t name = at + sizeof(Elf64_Nhdr);
		uint64_t desc = ALIGN_UP(name + namesz, align);

		if (!range_within(name, namesz, len) || !range_within(desc, descsz, len)) {
			return false;
		}
		if (type == XEN_ELFNOTE_PHYS32_ENTRY && namesz == sizeof(xen) &&
		    memcmp(notes + name, xen, sizeof(xen)) == 0 && (descsz == 4 || descsz == 8)) {
			*entry = load_le(notes + desc, descsz);
			return true;
		}
		at = ALIGN_UP(desc + descsz, align);
	}
	return false;
}

static bool in_segment(const struct elf_image *elf, gpa_t gpa)
{
	for (uint32_t i = 0; i < elf->segment_count; i++) {
		if (gpa >= elf->segments[i].gpa &&
		    gpa - elf->segments[i].gpa < elf->segments[i].memsz) {
			return true;
		}
	}
	return false;
}

int elf_finish(const struct elf_image *elf, const struct source *src, bool has_pvh, gpa_t pvh_entry,
	       struct kernel *kernel, struct error *e)
{
	gpa_t entry = has_pvh ? pvh_entry : elf->entry64;

	if (entry >= GIB(4) || !in_segment(elf, entry)) {
		source_error(src, e,
			     "the %s entry point 0x%" PRIx64 " is in no ELF segment below 4 GiB",
			     has_pvh ? "PVH" : "64-bit", entry);
		return error_hint(e, "entry points are physical addresses");
	}
	kernel->protocol = has_pvh ? BOOT_PVH : BOOT_LINUX64;
	kernel->entry = entry;
	kernel->start = elf->start;
	kernel->end = elf->end;
	/* An ELF file does not say how much its kernel takes (COMMAND_LINE_SIZE, 2048 on x86): the
	 * rest is cut by the guest. */
	kernel->cmdline_max = PLATFORM_CMDLINE_MAX - 1;
	kernel->initrd_end = PLATFORM_RAM_LOW_END;
	return 0;
}

/* True with *entry if one of the file's note segments has the PVH entry. */
static int read_pvh(const struct elf_image *elf, const struct source *src, bool *found,
		    gpa_t *entry, struct error *e)
{
	auto_free uint8_t *notes = NULL;
	int r;

	*found = false;
	for (uint32_t i = 0; i < elf->note_count && !*found; i++) {
		free(notes);
		notes = malloc(elf->notes[i].len + 1);
		if (notes == NULL) {
			return error_set(e, ERROR_NO_MEMORY, ENOMEM, "kernel '%s': no memory",
					 src->path);
		}
		r = source_read(src, elf->notes[i].offset, notes, elf->notes[i].len, e);
		if (r != 0) {
			return r;
		}
		*found = elf_find_pvh(notes, elf->notes[i].len, elf->notes[i].align, entry);
	}
	return 0;
}

int elf_load(const struct source *src, struct guest_memory *mem, struct kernel *kernel,
	     struct error *e)
{
	uint8_t head[ELF_HEADERS_MAX];
	uint64_t len = MIN(src->size, (uint64_t)sizeof(head));
	struct elf_image elf = { 0 };
	gpa_t pvh_entry = 0;
	bool has_pvh;
	int r = source_read(src, 0, head, len, e);

	if (r == 0) {
		r = elf_parse(&elf, src, head, len, src->size, mem, e);
	}
	if (r == 0) {
		r = read_pvh(&elf, src, &has_pvh, &pvh_entry, e);
	}
	if (r == 0) {
		r = elf_finish(&elf, src, has_pvh, pvh_entry, kernel, e);
	}
	/* What memsz has beyond filesz is zero already: RAM is fresh, and untouched pages cost
	 * nothing. */
	for (uint32_t i = 0; r == 0 && i < elf.segment_count; i++) {
		r = source_load_sparse(src, elf.segments[i].offset, mem, elf.segments[i].gpa,
				       elf.segments[i].filesz, e);
	}
	if (r == 0) {
		traits_read(mem, &elf, kernel);
	}
	return r;
}
