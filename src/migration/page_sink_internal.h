/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both threads of a page service's destination share (page_sink.c). Private to src/migration.
 */
#ifndef MIGRATION_PAGE_SINK_INTERNAL_H
#define MIGRATION_PAGE_SINK_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "page_link.h"
#include "vmm/loop.h"
#include "vmm/pager.h"
#include "vmm/worker.h"

#define JOINING_MAX 8U
/* A power of two. */
#define OUTBOX 256U
/* Messages that are put before somebody else has its turn. */
#define AT_ONCE 16

/* Who has not said who it is, or came before its session. */
struct joining {
	struct page_link link;
	uint64_t since_ns;
	bool said; /* `hello` is */
	struct page_frame hello;
};

/* The pager's thread. */
struct asking {
	struct page_sink *sink;
	struct page_link link;
	struct loop_source source;
	uint64_t outbox[OUTBOX]; /* region << 48 | page */
	uint32_t first, count;
};

struct page_sink {
	struct guest_memory *mem;
	struct pager *pager;
	uint8_t token[PAGE_SERVICE_TOKEN];
	uint64_t stall_ns;
	int wake_fd;
	struct worker worker;
	struct loop_post run;

	/* The thread "pages". */
	struct joining joining[JOINING_MAX];
	struct page_link stream;
	uint64_t session; /* the newest that was seen */
	uint32_t wanted;  /* its connections beside the stream */
	uint32_t joined;  /* a bit for each of all */
	bool whole;	  /* they are all there */
	bool announced;	  /* that pages are missing, and whether they are served */
	bool said_missing, said_done, bye, rests; /* the last: nobody is accepted in this turn */
	uint64_t linger_ns;

	/* The pager's. */
	struct asking asking[PAGE_SERVICE_ASKING_MAX];
	uint32_t asks; /* which is the next to ask */
	bool again;    /* some were not asked for: no room */
	struct loop_post deliver;

	_Atomic uint64_t asked_session, broken_session, asking_moved_ns;
	_Atomic bool armed, finished, stopping, lost;
	_Atomic int listener;
	pthread_mutex_t lock; /* guards the following */
	pthread_cond_t changed;
	enum page_sink_state state;
	bool left;
	struct error why;
	bool posted, drop;
	struct page_link inbox[PAGE_SERVICE_ASKING_MAX]; /* fd -1: none */
};

/* Either thread: pages that have come. An error: they are none that are missing. */
int page_sink_put(struct page_sink *sink, const struct page_frame *frame, struct error *e);

/* Either thread: the source has said that it ends. */
void page_sink_gone(struct page_sink *sink);

/* Of a pager's source (vmm/pager.h, struct pager_source), with the sink as their argument. */
void page_asking_want(void *arg, uint32_t index, uint64_t page);
void page_asking_done(void *arg);
/* Posted to the pager's loop: takes what is in the inbox, after dropping what there was if that is said. */
void page_asking_delivered(void *arg);

#endif
