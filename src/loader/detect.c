/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells by its first bytes what a file given as kernel is. Everything that is not a Linux/x86
 * bzImage or an x86-64 ELF file is refused by its own name, because "not a kernel" helps nobody:
 * each row below is a mistake that people make.
 */
#include <elf.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"
#include "vmm/bytes.h"
#include "vmm/overflow.h"

#define HEAD_SIZE   4096
#define HEAD_MIN    64 /* an ELF header; every format below is longer */
#define HDRS_OFFSET 0x202
#define HEADER_END \
	0x250 /* a bzImage whose header ends before payload_length cannot be told from a truncated \
		 one */
#define BOOT_SIGNATURE_OFFSET 510
#define ISO9660_OFFSET	      0x8001

struct magic {
	uint16_t offset;
	uint16_t len;
	const char *bytes;
	const char *what;
	const char *hint;
};

/* Packed files that loader_prepare() takes apart. */
static const struct {
	size_t len;
	const char *bytes;
	enum image_format format;
} packed[] = {
	{ 3, "\x1f\x8b\x08", IMAGE_GZIP },
	{ 6,
	  "\xfd"
	  "7zXZ\0",
	  IMAGE_XZ },
	{ 4, "\x28\xb5\x2f\xfd", IMAGE_ZSTD },
};

#define UNPACK(how) "unpack it first, or use the bzImage as it is: " how
#define MAGIC(offset, bytes, what, hint)                             \
	{                                                            \
		(offset), sizeof(bytes) - 1, (bytes), (what), (hint) \
	}

#define HINT_X86  "a kernel for x86-64 is needed: this machine cannot run another architecture's"
#define HINT_DISK "give it to --disk; --kernel takes a bzImage or vmlinux"
#define HINT_KIND "a kernel is a bzImage (/boot/vmlinuz-*) or an ELF vmlinux"

/* The first that fits counts: specific ones first. */
static const struct magic magics[] = {
	MAGIC(56, "ARM\x64", "an arm64 Image", HINT_X86),
	MAGIC(56, "RSC\x05", "a RISC-V Image", HINT_X86),
	MAGIC(48, "RISCV\0\0\0", "a RISC-V Image", HINT_X86),
	MAGIC(56, "\xcd\x23\x82\x81",
	      "an EFI kernel image without an x86 setup header (LoongArch?)", HINT_X86),
	MAGIC(0x24, "\x18\x28\x6f\x01", "an ARM zImage", HINT_X86),
	MAGIC(4, "zimg", "a compressed EFI kernel (zboot)", HINT_X86),
	MAGIC(0, "BZh", "a bzip2 file", UNPACK("bzip2 -dc FILE > vmlinux")),
	MAGIC(0, "\x04\x22\x4d\x18", "an lz4 file", UNPACK("lz4 -dc FILE > vmlinux")),
	MAGIC(0, "\x02\x21\x4c\x18", "an lz4 file", UNPACK("lz4 -dc FILE > vmlinux")),
	MAGIC(0, "\x5d\0\0", "an lzma file", UNPACK("xz --format=lzma -dc FILE > vmlinux")),
	MAGIC(0, "\x89LZO\0", "an lzop file", UNPACK("lzop -dc FILE > vmlinux")),
	MAGIC(0, "QFI\xfb", "a qcow2 disk image", HINT_DISK),
	MAGIC(0, "KDMV", "a VMDK disk image", HINT_DISK),
	MAGIC(0, "vhdxfile", "a VHDX disk image", HINT_DISK),
	MAGIC(0, "conectix", "a VHD disk image", HINT_DISK),
	MAGIC(64, "\x7f\x10\xda\xbe", "a VDI disk image", HINT_DISK),
	MAGIC(0, "hsqs", "a squashfs file system", HINT_DISK),
	MAGIC(0x438, "\x53\xef", "an ext2/3/4 file system", HINT_DISK),
	MAGIC(0, "070701", "a cpio archive", "an initramfs goes to --initrd"),
	MAGIC(0, "070702", "a cpio archive", "an initramfs goes to --initrd"),
	MAGIC(0, "!<arch>\n", "an ar archive (a .deb package?)",
	      "unpack it with dpkg -x and name boot/vmlinuz-*"),
	MAGIC(0, "\xed\xab\xee\xdb", "an RPM package", "unpack it and name its vmlinuz"),
	MAGIC(0, "\x27\x05\x19\x56", "a U-Boot uImage", HINT_KIND),
	MAGIC(0, "\xd0\x0d\xfe\xed", "a device tree or U-Boot FIT image", HINT_KIND),
	MAGIC(0, "ANDROID!", "an Android boot image", HINT_KIND),
	MAGIC(0, "PK\x03\x04", "a zip archive", HINT_KIND),
	MAGIC(257, "ustar", "a tar archive", HINT_KIND),
	MAGIC(0, "#!", "a script", HINT_KIND),
	MAGIC(0, "MZ", "a program for EFI, Windows or DOS, without a Linux setup header",
	      "a unified kernel image would have a section .linux; a kernel is a bzImage "
	      "(/boot/vmlinuz-*) or an ELF vmlinux"),
};

static const struct {
	uint16_t machine;
	const char *name;
} machines[] = {
	{ EM_386, "32-bit x86, most significant byte first" },
	{ EM_ARM, "32-bit Arm" },
	{ EM_AARCH64, "arm64" },
	{ EM_RISCV, "RISC-V" },
	{ EM_PPC, "PowerPC" },
	{ EM_PPC64, "64-bit PowerPC" },
	{ EM_S390, "s390" },
	{ EM_SPARCV9, "SPARC" },
	{ EM_MIPS, "MIPS" },
	{ EM_IA_64, "Itanium" },
	{ 258 /* LoongArch */, "LoongArch" },
};

