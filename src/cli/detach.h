/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `vmm run --detach`: the command forks before anything else, the child becomes the VM's process in
 * a session of its own, and the parent waits until the guest runs or the start has failed. Messages
 * of the start go to the caller's standard error; once the guest runs, they go to vmm.log in the
 * VM's directory, and nothing of the caller's is held open.
 */
#ifndef VMM_SRC_CLI_DETACH_H
#define VMM_SRC_CLI_DETACH_H

#include "vmm/error.h"
#include "vmm/run_directory.h"

#define DETACH_PARENT 1
#define DETACH_CHILD  0

struct detach {
	int pipe_fd; /* the child's end; -1: not detaching */
	int log_fd;
};

/*
 * DETACH_CHILD in the child. In the parent DETACH_PARENT, when it is over: the name of the VM has
 * been printed to standard output, or the child has said what is wrong; *code is the exit code.
 */
int detach_fork(struct detach *detach, int *code, struct error *e);
/* The child: where messages go from detach_done() on. */
int detach_log_to(struct detach *detach, const struct run_directory *dir, struct error *e);
/* The child: the guest runs. Works within main's filter. */
void detach_done(struct detach *detach, const char *name);
void detach_finish(struct detach *detach);

#endif
