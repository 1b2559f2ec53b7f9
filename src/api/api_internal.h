/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the API share. Private to the room. */
#ifndef VMM_API_INTERNAL_H
#define VMM_API_INTERNAL_H

#include "vmm/api.h"

struct event_stream;

struct api {
	struct instance *instance;
	struct http_server *server;
	bool log_requests;
	bool firecracker; /* the instance is for clients of Firecracker */
	struct event_stream *streams;
	uint32_t stream_count;
};

/* GET /events: answers `call`, at once or for as long as its client listens. */
void api_begin_events(struct api *api, struct http_call *call, const char *query);
/* Ends the streams in order: their clients see the end of the answer. */
void api_end_events(struct api *api);

/* 200 with JSON, its keys sorted or as they are. Steals `value`; NULL is an answer that memory was too
 * short for. */
void api_reply_json(struct http_call *call, json_t *value, bool sorted);
void api_reply_no_memory(struct http_call *call);
/* As much of a client's text as fits, for a message; what is not printable ASCII becomes '?'. */
void api_show_text(char *buf, size_t size, const char *text, size_t len);

#endif
