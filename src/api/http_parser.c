/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parser of HTTP/1.x requests (RFC 9112): a state machine whose unit is the line in the head
 * and the byte in the body. A line is looked at when all of it is there, so the result does not
 * depend on how the bytes arrived, and no byte is searched twice for a line's end. Everything here
 * comes from a client and is hostile.
 *
 * What two servers might read differently is refused, for that is what request smuggling needs:
 *  - a Content-Length that is not digits only, or two that differ; one beside Transfer-Encoding;
 *  - a Transfer-Encoding other than exactly "chunked", twice, or in HTTP/1.0;
 *  - a chunk's size that is not hexadecimal digits, or too large for 64 bits; a chunk line, or the
 *    end of a chunk's data, that does not end in CR LF;
 *  - a header line that continues the one before (obs-fold), a space before the colon, no colon, an
 *    empty name; control characters (NUL and a CR alone are such) in any line;
 *  - a request line with anything but one space between its three parts.
 *
 * The target: "/path?query", or the same behind "http://host". The path is percent-decoded; refused
 * are broken escapes, a fragment, %2F, which would be a slash that does not separate, and %00 and
 * other control characters. Bytes beyond ASCII may stand in it unescaped: Firecracker's clients have
 * ids in any script. Dot segments and repeated slashes stay as they are. The query stays raw.
 *
 * A request that is well-formed but cannot be served (method, target, expectation, length) is
 * refused at the end of its header lines with `end_known`: its body is thrown away as it comes.
 *
 * Memory: header lines and the framing of chunks are dropped from the buffer as soon as they are
 * understood (see compact()), so a request never needs more than its first line, one more line, and
 * its body.
 */
#include "http_parser.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "vmm/text.h"

static const char *const method_names[HTTP_METHODS] = {
	[HTTP_GET] = "GET",	    [HTTP_PUT] = "PUT",	  [HTTP_PATCH] = "PATCH",
	[HTTP_DELETE] = "DELETE",   [HTTP_POST] = "POST", [HTTP_HEAD] = "HEAD",
	[HTTP_OPTIONS] = "OPTIONS",
};

const char *http_method_name(enum http_method method)
{
	return method_names[method];
}

/* A line in the buffer, without its end. */
struct line {
	char *text;
	size_t len;
	size_t next; /* behind its end */
	bool cr;     /* ended in CR LF, not in a bare LF */
};

void http_parser_init(struct http_parser *parser, size_t body_max)
{
	parser->body_max = body_max;
	parser->method = HTTP_GET;
	parser->minor = 1;
	parser->keep_alive = false;
	parser->has_query = false;
	parser->path = parser->query = 0;
	parser->body = parser->body_len = 0;
	parser->consumed = 0;
	parser->status = 0;
	parser->end_known = false;
	parser->error.code = ERROR_NONE;
	parser->error.hint[0] = '\0';
	parser->expects_continue = false;
	parser->missing = 1;
	parser->state = HTTP_PARSER_REQUEST_LINE;
	parser->reported = parser->close = parser->expect = false;
	parser->chunked = parser->has_length = parser->discards = false;
	parser->headers = 0;
	parser->header_bytes = 0;
	parser->line = parser->seen = parser->kept = 0;
	parser->length = parser->left = parser->discarded = 0;
}

bool http_parser_fresh(const struct http_parser *parser)
{
	return parser->state == HTTP_PARSER_REQUEST_LINE && parser->seen == 0;
}

