/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many finished requests the block device shows to the driver at once, and when it looks at the
 * ring a little longer for more. Private to the device and its tests.
 *
 * A driver that keeps many requests going submits them one after the other, and a disk in the page
 * cache is as quick. Shown at once, finished requests interrupt it in the middle of its
 * submissions, at three exits each with MMIO, and each kick costs another exit and a wake-up. So
 * the worker takes what has come meanwhile first, up to BLK_BATCH_GOAL, and looks for up to
 * BLK_BATCH_LOOK_NS:
 *
 * - before it shows at least BLK_BATCH_LOOK_MIN finished requests, if they are fewer than the goal;
 * - after it has shown as many, before it asks for kicks.
 *
 * That many finished requests at once are the evidence that the driver has them: one with fewer
 * never waits. The goal is three quarters of the depth, so that the driver has something left to
 * do until the interrupt is there: looks in vain at the same number mean that this is the depth,
 * and after many full batches a higher goal is tried. Looks after showing become rare while they
 * are in vain.
 *
 * Measured with a driver that submits every 3 us at 2 us per exit and is interrupted in between
 * (4 KiB writes to tmpfs, Linux 6.18), against showing all at once: at depth 32, 205,000 requests
 * per second and 0.18 exits each against 152,000 and 0.53; depth 64 gains as much, depth 16 a
 * fifth, depths 4 and 8 lose about 5%, depth 1 is the same. A goal that stays at 24 costs depth 8
 * a quarter.
 *
 * No clock of its own, no threads, not saved.
 */
#ifndef VMM_BLK_BATCH_H
#define VMM_BLK_BATCH_H

#include "vmm/types.h"

#define BLK_BATCH_LOOK_MIN 4
#define BLK_BATCH_LOOK_NS  20000
/* From the first finished request of a batch to the end of the last look for it. */
#define BLK_BATCH_NS	       80000
#define BLK_BATCH_GOAL	       24 /* at first; and the most */
#define BLK_BATCH_PATIENCE     32 /* full batches before a higher goal is tried, at first */
#define BLK_BATCH_PATIENCE_MAX 1024
#define BLK_BATCH_SURE	       2 /* looks in vain at the same number, after the first */
#define BLK_BATCH_VAIN_MAX     6 /* 2^6 - 1 batches without a look after them */

struct blk_batch {
	uint32_t goal;	     /* requests that are shown without a look for more */
	uint32_t full;	     /* batches that have reached it since the last vain look */
	uint32_t patience;   /* of them before a higher goal is tried */
	uint32_t last, same; /* requests there were when a look was in vain; as many before, too */
	uint32_t vain, rest; /* looks after a batch: in vain, in a row; to be left out */
};

void blk_batch_init(struct blk_batch *batch);
/* `finished` requests wait to be shown: may those join that are there already? */
bool blk_batch_open(uint32_t finished);
/* May they wait for more? */
bool blk_batch_look_before(const struct blk_batch *batch, uint32_t finished);
/* They did, and nothing came. */
void blk_batch_vain_before(struct blk_batch *batch, uint32_t finished);
/* `shown` requests have been shown. True: look for more before the driver is asked for kicks. */
bool blk_batch_look_after(struct blk_batch *batch, uint32_t shown);
void blk_batch_looked_after(struct blk_batch *batch, bool came);

#endif
