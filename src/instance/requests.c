/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be asked: the table of requests, and the option tables of their objects, from which
 * JSON, schema and flags are made. Names and keys are Firecracker's where it has the resource.
 * Constant data.
 */
#include "vmm/request.h"

static const struct option serial_options[] = {
	{ .verbatim = true,
	  .type = OPTION_STRING,
	  .offset = offsetof(struct serial_settings, output_path),
	  .file = true,
	  .json = "serial_out_path",
	  .help = "file or FIFO that gets the serial port's output instead of the console" },
	{ .type = OPTION_OBJECT,
	  .object = &token_bucket_options,
	  .offset = offsetof(struct serial_settings, limiter),
	  .present = offsetof(struct serial_settings, has_limiter) + 1,
	  .json = "rate_limiter",
	  .help = "bytes of output; what is beyond is dropped" },
};
const struct option_table serial_settings_options = {
	.name = "serial",
	.options = serial_options,
	.count = ARRAY_SIZE(serial_options),
};

static const struct option entropy_options[] = {
	{ .type = OPTION_OBJECT,
	  .object = &rate_limit_options,
	  .offset = offsetof(struct entropy_settings, limiter),
	  .present = offsetof(struct entropy_settings, has_limiter) + 1,
	  .json = "rate_limiter",
	  .help = "how fast the guest gets random numbers" },
};
const struct option_table entropy_settings_options = {
	.name = "entropy",
	.options = entropy_options,
	.count = ARRAY_SIZE(entropy_options),
};

/* The first spelling of each is the one that is shown. */
const struct option_value logger_levels[] = {
	{ "Error", LOGGER_ERROR },  { "Warning", LOGGER_WARNING },
	{ "Info", LOGGER_INFO },    { "Debug", LOGGER_DEBUG },
	{ "Trace", LOGGER_TRACE },  { "Off", LOGGER_OFF },
	{ "Warn", LOGGER_WARNING }, { NULL, 0 },
};

static const struct option logger_options[] = {
	{ .name = "log-path",
	  .type = OPTION_STRING,
	  .offset = offsetof(struct logger_settings, path),
	  .argument = "FILE",
	  .file = true,
	  .json = "log_path",
	  .help = "file or FIFO for messages, in place of standard error" },
	{ .name = "level",
	  .type = OPTION_ENUM,
	  .offset = offsetof(struct logger_settings, level),
	  .values = logger_levels,
	  .any_case = true,
	  .argument = "LEVEL",
	  .fallback = "Info",
	  .json = "level",
	  .help = "which messages are written: Off, Error, Warning, Info, Debug or Trace" },
	{ .name = "show-level",
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct logger_settings, show_level),
	  .json = "show_level",
	  .help = "lines of a log file say their level; vmm's own always do" },
	{ .name = "show-log-origin",
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct logger_settings, show_origin),
	  .json = "show_log_origin",
	  .help = "lines of a log file say which file and line they come from" },
	{ .name = "module",
	  .verbatim = true,
	  .type = OPTION_STRING,
	  .offset = offsetof(struct logger_settings, module),
	  .argument = "NAME",
	  .json = "module",
	  .help = "only lines of parts whose name begins so: vmm::virtio, "
		  "firecracker::api_server" },
};
const struct option_table logger_settings_options = {
	.name = "logger",
	.options = logger_options,
	.count = ARRAY_SIZE(logger_options),
};

static const struct option metrics_options[] = {
	{ .name = "metrics-path",
	  .type = OPTION_STRING,
	  .offset = offsetof(struct metrics_settings, path),
	  .argument = "FILE",
	  .file = true,
	  .json = "metrics_path",
	  .json_required = true,
	  .help = "file or FIFO that gets a JSON object with all figures each minute" },
	{ .type = OPTION_FLAG,
	  .offset = offsetof(struct metrics_settings, emit_id),
	  .json = "emit_id",
	  .help = "begin each object with the id of the instance" },
};
const struct option_table metrics_settings_options = {
	.name = "metrics",
	.options = metrics_options,
	.count = ARRAY_SIZE(metrics_options),
	.open = true,
};

static const struct option drive_update_list[] = {
	{ .type = OPTION_STRING,
	  .offset = offsetof(struct drive_update, id),
	  .json = "drive_id",
	  .json_required = true,
	  .help = "the drive" },
	{ .type = OPTION_STRING,
	  .offset = offsetof(struct drive_update, path),
	  .json = "path_on_host",
	  .help = "another file or block device to put behind it" },
	{ .type = OPTION_OBJECT,
	  .object = &rate_limit_options,
	  .offset = offsetof(struct drive_update, limiter),
	  .present = offsetof(struct drive_update, has_limiter) + 1,
	  .json = "rate_limiter",
	  .help = "new limits; a bucket that is not given stays as it is" },
};
const struct option_table drive_update_options = {
	.name = "drive-update",
	.options = drive_update_list,
	.count = ARRAY_SIZE(drive_update_list),
};

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
const struct option_table net_update_options = {
	.name = "net-update",
	.options = net_update_list,
	.count = ARRAY_SIZE(net_update_list),
};

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
const struct option_table vm_update_options = {
	.name = "vm-update",
	.options = vm_update_list,
	.count = ARRAY_SIZE(vm_update_list),
};

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
};
const struct option_table action_options = {
	.name = "action",
	.options = action_list,
	.count = ARRAY_SIZE(action_list),
};

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
const struct option_table console_update_options = {
	.name = "console-update",
	.options = console_update_list,
	.count = ARRAY_SIZE(console_update_list),
};

