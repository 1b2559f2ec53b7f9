/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory of a VM: RUNTIME/NAME/ with
 *
 *	lock		the lock on it (fcntl(2), F_OFD_SETLK), and nothing else, says that the VM
 *			lives; holds "PID\n"
 *	api.sock	HTTP
 *	console.sock	plain bytes
 *	console.log	what the guest said
 *	vmm.log		messages, of a VM without a terminal
 *	exit.json	how it ended; empty until then
 *	events.json	what happened to it, a JSON object a line; of a VM that keeps its directory, empty
 *			until its end
 *
 * RUNTIME is $VMM_RUNTIME_DIR, or /run/vmm for root, $XDG_RUNTIME_DIR/vmm for others, else
 * /tmp/vmm-UID. Directories are made with mode 0700 and must belong to us: one that is somebody
 * else's, or a symlink, is refused. Everything is opened and bound through a descriptor of the
 * directory with O_NOFOLLOW, so paths may be longer than a socket address and nothing can be
 * swapped in between. What a dead VM left is replaced under the lock; a living one is never touched.
 */
#ifndef VMM_RUN_DIRECTORY_H
#define VMM_RUN_DIRECTORY_H

#include <sys/types.h>

#include "vmm/error.h"
#include "vmm/syscalls.h"
#include "vmm/types.h"

#define RUN_DIRECTORY_PATH_SIZE 256
/* Where the process that is to take a VM over waits, as long as that takes. */
#define RUN_DIRECTORY_UPGRADE "upgrade.sock"

struct run_directory {
	char path[RUN_DIRECTORY_PATH_SIZE]; /* for messages */
	char name[80];
	int fd, lock_fd; /* -1: none */
	bool keep;	 /* leave it, with logs and reports, when the VM ends */
};

/* The directory above all VMs. ERROR_CONFIG if it is too long. */
int run_directory_root(char *buf, size_t size, struct error *e);
/*
 * For the VM itself: makes and locks the directory, removes what an earlier VM left in it.
 * ERROR_EXISTS names the process that has it. `name` NULL: the first free of "vm1", "vm2", ...
 */
int run_directory_claim(struct run_directory *dir, const char *name, struct error *e);
/* As above with a name that nobody has defined (vmm/definition_store.h), for a VM that will be. */
int run_directory_claim_undefined(struct run_directory *dir, struct error *e);
/* Binds and listens: non-blocking, mode 0600. `file` is "api.sock" or "console.sock". */
int run_directory_listen(const struct run_directory *dir, const char *file, int *ret,
			 struct error *e);
/* For writing, empty, mode 0600. */
int run_directory_open(const struct run_directory *dir, const char *file, int *ret,
		       struct error *e);
/*
 * Of a VM that goes from one process to another (vmm upgrade), which then has the same open files. expect(): whose it will be, before it is
 * (outside of a filter); take(): it is, from now on, and says so in the lock's file; leave(): it is not any more, and stays as it is.
 * Both work within main's filter. listen_on(): of a socket that listens, clients find this process from now on (SO_PEERCRED).
 */
int run_directory_expect(struct run_directory *dir, const char *name, struct error *e);
void run_directory_take(struct run_directory *dir, int fd, int lock_fd);
void run_directory_leave(struct run_directory *dir);
int run_directory_listen_on(int fd, struct error *e);
/* Removes the sockets, and all if not `keep`; unlocks. Works within main's filter. Accepts a zeroed
 * object; a second call does nothing. */
void run_directory_finish(struct run_directory *dir);

/*
 * A socket at a path of the user's: a lock file PATH.lock beside it decides who may have it; a stale
 * socket is replaced, a living one (also one without a lock, that answers connect(2)) is
 * ERROR_EXISTS. *lock_fd stays open for life.
 */
int socket_claim(const char *path, int *listen_fd, int *lock_fd, struct error *e);
/* As any program binds it: with the mode that the umask leaves, without a lock. What is there
 * already, dead or alive, is in the way. */
int socket_bind(const char *path, int *listen_fd, struct error *e);
/* Removes the socket if it is still ours, and the lock file. -1 is fine, and is left behind. Works
 * within main's filter. */
void socket_release(const char *path, int *lock_fd);

/* For clients. */
struct run_entry {
	char name[80];
	bool alive; /* the lock is held */
	bool left;  /* it has a directory: it lives, or has left one; else it is only defined */
};
/* Sorted by name; *ret is malloc'ed. A root that is not there has none. */
int run_directory_list(struct run_entry **ret, size_t *count, struct error *e);
/* As above, also those that have a definition alone (vmm/definition_store.h). */
int run_directory_list_all(struct run_entry **ret, size_t *count, struct error *e);
/* Opens one VM's directory: ERROR_NOT_FOUND hints at `vmm ps`. *alive as above. */
int run_directory_find(const char *name, int *dir_fd, bool *alive, struct error *e);
/* Connects, blocking. ERROR_NOT_FOUND if nobody listens. */
int run_directory_connect(int dir_fd, const char *file, int *ret, struct error *e);
/* Waits until the VM has ended; 0 at once if it has. timeout_ms -1: for ever; -ETIMEDOUT. */
int run_directory_wait(int dir_fd, int timeout_ms, struct error *e);
/*
 * For who upgrades a VM whose directory is open: a socket that listens there, and a lock that nobody else who does this has until it is
 * closed (ERROR_BUSY). end() removes the socket and closes the lock.
 */
int run_directory_begin_upgrade(int dir_fd, int *listener, int *lock_fd, struct error *e);
void run_directory_end_upgrade(int dir_fd, int *lock_fd);
/* The process that listens on the VM's API (SO_PEERCRED), as a pidfd. */
int run_directory_process(int dir_fd, int *pidfd, pid_t *pid, struct error *e);

/* Of run_directory_finish() and socket_release(). */
extern const struct syscall_list run_directory_syscalls;

#endif
