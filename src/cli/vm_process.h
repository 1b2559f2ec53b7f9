/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process around one VM, the same for `vmm run` and `vmm serve`: main's loop, signals, the VM's
 * directory with its sockets, console, API server, instance, timers and the report of the end.
 *
 *	vm_process_init()	everything that outlives the start; the API answers from the loop on
 *	vm_process_start()	for who has a configuration already; else InstanceStart does it
 *	vm_process_load()	instead: the VM is restored from a snapshot
 *	vm_process_run()	the loop, until the VM has ended or a signal says so
 *	vm_process_finish()	puts everything back, writes reports; the exit code
 *
 * SIGTERM, SIGINT and SIGHUP press the power button; a second one, or the end of `stop_timeout_ns`,
 * stops the VM at once, and within VM_PATIENCE_NS also one whose disk does not answer. signals.h has
 * them all.
 */
#ifndef VMM_SRC_CLI_VM_PROCESS_H
#define VMM_SRC_CLI_VM_PROCESS_H

#include "boot_guard.h"
#include "crash.h"
#include "exit_report.h"
#include "stdio_console.h"
#include "terminal.h"
#include "vm_keep.h"
#include "vmm/api.h"
#include "vmm/console_hub.h"
#include "vmm/instance.h"
#include "vmm/notify.h"
#include "vmm/run_directory.h"

struct vm_process;

/* Of the reports' descriptors. */
enum { VM_PROCESS_REPORT_GIVEN, VM_PROCESS_REPORT_IN_DIRECTORY };

/* Plain data; strings are borrowed for the life of the process object. */
struct vm_process_config {
	/* `id` NULL: the directory's name, or "vm". `firecracker`: the process has that program's
	 * habits as well: a signal ends it at once, by itself or with the exit code for it; the API's
	 * socket is bound as any, with the umask's mode, and left behind. */
	struct instance_settings instance;
	/* The directory: `name` NULL takes the first free one. `directory_optional`: without one
	 * the VM runs all the same, after a warning. */
	bool directory, directory_optional;
	/* The directory stays when the VM ends, and a definition for vmm start is written. Of a start
	 * that fails nothing is kept. */
	bool kept;
	/* For the definition, all of them; timeout_ns (from the start) and those of the process are
	 * followed here. */
	struct run_settings settings;
	bool defined, created; /* it is started from its definition; made by vmm create */
	bool definition_stays; /* there is one, and it is not written */
	const char *name;
	const char *api_socket; /* path of the user's; NULL: only in the directory */
	bool api;
	bool doors_at_start; /* sockets are opened within the start, while vCPUs set themselves up:
				nobody can ask for anything before it */
	size_t body_max;
	bool log_requests; /* of clients; not on a terminal that shows the guest */
	enum run_console
		console; /* which one is on standard input and output, and in the directory */
	bool stdio_input, stdio_output;
	bool watch_terminal; /* standard input is ours if it is a terminal: raw, with escapes */
	bool ready_when_listening; /* what READY=1 tells the service manager */
	bool announce_escape;
	bool takes_over; /* the place of another process's VM, of that name */
	bool background; /* nobody waits for this process: another one may take the VM over (vmm upgrade) */
	/* Main: the instance is there, no door is open yet: what has to be known before anything is
	 * said. And the end: `failure` as for vm_process_finish(), the log is still where it was. May be
	 * NULL. */
	int (*prepare)(struct vm_process *process, struct error *e);
	void (*ending)(struct vm_process *process, const struct error *failure, int code);
};

struct vm_process {
	struct vm_process_config config;
	struct loop loop;
	bool loop_ready;
	struct terminal terminal;
	struct stdio_console console;
	bool console_ready;
	struct console_hub *hub;
	struct instance_host host;
	char *identity; /* of the VM on this host; NULL: it has none */
	struct instance *instance;
	struct api *api;
	struct run_directory directory;
	struct vm_keep keep;
	struct loop_post settled; /* the definition is written */
	int api_lock_fd;
	bool api_socket_ours;
	struct notify notify;
	int signal_fd;
	struct crash_watch crash; /* the descriptors of both reports */
	struct loop_source signals;
	struct loop_timer timeout, stop_timeout, trim, silence;
	struct boot_guard boot_guard;
	/* Main: called once when the VM runs and is defined. NULL: nobody asks, or has been told. */
	void (*started)(struct vm_process *process);

	/* A thread of the VM does not end (it waits for a disk): what it knows of this object stays
	 * as it is until the process has ended. */
	bool stuck;

	bool restored;	  /* its guest has begun elsewhere */
	bool receives;	  /* and is on its way */
	bool must_arrive; /* before anybody is told that it has started */
	bool left;	  /* it goes on in another process of this host, by the same name */
	/* What clients find it by: numbers of what others own; -1: none. */
	int place[INSTANCE_PLACES];
	struct instance_call received;

	/* How it ended. */
	bool timed_out;
	int signal; /* that began the end; 0: none */
	struct vm_stop stop;
	bool reported; /* in both files; nobody hears that the VM has ended before */
	struct exit_report report;
	int code; /* the process's */
};

int vm_process_init(struct vm_process *process, const struct vm_process_config *config,
		    struct error *e);
int vm_process_start(struct vm_process *process, struct error *e);
int vm_process_load(struct vm_process *process, const struct snapshot_load_request *request,
		    struct error *e);
/* Instead: the VM comes from elsewhere. Returns when it is waited for; what becomes of that, the loop shows. */
int vm_process_receive(struct vm_process *process, const struct receive_request *request,
		       struct error *e);
/* Whoever waits for the VM to run, or to be waited for, hears of it; once. */
void vm_process_tell_started(struct vm_process *process);
/* The VM that was waited for is here: vm_process_receive.c. */
void vm_process_arrived(struct instance_host *host);
/* 0: ended, see `stop`; negative: the VM or the loop failed. */
int vm_process_run(struct vm_process *process, struct error *e);
/* `failure` NULL if all went well. Logs it, reports, frees; accepts a half-made process. If it is
 * `stuck` after that, its memory must not be used for anything else. */
int vm_process_finish(struct vm_process *process, const struct error *failure);

/* vm_process_place.c: opens the doors; has them be another process's, or, of one that takes them over, those of the VM of its name, which
 * it knows the directory of from then on. */
int vm_process_open_doors(struct vm_process *process, struct error *e);
void vm_process_share_place(struct vm_process *process);
int vm_process_expect_place(struct vm_process *process, struct error *e);
/* The VM's time is over. */
void vm_process_timeout(struct loop_timer *timer);

/* A request of the command line's. */
int vm_process_request(struct vm_process *process, enum request_type type, const char *id,
		       const void *object, struct error *e);

#endif
