/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM is one mapping, aligned to 2 MiB so that huge pages fit, with inaccessible guards on
 * both sides: a device that runs past the end of RAM faults instead of reading our heap. Guest
 * physical addresses keep their offset within 2 MiB in the mapping (both regions start at
 * multiples), so KVM can map huge pages one to one.
 *
 *	| guard 2 MiB | region 0: below the hole | region 1: from 4 GiB | guard >= 2 MiB |
 *	              ^ map                      ^ map + regions[1].offset
 *
 * Threads: the region list is written by guest_memory_init() only. The guest, KVM and every device
 * thread read and write the bytes at the same time; nothing here orders them. The dirty bitmap is
 * set with atomic OR after the bytes are written and cleared with atomic exchange before they are
 * copied, so a page is copied again rather than missed. Its storage lives until
 * guest_memory_finish(), because a device may be about to set a bit while tracking is switched off.
 *
 * The guest controls addresses and lengths; both are checked against one region. Nothing of this
 * object is saved but the bytes.
 *
 * System calls after guest_memory_init(): fallocate, madvise.
 */
#include "vmm/guest_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/memfd.h>
#include <linux/prctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "vmm/cleanup.h"
#include "vmm/overflow.h"
#include "vmm/platform.h"

#define HUGE_PAGE MIB(2)
#define GUARD	  HUGE_PAGE
/* Below this, clearing bytes is cheaper than the system call that drops their pages. */
#define ZERO_BY_HOLE_MIN KIB(64)
#define BITS_PER_WORD	 64

/* Private to this file: text for messages, "512 MiB" or "1000 bytes". */
struct size_text {
	char s[40];
};

static struct size_text size_text(uint64_t size)
{
	struct size_text t;

	if (size >= GIB(1) && size % MIB(1) == 0) {
		(void)snprintf(t.s, sizeof(t.s), size % GIB(1) == 0 ? "%.0f GiB" : "%.2f GiB",
			       (double)size / (double)GIB(1));
	} else if (size >= MIB(1) && size % KIB(1) == 0) {
		(void)snprintf(t.s, sizeof(t.s), size % MIB(1) == 0 ? "%.0f MiB" : "%.2f MiB",
			       (double)size / (double)MIB(1));
	} else {
		(void)snprintf(t.s, sizeof(t.s), "%" PRIu64 " bytes", size);
	}
	return t;
}

/*
 * What GUEST_MEMORY_AUTO means. Anonymous memory: distributions give it transparent huge pages
 * (always, or where madvise(2) asks), and shared memory none. A stock kernel reaches its first
 * process in half the time with them: 2.7 s against 5.3 s with nested paging in an emulated
 * machine, where each 4 KiB page of a memfd costs an exit.
 */
static enum guest_memory_backing choose_backing(void)
{
	return GUEST_MEMORY_ANON;
}

static uint64_t host_memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES);
	long page_size = sysconf(_SC_PAGESIZE);
	uint64_t size;

	if (pages <= 0 || page_size <= 0 ||
	    mul_overflow((uint64_t)pages, (uint64_t)page_size, &size)) {
		return INT64_MAX;
	}
	return size;
}

static int check_size(uint64_t size, uint64_t unit, struct error *e)
{
	uint64_t host = host_memory();
	uint64_t lower = ALIGN_DOWN(size, unit);

	if (size < PLATFORM_MEMORY_MIN) {
		error_set(e, ERROR_CONFIG, EINVAL, "guest memory of %s is too small",
			  size_text(size).s);
		return error_hint(e, "give at least %s, such as --memory 512M",
				  size_text(PLATFORM_MEMORY_MIN).s);
	}
	if (size > host) {
		error_set(e, ERROR_CONFIG, EINVAL,
			  "guest memory of %s is larger than this host's memory of %s",
			  size_text(size).s, size_text(ALIGN_DOWN(host, MIB(1))).s);
		return error_hint(e, "give less, such as --memory %" PRIu64 "M", host / 2 / MIB(1));
	}
	if (size != lower) {
		error_set(e, ERROR_CONFIG, EINVAL,
			  "guest memory of %" PRIu64 " bytes is not a multiple of %s", size,
			  unit == HUGE_PAGE ? "2 MiB, the size of a huge page" : "4 KiB");
		return error_hint(e, "give %" PRIu64 " or %" PRIu64 " bytes", lower, lower + unit);
	}
	return 0;
}

