// SPDX-License-Identifier: Apache-2.0
/*
 * The console hub: the ring, its device side, and life. See vmm/console_hub.h; clients are in
 * console_hub_clients.c, the log in console_hub_log.c.
 *
 * A device thread does little: the terminal's own output function, a copy into the ring under
 * `lock`, and, only if somebody wants it and nothing is under way, one post to main. A serial port
 * speaks a byte at a time, so the log alone does not wake main for each: the first byte lets main
 * set a timer, and only a backlog of CONSOLE_LOG_BACKLOG wakes it earlier. With nobody attached and
 * no log the cost is the copy.
 *
 * `lock` is held for a copy of at most CONSOLE_HUB_PIECE by main, of CONSOLE_HUB_RING by a device;
 * the loop's post lock is taken after it has been released. Main clears output_posted before it
 * looks at the ring, so what comes after the look posts again.
 *
 * The guest controls output bytes, their rate and when it takes input. Nothing is saved: what a
 * guest said stays with the host that heard it.
 */
#include "console_hub_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "vmm/cleanup.h"

#define MAPPING_SIZE \
	(CONSOLE_HUB_RING + CONSOLE_HUB_CLIENTS * (size_t)CONSOLE_CLIENT_INPUT + CONSOLE_HUB_PIECE)
/* How late the log may be. */
#define LOG_DELAY_NS 20000000ULL
#define NS_PER_MS    1000000ULL

_Static_assert((CONSOLE_HUB_RING & (CONSOLE_HUB_RING - 1)) == 0, "positions are masked");

/* With the lock. */
static void put(struct console_hub *hub, const uint8_t *data, size_t len)
{
	size_t at, run;

	hub->end += len;
	if (len > CONSOLE_HUB_RING) {
		data += len - CONSOLE_HUB_RING;
		len = CONSOLE_HUB_RING;
	}
	at = (hub->end - len) & (CONSOLE_HUB_RING - 1);
	run = MIN(len, (size_t)(CONSOLE_HUB_RING - at));
	memcpy(hub->ring + at, data, run);
	memcpy(hub->ring, data + run, len - run);
}

/* With the lock. */
static bool main_is_needed(const struct console_hub *hub)
{
	if (hub->output_posted) {
		return false;
	}
	return hub->listeners > 0 ||
	       (hub->logging && (!hub->log_timed || hub->end - hub->logged >= CONSOLE_LOG_BACKLOG));
}

/* The device's thread. */
static void output(struct console_channel *channel, const uint8_t *data, size_t len)
{
	struct console_hub *hub = container_of(channel, struct console_hub, channel);
	struct console_channel *terminal = hub->config.terminal;
	bool post;

	if (terminal != NULL) {
		terminal->output(terminal, data, len);
	}
	{
		SCOPED_LOCK(&hub->lock);
		put(hub, data, len);
		post = main_is_needed(hub);
		hub->output_posted = hub->output_posted || post;
	}
	if (post) {
		loop_post(hub->config.loop, &hub->output_post);
	}
}

static bool may_output(struct console_channel *channel, size_t len)
{
	const struct console_hub *hub = container_of(channel, struct console_hub, channel);
	struct console_channel *terminal = hub->config.terminal;

	return terminal == NULL || terminal->may_output == NULL ||
	       terminal->may_output(terminal, len);
}

/* Any thread. */
static void input_ready(struct console_channel *channel)
{
	struct console_hub *hub = container_of(channel, struct console_hub, channel);
	struct console_channel *terminal = hub->config.terminal;

	if (terminal != NULL && terminal->input_ready != NULL) {
		terminal->input_ready(terminal);
	}
	if (!atomic_exchange(&hub->input_posted, true)) {
		loop_post(hub->config.loop, &hub->input_post);
	}
}

static void run_input_post(void *arg)
{
	struct console_hub *hub = arg;

	atomic_store(&hub->input_posted, false);
	console_clients_deliver(hub);
}

size_t console_hub_read(struct console_hub *hub, uint64_t *position, uint8_t *buf, size_t size,
			uint64_t *lost)
{
	uint64_t oldest;
	size_t at, len, run;

	SCOPED_LOCK(&hub->lock);
	oldest = console_hub_oldest(hub);
	*lost = 0;
	if (*position < oldest) {
		*lost = oldest - *position;
		*position = oldest;
		return 0;
	}
	len = (size_t)MIN(hub->end - *position, (uint64_t)size);
	at = *position & (CONSOLE_HUB_RING - 1);
	run = MIN(len, (size_t)(CONSOLE_HUB_RING - at));
	memcpy(buf, hub->ring + at, run);
	memcpy(buf + run, hub->ring, len - run);
	return len;
}

size_t console_hub_last(struct console_hub *hub, uint64_t since, uint8_t *buf, size_t size)
{
	uint64_t end = console_hub_end(hub);
	uint64_t position = MAX(since, end - MIN(end, (uint64_t)size));
	uint64_t lost;
	size_t len = console_hub_read(hub, &position, buf, size, &lost);

	/* It has gone round meanwhile. */
	return lost != 0 ? console_hub_read(hub, &position, buf, size, &lost) : len;
}

uint64_t console_hub_end(struct console_hub *hub)
{
	SCOPED_LOCK(&hub->lock);
	return hub->end;
}

