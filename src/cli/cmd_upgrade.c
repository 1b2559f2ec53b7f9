/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm upgrade: a VM in the background goes on in a new process, of another binary perhaps, with the same name. This command starts that
 * process (vmm receive --upgrade), with a socket in the VM's directory to listen on, and asks the VM's process to hand over by it. The two
 * settle between them who runs; this command only looks who answers by the name afterwards, and may be killed at any moment.
 *
 * What runs as the new process is whatever FILE is: it may not exist, end, do nothing, or say anything; the VM is its own only when both
 * have agreed. What either answers is another process's.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client.h"
#include "command.h"
#include "exit_codes.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/loop.h"
#include "vmm/request.h"
#include "vmm/run_directory.h"

LOG_DOMAIN("upgrade");

#define OURSELVES   "/proc/self/exe"
#define NEW_SOCKET  3 /* its number in the new process */
#define MS	    1000000ULL
#define LOOK_MS	    20
#define CALL_MS	    3000
#define END_WAIT_MS 1000
/* Of what the new process says. */
#define WORDS_MAX 1024

struct upgrade_command {
	const char *binary;
	uint64_t silence_ns;
	struct common_options common;
};

#define AT(member) .offset = offsetof(struct upgrade_command, member)
static const struct option option_list[] = {
	{ .name = "binary",
	  .type = OPTION_STRING,
	  AT(binary),
	  .argument = "FILE",
	  .file = true,
	  .help = "the program that the VM goes on in; default: this one" },
	SILENCE_OPTION(struct upgrade_command, silence_ns, "10s",
		       "how long the new process may say nothing before the VM stays where it is"),
	OPTION_INCLUDED(struct upgrade_command, common, common_options),
};
static const struct option_table table = OPTION_TABLE("upgrade", option_list);

struct upgrader {
	const char *name, *binary; /* as messages have it */
	int dir_fd, lock_fd, listener;
	pid_t old;
	int old_pidfd;
	pid_t child;
	int words_fd; /* a file: what it says, until it has the VM's log */
	bool child_ended;
	int status;
	char words[WORDS_MAX];
};

/* --- the new process ----------------------------------------------------------------------------- */

static _Noreturn void become(const struct upgrader *upgrader, const char *file, int told,
			     char **argv)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int sys;

	if (null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDOUT_FILENO) >= 0 &&
	    dup2(upgrader->words_fd, STDERR_FILENO) >= 0 && setsid() >= 0) {
		/* Its number may be ours by chance, and then is to stay open as well. */
		if (upgrader->listener == NEW_SOCKET
			    ? fcntl(NEW_SOCKET, F_SETFD, 0) == 0
			    : dup2(upgrader->listener, NEW_SOCKET) == NEW_SOCKET) {
			(void)execv(file, argv);
		}
	}
	sys = errno;
	(void)!write(told, &sys, sizeof(sys));
	_exit(EXIT_VMM_ERROR);
}

/* Its numbers must not be what the socket's is going to be. */
static int make_pipe(int fds[2])
{
	if (pipe2(fds, O_CLOEXEC) < 0) {
		return -errno;
	}
	for (int i = 0; i < 2; i++) {
		int moved = fcntl(fds[i], F_DUPFD_CLOEXEC, NEW_SOCKET + 1);

		(void)close(fds[i]);
		fds[i] = moved;
	}
	return fds[0] >= 0 && fds[1] >= 0 ? 0 : -EMFILE;
}

/* Whether it has become the program, or why not. */
static int hear_of_exec(struct upgrader *upgrader, int told, struct error *e)
{
	int sys = 0;
	ssize_t n;

	do {
		n = read(told, &sys, sizeof(sys));
	} while (n < 0 && errno == EINTR);
	if (n <= 0) {
		return 0;
	}
	(void)waitpid(upgrader->child, NULL, 0);
	upgrader->child_ended = true;
	(void)error_set_sys(e, ERROR_USAGE, sys, "run '%s'", upgrader->binary);
	return error_hint(e, "--binary FILE is a vmm that can be executed");
}