/* A number from a file of /sys; 0 if there is none. */
static uint64_t read_sys_number(const char *path)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[32];
	ssize_t n;

	if (fd < 0) {
		return 0;
	}
	n = read(fd, text, sizeof(text) - 1);
	if (n <= 0) {
		return 0;
	}
	text[n] = '\0';
	return strtoull(text, NULL, 10);
}

static int huge_page_error(uint64_t size, int sys, struct error *e)
{
	uint64_t total = read_sys_number("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
	uint64_t unused =
		read_sys_number("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
	uint64_t promised =
		read_sys_number("/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages");
	uint64_t need = size / HUGE_PAGE;
	uint64_t available = unused > promised ? unused - promised : 0;

	if (sys != ENOMEM) {
		error_set_sys(e, ERROR_CONFIG, sys, "guest memory on 2 MiB huge pages");
		return error_hint(e, "this host's kernel may lack them: do without hugetlb");
	}
	error_set(e, ERROR_CONFIG, sys,
		  "guest memory of %s needs %" PRIu64 " huge pages: %" PRIu64 " of %" PRIu64
		  " 2 MiB pages are free",
		  size_text(size).s, need, available, total);
	return error_hint(e, "as root: echo %" PRIu64 " > /proc/sys/vm/nr_hugepages",
			  total - available + need);
}

static int backing_error(enum guest_memory_backing backing, uint64_t size, int sys,
			 const char *what, struct error *e)
{
	if (backing == GUEST_MEMORY_HUGETLB) {
		return huge_page_error(size, sys, e);
	}
	return error_set_sys(e, sys == ENOMEM ? ERROR_NO_MEMORY : ERROR_INTERNAL, sys,
			     "guest memory of %s: %s", size_text(size).s, what);
}

/* The sealed backing file, or a negative errno. */
static int open_backing(enum guest_memory_backing backing, uint64_t size, struct error *e)
{
	unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	auto_close int fd = -1;

	if (backing == GUEST_MEMORY_HUGETLB) {
		flags |= MFD_HUGETLB | MFD_HUGE_2MB;
	}
	fd = memfd_create("vmm-ram", flags);
	if (fd < 0) {
		return backing_error(backing, size, errno, "memfd_create", e);
	}
	if (ftruncate(fd, (off_t)size) != 0) {
		return backing_error(backing, size, errno, "ftruncate", e);
	}
	/* A peer that is given the file must not be able to make our accesses fault. */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
		return backing_error(backing, size, errno, "seal", e);
	}
	return take_fd(&fd);
}

/* Length of the address space taken, guards included. */
static uint64_t span(uint64_t size)
{
	return ALIGN_UP(size, HUGE_PAGE) + 2 * GUARD;
}

/* Inaccessible address space with a 2 MiB aligned place for `size` bytes between its guards; NULL
 * and errno on failure. */
static uint8_t *reserve(uint64_t size)
{
	uint64_t want = span(size) + HUGE_PAGE;
	uint8_t *base =
		mmap(NULL, want, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t head, tail;

	if (base == MAP_FAILED) {
		return NULL;
	}
	head = (HUGE_PAGE - ((uintptr_t)base & (HUGE_PAGE - 1))) & (HUGE_PAGE - 1);
	tail = HUGE_PAGE - head;
	if (head != 0) {
		(void)munmap(base, head);
	}
	(void)munmap(base + head + span(size), tail);
	return base + head + GUARD;
}

static int map_backing(uint8_t *place, uint64_t size, enum guest_memory_backing backing, int fd)
{
	int flags = MAP_FIXED;

	flags |= fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
	/* Huge pages are promised now: a page that is missing later would be a SIGBUS. */
	flags |= backing == GUEST_MEMORY_HUGETLB ? 0 : MAP_NORESERVE;
	if (mmap(place, size, PROT_READ | PROT_WRITE, flags, fd, 0) == MAP_FAILED) {
		return -errno;
	}
	/* Wishes: a kernel built without them is no reason to fail. */
	(void)madvise(place, size, MADV_DONTDUMP);
	if (backing == GUEST_MEMORY_ANON) {
		(void)prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, place, size, "vmm-ram");
	}
	return 0;
}

void guest_memory_use_huge_pages(struct guest_memory *mem)
{
	if (mem->backing != GUEST_MEMORY_HUGETLB) {
		(void)madvise(mem->map, mem->size, MADV_HUGEPAGE);
	}
}

static void set_regions(struct guest_memory *mem)
{
	uint64_t low = MIN(mem->size, (uint64_t)PLATFORM_RAM_LOW_END);

	mem->regions[0] = (struct guest_memory_region){ .gpa = 0, .size = low, .host = mem->map };
	mem->region_count = 1;
	if (low < mem->size) {
		mem->regions[1] = (struct guest_memory_region){
			.gpa = PLATFORM_RAM_HIGH_START,
			.size = mem->size - low,
			.host = mem->map + low,
			.offset = low,
		};
		mem->region_count = 2;
	}
}

int guest_memory_init(struct guest_memory *mem, uint64_t size, enum guest_memory_backing backing,
		      struct error *e)
{
	auto_close int fd = -1;
	uint8_t *map;
	int r;

	*mem = (struct guest_memory){ .fd = -1 };
	if (backing == GUEST_MEMORY_AUTO) {
		backing = choose_backing();
	}
	r = check_size(size, backing == GUEST_MEMORY_HUGETLB ? HUGE_PAGE : PAGE_SIZE_4K, e);
	if (r < 0) {
		return r;
	}
	if (backing != GUEST_MEMORY_ANON) {
		fd = open_backing(backing, size, e);
		if (fd < 0) {
			return fd;
		}
	}
	map = reserve(size);
	if (map == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, errno, "guest memory of %s: address space",
				     size_text(size).s);
	}
	r = map_backing(map, size, backing, fd);
	if (r < 0) {
		(void)munmap(map - GUARD, span(size));
		return backing_error(backing, size, -r, "mmap", e);
	}
	mem->fd = take_fd(&fd);
	mem->backing = backing;
	mem->map = map;
	mem->size = size;
	set_regions(mem);
	return 0;
}

