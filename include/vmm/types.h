/* SPDX-License-Identifier: Apache-2.0 */
/* Vocabulary types and small macros that every room uses. No functions with behaviour, nothing
 * allocated. */
#ifndef VMM_TYPES_H
#define VMM_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A guest physical address. Always comes from a guest or from platform.h: never add to it
 * unchecked. */
typedef uint64_t gpa_t;

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define container_of(ptr, type, member)                                     \
	({                                                                  \
		const __typeof__(((type *)0)->member) *member_ptr_ = (ptr); \
		(type *)((uintptr_t)member_ptr_ - offsetof(type, member));  \
	})

#define MIN(a, b)                                  \
	({                                         \
		__typeof__(a) min_a_ = (a);        \
		__typeof__(b) min_b_ = (b);        \
		min_a_ < min_b_ ? min_a_ : min_b_; \
	})

#define MAX(a, b)                                  \
	({                                         \
		__typeof__(a) max_a_ = (a);        \
		__typeof__(b) max_b_ = (b);        \
		max_a_ > max_b_ ? max_a_ : max_b_; \
	})

/* `alignment` is a power of two; the value must not lie within `alignment` of the type's maximum.
 */
#define ALIGN_UP(v, alignment) \
	(((v) + (__typeof__(v))(alignment)-1) & ~((__typeof__(v))(alignment)-1))
#define ALIGN_DOWN(v, alignment) ((v) & ~((__typeof__(v))(alignment)-1))

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

#define PAGE_SIZE_4K 4096ULL

#define __printf_like(string, first) __attribute__((format(printf, string, first)))
#define __must_use		     __attribute__((warn_unused_result))
#define __cold			     __attribute__((cold))

/*
 * Checks an invariant of our own, in release builds too. Never for anything that a guest, a file or
 * a peer can influence.
 */
#define VMM_BUG_ON(condition)                             \
	do {                                              \
		if (__builtin_expect(!!(condition), 0)) { \
			__builtin_trap();                 \
		}                                         \
	} while (0)

#endif
