// SPDX-License-Identifier: Apache-2.0
/*
 * vmm receive: waits for a VM from another vmm, and is its process from then on, as vmm run's is (run.h). What belongs to the machine
 * comes with it; what it is connected to here is said by flags.
 *
 * Main thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "carrier.h"
#include "command.h"
#include "elsewhere.h"
#include "exit_codes.h"
#include "overrides.h"
#include "run.h"
#include "snapshot_command.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/request.h"
#include "vmm/text.h"

struct receive_command {
	struct run_restore run;
	struct receive_request request;
	struct overrides overrides;
	const char *upgrade; /* NULL: it is none */
	struct receive_socket socket;
	const char *tls_dir;
	bool help;
};

#define AT(member) .offset = offsetof(struct receive_command, member)

static const struct option option_list[] = {
	{ .name = "name",
	  .letter = 'n',
	  .type = OPTION_STRING,
	  AT(run.name),
	  .argument = "NAME",
	  .help = "name of the VM here, by which other commands find it" },
	{ .name = "detach",
	  .letter = 'd',
	  .type = OPTION_FLAG,
	  AT(run.detach),
	  .help = "in the background: print the VM's name as soon as it is waited for" },
	OPTION_INCLUDED(struct receive_command, overrides, override_options),
	OPTION_INCLUDED(struct receive_command, request, receive_request_options),
	{ .name = "tls-dir",
	  .type = OPTION_STRING,
	  AT(tls_dir),
	  .argument = "FOLDER",
	  .file = true,
	  .help = "only who has a certificate of ca-cert.pem may send a VM, encrypted; also "
		  "server-cert.pem and server-key.pem are in there" },
	{ .name = "track-dirty-pages",
	  .type = OPTION_FLAG,
	  AT(request.track_dirty_pages),
	  .help = "note which pages the guest writes, for incremental snapshots" },
	OPTION_INCLUDED(struct receive_command, run.settings, outer_settings_options),
	{ .name = "upgrade",
	  .type = OPTION_STRING,
	  AT(upgrade),
	  .argument = "NAME",
	  .help = "take over the VM NAME of this host, place and all: what vmm upgrade starts, "
		  "with fd:N, a socket that listens, as the address" },
	QUIET_OPTION(struct receive_command, run.quiet),
	HELP_OPTION(struct receive_command, help),
};
static const struct option_table table = OPTION_TABLE("receive", option_list);

static int accept_tls(void *arg, struct error *e)
{
	struct receive_command *command = arg;
	const struct carrier_settings settings = { .tls_dir = command->tls_dir,
						   .sandbox =
							   command->run.settings.process.sandbox };
	int r = carrier_accept_tls(command->request.address, &settings, &command->socket, e);

	command->request.socket = r == 0 ? &command->socket : NULL;
	return r;
}

static int carry(struct receive_command *command, const char *address, struct error *e)
{
	const bool given = carrier_is_given(address);
	int r;

	if (command->tls_dir != NULL && given) {
		(void)error_set(e, ERROR_USAGE, EINVAL,
				"--tls-dir: '%.80s' is no address to listen at", address);
		return error_hint(
			e, "what is carried by a command is as safe as the command makes it");
	}
	if (command->tls_dir != NULL) {
		command->run.carry = accept_tls;
		command->run.carry_arg = command;
	}
	if (!given) {
		return 0;
	}
	r = carrier_take(address, command->run.settings.process.sandbox, &command->socket, e);
	command->request.socket = r == 0 ? &command->socket : NULL;
	return r;
}

static int receive(struct receive_command *command, const char *address)
{
	struct receive_request *request = &command->request;
	struct error e = { 0 };
	auto_free char *allow = NULL, *disks = NULL, *whole = overrides_address(address, &e);

	if (whole == NULL) {
		return command_fail(&e);
	}
	if (request->allow != NULL) {
		allow = snapshot_absolute_path(request->allow, &e);
		if (allow == NULL) {
			return command_fail(&e);
		}
		request->allow = allow;
	}
	if (request->disks_to != NULL) {
		disks = snapshot_absolute_path(request->disks_to, &e);
		if (disks == NULL) {
			return command_fail(&e);
		}
		request->disks_to = disks;
	}
	request->address = whole;
	request->disks = command->overrides.disks;
	request->nets = command->overrides.nets;
	request->net_fds = command->overrides.fds;
	request->net_fd_count = command->overrides.fd_count;
	command->run.receive = request;
	command->run.net_fds = request->net_fds;
	command->run.net_fd_count = request->net_fd_count;
	log_init(command->run.quiet ? LOG_ERROR : LOG_INFO, STDERR_FILENO);
	if (carry(command, address, &e) < 0) {
		return command_fail(&e);
	}
	return run_restored(&command->run);
}

