// SPDX-License-Identifier: Apache-2.0
/*
 * Checks a configuration as data, before anything is opened: pure, no system calls. Each message
 * names the place.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/block.h"
#include "vmm/loader.h"
#include "vmm/platform.h"
#include "vmm/virtio_net.h"
#include "vmm/vm_config.h"

#define MEMORY_HINT_MAX GIB(65536ULL)

#define MADE_ID_MAX 24
#define LETTERS	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

static int check_memory(const struct vm_machine_config *machine, struct error *e)
{
	uint64_t size = machine->memory_size;
	uint64_t unit = MIB(1);

	if (machine->huge_pages == VM_HUGE_PAGES_2M ||
	    machine->memory_backing == GUEST_MEMORY_HUGETLB) {
		unit = MIB(2);
	}
	if (size < PLATFORM_MEMORY_MIN) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"--memory (mem_size_mib): %llu bytes is less than %llu MiB",
				(unsigned long long)size, PLATFORM_MEMORY_MIN >> 20);
		/* Elsewhere a plain number is one of MiB. */
		if (size >= PLATFORM_MEMORY_MIN >> 20 && size <= MIB(1)) {
			return error_hint(e, "did you mean %lluM? A plain number is one of bytes",
					  (unsigned long long)size);
		}
		return error_hint(e, "Linux wants 64M or more; 512M is the default");
	}
	if (size % unit != 0) {
		uint64_t next = (size / unit + 1) * (unit >> 20);

		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"--memory (mem_size_mib): %llu bytes is not a whole number of %s",
				(unsigned long long)size,
				unit == MIB(1) ? "MiB" : "huge pages of 2 MiB");
		if (next > MEMORY_HINT_MAX >> 20) {
			return error_hint(e, "no host has that much; 512M is the default");
		}
		return error_hint(e, "try --memory %lluM", (unsigned long long)next);
	}
	return 0;
}

static int check_vcpus(const struct vm_machine_config *machine, struct error *e)
{
	uint32_t vcpus = machine->vcpus;

	if (vcpus < 1 || vcpus > PLATFORM_VCPUS_MAX) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"--cpus (vcpu_count): %u is not between 1 and %d", vcpus,
				PLATFORM_VCPUS_MAX);
		return error_hint(e, "try --cpus %d", vcpus < 1 ? 1 : PLATFORM_VCPUS_MAX);
	}
	if (machine->smt && vcpus > 1 && vcpus % 2 != 0) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"--cpus (vcpu_count): %u threads do not fill cores of two (smt)",
				vcpus);
		return error_hint(e, "make it 1 or an even number, or leave out smt");
	}
	return 0;
}

static int check_huge_pages(const struct vm_machine_config *machine, struct error *e)
{
	if (machine->huge_pages == VM_HUGE_PAGES_2M &&
	    machine->memory_backing != GUEST_MEMORY_AUTO &&
	    machine->memory_backing != GUEST_MEMORY_HUGETLB) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"huge_pages: 2M excludes a --memory-backing (memory_backing) other "
				"than hugetlb");
		return error_hint(e, "leave out one of them");
	}
	return 0;
}

static int check_cpu_template(const struct vm_machine_config *machine, struct error *e)
{
	if (machine->cpu_template == VM_CPU_TEMPLATE_V1N1) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"cpu_template: V1N1 is for ARM, not for x86");
		return error_hint(e, "use C3, T2, T2S, T2CL, T2A or None, or PUT /cpu-config for a "
				     "template of your own");
	}
	return 0;
}

int vm_machine_config_validate(const struct vm_machine_config *machine, struct error *e)
{
	int r = check_memory(machine, e);

	if (r == 0) {
		r = check_vcpus(machine, e);
	}
	if (r == 0) {
		r = check_huge_pages(machine, e);
	}
	return r == 0 ? check_cpu_template(machine, e) : r;
}

int vm_boot_config_validate(const struct vm_boot_config *boot, struct error *e)
{
	int lines =
		(boot->cmdline != NULL) + (boot->boot_args != NULL) + (boot->cmdline_only != NULL);

	if (boot->kernel == NULL || boot->kernel[0] == '\0') {
		(void)error_set(e, ERROR_USAGE, EINVAL, "no kernel given");
		return error_hint(e, "vmm run --kernel FILE, or kernel_image_path in the API");
	}
	if (lines > 1) {
		(void)error_set(e, ERROR_USAGE, EINVAL, "%s exclude each other",
				boot->boot_args != NULL
					? "boot_args, cmdline and cmdline_only"
					: "--cmdline and --cmdline-only (cmdline, cmdline_only)");
		return error_hint(e,
				  "cmdline appends to what vmm makes of the devices, cmdline_only "
				  "replaces it, boot_args replaces all but root=");
	}
	return 0;
}

static int too_many_queues(const char *what, uint32_t queues, uint32_t max, struct error *e)
{
	(void)error_set(e, ERROR_CONFIG, EINVAL, "%s: %u is not between 1 and %u", what, queues,
			max);
	return error_hint(e, "one for each virtual CPU is as many as can be of use");
}

