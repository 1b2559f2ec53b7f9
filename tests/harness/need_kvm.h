/* SPDX-License-Identifier: Apache-2.0 */
/* For tests that boot guests: first in CHECK_MAIN. */
#ifndef TESTS_NEED_KVM_H
#define TESTS_NEED_KVM_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void skip_without_kvm(void)
{
	if (access("/dev/kvm", R_OK | W_OK) != 0) {
		printf("1..0 # SKIP /dev/kvm cannot be opened\n");
		exit(EXIT_SUCCESS);
	}
}

#endif
