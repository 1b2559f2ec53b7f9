/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be asked: the table of requests, and the option tables of their objects, from which
 * JSON, schema and flags are made. Names and keys are Firecracker's where it has the resource.
 * Constant data.
 */
#include "vmm/request.h"

static const struct option disk_update_list[] = {
	{ .type = OPTION_STRING,
	  .offset = offsetof(struct disk_update, id),
	  .json = "drive_id",
	  .json_required = true,
	  .help = "the drive" },
	{ .type = OPTION_STRING,
	  .offset = offsetof(struct disk_update, path),
	  .json = "path_on_host",
	  .help = "another file or block device to put behind it" },
	{ .type = OPTION_OBJECT,
	  .object = &rate_limit_options,
	  .offset = offsetof(struct disk_update, limiter),
	  .present = offsetof(struct disk_update, has_limiter) + 1,
	  .json = "rate_limiter",
	  .help = "new limits; a bucket that is not given stays as it is" },
};
const struct option_table disk_update_options = OPTION_TABLE("drive-update", disk_update_list);

static const struct option net_update_list[] = {
	{ .type = OPTION_STRING,
	  .offset = offsetof(struct net_update, id),
	  .json = "iface_id",
	  .json_required = true,
	  .help = "the network card" },
	{ .type = OPTION_OBJECT,
	  .object = &rate_limit_options,
	  .offset = offsetof(struct net_update, rx),
	  .present = offsetof(struct net_update, has_rx) + 1,
	  .json = "rx_rate_limiter",
	  .help = "new limits of what the guest receives; a bucket that is not given stays" },
	{ .type = OPTION_OBJECT,
	  .object = &rate_limit_options,
	  .offset = offsetof(struct net_update, tx),
	  .present = offsetof(struct net_update, has_tx) + 1,
	  .json = "tx_rate_limiter",
	  .help = "new limits of what the guest sends; a bucket that is not given stays" },
};
const struct option_table net_update_options = OPTION_TABLE("net-update", net_update_list);

static const struct option device_removal_list[] = {
	{ .name = "timeout",
	  .type = OPTION_DURATION,
	  .offset = offsetof(struct device_removal, timeout_ns),
	  .min = 1,
	  .max = 86400000000000,
	  .unit = "up to a day",
	  .argument = "TIME",
	  .fallback = "10s",
	  .help = "how long the guest has to give it back; it may do so later as well" },
	{ .name = "force",
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct device_removal, force),
	  .careful = true,
	  .help = "take it away at once, whatever the guest does with it" },
};
const struct option_table device_removal_options =
	OPTION_TABLE("device-removal", device_removal_list);

static const struct option_value vm_states[] = {
	{ "Paused", VM_WANTED_PAUSED },
	{ "Resumed", VM_WANTED_RESUMED },
	{ NULL, 0 },
};
static const struct option vm_update_list[] = {
	{ .type = OPTION_ENUM,
	  .offset = offsetof(struct vm_update, state),
	  .values = vm_states,
	  .json = "state",
	  .json_required = true,
	  .help = "what the VM shall be; being it already is no error" },
};
const struct option_table vm_update_options = OPTION_TABLE("vm-update", vm_update_list);

static const struct option_value action_types[] = {
	{ "InstanceStart", ACTION_INSTANCE_START },
	{ "FlushMetrics", ACTION_FLUSH_METRICS },
	{ "SendCtrlAltDel", ACTION_SEND_CTRL_ALT_DEL },
	{ "PowerButton", ACTION_POWER_BUTTON },
	{ "Reset", ACTION_RESET },
	{ "Stop", ACTION_STOP },
	{ NULL, 0 },
};
static const struct option action_list[] = {
	{ .type = OPTION_ENUM,
	  .offset = offsetof(struct action, type),
	  .values = action_types,
	  .json = "action_type",
	  .json_required = true,
	  .help = "what to do" },
	{ .type = OPTION_FLAG,
	  .offset = offsetof(struct action, paused),
	  .ours = true,
	  .json = "paused",
	  .help = "InstanceStart: the VM is paused before its first instruction" },
};
const struct option_table action_options = OPTION_TABLE("action", action_list);

