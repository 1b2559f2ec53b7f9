/* SPDX-License-Identifier: Apache-2.0 */
/* What was made in advance becomes a VM's (vmm/vm.h, struct vm_spare). */
#ifndef VMM_SRC_SPARE_H
#define VMM_SRC_SPARE_H

#include "kvm.h"
#include "vmm/vm.h"

/* The spare is freed; `kvm` has a VM of KVM without anything in it. */
void spare_take(struct vm_spare *spare, struct kvm *kvm);

#endif
