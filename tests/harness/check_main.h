/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A unit test program in a few lines, on top of libcheck:
 *
 *	#include "harness/check_main.h"
 *
 *	START_TEST(test_reset)
 *	{
 *		ck_assert_uint_eq(...);
 *	}
 *	END_TEST
 *
 *	static const struct row rows[] = { ... };
 *	START_TEST(test_rows)			runs once per row, with the index in _i
 *	{
 *		const struct row *row = &rows[_i];
 *		...
 *	}
 *	END_TEST
 *
 *	CHECK_MAIN("serial",
 *		   CHECK_FIXTURE(setup, teardown);	optional: applies to the whole file, setup or teardown may be NULL
 *		   CHECK_TEST(test_reset);
 *		   CHECK_TABLE(test_rows, rows))
 *
 * The environment steers it as libcheck documents: CK_TAP_LOG_FILE_NAME=- prints TAP (meson does that), CK_FORK=no runs in one
 * process (debuggers, sanitizers), CK_RUN_CASE, CK_DEFAULT_TIMEOUT. The timeout is generous unless given: it only ends hangs.
 */
#ifndef VMM_TESTS_CHECK_MAIN_H
#define VMM_TESTS_CHECK_MAIN_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/error.h"
#include "vmm/types.h"

#define CHECK_TIMEOUT_SECONDS 300

/* A sanitizer's own system calls are refused in the sandbox, and its memory is no measure. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define CHECK_TEST(test)	tcase_add_test(check_tcase_, test)
#define CHECK_TABLE(test, rows) tcase_add_loop_test(check_tcase_, test, 0, (int)ARRAY_SIZE(rows))
/* Runs the test with _i = 0 ... count - 1. */
#define CHECK_LOOP(test, count)	       tcase_add_loop_test(check_tcase_, test, 0, (int)(count))
#define CHECK_FIXTURE(setup, teardown) tcase_add_checked_fixture(check_tcase_, setup, teardown)

/* Leaves the test: it cannot run on this machine. Only inside START_TEST. */
#define CHECK_SKIP(why)                                              \
	do {                                                         \
		fprintf(stderr, "# SKIP %s: %s\n", __func__, (why)); \
		return;                                              \
	} while (0)

/* The call failed with this code, and message or hint contain `text`. */
#define check_error(e, code_, text)                                                           \
	do {                                                                                  \
		const struct error *check_e_ = (e);                                           \
		ck_assert_msg(check_e_->code == (code_), "code %s, expected %s; message: %s", \
			      error_code_name(check_e_->code), error_code_name(code_),        \
			      check_e_->msg);                                                 \
		ck_assert_msg(strstr(check_e_->msg, (text)) != NULL ||                        \
				      strstr(check_e_->hint, (text)) != NULL,                 \
			      "no '%s' in message '%s', hint '%s'", (text), check_e_->msg,    \
			      check_e_->hint);                                                \
	} while (0)

/* The call succeeded; shows the error if it did not. */
#define check_ok(call, e)                                                              \
	do {                                                                           \
		int check_r_ = (call);                                                 \
		ck_assert_msg(check_r_ == 0, "%s: %d: %s", #call, check_r_, (e)->msg); \
	} while (0)

#define CHECK_MAIN(name, ...)                                                                 \
	int main(void)                                                                        \
	{                                                                                     \
		Suite *check_suite_ = suite_create(name);                                     \
		TCase *check_tcase_ = tcase_create(name);                                     \
		SRunner *check_runner_ = srunner_create(check_suite_);                        \
		int check_failed_;                                                            \
                                                                                              \
		if (getenv("CK_DEFAULT_TIMEOUT") == NULL) {                                   \
			tcase_set_timeout(check_tcase_, CHECK_TIMEOUT_SECONDS);               \
		}                                                                             \
		__VA_ARGS__;                                                                  \
		suite_add_tcase(check_suite_, check_tcase_);                                  \
		srunner_run_all(check_runner_,                                                \
				getenv("CK_TAP_LOG_FILE_NAME") == NULL ? CK_ENV : CK_SILENT); \
		check_failed_ = srunner_ntests_failed(check_runner_);                         \
		srunner_free(check_runner_);                                                  \
		return check_failed_ == 0 ? EXIT_SUCCESS : EXIT_FAILURE;                      \
	}

#endif
