/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unified kernel images (UAPI group's specification UAPI.5): an EFI program, which is a PE file
 * ("PE Format", Microsoft), with the kernel, initrd and command line in sections of these names. The
 * program itself, systemd's stub, needs EFI and is not run. A kernel section is a file like any
 * other: a bzImage, mostly.
 *
 * Sections behind the first ".profile" belong to alternatives that a boot menu offers; what stands
 * before it is the base, and used. Microcode (.ucode) is the host's business, device trees are for
 * other architectures.
 *
 * Every byte is hostile: headers are read at bounded offsets, their count is bounded, and a section
 * counts only if it lies in the file.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "vmm/bytes.h"
#include "vmm/overflow.h"

#define PE_OFFSET_AT   0x3c /* where the DOS header says where the PE header is */
#define PE_HEADER_SIZE 24   /* signature and COFF header */
#define PE_MACHINE_X64 0x8664
#define SECTION_SIZE   40
#define SECTIONS_MAX   96 /* "PE Format": more are not loaded */
#define NAME_SIZE      8
#define CMDLINE_MAX    KIB(64)

static bool has_name(const uint8_t *section, const char *name)
{
	return strncmp((const char *)section, name, NAME_SIZE) == 0;
}

/* The bytes of a section: no more than the file has of it, or, the rest being padding, the memory. */
static int section_part(const struct source *src, const uint8_t *section, struct file_part *part,
			struct error *e)
{
	uint64_t in_memory = load_le32(section + 8), in_file = load_le32(section + 16);

	part->offset = load_le32(section + 20);
	part->size = in_memory != 0 ? MIN(in_memory, in_file) : in_file;
	if (part->size == 0 || !range_within(part->offset, part->size, src->size)) {
		return source_error(src, e,
				    "its section %.8s (%" PRIu64 " bytes at %" PRIu64
				    ") is empty or beyond the file's %" PRIu64 " bytes",
				    section, part->size, part->offset, src->size);
	}
	return 0;
}

static int note_section(const struct source *src, const uint8_t *section, struct uki *uki,
			struct error *e)
{
	struct {
		const char *name;
		struct file_part *part;
	} wanted[] = { { ".linux", &uki->kernel },
		       { ".initrd", &uki->initrd },
		       { ".cmdline", &uki->cmdline } };

	uki->has_kernel |= has_name(section, ".linux");
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		if (has_name(section, wanted[i].name) && wanted[i].part->size == 0) {
			return section_part(src, section, wanted[i].part, e);
		}
	}
	return 0;
}

int uki_parse(const struct source *src, struct uki *uki, struct error *e)
{
	uint8_t head[PE_HEADER_SIZE], raw[4], section[SECTION_SIZE];
	uint64_t pe, at;
	uint32_t count;
	int r = source_read(src, PE_OFFSET_AT, raw, sizeof(raw), e);

	*uki = (struct uki){ 0 };
	pe = load_le32(raw);
	r = r == 0 ? source_read(src, pe, head, sizeof(head), e) : r;
	if (r != 0) {
		return r;
	}
	if (memcmp(head, "PE\0\0", 4) != 0) {
		return 0; /* a DOS program */
	}
	uki->is_pe = true;
	uki->machine = load_le16(head + 4);
	count = load_le16(head + 6);
	if (count > SECTIONS_MAX) {
		return source_error(src, e, "its PE header announces %u sections, %d are the most",
				    count, SECTIONS_MAX);
	}
	at = pe + PE_HEADER_SIZE + load_le16(head + 20);
	for (uint32_t i = 0; r == 0 && i < count; i++, at += SECTION_SIZE) {
		r = source_read(src, at, section, sizeof(section), e);
		if (r == 0 && has_name(section, ".profile")) {
			break;
		}
		r = r == 0 ? note_section(src, section, uki, e) : r;
	}
	if (r == 0 && uki->has_kernel && uki->machine != PE_MACHINE_X64) {
		source_error(src, e,
			     "this is a unified kernel image for another architecture (PE "
			     "machine 0x%04x)",
			     uki->machine);
		r = error_hint(e, "a kernel for x86-64 is needed");
	}
	return r;
}

int uki_read_cmdline(const struct source *src, const struct uki *uki, char **ret, struct error *e)
{
	char *text;
	size_t len;
	int r;

	if (uki->cmdline.size > CMDLINE_MAX) {
		return source_error(src, e, "its command line has %" PRIu64 " bytes, more than %lu",
				    uki->cmdline.size, CMDLINE_MAX);
	}
	text = calloc(1, uki->cmdline.size + 1);
	if (text == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "kernel '%s': no memory", src->path);
	}
	r = source_read(src, uki->cmdline.offset, text, uki->cmdline.size, e);
	if (r != 0) {
		free(text);
		return r;
	}
	/* Up to the first NUL; whatever separates words, as people write them, is a blank. */
	len = strlen(text);
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)text[i] <= ' ' || text[i] == 0x7f) {
			text[i] = ' ';
		}
	}
	while (len != 0 && text[len - 1] == ' ') {
		text[--len] = '\0';
	}
	*ret = text;
	return 0;
}
