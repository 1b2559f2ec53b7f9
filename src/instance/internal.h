/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of src/instance share.
 *
 *	requests.c	what can be asked: tables
 *	instance.c	life, states, which handler a request gets
 *	config_store.c	what is configured; requests before the start
 *	config_file.c	all of that as one JSON object, out and in
 *	cpu_template.c	a CPU template out of JSON
 *	start.c		from configuration to a running VM, on a thread or not
 *	control.c	requests after the start
 *	answers.c	requests that read
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

#include "vmm/instance.h"

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
 * config_store.c: strings are the store's own. Of what has a file to write to, the open descriptor
 * is here as well, so that a store that is thrown away has changed nothing.
 */
struct config_store {
	bool has_boot, has_serial, has_entropy, has_logger, has_metrics;
	struct vm_boot_config boot;
	struct vm_machine_config machine;
	json_t *cpu_config;		   /* as it was given; NULL: none */
	struct cpu_template *cpu_template; /* made from it */
	struct serial_settings serial;
	struct entropy_settings entropy;
	struct logger_settings logger;
	struct metrics_settings metrics;
	int serial_fd, log_fd, metrics_fd; /* -1: none */
	/* What lies beyond the counts is never read. */
	uint32_t drive_count, net_count;
	struct block_config drives[VM_DISKS_MAX];
	struct vm_net_config nets[VM_NETS_MAX];
};
int config_store_init(struct config_store *store, const struct instance_settings *settings,
		      struct error *e);
/* Accepts a zeroed store whose descriptors are -1. */
void config_store_finish(struct config_store *store);
/* Where the serial port's output goes. Made by the request, or, for Firecracker's clients, at the
 * start at the latest. */
int config_store_open_serial(int *ret, const char *path, struct error *e);
/* A request that configures. The store is as before if it fails. */
int config_store_put(struct config_store *store, const struct instance_settings *settings,
		     const struct request *request, struct error *e);
/* Place in the store, or -1. */
int config_store_find_drive(const struct config_store *store, const char *id);
int config_store_find_net(const struct config_store *store, const char *id);
/* Which id is meant: that of the path, that of the body, which must agree. NULL with `e` set. */
const char *request_id(const char *from_path, const char *from_body, struct error *e);
/*
 * What vm_create() takes; borrows from the store. places[i] becomes the index of drive i there.
 */
void config_store_to_vm(const struct config_store *store, const struct instance_settings *settings,
			struct vm_config *config, uint32_t places[VM_DISKS_MAX]);

/* Logger and metrics stay with `next` if it has none of its own. */
void config_store_keep_outputs(struct config_store *next, struct config_store *before);

/* config_file.c: NULL if memory is short. */
json_t *config_store_to_json(const struct config_store *store, bool firecracker);
json_t *config_store_machine_to_json(const struct config_store *store, bool firecracker);
/* Of an object as above; false if memory is short. */
bool config_absolute_paths(json_t *config, const char *directory);
/* Fills a fresh store. */
int config_store_read(struct config_store *store, const struct instance_settings *settings,
		      const json_t *config, struct error *e);

/* cpu_template.c: *ret is malloc'ed. */
int cpu_template_from_json(struct cpu_template **ret, const json_t *json, struct error *e);

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
struct console_channel *serial_file_init(struct serial_file *file, const struct config_store *store,
					 struct console_channel *inner);

struct request_count {
	uint64_t made, failed;
};

struct instance {
	struct instance_settings settings;
	struct instance_host *host;
	enum instance_state state; /* what was told; see instance_state() */
	struct config_store config;
	struct event_log events;
	struct jobs *jobs;
	struct request_count counts[REQUEST_TYPES];
	uint64_t sigpipes;
	uint16_t columns, rows; /* of the console's window; 0: nobody said */

	struct vm *vm;	   /* NULL before the start */
	struct vm *new_vm; /* of a start under way */
	struct vm_host vm_host;
	struct vm_config *vm_config; /* of a start under way; NULL: none */
	uint32_t drive_places[VM_DISKS_MAX];
	uint64_t address_random; /* see addresses.c */
	struct serial_file serial;
	uint64_t started_ns, ended_ns; /* 0: not yet */
	const struct vm_stop *stop;    /* the VM's; NULL: not ended */
	struct vm_stop failed_stop;    /* of a start that cannot be tried again */

	/* A start on a thread of its own. */
	pthread_t thread;
	bool thread_runs; /* main: not joined yet */
	int start_result;
	struct error start_error; /* both written before the post */
	struct loop_post start_post;
	struct instance_call *start_call;

	int statm_fd; /* -1: not open */
	struct output metrics;
	json_t *metrics_before; /* counters as of the last line; NULL: none yet */
	struct loop_timer metrics_timer;
};

/* instance.c: the error of a request that is not possible now. */
int instance_wrong_state(struct instance *instance, struct error *e);

/* start.c: `call` may be NULL. */
void instance_start_async(struct instance *instance, struct instance_call *call);
/* A start under way is waited for and undone. */
void instance_abandon_start(struct instance *instance);
/* For struct vm_host. */
int instance_start_threads(struct vm_host *host, struct error *e);

/* control.c: requests after the start. */
int control_patch_drive(struct instance *instance, const struct request *request, struct error *e);
int control_patch_net(struct instance *instance, const struct request *request, struct error *e);
int control_patch_vm(struct instance *instance, const struct request *request, struct error *e);
int control_patch_console(struct instance *instance, const struct request *request,
			  struct error *e);
int control_action(struct instance *instance, const struct request *request, struct error *e);

/* answers.c: NULL if memory is short. */
json_t *answer_instance(const struct instance *instance);
json_t *answer_version(const struct instance *instance);
json_t *answer_vm(struct instance *instance);
const char *stop_reason_name(enum vm_stop_reason reason);
/* {"reason", "code"?, "error"?}; NULL if memory is short. */
json_t *describe_stop(const struct vm_stop *stop);
/* Bytes of memory of this process that are resident; 0: not known. */
uint64_t resident_bytes(struct instance *instance);
/* Where that comes from; -1: not known. */
int open_statm(void);

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
