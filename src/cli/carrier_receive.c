// SPDX-License-Identifier: Apache-2.0
/*
 * What carries a VM that is received (carrier.h). A stream socket of the caller's is taken as it is: that is also what sshd gives a
 * command. Of two pipes a child makes one, in a filter and a session of its own. vmm-tls gets no path to the socket that the VM listens
 * at, only a descriptor of its place, which has no name any more: nobody else can connect, and nothing is left behind.
 *
 * Main thread. The address is the user's.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "carrier.h"
#include "overrides.h"
#include "vmm/cleanup.h"
#include "vmm/relay.h"
#include "vmm/text.h"

#define FD "fd:"

bool carrier_is_given(const char *address)
{
	return strcmp(address, "-") == 0 || strncmp(address, FD, strlen(FD)) == 0;
}

static int get_option(int fd, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &len) == 0 ? value : -1;
}

static bool is_stream(int fd)
{
	return get_option(fd, SO_TYPE) == SOCK_STREAM;
}

static int take_number(const char *address, struct receive_socket *ret, struct error *e)
{
	const char *text = address + strlen(FD);
	uint64_t fd = 0;

	if (text_to_number(text, strlen(text), 10, &fd) != 0 || fd > INT32_MAX) {
		return error_set(e, ERROR_USAGE, EINVAL, "'%.80s': not the number of a descriptor",
				 address);
	}
	/* What vmm has opened itself is closed on exec. */
	if (fcntl((int)fd, F_GETFD) != 0 || !is_stream((int)fd)) {
		(void)error_set(e, ERROR_CONFIG, EBADF,
				"'%.80s' is not a stream socket that was open when vmm was started",
				address);
		return error_hint(e, "in a shell: vmm ... fd:3 3<>/dev/tcp/127.0.0.1/4444");
	}
	(void)fcntl((int)fd, F_SETFD, FD_CLOEXEC);
	*ret = (struct receive_socket){ .fd = (int)fd,
					.life_fd = -1,
					.listens = get_option((int)fd, SO_ACCEPTCONN) == 1 };
	/* A client that has gone again is not waited for. */
	if (ret->listens && fcntl((int)fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0) {
		return error_set_sys(e, ERROR_CONFIG, errno, "'%.80s'", address);
	}
	return 0;
}

static bool same(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

static _Noreturn void relay(int in, int out, int socket, int null, int sandbox)
{
	struct relay_stream pipes, vm;
	struct error e = { 0 };

	/* What the VM says about itself is not ours, and whoever reads the caller's messages waits for their end. */
	(void)dup2(null, STDERR_FILENO);
	carrier_become_child();
	(void)signal(SIGPIPE, SIG_IGN);
	relay_stream_plain(&pipes, in, out);
	relay_stream_plain(&vm, socket, socket);
	if (sandbox_enter_process((enum sandbox_mode)sandbox, &e) < 0 ||
	    sandbox_enter_thread((enum sandbox_mode)sandbox, SANDBOX_ROLE_RELAY, &e) < 0) {
		_exit(125);
	}
	_exit(relay_pump(&pipes, &vm, &e) < 0 ? 1 : 0);
}

/* Nobody's child, so that nobody has to reap it. */
static int start_relay(int in, int out, int null, int sandbox, int *ret, struct error *e)
{
	int sockets[2], status;
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "socketpair");
	}
	child = fork();
	if (child == 0) {
		pid_t grandchild = fork();

		if (grandchild == 0) {
			(void)setsid();
			(void)close(sockets[0]);
			relay(in, out, sockets[1], null, sandbox);
		}
		_exit(grandchild < 0);
	}
	(void)close(sockets[1]);
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
	}
	if (child < 0 || status != 0) {
		(void)close(sockets[0]);
		return error_set_sys(e, ERROR_INTERNAL, child < 0 ? errno : EAGAIN, "fork");
	}
	*ret = sockets[0];
	return 0;
}

static int take_pipes(int null, int sandbox, int *ret, struct error *e)
{
	auto_close int in = relay_open_pipe(STDIN_FILENO, O_RDONLY, e);
	auto_close int out = in >= 0 ? relay_open_pipe(STDOUT_FILENO, O_WRONLY, e) : -1;

	/* Their other descriptors go first: a pipe ends when the last one has gone. */
	if (in < 0 || out < 0) {
		return in < 0 ? in : out;
	}
	if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "open '/dev/null'");
	}
	return start_relay(in, out, null, sandbox, ret, e);
}

static int take_socket(int null, int *ret, struct error *e)
{
	auto_close int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

	if (fd < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "standard input");
	}
	*ret = take_fd(&fd);
	return 0;
}

int carrier_take(const char *address, int sandbox, struct receive_socket *ret, struct error *e)
{
	auto_close int null = -1;
	int r;

	if (strcmp(address, "-") != 0) {
		return take_number(address, ret, e);
	}
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "open '/dev/null'");
	}
	*ret = (struct receive_socket){ .fd = -1, .life_fd = -1 };
	r = is_stream(STDIN_FILENO) && same(STDIN_FILENO, STDOUT_FILENO)
		    ? take_socket(null, &ret->fd, e)
		    : take_pipes(null, sandbox, &ret->fd, e);
	return r;
}

int carrier_accept_tls(const char *address, const struct carrier_settings *settings,
		       struct receive_socket *ret, struct error *e)
{
	static const char *const modes[] = {
		[SANDBOX_ON] = "on", [SANDBOX_LOG] = "log", [SANDBOX_OFF] = "off"
	};
	char directory[90] = "", path[108], to[40];
	const char *words[] = { "accept",
				"--tls-dir",
				settings->tls_dir,
				"--sandbox",
				modes[settings->sandbox],
				address,
				to,
				NULL };
	auto_close int listener = -1, place = -1;
	int keep[2] = { -1, -1 }, life = -1;
	pid_t child;
	int r = carrier_listen(directory, path, &listener, e);

	if (r < 0) {
		return r;
	}
	place = open(path, O_PATH | O_CLOEXEC);
	r = place < 0 ? error_set_sys(e, ERROR_INTERNAL, errno, "open '%s'", path) : 0;
	carrier_remove(directory);
	if (r == 0) {
		keep[0] = place;
		(void)snprintf(to, sizeof(to), "unix:/proc/self/fd/%d", place);
		r = carrier_start_tls(words, keep, true, &child, &life, e);
	}
	if (r < 0) {
		return r;
	}
	*ret = (struct receive_socket){ .fd = take_fd(&listener),
					.life_fd = life,
					.listens = true };
	return 0;
}