/* RFC 9110 §5.6.2 */
static bool is_token_char(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_control(unsigned char c)
{
	return c < 0x20 || c == 0x7f;
}

static bool is_word(const char *text, size_t len, const char *word)
{
	return strlen(word) == len && strncasecmp(text, word, len) == 0;
}

/* How much of a client's text a message shows. */
static int shown(size_t len)
{
	return (int)MIN(len, (size_t)64);
}

/* Refuses the request; the first reason is the one that is told. The end can still be found. */
#define REFUSE(parser_, status_, ...)                                                       \
	do {                                                                                \
		if ((parser_)->status == 0) {                                               \
			(parser_)->status = (status_);                                      \
			(void)error_set(&(parser_)->error,                                  \
					(status_) == 413 ? ERROR_TOO_LARGE : ERROR_HTTP, 0, \
					__VA_ARGS__);                                       \
		}                                                                           \
	} while (0)
/* Nobody can tell any more where the request ends. */
#define FAIL(parser_, status_, ...)                    \
	do {                                           \
		REFUSE(parser_, status_, __VA_ARGS__); \
		(parser_)->state = HTTP_PARSER_FAILED; \
	} while (0)

/* --- The request line --- */

/*
 * In place; the result is never longer. What is decoded may hold any byte but control characters
 * and the slash.
 */
static bool decode_path(struct http_parser *parser, char *path, size_t *len)
{
	size_t out = 0;

	for (size_t i = 0; i < *len; i++) {
		unsigned char c = (unsigned char)path[i];

		if (c == '%') {
			int high = i + 2 < *len ? hex_value(path[i + 1]) : -1;
			int low = i + 2 < *len ? hex_value(path[i + 2]) : -1;

			if (high < 0 || low < 0) {
				REFUSE(parser, 400,
				       "request target: '%%' without two hexadecimal digits");
				return false;
			}
			c = (unsigned char)(high << 4 | low);
			if (is_control(c) || c == '/') {
				REFUSE(parser, 400,
				       "request target: %%%02X is not allowed in a path", c);
				return false;
			}
			i += 2;
		}
		path[out++] = (char)c;
	}
	*len = out;
	return true;
}

/* "http://host/path" -> "/path"; "http://host" and "http://host?query" have an empty path. */
static char *skip_authority(char *target, char *end)
{
	static const char *const schemes[] = { "http://", "https://" };

	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
		size_t len = strlen(schemes[i]);

		if ((size_t)(end - target) > len && strncasecmp(target, schemes[i], len) == 0) {
			target += len;
			while (target < end && *target != '/' && *target != '?') {
				target++;
			}
			return target;
		}
	}
	return NULL;
}

/*
 * `data`[from, to) is the target; what is kept of it lies within [from - 1, to], whose first and
 * last bytes are the spaces around it.
 */
static void take_target(struct http_parser *parser, char *data, size_t from, size_t to)
{
	char *path = data + from, *end = data + to, *query;
	size_t len;

	if (memchr(path, '#', to - from) != NULL) {
		REFUSE(parser, 400, "request target '%.*s': a fragment is not sent to a server",
		       shown(to - from), path);
		return;
	}
	if (*path != '/') {
		char *behind = skip_authority(path, end);

		if (behind == NULL &&
		    !(parser->method == HTTP_OPTIONS && to - from == 1 && *path == '*')) {
			REFUSE(parser, 400,
			       "request target '%.*s': a path that starts with '/' is "
			       "expected",
			       shown(to - from), path);
			return;
		}
		path = behind != NULL ? behind : end;
	}
	query = memchr(path, '?', (size_t)(end - path));
	*end = '\0';
	if (query != NULL) {
		parser->has_query = true;
		parser->query = (size_t)(query + 1 - data);
		end = query;
	}
	len = (size_t)(end - path);
	if (!decode_path(parser, path, &len)) {
		return;
	}
	if (len == 0) {
		*--path = '/'; /* over the last byte of what was in front of it */
		len = 1;
	}
	path[len] = '\0';
	parser->path = (size_t)(path - data);
}

static void take_version(struct http_parser *parser, const char *text, size_t len)
{
	if (len != 8 || memcmp(text, "HTTP/", 5) != 0 || text[5] < '0' || text[5] > '9' ||
	    text[6] != '.' || text[7] < '0' || text[7] > '9') {
		FAIL(parser, 400, "request line: 'METHOD /path HTTP/1.1' is expected");
	} else if (text[5] != '1') {
		FAIL(parser, 505, "%.*s is not spoken here, but HTTP/1.0 and HTTP/1.1 are",
		     (int)len, text);
	} else {
		parser->minor = text[7] == '0' ? 0 : 1;
	}
}

