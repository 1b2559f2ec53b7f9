/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of the page service: see page_link.h. What follows a header is read straight to where it is used from, and sent straight from
 * guest memory, which nobody writes then; if somebody did, its checksum would be wrong on the other side, and it would come
 * anew. The peer controls all that is heard. Nothing is saved.
 */
#include "page_link.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/bytes.h"
#include "vmm/cleanup.h"
#include "vmm/crc32c.h"
#include "vmm/loop.h"
#include "vmm/overflow.h"

#define PAYLOAD_MAX (PAGE_PIECE * PAGE_SIZE_4K)
#define HINT	    "use the same vmm on both sides"

_Static_assert(PAGE_MISSING_MAX / 8 <= PAYLOAD_MAX, "a link has room for a bitmap");

static const struct {
	enum page_side to;
	uint32_t min, max;
} bounds[PAGE_MESSAGES] = {
	[PAGE_HELLO] = { PAGE_SINK, PAGE_SERVICE_TOKEN, PAGE_SERVICE_TOKEN },
	[PAGE_WELCOME] = { PAGE_SOURCE, 0, 0 },
	[PAGE_MISSING] = { PAGE_SOURCE, 8, PAGE_MISSING_MAX / 8 },
	[PAGE_MISSING_END] = { PAGE_SOURCE, 0, 0 },
	[PAGE_ASK] = { PAGE_SOURCE, 0, 0 },
	[PAGE_PAGES] = { PAGE_SINK, 0, PAYLOAD_MAX },
	[PAGE_SENT] = { PAGE_SINK, 0, 0 },
	[PAGE_DONE] = { PAGE_SOURCE, 0, 0 },
	[PAGE_BYE] = { PAGE_SINK, 0, 0 },
	[PAGE_GONE] = { PAGE_SINK, 0, 0 },
};

int page_link_init(struct page_link *link, int fd, enum page_side side, struct error *e)
{
	*link = (struct page_link){ .fd = fd, .side = side, .moved_ns = loop_now_ns() };
	link->in_payload = malloc(PAYLOAD_MAX);
	if (link->in_payload == NULL || fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0) {
		page_link_finish(link);
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "migration: a connection for pages");
	}
	return 0;
}

void page_link_finish(struct page_link *link)
{
	close_fd(&link->fd);
	free(take_ptr(link->in_payload));
	link->out_busy = false;
}

int page_nonsense(const struct page_frame *frame, const char *why, struct error *e)
{
	(void)error_set(e, ERROR_MIGRATION, EPROTO,
			"migration: message %d about pages, of %" PRIu32 " from %" PRIu64
			" on of region %" PRIu32 ": %s",
			(int)frame->message, frame->count, frame->first, frame->region, why);
	return error_hint(e, HINT);
}

bool page_range_is_good(const struct guest_memory *mem, uint32_t region, uint64_t first,
			uint64_t count)
{
	return region < GUEST_MEMORY_REGIONS_MAX && count != 0 &&
	       range_within(first, count, atomic_load(&mem->regions[region].size) / PAGE_SIZE_4K);
}

bool page_hello_is_good(const struct page_frame *frame, const uint8_t token[PAGE_SERVICE_TOKEN])
{
	uint8_t differs = 0;

	if (frame->message != PAGE_HELLO) {
		return false;
	}
	for (size_t i = 0; i < PAGE_SERVICE_TOKEN; i++) {
		differs |= (uint8_t)(token[i] ^ frame->payload[i]);
	}
	return differs == 0 && frame->count != 0 && frame->count <= PAGE_SERVICE_ASKING_MAX &&
	       frame->region <= frame->count;
}

/* --- what comes ---------------------------------------------------------------------------------- */

static int take_header(struct page_link *link, struct error *e)
{
	const uint8_t *header = link->in_header;
	const uint32_t type = load_le16(header + 6);
	struct page_frame *frame = &link->in;

	*frame = (struct page_frame){ .region = load_le32(header + 8),
				      .count = load_le32(header + 12),
				      .first = load_le64(header + 16),
				      .len = load_le32(header + 24) };
	if (memcmp(header, "VMMP", 4) != 0 || load_le16(header + 4) != PAGE_VERSION ||
	    load_le32(header + 32) != crc32c(0, header, 32)) {
		return page_nonsense(frame, "that is no message of this version", e);
	}
	if (type == PAGE_NO_MESSAGE || type >= PAGE_MESSAGES || bounds[type].to != link->side ||
	    frame->len < bounds[type].min || frame->len > bounds[type].max) {
		return page_nonsense(frame, "such a message is not for this side", e);
	}
	frame->message = (enum page_message)type;
	return 0;
}

/* Bytes, 0: none for now, or a negative errno. */
static ssize_t read_some(struct page_link *link, uint8_t *to, size_t len, struct error *e)
{
	ssize_t n;

	do {
		n = recv(link->fd, to, len, 0);
	} while (n < 0 && errno == EINTR);
	if (n > 0) {
		link->moved_ns = loop_now_ns();
		return n;
	}
	if (n < 0 && errno == EAGAIN) {
		return 0;
	}
	return error_set(e, ERROR_MIGRATION, EPIPE,
			 "migration: the other side has closed a connection for pages");
}

