/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses of migrations: include/vmm/migration_address.h is the contract. No names are looked up: that would be files, sockets and
 * other people's libraries inside a filter. Text is a client's; nothing else here is anybody's.
 */
#include "vmm/migration_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/cleanup.h"
#include "vmm/text.h"
#include "vmm/types.h"

#define CONNECT_MS 10000
/* A migration's connections come at once. */
#define BACKLOG 16
#define UNIX	"unix:"
#define TCP	"tcp:"

struct place {
	union {
		struct sockaddr any;
		struct sockaddr_un un;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	};
	socklen_t len;
	bool here; /* of this host only */
};

static int __cold bad_address(const char *address, struct error *e)
{
	(void)error_set(e, ERROR_CONFIG, EINVAL, "'%.200s' is not the address of a migration",
			address);
	return error_hint(e, "unix:PATH, or tcp:HOST:PORT with the number of a host: "
			     "tcp:192.0.2.7:4444, tcp:[2001:db8::7]:4444");
}

static bool parse_unix(struct place *place, const char *path)
{
	place->un.sun_family = AF_UNIX;
	if (path[0] == '\0' || strlen(path) >= sizeof(place->un.sun_path)) {
		return false;
	}
	memcpy(place->un.sun_path, path, strlen(path) + 1);
	place->len = sizeof(place->un);
	place->here = true;
	return true;
}

static bool parse_tcp(struct place *place, const char *text)
{
	const char *colon = strrchr(text, ':');
	char host[INET6_ADDRSTRLEN + 2];
	uint64_t port = 0;
	size_t len = colon != NULL ? (size_t)(colon - text) : 0;

	if (len == 0 || len >= sizeof(host) ||
	    text_to_number(colon + 1, strlen(colon + 1), 10, &port) != 0 || port > UINT16_MAX) {
		return false;
	}
	memcpy(host, text, len);
	host[len] = '\0';
	if (host[0] == '[' && host[len - 1] == ']') {
		host[len - 1] = '\0';
		place->in6.sin6_family = AF_INET6;
		place->in6.sin6_port = htons((uint16_t)port);
		place->len = sizeof(place->in6);
		if (inet_pton(AF_INET6, host + 1, &place->in6.sin6_addr) != 1) {
			return false;
		}
		place->here = IN6_IS_ADDR_LOOPBACK(&place->in6.sin6_addr);
		return true;
	}
	place->in.sin_family = AF_INET;
	place->in.sin_port = htons((uint16_t)port);
	place->len = sizeof(place->in);
	if (inet_pton(AF_INET, host, &place->in.sin_addr) != 1) {
		return false;
	}
	place->here = ntohl(place->in.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	return true;
}

static int parse(struct place *place, const char *address, bool insecure, struct error *e)
{
	bool good = false;

	*place = (struct place){ .len = 0 };
	if (strncmp(address, UNIX, strlen(UNIX)) == 0) {
		good = parse_unix(place, address + strlen(UNIX));
	} else if (strncmp(address, TCP, strlen(TCP)) == 0) {
		good = parse_tcp(place, address + strlen(TCP));
	}
	if (!good) {
		return bad_address(address, e);
	}
	if (!place->here && !insecure) {
		(void)error_set(e, ERROR_CONFIG, EPERM,
				"'%.200s': whoever is between could read the VM's memory and "
				"change it",
				address);
		return error_hint(e, "use a socket of this host and a tunnel (ssh -L), or say that "
				     "the network is trusted: --insecure");
	}
	return 0;
}

int migration_address_check(const char *address, bool insecure, struct error *e)
{
	struct place place;

	return parse(&place, address, insecure, e);
}

static int make_socket(const struct place *place, struct error *e)
{
	const int one = 1;
	int fd = socket(place->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0) {
		return error_set_sys(e, ERROR_MIGRATION, errno, "migration: socket");
	}
	/* Messages of a few bytes are waited for in the pause. */
	if (place->any.sa_family != AF_UNIX) {
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	}
	return fd;
}

static int finish_connecting(int fd)
{
	struct pollfd poller = { .fd = fd, .events = POLLOUT };
	int sys = 0, n;
	socklen_t len = sizeof(sys);

	do {
		n = poll(&poller, 1, CONNECT_MS);
	} while (n < 0 && errno == EINTR);
	if (n == 0) {
		return ETIMEDOUT;
	}
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &sys, &len) < 0 ? errno : sys;
}

int migration_address_connect(const char *address, bool insecure, struct error *e)
{
	auto_close int fd = -1;
	struct place place;
	int sys = 0;
	int r = parse(&place, address, insecure, e);

	if (r < 0) {
		return r;
	}
	fd = make_socket(&place, e);
	if (fd < 0) {
		return fd;
	}
	if (connect(fd, &place.any, place.len) < 0) {
		sys = errno == EINPROGRESS ? finish_connecting(fd) : errno;
	}
	if (sys != 0) {
		(void)error_set_sys(e, ERROR_MIGRATION, sys, "connect to '%.200s'", address);
		return error_hint(e, "does 'vmm receive %.100s' wait there?", address);
	}
	return take_fd(&fd);
}

/* Of one whose vmm was killed. */
static void remove_left_socket(const struct place *place)
{
	struct stat st;
	auto_close int fd = -1;

	if (place->any.sa_family != AF_UNIX || lstat(place->un.sun_path, &st) != 0 ||
	    !S_ISSOCK(st.st_mode)) {
		return;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, &place->any, place->len) < 0 && errno == ECONNREFUSED) {
		(void)unlink(place->un.sun_path);
	}
}

int migration_address_listen(const char *address, bool insecure, struct error *e)
{
	const int one = 1;
	auto_close int fd = -1;
	struct place place;
	int r = parse(&place, address, insecure, e);

	if (r < 0) {
		return r;
	}
	fd = make_socket(&place, e);
	if (fd < 0) {
		return fd;
	}
	remove_left_socket(&place);
	if (place.any.sa_family != AF_UNIX) {
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	}
	if (bind(fd, &place.any, place.len) < 0 || listen(fd, BACKLOG) < 0) {
		(void)error_set_sys(e, ERROR_MIGRATION, errno, "listen at '%.200s'", address);
		return error_hint(e, "is another vmm receive there? 'ss -lxt' shows who listens");
	}
	return take_fd(&fd);
}
