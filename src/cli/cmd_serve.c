// SPDX-License-Identifier: Apache-2.0
/*
 * vmm serve: a process that waits for its VM to be configured and started through the API. Under
 * the name `firecracker` it behaves as programs expect that start Firecracker: default socket, id,
 * version line, exit codes, a signal that ends it at once, a guest's reboot that ends it, and the
 * serial port on standard input and output.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "command.h"
#include "exit_codes.h"
#include "run.h"
#include "serve_config.h"
#include "signals.h"
#include "vm_process.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/snapshot.h"

LOG_DOMAIN("serve");

#define FIRECRACKER_SOCKET "/run/firecracker.socket"
#define FIRECRACKER_ID	   "anonymous-instance"

/* Its exit codes, from its FcExitCode. */
#define FIRECRACKER_EXIT_ERROR	    1
#define FIRECRACKER_EXIT_BAD_CONFIG 152
#define FIRECRACKER_EXIT_ARGUMENTS  153

struct serve {
	struct serve_config config;
	struct vm_process process;
	bool firecracker;
	bool bad_config; /* what failed was the config file */
};

/* Its ids are names for file systems, with '-' and without '_'. */
static int check_id(const struct serve *serve, struct error *e)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-";
	const char *id = serve->config.id;

	if (id == NULL) {
		return 0;
	}
	if (id[0] == '\0' || strlen(id) > VM_NAME_MAX || strspn(id, allowed) != strlen(id)) {
		(void)error_set(e, ERROR_USAGE, EINVAL, "--id: '%.80s' is not an id", id);
		return error_hint(e, "use 1 to %d letters, digits and '-'", VM_NAME_MAX);
	}
	return 0;
}

static int put_logger(struct serve *serve, struct error *e)
{
	const struct serve_config *config = &serve->config;
	const struct logger_settings *logger = &config->logger;
	const bool style = logger->show_level || logger->show_origin || logger->module != NULL;
	int r = 0;

	if (logger->path != NULL || logger->level != LOGGER_INFO || style) {
		r = vm_process_request(&serve->process, REQUEST_PUT_LOGGER, NULL, logger, e);
	}
	if (r == 0 && config->metrics.path != NULL) {
		r = vm_process_request(&serve->process, REQUEST_PUT_METRICS, NULL, &config->metrics,
				       e);
	}
	return r;
}

static int prepare(struct vm_process *process, struct error *e)
{
	struct serve *serve = container_of(process, struct serve, process);
	int r = put_logger(serve, e);

	if (r == 0 && serve->firecracker) {
		log_info("Running Firecracker v" INSTANCE_API_LEVEL);
	}
	return r;
}

static int edit(json_t *file, const void *arg, struct error *e)
{
	const struct serve_config *config = &((const struct serve *)arg)->config;
	/* Those that the file does not have are in use already. */
	const struct overlay flags[] = {
		{ "logger", &logger_settings_options, &config->logger, &serve_options,
		  config->given, false },
		{ "metrics", &metrics_settings_options, &config->metrics, &serve_options,
		  config->given, false },
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(flags); i++) {
		r = run_overlay(file, &flags[i], e);
	}
	return r;
}

static int start_from_file(struct serve *serve, struct error *e)
{
	const char *path = serve->config.config_file;
	int r;

	if (path == NULL) {
		return 0;
	}
	/* Firecracker reads its flags first, and lets the file have the last word. */
	r = run_apply_file(serve->process.instance, path, serve->firecracker ? NULL : edit, serve,
			   e);
	if (r < 0) {
		serve->bad_config = true;
		return r;
	}
	r = vm_process_start(&serve->process, e);
	if (r == 0 && serve->firecracker) {
		log_info("Successfully started microvm that was configured from one single json");
	}
	return r;
}

/* The codes that a parent of Firecracker knows; -1: the process ends by the signal. A reboot is how
 * its guests power off. */
