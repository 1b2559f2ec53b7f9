/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbered events: a ring of lines, found by their number, and a list of subscribers.
 *
 * An event becomes text when somebody wants to see it: nobody does at most starts, and the first text
 * costs 40 microseconds there. What all subscribers get is the same text. A subscriber may leave
 * the list, or let others leave it, while it is told: `told` is where a walk over the list goes on,
 * and leaving moves it. Nobody may add an event from within such a call.
 *
 * Main thread. Nothing of a guest comes in here but the fact that it reset its machine, which is
 * rationed.
 */
#include "vmm/event_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vmm/calendar.h"
#include "vmm/loop.h"

void event_log_init(struct event_log *log)
{
	*log = (struct event_log){ 0 };
}

static void forget(struct event *event)
{
	json_decref(event->detail);
	free(event->line);
	*event = (struct event){ 0 };
}

void event_log_finish(struct event_log *log)
{
	while (log->subscribers != NULL) {
		event_log_unsubscribe(log->subscribers);
	}
	for (size_t i = 0; i < EVENT_LOG_KEPT; i++) {
		forget(&log->events[i]);
	}
}

void event_time_text(char buf[EVENT_TIME_SIZE], uint64_t ms)
{
	struct calendar c = calendar_from_time((int64_t)(ms / 1000));

	/* Years beyond 9999 are cut rather than overflow. */
	(void)snprintf(buf, EVENT_TIME_SIZE, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ",
		       (unsigned int)(c.year % 10000), (unsigned int)c.month % 100,
		       (unsigned int)c.day % 100, (unsigned int)c.hour % 100,
		       (unsigned int)c.minute % 100, (unsigned int)c.second % 100,
		       (unsigned int)(ms % 1000));
}

uint64_t event_time_ms(void)
{
	struct timespec now = { 0 };

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* With its newline; NULL if memory is short. */
static char *make_line(uint64_t seq, const struct event *event)
{
	auto_json json_t *object = NULL;
	char time[EVENT_TIME_SIZE];
	char *text, *line;
	size_t len;

	event_time_text(time, event->ms);
	object = json_pack("{s:I, s:s, s:s}", "seq", (json_int_t)seq, "time", time, "event",
			   event->name);
	if (object == NULL ||
	    (event->detail != NULL && json_object_update(object, event->detail) < 0)) {
		return NULL;
	}
	text = json_dumps(object, JSON_COMPACT);
	if (text == NULL) {
		return NULL;
	}
	len = strlen(text);
	line = realloc(text, len + 2);
	if (line == NULL) {
		free(text);
		return NULL;
	}
	memcpy(line + len, "\n", 2);
	return line;
}

static uint64_t first_kept(const struct event_log *log)
{
	return log->last < EVENT_LOG_KEPT ? 1 : log->last - EVENT_LOG_KEPT + 1;
}

const char *event_log_line(struct event_log *log, uint64_t seq)
{
	struct event *event = &log->events[seq % EVENT_LOG_KEPT];

	if (seq < first_kept(log) || seq > log->last || event->name == NULL) {
		return NULL;
	}
	if (event->line == NULL) {
		event->line = make_line(seq, event);
		json_decref(event->detail);
		event->detail = NULL;
		if (event->line == NULL) {
			event->name = NULL;
		}
	}
	return event->line;
}

static void tell_all(struct event_log *log, const char *line)
{
	size_t len = strlen(line);
	struct event_subscriber *subscriber = log->subscribers;

	while (subscriber != NULL) {
		log->told = subscriber->next;
		subscriber->event(subscriber, line, len);
		subscriber = log->told;
	}
}

void event_log_add(struct event_log *log, const char *name, json_t *detail)
{
	uint64_t seq = ++log->last;
	struct event *event = &log->events[seq % EVENT_LOG_KEPT];

	forget(event);
	*event = (struct event){ .ms = event_time_ms(), .name = name, .detail = detail };
	if (log->subscribers != NULL && event_log_line(log, seq) != NULL) {
		tell_all(log, event->line);
	}
}

void event_log_add_reset(struct event_log *log)
{
	uint64_t now = loop_now_ns();

	log->resets_held++;
	if (log->last_reset_ns != 0 && now - log->last_reset_ns < EVENT_LOG_RESET_MS * 1000000ULL) {
		return;
	}
	log->last_reset_ns = now;
	event_log_add(log, "reset", json_pack("{s:I}", "resets", (json_int_t)log->resets_held));
	log->resets_held = 0;
}

void event_log_subscribe(struct event_log *log, struct event_subscriber *subscriber, uint64_t after)
{
	uint64_t seq = first_kept(log);

	subscriber->log = log;
	subscriber->next = log->subscribers;
	subscriber->link = &log->subscribers;
	if (subscriber->next != NULL) {
		subscriber->next->link = &subscriber->next;
	}
	log->subscribers = subscriber;
	if (after >= seq) {
		seq = after < log->last ? after + 1 : log->last + 1;
	}
	/* The subscriber may be gone, memory and all, after each line. */
	log->replayed = subscriber;
	for (; seq <= log->last && log->replayed != NULL; seq++) {
		const char *line = event_log_line(log, seq);

		if (line != NULL) {
			subscriber->event(subscriber, line, strlen(line));
		}
	}
	log->replayed = NULL;
}

void event_log_unsubscribe(struct event_subscriber *subscriber)
{
	if (subscriber->log == NULL) {
		return;
	}
	if (subscriber->log->told == subscriber) {
		subscriber->log->told = subscriber->next;
	}
	if (subscriber->log->replayed == subscriber) {
		subscriber->log->replayed = NULL;
	}
	*subscriber->link = subscriber->next;
	if (subscriber->next != NULL) {
		subscriber->next->link = subscriber->link;
	}
	subscriber->log = NULL;
	subscriber->next = NULL;
	subscriber->link = NULL;
}
