/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `vmm run --detach`: the command forks before anything else, the child becomes the VM's process in
 * a session of its own, and the parent waits until the guest runs or the start has failed. Messages
 * go to vmm.log in the VM's directory as soon as that is there, and nothing of the caller's is held
 * open from then on; a start that fails is told to the parent, which says why.
 *
 * Descriptors that the caller has left open are closed when the guest runs, not before: a file may
 * be given as /dev/fd/N. What would be held otherwise is, for one, the pipe that a script reads the
 * output of its commands from.
 *
 * A process that vmm itself has started to become a VM's (children.h) is that child already: its environment names the
 * socket (DETACH_ENVIRONMENT) that is told, and that says when to begin. What is no such socket is as if it were not named.
 */
#ifndef VMM_SRC_CLI_DETACH_H
#define VMM_SRC_CLI_DETACH_H

#include "vmm/error.h"
#include "vmm/run_directory.h"

#define DETACH_PARENT 1
#define DETACH_CHILD  0

#define DETACH_INHERITED_MAX 256

/* The number of a descriptor: of a connected socket of AF_UNIX, SOCK_SEQPACKET. */
#define DETACH_ENVIRONMENT "VMM_STARTED_BY"

/* What the child says to who has started it: a letter and its name, or lines for standard error. None if it has died. */
#define DETACH_TOLD_NAME   'N'
#define DETACH_TOLD_ERROR  'E'
#define DETACH_MESSAGE_MAX (sizeof(struct error) + 64)

struct detach {
	int pipe_fd; /* the child's end; -1: not detaching */
	bool awaits; /* begins when that has been sent something */
	bool child;  /* this process is not the one that the user has started */
	bool logs;   /* to vmm.log: the caller does not see messages any more */
	int inherited[DETACH_INHERITED_MAX]; /* to be closed when the guest runs */
	size_t inherited_count;
};

/*
 * DETACH_CHILD in the child. In the parent DETACH_PARENT, when it is over: the name of the VM has
 * been printed to standard output, or what went wrong to standard error; *code is the exit code.
 */
int detach_fork(struct detach *detach, int *code, struct error *e);
/*
 * Reads what a child has said, and prints it as detach_fork() does. EXIT_OK, or -1: it has not started.
 */
int detach_hear(int fd);
/* The child, right after: this descriptor is used, and stays. */
void detach_keep(struct detach *detach, int fd);
/* The child, before threads start: messages go to vmm.log from here on. */
int detach_log_to(struct detach *detach, const struct run_directory *dir, struct error *e);
/*
 * The child, when it has prepared what can be: waits until it may begin, which may be at once. A failure if it never may.
 */
int detach_await(struct detach *detach, struct error *e);
/* Whether that would wait now. */
bool detach_waits(const struct detach *detach);
/* The child: the guest runs, or will not. Both work within main's filter. */
void detach_done(struct detach *detach, const char *name);
void detach_failed(struct detach *detach, const struct error *why);
void detach_finish(struct detach *detach);

#endif
