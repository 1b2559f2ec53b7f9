/* SPDX-License-Identifier: Apache-2.0 */
/* What every saved-state table has to stand: see check_state_round_trip(). */
#ifndef TESTS_STATE_ROUND_TRIP_H
#define TESTS_STATE_ROUND_TRIP_H

#include "harness/check_main.h"
#include "vmm/state.h"

/*
 * The table is sound; `from` is saved and loaded into `into`, which a fresh init or reset made;
 * both save to the same bytes. Every truncation of the bytes is refused or leaves fields alone, and
 * never harms memory.
 */
static inline void check_state_round_trip(const struct state_desc *desc, const void *from,
					  void *into)
{
	struct state_buf first = { 0 }, second = { 0 };
	struct error e = { 0 };

	check_ok(state_desc_check(desc, &e), &e);
	check_ok(state_save(desc, from, &first, &e), &e);
	ck_assert_uint_gt(first.len, 0);
	for (size_t len = 0; len < first.len; len++) {
		uint8_t *exact = malloc(len + 1);

		ck_assert_ptr_nonnull(exact);
		memcpy(exact, first.data, len);
		(void)state_load(desc, into, exact, len, desc->version, &e);
		free(exact);
	}
	check_ok(state_load(desc, into, first.data, first.len, desc->version, &e), &e);
	check_ok(state_save(desc, into, &second, &e), &e);
	ck_assert_uint_eq(first.len, second.len);
	ck_assert_mem_eq(first.data, second.data, first.len);
	state_buf_finish(&first);
	state_buf_finish(&second);
}

/* A member of a hostile state must be refused by validate(); the message names `text`. */
#define check_state_refused(desc, object, member, value, text)                                  \
	do {                                                                                    \
		__typeof__(*(object)) hostile_ = *(object);                                     \
		struct error refused_ = { 0 };                                                  \
                                                                                                \
		hostile_.member = (value);                                                      \
		ck_assert_msg((desc)->validate((uint8_t *)&hostile_ + (desc)->inside, (object), \
					       &refused_) < 0,                                  \
			      "validate() took " #member " = " #value);                         \
		check_error(&refused_, ERROR_STATE, (text));                                    \
	} while (0)

#endif