static int start_process(struct upgrader *upgrader, const char *file, uint64_t silence_ns,
			 struct error *e)
{
	char silence[32], socket[16], name[80];
	char program[] = "vmm", command[] = "receive", upgrade[] = "--upgrade",
	     limit[] = "--silence";
	char *argv[] = { program, command, upgrade, name, limit, silence, socket, NULL };
	int told[2] = { -1, -1 };
	int r;

	(void)snprintf(silence, sizeof(silence), "%llums", (unsigned long long)(silence_ns / MS));
	(void)snprintf(socket, sizeof(socket), "fd:%d", NEW_SOCKET);
	(void)snprintf(name, sizeof(name), "%s", upgrader->name);
	upgrader->words_fd = memfd_create("vmm-words", MFD_CLOEXEC);
	r = upgrader->words_fd < 0 ? -errno : make_pipe(told);
	if (r < 0) {
		return error_set_sys(e, ERROR_INTERNAL, -r, "upgrade: pipe");
	}
	upgrader->child = fork();
	if (upgrader->child == 0) {
		become(upgrader, file, told[1], argv);
	}
	r = upgrader->child < 0 ? error_set_sys(e, ERROR_INTERNAL, errno, "upgrade: fork") : 0;
	(void)close(told[1]);
	close_fd(&upgrader->listener);
	r = r == 0 ? hear_of_exec(upgrader, told[0], e) : r;
	(void)close(told[0]);
	return r;
}

/* The last that it has said. */
static void hear_words(struct upgrader *upgrader)
{
	const off_t size = lseek(upgrader->words_fd, 0, SEEK_END);
	ssize_t n = pread(upgrader->words_fd, upgrader->words, WORDS_MAX - 1,
			  MAX(size - (WORDS_MAX - 1), (off_t)0));

	upgrader->words[MAX(n, (ssize_t)0)] = '\0';
}

static bool has_ended(struct upgrader *upgrader)
{
	if (!upgrader->child_ended && waitpid(upgrader->child, &upgrader->status, WNOHANG) > 0) {
		upgrader->child_ended = true;
	}
	return upgrader->child_ended;
}

/* It does not have the VM. It is our child, so that its number is no other process's; and what it has started is of its session. */
static void end_process(struct upgrader *upgrader)
{
	for (int waited = 0; !has_ended(upgrader) && waited < END_WAIT_MS; waited += LOOK_MS) {
		(void)poll(NULL, 0, LOOK_MS);
	}
	if (!has_ended(upgrader)) {
		(void)kill(-upgrader->child, SIGKILL);
		(void)waitpid(upgrader->child, &upgrader->status, 0);
		upgrader->child_ended = true;
		upgrader->status = 0;
	}
	hear_words(upgrader);
}

/* --- who has the VM ------------------------------------------------------------------------------ */

/* The process that answers by the name; 0: none. */
static pid_t who_answers(const struct upgrader *upgrader)
{
	auto_json json_t *vm = NULL;

	if (client_call_at(upgrader->dir_fd, CALL_MS, "GET", "/vm", NULL, &vm, NULL) < 0) {
		return 0;
	}
	return (pid_t)json_integer_value(json_object_get(vm, "pid"));
}

static bool old_is_gone(const struct upgrader *upgrader)
{
	struct pollfd fd = { .fd = upgrader->old_pidfd, .events = POLLIN };

	return poll(&fd, 1, 0) > 0;
}

/*
 * The new process has it: 0. What the old one has answered counts for nothing here: it may have been killed in the middle of it, or
 * the new one.
 */
static int look_who_has_it(struct upgrader *upgrader, bool refused, uint64_t limit_ns,
			   struct error *e)
{
	const uint64_t until = loop_now_ns() + limit_ns;

