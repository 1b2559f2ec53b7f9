/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs of `vmm snapshot`, and what `vmm park` shares with the first. Main thread. */
#ifndef VMM_SRC_CLI_SNAPSHOT_COMMAND_H
#define VMM_SRC_CLI_SNAPSHOT_COMMAND_H

#include "client.h"
#include "command.h"
#include "progress.h"
#include "vmm/snapshot.h"

struct snapshot_command {
	struct target target;
	struct common_options common;
	bool diff, live, compress, with_disks;
	/* Behind verb and VM; a NULL behind them. */
	char **operands;
	int count;
};

/* Exit codes. */
int snapshot_run_create(const struct snapshot_command *command);
int snapshot_run_mark(const struct snapshot_command *command);
int snapshot_run_inspect(const struct snapshot_command *command);
int snapshot_run_verify(const struct snapshot_command *command);
int snapshot_run_ls(const struct snapshot_command *command);
int snapshot_run_rm(const struct snapshot_command *command);
int snapshot_run_diff(const struct snapshot_command *command);
int snapshot_run_merge(const struct snapshot_command *command);

/* What to end with after an error: 128 + signal if one has interrupted the work. Prints the error. */
int snapshot_fail(struct progress *progress, const struct error *e);

struct snapshot_taking {
	struct client *client; /* of the VM */
	const char *directory; /* absolute */
	bool diff, live, compress, with_disks;
	/* live: it is over as soon as the snapshot can be loaded, if that is sooner than it is whole (`handed_over`). */
	bool early;
	json_t *copies; /* of disks, as the API has them; NULL: none */
	struct progress *progress;
	uint64_t elapsed_ms; /* how long it took */
	bool handed_over;
	char job[64]; /* its path */
};
/* Has the VM save itself, shows how far it is, until it has; a signal cancels it: ERROR_CANCELLED. */
int snapshot_take(struct snapshot_taking *taking, struct error *e);
/* Of one that was handed over: until all of it has been written. */
int snapshot_await(struct snapshot_taking *taking, struct error *e);
/* malloc'ed; NULL with `e`. */
char *snapshot_absolute_path(const char *path, struct error *e);

#endif
