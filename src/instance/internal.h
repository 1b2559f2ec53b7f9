/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of src/instance share.
 *
 *	requests.c	what can be asked: tables
 *	instance.c	life, states, which handler a request gets
 *	config.c	what is configured: drafts, and how they take the place of what was
 *	config_file.c	all of that as one JSON object, out and in
 *	cpu_template.c	a CPU template or baseline out of JSON
 *	start.c		from configuration to a running VM, on a thread or not
 *	states.c	the states of an instance, which follows which
 *	control.c	requests after the start: what they are
 *	changes.c	those that take their time: one after the other
 *	plug.c		disks and cards that come and go after the start
 *	snapshot.c	a snapshot of a VM that lives
 *	mark.c		what a restored one has touched first
 *	restore.c	a start from a snapshot
 *	spare.c		what is made before there is a configuration
 *	page_handler.c	... whose pages another process brings
 *	saved_config.c	what a snapshot says of a VM, and what becomes of that
 *	saved_disks.c	of its disks, that they are the same
 *	answers.c	requests that read
 *	offering.c	what a migration offers
 *	upgrade.c	a process gives way to another one of this host; upgrade_receive.c
 *	addresses.c	MAC addresses that nobody has given
 *	output.c	files and FIFOs that get lines and never make us wait
 *	serial_file.c	the serial port's output: to a file, limited
 *	figures.c	Prometheus text, and the metrics file
 *	figures_keys.c	what a line of that has
 */
#ifndef VMM_INSTANCE_INTERNAL_H
#define VMM_INSTANCE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "migration_view.h"
#include "saved_disks.h"
#include "vmm/instance.h"
#include "vmm/snapshot.h"
#include "vmm/worker.h"

/*
 * output.c: a file or FIFO for whole lines. `fd` is borrowed (the configuration owns it), -1: none.
 */
struct output {
	int fd;
	bool cut;	/* the last line went out without its end */
	uint64_t lines; /* written */
	uint64_t lost;	/* lines that were not taken */
};
/* Opens for appending, makes a file that is not there. `what` begins messages: "logger". */
int output_open(int *ret, const char *what, const char *path, enum error_code code,
		struct error *e);
/* The file that has the path now takes the place of the one behind `fd`, which keeps its number; a
 * FIFO stays. Within main's filter; a failure leaves the old file. */
int output_reopen(int fd, const char *what, const char *path, struct error *e);
/* A line, without its newline. Never blocks. False if it was not taken whole. */
bool output_write(struct output *output, const char *text, size_t len);

/*
 * config.c: what is configured. Of what has a file to write to, the open descriptor is here as well,
 * and those of held interfaces in the cards of `vm`.
 *
 * A configuration does not change. A change is a draft that takes its place:
 *
 *	draft = config_draft(instance->config, e);	a copy
 *	vm_config_put_disk(&draft->vm, &disk, e);	changed, and what it needs opened
 *	vm_config_validate(&draft->vm, e);		judged as a whole
 *	config_commit(&instance->config, draft);	or config_drop(draft, instance->config)
 *
 * Draft and original share descriptors: whichever goes closes those that the other does not have.
 * After the start a struct change does this around its operation (changes.c).
 */
struct config {
	int serial_fd, log_fd, metrics_fd; /* -1: none */
	struct vm_config vm; /* at the end: of its arrays only what is used is touched */
};
/* Nothing is configured. NULL with `e`. */
struct config *config_create(const struct instance_settings *settings, struct error *e);
struct config *config_draft(const struct config *config, struct error *e);
/* Cannot fail. */
void config_commit(struct config **config, struct config *draft);
/* Accepts NULL. `stays` NULL: nothing does. */
void config_drop(struct config *config, const struct config *stays);
/* A request that configures: into a draft, judged. If it fails the draft is of no use. */
int config_put(struct config *draft, const struct instance_settings *settings,
	       const struct request *request, struct error *e);
/* A disk or card more for a VM that runs: nothing is looked at, the machine opens it. *id is its id. */
int config_plug(struct config *draft, const struct instance_settings *settings,
		const struct request *request, const char **id, struct error *e);
/* All of `from` but what the settings say, in place of a fresh configuration's. */
int config_take(struct config *draft, const struct instance_settings *settings,
		const struct vm_config *from, struct error *e);
/* Where the serial port's output goes. Made by the request, or, for Firecracker's clients, at the
 * start at the latest. */
