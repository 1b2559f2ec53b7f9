/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One load of a fuzzed kernel, with what must hold besides not crashing: an error has a code and a
 * text and leaves the entry alone; success claims only addresses in RAM, and nothing but the
 * loader's own tables lies in the first MiB.
 */
#ifndef VMM_TESTS_FUZZ_KERNEL_H
#define VMM_TESTS_FUZZ_KERNEL_H

#include <asm/bootparam.h>
#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/bytes.h"
#include "vmm/guest_memory.h"
#include "vmm/loader.h"
#include "vmm/platform.h"

#define FUZZ_RAM MIB(32)

static inline void fuzz_require(bool condition)
{
	if (!condition) {
		abort();
	}
}

static inline void fuzz_kernel(const uint8_t *bytes, size_t len)
{
	/* One guest for all runs: what an earlier kernel left in RAM is as good as zeroes. */
	static struct guest_memory mem;
	struct loader_request request = { .kernel = { "fuzz", -1 }, .cmdline = "" };
	struct boot_entry entry = { .entry = UINT64_MAX };
	struct error e = { 0 };
	static int fd = -1;
	const uint8_t *low;
	int r;

	if (mem.size == 0) {
		fuzz_require(guest_memory_init(&mem, FUZZ_RAM, GUEST_MEMORY_ANON, &e) == 0);
		fd = memfd_create("fuzz", MFD_CLOEXEC);
	}
	fuzz_require(ftruncate(fd, 0) == 0 && pwrite(fd, bytes, len, 0) == (ssize_t)len);
	request.kernel.fd = fd;
	r = loader_load(&mem, &request, &entry, &e);
	if (r != 0) {
		fuzz_require(r < 0 && e.code != ERROR_NONE && e.msg[0] != '\0');
		fuzz_require(entry.entry == UINT64_MAX);
		return;
	}
	fuzz_require(guest_memory_read_pointer(&mem, entry.entry, 1) != NULL);
	fuzz_require(entry.entry >= PLATFORM_KERNEL_MIN);
	low = mem.regions[0].host + PLATFORM_CMDLINE;
	fuzz_require(low[0] == 0 &&
		     memcmp(low, low + 1, PLATFORM_KERNEL_MIN - PLATFORM_CMDLINE - 1) == 0);
}

#endif
