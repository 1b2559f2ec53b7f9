// SPDX-License-Identifier: Apache-2.0
/*
 * vmm create and start: a VM that is described now and started later, or again. `create` judges a
 * description as `run` does, kernel and disks included, and starts nothing; what is kept is what a
 * running VM would say of itself, so `start` has one form to read. The name's lock is held while its
 * definition is written.
 *
 * Main thread.
 */
#include <errno.h>
#include <stdio.h>

#include "command.h"
#include "exit_codes.h"
#include "parked.h"
#include "run.h"
#include "vmm/cleanup.h"
#include "vmm/definition_store.h"
#include "vmm/log.h"
#include "vmm/run_directory.h"

/* ---- create ---- */

static void never_ends(struct instance_host *host, const struct vm_stop *stop)
{
	(void)host;
	(void)stop;
}

/* What a VM of these flags would say of itself. */
static int describe(struct run_config *config, json_t **ret, struct error *e)
{
	const struct instance_settings settings = { .id = config->vm.name };
	struct instance *instance = NULL;
	struct loop loop;
	struct instance_host host = { .loop = &loop, .ended = never_ends };
	int r = loop_init(&loop, e);

	if (r < 0) {
		return r;
	}
	r = instance_create(&instance, &settings, &host, e);
	if (r == 0) {
		r = run_configure(instance, config, e);
	}
	if (r == 0) {
		r = instance_describe(instance, ret, e);
	}
	(void)instance_destroy(instance);
	loop_finish(&loop);
	return r;
}

static int already_defined(const char *name, struct error *e)
{
	(void)error_set(e, ERROR_EXISTS, EEXIST, "a VM named '%s' is defined already", name);
	return error_hint(e, "vmm start %s starts it, vmm rm %s removes it", name, name);
}

static int create(struct run_config *config, struct error *e)
{
	const char *name = config->vm.name;
	struct run_directory directory = { 0 };
	struct definition whole = { 0 };
	json_t *description = NULL;
	int r;

	/* What is left of an earlier VM without a definition makes room, as for vmm run. */
	if (definition_exists(name)) {
		return already_defined(name, e);
	}
	r = describe(config, &description, e);
	if (r < 0) {
		return r;
	}
	whole.root = definition_make(description, &config->settings, NULL, true);
	whole.config = json_object_get(whole.root, "config");
	r = command_value(definition_check(&whole, e), e);
	if (r == 0) {
		r = run_directory_claim(&directory, name, e);
	}
	if (r == 0 && definition_exists(name)) {
		r = already_defined(name, e);
	}
	if (r == 0) {
		r = definition_save(name, whole.root, e);
	}
	run_directory_finish(&directory);
	definition_finish(&whole);
	return r;
}

static int run_create(int argc, char **argv)
{
	struct run_config config;
	struct error e = { 0 };
	int r = run_config_parse(&config, &create_options, argc, argv, &e);

	if (r == 0 && config.help) {
		command_print_help(&command_create);
		run_config_finish(&config);
		return EXIT_OK;
	}
	if (r == 0 && config.vm.name == NULL) {
		(void)error_set(&e, ERROR_USAGE, EINVAL, "no --name given");
		r = error_hint(&e, "vmm start finds the VM by its name");
	}
	if (r == 0) {
		r = run_config_check(&config, &e);
	}
	if (r == 0) {
		json_prepare();
		r = create(&config, &e);
	}
	if (r == 0) {
		(void)puts(config.vm.name);
	}
	run_config_finish(&config);
	return r < 0 ? command_fail(&e) : EXIT_OK;
}

/* ---- start ---- */

struct starting {
	bool all, attach, help;
};

static const struct option start_list[] = {
	{ .name = "attach",
	  .letter = 'A',
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct starting, attach),
	  .help = "stay in the foreground, as vmm run does, with the console" },
	OPTION_INCLUDED(struct starting, all, all_options),
	HELP_OPTION(struct starting, help),
};
static const struct option_table start_table = OPTION_TABLE("start", start_list);

