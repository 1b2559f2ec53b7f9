/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw mode and its return, on a pseudo terminal, whoever dies. A shell (session leader, so that the
 * terminal outlives vmm) has a child in the foreground that plays vmm: it enters raw mode and then
 * does what the test tells it through a pipe.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/check_main.h"

#include "../../src/cli/terminal.h"

static struct error e;
static int master = -1, slave = -1;
static int orders[2], reports[2];
static pid_t shell;
static struct termios before;

/* What the player of vmm tells: itself and its guardian. */
struct report {
	pid_t vmm, guardian;
	bool raw;
};

static void play_vmm(void)
{
	struct terminal terminal = { .guardian_fd = -1 };
	struct report report = { .vmm = getpid() };
	char order;

	terminal_init(&terminal);
	/* Nobody is started before there is something to guard. */
	if (!terminal.present || terminal.guardian_fd >= 0 || terminal_guard(&terminal, &e) < 0) {
		_exit(1);
	}
	report.guardian = terminal.guardian;
	if (terminal_guard(&terminal, &e) < 0 || terminal.guardian != report.guardian ||
	    terminal_enter_raw(&terminal, &e) < 0) {
		_exit(1);
	}
	report.raw = terminal.raw;
	if (write(reports[1], &report, sizeof(report)) != sizeof(report)) {
		_exit(1);
	}
	while (read(orders[0], &order, 1) == 1) {
		if (order == 'l') {
			terminal_finish(&terminal);
			terminal_finish(&terminal);
			(void)!write(reports[1], &report, sizeof(report));
		}
	}
	_exit(0);
}

