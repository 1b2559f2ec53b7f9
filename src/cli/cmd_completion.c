// SPDX-License-Identifier: Apache-2.0
/*
 * vmm completion: what a shell needs to complete our command lines, written from the tables of
 * commands and options. Names of VMs are asked for when they are needed, by `vmm ps --names`.
 *
 * All text is our own; help texts are quoted for the shell all the same.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "exit_codes.h"

struct completion {
	bool help;
};

static const struct option option_list[] = {
	HELP_OPTION(struct completion, help),
};
static const struct option_table table = OPTION_TABLE("completion", option_list);

#define SHELLS "bash zsh fish"

enum what { NOTHING, FILES, WORDS };

/* What can be proposed for the value of an option; the words go to `buf`. */
static enum what values_of(const struct option *option, char *buf, size_t size)
{
	const char *argument = options_placeholder(option);
	size_t len = 0;

	buf[0] = '\0';
	if (option->type == OPTION_BOOL) {
		(void)snprintf(buf, size, "on off");
		return WORDS;
	}
	if (option->type == OPTION_ENUM) {
		for (const struct option_value *value = option->values;
		     value->name != NULL && len < size; value++) {
			len += (size_t)snprintf(buf + len, size - len, "%s%s", len > 0 ? " " : "",
						value->name);
		}
		return WORDS;
	}
	return strncmp(argument, "FILE", 4) == 0 || strncmp(argument, "PATH", 4) == 0 ? FILES
										      : NOTHING;
}

/* Ended VMs are of use to these. */
static const char *names_flags(const struct command *command)
{
	return command == &command_rm || command == &command_inspect || command == &command_wait ||
			       command == &command_logs || command == &command_events ||
			       command == &command_start
		       ? " --all"
		       : "";
}

static bool takes_name(const struct command *command)
{
	return strstr(command->operands, "NAME") != NULL;
}

/* Those that are shown. */
static void each_command(void (*visit)(const struct command *command))
{
	for (size_t i = 0; i < command_group_count; i++) {
		for (size_t j = 0; command_groups[i].title != NULL && j < command_groups[i].count;
		     j++) {
			visit(command_groups[i].commands[j]);
		}
	}
}

/* ---- bash ---- */

static void bash_command(const struct command *command)
{
	struct option_iter at = option_iter(command->options);
	char words[256];

	(void)printf("\t%s)\n\t\tflags='", command->name);
	while (option_next(&at)) {
		if (at.option->name != NULL) {
			(void)printf("--%s ", at.option->name);
		}
	}
	(void)printf("'\n\t\tcase $previous in\n");
	at = option_iter(command->options);
	while (option_next(&at)) {
		enum what what;

		if (at.option->name == NULL || at.option->type == OPTION_FLAG) {
			continue;
		}
		what = values_of(at.option, words, sizeof(words));
		(void)printf("\t\t--%s", at.option->name);
		if (at.option->letter != '\0') {
			(void)printf("|-%c", at.option->letter);
		}
		(void)printf(") kind=%s words='%s' ;;\n",
			     what == FILES   ? "files"
			     : what == WORDS ? "words"
					     : "nothing",
			     words);
	}
	(void)printf("\t\tesac\n");
	if (takes_name(command)) {
		(void)printf("\t\tnames=$(\"$1\" ps --names%s 2>/dev/null)\n",
			     names_flags(command));
	} else if (command == &command_completion) {
		(void)printf("\t\tnames='" SHELLS "'\n");
	}
	(void)printf("\t\t;;\n");
}

static void bash_name(const struct command *command)
{
	(void)printf("%s ", command->name);
}

static void print_bash(void)
{
	(void)printf(
		"# vmm " VMM_VERSION ": completion for bash. Load it with\n"
		"#     source <(vmm completion bash)\n"
		"_vmm() {\n"
		"\tlocal current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}\n"
		"\tlocal flags= kind= words= names=\n"
		"\tif ((COMP_CWORD == 1)); then\n"
		"\t\tCOMPREPLY=($(compgen -W '");
	each_command(bash_name);
	(void)printf("--help --version' -- \"$current\"))\n\t\treturn\n\tfi\n"
		     "\tcase ${COMP_WORDS[1]} in\n");
	each_command(bash_command);
	(void)printf("\tesac\n"
		     "\tcase $kind in\n"
		     "\tfiles) compopt -o filenames 2>/dev/null; "
		     "COMPREPLY=($(compgen -f -- \"$current\")) ;;\n"
		     "\twords) COMPREPLY=($(compgen -W \"$words\" -- \"$current\")) ;;\n"
		     "\tnothing) COMPREPLY=() ;;\n"
		     "\t*)\n"
		     "\t\tif [[ $current == -* ]]; then\n"
		     "\t\t\tCOMPREPLY=($(compgen -W \"$flags\" -- \"$current\"))\n"
		     "\t\telse\n"
		     "\t\t\tCOMPREPLY=($(compgen -W \"$names\" -- \"$current\"))\n"
		     "\t\tfi\n"
		     "\t\t;;\n"
		     "\tesac\n"
		     "}\n"
		     "complete -F _vmm vmm\n");
}

/* ---- zsh ---- */

/* Within single quotes, in a place where brackets and colons have a meaning. */
static void zsh_text(const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '\'') {
			(void)fputs("'\\''", stdout);
		} else {
			if (strchr("[]:\\", *text) != NULL) {
				(void)putchar('\\');
			}
			(void)putchar(*text);
		}
	}
}

