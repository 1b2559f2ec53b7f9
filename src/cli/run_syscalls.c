// SPDX-License-Identifier: Apache-2.0
/* The system calls of `vmm run` on main. A file of its own because the filter compiler links it
 * without the rest of the command. */
#include "vmm/run_syscalls.h"

#include <sys/ioctl.h>
#include <termios.h>

static const struct syscall_rule rules[] = {
	/* The terminal: restored at the end, window size. */
	SYSCALL_IOCTL(TCGETS),
	SYSCALL_IOCTL(TCSETS),
	SYSCALL_IOCTL(TCSETSW),
	SYSCALL_IOCTL(TIOCGWINSZ),
	/* Under Firecracker's name the process ends by the signal that it got (signal_die()). */
	SYSCALL("getpid"),
	SYSCALL("gettid"),
	SYSCALL("tgkill"),
	/* tcsetattr() of newer C libraries on Linux 6.14 and later, and closing what was open. */
	SYSCALL("close"),
};
const struct syscall_list run_syscalls = SYSCALL_LIST(rules);

/* What console_channel.output() may call on the thread of whichever device it serves. */
static const struct syscall_rule output_rules[] = {
	SYSCALL("poll"),
	SYSCALL("write"),
	SYSCALL("futex"),
};
const struct syscall_list run_output_syscalls = SYSCALL_LIST(output_rules);
