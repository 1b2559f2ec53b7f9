/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory: a list of regions, each with a place in the guest's physical address space, a
 * backing, a mapping between inaccessible guards, and dirty bits of its own. The only door through
 * which devices and the loader touch guest bytes.
 *
 * The guest can change any byte at any time, also between two reads of ours: copy a structure out
 * once and use the copy. A range is valid only if it lies within one region; a length of 0 is
 * checked like any other (its address must be inside or at the end of a region).
 *
 * Threads: lookups and accesses run on any thread, without a lock. The list, its listeners and
 * tracking change on one thread at a time (vm_create()'s, then main's). A region may be added at any
 * time; it is removed only while no vCPU runs and all devices are quiesced, because pointers into
 * it must not be in use.
 *
 * Dirty pages
 *
 * While a region is tracked, its bits say which pages may differ from what the last collection
 * allowed to copy. What the VMM writes is marked here by whoever gives out the access; what the
 * guest and the kernel write comes from listeners, of which KVM's dirty log is one. The rule for
 * writers:
 *
 *	A page is marked after the bytes have arrived, by the thread that knows that they have.
 *
 * Whoever collects clears a mark first and copies the page afterwards, so a page that is marked
 * late is copied once more, and one that was marked early, only, may be copied before its bytes are
 * there and never again. guest_memory_write(), _zero(), _store16() and _store32() do it by
 * themselves. guest_memory_write_pointer() gives a place for something longer; the range then is in
 * flight until guest_memory_written() has been called for it. For what the kernel writes on our
 * behalf, as io_uring does, that is when it has completed, whether it succeeded or not. A copy of
 * memory is therefore complete only if the last collection came after everything in flight had been
 * waited for: vCPUs parked, devices quiesced.
 *
 * Virtqueues give devices their buffers, and mark all that a device may have written when it gives
 * the chain back (vmm/virtqueue.h).
 */
#ifndef VMM_GUEST_MEMORY_H
#define VMM_GUEST_MEMORY_H

#include <endian.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "vmm/error.h"
#include "vmm/types.h"

/* The machine's RAM takes one or two. */
#define GUEST_MEMORY_REGIONS_MAX 16

enum guest_region_kind {
	GUEST_REGION_RAM = 0, /* what the guest boots with */
	GUEST_REGION_HOTPLUG, /* RAM that came later: not in the memory map that it boots with */
	GUEST_REGION_PMEM,    /* its contents outlive the machine: a reset leaves them alone */
};

enum guest_memory_backing {
	GUEST_MEMORY_AUTO = 0, /* what measures best on this host: see guest_memory.c */
	GUEST_MEMORY_MEMFD,    /* shared memfd "vmm-ram" */
	GUEST_MEMORY_ANON,     /* private anonymous memory: transparent huge pages wherever the host
				  allows them */
	GUEST_MEMORY_HUGETLB,  /* memfd on 2 MiB hugetlb pages; must be reserved on the host */
	/*
	 * A file that somebody gave us, from `offset` on; it is never punched, nor its length
	 * changed. Shared: what the guest writes goes to the file, and a reset clears RAM by
	 * writing zeroes. Private: the file is only read, and a reset puts anonymous memory in its
	 * place.
	 */
	GUEST_MEMORY_FILE_SHARED,
	GUEST_MEMORY_FILE_PRIVATE,
};

