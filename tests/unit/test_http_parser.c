/* SPDX-License-Identifier: Apache-2.0 */
/* The parser alone: every text goes through it in one piece, byte by byte, and cut in two at every
 * place, and must give the same each time. */
#include "harness/check_main.h"

#include "../../src/api/http_parser.h"

#define BODY_MAX 1000

struct result {
	enum http_parse_result result;
	enum http_method method;
	int minor, status;
	bool keep_alive, end_known, has_query;
	size_t body_len, left; /* left: behind the request */
	char path[9000], query[200], body[BODY_MAX + 1], message[400];
	bool continued; /* asked for 100 on the way */
};

/* A buffer like the server's. */
struct feeder {
	struct http_parser parser;
	char *data;
	size_t len;
	bool refused;
	struct result result;
};

static void keep(struct feeder *f, enum http_parse_result result)
{
	const struct http_parser *p = &f->parser;
	struct result *r = &f->result;

	r->result = result;
	r->method = p->method;
	r->minor = p->minor;
	r->status = p->status;
	r->keep_alive = p->keep_alive;
	r->end_known = p->end_known;
	if (p->status != 0) {
		(void)snprintf(r->message, sizeof(r->message), "%s", p->error.msg);
	}
	if (result == HTTP_PARSE_DONE && p->status == 0) {
		(void)snprintf(r->path, sizeof(r->path), "%s", f->data + p->path);
		r->has_query = p->has_query;
		if (p->has_query) {
			(void)snprintf(r->query, sizeof(r->query), "%s", f->data + p->query);
		}
		ck_assert_uint_le(p->body_len, BODY_MAX);
		r->body_len = p->body_len;
		memcpy(r->body, f->data + p->body, p->body_len);
	}
}

/* True: ended. */
static bool feed(struct feeder *f, const char *text, size_t len)
{
	enum http_parse_result result;

	memcpy(f->data + f->len, text, len);
	f->len += len;
	result = http_parser_run(&f->parser, f->data, &f->len);
	if (result == HTTP_PARSE_REFUSED) {
		/* A second time only if the rest makes no sense either. */
		ck_assert(!f->refused || !f->parser.end_known);
		f->refused = true;
		keep(f, result);
		if (!f->parser.end_known) {
			ck_assert_int_eq(http_parser_run(&f->parser, f->data, &f->len),
					 HTTP_PARSE_REFUSED);
			return true;
		}
		result = http_parser_run(&f->parser, f->data, &f->len);
		if (result == HTTP_PARSE_REFUSED) {
			ck_assert(!f->parser.end_known);
			keep(f, result);
			return true;
		}
	}
	f->result.continued |= f->parser.expects_continue;
	if (result == HTTP_PARSE_DONE) {
		ck_assert_uint_le(f->parser.consumed, f->len);
		keep(f, result);
		return true;
	}
	if (result == HTTP_PARSE_MORE) {
		ck_assert_uint_ge(f->parser.missing, 1);
	}
	f->result.result = result;
	return false;
}

static void run(struct result *r, const char *text, size_t len, size_t cut, size_t step)
{
	static struct feeder f;
	size_t at = 0;
	bool ended = false;

	memset(&f, 0, sizeof(f));
	f.data = malloc(len + 1);
	ck_assert_ptr_nonnull(f.data);
	http_parser_init(&f.parser, BODY_MAX);
	ck_assert(http_parser_fresh(&f.parser));
	if (cut != 0) {
		ended = feed(&f, text, cut);
		at = cut;
	}
	while (!ended && at < len) {
		size_t n = MIN(step, len - at);

		ended = feed(&f, text + at, n);
		at += n;
	}
	f.result.left =
		f.result.result == HTTP_PARSE_DONE ? f.len - f.parser.consumed + len - at : 0;
	*r = f.result;
	free(f.data);
}

static void same(const struct result *a, const struct result *b)
{
	ck_assert_int_eq(a->result, b->result);
	ck_assert_int_eq(a->method, b->method);
	ck_assert_int_eq(a->status, b->status);
	ck_assert_str_eq(a->message, b->message);
	if (a->result != HTTP_PARSE_MORE) {
		ck_assert_int_eq(a->keep_alive, b->keep_alive);
		ck_assert_int_eq(a->end_known, b->end_known);
	}
	ck_assert_int_eq(a->has_query, b->has_query);
	ck_assert_str_eq(a->path, b->path);
	ck_assert_str_eq(a->query, b->query);
	ck_assert_uint_eq(a->body_len, b->body_len);
	ck_assert_mem_eq(a->body, b->body, a->body_len);
	ck_assert_uint_eq(a->left, b->left);
}

