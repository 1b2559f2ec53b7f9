/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads a kernel, an initrd and a command line into guest RAM and says how the boot vCPU starts.
 * Knows file formats and the layout of platform.h, not KVM.
 *
 * Formats: Linux/x86 bzImage by the 64-bit boot protocol (Documentation/arch/x86/boot.rst), ELF64
 * vmlinux by PVH when it has the Xen PHYS32_ENTRY note
 * (xen/include/public/arch-x86/hvm/start_info.h), else by its 64-bit entry with boot_params in
 * %rsi. A bzImage packed with lz4 is unpacked here and started by the 64-bit entry of the ELF file
 * in it, with the image's own setup header in boot_params: that is faster than the guest's
 * decompressor. Such a kernel runs at its link address, so KASLR is off, as it is for every
 * vmlinux; other packings (gzip, bzip2, lzma, xz, lzo, zstd) unpack in the guest, KASLR included.
 *
 * Limits: a bzImage loads at its pref_address only, and its header says how long the command line
 * may be. An ELF file does not say it: up to PLATFORM_CMDLINE_MAX - 1 characters are handed over,
 * of which Linux on x86 keeps the first 2047.
 *
 * System calls, also at a machine reset: pread64, fstat, lseek (block devices), and malloc's brk,
 * mmap and munmap.
 *
 * Files are hostile: every offset, count and size is checked against the file, RAM, the hole, and
 * the other loaded pieces. Files are opened once by the caller; the loader reads at offsets
 * (pread), never maps, and survives a file that shrinks. Errors name the file, what is wrong with
 * it, and the cure ("this is an arm64 Image", "qcow2", "a directory", "truncated at ...").
 */
#ifndef VMM_LOADER_H
#define VMM_LOADER_H

#include "vmm/error.h"
#include "vmm/guest_memory.h"
#include "vmm/types.h"

enum boot_protocol {
	BOOT_LINUX64, /* long mode, identity paging, boot_params in %rsi: boot.rst "64-bit boot
			 protocol" */
	BOOT_PVH,     /* 32-bit protected mode without paging, start_info in %ebx */
};

/* Whether a kernel has something, as far as its image tells. */
enum loader_answer { LOADER_UNKNOWN = 0, LOADER_NO, LOADER_YES };

struct boot_entry {
	enum boot_protocol protocol;
	gpa_t entry;	   /* %rip / %eip */
	gpa_t info;	   /* boot_params (%rsi) or hvm_start_info (%ebx) */
	gpa_t page_tables; /* %cr3, BOOT_LINUX64 only: the loader has written them and the GDT */
	gpa_t gdt;
	uint16_t gdt_limit;
	/* What the image says; both UNKNOWN if the guest unpacks it itself. */
	enum loader_answer reads_acpi;
	enum loader_answer
		knows_device_words; /* built in; a module may know them where this is NO */
	bool is_linux;		    /* seen; for images that are not packed */
	/* The guest gets along without ACPI: because it does not read it, or is told not to. Then it
	 * needs an MP table and a PIT. */
	bool legacy;
	const char *cmdline; /* the request's that the kernel got */
};

struct loader_image {
	const char *path;      /* for messages */
	int fd;		       /* borrowed; -1: none */
	uint64_t offset, size; /* the part of the file that it is; size 0: all behind the offset */
};

#define LOADER_INITRDS_MAX 8

struct loader_request {
	struct loader_image kernel;
	struct loader_image initrds[LOADER_INITRDS_MAX]; /* loaded one behind the other */
	uint32_t initrd_count;
	const char *cmdline; /* complete, from cmdline_build() */
	/* Instead, for a kernel that finds its devices by words of its command line (Linux on x86
	 * with CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES) and not by ACPI; NULL: the same. */
	const char *cmdline_devices;
	bool acpi_off; /* cmdline tells the kernel so */
	gpa_t rsdp;    /* 0: no ACPI */
};

/* Opens a kernel or initrd read-only: regular files and block devices only; names directories,
 * FIFOs, missing files. */
int loader_open(struct loader_image *image, const char *path, enum error_code code,
		struct error *e);
/*
 * Takes apart what contains a kernel, once, before the first load and before the sandbox: a packed
 * file (.gz; .xz and .zst by the programs xz and zstd) is replaced by what is in it; of a unified
 * kernel image the kernel is taken, its initrd stands before the others (sharing the descriptor), and
 * *cmdline gets its command line (free(); NULL: it has none). request->kernel.fd becomes another, or
 * stays. Does nothing for a file that is a kernel itself.
 */
int loader_prepare(struct loader_request *request, char **cmdline, struct error *e);
/* Whether an open file can be a kernel, by its first bytes; what only the load sees is not looked at. */
int loader_check_kernel(const struct loader_image *kernel, struct error *e);

/*
 * Loads everything into freshly zeroed RAM. May be called again for a machine reset
 * (guest_memory_discard() first). Writes the memory map (E820 or PVH memmap) for mem's regions
 * minus the holes of platform.h.
 */
int loader_load(struct guest_memory *mem, const struct loader_request *request,
		struct boot_entry *entry, struct error *e);

/* What the completed command line is made from. */
struct cmdline_request {
	const char *append; /* --cmdline: after our words, so that the user's win */
	const char
		*boot_args; /* of the API: in place of our words, root= excepted, which follows */
	const char *only;   /* --cmdline-only: replaces everything */
	const char *image;  /* of a unified kernel image: after our words, before append */
	bool serial;	    /* console=ttyS0 */
	bool hvc;	    /* console=hvc0 */
	bool pci;	    /* there is a PCI bus: no pci=off */
	bool root_disk;	    /* root=/dev/vda */
	const char *root_partuuid; /* root=PARTUUID=... instead; NULL: not */
	bool root_read_only;
	bool initrd; /* informs about root=: still given when there is a disk */
	bool quiet;
};
/*
 * Writes the command line into `buf` of `size` bytes. ERROR_CMDLINE if it does not fit or
 * `append`, `only` or `root_partuuid` has control characters (names the offset).
 */
int cmdline_build(const struct cmdline_request *request, char *buf, size_t size, struct error *e);
/* True if a kernel with this command line (acpi=off, noapic, ...) needs the timer of old PCs, the
 * 8254, which no table of ours announces. */
bool cmdline_wants_old_timer(const char *cmdline);
/* Adds words to those of the kernel, before the "--" that begins init's. */
int cmdline_insert(const char *cmdline, const char *words, char *buf, size_t size, struct error *e);
/*
 * Words as Linux sees them: between blanks, quotes keep blanks together, what follows a "--" is
 * init's. Removing one takes every occurrence; true if there was any.
 */
bool cmdline_has_word(const char *line, const char *word);
bool cmdline_remove_word(char *line, const char *word);
/* Whether a word begins so. */
bool cmdline_has_prefix(const char *line, const char *prefix);

#endif
