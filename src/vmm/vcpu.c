// SPDX-License-Identifier: Apache-2.0
/*
 * vCPU threads: set-up, the run loop, parking. See vcpu.h for the gate.
 *
 * A running vCPU is interrupted by kvm_run.immediate_exit (which covers the moment before KVM_RUN)
 * and a signal (which covers KVM_RUN itself); the handler is empty. The signal is blocked in all
 * other threads, and in a vCPU's while it is parked.
 *
 * The same interrupts one that shall rest. It takes immediate_exit back before it looks at the gate: whoever moves the gate does so
 * before he sets it, so that one of the two is seen.
 *
 * Before it parks, a vCPU enters KVM_RUN again with immediate_exit set: KVM then completes the
 * access of the last exit, and the registers are whole. What the same instruction still accesses (a
 * repeated one, or one across a page border) is another exit, which is handled like any.
 *
 * Before a reset each is settled: it enters KVM_RUN with the signal pending, which ends before guest code but not before KVM
 * has acted on what it has noted for this vCPU. One such note is "halt until the page has come" (an asynchronous page fault,
 * while the host reads memory back from swap or a pager brings it): acted on after the reset, which makes KVM forget the page,
 * it would be a halt for good.
 */
#include "vcpu.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "arch.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/loop.h"

#define NS_PER_S	1000000000ULL
#define VCPU_STACK_SIZE KIB(256)
#define VCPU_SIGNAL	SIGRTMIN

static _Thread_local const struct vcpu *current;

const struct vcpu *vcpu_current(void)
{
	return current;
}

static void ignore_signal(int number)
{
	(void)number;
}

static int install_signal(struct error *e)
{
	struct sigaction action = { .sa_handler = ignore_signal };

	if (sigaction(VCPU_SIGNAL, &action, NULL) < 0) {
		return error_set_sys(e, ERROR_INTERNAL, errno, "sigaction");
	}
	return 0;
}

static int create_vcpu(struct vcpus *all, struct vcpu *vcpu, struct error *e)
{
	struct kvm *kvm = all->kvm;
	void *run;

	vcpu->fd = kvm_ioctl(kvm->vm_fd, KVM_CREATE_VCPU, (void *)(uintptr_t)vcpu->index);
	if (vcpu->fd < 0) {
		int sys = -vcpu->fd;

		vcpu->fd = -1;
		return error_set_sys(e, ERROR_KVM, sys, "KVM_CREATE_VCPU %u of %u", vcpu->index,
				     all->count);
	}
	run = mmap(NULL, (size_t)kvm->vcpu_mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd,
		   0);
	if (run == MAP_FAILED) {
		return error_set_sys(e, ERROR_KVM, errno, "map the run page of vCPU %u",
				     vcpu->index);
	}
	vcpu->run = run;
	return 0;
}

/* The kernel's own form of a set of signals. */
#define KERNEL_SIGSET_BYTES 8

/* In KVM_RUN the signals are blocked that are while the vCPU is not parked, wherever it is called. */
static int set_signal_mask(const struct vcpu *vcpu, struct error *e)
{
	struct {
		struct kvm_signal_mask header;
		uint8_t bytes[KERNEL_SIGSET_BYTES];
	} mask = { .header.len = KERNEL_SIGSET_BYTES };
	sigset_t set;
	int r;

	(void)pthread_sigmask(SIG_SETMASK, NULL, &set);
	memcpy(mask.header.sigset, &set, KERNEL_SIGSET_BYTES);
	r = kvm_ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, &mask);
	return r == 0 ? 0 : error_set_sys(e, ERROR_KVM, -r, "KVM_SET_SIGNAL_MASK");
}

static int set_up(struct vcpu *vcpu, struct error *e)
{
	int r = arch_vcpu_init(vcpu, e);

	if (r == 0) {
		r = set_signal_mask(vcpu, e);
	}
	if (r == 0) {
		r = sandbox_enter_thread(vcpu->all->sandbox, SANDBOX_ROLE_VCPU, e);
	}
	return r < 0 ? error_prefix(e, "vCPU %u", vcpu->index) : 0;
}

static void announce(struct vcpus *all, bool *what)
{
	(void)pthread_mutex_lock(&all->lock);
	*what = true;
	(void)pthread_cond_broadcast(&all->moved);
	(void)pthread_mutex_unlock(&all->lock);
}