static void take_method(struct http_parser *parser, const char *text, size_t len)
{
	for (int method = 0; method < HTTP_METHODS; method++) {
		const char *name = method_names[method];

		if (strlen(name) == len && memcmp(text, name, len) == 0) {
			parser->method = (enum http_method)method;
			return;
		}
	}
	REFUSE(parser, 501,
	       "method '%.*s' is not known; GET, PUT, PATCH, DELETE, POST, HEAD and "
	       "OPTIONS are",
	       shown(len), text);
}

static void request_line(struct http_parser *parser, char *data, const struct line *line)
{
	char *target, *version, *end = line->text + line->len;

	if (line->len == 0) {
		return; /* RFC 9112 §2.2: what some clients send behind a body */
	}
	for (const char *p = line->text; p < end; p++) {
		if (is_control((unsigned char)*p)) {
			FAIL(parser, 400, "request line: byte 0x%02x is not allowed",
			     (unsigned char)*p);
			return;
		}
	}
	target = memchr(line->text, ' ', line->len);
	version = target == NULL ? NULL : memchr(target + 1, ' ', (size_t)(end - target - 1));
	if (version == NULL || target == line->text || version == target + 1) {
		FAIL(parser, 400, "request line: 'METHOD /path HTTP/1.1' is expected");
		return;
	}
	for (const char *p = line->text; p < target; p++) {
		if (!is_token_char((unsigned char)*p)) {
			FAIL(parser, 400, "request line: '%c' is not allowed in a method", *p);
			return;
		}
	}
	take_version(parser, version + 1, (size_t)(end - version - 1));
	if (parser->state == HTTP_PARSER_FAILED) {
		return;
	}
	take_method(parser, line->text, (size_t)(target - line->text));
	if (parser->status == 0) {
		take_target(parser, data, (size_t)(target + 1 - data), (size_t)(version - data));
	}
	parser->kept = parser->status == 0 ? (size_t)(version + 1 - data) : 0;
	parser->state = HTTP_PARSER_HEADERS;
}

/* --- Header lines --- */

static void content_length(struct http_parser *parser, const char *value, size_t len)
{
	uint64_t length = 0;
	int r = text_to_number(value, len, 10, &length);

	if (r == -ERANGE) {
		FAIL(parser, 413, "Content-Length has more than 64 bits");
	} else if (r < 0) {
		FAIL(parser, 400, "Content-Length: a decimal number is expected, digits only");
	} else if (parser->has_length && parser->length != length) {
		FAIL(parser, 400, "Content-Length is given twice, as %llu and %llu",
		     (unsigned long long)parser->length, (unsigned long long)length);
	} else {
		parser->has_length = true;
		parser->length = length;
	}
}

static void transfer_encoding(struct http_parser *parser, const char *value, size_t len)
{
	if (parser->minor == 0) {
		FAIL(parser, 400, "Transfer-Encoding is not part of HTTP/1.0");
	} else if (parser->chunked) {
		FAIL(parser, 400, "Transfer-Encoding is given twice");
	} else if (!is_word(value, len, "chunked")) {
		FAIL(parser, 501, "Transfer-Encoding '%.*s' is not known, only 'chunked' is",
		     shown(len), value);
	} else {
		parser->chunked = true;
	}
}

/* Without the blanks around it. */
static const char *trim(const char *text, size_t *len)
{
	while (*len > 0 && (text[0] == ' ' || text[0] == '\t')) {
		text++;
		(*len)--;
	}
	while (*len > 0 && (text[*len - 1] == ' ' || text[*len - 1] == '\t')) {
		(*len)--;
	}
	return text;
}