static int firecracker_code(const struct serve *serve, const struct error *failure, int code)
{
	if (failure != NULL) {
		return serve->bad_config	      ? FIRECRACKER_EXIT_BAD_CONFIG
		       : failure->code == ERROR_USAGE ? FIRECRACKER_EXIT_ARGUMENTS
						      : FIRECRACKER_EXIT_ERROR;
	}
	if (serve->process.signal != 0) {
		return signal_firecracker_code(serve->process.signal);
	}
	return code == EXIT_REBOOT ? EXIT_OK : code;
}

/* The log's last line, and what its parent reads on standard error. */
static void ending(struct vm_process *process, const struct error *failure, int code)
{
	const struct serve *serve = container_of(process, struct serve, process);

	code = firecracker_code(serve, failure, code);
	if (failure != NULL) {
		(void)fprintf(stderr, "Error: %s\n", failure->msg);
	}
	if (failure == NULL && process->signal == 0) {
		log_info("Vmm is stopping.");
	}
	if (code == EXIT_OK) {
		log_info("Firecracker exiting successfully. exit_code=0");
	} else if (code > 0) {
		log_error("Firecracker exiting with error. exit_code=%d", code);
	}
}

/* Microseconds since the moment that the parent gave, if it did, and what was used before. */
static uint64_t since(clockid_t clock, uint64_t then_us, uint64_t before_us)
{
	struct timespec now = { 0 };
	uint64_t now_us;

	(void)clock_gettime(clock, &now);
	now_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
	return then_us != 0 && now_us > then_us ? now_us - then_us + before_us : 0;
}

static int begin(struct serve *serve, struct error *e)
{
	const struct serve_config *config = &serve->config;
	const bool firecracker = serve->firecracker;
	const struct vm_process_config process = {
		.instance = { .id = config->id != NULL ? config->id
				    : firecracker      ? FIRECRACKER_ID
						       : NULL,
			      .firecracker = firecracker,
			      .startup_us = since(CLOCK_MONOTONIC, config->start_time_us, 0),
			      .startup_cpu_us =
				      since(CLOCK_PROCESS_CPUTIME_ID, config->start_time_cpu_us,
					    config->parent_cpu_time_us),
			      .sandbox = (enum sandbox_mode)config->process.sandbox,
			      .on_reboot = firecracker ? VM_ON_REBOOT_EXIT : VM_ON_REBOOT_RESTART,
			      .enable_pci = config->enable_pci,
			      .spare = true },
		.directory = config->name != NULL,
		.name = config->name,
		.kept = config->name != NULL && !firecracker,
		.settings = { .api_socket = config->api_socket, .process = config->process },
		.api_socket = config->api_socket != NULL ? config->api_socket
			      : firecracker		 ? FIRECRACKER_SOCKET
							 : NULL,
		.api = !config->no_api,
		.body_max = config->body_max,
		.log_requests = true,
		.stdio_output = true,
		.stdio_input = firecracker,
		.watch_terminal = firecracker,
		.ready_when_listening = config->config_file == NULL,
		.prepare = prepare,
		.ending = firecracker ? ending : NULL,
	};
	int r = check_id(serve, e);

	if (r == 0 && firecracker) {
		log_init(LOG_INFO, STDOUT_FILENO);
		instance_style_log(&process.instance, NULL);
	}
	if (r == 0) {
		r = vm_process_init(&serve->process, &process, e);
	}
	return r == 0 ? start_from_file(serve, e) : r;
}

static int serve_until_ended(struct serve *serve)
{
	struct error e = { 0 };
	int r = begin(serve, &e);
	int code;

	if (r == 0) {
		r = vm_process_run(&serve->process, &e);
	}
	code = vm_process_finish(&serve->process, r < 0 ? &e : NULL);
	if (!serve->firecracker) {
		return code;
	}
	code = firecracker_code(serve, r < 0 ? &e : NULL, code);
	if (code < 0) {
		signal_die(serve->process.signal);
		code = EXIT_SIGNAL_BASE + serve->process.signal;
	}
	return code;
}

static int need_door(const struct serve *serve, struct error *e)
{
	if (serve->firecracker || serve->config.no_api || serve->config.api_socket != NULL ||
	    serve->config.name != NULL) {
		return 0;
	}
	(void)error_set(e, ERROR_USAGE, EINVAL, "neither --api-sock nor --name given");
	return error_hint(e, "vmm serve --api-sock PATH, or vmm serve --name NAME");
}

