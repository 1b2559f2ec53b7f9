// SPDX-License-Identifier: Apache-2.0
/*
 * What carries a VM that is sent (carrier.h). The VM connects to a private socket, of which a child accepts one connection: a command's
 * standard input and output are that itself, so that no byte is copied on the way; to a descriptor of the caller's the child copies,
 * in a filter. vmm-tls accepts as many as come.
 *
 * Main thread. The address is the user's.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "carrier.h"
#include "overrides.h"
#include "vmm/cleanup.h"
#include "vmm/loop.h"
#include "vmm/relay.h"
#include "vmm/text.h"

#define EXEC	   "exec:"
#define FD	   "fd:"
#define UNIX	   "unix:"
#define EXPLAIN_MS 1000
/* The far end's last words come by ssh, too. */
#define MOVED_MS  5000
#define FAILED_MS 500
#define KILL_MS	  1000

/* --- children ------------------------------------------------------------------------------------ */

/* The VM's connection; -1: the command has gone. */
static int accept_vm(int listener, int status_fd)
{
	for (;;) {
		struct pollfd fds[2] = { { .fd = listener, .events = POLLIN },
					 { .fd = status_fd } };
		int fd;

		if ((poll(fds, 2, -1) < 0 && errno != EINTR) || (fds[1].revents & POLLERR) != 0) {
			return -1;
		}
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) {
			return fd;
		}
	}
}

static _Noreturn void run_command(int connection, const char *command)
{
	if (dup2(connection, STDIN_FILENO) >= 0 && dup2(connection, STDOUT_FILENO) >= 0) {
		(void)execl("/bin/sh", "sh", "-c", command, NULL);
	}
	_exit(127);
}

static _Noreturn void relay(int connection, int fd, int sandbox)
{
	struct relay_stream here, there;
	struct error e = { 0 };

	relay_stream_plain(&here, connection, connection);
	relay_stream_plain(&there, fd, fd);
	if (sandbox_enter_process((enum sandbox_mode)sandbox, &e) < 0 ||
	    sandbox_enter_thread((enum sandbox_mode)sandbox, SANDBOX_ROLE_RELAY, &e) < 0) {
		_exit(125);
	}
	_exit(relay_pump(&here, &there, &e) < 0 ? 1 : 0);
}

/* `command` or `fd`. */
static int start_child(struct carrier *carrier, int listener, const char *command, int fd,
		       int sandbox, struct error *e)
{
	int fds[2], connection;

	if (pipe2(fds, O_CLOEXEC) < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "pipe");
	}
	carrier->child = fork();
	if (carrier->child == 0) {
		(void)close(fds[0]);
		carrier_become_child();
		connection = accept_vm(listener, fds[1]);
		(void)close(listener);
		if (connection < 0) {
			_exit(0);
		}
		if (command != NULL) {
			run_command(connection, command);
		}
		relay(connection, fd, sandbox);
	}
	(void)close(fds[1]);
	carrier->status_fd = fds[0];
	if (carrier->child < 0) {
		carrier->child = 0;
		return error_set_sys(e, ERROR_INTERNAL, errno, "fork");
	}
	return 0;
}

static int start_tls(struct carrier *carrier, const struct carrier_settings *settings, int listener,
		     const char *address, struct error *e)
{
	static const char *const modes[] = {
		[SANDBOX_ON] = "on", [SANDBOX_LOG] = "log", [SANDBOX_OFF] = "off"
	};
	const int keep[] = { listener, -1 };
	const char *words[10] = { "connect", "--tls-dir", settings->tls_dir, "--sandbox",
				  modes[settings->sandbox] };
	auto_free char *whole = overrides_address(address, e);
	char from[16];
	size_t count = 5;

	if (whole == NULL) {
		return -ENOMEM;
	}
	(void)snprintf(from, sizeof(from), FD "%d", listener);
	if (settings->tls_hostname != NULL) {
		words[count++] = "--tls-hostname";
		words[count++] = settings->tls_hostname;
	}
	words[count++] = from;
	words[count++] = whole;
	return carrier_start_tls(words, keep, false, &carrier->child, &carrier->status_fd, e);
}

/* --- the command's side -------------------------------------------------------------------------- */

static int start(struct carrier *carrier, const struct carrier_settings *settings,
		 const char *address, struct error *e)
{
	struct receive_socket given = { .fd = -1 };
	auto_close int listener = -1;
	char path[108];
	int r;

	if (strncmp(address, FD, strlen(FD)) == 0) {
		r = carrier_take(address, settings->sandbox, &given, e);
		if (r < 0) {
			return r;
		}
		if (given.listens) {
			return error_set(e, ERROR_CONFIG, EISCONN,
					 "'%.80s' is a socket that listens, not a connection",
					 address);
		}
	}
	r = carrier_listen(carrier->directory, path, &listener, e);
	if (r < 0) {
		return r;
	}
	if (settings->tls_dir != NULL) {
		r = start_tls(carrier, settings, listener, address, e);
	} else {
		r = start_child(carrier, listener, carrier->command ? address + strlen(EXEC) : NULL,
				given.fd, settings->sandbox, e);
	}
	close_fd(&given.fd);
	if (r == 0 && asprintf(&carrier->address, UNIX "%s", path) < 0) {
		carrier->address = NULL;
		r = error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
	}
	return r;
}