void guest_memory_finish(struct guest_memory *mem)
{
	if (mem->map != NULL) {
		(void)munmap(mem->map - GUARD, span(mem->size));
		close_fd(&mem->fd);
		free(mem->dirty_storage);
	}
	*mem = (struct guest_memory){ .fd = -1 };
}

uint8_t *guest_memory_translate(const struct guest_memory *mem, gpa_t gpa, uint64_t len)
{
	for (uint32_t i = 0; i < mem->region_count; i++) {
		const struct guest_memory_region *region = &mem->regions[i];

		if (gpa >= region->gpa && range_within(gpa - region->gpa, len, region->size)) {
			return region->host + (gpa - region->gpa);
		}
	}
	return NULL;
}

bool guest_memory_read(const struct guest_memory *mem, gpa_t gpa, void *buf, size_t len)
{
	const uint8_t *host = guest_memory_translate(mem, gpa, len);

	if (host == NULL) {
		return false;
	}
	if (len != 0) {
		memcpy(buf, host, len);
	}
	return true;
}

bool guest_memory_write(struct guest_memory *mem, gpa_t gpa, const void *buf, size_t len)
{
	uint8_t *host = guest_memory_translate(mem, gpa, len);

	if (host == NULL) {
		return false;
	}
	if (len != 0) {
		memcpy(host, buf, len);
		guest_memory_mark_dirty(mem, host, len);
	}
	return true;
}

/* Gives whole pages back, which makes them read as zeroes. */
static int drop_pages(struct guest_memory *mem, uint8_t *host, uint64_t len)
{
	if (mem->fd >= 0) {
		return fallocate(mem->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 (off_t)(host - mem->map), (off_t)len) == 0
			       ? 0
			       : -errno;
	}
	return madvise(host, len, MADV_DONTNEED) == 0 ? 0 : -errno;
}

/*
 * Pages of hugetlb are cleared and kept: a hole would give up their reservation, and the guest's
 * next access would be a SIGBUS when another process has taken them meanwhile.
 */
static void zero_range(struct guest_memory *mem, uint8_t *host, uint64_t len)
{
	uint64_t start = ALIGN_UP((uint64_t)(host - mem->map), PAGE_SIZE_4K);
	uint64_t end = ALIGN_DOWN((uint64_t)(host - mem->map) + len, PAGE_SIZE_4K);

	if (mem->backing == GUEST_MEMORY_HUGETLB || len < ZERO_BY_HOLE_MIN ||
	    drop_pages(mem, mem->map + start, end - start) < 0) {
		memset(host, 0, len);
		return;
	}
	memset(host, 0, (size_t)(mem->map + start - host));
	memset(mem->map + end, 0, (size_t)(host + len - (mem->map + end)));
}