void console_note_set(struct console_note *note, uint64_t lost)
{
	int len = snprintf(note->text, sizeof(note->text), "[%llu bytes lost]\r\n",
			   (unsigned long long)lost);

	note->len = (size_t)len;
	note->sent = 0;
}

static void log_expired(struct loop_timer *timer)
{
	console_log_write(container_of(timer, struct console_hub, log.timer));
}

static void run_output_post(void *arg)
{
	struct console_hub *hub = arg;
	bool write_log, time_log;

	{
		SCOPED_LOCK(&hub->lock);
		hub->output_posted = false;
		write_log = hub->logging && hub->end - hub->logged >= CONSOLE_LOG_BACKLOG;
		time_log = hub->logging && !write_log && !hub->log_timed && hub->end != hub->logged;
		hub->log_timed = hub->log_timed || time_log;
	}
	if (write_log) {
		console_log_write(hub);
	} else if (time_log) {
		loop_timer_set(hub->config.loop, &hub->log.timer, LOG_DELAY_NS, log_expired);
	}
	console_clients_output(hub);
}

int console_hub_create(struct console_hub **ret, const struct console_hub_config *config,
		       struct error *e)
{
	struct console_hub *hub = calloc(1, sizeof(*hub));
	uint8_t *mapping;

	if (hub == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "console: out of memory");
	}
	mapping = mmap(NULL, MAPPING_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mapping == MAP_FAILED) {
		int r = error_set_sys(e, ERROR_NO_MEMORY, errno, "console: ring of output");

		free(hub);
		return r;
	}
	hub->channel = (struct console_channel){ .output = output,
						 .may_output = may_output,
						 .input_ready = input_ready };
	hub->config = *config;
	hub->mapping = mapping;
	hub->ring = mapping;
	for (size_t i = 0; i < CONSOLE_HUB_CLIENTS; i++) {
		hub->clients[i].input = mapping + CONSOLE_HUB_RING + i * CONSOLE_CLIENT_INPUT;
	}
	hub->piece =
		mapping + CONSOLE_HUB_RING + CONSOLE_HUB_CLIENTS * (size_t)CONSOLE_CLIENT_INPUT;
	hub->listen_fd = -1;
	hub->log.fd = -1;
	hub->input_tail = &hub->input_head;
	hub->output_post = (struct loop_post){ .run = run_output_post, .arg = hub };
	hub->input_post = (struct loop_post){ .run = run_input_post, .arg = hub };
	(void)pthread_mutex_init(&hub->lock, NULL);
	*ret = hub;
	return 0;
}

struct console_channel *console_hub_channel(struct console_hub *hub)
{
	return &hub->channel;
}

static void log_from(struct console_hub *hub, int fd, uint64_t offset)
{
	bool late;

	close_fd(&hub->log.fd);
	loop_timer_cancel(&hub->log.timer);
	hub->log = (struct console_log){ .fd = fd, .offset = offset };
	if (offset > CONSOLE_HUB_LOG_MAX) {
		/* As far as its writer before must have come. */
		hub->log.punched = ALIGN_DOWN(offset - CONSOLE_HUB_LOG_MAX, CONSOLE_LOG_STEP);
	}
	{
		SCOPED_LOCK(&hub->lock);
		hub->logging = fd >= 0;
		hub->log_timed = false;
		/* What was said before is in the ring. */
		hub->logged = console_hub_oldest(hub);
		late = hub->logging && hub->end != hub->logged;
	}
	if (late) {
		console_log_write(hub);
	}
}

void console_hub_log_to(struct console_hub *hub, int fd)
{
	log_from(hub, fd, 0);
}

void console_hub_log_on(struct console_hub *hub, int fd)
{
	struct stat st;

	log_from(hub, fd, fstat(fd, &st) == 0 && st.st_size > 0 ? (uint64_t)st.st_size : 0);
}

void console_hub_log_flush(struct console_hub *hub)
{
	if (hub->log.fd >= 0) {
		console_log_write(hub);
	}
}

void console_hub_start(struct console_hub *hub)
{
	hub->started = true;
	console_clients_deliver(hub);
}

void console_hub_stats(struct console_hub *hub, struct console_hub_stats *stats)
{
	*stats = (struct console_hub_stats){ .output_bytes = console_hub_end(hub),
					     .input_bytes = hub->input_bytes,
					     .lost_bytes = hub->lost_bytes,
					     .clients = hub->client_count };
}

void console_hub_close(struct console_hub *hub, int timeout_ms)
{
	if (hub == NULL) {
		return;
	}
	if (hub->log.fd >= 0) {
		console_log_write(hub);
	}
	console_clients_finish(hub, loop_now_ns() + (uint64_t)MAX(timeout_ms, 0) * NS_PER_MS);
	loop_post_cancel(hub->config.loop, &hub->output_post);
	loop_post_cancel(hub->config.loop, &hub->input_post);
	loop_timer_cancel(&hub->log.timer);
	close_fd(&hub->log.fd);
}

void console_hub_destroy(struct console_hub *hub, int timeout_ms)
{
	if (hub == NULL) {
		return;
	}
	console_hub_close(hub, timeout_ms);
	(void)munmap(hub->mapping, MAPPING_SIZE);
	(void)pthread_mutex_destroy(&hub->lock);
	free(hub);
}