bool carrier_is_single(const char *address)
{
	return strncmp(address, EXEC, strlen(EXEC)) == 0 || strncmp(address, FD, strlen(FD)) == 0;
}

int carrier_begin(struct carrier *carrier, const struct carrier_settings *settings,
		  const char *address, struct error *e)
{
	const bool fd = strncmp(address, FD, strlen(FD)) == 0;

	*carrier = (struct carrier){ .shown = address, .status_fd = -1 };
	carrier->command = strncmp(address, EXEC, strlen(EXEC)) == 0;
	if (carrier->command && address[strlen(EXEC)] == '\0') {
		return error_set(e, ERROR_USAGE, EINVAL, "exec: without a command");
	}
	if (settings->tls_dir == NULL && settings->tls_hostname != NULL) {
		return error_set(e, ERROR_USAGE, EINVAL, "--tls-hostname is of --tls-dir");
	}
	if ((carrier->command || fd) && settings->tls_dir != NULL) {
		(void)error_set(e, ERROR_USAGE, EINVAL,
				"--tls-dir: '%.80s' is no address to connect to", address);
		return error_hint(
			e, "what is carried by a command is as safe as the command makes it");
	}
	if (carrier->command || fd || settings->tls_dir != NULL) {
		return start(carrier, settings, address, e);
	}
	carrier->address = overrides_address(address, e);
	return carrier->address != NULL ? 0 : -ENOMEM;
}

/* Has it ended within that time? */
static bool wait_for(pid_t child, int ms, int *status)
{
	const uint64_t until = loop_now_ns() + (uint64_t)ms * 1000000;
	const struct timespec pause = { .tv_nsec = 10000000 };

	for (;;) {
		pid_t pid = waitpid(child, status, WNOHANG);

		if (pid != 0) {
			return pid == child;
		}
		if (loop_now_ns() >= until) {
			return false;
		}
		(void)nanosleep(&pause, NULL);
	}
}

static void explain_command(struct carrier *carrier, struct error *e)
{
	int status;

	if (!wait_for(carrier->child, EXPLAIN_MS, &status)) {
		return;
	}
	carrier->child = 0;
	if (WIFSIGNALED(status)) {
		(void)error_prefix(e, "the command was ended by signal %d", WTERMSIG(status));
	} else {
		(void)error_prefix(e, "the command has ended with exit code %d",
				   WEXITSTATUS(status));
	}
}

/* The last that vmm-tls has said, as text: nothing of it is believed. */
static void explain_tls(struct carrier *carrier, struct error *e)
{
	char text[1024];
	char *line = text + 1;
	const char *why, *hint;
	ssize_t n;

	(void)fcntl(carrier->status_fd, F_SETFL, O_RDONLY | O_NONBLOCK);
	n = read(carrier->status_fd, text, sizeof(text) - 1);
	if (n < 2 || text[0] != 'E') {
		return;
	}
	text[n] = '\0';
	for (ssize_t i = 1; i < n; i++) {
		text[i] = text[i] == '\n' || (text[i] >= ' ' && text[i] <= '~') ? text[i] : '?';
	}
	why = strsep(&line, "\n");
	hint = line != NULL ? strsep(&line, "\n") : NULL;
	(void)error_prefix(e, "%s", why);
	if (hint != NULL && *hint != '\0') {
		e->hint[0] = '\0';
		(void)error_hint(e, "%s", hint);
	}
}

void carrier_explain(struct carrier *carrier, struct error *e)
{
	if (carrier->child == 0 || e->code == ERROR_CANCELLED) {
		return;
	}
	if (carrier->command) {
		explain_command(carrier, e);
	} else {
		explain_tls(carrier, e);
	}
}

void carrier_leave(struct carrier *carrier)
{
	carrier_remove(carrier->directory);
	carrier->directory[0] = '\0';
	close_fd(&carrier->status_fd);
}

void carrier_finish(struct carrier *carrier, bool moved)
{
	int status;

	if (carrier->address == NULL && carrier->directory[0] == '\0' && carrier->child == 0) {
		return;
	}
	carrier_leave(carrier);
	/* It may be the VM's process itself, which has just come. */
	if (carrier->child != 0 &&
	    !wait_for(carrier->child, moved ? MOVED_MS : FAILED_MS, &status) && carrier->command &&
	    !moved) {
		(void)kill(carrier->child, SIGTERM);
		(void)wait_for(carrier->child, KILL_MS, &status);
	}
	free(take_ptr(carrier->address));
}
