/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Further connections of a migration, *channels*, over which memory goes besides the hand-over's own, each with a thread on both sides.
 *
 *	source (struct channel_source)				destination (struct channel_sink)
 *	  OFFER says how many, and a token			  channel_sink_create(): threads; _open(): they accept
 *	  channel_source_connect()	a connection each; JOIN ->
 *							<- ACCEPT
 *	  channel_source_start()	threads
 *	  channel_source_send()		PAGES, on all ->	    straight into guest memory
 *					GATHER on each ->
 *	  then, on the hand-over's own, GATHER ->		  channel_sink_gather(): waits until each has said the same number
 *	  and whatever comes after that				  channel_sink_stop(), before the machine is loaded
 *
 * Messages are those of the hand-over (vmm/handover_frames.h): checksums, epoch, a sequence number for each direction of each channel. A
 * pass over memory is a heap of pieces, of which each thread takes the next: a channel that is slower takes fewer. A page is in
 * one piece, so nothing about it is in two channels between two GATHERs; and since nothing behind a GATHER on the hand-over's own connection is
 * looked at before all channels have said it, PASS_HELD is said when all of a pass is there, and no page of one pass comes after the
 * same page of a later one.
 *
 * A channel that is lost is a migration that fails, on whichever side that is noticed first: at the source by the next that is sent, at the
 * destination at the next GATHER.
 *
 * The *token*, random and of one attempt, opens channels: who has another, says JOIN of a number that there is already, or anything else, is closed.
 * Before that such a client has had a header and 24 bytes of ours, and a thread for as long as it may be silent, 10 s at most. After that the source controls
 * what pages have, as it does on the hand-over's own connection: only where the machine has memory, and only before it is loaded.
 */
#ifndef VMM_MIGRATION_CHANNELS_H
#define VMM_MIGRATION_CHANNELS_H

#include "vmm/migration_pages.h"

#define MIGRATION_CHANNELS_MAX	 7
#define MIGRATION_CHANNELS_TOKEN 16

/* --- the source ---------------------------------------------------------------------------------- */

struct channel_source;

struct channel_source_config {
	uint8_t token[MIGRATION_CHANNELS_TOKEN];
	uint32_t count;	   /* 1 to MIGRATION_CHANNELS_MAX */
	uint64_t epoch;	   /* the hand-over's */
	uint64_t stall_ns; /* how long the other side may take nothing */
	struct migration_pages *pages;
	/* A connected stream socket, which does not block. */
	int (*connect)(void *arg, struct error *e);
	/* Any of the threads that send: so many bytes have gone over. May wait, for a bandwidth. */
	void (*sent)(void *arg, uint32_t len);
	/* The same: somebody wants it to end. */
	bool (*called)(void *arg);
	void *arg;
};

int channel_source_create(struct channel_source **ret, const struct channel_source_config *config,
			  struct error *e);
/* One thread: all of them are there, and have been let in; or an error. ERROR_CANCELLED: called(). */
int channel_source_connect(struct channel_source *source, struct error *e);
/* Starts the threads, each of which runs enter() first. After an error it can only be destroyed. */
int channel_source_start(struct channel_source *source, int (*enter)(void *arg, struct error *e),
			 void *enter_arg, struct error *e);
/*
 * One thread: sends the pages that are wanted, as migration_pages_send(), over all channels and by send(); then says GATHER on each,
 * with the number that the caller has to say then: *number. After an error nothing more can be sent; -ECANCELED: called(), or send()'s.
 */
int channel_source_send(struct channel_source *source,
			int (*send)(void *arg, const uint8_t *payload, uint32_t len,
				    struct error *e),
			void *arg, uint64_t *number, struct error *e);
/* Ends the threads, and closes. Accepts NULL. */
void channel_source_destroy(struct channel_source *source);

/* --- the destination ----------------------------------------------------------------------------- */

struct channel_sink;

struct channel_sink_config {
	uint8_t token[MIGRATION_CHANNELS_TOKEN];
	uint32_t count; /* 1 to MIGRATION_CHANNELS_MAX */
	uint64_t epoch;
	uint64_t stall_ns;
	struct guest_memory *mem;
	int listener; /* the sink's, in any case; does not block */
	/* On each thread, first. */
	int (*enter)(void *arg, struct error *e);
	void *arg;
};

/* Threads are there when it returns, and let nobody in yet: memory may go again before its machine is made. */
int channel_sink_create(struct channel_sink **ret, const struct channel_sink_config *config,
			struct error *e);
/* One thread: from now on memory is there until stop(). Before the other side hears ACCEPT. Accepts NULL. */
void channel_sink_open(struct channel_sink *sink);
/*
 * One thread: waits until all that was sent before `number` was said is in memory. called(): somebody wants that to end, -ECANCELED. Otherwise
 * an error is the end of the migration: a channel was lost, or has stalled; or the number is not the next.
 */
int channel_sink_gather(struct channel_sink *sink, uint64_t number, bool (*called)(void *arg),
			void *arg, struct error *e);
/* The same thread: no channel writes into memory any more. Accepts NULL. */
void channel_sink_stop(struct channel_sink *sink);
/* The same thread, after a gather() or stop(): the listener, for somebody else; -1: it was taken before. */
int channel_sink_take_listener(struct channel_sink *sink);
/* Any thread: bytes of pages that have come. */
uint64_t channel_sink_received(const struct channel_sink *sink);
/* Accepts NULL. */
void channel_sink_destroy(struct channel_sink *sink);

#endif