/* The descriptor of "fd:N"; negative: it is none. */
static int descriptor_of(const char *address)
{
	uint64_t number = 0;

	if (strncmp(address, "fd:", 3) != 0 ||
	    text_to_number(address + 3, strlen(address + 3), 10, &number) != 0 ||
	    number <= STDERR_FILENO || number > INT_MAX ||
	    fcntl((int)number, F_SETFD, FD_CLOEXEC) < 0) {
		return -1;
	}
	return (int)number;
}

/* Settings are those of its definition, as for a start; everything else comes with it. */
static int take_over(struct receive_command *command, const char *address)
{
	struct receive_request *request = &command->request;
	struct definition definition;
	struct error e = { 0 };
	int code;

	command->socket = (struct receive_socket){ .fd = descriptor_of(address),
						   .listens = true,
						   .life_fd = -1 };
	request->socket = &command->socket;
	request->upgrade = true;
	request->address = address;
	if (command->socket.fd < 0) {
		(void)error_set(&e, ERROR_USAGE, EINVAL,
				"--upgrade: '%.80s' is not fd:N, an open socket", address);
		(void)error_hint(&e, "vmm upgrade %s is the command", command->upgrade);
		return command_fail(&e);
	}
	if (definition_load(&definition, command->upgrade, &e) < 0) {
		return command_fail(&e);
	}
	command->run.name = command->upgrade;
	command->run.settings = definition.settings;
	command->run.receive = request;
	log_init(LOG_INFO, STDERR_FILENO);
	code = run_restored(&command->run);
	definition_finish(&definition);
	return code;
}

static int run(int argc, char **argv)
{
	struct receive_command command = { .help = false };
	struct error e = { 0 };
	int code;

	json_prepare();
	if (command_parse_exactly(&command_receive, &command, &command.help, 1, 1, argc, argv,
				  &code) >= 0) {
		const bool takes = command.upgrade != NULL;
		const char *name = takes ? command.upgrade : command.run.name;

		code = command_value(vm_name_validate(name, &e), &e) < 0 ? command_fail(&e)
		       : takes ? take_over(&command, argv[1])
			       : receive(&command, argv[1]);
	}
	overrides_finish(&command.overrides);
	return code;
}

static const struct command_example examples[] = {
	{ "vmm receive -d -n web --allow /srv/vms --net net0=tap:tap0 unix:/run/web.sock",
	  "then, on the same host: vmm migrate web unix:/run/web.sock" },
	{ "vmm receive -n web --disk root=/srv/web.img --insecure tcp:0.0.0.0:4444",
	  "from a host of a network that is trusted" },
	{ "vmm receive -d -n web --allow /srv/vms --tls-dir /etc/vmm/tls tcp:0.0.0.0:4444",
	  "from whoever has a certificate of ca-cert.pem" },
	{ NULL, NULL },
};

const struct command command_receive = {
	.name = "receive",
	.operands = " ADDRESS",
	.help = "wait for a VM that another vmm migrates to here",
	.options = &table,
	.run = run,
	.description = "Listens at ADDRESS (unix:PATH, or tcp:HOST:PORT with the number of a "
		       "host), takes the "
		       "first VM that *vmm migrate* sends there, and is its process from then on, "
		       "as that of "
		       "*vmm run* is: console, exit codes, the report, names.\n\n"
		       "The configuration of the VM, and the state of its processors and devices, "
		       "come first, and "
		       "are tried: what this host lacks is said to the other side before a page of "
		       "memory moves. "
		       "Then memory comes, while the guest runs there, and at last, while it "
		       "stands still, what it "
		       "has written meanwhile. It runs here when both sides have agreed, and the "
		       "locks on its disks "
		       "have come over: never on both.\n\n"
		       "ADDRESS may also be -, standard input and output, where nothing else is "
		       "said then: that is for "
		       "*vmm migrate web exec:'ssh host vmm receive -d -'*, where *-d* ends when "
		       "the VM has come. And fd:N, "
		       "a stream socket that is open. With *--tls-dir* who sends has to show a "
		       "certificate.\n\n"
		       "Disks have to be shared by both hosts, under the same paths, or others "
		       "with *--disk*. A file "
		       "that the other side names is opened only below the folder of *--allow*. "
		       "What network cards "
		       "are connected to is always said here, by *--net*.\n\n"
		       "A VM that does not arrive ends this process. If the connection is lost in "
		       "the one moment in "
		       "which either side could be the one that runs, the VM stays paused here, "
		       "and *vmm migrate "
		       "--status NAME* says what has to be decided. *--timeout* begins when the VM "
		       "has come.",
	.examples = examples,
	.exits = EXITS_OF_A_VM("it is waited for"),
};