static const struct option console_update_list[] = {
	{ .type = OPTION_U32,
	  .offset = offsetof(struct console_update, columns),
	  .min = 1,
	  .max = UINT16_MAX,
	  .json = "columns",
	  .json_required = true,
	  .help = "width of the console's window in characters" },
	{ .type = OPTION_U32,
	  .offset = offsetof(struct console_update, rows),
	  .min = 1,
	  .max = UINT16_MAX,
	  .json = "rows",
	  .json_required = true,
	  .help = "its height" },
};
const struct option_table console_update_options =
	OPTION_TABLE("console-update", console_update_list);

static const struct option_value snapshot_types[] = {
	{ "Full", SNAPSHOT_FULL },
	{ "Diff", SNAPSHOT_DIFF },
	{ NULL, 0 },
};
static const struct option disk_copy_list[] = {
	{ .type = OPTION_STRING,
	  .offset = offsetof(struct disk_copy_request, id),
	  .json = "drive_id",
	  .json_required = true,
	  .help = "the drive" },
	{ .type = OPTION_STRING,
	  .offset = offsetof(struct disk_copy_request, path),
	  .file = true,
	  .json = "path_on_host",
	  .json_required = true,
	  .help = "the new file" },
	{ .type = OPTION_FLAG,
	  .offset = offsetof(struct disk_copy_request, reflink),
	  .json = "reflink",
	  .help = "fail rather than copy every byte while the VM stands still" },
};
const struct option_table disk_copy_options = OPTION_TABLE("disk-copy", disk_copy_list);

static const struct option snapshot_request_list[] = {
	{ .type = OPTION_ENUM,
	  .offset = offsetof(struct snapshot_request, type),
	  .values = snapshot_types,
	  .fallback = "Full",
	  .json = "snapshot_type",
	  .help = "all memory, or what was written since the last snapshot" },
	{ .type = OPTION_STRING,
	  .offset = offsetof(struct snapshot_request, state_path),
	  .file = true,
	  .json = "snapshot_path",
	  .help = "file for the state of the VM, which must be paused" },
	{ .type = OPTION_STRING,
	  .offset = offsetof(struct snapshot_request, memory_path),
	  .file = true,
	  .json = "mem_file_path",
	  .help = "file for its memory" },
	{ .type = OPTION_STRING,
	  .offset = offsetof(struct snapshot_request, directory),
	  .file = true,
	  .ours = true,
	  .json = "directory",
	  .help = "directory for both, instead of two files; a VM that runs is paused meanwhile" },
	{ .type = OPTION_FLAG,
	  .offset = offsetof(struct snapshot_request, live),
	  .ours = true,
	  .json = "live",
	  .help = "a VM that runs goes on while its memory is written" },
	{ .type = OPTION_FLAG,
	  .offset = offsetof(struct snapshot_request, early),
	  .ours = true,
	  .json = "early",
	  .help = "with live: it can be loaded while its memory is still written, if this host can "
		  "do that, and is no snapshot that lasts" },
	{ .type = OPTION_FLAG,
	  .offset = offsetof(struct snapshot_request, compress),
	  .ours = true,
	  .json = "compress",
	  .help = "memory is stored compressed (zstd): a restore unpacks it first" },
	{ .type = OPTION_FLAG,
	  .offset = offsetof(struct snapshot_request, with_disks),
	  .ours = true,
	  .json = "with_disks",
	  .help = "the directory gets a copy of each drive that is written, disk-ID, of that "
		  "moment" },
	{ .type = OPTION_OBJECTS,
	  .object = &disk_copy_options,
	  .offset = offsetof(struct snapshot_request, copies),
	  .ours = true,
	  .json = "drive_copies",
	  .help = "files of drives that are copied as they are in the snapshot" },
	{ .type = OPTION_FLAG,
	  .offset = offsetof(struct snapshot_request, background),
	  .ours = true,
	  .json = "background",
	  .help = "answer when it has begun, with the number of its job" },
};
const struct option_table snapshot_request_options =
	OPTION_TABLE("snapshot-create", snapshot_request_list);

static const struct option net_override_list[] = {
	{ .type = OPTION_STRING,
	  .offset = offsetof(struct net_override, id),
	  .json = "iface_id",
	  .json_required = true,
	  .help = "the network card" },
	{ .type = OPTION_STRING,
	  .offset = offsetof(struct net_override, tap),
	  .json = "host_dev_name",
	  .json_required = true,
	  .help = "the tap that it is connected to now" },
};
const struct option_table net_override_options = OPTION_TABLE("net-override", net_override_list);

