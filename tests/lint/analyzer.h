/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Included first when clang-tidy reads a source: the analyzer sees one file at a time and cannot
 * know that the functions of vmm/error.h never return success.
 */
#ifndef VMM_TESTS_LINT_ANALYZER_H
#define VMM_TESTS_LINT_ANALYZER_H

#include "vmm/error.h"

#define LINT_NEGATIVE(call)                      \
	({                                       \
		int lint_r_ = (call);            \
		if (lint_r_ >= 0) {              \
			__builtin_unreachable(); \
		}                                \
		lint_r_;                         \
	})
#define error_set(...)	   LINT_NEGATIVE(error_set(__VA_ARGS__))
#define error_set_sys(...) LINT_NEGATIVE(error_set_sys(__VA_ARGS__))
#define error_prefix(...)  LINT_NEGATIVE(error_prefix(__VA_ARGS__))
#define error_hint(...)	   LINT_NEGATIVE(error_hint(__VA_ARGS__))

#endif
