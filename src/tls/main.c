// SPDX-License-Identifier: Apache-2.0
/*
 * vmm-tls: TLS for migrations, in a process of its own. vmm is one static file, in which no shared library can be loaded, and a VM's
 * process has neither the files nor the memory that may be run for it; nor have keys a place beside a guest's memory. So vmm migrate
 * and vmm receive start this program with --tls-dir, on the same host as the VM, and talk to it over a socket of theirs; whoever
 * migrates by the API alone starts it by hand.
 *
 * Main reads files, loads the library, opens what it listens at; then every thread is in its filter: no files, no programs.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "carry.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/migration_address.h"
#include "vmm/options.h"
#include "vmm/text.h"

#define EXIT_USAGE     2
#define EXIT_VMM_ERROR 125
#define FD	       "fd:"
#define TCP	       "tcp:"
#define UNIX	       "unix:"
#define HOST_MAX       256

struct settings {
	const char *directory, *hostname;
	int sandbox, status_fd;
	bool help;
};

static const struct option_value sandboxes[] = {
	{ "on", SANDBOX_ON },
	{ "log", SANDBOX_LOG },
	{ "off", SANDBOX_OFF },
	{ NULL, 0 },
};

#define AT(member) .offset = offsetof(struct settings, member)
static const struct option option_list[] = {
	{ .name = "tls-dir",
	  .type = OPTION_STRING,
	  AT(directory),
	  .argument = "FOLDER",
	  .help = "ca-cert.pem, and server-cert.pem and server-key.pem (accept) or client-cert.pem "
		  "and client-key.pem (connect)" },
	{ .name = "tls-hostname",
	  .type = OPTION_STRING,
	  AT(hostname),
	  .argument = "NAME",
	  .help = "of connect: whom the other side's certificate has to name; default: the "
		  "address" },
	{ .name = "sandbox",
	  .type = OPTION_ENUM,
	  AT(sandbox),
	  .values = sandboxes,
	  .argument = "on|log|off",
	  .fallback = "on",
	  .help = "system call filters" },
	{ .name = "status-fd",
	  .type = OPTION_FD,
	  AT(status_fd),
	  .argument = "N",
	  .help = "a pipe to who started this: 'R' when it listens, failures; when it is closed "
		  "there, this ends after its last connection" },
	{ .name = "help", .letter = 'h', .type = OPTION_FLAG, AT(help), .help = "show this" },
};
static const struct option_table table = OPTION_TABLE("vmm-tls", option_list);

static int fail(const struct settings *settings, const struct error *e)
{
	char line[sizeof(e->msg) + sizeof(e->hint) + 8];
	int n = snprintf(line, sizeof(line), "E%s\n%s\n", e->msg, e->hint);

	if (settings->status_fd >= 0 && n > 0) {
		(void)!write(settings->status_fd, line, (size_t)n);
	} else {
		log_error_object(e);
	}
	return e->code == ERROR_USAGE ? EXIT_USAGE : EXIT_VMM_ERROR;
}

static int print_help(void)
{
	size_t size = options_help(&table, NULL, 0) + 1;
	auto_free char *text = malloc(size);

	(void)printf("Usage: vmm-tls accept|connect --tls-dir FOLDER LISTEN TO\n\n"
		     "Carries each connection that comes at the address LISTEN to one of its own "
		     "at TO. With accept\n"
		     "who comes speaks TLS, with connect who is at TO. unix:PATH, tcp:HOST:PORT; "
		     "LISTEN may be fd:N.\n\n");
	if (text != NULL && options_help(&table, text, size) < size) {
		(void)fputs(text, stdout);
	}
	return EXIT_SUCCESS;
}

/* Of tcp:HOST:PORT, without the brackets of a number that has colons. */
static int host_of(const char *address, char host[HOST_MAX], struct error *e)
{
	const char *at = address + strlen(TCP), *colon = strrchr(address, ':');
	size_t len;

	if (strncmp(address, TCP, strlen(TCP)) != 0 || colon < at) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"'%.200s' names no host that a certificate could name", address);
		return error_hint(e, "say which name it has: --tls-hostname NAME");
	}
	at += *at == '[';
	len = (size_t)(colon - at);
	len -= len > 0 && at[len - 1] == ']';
	if (len == 0 || len >= HOST_MAX) {
		return error_set(e, ERROR_CONFIG, EINVAL, "'%.200s': no host", address);
	}
	memcpy(host, at, len);
	host[len] = '\0';
	return 0;
}

