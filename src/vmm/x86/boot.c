// SPDX-License-Identifier: Apache-2.0
/*
 * What a kernel finds on a PC beside its command line: ACPI tables and the reset vector; and what of
 * the command line this PC cannot do.
 *
 * The machine has no PICs as far as hardware-reduced ACPI is concerned, so a Linux that is told to do
 * without APICs would have no interrupts at all, and stand still without a word.
 *
 * A Linux that is told to do without kvm-clock measures the TSC. On Intel's processors it asks CPUID,
 * elsewhere it measures by the PM timer, and gives up if an exit takes 40 us, as under nested or
 * emulated virtualisation; then it has no clock at all and stands still. So it is told the rate.
 *
 * Runs before the guest, or while it is reset; the guest controls nothing here.
 */
#include <stdio.h>

#include "../arch.h"
#include "reset_vector.h"
#include "vmm/mptable.h"

#define CLOCK_WORD "tsc_early_khz="

const struct arch_word arch_fatal_words[] = {
	{ "noapic", "" },
	{ "nolapic", "" },
	{ "disableapic", "" },
	{ "acpi=noirq", "" },
	{ "pci=noacpi", "" },
	{ "nosmp", "; maxcpus=1 starts one processor" },
	{ "maxcpus=0", "; maxcpus=1 starts one processor" },
	{ NULL, NULL },
};

bool arch_clock_word(const struct vcpu *vcpu, const char *cmdline, char *word, size_t size)
{
	int khz;

	if (cmdline_has_prefix(cmdline, CLOCK_WORD) ||
	    !(cmdline_has_word(cmdline, "no-kvmclock") || cmdline_has_word(cmdline, "nopv"))) {
		return false;
	}
	khz = kvm_ioctl(vcpu->fd, KVM_GET_TSC_KHZ, NULL);
	if (khz <= 0) {
		return false;
	}
	(void)snprintf(word, size, CLOCK_WORD "%d", khz);
	return true;
}

int arch_write_firmware(struct machine *machine, uint32_t vcpus, gpa_t *rsdp, struct error *e)
{
	int r = machine_write_acpi(machine, vcpus, rsdp, e);

	return r == 0 ? reset_vector_write(machine->mem, e) : r;
}

int arch_write_legacy(struct guest_memory *mem, uint32_t vcpus, struct error *e)
{
	return mptable_write(mem, vcpus, e);
}
