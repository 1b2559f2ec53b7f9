/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VM that comes from elsewhere may use here. Its configuration is the other side's: files that it names have to be in a folder that the
 * client allows, or be named by the client instead; network cards are always connected to what the client says. Private to src/instance.
 */
#ifndef VMM_INSTANCE_RECEIVE_RULES_H
#define VMM_INSTANCE_RECEIVE_RULES_H

#include "internal.h"

struct receive_rules {
	const char *allow;   /* the folder; NULL: none */
	uint64_t memory_max; /* bytes; 0: what this host can */
	/* What the VM uses has been named by who started it, who is who upgrades it. */
	bool anything;
};

/* `request` has what the client says. */
int receive_rules_check(const struct receive_rules *rules, const struct vm_config *vm,
			const struct snapshot_load_request *request, struct error *e);
/* Disks of the VM are as large as the other side says: {id: bytes}. */
int receive_rules_compare_disks(const json_t *bytes, struct vm *vm, struct error *e);

#endif