int config_open_serial(int *ret, const char *path, struct error *e);
/* Which id is meant: that of the path, that of the body, which must agree. */
int config_check_id(const char *from_path, const char *from_body, const char **ret,
		    struct error *e);
/* A configuration that was saved follows the settings of this instance, but for these two. */
void config_adopt(struct config *draft, const struct instance_settings *settings, bool console,
		  bool debug_exit);
/* Logger and metrics stay with a draft that has none of its own. */
int config_keep_outputs(struct config *draft, const struct config *before, struct error *e);

/* config_file.c: NULL if memory is short. */
json_t *config_to_json(const struct vm_config *vm, bool firecracker);
json_t *config_machine_to_json(const struct vm_config *vm, bool firecracker);
/* Of an object as above; false if memory is short. */
bool config_absolute_paths(json_t *config, const char *directory);
/* Fills a fresh one. */
int config_read(struct config *draft, const struct instance_settings *settings,
		const json_t *config, struct error *e);

/* cpu_template.c: *ret is malloc'ed. */
int cpu_template_from_json(struct cpu_template **ret, const json_t *json, struct error *e);
#define CPU_CONFIG_FILE_MAX MIB(1)

/* serial_file.c: stands between the serial port and the console of the host. */
struct serial_file {
	struct console_channel channel; /* for the VM */
	struct console_channel *inner;	/* the console; NULL: none */
	int fd;				/* borrowed; -1: output goes to `inner` */
	pthread_mutex_t lock;		/* guards `limiter`: several vCPUs may write */
	struct rate_limit limiter;
	_Atomic uint64_t lost_bytes;
};
/* The channel that the VM shall get: `inner` itself if nothing stands between. */
struct console_channel *serial_file_init(struct serial_file *file, const struct config *config,
					 struct console_channel *inner);

struct request_count {
	uint64_t made, failed;
};

/* states.c: which requests there are in a state. */
enum instance_stage { STAGE_BEFORE, STAGE_BETWEEN, STAGE_AFTER };
struct instance_state_info {
	const char *name;
	const char *shown; /* as Firecracker knows it */
	enum instance_stage stage;
	unsigned int next; /* bit 1 << enum instance_state of those that may follow */
};
extern const struct instance_state_info instance_states[INSTANCE_STATES];
/* It is one that may follow. */
void instance_enter(struct instance *instance, enum instance_state state);

/* changes.c: how a request ends that is not over at once. */
#define CHANGE_PENDING 1
/* Of one at work elsewhere, such as on a job's thread: changes_ask() or changes_end() goes on with it. */
#define CHANGE_WAITS 2

struct change;
struct change_kind {
	enum instance_state during,
		after; /* while it is under way, and then; INSTANCE_STATES: stays */
	/* Its turn has come. 0: all is so already; CHANGE_PENDING: `operation` is filled, and `draft` if
	 * the configuration changes; CHANGE_WAITS; negative with `e`: it is not possible. */
	int (*prepare)(struct instance *instance, struct change *change, struct error *e);
	/* Of one with several operations, NULL: it has one. The last one has ended with `result`, negative
	 * with `e`. As prepare(); also when nobody waits for an answer any more. */
	int (*step)(struct instance *instance, struct change *change, int result, struct error *e);
	/* Its operation has succeeded, the draft is the configuration. May be NULL. */
	void (*done)(struct instance *instance, struct change *change);
	/* It has failed: whose operation it was. May be NULL. */
	void (*explain)(const struct change *change, struct error *e);
	/* Of those that no request has asked for, in place of the call: once. */
	void (*over)(struct instance *instance, struct change *change, const struct error *failure);
};

struct change {
	struct change *next;
	struct instance *instance;
	const struct change_kind *kind;
	struct instance_call *call; /* NULL: nobody waits */
	enum request_type type;	    /* REQUEST_TYPES: no request */
	char *id;		    /* copies of the request's */
	void *object;
	bool under_way, answered;
	bool waits;   /* CHANGE_WAITS: the machine thread has nothing of it */
	bool behind;  /* its operation follows the one beside the line */
	bool unheard; /* its failure goes to the log */
	enum instance_state from;
	struct vm_operation operation;
	/* What the configuration is once the operation has succeeded, made and judged by prepare();
	 * NULL: as it was. */
	struct config *draft;
	union {
		struct {
			void (*told)(void *arg, const struct error *failure);
			void *arg;
		} spawn;
		struct {
			void (*told)(void *arg, const uint64_t *address);
			void *arg;
		} look;
		struct snapshot_task *snapshot;
		struct migrate_task *migrate;
		struct {
			struct guest_memory *mem;
			uint64_t bytes;
		} mark;
	};
};

