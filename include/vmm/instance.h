/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An instance: one VM with everything that is the same whichever door a request comes through.
 * It holds the configuration until the start, the VM after it, the event log, the jobs and the
 * figures; `vmm run`, `vmm serve` and the API server all drive it by requests (vmm/request.h).
 *
 * Main thread only. Requests are decided by tables, for before the start, during and after it; a
 * refused request has changed nothing. A start takes place on a thread of its own (opening files,
 * loading a kernel), so that main goes on answering; meanwhile what changes the VM is refused with
 * ERROR_BUSY. A start that fails leaves the instance as it was before, and it may be tried again;
 * only if KVM fails after main has entered its filter, the instance has ended.
 *
 *	NOT_STARTED --InstanceStart--> STARTING --> RUNNING <--(PAUSING, RESUMING)--> PAUSED
 *	     ^                            | |        ^   |                              ^ |
 *	     +-------- start failed ------+ |        |   +--RESETTING--+                | |
 *	                                    |        +-----------------+                | |
 *	                                    +------------- "paused" --------------------+ |
 *	                               any that lives --> STOPPING --> ENDED <------------+
 *
 * src/instance/states.c has it as a table. What changes a VM that lives (pause, resume, reset, PATCH
 * of a drive or card) takes as long as the machine needs, which may be waiting for a disk. It is
 * answered when it is done; meanwhile all that reads is answered at once, and other changes wait in
 * line, in the order in which they came, each judged when its turn comes. ERROR_BUSY if the line is
 * long. A stop overtakes them all; they are answered when the VM has ended.
 *
 * What a client controls: everything in a request; paths it names are opened with the process's
 * rights.
 */
#ifndef VMM_INSTANCE_H
#define VMM_INSTANCE_H

#include "vmm/console.h"
#include "vmm/event_log.h"
#include "vmm/job.h"
#include "vmm/metrics.h"
#include "vmm/request.h"
#include "vmm/vm.h"

/*
 * The version of Firecracker whose API description was followed: firecracker.yaml of v1.14.1. What
 * later ones add to the resources that are there (mtu, the limit of the serial port) is accepted.
 * Its clients compare this with what `firecracker --version` prints.
 */
#define INSTANCE_API_LEVEL "1.14.1"

enum instance_state {
	INSTANCE_NOT_STARTED,
	INSTANCE_STARTING,
	INSTANCE_RUNNING,
	INSTANCE_PAUSING,
	INSTANCE_PAUSED,
	INSTANCE_RESUMING,
	INSTANCE_RESETTING, /* by request; the guest's own resets are RUNNING */
	INSTANCE_STOPPING,
	INSTANCE_ENDED,
	INSTANCE_STATES,
};
const char *instance_state_name(enum instance_state state); /* "not-started", ... */

struct instance;

/*
 * A VM's place on this host: what its process has open of its name, and by which clients find it. An upgrade hands it to another process:
 * the lock, the directory and the sockets are the same open files before and after it, so at no moment nobody has the name, or two.
 */
enum instance_place {
	INSTANCE_PLACE_DIRECTORY,
	INSTANCE_PLACE_LOCK,
	INSTANCE_PLACE_API, /* listens */
	INSTANCE_PLACE_CONSOLE,
	INSTANCE_PLACE_CONSOLE_LOG,
	INSTANCE_PLACE_EXIT,
	INSTANCE_PLACE_EVENTS,
	INSTANCE_PLACE_LOG,
	INSTANCE_PLACE_SOCKET, /* at a path of the user's: listens */
	INSTANCE_PLACE_SOCKET_LOCK,
	INSTANCE_PLACE_REPORT, /* at a path of the user's */
	INSTANCE_PLACES,
};

