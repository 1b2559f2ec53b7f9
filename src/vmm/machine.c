// SPDX-License-Identifier: Apache-2.0
/*
 * Puts the machine together. Virtio devices sit at PLATFORM_VIRTIO_MMIO in the order disks, network
 * cards, console, entropy, so that vda is the first --disk whatever else there is; each has a
 * register page and one ioeventfd per queue, and an interrupt line of its own as long as there are
 * enough of them (vmm/platform.h).
 *
 * Main thread. What the guest controls goes through the devices; nothing is decided here after
 * start.
 */
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/block.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/netdev.h"
#include "vmm/virtio_blk.h"
#include "vmm/virtio_console.h"
#include "vmm/virtio_entropy.h"
#include "vmm/virtio_net.h"

LOG_DOMAIN("vm");

_Static_assert(ARRAY_SIZE(((const uint8_t[])PLATFORM_VIRTIO_GSIS)) == PLATFORM_VIRTIO_GSI_COUNT,
	       "interrupt lines of virtio devices");
_Static_assert(VM_DISKS_MAX <= 'z' - 'a' + 1, "names of disks have one letter");

static int add_ports(struct machine *machine, const struct vm_config *config, struct error *e)
{
	struct bus *ports = &machine->ports;
	const struct {
		bool wanted;
		uint16_t base, len;
		const struct bus_ops *ops;
		void *device;
		const char *name;
	} windows[] = {
		{ true, PLATFORM_PORT_SERIAL, SERIAL_PORTS, &serial_bus_ops, &machine->serial,
		  "serial" },
		{ true, PLATFORM_PORT_RTC, RTC_PORTS, &rtc_bus_ops, &machine->rtc, "rtc" },
		{ true, PLATFORM_PORT_I8042_DATA, 1, &i8042_data_bus_ops, &machine->kbc,
		  "i8042 data" },
		{ true, PLATFORM_PORT_I8042_COMMAND, 1, &i8042_command_bus_ops, &machine->kbc,
		  "i8042 command" },
		{ true, PLATFORM_PORT_ACPI, ACPI_POWER_PORTS, &acpi_power_bus_ops,
		  &machine->acpi_power, "acpi power" },
		{ true, PLATFORM_PORT_PM_TIMER, PM_TIMER_PORTS, &pm_timer_bus_ops,
		  &machine->pm_timer, "pm timer" },
		{ true, PLATFORM_PORT_PVPANIC, 1, &pvpanic_bus_ops, &machine->pvpanic, "pvpanic" },
		{ config->debug_exit, PLATFORM_PORT_DEBUG_EXIT, 1, &debug_exit_bus_ops,
		  &machine->debug_exit, "debug exit" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(windows); i++) {
		int r;

		if (!windows[i].wanted) {
			continue;
		}
		r = bus_add(ports, windows[i].base, windows[i].len, windows[i].ops,
			    windows[i].device, windows[i].name, e);
		if (r < 0) {
			return r;
		}
	}
	return 0;
}

static int init_platform(struct machine *machine, const struct vm_config *config,
			 struct vm_host *host, struct power_sink *power, struct error *e)
{
	struct irqchip *chip = machine->irqchip;
	struct irq_line *ged = NULL;
	int r = irqchip_open_edge_line(chip, PLATFORM_GSI_ACPI, &ged, e);

	if (r < 0) {
		return r;
	}
	serial_init(&machine->serial, irqchip_level_line(chip, PLATFORM_GSI_SERIAL), host->serial);
	rtc_init(&machine->rtc);
	i8042_init(&machine->kbc, irqchip_level_line(chip, PLATFORM_GSI_I8042_KEYBOARD), power);
	acpi_power_init(&machine->acpi_power, ged, power);
	pm_timer_init(&machine->pm_timer);
	machine->pvpanic.power = power;
	machine->debug_exit.power = power;
	machine->platform_ready = true;
	return add_ports(machine, config, e);
}

/* Names the next device and makes its workers. `queue_names` become thread names. */
static int begin_device(struct machine *machine, const struct virtio_ops *ops,
			enum sandbox_role role, enum sandbox_mode sandbox, const char *name,
			struct machine_device **ret, struct error *e)
{
	struct machine_device *slot;

	if (machine->device_count == ARRAY_SIZE(machine->devices)) {
		return error_set(e, ERROR_CONFIG, ENOSPC,
				 "%s: the machine has room for %zu virtio devices (disks, network "
				 "cards, console, entropy)",
				 name, ARRAY_SIZE(machine->devices));
	}
	slot = calloc(1, sizeof(*slot));
	if (slot == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "%s", name);
	}
	machine->devices[machine->device_count] = slot;
	slot->base = platform_virtio_address(machine->device_count);
	slot->gsi = platform_virtio_gsi(machine->device_count);
	slot->sandbox = sandbox;
	slot->role = role;
	(void)snprintf(slot->name, sizeof(slot->name), "%s", name);
	machine->device_count++;
	for (uint32_t i = 0; i < ops->queue_count; i++) {
		char worker_name[WORKER_NAME_SIZE];
		int r;

		(void)snprintf(worker_name, sizeof(worker_name), "%s-%s", name,
			       ops->queue_names[i]);
		r = worker_init(&slot->workers[i], worker_name, e);
		if (r < 0) {
			return r;
		}
		slot->worker_count = i + 1;
	}
	*ret = slot;
	return 0;
}

