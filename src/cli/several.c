// SPDX-License-Identifier: Apache-2.0
/*
 * Commands that are for one VM or several: by their names, by --all, or one by its API socket. Each
 * is worked on whatever became of the others; the exit code is the worst.
 */
#include <limits.h>
#include <stdlib.h>

#include "command.h"
#include "exit_codes.h"
#include "vmm/run_directory.h"

static const struct option option_list[] = {
	{ .name = "all",
	  .letter = 'a',
	  .type = OPTION_FLAG,
	  .help = "every VM that this can be done to, in place of NAME",
	  .careful = true },
};
const struct option_table all_options = OPTION_TABLE("all", option_list);

static int list_all(struct vm_names *names, enum which which, int *code)
{
	struct error e = { 0 };
	size_t count;

	if (run_directory_list_all(&names->entries, &count, &e) < 0) {
		*code = command_fail(&e);
		return -1;
	}
	names->names = calloc(count + 1, sizeof(*names->names));
	names->owned = true;
	if (names->names == NULL) {
		vm_names_finish(names);
		(void)error_set(&e, ERROR_NO_MEMORY, 0, "out of memory");
		*code = command_fail(&e);
		return -1;
	}
	for (size_t i = 0; i < count; i++) {
		if (which == WHICH_ALL || names->entries[i].alive == (which == WHICH_LIVING)) {
			names->entries[names->count] = names->entries[i];
			names->names[names->count] = names->entries[names->count].name;
			names->count++;
		}
	}
	return 0;
}

int command_parse_names(const struct command *command, void *object, const bool *help,
			struct target *target, const bool *all, enum which which,
			struct vm_names *names, int argc, char **argv, int *code)
{
	bool instead;
	int count;

	*names = (struct vm_names){ 0 };
	count = command_parse_exactly(command, object, help, 0, INT_MAX, argc, argv, code);
	if (count < 0) {
		return count;
	}
	instead = (all != NULL && *all) || (target != NULL && target->api_socket != NULL);
	if (instead && count > 0) {
		*code = command_wrong_operands(command, "one operand too many: ", argv[1]);
		return -1;
	}
	if (all != NULL && *all && target != NULL && target->api_socket != NULL) {
		*code = command_wrong_operands(command, "--all and --api-sock exclude each other",
					       "");
		return -1;
	}
	if (!instead && count == 0) {
		*code = command_wrong_operands(command, "which VM?", "");
		return -1;
	}
	names->many = count > 1 || (all != NULL && *all);
	if (all != NULL && *all) {
		return list_all(names, which, code);
	}
	names->names = argv + 1;
	names->count = (size_t)count;
	if (instead) {
		argv[1] = NULL;
		names->count = 1;
	}
	return 0;
}

int command_for_each(const struct command *command, void *object, const bool *help,
		     struct target *target, const bool *all, enum which which, int argc,
		     char **argv, int (*one)(const void *object, const char *name))
{
	struct vm_names names = { 0 };
	int code;

	if (command_parse_names(command, object, help, target, all, which, &names, argc, argv,
				&code) < 0) {
		return code;
	}
	code = EXIT_OK;
	for (size_t i = 0; i < names.count; i++) {
		int own = one(object, names.names[i]);

		code = MAX(code, own);
	}
	vm_names_finish(&names);
	return code;
}

void vm_names_finish(struct vm_names *names)
{
	if (names->owned) {
		free(names->names);
	}
	free(names->entries);
	*names = (struct vm_names){ 0 };
}
