/* SPDX-License-Identifier: Apache-2.0 */
/* How many descriptors this process has open, with a few of the counting itself: for comparison with another count. */
#ifndef TESTS_COUNT_DESCRIPTORS_H
#define TESTS_COUNT_DESCRIPTORS_H

#include <dirent.h>

#include "harness/check_main.h"

static inline int count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	ck_assert_ptr_nonnull(dir);
	while (readdir(dir) != NULL) {
		count++;
	}
	(void)closedir(dir);
	return count;
}

#endif