static const struct option disk_override_list[] = {
	{ .type = OPTION_STRING,
	  .offset = offsetof(struct disk_override, id),
	  .json = "drive_id",
	  .json_required = true,
	  .help = "the drive" },
	{ .type = OPTION_STRING,
	  .offset = offsetof(struct disk_override, path),
	  .file = true,
	  .json = "path_on_host",
	  .help = "the file or block device that is behind it now" },
	{ .type = OPTION_STRING,
	  .offset = offsetof(struct disk_override, overlay),
	  .file = true,
	  .json = "overlay",
	  .help = "the overlay that is over it now" },
};
const struct option_table disk_override_options = OPTION_TABLE("disk-override", disk_override_list);

#define IN(member) .offset = offsetof(struct snapshot_load_request, member)
static const struct option_value backends[] = {
	{ "File", SNAPSHOT_BACKEND_FILE },
	{ "Uffd", SNAPSHOT_BACKEND_UFFD },
	{ NULL, 0 },
};
static const struct option backend_list[] = {
	{ .type = OPTION_STRING,
	  .offset = offsetof(struct snapshot_load_request, backend.path) -
		    offsetof(struct snapshot_load_request, backend),
	  .file = true,
	  .json = "backend_path",
	  .json_required = true,
	  .help = "the memory file; of Uffd: the socket of who serves its pages" },
	{ .type = OPTION_ENUM,
	  .offset = offsetof(struct snapshot_load_request, backend.type) -
		    offsetof(struct snapshot_load_request, backend),
	  .values = backends,
	  .json = "backend_type",
	  .json_required = true,
	  .help = "where the memory comes from" },
};
static const struct option_table backend_options = OPTION_TABLE("mem-backend", backend_list);

