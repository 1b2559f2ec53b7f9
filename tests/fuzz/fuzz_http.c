/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: requests to the HTTP parser. The same bytes go through it in one piece and in pieces
 * that the input chooses, in a buffer as the server keeps it; both must see the same requests, and
 * what is accepted must keep its promises. Half of the inputs are bytes, the others numbers of
 * words that requests are made of.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/api/http_parser.h"
#include "fuzz_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BODY_MAX     64
#define REQUESTS_MAX 64
#define TEXT_MAX     65536

static const char *const words[] = {
	"GET / HTTP/1.1\r\n",
	"\r\n",
	"PUT /a?b HTTP/1.1\r\n",
	"Content-Length: 5\r\n",
	"hello",
	"Transfer-Encoding: chunked\r\n",
	"5\r\nhello\r\n",
	"0\r\n",
	"1;x=y\r\nz\r\n",
	"HEAD http://h/%41%20 HTTP/1.0\r\n",
	"Expect: 100-continue\r\n",
	"Connection: close, x\r\n",
	"Content-Length: 70\r\n",
	"BREW / HTTP/1.1\r\n",
	"\n",
	"\r",
	"X: y\r\n",
	" folded\r\n",
	"41\r\n",
	"ffffffffffffffff\r\n",
	"GET /%2f%00 HTTP/1.1\r\n",
	"Content-Length: 18446744073709551616\r\n",
	"Content-Length : 5\r\n",
	"0123456789abcdef",
};

/* What was seen: one hash over everything that a server would act on. */
struct seen {
	uint64_t hash;
	uint32_t requests;
	bool failed;
};

static void mix(struct seen *seen, const void *data, size_t len)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < len; i++) {
		seen->hash = (seen->hash ^ bytes[i]) * 0x100000001b3ULL;
	}
}

static void mix_number(struct seen *seen, uint64_t number)
{
	mix(seen, &number, sizeof(number));
}

static void check_refused(const struct http_parser *parser, struct seen *seen)
{
	VMM_BUG_ON(parser->status < 400 || parser->status > 599);
	VMM_BUG_ON(parser->error.code == ERROR_NONE || parser->error.msg[0] == '\0');
	VMM_BUG_ON(!parser->end_known && parser->keep_alive);
	mix_number(seen, (uint64_t)parser->status);
	mix_number(seen, parser->end_known);
	mix_number(seen, parser->keep_alive);
	mix(seen, parser->error.msg, strlen(parser->error.msg));
}

static void check_done(const struct http_parser *parser, const char *data, size_t len,
		       struct seen *seen)
{
	const char *path = data + parser->path;
	size_t path_len;

	VMM_BUG_ON(parser->consumed > len || parser->consumed == 0);
	mix_number(seen, (uint64_t)parser->status);
	if (parser->status != 0) {
		return;
	}
	VMM_BUG_ON(parser->method < 0 || parser->method >= HTTP_METHODS || parser->minor > 1);
	path_len = strlen(path);
	VMM_BUG_ON(path[0] != '/' || parser->path + path_len >= parser->consumed);
	for (size_t i = 0; i < path_len; i++) {
		VMM_BUG_ON((uint8_t)path[i] < 0x20 || path[i] == 0x7f);
	}
	VMM_BUG_ON(parser->body_len > BODY_MAX ||
		   parser->body + parser->body_len > parser->consumed);
	mix_number(seen, (uint64_t)parser->method);
	mix_number(seen, parser->minor);
	mix_number(seen, parser->keep_alive);
	mix(seen, path, path_len);
	if (parser->has_query) {
		mix(seen, data + parser->query, strlen(data + parser->query) + 1);
	}
	mix(seen, data + parser->body, parser->body_len);
}

/* A buffer that is exactly as long as what is in it: a sanitizer sees what is read behind. */
struct buffer {
	char *data;
	size_t len;
};

