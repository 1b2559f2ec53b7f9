// SPDX-License-Identifier: Apache-2.0
/* The option tables of run_settings.h. Constant data. */
#include "run_settings.h"

#include "stdio_console.h"
#include "vmm/sandbox.h"

static const struct option_value sandboxes[] = {
	{ "on", SANDBOX_ON },
	{ "log", SANDBOX_LOG },
	{ "off", SANDBOX_OFF },
	{ NULL, 0 },
};

#define AT(member) .offset = offsetof(struct process_settings, member)

static const struct option process_list[] = {
	{ .name = "stop-timeout",
	  .type = OPTION_DURATION,
	  AT(stop_timeout_ns),
	  .argument = "TIME",
	  .fallback = "30s",
	  .json = "stop_timeout_ms",
	  .help = "after SIGTERM and the power button, how long the guest has" },
	{ .name = "exit-report",
	  .type = OPTION_STRING,
	  AT(exit_report),
	  .argument = "FILE",
	  .json = "exit_report",
	  .file = true,
	  .help = "write the reason of the end there as JSON" },
	{ .name = "sandbox",
	  .type = OPTION_ENUM,
	  AT(sandbox),
	  .values = sandboxes,
	  .argument = "on|log|off",
	  .fallback = "on",
	  .json = "sandbox",
	  .help = "system call filters and dropped privileges" },
};
const struct option_table process_settings_options = OPTION_TABLE("process", process_list);

#undef AT
#define AT(member) .offset = offsetof(struct run_settings, member)

static const struct option_value consoles[] = {
	{ "serial", RUN_CONSOLE_SERIAL },
	{ "hvc", RUN_CONSOLE_HVC },
	{ NULL, 0 },
};

static const struct option outer_list[] = {
	{ .name = "api-sock",
	  .type = OPTION_STRING,
	  AT(api_socket),
	  .argument = "PATH",
	  .json = "api_sock",
	  .file = true,
	  .help = "serve the API there, too" },
	{ .name = "console",
	  .type = OPTION_ENUM,
	  AT(console),
	  .values = consoles,
	  .argument = "serial|hvc",
	  .fallback = "serial",
	  .json = "console",
	  .help = "which console is on standard input and output" },
	{ .name = "timeout",
	  .type = OPTION_DURATION,
	  AT(timeout_ns),
	  .argument = "TIME",
	  .json = "timeout_ms",
	  .help = "stop after this time, exit code 124" },
	{ .type = OPTION_INCLUDE, AT(process), .object = &process_settings_options },
};
const struct option_table outer_settings_options = OPTION_TABLE("outer", outer_list);

static const struct option run_list[] = {
	{ .type = OPTION_INCLUDE, .object = &outer_settings_options },
	{ .name = "paused",
	  .type = OPTION_FLAG,
	  AT(paused),
	  .json = "paused",
	  .help = "start paused, before the first instruction: vmm resume lets it go" },
	{ .name = "debug-exit",
	  .type = OPTION_FLAG,
	  AT(debug_exit),
	  .json = "debug_exit",
	  .help = "port 0xf4: the byte a guest writes is the exit code" },
};
const struct option_table run_settings_options = OPTION_TABLE("run", run_list);