/* NULL with `e` if memory is short. */
struct change *change_create(const struct change_kind *kind, struct error *e);
/* Takes it over. 0: it is over, or CHANGE_PENDING: it is answered later; negative: refused, nobody is
 * answered. ERROR_BUSY if too many wait. */
int changes_add(struct instance *instance, struct change *change, struct error *e);
/* The same of a request. `call` may be NULL: then a failure after that goes to the log. */
int changes_request(struct instance *instance, const struct change_kind *kind,
		    const struct request *request, struct instance_call *call, struct error *e);
/* From prepare(): its work is a job's. CHANGE_WAITS, or negative. */
int change_start_job(struct change *change, const struct job_ops *ops, void *arg, uint64_t *job,
		     struct error *e);
/* Who waits hears that its job has begun, {"job": number}, and no more. */
void change_answer_begun(struct change *change, uint64_t job);
/* Of one that waits: begins its operation. */
void changes_ask(struct change *change);
/* It is over. */
void changes_end(struct change *change, int result, struct error *e);
/* The same as changes_add() for an operation of one that waits: at once, beside the line. */
void changes_beside(struct instance *instance, struct change *change);
/* The VM has stopped, or the instance ends: all are answered so. One that the machine thread has
 * stays until it gives it back. */
void changes_fail(struct instance *instance, const struct error *failure);
void changes_next(struct instance *instance);
bool changes_forget(struct instance *instance, const struct instance_call *call);

struct instance {
	struct instance_settings settings;
	struct instance_host *host;
	enum instance_state state;
	bool ending; /* instance_destroy() */
	struct config *config;
	struct event_log events;
	struct jobs *jobs;
	struct request_count counts[REQUEST_TYPES];
	uint64_t sigpipes;
	uint16_t columns, rows; /* of the console's window; 0: nobody said */

	struct vm *vm;	   /* NULL before the start */
	struct vm *new_vm; /* of a start under way */
	struct vm_host vm_host;
	uint64_t address_random; /* see addresses.c */
	struct serial_file serial;
	uint64_t started_ns, ended_ns; /* 0: not yet */
	const struct vm_stop *stop;    /* the VM's; NULL: not ended */
	struct vm_stop own_stop; /* what this instance has to say of its end, in place of the VM */

	struct change *changes; /* in their order; the first one is under way */
	unsigned int change_count;
	bool beside;		  /* an operation beside the line is under way */
	char *snapshot_parent[3]; /* directory, or state and memory, of the last one; NULL: none */
	struct stop_call *stops;  /* who has asked for a stop */
	struct removal *removals; /* who waits for a device to go */
	struct job_spawner spawner;

	/* What takes long and has no filter: from the start until it is done. Written by the machine
	 * thread. */
	pthread_t settler;
	bool settles;

	/* spare.c: main's, but during a start the start's. */
	bool spare_asked, spare_runs;
	pthread_t spare_thread;
	struct vm_spare *spare; /* its thread's, until that has been joined */
	struct loop_post spare_post;

	/* A start on a thread of its own. */
	bool start_paused;
	struct restore
		*restore; /* it is from a snapshot, or comes from elsewhere; NULL: it boots */
	struct receive *receive; /* it comes from elsewhere, until that is over */
	struct upgrade *upgrade; /* it goes to another process of this host, until that is over */
	pthread_t thread;
	bool thread_runs; /* main: not joined yet */
	int start_result;
	struct error start_error; /* both written before the post */
	struct loop_post start_post;
	struct instance_call *start_call;
	enum request_type start_type;

	struct migration_view migration;
	uint64_t migrations; /* the newest attempt that there was with this VM */

	_Atomic int statm_fd;	/* -1: not open */
	_Atomic int pagemap_fd; /* /proc/self/pagemap; -1: not open */
	_Atomic int freezer_fd; /* freezer_open(), or what it said instead */
	struct output metrics;
	json_t *metrics_before; /* counters as of the last line; NULL: none yet */
	struct loop_timer metrics_timer;
};

/* instance.c: the error of a request that is not possible now. */
int instance_wrong_state(struct instance *instance, struct error *e);

