/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines: built on the stack, made harmless, handed to the kernel in one call that cannot block.
 *
 * Not blocking without changing a descriptor that other processes share: a pipe or terminal is
 * opened a second time through /proc/self/fd, so that O_NONBLOCK is set on a file description of
 * our own; a socket gets MSG_DONTWAIT; a regular file never waits for a reader. Where the second
 * open is refused (a terminal of another user), poll(2) asks before each write(2), which is right
 * as long as the reader takes a line at a time.
 *
 * A terminal can take half a line: the next one then starts with the missing newline. A pipe takes
 * a line whole or not at all, since lines are shorter than PIPE_BUF.
 *
 * Any thread, no locks of ours: the setting is read with relaxed atomics, and lines are kept apart by the
 * kernel. Callers may hold guest bytes in their arguments: control characters (also the C1 ones)
 * and broken UTF-8 are replaced, so that a guest cannot speak to the terminal.
 */
#include "vmm/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vmm/calendar.h"
#include "vmm/cleanup.h"
#include "vmm/error.h"
#include "vmm/text.h"

#define LINE_MAX_BYTES 1024
#define STAMP_MAX      256 /* time, id, thread, level, place */
#define RATE_BURST     10  /* lines of one call site before it has to wait */

enum sink {
	SINK_POLL,  /* poll, then write */
	SINK_WRITE, /* write does not block */
	SINK_SOCKET,
};

static struct {
	_Atomic int level;
	_Atomic int fd; /* where lines go: `own_fd` or the caller's */
	_Atomic int sink;
	_Atomic uint32_t lost; /* lines since the last one that got through */
	_Atomic bool cut;      /* the last line went out without its end */
	int own_fd;
	_Atomic uint64_t all_lost, limited;
	/* Main's, before others log. */
	bool stamped, zoned, show_level, show_origin;
	char id[72], module[64];
} setting = { .level = LOG_WARN, .fd = STDERR_FILENO, .sink = SINK_POLL, .own_fd = -1 };

static const char *const level_names[] = {
	[LOG_ERROR] = "error: ", [LOG_WARN] = "warning: ", [LOG_INFO] = "",
	[LOG_DEBUG] = "debug: ", [LOG_TRACE] = "trace: ",
};

/* A file description of our own for the same pipe or terminal; -1 if the kernel refuses. */
static int reopen_nonblocking(int fd)
{
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

void log_init(enum log_level level, int fd)
{
	enum sink sink = SINK_POLL;
	int own_fd = -1;
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0) {
		if (S_ISSOCK(st.st_mode)) {
			sink = SINK_SOCKET;
		} else if (S_ISREG(st.st_mode)) {
			sink = SINK_WRITE;
		} else if (S_ISFIFO(st.st_mode) || (S_ISCHR(st.st_mode) && isatty(fd))) {
			own_fd = reopen_nonblocking(fd);
			sink = own_fd >= 0 ? SINK_WRITE : SINK_POLL;
		}
	}
	close_fd(&setting.own_fd);
	setting.own_fd = own_fd;
	atomic_store_explicit(&setting.level, (int)level, memory_order_relaxed);
	atomic_store_explicit(&setting.fd, own_fd >= 0 ? own_fd : fd, memory_order_relaxed);
	atomic_store_explicit(&setting.sink, (int)sink, memory_order_relaxed);
	atomic_store_explicit(&setting.lost, 0, memory_order_relaxed);
	atomic_store_explicit(&setting.cut, false, memory_order_relaxed);
}

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&setting.level, (int)level, memory_order_relaxed);
}

void log_set_style(const struct log_style *style)
{
	setting.stamped = style->stamped;
	setting.zoned = style->zoned;
	setting.show_level = style->show_level;
	setting.show_origin = style->show_origin;
	(void)snprintf(setting.id, sizeof(setting.id), "%s", style->id != NULL ? style->id : "vm");
	(void)snprintf(setting.module, sizeof(setting.module), "%s",
		       style->module != NULL ? style->module : "");
}

static _Thread_local const char *thread_name;

void log_name_thread(const char *name)
{
	thread_name = name;
}

struct log_counts log_counts(void)
{
	return (struct log_counts){
		.lost = atomic_load_explicit(&setting.all_lost, memory_order_relaxed),
		.limited = atomic_load_explicit(&setting.limited, memory_order_relaxed),
	};
}

void log_leave(int fd)
{
	atomic_store_explicit(&setting.fd, fd, memory_order_relaxed);
	atomic_store_explicit(&setting.sink, SINK_POLL, memory_order_relaxed);
	close_fd(&setting.own_fd);
}

bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&setting.level, memory_order_relaxed);
}

/* Bytes of the UTF-8 sequence at `s` that may be shown as it is; 0 for a control character or a
 * malformed sequence. */
