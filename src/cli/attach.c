// SPDX-License-Identifier: Apache-2.0
/*
 * See attach.h. Four descriptors in one poll(2): standard input, the socket, standard output,
 * signals; each is only waited for while there is something to do with it. Two buffers, one for each
 * direction; a buffer is filled again when it is empty.
 *
 * The terminal is always listened to, for escape commands: what is typed besides while the VM takes
 * nothing is lost, as on a real line. The VM, another process, controls output bytes and when it
 * reads; the user controls input.
 */
#include "attach.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/cleanup.h"
#include "vmm/loop.h"

#define NS_PER_MS 1000000ULL
/* What is writable takes as much without blocking: a terminal, PIPE_BUF of a pipe. */
#define WRITE_MAX 512

enum { POLL_INPUT, POLL_SOCKET, POLL_OUTPUT, POLL_SIGNALS, POLLS };

static void show_help(struct escape *escape)
{
	char text[ESCAPE_HELP_SIZE];

	(void)!write(STDERR_FILENO, text, escape_help(escape, text));
}

static void detach(struct escape *escape)
{
	container_of(escape, struct attach, escape)->detached = true;
}

static void command(struct escape *escape, enum escape_command number)
{
	struct attach *attach = container_of(escape, struct attach, escape);

	attach->command(attach, number);
}

static void tell_size(struct attach *attach)
{
	unsigned short columns;
	unsigned short rows;

	if (attach->terminal->present && terminal_window_size(&columns, &rows)) {
		attach->resized(attach, columns, rows);
	}
}

static void read_input(struct attach *attach)
{
	bool room = attach->to_guest_len == 0;
	uint8_t typed[sizeof(attach->to_guest)];
	ssize_t n = read(STDIN_FILENO, typed, sizeof(typed));
	size_t kept;

	if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
		return;
	}
	if (n <= 0) {
		attach->input_ended = true;
		/* A terminal that has gone. */
		attach->detached = attach->detached || attach->terminal->present;
		return;
	}
	kept = escape_filter(&attach->escape, typed, (size_t)n);
	attach->escape_ns = loop_now_ns() + ESCAPE_TIMEOUT_MS * NS_PER_MS;
	if (room && kept > 0) {
		memcpy(attach->to_guest, typed, kept);
		attach->to_guest_start = 0;
		attach->to_guest_len = kept;
	}
}

static void send_input(struct attach *attach)
{
	ssize_t n = send(attach->socket_fd, attach->to_guest + attach->to_guest_start,
			 attach->to_guest_len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n >= 0) {
		attach->to_guest_start += (size_t)n;
		attach->to_guest_len -= (size_t)n;
	} else if (errno != EINTR && errno != EAGAIN) {
		/* Its output may still come. */
		attach->to_guest_len = 0;
		attach->input_ended = attach->input_ended || !attach->terminal->present;
		attach->input_told = true;
	}
}

static void receive_output(struct attach *attach)
{
	ssize_t n = recv(attach->socket_fd, attach->to_user, sizeof(attach->to_user), MSG_DONTWAIT);

	if (n > 0) {
		attach->heard = true;
		attach->to_user_start = 0;
		attach->to_user_len = (size_t)n;
	} else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
		attach->output_ended = true;
	}
}

static void write_output(struct attach *attach)
{
	ssize_t n = write(STDOUT_FILENO, attach->to_user + attach->to_user_start,
			  MIN(attach->to_user_len, (size_t)WRITE_MAX));

	if (n >= 0) {
		attach->to_user_start += (size_t)n;
		attach->to_user_len -= (size_t)n;
	} else if (errno != EINTR && errno != EAGAIN) {
		attach->output_gone = true;
	}
}

/* Stopped from outside (Ctrl-Z itself is for the guest): the terminal is the shell's meanwhile. */
static void suspend(struct attach *attach)
{
	terminal_leave_raw(attach->terminal);
	(void)raise(SIGSTOP);
	(void)terminal_enter_raw(attach->terminal, NULL);
	tell_size(attach);
}

static void take_signal(struct attach *attach)
{
	struct signalfd_siginfo info;

	if (read(attach->signal_fd, &info, sizeof(info)) != sizeof(info)) {
		return;
	}
	if (info.ssi_signo == SIGWINCH) {
		tell_size(attach);
	} else if (info.ssi_signo == SIGTSTP) {
		suspend(attach);
	} else {
		attach->signal = (int)info.ssi_signo;
	}
}

