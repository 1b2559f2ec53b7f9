/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Boot loops: a kernel that panics, restarts by itself and panics again would do so for ever, and a
 * user sees text that flies by. With on_reboot "auto" a guest's reset is followed unless it is the
 * third in a row that ended a short life with the words of a kernel's panic on the console. "restart"
 * follows every one. Other resets that come quickly are said, once, and followed.
 *
 * Main thread. The guest controls the words and when it resets: it can end its own VM, which it can
 * anyway.
 */
#ifndef VMM_SRC_CLI_BOOT_GUARD_H
#define VMM_SRC_CLI_BOOT_GUARD_H

#include "vmm/error.h"
#include "vmm/types.h"

#define BOOT_GUARD_DEATHS 3
/* A life that ends in it is short: an emulated processor takes its time to a panic. */
#define BOOT_GUARD_LIFE_NS 60000000000ULL
/* So often within this time is said. */
#define BOOT_GUARD_QUICK    5
#define BOOT_GUARD_QUICK_NS 10000000000ULL

struct boot_guard {
	uint64_t born_ns;     /* this life of the machine */
	uint64_t first_ns;    /* when the first of the lives in a row began */
	uint64_t output_seen; /* bytes of output that belong to lives before */
	uint32_t deaths;      /* in a row */
	uint64_t quick_from_ns;
	uint32_t quick;
	bool quick_said;
};

/* What a cure depends on. */
struct boot_facts {
	bool initrd;
	uint32_t disks;
	bool pci_unseen; /* its devices are on PCI, and it has not looked there */
};

void boot_guard_init(struct boot_guard *guard, uint64_t now_ns);
/*
 * The guest resets the machine: may it start again? `said` is what it has written to the console in
 * this life, at least the end of it. False: `why` is filled, with the cure.
 */
bool boot_guard_may_restart(struct boot_guard *guard, const char *said, size_t len,
			    const struct boot_facts *facts, uint64_t now_ns, struct error *why);

#endif
