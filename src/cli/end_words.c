// SPDX-License-Identifier: Apache-2.0
/* See end_words.h. A guest's own faults are errors; what somebody has asked for is a warning; what
 * --on-reboot exit and --debug-exit are there for is nothing to say. */
#include "end_words.h"

#include <inttypes.h>
#include <stdio.h>

#include "signals.h"
#include "vmm/log.h"

LOG_DOMAIN("run");

#define NS_PER_S ((uint64_t)1000000000)

/* "vCPU 0 at 0x100000, resets: 2, after 1.5 s" */
struct place {
	char text[120];
};

static struct place describe(const struct vm_process *process, const struct exit_report *report)
{
	const struct vm_stop *stop = &process->stop;
	char where[48] = "";
	struct place ret;

	if (stop->has_address) {
		(void)snprintf(where, sizeof(where), "vCPU %u at 0x%" PRIx64 ", ", stop->vcpu,
			       stop->address);
	}
	(void)snprintf(ret.text, sizeof(ret.text), "%sresets: %" PRIu64 ", after %" PRIu64 ".%u s",
		       where, report->stats.resets, report->uptime_ns / NS_PER_S,
		       (unsigned int)(report->uptime_ns % NS_PER_S / (NS_PER_S / 10)));
	return ret;
}

static void say_request(const struct vm_process *process, const struct place *place)
{
	char buf[SIGNAL_NAME_SIZE];

	if (process->signal != 0) {
		log_warn("stopped after %s; %s", signal_name(process->signal, buf), place->text);
	} else {
		log_warn("stopped on request; %s", place->text);
	}
}

void end_words_say(const struct vm_process *process, const struct exit_report *report)
{
	const struct place place = describe(process, report);
	char buf[SIGNAL_NAME_SIZE];

	if (report->error != NULL) {
		if (report->uptime_ns != 0) {
			log_error("the VM has ended; %s", place.text);
		}
		return;
	}
	if (process->timed_out) {
		log_warn("stopped: --timeout is over; %s", place.text);
		return;
	}
	switch (process->stop.reason) {
	case VM_STOP_PANIC:
		log_error("the guest's kernel has panicked; %s", place.text);
		break;
	case VM_STOP_TRIPLE_FAULT:
		log_error("triple fault: the guest could not handle an exception, nor the one that "
			  "came of it; %s%s",
			  process->stop.has_address ? "" : "address not known, ", place.text);
		break;
	case VM_STOP_MOVED:
		log_info(process->left ? "the VM goes on in another process"
				       : "the VM has moved, and runs there");
		break;
	case VM_STOP_REQUESTED:
		say_request(process, &place);
		break;
	case VM_STOP_NONE:
		log_info("ended by %s, before a VM was started", signal_name(process->signal, buf));
		break;
	default:
		break;
	}
}
