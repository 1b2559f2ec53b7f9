/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory that goes from one process to another by its descriptors: include/vmm/guest_memory.h is the contract.
 *
 * A memfd's pages are the file's: both processes have the same ones, and none is copied. Who takes it over maps it where its own memory
 * was, so whatever knows the host address (KVM's slots, pointers of queues) goes on. Until then it has nothing of the guest's memory,
 * so that nothing which it tries beforehand can harm the guest.
 *
 * The peer controls what the descriptor is of; its length is looked at, so that no access is beyond its end. Nothing is saved.
 */
#include <errno.h>

#include "internal.h"
#include "vmm/cleanup.h"

bool guest_memory_is_passable(struct guest_memory *mem)
{
	const uint32_t count = atomic_load(&mem->region_count);
	SCOPED_LOCK(&mem->freezer_lock);

	if (mem->pager != NULL || mem->freezer != NULL) {
		return false;
	}
	for (uint32_t i = 0; i < count; i++) {
		const struct guest_region *region = &mem->regions[i];

		if (atomic_load(&region->size) != 0 && region->backing != GUEST_MEMORY_MEMFD &&
		    region->backing != GUEST_MEMORY_HUGETLB) {
			return false;
		}
	}
	return true;
}

int guest_region_adopt(struct guest_memory *mem, uint32_t index, enum guest_memory_backing backing,
		       int fd, struct error *e)
{
	struct guest_region *region = &mem->regions[index];
	struct backing_failure failure = { 0 };
	uint64_t size;
	int r;

	VMM_BUG_ON(index >= atomic_load(&mem->region_count) ||
		   (backing != GUEST_MEMORY_MEMFD && backing != GUEST_MEMORY_HUGETLB) ||
		   mem->pager != NULL);
	size = atomic_load(&region->size);
	r = backing_replace(region, backing, fd, &failure);
	if (r < 0) {
		return backing_error(backing, size, &failure, e);
	}
	guest_memory_written(mem, region->host, size);
	return 0;
}
