/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which VM has a disk: the block layer has found the process (/proc, src/block/lock.c), and each VM's
 * directory leads to its process. Main thread, before any sandbox; a VM that cannot be asked (one with
 * --no-api, another user's) stays a process number.
 */
#include "disk_holder.h"

#include <stdlib.h>

#include "vmm/cleanup.h"
#include "vmm/run_directory.h"

static bool is_process(const char *name, int holder)
{
	auto_close int dir_fd = -1, pidfd = -1;
	bool alive = false;
	pid_t pid = 0;

	return run_directory_find(name, &dir_fd, &alive, NULL) == 0 && alive &&
	       run_directory_process(dir_fd, &pidfd, &pid, NULL) == 0 && pid == holder;
}

void disk_holder_explain(struct error *e, const char *otherwise)
{
	struct run_entry *entries = NULL;
	size_t count = 0;

	if (e->code != ERROR_DISK_LOCKED || e->holder == 0 ||
	    run_directory_list(&entries, &count, NULL) < 0) {
		return;
	}
	for (size_t i = 0; i < count; i++) {
		if (entries[i].alive && is_process(entries[i].name, e->holder)) {
			(void)error_suffix(e, ", the VM '%s'", entries[i].name);
			e->hint[0] = '\0';
			(void)error_hint(e, "'vmm stop %s' frees it; %s", entries[i].name,
					 otherwise);
			break;
		}
	}
	free(entries);
}
