/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands' client against a server of a few lines, a thread that says what the test wrote
 * down: answers in every form that HTTP has, at once or byte by byte, and answers that break it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "harness/check_main.h"

#include "../../src/cli/client.h"
#include "../../src/cli/end_report.h"
#include "../../src/cli/vm_status.h"
#include "vmm/run_directory.h"

#define OK_HEAD "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n"

static struct error e;
static struct client client;
static char directory[64], path[80];
static int listener, stop_pipe[2];
static pthread_t thread;
static bool serving;

/* What the server does with each connection. */
static struct script {
	const char *answer;
	size_t len; /* 0: strlen */
	bool slowly, stall;
	int requests; /* answers on one connection; 0: 1 */
	char seen[8192];
	size_t seen_len;
} script;

static void setup(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	e = (struct error){ 0 };
	script = (struct script){ 0 };
	client = (struct client){ .fd = -1 };
	serving = false;
	(void)snprintf(directory, sizeof(directory), "/tmp/vmm-client-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(directory));
	(void)snprintf(path, sizeof(path), "%s/api.sock", directory);
	(void)setenv("VMM_RUNTIME_DIR", directory, 1);
	ck_assert_int_eq(pipe(stop_pipe), 0);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	memcpy(address.sun_path, path, strlen(path) + 1);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(listener, 10), 0);
}

static void teardown(void)
{
	char command[100];

	client_close(&client);
	(void)close(stop_pipe[1]);
	if (serving) {
		(void)pthread_join(thread, NULL);
	}
	(void)close(stop_pipe[0]);
	(void)close(listener);
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", directory);
	ck_assert_int_eq(system(command), 0); /* NOLINT(cert-env33-c): a path of ours */
}

/* Reads a request whole: its head, and the body that its length says. */
static bool read_request(int fd)
{
	size_t from = script.seen_len;

	for (;;) {
		const char *end, *length;
		ssize_t n;

		script.seen[script.seen_len] = '\0';
		end = strstr(script.seen + from, "\r\n\r\n");
		length = strcasestr(script.seen + from, "content-length:");
		if (end != NULL &&
		    script.seen_len >=
			    (size_t)(end - script.seen) + 4 +
				    (length != NULL ? strtoull(length + 15, NULL, 10) : 0)) {
			return true;
		}
		n = read(fd, script.seen + script.seen_len,
			 sizeof(script.seen) - 1 - script.seen_len);
		if (n <= 0) {
			return false;
		}
		script.seen_len += (size_t)n;
	}
}

static void *serve(void *arg)
{
	size_t len = script.len != 0 ? script.len : strlen(script.answer);
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	struct pollfd stopped = { .fd = stop_pipe[0], .events = POLLIN };

	(void)arg;
	for (int i = 0; i < MAX(script.requests, 1) && read_request(fd); i++) {
		for (size_t at = 0; at < len;) {
			ssize_t n = send(fd, script.answer + at, script.slowly ? 1 : len - at,
					 MSG_NOSIGNAL);

			if (n <= 0) {
				break;
			}
			at += (size_t)n;
		}
	}
	if (script.stall) {
		(void)poll(&stopped, 1, -1);
	}
	(void)close(fd);
	return NULL;
}

static void start(const char *answer)
{
	script.answer = answer;
	ck_assert_int_eq(pthread_create(&thread, NULL, serve, NULL), 0);
	serving = true;
	check_ok(client_connect(&client, NULL, path, 10000, &e), &e);
}

