// SPDX-License-Identifier: Apache-2.0
/*
 * Guest RAM as KVM memory slots: slot n is region n of struct guest_memory. KVM is only a listener
 * on that list; nothing else registers memory. Main thread, before the irqchip exists. The guest
 * controls nothing here.
 */
#include "kvm.h"

int memslots_register(struct kvm *kvm, const struct guest_memory *mem, struct error *e)
{
	for (uint32_t i = 0; i < mem->region_count; i++) {
		const struct guest_memory_region *region = &mem->regions[i];
		struct kvm_userspace_memory_region slot = {
			.slot = i,
			.guest_phys_addr = region->gpa,
			.memory_size = region->size,
			.userspace_addr = (uintptr_t)region->host,
		};
		int r = kvm_ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot);

		if (r < 0) {
			return error_set_sys(e, ERROR_KVM, -r,
					     "KVM_SET_USER_MEMORY_REGION of %llu MiB at 0x%llx",
					     (unsigned long long)(region->size >> 20),
					     (unsigned long long)region->gpa);
		}
	}
	return 0;
}
