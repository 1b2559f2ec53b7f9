/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM in advance, for a process that waits for its VM: /dev/kvm opened and looked at, an empty VM of KVM, and what KVM
 * says of this host's processors, which takes 0.3 to 0.8 ms where each CPUID instruction of KVM is an exit to a hypervisor
 * below. Whatever fails is left for the start, which says why.
 *
 * Any thread; the guest controls nothing here.
 */
#include "spare.h"

#include <stdlib.h>

#include "arch.h"
#include "vmm/cleanup.h"

struct vm_spare {
	struct kvm kvm;
};

struct vm_spare *vm_spare_create(void)
{
	struct vm_spare *spare = calloc(1, sizeof(*spare));
	struct error e = { 0 };

	if (spare == NULL) {
		return NULL;
	}
	if (kvm_open(&spare->kvm, NULL, &e) < 0) {
		free(spare);
		return NULL;
	}
	if (arch_host_read(&spare->kvm, &e) < 0 || kvm_create_vm(&spare->kvm, &e) < 0) {
		vm_spare_destroy(spare);
		return NULL;
	}
	return spare;
}

void vm_spare_destroy(struct vm_spare *spare)
{
	if (spare != NULL) {
		kvm_close(&spare->kvm);
		free(spare);
	}
}

void spare_take(struct vm_spare *spare, struct kvm *kvm)
{
	*kvm = spare->kvm;
	free(spare);
}
