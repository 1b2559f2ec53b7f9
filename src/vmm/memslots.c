// SPDX-License-Identifier: Apache-2.0
/*
 * Guest memory as KVM memory slots: slot n is region n of struct guest_memory. KVM is only a listener
 * on that list; nothing else registers memory. Each change of a slot that comes after the irqchip
 * makes KVM wait for a grace period (5 ms instead of 0.1), so RAM is registered before it, and the
 * dirty log is a flag that is set only when somebody wants it.
 *
 * The dirty log: KVM_GET_DIRTY_LOG gives a slot's bitmap, and makes the pages in it fault once more
 * when they are written. With KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 the latter is a call of its own
 * (KVM_CLEAR_DIRTY_LOG), by pieces, so that the lock of the guest's page tables is never held for
 * all of it; with its INITIALLY_SET, switching the log on leaves the page tables alone, and the
 * first collection says that everything is dirty, which guest_memory says anyway. Without the
 * capability, of Linux 5.2, one call does both.
 *
 * The thread that changes the list of regions; collection on whatever thread collects, one at a
 * time. The filters allow none of it yet: the role that asks for it at run time lists
 * KVM_SET_USER_MEMORY_REGION, KVM_CHECK_EXTENSION and KVM_ENABLE_CAP to start and stop the log, and
 * KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG to collect. The guest controls which pages it writes.
 */
#include <errno.h>
#include <stdlib.h>

#include "kvm.h"

/* Pages of one KVM_CLEAR_DIRTY_LOG: 256 MiB. A multiple of 64. */
#define CLEAR_PAGES   65536U
#define BITS_PER_WORD 64U

static struct kvm *kvm_of(struct guest_memory_listener *listener)
{
	return container_of(listener, struct kvm, slots.listener);
}

static int set_slot(const struct kvm *kvm, uint32_t index, const struct guest_region *region,
		    uint64_t size, uint32_t flags)
{
	struct kvm_userspace_memory_region slot = {
		.slot = index,
		.flags = flags,
		.guest_phys_addr = region->gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)region->host,
	};

	return kvm_ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot);
}

static int slot_error(const struct guest_region *region, const char *call, int sys, struct error *e)
{
	return error_set_sys(e, ERROR_KVM, sys, "%s of %llu MiB at 0x%llx", call,
			     (unsigned long long)(region->size >> 20),
			     (unsigned long long)region->gpa);
}

static int slot_added(struct guest_memory_listener *listener, uint32_t index,
		      const struct guest_region *region, struct error *e)
{
	int r = set_slot(kvm_of(listener), index, region, region->size, 0);

	return r < 0 ? slot_error(region, "KVM_SET_USER_MEMORY_REGION", -r, e) : 0;
}

static void slot_removed(struct guest_memory_listener *listener, uint32_t index,
			 const struct guest_region *region)
{
	/* Of a slot that is there, with nobody running: it does not fail. */
	(void)set_slot(kvm_of(listener), index, region, 0, 0);
}

/* KVM takes the capability only before any slot has a log. */
static void choose_protocol(struct kvm *kvm)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 };
	const uint64_t wanted = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;
	int offered;

	if (kvm->slots.chosen) {
		return;
	}
	kvm->slots.chosen = true;
	offered = kvm_ioctl(kvm->vm_fd, KVM_CHECK_EXTENSION,
			    (void *)(uintptr_t)KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
	if (offered > 0 && (offered & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) != 0) {
		cap.args[0] = (uint64_t)offered & wanted;
		kvm->slots.manual = kvm_ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &cap) == 0;
	}
}

static uint64_t words_of(const struct guest_region *region)
{
	return ALIGN_UP(region->size / PAGE_SIZE_4K, BITS_PER_WORD) / BITS_PER_WORD;
}

