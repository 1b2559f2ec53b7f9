/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection of the page service (vmm/page_service.h): messages over a stream socket that does not block. Private to src/migration.
 *
 *	at	bytes
 *	0	4	"VMMP"
 *	4	2	version
 *	6	2	type
 *	8	4	region
 *	12	4	count
 *	16	8	first
 *	24	4	length of what follows
 *	28	4	its CRC32C
 *	32	4	that of the 32 bytes before
 *	36		what follows
 *
 * What a peer sends is taken when both checksums are right, and lengths are within its type's bounds.
 *
 * Threads: a link belongs to one at a time.
 */
#ifndef MIGRATION_PAGE_LINK_H
#define MIGRATION_PAGE_LINK_H

#include "vmm/error.h"
#include "vmm/page_service.h"
#include "vmm/types.h"

#define PAGE_HEADER 36
/* Pages of one message, if they have something. */
#define PAGE_PIECE   64U
#define PAGE_VERSION 1

/* Numbers of the wire: append only. */
enum page_message {
	PAGE_NO_MESSAGE = 0,
	PAGE_HELLO, /* `region`: 0, the stream, or the number of another; `count`: of those; `first`: the session's number; token */
	PAGE_WELCOME,
	PAGE_MISSING, /* `region`, `count` pages from `first` on: a bit each */
	PAGE_MISSING_END,
	PAGE_ASK,   /* `region`, the page `first` */
	PAGE_PAGES, /* `region`, `count` pages from `first` on; nothing follows: they are zero */
	PAGE_SENT,
	PAGE_DONE,
	PAGE_BYE,
	PAGE_GONE, /* the source ends, and what is missing is lost */
	PAGE_MESSAGES,
};

enum page_side { PAGE_SOURCE, PAGE_SINK };

struct page_frame {
	enum page_message message;
	uint32_t region, count;
	uint64_t first;
	uint32_t len;
	const uint8_t *payload; /* sent: borrowed until it is out; heard: until the next call */
};

struct page_link {
	int fd; /* -1: closed */
	enum page_side side;
	/* What comes. */
	uint8_t in_header[PAGE_HEADER];
	size_t in_have; /* of the header and what follows it */
	struct page_frame in;
	uint8_t *in_payload; /* PAGE_PIECE pages */
	/* What goes. */
	uint8_t out_header[PAGE_HEADER];
	struct page_frame out;
	size_t out_sent;
	bool out_busy;
	uint64_t moved_ns; /* something went or came */
};

/* `fd` is the link's, in any case. */
int page_link_init(struct page_link *link, int fd, enum page_side side, struct error *e);
/* Closes. Accepts a zeroed one with fd -1. */
void page_link_finish(struct page_link *link);
/*
 * 1: a message, until the next call; 0: nothing whole yet; -EPIPE: closed; -EPROTO and others: it cannot go on.
 */
int page_link_hear(struct page_link *link, struct page_frame *frame, struct error *e);
/* Nothing may be on its way. As page_link_flush(). */
int page_link_send(struct page_link *link, const struct page_frame *frame, struct error *e);
/* 1: everything is out; 0: the socket takes no more for now; negative: it cannot go on. */
int page_link_flush(struct page_link *link, struct error *e);
/*
 * Both, waiting, until wake_fd is readable (-ECANCELED) or the time has come (-ETIMEDOUT): for the whole message, however often a byte of it
 * moves.
 */
int page_link_send_all(struct page_link *link, const struct page_frame *frame, int wake_fd,
		       uint64_t until_ns, struct error *e);
int page_link_hear_one(struct page_link *link, struct page_frame *frame, int wake_fd,
		       uint64_t until_ns, struct error *e);

struct pollfd;
/* poll(2) until that time; UINT64_MAX: for ever. What was interrupted is 0; what fails has rested first, so that nobody tries again at once. */
int page_poll(struct pollfd *fds, unsigned int count, uint64_t until_ns);
/* Closes and lets go of what was written to it. */
void page_wake_take(int wake_fd);
void page_wake(int wake_fd);

/* The other side has sent what it may not. -EPROTO */
int page_nonsense(const struct page_frame *frame, const char *why, struct error *e) __cold;
/* It says hello, with that token, and for a connection that there may be. In constant time, as far as the token goes. */
bool page_hello_is_good(const struct page_frame *frame, const uint8_t token[PAGE_SERVICE_TOKEN]);
/* `count` pages from `first` on are of a region that there is. */
bool page_range_is_good(const struct guest_memory *mem, uint32_t region, uint64_t first,
			uint64_t count);

/* page_missing.c: of a payload of the hand-over. */
struct page_missing {
	uint32_t region, count;
	uint64_t first;
	uint64_t *bitmap; /* malloc'ed */
};
int page_missing_read(struct page_missing *ret, const struct guest_memory *mem,
		      const uint8_t *payload, uint32_t len, struct error *e);
/* The rest of a MISSING of `count` pages, PAGE_SAY_PAGES at most. False: none is. */
#define PAGE_SAY_PAGES (32768ULL)
bool page_missing_fill(struct page_frame *frame, const struct pager *pager,
		       uint8_t payload[PAGE_SAY_PAGES / 8]);

#endif
