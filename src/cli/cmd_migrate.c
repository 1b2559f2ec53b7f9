// SPDX-License-Identifier: Apache-2.0
/*
 * vmm migrate: has a VM move to where vmm receive waits, shows how far it is, or looks at a migration and decides what is in doubt. The
 * VM's process does the work; one connection to it waits for the end, on a thread, another asks how far it is. ^C cancels the
 * migration, and is over when that is; a second one does not wait for it.
 *
 * What the VM answers is another process's.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "carrier.h"
#include "client.h"
#include "command.h"
#include "exit_codes.h"
#include "overrides.h"
#include "progress.h"
#include "snapshot_command.h"
#include "vm_status.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/options_json.h"
#include "vmm/request.h"

LOG_DOMAIN("migrate");

#define ASK_EVERY_MS 100

enum migrate_verb {
	MIGRATE,
	MIGRATE_STATUS,
	MIGRATE_CANCEL,
	MIGRATE_SWITCH,
	MIGRATE_RESUME,
	MIGRATE_RUN,
	MIGRATE_GIVE_UP,
};

struct migrate_command {
	struct target target;
	struct common_options common;
	struct migrate_request request;
	struct carrier_settings carrier;
	bool status, cancel, switches, resume, run, give_up;
	const char *word;
	bool vouched;
};

static const struct option_value sandboxes[] = {
	{ "on", SANDBOX_ON },
	{ "log", SANDBOX_LOG },
	{ "off", SANDBOX_OFF },
	{ NULL, 0 },
};

#define AT(member) .offset = offsetof(struct migrate_command, member)
static const struct option option_list[] = {
	OPTION_INCLUDED(struct migrate_command, request, migrate_request_options),
	{ .name = "tls-dir",
	  .type = OPTION_STRING,
	  AT(carrier.tls_dir),
	  .argument = "FOLDER",
	  .file = true,
	  .help = "encrypted, to who has a certificate of ca-cert.pem; also client-cert.pem and "
		  "client-key.pem are in there" },
	{ .name = "tls-hostname",
	  .type = OPTION_STRING,
	  AT(carrier.tls_hostname),
	  .argument = "NAME",
	  .help = "of --tls-dir: whom the other side's certificate has to name; default: the "
		  "address" },
	{ .name = "sandbox",
	  .type = OPTION_ENUM,
	  AT(carrier.sandbox),
	  .values = sandboxes,
	  .argument = "on|log|off",
	  .fallback = "on",
	  .help = "of what carries the connection, for fd:N and --tls-dir" },
	{ .name = "status",
	  .type = OPTION_FLAG,
	  AT(status),
	  .help = "only show the migration that is under way, or was the last" },
	{ .name = "cancel", .type = OPTION_FLAG, AT(cancel), .help = "cancel it: the VM stays" },
	{ .name = "switch",
	  .type = OPTION_FLAG,
	  AT(switches),
	  .help = "of one with --at-limit postcopy: do not wait for the limit" },
	{ .name = "resume",
	  .type = OPTION_FLAG,
	  AT(resume),
	  .help = "the VM has moved, and what its memory comes over was lost: connect anew, to "
		  "ADDRESS if that is another" },
	{ .name = "run",
	  .type = OPTION_FLAG,
	  AT(run),
	  .careful = true,
	  .help = "in doubt: the VM goes on here, with --word or --vouched" },
	{ .name = "give-up",
	  .type = OPTION_FLAG,
	  AT(give_up),
	  .careful = true,
	  .help = "in doubt: it never goes on here; memory that is missing: it will not come" },
	{ .name = "word",
	  .type = OPTION_STRING,
	  AT(word),
	  .argument = "WORD",
	  .help = "of --run: what --status of the other side shows" },
	{ .name = "vouched",
	  .type = OPTION_FLAG,
	  AT(vouched),
	  .careful = true,
	  .help = "of --run, without a word: you know that the VM runs nowhere else, and never "
		  "will" },
	OPTION_INCLUDED(struct migrate_command, target, target_options),
	OPTION_INCLUDED(struct migrate_command, common, common_options),
};
static const struct option_table table = OPTION_TABLE("migrate", option_list);

/* --- the move ------------------------------------------------------------------------------------ */

