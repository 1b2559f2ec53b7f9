/* SPDX-License-Identifier: Apache-2.0 */
/* What devices of a VM that comes from somewhere are connected to here: --disk ID=PATH, --net ID=tap:NAME (vmm restore, vmm receive). */
#ifndef VMM_SRC_CLI_OVERRIDES_H
#define VMM_SRC_CLI_OVERRIDES_H

#include "vmm/json.h"
#include "vmm/options.h"
#include "vmm/request.h"

struct overrides {
	json_t *disks, *nets; /* as requests have them; NULL: none */
	struct net_fd fds[VM_NETS_MAX];
	char *ids[VM_NETS_MAX]; /* of those */
	uint32_t fd_count;
};
/* The address of a migration, with the whole path of a socket: another process opens it. malloc'ed; NULL with `e`. */
char *overrides_address(const char *address, struct error *e);
extern const struct option_table override_options;
/* Accepts a zeroed one. */
void overrides_finish(struct overrides *overrides);

#endif