/* Firecracker's way: a version of three numbers. */
static int print_format(uint32_t format)
{
	(void)printf("v%u.0.0\n", format);
	return EXIT_OK;
}

static int describe_snapshot(const struct serve *serve)
{
	const struct snapshot_reader_config config = {
		.paths = { .state = serve->config.describe_snapshot }, .state_only = true
	};
	struct snapshot_reader *reader = NULL;
	struct error e = { 0 };
	int code;

	json_prepare();
	if (snapshot_reader_create(&reader, &config, &e) < 0) {
		code = command_fail(&e);
		return serve->firecracker ? FIRECRACKER_EXIT_ERROR : code;
	}
	code = print_format(snapshot_reader_info(reader)->format);
	snapshot_reader_destroy(reader);
	return code;
}

/* What serve_config_asks() for. */
static int answer(const struct serve *serve, char **argv)
{
	const struct serve_config *config = &serve->config;

	if (config->help) {
		command_print_help(&command_serve);
	} else if (config->version && serve->firecracker) {
		(void)printf("Firecracker v%s\n\n", INSTANCE_API_LEVEL);
	} else if (config->version) {
		return command_version.run(1, argv);
	} else {
		return config->snapshot_version ? print_format(SNAPSHOT_FORMAT)
						: describe_snapshot(serve);
	}
	return EXIT_OK;
}

/* The command line says that there is a VM to wait for; else `code` is the end. */
static bool wanted(struct serve *serve, int argc, char **argv, int *code)
{
	struct error e = { 0 };
	int r = serve_config_parse(&serve->config, argc, argv, &e);

	*code = EXIT_OK;
	if (r == 0 && serve_config_asks(&serve->config)) {
		*code = answer(serve, argv);
		return false;
	}
	if (r == 0) {
		r = need_door(serve, &e);
	}
	if (r < 0) {
		*code = command_fail(&e);
		if (serve->firecracker) {
			*code = FIRECRACKER_EXIT_ARGUMENTS;
		}
	}
	return r == 0;
}

static int run_serve(int argc, char **argv, bool firecracker)
{
	/* Not on the stack: a thread that is stuck knows it. */
	struct serve *serve = calloc(1, sizeof(*serve));
	struct error e;
	int code;

	if (serve == NULL) {
		(void)error_set(&e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
		return command_fail(&e);
	}
	serve->firecracker = firecracker;
	if (wanted(serve, argc, argv, &code)) {
		code = serve_until_ended(serve);
	}
	if (!serve->process.stuck) {
		free(serve);
	}
	return code;
}

static int serve_command(int argc, char **argv)
{
	return run_serve(argc, argv, false);
}

bool firecracker_called(int argc, char *const argv[])
{
	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;

	return argc > 0 && (strcmp(slash != NULL ? slash + 1 : argv[0], "firecracker") == 0 ||
			    serve_config_by_jailer(argc, argv));
}

int firecracker_main(int argc, char **argv)
{
	return run_serve(argc, argv, true);
}

static const struct command_example examples[] = {
	{ "vmm serve --api-sock /tmp/vm.sock",
	  "a VM for clients of Firecracker's API, curl for one" },
	{ "vmm serve --name web", "one that vmm api web PUT /boot-source ... configures" },
	{ NULL, NULL },
};

const struct command command_serve = {
	.name = "serve",
	.operands = "",
	.help = "wait on a socket for a VM to be configured and started (REST API)",
	.options = &serve_options,
	.run = serve_command,
	.examples = examples,
	.exits = "0 the guest has powered off\n"
		 "10 the guest has rebooted, with on_reboot \"exit\" in its machine-config\n"
		 "11 the guest's kernel has panicked, as far as it tells (pvpanic)\n"
		 "12 triple fault\n"
		 "13 the guest's kernel panicked and restarted three times in a row\n"
		 "128+N the VM was stopped: after signal N, or by a request (137)",
};
