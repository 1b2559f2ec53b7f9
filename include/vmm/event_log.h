/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happened to a VM, as numbered JSON objects: {"seq": 7, "time": "2026-01-31T12:00:00.123Z",
 * "event": "paused", ...}. The last EVENT_LOG_KEPT are kept for who comes later; subscribers get
 * each one as it happens. Sequence numbers start at 1 and have no gaps, so a reader knows what it
 * missed.
 *
 * Main thread only. Nothing that a guest can cause often is an event: resets are limited to one in
 * EVENT_LOG_RESET_MS, later ones are counted in the next: its "resets" says how many there were.
 */
#ifndef VMM_EVENT_LOG_H
#define VMM_EVENT_LOG_H

#include "vmm/json.h"
#include "vmm/types.h"

#define EVENT_LOG_KEPT	   128
#define EVENT_LOG_RESET_MS 100

struct event_log;

struct event_subscriber {
	/* One line with its newline. May unsubscribe itself and others, and free itself then; may not
	 * add events or subscribers. */
	void (*event)(struct event_subscriber *subscriber, const char *line, size_t len);
	struct event_log *log; /* the log's from here; NULL: not subscribed */
	struct event_subscriber *next, **link;
};

struct event {
	uint64_t ms;	  /* since 1970 */
	const char *name; /* a literal; NULL: none, or lost */
	json_t *detail;
	char *line; /* once somebody has wanted to see it; then there is no `detail` any more */
};

struct event_log {
	uint64_t last;			     /* sequence number of the newest; 0: none */
	struct event events[EVENT_LOG_KEPT]; /* number n at place n % EVENT_LOG_KEPT */
	struct event_subscriber *subscribers;
	struct event_subscriber *told;	   /* the next one to hear of an event */
	struct event_subscriber *replayed; /* the one that is told of earlier events */
	uint64_t last_reset_ns;
	uint32_t resets_held;
};

void event_log_init(struct event_log *log);
/* Lets go of its subscribers. */
void event_log_finish(struct event_log *log);
/* Steals `detail` (an object whose members join the event), which may be NULL. `name` is a literal:
 * "configured", "starting", "started", "start-failed", "paused", "resumed", "power-button",
 * "ctrl-alt-del", "stopped", "drive-updated", "net-updated", "job". If memory is short the number
 * is used up and the event is lost. */
void event_log_add(struct event_log *log, const char *name, json_t *detail);
/* "reset", unless it is too soon after the last one. */
void event_log_add_reset(struct event_log *log);
/* The event of that number with its newline; NULL: not kept, or lost. Lives until the next one. */
const char *event_log_line(struct event_log *log, uint64_t seq);
/* First the kept events with numbers above `after`, at once, then what comes. The subscriber may have
 * unsubscribed itself when this returns. */
void event_log_subscribe(struct event_log *log, struct event_subscriber *subscriber,
			 uint64_t after);
/* Accepts one that is not subscribed (zeroed). */
void event_log_unsubscribe(struct event_subscriber *subscriber);

/* Milliseconds since 1970, and as events show them: UTC. */
#define EVENT_TIME_SIZE sizeof("2026-01-31T12:00:00.123Z")
uint64_t event_time_ms(void);
void event_time_text(char buf[EVENT_TIME_SIZE], uint64_t ms);

#endif