static size_t printable_length(const char *text)
{
	uint32_t c = 0;
	size_t len = utf8_length(text, &c);

	/* C1 controls, and the marks that reorder text. */
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x202a && c <= 0x202e) ||
			       (c >= 0x2066 && c <= 0x2069)
		       ? 0
		       : len;
}

/* Copies `text` without its trailing newlines; what a terminal could act on becomes '?'. Returns
 * the new end. */
static char *copy_harmless(char *out, const char *end, const char *text)
{
	size_t len = strlen(text);

	while (len > 0 && text[len - 1] == '\n') {
		len--;
	}
	for (size_t i = 0; i < len && out < end;) {
		size_t n = printable_length(text + i);

		if (n == 0) {
			*out++ = '?';
			i++;
		} else if (n <= (size_t)(end - out)) {
			memcpy(out, text + i, n);
			out += n;
			i += n;
		} else {
			break;
		}
	}
	return out;
}

/* A line may be logged on any thread, so every filter has these. */
static const struct syscall_rule log_rules[] = {
	SYSCALL("write"),
	SYSCALL("poll"),
	SYSCALL_IF("sendto", 4, 0), /* to whom the socket is connected */
	SYSCALL("clock_gettime"),
};
const struct syscall_list log_syscalls = SYSCALL_LIST(log_rules);

static ssize_t send_once(int fd, const char *text, size_t len)
{
	int sink = atomic_load_explicit(&setting.sink, memory_order_relaxed);
	ssize_t n;

	if (sink == SINK_POLL) {
		struct pollfd p = { .fd = fd, .events = POLLOUT };

		if (poll(&p, 1, 0) != 1 || (p.revents & POLLOUT) == 0) {
			errno = EAGAIN;
			return -1;
		}
	}
	do {
		n = sink == SINK_SOCKET ? send(fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL)
					: write(fd, text, len);
	} while (n < 0 && errno == EINTR);
	return n;
}

/* `text` is whole lines with their newlines. */
static void emit(const char *text, size_t len)
{
	int fd = atomic_load_explicit(&setting.fd, memory_order_relaxed);
	uint32_t lost = atomic_exchange_explicit(&setting.lost, 0, memory_order_relaxed);
	bool cut = atomic_exchange_explicit(&setting.cut, false, memory_order_relaxed);
	char all[LINE_MAX_BYTES + STAMP_MAX + 128];
	size_t head = 0;
	ssize_t n;

	if (fd < 0) {
		return;
	}
	if (cut) {
		all[head++] = '\n';
	}
	if (lost != 0) {
		head += (size_t)snprintf(all + head, sizeof(all) - head,
					 "vmm: warning: %u messages were lost, nobody read them\n",
					 lost);
	}
	memcpy(all + head, text, len);
	n = send_once(fd, all, head + len);
	if (n <= 0) {
		(void)atomic_fetch_add_explicit(&setting.lost, lost + 1, memory_order_relaxed);
		(void)atomic_fetch_add_explicit(&setting.all_lost, 1, memory_order_relaxed);
	}
	if ((n <= 0 && cut) || (n > 0 && (size_t)n < head + len)) {
		atomic_store_explicit(&setting.cut, true, memory_order_relaxed);
	}
}

/* Firecracker's names for where our lines come from; of the others it is "vmm::DOMAIN". */
static const struct origin {
	const char *domain, *module, *thread;
} origins[] = {
	{ "api", "firecracker::api_server", "fc_api" },
	{ "run", "firecracker", NULL },
	{ "serve", "firecracker", NULL },
};

static const struct origin *find_origin(const struct log_source *source)
{
	for (size_t i = 0; source != NULL && i < ARRAY_SIZE(origins); i++) {
		if (strcmp(origins[i].domain, source->domain) == 0) {
			return &origins[i];
		}
	}
	return NULL;
}

static bool begins_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

/* Is the line's source one that the setting wants? */
static bool wanted(const struct log_source *source)
{
	const struct origin *origin = find_origin(source);
	char module[32];

	if (setting.module[0] == '\0') {
		return true;
	}
	if (source == NULL) {
		return false;
	}
	(void)snprintf(module, sizeof(module), "vmm::%s", source->domain);
	return begins_with(source->domain, setting.module) ||
	       begins_with(origin != NULL ? origin->module : module, setting.module);
}

static void put_time(char *buf, size_t size)
{
	struct timespec now = { 0 };
	struct calendar c;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	c = calendar_from_time(now.tv_sec);
	(void)snprintf(buf, size, "%" PRId64 "-%02d-%02dT%02d:%02d:%02d.%09ld%s", c.year, c.month,
		       c.day, c.hour, c.minute, c.second, now.tv_nsec, setting.zoned ? "Z" : "");
}

