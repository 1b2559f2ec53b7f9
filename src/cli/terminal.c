// SPDX-License-Identifier: Apache-2.0
/*
 * See terminal.h. The guardian is a child in the same session, with all signals blocked; it owns
 * copies of the terminal and of one end of a pipe. The pipe's end of file comes when the last copy
 * of the other end is closed: when vmm ends, however it ends. A byte before it says that vmm has
 * put the terminal back itself: the shell may have changed it again since, so the guardian leaves
 * it alone.
 */
#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/cleanup.h"

/* At once: a terminal whose output is stopped (Ctrl-S, no carrier) must not keep us. */
static int restore(const struct termios *saved)
{
	return tcsetattr(STDIN_FILENO, TCSANOW, saved);
}

static void guard(int fd, const struct termios *saved)
{
	ssize_t n;
	char byte;

	(void)prctl(PR_SET_NAME, "vmm-terminal");
	/* The terminal stays; what else vmm was given must not be held open by us. */
	(void)close_range(STDOUT_FILENO, (unsigned int)fd - 1, 0);
	(void)close_range((unsigned int)fd + 1, ~0U, 0);
	do {
		n = read(fd, &byte, 1);
	} while (n < 0 && errno == EINTR);
	if (n != 1) {
		/* As a background process we would be stopped here, were SIGTTOU not blocked. */
		(void)restore(saved);
	}
	_exit(0);
}

static int start_guardian(struct terminal *terminal, struct error *e)
{
	sigset_t all;
	sigset_t mask;
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0) {
		return error_set_sys(e, ERROR_CONSOLE, errno, "terminal: pipe");
	}
	/* The guardian begins with everything blocked, there is no moment without. */
	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &mask);
	pid = fork();
	if (pid != 0) {
		int sys = errno;

		(void)sigprocmask(SIG_SETMASK, &mask, NULL);
		errno = sys;
	}
	if (pid < 0) {
		int sys = errno;

		(void)close(fds[0]);
		(void)close(fds[1]);
		return error_set_sys(e, ERROR_CONSOLE, sys, "terminal: fork");
	}
	if (pid == 0) {
		(void)close(fds[1]);
		guard(fds[0], &terminal->saved);
	}
	(void)close(fds[0]);
	terminal->guardian = pid;
	terminal->guardian_fd = fds[1];
	return 0;
}

void terminal_init(struct terminal *terminal)
{
	*terminal = (struct terminal){ .guardian_fd = -1 };
	terminal->present = tcgetattr(STDIN_FILENO, &terminal->saved) == 0;
}

int terminal_guard(struct terminal *terminal, struct error *e)
{
	if (!terminal->present || terminal->guardian_fd >= 0) {
		return 0;
	}
	return start_guardian(terminal, e);
}

static int enter(struct terminal *terminal, const struct termios *mode, const char *what,
		 struct error *e)
{
	if (terminal->present && tcsetattr(STDIN_FILENO, TCSANOW, mode) < 0) {
		return error_set_sys(e, ERROR_CONSOLE, errno, "terminal: %s", what);
	}
	terminal->raw = terminal->present;
	return 0;
}

int terminal_enter_raw(struct terminal *terminal, struct error *e)
{
	struct termios raw = terminal->saved;

	cfmakeraw(&raw);
	/* Messages of ours still begin at the left edge; the guest's carriage returns do no harm.
	 */
	raw.c_oflag |= OPOST;
	return enter(terminal, &raw, "set raw mode", e);
}

int terminal_enter_keys(struct terminal *terminal, struct error *e)
{
	struct termios keys = terminal->saved;

	keys.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	keys.c_cc[VMIN] = 1;
	keys.c_cc[VTIME] = 0;
	return enter(terminal, &keys, "take single keys", e);
}

void terminal_leave_raw(struct terminal *terminal)
{
	if (terminal->raw && restore(&terminal->saved) == 0) {
		terminal->raw = false;
	}
}

void terminal_finish(struct terminal *terminal)
{
	bool restored = !terminal->raw || restore(&terminal->saved) == 0;

	terminal->raw = false;
	if (terminal->present) {
		if (restored && terminal->guardian_fd >= 0) {
			(void)!write(terminal->guardian_fd, "", 1);
		}
		/* The guardian sees the end of file and goes; init reaps it, for the sandbox gives
		 * us no wait. */
		terminal->present = false;
		close_fd(&terminal->guardian_fd);
	}
}

bool terminal_window_size(unsigned short *columns, unsigned short *rows)
{
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 &&
	    ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0) {
		return false;
	}
	if (size.ws_col == 0 || size.ws_row == 0) {
		return false;
	}
	*columns = size.ws_col;
	*rows = size.ws_row;
	return true;
}