/* On the thread of vCPU 0. */
static int identify(struct vcpus *all, struct error *e)
{
	int r = arch_vcpus_identify(all, e);

	announce(all, &all->identified);
	return r;
}

/* Waits until there is a vCPU to set up. False: the VM came to nothing. */
static bool wait_for_creation(struct vcpus *all)
{
	bool proceed;

	(void)pthread_mutex_lock(&all->lock);
	while (!(all->created && all->identified) && all->wanted != GATE_QUIT) {
		(void)pthread_cond_wait(&all->moved, &all->lock);
	}
	proceed = all->wanted != GATE_QUIT;
	(void)pthread_mutex_unlock(&all->lock);
	return proceed;
}

static void mask_signal(int how)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, VCPU_SIGNAL);
	(void)pthread_sigmask(how, &set, NULL);
}

/* What KVM may exit for meanwhile, a triple fault of before for instance, the reset makes undone. */
#define SETTLE_EXITS 16

/* The signal is blocked and pending. */
static void settle(struct vcpu *vcpu)
{
	__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_RELAXED);
	for (int i = 0; i < SETTLE_EXITS && ioctl(vcpu->fd, KVM_RUN, NULL) == 0; i++) {
	}
	mask_signal(SIG_UNBLOCK);
	mask_signal(SIG_BLOCK);
}

/* With the lock, parked: until something has changed. */
static void wait_parked(struct vcpu *vcpu)
{
	struct vcpus *all = vcpu->all;

	if (!vcpu->unsettled) {
		(void)pthread_cond_wait(&all->moved, &all->lock);
		return;
	}
	(void)pthread_mutex_unlock(&all->lock);
	settle(vcpu);
	(void)pthread_mutex_lock(&all->lock);
	vcpu->unsettled = false;
	(void)pthread_cond_signal(&all->arrived);
}

/* Waits at the gate. False: the thread has to end. */
static bool park(struct vcpu *vcpu)
{
	struct vcpus *all = vcpu->all;
	bool open;

	mask_signal(SIG_BLOCK);
	(void)pthread_mutex_lock(&all->lock);
	all->parked++;
	(void)pthread_cond_signal(&all->arrived);
	while (atomic_load_explicit(&all->wanted, memory_order_relaxed) == GATE_HOLD) {
		wait_parked(vcpu);
	}
	open = atomic_load_explicit(&all->wanted, memory_order_relaxed) == GATE_OPEN;
	all->parked--;
	__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_RELAXED);
	(void)pthread_mutex_unlock(&all->lock);
	mask_signal(SIG_UNBLOCK);
	return open;
}

/* False as run_guest(). KVM looks at immediate_exit between at most 1024 accesses. */
static bool complete_exit(struct vcpu *vcpu)
{
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELAXED);
	while (ioctl(vcpu->fd, KVM_RUN, NULL) == 0) {
		if (!vcpu_handle_exit(vcpu)) {
			return false;
		}
	}
	return true;
}

/* It was interrupted: to rest, or to look at the gate. */
static void rest(struct vcpu *vcpu)
{
	struct vcpus *all = vcpu->all;

	(void)pthread_mutex_lock(&all->lock);
	while (all->rests_until > loop_now_ns() &&
	       atomic_load_explicit(&all->wanted, memory_order_relaxed) == GATE_OPEN) {
		const struct timespec until = {
			.tv_sec = (time_t)(all->rests_until / NS_PER_S),
			.tv_nsec = (long)(all->rests_until % NS_PER_S),
		};

		(void)pthread_cond_clockwait(&all->moved, &all->lock, CLOCK_MONOTONIC, &until);
	}
	(void)__atomic_exchange_n(&vcpu->run->immediate_exit, 0, __ATOMIC_ACQ_REL);
	(void)pthread_mutex_unlock(&all->lock);
}

/* Runs guest code until the gate moves. False: this vCPU has failed and stays parked until the end.
 */
static bool run_guest(struct vcpu *vcpu)
{
	struct vcpus *all = vcpu->all;

	while (atomic_load_explicit(&all->wanted, memory_order_acquire) == GATE_OPEN) {
		if (ioctl(vcpu->fd, KVM_RUN, NULL) < 0) {
			if (errno == EINTR || errno == EAGAIN) {
				rest(vcpu);
				continue;
			}
			(void)error_set_sys(&vcpu->error, ERROR_KVM, errno, "vCPU %u: KVM_RUN",
					    vcpu->index);
			all->failed(all, vcpu);
			return false;
		}
		if (!vcpu_handle_exit(vcpu)) {
			return false;
		}
	}
	return complete_exit(vcpu);
}

