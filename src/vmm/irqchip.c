// SPDX-License-Identifier: Apache-2.0
/*
 * Interrupt lines into KVM's in-kernel interrupt controllers, which the architecture makes. Edge lines
 * are irqfds: a worker triggers one by a single write(2) without entering KVM's ioctl path. Level lines
 * are KVM_IRQ_LINE calls of platform devices, which change rarely.
 *
 * Lines are opened while the machine is built, or changed; any thread triggers them. Nothing is saved:
 * what is pending is in the controllers.
 */
#include <errno.h>
#include <sys/eventfd.h>

#include "arch.h"
#include "vmm/cleanup.h"
#include "vmm/platform.h"

_Static_assert(ARRAY_SIZE(((struct irqchip *)0)->lines) == PLATFORM_GSIS, "one line per GSI");

static void trigger_irqfd(struct irq_line *line)
{
	const uint64_t one = 1;

	/* An eventfd refuses only when 2^64 - 2 triggers are pending: then one is pending anyway.
	 */
	(void)!write(line->fd, &one, sizeof(one));
}

static void set_level_ioctl(struct irq_line *line, bool high)
{
	const struct irqchip *chip = line->owner;
	struct kvm_irq_level level = { .irq = line->gsi, .level = high };

	(void)kvm_ioctl(chip->kvm->vm_fd, KVM_IRQ_LINE, &level);
}

static void pulse_ioctl(struct irq_line *line)
{
	set_level_ioctl(line, true);
	set_level_ioctl(line, false);
}

static const struct irq_ops edge_ops = { .trigger = trigger_irqfd };
static const struct irq_ops level_ops = { .trigger = pulse_ioctl, .set_level = set_level_ioctl };

int irqchip_init(struct irqchip *chip, struct kvm *kvm, bool old_timer, struct error *e)
{
	*chip = (struct irqchip){ .kvm = kvm };
	for (uint32_t gsi = 0; gsi < ARRAY_SIZE(chip->lines); gsi++) {
		chip->lines[gsi] = (struct irq_line){ .gsi = gsi, .fd = -1, .owner = chip };
	}
	return arch_irqchip_create(chip, old_timer, e);
}

void irqchip_finish(struct irqchip *chip)
{
	for (uint32_t gsi = 0; gsi < ARRAY_SIZE(chip->lines); gsi++) {
		/* A zeroed chip has fd 0 here, which is not ours. */
		if (chip->lines[gsi].ops == &edge_ops) {
			close_fd(&chip->lines[gsi].fd);
		}
	}
	arch_irqchip_destroy(chip);
}

int irqfd_open(struct kvm *kvm, struct irq_line *line, uint32_t gsi, struct error *e)
{
	struct kvm_irqfd irqfd = { .gsi = gsi };
	auto_close int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int r;

	if (fd < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "eventfd for interrupt %u", gsi);
	}
	irqfd.fd = (uint32_t)fd;
	r = kvm_ioctl(kvm->vm_fd, KVM_IRQFD, &irqfd);
	if (r < 0) {
		return error_set_sys(e, ERROR_KVM, -r, "KVM_IRQFD for interrupt %u", gsi);
	}
	line->ops = &edge_ops;
	line->gsi = gsi;
	line->fd = take_fd(&fd);
	return 0;
}

int irqchip_open_edge_line(struct irqchip *chip, uint32_t gsi, struct irq_line **ret,
			   struct error *e)
{
	VMM_BUG_ON(gsi >= ARRAY_SIZE(chip->lines) || chip->lines[gsi].ops == &level_ops);
	*ret = &chip->lines[gsi];
	return (*ret)->ops == NULL ? irqfd_open(chip->kvm, *ret, gsi, e) : 0;
}

struct irq_line *irqchip_level_line(struct irqchip *chip, uint32_t gsi)
{
	VMM_BUG_ON(gsi >= ARRAY_SIZE(chip->lines) || chip->lines[gsi].ops != NULL);
	chip->lines[gsi].ops = &level_ops;
	return &chip->lines[gsi];
}

int ioeventfd_add(struct kvm *kvm, gpa_t addr, uint32_t len, uint64_t datamatch, int fd,
		  struct error *e)
{
	struct kvm_ioeventfd doorbell = {
		.datamatch = datamatch,
		.addr = addr,
		.len = len,
		.fd = fd,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
	};
	int r = kvm_ioctl(kvm->vm_fd, KVM_IOEVENTFD, &doorbell);

	if (r < 0) {
		return error_set_sys(e, ERROR_KVM, -r, "KVM_IOEVENTFD at 0x%llx",
				     (unsigned long long)addr);
	}
	return 0;
}