/* Until the next thing that has a time; -1: nothing has. */
static int wait_ms(const struct attach *attach)
{
	uint64_t now = loop_now_ns(), next = UINT64_MAX;

	if (attach->escape.waiting) {
		next = attach->escape_ns;
	}
	if (!attach->heard && attach->terminal->present) {
		next = MIN(next, attach->silence_ns);
	}
	if (next == UINT64_MAX) {
		return -1;
	}
	return next > now ? (int)((next - now) / NS_PER_MS) + 1 : 0;
}

static void take_times(struct attach *attach)
{
	uint64_t now = loop_now_ns();

	if (attach->escape.waiting && now >= attach->escape_ns) {
		uint8_t key = 0;

		if (escape_expire(&attach->escape, &key) && attach->to_guest_len == 0) {
			attach->to_guest[0] = key;
			attach->to_guest_start = 0;
			attach->to_guest_len = 1;
		}
	}
	if (!attach->heard && attach->terminal->present && now >= attach->silence_ns) {
		attach->heard = true;
		attach->silent(attach);
	}
}

/* One that is not wanted must not be polled: its hang-up would come again and again. */
static void want(struct pollfd *p, int fd, bool in, bool out)
{
	*p = (struct pollfd){ .fd = in || out ? fd : -1,
			      .events = (short)((in ? POLLIN : 0) | (out ? POLLOUT : 0)) };
}

static int step(struct attach *attach, struct error *e)
{
	struct pollfd polls[POLLS];
	bool idle = attach->to_guest_len == 0;

	if (attach->input_ended && idle && !attach->input_told) {
		attach->input_told = true;
		(void)shutdown(attach->socket_fd, SHUT_WR);
	}
	want(&polls[POLL_INPUT], STDIN_FILENO,
	     !attach->input_ended && (idle || attach->terminal->present), false);
	want(&polls[POLL_SOCKET], attach->socket_fd,
	     !attach->output_ended && attach->to_user_len == 0, !idle);
	want(&polls[POLL_OUTPUT], STDOUT_FILENO, false, attach->to_user_len > 0);
	want(&polls[POLL_SIGNALS], attach->signal_fd, true, false);
	if (poll(polls, POLLS, wait_ms(attach)) < 0) {
		return errno == EINTR
			       ? 0
			       : error_set_sys(e, ERROR_CONSOLE, errno, "console: wait for bytes");
	}
	if (polls[POLL_SIGNALS].revents != 0) {
		take_signal(attach);
	}
	if (polls[POLL_OUTPUT].revents != 0) {
		write_output(attach);
	}
	if (polls[POLL_SOCKET].revents != 0) {
		if (!idle) {
			send_input(attach);
		}
		if (!attach->output_ended && attach->to_user_len == 0) {
			receive_output(attach);
		}
	}
	if (polls[POLL_INPUT].revents != 0) {
		read_input(attach);
	}
	take_times(attach);
	return 0;
}

static bool is_over(const struct attach *attach, enum attach_end *end)
{
	if (attach->signal != 0) {
		*end = ATTACH_SIGNALLED;
	} else if (attach->detached) {
		*end = ATTACH_DETACHED;
	} else if (attach->output_gone) {
		*end = ATTACH_OUTPUT_GONE;
	} else if (attach->output_ended && attach->to_user_len == 0) {
		*end = ATTACH_CLOSED;
	} else {
		return false;
	}
	return true;
}

int attach_run(struct attach *attach, enum attach_end *end, struct error *e)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP };
	sigset_t set, before;
	int r = 0;

	attach->escape.can_detach = true;
	attach->escape.command = command;
	attach->escape.detach = detach;
	attach->escape.help = show_help;
	attach->silence_ns = loop_now_ns() + ATTACH_SILENCE_MS * NS_PER_MS;
	(void)sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		(void)sigaddset(&set, signals[i]);
	}
	(void)sigprocmask(SIG_BLOCK, &set, &before);
	attach->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (attach->signal_fd < 0) {
		r = error_set_sys(e, ERROR_INTERNAL, errno, "signalfd");
	}
	if (r == 0) {
		tell_size(attach);
	}
	while (r == 0 && !is_over(attach, end)) {
		r = step(attach, e);
	}
	/* What was typed before the command that detached. */
	if (attach->to_guest_len > 0) {
		send_input(attach);
	}
	close_fd(&attach->signal_fd);
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	return r;
}
