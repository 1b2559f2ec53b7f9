/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM handles shared by the files of this room. Private: nothing outside src/vmm sees
 * <linux/kvm.h>.
 */
#ifndef VMM_SRC_KVM_H
#define VMM_SRC_KVM_H

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "vmm/error.h"
#include "vmm/guest_memory.h"
#include "vmm/irq.h"
#include "vmm/types.h"

/* What the guest's machine needs of KVM, and what we can do without. Filled once, then read-only.
 */
struct kvm {
	int fd;	   /* /dev/kvm */
	int vm_fd; /* one VM per process */
	int vcpu_mmap_size;
	uint32_t xsave_size; /* bytes of KVM_GET_XSAVE2, at least 4096 */
	bool has_xsave2, has_xcrs, has_vcpu_events, has_debugregs, has_tsc_deadline;
	bool has_kvmclock_ctrl, has_tsc_control;
};

/* EINTR-proof ioctl: -errno on failure. */
int kvm_ioctl(int fd, unsigned long request, void *arg);

struct cpu_template;

/* Opens /dev/kvm and checks version and required capabilities, with what a template (NULL: none)
 * adds to these or takes away. ERROR_KVM_UNAVAILABLE with the cure as hint; ERROR_CONFIG for one that
 * the template has added. */
int kvm_open(struct kvm *kvm, const struct cpu_template *cpu, struct error *e);
/* KVM_CREATE_VM and what belongs to it before any vCPU. */
int kvm_create_vm(struct kvm *kvm, struct error *e);
void kvm_close(struct kvm *kvm);
/* Says in words what `kvm` cannot do on this host. */
void kvm_describe_missing(const struct kvm *kvm, char *buf, size_t size);

/* Memory slots: before the irqchip exists, because KVM waits for a grace period afterwards
 * (measured: 0.1 against 5 ms). */
int memslots_register(struct kvm *kvm, const struct guest_memory *mem, struct error *e);

/* In-kernel PIC, IOAPIC, LAPICs and, if asked for, PIT. */
struct irqchip {
	struct kvm *kvm;
	struct irq_line lines[24];
	struct kvm_irqchip power_on[3];
	bool has_pit;
	struct kvm_pit_state2 power_on_pit;
};
int irqchip_init(struct irqchip *chip, struct kvm *kvm, bool pit, struct error *e);
/* A PIT where none was asked for; before the sandbox. */
int irqchip_add_pit(struct irqchip *chip, struct error *e);
void irqchip_finish(struct irqchip *chip);
/* Edge line with an irqfd: trigger from any thread is one write(2). Devices may share it: asked for
 * again, the same one is given. */
int irqchip_open_edge_line(struct irqchip *chip, uint32_t gsi, struct irq_line **ret,
			   struct error *e);
/* Level line by KVM_IRQ_LINE, for ISA devices on vCPU threads and main. */
struct irq_line *irqchip_level_line(struct irqchip *chip, uint32_t gsi);
int irqchip_reset(struct irqchip *chip, struct error *e);

int ioeventfd_add(struct kvm *kvm, gpa_t addr, uint32_t len, uint64_t datamatch, int fd,
		  struct error *e);

#endif
