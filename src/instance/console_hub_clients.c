// SPDX-License-Identifier: Apache-2.0
/*
 * The console hub's clients: connections to the console socket, plain bytes both ways.
 *
 * Output: a client has a position in the ring. As long as its socket takes everything it listens,
 * which means that a device thread wakes main for it; when the socket is full it waits for EPOLLOUT
 * instead, and costs the guest nothing. When the ring has gone past its position it is told how
 * much it missed and goes on at the oldest byte.
 *
 * Input: one read of at most CONSOLE_CLIENT_INPUT bytes, which then wait in a list with those of
 * other clients until the guest has taken them, oldest first; meanwhile the socket is not read.
 *
 * End: the end of a client's input (a half-closed socket) leaves its output. A client is let go when
 * it can neither read nor say anything more. A silent source keeps the event mask EPOLLET, which
 * still tells of a hang-up, once: a mask of 0 would not tell, EPOLLRDHUP would tell again and again.
 * Who has hung up with input that the guest does not take makes room when a new client needs it.
 *
 * Main only. Clients are users of this VM's console, and hostile: they control their bytes, their
 * number, and when they read. One round of the loop does at most a ring's worth of sending and one
 * read per client.
 */
#include "console_hub_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/cleanup.h"
#include "vmm/log.h"

LOG_DOMAIN("console");

/* Connections taken in one round of the loop. */
#define ACCEPTS_PER_ROUND 8
/* When connections cannot be taken, for want of descriptors. */
#define ACCEPT_AGAIN_NS 100000000ULL
#define NS_PER_MS	1000000ULL
/* A replay begins with a whole line if one begins so early in the ring. */
#define REPLAY_LINE_MAX 1024

static void set_listening(struct console_client *client, bool listening)
{
	struct console_hub *hub = client->hub;

	if (client->listening != listening) {
		client->listening = listening;
		SCOPED_LOCK(&hub->lock);
		if (listening) {
			hub->listeners++;
		} else {
			hub->listeners--;
		}
	}
}

static void end_output(struct console_client *client)
{
	client->output_ended = true;
	client->note.len = 0;
	set_listening(client, false);
}

static void unqueue(struct console_client *client)
{
	struct console_hub *hub = client->hub;

	for (struct console_client **link = &hub->input_head; *link != NULL;
	     link = &(*link)->input_next) {
		if (*link == client) {
			*link = client->input_next;
			if (*link == NULL) {
				hub->input_tail = link;
			}
			break;
		}
	}
	client->queued = false;
	client->input_len = 0;
}

/* The other end would see an error in place of our end if we left something unread. */
static void close_socket(int fd)
{
	uint8_t rest[1024];

	for (int i = 0; i < 256 && recv(fd, rest, sizeof(rest), MSG_DONTWAIT) > 0; i++) {
	}
	(void)close(fd);
}

static void drop_client(struct console_client *client)
{
	struct console_hub *hub = client->hub;
	uint8_t *input = client->input;

	if (client->queued) {
		unqueue(client);
	}
	set_listening(client, false);
	loop_source_remove(&client->source);
	close_socket(client->fd);
	hub->client_count--;
	*client = (struct console_client){ .input = input };
}

