/* SPDX-License-Identifier: Apache-2.0 */
/* Numbered events: numbers without gaps, what is kept, who hears of them, the ration of resets. */
#include <time.h>

#include "harness/check_main.h"
#include "vmm/event_log.h"

static struct event_log event_log;

struct listener {
	struct event_subscriber subscriber;
	unsigned heard;
	uint64_t first, last;
	char line[512];
	unsigned leave_after;	       /* 0: stays */
	struct event_subscriber *drop; /* lets this one go, too */
};

static void hear(struct event_subscriber *subscriber, const char *line, size_t len)
{
	struct listener *listener = container_of(subscriber, struct listener, subscriber);
	json_t *event;

	ck_assert_uint_eq(len, strlen(line));
	ck_assert_int_eq(line[len - 1], '\n');
	ck_assert_ptr_eq(strchr(line, '\n'), line + len - 1);
	ck_assert_uint_lt(len, sizeof(listener->line));
	memcpy(listener->line, line, len + 1);
	event = json_loads(line, 0, NULL);
	ck_assert_ptr_nonnull(event);
	listener->last = (uint64_t)json_integer_value(json_object_get(event, "seq"));
	ck_assert_uint_ne(listener->last, 0);
	if (listener->heard++ == 0) {
		listener->first = listener->last;
	}
	json_decref(event);
	if (listener->drop != NULL) {
		event_log_unsubscribe(listener->drop);
	}
	if (listener->heard == listener->leave_after) {
		event_log_unsubscribe(&listener->subscriber);
		/* As somebody would who frees it. */
		memset(&listener->subscriber, 0xee, sizeof(listener->subscriber));
	}
}

static struct listener listener(void)
{
	return (struct listener){ .subscriber.event = hear };
}

static void setup(void)
{
	event_log_init(&event_log);
}

static void teardown(void)
{
	event_log_finish(&event_log);
}

static void add(unsigned count)
{
	while (count-- > 0) {
		event_log_add(&event_log, "paused", NULL);
	}
}

START_TEST(test_form)
{
	struct listener one = listener();
	json_t *event, *time;
	unsigned parts[7];
	char tail;

	event_log_subscribe(&event_log, &one.subscriber, 0);
	event_log_add(&event_log, "stopped",
		      json_pack("{s:s, s:i}", "reason", "panic \"1\"\n", "code", 5));
	event = json_loads(one.line, 0, NULL);
	ck_assert_str_eq(json_string_value(json_object_get(event, "event")), "stopped");
	ck_assert_str_eq(json_string_value(json_object_get(event, "reason")), "panic \"1\"\n");
	ck_assert_int_eq(json_integer_value(json_object_get(event, "seq")), 1);
	ck_assert_uint_eq(json_object_size(event), 5);
	time = json_object_get(event, "time");
	ck_assert_uint_eq(json_string_length(time), strlen("2026-01-31T12:00:00.123Z"));
	ck_assert_int_eq(sscanf(json_string_value(time), "%4u-%2u-%2uT%2u:%2u:%2u.%3u%c", &parts[0],
				&parts[1], &parts[2], &parts[3], &parts[4], &parts[5], &parts[6],
				&tail),
			 8);
	ck_assert_int_eq(tail, 'Z');
	ck_assert_uint_ge(parts[0], 2024);
	json_decref(event);
	event_log_unsubscribe(&one.subscriber);
}
END_TEST

static const struct {
	uint64_t ms;
	const char *text;
} times[] = {
	{ 0, "1970-01-01T00:00:00.000Z" },
	{ 951782399999, "2000-02-28T23:59:59.999Z" },
	{ 951782400000, "2000-02-29T00:00:00.000Z" },
	{ 951868800001, "2000-03-01T00:00:00.001Z" },
	{ 1709164800000, "2024-02-29T00:00:00.000Z" },
	{ 1767225599999, "2025-12-31T23:59:59.999Z" },
	{ 1767225600000, "2026-01-01T00:00:00.000Z" },
	{ 4107542400000, "2100-03-01T00:00:00.000Z" },
	{ 4107542399000, "2100-02-28T23:59:59.000Z" },
};

START_TEST(test_times)
{
	char text[EVENT_TIME_SIZE];

	event_time_text(text, times[_i].ms);
	ck_assert_str_eq(text, times[_i].text);
}
END_TEST

static const struct {
	unsigned before;
	uint64_t after;
	unsigned heard;
	uint64_t first;
} replays[] = {
	{ 0, 0, 0, 0 },
	{ 3, 0, 3, 1 },
	{ 3, 2, 1, 3 },
	{ 3, 3, 0, 0 },
	{ 3, 99, 0, 0 },
	{ 3, UINT64_MAX, 0, 0 },
	{ EVENT_LOG_KEPT, 0, EVENT_LOG_KEPT, 1 },
	{ EVENT_LOG_KEPT + 1, 0, EVENT_LOG_KEPT, 2 },
	{ 3 * EVENT_LOG_KEPT, 5, EVENT_LOG_KEPT, 2 * EVENT_LOG_KEPT + 1 },
	{ 3 * EVENT_LOG_KEPT, 3 * EVENT_LOG_KEPT - 1, 1, 3 * EVENT_LOG_KEPT },
};

