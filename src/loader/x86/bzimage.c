/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linux/x86 bzImage (Documentation/arch/x86/boot.rst). A boot sector and setup code, which we skip,
 * hold the setup header at 0x1f1; the protected-mode part follows at (setup_sects + 1) * 512 and is
 * started by its 64-bit entry, 0x200 bytes into it. It contains a decompressor and the packed
 * kernel, which unpack.c may unpack here instead.
 *
 * It is loaded at pref_address and nowhere else: a relocatable 64-bit kernel that finds itself
 * lower moves up to that address anyway (arch/x86/boot/compressed/head_64.S), so there is nothing
 * to win in a small guest by loading it lower.
 */
#include <inttypes.h>
#include <string.h>

#include "x86.h"
#include "vmm/bytes.h"
#include "vmm/overflow.h"
#include "vmm/platform.h"

#define SETUP_HEADER_OFFSET 0x1f1
#define JUMP_END	    0x202 /* the header ends here plus the second byte of the jump */
#define SECTOR_SIZE	    512ULL
#define SETUP_SECTS_DEFAULT 4
#define ENTRY64_OFFSET	    0x200
#define PARAGRAPH	    16ULL
#define PROTOCOL_2_06	    0x0206 /* cmdline_size */
#define PROTOCOL_2_12	    0x020c /* xloadflags */

/* Copies the header as far as the image says it goes; later fields stay zero. */
static int read_header(struct bzimage *bz, const struct source *src, struct error *e)
{
	uint8_t raw[sizeof(bz->header)] = { 0 };
	uint64_t end;
	int r = source_read(src, SETUP_HEADER_OFFSET, raw, JUMP_END + 6 - SETUP_HEADER_OFFSET, e);

	if (r != 0) {
		return r;
	}
	end = JUMP_END + (uint64_t)raw[0x201 - SETUP_HEADER_OFFSET];
	end = MIN(end, SETUP_HEADER_OFFSET + (uint64_t)sizeof(raw));
	if (end > JUMP_END + 6) {
		r = source_read(src, SETUP_HEADER_OFFSET, raw, end - SETUP_HEADER_OFFSET, e);
	}
	memcpy(&bz->header, raw, sizeof(raw));
	return r;
}

static int check_version(const struct bzimage *bz, const struct source *src, struct error *e)
{
	const struct setup_header *hdr = &bz->header;
	unsigned int version = le16toh(hdr->version);

	if (version < PROTOCOL_2_06) {
		source_error(src, e, "boot protocol %u.%02u is too old, 2.12 is needed",
			     version >> 8, version & 0xff);
		return error_hint(e, "use a kernel of version 3.8 or later");
	}
	if ((hdr->loadflags & LOADED_HIGH) == 0) {
		source_error(src, e, "this is a zImage, which loads below 1 MiB");
		return error_hint(e, "build a bzImage");
	}
	if (version < PROTOCOL_2_12 || (le16toh(hdr->xloadflags) & XLF_KERNEL_64) == 0) {
		source_error(src, e,
			     "32-bit only kernel (boot protocol %u.%02u without a 64-bit entry)",
			     version >> 8, version & 0xff);
		return error_hint(e, "use an x86-64 kernel of version 3.8 or later");
	}
	return 0;
}

static int parse_sizes(struct bzimage *bz, const struct source *src, struct error *e)
{
	const struct setup_header *hdr = &bz->header;
	uint64_t sects = hdr->setup_sects == 0 ? SETUP_SECTS_DEFAULT : hdr->setup_sects;
	uint64_t code_size = le32toh(hdr->syssize) * PARAGRAPH;
	uint64_t payload_offset = le32toh(hdr->payload_offset);
	uint64_t payload_size = le32toh(hdr->payload_length);

	bz->code_offset = (sects + 1) * SECTOR_SIZE;
	/* What follows the code (a signature) is none of our business; up to one paragraph may be
	 * missing to the rounded size. */
	if (code_size > PARAGRAPH && bz->code_offset < src->size &&
	    src->size - bz->code_offset < code_size &&
	    code_size - (src->size - bz->code_offset) < PARAGRAPH) {
		code_size = src->size - bz->code_offset;
	}
	bz->code_size = code_size;
	if (!range_within(bz->code_offset, code_size, src->size)) {
		return source_error(src, e,
				    "truncated: its header promises %" PRIu64
				    " bytes, the file has %" PRIu64,
				    (bz->code_offset + code_size), src->size);
	}
	if (code_size <= ENTRY64_OFFSET) {
		return source_error(src, e, "its code has only %" PRIu64 " bytes (syssize)",
				    code_size);
	}
	bz->payload_size = 0;
	if (payload_offset != 0 && payload_size != 0) {
		if (!range_within(payload_offset, payload_size, code_size)) {
			return source_error(src, e,
					    "its payload (%" PRIu64 " bytes at %" PRIu64
					    ") lies outside its "
					    "code (%" PRIu64 " bytes)",
					    payload_size, payload_offset, code_size);
		}
		bz->payload_offset = bz->code_offset + payload_offset;
		bz->payload_size = payload_size;
	}
	return 0;
}

