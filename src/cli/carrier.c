// SPDX-License-Identifier: Apache-2.0
/*
 * What both sides' carriers need (carrier.h): a private socket, children, vmm-tls. Paths are the user's and the host's; what vmm-tls
 * says of its peer is text that is printed.
 */
#include "carrier.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/cleanup.h"
#include "vmm/run_directory.h"

#define BACKLOG	   16
#define READY_MS   10000
#define WORDS_MAX  16
#define STATUS_MAX (sizeof(((struct error *)0)->msg) + sizeof(((struct error *)0)->hint) + 8)

/* --- a private socket ---------------------------------------------------------------------------- */

/* Where the VM's own sockets are it can connect; a path that is too long for a socket is none. */
static int make_directory(char directory[90], struct error *e)
{
	char root[RUN_DIRECTORY_PATH_SIZE];

	if (run_directory_root(root, sizeof(root), NULL) == 0 &&
	    (size_t)snprintf(directory, 90, "%s/.migration-XXXXXX", root) < 90 &&
	    mkdtemp(directory) != NULL) {
		return 0;
	}
	(void)snprintf(directory, 90, "/tmp/vmm-migration-XXXXXX");
	if (mkdtemp(directory) == NULL) {
		directory[0] = '\0';
		return error_set_sys(e, ERROR_CONFIG, errno, "make a directory for a socket");
	}
	return 0;
}

int carrier_listen(char directory[90], char path[108], int *ret, struct error *e)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	auto_close int fd = -1;
	int r = make_directory(directory, e);

	if (r < 0) {
		return r;
	}
	(void)snprintf(path, 108, "%s/socket", directory);
	memcpy(address.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, BACKLOG) < 0) {
		r = error_set_sys(e, ERROR_CONFIG, errno, "socket '%s'", path);
		carrier_remove(directory);
		directory[0] = '\0';
		return r;
	}
	*ret = take_fd(&fd);
	return 0;
}

void carrier_remove(const char *directory)
{
	char path[108];

	if (directory[0] != '\0') {
		(void)snprintf(path, sizeof(path), "%s/socket", directory);
		(void)unlink(path);
		(void)rmdir(directory);
	}
}

/* --- children ------------------------------------------------------------------------------------ */

void carrier_become_child(void)
{
	sigset_t none;

	(void)signal(SIGTERM, SIG_DFL);
	/* ^C asks vmm to cancel, which needs the connection; and a terminal that closes cuts nothing. */
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static void say(int status_fd, const char *what, int sys)
{
	char text[STATUS_MAX];
	int n = snprintf(text, sizeof(text), "E%s: %s\n\n", what, strerror(sys));

	(void)!write(status_fd, text, MIN((size_t)n, sizeof(text) - 1));
}

/* --- vmm-tls ------------------------------------------------------------------------------------- */

/* Beside vmm, as it is built; or where it is installed. */
static int find_tls(char path[4096], struct error *e)
{
	static const char *const places[] = { "vmm-tls", VMM_LIBEXEC "/vmm-tls" };
	char self[4000];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	self[MAX(n, 0)] = '\0';
	slash = strrchr(self, '/');
	for (size_t i = 0; slash != NULL && i < ARRAY_SIZE(places); i++) {
		(void)snprintf(path, 4096, "%.*s/%s", (int)(slash - self), self, places[i]);
		if (access(path, X_OK) == 0) {
			return 0;
		}
	}
	(void)error_set(e, ERROR_NOT_SUPPORTED, ENOENT,
			"TLS: there is no vmm-tls beside vmm, nor in " VMM_LIBEXEC);
	return error_hint(e, "it is built where the headers of GnuTLS are: libgnutls28-dev, meson "
			     "setup -Dtls=enabled");
}

static _Noreturn void exec_tls(const char *path, const char *const words[], const int keep[],
			       int status_fd)
{
	char *argv[WORDS_MAX + 4];
	char number[16];
	size_t count = 0;

	carrier_become_child();
	argv[count++] = (char *)(uintptr_t) "vmm-tls";
	argv[count++] = (char *)(uintptr_t) "--status-fd";
	argv[count++] = number;
	(void)snprintf(number, sizeof(number), "%d", status_fd);
	for (size_t i = 0; i < WORDS_MAX && words[i] != NULL; i++) {
		argv[count++] = (char *)(uintptr_t)words[i];
	}
	argv[count] = NULL;
	(void)fcntl(status_fd, F_SETFD, 0);
	for (size_t i = 0; keep[i] >= 0; i++) {
		(void)fcntl(keep[i], F_SETFD, 0);
	}
	(void)execv(path, argv);
	say(status_fd, path, errno);
	_exit(1);
}

/* Who is nobody's child is reaped by init. */
static pid_t fork_tls(const char *path, const char *const words[], const int keep[], bool orphan,
		      int status_fd)
{
	pid_t child = fork();
	int status;

	if (child != 0) {
		if (child > 0 && orphan) {
			while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
			}
		}
		return child;
	}
	if (orphan) {
		pid_t grandchild = fork();

		if (grandchild != 0) {
			_exit(grandchild < 0);
		}
		(void)setsid();
	}
	exec_tls(path, words, keep, status_fd);
}

/* "R", or "E", why, and a hint, each a line. */
static int await_ready(int status_fd, struct error *e)
{
	struct pollfd fd = { .fd = status_fd, .events = POLLIN };
	char text[STATUS_MAX + 1];
	char *line = text + 1;
	ssize_t n = 0;
	int r;

	do {
		r = poll(&fd, 1, READY_MS);
	} while (r < 0 && errno == EINTR);
	n = r > 0 ? read(status_fd, text, sizeof(text) - 1) : 0;
	if (n > 0 && text[0] == 'R') {
		return 0;
	}
	if (n < 2 || text[0] != 'E') {
		return error_set(e, ERROR_NOT_SUPPORTED, ECHILD, "TLS: vmm-tls %s",
				 r > 0 ? "has ended" : "does not begin");
	}
	text[n] = '\0';
	(void)error_set(e, ERROR_CONFIG, EINVAL, "%s", strsep(&line, "\n"));
	return line != NULL && *line != '\0' && *line != '\n'
		       ? error_hint(e, "%s", strsep(&line, "\n"))
		       : -EINVAL;
}

int carrier_start_tls(const char *const words[], const int keep[], bool orphan, pid_t *child,
		      int *status_fd, struct error *e)
{
	char path[4096];
	int fds[2];
	pid_t pid;
	int r = find_tls(path, e);

	if (r < 0) {
		return r;
	}
	if (pipe2(fds, O_CLOEXEC) < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "TLS: pipe");
	}
	/* Who has nobody to read it any more must not wait for that. */
	(void)fcntl(fds[1], F_SETFL, O_WRONLY | O_NONBLOCK);
	pid = fork_tls(path, words, keep, orphan, fds[1]);
	(void)close(fds[1]);
	if (pid < 0) {
		r = error_set_sys(e, ERROR_INTERNAL, errno, "TLS: fork");
	} else {
		*child = orphan ? 0 : pid;
		r = await_ready(fds[0], e);
	}
	if (r < 0) {
		(void)close(fds[0]);
		return r;
	}
	*status_fd = fds[0];
	return 0;
}