/* Read-only for everybody but src/memory. */
struct guest_region {
	gpa_t gpa;	       /* multiple of 2 MiB */
	_Atomic uint64_t size; /* bytes, multiple of 4 KiB; 0: the entry is free */
	uint8_t *host;	       /* where it is mapped here: aligned as gpa is, within 2 MiB */
	/* One bit per 4 KiB; NULL while it is not tracked. */
	_Atomic(_Atomic uint64_t *) dirty;
	void *dirty_storage; /* what `dirty` points to; kept as long as the region, so that tracking
				may stop at any time */
	enum guest_region_kind kind;
	enum guest_memory_backing backing; /* never AUTO */
	int fd;				   /* owned; -1 for anonymous memory */
	uint64_t offset;		   /* of the region in the file */
	/* One bit per 4 KiB; owned. Of a private file: set where it, or what lies over it, may have something
	 * other than zeroes; NULL: the file's own data and holes say it. Of other memory: what a pager has brought
	 * or will bring, as long as the contents are not discarded; NULL: it has none. */
	_Atomic(uint64_t *) content;
	uint64_t *content_storage; /* as long as the region, since somebody may be looking */
	bool huge_pages;	   /* wished for */
	/* A freezer (vmm/freezer.h) hears of writes only: what is to be zero is written, and no page given back. */
	_Atomic bool held;
};

struct guest_memory_listener;
struct pager;
struct freezer;

/* A zeroed object is an empty memory. */
struct guest_memory {
	uint64_t size;		       /* bytes of all regions of RAM */
	_Atomic uint32_t region_count; /* entries that may be in use */
	_Atomic uint32_t tracked;      /* regions that are */
	struct guest_region regions[GUEST_MEMORY_REGIONS_MAX];
	struct guest_memory_listener *listeners;
	/* Brings pages when they are touched (vmm/pager.h); owned; NULL: all are there. */
	struct pager *pager;
	/* Keeps pages as they were (vmm/freezer.h); not owned; NULL: nobody does. Under the lock, which is good zeroed. */
	struct freezer *freezer;
	pthread_mutex_t freezer_lock;
	/* Pages cannot be brought: who uses the memory stops, for what is missing becomes zeroes when this returns. The
	 * pager's thread, once at most; set by the memory's owner before the pager serves. */
	void (*lost)(struct guest_memory *mem, const struct error *why);
};

/*
 * Who follows the list of regions. Functions run on the thread that makes the change; NULL: not
 * interested. An error refuses the change, which is then undone for those that came before.
 */
struct guest_memory_listener {
	/* The region is in the list and mapped, and will be until `removed` returns. `index` is its
	 * entry: the same number is given to another region only after it has been removed. */
	int (*added)(struct guest_memory_listener *listener, uint32_t index,
		     const struct guest_region *region, struct error *e);
	void (*removed)(struct guest_memory_listener *listener, uint32_t index,
			const struct guest_region *region);
	/* What the guest, or whoever the listener stands for, writes from here on is noted. */
	int (*dirty_start)(struct guest_memory_listener *listener, uint32_t index,
			   const struct guest_region *region, struct error *e);
	void (*dirty_stop)(struct guest_memory_listener *listener, uint32_t index,
			   const struct guest_region *region);
	/* Adds the pages noted to `bitmap` (OR) and forgets them: a write that comes after this
	 * function has returned is noted anew. */
	int (*dirty_collect)(struct guest_memory_listener *listener, uint32_t index,
			     const struct guest_region *region, uint64_t *bitmap, struct error *e);
	struct guest_memory_listener *next; /* guest_memory's */
};

/*
 * The machine's RAM: below and above the 3-4 GiB hole. `size` is a multiple of 4 KiB (2 MiB for
 * hugetlb), from PLATFORM_MEMORY_MIN. ERROR_CONFIG names size and host limit.
 */
int guest_memory_init(struct guest_memory *mem, uint64_t size, enum guest_memory_backing backing,
		      struct error *e);
/* Whether its regions of RAM are those of a machine with `size` bytes. */
bool guest_memory_is_ram_of(const struct guest_memory *mem, uint64_t size);
/* Listeners are told of every region. Accepts a zeroed object. */
void guest_memory_finish(struct guest_memory *mem);

struct guest_region_config {
	enum guest_region_kind kind;
	gpa_t gpa;
	uint64_t size;
	enum guest_memory_backing backing;
	int fd;		 /* of FILE_*: belongs to the region on success; as long as it says */
	uint64_t offset; /* in that file, multiple of 4 KiB */
};

