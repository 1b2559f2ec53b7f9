/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a region of guest memory is made of. Each is a mapping of its own, aligned to 2 MiB so that
 * huge pages fit, with inaccessible guards on both sides: a device that runs past its end faults
 * instead of reading our heap. Regions start at multiples of 2 MiB in the guest, so KVM can map huge
 * pages one to one.
 *
 *	| guard 2 MiB | region | guard >= 2 MiB |
 *	              ^ host
 *
 * Zeroes for a machine reset, by backing:
 *
 *	anonymous	the pages are dropped (MADV_DONTNEED)
 *	memfd		which we have made: a hole is punched
 *	hugetlb		cleared: a hole would give up the reservation, and the guest's next access be
 *			a SIGBUS when another process has taken the pages meanwhile
 *	file, shared	cleared: the file is not ours to punch
 *	file, private	anonymous memory is mapped in its place and the file closed: dropping pages
 *			would bring its contents back, and the guest has no more use for them. KVM
 *			notices by its MMU notifier; the address is the same. Other files may lie over parts of
 *			it (guest_region_overlay()), for which the same holds
 *
 * The thread that changes the list; zeroing one range, any. The guest controls nothing here.
 */
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
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/cleanup.h"
#include "vmm/overflow.h"
#include "vmm/platform.h"

#define GUARD HUGE_PAGE
/* Below this, clearing bytes is cheaper than the system call that drops their pages. */
#define ZERO_BY_HOLE_MIN KIB(64)

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
 * Anonymous memory: distributions give it transparent huge pages (always, or where madvise(2)
 * asks), and shared memory none. A stock kernel reaches its first process in half the time with
 * them: 2.7 s against 5.3 s with nested paging in an emulated machine, where each 4 KiB page of a
 * memfd costs an exit.
 */
enum guest_memory_backing backing_choose(void)
{
	return GUEST_MEMORY_ANON;
}