struct head {
	uint8_t bytes[HEAD_SIZE];
	size_t len;
};

static bool head_has(const struct head *head, size_t offset, const void *bytes, size_t len)
{
	return range_within(offset, len, head->len) &&
	       memcmp(head->bytes + offset, bytes, len) == 0;
}

static int check_elf(const struct source *src, const struct head *head, struct error *e)
{
	/* In the file's own byte order, which tells much of the other architectures. */
	const uint8_t *p = head->bytes + offsetof(Elf64_Ehdr, e_machine);
	bool big = head->bytes[EI_DATA] == ELFDATA2MSB;
	unsigned int machine = big ? (unsigned int)(p[0] << 8 | p[1]) : load_le16(p);
	char number[32];
	const char *name = number;

	(void)snprintf(number, sizeof(number), "machine %u", machine);
	for (size_t i = 0; i < ARRAY_SIZE(machines); i++) {
		if (machines[i].machine == machine) {
			name = machines[i].name;
		}
	}
	if (machine == EM_386 && !big) {
		source_error(src, e, "this is a 32-bit ELF file for x86");
		return error_hint(e,
				  "a 64-bit kernel is needed: a vmlinux or bzImage; Xen and other "
				  "multiboot kernels are not booted");
	}
	if (machine != EM_X86_64) {
		source_error(src, e, "this is an ELF file for %s", name);
		return error_hint(e, HINT_X86);
	}
	if (head->bytes[EI_CLASS] != ELFCLASS64) {
		source_error(src, e, "this is a 32-bit ELF file");
		return error_hint(e, "use a 64-bit vmlinux");
	}
	if (big || head->bytes[EI_VERSION] != EV_CURRENT) {
		return source_error(src, e, "its ELF header is damaged (byte order %u, version %u)",
				    head->bytes[EI_DATA], head->bytes[EI_VERSION]);
	}
	return 0;
}

static bool all_bytes(const struct head *head, bool (*test)(uint8_t byte))
{
	for (size_t i = 0; i < head->len; i++) {
		if (!test(head->bytes[i])) {
			return false;
		}
	}
	return true;
}

static bool is_zero(uint8_t byte)
{
	return byte == 0;
}

static bool is_text(uint8_t byte)
{
	return (byte >= 0x20 && byte != 0x7f) || (byte >= '\t' && byte <= '\r');
}

static int refuse(const struct source *src, const struct head *head, struct error *e)
{
	char iso[5];

	for (size_t i = 0; i < ARRAY_SIZE(magics); i++) {
		if (head_has(head, magics[i].offset, magics[i].bytes, magics[i].len)) {
			source_error(src, e, "this is %s", magics[i].what);
			return error_hint(e, "%s", magics[i].hint);
		}
	}
	if (src->size >= ISO9660_OFFSET + sizeof(iso) &&
	    source_read(src, ISO9660_OFFSET, iso, sizeof(iso), NULL) == 0 &&
	    memcmp(iso, "CD001", sizeof(iso)) == 0) {
		source_error(src, e, "this is an ISO 9660 image");
		return error_hint(e, HINT_DISK);
	}
	if (head_has(head, BOOT_SIGNATURE_OFFSET, "\x55\xaa", 2)) {
		source_error(src, e,
			     "this is a disk image or a boot sector without a Linux setup header");
		return error_hint(e, HINT_DISK);
	}
	if (all_bytes(head, is_zero)) {
		source_error(src, e, "its first %zu bytes are zero", head->len);
	} else if (all_bytes(head, is_text)) {
		source_error(src, e, "this is a text file");
	} else {
		source_error(src, e,
			     "neither a bzImage nor an ELF file; it begins with %02x %02x %02x %02x"
			     " (a raw image, or packed in an unknown way?)",
			     head->bytes[0], head->bytes[1], head->bytes[2], head->bytes[3]);
		return error_hint(e, HINT_KIND "; a raw image does not say where it is entered: "
					       "make an ELF file of it");
	}
	return error_hint(e, HINT_KIND);
}

int detect_image(const struct source *src, enum image_format *format, struct error *e)
{
	struct head head;
	int r;

	head.len = MIN(src->size, (uint64_t)sizeof(head.bytes));
	r = source_read(src, 0, head.bytes, head.len, e);
	if (r != 0) {
		return r;
	}
	if (head_has(&head, 0, ELFMAG, SELFMAG)) {
		if (head.len < HEAD_MIN) {
			return source_error(src, e, "truncated: an ELF file of %zu bytes",
					    head.len);
		}
		*format = IMAGE_ELF;
		return check_elf(src, &head, e);
	}
	if (head_has(&head, HDRS_OFFSET, "HdrS", 4)) {
		if (head.len < HEADER_END) {
			return source_error(src, e, "truncated: a bzImage of %zu bytes", head.len);
		}
		*format = IMAGE_BZIMAGE;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(packed); i++) {
		if (head_has(&head, 0, packed[i].bytes, packed[i].len)) {
			*format = packed[i].format;
			return 0;
		}
	}
	if (head_has(&head, 0, "MZ", 2)) {
		struct uki uki;

		r = uki_parse(src, &uki, e);
		if (uki.has_kernel || (r != 0 && uki.is_pe)) {
			*format = IMAGE_UKI;
			return r;
		}
	}
	if (head.len < HEAD_MIN && !all_bytes(&head, is_text)) {
		source_error(src, e, "truncated: the file has only %zu bytes", head.len);
		return error_hint(e, HINT_KIND);
	}
	return refuse(src, &head, e);
}

int detect_hint(struct error *e)
{
	return error_hint(e, "--kernel takes a whole bzImage or vmlinux for x86-64");
}
