/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory as PAGES messages of a hand-over (vmm/handover.h): which pages the other side still has to get, sent in runs, and stored
 * there.
 *
 * A payload, little-endian:
 *
 *	at	bytes
 *	0	4	region, by its index in the guest memory, the same on both sides
 *	4	4	pages: 1 to MIGRATION_PAGES_MAX
 *	8	8	the first one's number in the region
 *	16	4	flags: MIGRATION_PAGES_ZERO: they are zero, and nothing follows. (4: vmm/page_service.h)
 *	20	4	0
 *	24		the pages; with MIGRATION_PAGES_PACKED one block of zstd (vmm/compress.h) in their place, which is shorter
 *
 * Memory that the destination has made is zero: of a page that is, and that it has not got before, nothing is said.
 *
 * What is to be sent is a heap of pieces: several threads may take from it at once, each with a sender of its own
 * (migration_pages_begin(), migration_pages_share()). Each page is in one piece.
 *
 * Threads: an object belongs to one at a time, but for that; guest memory's own rules hold.
 */
#ifndef VMM_MIGRATION_PAGES_H
#define VMM_MIGRATION_PAGES_H

#include "vmm/compress.h"
#include "vmm/guest_memory.h"

#define MIGRATION_PAGES_HEADER 24
#define MIGRATION_PAGES_MAX    512
#define MIGRATION_PAGES_ZERO   1U
#define MIGRATION_PAGES_PACKED 2U
/* So many are sent in one at most: they are copied, looked at, and their checksum computed in a processor's cache. */
#define MIGRATION_PAGES_BATCH 64

/* Of one thread; all of it is private. */
struct migration_pages_sender {
	uint8_t *buf;
	uint8_t *packed; /* NULL: nothing is */
	struct compressor compressor;
};

/* All of it is private. */
struct migration_pages {
	struct guest_memory *mem;
	uint64_t *look[GUEST_MEMORY_REGIONS_MAX];  /* to be sent */
	uint64_t *there[GUEST_MEMORY_REGIONS_MAX]; /* not zero on the other side */
	uint64_t bits[GUEST_MEMORY_REGIONS_MAX];
	bool packs;
	struct migration_pages_sender sender; /* of migration_pages_send() */
	_Atomic uint64_t next;		      /* piece */
	_Atomic uint64_t sent;		      /* bytes of pages, since init */
	_Atomic uint64_t wire;		      /* what that was to the connection */
};

/* Of all regions that there are; none come or go while it lives. Allocates all that it ever will. */
int migration_pages_init(struct migration_pages *pages, struct guest_memory *mem, struct error *e);
/* From now on what is shorter by it is sent packed. ERROR_NOT_SUPPORTED where there is no library for it. */
int migration_pages_pack(struct migration_pages *pages, struct error *e);
/* Accepts a zeroed or half-made one. */
void migration_pages_finish(struct migration_pages *pages);

/* A region's pages that are to be sent, a bit each; what guest_region_dirty_collect() wants. NULL: there is no such region. */
uint64_t *migration_pages_wanted(struct migration_pages *pages, uint32_t index, uint64_t *bits);
/* Bytes of those of all regions. */
uint64_t migration_pages_left(const struct migration_pages *pages);

/*
 * Sends what is wanted, by send(), each message at most MIGRATION_PAGES_BATCH pages; none is wanted afterwards. Memory may be
 * written meanwhile, and what is has to be noted by who tracks it. Negative: send()'s; what was not sent is still wanted.
 */
int migration_pages_send(struct migration_pages *pages,
			 int (*send)(void *arg, const uint8_t *payload, uint32_t len,
				     struct error *e),
			 void *arg, struct error *e);

/*
 * The same by several threads: begin(), by one; then each takes pieces until there are none. A sender is made after migration_pages_pack();
 * finish() accepts a zeroed one.
 */
int migration_pages_sender_init(struct migration_pages_sender *sender,
				const struct migration_pages *pages, struct error *e);
void migration_pages_sender_finish(struct migration_pages_sender *sender);
void migration_pages_begin(struct migration_pages *pages);
int migration_pages_share(struct migration_pages *pages, struct migration_pages_sender *own,
			  int (*send)(void *arg, const uint8_t *payload, uint32_t len,
				      struct error *e),
			  void *arg, struct error *e);

/* Where the pages of such a payload go, of which only the header is there; NULL: it is no such payload, or
 * its pages are not there as they are. */
uint8_t *migration_pages_place(struct guest_memory *mem, const uint8_t *header, uint32_t len);
/* They have come to there. *bytes: how much it was. */
void migration_pages_placed(struct guest_memory *mem, const uint8_t *header, uint64_t *bytes);

/*
 * What a peer has sent, of any content and length. ERROR_MIGRATION: it is no such payload, or of pages that `mem` has not; nothing has
 * changed then, unless it was packed: then those pages may have anything. `unpacks` is for it alone. *bytes: how much it was.
 */
int migration_pages_store(struct guest_memory *mem, struct compressor *unpacks,
			  const uint8_t *payload, uint32_t len, uint64_t *bytes, struct error *e);

#endif
