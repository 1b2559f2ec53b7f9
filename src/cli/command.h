/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands of the program: one object each, one table (commands.c), from which usage, help,
 * completion and man pages are made.
 */
#ifndef VMM_SRC_CLI_COMMAND_H
#define VMM_SRC_CLI_COMMAND_H

#include "vmm/error.h"
#include "vmm/json.h"
#include "vmm/options.h"

struct command_example {
	const char *line; /* NULL ends the list */
	const char *help;
};

struct command {
	const char *name;
	/* For the usage line, with a blank in front, "" if none. The word NAME is a VM's, NAME...
	 * those of one or several: completed and checked as such. */
	const char *operands;
	const char *help; /* one line, without a full stop */
	const struct option_table *options;
	/* argv[0] is the command's name. Returns the process's exit code. */
	int (*run)(int argc, char **argv);
	/* For the man page: sentences, paragraphs separated by empty lines. NULL: `help` says it
	 * all. */
	const char *description;
	const struct command_example *examples; /* NULL: none */
	/* Exit codes besides those of every command, a line "CODE meaning" each. NULL: none. */
	const char *exits;
	bool careful; /* what it does cannot be taken back: not proposed for a misspelt command */
};

struct command_group {
	const char *title; /* NULL: not shown in the list of commands */
	const struct command *const *commands;
	size_t count;
};
extern const struct command_group command_groups[];
extern const size_t command_group_count;

extern const struct command command_run, command_create, command_start, command_serve, command_ps,
	command_inspect, command_console, command_logs, command_stats, command_metrics,
	command_events, command_pause, command_resume, command_reset, command_stop, command_kill,
	command_wait, command_rm, command_device, command_restore, command_fork, command_snapshot,
	command_park, command_unpark, command_receive, command_migrate, command_upgrade,
	command_doctor, command_api, command_completion, command_version, command_man;

/* NULL: no such command. */
const struct command *command_find(const char *name);
/* ERROR_USAGE, with the command that was probably meant as the hint, or what another program's is
 * here. Never with one that cannot be taken back. */
int command_unknown(const char *name, struct error *e);
/* A value of the command line's that cannot be used makes the command line wrong: what is
 * ERROR_CONFIG behind other doors is ERROR_USAGE. Returns `r`. */
int command_value(int r, struct error *e);
/* Prints the error, and gives the exit code that it stands for. */
int command_fail(const struct error *e);
void command_print_help(const struct command *command);
/* The next line of `exits`, taken apart; false: there is none. */
struct command_exit {
	int code_len, meaning_len;
	const char *code, *meaning;
};
bool command_next_exit(const char **exits, struct command_exit *ret);
/* The list of commands. */
void command_print_usage(bool to_stderr);

/* Every command's --help: `member` is a bool of `struct_`. */
#define HELP_OPTION(struct_, member)                                     \
	{                                                                \
		.name = "help", .letter = 'h', .type = OPTION_FLAG,      \
		.offset = offsetof(struct_, member), .help = "show this" \
	}
#define QUIET_OPTION(struct_, member)                                      \
	{                                                                  \
		.name = "quiet", .letter = 'q', .type = OPTION_FLAG,       \
		.offset = offsetof(struct_, member), .help = "errors only" \
	}
/* The two options that most commands begin with. */
struct common_options {
	bool json, help;
};
extern const struct option_table common_options; /* --json, --help */

/*
 * A VM, by name or by the path of its API socket: for OPTION_INCLUDE.
 */
struct target {
	const char *api_socket;
	const char *name; /* set by command_parse_target() */
};
extern const struct option_table target_options; /* --api-sock */

/*
 * Fills the object from its defaults and the command line; options may stand before, between and
 * behind operands. Returns the number of operands, which are moved to argv[1] and up; negative if
 * the command is over, with its exit code in *code: an error was printed, or the help that `help`
 * (a member of the object) asks for.
 */
int command_parse(const struct command *command, void *object, const bool *help, int argc,
		  char **argv, int *code);
/* The error of a command line that has an operand where no command takes one; `hint` says how it is
 * meant. */
int command_no_operand(const char *operand, const char *hint, struct error *e);
/* An error about operands, with the usage line; the exit code. */
int command_wrong_operands(const struct command *command, const char *what, const char *text);
/* As above; there must be `min` to `max` operands, and names of VMs among them are possible ones. */
int command_parse_exactly(const struct command *command, void *object, const bool *help, int min,
			  int max, int argc, char **argv, int *code);
/* As above, where the first operand is the VM unless --api-sock names it. It is not counted in min,
 * max and the result, and is taken off argv: the other operands begin at argv[1]. */
int command_parse_target(const struct command *command, void *object, const bool *help,
			 struct target *target, int min, int max, int argc, char **argv, int *code);

/*
 * The VMs that a command is for: operands, or with --all those that there are.
 */
enum which { WHICH_LIVING, WHICH_ENDED, WHICH_ALL };
struct vm_names {
	char **names;
	size_t count;
	bool many;		   /* more than one may have been meant: JSON is an array */
	bool owned;		   /* `names` is not argv */
	struct run_entry *entries; /* in the order of `names`; NULL: without --all */
};
extern const struct option_table all_options; /* --all, a bool */
/*
 * As command_parse_exactly(), for one operand or more, all of them names; `all` (a member of the
 * object) stands for those of `which` in their place. `target` NULL: names alone; else --api-sock
 * may stand in their place, and then names->count is 1 and the name NULL. Negative: over, see
 * above.
 */
int command_parse_names(const struct command *command, void *object, const bool *help,
			struct target *target, const bool *all, enum which which,
			struct vm_names *names, int argc, char **argv, int *code);
void vm_names_finish(struct vm_names *names);
/* The same for a command that does one thing to each: one() is called for all of them whatever became
 * of the others, and gives an exit code. The worst one. */
int command_for_each(const struct command *command, void *object, const bool *help,
		     struct target *target, const bool *all, enum which which, int argc,
		     char **argv, int (*one)(const void *object, const char *name));

/* Data for standard output: indented, or one line. Takes `value` over; NULL stands for "out of
 * memory". Returns the exit code. */
int command_print_json(json_t *value, bool indent);

/* cmd_serve.c: is vmm to be Firecracker? By its name, or by the flags of a jailer, which gives no
 * command to a program of any name. */
bool firecracker_called(int argc, char *const argv[]);
/* What vmm is then. Returns the process's exit code. */
int firecracker_main(int argc, char **argv);

#endif
