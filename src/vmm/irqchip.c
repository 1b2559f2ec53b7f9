// SPDX-License-Identifier: Apache-2.0
/*
 * KVM's in-kernel interrupt controllers, and interrupt lines into them. Edge lines are irqfds: a
 * worker triggers one by a single write(2) without entering KVM's ioctl path. Level lines are
 * KVM_IRQ_LINE calls of the ISA devices, which change rarely.
 *
 * GSIs are wired as KVM wires them by default: 0-15 to PIC and IOAPIC, 16-23 to the IOAPIC alone,
 * each to the pin of its number. The power-on state of PIC, IOAPIC and PIT is read once, and written
 * back on a machine reset.
 *
 * A PIT is made only for a kernel that cannot do without (cmdline_wants_old_timer(), and
 * those that do not read ACPI): nothing
 * announces it, and its period is the guest's to choose, but its interrupts are made by a thread of
 * the host's kernel that no control group of ours accounts for.
 */
#include <errno.h>
#include <sys/eventfd.h>

#include "kvm.h"
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

/*
 * Firmware leaves the two PICs masked. Unmasked and without a vector base, as KVM makes them, they
 * would answer a guest that uses the IOAPIC only with a second interrupt, at an exception's vector.
 */
static int mask_pics(struct irqchip *chip, struct error *e)
{
	for (uint32_t i = KVM_IRQCHIP_PIC_MASTER; i <= KVM_IRQCHIP_PIC_SLAVE; i++) {
		int r;

		chip->power_on[i].chip.pic.imr = 0xff;
		r = kvm_ioctl(chip->kvm->vm_fd, KVM_SET_IRQCHIP, &chip->power_on[i]);
		if (r < 0) {
			return error_set_sys(e, ERROR_KVM, -r, "KVM_SET_IRQCHIP %u", i);
		}
	}
	return 0;
}

int irqchip_add_pit(struct irqchip *chip, struct error *e)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	int r = kvm_ioctl(chip->kvm->vm_fd, KVM_CREATE_PIT2, &pit);

	if (r < 0) {
		return error_set_sys(e, ERROR_KVM, -r, "KVM_CREATE_PIT2");
	}
	r = kvm_ioctl(chip->kvm->vm_fd, KVM_GET_PIT2, &chip->power_on_pit);
	chip->has_pit = r == 0;
	return r < 0 ? error_set_sys(e, ERROR_KVM, -r, "KVM_GET_PIT2") : 0;
}

int irqchip_init(struct irqchip *chip, struct kvm *kvm, bool pit, struct error *e)
{
	int r;

	*chip = (struct irqchip){ .kvm = kvm };
	for (uint32_t gsi = 0; gsi < ARRAY_SIZE(chip->lines); gsi++) {
		chip->lines[gsi] = (struct irq_line){ .gsi = gsi, .fd = -1, .owner = chip };
	}
	r = kvm_ioctl(kvm->vm_fd, KVM_CREATE_IRQCHIP, NULL);
	if (r < 0) {
		return error_set_sys(e, ERROR_KVM, -r, "KVM_CREATE_IRQCHIP");
	}
	if (pit) {
		r = irqchip_add_pit(chip, e);
		if (r < 0) {
			return r;
		}
	}
	for (uint32_t i = 0; i < ARRAY_SIZE(chip->power_on); i++) {
		chip->power_on[i].chip_id = i;
		r = kvm_ioctl(kvm->vm_fd, KVM_GET_IRQCHIP, &chip->power_on[i]);
		if (r < 0) {
			return error_set_sys(e, ERROR_KVM, -r, "KVM_GET_IRQCHIP %u", i);
		}
	}
	return mask_pics(chip, e);
}

void irqchip_finish(struct irqchip *chip)
{
	for (uint32_t gsi = 0; gsi < ARRAY_SIZE(chip->lines); gsi++) {
		/* A zeroed chip has fd 0 here, which is not ours. */
		if (chip->lines[gsi].ops == &edge_ops) {
			close_fd(&chip->lines[gsi].fd);
		}
	}
}

int irqchip_open_edge_line(struct irqchip *chip, uint32_t gsi, struct irq_line **ret,
			   struct error *e)
{
	struct kvm_irqfd irqfd = { .gsi = gsi };
	auto_close int fd = -1;
	int r;

	VMM_BUG_ON(gsi >= ARRAY_SIZE(chip->lines) || chip->lines[gsi].ops == &level_ops);
	if (chip->lines[gsi].ops == &edge_ops) {
		*ret = &chip->lines[gsi];
		return 0;
	}
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "eventfd for interrupt %u", gsi);
	}
	irqfd.fd = (uint32_t)fd;
	r = kvm_ioctl(chip->kvm->vm_fd, KVM_IRQFD, &irqfd);
	if (r < 0) {
		return error_set_sys(e, ERROR_KVM, -r, "KVM_IRQFD for interrupt %u", gsi);
	}
	chip->lines[gsi].ops = &edge_ops;
	chip->lines[gsi].fd = take_fd(&fd);
	*ret = &chip->lines[gsi];
	return 0;
}

struct irq_line *irqchip_level_line(struct irqchip *chip, uint32_t gsi)
{
	VMM_BUG_ON(gsi >= ARRAY_SIZE(chip->lines) || chip->lines[gsi].ops != NULL);
	chip->lines[gsi].ops = &level_ops;
	return &chip->lines[gsi];
}

int irqchip_reset(struct irqchip *chip, struct error *e)
{
	int r;

	for (uint32_t i = 0; i < ARRAY_SIZE(chip->power_on); i++) {
		r = kvm_ioctl(chip->kvm->vm_fd, KVM_SET_IRQCHIP, &chip->power_on[i]);
		if (r < 0) {
			return error_set_sys(e, ERROR_KVM, -r, "KVM_SET_IRQCHIP %u", i);
		}
	}
	if (chip->has_pit) {
		r = kvm_ioctl(chip->kvm->vm_fd, KVM_SET_PIT2, &chip->power_on_pit);
		if (r < 0) {
			return error_set_sys(e, ERROR_KVM, -r, "KVM_SET_PIT2");
		}
	}
	return 0;
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