	for (;;) {
		pid_t who = who_answers(upgrader);

		if (who == upgrader->child) {
			return 0;
		}
		if (who == upgrader->old && refused) {
			return -EBUSY;
		}
		if (old_is_gone(upgrader) && has_ended(upgrader)) {
			return error_set(e, ERROR_NOT_FOUND, ESRCH,
					 "the VM has ended: both of its processes have");
		}
		if (loop_now_ns() >= until) {
			(void)error_set(e, ERROR_BUSY, ETIMEDOUT,
					"it is not known which process has the VM");
			return error_hint(e, "vmm ps and vmm inspect %s show it", upgrader->name);
		}
		(void)poll(NULL, 0, LOOK_MS);
	}
}

static int ask_to_hand_over(const struct upgrader *upgrader, uint64_t silence_ns, json_t **reply,
			    struct error *e)
{
	struct client client = { .fd = -1 };
	auto_json json_t *body =
		json_pack("{s:s, s:b, s:I}", "address", "unix:" RUN_DIRECTORY_UPGRADE, "upgrade",
			  true, "silence_ms", (json_int_t)(silence_ns / MS));
	int r = client_connect_at(&client, upgrader->dir_fd, -1, e);

	r = r == 0 ? client_call(&client, "PUT", "/migration", body, reply, e) : r;
	client_close(&client);
	return r;
}

/* --- what came of it ----------------------------------------------------------------------------- */

static uint64_t still_us(const json_t *migration)
{
	const json_t *parts = json_object_get(migration, "downtime_us"), *value;
	const char *key;
	json_int_t sum = 0;

	json_object_foreach((json_t *)(uintptr_t)parts, key, value)
	{
		sum += MAX(json_integer_value(value), (json_int_t)0);
	}
	return (uint64_t)sum;
}

static int report(const struct upgrade_command *command, const struct upgrader *upgrader,
		  json_t *migration, uint64_t ms)
{
	const uint64_t us = still_us(migration);

	if (command->common.json) {
		return command_print_json(json_pack("{s:s, s:i, s:i, s:I, s:O*}", "name",
						    upgrader->name, "pid", (int)upgrader->child,
						    "old_pid", (int)upgrader->old, "elapsed_ms",
						    (json_int_t)ms, "migration", migration),
					  true);
	}
	log_info("%s goes on in process %d; it stood still for %llu.%llu ms", upgrader->name,
		 (int)upgrader->child, (unsigned long long)us / 1000,
		 (unsigned long long)us % 1000 / 100);
	return EXIT_OK;
}

/* The last line of it, which says why it ended. */
static const char *last_words(struct upgrader *upgrader)
{
	char *text = upgrader->words, *line;
	size_t len = strlen(text);

	for (size_t i = 0; i < len; i++) {
		text[i] = (text[i] < ' ' || text[i] > '~') && text[i] != '\n' ? '?' : text[i];
	}
	while (len > 0 && text[len - 1] == '\n') {
		text[--len] = '\0';
	}
	line = strrchr(text, '\n');
	return line != NULL ? line + 1 : text;
}

static int fail(struct upgrader *upgrader, struct error *e)
{
	const char *said;

	if (upgrader->child > 0) {
		end_process(upgrader);
	}
	said = last_words(upgrader);
	(void)error_prefix(e, "VM '%s' goes on as before", upgrader->name);
	if (said[0] != '\0') {
		log_info("'%s' has said: %s", upgrader->binary, said);
	}
	return command_fail(e);
}

/* This program, by a name that a list of processes can show; unless its file was replaced meanwhile. */
static const char *ourselves(char *buf, size_t size)
{
	ssize_t n = readlink(OURSELVES, buf, size - 1);

	buf[MAX(n, (ssize_t)0)] = '\0';
	return n > 0 && access(buf, X_OK) == 0 ? buf : OURSELVES;
}

