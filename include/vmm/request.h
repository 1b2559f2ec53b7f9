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
	REQUEST_GET_JOB,       /* id */
	REQUEST_GET_MIGRATION, /* the one that is under way, or was the last */
	/* Before the start. */
	REQUEST_PUT_BOOT_SOURCE,      /* struct vm_boot_config */
	REQUEST_PUT_MACHINE_CONFIG,   /* struct vm_machine_config */
	REQUEST_PATCH_MACHINE_CONFIG, /* the same, keys that are given */
	REQUEST_PUT_CPU_CONFIG,	      /* `json`: a CPU template */
	REQUEST_PUT_DISK, /* id, struct block_config; replaces the one of that id; after the start too: one more */
	REQUEST_PUT_NET,	       /* id, struct vm_net_config; so does this */
	REQUEST_PUT_SERIAL,	       /* struct serial_settings */
	REQUEST_PUT_ENTROPY,	       /* struct entropy_settings */
	REQUEST_PUT_LOGGER,	       /* struct logger_settings */
	REQUEST_PUT_METRICS,	       /* struct metrics_settings; once */
	REQUEST_PUT_SNAPSHOT_LOAD,     /* struct snapshot_load_request; instead of a start */
	REQUEST_PUT_MIGRATION_RECEIVE, /* struct receive_request; the same */
	/* While it runs or is paused. */
	REQUEST_DELETE_DISK, /* id, struct device_removal: answered when it has gone */
	REQUEST_DELETE_NET,
	REQUEST_PATCH_DISK,	   /* id, struct disk_update */
	REQUEST_PATCH_NET,	   /* id, struct net_update */
	REQUEST_PATCH_VM,	   /* struct vm_update: Paused, Resumed */
	REQUEST_PUT_SNAPSHOT,	   /* struct snapshot_request */
	REQUEST_PUT_SNAPSHOT_MARK, /* what a load records is written */
	REQUEST_PUT_MIGRATION,	   /* struct migrate_request */
	REQUEST_PATCH_MIGRATION,   /* struct migration_decision */
	/* Their rules depend on the action. */
	REQUEST_PUT_ACTION,    /* struct action */
	REQUEST_PATCH_CONSOLE, /* struct console_update: size of the window */
	REQUEST_DELETE_JOB,    /* id: cancels */
	REQUEST_TYPES,
};

/* Objects; option tables beside each. Strings are borrowed by the request and copied by whom it is
 * made to. */
struct disk_update {
	const char *id, *path;
	struct rate_limit_config limiter;
	bool has_limiter;
};
struct net_update {
	const char *id;
	struct rate_limit_config rx, tx;
	bool has_rx, has_tx;
};
struct device_removal {
	bool force; /* the guest is not asked */
	uint64_t timeout_ns;
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
	int type;    /* enum action_type */
	bool paused; /* InstanceStart: the guest's first instruction waits for a resume */
};
struct console_update {
	uint32_t columns, rows;
};

/* A copy of the file that the guest writes (of a disk with an overlay, that), as it is in the snapshot. */
struct disk_copy_request {
	const char *id, *path; /* which is not there */
	bool reflink;	       /* only if it shares the other's blocks */
};
enum snapshot_type { SNAPSHOT_FULL, SNAPSHOT_DIFF };
/* Firecracker's form: two files, of a VM that is paused. Ours: a directory, of one that may run, which is
 * paused meanwhile. */
struct snapshot_request {
	int type; /* enum snapshot_type */
	const char *state_path, *memory_path, *directory;
	bool live; /* of a directory: a VM that runs goes on */
	bool early; /* live: it can be loaded while its memory is still written, and by nobody later */
	bool compress;	      /* memory is stored by zstd */
	bool with_disks;      /* of a directory: it has a copy of each disk that is written */
	const json_t *copies; /* array of struct disk_copy_request; NULL: none */
	bool background;      /* answered when the job has begun, with {"job": number} */
};
enum snapshot_backend { SNAPSHOT_BACKEND_FILE, SNAPSHOT_BACKEND_UFFD };
enum snapshot_clock { SNAPSHOT_CLOCK_RESUME, SNAPSHOT_CLOCK_STEP };
enum snapshot_memory {
	SNAPSHOT_MEMORY_MAP,
	SNAPSHOT_MEMORY_VERIFY,
	SNAPSHOT_MEMORY_READ,
	SNAPSHOT_MEMORY_LAZY,
};
/* Pages of guest memory: as the machine had them, or one of enum vm_huge_pages. */
#define SNAPSHOT_HUGE_PAGES_AS_SAVED  0
#define SNAPSHOT_HUGE_PAGES(vm_value) ((vm_value) + 1)
/* Disks that are not as they were when the snapshot was made. */
enum changed_disks { CHANGED_DISKS_REFUSE, CHANGED_DISKS_ACCEPT };
struct snapshot_load_request {
	const char *state_path, *memory_path, *directory;
	struct {
		const char *path;
		int type; /* enum snapshot_backend */
	} backend;
	bool has_backend;
	bool enable_diff, track_dirty_pages; /* the same: the older name, and the newer */
	bool resume;
	bool clock_realtime; /* Firecracker's word for SNAPSHOT_CLOCK_STEP */
	int clock;	     /* enum snapshot_clock */
	int memory;	     /* enum snapshot_memory */
	int huge_pages;	     /* SNAPSHOT_HUGE_PAGES */
	int changed_disks;   /* enum changed_disks: of a directory */
	bool record; /* of a directory, lazily: what is touched first, until REQUEST_PUT_SNAPSHOT_MARK */
	/* Folder that gets a copy of each disk of which the directory has one, ID.img, for this VM; NULL: none. Disks of
	 * `disks` excepted. */
	const char *disks_to;
	/* Arrays of objects; NULL: none. What a device is connected to instead of what it was. */
	const json_t *nets, *disks;
	/* Cards that are on open descriptors now, the VM's from then on. No JSON has them: they are for who is in this process
	 * and waits until the load is over. */
	const struct net_fd *net_fds;
	uint32_t net_fd_count;
};
struct net_fd {
	const char *id;
	int fd;
};
/* How long the other side of a migration may say nothing: the option that all have who wait for one. Nanoseconds. */
#define SILENCE_OPTION(struct_, member, fallback_, help_, ...)                                   \
	{                                                                                        \
		.name = "silence", .type = OPTION_DURATION, .offset = offsetof(struct_, member), \
		.min = 100000000ULL, .max = 3600000000000ULL, .unit = "100ms to 1h",             \
		.argument = "TIME", .fallback = (fallback_), .help = (help_), __VA_ARGS__        \
	}