/* Adds a region, which must not overlap another. Returns its index, or an error. */
int guest_memory_add(struct guest_memory *mem, const struct guest_region_config *config,
		     struct error *e);
/* No vCPU runs, and devices are quiesced. */
void guest_memory_remove(struct guest_memory *mem, uint32_t index);
/*
 * Puts part of another file over [offset, offset + len) of a region that is a private file: whole
 * pages, privately as well; fd -1: anonymous memory. `fd` is needed during the call only. Before
 * anybody uses the region.
 */
int guest_region_overlay(struct guest_memory *mem, uint32_t index, uint64_t offset, uint64_t len,
			 int fd, uint64_t file_offset, struct error *e);
/* For a region with such parts, or with a pager: which pages have something there. A bit for each page, malloc'ed;
 * belongs to the region from now on. */
void guest_region_set_content(struct guest_memory *mem, uint32_t index, uint64_t *content);

/* Any thread: from now on it is the region's own file that says it. */
void guest_region_forget_content(struct guest_memory *mem, uint32_t index);

/* The listener is told of the regions that are there and of those that come; on failure it is told of the
 * end of those that it accepted, and is not in the list. Not while a region is tracked. */
int guest_memory_listen(struct guest_memory *mem, struct guest_memory_listener *listener,
			struct error *e);
/* It is told of nothing more, not even of the end of regions that are there. Accepts one that does
 * not listen. */
void guest_memory_unlisten(struct guest_memory *mem, struct guest_memory_listener *listener);

/*
 * The host address of [gpa, gpa + len), or NULL if the range is not wholly inside one region. The
 * pointer stays valid for the life of the region.
 */
const uint8_t *guest_memory_read_pointer(const struct guest_memory *mem, gpa_t gpa, uint64_t len);
/* The same to write to; what was written is said to guest_memory_written(). */
static inline uint8_t *guest_memory_write_pointer(struct guest_memory *mem, gpa_t gpa, uint64_t len)
{
	return (uint8_t *)(uintptr_t)guest_memory_read_pointer(mem, gpa, len);
}

void guest_memory_mark(struct guest_memory *mem, const uint8_t *host, uint64_t len);
/* [host, host + len), inside what guest_memory_write_pointer() gave, has been written, or may have
 * been. Costs a load and a branch while nothing is tracked. */
static inline void guest_memory_written(struct guest_memory *mem, const void *host, uint64_t len)
{
	if (__builtin_expect(atomic_load_explicit(&mem->tracked, memory_order_acquire) != 0,
			     false)) {
		guest_memory_mark(mem, host, len);
	}
}

void guest_memory_mark_list(struct guest_memory *mem, const struct iovec *iov, size_t count,
			    uint64_t len);
/* The same for the first `len` bytes of a list of such ranges, or all of it if it is shorter. */
static inline void guest_memory_written_list(struct guest_memory *mem, const struct iovec *iov,
					     size_t count, uint64_t len)
{
	if (__builtin_expect(atomic_load_explicit(&mem->tracked, memory_order_acquire) != 0,
			     false)) {
		guest_memory_mark_list(mem, iov, count, len);
	}
}

/* Little-endian stores of one word to where guest_memory_write_pointer() gave, naturally aligned,
 * for structures that the guest polls. */
static inline void guest_memory_store16(struct guest_memory *mem, uint8_t *host, uint16_t value)
{
	typedef uint16_t word __attribute__((may_alias));

	__atomic_store_n((word *)(void *)host, htole16(value), __ATOMIC_SEQ_CST);
	guest_memory_written(mem, host, sizeof(value));
}

/* Without an order of its own: what follows in the structure says that it is there. */
static inline void guest_memory_store32(struct guest_memory *mem, uint8_t *host, uint32_t value)
{
	typedef uint32_t word __attribute__((may_alias));

	__atomic_store_n((word *)(void *)host, htole32(value), __ATOMIC_RELAXED);
	guest_memory_written(mem, host, sizeof(value));
}