START_TEST(test_replay)
{
	struct listener one = listener();

	add(replays[_i].before);
	ck_assert_ptr_null(event_log_line(&event_log, 0));
	ck_assert_ptr_null(event_log_line(&event_log, replays[_i].before + 1));
	ck_assert_int_eq(event_log_line(&event_log, 1) != NULL,
			 replays[_i].before >= 1 && replays[_i].before <= EVENT_LOG_KEPT);
	event_log_subscribe(&event_log, &one.subscriber, replays[_i].after);
	ck_assert_uint_eq(one.heard, replays[_i].heard);
	if (one.heard != 0) {
		ck_assert_uint_eq(one.first, replays[_i].first);
		ck_assert_uint_eq(one.last, replays[_i].before);
	}
	add(1);
	ck_assert_uint_eq(one.heard, replays[_i].heard + 1);
	ck_assert_uint_eq(one.last, replays[_i].before + 1);
	event_log_unsubscribe(&one.subscriber);
	add(1);
	ck_assert_uint_eq(one.heard, replays[_i].heard + 1);
	event_log_unsubscribe(&one.subscriber);
}
END_TEST

/* Leaving at any place of the list, also in the middle of an event and of a replay. */
START_TEST(test_leaving)
{
	struct listener all[4] = { listener(), listener(), listener(), listener() };

	for (unsigned i = 0; i < 4; i++) {
		event_log_subscribe(&event_log, &all[i].subscriber, 0);
	}
	all[(unsigned)_i].leave_after = 1;
	add(2);
	for (unsigned i = 0; i < 4; i++) {
		ck_assert_uint_eq(all[i].heard, i == (unsigned)_i ? 1 : 2);
		if (i != (unsigned)_i) {
			event_log_unsubscribe(&all[i].subscriber);
		}
	}
}
END_TEST

START_TEST(test_drops_another)
{
	struct listener all[3] = { listener(), listener(), listener() };
	unsigned heard;

	for (unsigned i = 0; i < 3; i++) {
		event_log_subscribe(&event_log, &all[i].subscriber, 0);
	}
	all[_i % 3].drop = &all[_i / 3].subscriber;
	add(2);
	heard = all[_i / 3].heard;
	ck_assert_uint_le(heard, 1);
	for (int i = 0; i < 3; i++) {
		ck_assert_uint_eq(all[i].heard, i == _i / 3 ? heard : 2);
		event_log_unsubscribe(&all[i].subscriber);
	}
}
END_TEST

START_TEST(test_leaving_a_replay)
{
	struct listener one = listener();

	add(5);
	one.leave_after = 2;
	event_log_subscribe(&event_log, &one.subscriber, 0);
	ck_assert_uint_eq(one.heard, 2);
	add(1);
	ck_assert_uint_eq(one.heard, 2);
}
END_TEST

/* The log ends before its readers. */
START_TEST(test_finish)
{
	struct listener one = listener();

	event_log_subscribe(&event_log, &one.subscriber, 0);
	event_log_finish(&event_log);
	ck_assert_ptr_null(one.subscriber.log);
	event_log_unsubscribe(&one.subscriber);
	event_log_init(&event_log);
}
END_TEST

START_TEST(test_resets)
{
	struct listener one = listener();
	json_t *event;

	event_log_subscribe(&event_log, &one.subscriber, 0);
	for (int i = 0; i < 1000; i++) {
		event_log_add_reset(&event_log);
	}
	/* However slow this machine is: far fewer than there were. The rest is not lost. */
	ck_assert_uint_ge(one.heard, 1);
	ck_assert_uint_eq(event_log.last, one.heard);
	if (one.heard == 1) {
		ck_assert_uint_eq(event_log.resets_held, 999);
	}
	event_log.last_reset_ns = 1;
	event_log.resets_held = 41;
	event_log_add_reset(&event_log);
	event = json_loads(one.line, 0, NULL);
	ck_assert_str_eq(json_string_value(json_object_get(event, "event")), "reset");
	ck_assert_int_eq(json_integer_value(json_object_get(event, "resets")), 42);
	ck_assert_uint_eq(event_log.resets_held, 0);
	json_decref(event);
	event_log_unsubscribe(&one.subscriber);
}
END_TEST

CHECK_MAIN("event_log", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_form);
	   CHECK_TABLE(test_times, times); CHECK_TABLE(test_replay, replays);
	   CHECK_LOOP(test_leaving, 4); CHECK_LOOP(test_drops_another, 9);
	   CHECK_TEST(test_leaving_a_replay); CHECK_TEST(test_finish); CHECK_TEST(test_resets))
