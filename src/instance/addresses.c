/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MAC addresses of network cards that were not given one: locally administered, unicast, the same at
 * every start of the same VM, so that guests keep their interfaces' names and DHCP leases, and others
 * for other VMs and on other hosts, which may share a network. Nothing is stored: an address is a hash
 * of what says which VM it is (see instance_settings.identity), of the host, and of the card: its
 * number, and its tap, for two VMs that nobody tells apart cannot have the same one.
 *
 * The host is its machine-id (machine-id(5)), or its name where there is none, as in a jail's root. A
 * host without either, or a VM without an identity, gets random addresses, for the life of the
 * process.
 *
 * Main thread, before it enters its sandbox. Nothing of the guest's comes here.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/cleanup.h"

#define MACHINE_ID_LEN 32
#define HOST_MAX       80
#define SEED_MAX       KIB(8) /* a path, a name, an interface: what is longer is cut */

static bool read_machine_id(char host[HOST_MAX])
{
	auto_close int fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, host, MACHINE_ID_LEN) : -1;

	host[n > 0 ? n : 0] = '\0';
	/* "uninitialized" in images that have not booted yet. */
	return n == MACHINE_ID_LEN && strspn(host, "0123456789abcdef") == MACHINE_ID_LEN;
}

static bool find_host(char host[HOST_MAX])
{
	struct utsname names;

	if (read_machine_id(host)) {
		return true;
	}
	if (uname(&names) < 0 || names.nodename[0] == '\0' ||
	    strcmp(names.nodename, "(none)") == 0 ||
	    strncmp(names.nodename, "localhost", strlen("localhost")) == 0) {
		return false;
	}
	(void)snprintf(host, HOST_MAX, "%s", names.nodename);
	return true;
}

static bool has_address(const struct vm_net_config *net)
{
	static const uint8_t none[NETDEV_MAC_SIZE];

	return net->has_mac || memcmp(net->mac, none, sizeof(none)) != 0;
}

void addresses_make(struct vm_config *config, const char *identity, const char *host)
{
	char seed[SEED_MAX];

	for (uint32_t i = 0; i < config->net_count; i++) {
		struct vm_net_config *net = &config->nets[i];

		if (has_address(net)) {
			continue;
		}
		(void)snprintf(seed, sizeof(seed), "%s\n%s\n%s", host,
			       net->tap != NULL ? net->tap : "", identity);
		netdev_make_mac(net->mac, seed, i);
	}
}

void addresses_complete(struct vm_config *config, const char *identity, uint64_t *random)
{
	char host[HOST_MAX];
	bool complete = true;

	for (uint32_t i = 0; i < config->net_count; i++) {
		complete = complete && has_address(&config->nets[i]);
	}
	if (complete) {
		return;
	}
	if (identity == NULL || !find_host(host)) {
		if (*random == 0 && getrandom(random, sizeof(*random), GRND_NONBLOCK) < 0) {
			*random = loop_now_ns() << 16 ^ (uint64_t)getpid();
		}
		(void)snprintf(host, sizeof(host), "%llx", (unsigned long long)*random);
	}
	addresses_make(config, identity != NULL ? identity : "", host);
}