static void resize(struct buffer *buffer, const char *from, size_t len)
{
	char *data = malloc(len != 0 ? len : 1);

	if (data == NULL) {
		abort();
	}
	memcpy(data, from, len);
	free(buffer->data);
	buffer->data = data;
	buffer->len = len;
}

/* All requests that are complete in the buffer. */
static void parse_all(struct http_parser *parser, struct buffer *buffer, struct seen *seen)
{
	while (!seen->failed && seen->requests < REQUESTS_MAX) {
		switch (http_parser_run(parser, buffer->data, &buffer->len)) {
		case HTTP_PARSE_MORE:
			VMM_BUG_ON(parser->missing == 0);
			resize(buffer, buffer->data, buffer->len);
			return;
		case HTTP_PARSE_REFUSED:
			check_refused(parser, seen);
			seen->failed = !parser->end_known;
			break;
		case HTTP_PARSE_DONE:
			check_done(parser, buffer->data, buffer->len, seen);
			resize(buffer, buffer->data + parser->consumed,
			       buffer->len - parser->consumed);
			http_parser_init(parser, BODY_MAX);
			seen->requests++;
			break;
		}
	}
}

/* `cuts`: lengths of the pieces, over and over; NULL: one piece. */
static struct seen run(const char *text, size_t len, const uint8_t *cuts, size_t cut_count)
{
	struct seen seen = { .hash = 0xcbf29ce484222325ULL };
	struct buffer buffer = { 0 };
	struct http_parser parser;
	size_t at = 0, max_held = 0;

	http_parser_init(&parser, BODY_MAX);
	for (size_t i = 0; at < len && !seen.failed && seen.requests < REQUESTS_MAX; i++) {
		size_t n =
			cuts == NULL ? len : MIN((size_t)(cuts[i % cut_count] % 32) + 1, len - at);
		char *joined = malloc(buffer.len + n);

		if (joined == NULL) {
			abort();
		}
		if (buffer.len != 0) {
			memcpy(joined, buffer.data, buffer.len);
		}
		memcpy(joined + buffer.len, text + at, n);
		free(buffer.data);
		buffer.data = joined;
		buffer.len += n;
		at += n;
		parse_all(&parser, &buffer, &seen);
		max_held = MAX(max_held, buffer.len);
	}
	/* What has no end is held up to the limits only. */
	VMM_BUG_ON(cuts != NULL && !seen.failed && seen.requests < REQUESTS_MAX &&
		   max_held > HTTP_REQUEST_LINE_MAX + HTTP_HEADERS_MAX_BYTES + BODY_MAX + 64);
	free(buffer.data);
	return seen;
}

static size_t make_text(char *text, const uint8_t *data, size_t size)
{
	size_t len = 0;

	for (size_t i = 0; i < size; i++) {
		const char *word = words[data[i] % ARRAY_SIZE(words)];
		size_t word_len = strlen(word);

		if (len + word_len > TEXT_MAX) {
			break;
		}
		memcpy(text + len, word, word_len);
		len += word_len;
	}
	return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { .data = data, .len = size };
	uint8_t how = (uint8_t)fuzz_take(&in, 1), cuts[3];
	struct seen whole, parts;
	char *text = malloc(TEXT_MAX);
	size_t len;

	for (size_t i = 0; i < sizeof(cuts); i++) {
		cuts[i] = (uint8_t)fuzz_take(&in, 1);
	}
	if (text == NULL) {
		return 0;
	}
	if ((how & 1) != 0) {
		len = make_text(text, in.data, in.len);
	} else {
		len = MIN(in.len, (size_t)TEXT_MAX);
		memcpy(text, in.data, len);
	}
	whole = run(text, len, NULL, 0);
	parts = run(text, len, cuts, sizeof(cuts));
	VMM_BUG_ON(whole.hash != parts.hash || whole.requests != parts.requests ||
		   whole.failed != parts.failed);
	free(text);
	return 0;
}