int vm_net_config_validate(const struct vm_net_config *net, struct error *e)
{
	bool tap = net->tap != NULL && net->kind != VM_NET_FD;
	bool fd = net->kind == VM_NET_FD || (net->kind == VM_NET_NONE && net->fd >= 0);

	if (tap == fd) {
		(void)error_set(
			e, ERROR_USAGE, EINVAL,
			"--net (network-interfaces): neither or both of tap= (host_dev_name) "
			"and fd=");
		return error_hint(e,
				  "--net none, --net tap=NAME[,mac=MAC] or --net fd=N[,mac=MAC]");
	}
	if (tap && netdev_check_name(net->tap, e) < 0) {
		return error_prefix(e, "--net tap (host_dev_name)");
	}
	if (net->queues > VIRTIO_NET_PAIRS_MAX) {
		return too_many_queues("--net queues (num_queue_pairs)", net->queues,
				       VIRTIO_NET_PAIRS_MAX, e);
	}
	if (fd && net->queues > 1) {
		(void)error_set(
			e, ERROR_CONFIG, EINVAL,
			"--net queues (num_queue_pairs): a descriptor (fd=) is one queue, not %u",
			net->queues);
		return error_hint(e, "name a tap, which is opened once for each queue");
	}
	if (net->mtu != 0 && (net->mtu < NETDEV_MTU_MIN || net->mtu > NETDEV_MTU_MAX)) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"--net mtu (mtu): %u is not between %d and %d", net->mtu,
				NETDEV_MTU_MIN, NETDEV_MTU_MAX);
		return error_hint(e, "1500 is what Ethernet has; leave it out for the tap's own");
	}
	return 0;
}

static int explain_name(struct error *e)
{
	return error_hint(e,
			  "use 1 to %d letters, digits, '-', '_' and '.', beginning with a "
			  "letter or digit",
			  VM_NAME_MAX);
}

int vm_name_validate(const char *name, struct error *e)
{
	size_t len;

	if (name == NULL) {
		return 0;
	}
	len = strlen(name);
	if (len == 0 || len > VM_NAME_MAX) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"VM name '%.64s' has %zu characters, not 1 to %d", name, len,
				VM_NAME_MAX);
		return explain_name(e);
	}
	if (strspn(name, LETTERS "-_.") != len || name[0] == '.' || name[0] == '-') {
		(void)error_set(e, ERROR_CONFIG, EINVAL, "'%s' is not a name for a VM", name);
		return explain_name(e);
	}
	return 0;
}

int vm_id_validate(const char *id, const char *what, struct error *e)
{
	size_t len = strlen(id);

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)id[i];

		if (c < 0x20 || c == 0x7f) {
			return error_set(e, ERROR_CONFIG, EINVAL,
					 "%s: control character 0x%02x in the id", what, c);
		}
	}
	if (len == 0 || len > VM_ID_MAX) {
		return error_set(e, ERROR_CONFIG, EINVAL, "%s: the id has %zu bytes, not 1 to %d",
				 what, len, VM_ID_MAX);
	}
	return 0;
}

/* What clients call it: the given one, or one made of the place. */
static const char *id_of(const char *id, const char *what, uint32_t index, char buf[MADE_ID_MAX])
{
	if (id == NULL) {
		(void)snprintf(buf, MADE_ID_MAX, "%s%u", what, index);
		return buf;
	}
	return id;
}

static int twice(const char *what, const char *id, struct error *e)
{
	(void)error_set(e, ERROR_CONFIG, EEXIST, "the id '%.64s' (%s) is there twice", id, what);
	return error_hint(e, "give each a name of its own");
}

static int check_disk_alone(const struct block_config *disk, uint32_t index, struct error *e)
{
	int r = disk->id != NULL ? vm_id_validate(disk->id, "--disk id (drive_id)", e) : 0;

	if (r < 0) {
		return r;
	}
	if (disk->socket != NULL) {
		(void)error_set(e, ERROR_NOT_SUPPORTED, EOPNOTSUPP,
				"socket: this version has no vhost-user disks");
		return error_hint(e, "give the image's path as path_on_host");
	}
	if (disk->path == NULL || disk->path[0] == '\0') {
		(void)error_set(e, ERROR_CONFIG, EINVAL, "--disk %u (path_on_host): no path given",
				index + 1);
		return error_hint(e, "--disk PATH[,ro][,serial=S]");
	}
	if (disk->overlay != NULL && disk->read_only) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"--disk %u: an overlay is for what the guest writes, and ro "
				"(is_read_only) lets it write nothing",
				index + 1);
		return error_hint(e,
				  "leave out one of them: under an overlay '%.128s' is only read",
				  disk->path);
	}
	return disk->queues > BLOCK_QUEUES_MAX ? too_many_queues("--disk queues (num_queues)",
								 disk->queues, BLOCK_QUEUES_MAX, e)
					       : 0;
}

