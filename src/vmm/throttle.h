/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slows the guest down: in each period vCPUs run for a while and then rest, all at the same time, so that none waits for a lock
 * that a resting one holds. Private to src/vmm.
 *
 *	off ----- throttle_set(1..99) -----> on ----- throttle_set(0), throttle_end() -----> off
 *
 * Everything here is the machine thread's, whose loop has the timer. That thread says when a rest begins and how long it is; each
 * vCPU ends it by its own clock, or because the gate moves (vcpu.h): a machine thread that waits for a disk leaves a guest that
 * runs at full speed, never one that stands still.
 *
 * How long the guest has run is measured, not assumed, and the rest follows from that: a timer that is late makes periods longer, and
 * leaves the shares as they are. While the gate is not open nobody is interrupted. The guest controls nothing but that a vCPU which
 * waits for a device goes on waiting. Not saved: it is of this host.
 */
#ifndef VMM_SRC_THROTTLE_H
#define VMM_SRC_THROTTLE_H

#include "vcpu.h"
#include "vmm/loop.h"

#define THROTTLE_PERCENT_MAX 99

struct throttle {
	struct vcpus *vcpus; /* borrowed, as the loop */
	struct loop *loop;
	uint32_t percent;    /* of the time that they rest; 0: off */
	uint64_t runs_since; /* the last rest ended then, or will */
	struct loop_timer timer;
};

/* `percent` up to THROTTLE_PERCENT_MAX. `loop` is the calling thread's. */
void throttle_set(struct throttle *throttle, struct vcpus *vcpus, struct loop *loop,
		  uint32_t percent);
/* vCPUs that rest go on. Accepts a zeroed one. */
void throttle_end(struct throttle *throttle);

/* How long vCPUs run before they rest, and how long they rest after they have run for `ran_ns`: 1 to THROTTLE_PERCENT_MAX. */
uint64_t throttle_run_ns(uint32_t percent);
uint64_t throttle_rest_ns(uint32_t percent, uint64_t ran_ns);

#endif
