/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all network back ends share: names, addresses, passed descriptors. Main thread, but for
 * netdev_set_offloads() and netdev_attach_queue(). Names and descriptors come from the user; nothing here sees a frame.
 * Nothing is saved.
 */
#include "vmm/netdev.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "netdev_internal.h"
#include "vmm/bytes.h"
#include "vmm/cleanup.h"

#define ETHERNET_MTU 1500

struct netdev *netdev_new(const struct netdev_ops *ops, struct error *e, const char *name, ...)
{
	struct netdev *netdev = calloc(1, sizeof(*netdev));
	va_list args;

	if (netdev == NULL) {
		(void)error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "network back end");
		return NULL;
	}
	netdev->ops = ops;
	netdev->fd = -1;
	va_start(args, name);
	(void)vsnprintf(netdev->name, sizeof(netdev->name), name, args);
	va_end(args);
	return netdev;
}

void netdev_destroy(struct netdev *netdev)
{
	while (netdev != NULL) {
		struct netdev *more = netdev->more;

		close_fd(&netdev->fd);
		free(netdev);
		netdev = more;
	}
}

uint32_t netdev_count(const struct netdev *netdev)
{
	uint32_t count = 0;

	for (; netdev != NULL; netdev = netdev->more) {
		count++;
	}
	return count;
}

int netdev_attach_queue(struct netdev *netdev, bool attach)
{
	int r;

	if (attach == !netdev->detached) {
		return 0;
	}
	r = netdev->ops->attach_queue(netdev, attach);
	if (r == 0) {
		netdev->detached = !attach;
	}
	return r;
}

int netdev_set_mtu(struct netdev *netdev, uint32_t mtu, struct error *e)
{
	if (mtu == 0) {
		/* A guest that is told of a size can use no other, so it is told only what it would
		 * not know. */
		mtu = netdev->mtu_max;
		if (mtu == ETHERNET_MTU || mtu < NETDEV_MTU_MIN || mtu > NETDEV_MTU_MAX) {
			return 0;
		}
	}
	if (mtu < NETDEV_MTU_MIN || mtu > NETDEV_MTU_MAX) {
		return error_set(e, ERROR_NET, EINVAL, "'%s': MTU %u is not between %d and %d",
				 netdev->name, mtu, NETDEV_MTU_MIN, NETDEV_MTU_MAX);
	}
	netdev->mtu = (uint16_t)mtu;
	return 0;
}

int netdev_open_fd(struct netdev **ret, int fd, struct error *e)
{
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0) {
		return error_set(e, ERROR_NET, EBADF, "network fd %d: not an open descriptor", fd);
	}
	if (fd <= STDERR_FILENO) {
		return error_set(
			e, ERROR_NET, EINVAL,
			"network fd %d: descriptors 0 to 2 are standard input, output and error",
			fd);
	}
	if (S_ISSOCK(st.st_mode)) {
		return netdev_adopt_socket(ret, fd, e);
	}
	return netdev_adopt_tap(ret, fd, e);
}

uint32_t netdev_usable_offloads(uint32_t offloads)
{
	offloads &= NETDEV_OFFLOAD_ALL;
	if ((offloads & NETDEV_OFFLOAD_CSUM) == 0) {
		return 0;
	}
	if ((offloads & (NETDEV_OFFLOAD_TSO4 | NETDEV_OFFLOAD_TSO6)) == 0) {
		offloads &= ~NETDEV_OFFLOAD_ECN;
	}
	return offloads;
}

int netdev_set_offloads(struct netdev *netdev, uint32_t offloads)
{
	int r;

	offloads = netdev_usable_offloads(offloads & netdev->offloads);
	r = netdev->ops->set_offloads(netdev, offloads);
	if (r == 0) {
		netdev->offloads_set = offloads;
	}
	return r;
}

static bool name_char_allowed(char c)
{
	/* The kernel's dev_valid_name(), and '%' which it would take as a pattern. */
	return c > ' ' && c < 0x7f && c != '/' && c != ':' && c != '%';
}

int netdev_check_name(const char *name, struct error *e)
{
	size_t len = strlen(name);

	if (len == 0) {
		return error_set(e, ERROR_NET, EINVAL, "tap name is empty");
	}
	if (len >= NETDEV_NAME_SIZE) {
		return error_set(e, ERROR_NET, EINVAL,
				 "tap name '%.40s' has %zu characters, at most %d are possible",
				 name, len, NETDEV_NAME_SIZE - 1);
	}
	for (size_t i = 0; i < len; i++) {
		if (!name_char_allowed(name[i])) {
			return error_set(e, ERROR_NET, EINVAL,
					 "tap name '%s': byte 0x%02x at position %zu cannot be in "
					 "the name of an interface",
					 name, (unsigned char)name[i], i + 1);
		}
	}
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		return error_set(e, ERROR_NET, EINVAL, "tap name '%s' is not possible", name);
	}
	return 0;
}

/* FNV-1a, then splitmix64's finaliser: neighbouring names and numbers give unrelated addresses. */
static uint64_t hash_seed(const char *seed, uint32_t index)
{
	uint64_t h = 0xcbf29ce484222325ULL;

	for (const char *p = seed; *p != '\0'; p++) {
		h = (h ^ (unsigned char)*p) * 0x100000001b3ULL;
	}
	h += (uint64_t)index * 0x9e3779b97f4a7c15ULL;
	h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9ULL;
	h = (h ^ h >> 27) * 0x94d049bb133111ebULL;
	return h ^ h >> 31;
}

void netdev_make_mac(uint8_t mac[NETDEV_MAC_SIZE], const char *seed, uint32_t index)
{
	uint8_t bytes[8];
	uint64_t h;

	if (seed != NULL) {
		h = hash_seed(seed, index);
	} else if (getrandom(&h, sizeof(h), GRND_NONBLOCK) != (ssize_t)sizeof(h)) {
		struct timespec now;

		(void)clock_gettime(CLOCK_REALTIME, &now);
		h = hash_seed("", (uint32_t)now.tv_nsec ^ (uint32_t)getpid() << 16);
	}
	store_le64(bytes, h);
	memcpy(mac, bytes, NETDEV_MAC_SIZE);
	mac[0] = (uint8_t)((mac[0] & 0xfc) | 0x02); /* unicast, locally administered */
}
