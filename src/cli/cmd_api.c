// SPDX-License-Identifier: Apache-2.0
/*
 * vmm api: one request to a VM's API as it is, for scripts and for what has no command. The body of
 * the answer goes to standard output unchanged; a refusal is also an error.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "command.h"
#include "exit_codes.h"
#include "vmm/cleanup.h"
#include "vmm/text.h"

#define BODY_MAX    MIB(16)
#define METHOD_SIZE 16

struct api_command {
	struct target target;
	bool include, help;
};

static const struct option option_list[] = {
	{ .name = "include",
	  .letter = 'i',
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct api_command, include),
	  .help = "print the status of the answer to standard error" },
	OPTION_INCLUDED(struct api_command, target, target_options),
	HELP_OPTION(struct api_command, help),
};
static const struct option_table table = OPTION_TABLE("api", option_list);

static int read_all(int fd, const char *shown, char **ret, size_t *len, struct error *e)
{
	ssize_t n = read_whole(fd, 0, BODY_MAX, ret);

	if (n < 0) {
		return error_set_sys(e, n == -ENOMEM ? ERROR_NO_MEMORY : ERROR_CONFIG, (int)-n,
				     "read %s", shown);
	}
	if ((size_t)n > BODY_MAX) {
		return error_set(e, ERROR_TOO_LARGE, EFBIG, "%s: more than %llu MiB", shown,
				 (unsigned long long)BODY_MAX >> 20);
	}
	*len = (size_t)n;
	return 0;
}

/* "-": standard input; "@FILE": a file; else the text itself. */
static int load_body(const char *text, char **ret, size_t *len, struct error *e)
{
	auto_close int fd = -1;

	if (strcmp(text, "-") == 0) {
		return read_all(STDIN_FILENO, "standard input", ret, len, e);
	}
	if (text[0] == '@') {
		fd = open(text + 1, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		if (fd < 0) {
			return error_set_sys(e, ERROR_CONFIG, errno, "open '%s'", text + 1);
		}
		return read_all(fd, text + 1, ret, len, e);
	}
	*ret = strdup(text);
	*len = strlen(text);
	return *ret != NULL ? 0 : error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
}

static void upper(char buf[METHOD_SIZE], const char *text)
{
	size_t len = 0;

	for (; text[len] != '\0' && len < METHOD_SIZE - 1; len++) {
		buf[len] = (char)toupper((unsigned char)text[len]);
	}
	buf[len] = '\0';
}

static int request(const struct api_command *api, const char *method, const char *path,
		   const char *body, size_t len, struct error *e)
{
	struct client client = { .fd = -1 };
	struct client_reply reply = { 0 };
	int r = client_connect(&client, api->target.name, api->target.api_socket, CLIENT_TIMEOUT_MS,
			       e);

	if (r == 0) {
		r = client_request(&client, method, path, body, len, &reply, e);
	}
	client_close(&client);
	if (r < 0) {
		return r;
	}
	if (api->include) {
		(void)fprintf(stderr, "%d\n", reply.status);
	}
	(void)fwrite(reply.body, 1, reply.len, stdout);
	if (reply.len > 0 && reply.body[reply.len - 1] != '\n') {
		(void)putchar('\n');
	}
	if (reply.status >= 400) {
		(void)fflush(stdout);
		r = client_reply_error(&reply, method, path, e);
	}
	client_reply_finish(&reply);
	return r;
}

static int run(int argc, char **argv)
{
	struct api_command api = { 0 };
	struct error e = { 0 };
	char *body = NULL;
	char method[METHOD_SIZE];
	size_t len = 0;
	int operands, code, r = 0;

	operands = command_parse_target(&command_api, &api, &api.help, &api.target, 2, 3, argc,
					argv, &code);
	if (operands < 0) {
		return code;
	}
	upper(method, argv[1]);
	if (operands == 3) {
		r = load_body(argv[3], &body, &len, &e);
	}
	if (r == 0) {
		r = request(&api, method, argv[2], body, len, &e);
	}
	free(body);
	return r < 0 ? command_fail(&e) : EXIT_OK;
}

static const struct command_example examples[] = {
	{ "vmm api web GET /vm", "the state of a VM" },
	{ "vmm api web PATCH /vm '{\"state\": \"Paused\"}'", "pause it" },
	{ "vmm api --api-sock /tmp/api.sock PUT /machine-config @machine.json",
	  "a VM of vmm serve, with the body from a file" },
	{ "vmm api web GET /openapi.json", "the description of the API" },
	{ NULL, NULL },
};

const struct command command_api = {
	.name = "api",
	.operands = " NAME METHOD PATH [BODY|@FILE|-]",
	.help = "send one request to the API of a VM",
	.options = &table,
	.run = run,
	.description =
		"Sends METHOD PATH to the VM, with a body if there is one: the text itself, the "
		"contents of FILE, or standard input. The body of the answer is printed unchanged. "
		"GET /events goes on for ever: use vmm events.",
	.examples = examples,
	.exits = "125 an error, which is said on standard error; so is an answer of status 400 or "
		 "above",
};
