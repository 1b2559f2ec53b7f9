// SPDX-License-Identifier: Apache-2.0
/*
 * vmm run: boots a VM with its console on standard input and output, and ends when the guest does.
 * The flags, or a config file, become the requests that the API takes as well (vmm/request.h); then
 * the VM is started at once. With --detach a child does all that, and the command ends when the
 * guest runs.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "detach.h"
#include "exit_codes.h"
#include "run.h"
#include "vm_process.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"

struct run {
	const struct definition *definition; /* NULL: flags */
	const struct run_restore *restore;   /* instead of both; NULL: it is booted */
	struct vm_process process;
	struct detach detach;
	struct run_config config; /* run_config_parse() begins it */
};

static int configure(struct run *run, struct error *e)
{
	struct instance *instance = run->process.instance;
	int r;

	if (run->definition == NULL) {
		return run_configure(instance, &run->config, e);
	}
	r = instance_apply_config(instance, run->definition->config, e);
	return r < 0 ? error_prefix(e, "definition of '%s'", run->config.vm.name) : 0;
}

static void tell_parent(struct vm_process *process)
{
	struct run *run = container_of(process, struct run, process);

	detach_done(&run->detach, process->directory.name);
}

static bool restored_definition(const struct run *run)
{
	return run->restore != NULL && run->restore->definition_stays;
}

/* It takes another process's VM over, with all that is in that one's place. */
static bool takes_over(const struct run *run)
{
	return run->restore != NULL && run->restore->receive != NULL &&
	       run->restore->receive->upgrade;
}

/* What carries it is started where its messages go to the VM's log, and before the process has its filter. */
static int run_receive(struct run *run, struct error *e)
{
	const struct run_restore *restore = run->restore;
	int r = restore->carry != NULL ? restore->carry(restore->carry_arg, e) : 0;

	return r == 0 ? vm_process_receive(&run->process, restore->receive, e) : r;
}

static int start(struct run *run, struct error *e)
{
	const bool taken = takes_over(run);
	const struct run_config *config = &run->config;
	const struct run_settings *settings = &config->settings;
	/* Who has a name can be asked for afterwards. */
	const bool kept = config->detach || (config->vm.name != NULL && !config->no_api);
	const struct vm_process_config process = {
		.instance = { .sandbox = (enum sandbox_mode)settings->process.sandbox,
			      .debug_exit = settings->debug_exit,
			      .virtio_console = true,
			      .files_at_start = true },
		.directory = !taken && (!config->no_api || config->detach),
		.directory_optional = !config->detach && config->vm.name == NULL,
		.kept = kept && !taken,
		.settings = *settings,
		.api_socket = taken ? NULL : settings->api_socket,
		.defined = run->definition != NULL || restored_definition(run),
		.definition_stays = restored_definition(run),
		.created = run->definition != NULL && run->definition->created,
		.name = config->vm.name,
		.api = !config->no_api,
		.doors_at_start = run->restore == NULL || run->restore->receive == NULL,
		.log_requests = config->detach || taken,
		.console = (enum run_console)settings->console,
		.stdio_input = !config->detach && !taken,
		.stdio_output = !config->detach && !taken,
		.watch_terminal = !config->detach && !taken,
		.takes_over = taken,
		.background = config->detach || taken,
		.announce_escape = !config->quiet,
	};
	int r = vm_process_init(&run->process, &process, e);

	if (r == 0 && config->detach) {
		run->process.started = tell_parent;
		r = detach_log_to(&run->detach, &run->process.directory, e);
	}
	if (r == 0 && run->restore != NULL && run->restore->receive != NULL) {
		return run_receive(run, e);
	}
	if (r == 0 && run->restore != NULL) {
		if (detach_waits(&run->detach)) {
			instance_prepare(run->process.instance);
		}
		r = detach_await(&run->detach, e);
	}
	if (r == 0 && run->restore != NULL) {
		return vm_process_load(&run->process, run->restore->request, e);
	}
	if (r == 0) {
		r = configure(run, e);
	}
	return r == 0 ? vm_process_start(&run->process, e) : r;
}

