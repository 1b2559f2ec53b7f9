// SPDX-License-Identifier: Apache-2.0
/* vmm events and metrics: what the API has as text, handed on; events of an ended VM come from the
 * file that it has left. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "command.h"
#include "exit_codes.h"
#include "vmm/cleanup.h"
#include "vmm/run_directory.h"

struct watch {
	struct target target;
	struct common_options common;
	bool follow;
	uint64_t after;
};

static const struct option event_list[] = {
	{ .name = "follow",
	  .letter = 'f',
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct watch, follow),
	  .help = "go on with what happens, until the VM ends" },
	{ .name = "after",
	  .type = OPTION_U64,
	  .offset = offsetof(struct watch, after),
	  .argument = "SEQ",
	  .fallback = "0",
	  .help = "only events with a greater number" },
	OPTION_INCLUDED(struct watch, target, target_options),
	OPTION_INCLUDED(struct watch, common, common_options),
};
static const struct option_table event_table = OPTION_TABLE("events", event_list);

/* A line is shown when it comes. */
static bool print_raw(void *arg, const char *text, size_t len)
{
	(void)arg;
	return fwrite(text, 1, len, stdout) == len && putchar('\n') != EOF && fflush(stdout) == 0;
}

/* "12  2026-01-31T12:00:00.123Z  drive-updated  drive=data" */
static bool print_for_people(void *arg, const char *text, size_t len)
{
	auto_json json_t *event = NULL;
	const char *key, *name;
	json_t *value;

	if (json_parse(&event, text, len, NULL) < 0 || !json_is_object(event)) {
		return print_raw(arg, text, len);
	}
	name = json_string_value(json_object_get(event, "event"));
	(void)printf("%4" JSON_INTEGER_FORMAT "  %-24s  %s",
		     json_integer_value(json_object_get(event, "seq")),
		     json_is_string(json_object_get(event, "time"))
			     ? json_string_value(json_object_get(event, "time"))
			     : "",
		     name != NULL ? name : "");
	json_object_foreach(event, key, value)
	{
		size_t size;
		char *shown;

		if (strcmp(key, "seq") == 0 || strcmp(key, "time") == 0 ||
		    strcmp(key, "event") == 0) {
			continue;
		}
		shown = json_text(value, &size);
		(void)printf("  %s=%s", key, shown != NULL ? shown : "?");
		free(shown);
	}
	return putchar('\n') != EOF && fflush(stdout) == 0;
}

/* What an ended VM has left: the same lines, from a file that its owner may have changed. */
static int show_left(int dir_fd, const struct watch *watch, struct error *e)
{
	auto_close int fd = openat(dir_fd, "events.json",
				   O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	bool (*show)(void *, const char *, size_t) =
		watch->common.json ? print_raw : print_for_people;
	FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;
	char *line = NULL;
	size_t room = 0;
	ssize_t len;

	if (file == NULL) {
		(void)error_set_sys(e, ERROR_NOT_FOUND, errno, "VM '%s' has left no events",
				    watch->target.name);
		return error_hint(e, "it was killed, or had no name: vmm logs %s",
				  watch->target.name);
	}
	(void)take_fd(&fd);
	while ((len = getline(&line, &room, file)) > 0) {
		auto_json json_t *event = NULL;

		len -= line[len - 1] == '\n';
		if (json_parse(&event, line, (size_t)len, NULL) == 0 &&
		    json_integer_value(json_object_get(event, "seq")) > (json_int_t)watch->after &&
		    !show(NULL, line, (size_t)len)) {
			break;
		}
	}
	free(line);
	(void)fclose(file);
	return 0;
}

static int ask(const struct watch *watch, struct error *e)
{
	struct client client = { .fd = -1 };
	char path[80];
	int r;

	(void)snprintf(path, sizeof(path), "/events?after=%" PRIu64 "&follow=%s", watch->after,
		       watch->follow ? "true" : "false");
	r = client_connect(&client, watch->target.name, watch->target.api_socket, CLIENT_TIMEOUT_MS,
			   e);
	if (r == 0) {
		r = client_stream(&client, path, watch->common.json ? print_raw : print_for_people,
				  NULL, e);
	}
	client_close(&client);
	/* The end of the VM is the end of its events. */
	return r == -ECONNRESET && watch->follow ? 0 : r;
}

static int run_events(int argc, char **argv)
{
	auto_close int dir_fd = -1;
	struct error e = { 0 };
	struct watch watch = { 0 };
	bool alive = true;
	int code, r = 0;

	if (command_parse_target(&command_events, &watch, &watch.common.help, &watch.target, 0, 0,
				 argc, argv, &code) < 0) {
		return code;
	}
	if (watch.target.name != NULL) {
		r = run_directory_find(watch.target.name, &dir_fd, &alive, &e);
	}
	if (r == 0) {
		r = alive ? ask(&watch, &e) : show_left(dir_fd, &watch, &e);
	}
	return r < 0 ? command_fail(&e) : EXIT_OK;
}

static const struct option metric_list[] = {
	OPTION_INCLUDED(struct watch, target, target_options),
	HELP_OPTION(struct watch, common.help),
};
static const struct option_table metric_table = OPTION_TABLE("metrics", metric_list);

static int run_metrics(int argc, char **argv)
{
	struct client client = { .fd = -1 };
	struct client_reply reply = { 0 };
	struct error e = { 0 };
	struct watch watch = { 0 };
	int code, r;

	if (command_parse_target(&command_metrics, &watch, &watch.common.help, &watch.target, 0, 0,
				 argc, argv, &code) < 0) {
		return code;
	}
	r = client_connect(&client, watch.target.name, watch.target.api_socket, CLIENT_TIMEOUT_MS,
			   &e);
	if (r == 0) {
		r = client_request(&client, "GET", "/metrics", NULL, 0, &reply, &e);
	}
	client_close(&client);
	if (r == 0 && reply.status != 200) {
		r = client_reply_error(&reply, "GET", "/metrics", &e);
	}
	if (r == 0) {
		(void)fwrite(reply.body, 1, reply.len, stdout);
	}
	client_reply_finish(&reply);
	return r < 0 ? command_fail(&e) : EXIT_OK;
}

static const struct command_example event_examples[] = {
	{ "vmm events --follow --json web | jq --unbuffered -r .event", "what happens, by name" },
	{ NULL, NULL },
};

const struct command command_events = {
	.name = "events",
	.operands = " NAME",
	.help = "print what happened to a VM",
	.options = &event_table,
	.run = run_events,
	.description =
		"Prints the events of a VM, a line each: its number, when it was, what it was. The "
		"VM keeps the last 128, and one with a name leaves them when it ends. With --json "
		"each line is a JSON object.\n\n"
		"Numbers begin at 1 and have no gaps: a reader that was away gets what it missed "
		"by "
		"--after with the last number that it has seen.",
	.examples = event_examples,
};

const struct command command_metrics = {
	.name = "metrics",
	.operands = " NAME",
	.help = "print the figures of a VM in Prometheus' text format",
	.options = &metric_table,
	.run = run_metrics,
	.description = "Counters begin at the start of the VM and are never reset.",
};
