/* SPDX-License-Identifier: Apache-2.0 */
/* What `vmm ps` and `vmm stats` show of a VM, from GET /vm; and how people read figures. */
#ifndef VMM_SRC_CLI_VM_STATUS_H
#define VMM_SRC_CLI_VM_STATUS_H

#include "client.h"

struct vm_status {
	char state[32]; /* "running"; "not answering" */
	const char
		*moving; /* "moves", "arrives", "in doubt", "waits for memory"; NULL: it is not */
	bool answered;
	uint64_t uptime_ms, vcpus, memory, resident; /* bytes */
	uint64_t pid;
	uint64_t cpu_time_us, exits;	/* of all vCPUs, since the start */
	uint64_t disk_bytes, net_bytes; /* both directions */
};

/* The server's words, as far as they are there and of the right type. */
void vm_status_read(struct vm_status *status, const json_t *vm);
struct vm_asked {
	const char *name; /* NULL: it is not asked */
	struct vm_status status;
};
/*
 * Asks VMs at once, each within `timeout_ms`: those that do not answer are "not answering", with the
 * process from their directory; one that does not live is "ended".
 */
void vm_status_ask(struct vm_asked *list, size_t count, int timeout_ms);

#define FIGURE_SIZE 24
const char *show_bytes(char buf[FIGURE_SIZE], uint64_t bytes);	    /* "412M", "2.0G" */
const char *show_duration(char buf[FIGURE_SIZE], uint64_t seconds); /* "14s", "3m", "2h", "5d" */

#endif
