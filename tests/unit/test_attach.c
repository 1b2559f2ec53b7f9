/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The attach client with a VM's console played by the test at the other end of a socket pair, and
 * standard input and output that are a pseudo terminal, pipes or files. As in test_terminal.c, a
 * shell (session leader) has the client as its foreground job. What the client's callbacks hear, and
 * how it ends, comes back through a pipe, a line each.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/check_main.h"

#include "../../src/cli/attach.h"

static int master, slave;   /* the terminal */
static int vm;		    /* the console's end of the VM */
static int reports[2];	    /* from the client */
static int typing, reading; /* our ends of its standard input and output, without a terminal */
static pid_t shell;
static struct termios before;
static char heard[4096];
static size_t heard_len;

static void __printf_like(1, 2) tell(const char *fmt, ...)
{
	char line[80];
	va_list args;
	int len;

	va_start(args, fmt);
	len = vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	(void)!write(reports[1], line, (size_t)len);
}

static void command(struct attach *attach, enum escape_command number)
{
	(void)attach;
	tell("command %d\n", (int)number);
}

static void resized(struct attach *attach, unsigned short columns, unsigned short rows)
{
	(void)attach;
	tell("window %dx%d\n", (int)columns, (int)rows);
}

static void silent(struct attach *attach)
{
	(void)attach;
	tell("silent\n");
}

/* The process of `vmm console`. */
static void play_client(int socket_fd, int key)
{
	struct terminal terminal = { .guardian_fd = -1 };
	struct attach attach = { .socket_fd = socket_fd,
				 .terminal = &terminal,
				 .escape = { .key = key },
				 .signal_fd = -1,
				 .command = command,
				 .resized = resized,
				 .silent = silent };
	enum attach_end end = ATTACH_CLOSED;
	struct error e = { 0 };
	int r;

	(void)signal(SIGPIPE, SIG_IGN); /* as vmm does */
	tell("pid %d\n", (int)getpid());
	terminal_init(&terminal);
	r = terminal_guard(&terminal, &e);
	if (r == 0) {
		r = terminal_enter_raw(&terminal, &e);
	}
	if (r == 0) {
		r = attach_run(&attach, &end, &e);
	}
	terminal_finish(&terminal);
	tell("end %d %d %d\n", r, (int)end, attach.signal);
	_exit(r < 0);
}

static void wait_for_test(void)
{
	struct pollfd p = { .fd = reports[1], .events = 0 };

	/* The test holds the only reading end. */
	(void)close(reports[0]);
	while (poll(&p, 1, -1) < 0) {
	}
	_exit(0);
}

static void play_shell(int socket_fd, int key)
{
	int status;
	pid_t pid;

	(void)signal(SIGTTOU, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	(void)signal(SIGPIPE, SIG_IGN);
	if (setsid() < 0 || ioctl(slave, TIOCSCTTY, 0) < 0) {
		_exit(1);
	}
	pid = fork();
	if (pid == 0) {
		(void)setpgid(0, 0);
		(void)tcsetpgrp(slave, getpid());
		(void)signal(SIGTTOU, SIG_DFL);
		play_client(socket_fd, key);
	}
	(void)close(socket_fd);
	while (waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status)) {
		tell("stopped\n");
	}
	(void)tcsetpgrp(slave, getpid());
	wait_for_test();
}

/* Starts the client; standard input and output are the terminal unless given. */
static void start(int input, int output, int key)
{
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	vm = pair[0];
	shell = fork();
	ck_assert_int_ge(shell, 0);
	if (shell == 0) {
		(void)close(vm);
		(void)close(master);
		(void)dup2(input >= 0 ? input : slave, STDIN_FILENO);
		(void)dup2(output >= 0 ? output : slave, STDOUT_FILENO);
		(void)dup2(slave, STDERR_FILENO);
		/* Or their ends would never come. */
		(void)close(typing);
		(void)close(reading);
		play_shell(pair[1], key);
	}
	(void)close(pair[1]);
}

static void setup(void)
{
	struct winsize size = { .ws_row = 24, .ws_col = 80 };

	(void)signal(SIGPIPE, SIG_IGN);
	heard_len = 0;
	vm = typing = reading = -1;
	ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	ck_assert_int_eq(openpty(&master, &slave, NULL, NULL, &size), 0);
	ck_assert_int_eq(fcntl(master, F_SETFD, FD_CLOEXEC), 0);
	ck_assert_int_eq(tcgetattr(slave, &before), 0);
	ck_assert_int_eq(pipe2(reports, O_CLOEXEC), 0);
}

static void teardown(void)
{
	int fds[] = { vm, typing, reading, master, slave, reports[0], reports[1] };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		if (fds[i] >= 0) {
			(void)close(fds[i]);
		}
	}
	(void)kill(shell, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {
	}
}