static void wait_for_quit(struct vcpu *vcpu)
{
	struct vcpus *all = vcpu->all;

	(void)pthread_mutex_lock(&all->lock);
	all->parked++;
	(void)pthread_cond_signal(&all->arrived);
	while (atomic_load_explicit(&all->wanted, memory_order_relaxed) != GATE_QUIT) {
		(void)pthread_cond_wait(&all->moved, &all->lock);
	}
	(void)pthread_mutex_unlock(&all->lock);
}

/* But for ours, and those that a thread raises by itself. */
static void block_signals(void)
{
	static const int synchronous[] = {
		SIGSYS, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGXFSZ
	};
	sigset_t set;

	(void)sigfillset(&set);
	(void)sigdelset(&set, VCPU_SIGNAL);
	for (size_t i = 0; i < ARRAY_SIZE(synchronous); i++) {
		(void)sigdelset(&set, synchronous[i]);
	}
	(void)pthread_sigmask(SIG_SETMASK, &set, NULL);
}

static void *vcpu_main(void *arg)
{
	struct vcpu *vcpu = arg;
	char name[16];

	(void)snprintf(name, sizeof(name), "%.11s%u", vcpu->all->thread_name, vcpu->index);
	(void)prctl(PR_SET_NAME, name);
	log_name_thread(name);
	current = vcpu;
	block_signals();
	if (vcpu->index == 0 && identify(vcpu->all, &vcpu->error) < 0) {
		wait_for_quit(vcpu);
		return NULL;
	}
	if (!wait_for_creation(vcpu->all)) {
		return NULL;
	}
	if (set_up(vcpu, &vcpu->error) < 0) {
		wait_for_quit(vcpu);
		return NULL;
	}
	while (park(vcpu)) {
		if (!run_guest(vcpu)) {
			wait_for_quit(vcpu);
			break;
		}
	}
	return NULL;
}

static int start_thread(struct vcpu *vcpu, struct error *e)
{
	pthread_attr_t attr;
	int r;

	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, VCPU_STACK_SIZE);
	r = pthread_create(&vcpu->thread, &attr, vcpu_main, vcpu);
	(void)pthread_attr_destroy(&attr);
	if (r != 0) {
		return error_set_sys(e, ERROR_INTERNAL, r, "start the thread of vCPU %u",
				     vcpu->index);
	}
	vcpu->thread_started = true;
	return 0;
}

static void wait_until_parked(struct vcpus *all)
{
	(void)pthread_mutex_lock(&all->lock);
	while (all->parked < all->count) {
		(void)pthread_cond_wait(&all->arrived, &all->lock);
	}
	(void)pthread_mutex_unlock(&all->lock);
}

int vcpus_init(struct vcpus *all, struct kvm *kvm, uint32_t count, struct error *e)
{
	int r = install_signal(e);

	if (r < 0) {
		return r;
	}
	all->kvm = kvm;
	all->count = count;
	all->list = calloc(count, sizeof(all->list[0]));
	if (all->list == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "%u vCPUs: out of memory", count);
	}
	(void)pthread_mutex_init(&all->lock, NULL);
	(void)pthread_cond_init(&all->moved, NULL);
	(void)pthread_cond_init(&all->arrived, NULL);
	for (uint32_t i = 0; i < count; i++) {
		all->list[i] = (struct vcpu){ .all = all, .index = i, .fd = -1 };
	}
	return start_thread(&all->list[0], e);
}

int vcpus_create(struct vcpus *all, struct error *e)
{
	for (uint32_t i = 0; i < all->count; i++) {
		int r = create_vcpu(all, &all->list[i], e);

		if (r == 0 && i > 0) {
			r = start_thread(&all->list[i], e);
		}
		if (r < 0) {
			return r;
		}
	}
	announce(all, &all->created);
	return 0;
}

int vcpus_wait_ready(struct vcpus *all, struct error *e)
{
	wait_until_parked(all);
	for (uint32_t i = 0; i < all->count; i++) {
		if (all->list[i].error.code != ERROR_NONE) {
			*e = all->list[i].error;
			return e->sys != 0 ? -e->sys : -EINVAL;
		}
	}
	return 0;
}

