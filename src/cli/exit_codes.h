/* SPDX-License-Identifier: Apache-2.0 */
/* Exit codes of vmm: stable, documented in README.md. 1 is not used: too many other things end
 * with 1. */
#ifndef VMM_SRC_CLI_EXIT_CODES_H
#define VMM_SRC_CLI_EXIT_CODES_H

enum exit_code {
	EXIT_OK = 0,	  /* the guest powered off */
	EXIT_USAGE = 2,	  /* the command line is wrong */
	EXIT_REBOOT = 10, /* the guest rebooted, with --on-reboot exit */
	EXIT_PANIC = 11,  /* the guest's kernel panicked (pvpanic) */
	EXIT_TRIPLE_FAULT = 12,
	EXIT_BOOT_LOOP = 13,  /* it panicked and restarted again and again */
	EXIT_TIMED_OUT = 124, /* --timeout */
	EXIT_VMM_ERROR = 125,
	EXIT_SIGNAL_BASE = 128, /* + signal, when the guest did not power off in time after it */
};

/* Of a command that is a VM's process to its end, for its page; `detached_` says when --detach returns. */
#define EXITS_OF_A_VM(detached_)                                              \
	"0 the guest has powered off; with --detach: " detached_ "\n"         \
	"10 the guest has rebooted, with --on-reboot exit\n"                  \
	"11 the guest's kernel has panicked, as far as it tells (pvpanic)\n"  \
	"12 triple fault\n"                                                   \
	"13 the guest's kernel panicked and restarted three times in a row\n" \
	"124 --timeout is over\n"                                             \
	"128+N the VM was stopped: after signal N, or by a command (137)"

#endif