/* Reads until `text` has come; the test's time limit ends a wait in vain. */
static void expect(int fd, const char *text)
{
	char got[8192] = "";
	size_t len = 0;

	while (strstr(got, text) == NULL) {
		ssize_t n;

		ck_assert_uint_lt(len, sizeof(got) - 1);
		n = read(fd, got + len, sizeof(got) - 1 - len);
		ck_assert_msg(n > 0, "'%s' came in place of '%s'", got, text);
		len += (size_t)n;
		got[len] = '\0';
	}
}

/* Nothing but `text`. */
static void expect_guest(const char *text)
{
	char got[256] = "";

	for (size_t len = 0; len < strlen(text);) {
		ssize_t n = read(vm, got + len, strlen(text) - len);

		ck_assert_int_gt(n, 0);
		len += (size_t)n;
	}
	ck_assert_str_eq(got, text);
}

static void expect_guest_end(void)
{
	char byte;

	ck_assert_int_eq(read(vm, &byte, 1), 0);
}

/* Reports up to one that begins with `text`, which is returned whole. */
static const char *hear(const char *text)
{
	static char line[80];

	for (;;) {
		size_t len = 0;

		do {
			ck_assert_int_eq(read(reports[0], &line[len], 1), 1);
		} while (line[len] != '\n' && ++len < sizeof(line) - 1);
		line[len] = '\0';
		(void)snprintf(heard + heard_len, sizeof(heard) - heard_len, "%s\n", line);
		heard_len = strlen(heard);
		if (strncmp(line, text, strlen(text)) == 0) {
			return line;
		}
	}
}

static void expect_end(enum attach_end end, int number)
{
	char want[80];

	(void)snprintf(want, sizeof(want), "end 0 %d %d", (int)end, number);
	ck_assert_str_eq(hear("end"), want);
}

static pid_t client_pid(void)
{
	int pid = 0;

	ck_assert_int_eq(sscanf(hear("pid"), "pid %d", &pid), 1);
	return pid;
}

static void say(const char *text)
{
	ck_assert_int_eq(send(vm, text, strlen(text), 0), (ssize_t)strlen(text));
}

static void type(const char *text)
{
	ck_assert_int_eq(write(master, text, strlen(text)), (ssize_t)strlen(text));
}

static bool is_raw(void)
{
	struct termios t;

	ck_assert_int_eq(tcgetattr(slave, &t), 0);
	return (t.c_lflag & (ICANON | ECHO | ISIG)) == 0;
}

static void wait_until_as_before(void)
{
	struct termios t;

	do {
		ck_assert_int_eq(tcgetattr(slave, &t), 0);
		(void)poll(NULL, 0, 5); /* the test's time limit ends this */
	} while (t.c_iflag != before.c_iflag || t.c_oflag != before.c_oflag ||
		 t.c_cflag != before.c_cflag || t.c_lflag != before.c_lflag);
}

/* On the terminal, and there is output: the client is in its loop. */
static void start_on_terminal(void)
{
	start(-1, -1, ESCAPE_KEY_DEFAULT);
	say("login: ");
	expect(master, "login: ");
	ck_assert(is_raw());
}

START_TEST(test_both_ways)
{
	start_on_terminal();
	type("root\r\x03");
	expect_guest("root\r\x03");
	say("Welcome\r\n");
	expect(master, "Welcome");
	ck_assert_str_eq(hear("window"), "window 80x24");
}
END_TEST

START_TEST(test_detach)
{
	start_on_terminal();
	type("x\x1d"
	     "d");
	expect_guest("x");
	expect_end(ATTACH_DETACHED, 0);
	wait_until_as_before();
	expect_guest_end();
}
END_TEST

START_TEST(test_vm_ends)
{
	start_on_terminal();
	say("Power down.\r\n");
	(void)close(vm);
	vm = -1;
	expect(master, "Power down.");
	expect_end(ATTACH_CLOSED, 0);
	wait_until_as_before();
}
END_TEST

/* It left something unread: not an error here. */
START_TEST(test_vm_ends_without_reading)
{
	struct pollfd p;

	start_on_terminal();
	type("unread");
	p = (struct pollfd){ .fd = vm, .events = POLLIN };
	ck_assert_int_eq(poll(&p, 1, -1), 1);
	say("bye");
	(void)close(vm);
	vm = -1;
	expect(master, "bye");
	expect_end(ATTACH_CLOSED, 0);
}
END_TEST

