/* SPDX-License-Identifier: Apache-2.0 */
/*
 * debug-exit STATUS, a program for a guest: writes the status to the debug-exit port
 * (PLATFORM_PORT_DEBUG_EXIT), which ends vmm with it. Distribution kernels have no /dev/port, so it
 * takes the right to the port with iopl(2). What was written to the terminal before goes out first: the
 * kernel keeps it until the port has taken it. Freestanding: gcc -static -nostdlib -ffreestanding -Os.
 */
#include <asm/ioctls.h>
#include <asm/unistd.h>

#include "vmm/platform.h"

static long system_call(long number, long first, long second, long third)
{
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(number), "D"(first), "S"(second), "d"(third)
			 : "rcx", "r11", "memory");
	return ret;
}

__attribute__((used)) static void run(const long *stack)
{
	const char *word = stack[0] > 1 ? (const char *)stack[2] : "0";
	unsigned int status = 0;

	while (*word >= '0' && *word <= '9') {
		status = status * 10 + (unsigned int)(*word++ - '0');
	}
	/* tcdrain(1) */
	(void)system_call(__NR_ioctl, 1, TCSBRK, 1);
	if (system_call(__NR_iopl, 3, 0, 0) == 0) {
		__asm__ volatile("outb %b0, %w1" : : "a"(status), "Nd"(PLATFORM_PORT_DEBUG_EXIT));
	}
	system_call(__NR_exit_group, 1, 0, 0);
}

__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall run\n");