/* A list of words, of which one concerns us. */
static void connection(struct http_parser *parser, const char *value, size_t len)
{
	while (len != 0) {
		const char *comma = memchr(value, ',', len);
		size_t item = comma != NULL ? (size_t)(comma - value) : len, size = item;
		const char *word = trim(value, &size);

		parser->close |= is_word(word, size, "close");
		item += comma != NULL ? 1 : 0;
		value += item;
		len -= item;
	}
}

static void header_field(struct http_parser *parser, const char *name, size_t name_len,
			 const char *value, size_t len)
{
	if (is_word(name, name_len, "Content-Length")) {
		content_length(parser, value, len);
	} else if (is_word(name, name_len, "Transfer-Encoding")) {
		transfer_encoding(parser, value, len);
	} else if (is_word(name, name_len, "Connection")) {
		connection(parser, value, len);
	} else if (is_word(name, name_len, "Expect") && parser->minor != 0) {
		if (is_word(value, len, "100-continue")) {
			parser->expect = true;
		} else {
			REFUSE(parser, 417, "Expect: '%.*s' cannot be met, '100-continue' can",
			       shown(len), value);
		}
	}
}

/* Checks and splits a line; of a trailer nothing is used. */
static void header_line(struct http_parser *parser, const struct line *line)
{
	const char *colon = memchr(line->text, ':', line->len);
	size_t name_len, len;
	const char *value;

	if (line->text[0] == ' ' || line->text[0] == '\t') {
		FAIL(parser, 400,
		     "header line that continues the one before: not allowed any more "
		     "(RFC 9112 §5.2)");
		return;
	}
	if (colon == NULL || colon == line->text) {
		FAIL(parser, 400, "header line without a name and a colon");
		return;
	}
	name_len = (size_t)(colon - line->text);
	for (size_t i = 0; i < name_len; i++) {
		if (!is_token_char((unsigned char)line->text[i])) {
			FAIL(parser, 400, "header name: byte 0x%02x is not allowed",
			     (unsigned char)line->text[i]);
			return;
		}
	}
	for (size_t i = name_len + 1; i < line->len; i++) {
		unsigned char c = (unsigned char)line->text[i];

		if (is_control(c) && c != '\t') {
			FAIL(parser, 400, "header '%.*s': byte 0x%02x is not allowed",
			     shown(name_len), line->text, c);
			return;
		}
	}
	len = line->len - name_len - 1;
	value = trim(colon + 1, &len);
	if (parser->state == HTTP_PARSER_HEADERS) {
		header_field(parser, line->text, name_len, value, len);
	}
}

/* The empty line: what follows is the body, the next request, or unknown. */
static void headers_end(struct http_parser *parser, size_t next)
{
	/* HTTP/1.0 as well: Firecracker keeps such connections, and libraries rely on it. */
	parser->keep_alive = !parser->close;
	if (parser->chunked && parser->has_length) {
		FAIL(parser, 400, "Content-Length and Transfer-Encoding in one request");
		return;
	}
	if (parser->length > parser->body_max) {
		REFUSE(parser, 413, "a body of %llu bytes is larger than the limit of %zu",
		       (unsigned long long)parser->length, parser->body_max);
	}
	if (parser->status != 0) {
		parser->discards = true;
		/* Who expects 100 sends the body or does not after it was refused: nobody knows. */
		if (parser->length > HTTP_DISCARD_MAX ||
		    (parser->expect && (parser->chunked || parser->length != 0))) {
			parser->state = HTTP_PARSER_FAILED;
			return;
		}
	}
	parser->end_known = true;
	if (parser->chunked) {
		parser->state = HTTP_PARSER_CHUNK_LINE;
		parser->body = parser->kept;
	} else if (parser->length != 0) {
		parser->state = HTTP_PARSER_BODY;
		parser->left = parser->length;
		parser->body = next;
		parser->kept = parser->discards ? 0 : next;
	} else {
		parser->state = HTTP_PARSER_DONE;
		parser->body = next;
	}
}

