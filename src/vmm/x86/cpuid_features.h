/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which feature bits of CPUID need which others: a bit whose prerequisite is not there must not be
 * there either, or a guest takes it for usable. Private to src/vmm.
 */
#ifndef VMM_SRC_X86_CPUID_FEATURES_H
#define VMM_SRC_X86_CPUID_FEATURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpuid.h"

/* A place of cpuid_feature_leaves[], a register (enum cpuid_register), a bit. */
struct cpuid_feature {
	uint8_t leaf, reg, bit;
};

struct cpuid_prerequisite {
	struct cpuid_feature feature, needs;
};

struct cpuid_feature_leaf {
	uint32_t function, index;
};

extern const struct cpuid_feature_leaf cpuid_feature_leaves[];
extern const size_t cpuid_feature_leaf_count;
/* A feature's own rows come before those that need it, so that one pass in order is enough. */
extern const struct cpuid_prerequisite cpuid_prerequisites[];
extern const size_t cpuid_prerequisite_count;

/* False also where the table has no such leaf. */
bool cpuid_has_feature(const struct cpuid *cpuid, struct cpuid_feature feature);
/* Clears each feature that lacks something that it needs, directly or not. */
void cpuid_clear_unusable(struct cpuid *cpuid);

#endif
