/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be asked of a VM, as typed requests: the one interface behind the command line, config
 * files and the REST API. Each request type says when it is allowed, which object it carries, and
 * what it answers; src/instance/requests.c has the table. Field names and rules follow Firecracker's
 * API v1; what it lacks is added in its style.
 */
#ifndef VMM_REQUEST_H
#define VMM_REQUEST_H

#include "vmm/json.h"
#include "vmm/options.h"
#include "vmm/rate_limit.h"
#include "vmm/vm_config.h"

enum request_type {
	/* Reading, at any time; answers with a JSON object. */
	REQUEST_GET_INSTANCE,  /* {id, state, vmm_version, app_name} */
	REQUEST_GET_VERSION,   /* {firecracker_version} of the API level, and vmm_version */
	REQUEST_GET_VM,	       /* state, uptime, vCPUs, memory, job */
	REQUEST_GET_VM_CONFIG, /* all that is configured */
	REQUEST_GET_MACHINE_CONFIG,
	REQUEST_GET_JOBS,
	REQUEST_GET_JOB, /* id */
	/* Before the start. */
	REQUEST_PUT_BOOT_SOURCE,      /* struct vm_boot_config */
	REQUEST_PUT_MACHINE_CONFIG,   /* struct vm_machine_config */
	REQUEST_PATCH_MACHINE_CONFIG, /* the same, keys that are given */
	REQUEST_PUT_CPU_CONFIG,	      /* `json`: a CPU template */
	REQUEST_PUT_DRIVE,	      /* id, struct block_config; replaces the one of that id */
	REQUEST_PUT_NET,	      /* id, struct vm_net_config */
	REQUEST_PUT_SERIAL,	      /* struct serial_settings */
	REQUEST_PUT_ENTROPY,	      /* struct entropy_settings */
	REQUEST_PUT_LOGGER,	      /* struct logger_settings */
	REQUEST_PUT_METRICS,	      /* struct metrics_settings; once */
	/* While it runs or is paused. */
	REQUEST_PATCH_DRIVE, /* id, struct drive_update */
	REQUEST_PATCH_NET,   /* id, struct net_update */
	REQUEST_PATCH_VM,    /* struct vm_update: Paused, Resumed */
	/* Their rules depend on the action. */
	REQUEST_PUT_ACTION,    /* struct action */
	REQUEST_PATCH_CONSOLE, /* struct console_update: size of the window */
	REQUEST_DELETE_JOB,    /* id: cancels */
	REQUEST_TYPES,
};

/* Objects; option tables beside each. Strings are borrowed by the request and copied by whom it is
 * made to. */
struct serial_settings {
	const char *output_path; /* NULL: the console of the VM */
	struct token_bucket_config limiter;
	bool has_limiter;
};
struct entropy_settings {
	struct rate_limit_config limiter;
	bool has_limiter;
};
enum logger_level {
	LOGGER_ERROR,
	LOGGER_WARNING,
	LOGGER_INFO,
	LOGGER_DEBUG,
	LOGGER_TRACE,
	LOGGER_OFF
};
/* Firecracker's spellings, in any case that its clients use; NULL ends. */
extern const struct option_value logger_levels[];
struct logger_settings {
	const char *path; /* file or FIFO, a file is made if it is not there; NULL: stays */
	int level;	  /* enum logger_level */
	bool show_level,
		show_origin; /* in a request of JSON that does not name them they stay, as do
					 path and module */
	const char *module;  /* only lines of this part, see log_set_style(); NULL: all */
};
struct metrics_settings {
	const char *path; /* one JSON object a line, each minute and on FlushMetrics */
	bool emit_id;
};
struct drive_update {
	const char *id, *path;
	struct rate_limit_config limiter;
	bool has_limiter;
};
struct net_update {
	const char *id;
	struct rate_limit_config rx, tx;
	bool has_rx, has_tx;
};
enum vm_wanted { VM_WANTED_PAUSED, VM_WANTED_RESUMED };
struct vm_update {
	int state; /* enum vm_wanted */
};
enum action_type {
	ACTION_INSTANCE_START,
	ACTION_FLUSH_METRICS,
	ACTION_SEND_CTRL_ALT_DEL,
	ACTION_POWER_BUTTON, /* from here on: not Firecracker's */
	ACTION_RESET,
	ACTION_STOP,
};
struct action {
	int type; /* enum action_type */
};
struct console_update {
	uint32_t columns, rows;
};

extern const struct option_table serial_settings_options, entropy_settings_options,
	logger_settings_options, metrics_settings_options, drive_update_options, net_update_options,
	vm_update_options, action_options, console_update_options;

struct request {
	enum request_type type;
	/* Of the drive, card or job, where the type has one. Drives and cards: NULL if the object says
	 * it; if both do, they must agree; if neither does, PUT makes one ("drive0"). */
	const char *id;
	const void *object; /* of the type's table; NULL if it has none */
	/* What `object` was read from. Needed where `patch` says so and for CPU templates, which are
	 * read from this and have no object; else NULL for who has no JSON. */
	const json_t *json;
};

struct request_info {
	const char *name; /* "PutDrive": also the operationId of the API description */
	const char *help; /* one sentence */
	const struct option_table *body; /* NULL: none, or free JSON */
	size_t size;			 /* of the object */
	bool patch;			 /* OPTIONS_JSON_PATCH */
	bool has_id;
	bool replies; /* with JSON; else an empty success */
	bool before_start, after_start;
};
extern const struct request_info request_infos[REQUEST_TYPES];

#endif