/* Copies; false (and nothing copied) if the range is invalid. */
bool __must_use guest_memory_read(const struct guest_memory *mem, gpa_t gpa, void *buf, size_t len);
bool __must_use guest_memory_write(struct guest_memory *mem, gpa_t gpa, const void *buf,
				   size_t len);
/* Zeroes without touching pages that are still holes where possible. */
bool __must_use guest_memory_zero(struct guest_memory *mem, gpa_t gpa, uint64_t len);
/*
 * Could another process of this host map the same memory, and go on with it? If every region is on a memfd of its own, whose pages nobody
 * brings (vmm/pager.h) or keeps (vmm/freezer.h). On the thread that changes the list.
 */
bool guest_memory_is_passable(struct guest_memory *mem);
/*
 * Puts the memory of another process's region in place of a region's own, which is lost: `fd` is a memfd of that backing (MEMFD or
 * HUGETLB) as large as the region, and belongs to it on success. The host address stays; every page counts as written. No vCPU runs,
 * devices are quiesced. The other process, which may write until then, is not to from then on, or this one not.
 */
int guest_region_adopt(struct guest_memory *mem, uint32_t index, enum guest_memory_backing backing,
		       int fd, struct error *e);
/*
 * Machine reset: RAM reads as zeroes again, and its pages go back to the host where nobody else can
 * notice (the backing says how). PMEM stays as it is. No vCPU runs, devices are quiesced.
 */
int guest_memory_discard(struct guest_memory *mem, struct error *e);

/*
 * From now on pages that are touched for the first time are huge where the host allows it: 512
 * times fewer faults, but clearing one takes 0.1 ms or more. A wish, without result.
 */
void guest_memory_use_huge_pages(struct guest_memory *mem);

/*
 * Tracking of one region, or of all of them, hot-plugged ones not included that come later. After
 * the start every page counts as dirty, since nothing has been copied. KVM's part costs a grace
 * period of some milliseconds for each region.
 *
 * A write that is in flight on another thread at the very start may miss its mark: call each worker
 * once, or quiesce, before the first copy.
 */
int guest_region_dirty_start(struct guest_memory *mem, uint32_t index, struct error *e);
void guest_region_dirty_stop(struct guest_memory *mem, uint32_t index);
int guest_memory_dirty_start(struct guest_memory *mem, struct error *e);
void guest_memory_dirty_stop(struct guest_memory *mem);
/*
 * Moves what is known of a tracked region into `bitmap` (OR; bit n is the region's page n): our own
 * marks and those of all listeners. `bits`, the size of `bitmap`, is a multiple of 64 and covers
 * the region. One thread at a time; nothing is allocated. After an error some bits may be in
 * neither place: start over. Does nothing to a region that is not tracked.
 */
int guest_region_dirty_collect(struct guest_memory *mem, uint32_t index, uint64_t *bitmap,
			       uint64_t bits, struct error *e);

/*
 * Sets the bits in `bitmap` (OR; sizes as above) of the region's pages that may be other than zero:
 * what nobody has touched costs nothing, and is not touched by this either. `pagemap_fd` is this
 * process's /proc/self/pagemap; -1: anonymous memory counts as touched. On memory at rest.
 */
int guest_region_touched(const struct guest_memory *mem, uint32_t index, int pagemap_fd,
			 uint64_t *bitmap, uint64_t bits, struct error *e);
/*
 * The same of the pages that differ from the file of a private one, because they were written since it was mapped; of any
 * other region, and without pagemap, all of them.
 */
int guest_region_changed(const struct guest_memory *mem, uint32_t index, int pagemap_fd,
			 uint64_t *bitmap, uint64_t bits, struct error *e);

/* page.c: of 4 KiB, aligned to 8. Nobody writes it meanwhile. */
bool page_is_zero(const uint8_t *page);
/* Of a page that somebody may be writing: which of both the copy has, of each word, is known to nobody. */
void page_copy_unsteady(uint8_t *to, const uint8_t *from);

#endif