int page_link_hear(struct page_link *link, struct page_frame *frame, struct error *e)
{
	while (link->in_have < PAGE_HEADER + (size_t)link->in.len) {
		const bool header = link->in_have < PAGE_HEADER;
		const size_t all = header ? PAGE_HEADER : PAGE_HEADER + (size_t)link->in.len;
		uint8_t *to = header ? link->in_header + link->in_have
				     : link->in_payload + (link->in_have - PAGE_HEADER);
		ssize_t n = read_some(link, to, all - link->in_have, e);
		int r;

		if (n <= 0) {
			return (int)n;
		}
		link->in_have += (size_t)n;
		r = header && link->in_have == PAGE_HEADER ? take_header(link, e) : 0;
		if (r < 0) {
			return r;
		}
	}
	if (load_le32(link->in_header + 28) != crc32c(0, link->in_payload, link->in.len)) {
		return page_nonsense(&link->in, "its checksum is wrong", e);
	}
	*frame = link->in;
	frame->payload = link->in_payload;
	link->in_have = 0;
	link->in.len = 0;
	return 1;
}

/* --- what goes ----------------------------------------------------------------------------------- */

int page_link_send(struct page_link *link, const struct page_frame *frame, struct error *e)
{
	uint8_t *header = link->out_header;

	VMM_BUG_ON(link->out_busy || bounds[frame->message].to == link->side);
	memcpy(header, "VMMP", 4);
	store_le16(header + 4, PAGE_VERSION);
	store_le16(header + 6, (uint16_t)frame->message);
	store_le32(header + 8, frame->region);
	store_le32(header + 12, frame->count);
	store_le64(header + 16, frame->first);
	store_le32(header + 24, frame->len);
	store_le32(header + 28, crc32c(0, frame->payload, frame->len));
	store_le32(header + 32, crc32c(0, header, 32));
	link->out = *frame;
	link->out_sent = 0;
	link->out_busy = true;
	return page_link_flush(link, e);
}

int page_link_flush(struct page_link *link, struct error *e)
{
	const size_t all = PAGE_HEADER + (size_t)link->out.len;

	while (link->out_busy && link->out_sent < all) {
		const bool header = link->out_sent < PAGE_HEADER;
		const uint8_t *from = header ? link->out_header + link->out_sent
					     : link->out.payload + (link->out_sent - PAGE_HEADER);
		const size_t len = (header ? PAGE_HEADER : all) - link->out_sent;
		const int more = header && link->out.len != 0 ? MSG_MORE : 0;
		ssize_t n = send(link->fd, from, len, MSG_NOSIGNAL | more);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0 && errno == EAGAIN) {
			return 0;
		}
		if (n < 0) {
			return error_set(e, ERROR_MIGRATION, EPIPE,
					 "migration: the other side has closed a connection for "
					 "pages");
		}
		link->out_sent += (size_t)n;
		link->moved_ns = loop_now_ns();
	}
	link->out_busy = false;
	return 1;
}

/* --- waiting ------------------------------------------------------------------------------------- */

int page_poll(struct pollfd *fds, unsigned int count, uint64_t until_ns)
{
	const struct timespec rest = { .tv_nsec = 10000000 };
	int n = poll(fds, count, migration_poll_limit(until_ns));

	if (n < 0 && errno != EINTR) {
		n = -errno;
		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &rest, NULL);
		return n;
	}
	return MAX(n, 0);
}

void page_wake(int wake_fd)
{
	const uint64_t one = 1;

	(void)!write(wake_fd, &one, sizeof(one));
}

void page_wake_take(int wake_fd)
{
	uint64_t count;

	(void)!read(wake_fd, &count, sizeof(count));
}

/* What is wrong with the socket, reading and writing say. */
static int wait_for(const struct page_link *link, short events, int wake_fd, uint64_t until_ns,
		    struct error *e)
{
	struct pollfd fds[2] = { { .fd = link->fd, .events = events },
				 { .fd = wake_fd, .events = POLLIN } };
	int n;

	do {
		n = page_poll(fds, 2, until_ns);
	} while (n == 0 && loop_now_ns() < until_ns);
	if (n < 0) {
		return error_set_sys(e, ERROR_MIGRATION, -n, "migration: wait for the other side");
	}
	if (n == 0) {
		(void)error_set(e, ERROR_MIGRATION, ETIMEDOUT,
				"migration: nothing has come from the other side over a "
				"connection for pages");
		return error_hint(e, "look at the network between the hosts");
	}
	return fds[1].revents == 0
		       ? 0
		       : error_set(e, ERROR_CANCELLED, ECANCELED, "migration: cancelled");
}

int page_link_send_all(struct page_link *link, const struct page_frame *frame, int wake_fd,
		       uint64_t until_ns, struct error *e)
{
	int r = page_link_send(link, frame, e);

	while (r == 0) {
		r = wait_for(link, POLLOUT, wake_fd, until_ns, e);
		r = r == 0 ? page_link_flush(link, e) : r;
	}
	return r < 0 ? r : 0;
}

int page_link_hear_one(struct page_link *link, struct page_frame *frame, int wake_fd,
		       uint64_t until_ns, struct error *e)
{
	int r;

	while ((r = page_link_hear(link, frame, e)) == 0) {
		r = wait_for(link, POLLIN, wake_fd, until_ns, e);
		if (r < 0) {
			return r;
		}
	}
	return r < 0 ? r : 0;
}