/* Puts a device that exists on the bus. */
static int wire_device(struct machine *machine, struct machine_device *slot, struct error *e)
{
	struct virtio_device *virtio = slot->virtio;
	struct irq_line *line = NULL;
	int r = irqchip_open_edge_line(machine->irqchip, slot->gsi, &line, e);

	if (r < 0) {
		return r;
	}
	virtio_mmio_init(&slot->mmio, virtio, line);
	r = bus_add(&machine->mmio, slot->base, PLATFORM_VIRTIO_MMIO_SIZE, &virtio_mmio_bus_ops,
		    &slot->mmio, slot->name, e);
	for (uint32_t i = 0; r == 0 && i < virtio->ops->queue_count; i++) {
		r = ioeventfd_add(machine->kvm, slot->base + VIRTIO_MMIO_NOTIFY_OFFSET, 4, i,
				  virtio->queues[i].kick_fd, e);
	}
	return r;
}

static void prepare_disk(struct machine_device *slot, const struct block_config *config)
{
	slot->disk = *config;
	slot->disk.id = slot->disk.path = slot->disk.partuuid = NULL;
	slot->disk.serial = slot->disk.socket = NULL;
	if (config->cache == BLOCK_CACHE_UNSAFE) {
		virtio_blk_make_unsafe(slot->virtio);
	}
	if (config->has_limiter) {
		virtio_blk_init_limit(slot->virtio, &config->limiter);
	}
}

void machine_warn_of_disk(const char *name, const char *path, const struct block *block)
{
	if (block->capacity == 0 && !block->is_null) {
		log_warn("disk %s: '%s' is too small for a disk: the guest sees one of 0 bytes "
			 "('truncate -s 4G' gives a file a size)",
			 name, path);
	} else if (block->tail != 0) {
		log_warn(
			"disk %s: the guest does not see the last %u bytes of '%s', which are less "
			"than a block of %u",
			name, block->tail, path, block->logical_block);
	}
	if (block->table_block != 0) {
		log_warn("disk %s: '%s' has a partition table for sectors of %u bytes, and the "
			 "guest "
			 "sees sectors of %u: it finds no partitions (',sector=%u' mends it)",
			 name, path, block->table_block, block->logical_block, block->table_block);
	}
}

static int add_disk(struct machine *machine, const struct vm_config *config, uint32_t index,
		    struct error *e)
{
	struct machine_device *slot = NULL;
	struct block *block = NULL;
	char name[MACHINE_DEVICE_NAME_SIZE];
	int r;

	(void)snprintf(name, sizeof(name), "vd%c", (char)('a' + index));
	r = begin_device(machine, &virtio_blk_ops, SANDBOX_ROLE_BLOCK, config->sandbox, name, &slot,
			 e);
	if (r == 0) {
		r = block_open(&block, &config->disks[index], e);
	}
	if (r == 0) {
		r = virtio_blk_create(&slot->virtio, slot->name, block, machine->mem, slot->workers,
				      e);
		if (r < 0) {
			block_close(block);
		}
	}
	if (r == 0) {
		prepare_disk(slot, &config->disks[index]);
		machine_warn_of_disk(name, config->disks[index].path, block);
		machine->disk_count++;
	}
	return r == 0 ? wire_device(machine, slot, e) : error_prefix(e, "disk %s", name);
}

