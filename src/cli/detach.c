// SPDX-License-Identifier: Apache-2.0
/* See detach.h. The pipe carries the VM's name, or ends without it. */
#include "detach.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exit_codes.h"
#include "vmm/cleanup.h"

static int wait_for_child(pid_t child, int fd)
{
	char name[sizeof(((struct run_directory *)0)->name)];
	size_t len = 0;
	ssize_t n;
	int status;

	while ((n = read(fd, name + len, sizeof(name) - len)) > 0 || (n < 0 && errno == EINTR)) {
		len += n > 0 ? (size_t)n : 0;
		if (len == sizeof(name)) {
			break;
		}
	}
	if (len > 0) {
		(void)printf("%.*s\n", (int)len, name);
		return EXIT_OK;
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_VMM_ERROR;
}

/* Standard input and output lead nowhere; standard error is the caller's until the guest runs. */
static int become_child(struct error *e)
{
	auto_close int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "--detach: open '/dev/null'");
	}
	if (setsid() < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "--detach: setsid");
	}
	return DETACH_CHILD;
}

int detach_fork(struct detach *detach, int *code, struct error *e)
{
	int fds[2];
	pid_t child;

	if (pipe2(fds, O_CLOEXEC) < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "--detach: pipe");
	}
	child = fork();
	if (child < 0) {
		int sys = errno;

		(void)close(fds[0]);
		(void)close(fds[1]);
		return error_set_sys(e, ERROR_INTERNAL, sys, "--detach: fork");
	}
	if (child > 0) {
		(void)close(fds[1]);
		*code = wait_for_child(child, fds[0]);
		(void)close(fds[0]);
		return DETACH_PARENT;
	}
	(void)close(fds[0]);
	detach->pipe_fd = fds[1];
	return become_child(e);
}

int detach_log_to(struct detach *detach, const struct run_directory *dir, struct error *e)
{
	return run_directory_open(dir, "vmm.log", &detach->log_fd, e);
}

void detach_done(struct detach *detach, const char *name)
{
	if (detach->pipe_fd < 0) {
		return;
	}
	(void)!write(detach->pipe_fd, name, strlen(name));
	(void)dup2(detach->log_fd, STDERR_FILENO);
	close_fd(&detach->log_fd);
	close_fd(&detach->pipe_fd);
}

void detach_finish(struct detach *detach)
{
	close_fd(&detach->log_fd);
	close_fd(&detach->pipe_fd);
}
