/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vCPU threads and the gate that holds them. Private to src/vmm.
 *
 * A vCPU's thread sets its vCPU up, enters its sandbox, and then lives between two places: in KVM_RUN (the gate is open) or
 * parked at the gate. The machine thread moves the gate (vm_internal.h): vcpus_hold() signals all threads first and then waits
 * for all, so the time does not grow with their number. It waits as well for one that waits for a device's worker.
 *
 *	GATE_HOLD  threads park; a parked vCPU has no I/O half done, its state may be read and written
 *	GATE_OPEN  threads run guest code
 *	GATE_QUIT  threads return; final
 *
 * While the gate is open vCPUs may be told to rest until a moment (throttle.h): they are interrupted as for parking, wait with the lock,
 * and are not parked. Whoever moves the gate ends that. A vCPU looks at it only when it was interrupted, so that it costs nothing else.
 *
 * Lock: gate.lock guards `wanted`, `parked` and `rests_until`; `wanted` is read without it by running vCPUs. Never held over a call out.
 */
#ifndef VMM_SRC_VCPU_H
#define VMM_SRC_VCPU_H

#include <pthread.h>
#include <stdatomic.h>

#include "kvm.h"
#include "vmm/bus.h"
#include "vmm/metrics.h"
#include "vmm/power.h"
#include "vmm/sandbox.h"
#include "vmm/vm_config.h"

enum gate_position { GATE_HOLD, GATE_OPEN, GATE_QUIT };

struct vcpus;
struct arch_vcpu;
struct arch_vcpus;

struct vcpu {
	struct vcpus *all;
	uint32_t index; /* also what the guest knows it by */
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool thread_started;
	bool unsettled;		/* a reset waits for it; with the lock */
	struct arch_vcpu *arch; /* how the architecture resets it */
	struct error error; /* set-up or run failure; read by others once the thread is parked */
	_Atomic uint64_t exits_io, exits_mmio, exits_other;
	_Atomic uint64_t exits_io_out, exits_mmio_write; /* of those */
};

struct vcpus {
	struct kvm *kvm;
	struct bus *ports, *mmio; /* borrowed */
	struct power_sink *power; /* borrowed */
	/* A vCPU cannot go on: called once per failure on its thread, which then parks for good. */
	void (*failed)(struct vcpus *all, struct vcpu *vcpu);
	enum sandbox_mode sandbox;
	const char *thread_name; /* before the index; borrowed */
	/* How vCPUs look: set before vcpus_init(). */
	uint32_t threads;			 /* of a core */
	const struct cpu_template *cpu_template; /* NULL: none; borrowed until vcpus_finish() */
	struct arch_vcpus *arch;		 /* and what KVM has of them */
	uint32_t count;
	struct vcpu *list;

	pthread_mutex_t lock;
	pthread_cond_t moved;	/* the gate was moved, or `created` or `identified` became true */
	pthread_cond_t arrived; /* a thread has parked, or is settled */
	_Atomic int wanted;	/* enum gate_position */
	uint64_t rests_until;	/* while the gate is open, by loop_now_ns(); 0: runs */
	uint32_t parked;
	bool closed;	 /* the gate opens no more */
	bool opened;	 /* it has been open: guest code may have run */
	bool created;	 /* the vCPUs exist */
	bool identified; /* `arch` is filled, or vCPU 0 has an error */
};

/* Starts the thread of vCPU 0; only /dev/kvm is open yet. Main's `power`, `failed`, buses and
 * `sandbox` are set. */
int vcpus_init(struct vcpus *all, struct kvm *kvm, uint32_t count, struct error *e);
/* The vCPUs themselves, and their threads; the memory slots and the irqchip exist already. */
int vcpus_create(struct vcpus *all, struct error *e);
/* The process sandbox has been entered: waits until every thread is set up, sandboxed and parked,
 * or one has failed. */
int vcpus_wait_ready(struct vcpus *all, struct error *e);
void vcpus_release(struct vcpus *all);
void vcpus_hold(struct vcpus *all);
/* The machine thread: running vCPUs are interrupted, and run no guest code before `until_ns`, by loop_now_ns(), or the gate has
 * moved; 0: they go on. Nothing if the gate is not open. Waits for nobody. */
void vcpus_rest(struct vcpus *all, uint64_t until_ns);
/* Any thread: running vCPUs park at their next exit; does not wait, does not interrupt. */
void vcpus_want_hold(struct vcpus *all);
/* Any thread, between vcpus_init() and vcpus_finish(): running vCPUs are interrupted and park, and no release lets them go. */
void vcpus_close(struct vcpus *all);
/* After a pause that the guest was not told of; all parked. */
void vcpus_excuse_pause(struct vcpus *all);
/* Back to power-on; all parked. */
int vcpus_reset(struct vcpus *all, struct error *e);
/* Ends and joins the threads, closes the vCPUs. Accepts a zeroed or half-made object. */
void vcpus_finish(struct vcpus *all);

/* metrics.c: of its thread since it started; any thread, as long as it is not joined. */
uint64_t vcpu_cpu_time_ns(const struct vcpu *vcpu);
void vcpus_write_metrics(const struct vcpus *all, struct metrics_text *text);

/* Of the calling thread; NULL: it is no vCPU's. */
const struct vcpu *vcpu_current(void);
/* This thread alone writes it. */
static inline void vcpu_count(_Atomic uint64_t *counter)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

/* vcpu_exit.c: handles one exit. False if the vCPU has failed and has to park for good. */
bool vcpu_handle_exit(struct vcpu *vcpu);

#endif