static void zsh_option(const struct option *option)
{
	char words[256];
	enum what what = values_of(option, words, sizeof(words));

	if (option->letter != '\0') {
		(void)printf(" \\\n\t\t\t'(-%c --%s)'{-%c,--%s}'[", option->letter, option->name,
			     option->letter, option->name);
	} else {
		(void)printf(" \\\n\t\t\t'%s--%s[", option->type == OPTION_LIST ? "*" : "",
			     option->name);
	}
	zsh_text(option->help != NULL ? option->help : "");
	(void)putchar(']');
	if (option->type != OPTION_FLAG) {
		(void)putchar(':');
		zsh_text(options_placeholder(option));
		(void)putchar(':');
		if (what == FILES) {
			(void)printf("_files");
		} else if (what == WORDS) {
			(void)printf("(%s)", words);
		}
	}
	(void)putchar('\'');
}

static void zsh_name(const struct command *command)
{
	(void)printf("\t\t'%s:", command->name);
	zsh_text(command->help);
	(void)printf("'\n");
}

static void zsh_command(const struct command *command)
{
	struct option_iter at = option_iter(command->options);

	(void)printf("\t%s)\n\t\t_arguments -s", command->name);
	while (option_next(&at)) {
		if (at.option->name != NULL) {
			zsh_option(at.option);
		}
	}
	if (takes_name(command)) {
		(void)printf(" \\\n\t\t\t'*:VM: _vmm_names%s'", names_flags(command));
	} else if (command == &command_completion) {
		(void)printf(" \\\n\t\t\t'1:shell:(" SHELLS ")'");
	}
	(void)printf("\n\t\t;;\n");
}

static void print_zsh(void)
{
	(void)printf("#compdef vmm\n"
		     "# vmm " VMM_VERSION
		     ": completion for zsh. Put it into a directory of $fpath as _vmm.\n"
		     "_vmm_names() {\n"
		     "\tlocal -a names\n"
		     "\tnames=(${(f)\"$(vmm ps --names $@ 2>/dev/null)\"})\n"
		     "\tcompadd -- $names\n"
		     "}\n"
		     "_vmm() {\n"
		     "\tlocal -a commands\n"
		     "\tcommands=(\n");
	each_command(zsh_name);
	(void)printf(
		"\t)\n"
		"\tif ((CURRENT == 2)); then\n\t\t_describe command commands\n\t\treturn\n\tfi\n"
		"\tshift words\n\t((CURRENT--))\n"
		"\tcase $words[1] in\n");
	each_command(zsh_command);
	(void)printf("\tesac\n}\nif [[ $funcstack[1] == _vmm ]]; then\n\t_vmm \"$@\"\nelse\n"
		     "\tcompdef _vmm vmm\nfi\n");
}

/* ---- fish ---- */

static void fish_text(const char *text)
{
	(void)putchar('\'');
	for (; *text != '\0'; text++) {
		if (*text == '\'' || *text == '\\') {
			(void)putchar('\\');
		}
		(void)putchar(*text);
	}
	(void)putchar('\'');
}

static void fish_option(const struct command *command, const struct option *option)
{
	char words[256];
	enum what what = values_of(option, words, sizeof(words));

	(void)printf("complete -c vmm -n '__fish_seen_subcommand_from %s' -l %s", command->name,
		     option->name);
	if (option->letter != '\0') {
		(void)printf(" -s %c", option->letter);
	}
	if (option->type != OPTION_FLAG) {
		(void)printf(what == FILES ? " -r -F" : " -x");
		if (what == WORDS) {
			(void)printf(" -a '%s'", words);
		}
	}
	(void)printf(" -d ");
	fish_text(option->help != NULL ? option->help : "");
	(void)putchar('\n');
}

static void fish_command(const struct command *command)
{
	struct option_iter at = option_iter(command->options);

	(void)printf("complete -c vmm -n __fish_use_subcommand -a %s -d ", command->name);
	fish_text(command->help);
	(void)putchar('\n');
	while (option_next(&at)) {
		if (at.option->name != NULL) {
			fish_option(command, at.option);
		}
	}
	if (takes_name(command)) {
		(void)printf("complete -c vmm -n '__fish_seen_subcommand_from %s' "
			     "-a '(vmm ps --names%s 2>/dev/null)'\n",
			     command->name, names_flags(command));
	} else if (command == &command_completion) {
		(void)printf("complete -c vmm -n '__fish_seen_subcommand_from completion' "
			     "-a '" SHELLS "'\n");
	}
}

static void print_fish(void)
{
	(void)printf("# vmm " VMM_VERSION ": completion for fish. Put it into "
		     "~/.config/fish/completions/vmm.fish.\n"
		     "complete -c vmm -f\n");
	each_command(fish_command);
}

static int run(int argc, char **argv)
{
	struct completion completion = { 0 };
	struct error e = { 0 };
	int code;

	if (command_parse_exactly(&command_completion, &completion, &completion.help, 1, 1, argc,
				  argv, &code) < 0) {
		return code;
	}
	if (strcmp(argv[1], "bash") == 0) {
		print_bash();
	} else if (strcmp(argv[1], "zsh") == 0) {
		print_zsh();
	} else if (strcmp(argv[1], "fish") == 0) {
		print_fish();
	} else {
		(void)error_set(&e, ERROR_USAGE, EINVAL, "'%.80s' is not a shell that is known",
				argv[1]);
		(void)error_hint(&e, "one of: " SHELLS);
		return command_fail(&e);
	}
	return EXIT_OK;
}

static const struct command_example examples[] = {
	{ "source <(vmm completion bash)", "in ~/.bashrc" },
	{ "vmm completion fish > ~/.config/fish/completions/vmm.fish", "once, for fish" },
	{ NULL, NULL },
};

const struct command command_completion = {
	.name = "completion",
	.operands = " bash|zsh|fish",
	.help = "print completion for a shell",
	.options = &table,
	.run = run,
	.examples = examples,
};