/* Room for the log of any slot, so that collecting needs no memory. */
static int make_room(struct memslots *slots, const struct guest_region *region, struct error *e)
{
	uint64_t words = words_of(region);

	if (words > slots->bitmap_words) {
		uint64_t *bitmap = realloc(slots->bitmap, words * sizeof(*bitmap));

		if (bitmap == NULL) {
			return slot_error(region, "a bitmap for the dirty log", ENOMEM, e);
		}
		slots->bitmap = bitmap;
		slots->bitmap_words = words;
	}
	return 0;
}

static int log_start(struct guest_memory_listener *listener, uint32_t index,
		     const struct guest_region *region, struct error *e)
{
	struct kvm *kvm = kvm_of(listener);
	int r = make_room(&kvm->slots, region, e);

	if (r < 0) {
		return r;
	}
	choose_protocol(kvm);
	r = set_slot(kvm, index, region, region->size, KVM_MEM_LOG_DIRTY_PAGES);
	return r < 0 ? slot_error(region, "the dirty log", -r, e) : 0;
}

static void log_stop(struct guest_memory_listener *listener, uint32_t index,
		     const struct guest_region *region)
{
	/* If it fails, the guest is slower than it could be, and the next start works all the same. */
	(void)set_slot(kvm_of(listener), index, region, region->size, 0);
}

static bool any(const uint64_t *words, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		if (words[i] != 0) {
			return true;
		}
	}
	return false;
}

/* The pages that were found are written with a fault again. */
static int clear_log(const struct kvm *kvm, uint32_t index, const struct guest_region *region)
{
	const uint64_t *bitmap = kvm->slots.bitmap;
	uint64_t pages = region->size / PAGE_SIZE_4K;

	for (uint64_t page = 0; page < pages; page += CLEAR_PAGES) {
		uint64_t count = MIN(pages - page, (uint64_t)CLEAR_PAGES);
		const uint64_t *first = bitmap + page / BITS_PER_WORD;
		struct kvm_clear_dirty_log clear = {
			.slot = index,
			.first_page = page,
			.num_pages = (uint32_t)count,
			.dirty_bitmap = (void *)(uintptr_t)first,
		};
		int r = 0;

		if (any(first, ALIGN_UP(count, BITS_PER_WORD) / BITS_PER_WORD)) {
			r = kvm_ioctl(kvm->vm_fd, KVM_CLEAR_DIRTY_LOG, &clear);
		}
		if (r < 0) {
			return r;
		}
	}
	return 0;
}

static int log_collect(struct guest_memory_listener *listener, uint32_t index,
		       const struct guest_region *region, uint64_t *bitmap, struct error *e)
{
	struct kvm *kvm = kvm_of(listener);
	struct kvm_dirty_log log = { .slot = index, .dirty_bitmap = kvm->slots.bitmap };
	int r = kvm_ioctl(kvm->vm_fd, KVM_GET_DIRTY_LOG, &log);

	if (r < 0) {
		return slot_error(region, "KVM_GET_DIRTY_LOG", -r, e);
	}
	for (uint64_t i = 0; i < words_of(region); i++) {
		bitmap[i] |= kvm->slots.bitmap[i];
	}
	r = kvm->slots.manual ? clear_log(kvm, index, region) : 0;
	return r < 0 ? slot_error(region, "KVM_CLEAR_DIRTY_LOG", -r, e) : 0;
}

int memslots_register(struct kvm *kvm, struct guest_memory *mem, struct error *e)
{
	int r;

	kvm->slots = (struct memslots){
		.listener = {
			.added = slot_added,
			.removed = slot_removed,
			.dirty_start = log_start,
			.dirty_stop = log_stop,
			.dirty_collect = log_collect,
		},
	};
	r = guest_memory_listen(mem, &kvm->slots.listener, e);
	if (r == 0) {
		kvm->slots.mem = mem;
	}
	return r;
}

void memslots_unregister(struct kvm *kvm)
{
	if (kvm->slots.mem != NULL) {
		guest_memory_unlisten(kvm->slots.mem, &kvm->slots.listener);
	}
	free(kvm->slots.bitmap);
	kvm->slots = (struct memslots){ 0 };
}
