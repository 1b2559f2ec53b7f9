// SPDX-License-Identifier: Apache-2.0
/*
 * vmm man: the manual pages as scdoc(5) source, from the tables of commands and options, for the
 * build. Hidden: of no use to who has the pages. Hand-written sections of a page come from a file
 * (docs/man/) and stand between DESCRIPTION and OPTIONS.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "exit_codes.h"

struct man {
	const char *prose;
	bool list, help;
};

static const struct option option_list[] = {
	{ .name = "prose",
	  .type = OPTION_STRING,
	  .offset = offsetof(struct man, prose),
	  .argument = "FILE",
	  .help = "sections to put behind the description" },
	{ .name = "list",
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct man, list),
	  .help = "print the commands that have a page" },
	HELP_OPTION(struct man, help),
};
static const struct option_table table = OPTION_TABLE("man", option_list);

/* Plain text, of which nothing is markup. */
static void put(const char *text)
{
	if (*text == '-' || *text == '.') {
		(void)putchar('\\'); /* the start of a list, or roff's */
	}
	for (; *text != '\0'; text++) {
		if (strchr("\\*_#[]|", *text) != NULL) {
			(void)putchar('\\');
		}
		(void)putchar(*text);
	}
}

/* A name such as bzImage keeps its shape at the start of a sentence. */
static bool is_mixed_case(const char *word)
{
	for (const char *at = word + 1; *word != '\0' && isalnum((unsigned char)*at); at++) {
		if (isupper((unsigned char)*at)) {
			return true;
		}
	}
	return false;
}

static void put_sentence(const char *text)
{
	if (*text != '\0' && !is_mixed_case(text)) {
		(void)putchar(toupper((unsigned char)*text++));
	}
	put(text);
	(void)putchar('.');
}

static void heading(const char *text)
{
	(void)printf("\n# %s\n\n", text);
}

static void put_option(const struct option *option)
{
	const char *argument = options_placeholder(option);
	char accepted[256];

	if (option->letter != '\0') {
		(void)printf("*-%c*, ", option->letter);
	}
	(void)printf("*--%s*", option->name);
	if (argument[0] != '\0') {
		(void)printf(" ");
		put(argument);
	}
	(void)printf("\n\t");
	put_sentence(option->help != NULL ? option->help : "");
	if (option->type != OPTION_FLAG && option->type != OPTION_STRING &&
	    option->type != OPTION_LIST) {
		options_accepted(option, accepted, sizeof(accepted));
		(void)printf(" Accepted is ");
		put(accepted);
		(void)printf(".");
	}
	if (option->fallback != NULL) {
		(void)printf(" Default: ");
		put(option->fallback);
		(void)printf(".");
	}
	(void)printf("\n\n");
}

static void put_examples(const struct command_example *example)
{
	for (; example->line != NULL; example++) {
		(void)printf("```\n%s\n```\n\n\t", example->line);
		put_sentence(example->help);
		(void)printf("\n\n");
	}
}

static void put_exit(const char *code, const char *meaning)
{
	(void)printf("*%s*\n\t", code);
	put(meaning);
	(void)printf("\n\n");
}

/* Unless the command says itself what the code means. */
static void put_common_exit(const struct command *command, const char *code, const char *meaning)
{
	const char *exits = command->exits;
	struct command_exit at;

	while (command_next_exit(&exits, &at)) {
		if (strlen(code) == (size_t)at.code_len &&
		    memcmp(code, at.code, strlen(code)) == 0) {
			return;
		}
	}
	put_exit(code, meaning);
}

static void put_exits(const struct command *command)
{
	const char *exits = command->exits;
	struct command_exit at;

	heading("EXIT CODES");
	put_common_exit(command, "0", "done");
	while (command_next_exit(&exits, &at)) {
		char code[16], meaning[200];

		(void)snprintf(code, sizeof(code), "%.*s", at.code_len, at.code);
		(void)snprintf(meaning, sizeof(meaning), "%.*s", at.meaning_len, at.meaning);
		put_exit(code, meaning);
	}
	put_common_exit(command, "2", "the command line is wrong");
	put_common_exit(command, "125", "an error, which is said on standard error");
}