/* How much the socket took; the output has ended if it will never take more. */
static size_t send_bytes(struct console_client *client, const void *data, size_t len)
{
	ssize_t n;

	do {
		n = send(client->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN) {
		end_output(client);
	}
	return n > 0 ? (size_t)n : 0;
}

/* False if the socket is full or the client gone. */
static bool send_note(struct console_client *client)
{
	struct console_note *note = &client->note;

	if (note->len > note->sent) {
		note->sent += send_bytes(client, note->text + note->sent, note->len - note->sent);
	}
	return !client->output_ended && note->sent == note->len;
}

/* True if the client has all that there was at the call, false if its socket is full or it is gone. */
static bool send_output(struct console_client *client)
{
	struct console_hub *hub = client->hub;
	uint64_t end = console_hub_end(hub);

	while (send_note(client) && client->position < end) {
		uint64_t lost;
		size_t len = console_hub_read(hub, &client->position, hub->piece, CONSOLE_HUB_PIECE,
					      &lost);
		size_t sent;

		if (lost > 0) {
			hub->lost_bytes += lost;
			console_note_set(&client->note, lost);
			continue;
		}
		sent = send_bytes(client, hub->piece, len);
		client->position += sent;
		if (sent < len) {
			return false;
		}
	}
	return !client->output_ended && client->note.sent == client->note.len;
}

/* What waits for this client's socket, and whether it is one at all any more. */
static void settle(struct console_client *client)
{
	uint32_t events = 0;

	if (client->input_ended && client->output_ended && !client->queued) {
		drop_client(client);
		return;
	}
	if (!client->input_ended && !client->queued) {
		events |= EPOLLIN;
	}
	if (!client->output_ended && !client->listening) {
		events |= EPOLLOUT;
	}
	if (loop_source_modify(&client->source, events != 0 ? events : EPOLLET) < 0) {
		drop_client(client);
	}
}

static void pump(struct console_client *client)
{
	if (client->output_ended) {
		return;
	}
	/* Before the look at the ring: what comes after it wakes main. */
	set_listening(client, true);
	if (!send_output(client)) {
		set_listening(client, false);
	}
}

void console_clients_output(struct console_hub *hub)
{
	for (size_t i = 0; i < CONSOLE_HUB_CLIENTS; i++) {
		if (hub->clients[i].hub != NULL && hub->clients[i].listening) {
			pump(&hub->clients[i]);
			settle(&hub->clients[i]);
		}
	}
}

void console_clients_deliver(struct console_hub *hub)
{
	while (hub->started && hub->input_head != NULL) {
		struct console_client *client = hub->input_head;
		size_t taken = hub->config.deliver(
			hub->config.arg, client->input + client->input_start, client->input_len);

		hub->input_bytes += taken;
		client->input_start += taken;
		client->input_len -= taken;
		if (client->input_len > 0) {
			return; /* until input_ready() */
		}
		unqueue(client);
		settle(client);
	}
}

static void receive(struct console_client *client)
{
	struct console_hub *hub = client->hub;
	ssize_t n = recv(client->fd, client->input, CONSOLE_CLIENT_INPUT, MSG_DONTWAIT);

	if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
		return;
	}
	if (n <= 0) {
		client->input_ended = true;
		return;
	}
	client->input_start = 0;
	client->input_len = (size_t)n;
	client->queued = true;
	client->input_next = NULL;
	*hub->input_tail = client;
	hub->input_tail = &client->input_next;
}

static void client_ready(struct loop_source *source, uint32_t events)
{
	struct console_client *client = container_of(source, struct console_client, source);
	struct console_hub *hub = client->hub;

	if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
		end_output(client); /* what it has said before is still there to be read */
	} else if ((events & EPOLLOUT) != 0) {
		pump(client);
	}
	if (!client->input_ended && !client->queued) {
		receive(client);
	}
	settle(client);
	console_clients_deliver(hub);
}

/* A free place; if need be that of one who has gone, whose last words the guest does not take. */
static struct console_client *find_place(struct console_hub *hub)
{
	for (size_t i = 0; i < CONSOLE_HUB_CLIENTS; i++) {
		if (hub->clients[i].hub == NULL) {
			return &hub->clients[i];
		}
	}
	for (size_t i = 0; i < CONSOLE_HUB_CLIENTS; i++) {
		struct pollfd p = { .fd = hub->clients[i].fd };

		if (hub->clients[i].output_ended && poll(&p, 1, 0) == 1) {
			drop_client(&hub->clients[i]);
			return &hub->clients[i];
		}
	}
	return NULL;
}

