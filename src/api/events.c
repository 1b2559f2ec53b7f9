/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /events: the event log as a stream of JSON lines. `?after=SEQ` leaves out events up to that
 * number, `&follow=false` ends after those that are kept.
 *
 * A stream is a subscriber of the log and an unfinished answer of the server. The server may drop
 * its client at any time, also while it takes a line, which is while the log walks its subscribers.
 *
 * The query is the client's. A client that does not read costs HTTP_STREAM_WAITING_MAX until it is
 * dropped. Main thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api_internal.h"
#include "vmm/text.h"

#define TYPE  "application/x-ndjson"
#define SHOWN 40 /* bytes of a bad query that a message repeats */

struct event_stream {
	struct event_subscriber subscriber;
	struct api *api;
	struct http_call *call;
	struct event_stream *next, **link; /* in api->streams */
	bool beginning;			   /* api_begin_events() still needs it */
	bool closed;
};

struct events_query {
	uint64_t after;
	bool follow;
};

static bool is_word(const char *text, size_t len, const char *word)
{
	return strlen(word) == len && memcmp(text, word, len) == 0;
}

static int parse_pair(struct events_query *query, const char *pair, size_t len, struct error *e)
{
	const char *equals = memchr(pair, '=', len);
	size_t key_len = equals != NULL ? (size_t)(equals - pair) : len;
	const char *value = equals != NULL ? equals + 1 : pair + len;
	size_t value_len = len - (size_t)(value - pair);
	char shown[SHOWN];

	if (is_word(pair, key_len, "after") &&
	    text_to_number(value, value_len, 10, &query->after) == 0) {
		return 0;
	}
	if (is_word(pair, key_len, "follow") && is_word(value, value_len, "true")) {
		query->follow = true;
		return 0;
	}
	if (is_word(pair, key_len, "follow") && is_word(value, value_len, "false")) {
		query->follow = false;
		return 0;
	}
	api_show_text(shown, sizeof(shown), pair, len);
	(void)error_set(e, ERROR_HTTP, EINVAL, "/events: '%s' in the query is not understood",
			shown);
	return error_hint(e, "after=NUMBER, follow=true or follow=false, joined by '&'");
}

static int parse_query(struct events_query *query, const char *text, struct error *e)
{
	*query = (struct events_query){ .follow = true };
	while (text != NULL && *text != '\0') {
		size_t len = strcspn(text, "&");
		int r = parse_pair(query, text, len, e);

		if (r < 0) {
			return r;
		}
		text += len + (text[len] == '&');
	}
	return 0;
}

static void link_stream(struct event_stream *stream, struct api *api)
{
	stream->next = api->streams;
	stream->link = &api->streams;
	if (stream->next != NULL) {
		stream->next->link = &stream->next;
	}
	api->streams = stream;
	api->stream_count++;
}

/* Its client has gone, and `call` with it. */
static void stream_closed(void *arg)
{
	struct event_stream *stream = arg;

	event_log_unsubscribe(&stream->subscriber);
	*stream->link = stream->next;
	if (stream->next != NULL) {
		stream->next->link = stream->link;
	}
	stream->api->stream_count--;
	stream->closed = true;
	if (!stream->beginning) {
		free(stream);
	}
}

static void send_event(struct event_subscriber *subscriber, const char *line, size_t len)
{
	struct event_stream *stream = container_of(subscriber, struct event_stream, subscriber);

	http_call_stream(stream->call, line, len);
}

static void end_stream(struct event_stream *stream)
{
	struct http_call *call = stream->call;

	stream_closed(stream);
	http_call_end_stream(call);
}

void api_begin_events(struct api *api, struct http_call *call, const char *query_text)
{
	struct event_log *log = instance_events(api->instance);
	struct event_stream *stream;
	struct events_query query;
	struct error e = { 0 };

	if (parse_query(&query, query_text, &e) < 0) {
		http_call_reply_error(call, 400, &e, NULL);
		return;
	}
	stream = calloc(1, sizeof(*stream));
	if (stream == NULL) {
		api_reply_no_memory(call);
		return;
	}
	stream->api = api;
	stream->call = call;
	stream->beginning = true;
	stream->subscriber.event = send_event;
	link_stream(stream, api);
	http_call_begin_stream(call, TYPE, stream_closed, stream);
	if (!stream->closed) {
		event_log_subscribe(log, &stream->subscriber, query.after);
	}
	stream->beginning = false;
	if (stream->closed) {
		free(stream);
	} else if (!query.follow) {
		end_stream(stream);
	}
}

void api_end_events(struct api *api)
{
	struct event_stream *stream = api->streams;

	while (stream != NULL) {
		struct event_stream *next = stream->next;

		end_stream(stream);
		stream = next;
	}
}