START_TEST(test_commands)
{
	char want[32];

	start_on_terminal();
	type("\x1dq\x1dk\x1dr\x1d"
	     "c\x1d\x1d.");
	expect_guest("\x1d.");
	hear("command");
	hear("command");
	hear("command");
	(void)snprintf(want, sizeof(want), "command %d", ESCAPE_CTRL_ALT_DEL);
	ck_assert_str_eq(hear("command"), want);
	(void)snprintf(want, sizeof(want), "command %d\ncommand %d\ncommand %d\n",
		       ESCAPE_POWER_BUTTON, ESCAPE_STOP, ESCAPE_RESET);
	ck_assert_ptr_nonnull(strstr(heard, want));
	type("\x1d?");
	expect(master, "detach");
}
END_TEST

START_TEST(test_prefix_alone)
{
	start_on_terminal();
	type("\x1d");
	expect_guest("\x1d");
	type("d");
	expect_guest("d");
}
END_TEST

START_TEST(test_other_prefix)
{
	start(-1, -1, 1);
	say("$ ");
	expect(master, "$ ");
	type("\x1d"
	     "d\x01\x01");
	expect_guest("\x1d"
		     "d\x01");
	type("\x01"
	     "d");
	expect_end(ATTACH_DETACHED, 0);
}
END_TEST

START_TEST(test_no_prefix)
{
	start(-1, -1, ESCAPE_KEY_NONE);
	say("$ ");
	expect(master, "$ ");
	type("\x1d"
	     "d\x1dk");
	expect_guest("\x1d"
		     "d\x1dk");
}
END_TEST

START_TEST(test_window)
{
	struct winsize size = { .ws_row = 50, .ws_col = 132 };

	start_on_terminal();
	ck_assert_str_eq(hear("window"), "window 80x24");
	ck_assert_int_eq(ioctl(master, TIOCSWINSZ, &size), 0);
	ck_assert_str_eq(hear("window"), "window 132x50");
}
END_TEST

START_TEST(test_silent)
{
	start(-1, -1, ESCAPE_KEY_DEFAULT);
	hear("silent");
	say("at last");
	expect(master, "at last");
	type("\x1d"
	     "d");
	expect_end(ATTACH_DETACHED, 0);
}
END_TEST

static const int ending_signals[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT };

START_TEST(test_signals)
{
	pid_t pid;

	start_on_terminal();
	pid = client_pid();
	ck_assert_int_eq(kill(pid, ending_signals[_i]), 0);
	expect_end(ATTACH_SIGNALLED, ending_signals[_i]);
	wait_until_as_before();
}
END_TEST

START_TEST(test_killed)
{
	pid_t pid;

	start_on_terminal();
	pid = client_pid();
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	wait_until_as_before();
	expect_guest_end();
}
END_TEST

/* Stopped and continued by the shell, which has the terminal as it was meanwhile. */
START_TEST(test_suspended)
{
	pid_t pid;

	start_on_terminal();
	pid = client_pid();
	ck_assert_int_eq(kill(pid, SIGTSTP), 0);
	hear("stopped");
	ck_assert(!is_raw());
	ck_assert_int_eq(kill(pid, SIGCONT), 0);
	while (!is_raw()) {
		(void)poll(NULL, 0, 5);
	}
	type("x");
	expect_guest("x");
}
END_TEST

START_TEST(test_terminal_goes)
{
	start_on_terminal();
	(void)close(master);
	master = -1;
	(void)close(slave);
	slave = -1;
	hear("end");
	expect_guest_end();
}
END_TEST

/* The VM reads nothing: escape commands work all the same. */
START_TEST(test_deaf_vm)
{
	static char much[2000];

	memset(much, 'x', sizeof(much) - 1);
	start_on_terminal();
	for (int i = 0; i < 300; i++) {
		type(much);
	}
	type("\x1d"
	     "d");
	expect_end(ATTACH_DETACHED, 0);
	wait_until_as_before();
}
END_TEST

static void start_on_pipes(void)
{
	int in[2], out[2];

	ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	typing = in[1];
	reading = out[0];
	start(in[0], out[1], ESCAPE_KEY_NONE);
	(void)close(in[0]);
	(void)close(out[1]);
}

START_TEST(test_pipes)
{
	start_on_pipes();
	ck_assert_int_eq(write(typing,
			       "uptime\n\x1d"
			       "d",
			       9),
			 9);
	expect_guest("uptime\n\x1d"
		     "d");
	(void)close(typing);
	typing = -1;
	expect_guest_end();
	/* Half-closed: the answer still comes. */
	say("up 1 day\n");
	expect(reading, "up 1 day\n");
	(void)close(vm);
	vm = -1;
	expect_end(ATTACH_CLOSED, 0);
	ck_assert_ptr_null(strstr(heard, "window"));
	ck_assert_ptr_null(strstr(heard, "silent"));
}
END_TEST

