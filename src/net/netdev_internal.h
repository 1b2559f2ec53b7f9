/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the back ends of this folder. */
#ifndef VMM_NETDEV_INTERNAL_H
#define VMM_NETDEV_INTERNAL_H

#include "vmm/netdev.h"

/* A zeroed netdev with fd -1, named by the format. NULL: out of memory, `e` filled. */
struct netdev *netdev_new(const struct netdev_ops *ops, struct error *e, const char *name, ...)
	__printf_like(3, 4);

/* As netdev_open_fd(), for a character device and for a socket. `fd` becomes non-blocking. */
int netdev_adopt_tap(struct netdev **ret, int fd, struct error *e);
int netdev_adopt_socket(struct netdev **ret, int fd, struct error *e);

#endif