struct mover {
	struct client client;
	json_t *body;
	_Atomic bool over;
	int over_fd;   /* an eventfd, readable then; -1: it is looked at now and then */
	json_t *reply; /* how it went */
	int result;
	struct error error;
};

static void *wait_for_end(void *arg)
{
	struct mover *mover = arg;
	const uint64_t one = 1;

	mover->result = client_call(&mover->client, "PUT", "/migration", mover->body, &mover->reply,
				    &mover->error);
	atomic_store(&mover->over, true);
	(void)!write(mover->over_fd, &one, sizeof(one));
	return NULL;
}

static uint64_t number_at(const json_t *object, const char *key)
{
	const json_int_t n = json_integer_value(json_object_get(object, key));

	return n > 0 ? (uint64_t)n : 0;
}

static void show(struct progress *progress, const json_t *migration)
{
	const char *state = json_string_value(json_object_get(migration, "state"));
	const uint64_t sent = number_at(migration, "sent_bytes");
	const uint64_t throttle = number_at(migration, "throttle_percent");
	char slowed[24];
	const struct progress_figures figures = {
		.phase = throttle != 0					      ? slowed
			 : state != NULL && strncmp(state, "source-", 7) == 0 ? state + 7
									      : state,
		.done = sent,
		.total = sent + number_at(migration, "left_bytes"),
		.rate = number_at(migration, "bytes_per_second"),
	};

	(void)snprintf(slowed, sizeof(slowed), "guest slowed by %llu%%",
		       (unsigned long long)MIN(throttle, UINT64_C(100)));
	progress_show(progress, &figures);
}

/* Until it is over; or false: nobody waits for that any more. */
static bool follow(struct mover *mover, struct client *asker, struct progress *progress)
{
	bool asks = asker->fd >= 0, cancelled = false, heard = false;

	while (!atomic_load(&mover->over)) {
		auto_json json_t *migration = NULL;
		auto_json json_t *cancel = json_pack("{s:s}", "decision", "cancel");

		if (!heard && progress_interrupted(progress) != 0 && asks) {
			cancelled = true;
			/* While it connects there is nothing to cancel yet; or it is too late: what comes of it counts. */
			heard = client_call(asker, "PATCH", "/migration", cancel, NULL, NULL) >= 0;
		}
		if (cancelled && progress_insisted(progress)) {
			return false;
		}
		/* The process is gone when the VM is. */
		asks = asks && client_call(asker, "GET", "/migration", NULL, &migration, NULL) >= 0;
		if (migration != NULL) {
			show(progress, migration);
		}
		progress_sleep(progress, mover->over_fd, ASK_EVERY_MS);
	}
	return true;
}

/* The thread waits still, and ends with the process. */
static _Noreturn void leave(struct progress *progress)
{
	struct error e = { 0 };

	progress_wipe(progress);
	(void)error_set(&e, ERROR_CANCELLED, ECANCELED,
			"the migration is being cancelled, which was not waited for");
	(void)error_hint(&e, "vmm migrate --status shows when that is over");
	_exit(snapshot_fail(progress, &e));
}

static int begin(struct mover *mover, struct client *asker, const struct migrate_command *command,
		 struct error *e)
{
	const char *name = command->target.name, *socket = command->target.api_socket;
	int r = client_connect(&mover->client, name, socket, -1, e);

	return r == 0 ? client_connect(asker, name, socket, CLIENT_TIMEOUT_MS, e) : r;
}

static uint64_t downtime_us(const json_t *migration)
{
	const json_t *parts = json_object_get(migration, "downtime_us"), *value;
	const char *key;
	uint64_t sum = 0;

	json_object_foreach((json_t *)(uintptr_t)parts, key, value)
	{
		sum += (uint64_t)MAX(json_integer_value(value), (json_int_t)0);
	}
	return sum;
}