static void count_header(struct http_parser *parser, size_t bytes)
{
	parser->header_bytes += bytes;
	parser->headers++;
	if (parser->header_bytes > HTTP_HEADERS_MAX_BYTES) {
		FAIL(parser, 431, "header lines: more than %u bytes",
		     (unsigned int)HTTP_HEADERS_MAX_BYTES);
	} else if (parser->headers > HTTP_HEADERS_MAX) {
		FAIL(parser, 431, "header lines: more than %d", HTTP_HEADERS_MAX);
	}
}

/* --- Bodies --- */

static void chunk_line(struct http_parser *parser, const struct line *line)
{
	uint64_t size = 0;
	size_t i;

	for (i = 0; i < line->len && hex_value(line->text[i]) >= 0; i++) {
		if (size >> 60 != 0) {
			FAIL(parser, 413, "chunk: size has more than 64 bits");
			return;
		}
		size = size << 4 | (uint64_t)hex_value(line->text[i]);
	}
	if (i == 0 || !line->cr || (i < line->len && line->text[i] != ';')) {
		FAIL(parser, 400,
		     "chunk: a size in hexadecimal digits is expected in a line of its "
		     "own");
		return;
	}
	for (; i < line->len; i++) {
		if (is_control((unsigned char)line->text[i]) && line->text[i] != '\t') {
			FAIL(parser, 400, "chunk: byte 0x%02x is not allowed",
			     (unsigned char)line->text[i]);
			return;
		}
	}
	if (parser->discards ? size > HTTP_DISCARD_MAX - parser->discarded
			     : size > parser->body_max - parser->body_len) {
		FAIL(parser, 413, "a body in chunks is larger than the limit of %zu bytes",
		     parser->body_max);
		return;
	}
	parser->left = size;
	parser->state = size != 0 ? HTTP_PARSER_CHUNK_DATA : HTTP_PARSER_TRAILERS;
}

/* Takes what there is of a body with a length, or of a chunk. */
static bool body_data(struct http_parser *parser, char *data, size_t len)
{
	bool chunk = parser->state == HTTP_PARSER_CHUNK_DATA;
	size_t n = (size_t)MIN(parser->left, (uint64_t)(len - parser->line));

	if (parser->discards) {
		parser->discarded += n;
	} else {
		if (parser->kept != parser->line) {
			memmove(data + parser->kept, data + parser->line, n);
		}
		parser->kept += n;
		parser->body_len += n;
	}
	parser->line += n;
	parser->seen = parser->line;
	parser->left -= n;
	if (parser->left != 0) {
		return false;
	}
	parser->state = chunk ? HTTP_PARSER_CHUNK_END : HTTP_PARSER_DONE;
	return true;
}

/* --- The machine --- */

/*
 * Finds the next line. Without its end: false, and refuses it as soon as it must be longer than
 * `max`, which a CR at its end does not count for.
 */
static bool next_line(struct http_parser *parser, char *data, size_t len, size_t max,
		      struct line *line, bool *too_long)
{
	char *feed = memchr(data + parser->seen, '\n', len - parser->seen);

	line->text = data + parser->line;
	if (feed == NULL) {
		parser->seen = len;
		*too_long = len - parser->line > max + 1;
		return false;
	}
	line->len = (size_t)(feed - line->text);
	line->next = (size_t)(feed + 1 - data);
	line->cr = line->len != 0 && feed[-1] == '\r';
	line->len -= line->cr ? 1 : 0;
	*too_long = line->len > max;
	return !*too_long;
}

static size_t line_max(const struct http_parser *parser)
{
	switch (parser->state) {
	case HTTP_PARSER_REQUEST_LINE:
		return HTTP_REQUEST_LINE_MAX;
	case HTTP_PARSER_CHUNK_LINE:
		return HTTP_CHUNK_LINE_MAX;
	case HTTP_PARSER_CHUNK_END:
		return 0;
	default:
		return HTTP_HEADERS_MAX_BYTES;
	}
}

