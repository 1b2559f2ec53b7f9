// SPDX-License-Identifier: Apache-2.0
/*
 * See stdio_console.h. Standard output's open file description is shared with the shell, so its
 * flags are not touched: for pipes and terminals a second description is opened through
 * /proc/self/fd and made non-blocking; for what cannot be opened again (sockets) and for regular
 * files (which have an offset of their own) poll(2) goes before each write.
 *
 * The guest controls output bytes and their rate; the user controls input.
 */
#include "stdio_console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/cleanup.h"
#include "vmm/log.h"

LOG_DOMAIN("console");

#define NS_PER_MS 1000000ULL

/* Bytes that go out now without blocking; negative errno if none can. */
static ssize_t try_write(struct stdio_console *console, const uint8_t *data, size_t len)
{
	ssize_t n;

	if (!console->output_own) {
		struct pollfd p = { .fd = console->output_fd, .events = POLLOUT };

		if (poll(&p, 1, 0) == 0) {
			return -EAGAIN;
		}
		/* What is writable takes at least PIPE_BUF bytes. */
		len = MIN(len, (size_t)512);
	}
	do {
		n = write(console->output_fd, data, len);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static void put_ring(struct stdio_console *console, const uint8_t *data, size_t len)
{
	size_t room = STDIO_CONSOLE_RING - console->ring_len;

	if (len > room) {
		console->dropped += len - room;
		len = room;
	}
	for (size_t i = 0; i < len; i++) {
		console->ring[(console->ring_start + console->ring_len) % STDIO_CONSOLE_RING] =
			data[i];
		console->ring_len++;
	}
}

/* With the lock. Empties the ring as far as the descriptor goes; false if something is left. */
static bool drain_ring(struct stdio_console *console)
{
	while (console->ring_len > 0) {
		size_t run = MIN(console->ring_len, STDIO_CONSOLE_RING - console->ring_start);
		ssize_t n = try_write(console, console->ring + console->ring_start, run);

		if (n == -EAGAIN) {
			return false;
		}
		if (n < 0) {
			console->output_failed = true;
			console->dropped += console->ring_len;
			console->ring_len = 0;
			return true;
		}
		console->ring_start = (console->ring_start + (size_t)n) % STDIO_CONSOLE_RING;
		console->ring_len -= (size_t)n;
	}
	return true;
}

/* With the lock: true if somebody waits for the room there is now. */
static bool take_refusal(struct stdio_console *console)
{
	bool refused = console->output_refused && console->ring_len == 0;

	if (refused) {
		console->output_refused = false;
	}
	return refused && console->writable != NULL;
}

static bool drain_more(struct stdio_console *console)
{
	SCOPED_LOCK(&console->lock);
	if (drain_ring(console)) {
		console->draining = false;
		loop_source_remove(&console->drain);
	}
	return take_refusal(console);
}

static void output_writable(struct loop_source *source, uint32_t events)
{
	struct stdio_console *console = container_of(source, struct stdio_console, drain);

	(void)events;
	if (drain_more(console)) {
		console->writable(console);
	}
}

/* Main, posted by the thread that found the descriptor full. */
static bool drain_first(struct stdio_console *console)
{
	struct error e = { 0 };

	SCOPED_LOCK(&console->lock);
	console->drain_posted = false;
	if (console->draining || drain_ring(console)) {
		return take_refusal(console);
	}
	console->draining = loop_source_add(console->loop, &console->drain, console->output_fd,
					    EPOLLOUT, output_writable, &e) == 0;
	if (!console->draining) {
		/* Never to be waited for: what waits is lost, and nobody waits for room. */
		console->output_failed = true;
		console->dropped += console->ring_len;
		console->ring_len = 0;
		return take_refusal(console);
	}
	return false;
}

static void begin_drain(void *arg)
{
	struct stdio_console *console = arg;

	if (drain_first(console)) {
		console->writable(console);
	}
}

static bool may_output(struct console_channel *channel, size_t len)
{
	struct stdio_console *console = container_of(channel, struct stdio_console, channel);

	SCOPED_LOCK(&console->lock);
	if (console->output_failed || console->ring_len == 0 ||
	    len <= STDIO_CONSOLE_RING - console->ring_len) {
		return true;
	}
	console->output_refused = true;
	return false;
}

static void output(struct console_channel *channel, const uint8_t *data, size_t len)
{
	struct stdio_console *console = container_of(channel, struct stdio_console, channel);

	SCOPED_LOCK(&console->lock);
	if (console->output_failed) {
		console->dropped += len;
		return;
	}
	if (console->ring_len == 0) {
		ssize_t n = try_write(console, data, len);

		if (n < 0 && n != -EAGAIN) {
			console->output_failed = true;
			console->dropped += len;
			return;
		}
		if (n > 0) {
			data += n;
			len -= (size_t)n;
		}
	}
	if (len > 0) {
		put_ring(console, data, len);
		if (!console->draining && !console->drain_posted) {
			console->drain_posted = true;
			loop_post(console->loop, &console->drain_post);
		}
	}
}

static void show_help(struct escape *escape)
{
	char text[ESCAPE_HELP_SIZE];

	(void)!write(STDERR_FILENO, text, escape_help(escape, text));
}

static void explain_detach(struct escape *escape)
{
	static const char text[] =
		"\r\nThis VM belongs to this terminal and cannot be left. Start it by 'vmm run "
		"--detach' to come and go\r\nby 'vmm console NAME'.\r\n";

	(void)escape;
	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
}

static void escape_commanded(struct escape *escape, enum escape_command command)
{
	struct stdio_console *console = container_of(escape, struct stdio_console, escape);

	console->command(console, command);
}

static bool deliver_pending(struct stdio_console *console);

/* The prefix was typed and nothing after it: the guest gets it, as far as it takes any. */
static void escape_expired(struct loop_timer *timer)
{
	struct stdio_console *console = container_of(timer, struct stdio_console, escape_timer);
	uint8_t key;

	if (escape_expire(&console->escape, &key) && deliver_pending(console)) {
		console->pending[0] = key;
		console->pending_start = 0;
		console->pending_len = 1;
		(void)deliver_pending(console);
	}
}

/* Takes escape sequences out of what was read; returns what is left for the guest. */
static size_t filter_escapes(struct stdio_console *console, uint8_t *data, size_t len)
{
	size_t kept = escape_filter(&console->escape, data, len);

	if (console->escape.waiting) {
		loop_timer_set(console->loop, &console->escape_timer, ESCAPE_TIMEOUT_MS * NS_PER_MS,
			       escape_expired);
	} else {
		loop_timer_cancel(&console->escape_timer);
	}
	return kept;
}

/* False once the guest takes no more for now. */
static bool deliver_pending(struct stdio_console *console)
{
	size_t taken;

	if (console->pending_len == 0) {
		return true;
	}
	taken = console->deliver(console, console->pending + console->pending_start,
				 console->pending_len);
	console->pending_start += taken;
	console->pending_len -= taken;
	return console->pending_len == 0;
}

static void end_input(struct stdio_console *console)
{
	console->input_ended = true;
	loop_source_remove(&console->input);
}

static void read_input(struct stdio_console *console)
{
	while (!console->input_ended && deliver_pending(console)) {
		ssize_t n = read(STDIN_FILENO, console->pending, sizeof(console->pending));

		if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
			return;
		}
		if (n <= 0) {
			end_input(console);
			return;
		}
		console->pending_start = 0;
		console->pending_len = (size_t)n;
		if (console->escapes) {
			console->pending_len = filter_escapes(console, console->pending, (size_t)n);
		}
		if (console->input_pollable) {
			/* One read per readiness: a second one might block. */
			(void)deliver_pending(console);
			break;
		}
	}
	if (console->input_pollable && !console->input_ended) {
		/* Escape commands must work even if the guest never reads: a terminal is always
		 * listened to. */
		bool full = console->pending_len > 0 && !console->escapes;

		(void)loop_source_modify(&console->input, full ? 0 : EPOLLIN);
	}
}

static void read_terminal_while_full(struct stdio_console *console)
{
	uint8_t byte;
	ssize_t n = read(STDIN_FILENO, &byte, 1);

	/* The guest does not read: look for escape commands only, what is typed besides is lost, as
	 * on a real line. */
	if (n == 1) {
		(void)filter_escapes(console, &byte, 1);
	} else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
		end_input(console);
	}
}