static const struct option_value clocks[] = {
	{ "resume", SNAPSHOT_CLOCK_RESUME },
	{ "step", SNAPSHOT_CLOCK_STEP },
	{ NULL, 0 },
};
static const struct option_value memories[] = {
	{ "map", SNAPSHOT_MEMORY_MAP },
	{ "verify", SNAPSHOT_MEMORY_VERIFY },
	{ "read", SNAPSHOT_MEMORY_READ },
	{ "lazy", SNAPSHOT_MEMORY_LAZY },
	{ NULL, 0 },
};
static const struct option_value huge_pages[] = {
	{ "Snapshot", SNAPSHOT_HUGE_PAGES_AS_SAVED },
	{ "None", SNAPSHOT_HUGE_PAGES(VM_HUGE_PAGES_NONE) },
	{ "Transparent", SNAPSHOT_HUGE_PAGES(VM_HUGE_PAGES_TRANSPARENT) },
	{ "2M", SNAPSHOT_HUGE_PAGES(VM_HUGE_PAGES_2M) },
	{ NULL, 0 },
};
static const struct option_value changed_disks[] = {
	{ "refuse", CHANGED_DISKS_REFUSE },
	{ "accept", CHANGED_DISKS_ACCEPT },
	{ NULL, 0 },
};
static const struct option snapshot_load_list[] = {
	{ .type = OPTION_STRING,
	  IN(state_path),
	  .file = true,
	  .json = "snapshot_path",
	  .help = "file with the state of the VM" },
	{ .type = OPTION_STRING,
	  IN(memory_path),
	  .file = true,
	  .deprecated = true,
	  .json = "mem_file_path",
	  .help = "file with its memory" },
	{ .type = OPTION_OBJECT,
	  .object = &backend_options,
	  IN(backend),
	  .present = offsetof(struct snapshot_load_request, has_backend) + 1,
	  .json = "mem_backend",
	  .help = "where its memory comes from" },
	{ .type = OPTION_FLAG,
	  IN(enable_diff),
	  .deprecated = true,
	  .json = "enable_diff_snapshots",
	  .help = "track_dirty_pages, as it was called" },
	{ .type = OPTION_FLAG,
	  IN(track_dirty_pages),
	  .json = "track_dirty_pages",
	  .help = "note which pages the guest writes, for incremental snapshots" },
	{ .type = OPTION_FLAG,
	  IN(resume),
	  .json = "resume_vm",
	  .help = "the VM runs at once; else it is paused" },
	{ .type = OPTION_OBJECTS,
	  .object = &net_override_options,
	  IN(nets),
	  .json = "network_overrides",
	  .help = "network cards that are connected to other taps now" },
	{ .type = OPTION_FLAG,
	  IN(clock_realtime),
	  .json = "clock_realtime",
	  .help = "the same as clock step" },
	{ .type = OPTION_ENUM,
	  IN(huge_pages),
	  .values = huge_pages,
	  .fallback = "Snapshot",
	  .json = "huge_pages",
	  .help = "pages of guest memory; Snapshot: as the machine had them" },
	{ .name = "clock",
	  .type = OPTION_ENUM,
	  IN(clock),
	  .values = clocks,
	  .fallback = "resume",
	  .ours = true,
	  .json = "clock",
	  .help = "the guest's clocks go on where they were, or step over the time between" },
	{ .name = "memory-mode",
	  .type = OPTION_ENUM,
	  IN(memory),
	  .values = memories,
	  .argument = "map|verify|read|lazy",
	  .fallback = "map",
	  .ours = true,
	  .json = "memory_mode",
	  .help = "map: pages come from the file as they are needed, unchecked; verify: all are "
		  "checked first; read: all are read and checked, and the file is not needed any "
		  "more; lazy: they are read and checked as they are needed, the rest meanwhile" },
	{ .name = "record-working-set",
	  .type = OPTION_FLAG,
	  IN(record),
	  .ours = true,
	  .json = "record_working_set",
	  .help = "lazy: note what the guest asks for, and bring nothing else, until the mark, "
		  "which "
		  "writes it into the snapshot's directory; a later load that is lazy brings that "
		  "first" },
	{ .name = "changed-disks",
	  .type = OPTION_ENUM,
	  IN(changed_disks),
	  .values = changed_disks,
	  .argument = "refuse|accept",
	  .fallback = "refuse",
	  .ours = true,
	  .json = "changed_disks",
	  .help = "what becomes of a directory's VM whose disks have changed since" },
	{ .name = "disks-to",
	  .type = OPTION_STRING,
	  IN(disks_to),
	  .file = true,
	  .ours = true,
	  .argument = "FOLDER",
	  .json = "disks_to",
	  .help = "each disk that the snapshot's directory has a copy of is copied to "
		  "FOLDER/ID.img, "
		  "which the VM has then" },
	{ .type = OPTION_STRING,
	  IN(directory),
	  .file = true,
	  .ours = true,
	  .json = "directory",
	  .help = "directory of a snapshot, instead of two files" },
	{ .type = OPTION_OBJECTS,
	  .object = &disk_override_options,
	  IN(disks),
	  .ours = true,
	  .json = "drive_overrides",
	  .help = "drives that have other files behind them now" },
};
#undef IN
const struct option_table snapshot_load_options = OPTION_TABLE("snapshot-load", snapshot_load_list);

#define BODY(table_, type_) .body = &(table_), .size = sizeof(type_)
#define BEFORE		    .before_start = true
#define AFTER		    .after_start = true
#define REPLY		    .replies = true, BEFORE, AFTER
#define REMOVAL \
	BODY(device_removal_options, struct device_removal), .query = true, .has_id = true, AFTER