/* Where a replay begins: at the oldest byte, or at the first line behind it. */
static uint64_t replay_position(struct console_hub *hub)
{
	uint64_t oldest;

	SCOPED_LOCK(&hub->lock);
	oldest = console_hub_oldest(hub);
	for (uint64_t at = oldest; oldest > 0 && at < oldest + REPLAY_LINE_MAX; at++) {
		if (hub->ring[at & (CONSOLE_HUB_RING - 1)] == '\n') {
			return at + 1;
		}
	}
	return oldest;
}

static void add_client(struct console_hub *hub, int fd)
{
	struct console_client *client = find_place(hub);
	char text[80];
	int len;

	if (client != NULL) {
		client->hub = hub;
		client->fd = fd;
		client->position = replay_position(hub);
		if (loop_source_add(hub->config.loop, &client->source, fd, EPOLLET, client_ready,
				    NULL) == 0) {
			hub->client_count++;
			pump(client);
			settle(client);
			return;
		}
		client->hub = NULL;
	}
	len = snprintf(text, sizeof(text), "vmm: too many clients at this console (%u)\r\n",
		       hub->client_count);
	(void)!send(fd, text, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);
	close_socket(fd);
}

static void accept_again(struct loop_timer *timer)
{
	struct console_hub *hub = container_of(timer, struct console_hub, listen_again);

	(void)loop_source_modify(&hub->listen, EPOLLIN);
}

static void listen_ready(struct loop_source *source, uint32_t events)
{
	struct console_hub *hub = container_of(source, struct console_hub, listen);

	(void)events;
	for (int i = 0; i < ACCEPTS_PER_ROUND; i++) {
		int fd = accept4(hub->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			add_client(hub, fd);
		} else if (errno != EINTR && errno != ECONNABORTED) {
			if (errno != EAGAIN) {
				/* It would be tried again at once, for ever. */
				(void)loop_source_modify(source, 0);
				loop_timer_set(hub->config.loop, &hub->listen_again,
					       ACCEPT_AGAIN_NS, accept_again);
			}
			return;
		}
	}
}

int console_hub_listen(struct console_hub *hub, int fd, struct error *e)
{
	int r;

	if (hub->listen_fd >= 0) {
		(void)close(fd);
		return error_set(e, ERROR_INTERNAL, EEXIST, "console: it has a socket already");
	}
	r = loop_source_add(hub->config.loop, &hub->listen, fd, EPOLLIN, listen_ready, e);
	if (r < 0) {
		(void)close(fd);
		return error_prefix(e, "console socket");
	}
	hub->listen_fd = fd;
	return 0;
}

void console_hub_unlisten(struct console_hub *hub)
{
	loop_source_remove(&hub->listen);
	loop_timer_cancel(&hub->listen_again);
	close_fd(&hub->listen_fd);
}

/* One round of sending to those who have not got everything; false if nobody waits any more. */
static bool flush_clients(struct console_hub *hub, int timeout_ms)
{
	struct pollfd polls[CONSOLE_HUB_CLIENTS];
	nfds_t count = 0;

	for (size_t i = 0; i < CONSOLE_HUB_CLIENTS; i++) {
		struct console_client *client = &hub->clients[i];

		if (client->hub == NULL || client->output_ended) {
			continue;
		}
		pump(client);
		if (!client->listening && !client->output_ended) {
			polls[count++] = (struct pollfd){ .fd = client->fd, .events = POLLOUT };
		}
	}
	return count > 0 && (poll(polls, count, timeout_ms) > 0 || errno == EINTR);
}

void console_clients_finish(struct console_hub *hub, uint64_t deadline_ns)
{
	uint64_t now;

	console_hub_unlisten(hub);
	do {
		now = loop_now_ns();
	} while (flush_clients(hub,
			       now < deadline_ns ? (int)((deadline_ns - now) / NS_PER_MS) : 0) &&
		 now < deadline_ns);
	for (size_t i = 0; i < CONSOLE_HUB_CLIENTS; i++) {
		if (hub->clients[i].hub != NULL) {
			drop_client(&hub->clients[i]);
		}
	}
}
