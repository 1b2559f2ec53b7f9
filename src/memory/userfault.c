/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A userfaultfd(2) for whoever in this room waits for accesses to guest memory (pager.c, freezer.c): by its device, which a user can be
 * given, or by the system call, which needs a right or a sysctl. Before filters close. The guest controls nothing here.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/cleanup.h"

int userfault_open(void)
{
	auto_close int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fd = -1;

	if (device >= 0) {
		fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	}
	if (fd < 0) {
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	}
	return fd >= 0 ? fd : -errno;
}
