// SPDX-License-Identifier: Apache-2.0
/*
 * What the service manager is told: datagrams on a connected socket. The environment is the
 * starter's, not hostile; still nothing of it is trusted to fit. A manager that does not read loses
 * messages, it never holds us up.
 *
 * Main thread.
 */
#include "vmm/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "vmm/cleanup.h"

int notify_open(struct notify *notify, struct error *e)
{
	const char *name = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t len = name != NULL ? strlen(name) : 0;
	auto_close int fd = -1;

	notify->fd = -1;
	if (len == 0) {
		return 0;
	}
	if ((name[0] != '/' && name[0] != '@') || len < 2 || len >= sizeof(address.sun_path)) {
		(void)error_set(e, ERROR_CONFIG, EINVAL, "NOTIFY_SOCKET: '%.120s' is no address",
				name);
		return error_hint(e, "an absolute path or '@' and a name, at most %zu bytes",
				  sizeof(address.sun_path) - 1);
	}
	memcpy(address.sun_path, name, len);
	if (name[0] == '@') {
		address.sun_path[0] = '\0';
	}
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* The length counts: an abstract name has no NUL at its end. */
	if (fd < 0 || connect(fd, (const struct sockaddr *)&address,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0) {
		(void)error_set_sys(e, ERROR_CONFIG, errno, "NOTIFY_SOCKET: connect to '%s'", name);
		return error_hint(e, "unset NOTIFY_SOCKET if no service manager waits");
	}
	notify->fd = take_fd(&fd);
	return 0;
}

void notify_send(const struct notify *notify, const char *text)
{
	if (notify->fd >= 0) {
		(void)send(notify->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
	}
}

void notify_close(struct notify *notify)
{
	close_fd(&notify->fd);
}