static void input_readable(struct loop_source *source, uint32_t events)
{
	struct stdio_console *console = container_of(source, struct stdio_console, input);

	(void)events;
	if (console->escapes && !deliver_pending(console)) {
		read_terminal_while_full(console);
		return;
	}
	read_input(console);
}

static void resume_input(void *arg)
{
	struct stdio_console *console = arg;

	atomic_store(&console->resume_posted, false);
	if (!console->input_pollable) {
		read_input(console);
	} else if (deliver_pending(console) && !console->input_ended) {
		(void)loop_source_modify(&console->input, EPOLLIN);
	}
}

/* Any thread. */
static void input_ready(struct console_channel *channel)
{
	struct stdio_console *console = container_of(channel, struct stdio_console, channel);

	if (!atomic_exchange(&console->resume_posted, true)) {
		loop_post(console->loop, &console->resume_post);
	}
}

static void open_output(struct stdio_console *console)
{
	struct stat st;

	console->output_fd = STDOUT_FILENO;
	if (fstat(STDOUT_FILENO, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode))) {
		int fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

		if (fd >= 0) {
			console->output_fd = fd;
			console->output_own = true;
		}
	}
}

int stdio_console_init(struct stdio_console *console, struct loop *loop, bool escapes,
		       struct error *e)
{
	void *ring = mmap(NULL, STDIO_CONSOLE_RING, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (ring == MAP_FAILED) {
		return error_set_sys(e, ERROR_NO_MEMORY, errno, "console: output ring");
	}
	console->channel = (struct console_channel){ .output = output,
						     .may_output = may_output,
						     .input_ready = input_ready };
	console->loop = loop;
	console->escapes = escapes;
	console->escape = (struct escape){ .key = escapes ? ESCAPE_KEY_DEFAULT : ESCAPE_KEY_NONE,
					   .command = escape_commanded,
					   .detach = explain_detach,
					   .help = show_help };
	console->ring = ring;
	console->resume_post = (struct loop_post){ .run = resume_input, .arg = console };
	console->drain_post = (struct loop_post){ .run = begin_drain, .arg = console };
	(void)pthread_mutex_init(&console->lock, NULL);
	open_output(console);
	return 0;
}

int stdio_console_start(struct stdio_console *console, struct error *e)
{
	struct error ignored = { 0 };
	int r = loop_source_add(console->loop, &console->input, STDIN_FILENO, EPOLLIN,
				input_readable, &ignored);

	console->input_pollable = r == 0;
	if (r < 0 && r != -EPERM) {
		*e = ignored;
		return r;
	}
	if (r == -EPERM) {
		/* A file or /dev/null: always readable. */
		input_ready(&console->channel);
	}
	return 0;
}

void stdio_console_finish(struct stdio_console *console)
{
	if (console->ring == NULL) {
		return;
	}
	loop_timer_cancel(&console->escape_timer);
	loop_source_remove(&console->input);
	loop_source_remove(&console->drain);
	for (int tries = 0; tries < 10 && !drain_ring(console); tries++) {
		struct pollfd p = { .fd = console->output_fd, .events = POLLOUT };

		(void)poll(&p, 1, 100);
	}
	if (console->dropped > 0) {
		log_warn("%llu bytes of guest output were dropped, nobody read them",
			 (unsigned long long)console->dropped);
	}
	if (console->output_own) {
		close_fd(&console->output_fd);
	}
	(void)munmap(take_ptr(console->ring), STDIO_CONSOLE_RING);
	(void)pthread_mutex_destroy(&console->lock);
}