static void refuse_long_line(struct http_parser *parser)
{
	if (parser->state == HTTP_PARSER_REQUEST_LINE) {
		FAIL(parser, 414, "request line: more than %u bytes",
		     (unsigned int)HTTP_REQUEST_LINE_MAX);
	} else if (parser->state == HTTP_PARSER_CHUNK_LINE) {
		FAIL(parser, 400, "chunk: size and extensions have more than %d bytes",
		     HTTP_CHUNK_LINE_MAX);
	} else if (parser->state == HTTP_PARSER_CHUNK_END) {
		FAIL(parser, 400, "chunk: more data than its size");
	} else {
		FAIL(parser, 431, "header lines: more than %u bytes",
		     (unsigned int)HTTP_HEADERS_MAX_BYTES);
	}
}

static void take_line(struct http_parser *parser, char *data, const struct line *line)
{
	size_t bytes = line->next - parser->line;

	switch (parser->state) {
	case HTTP_PARSER_REQUEST_LINE:
		request_line(parser, data, line);
		break;
	case HTTP_PARSER_HEADERS:
	case HTTP_PARSER_TRAILERS:
		if (line->len != 0) {
			count_header(parser, bytes);
			if (parser->state != HTTP_PARSER_FAILED) {
				header_line(parser, line);
			}
		} else if (parser->state == HTTP_PARSER_HEADERS) {
			headers_end(parser, line->next);
		} else {
			parser->state = HTTP_PARSER_DONE;
		}
		break;
	case HTTP_PARSER_CHUNK_LINE:
		chunk_line(parser, line);
		break;
	default:
		parser->state = HTTP_PARSER_CHUNK_LINE;
		if (!line->cr) {
			FAIL(parser, 400, "chunk: CR LF is expected behind its data");
		}
		break;
	}
	parser->line = parser->seen = line->next;
}

/* Moves what is not looked at yet to the end of what stays. */
static void compact(struct http_parser *parser, char *data, size_t *len)
{
	size_t gap = parser->line - parser->kept;

	if (gap == 0) {
		return;
	}
	memmove(data + parser->kept, data + parser->line, *len - parser->line);
	*len -= gap;
	parser->line -= gap;
	parser->seen -= gap;
}

/* True if the request was refused, and that has not been said or nothing can follow. */
static bool is_refused(struct http_parser *parser)
{
	if (parser->state == HTTP_PARSER_FAILED) {
		parser->end_known = false;
		parser->keep_alive = false;
		parser->reported = true;
		return true;
	}
	if (parser->discards && !parser->reported) {
		parser->reported = true;
		return true;
	}
	return false;
}

enum http_parse_result http_parser_run(struct http_parser *parser, char *data, size_t *len)
{
	struct line line;
	bool too_long, more = true;

	while (more) {
		if (is_refused(parser)) {
			return HTTP_PARSE_REFUSED;
		}
		if (parser->state == HTTP_PARSER_DONE) {
			parser->consumed = parser->line;
			parser->expects_continue = false;
			return HTTP_PARSE_DONE;
		}
		if (parser->state == HTTP_PARSER_BODY || parser->state == HTTP_PARSER_CHUNK_DATA) {
			more = body_data(parser, data, *len);
		} else if (next_line(parser, data, *len, line_max(parser), &line, &too_long)) {
			take_line(parser, data, &line);
		} else if (too_long) {
			refuse_long_line(parser);
		} else {
			more = false;
		}
	}
	compact(parser, data, len);
	parser->missing = parser->state == HTTP_PARSER_BODY ? (size_t)MIN(parser->left, MIB(1)) : 1;
	parser->expects_continue =
		parser->expect && parser->end_known && parser->body_len == 0 &&
		(parser->state == HTTP_PARSER_BODY ||
		 (parser->state == HTTP_PARSER_CHUNK_LINE && parser->seen == parser->line));
	return HTTP_PARSE_MORE;
}
