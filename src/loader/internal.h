/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of src/loader share. A load goes: source (the file) -> detect -> elf or an image of
 * the architecture's (the kernel into RAM) -> initrd -> command line -> the architecture's boot data.
 * Nothing is kept between two loads.
 */
#ifndef VMM_LOADER_INTERNAL_H
#define VMM_LOADER_INTERNAL_H

#include "vmm/error.h"
#include "vmm/guest_memory.h"
#include "vmm/loader.h"
#include "vmm/types.h"

/* source.c: an open file, read at offsets. */
struct source {
	int fd;	       /* borrowed */
	uint64_t base; /* of the image in the file; offsets count from there */
	uint64_t size;
	const char *what; /* "kernel" or "initrd" */
	const char *path;
	enum error_code code;
};

int source_init(struct source *src, const struct loader_image *image, const char *what,
		enum error_code code, struct error *e);
/* Reads exactly `len` bytes. Names a file that became shorter meanwhile. */
int source_read(const struct source *src, uint64_t offset, void *buf, uint64_t len,
		struct error *e);
/* Reads straight into guest RAM; [gpa, gpa + len) must have been checked. */
int source_load(const struct source *src, uint64_t offset, struct guest_memory *mem, gpa_t gpa,
		uint64_t len, struct error *e);
/*
 * Writes what is not zero: RAM is fresh, and pages that nothing is written to cost nothing. A
 * vmlinux has its bss in the file, a third of it in a stock kernel.
 */
int memory_write_sparse(struct guest_memory *mem, gpa_t gpa, const uint8_t *data, uint64_t len,
			struct error *e);
/* As source_load(), by way of memory_write_sparse(). */
int source_load_sparse(const struct source *src, uint64_t offset, struct guest_memory *mem,
		       gpa_t gpa, uint64_t len, struct error *e);
/* error_set() with "kernel 'PATH': " in front. */
int source_error(const struct source *src, struct error *e, const char *fmt, ...)
	__printf_like(3, 4) __cold;

/* detect.c */
/* The last four are what loader_prepare() takes apart. */
enum image_format { IMAGE_BZIMAGE, IMAGE_ELF, IMAGE_GZIP, IMAGE_XZ, IMAGE_ZSTD, IMAGE_UKI };

/* Says what the file is, or refuses it with the name of what it is instead and the cure. */
int detect_image(const struct source *src, enum image_format *format, struct error *e);
/* What is wrong with a kernel has been said: the cure, unless whoever found it knew a better one. */
int detect_hint(struct error *e);

#define KERNEL_HEADER_MAX 128

/* A kernel in RAM, as the later steps need it. */
struct kernel {
	enum boot_protocol protocol;
	gpa_t entry;
	gpa_t start, end;     /* occupied while the kernel starts */
	uint64_t cmdline_max; /* characters without the NUL */
	uint64_t initrd_end;  /* no byte of the initrd at or above */
	/* traits.c; the last two only if the first is NO or somebody asks for them */
	enum loader_answer reads_acpi, knows_device_words;
	bool is_linux;
	bool look_for_words; /* asked for */
	/* What the architecture keeps of the image for its boot data; x86: the setup header. */
	bool has_header;
	uint8_t header[KERNEL_HEADER_MAX];
};

/* elf.c */
#define ELF_HEADER_SIZE	 64
#define ELF_SEGMENTS_MAX 64
#define ELF_HEADERS_MAX	 8192 /* the ELF header and the program headers end below this offset */
#define ELF_NOTES_MAX	 65536

struct elf_segment {
	uint64_t offset, filesz; /* in the file */
	gpa_t gpa;
	uint64_t memsz; /* >= filesz, > 0 */
};

struct elf_image {
	uint64_t size; /* of the file */
	gpa_t entry64;
	gpa_t start, end; /* around all segments */
	uint32_t segment_count;
	struct elf_segment segments[ELF_SEGMENTS_MAX]; /* ordered by offset */
	uint32_t note_count;
	struct {
		uint64_t offset, len, align;
	} notes[4];
};

/*
 * Parses `len` bytes from the start of an ELF file of `size` bytes (len is size or ELF_HEADERS_MAX)
 * and checks everything that can be checked without the rest of the file, against `mem` too.
 */
int elf_parse(struct elf_image *elf, const struct source *src, const uint8_t *head, uint64_t len,
	      uint64_t size, const struct guest_memory *mem, struct error *e);
/*
 * The 32-bit PVH entry in `len` bytes of notes: true if XEN_ELFNOTE_PHYS32_ENTRY is there. Safe for
 * any bytes.
 */
bool elf_find_pvh(const uint8_t *notes, uint64_t len, uint64_t align, gpa_t *entry);
/* Chooses the protocol and checks that its entry point lies in a segment. */
int elf_finish(const struct elf_image *elf, const struct source *src, bool has_pvh, gpa_t pvh_entry,
	       struct kernel *kernel, struct error *e);
/* traits.c: looks for what a kernel has in the segments that were loaded. */
void traits_read(const struct guest_memory *mem, const struct elf_image *elf,
		 struct kernel *kernel);
int elf_load(const struct source *src, struct guest_memory *mem, struct kernel *kernel,
	     struct error *e);

/* Takes the unpacked bytes in order. */
struct unpack_sink {
	int (*write)(struct unpack_sink *sink, const uint8_t *data, size_t len, struct error *e);
};

/* lz4.c: unpacks `len` bytes at `offset` of the file. */
int lz4_unpack(const struct source *src, uint64_t offset, uint64_t len, struct unpack_sink *sink,
	       struct error *e);

/* inflate.c: unpacks a gzip file. */
int gzip_unpack(const struct source *src, struct unpack_sink *sink, struct error *e);

/* packed.c: puts what is in a packed file in the place of image->fd; before the sandbox. */
int packed_open(struct loader_image *image, const struct source *src, enum image_format format,
		struct error *e);

/* uki.c */
struct file_part {
	uint64_t offset, size; /* size 0: there is none */
};

struct uki {
	bool is_pe, has_kernel;
	uint16_t machine;
	struct file_part kernel, initrd, cmdline;
};

/* Fails only for a file that is damaged; *uki says how far it came. */
int uki_parse(const struct source *src, struct uki *uki, struct error *e);
/* *ret is a string, without control characters; free(). */
int uki_read_cmdline(const struct source *src, const struct uki *uki, char **ret, struct error *e);

/* initrd.c */
struct initrd {
	gpa_t gpa;
	uint64_t size; /* 0: none */
};

/* One behind the other, each at a multiple of 4 bytes. */
int initrd_load(const struct loader_image *images, uint32_t count, struct guest_memory *mem,
		const struct kernel *kernel, struct initrd *initrd, struct error *e);

/*
 * What each architecture has in a folder of its own, here x86/: its image formats beside ELF, and what
 * a kernel finds in RAM when it starts; fills entry->info and what else the vCPU needs.
 */
int arch_load_image(const struct source *src, enum image_format format, struct guest_memory *mem,
		    struct kernel *kernel, struct error *e);
int arch_write_boot_data(struct guest_memory *mem, const struct kernel *kernel,
			 const struct initrd *initrd, gpa_t rsdp, struct boot_entry *entry,
			 struct error *e);
/* First address beyond the RAM that starts where RAM does. */
gpa_t arch_low_end(const struct guest_memory *mem);

/* cmdline.c: copies the complete command line to where both protocols find it. */
int cmdline_write(struct guest_memory *mem, const struct kernel *kernel, const char *cmdline,
		  struct error *e);

#endif
