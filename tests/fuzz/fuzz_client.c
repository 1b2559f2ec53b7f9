/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: what a VM answers to a command. The first byte chooses between a plain answer, JSON,
 * a stream and a status; a part of the other inputs gets a good beginning, or few would come beyond
 * the first line. Beyond crashes: a refusal says why, an answer has a NUL behind it and is no longer
 * than what was sent.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../src/cli/client.h"
#include "../../src/cli/vm_status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX 65536 /* fits into a socket's buffer */

static const char *const beginnings[] = {
	"",
	"HTTP/1.1 200 \r\n",
	"HTTP/1.1 200 \r\nContent-Length: ",
	"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n",
	"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
	"HTTP/1.1 400 \r\n\r\n{\"fault_message\": \"",
	"HTTP/1.0 200 \r\n\r\n",
	"HTTP/1.0 200 \r\n\r\n{\"state\": \"running\", \"vcpus\": [{\"",
};

static void check(bool right)
{
	if (!right) {
		abort();
	}
}

static void check_error(int r, const struct error *e)
{
	check(r >= 0 || (e->code != ERROR_NONE && e->msg[0] != '\0'));
}

struct lines {
	size_t bytes, count;
};

static bool take_line(void *arg, const char *text, size_t len)
{
	struct lines *lines = arg;

	check(text[len] == '\0');
	lines->bytes += len;
	return ++lines->count < 100;
}

static void ask(struct client *client, int how, size_t sent)
{
	struct client_reply reply = { 0 };
	struct lines lines = { 0 };
	struct vm_status status;
	struct error e = { 0 };
	json_t *value = NULL;
	int r;

	switch (how % 3) {
	case 0:
		r = client_request(client, "GET", "/vm", NULL, 0, &reply, &e);
		if (r == 0) {
			check(reply.len <= sent && reply.body[reply.len] == '\0' &&
			      reply.status >= 200);
			check(client_reply_error(&reply, "GET", "/vm", &e) < 0);
		}
		client_reply_finish(&reply);
		break;
	case 1:
		r = client_call(client, "GET", "/vm", NULL, &value, &e);
		if (r == 0) {
			vm_status_read(&status, value);
			check(memchr(status.state, '\0', sizeof(status.state)) != NULL);
		}
		json_decref(value);
		break;
	default:
		r = client_stream(client, "/events", take_line, &lines, &e);
		check(lines.bytes <= sent);
		break;
	}
	check_error(r, &e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct client client = { .timeout_ms = 10000 };
	const char *beginning;
	int ends[2];

	if (size == 0 || size > INPUT_MAX) {
		return 0;
	}
	beginning = beginnings[data[0] / 3 % ARRAY_SIZE(beginnings)];
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
	check(write(ends[1], beginning, strlen(beginning)) == (ssize_t)strlen(beginning));
	check(write(ends[1], data + 1, size - 1) == (ssize_t)size - 1);
	check(shutdown(ends[1], SHUT_WR) == 0);
	client.fd = ends[0];
	ask(&client, data[0], size + strlen(beginning));
	client_close(&client);
	(void)close(ends[1]);
	return 0;
}