/* Much of everything, both ways at once, every byte. */
START_TEST(test_much)
{
	static char data[KIB(300)], got[KIB(300)];
	size_t out = 0, in = 0;

	for (size_t i = 0; i < sizeof(data); i++) {
		data[i] = (char)(i * 7 + (i >> 8));
	}
	start_on_pipes();
	(void)fcntl(typing, F_SETFL, O_NONBLOCK);
	for (size_t sent = 0, said = 0; out < sizeof(data) || in < sizeof(data);) {
		ssize_t n =
			sent < sizeof(data) ? write(typing, data + sent, sizeof(data) - sent) : 0;

		sent += n > 0 ? (size_t)n : 0;
		n = send(vm, data + said, sizeof(data) - said, MSG_DONTWAIT);
		said += n > 0 ? (size_t)n : 0;
		if (in < sizeof(data)) {
			struct pollfd p = { .fd = vm, .events = POLLIN };

			n = poll(&p, 1, 1) == 1 ? read(vm, got, sizeof(data) - in) : 0;
			ck_assert_mem_eq(got, data + in, n);
			in += (size_t)n;
		}
		if (out < sizeof(data)) {
			struct pollfd p = { .fd = reading, .events = POLLIN };

			n = poll(&p, 1, 1) == 1 ? read(reading, got, sizeof(data) - out) : 0;
			ck_assert_mem_eq(got, data + out, n);
			out += (size_t)n;
		}
	}
}
END_TEST

START_TEST(test_files)
{
	int in = memfd_create("in", MFD_CLOEXEC), out = memfd_create("out", MFD_CLOEXEC);
	char text[32] = "";

	ck_assert_int_eq(pwrite(in, "reboot\n", 7, 0), 7);
	start(in, out, ESCAPE_KEY_NONE);
	expect_guest("reboot\n");
	expect_guest_end();
	say("rebooting");
	(void)close(vm);
	vm = -1;
	expect_end(ATTACH_CLOSED, 0);
	ck_assert_int_eq(pread(out, text, sizeof(text) - 1, 0), 9);
	ck_assert_str_eq(text, "rebooting");
	(void)close(in);
	(void)close(out);
}
END_TEST

START_TEST(test_reader_goes)
{
	start_on_pipes();
	(void)close(reading);
	reading = -1;
	say("anybody there?");
	expect_end(ATTACH_OUTPUT_GONE, 0);
}
END_TEST

static const struct key_row {
	const char *text;
	int key; /* -2: refused */
} keys[] = {
	{ "none", ESCAPE_KEY_NONE },
	{ "ctrl-]", 0x1d },
	{ "Ctrl-A", 1 },
	{ "^a", 1 },
	{ "^]", 0x1d },
	{ "ctrl-^", 0x1e },
	{ "ctrl-_", 0x1f },
	{ "ctrl-z", 26 },
	{ "ctrl-m", -2 },
	{ "^I", -2 },
	{ "^[", -2 },
	{ "", -2 },
	{ "a", -2 },
	{ "ctrl-", -2 },
	{ "ctrl-ab", -2 },
	{ "ctrl-1", -2 },
	{ "^", -2 },
	{ "ctrl-@", -2 },
	{ "ctrl-\xff", -2 },
};

START_TEST(test_key_names)
{
	const struct key_row *row = &keys[_i];
	struct error e = { 0 };
	int key = -2;
	int r = escape_parse_key(row->text, &key, &e);

	shell = fork();
	if (shell == 0) {
		_exit(0);
	}
	ck_assert_int_eq(key, row->key);
	if (row->key == -2) {
		ck_assert_int_lt(r, 0);
		check_error(&e, ERROR_USAGE, "--escape");
	} else {
		check_ok(r, &e);
	}
}
END_TEST

CHECK_MAIN("attach", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_both_ways);
	   CHECK_TEST(test_detach); CHECK_TEST(test_vm_ends);
	   CHECK_TEST(test_vm_ends_without_reading); CHECK_TEST(test_commands);
	   CHECK_TEST(test_prefix_alone); CHECK_TEST(test_other_prefix); CHECK_TEST(test_no_prefix);
	   CHECK_TEST(test_window); CHECK_TEST(test_silent);
	   CHECK_TABLE(test_signals, ending_signals); CHECK_TEST(test_killed);
	   CHECK_TEST(test_suspended); CHECK_TEST(test_terminal_goes); CHECK_TEST(test_deaf_vm);
	   CHECK_TEST(test_pipes); CHECK_TEST(test_much); CHECK_TEST(test_files);
	   CHECK_TEST(test_reader_goes); CHECK_TABLE(test_key_names, keys))
