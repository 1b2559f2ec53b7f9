// SPDX-License-Identifier: Apache-2.0
/* See boot_guard.h. The words are Linux's (kernel/panic.c, init/do_mounts.c, init/main.c) and those of
 * Debian's initramfs-tools; text is the guest's, looked at with bounds. */
#include "boot_guard.h"

#include <errno.h>
#include <string.h>

#include "vmm/log.h"

LOG_DOMAIN("run");

#define LINE_SHOWN 160
#define NS_PER_S   1000000000.0

static const char *find(const char *said, size_t len, const char *word)
{
	return memmem(said, len, word, strlen(word));
}

/* Where the words of a death are; NULL: this was none. */
static const char *find_death(const char *said, size_t len)
{
	static const char *const words[] = { "Kernel panic - not syncing",
					     "Rebooting automatically due to panic=" };
	const char *found = NULL;

	for (size_t i = 0; found == NULL && i < ARRAY_SIZE(words); i++) {
		found = find(said, len, words[i]);
	}
	return found;
}

static void add_cure(const char *said, size_t len, const struct boot_facts *facts,
		     struct error *why)
{
	bool root = find(said, len, "Unable to mount root") != NULL ||
		    find(said, len, "Cannot open root device") != NULL ||
		    find(said, len, "Gave up waiting for root") != NULL;
	bool init = find(said, len, "No working init found") != NULL ||
		    find(said, len, "No init found") != NULL ||
		    find(said, len, "Requested init") != NULL;

	if (root && facts->pci_unseen && facts->disks != 0) {
		(void)error_hint(why, "no root was found, and the kernel has not looked for PCI, "
				      "where the disks are: --transport mmio");
	} else if (root && !facts->initrd) {
		(void)error_hint(why,
				 "no root was found and there is no initrd, which has a stock "
				 "kernel's disk drivers: --initrd FILE%s",
				 facts->disks == 0 ? ", and --disk IMAGE for the root" : "");
	} else if (root) {
		(void)error_hint(why, "no root was found: %s",
				 facts->disks == 0 ? "--disk IMAGE gives it one"
						   : "does the disk hold one that root= names?");
	} else if (init) {
		(void)error_hint(why,
				 "the root has no program for init= to run: is it a whole one, "
				 "of this architecture?");
	} else {
		(void)error_hint(why, "the console has the rest; --on-reboot restart goes on, exit "
				      "ends the VM at the first reset");
	}
}

static void explain(const struct boot_guard *guard, const char *said, size_t len, const char *death,
		    const struct boot_facts *facts, uint64_t now_ns, struct error *why)
{
	size_t left = len - (size_t)(death - said);
	size_t line = 0;

	while (line < MIN(left, (size_t)LINE_SHOWN) && death[line] != '\n' && death[line] != '\r' &&
	       death[line] != '\0') {
		line++;
	}
	(void)error_set(
		why, ERROR_CONFIG, ELOOP,
		"the guest restarts in a loop: %u times in %.1f s, each time after \"%.*s\"",
		guard->deaths, (double)(now_ns - guard->first_ns) / NS_PER_S, (int)line, death);
	add_cure(said, len, facts, why);
}

static void note_quick(struct boot_guard *guard, uint64_t now_ns)
{
	if (now_ns - guard->quick_from_ns > BOOT_GUARD_QUICK_NS) {
		guard->quick_from_ns = now_ns;
		guard->quick = 0;
	}
	if (++guard->quick == BOOT_GUARD_QUICK && !guard->quick_said) {
		guard->quick_said = true;
		log_warn(
			"the guest has reset %u times within %.1f s, and goes on; --on-reboot exit "
			"ends the VM at the first reset",
			guard->quick, (double)(now_ns - guard->quick_from_ns) / NS_PER_S);
	}
}

void boot_guard_init(struct boot_guard *guard, uint64_t now_ns)
{
	*guard = (struct boot_guard){ .born_ns = now_ns, .quick_from_ns = now_ns };
}

bool boot_guard_may_restart(struct boot_guard *guard, const char *said, size_t len,
			    const struct boot_facts *facts, uint64_t now_ns, struct error *why)
{
	bool early = now_ns - guard->born_ns <= BOOT_GUARD_LIFE_NS;
	const char *death = early ? find_death(said, len) : NULL;

	if (death == NULL) {
		guard->deaths = 0;
		note_quick(guard, now_ns);
	} else {
		if (guard->deaths++ == 0) {
			guard->first_ns = guard->born_ns;
		}
		if (guard->deaths >= BOOT_GUARD_DEATHS) {
			explain(guard, said, len, death, facts, now_ns, why);
			return false;
		}
	}
	guard->born_ns = now_ns;
	return true;
}