uint64_t backing_unit(enum guest_memory_backing backing)
{
	return backing == GUEST_MEMORY_HUGETLB ? HUGE_PAGE : PAGE_SIZE_4K;
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

int backing_check_size(uint64_t size, enum guest_memory_backing backing, struct error *e)
{
	uint64_t unit = backing_unit(backing);
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

int backing_error(enum guest_memory_backing backing, uint64_t size,
		  const struct backing_failure *failure, struct error *e)
{
	if (backing == GUEST_MEMORY_HUGETLB) {
		return huge_page_error(size, failure->sys, e);
	}
	return error_set_sys(e, failure->sys == ENOMEM ? ERROR_NO_MEMORY : ERROR_INTERNAL,
			     failure->sys, "guest memory of %s: %s", size_text(size).s,
			     failure->what);
}

static int failed(struct backing_failure *failure, const char *what)
{
	*failure = (struct backing_failure){ what, errno };
	return -errno;
}

/* The sealed backing file, or a negative errno. */
static int make_file(enum guest_memory_backing backing, uint64_t size,
		     struct backing_failure *failure)
{
	unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	auto_close int fd = -1;

	if (backing == GUEST_MEMORY_HUGETLB) {
		flags |= MFD_HUGETLB | MFD_HUGE_2MB;
	}
	fd = memfd_create("vmm-ram", flags);
	if (fd < 0) {
		return failed(failure, "memfd_create");
	}
	if (ftruncate(fd, (off_t)size) != 0) {
		return failed(failure, "ftruncate");
	}
	/* A peer that is given the file must not be able to make our accesses fault. */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
		return failed(failure, "seal");
	}
	return take_fd(&fd);
}

/* A page beyond its end would be a SIGBUS at the guest's first access. */
static int check_file(int fd, uint64_t offset, uint64_t size, struct backing_failure *failure)
{
	struct stat st;
	off_t length;

	if (fstat(fd, &st) != 0) {
		return failed(failure, "fstat");
	}
	length = S_ISBLK(st.st_mode) ? lseek(fd, 0, SEEK_END) : st.st_size;
	if (length < 0) {
		return failed(failure, "lseek");
	}
	if (!range_within(offset, size, (uint64_t)length)) {
		errno = ENODATA;
		return failed(failure, "the file is too short");
	}
	return 0;
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

static int map_at(uint8_t *place, uint64_t size, const struct guest_region *region)
{
	bool private = region->fd < 0 || region->backing == GUEST_MEMORY_FILE_PRIVATE;
	int flags = MAP_FIXED;

	flags |= private ? MAP_PRIVATE : MAP_SHARED;
	flags |= region->fd < 0 ? MAP_ANONYMOUS : 0;
	/* Huge pages are promised now: a page that is missing later would be a SIGBUS. */
	flags |= region->backing == GUEST_MEMORY_HUGETLB ? 0 : MAP_NORESERVE;
	if (mmap(place, size, PROT_READ | PROT_WRITE, flags, region->fd, (off_t)region->offset) ==
	    MAP_FAILED) {
		return -errno;
	}
	/* Wishes: a kernel built without them is no reason to fail. */
	(void)madvise(place, size, MADV_DONTDUMP);
	return 0;
}

int backing_map(struct guest_region *region, uint64_t size, struct backing_failure *failure)
{
	auto_close int made = -1;
	uint8_t *place;
	int r;

	if (region->backing >= GUEST_MEMORY_FILE_SHARED) {
		r = check_file(region->fd, region->offset, size, failure);
		if (r < 0) {
			return r;
		}
	} else if (region->backing != GUEST_MEMORY_ANON) {
		made = make_file(region->backing, size, failure);
		if (made < 0) {
			return made;
		}
		region->fd = made;
	}
	place = reserve(size);
	if (place == NULL) {
		return failed(failure, "address space");
	}
	r = map_at(place, size, region);
	if (r < 0) {
		errno = -r;
		r = failed(failure, "mmap");
		(void)munmap(place - GUARD, span(size));
		return r;
	}
	if (region->fd < 0) {
		(void)prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, place, size, "vmm-ram");
	}
	(void)take_fd(&made);
	region->host = place;
	atomic_store_explicit(&region->size, size, memory_order_release);
	return 0;
}

static void set_content(struct guest_region *region, uint64_t *content)
{
	atomic_store(&region->content, content);
	free(region->content_storage);
	region->content_storage = content;
}

void backing_unmap(struct guest_region *region, uint64_t size)
{
	(void)munmap(region->host - GUARD, span(size));
	close_fd(&region->fd);
	set_content(region, NULL);
	region->host = NULL;
}

void backing_use_huge_pages(struct guest_region *region)
{
	if (region->backing != GUEST_MEMORY_HUGETLB) {
		region->huge_pages = true;
		(void)madvise(region->host, region->size, MADV_HUGEPAGE);
	}
}

/* Pages that nobody but the guest and we can miss, and that no pager would bring back. */
static bool can_drop(const struct guest_region *region)
{
	return region->content == NULL && !atomic_load(&region->held) &&
	       (region->backing == GUEST_MEMORY_ANON || region->backing == GUEST_MEMORY_MEMFD);
}

/* Gives whole pages back, which makes them read as zeroes. */
static int drop_pages(const struct guest_region *region, uint8_t *host, uint64_t len)
{
	int r;

	VMM_BUG_ON(!can_drop(region));
	if (region->backing == GUEST_MEMORY_ANON) {
		r = madvise(host, len, MADV_DONTNEED);
	} else {
		r = fallocate(region->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      (off_t)(region->offset + (uint64_t)(host - region->host)),
			      (off_t)len);
	}
	return r == 0 ? 0 : -errno;
}

void backing_zero(struct guest_region *region, uint8_t *host, uint64_t len)
{
	uint64_t at = (uint64_t)(host - region->host);
	uint64_t start = ALIGN_UP(at, PAGE_SIZE_4K);
	uint64_t end = ALIGN_DOWN(at + len, PAGE_SIZE_4K);

	if (len < ZERO_BY_HOLE_MIN || !can_drop(region) ||
	    drop_pages(region, region->host + start, end - start) < 0) {
		memset(host, 0, len);
		return;
	}
	memset(host, 0, (size_t)(start - at));
	memset(region->host + end, 0, (size_t)(at + len - end));
}

/* Anonymous memory in place of a file that was only read. */
static int replace_file(struct guest_region *region)
{
	struct guest_region next = *region;
	int r;

	next.backing = GUEST_MEMORY_ANON;
	next.fd = -1;
	next.offset = 0;
	r = map_at(region->host, region->size, &next);
	if (r < 0) {
		return r;
	}
	close_fd(&region->fd);
	set_content(region, NULL);
	region->backing = GUEST_MEMORY_ANON;
	region->offset = 0;
	if (region->huge_pages) {
		backing_use_huge_pages(region);
	}
	return 0;
}

int backing_discard(struct guest_region *region, struct error *e)
{
	int r = 0;

	if (region->backing != GUEST_MEMORY_FILE_PRIVATE) {
		set_content(region, NULL);
	}
	if (can_drop(region)) {
		r = drop_pages(region, region->host, region->size);
	} else if (region->backing == GUEST_MEMORY_FILE_PRIVATE) {
		r = replace_file(region);
	} else {
		memset(region->host, 0, region->size);
	}
	return r == 0 ? 0
		      : error_set_sys(e, ERROR_INTERNAL, -r, "discard guest memory of %s",
				      size_text(region->size).s);
}

int guest_region_overlay(struct guest_memory *mem, uint32_t index, uint64_t offset, uint64_t len,
			 int fd, uint64_t file_offset, struct error *e)
{
	struct guest_region *region = &mem->regions[index];

	VMM_BUG_ON(index >= mem->region_count || region->backing != GUEST_MEMORY_FILE_PRIVATE ||
		   !range_within(offset, len, region->size));
	if (mmap(region->host + offset, len, PROT_READ | PROT_WRITE,
		 MAP_FIXED | MAP_PRIVATE | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0), fd,
		 (off_t)file_offset) == MAP_FAILED) {
		return error_set_sys(e, errno == ENOMEM ? ERROR_NO_MEMORY : ERROR_INTERNAL, errno,
				     "map %" PRIu64 " bytes over guest memory", len);
	}
	(void)madvise(region->host + offset, len, MADV_DONTDUMP);
	return 0;
}

int backing_replace(struct guest_region *region, enum guest_memory_backing backing, int fd,
		    struct backing_failure *failure)
{
	struct guest_region next = *region;
	int r = check_file(fd, 0, region->size, failure);

	if (r < 0) {
		return r;
	}
	next.backing = backing;
	next.fd = fd;
	next.offset = 0;
	r = map_at(region->host, region->size, &next);
	if (r < 0) {
		errno = -r;
		return failed(failure, "mmap");
	}
	close_fd(&region->fd);
	set_content(region, NULL);
	region->backing = backing;
	region->fd = fd;
	region->offset = 0;
	if (region->huge_pages) {
		backing_use_huge_pages(region);
	}
	return 0;
}

void guest_region_set_content(struct guest_memory *mem, uint32_t index, uint64_t *content)
{
	VMM_BUG_ON(index >= mem->region_count);
	set_content(&mem->regions[index], content);
}

void guest_region_forget_content(struct guest_memory *mem, uint32_t index)
{
	VMM_BUG_ON(index >= mem->region_count);
	atomic_store(&mem->regions[index].content, NULL);
}
