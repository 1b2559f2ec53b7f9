/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a kernel that reads this command line leaves the way of booting that this machine
 * announces: hardware-reduced ACPI, whose clocks are kvm-clock, the TSC and the local APIC's timer.
 * With one of these words Linux looks for the parts of an old PC, first of all its timer.
 *
 * Pure. The words are the user's; the guest has no say.
 */
#include <string.h>

#include "vmm/loader.h"

static const char *const words[] = {
	"acpi=off", "acpi=ht", "acpi=noirq", "noapic", "nolapic", "disableapic", "nosmp",
};

static bool is_word(const char *text, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strlen(words[i]) == len && memcmp(words[i], text, len) == 0) {
			return true;
		}
	}
	return false;
}

bool cmdline_wants_old_timer(const char *cmdline)
{
	static const char blanks[] = " \t\n\r\v\f";

	for (;;) {
		size_t len;

		cmdline += strspn(cmdline, blanks);
		len = strcspn(cmdline, blanks);
		/* What follows a lone "--" is init's. */
		if (len == 0 || (len == 2 && memcmp(cmdline, "--", 2) == 0)) {
			return false;
		}
		if (is_word(cmdline, len)) {
			return true;
		}
		cmdline += len;
	}
}
