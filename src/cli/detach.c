// SPDX-License-Identifier: Apache-2.0
/*
 * See detach.h. The pipe carries one message: TOLD_NAME and the VM's name, or TOLD_ERROR and lines for
 * standard error; none if the child has died.
 */
#include "detach.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exit_codes.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"

#define TOLD_NAME  'N'
#define TOLD_ERROR 'E'

static size_t read_message(int fd, char *buf, size_t size)
{
	size_t len = 0;

	while (len < size) {
		ssize_t n = read(fd, buf + len, size - len);

		if (n == 0 || (n < 0 && errno != EINTR)) {
			break;
		}
		len += n > 0 ? (size_t)n : 0;
	}
	return len;
}

static int wait_for_child(pid_t child, int fd)
{
	char message[sizeof(struct error) + 64];
	size_t len = read_message(fd, message, sizeof(message));
	int status;

	if (len > 1 && message[0] == TOLD_NAME) {
		(void)printf("%.*s\n", (int)(len - 1), message + 1);
		return EXIT_OK;
	}
	if (len > 1) {
		(void)fprintf(stderr, "%.*s", (int)(len - 1), message + 1);
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_VMM_ERROR;
}

/* Those beyond the limit are closed now. */
static void note_inherited(struct detach *detach)
{
	DIR *list = opendir("/proc/self/fd");
	const struct dirent *entry;

	while (list != NULL && (entry = readdir(list)) != NULL) {
		int fd = (int)strtol(entry->d_name, NULL, 10);

		/* What vmm has opened itself is closed on exec; what it was given cannot be. */
		if (fd <= STDERR_FILENO || fcntl(fd, F_GETFD) != 0) {
			continue;
		}
		if (detach->inherited_count < DETACH_INHERITED_MAX) {
			detach->inherited[detach->inherited_count++] = fd;
		} else {
			(void)close(fd);
		}
	}
	if (list != NULL) {
		(void)closedir(list);
	}
}

void detach_keep(struct detach *detach, int fd)
{
	for (size_t i = 0; i < detach->inherited_count; i++) {
		if (detach->inherited[i] == fd) {
			detach->inherited[i] = detach->inherited[--detach->inherited_count];
			return;
		}
	}
}

/* Standard input and output lead nowhere; standard error is the caller's until there is a log. */
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
	detach->child = true;
	note_inherited(detach);
	return become_child(e);
}

int detach_log_to(struct detach *detach, const struct run_directory *dir, struct error *e)
{
	auto_close int fd = -1;
	int r = run_directory_open(dir, "vmm.log", &fd, e);

	if (r < 0) {
		return r;
	}
	if (dup2(fd, STDERR_FILENO) < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "--detach: standard error");
	}
	log_init(LOG_INFO, STDERR_FILENO);
	detach->logs = true;
	return 0;
}

/* One write of less than PIPE_BUF bytes into an empty pipe: whole, at once. */
static void tell(struct detach *detach, const char *text, size_t len)
{
	if (detach->pipe_fd >= 0) {
		(void)!write(detach->pipe_fd, text, len);
		close_fd(&detach->pipe_fd);
	}
}

void detach_done(struct detach *detach, const char *name)
{
	char text[sizeof(((struct run_directory *)0)->name) + 1];
	int len = snprintf(text, sizeof(text), "%c%s", TOLD_NAME, name);

	while (detach->inherited_count > 0) {
		close_fd(&detach->inherited[--detach->inherited_count]);
	}
	tell(detach, text, MIN((size_t)len, sizeof(text) - 1));
}

void detach_failed(struct detach *detach, const struct error *why)
{
	char text[sizeof(struct error) + 64];
	bool hint = why->hint[0] != '\0';
	int len = snprintf(text, sizeof(text), "%cvmm: %s\n%s%s%s", TOLD_ERROR, why->msg,
			   hint ? "hint: " : "", why->hint, hint ? "\n" : "");

	if (detach->logs) {
		tell(detach, text, MIN((size_t)len, sizeof(text) - 1));
	}
}

void detach_finish(struct detach *detach)
{
	close_fd(&detach->pipe_fd);
}
