/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM handles shared by the files of this room. Private: nothing outside src/vmm sees
 * <linux/kvm.h>.
 */
#ifndef VMM_SRC_KVM_H
#define VMM_SRC_KVM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <sys/ioctl.h>

#include "vmm/error.h"
#include "vmm/guest_memory.h"
#include "vmm/irq.h"
#include "vmm/types.h"

/* memslots.c's. */
struct memslots {
	struct guest_memory_listener listener;
	struct guest_memory *mem; /* borrowed while it listens */
	uint64_t *bitmap;	  /* of one slot's dirty log */
	uint64_t bitmap_words;
	bool chosen, manual; /* the dirty log's protocol */
};

/* A table of them: what needs it, or what is worse without it (NULL: not worth a word). */
struct kvm_capability {
	int number;
	const char *name, *text;
};
struct kvm_capabilities {
	const struct kvm_capability *list;
	size_t count;
};

/* Filled once, then read-only, but for the slots. */
struct kvm {
	int fd;	   /* /dev/kvm */
	int vm_fd; /* one VM per process */
	int vcpu_mmap_size;
	uint32_t optional;	/* bit n: entry n of arch_optional is there */
	uint32_t fpu_size;	/* bytes of what the architecture saves of a vCPU's FPU */
	struct arch_host *host; /* asked in advance (spare.c); owned; NULL: not yet */
	struct memslots slots;
};
static inline bool kvm_has(const struct kvm *kvm, uint32_t optional)
{
	return (kvm->optional >> optional & 1) != 0;
}

/* EINTR-proof ioctl: -errno on failure. */
int kvm_ioctl(int fd, unsigned long request, void *arg);

struct cpu_template;

/* Opens /dev/kvm and checks version and required capabilities, with what a template (NULL: none)
 * adds to these or takes away. ERROR_KVM_UNAVAILABLE with the cure as hint; ERROR_CONFIG for one that
 * the template has added. */
int kvm_open(struct kvm *kvm, const struct cpu_template *cpu, struct error *e);
/* KVM_CREATE_VM and what belongs to it before any vCPU. */
int kvm_create_vm(struct kvm *kvm, struct error *e);
/* Guest memory may still be there: nothing of it is a slot any more. */
void kvm_close(struct kvm *kvm);
/* Says in words what `kvm` cannot do on this host. */
void kvm_describe_missing(const struct kvm *kvm, char *buf, size_t size);

/* Makes KVM a listener of guest memory: slots, and the dirty log. Before the irqchip exists, because
 * KVM waits for a grace period afterwards (measured: 0.1 against 5 ms). */
int memslots_register(struct kvm *kvm, struct guest_memory *mem, struct error *e);
/* Before the VM's descriptor is closed; kvm_close() does it. */
void memslots_unregister(struct kvm *kvm);

struct arch_irqchip;

/* In-kernel interrupt controllers, and lines into them. */
struct irqchip {
	struct kvm *kvm;
	struct irq_line lines[24];
	struct arch_irqchip *arch; /* what the architecture keeps */
};
/* `old_timer`: see arch_irqchip_create(). */
int irqchip_init(struct irqchip *chip, struct kvm *kvm, bool old_timer, struct error *e);
void irqchip_finish(struct irqchip *chip);
/* Edge line with an irqfd: trigger from any thread is one write(2). Devices may share it: asked for
 * again, the same one is given. */
int irqchip_open_edge_line(struct irqchip *chip, uint32_t gsi, struct irq_line **ret,
			   struct error *e);
/* Level line by KVM_IRQ_LINE, for platform devices on vCPU threads and main. */
struct irq_line *irqchip_level_line(struct irqchip *chip, uint32_t gsi);

/* An edge line with an irqfd of its own. */
int irqfd_open(struct kvm *kvm, struct irq_line *line, uint32_t gsi, struct error *e);

int ioeventfd_add(struct kvm *kvm, gpa_t addr, uint32_t len, uint64_t datamatch, int fd,
		  struct error *e);

/*
 * msi.c: message interrupts and doorbells of PCI functions, by KVM's routing table and ioeventfds
 * (vmm/irq.h has the contracts). After the irqchip.
 */
#define MSI_LINES_MAX 1024

struct msi {
	struct msi_controller controller;
	struct doorbells doorbells;
	struct kvm *kvm;
	uint32_t doorbell_len; /* 0: a write of any width */
	pthread_mutex_t lock;  /* the rest; held during KVM_SET_GSI_ROUTING */
	uint64_t used[MSI_LINES_MAX / 64];
	struct msi_message messages[MSI_LINES_MAX]; /* address 0: none */
	bool changed;
	struct kvm_irq_routing *table;
};
/* ERROR_KVM_UNAVAILABLE with the cure if KVM has no routing. */
int msi_init(struct msi *msi, struct kvm *kvm, struct error *e);
/* All lines are closed. Accepts a zeroed one. */
void msi_finish(struct msi *msi);

#endif
