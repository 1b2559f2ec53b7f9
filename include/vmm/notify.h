/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sd_notify(3)'s protocol without its library: datagrams to the socket that $NOTIFY_SOCKET names (a
 * path, or '@' for an abstract name). notify_open() reads the environment once, before the sandbox;
 * notify_send() works within main's filter. Without the variable both do nothing.
 */
#ifndef VMM_NOTIFY_H
#define VMM_NOTIFY_H

#include "vmm/error.h"
#include "vmm/syscalls.h"

struct notify {
	int fd; /* connected; -1: nobody listens */
};

int notify_open(struct notify *notify, struct error *e);
/* "READY=1", "STATUS=...", "STOPPING=1"; several separated by newlines. Never blocks. */
void notify_send(const struct notify *notify, const char *text);
void notify_close(struct notify *notify);

extern const struct syscall_list notify_syscalls;

#endif