/* None of these may destroy the instance: it goes on after them. */
struct instance_host {
	struct loop *loop;		/* main's; borrowed */
	struct console_channel *serial; /* as struct vm_host; NULL: nobody listens */
	struct console_channel *hvc;
	/* Main, as a start begins, before any thread of the VM's: a failure fails it. May be NULL. */
	int (*starting)(struct instance_host *host, struct error *e);
	/*
	 * Main, within a start: the VM is made, and its vCPUs are setting themselves up; the process is
	 * not in its sandbox yet. What the host opens late, because a start need not wait for it,
	 * it opens here; a failure fails the start. May be NULL.
	 */
	int (*prepare)(struct instance_host *host, struct error *e);
	/* Main: the VM runs for the first time, from the loop or from within instance_start_now(); or
	 * a start by request has failed. May be NULL. */
	void (*started)(struct instance_host *host, const struct error *failure);
	/* Main, outside of any sandbox: a start fails for this; more may be said about it. May be NULL. */
	void (*explain)(struct instance_host *host, struct error *e);
	/* On a thread of its own without a filter, soon after the VM runs, once: what takes long and
	 * what main's filter does not have. Done before instance_destroy() returns true. May be NULL. */
	void (*settle)(struct instance_host *host);
	/* Main, from the loop: a VM that comes from elsewhere is here for good. May be NULL. */
	void (*arrived)(struct instance_host *host);
	/* Main, from the loop, once, before any client hears of it. The instance stays. */
	void (*ended)(struct instance_host *host, const struct vm_stop *stop);
	/* As struct vm_host. */
	bool (*may_restart)(struct instance_host *host, struct error *why);
	/* Main: the window of an attached console changed. May be NULL. */
	void (*resized)(struct instance_host *host, uint16_t columns, uint16_t rows);
	/*
	 * Of an upgrade, on main; NULL: this process has no part in any. show_place(): what it has, -1: not that; the host's, open
	 * as long as the instance. ERROR_NOT_SUPPORTED: nobody may take it over. rests(): the guest stands still, and what it has
	 * said is to be written. left(): the place is another process's, and nothing in it is touched any more. take_place(): it is
	 * this process's; the descriptors belong to the host.
	 */
	int (*show_place)(struct instance_host *host, int fds[INSTANCE_PLACES], struct error *e);
	void (*rests)(struct instance_host *host);
	void (*left)(struct instance_host *host);
	void (*take_place)(struct instance_host *host, int fds[INSTANCE_PLACES]);
};

struct instance_settings {
	const char *id; /* borrowed for life; shown as "id", and the VM's name; NULL: "vm" */
	/* The program was called by that name: its defaults, and answers that its clients' strict readers
	 * take, with nothing of ours in them; its names of threads. */
	bool firecracker;
	/* Borrowed for life: text that says which VM of this host it is, the same at every start; MAC
	 * addresses that nobody gives are made from it. NULL: they are random. */
	const char *identity;
	/* How long it took to come here, as far as the parent said when it began; for the metrics. */
	uint64_t startup_us, startup_cpu_us;
	enum sandbox_mode sandbox;
	enum vm_on_reboot on_reboot; /* default until machine-config says otherwise */
	bool enable_pci; /* virtio devices on PCI until it does, whatever the defaults */
	bool debug_exit;
	/* A virtio console is in the machine also when nobody listens to it (`hvc` of the host NULL). */
	bool virtio_console;
	/* For who configures and starts at once, and hears of mistakes either way: kernel, initrd and
	 * disks are looked at when the VM starts, not when they are named as well, and being configured
	 * is no event. */
	bool files_at_start;
	/* For a process that waits for its VM: after its first request a thread makes in advance what needs no configuration. */
	bool spare;
	/* As struct vm_host; 0: its default. */
	uint64_t patience_ns;
};

/* How lines of the log look from now on; `logger` NULL: none is configured. Before threads log. */
void instance_style_log(const struct instance_settings *settings,
			const struct logger_settings *logger);

int instance_create(struct instance **ret, const struct instance_settings *settings,
		    struct instance_host *host, struct error *e);
/*
 * Ends the VM if it still lives. Whoever waits for an answer gets ERROR_CANCELLED; a start or change
 * under way is waited for, but not for ever. Accepts NULL. False: a thread does not end, and goes on
 * using what it knows of the host: as vm_destroy().
 */
bool instance_destroy(struct instance *instance);