static int open_net(const struct vm_net_config *config, struct netdev **ret, struct error *e)
{
	if (config->kind == VM_NET_FD || (config->kind == VM_NET_NONE && config->tap == NULL)) {
		return netdev_open_fd(ret, config->fd, e);
	}
	if (config->fd > STDERR_FILENO) {
		auto_close int fd = fcntl(config->fd, F_DUPFD_CLOEXEC, 0);
		int r = fd < 0 ? error_set_sys(e, ERROR_NET, errno, "tap '%s'", config->tap)
			       : netdev_open_fd(ret, fd, e);

		if (r == 0) {
			(void)take_fd(&fd);
		}
		return r;
	}
	return netdev_open_tap(ret, config->tap, e);
}

static void tell_of_net(const char *name, const struct netdev *netdev)
{
	if (netdev->made) {
		log_info("network card %s: made tap '%s', which was not there and goes when the VM "
			 "ends; 'ip link set %s up' connects it",
			 name, netdev->name, netdev->name);
	}
	if (netdev->mtu_max != 0 && netdev->mtu > netdev->mtu_max) {
		log_warn(
			"network card %s: mtu %u is more than that of '%s', %u: longer packets are "
			"lost ('ip link set %s mtu %u' mends it)",
			name, netdev->mtu, netdev->name, netdev->mtu_max, netdev->name,
			netdev->mtu);
	}
}

static int add_net(struct machine *machine, const struct vm_config *config, uint32_t index,
		   struct error *e)
{
	static const struct rate_limit_config none;
	const struct vm_net_config *net = &config->nets[index];
	struct machine_device *slot = NULL;
	struct netdev *netdev = NULL;
	uint8_t mac[NETDEV_MAC_SIZE];
	char name[MACHINE_DEVICE_NAME_SIZE];
	int r;

	(void)snprintf(name, sizeof(name), "net%u", index);
	if (net->has_mac) {
		memcpy(mac, net->mac, sizeof(mac));
	} else {
		netdev_make_mac(mac, config->name, index);
	}
	r = begin_device(machine, &virtio_net_ops, SANDBOX_ROLE_NET, config->sandbox, name, &slot,
			 e);
	if (r == 0) {
		r = open_net(net, &netdev, e);
	}
	if (r == 0) {
		r = netdev_set_mtu(netdev, net->mtu, e);
		if (r < 0) {
			netdev_destroy(netdev);
		}
	}
	if (r == 0) {
		r = virtio_net_create(&slot->virtio, slot->name, netdev, mac, machine->mem,
				      slot->workers, e);
		if (r < 0) {
			netdev_destroy(netdev);
		}
	}
	if (r == 0) {
		tell_of_net(slot->name, netdev);
		virtio_net_init_limits(slot->virtio, net->has_rx ? &net->rx : &none,
				       net->has_tx ? &net->tx : &none);
		machine->net_count++;
	}
	return r == 0 ? wire_device(machine, slot, e) : error_prefix(e, "network card %s", name);
}

static int add_console(struct machine *machine, const struct vm_config *config,
		       struct vm_host *host, struct error *e)
{
	struct machine_device *slot = NULL;
	int r = begin_device(machine, &virtio_console_ops, SANDBOX_ROLE_CONSOLE, config->sandbox,
			     "hvc0", &slot, e);

	if (r == 0) {
		r = virtio_console_create(&slot->virtio, slot->name, host->hvc, machine->mem,
					  slot->workers, e);
	}
	if (r == 0) {
		machine->console = slot;
		r = wire_device(machine, slot, e);
	}
	return r < 0 ? error_prefix(e, "console hvc0") : 0;
}

