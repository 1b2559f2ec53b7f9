/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a kernel that reads this command line leaves the way of booting that this machine
 * announces: hardware-reduced ACPI, whose clocks are kvm-clock, the TSC and the local APIC's timer.
 * With one of these words Linux looks for the parts of an old PC, first of all its timer.
 *
 * Pure. The words are the user's; the guest has no say.
 */
#include "vmm/loader.h"

static const char *const words[] = {
	"acpi=off", "acpi=ht", "acpi=noirq", "noapic", "nolapic", "disableapic", "nosmp",
};

bool cmdline_wants_old_timer(const char *cmdline)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (cmdline_has_word(cmdline, words[i])) {
			return true;
		}
	}
	return false;
}