/*
 * Makes a request. `done` is called exactly once, before this returns or later from the loop:
 * `failure` NULL for success, `reply` a JSON value that done() owns then, NULL if the type has none.
 */
struct instance_call {
	void (*done)(struct instance_call *call, json_t *reply, const struct error *failure);
};
void instance_request(struct instance *instance, const struct request *request,
		      struct instance_call *call);
/* The caller is gone: done() will not be called. A start or change goes on. */
void instance_forget(struct instance *instance, const struct instance_call *call);
/*
 * As above for who does not wait: InstanceStart is instance_start_now(). What takes its time is under
 * way when this returns 0, and the log hears of it if it fails after that. `reply` may be NULL.
 */
int instance_request_now(struct instance *instance, const struct request *request, json_t **reply,
			 struct error *e);
/*
 * Main, before a start, of who waits for what the start is of: what does not depend on that is made meanwhile. Nothing that fails
 * here is missed.
 */
void instance_prepare(struct instance *instance);
/*
 * The start without a thread, for who has no other client to answer: returns when the VM runs, or, if
 * it is to start `paused`, is before its first instruction. The process enters its sandbox between
 * opening everything and the guest's first instruction, and main its filter.
 */
int instance_start_now(struct instance *instance, bool paused, struct error *e);
/*
 * Where vCPU 0 stands: `told` is called once, from the loop, with NULL if nobody knows, unless the
 * VM ends first. Negative, and not called, if it does not run or a change is under way.
 */
int instance_look(struct instance *instance, void (*told)(void *arg, const uint64_t *address),
		  void *arg);
/*
 * Applies a config file in Firecracker's format: an object of the resources by name ("boot-source",
 * "machine-config", "drives", "network-interfaces", ...), as GET vm/config answers it. Whole or not
 * at all: what was configured before is forgotten, but for logger and metrics that the file does not
 * name. Does not start.
 *
 * Unknown resources are warned of and ignored; those of Firecracker's that this version does not have
 * are refused, unless they are null or empty.
 */
int instance_apply_config(struct instance *instance, const json_t *config, struct error *e);
/* The same by who has it as a struct: all but name, sandbox and the like, which are the settings'. */
int instance_take_config(struct instance *instance, const struct vm_config *config,
			 struct error *e);

/* All that is configured as that takes it, with absolute paths. *ret is the caller's. */
int instance_describe(struct instance *instance, json_t **ret, struct error *e);

enum instance_state instance_state(const struct instance *instance);
/* Was it created for clients that know Firecracker only? */
bool instance_is_firecracker(const struct instance *instance);
/* NULL before the start. For console input and what needs no request. */
struct vm *instance_vm(struct instance *instance);
struct event_log *instance_events(struct instance *instance);
struct jobs *instance_jobs(struct instance *instance);
/*
 * Somebody has renamed the files of the log, the metrics and the serial port's output: those of
 * their paths are opened, made if they are not there. What cannot be is said and goes on as before.
 */
void instance_reopen_outputs(struct instance *instance);
/* The process got one; for the metrics. */
void instance_count_sigpipe(struct instance *instance);
/* All figures as Prometheus text. */
void instance_write_metrics(struct instance *instance, struct metrics_text *text);
/* What the guest boots with. */
struct instance_boot {
	bool initrd;
	uint32_t disks;
	bool serial_elsewhere; /* the serial port's output goes to a file */
	bool console;	       /* there is a virtio console */
	bool debug_exit;
};
struct instance_boot instance_boot(const struct instance *instance);
/* What PUT /cpu-config takes, of a file: a CPU template, a baseline, or both. Both results are the caller's, *json also after an
 * error. */
int cpu_config_read_file(json_t **json, struct cpu_template **ret, const char *path,
			 struct error *e);
/* Such a file's content; NULL if memory is short. */
json_t *cpu_baseline_to_json(const struct cpu_baseline *baseline);
/* "power-off", "panic", ...: as in events and reports. */
const char *stop_reason_name(enum vm_stop_reason reason);
/* Nanoseconds since the VM first ran; 0 before. */
uint64_t instance_uptime_ns(const struct instance *instance);

#endif