static int add_entropy(struct machine *machine, const struct vm_config *config, struct error *e)
{
	struct machine_device *slot = NULL;
	int r = begin_device(machine, &virtio_entropy_ops, SANDBOX_ROLE_ENTROPY, config->sandbox,
			     "rng0", &slot, e);

	if (r == 0) {
		r = virtio_entropy_create(&slot->virtio, slot->name, machine->mem, slot->workers,
					  e);
	}
	if (r == 0) {
		machine->entropy = slot;
		virtio_entropy_init_limit(slot->virtio, &config->entropy_limiter);
		r = wire_device(machine, slot, e);
	}
	return r < 0 ? error_prefix(e, "entropy device") : 0;
}

static int add_virtio(struct machine *machine, const struct vm_config *config, struct vm_host *host,
		      struct error *e)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < config->disk_count; i++) {
		r = add_disk(machine, config, i, e);
	}
	for (uint32_t i = 0; r == 0 && i < config->net_count; i++) {
		r = add_net(machine, config, i, e);
	}
	if (r == 0 && config->console) {
		r = add_console(machine, config, host, e);
	}
	if (r == 0 && config->entropy) {
		r = add_entropy(machine, config, e);
	}
	return r;
}

int machine_init(struct machine *machine, const struct vm_config *config, struct kvm *kvm,
		 struct irqchip *irqchip, struct guest_memory *mem, struct vm_host *host,
		 struct power_sink *power, struct error *e)
{
	int r;

	machine->kvm = kvm;
	machine->irqchip = irqchip;
	machine->mem = mem;
	bus_init(&machine->ports, 0x10000);
	bus_init(&machine->mmio, 0);
	r = init_platform(machine, config, host, power, e);
	return r == 0 ? add_virtio(machine, config, host, e) : r;
}

static int enter_worker(void *arg, struct error *e)
{
	const struct machine_device *slot = arg;

	return sandbox_enter_thread(slot->sandbox, slot->role, e);
}

/* Those that were not started never will be: a vCPU may wait for one, and main for that vCPU. */
static void cancel_workers(struct machine *machine)
{
	for (uint32_t i = 0; i < machine->device_count; i++) {
		struct machine_device *slot = machine->devices[i];

		for (uint32_t j = 0; j < slot->worker_count; j++) {
			if (!slot->workers[j].started) {
				worker_cancel(&slot->workers[j]);
			}
		}
	}
}

int machine_start_workers(struct machine *machine, struct error *e)
{
	for (uint32_t i = 0; i < machine->device_count; i++) {
		struct machine_device *slot = machine->devices[i];

		for (uint32_t j = 0; j < slot->worker_count; j++) {
			int r = worker_start(&slot->workers[j], enter_worker, slot, e);

			if (r < 0) {
				cancel_workers(machine);
				return error_prefix(e, "%s", slot->name);
			}
		}
	}
	return 0;
}

void machine_reset(struct machine *machine)
{
	for (uint32_t i = 0; i < machine->device_count; i++) {
		virtio_device_reset(machine->devices[i]->virtio);
		virtio_mmio_reset(&machine->devices[i]->mmio);
	}
	serial_reset(&machine->serial);
	rtc_reset(&machine->rtc);
	i8042_reset(&machine->kbc);
	acpi_power_reset(&machine->acpi_power);
	pm_timer_reset(&machine->pm_timer);
}

void machine_quiesce(struct machine *machine)
{
	for (uint32_t i = 0; i < machine->device_count; i++) {
		virtio_device_quiesce(machine->devices[i]->virtio);
	}
}

void machine_resume(struct machine *machine)
{
	for (uint32_t i = 0; i < machine->device_count; i++) {
		virtio_device_resume(machine->devices[i]->virtio);
	}
}

void machine_finish(struct machine *machine)
{
	for (uint32_t i = 0; i < machine->device_count; i++) {
		struct machine_device *slot = machine->devices[i];

		if (slot->virtio != NULL) {
			virtio_device_reset(slot->virtio);
		}
		for (uint32_t j = 0; j < slot->worker_count; j++) {
			worker_finish(&slot->workers[j]);
		}
		if (slot->virtio != NULL) {
			slot->virtio->ops->destroy(slot->virtio);
		}
		free(slot);
		machine->devices[i] = NULL;
	}
	machine->device_count = 0;
	if (machine->platform_ready) {
		i8042_finish(&machine->kbc);
		rtc_finish(&machine->rtc);
		serial_finish(&machine->serial);
		machine->platform_ready = false;
	}
}
