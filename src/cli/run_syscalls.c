// SPDX-License-Identifier: Apache-2.0
/* The system calls of `vmm run` on main. A file of its own because the filter compiler links it without the rest of the command. */
#include "vmm/run_syscalls.h"

#include <sys/ioctl.h>
#include <termios.h>

static const struct syscall_rule rules[] = {
	/* Console (output that nobody takes at once) and terminal (restored at the end, window size). */
	SYSCALL("poll"),
	SYSCALL_IOCTL(TCGETS),
	SYSCALL_IOCTL(TCSETS),
	SYSCALL_IOCTL(TCSETSW),
	SYSCALL_IOCTL(TIOCGWINSZ),
	/* tcsetattr() of newer C libraries on Linux 6.14 and later, and closing what was open. */
	SYSCALL("close"),
};
const struct syscall_list run_syscalls = SYSCALL_LIST(rules);