static int report(const struct migrate_command *command, const char *address, json_t *reply,
		  uint64_t ms)
{
	const char *name = command->target.name != NULL ? command->target.name : "the VM";
	const uint64_t still = downtime_us(reply);

	if (command->common.json) {
		return command_print_json(json_pack("{s:s, s:s*, s:I, s:O*}", "address", address,
						    "name", command->target.name, "elapsed_ms",
						    (json_int_t)ms, "migration", reply),
					  true);
	}
	log_info("%s has moved to %s, %llu.%llu s; it stood still for %llu.%llu ms", name, address,
		 (unsigned long long)ms / 1000, (unsigned long long)ms % 1000 / 100,
		 (unsigned long long)still / 1000, (unsigned long long)still % 1000 / 100);
	return EXIT_OK;
}

static int move(struct migrate_command *command, struct carrier *carrier)
{
	struct mover mover = { .client = { .fd = -1 }, .over_fd = eventfd(0, EFD_CLOEXEC) };
	struct client asker = { .fd = -1 };
	struct progress progress;
	struct error e = { 0 };
	const uint64_t began = loop_now_ns();
	pthread_t thread;
	int r, code;

	command->request.address = carrier->address;
	mover.body = options_to_json(&migrate_request_options, &command->request, 0);
	r = mover.body != NULL
		    ? begin(&mover, &asker, command, &e)
		    : error_set(&e, ERROR_USAGE, EINVAL, "'%.120s' is not UTF-8", carrier->shown);
	progress_begin(&progress, command->common.json);
	if (r == 0 && pthread_create(&thread, NULL, wait_for_end, &mover) != 0) {
		r = error_set(&e, ERROR_NO_MEMORY, ENOMEM, "a thread");
	}
	if (r == 0 && !follow(&mover, &asker, &progress)) {
		carrier_leave(carrier);
		leave(&progress);
	}
	if (r == 0) {
		(void)pthread_join(thread, NULL);
		r = mover.result;
		e = mover.error;
	}
	close_fd(&mover.over_fd);
	if (r < 0) {
		carrier_explain(carrier, &e);
	}
	client_close(&mover.client);
	client_close(&asker);
	json_decref(mover.body);
	progress_wipe(&progress);
	if (r < 0 && command->target.name != NULL && strstr(e.msg, command->target.name) == NULL) {
		(void)error_prefix(&e, "VM '%s'", command->target.name);
	}
	code = r < 0 ? snapshot_fail(&progress, &e)
		     : report(command, carrier->shown, mover.reply,
			      (loop_now_ns() - began) / 1000000);
	json_decref(mover.reply);
	progress_end(&progress);
	return code;
}

/* A command, or a socket that is open. */
static int check_connections(const struct migrate_command *command, const char *address,
			     struct error *e)
{
	if (command->request.connections <= 1 || !carrier_is_single(address)) {
		return 0;
	}
	(void)error_set(e, ERROR_USAGE, EINVAL, "--connections: '%.80s' is one connection",
			address);
	return error_hint(e, "leave it out, or migrate to tcp:HOST:PORT or unix:PATH");
}

static int move_to(struct migrate_command *command, const char *address)
{
	struct carrier carrier;
	struct error e = { 0 };
	int code;

	if (check_connections(command, address, &e) < 0) {
		return command_fail(&e);
	}
	code = carrier_begin(&carrier, &command->carrier, address, &e) == 0
		       ? move(command, &carrier)
		       : command_fail(&e);

	carrier_finish(&carrier, code == EXIT_OK);
	return code;
}

/* --- look, and decide ---------------------------------------------------------------------------- */

static void print_line(const json_t *migration, const char *key)
{
	const json_t *value = json_object_get(migration, key);

	if (json_is_string(value)) {
		(void)printf("%-12s %s\n", key, json_string_value(value));
	}
}

static void print_size(const json_t *migration, const char *key, const char *shown)
{
	char buf[FIGURE_SIZE];

	if (json_object_get(migration, key) != NULL) {
		(void)printf("%-12s %s\n", shown, show_bytes(buf, number_at(migration, key)));
	}
}