/* The file begins with a heading; its text is scdoc. */
static int put_prose(const char *path, struct error *e)
{
	FILE *file = path != NULL ? fopen(path, "re") : NULL;
	char line[1024];

	if (path == NULL) {
		return 0;
	}
	if (file == NULL) {
		return error_set_sys(e, ERROR_CONFIG, errno, "open '%s'", path);
	}
	(void)putchar('\n');
	while (fgets(line, sizeof(line), file) != NULL) {
		(void)fputs(line, stdout);
	}
	(void)fclose(file);
	return 0;
}

static int put_command(const struct command *command, const char *prose, struct error *e)
{
	struct option_iter at = option_iter(command->options);
	int r;

	(void)printf("vmm-%s(1) \"vmm " VMM_VERSION "\" \"vmm's manual\"\n", command->name);
	heading("NAME");
	(void)printf("vmm-%s - ", command->name);
	put(command->help);
	(void)printf("\n");
	heading("SYNOPSIS");
	(void)printf("*vmm %s*%s", command->name,
		     command->options->count > 0 ? " \\[OPTIONS\\]" : "");
	put(command->operands);
	(void)printf("\n");
	if (command->description != NULL) {
		heading("DESCRIPTION");
		(void)printf("%s\n", command->description);
	}
	r = put_prose(prose, e);
	if (command->options->count > 0) {
		heading("OPTIONS");
	}
	while (option_next(&at)) {
		if (at.option->name != NULL) {
			put_option(at.option);
		}
	}
	if (command->examples != NULL) {
		heading("EXAMPLES");
		put_examples(command->examples);
	}
	put_exits(command);
	heading("SEE ALSO");
	(void)printf("*vmm*(1)\n");
	return r;
}

static int put_program(const char *prose, struct error *e)
{
	int r;

	(void)printf("vmm(1) \"vmm " VMM_VERSION "\" \"vmm's manual\"\n");
	heading("NAME");
	(void)printf("vmm - run virtual machines on Linux/KVM\n");
	heading("SYNOPSIS");
	(void)printf("*vmm* COMMAND \\[OPTIONS\\]\n");
	r = put_prose(prose, e);
	heading("COMMANDS");
	for (size_t i = 0; i < command_group_count; i++) {
		for (size_t j = 0; command_groups[i].title != NULL && j < command_groups[i].count;
		     j++) {
			const struct command *command = command_groups[i].commands[j];

			(void)printf("*vmm-%s*(1)\n\t", command->name);
			put(command->help);
			(void)printf("\n\n");
		}
	}
	heading("SEE ALSO");
	(void)printf("*vmm-run*(1), *vmm-serve*(1), *vmm-ps*(1)\n");
	return r;
}

static void list(void)
{
	for (size_t i = 0; i < command_group_count; i++) {
		for (size_t j = 0; command_groups[i].title != NULL && j < command_groups[i].count;
		     j++) {
			(void)puts(command_groups[i].commands[j]->name);
		}
	}
}

static int run(int argc, char **argv)
{
	const struct command *command = NULL;
	struct error e = { 0 };
	struct man man = { 0 };
	int code, r;
	int operands =
		command_parse_exactly(&command_man, &man, &man.help, 0, 1, argc, argv, &code);

	if (operands < 0) {
		return code;
	}
	if (man.list) {
		list();
		return EXIT_OK;
	}
	if (operands == 0) {
		r = put_program(man.prose, &e);
	} else if ((command = command_find(argv[1])) != NULL) {
		r = put_command(command, man.prose, &e);
	} else {
		r = command_unknown(argv[1], &e);
	}
	return r < 0 ? command_fail(&e) : EXIT_OK;
}

const struct command command_man = {
	.name = "man",
	.operands = " [COMMAND]",
	.help = "print a manual page as scdoc source",
	.options = &table,
	.run = run,
};