static int parse_address(struct bzimage *bz, const struct source *src, struct error *e)
{
	const struct setup_header *hdr = &bz->header;
	uint64_t align = le32toh(hdr->kernel_alignment);
	uint64_t load = le64toh(hdr->pref_address);

	if (load == 0) {
		load = PLATFORM_KERNEL_MIN;
	}
	if (hdr->relocatable_kernel != 0) {
		if (align < PAGE_SIZE_4K || align > GIB(1) || (align & (align - 1)) != 0) {
			return source_error(src, e,
					    "kernel_alignment 0x%" PRIx64
					    " is not a power of two from 4 KiB to 1 GiB",
					    align);
		}
		if (load < GIB(4)) {
			load = ALIGN_UP(load, align);
		}
	}
	if (load < PLATFORM_KERNEL_MIN || load >= PLATFORM_RAM_LOW_END) {
		return source_error(src, e,
				    "its load address 0x%" PRIx64
				    " (pref_address) is not in low RAM above 1 MiB",
				    load);
	}
	bz->load = load;
	bz->init_size = MAX((uint64_t)le32toh(hdr->init_size), bz->code_size);
	return 0;
}

int bzimage_parse(struct bzimage *bz, const struct source *src, struct error *e)
{
	struct bzimage b = { 0 };
	int r = read_header(&b, src, e);

	if (r == 0) {
		r = check_version(&b, src, e);
	}
	if (r == 0) {
		r = parse_sizes(&b, src, e);
	}
	if (r == 0) {
		r = parse_address(&b, src, e);
	}
	if (r == 0) {
		*bz = b;
	}
	return r;
}

/* The whole protected-mode part into RAM: the guest unpacks. */
static int load_packed(const struct bzimage *bz, const struct source *src, struct guest_memory *mem,
		       struct kernel *kernel, struct error *e)
{
	uint64_t end = bz->load + bz->init_size;

	if (guest_memory_read_pointer(mem, bz->load, bz->init_size) == NULL) {
		source_error(src, e,
			     "it needs RAM at 0x%" PRIx64 "-0x%" PRIx64
			     " to unpack itself, the guest has 0-0x%" PRIx64,
			     bz->load, end, arch_low_end(mem));
		if (end > PLATFORM_RAM_LOW_END) {
			return error_hint(
				e, "no amount of memory helps: init_size in its header is 0x%x",
				le32toh(bz->header.init_size));
		}
		return error_hint(e, "give the guest more memory: --memory %" PRIu64 "M or more",
				  (ALIGN_UP(end, MIB(1)) >> 20));
	}
	kernel->protocol = BOOT_LINUX64;
	kernel->entry = bz->load + ENTRY64_OFFSET;
	kernel->start = bz->load;
	kernel->end = end;
	return source_load(src, bz->code_offset, mem, bz->load, bz->code_size, e);
}

/*
 * What the kernel's own decompressor knows (Linux scripts/Makefile.lib). It would stop in silence at
 * anything else, before there is a console.
 */
static int check_payload(const struct bzimage *bz, const struct source *src, struct error *e)
{
	static const struct {
		const char *bytes;
		size_t len;
	} magics[] = {
		{ "\x1f\x8b", 2 }, /* gzip */
		{ "BZh", 3 },	   /* bzip2 */
		{ "\x5d\0\0", 3 }, /* lzma */
		{ "\xfd"
		  "7zXZ",
		  4 },			   /* xz */
		{ "\x89LZO", 4 },	   /* lzo */
		{ "\x02\x21\x4c\x18", 4 }, /* lz4, legacy frame */
		{ "\x28\xb5\x2f\xfd", 4 }, /* zstd */
		{ "\x7f"
		  "ELF",
		  4 }, /* not packed */
	};
	uint8_t head[8];
	int r;

	if (bz->payload_size < sizeof(head)) {
		return 0; /* before protocol 2.08, or nothing said about it */
	}
	r = source_read(src, bz->payload_offset, head, sizeof(head), e);
	if (r != 0) {
		return r;
	}
	for (size_t i = 0; i < ARRAY_SIZE(magics); i++) {
		if (memcmp(head, magics[i].bytes, magics[i].len) == 0) {
			return 0;
		}
	}
	(void)source_error(
		src, e,
		"its payload is packed in an unknown way (it begins with %02x %02x %02x %02x)",
		head[0], head[1], head[2], head[3]);
	return error_hint(e, "the file is damaged, or not a Linux kernel: fetch it again");
}

int bzimage_load(const struct source *src, struct guest_memory *mem, struct kernel *kernel,
		 struct error *e)
{
	struct bzimage bz;
	int r = bzimage_parse(&bz, src, e);

	if (r == 0) {
		r = check_payload(&bz, src, e);
	}
	if (r == 0) {
		r = unpack_supported(&bz, src) ? unpack_load(&bz, src, mem, kernel, e)
					       : load_packed(&bz, src, mem, kernel, e);
	}
	if (r == 0) {
		kernel->has_header = true;
		memcpy(kernel->header, &bz.header, sizeof(bz.header));
		kernel->cmdline_max = le32toh(bz.header.cmdline_size);
		/* "The highest safe byte", protocol 2.03. */
		kernel->initrd_end = (uint64_t)le32toh(bz.header.initrd_addr_max) + 1;
	}
	return r;
}