#define REQUEST(type_, name_, help_, ...) \
	[REQUEST_##type_] = { .name = (name_), .help = (help_), __VA_ARGS__ }

const struct request_info request_infos[REQUEST_TYPES] = {
	REQUEST(GET_INSTANCE, "GetInstance", "Id, state and version of the instance.", REPLY),
	REQUEST(GET_VERSION, "GetVersion", "Which API is spoken, and by which program.", REPLY),
	REQUEST(GET_VM, "GetVm", "State, uptime, vCPUs, memory, the current job, how it ended.",
		REPLY),
	REQUEST(GET_VM_CONFIG, "GetVmConfig", "All that is configured; a config file accepts it.",
		REPLY),
	REQUEST(GET_MACHINE_CONFIG, "GetMachineConfig",
		"Processors, memory and what a reboot does.", REPLY),
	REQUEST(GET_JOBS, "GetJobs", "The jobs that run or ran lately, the oldest first.", REPLY),
	REQUEST(GET_JOB, "GetJob", "One job: how far it is, or how it ended.", .has_id = true,
		REPLY),
	REQUEST(GET_MIGRATION, "GetMigration",
		"The migration that is under way, or the last one: how far it is, what has to be "
		"decided.",
		REPLY),
	REQUEST(PUT_BOOT_SOURCE, "PutBootSource", "Names kernel, initrd and command line.",
		BODY(vm_boot_options, struct vm_boot_config), BEFORE),
	REQUEST(PUT_MACHINE_CONFIG, "PutMachineConfig",
		"Sets the machine; what is not named gets its default.",
		BODY(vm_machine_options, struct vm_machine_config), BEFORE),
	REQUEST(PATCH_MACHINE_CONFIG, "PatchMachineConfig", "Changes of the machine what is named.",
		BODY(vm_machine_options, struct vm_machine_config), .patch = true, BEFORE),
	REQUEST(PUT_CPU_CONFIG, "PutCpuConfig", "Sets a CPU template: CPUID and MSRs, bit by bit.",
		BEFORE),
	REQUEST(PUT_DISK, "PutDrive",
		"Adds a drive; before the start it replaces the one of that id.",
		BODY(block_options, struct block_config), .has_id = true, BEFORE, AFTER),
	REQUEST(PUT_NET, "PutNetworkInterface",
		"Adds a network card; before the start it replaces the one of that id.",
		BODY(vm_net_options, struct vm_net_config), .has_id = true, BEFORE, AFTER),
	REQUEST(DELETE_DISK, "DeleteDrive", "Asks the guest to give a drive back, and removes it.",
		REMOVAL),
	REQUEST(DELETE_NET, "DeleteNetworkInterface",
		"Asks the guest to give a network card back, and removes it.", REMOVAL),
	REQUEST(PUT_SERIAL, "PutSerial", "Says where the serial port's output goes and how fast.",
		BODY(serial_settings_options, struct serial_settings), BEFORE),
	REQUEST(PUT_ENTROPY, "PutEntropy", "Adds a source of random numbers.",
		BODY(entropy_settings_options, struct entropy_settings), BEFORE),
	REQUEST(PUT_LOGGER, "PutLogger", "Says where messages go and which are written.",
		BODY(logger_settings_options, struct logger_settings), BEFORE),
	REQUEST(PUT_METRICS, "PutMetrics", "Names a file that gets all figures each minute; once.",
		BODY(metrics_settings_options, struct metrics_settings), BEFORE),
	REQUEST(PATCH_DISK, "PatchDrive", "Puts another file behind a drive, or limits it.",
		BODY(disk_update_options, struct disk_update), .has_id = true, AFTER),
	REQUEST(PATCH_NET, "PatchNetworkInterface", "Limits a network card.",
		BODY(net_update_options, struct net_update), .has_id = true, AFTER),
	REQUEST(PATCH_VM, "PatchVm", "Pauses or resumes the VM.",
		BODY(vm_update_options, struct vm_update), AFTER),
	REQUEST(PUT_SNAPSHOT, "CreateSnapshot", "Writes a snapshot of the VM.",
		BODY(snapshot_request_options, struct snapshot_request), AFTER),
	REQUEST(PUT_SNAPSHOT_MARK, "MarkSnapshot",
		"Ends a record of what the VM touches first, and writes it beside its snapshot.",
		AFTER),
	REQUEST(PUT_SNAPSHOT_LOAD, "LoadSnapshot",
		"Loads a snapshot, instead of configuring and starting a VM.",
		BODY(snapshot_load_options, struct snapshot_load_request), BEFORE),
	REQUEST(PUT_MIGRATION_RECEIVE, "ReceiveMigration",
		"Waits for a VM from another host, instead of configuring and starting one.",
		BODY(receive_request_options, struct receive_request), BEFORE),
	REQUEST(PUT_MIGRATION, "Migrate", "Moves the VM to where another vmm waits for it.",
		BODY(migrate_request_options, struct migrate_request), AFTER),
	REQUEST(PATCH_MIGRATION, "DecideMigration",
		"Cancels a migration, or decides which side goes on when that is in doubt.",
		BODY(migration_decision_options, struct migration_decision), AFTER),
	REQUEST(PUT_ACTION, "PutAction", "Starts the VM, presses its buttons, resets or stops it.",
		BODY(action_options, struct action), BEFORE, AFTER),
	REQUEST(PATCH_CONSOLE, "PatchConsole", "Tells the guest the size of the console's window.",
		BODY(console_update_options, struct console_update), BEFORE, AFTER),
	REQUEST(DELETE_JOB, "DeleteJob", "Cancels a job.", .has_id = true, BEFORE, AFTER),
};
