/* SPDX-License-Identifier: Apache-2.0 */
/* Bits of CPUID in words, for errors. Private to src/vmm. */
#ifndef VMM_SRC_X86_CPUID_NAMES_H
#define VMM_SRC_X86_CPUID_NAMES_H

#include "vmm/types.h"

/* "avx2, bmi2, 0x7.0 EDX bit 4, 12 more": a list that grows, within its bounds. Zeroed it is empty. */
struct cpuid_list {
	char text[240];
	uint32_t len, count, more;
};

/* Adds each of these bits. `reg` is an enum cpuid_register. */
void cpuid_list_bits(struct cpuid_list *list, uint32_t function, uint32_t index, uint32_t reg,
		     uint32_t bits);
static inline uint32_t cpuid_list_count(const struct cpuid_list *list)
{
	return list->count + list->more;
}
/* The text, complete. */
const char *cpuid_list_text(struct cpuid_list *list);

#endif
