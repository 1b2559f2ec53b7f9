/* SPDX-License-Identifier: Apache-2.0 */
/* Between run_directory.c (the VM's side), run_directory_socket.c (sockets),
 * run_directory_client.c (who looks at a VM from outside), run_list.c (which there are) and
 * definition_store.c. */
#ifndef VMM_INSTANCE_RUN_DIRECTORY_INTERNAL_H
#define VMM_INSTANCE_RUN_DIRECTORY_INTERNAL_H

#include <sys/socket.h>
#include <sys/un.h>

#include "vmm/run_directory.h"

#define RUN_LOCK_FILE	 "lock"
#define RUN_API_SOCKET	 "api.sock"
#define RUN_EXIT_FILE	 "exit.json"
#define RUN_VARIABLE	 "VMM_RUNTIME_DIR"
#define RUN_SOCKET_QUEUE 1024 /* connections that wait to be accepted */
#define RUN_CLAIM_TRIES	 100  /* how often what we opened may vanish under our hands */

/* Opens the directory above all VMs, making it if `create`. -ENOENT (ERROR_NOT_FOUND) if it is not
 * there. `path` gets its name. */
int run_root_open(bool create, char path[RUN_DIRECTORY_PATH_SIZE], int *ret, struct error *e);
/*
 * Opens one that is ours alone to change: no symlink, our own, writable for nobody else.
 * `shown` is its path for messages, `variable` names another place. -ENOENT as above.
 */
int run_open_private(int at, const char *name, const char *shown, bool create, const char *variable,
		     int *ret, struct error *e);
/*
 * The VMs that have a directory in the one behind `fd`, which it takes over; -1: there are none.
 * `judge` says whether what has a VM's name is a VM's, and fills the rest of the entry. The result
 * is as that of run_directory_list().
 */
int run_list(int fd, const char *shown, bool (*judge)(int dir_fd, struct run_entry *entry),
	     struct run_entry **ret, size_t *count, struct error *e);
/* Is the lock in a VM's directory held? */
bool run_is_alive(int dir_fd);

/*
 * The lock on a file: F_OFD_SETLK. Belongs to the open file, so it ends with the process whatever
 * ends that, and who asks whether it is held does not take it for a moment, as with flock(2), which
 * a starter might take for a living VM.
 */
int run_lock(int fd); /* 0, -EAGAIN if another has it, or why not */
bool run_lock_held(int fd);
/* Opens and takes the lock file `name` in `dir_fd`. -ESTALE without a message if it vanished
 * meanwhile: try again. -EAGAIN if another holds it, then *holder is its process, or 0. */
int run_lock_open(int dir_fd, const char *name, const char *shown, int *ret, pid_t *holder,
		  struct error *e);
bool run_same_file(int dir_fd, const char *name, int fd);
/* The number at the start of a lock file; 0 if there is none. */
pid_t run_lock_pid(int fd);

/* The address of `name` in the directory, however long its path is. */
int run_socket_address(int dir_fd, const char *name, struct sockaddr_un *address, struct error *e);
int run_socket_listen(const struct sockaddr_un *address, const char *shown, bool private, int *ret,
		      struct error *e);
/* Without waiting: *ret is connected. -EAGAIN: somebody listens but is not accepting. */
int run_socket_try(const struct sockaddr_un *address, int *ret);

#endif
