/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which parts of a disk were written, for who copies it while a guest uses it.
 *
 * A disk is cut into clusters of BLOCK_DIRTY_CLUSTER bytes, a bit each. A request that may have changed the disk sets those that it touches
 * as it completes: what it has written is in the file then, and the guest has not been told yet. So who collects the bits and reads
 * the clusters afterwards has all that was written before; what is written meanwhile is noted again. What was in flight as noting
 * began is noted, too; what had completed is in the file.
 *
 * Threads: any, start and stop one at a time; the disk stays open meanwhile. Once noting has been started the bits stay until block_close(), so that
 * no worker has to be waited for.
 */
#ifndef VMM_BLOCK_DIRTY_H
#define VMM_BLOCK_DIRTY_H

#include "vmm/block.h"

#define BLOCK_DIRTY_CLUSTER KIB(64)

/* Of a disk, 64 clusters each. */
uint64_t block_dirty_words(const struct block *b);

/* `b`, the first of a chain; requests of all of it are noted. All is clean. Started already: goes on, clean. ERROR_NO_MEMORY. */
int block_dirty_start(struct block *b, struct error *e);
void block_dirty_stop(struct block *b);
/* Sets in `bits`, of block_dirty_words(), what was written since the last time, which is forgotten. */
void block_dirty_collect(struct block *b, uint64_t *bits);

/* Of an engine, by block_complete(). */
void block_dirty_note(struct block *b, const struct block_request *req);
/* Of block_close(). */
void block_dirty_finish(struct block *b);

#endif