/* As a job of an interactive shell: a process group of its own in the foreground. */
static void play_shell(void)
{
	pid_t vmm;
	char order;

	(void)signal(SIGTTOU, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	(void)signal(SIGPIPE, SIG_IGN); /* as vmm does */
	if (setsid() < 0 || ioctl(slave, TIOCSCTTY, 0) < 0) {
		_exit(1);
	}
	vmm = fork();
	if (vmm == 0) {
		(void)setpgid(0, 0);
		(void)tcsetpgrp(slave, getpid());
		(void)signal(SIGTTOU, SIG_DFL);
		(void)dup2(slave, STDIN_FILENO);
		play_vmm();
	}
	(void)waitpid(vmm, NULL, 0);
	(void)tcsetpgrp(slave, getpid());
	/* Until the test is over, however it ends. */
	while (read(orders[0], &order, 1) > 0) {
	}
	_exit(0);
}

static void setup(void)
{
	struct winsize size = { .ws_row = 24, .ws_col = 80 };

	e = (struct error){ 0 };
	/* Orphans come to us, so that the test sees the guardian's end. */
	ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	ck_assert_int_eq(openpty(&master, &slave, NULL, NULL, &size), 0);
	ck_assert_int_eq(fcntl(master, F_SETFD, FD_CLOEXEC), 0);
	ck_assert_int_eq(tcgetattr(slave, &before), 0);
	/* Something that raw mode changes, and not the default: it must come back as it was. */
	before.c_lflag &= ~(tcflag_t)ECHO;
	before.c_cc[VINTR] = 0x02;
	ck_assert_int_eq(tcsetattr(slave, TCSANOW, &before), 0);
	ck_assert_int_eq(pipe2(orders, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(reports, O_CLOEXEC), 0);
	shell = fork();
	ck_assert_int_ge(shell, 0);
	if (shell == 0) {
		/* Or it would never see that the test is over. */
		(void)close(orders[1]);
		play_shell();
	}
}

static void teardown(void)
{
	(void)close(orders[1]);
	(void)kill(shell, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {
	}
	(void)close(master);
	(void)close(slave);
	(void)close(orders[0]);
	(void)close(reports[0]);
	(void)close(reports[1]);
}

static void get_report(struct report *report)
{
	ck_assert_int_eq(read(reports[0], report, sizeof(*report)), sizeof(*report));
	ck_assert(report->raw);
}

static struct termios now(void)
{
	struct termios t;

	ck_assert_int_eq(tcgetattr(slave, &t), 0);
	return t;
}

static bool is_as_before(void)
{
	struct termios t = now();

	return t.c_iflag == before.c_iflag && t.c_oflag == before.c_oflag &&
	       t.c_cflag == before.c_cflag && t.c_lflag == before.c_lflag &&
	       memcmp(t.c_cc, before.c_cc, sizeof(t.c_cc)) == 0;
}

static void check_raw(void)
{
	struct termios t = now();

	ck_assert_int_eq(t.c_lflag & (ICANON | ECHO | ISIG | IEXTEN), 0);
	ck_assert_int_eq(t.c_iflag & (ICRNL | IXON | ISTRIP), 0);
	/* Lines of our own messages begin at the left. */
	ck_assert_int_ne(t.c_oflag & OPOST, 0);
	ck_assert(!is_as_before());
}

static void wait_until_as_before(void)
{
	while (!is_as_before()) {
		(void)poll(NULL, 0, 5); /* the test's time limit ends this */
	}
}

/* Of a process that was left to us. */
/* A process that ends closes its files before its children become ours. */
static void wait_for_end(pid_t pid)
{
	pid_t ended;
	int status;

	while ((ended = waitpid(pid, &status, 0)) < 0 && errno == ECHILD) {
		(void)usleep(1000);
	}
	ck_assert_int_eq(ended, pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void give_order(void)
{
	ck_assert_int_eq(write(orders[1], "l", 1), 1);
}

/* Until the process is a zombie or nothing at all: its parent, which plays vmm, does not wait for
 * it. */
static void wait_until_gone(pid_t pid)
{
	char path[64], line[256];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	do {
		memset(line, 0, sizeof(line));
		fd = open(path, O_RDONLY | O_CLOEXEC);
		n = fd >= 0 ? read(fd, line, sizeof(line) - 1) : 0;
		(void)close(fd);
		(void)poll(NULL, 0, 5);
	} while (n > 0 && strstr(line, ") Z ") == NULL);
}

START_TEST(test_enter_and_leave)
{
	struct termios prompt;
	struct report report;

	get_report(&report);
	check_raw();
	give_order();
	get_report(&report);
	ck_assert(is_as_before());
	/* The shell sets the terminal for its prompt; the guardian, which goes about now, leaves
	 * it. */
	prompt = before;
	prompt.c_lflag &= ~(tcflag_t)ICANON;
	ck_assert_int_eq(tcsetattr(slave, TCSANOW, &prompt), 0);
	wait_until_gone(report.guardian);
	ck_assert_int_eq(now().c_lflag & ICANON, 0);
}
END_TEST

START_TEST(test_vmm_is_killed)
{
	struct report report;

	get_report(&report);
	check_raw();
	ck_assert_int_eq(kill(report.vmm, SIGKILL), 0);
	wait_until_as_before();
	wait_for_end(report.guardian);
}
END_TEST

/* Ctrl-C and a hang-up reach the whole group; the guardian stays until vmm is gone. */
START_TEST(test_guardian_bears_signals)
{
	static const int numbers[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGUSR1 };
	struct report report;

	get_report(&report);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		ck_assert_int_eq(kill(report.guardian, numbers[i]), 0);
	}
	check_raw();
	ck_assert_int_eq(kill(report.vmm, SIGKILL), 0);
	wait_until_as_before();
	wait_for_end(report.guardian);
}
END_TEST

START_TEST(test_guardian_is_killed)
{
	struct report report;

	get_report(&report);
	ck_assert_int_eq(kill(report.guardian, SIGKILL), 0);
	check_raw();
	give_order();
	get_report(&report);
	ck_assert(is_as_before());
}
END_TEST

/* It holds the terminal and a pipe, nothing of vmm's: no disk, no KVM. */
START_TEST(test_guardian_holds_little)
{
	struct report report;
	int open_files = 0;

	get_report(&report);
	/* It closes after the fork, maybe after vmm has told us of it. */
	for (;;) {
		open_files = 0;
		for (int fd = 0; fd < 64; fd++) {
			char path[64];

			(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", report.guardian, fd);
			open_files += faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
		}
		if (open_files == 2) {
			break;
		}
		(void)poll(NULL, 0, 5);
	}
	ck_assert_int_eq(open_files, 2);
}
END_TEST

START_TEST(test_no_terminal)
{
	struct terminal terminal;
	struct report report;
	int saved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 10),
	    null = open("/dev/null", O_RDWR | O_CLOEXEC);

	get_report(&report);
	ck_assert_int_ge(dup2(null, STDIN_FILENO), 0);
	terminal_init(&terminal);
	check_ok(terminal_guard(&terminal, &e), &e);
	check_ok(terminal_enter_raw(&terminal, &e), &e);
	ck_assert(!terminal.present && !terminal.raw);
	ck_assert_int_eq(terminal.guardian_fd, -1);
	terminal_finish(&terminal);
	terminal = (struct terminal){ 0 };
	terminal_finish(&terminal);
	ck_assert_int_ge(dup2(saved, STDIN_FILENO), 0);
	(void)close(saved);
	(void)close(null);
}
END_TEST

START_TEST(test_window_size)
{
	int saved_in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 10);
	int saved_out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 10);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	unsigned short columns = 1, rows = 1;
	const struct winsize unknown = { 0 };
	struct report report;
	bool known_in, known_none, known_zero;

	get_report(&report);
	(void)dup2(slave, STDIN_FILENO);
	(void)dup2(null, STDOUT_FILENO);
	known_in = terminal_window_size(&columns, &rows);
	(void)ioctl(slave, TIOCSWINSZ, &unknown);
	known_zero = terminal_window_size(&columns, &rows);
	(void)dup2(null, STDIN_FILENO);
	known_none = terminal_window_size(&columns, &rows);
	(void)dup2(saved_in, STDIN_FILENO);
	(void)dup2(saved_out, STDOUT_FILENO);
	(void)close(saved_in);
	(void)close(saved_out);
	(void)close(null);
	ck_assert(known_in && !known_zero && !known_none);
	ck_assert_uint_eq(columns, 80);
	ck_assert_uint_eq(rows, 24);
}
END_TEST

CHECK_MAIN("terminal", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_enter_and_leave);
	   CHECK_TEST(test_vmm_is_killed); CHECK_TEST(test_guardian_bears_signals);
	   CHECK_TEST(test_guardian_is_killed); CHECK_TEST(test_guardian_holds_little);
	   CHECK_TEST(test_no_terminal); CHECK_TEST(test_window_size))