/* The answer; status, body */
static const struct good_row {
	const char *answer;
	int status;
	const char *body;
} good[] = {
	{ "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello", 200, "hello" },
	{ "HTTP/1.1 200 OK\r\ncontent-length:5  \r\n\r\nhello", 200, "hello" },
	{ "HTTP/1.1 204 \r\nServer: x\r\nConnection: keep-alive\r\n\r\n", 204, "" },
	{ "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", 200, "" },
	{ "HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}", 400, "{}" },
	{ "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 200,
	  "hello" },
	{ "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n00A;x=y\r\nello world\r\n"
	  "0\r\nTrailer: x\r\n\r\n",
	  200, "hello world" },
	{ "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, "" },
	/* Both: the chunks count (RFC 9112, 6.3). */
	{ "HTTP/1.1 200 \r\nTransfer-Encoding: Chunked\r\nContent-Length: 3\r\n\r\n"
	  "5\r\nhello\r\n0\r\n\r\n",
	  200, "hello" },
	{ "HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, "until the end" },
	{ "HTTP/1.1 200 OK\r\n\r\n", 200, "" },
	{ "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", 200, "hello" },
	{ "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 \r\nLink: x\r\n\r\nHTTP/1.1 200 \r\n"
	  "Content-Length: 5\r\n\r\nhello",
	  200, "hello" },
};

START_TEST(test_answers)
{
	const struct good_row *row = &good[_i % ARRAY_SIZE(good)];
	struct client_reply reply = { 0 };

	script.slowly = (size_t)_i >= ARRAY_SIZE(good);
	start(row->answer);
	check_ok(client_request(&client, "GET", "/vm", NULL, 0, &reply, &e), &e);
	ck_assert_int_eq(reply.status, row->status);
	ck_assert_str_eq(reply.body, row->body);
	ck_assert_uint_eq(reply.len, strlen(row->body));
	client_reply_finish(&reply);
	ck_assert_str_eq(script.seen, "GET /vm HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n");
}
END_TEST

/* The answer; part of the message */
static const struct bad_row {
	const char *answer, *text;
	enum error_code code;
} bad[] = {
	{ "", "closed the connection", ERROR_HTTP },
	{ "HTTP/1.1 200 \r\nContent-Le", "closed the connection", ERROR_HTTP },
	{ "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhell", "closed the connection", ERROR_HTTP },
	{ "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "closed", ERROR_HTTP },
	{ "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "closed",
	  ERROR_HTTP },
	{ "SSH-2.0-OpenSSH_9.2\r\n\r\n", "no HTTP: 'SSH", ERROR_HTTP },
	{ "HTTP/2 200 \r\n\r\n", "no HTTP", ERROR_HTTP },
	{ "HTTP/1.1 abc \r\n\r\n", "no HTTP", ERROR_HTTP },
	{ "HTTP/1.1 42 \r\n\r\n", "no HTTP", ERROR_HTTP },
	{ "HTTP/1.1 200 \r\nno colon\r\n\r\n", "'no colon'", ERROR_HTTP },
	{ "HTTP/1.1 200 \r\nContent-Length: -1\r\n\r\n", "'-1'", ERROR_HTTP },
	{ "HTTP/1.1 200 \r\nContent-Length: \r\n\r\n", "no HTTP", ERROR_HTTP },
	{ "HTTP/1.1 200 \r\nContent-Length: 0x10\r\n\r\n", "'0x10'", ERROR_HTTP },
	{ "HTTP/1.1 200 \r\nContent-Length: 99999999999999999999\r\n\r\n", "9999", ERROR_HTTP },
	{ "HTTP/1.1 200 \r\nTransfer-Encoding: gzip\r\n\r\n", "'gzip'", ERROR_HTTP },
	{ "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello", "'-5'", ERROR_HTTP },
	{ "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "'xyz'", ERROR_HTTP },
	{ "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n1\r\nhello\r\n0\r\n\r\n", "HTTP",
	  ERROR_HTTP },
	{ "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", "ffff",
	  ERROR_HTTP },
	{ "HTTP/1.1 100 \r\n\r\nHTTP/1.1 100 \r\n\r\nHTTP/1.1 100 \r\n\r\nHTTP/1.1 100 \r\n\r\n"
	  "HTTP/1.1 100 \r\n\r\nHTTP/1.1 100 \r\n\r\nHTTP/1.1 100 \r\n\r\nHTTP/1.1 100 \r\n\r\n"
	  "HTTP/1.1 100 \r\n\r\nHTTP/1.1 100 \r\n\r\nHTTP/1.1 100 \r\n\r\nHTTP/1.1 200 \r\n\r\n",
	  "1xx", ERROR_HTTP },
};

START_TEST(test_bad_answers)
{
	const struct bad_row *row = &bad[_i % ARRAY_SIZE(bad)];
	struct client_reply reply = { 0 };

	script.slowly = (size_t)_i >= ARRAY_SIZE(bad);
	start(row->answer);
	ck_assert_int_lt(client_request(&client, "GET", "/vm", NULL, 0, &reply, &e), 0);
	check_error(&e, row->code, row->text);
	ck_assert_ptr_null(reply.body);
}
END_TEST

static char *long_text(const char *head, char c, size_t len, const char *tail)
{
	char *text = malloc(strlen(head) + len + strlen(tail) + 1);

	ck_assert_ptr_nonnull(text);
	memcpy(text, head, strlen(head));
	memset(text + strlen(head), c, len);
	memcpy(text + strlen(head) + len, tail, strlen(tail) + 1);
	return text;
}

enum size_kind { LONG_LINE, MANY_HEADERS, LONG_BODY, LONG_UNTIL_END, FITTING_BODY };

START_TEST(test_sizes)
{
	struct client_reply reply = { 0 };
	char head[100];
	char *text = NULL;
	size_t used;
	int r;

	switch (_i) {
	case LONG_LINE:
		text = long_text("HTTP/1.1 200 ", 'x', CLIENT_HEAD_MAX + 1, "\r\n\r\n");
		break;
	case MANY_HEADERS:
		text = long_text("HTTP/1.1 200 \r\n", 'a', 40000, ": 1\r\n");
		text = realloc(text, 200000);
		ck_assert_ptr_nonnull(text);
		used = strlen(text);
		memset(text + used, 'b', 40000);
		memcpy(text + used + 40000, ": 1\r\n\r\n", 8);
		break;
	case LONG_BODY:
		(void)snprintf(head, sizeof(head), "HTTP/1.1 200 \r\nContent-Length: %llu\r\n\r\n",
			       (unsigned long long)CLIENT_BODY_MAX + 1);
		text = long_text(head, 'x', CLIENT_BODY_MAX + 1, "");
		break;
	case LONG_UNTIL_END:
		text = long_text("HTTP/1.1 200 \r\n\r\n", 'x', CLIENT_BODY_MAX + 1, "");
		break;
	default:
		text = long_text("HTTP/1.1 200 \r\n\r\n", 'x', CLIENT_BODY_MAX, "");
		break;
	}
	start(text);
	r = client_request(&client, "GET", "/vm", NULL, 0, &reply, &e);
	if (_i == FITTING_BODY) {
		check_ok(r, &e);
		ck_assert_uint_eq(reply.len, CLIENT_BODY_MAX);
	} else {
		ck_assert_int_lt(r, 0);
		check_error(&e, _i <= MANY_HEADERS ? ERROR_HTTP : ERROR_TOO_LARGE,
			    _i <= MANY_HEADERS ? "bytes" : "MiB");
	}
	client_reply_finish(&reply);
	client_close(&client);
	(void)pthread_join(thread, NULL);
	serving = false;
	free(text);
}
END_TEST

START_TEST(test_body_and_keep_alive)
{
	static const char first[] = "PUT /actions HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n"
				    "Content-Type: application/json\r\nContent-Length: 8\r\n\r\n"
				    "{\"a\": 1}PATCH /vm HTTP/1.1\r\n";
	struct client_reply reply = { 0 };

	script.requests = 2;
	start("HTTP/1.1 204 \r\n\r\n");
	check_ok(client_request(&client, "PUT", "/actions", "{\"a\": 1}", 8, &reply, &e), &e);
	client_reply_finish(&reply);
	check_ok(client_request(&client, "PATCH", "/vm", "{}", 2, &reply, &e), &e);
	client_reply_finish(&reply);
	client_close(&client);
	(void)pthread_join(thread, NULL);
	serving = false;
	ck_assert_msg(strncmp(script.seen, first, strlen(first)) == 0, "%s", script.seen);
}
END_TEST

static const char *const bad_paths[][2] = {
	{ "GET", "vm" },
	{ "GET", "" },
	{ "GET", "/a b" },
	{ "GET", "/a\r\nX: y" },
	{ "GET", "/caf\xc3\xa9" },
	{ "G ET", "/" },
	{ "", "/" },
	{ "GET / HTTP/1.1\r\n", "/" },
};

START_TEST(test_bad_requests)
{
	struct client_reply reply = { 0 };

	client.timeout_ms = 1000;
	ck_assert_int_lt(
		client_request(&client, bad_paths[_i][0], bad_paths[_i][1], NULL, 0, &reply, &e),
		0);
	check_error(&e, ERROR_USAGE, "'");
	ck_assert_str_ne(e.hint, "");
}
END_TEST

START_TEST(test_refusal)
{
	json_t *value = NULL;

	start("HTTP/1.1 400 \r\nContent-Type: application/json\r\nContent-Length: 88\r\n\r\n"
	      "{\"fault_message\": \"disk 'x': no\", \"code\": \"disk-locked\", \"hint\": "
	      "\"stop the other one\" }      ");
	ck_assert_int_lt(client_call(&client, "GET", "/vm", NULL, &value, &e), 0);
	check_error(&e, ERROR_DISK_LOCKED, "disk 'x': no");
	ck_assert_str_eq(e.hint, "stop the other one");
	ck_assert_ptr_null(value);
}
END_TEST

/* body, code, message */
static const struct refusal_row {
	const char *body;
	enum error_code code;
	const char *text;
} refusals[] = {
	{ "", ERROR_HTTP, "GET /vm: status 400" },
	{ "not JSON", ERROR_HTTP, "status 400" },
	{ "[1]", ERROR_HTTP, "status 400" },
	{ "{\"fault_message\": 7}", ERROR_HTTP, "status 400" },
	{ "{\"fault_message\": \"Firecracker's\"}", ERROR_HTTP, "Firecracker's" },
	{ "{\"error\": \"no proper HTTP\"}", ERROR_HTTP, "no proper HTTP" },
	{ "{\"fault_message\": \"x\", \"code\": \"from the future\"}", ERROR_HTTP, "x" },
	{ "{\"fault_message\": \"x\", \"code\": 5, \"hint\": []}", ERROR_HTTP, "x" },
	{ "{\"fault_message\": \"x\", \"code\": \"busy\"}", ERROR_BUSY, "x" },
};

START_TEST(test_refusals)
{
	char answer[300];
	json_t *value = NULL;

	(void)snprintf(answer, sizeof(answer), "HTTP/1.1 400 \r\nContent-Length: %zu\r\n\r\n%s",
		       strlen(refusals[_i].body), refusals[_i].body);
	start(answer);
	ck_assert_int_lt(client_call(&client, "GET", "/vm", NULL, &value, &e), 0);
	check_error(&e, refusals[_i].code, refusals[_i].text);
}
END_TEST

START_TEST(test_call)
{
	auto_json json_t *body = json_pack("{s:s}", "state", "Paused");
	auto_json json_t *value = NULL;

	start("HTTP/1.1 200 \r\nContent-Length: 8\r\n\r\n{\"a\": 7}");
	check_ok(client_call(&client, "PATCH", "/vm", body, &value, &e), &e);
	ck_assert_int_eq(json_integer_value(json_object_get(value, "a")), 7);
	ck_assert_ptr_nonnull(strstr(script.seen, "\r\n\r\n{\"state\":\"Paused\"}"));
}
END_TEST

START_TEST(test_answer_is_no_json)
{
	json_t *value = NULL;

	start(OK_HEAD "{]");
	ck_assert_int_lt(client_call(&client, "GET", "/vm", NULL, &value, &e), 0);
	check_error(&e, ERROR_JSON, "GET /vm");
}
END_TEST

START_TEST(test_never_answers)
{
	struct client_reply reply = { 0 };

	script.stall = true;
	start("HTTP/1.1 200 \r\nContent-Length: 10\r\n\r\nhalf");
	client.timeout_ms = 30;
	ck_assert_int_eq(client_request(&client, "GET", "/vm", NULL, 0, &reply, &e), -ETIMEDOUT);
	check_error(&e, ERROR_BUSY, "30 ms");
	ck_assert_str_ne(e.hint, "");
}
END_TEST

struct lines {
	char text[200];
	int count, limit;
};

static bool take_line(void *arg, const char *text, size_t len)
{
	struct lines *lines = arg;

	ck_assert_uint_eq(strlen(text), len);
	(void)strncat(lines->text, text, len);
	(void)strcat(lines->text, "|");
	return ++lines->count != lines->limit;
}

#define EVENTS                                                                   \
	"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n8\r\none\ntwo\n\r\n" \
	"2\r\nth\r\n5\r\nree\nf\r\n3\r\nour\r\n1\r\n\n\r\n"

START_TEST(test_stream)
{
	struct lines lines = { .limit = -1 };

	script.slowly = _i == 1;
	start(EVENTS "0\r\n\r\n");
	check_ok(client_stream(&client, "/events", take_line, &lines, &e), &e);
	ck_assert_str_eq(lines.text, "one|two|three|four|");
}
END_TEST

START_TEST(test_stream_is_left)
{
	struct lines lines = { .limit = 3 };

	script.stall = true;
	start(EVENTS);
	check_ok(client_stream(&client, "/events", take_line, &lines, &e), &e);
	ck_assert_str_eq(lines.text, "one|two|three|");
}
END_TEST

START_TEST(test_stream_breaks_off)
{
	struct lines lines = { .limit = -1 };

	start(EVENTS);
	ck_assert_int_eq(client_stream(&client, "/events", take_line, &lines, &e), -ECONNRESET);
	ck_assert_str_eq(lines.text, "one|two|three|four|");
}
END_TEST

START_TEST(test_stream_refused)
{
	struct lines lines = { .limit = -1 };

	start("HTTP/1.1 404 \r\nContent-Length: 23\r\n\r\n{\"fault_message\": \"no\"}");
	ck_assert_int_lt(client_stream(&client, "/events", take_line, &lines, &e), 0);
	check_error(&e, ERROR_HTTP, "no");
	ck_assert_int_eq(lines.count, 0);
}
END_TEST

START_TEST(test_stream_with_a_long_line)
{
	struct lines lines = { .limit = -1 };
	char *text = long_text("HTTP/1.1 200 \r\n\r\n", 'x', CLIENT_LINE_MAX + 1, "\n");

	start(text);
	ck_assert_int_lt(client_stream(&client, "/events", take_line, &lines, &e), 0);
	check_error(&e, ERROR_TOO_LARGE, "line");
	client_close(&client);
	(void)pthread_join(thread, NULL);
	serving = false;
	free(text);
}
END_TEST

START_TEST(test_connect_errors)
{
	struct run_directory dir = { 0 };
	char missing[100];

	ck_assert_int_lt(client_connect(&client, "web", NULL, 1000, &e), 0);
	check_error(&e, ERROR_NOT_FOUND, "'web'");
	check_ok(run_directory_claim(&dir, "web", &e), &e);
	ck_assert_int_lt(client_connect(&client, "web", NULL, 1000, &e), 0);
	check_error(&e, ERROR_NOT_FOUND, "nobody listens");
	dir.keep = true;
	run_directory_finish(&dir);
	ck_assert_int_lt(client_connect(&client, "web", NULL, 1000, &e), 0);
	check_error(&e, ERROR_NOT_FOUND, "has ended");
	check_error(&e, ERROR_NOT_FOUND, "vmm rm web");
	(void)snprintf(missing, sizeof(missing), "%s/missing", directory);
	ck_assert_int_lt(client_connect(&client, NULL, missing, 1000, &e), 0);
	check_error(&e, ERROR_NOT_FOUND, missing);
	ck_assert_int_lt(client_connect(&client, NULL, directory, 1000, &e), 0);
	check_error(&e, ERROR_CONFIG, "not a socket");
	ck_assert_int_eq(client.fd, -1);
}
END_TEST

/* Through a symlink of the user's, too. */
START_TEST(test_connect_by_path)
{
	char link[100];

	(void)snprintf(link, sizeof(link), "%s/link", directory);
	ck_assert_int_eq(symlink(path, link), 0);
	check_ok(client_connect(&client, NULL, link, 1000, &e), &e);
	ck_assert_int_ge(client.fd, 0);
}
END_TEST

#define VM_ANSWER                                                                                \
	"{\"state\": \"running\", \"uptime_ms\": 5000, \"pid\": 77, \"vcpu_count\": 2, "         \
	"\"vcpus\": [{\"cpu_time_us\": 10, \"exits\": {\"io\": 1, \"mmio\": 2, \"other\": 3}}, " \
	"{\"cpu_time_us\": 5, \"exits\": {\"io\": 4}}], "                                        \
	"\"memory\": {\"size_bytes\": 1048576, \"resident_bytes\": 4096}}"

START_TEST(test_status)
{
	struct vm_status status;
	json_t *vm = NULL;

	check_ok(json_parse(&vm, VM_ANSWER, strlen(VM_ANSWER), &e), &e);
	vm_status_read(&status, vm);
	json_decref(vm);
	ck_assert(status.answered);
	ck_assert_str_eq(status.state, "running");
	ck_assert_uint_eq(status.uptime_ms, 5000);
	ck_assert_uint_eq(status.vcpus, 2);
	ck_assert_uint_eq(status.memory, MIB(1));
	ck_assert_uint_eq(status.resident, KIB(4));
	ck_assert_uint_eq(status.pid, 77);
	ck_assert_uint_eq(status.cpu_time_us, 15);
	ck_assert_uint_eq(status.exits, 10);
}
END_TEST

static const char *const odd_states[] = {
	"{}",
	"[]",
	"7",
	"null",
	"{\"state\": 7, \"vcpus\": 3, \"memory\": []}",
	"{\"state\": \"\\u001b[31mred and far too long for what it is shown in\"}",
	"{\"uptime_ms\": -1, \"pid\": \"x\", \"vcpus\": [1, {}, []]}",
};

START_TEST(test_odd_status)
{
	struct vm_status status;
	json_t *vm = NULL;

	check_ok(json_parse(&vm, odd_states[_i], strlen(odd_states[_i]), &e), &e);
	vm_status_read(&status, vm);
	json_decref(vm);
	ck_assert_ptr_null(strchr(status.state, '\x1b'));
	ck_assert_uint_eq(status.uptime_ms, 0);
	ck_assert_uint_eq(status.exits, 0);
}
END_TEST

/* Two VMs of this process: one answers, one listens and never does; one is not there, and one is not
 * asked. */
START_TEST(test_ask_many)
{
	struct run_directory dirs[2] = { 0 };
	struct vm_asked asked[] = {
		{ .name = "good" }, { .name = "stuck" }, { .name = NULL }, { .name = "none" }
	};
	char answer[1000];
	int fds[2];

	(void)snprintf(answer, sizeof(answer), "HTTP/1.1 200 \r\nContent-Length: %zu\r\n\r\n%s",
		       strlen(VM_ANSWER), VM_ANSWER);
	for (int i = 0; i < 2; i++) {
		check_ok(run_directory_claim(&dirs[i], asked[i].name, &e), &e);
		check_ok(run_directory_listen(&dirs[i], "api.sock", &fds[i], &e), &e);
	}
	/* The listening socket must wait for the client. */
	(void)close(listener);
	ck_assert_int_eq(fcntl(fds[0], F_SETFL, 0), 0);
	listener = fds[0];
	script.answer = answer;
	ck_assert_int_eq(pthread_create(&thread, NULL, serve, NULL), 0);
	serving = true;
	vm_status_ask(asked, ARRAY_SIZE(asked), 100);
	ck_assert_str_eq(asked[0].status.state, "running");
	ck_assert_str_eq(asked[1].status.state, "not answering");
	ck_assert_uint_eq(asked[1].status.pid, (uint64_t)getpid());
	ck_assert_str_eq(asked[2].status.state, "");
	ck_assert_str_eq(asked[3].status.state, "ended");
	for (int i = 0; i < 2; i++) {
		run_directory_finish(&dirs[i]);
	}
	(void)close(fds[1]);
}
END_TEST

static const struct figure_row {
	uint64_t n;
	const char *bytes, *duration;
} figures[] = {
	{ 0, "0", "0s" },
	{ 119, "119", "119s" },
	{ 120, "120", "2m" },
	{ 1023, "1023", "17m" },
	{ 1024, "1.0K", "17m" },
	{ 7199, "7.0K", "119m" },
	{ 7200, "7.0K", "2h" },
	{ 10239, "9.9K", "2h" },
	{ 10240, "10K", "2h" },
	{ 172800, "168K", "2d" },
	{ 1048575, "1023K", "12d" },
	{ 1048576, "1.0M", "12d" },
	{ 536870912, "512M", "6213d" },
	{ UINT64_MAX, "15E", "213503982334601d" },
};

START_TEST(test_figures)
{
	char buf[FIGURE_SIZE];

	ck_assert_str_eq(show_bytes(buf, figures[_i].n), figures[_i].bytes);
	ck_assert_str_eq(show_duration(buf, figures[_i].n), figures[_i].duration);
}
END_TEST

/* text of exit.json, reason, exit code */
static const struct report_row {
	const char *text, *reason;
	int code;
} reports[] = {
	{ "{\"reason\": \"power-off\", \"exit_code\": 0}", "power-off", 0 },
	{ "{\"reason\": \"panic\", \"exit_code\": 11}", "panic", 11 },
	{ "{\"reason\": \"panic\", \"exit_code\": 1100}", "panic", 125 },
	{ "{\"reason\": \"panic\", \"exit_code\": -1}", "panic", 125 },
	{ "{\"reason\": \"\\u001b[2J\", \"exit_code\": 1}", "", 0 },
	{ "{\"exit_code\": 1}", "", 0 },
	{ "{\"reason\": \"pow", "", 0 },
	{ "[]", "", 0 },
	{ "", "", 0 },
};

START_TEST(test_reports)
{
	struct run_directory dir = { 0 };
	struct end_report report;
	int fd = -1;

	check_ok(run_directory_claim(&dir, "web", &e), &e);
	end_report_read(&report, dir.fd);
	ck_assert_str_eq(report.reason, "");
	check_ok(run_directory_open(&dir, "exit.json", &fd, &e), &e);
	ck_assert_int_eq(write(fd, reports[_i].text, strlen(reports[_i].text)),
			 (ssize_t)strlen(reports[_i].text));
	(void)close(fd);
	end_report_read(&report, dir.fd);
	ck_assert_str_eq(report.reason, reports[_i].reason);
	ck_assert_int_eq(report.exit_code, reports[_i].code);
	run_directory_finish(&dir);
}
END_TEST

CHECK_MAIN("client", CHECK_FIXTURE(setup, teardown); CHECK_LOOP(test_answers, 2 * ARRAY_SIZE(good));
	   CHECK_LOOP(test_bad_answers, 2 * ARRAY_SIZE(bad));
	   CHECK_LOOP(test_sizes, FITTING_BODY + 1); CHECK_TEST(test_body_and_keep_alive);
	   CHECK_TABLE(test_bad_requests, bad_paths); CHECK_TEST(test_refusal);
	   CHECK_TABLE(test_refusals, refusals); CHECK_TEST(test_call);
	   CHECK_TEST(test_answer_is_no_json); CHECK_TEST(test_never_answers);
	   CHECK_LOOP(test_stream, 2); CHECK_TEST(test_stream_is_left);
	   CHECK_TEST(test_stream_breaks_off); CHECK_TEST(test_stream_refused);
	   CHECK_TEST(test_stream_with_a_long_line); CHECK_TEST(test_connect_errors);
	   CHECK_TEST(test_connect_by_path); CHECK_TEST(test_status);
	   CHECK_TABLE(test_odd_status, odd_states); CHECK_TEST(test_ask_many);
	   CHECK_TABLE(test_figures, figures); CHECK_TABLE(test_reports, reports))