static void move_gate(struct vcpus *all, enum gate_position position)
{
	(void)pthread_mutex_lock(&all->lock);
	if (atomic_load_explicit(&all->wanted, memory_order_relaxed) != GATE_QUIT &&
	    !(all->closed && position == GATE_OPEN)) {
		atomic_store_explicit(&all->wanted, position, memory_order_release);
		if (position == GATE_OPEN) {
			all->opened = true;
		}
	}
	(void)pthread_cond_broadcast(&all->moved);
	(void)pthread_mutex_unlock(&all->lock);
}

static void interrupt_all(struct vcpus *all)
{
	for (uint32_t i = 0; i < all->count; i++) {
		struct vcpu *vcpu = &all->list[i];

		if (vcpu->thread_started && vcpu->run != NULL) {
			__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELEASE);
			(void)pthread_kill(vcpu->thread, VCPU_SIGNAL);
		}
	}
}

void vcpus_release(struct vcpus *all)
{
	move_gate(all, GATE_OPEN);
}

void vcpus_want_hold(struct vcpus *all)
{
	move_gate(all, GATE_HOLD);
}

void vcpus_close(struct vcpus *all)
{
	bool created;

	(void)pthread_mutex_lock(&all->lock);
	all->closed = true;
	created = all->created;
	(void)pthread_mutex_unlock(&all->lock);
	move_gate(all, GATE_HOLD);
	/* Threads that are still being started look at the gate first. */
	if (created) {
		interrupt_all(all);
	}
}

void vcpus_rest(struct vcpus *all, uint64_t until_ns)
{
	bool open;

	(void)pthread_mutex_lock(&all->lock);
	open = atomic_load_explicit(&all->wanted, memory_order_relaxed) == GATE_OPEN;
	all->rests_until = open ? until_ns : 0;
	if (until_ns == 0) {
		(void)pthread_cond_broadcast(&all->moved);
	}
	(void)pthread_mutex_unlock(&all->lock);
	if (open && until_ns != 0) {
		interrupt_all(all);
	}
}

void vcpus_hold(struct vcpus *all)
{
	move_gate(all, GATE_HOLD);
	interrupt_all(all);
	wait_until_parked(all);
}

void vcpus_excuse_pause(struct vcpus *all)
{
	for (uint32_t i = 0; i < all->count; i++) {
		arch_vcpu_excuse_pause(&all->list[i]);
	}
}

/* None has failed: that is looked at before a reset. */
static void settle_all(struct vcpus *all)
{
	(void)pthread_mutex_lock(&all->lock);
	for (uint32_t i = 0; i < all->count; i++) {
		(void)pthread_kill(all->list[i].thread, VCPU_SIGNAL);
		all->list[i].unsettled = true;
	}
	(void)pthread_cond_broadcast(&all->moved);
	for (uint32_t i = 0; i < all->count; i++) {
		while (all->list[i].unsettled) {
			(void)pthread_cond_wait(&all->arrived, &all->lock);
		}
	}
	(void)pthread_mutex_unlock(&all->lock);
}

int vcpus_reset(struct vcpus *all, struct error *e)
{
	settle_all(all);
	for (uint32_t i = 0; i < all->count; i++) {
		int r = arch_vcpu_reset(&all->list[i], e);

		if (r < 0) {
			return error_prefix(e, "reset vCPU %u", i);
		}
	}
	return 0;
}

static void finish_vcpu(struct vcpus *all, struct vcpu *vcpu)
{
	if (vcpu->thread_started) {
		(void)pthread_join(vcpu->thread, NULL);
	}
	arch_vcpu_finish(vcpu);
	if (vcpu->run != NULL) {
		(void)munmap(vcpu->run, (size_t)all->kvm->vcpu_mmap_size);
	}
	close_fd(&vcpu->fd);
}

void vcpus_finish(struct vcpus *all)
{
	if (all->list == NULL) {
		return;
	}
	move_gate(all, GATE_QUIT);
	interrupt_all(all);
	for (uint32_t i = 0; i < all->count; i++) {
		finish_vcpu(all, &all->list[i]);
	}
	arch_vcpus_finish(all);
	(void)pthread_cond_destroy(&all->arrived);
	(void)pthread_cond_destroy(&all->moved);
	(void)pthread_mutex_destroy(&all->lock);
	free(take_ptr(all->list));
}