static int take_listener(const char *address, struct error *e)
{
	uint64_t fd = 0;
	int listens = 0;
	socklen_t len = sizeof(listens);

	if (strncmp(address, FD, strlen(FD)) != 0) {
		return migration_address_listen(address, true, e);
	}
	if (text_to_number(address + strlen(FD), strlen(address) - strlen(FD), 10, &fd) != 0 ||
	    fd > INT32_MAX || getsockopt((int)fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0 ||
	    listens == 0) {
		return error_set(e, ERROR_CONFIG, EINVAL,
				 "'%.80s' is not the number of a socket that listens", address);
	}
	return fcntl((int)fd, F_SETFL, O_RDWR | O_NONBLOCK) == 0
		       ? (int)fd
		       : error_set_sys(e, ERROR_CONFIG, errno, "'%.80s'", address);
}

static int carry(const struct settings *settings, enum tls_side side, const char *from,
		 const char *to, struct error *e)
{
	struct tls_library lib;
	struct tls_credentials credentials = { .lib = &lib,
					       .side = side,
					       .hostname = settings->hostname };
	struct carry all = { .credentials = &credentials,
			     .sandbox = (enum sandbox_mode)settings->sandbox,
			     .listener = -1,
			     .destination = to,
			     .status_fd = settings->status_fd };
	char host[HOST_MAX];
	int r = migration_address_check(to, true, e);

	if (r == 0 && side == TLS_CONNECTS && settings->hostname == NULL) {
		r = host_of(to, host, e);
		credentials.hostname = host;
	}
	r = r == 0 ? tls_library_load(&lib, e) : r;
	r = r == 0 ? tls_credentials_load(&credentials, settings->directory, e) : r;
	if (r == 0) {
		all.listener = take_listener(from, e);
		r = MIN(all.listener, 0);
	}
	r = r == 0 ? carry_run(&all, e) : r;
	/* After a failure threads may be there still, which know them. */
	if (r == 0) {
		tls_credentials_finish(&credentials);
		close_fd(&all.listener);
	}
	return r;
}

int main(int argc, char **argv)
{
	struct settings settings = { .status_fd = -1 };
	struct error e = { 0 };
	uint64_t given = 0;
	enum tls_side side = TLS_ACCEPTS;
	int operands;

	/* A second one opens files of /proc when it is made and when it shrinks. */
	(void)mallopt(M_ARENA_MAX, 1);
	log_init(LOG_INFO, STDERR_FILENO);
	(void)signal(SIGPIPE, SIG_IGN);
	operands = options_parse_all(&table, &settings, &given, argc, argv, &e);
	if (operands >= 0 && settings.help) {
		return print_help();
	}
	if (operands >= 0 &&
	    (operands != 3 || settings.directory == NULL ||
	     (strcmp(argv[1], "accept") != 0 && strcmp(argv[1], "connect") != 0))) {
		operands = error_set(&e, ERROR_USAGE, EINVAL,
				     "vmm-tls: accept or connect, --tls-dir and two addresses");
		(void)error_hint(&e, "vmm-tls --help");
	}
	if (operands < 0) {
		return fail(&settings, &e);
	}
	side = strcmp(argv[1], "connect") == 0 ? TLS_CONNECTS : TLS_ACCEPTS;
	return carry(&settings, side, argv[2], argv[3], &e) < 0 ? fail(&settings, &e)
								: EXIT_SUCCESS;
}
