/* SPDX-License-Identifier: Apache-2.0 */
/* What saving and loading (state.c) and the check of the tables (state_table.c) share. */
#ifndef VMM_SRC_STATE_INTERNAL_H
#define VMM_SRC_STATE_INTERNAL_H

#include "vmm/state.h"

#define STATE_DEPTH_MAX	 8
#define STATE_FIELDS_MAX 256 /* of one table */

/* NOLINTBEGIN(bugprone-macro-parentheses): a declared name cannot have them */
#define state_for_each_field(field, desc)                      \
	for (const struct state_field *field = (desc)->fields; \
	     field != (desc)->fields + (desc)->count; field++)
/* NOLINTEND(bugprone-macro-parentheses) */

/* Width of a number in memory and on the wire; 0 for the other kinds. */
size_t state_scalar_width(enum state_kind kind);

#endif