/* asking.c: there is a VM that has been started, and has not ended nor is about to. */
bool instance_lives(const struct instance *instance);

/* The error of a request to a VM that has ended, or is about to. */
int instance_has_ended(struct error *e);
/* That error, if it has. */
int instance_check_alive(const struct instance *instance, struct error *e);

/* start.c: negative, or CHANGE_PENDING. */
int instance_start_async(struct instance *instance, bool paused, struct instance_call *call,
			 struct error *e);
/* A start under way is waited for and undone. False: it does not end. */
bool instance_abandon_start(struct instance *instance);
/* For struct vm_host. */
int instance_begin(struct vm_host *host, struct error *e);
/* Destroys the VM, if there is one. False: a thread does not end. */
bool instance_destroy_vm(struct instance *instance);

/*
 * What carries a request out. 0; negative with `e`; or CHANGE_PENDING: `call`, NULL if nobody waits,
 * is answered later.
 */
struct asked {
	const struct request *request;
	struct instance_call *call;
};
typedef int instance_handler(struct instance *instance, const struct asked *asked, struct error *e);

/* control.c: requests after the start. */
instance_handler control_patch_disk, control_patch_net, control_patch_vm, control_patch_console,
	control_action;
int action_check(const struct action *action, struct error *e);
/* As changes_request(), unless the VM has ended: nothing waits in line for such a one. */
int control_change(struct instance *instance, const struct change_kind *kind,
		   const struct asked *asked, struct error *e);
/* The VM has stopped: answers who has asked for that. */
void control_stopped(struct instance *instance);
void control_forget(struct instance *instance, const struct instance_call *call);
/* The VM is not this instance's any more; or it cannot go on. */
void instance_end_moved(struct instance *instance);
void instance_end_failed(struct instance *instance, const struct error *why);
/* For struct job_spawner. */
int control_spawn(struct job_spawner *spawner, int (*start)(void *arg, struct error *e),
		  void (*told)(void *arg, const struct error *failure), void *arg, struct error *e);

/* plug.c: PUT and DELETE of disks and cards after the start. */
instance_handler plug_add, plug_remove;
/* For struct vm_host. */
void plug_gone(struct vm_host *host, enum vm_device device, const char *id);
/* Who waits for a device to go is answered so. */
void plug_fail(struct instance *instance, const struct error *failure);
void plug_forget(struct instance *instance, const struct instance_call *call);

/* start.c: a start from a snapshot, and from elsewhere. snapshot.c. mark.c. migrate.c. migration_view.c. */
instance_handler instance_load, instance_receive, snapshot_create, instance_mark, instance_migrate,
	instance_decide;
/* snapshot_checks.c: whether it can be one. */
int snapshot_check_form(const struct snapshot_request *request, struct error *e);
int snapshot_check_state(const struct instance *instance, const struct snapshot_request *request,
			 struct error *e);
/* What the next diff is one to; all NULL: nothing. */
void snapshot_parent_set(struct instance *instance, const char *directory, const char *state,
			 const char *memory);

/*
 * restore.c: a start from a snapshot. restore_read() and restore_make_vm() on the thread of the start,
 * which main waits for; the rest on main.
 */
struct restore;
int restore_create(struct restore **ret, struct instance *instance, const struct request *request,
		   struct error *e);
/* Of a VM that comes from elsewhere. */
int restore_create_receive(struct restore **ret, struct instance *instance,
			   const struct receive_request *request, struct error *e);
void restore_destroy(struct restore *restore);
bool restore_wants_resume(const struct restore *restore);
/* Main, while the thread reads: it may return before it is done. */
void restore_cancel(struct restore *restore);
int restore_read(struct restore *restore, const struct instance_settings *settings,
		 struct error *e);
/* What was read is the configuration. */
int restore_commit(struct restore *restore, struct instance *instance, struct error *e);
/* It stays, or (`failure` not NULL) what was there before comes back. */
void restore_conclude(struct restore *restore, struct instance *instance,
		      const struct error *failure);
int restore_make_vm(struct restore *restore, struct instance *instance, struct error *e);

/*
 * receive.c: a VM that comes from elsewhere (vmm/migration.h), in place of a snapshot's reader. What waits and parses is the start's
 * thread, but as it says.
 */
struct receive;
struct receive_request;
int receive_create(struct receive **ret, struct instance *instance,
		   const struct receive_request *request, struct error *e);
