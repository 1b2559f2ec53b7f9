/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page service of a migration (post-copy): the VM has gone on at the destination before all of its memory was there. What is missing the
 * source, whose VM stands still for good, sends over connections of their own; first what somebody waits for.
 *
 *	source (struct page_source)				destination (struct page_sink)
 *	  page_source_connect()	connections: one for the stream, others for
 *				what is waited for; HELLO on each	  page_sink_start()	beside a pager (vmm/pager.h, `want`)
 *	  page_source_start()	a thread serves					an own thread accepts, and answers WELCOME
 *	  pauses the VM; the hand-over says which pages are missing	  page_sink_miss(), page_sink_arm()
 *			<------- MISSING ..., MISSING_END -------	on the stream: what is, by its own account
 *			------- PAGES, ..., then SENT --------->	on the stream, in the order of their places
 *			<------- ASK ---------------------------	on another connection: somebody waits for this page
 *			------- PAGES ------------------------->	on that: it, with those around it that were not sent yet
 *			<------- DONE --------------------------	everything is there
 *			------- BYE --------------------------->	and known to be
 *
 * The connections of a session go together: if one is lost, or silent for too long, all are closed. The source connects again, as often as
 * it is allowed to, then when it is told to (page_source_resume()), perhaps to another address. Each session is newer than the one before
 * by its number, so a connection that only one side takes for alive is in nobody's way; and it begins with what is missing, so nothing
 * need be known of what was lost.
 *
 * A source that ends for good says GONE over all of them, if it still can.
 *
 * A migration's *token*, which both sides know by the hand-over, opens it: who has another is closed.
 *
 * The destination can only ask for pages that it had anyway. It controls where and how often; the source bounds both. The source controls what
 * pages have; they are put only where they are missing, so that it cannot change what the guest has done since. Lengths and
 * places are checked against memory's regions on either side, and who sends nonsense is closed, which is a lost session.
 *
 * While a session is lost nobody has to do anything for the memory to be right: who touches a missing page waits.
 *
 * Threads: each function says. None that serves pages ever touches the destination's guest memory, waits for anybody but its peer, or holds a
 * lock while it waits.
 */
#ifndef VMM_PAGE_SERVICE_H
#define VMM_PAGE_SERVICE_H

#include "vmm/guest_memory.h"
#include "vmm/pager.h"
#include "vmm/syscalls.h"

#define PAGE_SERVICE_TOKEN 16
/* Connections beside the stream. */
#define PAGE_SERVICE_ASKING_MAX 4

/* --- the source ---------------------------------------------------------------------------------- */

enum page_source_state {
	PAGE_SOURCE_CONNECTED, /* there is a session */
	PAGE_SOURCE_LOST,      /* there is none; it is tried again */
	PAGE_SOURCE_WAITS,     /* and not tried any more until page_source_resume() */
	PAGE_SOURCE_DONE,      /* the other side has everything */
	PAGE_SOURCE_LEFT,      /* page_source_leave() */
};

struct page_source;

struct page_source_config {
	struct guest_memory *mem; /* nobody writes it from page_source_arm() on */
	uint8_t token[PAGE_SERVICE_TOKEN];
	uint32_t asking;   /* connections beside the stream, from 1 */
	uint64_t stall_ns; /* how long the other side may be silent when it has to say something */
	uint64_t retry_ns; /* how long a lost session is tried to be had again without being told */
	uint64_t bandwidth; /* of the stream, bytes a second; 0: whatever there is */
	/* A connected stream socket to `address`, which does not block; by default migration_address_connect(). Threads of the source. */
	int (*connect)(void *arg, const char *address, struct error *e);
	void *arg;
	const char *address; /* copied */
};

int page_source_create(struct page_source **ret, const struct page_source_config *config,
		       struct error *e);
/* The first session. Before the start; waits for the other side, `stall_ns` at most each time. */
int page_source_connect(struct page_source *source, struct error *e);
/* A thread serves, which runs enter() first. */
int page_source_start(struct page_source *source, int (*enter)(void *arg, struct error *e),
		      void *enter_arg, struct error *e);
