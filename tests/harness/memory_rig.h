/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory of one region and of two: shared by the tests of src/memory. */
#ifndef TESTS_MEMORY_RIG_H
#define TESTS_MEMORY_RIG_H

#include "harness/check_main.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/cleanup.h"
#include "vmm/guest_memory.h"
#include "vmm/overflow.h"
#include "vmm/platform.h"

#define LOW   PLATFORM_RAM_LOW_END
#define HIGH  PLATFORM_RAM_HIGH_START
#define ABOVE MIB(64) /* RAM above the hole in the two-region machine */

static struct guest_memory small, large;
static struct error err;

static inline void setup(void)
{
	check_ok(guest_memory_init(&small, MIB(32), GUEST_MEMORY_MEMFD, &err), &err);
	check_ok(guest_memory_init(&large, LOW + ABOVE, GUEST_MEMORY_ANON, &err), &err);
}

static inline void teardown(void)
{
	guest_memory_finish(&small);
	guest_memory_finish(&large);
}

static inline struct guest_memory *machine(int which)
{
	return which == 0 ? &small : &large;
}

/* What the map says about the bytes right before and after RAM. */
static inline bool guarded(const uint8_t *at)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	bool found = false;

	ck_assert_ptr_nonnull(maps);
	while (fgets(line, sizeof(line), maps) != NULL) {
		unsigned long start, end;
		char access[8];

		if (sscanf(line, "%lx-%lx %7s", &start, &end, access) == 3 &&
		    start <= (uintptr_t)at && (uintptr_t)at < end) {
			found = strcmp(access, "---p") == 0;
		}
	}
	(void)fclose(maps);
	return found;
}

#endif