static struct result first, other;

static const struct result *parse_bytes(const char *text, size_t len)
{
	run(&first, text, len, 0, len);
	run(&other, text, len, 0, 1);
	same(&first, &other);
	for (size_t cut = 1; cut < len && cut < 300; cut++) {
		run(&other, text, len, cut, len);
		same(&first, &other);
	}
	return &first;
}

static const struct result *parse(const char *text)
{
	return parse_bytes(text, strlen(text));
}

/* --- What is accepted --- */

struct good {
	const char *text;
	enum http_method method;
	const char *path, *query, *body;
	bool close;
};

#define GET(target)	    "GET " target " HTTP/1.1\r\n\r\n"
#define POST(headers, body) "POST /p HTTP/1.1\r\n" headers "\r\n" body
#define CHUNKED		    "Transfer-Encoding: chunked\r\n"

static const struct good good[] = {
	{ GET("/"), HTTP_GET, "/", NULL, "" },
	{ "PUT /a HTTP/1.1\r\nHost: x\r\n\r\n", HTTP_PUT, "/a", NULL, "" },
	{ "PATCH /a HTTP/1.1\r\n\r\n", HTTP_PATCH, "/a", NULL, "" },
	{ "DELETE /a HTTP/1.1\r\n\r\n", HTTP_DELETE, "/a", NULL, "" },
	{ "HEAD /a HTTP/1.1\r\n\r\n", HTTP_HEAD, "/a", NULL, "" },
	{ "OPTIONS * HTTP/1.1\r\n\r\n", HTTP_OPTIONS, "/", NULL, "" },
	{ "GET / HTTP/1.9\r\n\r\n", HTTP_GET, "/", NULL, "" },
	{ "GET / HTTP/1.1\n\n", HTTP_GET, "/", NULL, "" },
	{ "GET / HTTP/1.1\r\na: b\nc: d\r\n\n", HTTP_GET, "/", NULL, "" },
	{ "\r\n\r\n\n" GET("/x"), HTTP_GET, "/x", NULL, "" },
	/* Targets. */
	{ GET("/a/b?x=1&y=%2F?"), HTTP_GET, "/a/b", "x=1&y=%2F?", "" },
	{ GET("/?"), HTTP_GET, "/", "", "" },
	{ GET("/a%20b%7e%C3%a9"), HTTP_GET, "/a b~\xc3\xa9", NULL, "" },
	{ GET("/a%2e%2E//./.."), HTTP_GET, "/a..//./..", NULL, "" },
	{ GET("http://localhost/vm?a"), HTTP_GET, "/vm", "a", "" },
	{ GET("HTTP://localhost:80"), HTTP_GET, "/", NULL, "" },
	{ GET("http://h?q"), HTTP_GET, "/", "q", "" },
	{ GET("https://h/"), HTTP_GET, "/", NULL, "" },
	/* Connection. */
	{ "GET / HTTP/1.1\r\nConnection: close\r\n\r\n", HTTP_GET, "/", NULL, "", true },
	{ "GET / HTTP/1.1\r\ncONNECTION:foo ,\tClose \r\n\r\n", HTTP_GET, "/", NULL, "", true },
	{ "GET / HTTP/1.1\r\nConnection: closed, keep-alive\r\n\r\n", HTTP_GET, "/", NULL, "" },
	{ "GET / HTTP/1.0\r\n\r\n", HTTP_GET, "/", NULL, "" },
	{ "GET /\xc3\xa9?\xff HTTP/1.1\r\n\r\n", HTTP_GET, "/\xc3\xa9", "\xff", "" },
	{ "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", HTTP_GET, "/", NULL, "" },
	{ "GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", HTTP_GET, "/",
	  NULL, "", true },
	/* Lengths. */
	{ POST("Content-Length: 5\r\n", "hello"), HTTP_POST, "/p", NULL, "hello" },
	{ POST("content-length:5\r\n", "hello"), HTTP_POST, "/p", NULL, "hello" },
	{ POST("Content-Length: \t 5 \t\r\n", "hello"), HTTP_POST, "/p", NULL, "hello" },
	{ POST("Content-Length: 0005\r\n", "hello"), HTTP_POST, "/p", NULL, "hello" },
	{ POST("Content-Length: 0\r\n", ""), HTTP_POST, "/p", NULL, "" },
	{ POST("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), HTTP_POST, "/p", NULL,
	  "hello" },
	{ POST("X-Content-Length: 9\r\nContent-Lengthy: 9\r\n", ""), HTTP_POST, "/p", NULL, "" },
	/* Chunks. */
	{ POST(CHUNKED, "5\r\nhello\r\n0\r\n\r\n"), HTTP_POST, "/p", NULL, "hello" },
	{ POST("transfer-encoding: CHUNKED\r\n", "0\r\n\r\n"), HTTP_POST, "/p", NULL, "" },
	{ POST(CHUNKED, "1\r\nh\r\n00004;a=b;c=\"d\"\r\nello\r\n000\r\n\r\n"), HTTP_POST, "/p",
	  NULL, "hello" },
	{ POST(CHUNKED, "A\r\n0123456789\r\na;\r\n0123456789\r\n0;x\r\nTrailer: t\r\n"
			"Content-Length: 7\r\n\r\n"),
	  HTTP_POST, "/p", NULL, "01234567890123456789" },
	{ POST("Expect: 100-continue\r\nContent-Length: 2\r\n", "ab"), HTTP_POST, "/p", NULL,
	  "ab" },
};

START_TEST(test_good)
{
	const struct good *row = &good[_i];
	const struct result *r = parse(row->text);

	ck_assert_msg(r->result == HTTP_PARSE_DONE && r->status == 0, "%d %d %s", (int)r->result,
		      r->status, r->message);
	ck_assert_int_eq(r->method, row->method);
	ck_assert_str_eq(r->path, row->path);
	ck_assert_int_eq(r->has_query, row->query != NULL);
	ck_assert_str_eq(r->query, row->query != NULL ? row->query : "");
	ck_assert_str_eq(r->body, row->body);
	ck_assert_uint_eq(r->body_len, strlen(row->body));
	ck_assert_int_eq(r->keep_alive, !row->close);
	ck_assert_uint_eq(r->left, 0);
}
END_TEST

/* --- What is refused --- */

struct bad {
	const char *text;
	int status;
	bool end_known;
	const char *message;
};

static const struct bad bad[] = {
	/* Request lines. */
	{ "GET /\r\n\r\n", 400, false, "METHOD /path HTTP/1.1" },
	{ "GET\r\n\r\n", 400, false, "METHOD /path HTTP/1.1" },
	{ " GET / HTTP/1.1\r\n\r\n", 400, false, "METHOD /path HTTP/1.1" },
	{ "GET  / HTTP/1.1\r\n\r\n", 400, false, "METHOD /path HTTP/1.1" },
	{ "GET /  HTTP/1.1\r\n\r\n", 400, false, "METHOD /path HTTP/1.1" },
	{ "GET / HTTP/1.1 \r\n\r\n", 400, false, "METHOD /path HTTP/1.1" },
	{ "GET / a HTTP/1.1\r\n\r\n", 400, false, "METHOD /path HTTP/1.1" },
	{ "GET / HTTP/11\r\n\r\n", 400, false, "METHOD /path HTTP/1.1" },
	{ "GET / http/1.1\r\n\r\n", 400, false, "METHOD /path HTTP/1.1" },
	{ "GET / HTTP/1.10\r\n\r\n", 400, false, "METHOD /path HTTP/1.1" },
	{ "GET / HTTP/2.0\r\n\r\n", 505, false, "HTTP/2.0" },
	{ "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, false, "HTTP/2.0" },
	{ "GET /\t HTTP/1.1\r\n\r\n", 400, false, "0x09" },
	{ "GET /\x01 HTTP/1.1\r\n\r\n", 400, false, "0x01" },
	{ "GET /a HTTP/1.1\xff\r\n\r\n", 400, false, "is expected" },
	{ "G\xc3\xa9T / HTTP/1.1\r\n\r\n", 400, false, "not allowed in a method" },
	{ "GET / HTTP/1.1\r\r\n\r\n", 400, false, "0x0d" },
	{ "G{T / HTTP/1.1\r\n\r\n", 400, false, "'{'" },
	{ "\x16\x03\x01\x02\n", 400, false, "0x16" },
	{ "{\"json\": 1}\r\n", 400, false, "METHOD" },
	{ "get / HTTP/1.1\r\n\r\n", 501, true, "'get'" },
	{ "TRACE / HTTP/1.1\r\n\r\n", 501, true, "'TRACE'" },
	{ "CONNECT h:80 HTTP/1.1\r\n\r\n", 501, true, "'CONNECT'" },
	{ "BREW / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 501, true, "'BREW'" },
	{ "BREW / HTTP/1.1\r\n" CHUNKED "\r\n3\r\nabc\r\n0\r\n\r\n", 501, true, "'BREW'" },
	/* Targets. */
	{ GET("x"), 400, true, "'x'" },
	{ GET("*"), 400, true, "'*'" },
	{ GET("?a"), 400, true, "'?a'" },
	{ GET("ftp://h/"), 400, true, "ftp" },
	{ GET("http://"), 400, true, "http://" },
	{ GET("/a#b"), 400, true, "fragment" },
	{ GET("/%"), 400, true, "%" },
	{ GET("/%2"), 400, true, "%" },
	{ GET("/%g0"), 400, true, "%" },
	{ GET("/%0x"), 400, true, "%" },
	{ GET("/%00"), 400, true, "%00" },
	{ GET("/a%2Fb"), 400, true, "%2F" },
	{ GET("/a%2fb"), 400, true, "%2F" },
	{ GET("/%0a"), 400, true, "%0A" },
	{ GET("/%7F"), 400, true, "%7F" },
	/* Header lines. */
	{ "GET / HTTP/1.1\r\n a: b\r\n\r\n", 400, false, "continues" },
	{ "GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n", 400, false, "continues" },
	{ "GET / HTTP/1.1\r\na: b\r\n\tc\r\n\r\n", 400, false, "continues" },
	{ "GET / HTTP/1.1\r\na\r\n\r\n", 400, false, "colon" },
	{ "GET / HTTP/1.1\r\n: b\r\n\r\n", 400, false, "name" },
	{ "GET / HTTP/1.1\r\na : b\r\n\r\n", 400, false, "0x20" },
	{ "GET / HTTP/1.1\r\nContent-Length : 5\r\n\r\nhello", 400, false, "0x20" },
	{ "GET / HTTP/1.1\r\na\tb: c\r\n\r\n", 400, false, "0x09" },
	{ "GET / HTTP/1.1\r\n\xc3\xa9: c\r\n\r\n", 400, false, "0xc3" },
	{ "GET / HTTP/1.1\r\na: b\rc: d\r\n\r\n", 400, false, "0x0d" },
	{ "GET / HTTP/1.1\r\na: b\r\r\n\r\n", 400, false, "0x0d" },
	{ "GET / HTTP/1.1\r\na: \x7f\r\n\r\n", 400, false, "0x7f" },
	{ "GET / HTTP/1.1\r\nExpect: 200-ok\r\n\r\n", 417, true, "200-ok" },
	/* Lengths. */
	{ POST("Content-Length: -1\r\n", ""), 400, false, "Content-Length" },
	{ POST("Content-Length: +5\r\n", "hello"), 400, false, "Content-Length" },
	{ POST("Content-Length: 0x5\r\n", "hello"), 400, false, "Content-Length" },
	{ POST("Content-Length: 5f\r\n", "hello"), 400, false, "Content-Length" },
	{ POST("Content-Length: 1e9\r\n", "hello"), 400, false, "Content-Length" },
	{ POST("Content-Length: 5.0\r\n", "hello"), 400, false, "Content-Length" },
	{ POST("Content-Length: 5 5\r\n", "hello"), 400, false, "Content-Length" },
	{ POST("Content-Length: 5, 5\r\n", "hello"), 400, false, "Content-Length" },
	{ POST("Content-Length: 5,\r\n", "hello"), 400, false, "Content-Length" },
	{ POST("Content-Length: \"5\"\r\n", "hello"), 400, false, "Content-Length" },
	{ POST("Content-Length:\r\n", ""), 400, false, "Content-Length" },
	{ POST("Content-Length: \v5\r\n", "hello"), 400, false, "0x0b" },
	{ POST("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"), 400, false, "5 and 6" },
	{ POST("Content-Length: 0\r\nContent-Length: 6\r\n", "hello!"), 400, false, "0 and 6" },
	{ POST("Content-Length: 2147483648\r\n", ""), 413, false, "2147483648" },
	{ POST("Content-Length: 4294967301\r\n", "hello"), 413, false, "4294967301" },
	{ POST("Content-Length: 9223372036854775808\r\n", ""), 413, false, "9223372036854775808" },
	{ POST("Content-Length: 18446744073709551615\r\n", ""), 413, false,
	  "18446744073709551615" },
	{ POST("Content-Length: 18446744073709551616\r\n", ""), 413, false, "64 bits" },
	{ POST("Content-Length: 18446744073709551621\r\n", "hello"), 413, false, "64 bits" },
	{ POST("Content-Length: 99999999999999999999999999\r\n", ""), 413, false, "64 bits" },
	{ POST("Expect: 100-continue\r\nContent-Length: 1001\r\n", ""), 413, false, "1001" },
	/* Transfer codings. */
	{ POST("Content-Length: 5\r\n" CHUNKED, "hello"), 400, false, "in one request" },
	{ POST(CHUNKED "Content-Length: 5\r\n", "0\r\n\r\n"), 400, false, "in one request" },
	{ POST(CHUNKED "Content-Length: 0\r\n", "0\r\n\r\n"), 400, false, "in one request" },
	{ POST(CHUNKED CHUNKED, "0\r\n\r\n"), 400, false, "twice" },
	{ POST("Transfer-Encoding: gzip, chunked\r\n", ""), 501, false, "gzip" },
	{ POST("Transfer-Encoding: chunked, chunked\r\n", ""), 501, false, "chunked, chunked" },
	{ POST("Transfer-Encoding: identity\r\n", ""), 501, false, "identity" },
	{ POST("Transfer-Encoding: xchunked\r\n", ""), 501, false, "xchunked" },
	{ POST("Transfer-Encoding:\r\n", ""), 501, false, "''" },
	{ POST("Transfer-Encoding: \"chunked\"\r\n", ""), 501, false, "\"chunked\"" },
	{ "POST / HTTP/1.0\r\n" CHUNKED "\r\n0\r\n\r\n", 400, false, "HTTP/1.0" },
	/* Chunks. */
	{ POST(CHUNKED, "\r\n"), 400, false, "hexadecimal" },
	{ POST(CHUNKED, "g\r\n"), 400, false, "hexadecimal" },
	{ POST(CHUNKED, "-1\r\n"), 400, false, "hexadecimal" },
	{ POST(CHUNKED, "+1\r\n"), 400, false, "hexadecimal" },
	{ POST(CHUNKED, "0x1\r\na\r\n0\r\n\r\n"), 400, false, "hexadecimal" },
	{ POST(CHUNKED, " 1\r\na\r\n0\r\n\r\n"), 400, false, "hexadecimal" },
	{ POST(CHUNKED, "1 \r\na\r\n0\r\n\r\n"), 400, false, "hexadecimal" },
	{ POST(CHUNKED, "1\na\r\n0\r\n\r\n"), 400, false, "hexadecimal" },
	{ POST(CHUNKED, "1;a\n"), 400, false, "hexadecimal" },
	{ POST(CHUNKED, "1;\x01\r\n"), 400, false, "0x01" },
	{ POST(CHUNKED, "1;a\rb\r\na\r\n0\r\n\r\n"), 400, false, "0x0d" },
	{ POST(CHUNKED, "1\r\na\n0\r\n\r\n"), 400, false, "CR LF" },
	{ POST(CHUNKED, "1\r\nab\r\n0\r\n\r\n"), 400, false, "more data" },
	{ POST(CHUNKED, "2\r\na\r\n0\r\n\r\n"), 400, false, "CR LF" },
	{ POST(CHUNKED, "10000000000000000\r\n"), 413, false, "64 bits" },
	{ POST(CHUNKED, "ffffffffffffffff\r\n"), 413, false, "limit" },
	{ POST(CHUNKED, "5\r\nhello\r\nffffffffffffffff\r\n"), 413, false, "limit" },
	{ POST(CHUNKED, "5\r\nhello\r\nfffffffffffffffb\r\n"), 413, false, "limit" },
	{ POST(CHUNKED, "3e9\r\n"), 413, false, "limit" },
	{ POST(CHUNKED, "0\r\n a: b\r\n\r\n"), 400, false, "continues" },
	{ POST(CHUNKED, "0\r\na b\r\n\r\n"), 400, false, "colon" },
	{ "BREW / HTTP/1.1\r\n" CHUNKED "\r\nx\r\n", 501, false, "'BREW'" },
};

START_TEST(test_bad)
{
	const struct bad *row = &bad[_i];
	const struct result *r = parse(row->text);

	ck_assert_msg(r->status == row->status, "%s: %d %s", row->text, r->status, r->message);
	ck_assert_msg(strstr(r->message, row->message) != NULL, "%s", r->message);
	ck_assert_int_eq(r->end_known, row->end_known);
	ck_assert_int_eq(r->result, row->end_known ? HTTP_PARSE_DONE : HTTP_PARSE_REFUSED);
	if (row->end_known) {
		ck_assert(r->keep_alive);
		ck_assert_uint_eq(r->left, 0);
	} else {
		ck_assert(!r->keep_alive);
	}
}
END_TEST

START_TEST(test_nul_bytes)
{
	static const char in_line[] = "GET /a\0b HTTP/1.1\r\n\r\n";
	static const char in_name[] = "GET / HTTP/1.1\r\na\0: b\r\n\r\n";
	static const char in_value[] = "GET / HTTP/1.1\r\nContent-Length: 5\0\r\n\r\nhello";
	static const char in_method[] = "G\0T / HTTP/1.1\r\n\r\n";
	static const char in_body[] = "PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\n\0a";
	static const char in_chunk[] = "PUT / HTTP/1.1\r\n" CHUNKED "\r\n1\0\r\na\r\n0\r\n\r\n";

	ck_assert_int_eq(parse_bytes(in_line, sizeof(in_line) - 1)->status, 400);
	ck_assert_int_eq(parse_bytes(in_name, sizeof(in_name) - 1)->status, 400);
	ck_assert_int_eq(parse_bytes(in_value, sizeof(in_value) - 1)->status, 400);
	ck_assert_int_eq(parse_bytes(in_method, sizeof(in_method) - 1)->status, 400);
	ck_assert_int_eq(parse_bytes(in_chunk, sizeof(in_chunk) - 1)->status, 400);
	/* A body is bytes. */
	ck_assert_int_eq(parse_bytes(in_body, sizeof(in_body))->status, 0);
	ck_assert_uint_eq(first.body_len, 3);
	ck_assert_mem_eq(first.body, "\0a\0", 3);
}
END_TEST

static const char *const unfinished[] = {
	"",
	"\r\n",
	"G",
	"GET / HTTP/1.1\r\n",
	"GET / HTTP/1.1\r\n\r",
	"GET / HTTP/1.1\r\na: b\r\n",
	POST("Content-Length: 5\r\n", "hell"),
	POST(CHUNKED, "5"),
	POST(CHUNKED, "5\r\nhello"),
	POST(CHUNKED, "5\r\nhello\r\n0\r\n"),
	POST(CHUNKED, "0\r\na: b\r\n"),
};

START_TEST(test_unfinished)
{
	const struct result *r = parse(unfinished[_i]);

	ck_assert_int_eq(r->result, HTTP_PARSE_MORE);
	ck_assert_int_eq(r->status, 0);
}
END_TEST

START_TEST(test_what_follows_stays)
{
	const struct result *r = parse(POST("Content-Length: 5\r\n", "helloGET"));

	ck_assert_str_eq(r->body, "hello");
	ck_assert_uint_eq(r->left, 3);
	r = parse(POST(CHUNKED, "5\r\nhello\r\n0\r\n\r\nGET"));
	ck_assert_str_eq(r->body, "hello");
	ck_assert_uint_eq(r->left, 3);
	r = parse("BREW / HTTP/1.1\r\nContent-Length: 2\r\n\r\nabGET");
	ck_assert_int_eq(r->status, 501);
	ck_assert_uint_eq(r->left, 3);
}
END_TEST

static bool continued(const char *request, size_t step)
{
	run(&first, request, strlen(request), 0, step);
	return first.continued;
}

START_TEST(test_expect)
{
	ck_assert(continued(POST("Expect: 100-continue\r\nContent-Length: 2\r\n", ""), 1000));
	ck_assert(continued(POST("Expect: 100-Continue\r\n" CHUNKED, ""), 1));
	/* Not asked for, nothing to come, or it has begun to come. */
	ck_assert(!continued(POST("Content-Length: 2\r\n", ""), 1000));
	ck_assert(!continued(POST("Expect: 100-continue\r\n", ""), 1000));
	ck_assert(!continued(POST("Expect: 100-continue\r\nContent-Length: 2\r\n", "a"), 1000));
	ck_assert(!continued(POST("Expect: 100-continue\r\n" CHUNKED, "2"), 1000));
	ck_assert(!continued("POST / HTTP/1.0\r\nExpect: 100-continue\r\n"
			     "Content-Length: 2\r\n\r\n",
			     1));
}
END_TEST

/* --- Limits --- */

static char *text;
static size_t text_len;

static void add(const char *what, size_t times)
{
	size_t len = strlen(what);

	text = realloc(text, text_len + len * times + 1);
	ck_assert_ptr_nonnull(text);
	for (size_t i = 0; i < times; i++) {
		memcpy(text + text_len, what, len);
		text_len += len;
	}
	text[text_len] = '\0';
}

/* In one piece, byte by byte, and in pieces that end inside lines. */
static const struct result *parse_text(void)
{
	run(&first, text, text_len, 0, text_len);
	run(&other, text, text_len, 0, 1);
	same(&first, &other);
	run(&other, text, text_len, 0, 1021);
	same(&first, &other);
	free(text);
	text = NULL;
	text_len = 0;
	return &first;
}

START_TEST(test_request_line_limit)
{
	/* "GET /" and " HTTP/1.1" */
	const size_t path = HTTP_REQUEST_LINE_MAX - 14 + (size_t)_i - 1;

	for (int bare = 0; bare < 2; bare++) {
		add("GET /", 1);
		add("x", path);
		add(" HTTP/1.1", 1);
		add(bare != 0 ? "\n\n" : "\r\n\r\n", 1);
		ck_assert_int_eq(parse_text()->status, _i < 2 ? 0 : 414);
		ck_assert_int_eq(first.result, _i < 2 ? HTTP_PARSE_DONE : HTTP_PARSE_REFUSED);
		if (_i < 2) {
			ck_assert_uint_eq(strlen(first.path), path + 1);
		}
	}
	/* Without an end it is refused as soon as no end can help. */
	add("x", HTTP_REQUEST_LINE_MAX + (size_t)_i);
	ck_assert_int_eq(parse_text()->result, _i < 2 ? HTTP_PARSE_MORE : HTTP_PARSE_REFUSED);
}
END_TEST

START_TEST(test_header_bytes_limit)
{
	/* "aa: " and "\r\n" twice */
	const size_t value = HTTP_HEADERS_MAX_BYTES - 1000 - 12 + (size_t)_i - 1;

	add("GET / HTTP/1.1\r\naa: ", 1);
	add("v", 1000);
	add("\r\naa: ", 1);
	add("v", value);
	add("\r\n\r\n", 1);
	ck_assert_int_eq(parse_text()->status, _i < 2 ? 0 : 431);
	/* One line that never ends. */
	add("GET / HTTP/1.1\r\n", 1);
	add("v", HTTP_HEADERS_MAX_BYTES + (size_t)_i);
	ck_assert_int_eq(parse_text()->status, _i < 2 ? 0 : 431);
	/* Trailers count, too. */
	add("POST / HTTP/1.1\r\n" CHUNKED, 1);
	add("\r\n0\r\naa: ", 1);
	add("v", HTTP_HEADERS_MAX_BYTES - 28 - 6 + (size_t)_i - 1);
	add("\r\n\r\n", 1);
	ck_assert_int_eq(parse_text()->status, _i < 2 ? 0 : 431);
}
END_TEST

START_TEST(test_header_count_limit)
{
	add("GET / HTTP/1.1\r\n", 1);
	add("a:b\r\n", HTTP_HEADERS_MAX + (size_t)_i - 1);
	add("\r\n", 1);
	ck_assert_int_eq(parse_text()->status, _i < 2 ? 0 : 431);
	add("POST / HTTP/1.1\r\n" CHUNKED "\r\n0\r\n", 1);
	add("a:b\r\n", HTTP_HEADERS_MAX - 1 + (size_t)_i - 1);
	add("\r\n", 1);
	ck_assert_int_eq(parse_text()->status, _i < 2 ? 0 : 431);
}
END_TEST

START_TEST(test_body_limit)
{
	char length[64];
	const size_t len = BODY_MAX + (size_t)_i - 1;

	(void)snprintf(length, sizeof(length), "POST / HTTP/1.1\r\nContent-Length: %zu\r\n\r\n",
		       len);
	add(length, 1);
	add("b", len);
	add("GET", 1);
	ck_assert_int_eq(parse_text()->status, _i < 2 ? 0 : 413);
	/* The body that is too large is skipped. */
	ck_assert_int_eq(first.result, HTTP_PARSE_DONE);
	ck_assert_uint_eq(first.left, 3);
	ck_assert_uint_eq(first.body_len, _i < 2 ? len : 0);
	/* In chunks of 1 byte and a long extension. */
	add("POST / HTTP/1.1\r\n" CHUNKED "\r\n", 1);
	add("1;eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee\r\nb\r\n", len);
	add("0\r\n\r\n", 1);
	ck_assert_int_eq(parse_text()->status, _i < 2 ? 0 : 413);
	ck_assert_int_eq(first.result, _i < 2 ? HTTP_PARSE_DONE : HTTP_PARSE_REFUSED);
	ck_assert_uint_eq(first.body_len, _i < 2 ? len : 0);
}
END_TEST

START_TEST(test_chunk_line_limit)
{
	add("POST / HTTP/1.1\r\n" CHUNKED "\r\n1;", 1);
	add("e", HTTP_CHUNK_LINE_MAX - 2 + (size_t)_i - 1);
	add("\r\nb\r\n0\r\n\r\n", 1);
	ck_assert_int_eq(parse_text()->status, _i < 2 ? 0 : 400);
	add("POST / HTTP/1.1\r\n" CHUNKED "\r\n", 1);
	add("0", HTTP_CHUNK_LINE_MAX + (size_t)_i);
	ck_assert_int_eq(parse_text()->status, _i < 2 ? 0 : 400);
}
END_TEST

/* A refused body is thrown away up to a limit, with a buffer that stays small. */
START_TEST(test_discard)
{
	static struct http_parser parser;
	char chunk[1 << 16], head[200];
	size_t len = (size_t)snprintf(head, sizeof(head),
				      "PUT / HTTP/1.1\r\nContent-Length: %llu\r\n\r\n",
				      (unsigned long long)HTTP_DISCARD_MAX);
	uint64_t sent = 0;

	http_parser_init(&parser, BODY_MAX);
	ck_assert_int_eq(http_parser_run(&parser, head, &len), HTTP_PARSE_REFUSED);
	ck_assert(parser.end_known);
	ck_assert_int_eq(http_parser_run(&parser, head, &len), HTTP_PARSE_MORE);
	ck_assert_uint_eq(len, 0);
	memset(chunk, 'x', sizeof(chunk));
	for (; sent < HTTP_DISCARD_MAX - sizeof(chunk); sent += sizeof(chunk)) {
		len = sizeof(chunk);
		ck_assert_int_eq(http_parser_run(&parser, chunk, &len), HTTP_PARSE_MORE);
		ck_assert_uint_eq(len, 0);
	}
	len = sizeof(chunk);
	ck_assert_int_eq(http_parser_run(&parser, chunk, &len), HTTP_PARSE_DONE);
	ck_assert_uint_eq(parser.consumed, sizeof(chunk));

	/* Chunks are counted, and one too many ends it. */
	http_parser_init(&parser, BODY_MAX);
	len = (size_t)snprintf(head, sizeof(head), "BREW / HTTP/1.1\r\n" CHUNKED "\r\n%llx\r\n",
			       (unsigned long long)HTTP_DISCARD_MAX - 1);
	ck_assert_int_eq(http_parser_run(&parser, head, &len), HTTP_PARSE_REFUSED);
	ck_assert(parser.end_known);
	ck_assert_int_eq(http_parser_run(&parser, head, &len), HTTP_PARSE_MORE);
	for (sent = 0; sent < HTTP_DISCARD_MAX - 1; sent += len) {
		size_t left = len = (size_t)MIN(HTTP_DISCARD_MAX - 1 - sent, sizeof(chunk));

		ck_assert_int_eq(http_parser_run(&parser, chunk, &left), HTTP_PARSE_MORE);
	}
	len = (size_t)snprintf(head, sizeof(head), "\r\n2\r\n");
	ck_assert_int_eq(http_parser_run(&parser, head, &len), HTTP_PARSE_REFUSED);
	ck_assert(!parser.end_known);
}
END_TEST

CHECK_MAIN("http_parser", CHECK_TABLE(test_good, good); CHECK_TABLE(test_bad, bad);
	   CHECK_TEST(test_nul_bytes); CHECK_TABLE(test_unfinished, unfinished);
	   CHECK_TEST(test_what_follows_stays); CHECK_TEST(test_expect);
	   CHECK_LOOP(test_request_line_limit, 3); CHECK_LOOP(test_header_bytes_limit, 3);
	   CHECK_LOOP(test_header_count_limit, 3); CHECK_LOOP(test_body_limit, 3);
	   CHECK_LOOP(test_chunk_line_limit, 3); CHECK_TEST(test_discard))
