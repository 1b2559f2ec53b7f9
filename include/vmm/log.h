/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages for people, on standard error (or the descriptor given to log_init). One write(2) per
 * line, so that lines of several threads do not mix; a reader that is stuck never blocks us (the
 * line is dropped and counted).
 *
 * Only boundaries log (CLI, API, main loop, device start/stop); library code returns `struct
 * error`. Lines that a guest can cause go through log_guest(): a token bucket per call site (10
 * lines, then one per second with "(n suppressed)"). No guest data at info level or above.
 */
#ifndef VMM_LOG_H
#define VMM_LOG_H

#include <stdatomic.h>
#include <time.h>

#include "vmm/syscalls.h"
#include "vmm/types.h"

struct error;

enum log_level { LOG_OFF = -1, LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };

/* Each file that logs says once: LOG_DOMAIN("virtio-blk"); */
struct log_source {
	char domain[16], file[48]; /* no pointers: nothing to relocate */
};
#define LOG_DOMAIN(name) \
	static const struct log_source log_source_ __attribute__((unused)) = { name, __FILE__ }

/*
 * The process's one mutable log setting: level and descriptor, set before threads start and before
 * /proc is out of reach. `fd` is borrowed and its flags stay as they are; -1 silences. Before the
 * first call: warnings and errors on descriptor 2. The process must ignore SIGPIPE. Control
 * characters in a line are replaced; errno is preserved.
 */
void log_init(enum log_level level, int fd);
/* The level alone. LOG_OFF silences, but for log_error_object(). */
void log_set_level(enum log_level level);
/* The owner of the descriptor given to log_init() closes it now: lines go to `fd`, 1 or 2. */
void log_leave(int fd);
/*
 * How lines look. Without a stamp "vmm: warning: DOMAIN: TEXT"; with one, as Firecracker's,
 *	2026-11-28T19:25:13.202390493 [ID:THREAD:LEVEL:FILE:LINE] TEXT
 * where level and origin are there on demand, and the time is UTC: Firecracker's is local, which in a
 * jail, where no zone can be read, is the same. It has no mark of a zone, which `zoned` adds: "Z".
 * `module` leaves only lines whose
 * source begins with it: "vmm::DOMAIN", "firecracker::api_server" of the API's, "firecracker" of the
 * program's own; or the domain alone. Strings are copied and cut. As log_init() otherwise.
 */
struct log_style {
	bool stamped, zoned, show_level, show_origin;
	const char *id, *module; /* NULL: "vm"; all */
};
void log_set_style(const struct log_style *style);
/* Of the calling thread, in stamped lines; borrowed for its life. "main" otherwise. */
void log_name_thread(const char *name);
struct log_counts {
	uint64_t lost;	  /* lines that nobody took */
	uint64_t limited; /* lines that log_guest() left out */
};
struct log_counts log_counts(void);
bool log_enabled(enum log_level level);
/* `source` may be NULL. */
void log_line(enum log_level level, int line, const struct log_source *source, const char *fmt, ...)
	__printf_like(4, 5);
/* "vmm: MSG" and, on its own line, "hint: HINT"; stamped, two lines of level error. */
void log_error_object(const struct error *e);

/* What a log line calls, on any thread: in the filter of every role. */
extern const struct syscall_list log_syscalls;

struct log_rate {
	_Atomic uint32_t tokens_used;
	_Atomic uint32_t suppressed;
	_Atomic int64_t window_start; /* CLOCK_MONOTONIC_COARSE seconds */
};
/* True if the caller may log now; *suppressed gets how many lines were dropped since the last one.
 */
bool log_rate_allow(struct log_rate *rate, uint32_t *suppressed);

#define log_at(level, ...)                                                      \
	do {                                                                    \
		if (log_enabled(level)) {                                       \
			log_line((level), __LINE__, &log_source_, __VA_ARGS__); \
		}                                                               \
	} while (0)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)
#define log_trace(...) log_at(LOG_TRACE, __VA_ARGS__)

#define log_guest(level, fmt, ...)                                                                \
	do {                                                                                      \
		static struct log_rate log_rate_;                                                 \
		uint32_t log_suppressed_ = 0;                                                     \
		if (log_enabled(level) && log_rate_allow(&log_rate_, &log_suppressed_)) {         \
			if (log_suppressed_ != 0) {                                               \
				log_line((level), __LINE__, &log_source_, fmt " (%u suppressed)", \
					 ##__VA_ARGS__, log_suppressed_);                         \
			} else {                                                                  \
				log_line((level), __LINE__, &log_source_, fmt, ##__VA_ARGS__);    \
			}                                                                         \
		}                                                                                 \
	} while (0)

#endif
