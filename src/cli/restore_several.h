/* SPDX-License-Identifier: Apache-2.0 */
/* vmm restore --count: several VMs of one snapshot. Main thread. */
#ifndef VMM_SRC_CLI_RESTORE_SEVERAL_H
#define VMM_SRC_CLI_RESTORE_SEVERAL_H

#include "command.h"
#include "vmm/request.h"

struct restore_several {
	uint32_t count;
	const char *name; /* NULL: not given, which is an error */
	const char *directory;
	const struct snapshot_load_request *load;
	/* The command line as it was given, all of it judged; its operand is `directory`, the same pointer. */
	int argc;
	char *const *argv;
};

/* An exit code; errors are printed. */
int restore_several(const struct restore_several *several);

#endif
