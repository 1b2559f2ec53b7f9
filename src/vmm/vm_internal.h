/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files behind vmm/vm.h share.
 *
 *	build.c		vm_create(), vm_load(): builds the machine, fills it
 *	vm.c		main: states, what is asked for and in which order, events, the end
 *	operations.c	the thread "machine": what it does to the machine
 *	vm_access.c	main, at any time: input, buttons, figures
 *
 * Who owns what: until vm_start() main owns all of it. From then on the parts from `kvm` to `boot`
 * are the machine thread's, but for what vm_access.c reads and the devices lock; the rest is main's.
 * The thread has one task at a time, and what that holds goes back and forth with two posts.
 */
#ifndef VMM_SRC_VM_INTERNAL_H
#define VMM_SRC_VM_INTERNAL_H

#include "boot.h"
#include "kvm.h"
#include "machine.h"
#include "throttle.h"
#include "vcpu.h"
#include "vmm/vm.h"
#include "vmm/worker.h"

struct vm;

struct vm_task {
	/* The machine thread. */
	int (*run)(struct vm *vm, struct vm_task *task, struct error *e);
	struct vm_operation *operation; /* NULL: it is the VM's own */
	enum vm_state after;		/* if it succeeds */
	int result;
	struct error error;
	struct vm_stop
		stop;	  /* of vm_do_end(): begun by main, `has_address` and what follows filled */
	bool lacks_disks; /* filled: machine_lacks_disks() after it */
	uint32_t gone_count; /* devices that it has taken down, for main to tell of and to free */
	struct device *gone[MACHINE_GONE_MAX];
	struct loop_post there, back;
};

/* How far what was asked for is. */
enum vm_asked { ASKED_NOTHING, ASKED_WAITS, ASKED_UNDER_WAY, ASKED_REFUSED };

struct vm {
	const struct vm_config *config; /* vm_create()'s caller's; NULL after it */
	/* Of a VM that was loaded: what it boots from at a reset. NULL: its kernel is open. */
	struct vm_config *boot_config;
	bool loaded; /* it goes on where it was */
	/* VM_LOAD has not come yet. The machine thread's, and main's while that has nothing to do. */
	bool awaits_state;
	bool moved; /* and has not been let go on yet, here: the machine thread's */
	struct vm_machine_config machine_config;
	enum sandbox_mode sandbox;
	struct vm_host *host;

	struct kvm kvm;
	struct guest_memory mem;
	struct irqchip irqchip;
	struct machine machine;
	struct vcpus vcpus;
	struct throttle throttle;
	struct boot boot;
	char *kernel_path; /* `boot` borrows these */
	char *initrd_paths[VM_INITRDS_MAX];
	struct cpu_template *cpu_template; /* ours; NULL: none */
	const char *cmdline;		   /* of the first boot */
	char *saved_cmdline;		   /* that, of a VM that was loaded */

	struct worker thread; /* "machine" */
	struct vm_task task;
	struct loop_post finish; /* to it: takes everything down */
	bool finishing;

	enum vm_state state;
	_Atomic bool is_mains; /* main has begun with it: there may be posts to its loop */
	bool busy;	       /* the task is under way */
	bool lacks_disks;      /* as of the last task: the guest must not go on */
	enum vm_asked asked_state;
	struct vm_operation *asked;
	struct loop_post refusal;
	bool stop_wanted;
	bool event_heard;    /* main has been posted to since it last acted on one */
	bool event_was_last; /* what was asked for has its turn */
	bool given_up;	     /* the machine did not stop in time */
	struct loop_timer patience;
	uint64_t resets;
	struct vm_stop stop;
	struct loop_post stop_post; /* of a VM that was never started */
	struct loop_post reset_post;
	bool reset_posted;

	/* It cannot go on: a thread could not be started (written by the machine thread before its
	 * post), or a reset has failed. */
	bool broken;
	struct error failure;
	struct loop_post failure_post;
	struct error memory_failure; /* written by the pager's thread before its post */
	struct loop_post memory_post;

	/*
	 * From vCPU threads to main. The first event since start or reset is written down
	 * (VM_EVENT), the gate is closed, and main is posted to unless a post is on its way. A
	 * reset forgets the event; a post that then arrives finds nothing.
	 */
	struct power_sink power;
	/* A vCPU has ejected a device: the machine thread has something to take down. */
	_Atomic bool left_posted;
	bool left_heard;
	struct loop_post left_post;
	_Atomic uint32_t event; /* 0: none */
	_Atomic bool event_posted;
	_Atomic(struct vcpu *) failed; /* of a VM_EVENT_FAILURE */
	_Atomic uint32_t reporter;     /* index of the vCPU whose event it is */
	struct loop_post event_post;
};

#define VM_EVENT(event, code) ((uint32_t)(event) << 8 | (code))
#define VM_EVENT_FAILURE      0xff /* beside enum power_event: a vCPU cannot go on */

/* build.c */
/* RAM is fresh, vCPUs are parked. */
int vm_load_kernel(struct vm *vm, struct error *e);
/* vCPUs are at power-on. */
int vm_place_vcpus(struct vm *vm, struct error *e);
/* All that was built: nobody uses it any more. Accepts what is half-made. */
void vm_take_down(struct vm *vm);

/* vm.c. The thread of guest memory's pager: no vCPU goes back to the guest. */
void vm_memory_lost(struct guest_memory *mem, const struct error *why);
/* For who makes the struct; main. Posts that have no other owner. */
void vm_init_life(struct vm *vm);

/* operations.c */
struct vm_operation_info {
	const char *name;    /* begins messages */
	unsigned int states; /* bit 1 << enum vm_state: those in which it is possible */
	enum vm_state after; /* VM_STOPPED: as it is */
	int (*run)(struct vm *vm, struct vm_task *task, struct error *e);
};
extern const struct vm_operation_info vm_operations[VM_OPERATIONS];
int vm_do_end(struct vm *vm, struct vm_task *task, struct error *e);
/* Takes down what the guest has ejected. */
int vm_do_take_left(struct vm *vm, struct vm_task *task, struct error *e);
extern const struct device_kind *const vm_device_kinds[VM_DEVICES];
/* The first on the machine thread: starts workers, enters its filter. For worker_start(), with the VM. */
int vm_begin_machine(void *arg, struct error *e);

#endif
