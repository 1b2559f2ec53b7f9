// SPDX-License-Identifier: Apache-2.0
/*
 * The console hub's log: the last of what the guest said, in a file of bounded size.
 *
 * Written at offsets that only grow, with what is older than CONSOLE_HUB_LOG_MAX punched out in
 * steps, so a reader that follows keeps its place. Where the file system cannot punch holes the
 * file begins anew when it is full. What cannot be written (a full disk) is lost and counted; a
 * note says so in the file as soon as writing works again. Either is warned about once.
 *
 * Main only. The guest controls the bytes and how many there are; file system calls take as long as
 * they take, at most CONSOLE_HUB_RING bytes of them at a time.
 */
#include "console_hub_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cleanup.h"
#include "vmm/log.h"

LOG_DOMAIN("console");

/* Bytes that were written, fewer on failure. */
static size_t write_bytes(struct console_log *log, const void *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(log->fd, (const uint8_t *)data + done, len - done,
				   (off_t)log->offset);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			if (!log->failed) {
				char reason[80];

				log->failed = true;
				log_warn(
					"console log: %s; what the guest says meanwhile is "
					"missing there",
					strerror_r(n < 0 ? errno : ENOSPC, reason, sizeof(reason)));
			}
			break;
		}
		done += (size_t)n;
		log->offset += (uint64_t)n;
	}
	return done;
}

/* False as long as nothing can be written. A note that is cut stays cut: the next one counts on. */
static bool close_gap(struct console_log *log)
{
	struct console_note note;

	if (log->gap == 0) {
		return true;
	}
	console_note_set(&note, log->gap);
	if (write_bytes(log, note.text, note.len) < note.len) {
		return false;
	}
	log->gap = 0;
	return true;
}

/* If even that fails, what is there is written over: the space stays bounded. */
static void begin_anew(struct console_log *log)
{
	(void)!ftruncate(log->fd, 0);
	log->offset = 0;
	log->punched = 0;
}

static void bound_size(struct console_log *log)
{
	while (log->offset - log->punched >= CONSOLE_HUB_LOG_MAX + CONSOLE_LOG_STEP) {
		if (log->cannot_punch) {
			begin_anew(log);
			return;
		}
		if (fallocate(log->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      (off_t)log->punched, CONSOLE_LOG_STEP) < 0) {
			char reason[80];

			if (errno == EINTR) {
				continue;
			}
			log->cannot_punch = true;
			log_warn("console log: old output cannot be punched out (%s): the file "
				 "begins anew every %llu KiB",
				 strerror_r(errno, reason, sizeof(reason)),
				 (unsigned long long)(CONSOLE_HUB_LOG_MAX + CONSOLE_LOG_STEP) >>
					 10);
			continue;
		}
		log->punched += CONSOLE_LOG_STEP;
	}
}

/* From *position up to `end`. */
static void write_span(struct console_hub *hub, uint64_t *position, uint64_t end)
{
	struct console_log *log = &hub->log;

	while (*position < end) {
		uint64_t lost;
		size_t len = console_hub_read(
			hub, position, hub->piece,
			(size_t)MIN(end - *position, (uint64_t)CONSOLE_HUB_PIECE), &lost);
		size_t done = 0;

		log->gap += lost;
		hub->lost_bytes += lost;
		if (len == 0) {
			continue; /* behind what was lost; a second read has bytes */
		}
		if (close_gap(log)) {
			done = write_bytes(log, hub->piece, len);
		}
		log->gap += len - done;
		hub->lost_bytes += len - done;
		*position += len;
		bound_size(log);
	}
}

void console_log_write(struct console_hub *hub)
{
	uint64_t position, end;

	loop_timer_cancel(&hub->log.timer);
	{
		SCOPED_LOCK(&hub->lock);
		/* From here on new output posts again. */
		hub->log_timed = false;
		position = hub->logged;
		end = hub->end;
		hub->logged = end;
	}
	write_span(hub, &position, end);
	SCOPED_LOCK(&hub->lock);
	/* Further, if the guest has overtaken us. */
	hub->logged = position;
}