/* Accepts NULL; a migration that is not over ends as one whose process was killed. */
void receive_destroy(struct receive *receive);
/* Any thread: who waits gives up. */
void receive_cancel(struct receive *receive);
/* Until an offer has come; what it says stays until receive_destroy(). */
struct offer {
	char *config, *cmdline; /* as of a snapshot: saved_config(), vm_cmdline() */
	const uint8_t *state;	/* of some moment before */
	size_t state_len;
	bool paused;	    /* the VM, when the offer was made */
	bool postcopy;	    /* it may go on here before all of its memory is */
	json_t *disk_bytes; /* {id: size}; NULL: not known */
};
int receive_offer(struct receive *receive, const struct offer **offer, struct error *e);
/* What was passed of an upgrade in place (upgrade.h); NULL: it is none. */
struct upgrade *receive_upgrade(const struct receive *receive);
/* What an offer's configuration asks for is allowed: memory, files; and the client has said what each card is connected to. */
int receive_check_config(const struct receive *receive, const struct vm_config *vm,
			 const struct snapshot_load_request *request, struct error *e);
/* The VM's memory has been made, empty: what may be missing in it when it runs will come. */
int receive_make_sink(struct receive *receive, struct guest_memory *mem, struct error *e);
/* The VM has been made: its disks are what the other side's guest takes them for. */
int receive_check_disks(const struct receive *receive, struct vm *vm, struct error *e);
/* Overrides of the client, and those by which disks that come with the VM are files made here; *ret is the caller's. */
int receive_override_disks(const struct receive *receive, const json_t *overrides, json_t **ret,
			   struct error *e);
/* Before the VM is made, outside any filter: these files. */
int receive_make_disks(struct receive *receive, struct error *e);
/* The VM cannot be made, or not started: the other side is told. */
void receive_refuse(struct receive *receive, const struct error *why);
/* Main: the VM is there, and paused. The rest is a job's. Negative: it could not begin. */
int receive_begin(struct instance *instance, struct error *e);

/*
 * spare.c: KVM in advance. init and begin (after a request) on main; use and give_back around what makes the VM, on its thread; end
 * on main, when no start is under way.
 */
void spare_init(struct instance *instance);
void spare_begin(struct instance *instance);
void spare_use(struct instance *instance);
void spare_give_back(struct instance *instance);
void spare_end(struct instance *instance);

/*
 * page_handler.c: guest memory whose pages another process brings, which listens at `path`. `mem` is empty, and
 * finished if it fails.
 */
int restore_ask_handler(const struct snapshot_info *info, struct guest_memory *mem,
			enum guest_memory_backing backing, const char *path, struct error *e);

/* saved_config.c: JSON text of what lives; NULL if memory is short. free(). */
char *saved_config(const struct instance *instance, const struct saved_disks *disks);
char *saved_about(const struct instance *instance);
/* A configuration out of that, with what the request says of it. */
int saved_config_read(struct config **ret, const struct instance_settings *settings,
		      const char *text, const struct snapshot_load_request *request,
		      const struct disk_copies *copies, struct error *e);
/* The kernel's command line; NULL if memory is short. free(). */
char *saved_cmdline(const char *about);

/* answers.c: NULL if memory is short. */
json_t *answer_instance(struct instance *instance);
json_t *answer_version(struct instance *instance);
json_t *answer_vm(struct instance *instance);
/* {"reason", "code"?, "error"?}; NULL if memory is short. */
json_t *describe_stop(const struct vm_stop *stop);
/* Where resident_bytes() comes from; -1: not known. */
int open_statm(void);
/* Bytes of memory of this process that are resident; 0: not known. */
uint64_t resident_bytes(struct instance *instance);

/*
 * addresses.c: gives each card an address that has none. `identity` may be NULL; *random, 0 at first,
 * is then what makes the addresses this instance's. addresses_make() does it for a host that is
 * known.
 */
void addresses_complete(struct vm_config *config, const char *identity, uint64_t *random);
void addresses_make(struct vm_config *config, const char *identity, const char *host);

/* figures_keys.c: every group and field of a line, all 0; NULL or less if memory is short. */
json_t *figures_zeroes(void);

/* figures.c: lines of the metrics file, if there is one. At the start, when asked, at the end. */
void figures_begin(struct instance *instance);
void figures_flush(struct instance *instance);
void figures_end(struct instance *instance);

#endif
