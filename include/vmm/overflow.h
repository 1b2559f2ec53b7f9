/* SPDX-License-Identifier: Apache-2.0 */
/* Checked arithmetic for values that a guest, a file or a peer controls. True means overflow: the
 * result is not to be used. */
#ifndef VMM_OVERFLOW_H
#define VMM_OVERFLOW_H

#include "vmm/types.h"

static inline bool __must_use add_overflow(uint64_t a, uint64_t b, uint64_t *ret)
{
	return __builtin_add_overflow(a, b, ret);
}

static inline bool __must_use mul_overflow(uint64_t a, uint64_t b, uint64_t *ret)
{
	return __builtin_mul_overflow(a, b, ret);
}

/* True if [offset, offset + len) lies within [0, size). An empty range at `size` is inside. */
static inline bool range_within(uint64_t offset, uint64_t len, uint64_t size)
{
	return offset <= size && len <= size - offset;
}

/* True if [a, a + a_len) and [b, b + b_len) share a byte; neither range may wrap. */
static inline bool ranges_overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a_len != 0 && b_len != 0 && a < b + b_len && b < a + a_len;
}

#endif
