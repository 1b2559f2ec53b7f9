// SPDX-License-Identifier: Apache-2.0
/*
 * vmm snapshot: of a VM that lives (create, mark), and of files (all others), which this process reads by
 * src/snapshot and without any VM.
 */
#include <string.h>

#include "exit_codes.h"
#include "snapshot_command.h"
#include "vmm/vm_config.h"

static const struct option option_list[] = {
	{ .name = "diff",
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct snapshot_command, diff),
	  .help = "create: only what was written since the last snapshot" },
	{ .name = "live",
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct snapshot_command, live),
	  .help = "create: the VM runs on while its memory is written" },
	{ .name = "compress",
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct snapshot_command, compress),
	  .help = "create: memory is stored compressed; a restore unpacks it first" },
	{ .name = "with-disks",
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct snapshot_command, with_disks),
	  .help = "create: with a copy of each disk that the VM writes, of the same moment; "
		  "where the "
		  "file system cannot share it, the VM stands still while all of it is copied" },
	OPTION_INCLUDED(struct snapshot_command, target, target_options),
	OPTION_INCLUDED(struct snapshot_command, common, common_options),
};
static const struct option_table table = OPTION_TABLE("snapshot", option_list);

#define ANY 1000

static const struct verb {
	const char *name;
	int (*run)(const struct snapshot_command *command);
	bool vm; /* of one that lives */
	int min, max;
} verbs[] = {
	{ "create", snapshot_run_create, true, 1, 1 },
	{ "mark", snapshot_run_mark, true, 0, 0 },
	{ "inspect", snapshot_run_inspect, false, 1, 1 },
	{ "verify", snapshot_run_verify, false, 1, ANY },
	{ "ls", snapshot_run_ls, false, 0, ANY },
	{ "rm", snapshot_run_rm, false, 1, ANY },
	{ "diff", snapshot_run_diff, false, 2, 2 },
	{ "merge", snapshot_run_merge, false, 2, 2 },
};

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(verbs[i].name, name) == 0) {
			return &verbs[i];
		}
	}
	return NULL;
}

static int wrong(const char *what, const char *text)
{
	return command_wrong_operands(&command_snapshot, what, text);
}

/* NULL: no flag of create alone was given. */
static const char *of_create(const struct snapshot_command *command)
{
	return command->diff	     ? "--diff has no use for "
	       : command->live	     ? "--live has no use for "
	       : command->compress   ? "--compress has no use for "
	       : command->with_disks ? "--with-disks has no use for "
				     : NULL;
}

static int run_verb(struct snapshot_command *command, const struct verb *verb, int operands,
		    char **argv)
{
	const int named = verb->vm && command->target.api_socket == NULL ? 1 : 0;
	struct error e = { 0 };

	if (!verb->vm && command->target.api_socket != NULL) {
		return wrong("--api-sock has no use for ", verb->name);
	}
	if (of_create(command) != NULL && verb->run != snapshot_run_create) {
		return wrong(of_create(command), verb->name);
	}
	if (operands < 1 + named + verb->min) {
		return wrong("an operand is missing for ", verb->name);
	}
	if (operands > 1 + named + verb->max) {
		return wrong("one operand too many: ", argv[operands]);
	}
	command->target.name = named != 0 ? argv[2] : NULL;
	if (command_value(vm_name_validate(command->target.name, &e), &e) < 0) {
		return command_fail(&e);
	}
	command->operands = &argv[2 + named];
	command->count = operands - 1 - named;
	json_prepare();
	return verb->run(command);
}

static int run(int argc, char **argv)
{
	struct snapshot_command command = { .diff = false };
	const struct verb *verb;
	int code;
	int operands =
		command_parse(&command_snapshot, &command, &command.common.help, argc, argv, &code);

	if (operands < 0) {
		return code;
	}
	verb = operands > 0 ? find_verb(argv[1]) : NULL;
	return verb != NULL ? run_verb(&command, verb, operands, argv)
			    : wrong("create, mark, inspect, verify, ls, rm, diff or merge? not ",
				    operands > 0 ? argv[1] : "nothing");
}

static const struct command_example examples[] = {
	{ "vmm snapshot create web snap", "of a VM that goes on running; prints its id" },
	{ "vmm snapshot create --with-disks --compress web snap",
	  "with its disks as they were then, and memory that takes less room" },
	{ "vmm snapshot inspect snap", "what it is, and the ids of the devices that are in it" },
	{ "vmm snapshot ls", "those in this directory" },
	{ "vmm snapshot verify snap", "all checksums" },
	{ "vmm snapshot mark web2",
	  "what it has touched since its restore comes first the next time" },
	{ "vmm restore -d -n web2 snap", "a VM that goes on from there" },
	{ "vmm snapshot rm snap", "removes it, and nothing else" },
	{ NULL, NULL },
};

const struct command command_snapshot = {
	.name = "snapshot",
	.operands = " create NAME DIR | mark NAME | inspect DIR | verify DIR... | ls [DIR...] | rm "
		    "DIR... | "
		    "diff DIR DIR | merge DIR OUT",
	.help = "save a VM to files, look at such files, check and remove them",
	.options = &table,
	.run = run,
	.description =
		"*create* saves a VM: its processors, devices and memory, into the directory DIR, "
		"which is "
		"made. The VM may run; it is paused while its memory is written, and runs on after "
		"that. "
		"Disks are not in it, but with *--with-disks* copies of those that the VM writes, "
		"files disk-ID of that moment: whoever wants to restore it more than once, or "
		"later, needs "
		"them (*vmm restore --disks-to*). The snapshot is in its place as a whole or not "
		"at all; one that is "
		"there "
		"already is replaced by the new one when that is whole. The id is printed. ^C "
		"cancels "
		"it.\n\n"
		"*mark* ends a record of what a VM has touched since *vmm restore --memory-mode "
		"lazy --record-working-set*, and writes it into its snapshot's directory as the "
		"file working-set. Later restores that are lazy bring this first, in the same "
		"order.\n\n"
		"*inspect* shows what a snapshot is: id, parent, when, where and of what it was "
		"taken, "
		"and its devices with their ids, by which vmm restore connects them to other files "
		"and "
		"taps. *verify* reads all of it and checks every checksum; what is damaged is "
		"named; a copy of a disk is checked by samples of it. *ls* "
		"lists the snapshots in directories. *diff* says how much of the memory of two "
		"snapshots "
		"differs, and where. *merge* writes a full snapshot of what one and its parents "
		"have.\n\n"
		"*rm* removes the files of a snapshot and its directory. A directory that has "
		"anything "
		"else is left as it is, which is an error.\n\n"
		"*vmm restore* makes a VM of a snapshot. Formats and promises: docs/snapshot.md.",
	.examples = examples,
	.careful = true,
	.exits = "128+N it was interrupted by signal N",
};