static int hand_over(const struct upgrade_command *command, struct upgrader *upgrader)
{
	const uint64_t began = loop_now_ns();
	auto_json json_t *migration = NULL;
	struct error e = { 0 }, why = { 0 };
	char own[PATH_MAX];
	int r = start_process(
		upgrader, command->binary != NULL ? command->binary : ourselves(own, sizeof(own)),
		command->silence_ns, &e);
	uint64_t ms;

	if (r < 0) {
		return fail(upgrader, &e);
	}
	r = ask_to_hand_over(upgrader, command->silence_ns, &migration, &e);
	ms = (loop_now_ns() - began) / MS;
	r = look_who_has_it(upgrader, r < 0, 2 * command->silence_ns, &why);
	if (r == -EBUSY) {
		return fail(upgrader, &e);
	}
	if (r < 0) {
		(void)error_prefix(&why, "VM '%s'", upgrader->name);
		return command_fail(&why);
	}
	for (int waited = 0; !old_is_gone(upgrader) && waited < END_WAIT_MS; waited += LOOK_MS) {
		(void)poll(NULL, 0, LOOK_MS);
	}
	return report(command, upgrader, migration, ms);
}

static int find_vm(struct upgrader *upgrader, struct error *e)
{
	bool alive = false;
	int r = run_directory_find(upgrader->name, &upgrader->dir_fd, &alive, e);

	if (r == 0 && !alive) {
		(void)error_set(e, ERROR_NOT_FOUND, ESRCH, "VM '%s' has ended", upgrader->name);
		r = error_hint(e, "vmm start %s starts it, by this vmm", upgrader->name);
	}
	r = r == 0 ? run_directory_process(upgrader->dir_fd, &upgrader->old_pidfd, &upgrader->old,
					   e)
		   : r;
	return r == 0 ? run_directory_begin_upgrade(upgrader->dir_fd, &upgrader->listener,
						    &upgrader->lock_fd, e)
		      : r;
}

static int run(int argc, char **argv)
{
	struct upgrade_command command = { .binary = NULL };
	struct upgrader upgrader = {
		.dir_fd = -1, .lock_fd = -1, .listener = -1, .old_pidfd = -1, .words_fd = -1
	};
	struct error e = { 0 };
	int code, r;

	if (command_parse_exactly(&command_upgrade, &command, &command.common.help, 1, 1, argc,
				  argv, &code) < 0) {
		return code;
	}
	json_prepare();
	upgrader.name = argv[1];
	upgrader.binary = command.binary != NULL ? command.binary : "vmm";
	r = find_vm(&upgrader, &e);
	code = r == 0 ? hand_over(&command, &upgrader) : command_fail(&e);
	run_directory_end_upgrade(upgrader.dir_fd, &upgrader.lock_fd);
	close_fd(&upgrader.listener);
	close_fd(&upgrader.words_fd);
	close_fd(&upgrader.old_pidfd);
	close_fd(&upgrader.dir_fd);
	return code;
}

static const struct command_example examples[] = {
	{ "vmm upgrade web", "it goes on in a process of this vmm" },
	{ "vmm upgrade --binary ./build/vmm web", "of another one" },
	{ NULL, NULL },
};

const struct command command_upgrade = {
	.name = "upgrade",
	.operands = " NAME",
	.help = "have a VM go on in a process of a new vmm, without stopping it",
	.options = &table,
	.run = run,
	.description =
		"Starts FILE as the new process of the VM NAME, which runs in the background, and "
		"has "
		"the old one hand over to it: name, sockets, logs, disks, network cards, and the "
		"state of the machine. The guest stands still for some milliseconds, and notices "
		"nothing else. Memory of *--memory-backing memfd* or *hugetlb* is passed as it is; "
		"any other is sent to the new process while the guest runs, as by *vmm migrate*, "
		"and "
		"is there twice meanwhile.\n\n"
		"Whatever fails, the VM goes on in the old process: a FILE that is no vmm, ends, "
		"does "
		"nothing for *--silence*, or does not know what the old one hands over. Exactly "
		"one "
		"of both runs, also if one of them is killed in between.\n\n"
		"Clients of the API are to connect anew; *vmm console* and *vmm wait* do so by "
		"themselves. A VM of the foreground (*vmm run* without *--detach*, *vmm serve*) "
		"cannot be upgraded, because somebody waits for its process.",
	.examples = examples,
};