/* Any thread. From now on the other side may not be silent for long: the VM is its. */
void page_source_moved(struct page_source *source);
/* Any thread. ERROR_WRONG_STATE: it is not PAGE_SOURCE_LOST or _WAITS. `address` NULL: as before. */
int page_source_resume(struct page_source *source, const char *address, struct error *e);
/* Any thread: it shall end, and not send any more. `gone`: memory is about to be lost for good, which the other side is told. */
void page_source_leave(struct page_source *source, bool gone);
/* One thread: waits until the state is another than `known`, and returns it. *why: of a session that was lost. */
enum page_source_state page_source_wait(struct page_source *source, enum page_source_state known,
					struct error *why);
/* Any thread: bytes that the other side lacks, about; bytes that were sent. */
uint64_t page_source_left(const struct page_source *source);
uint64_t page_source_sent(const struct page_source *source);
/* Ends it. Accepts NULL. */
void page_source_destroy(struct page_source *source);

/* --- the destination ----------------------------------------------------------------------------- */

enum page_sink_state {
	PAGE_SINK_READY, /* nothing is missing that is known of */
	PAGE_SINK_SERVED,
	PAGE_SINK_LOST, /* pages are missing, and there is no session */
	PAGE_SINK_DONE,
	PAGE_SINK_GONE, /* pages are missing, and will never come; the memory's `lost` was told */
	PAGE_SINK_LEFT, /* page_sink_leave() */
};

struct page_sink;

struct page_sink_config {
	uint8_t token[PAGE_SERVICE_TOKEN];
	uint64_t stall_ns;
	/* On both threads, first. */
	int (*enter)(void *arg, struct error *e);
	void *arg;
};

/*
 * A pager that is the memory's from now on, and with it the sink, which lives as long as the pager. All threads are there, and all rights that it needs
 * are had, when it returns.
 */
int page_sink_create(struct page_sink **ret, struct guest_memory *mem,
		     const struct page_sink_config *config, struct error *e);
/* One thread, once, before anything else: `listener`, which does not block, is the sink's. */
void page_sink_listen(struct page_sink *sink, int listener);
/* The same thread, before page_sink_arm(): a PAGES message of the hand-over with PAGE_MISSING_FLAG, of any content and length. */
int page_sink_miss(struct page_sink *sink, const uint8_t *payload, uint32_t len, struct error *e);
/* The same: whoever touches a page that is missing waits from now on. */
int page_sink_arm(struct page_sink *sink, struct error *e);
/* Any thread: it is not going to be armed, and nobody is listened to any more. */
void page_sink_stop(struct page_sink *sink);
/* Any thread: what is missing will never come. `why` is told to the memory's `lost`. */
void page_sink_lose(struct page_sink *sink, const struct error *why);
/* As page_source_wait(). */
enum page_sink_state page_sink_wait(struct page_sink *sink, enum page_sink_state known,
				    struct error *why);
/* Any thread: page_sink_wait() returns. */
void page_sink_leave(struct page_sink *sink);
/* Any thread: bytes that are missing. */
uint64_t page_sink_left(const struct page_sink *sink);

/* --- which are missing, as the hand-over says it ------------------------------------------------- */

/*
 * The payload of a PAGES message with a flag that others have not (vmm/migration_pages.h), in the pause, in place of pages:
 *
 *	at	bytes
 *	0	4	region
 *	4	4	pages: 1 to PAGE_MISSING_MAX
 *	8	8	the first one's number in the region, a multiple of 64
 *	16	4	flags: PAGE_MISSING_FLAG
 *	20	4	0
 *	24		a bit for each, in words of 64, little-endian
 */
#define PAGE_MISSING_HEADER 24
#define PAGE_MISSING_FLAG   4U
#define PAGE_MISSING_MAX    524288U
#define PAGE_MISSING_BYTES  (PAGE_MISSING_HEADER + PAGE_MISSING_MAX / 8)

/*
 * Says which bits of `bitmap`, of a region of so many pages, are set: send() is called for each piece in which one is.
 * `buf`: of PAGE_MISSING_BYTES.
 */
int page_missing_send(uint32_t region, const uint64_t *bitmap, uint64_t pages, uint8_t *buf,
		      int (*send)(void *arg, const uint8_t *payload, uint32_t len, struct error *e),
		      void *arg, struct error *e);

/* Whether it is one of those, of any content. */
bool page_missing_is(const uint8_t *payload, uint32_t len);

/* Of its threads on both sides, beside those of a worker, of migrations (vmm/migration_address.h), and of a pager. */
extern const struct syscall_list page_service_syscalls;

#endif