/* "TIME [ID:THREAD:LEVEL:FILE:LINE] " */
static void put_stamp(char *buf, size_t size, enum log_level level, int line,
		      const struct log_source *source)
{
	static const char *const names[] = {
		[LOG_ERROR] = ":ERROR", [LOG_WARN] = ":WARN",	[LOG_INFO] = ":INFO",
		[LOG_DEBUG] = ":DEBUG", [LOG_TRACE] = ":TRACE",
	};
	const struct origin *origin = find_origin(source);
	const char *thread = origin != NULL && origin->thread != NULL ? origin->thread
			     : thread_name != NULL		      ? thread_name
								      : "main";
	char place[80] = "";
	char now[48];

	put_time(now, sizeof(now));
	if (setting.show_origin && source != NULL) {
		const char *file = source->file;

		/* As deep as the build directory lies in the tree. */
		while (begins_with(file, "../")) {
			file += strlen("../");
		}
		(void)snprintf(place, sizeof(place), ":%s:%d", file, line);
	}
	(void)snprintf(buf, size, "%s [%s:%s%s%s] ", now, setting.id, thread,
		       setting.show_level ? names[level] : "", place);
}

void log_line(enum log_level level, int line_number, const struct log_source *source,
	      const char *fmt, ...)
{
	int saved_errno = errno;
	char text[LINE_MAX_BYTES - 128];
	char line[LINE_MAX_BYTES + STAMP_MAX];
	const char *end = line + sizeof(line) - sizeof("...\n");
	char *out = line;
	va_list args;
	int n;

	if ((unsigned int)level >= ARRAY_SIZE(level_names)) {
		level = LOG_ERROR;
	}
	if (!wanted(source)) {
		return;
	}
	va_start(args, fmt);
	n = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (n < 0) {
		(void)snprintf(text, sizeof(text), "%s", fmt);
	}
	if (setting.stamped) {
		char stamp[STAMP_MAX];

		put_stamp(stamp, sizeof(stamp), level, line_number, source);
		out = copy_harmless(out, end, stamp);
	} else {
		out = copy_harmless(out, end, "vmm: ");
		out = copy_harmless(out, end, level_names[level]);
		if (source != NULL) {
			out = copy_harmless(out, end, source->domain);
			out = copy_harmless(out, end, ": ");
		}
	}
	out = copy_harmless(out, end, text);
	if (n >= (int)sizeof(text)) {
		out = copy_harmless(out, out + 3, "...");
	}
	*out++ = '\n';
	emit(line, (size_t)(out - line));
	errno = saved_errno;
}

void log_error_object(const struct error *e)
{
	int saved_errno = errno;
	char lines[LINE_MAX_BYTES];
	const char *end = lines + sizeof(lines) - 1;
	char *out = lines;

	if (e == NULL) {
		return;
	}
	if (setting.stamped) {
		log_line(LOG_ERROR, 0, NULL, "%s", e->msg);
		if (e->hint[0] != '\0') {
			log_line(LOG_ERROR, 0, NULL, "hint: %s", e->hint);
		}
		return;
	}
	out = copy_harmless(out, end, "vmm: ");
	out = copy_harmless(out, end, e->msg[0] != '\0' ? e->msg : "unknown error");
	*out++ = '\n';
	if (e->hint[0] != '\0') {
		out = copy_harmless(out, end, "hint: ");
		out = copy_harmless(out, end, e->hint);
		*out++ = '\n';
	}
	emit(lines, (size_t)(out - lines));
	errno = saved_errno;
}

/* Gives back one token per second since the last look; of several threads, one does it. */
static void rate_refill(struct log_rate *rate)
{
	struct timespec now = { 0 };
	int64_t start = atomic_load_explicit(&rate->window_start, memory_order_relaxed);
	uint32_t used = atomic_load_explicit(&rate->tokens_used, memory_order_relaxed);

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (now.tv_sec <= start ||
	    !atomic_compare_exchange_strong_explicit(&rate->window_start, &start, now.tv_sec,
						     memory_order_relaxed, memory_order_relaxed)) {
		return;
	}
	for (;;) {
		uint32_t back = (uint32_t)MIN((uint64_t)(now.tv_sec - start), (uint64_t)used);

		if (atomic_compare_exchange_weak_explicit(&rate->tokens_used, &used, used - back,
							  memory_order_relaxed,
							  memory_order_relaxed)) {
			return;
		}
	}
}

bool log_rate_allow(struct log_rate *rate, uint32_t *suppressed)
{
	uint32_t used;

	rate_refill(rate);
	used = atomic_load_explicit(&rate->tokens_used, memory_order_relaxed);
	while (used < RATE_BURST) {
		if (atomic_compare_exchange_weak_explicit(&rate->tokens_used, &used, used + 1,
							  memory_order_relaxed,
							  memory_order_relaxed)) {
			*suppressed = atomic_exchange_explicit(&rate->suppressed, 0,
							       memory_order_relaxed);
			return true;
		}
	}
	(void)atomic_fetch_add_explicit(&rate->suppressed, 1, memory_order_relaxed);
	(void)atomic_fetch_add_explicit(&setting.limited, 1, memory_order_relaxed);
	return false;
}