#define BODY(table_, type_) .body = &(table_), .size = sizeof(type_)
#define ANY_TIME	    .before_start = true, .after_start = true

const struct request_info request_infos[REQUEST_TYPES] = {
	[REQUEST_GET_INSTANCE] = { .name = "GetInstance",
				   .help = "Id, state and version of the instance.",
				   .replies = true,
				   ANY_TIME },
	[REQUEST_GET_VERSION] = { .name = "GetVersion",
				  .help = "Which API is spoken, and by which program.",
				  .replies = true,
				  ANY_TIME },
	[REQUEST_GET_VM] = { .name = "GetVm",
			     .help = "State, uptime, vCPUs, memory, the current job, how it ended.",
			     .replies = true,
			     ANY_TIME },
	[REQUEST_GET_VM_CONFIG] = { .name = "GetVmConfig",
				    .help = "All that is configured; a config file accepts it.",
				    .replies = true,
				    ANY_TIME },
	[REQUEST_GET_MACHINE_CONFIG] = { .name = "GetMachineConfig",
					 .help = "Processors, memory and what a reboot does.",
					 .replies = true,
					 ANY_TIME },
	[REQUEST_GET_JOBS] = { .name = "GetJobs",
			       .help = "The jobs that run or ran lately, the oldest first.",
			       .replies = true,
			       ANY_TIME },
	[REQUEST_GET_JOB] = { .name = "GetJob",
			      .help = "One job: how far it is, or how it ended.",
			      .has_id = true,
			      .replies = true,
			      ANY_TIME },
	[REQUEST_PUT_BOOT_SOURCE] = { .name = "PutBootSource",
				      .help = "Names kernel, initrd and command line.",
				      BODY(vm_boot_options, struct vm_boot_config),
				      .before_start = true },
	[REQUEST_PUT_MACHINE_CONFIG] = { .name = "PutMachineConfig",
					 .help = "Sets the machine; what is not named gets its "
						 "default.",
					 BODY(vm_machine_options, struct vm_machine_config),
					 .before_start = true },
	[REQUEST_PATCH_MACHINE_CONFIG] = { .name = "PatchMachineConfig",
					   .help = "Changes of the machine what is named.",
					   BODY(vm_machine_options, struct vm_machine_config),
					   .patch = true,
					   .before_start = true },
	[REQUEST_PUT_CPU_CONFIG] = { .name = "PutCpuConfig",
				     .help = "Sets a CPU template: CPUID and MSRs, bit by bit.",
				     .before_start = true },
	[REQUEST_PUT_DRIVE] = { .name = "PutDrive",
				.help = "Adds a drive, or replaces the one of that id.",
				BODY(block_options, struct block_config),
				.has_id = true,
				.before_start = true },
	[REQUEST_PUT_NET] = { .name = "PutNetworkInterface",
			      .help = "Adds a network card, or replaces the one of that id.",
			      BODY(vm_net_options, struct vm_net_config),
			      .has_id = true,
			      .before_start = true },
	[REQUEST_PUT_SERIAL] = { .name = "PutSerial",
				 .help = "Says where the serial port's output goes and how fast.",
				 BODY(serial_settings_options, struct serial_settings),
				 .before_start = true },
	[REQUEST_PUT_ENTROPY] = { .name = "PutEntropy",
				  .help = "Adds a source of random numbers.",
				  BODY(entropy_settings_options, struct entropy_settings),
				  .before_start = true },
	[REQUEST_PUT_LOGGER] = { .name = "PutLogger",
				 .help = "Says where messages go and which are written.",
				 BODY(logger_settings_options, struct logger_settings),
				 .before_start = true },
	[REQUEST_PUT_METRICS] = { .name = "PutMetrics",
				  .help = "Names a file that gets all figures each minute; once.",
				  BODY(metrics_settings_options, struct metrics_settings),
				  .before_start = true },
	[REQUEST_PATCH_DRIVE] = { .name = "PatchDrive",
				  .help = "Puts another file behind a drive, or limits it.",
				  BODY(drive_update_options, struct drive_update),
				  .has_id = true,
				  .after_start = true },
	[REQUEST_PATCH_NET] = { .name = "PatchNetworkInterface",
				.help = "Limits a network card.",
				BODY(net_update_options, struct net_update),
				.has_id = true,
				.after_start = true },
	[REQUEST_PATCH_VM] = { .name = "PatchVm",
			       .help = "Pauses or resumes the VM.",
			       BODY(vm_update_options, struct vm_update),
			       .after_start = true },
	[REQUEST_PUT_ACTION] = { .name = "PutAction",
				 .help = "Starts the VM, presses its buttons, resets or stops it.",
				 BODY(action_options, struct action),
				 ANY_TIME },
	[REQUEST_PATCH_CONSOLE] = { .name = "PatchConsole",
				    .help = "Tells the guest the size of the console's window.",
				    BODY(console_update_options, struct console_update),
				    ANY_TIME },
	[REQUEST_DELETE_JOB] = { .name = "DeleteJob",
				 .help = "Cancels a job.",
				 .has_id = true,
				 ANY_TIME },
};