bool guest_memory_zero(struct guest_memory *mem, gpa_t gpa, uint64_t len)
{
	uint8_t *host = guest_memory_translate(mem, gpa, len);

	if (host == NULL) {
		return false;
	}
	if (len != 0) {
		zero_range(mem, host, len);
		guest_memory_mark_dirty(mem, host, len);
	}
	return true;
}

int guest_memory_discard(struct guest_memory *mem, struct error *e)
{
	int r = 0;

	if (mem->backing == GUEST_MEMORY_HUGETLB) {
		memset(mem->map, 0, mem->size);
	} else {
		r = drop_pages(mem, mem->map, mem->size);
	}
	if (r < 0) {
		return error_set_sys(e, ERROR_INTERNAL, -r, "discard guest memory of %s",
				     size_text(mem->size).s);
	}
	guest_memory_mark_dirty(mem, mem->map, mem->size);
	return 0;
}

void guest_memory_mark_dirty(struct guest_memory *mem, const void *host, uint64_t len)
{
	_Atomic uint64_t *dirty = atomic_load_explicit(&mem->dirty, memory_order_acquire);
	uint64_t offset = (uint64_t)((uintptr_t)host - (uintptr_t)mem->map);
	uint64_t page, last;

	if (dirty == NULL || len == 0) {
		return;
	}
	VMM_BUG_ON(!range_within(offset, len, mem->size));
	page = offset / PAGE_SIZE_4K;
	last = (offset + len - 1) / PAGE_SIZE_4K;
	while (page <= last) {
		uint64_t first_bit = page % BITS_PER_WORD;
		uint64_t bits = MIN(last - page + 1, BITS_PER_WORD - first_bit);
		uint64_t mask = UINT64_MAX >> (BITS_PER_WORD - bits) << first_bit;

		(void)atomic_fetch_or(&dirty[page / BITS_PER_WORD], mask);
		page += bits;
	}
}

static uint64_t dirty_words(uint64_t size)
{
	return ALIGN_UP(size / PAGE_SIZE_4K, BITS_PER_WORD) / BITS_PER_WORD;
}

int guest_memory_dirty_start(struct guest_memory *mem, struct error *e)
{
	uint64_t words = dirty_words(mem->size);
	_Atomic uint64_t *dirty = mem->dirty_storage;

	if (atomic_load(&mem->dirty) != NULL) {
		return error_set(e, ERROR_INTERNAL, EALREADY,
				 "dirty tracking of guest memory is already on");
	}
	if (dirty == NULL) {
		dirty = calloc(words, sizeof(*dirty));
		if (dirty == NULL) {
			return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM,
					     "dirty bitmap of %" PRIu64 " bytes",
					     words * sizeof(uint64_t));
		}
		mem->dirty_storage = dirty;
	} else {
		for (uint64_t i = 0; i < words; i++) {
			atomic_store_explicit(&dirty[i], 0, memory_order_relaxed);
		}
	}
	atomic_store(&mem->dirty, dirty);
	return 0;
}

void guest_memory_dirty_stop(struct guest_memory *mem)
{
	atomic_store(&mem->dirty, NULL);
}

void guest_memory_dirty_harvest(struct guest_memory *mem, uint32_t region, uint64_t *bitmap,
				uint64_t bits)
{
	_Atomic uint64_t *dirty = atomic_load(&mem->dirty);
	uint64_t first, words;

	VMM_BUG_ON(region >= mem->region_count);
	VMM_BUG_ON(bits < mem->regions[region].size / PAGE_SIZE_4K);
	if (dirty == NULL) {
		return;
	}
	/* Region 1 starts at 3 GiB of the backing, so regions never share a word. */
	first = mem->regions[region].offset / PAGE_SIZE_4K / BITS_PER_WORD;
	words = dirty_words(mem->regions[region].size);
	for (uint64_t i = 0; i < words; i++) {
		if (atomic_load_explicit(&dirty[first + i], memory_order_relaxed) != 0) {
			bitmap[i] |= atomic_exchange(&dirty[first + i], 0);
		}
	}
}