/* Who lives has its definition written, but is not started by it. */
static int not_defined(const char *name, struct error *e)
{
	auto_close int dir_fd = -1;
	bool alive = false;

	if (run_directory_find(name, &dir_fd, &alive, NULL) < 0) {
		(void)error_set(e, ERROR_NOT_FOUND, ENOENT, "no VM named '%s' is defined", name);
		return error_hint(e, "vmm ps -a lists them; vmm create and vmm run --name define "
				     "one");
	}
	(void)error_set(e, ERROR_NOT_FOUND, ENOENT, "VM '%s' has no definition to start it by",
			name);
	return error_hint(e, alive ? "it lives: vmm inspect %s" : "vmm rm %s removes what it left",
			  name);
}

static int start_one(const char *name, bool attach)
{
	struct definition definition;
	struct error e = { 0 };
	int r = definition_load(&definition, name, &e);
	int code;

	if (r < 0 && e.code == ERROR_NOT_FOUND) {
		(void)not_defined(name, &e);
	}
	if (r == 0) {
		r = parked_check(name, &e);
	}
	if (r == 0) {
		r = definition_check(&definition, &e);
	}
	code = r == 0 ? run_defined(name, &definition, attach) : command_fail(&e);
	definition_finish(&definition);
	return code;
}

static int run_start(int argc, char **argv)
{
	struct starting starting = { .all = false };
	struct vm_names names = { 0 };
	int code;

	if (command_parse_names(&command_start, &starting, &starting.help, NULL, &starting.all,
				WHICH_ENDED, &names, argc, argv, &code) < 0) {
		return code;
	}
	code = EXIT_OK;
	if (starting.attach && (names.many || names.count != 1)) {
		code = command_wrong_operands(
			&command_start, "--attach is for one VM: it stays in the foreground", "");
		names.count = 0;
	}
	for (size_t i = 0; i < names.count; i++) {
		int one = start_one(names.names[i], starting.attach);

		code = MAX(code, one);
	}
	vm_names_finish(&names);
	return code;
}

static const struct command_example create_examples[] = {
	{ "vmm create --name web --kernel bzImage --initrd initrd --disk web.img",
	  "described, not started" },
	{ NULL, NULL },
};

const struct command command_create = {
	.name = "create",
	.operands = "",
	.help = "define a VM without starting it",
	.options = &create_options,
	.run = run_create,
	.description =
		"Takes the flags of vmm run that describe a VM, looks at kernel, initrd and disks, "
		"and keeps it all as a definition, with absolute paths, until vmm rm. vmm start "
		"starts it, also after the host has restarted; vmm-start@.service does that at "
		"boot.\n\n"
		"A definition that was created is not replaced by another one of that name, nor by "
		"vmm run --name.",
	.examples = create_examples,
};

static const struct command_example start_examples[] = {
	{ "vmm start web", "in the background; prints the name when the guest runs" },
	{ "vmm start --attach web", "on this terminal" },
	{ NULL, NULL },
};

const struct command command_start = {
	.name = "start",
	.operands = " NAME...",
	.help = "start VMs that are defined, or have ended, with the same configuration",
	.options = &start_table,
	.run = run_start,
	.description =
		"A VM is defined by vmm create, or by having run with a name or in the background, "
		"until vmm rm. It is started as it was then: vmm inspect shows its configuration. "
		"What a client has changed while it ran is not part of it.\n\n"
		"A network card that was an open descriptor (--net fd=N) cannot be opened again: "
		"that is an error. Neither can a parked VM be started: *vmm unpark* lets it go on. "
		"One "
		"that was restored from a snapshot is booted anew.",
	.examples = start_examples,
	.exits = "0 the VMs run; with --attach: the guest has powered off\n"
		 "10 the guest has rebooted, with --on-reboot exit; as the next ones, with "
		 "--attach\n"
		 "11 the guest's kernel has panicked, as far as it tells (pvpanic)\n"
		 "12 triple fault\n"
		 "124 --timeout is over\n"
		 "128+N the VM was stopped: after signal N, or by a command (137)",
};