static int print_status(const struct migrate_command *command, json_t *migration)
{
	const char *message =
		json_string_value(json_object_get(json_object_get(migration, "error"), "message"));

	if (command->common.json) {
		return command_print_json(json_incref(migration), true);
	}
	print_line(migration, "state");
	print_line(migration, "address");
	print_size(migration, "sent_bytes", "sent");
	print_size(migration, "left_bytes", "left");
	print_size(migration, "bytes_per_second", "per second");
	if (number_at(migration, "throttle_most_percent") != 0) {
		(void)printf("%-12s by %llu %% now, by %llu %% at most\n", "slowed",
			     (unsigned long long)number_at(migration, "throttle_percent"),
			     (unsigned long long)number_at(migration, "throttle_most_percent"));
	}
	if (json_object_get(migration, "downtime_us") != NULL) {
		(void)printf("%-12s %llu us\n", "downtime",
			     (unsigned long long)downtime_us(migration));
	}
	if (message != NULL) {
		(void)printf("%-12s %s\n", "error", message);
	}
	print_line(migration, "memory");
	print_line(migration, "word");
	print_line(migration, "decide");
	return EXIT_OK;
}

static json_t *make_decision(const struct migrate_command *command, enum migrate_verb verb)
{
	static const char *const decisions[] = {
		[MIGRATE_CANCEL] = "cancel",   [MIGRATE_SWITCH] = "switch",
		[MIGRATE_RESUME] = "resume",   [MIGRATE_RUN] = "run",
		[MIGRATE_GIVE_UP] = "give-up",
	};

	return json_pack("{s:s, s:s*, s:s*, s:b}", "decision", decisions[verb], "address",
			 command->request.address, "word", command->word, "vouched",
			 command->vouched);
}

static int look_or_decide(const struct migrate_command *command, enum migrate_verb verb)
{
	const char *name = command->target.name;
	struct client client = { .fd = -1 };
	struct error e = { 0 };
	auto_json json_t *migration = NULL, *body = NULL;
	int code = EXIT_OK;
	int r = client_connect(&client, name, command->target.api_socket, CLIENT_TIMEOUT_MS, &e);

	if (r == 0 && verb == MIGRATE_STATUS) {
		r = client_call(&client, "GET", "/migration", NULL, &migration, &e);
	} else if (r == 0) {
		body = make_decision(command, verb);
		r = body != NULL ? client_call(&client, "PATCH", "/migration", body, NULL, &e)
				 : error_set(&e, ERROR_USAGE, EINVAL, "a word that is not UTF-8");
	}
	client_close(&client);
	if (r < 0 && name != NULL && strstr(e.msg, name) == NULL) {
		(void)error_prefix(&e, "VM '%s'", name);
	}
	if (r < 0) {
		code = command_fail(&e);
	} else if (migration != NULL) {
		code = print_status(command, migration);
	}
	return code;
}

static int resume_at(struct migrate_command *command, const char *address)
{
	struct error e = { 0 };
	auto_free char *whole = overrides_address(address, &e);

	command->request.address = whole;
	return whole != NULL ? look_or_decide(command, MIGRATE_RESUME) : command_fail(&e);
}

/* --- the command line ---------------------------------------------------------------------------- */

static int wrong(const char *what, const char *text)
{
	return command_wrong_operands(&command_migrate, what, text);
}

static int which(const struct migrate_command *command, enum migrate_verb *verb)
{
	const bool asked[] = {
		[MIGRATE_STATUS] = command->status,   [MIGRATE_CANCEL] = command->cancel,
		[MIGRATE_SWITCH] = command->switches, [MIGRATE_RESUME] = command->resume,
		[MIGRATE_RUN] = command->run,	      [MIGRATE_GIVE_UP] = command->give_up
	};
	int count = 0;

	*verb = MIGRATE;
	for (size_t i = MIGRATE_STATUS; i < ARRAY_SIZE(asked); i++) {
		if (asked[i]) {
			*verb = (enum migrate_verb)i;
			count++;
		}
	}
	return count;
}