static int check_disk(const struct vm_config *config, uint32_t index, struct error *e)
{
	const struct block_config *disk = &config->disks[index], *first = &config->disks[0];
	char own[MADE_ID_MAX];
	char other[MADE_ID_MAX];
	const char *id = id_of(disk->id, "drive", index, own);
	int r = check_disk_alone(disk, index, e);

	if (r < 0) {
		return r;
	}
	for (uint32_t i = 0; i < index; i++) {
		if (strcmp(id, id_of(config->disks[i].id, "drive", i, other)) == 0) {
			return twice("drive_id", id, e);
		}
	}
	if (disk->root && index != 0) {
		(void)error_set(e, ERROR_CONFIG, EEXIST,
				first->root ? "'%.64s' is the root drive already (is_root_device)"
					    : "a root drive (is_root_device) is behind '%.64s'",
				id_of(first->id, "drive", 0, other));
		return error_hint(e, "only one disk, the first one, can have the root file system");
	}
	return 0;
}

static int check_net_pair(const struct vm_net_config *net, const struct vm_net_config *other,
			  const char *other_id, struct error *e)
{
	if (net->has_mac && other->has_mac && memcmp(net->mac, other->mac, sizeof(net->mac)) == 0) {
		(void)error_set(e, ERROR_CONFIG, EEXIST,
				"'%.64s' has the same address (guest_mac) "
				"%02x:%02x:%02x:%02x:%02x:%02x",
				other_id, net->mac[0], net->mac[1], net->mac[2], net->mac[3],
				net->mac[4], net->mac[5]);
		return error_hint(e, "leave it out: each card then gets one of its own");
	}
	if (net->tap != NULL && other->tap != NULL && strcmp(net->tap, other->tap) == 0) {
		(void)error_set(e, ERROR_CONFIG, EEXIST,
				"'%.64s' uses the interface '%s' already (host_dev_name)", other_id,
				net->tap);
		return error_hint(e, "give each card a tap of its own");
	}
	return 0;
}

static int check_net(const struct vm_config *config, uint32_t index, struct error *e)
{
	const struct vm_net_config *net = &config->nets[index];
	char own[MADE_ID_MAX];
	char other[MADE_ID_MAX];
	const char *id = id_of(net->id, "net", index, own);
	int r = net->id != NULL ? vm_id_validate(net->id, "--net id (iface_id)", e) : 0;

	if (r == 0) {
		r = vm_net_config_validate(net, e);
	}
	for (uint32_t i = 0; r == 0 && i < index; i++) {
		const char *other_id = id_of(config->nets[i].id, "net", i, other);

		r = strcmp(id, other_id) == 0 ? twice("iface_id", id, e)
					      : check_net_pair(net, &config->nets[i], other_id, e);
	}
	return r;
}

/* Functions have no interrupt pins: without messages they are of no use. */
static bool no_pci(const char *words)
{
	return words != NULL &&
	       (cmdline_has_word(words, "pci=off") || cmdline_has_word(words, "pci=nomsi"));
}

bool vm_config_has_pci(const struct vm_config *config)
{
	const struct vm_boot_config *boot = &config->boot;

	if (config->machine.transport == VM_TRANSPORT_AUTO) {
		return !no_pci(boot->cmdline) && !no_pci(boot->boot_args) &&
		       !no_pci(boot->cmdline_only);
	}
	return config->machine.transport == VM_TRANSPORT_PCI;
}

static int check_device_count(const struct vm_config *config, struct error *e)
{
	uint64_t count = (uint64_t)config->disk_count + config->net_count + config->console +
			 config->entropy;
	uint32_t places =
		vm_config_has_pci(config) ? PLATFORM_VIRTIO_PCI_MAX : PLATFORM_VIRTIO_MMIO_MAX;

	if (config->disk_count > VM_DISKS_MAX || config->net_count > VM_NETS_MAX ||
	    count > places) {
		(void)error_set(e, ERROR_CONFIG, ENOSPC,
				"%u disks and %u network cards: the machine has room for %d disks, "
				"%d network cards and %u virtio devices (with console and entropy)",
				config->disk_count, config->net_count, VM_DISKS_MAX, VM_NETS_MAX,
				places);
		return error_hint(e, "leave out a disk or a card");
	}
	return 0;
}

int vm_config_validate(const struct vm_config *config, struct error *e)
{
	int r = vm_name_validate(config->name, e);

	if (r == 0 && (!config->unfinished || config->boot.kernel != NULL)) {
		r = vm_boot_config_validate(&config->boot, e);
	}
	if (r == 0) {
		r = vm_machine_config_validate(&config->machine, e);
	}
	if (r == 0) {
		r = check_device_count(config, e);
	}
	for (uint32_t i = 0; r == 0 && i < config->disk_count; i++) {
		r = check_disk(config, i, e);
	}
	for (uint32_t i = 0; r == 0 && i < config->net_count; i++) {
		r = check_net(config, i, e);
	}
	return r;
}

/* Each beyond the first costs a thread, 7 descriptors, 36 KiB and 0.1 ms of the start. */
#define DEFAULT_QUEUES_MAX 4U

uint32_t vm_default_queues(const struct vm_config *config)
{
	return vm_config_has_pci(config) ? MIN(MAX(config->machine.vcpus, 1U), DEFAULT_QUEUES_MAX)
					 : 1;
}
