// SPDX-License-Identifier: Apache-2.0
/*
 * vmm restore: a VM that goes on where a snapshot was taken. The process is vmm run's (run.h), with one
 * request, to load the snapshot, in place of configuring and starting; what belongs to the machine is
 * in the snapshot, what belongs to the process around it is said here, by flags of the same names.
 *
 * Main thread.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "children.h"
#include "command.h"
#include "elsewhere.h"
#include "exit_codes.h"
#include "overrides.h"
#include "restore_several.h"
#include "run.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/request.h"

struct restore_command {
	struct run_restore run;
	struct snapshot_load_request load;
	struct overrides overrides;
	uint32_t count; /* 0: one, here */
	bool paused, help;
};

#define AT(member) .offset = offsetof(struct restore_command, member)

static const struct option option_list[] = {
	{ .name = "name",
	  .letter = 'n',
	  .type = OPTION_STRING,
	  AT(run.name),
	  .argument = "NAME",
	  .help = "name of the VM, by which other commands find it" },
	{ .name = "detach",
	  .letter = 'd',
	  .type = OPTION_FLAG,
	  AT(run.detach),
	  .help = "run in the background, print the VM's name" },
	{ .name = "count",
	  .type = OPTION_U32,
	  AT(count),
	  .min = 1,
	  .max = CHILDREN_MAX,
	  .argument = "N",
	  .help = "so many VMs, NAME-1, NAME-2, ..., in the background; %d in what other flags say "
		  "is "
		  "a VM's number" },
	{ .name = "paused",
	  .type = OPTION_FLAG,
	  AT(paused),
	  .help = "do not let it go on yet: vmm resume does" },
	OPTION_INCLUDED(struct restore_command, overrides, override_options),
	OPTION_INCLUDED(struct restore_command, load, snapshot_load_options),
	{ .name = "track-dirty-pages",
	  .type = OPTION_FLAG,
	  AT(load.track_dirty_pages),
	  .help = "note which pages the guest writes, for incremental snapshots" },
	OPTION_INCLUDED(struct restore_command, run.settings, outer_settings_options),
	QUIET_OPTION(struct restore_command, run.quiet),
	HELP_OPTION(struct restore_command, help),
};
static const struct option_table table =
	OPTION_TABLE("restore", option_list, .foreign = elsewhere_restore_flags);

static int restore_one(struct restore_command *command, const char *directory)
{
	struct snapshot_load_request *load = &command->load;

	load->directory = directory;
	load->resume = !command->paused;
	command->run.request = load;
	command->run.net_fds = load->net_fds;
	command->run.net_fd_count = load->net_fd_count;
	log_init(command->run.quiet ? LOG_ERROR : LOG_INFO, STDERR_FILENO);
	return run_restored(&command->run);
}

/* `words`: the command line as it was given. */
static int restore(struct restore_command *command, const char *directory, int argc,
		   char *const *words)
{
	struct snapshot_load_request *load = &command->load;
	const struct restore_several several = { .count = command->count,
						 .name = command->run.name,
						 .directory = directory,
						 .load = &command->load,
						 .argc = argc,
						 .argv = words };

	load->disks = command->overrides.disks;
	load->nets = command->overrides.nets;
	load->net_fds = command->overrides.fds;
	load->net_fd_count = command->overrides.fd_count;
	return command->count != 0 ? restore_several(&several) : restore_one(command, directory);
}

static int run(int argc, char **argv)
{
	struct restore_command command = { .paused = false };
	char **words = calloc((size_t)argc, sizeof(*words));
	struct error e = { 0 };
	int code;

	if (words == NULL) {
		(void)error_set(&e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
		return command_fail(&e);
	}
	memcpy(words, argv, (size_t)argc * sizeof(*words));
	json_prepare();
	if (command_parse_exactly(&command_restore, &command, &command.help, 1, 1, argc, argv,
				  &code) >= 0) {
		code = command_value(vm_name_validate(command.run.name, &e), &e) < 0
			       ? command_fail(&e)
			       : restore(&command, argv[1], argc, words);
	}
	overrides_finish(&command.overrides);
	free(words);
	return code;
}

static const struct command_example examples[] = {
	{ "vmm restore snap", "on this terminal; Ctrl-] ? shows help" },
	{ "vmm restore -d -n copy --disk drive0=copy.img --net net0=tap:tap1 snap",
	  "beside the VM that was saved, with a disk and a tap of its own" },
	{ "vmm restore -d -n copy --disks-to disks snap",
	  "with disks of its own, of the copies that the snapshot has" },
	{ "vmm restore --name worker --count 8 --disk drive0=overlay:worker%d --net "
	  "net0=tap:worker%d snap",
	  "worker-1 to worker-8, with an overlay and a tap each" },
	{ "vmm restore -d -n web --memory-mode lazy --record-working-set snap",
	  "until vmm snapshot mark web: what it asks for comes first in later restores" },
	{ "vmm restore --memory-mode verify --clock step snap",
	  "all of memory is checked first; the guest's clocks step over the time between" },
	{ NULL, NULL },
};

const struct command command_restore = {
	.name = "restore",
	.operands = " DIR",
	.help = "let a VM go on from a snapshot",
	.options = &table,
	.run = run,
	.description =
		"Makes a new process with the machine that the snapshot in DIR was taken of, which "
		"goes "
		"on at the instruction where it stood. What belongs to the machine is in the "
		"snapshot. "
		"What it is connected to outside (files of disks, taps) is what it was, unless "
		"*--disk* "
		"and *--net* say otherwise by the device's id, which *vmm snapshot inspect* shows. "
		"Everything else is as with *vmm run*: console, exit codes, the report, names.\n\n"
		"A disk has one writer: while the VM that was saved still runs, a restored one "
		"needs "
		"disks of its own. The disks should be as they were when the snapshot was taken, "
		"since "
		"the guest's memory has parts of them. A snapshot that was made with "
		"*--with-disks* has "
		"copies of that moment: *--disks-to* FOLDER makes the VM's own of them there, "
		"FOLDER/ID.img, shared with the file system where it can. They stay when the VM "
		"has ended.\n\n"
		"*--count* N makes N VMs, each a process of its own in the background, whose names "
		"are printed: NAME-1, NAME-2 and so on (NAME, if there is one only). A %d in the "
		"value of another flag is the VM's number. Memory that none of them writes is "
		"there once for all; a compressed snapshot is unpacked once.\n\n"
		"The guest's clocks go on where they were (*--clock resume*), or step over the "
		"time "
		"between (*step*). Either way it is told that it is a copy (VMGenID), upon which "
		"its "
		"kernel draws new random numbers.\n\n"
		"Memory is mapped from the file and comes page by page as the guest touches it; "
		"the "
		"file has to stay as it is while the VM lives, though it may be removed or "
		"replaced. "
		"Checksums of pages are looked at only with *--memory-mode verify*, *read* or "
		"*lazy*. With *lazy* a VM may note what it asks for (*--record-working-set*), "
		"which "
		"*vmm snapshot mark* writes into DIR; later restores that are *lazy* bring that "
		"first.\n\n"
		"A VM that was restored with a name is kept as any other is. When it has ended, "
		"*vmm "
		"start* boots it from its kernel, with the configuration that it had; *vmm "
		"restore* "
		"begins at the snapshot again.",
	.examples = examples,
	.exits = EXITS_OF_A_VM("it runs"),
};