static int run(int argc, char **argv)
{
	struct migrate_command command = { .status = false };
	struct error e = { 0 };
	enum migrate_verb verb;
	int operands, named, code;

	operands =
		command_parse(&command_migrate, &command, &command.common.help, argc, argv, &code);
	if (operands < 0) {
		return code;
	}
	if (which(&command, &verb) > 1) {
		return wrong(
			"one of --status, --cancel, --switch, --resume, --run and --give-up at a "
			"time",
			"");
	}
	if ((command.word != NULL || command.vouched) && verb != MIGRATE_RUN) {
		return wrong("--word and --vouched are of --run", "");
	}
	named = command.target.api_socket == NULL ? 1 : 0;
	if (operands != named + (verb == MIGRATE ? 1 : 0) &&
	    !(verb == MIGRATE_RESUME && operands == named + 1)) {
		return wrong(verb == MIGRATE ? "a VM and an address" : "a VM", "");
	}
	command.target.name = named != 0 ? argv[1] : NULL;
	if (command_value(vm_name_validate(command.target.name, &e), &e) < 0) {
		return command_fail(&e);
	}
	json_prepare();
	if (verb == MIGRATE_RESUME && operands == named + 1) {
		return resume_at(&command, argv[1 + named]);
	}
	return verb == MIGRATE ? move_to(&command, argv[1 + named])
			       : look_or_decide(&command, verb);
}

static const struct command_example examples[] = {
	{ "vmm migrate web unix:/run/web.sock", "to a vmm receive of this host" },
	{ "vmm migrate --downtime 5ms --time-limit 2m --at-limit force --insecure web "
	  "tcp:192.0.2.7:4444",
	  "to another host, with a longer pause if it must be" },
	{ "vmm migrate web exec:'ssh host vmm receive -d -n web --allow /srv/vms -'", "by ssh" },
	{ "vmm migrate --tls-dir /etc/vmm/tls web tcp:192.0.2.7:4444",
	  "encrypted, with certificates" },
	{ "vmm migrate --connections 4 --insecure web tcp:192.0.2.7:4444",
	  "over a network that is faster than one processor" },
	{ "vmm migrate --postcopy web unix:/run/web.sock",
	  "what it writes after memory was sent once comes when it is touched there" },
	{ "vmm migrate --status web", "how far it is, and what has to be decided" },
	{ "vmm migrate --run --word 0123456789abcdef web",
	  "in doubt: it goes on here, with the word of the side that never will" },
	{ NULL, NULL },
};

const struct command command_migrate = {
	.name = "migrate",
	.operands = " NAME ADDRESS | --status NAME | --cancel NAME | --switch NAME | --resume NAME "
		    "[ADDRESS] | "
		    "--run NAME | --give-up NAME",
	.help = "move a VM to another vmm while it runs",
	.options = &table,
	.run = run,
	.careful = true,
	.description =
		"The VM NAME moves to where *vmm receive* waits. Its memory is sent while "
		"it runs, again as "
		"often as it writes it; when what is left can be sent within *--downtime*, "
		"it stands still "
		"for that, and goes on there. Its process here ends. Whatever fails before, "
		"and ^C, leave "
		"it running here.\n\n"
		"A guest that writes faster than can be sent never gets so far: after "
		"*--time-limit* it "
		"stays (*--at-limit cancel*), or moves with a longer pause (*force*). With "
		"*--throttle* its "
		"processors are "
		"slowed down first, only as far as needed; they are not unless told so, because "
		"the guest's users notice.\n\n"
		"ADDRESS is unix:PATH, or tcp:HOST:PORT with the number of a host; exec:COMMAND, "
		"whose standard "
		"input and output lead to *vmm receive -*; or fd:N, a stream socket that is open. "
		"With "
		"*--tls-dir* it is encrypted, and both sides show certificates.\n\n"
		"With *--at-limit postcopy*, or *--postcopy* at once, it moves before all of its "
		"memory "
		"has: it goes on there, and pages that are missing come when it touches them, over "
		"connections of their own, and all others meanwhile. Until then it needs both "
		"sides, and "
		"this process stays. If the connections are lost it stands still until they are "
		"there "
		"again: by itself within *--silence*, then by *--resume*. If this side dies before "
		"that, "
		"the VM is lost; say *--give-up* there.\n\n"
		"At no moment does it run on both sides. If the connection is lost, or a "
		"side dies, in the "
		"moment in which one has said that the other may go on, neither can know; "
		"then the VM "
		"stays paused until somebody looks at both sides (*--status*) and decides. "
		"If it runs on "
		"one, say *--give-up* on the other. If it runs on neither, one of them "
		"shows a word, with "
		"which the other goes on: *--run --word*. Only if the other side is gone "
		"for good, and "
		"never ran, or ran and its disks do not matter, say *--run --vouched*.",
	.examples = examples,
	.exits = "128+N it was interrupted by signal N",
};
