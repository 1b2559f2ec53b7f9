/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HTTP/1.x request out of a buffer that grows: see http_parser.c for the rules. No memory of
 * its own, no system call, no global; positions are offsets, so the caller may move the buffer
 * between calls.
 */
#ifndef VMM_API_HTTP_PARSER_H
#define VMM_API_HTTP_PARSER_H

#include "vmm/error.h"
#include "vmm/http_server.h"
#include "vmm/types.h"

/* Without line ends. RFC 9112 §3 recommends 8000 at least. */
#define HTTP_REQUEST_LINE_MAX KIB(8)
/* All header lines and trailers of a request, with their line ends. */
#define HTTP_HEADERS_MAX_BYTES KIB(16)
#define HTTP_HEADERS_MAX       100
/* A line with a chunk's size and its extensions, which nobody uses. */
#define HTTP_CHUNK_LINE_MAX 256
/* A refused body up to this length is read and thrown away, so that the connection can go on. */
#define HTTP_DISCARD_MAX MIB(64)

enum http_parse_result {
	HTTP_PARSE_MORE, /* everything looked at; go on when there are more bytes */
	HTTP_PARSE_DONE, /* the request ends at `consumed`; if it was refused, without a body */
	/*
	 * Refused: `status` and `error` say why. Returned once, at the end of the header lines or
	 * where it went wrong. With `end_known` the caller goes on and gets MORE or DONE, else
	 * every later call returns REFUSED again and what follows means nothing.
	 */
	HTTP_PARSE_REFUSED,
};

enum http_parser_state {
	HTTP_PARSER_REQUEST_LINE,
	HTTP_PARSER_HEADERS,
	HTTP_PARSER_BODY,
	HTTP_PARSER_CHUNK_LINE,
	HTTP_PARSER_CHUNK_DATA,
	HTTP_PARSER_CHUNK_END,
	HTTP_PARSER_TRAILERS,
	HTTP_PARSER_DONE,
	HTTP_PARSER_FAILED,
};

struct http_parser {
	/* Of the caller. */
	size_t body_max;
	/* After DONE; keep_alive and minor also after REFUSED. Offsets into the buffer.
	 * keep_alive: the client has not said that this is its last request. */
	enum http_method method;
	uint8_t minor; /* HTTP/1.minor */
	bool keep_alive;
	bool has_query;
	size_t path, query; /* NUL behind each */
	size_t body, body_len;
	size_t consumed;
	int status; /* 0: not refused */
	bool end_known;
	struct error error;
	/* After MORE: the client waits for "100 Continue" before it sends the body, of which
	 * nothing has come yet. */
	bool expects_continue;
	/* After MORE: bytes that are known to be missing, at least 1. */
	size_t missing;

	/* Private. */
	enum http_parser_state state;
	bool reported, close, expect, chunked, has_length, discards;
	uint32_t headers;
	size_t header_bytes;
	size_t line;	    /* first byte that is not consumed */
	size_t seen;	    /* no line feed before here */
	size_t kept;	    /* end of what has to stay of the consumed bytes: path, query, body */
	uint64_t length;    /* Content-Length */
	uint64_t left;	    /* of the body or of the chunk */
	uint64_t discarded; /* of a chunked body */
};

void http_parser_init(struct http_parser *parser, size_t body_max);
/*
 * `data` is the request's first byte, *len what has arrived since, less what earlier calls took
 * out: this function moves bytes to the front over those that are used up, and then makes *len
 * smaller. It writes within [0, *len) only.
 */
enum http_parse_result http_parser_run(struct http_parser *parser, char *data, size_t *len);
/* True if not a byte of a request has been seen, but perhaps empty lines in front of it. */
bool http_parser_fresh(const struct http_parser *parser);

#endif