/* What becomes of a guest that writes faster than it can be sent, when time is over. */
enum migrate_limit { MIGRATE_LIMIT_CANCEL, MIGRATE_LIMIT_FORCE, MIGRATE_LIMIT_POSTCOPY };
struct migrate_request {
	const char *address;	   /* vmm/migration_address.h */
	uint64_t downtime_ns;	   /* aimed at: how long the guest may stand still */
	uint64_t time_limit_ns;	   /* of the copying; 0: none */
	uint64_t silence_ns;	   /* of the other side, after which it is given up */
	uint64_t bandwidth;	   /* bytes per second; 0: as much as there is */
	int at_limit;		   /* enum migrate_limit */
	uint32_t throttle_percent; /* of their time that vCPUs may be kept from running, 0 to 99 */
	uint32_t connections;	   /* that memory goes over, 1 to 8; 0: 1 */
	bool compress;		   /* memory goes over by zstd */
	bool postcopy; /* it goes on there after the first pass, and what is missing comes when it is touched */
	bool insecure;
	bool with_disks; /* those that the VM writes go there as well */
	bool background; /* answered when the job has begun, with {"job": number} */
	/* To another process of this host, which takes its name and place over: `address` is a socket in the VM's directory. */
	bool upgrade;
};
enum migration_decide {
	MIGRATION_DECIDE_RUN,
	MIGRATION_DECIDE_GIVE_UP,
	MIGRATION_DECIDE_CANCEL,
	MIGRATION_DECIDE_SWITCH, /* to post-copy, after the pass that is under way */
	MIGRATION_DECIDE_RESUME, /* memory's connections are lost: connect again */
};
struct migration_decision {
	int decision;	     /* enum migration_decide */
	const char *address; /* of RESUME; NULL: the same */
	const char *word;    /* of RUN: the other side's; NULL: none */
	bool vouched; /* of RUN, instead of a word: the client's own that the VM runs nowhere else */
};
/* A stream socket that somebody else has opened for a receiver. */
struct receive_socket {
	int fd;
	bool listens; /* else it is the one connection that there will be */
	int life_fd; /* -1, or closed together with it: who passes clients on sees that there is no need any more */
};
struct receive_request {
	const char *address;
	/* The folder that files of the offer may be in (disks, kernel, initrd); NULL: every one needs an override. */
	const char *allow;
	uint64_t silence_ns;
	uint64_t memory_max; /* bytes of the guest's; 0: what this host can */
	/* The folder in which files of disks are made that come with the VM; NULL: none does. */
	const char *disks_to;
	uint64_t disks_max;   /* bytes of all of them; 0: no limit */
	uint32_t connections; /* that a VM's memory may come over, 1 to 8; 0: 8 */
	bool insecure, track_dirty_pages;
	const json_t *nets, *disks;   /* as of a load */
	const struct net_fd *net_fds; /* the same */
	uint32_t net_fd_count;
	bool upgrade; /* by who is in this process, with such a socket: vmm upgrade */
	/* Instead of the address, which is then only shown; not in JSON. Both descriptors are the request's from then on. */
	const struct receive_socket *socket;
};
extern const struct option_table migrate_request_options, migration_decision_options,
	receive_request_options;

struct net_override {
	const char *id, *tap;
};
struct disk_override {
	const char *id, *path, *overlay; /* the last two: one at least */
};
extern const struct option_table snapshot_request_options, snapshot_load_options,
	net_override_options, disk_override_options, disk_copy_options;

extern const struct option_table disk_update_options, net_update_options, device_removal_options,
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
	bool add; /* of PUT of a disk or card: an id that is there already is refused */
};

struct request_info {
	const char *name; /* "PutDrive": also the operationId of the API description */
	const char *help; /* one sentence */
	const struct option_table *body; /* NULL: none, or free JSON */
	size_t size;			 /* of the object */
	bool patch;			 /* OPTIONS_JSON_PATCH */
	bool query;			 /* `body` comes in the query; it has no strings */
	bool has_id;
	bool replies; /* with JSON; else an empty success */
	bool before_start, after_start;
};
extern const struct request_info request_infos[REQUEST_TYPES];

#endif
