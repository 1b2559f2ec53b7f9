// SPDX-License-Identifier: Apache-2.0
/*
 * See guest_watch.h. Silence is asked about twice, by one timer: after a few seconds on a KVM that
 * interprets guest kernels, where it means that a stock one will never come; else after as long as a
 * guest may take that boots with "quiet". Neither costs a start anything but a timer.
 *
 * The guest controls what it says. Nothing is saved.
 */
#include "guest_watch.h"

#include <inttypes.h>
#include <stdio.h>

#include "vmm/log.h"

LOG_DOMAIN("run");

#define NS_PER_S	1000000000ULL
#define SILENCE_SLOW_NS (3 * NS_PER_S)
#define SILENCE_NS	(10 * NS_PER_S)
#define LAST_OUTPUT	KIB(16) /* a panic's words, and what Linux says after them */

static uint64_t output_bytes(const struct vm_process *process)
{
	struct console_hub_stats stats;

	console_hub_stats(process->hub, &stats);
	return stats.output_bytes;
}

/* Does the hub hear what the guest says? */
static bool listens(const struct vm_process *process)
{
	return process->config.console == RUN_CONSOLE_HVC ||
	       !instance_boot(process->instance).serial_elsewhere;
}

/* `address` NULL: nobody knows. */
static void say_what_is_known(void *arg, const uint64_t *address)
{
	struct vm_process *process = arg;
	struct vm_stats stats = { 0 };
	char place[48] = "";

	vm_stats(instance_vm(process->instance), &stats);
	if (address != NULL) {
		(void)snprintf(place, sizeof(place), ", vCPU 0 at 0x%" PRIx64, *address);
	}
	log_info("the guest has said nothing for %llu s: it is %s%s; exits: %" PRIu64
		 " io, %" PRIu64 " mmio, %" PRIu64 " other; resets: %" PRIu64
		 "; a Linux kernel speaks with console=ttyS0 and without quiet",
		 SILENCE_NS / NS_PER_S, instance_state_name(instance_state(process->instance)),
		 place, stats.exits_io, stats.exits_mmio, stats.exits_other, stats.resets);
}

static void look(struct loop_timer *timer)
{
	struct vm_process *process = container_of(timer, struct vm_process, silence);

	if (output_bytes(process) != 0 || !listens(process)) {
		return;
	}
	if (!kvm_has_hardware()) {
		log_warn("the guest has said nothing for %llu s, and this KVM interprets guest "
			 "kernels (no VT-x, no AMD-V): stock ones do not boot; hint: use a machine "
			 "with VT-x or AMD-V, or scripts/quickstart, which emulates one",
			 SILENCE_SLOW_NS / NS_PER_S);
	} else if (instance_uptime_ns(process->instance) < SILENCE_NS) {
		loop_timer_set(&process->loop, timer, SILENCE_NS - SILENCE_SLOW_NS, look);
	} else if (instance_look(process->instance, say_what_is_known, process) < 0) {
		say_what_is_known(process, NULL);
	}
}

void guest_watch_begin(struct vm_process *process)
{
	boot_guard_init(&process->boot_guard, loop_now_ns());
	/* One that starts paused says nothing until somebody lets it, who knows it; one that was restored may
	 * have nothing to say. */
	if (instance_state(process->instance) == INSTANCE_RUNNING && !process->restored) {
		loop_timer_set(&process->loop, &process->silence, SILENCE_SLOW_NS, look);
	}
}

bool guest_watch_may_restart(struct vm_process *process, struct error *why)
{
	const struct instance_boot boot = instance_boot(process->instance);
	struct boot_facts facts = { .initrd = boot.initrd, .disks = boot.disks };
	struct boot_guard *guard = &process->boot_guard;
	struct vm_stats stats;
	char said[LAST_OUTPUT];
	uint64_t end = output_bytes(process);
	size_t len =
		console_hub_last(process->hub, guard->output_seen, (uint8_t *)said, sizeof(said));

	vm_stats(instance_vm(process->instance), &stats);
	facts.pci_unseen = stats.pci_unseen;
	guard->output_seen = end;
	return boot_guard_may_restart(guard, said, len, &facts, loop_now_ns(), why);
}