static int boot(struct run *run)
{
	struct error e = { 0 };
	int r = start(run, &e);

	if (r == 0) {
		r = vm_process_run(&run->process, &e);
	}
	if (r < 0) {
		/* To who still waits. */
		detach_failed(&run->detach, &e);
	}
	return vm_process_finish(&run->process, r < 0 ? &e : NULL);
}

/* The network cards that are descriptors of the caller. */
static void keep_nets(struct run *run)
{
	for (uint32_t i = 0; i < run->config.vm.net_count; i++) {
		detach_keep(&run->detach, run->config.vm.nets[i].fd);
	}
	for (uint32_t i = 0; run->restore != NULL && i < run->restore->net_fd_count; i++) {
		detach_keep(&run->detach, run->restore->net_fds[i].fd);
	}
}

/* In the background: until it runs. */
static int run_to_end(struct run *run)
{
	struct error e = { 0 };
	int code = EXIT_OK;
	int r = 0;

	if (run->config.detach) {
		r = detach_fork(&run->detach, &code, &e);
		if (r == DETACH_PARENT) {
			return code;
		}
		keep_nets(run);
	}
	code = r < 0 ? command_fail(&e) : boot(run);
	detach_finish(&run->detach);
	/* The caller of vmm start may have more to start. */
	if (run->detach.child) {
		(void)fflush(NULL);
		_exit(code);
	}
	return code;
}

/* Not on the stack: a thread that is stuck knows it. NULL: no memory, which was said. */
static struct run *make_run(void)
{
	struct run *run = malloc(sizeof(*run));
	struct error e;

	if (run == NULL) {
		(void)error_set(&e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
		(void)command_fail(&e);
		return NULL;
	}
	memset(run, 0, offsetof(struct run, config.vm));
	run->detach.pipe_fd = -1;
	return run;
}

static void free_run(struct run *run)
{
	if (!run->process.stuck) {
		free(run);
	}
}

static int run_command(int argc, char **argv)
{
	struct run *run = make_run();
	struct error e = { 0 };
	int code = EXIT_OK;
	int r;

	if (run == NULL) {
		return EXIT_VMM_ERROR;
	}
	r = run_config_parse(&run->config, &run_options, argc, argv, &e);
	if (r == 0 && run->config.help) {
		command_print_help(&command_run);
	} else {
		if (r == 0) {
			r = run_config_check(&run->config, &e);
		}
		if (r == 0) {
			log_init(run->config.quiet ? LOG_ERROR : LOG_INFO, STDERR_FILENO);
		}
		code = r < 0 ? command_fail(&e) : run_to_end(run);
	}
	run_config_finish(&run->config);
	free_run(run);
	return code;
}

int run_defined(const char *name, const struct definition *definition, bool attach)
{
	struct run *run = make_run();
	int code;

	if (run == NULL) {
		return EXIT_VMM_ERROR;
	}
	run->definition = definition;
	run->config.settings = definition->settings;
	run->config.detach = !attach;
	vm_config_init(&run->config.vm);
	run->config.vm.name = name;
	code = run_to_end(run);
	free_run(run);
	return code;
}

int run_restored(const struct run_restore *restore)
{
	struct run *run = make_run();
	int code;

	if (run == NULL) {
		return EXIT_VMM_ERROR;
	}
	run->restore = restore;
	run->config.settings = restore->settings;
	run->config.detach = restore->detach;
	run->config.quiet = restore->quiet;
	vm_config_init(&run->config.vm);
	run->config.vm.name = restore->name;
	code = run_to_end(run);
	free_run(run);
	return code;
}

static const struct command_example examples[] = {
	{ "vmm run --kernel bzImage --initrd initrd --disk root.img,ro --timeout 5m",
	  "a VM on this terminal; Ctrl-] ? shows help" },
	{ "vmm run -d -n web --kernel vmlinux -m 2G -c 4 --disk web.img --net tap=tap0",
	  "one in the background, with a network card; then: vmm console web" },
	{ "vmm run --config-file vm.json --exit-report end.json",
	  "one that a file describes; how it ended is in end.json" },
	{ NULL, NULL },
};

const struct command command_run = {
	.name = "run",
	.operands = "",
	.help = "boot a VM with its console on standard input and output",
	.options = &run_options,
	.run = run_command,
	.examples = examples,
	.exits = EXITS_OF_A_VM("it runs"),
};
