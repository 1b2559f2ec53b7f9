/* SPDX-License-Identifier: Apache-2.0 */
/* blk_batch.h says it. The driver controls how many requests come and when; constants bound it. */
#include "blk_batch.h"

void blk_batch_init(struct blk_batch *batch)
{
	*batch = (struct blk_batch){ .goal = BLK_BATCH_GOAL, .patience = BLK_BATCH_PATIENCE };
}

bool blk_batch_open(uint32_t finished)
{
	return finished != 0 && finished < BLK_BATCH_GOAL;
}

bool blk_batch_look_before(const struct blk_batch *batch, uint32_t finished)
{
	return finished >= BLK_BATCH_LOOK_MIN && finished < batch->goal;
}

void blk_batch_vain_before(struct blk_batch *batch, uint32_t finished)
{
	uint32_t goal = finished - finished / 4;

	batch->full = 0;
	batch->same = finished == batch->last ? batch->same + 1 : 0;
	batch->last = finished;
	if (batch->same >= BLK_BATCH_SURE) {
		batch->same = BLK_BATCH_SURE;
		batch->goal = goal;
		batch->patience = MIN(batch->patience * 2, (uint32_t)BLK_BATCH_PATIENCE_MAX);
	} else {
		/* The driver may just have been busy with something else. */
		batch->goal = MAX(batch->goal - batch->goal / 8 - 1, goal);
		batch->patience = BLK_BATCH_PATIENCE;
	}
}

bool blk_batch_look_after(struct blk_batch *batch, uint32_t shown)
{
	if (shown >= batch->goal && ++batch->full >= batch->patience) {
		batch->full = 0;
		batch->goal = MIN(batch->goal + batch->goal / 2 + 1, (uint32_t)BLK_BATCH_GOAL);
	}
	if (shown < BLK_BATCH_LOOK_MIN) {
		return false;
	}
	if (batch->rest != 0) {
		batch->rest--;
		return false;
	}
	return true;
}

void blk_batch_looked_after(struct blk_batch *batch, bool came)
{
	if (came) {
		batch->vain = 0;
		return;
	}
	batch->vain = MIN(batch->vain + 1, (uint32_t)BLK_BATCH_VAIN_MAX);
	batch->rest = (1U << batch->vain) - 1;
}
