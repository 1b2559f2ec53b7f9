/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks and cards that come and go after the start. To come is a change as any other (changes.c): the
 * configuration with the device is a draft, judged as a whole, the machine makes the device, and the
 * draft is the configuration. To go takes the guest: the change is to ask it, and who waits for that
 * is kept here until the device has gone, the time for it is over, or the VM. A time that is over
 * ends the waiting, not the request: the guest may still follow it, and a reset of the machine does.
 *
 * A device can go at any moment, asked for by a change that is long over. It then leaves the
 * configuration at once, and the draft of a change that is under way, which the machine has not
 * begun yet: it tells of what has gone between operations only.
 *
 * Main thread. All values are a client's; the guest controls whether and when something goes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

#define NS_PER_S 1000000000ULL

/* Who waits for a device to go. */
struct removal {
	struct removal *next;
	struct instance *instance;
	enum vm_device device;
	char *id;
	struct instance_call *call; /* NULL: not any more */
	uint64_t limit_ns;
	struct loop_timer timer;
};

static const struct {
	const char *what, *key, *added, *removed;
} kinds[VM_DEVICES] = {
	[VM_DISK] = { "drive", "drive_id", "drive-added", "drive-removed" },
	[VM_NET] = { "network card", "iface_id", "net-added", "net-removed" },
};

static bool is_configured(struct vm_config *vm, enum vm_device device, const char *id)
{
	return device == VM_DISK ? vm_config_find_disk(vm, id) != NULL
				 : vm_config_find_net(vm, id) != NULL;
}

static void tell(struct instance *instance, const char *event, enum vm_device device,
		 const char *id)
{
	event_log_add(&instance->events, event, json_pack("{s:s}", kinds[device].key, id));
}

static enum vm_device device_of(const struct change *change)
{
	return change->type == REQUEST_PUT_DISK || change->type == REQUEST_DELETE_DISK ? VM_DISK
										       : VM_NET;
}

/* In Firecracker's words where it has some. */
static int check_possible(struct instance *instance, struct error *e)
{
	int r = instance_check_alive(instance, e);

	if (r == 0 && !vm_config_has_pci(&instance->config->vm)) {
		(void)error_set(e, ERROR_NOT_SUPPORTED, ENOTSUP, "PCI is not enabled");
		r = error_hint(e,
			       "devices on virtio-mmio neither come nor go while the VM runs: "
			       "start it with --transport pci, which is the default (firecracker "
			       "--enable-pci)");
	}
	return r;
}

/* --- they come --------------------------------------------------------------------------------- */

/* What can be said at the start only. */
static int check_arrival(struct change *change, struct error *e)
{
	const struct block_config *disk = change->object;
	const struct vm_net_config *net = change->object;

	if (device_of(change) == VM_DISK) {
		return disk->root ? error_set(e, ERROR_CONFIG, EINVAL,
					      "A root block device already exists!")
				  : 0;
	}
	if (net->kind == VM_NET_FD || (net->tap == NULL && net->fd >= 0)) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"a network card that comes after the start has no descriptor (fd)");
		return error_hint(e, "name a tap that is there (host_dev_name)");
	}
	return 0;
}

/* The host is not asked who it is any more: an address for this life of the VM. */
static void make_address(const struct instance *instance, struct vm_net_config *net)
{
	static const uint8_t none[NETDEV_MAC_SIZE];
	char seed[128];

	if (!net->has_mac && memcmp(net->mac, none, sizeof(none)) == 0) {
		(void)snprintf(seed, sizeof(seed), "%llx\n%d\n%s\n%.64s",
			       (unsigned long long)instance->started_ns, (int)getpid(), net->tap,
			       net->id);
		netdev_make_mac(net->mac, seed, 0);
	}
}

static int prepare_arrival(struct instance *instance, struct change *change, struct error *e)
{
	const enum vm_device device = device_of(change);
	const struct request request = {
		.type = change->type, .id = change->id, .object = change->object, .add = true
	};
	struct vm_operation *operation = &change->operation;
	const char *id = NULL;
	int r = check_possible(instance, e);

	if (r == 0 && change->id != NULL &&
	    is_configured(&instance->config->vm, device, change->id)) {
		(void)error_set(e, ERROR_EXISTS, EEXIST, "Device ID in use");
		r = error_hint(e, "the VM has a %s '%.64s': remove it first, or PATCH it",
			       kinds[device].what, change->id);
	}
	if (r == 0) {
		r = check_arrival(change, e);
	}
	if (r == 0) {
		change->draft = config_draft(instance->config, e);
		r = change->draft != NULL
			    ? config_plug(change->draft, &instance->settings, &request, &id, e)
			    : -ENOMEM;
	}
	if (r < 0) {
		return r;
	}
	if (device == VM_NET) {
		make_address(instance, vm_config_find_net(&change->draft->vm, id));
	}
	operation->type = VM_ADD_DEVICE;
	operation->add.device = device;
	operation->add.config = &change->draft->vm;
	operation->add.id = id;
	return CHANGE_PENDING;
}

static void arrived(struct instance *instance, struct change *change)
{
	tell(instance, kinds[device_of(change)].added, device_of(change), change->operation.add.id);
}

static void explain_arrival(const struct change *change, struct error *e)
{
	(void)error_prefix(e, "%s '%.64s'", kinds[device_of(change)].what,
			   change->operation.add.id);
}

static const struct change_kind arrival_kind = { .during = INSTANCE_STATES,
						 .prepare = prepare_arrival,
						 .done = arrived,
						 .explain = explain_arrival };

int plug_add(struct instance *instance, const struct asked *asked, struct error *e)
{
	return control_change(instance, &arrival_kind, asked, e);
}

/* --- they go ----------------------------------------------------------------------------------- */

static int prepare_removal(struct instance *instance, struct change *change, struct error *e)
{
	const struct device_removal *options = change->object;
	const enum vm_device device = device_of(change);
	struct vm_operation *operation = &change->operation;
	struct vm_config *vm = &instance->config->vm;
	const char *id = change->id != NULL ? change->id : "";
	int r = check_possible(instance, e);

	if (r < 0) {
		return r;
	}
	if (!is_configured(vm, device, id)) {
		(void)error_set(e, ERROR_NOT_FOUND, ENODEV, "Device not found");
		return error_hint(e, "there is no %s '%.64s'; GET /vm/config shows what there is",
				  kinds[device].what, id);
	}
	if (device == VM_DISK && vm_config_find_disk(vm, id)->root) {
		return error_set(e, ERROR_CONFIG, EBUSY, "Cannot unplug root device");
	}
	operation->type = VM_REMOVE_DEVICE;
	operation->remove.device = device;
	operation->remove.id = id;
	/* Firecracker's clients have told the guest themselves. */
	operation->remove.force = options->force || instance->settings.firecracker;
	return CHANGE_PENDING;
}

static void end_removal(struct instance *instance, struct removal **link,
			const struct error *failure)
{
	struct removal *removal = *link;

	*link = removal->next;
	loop_timer_cancel(&removal->timer);
	if (removal->call != NULL) {
		if (failure != NULL) {
			instance->counts[removal->device == VM_DISK ? REQUEST_DELETE_DISK
								    : REQUEST_DELETE_NET]
				.failed++;
		}
		removal->call->done(removal->call, NULL, failure);
	}
	free(removal->id);
	free(removal);
}

static void say_why(struct removal *removal, struct error *e)
{
	const char *what = kinds[removal->device].what;
	const double seconds = (double)removal->limit_ns / NS_PER_S;
	const bool heard = vm_removal_heard(removal->instance->vm, removal->device, removal->id);

	if (heard) {
		(void)error_set(e, ERROR_BUSY, ETIMEDOUT,
				"%s '%.64s': the guest has not given it back in %g s", what,
				removal->id, seconds);
		(void)error_hint(e,
				 "something in the guest uses it, perhaps; it goes when the guest "
				 "lets go of it, or at the next reset, and at once with force");
	} else {
		(void)error_set(e, ERROR_BUSY, ETIMEDOUT,
				"%s '%.64s': the guest has not looked at the request in %g s", what,
				removal->id, seconds);
		(void)error_hint(e,
				 "its kernel is not up yet, or has no PCI hot-plug by ACPI "
				 "(CONFIG_HOTPLUG_PCI_ACPI); the device goes when the guest gives "
				 "it back, or at the next reset, and at once with force");
	}
}

static void time_is_over(struct loop_timer *timer)
{
	struct removal *removal = container_of(timer, struct removal, timer);
	struct instance *instance = removal->instance;
	struct removal **link = &instance->removals;
	struct error e = { 0 };

	while (*link != removal) {
		link = &(*link)->next;
	}
	say_why(removal, &e);
	end_removal(instance, link, &e);
}

/* The guest was asked. Who asked for that is answered later, unless it has gone meanwhile. */
static void asked(struct instance *instance, struct change *change)
{
	const struct device_removal *options = change->object;
	const struct vm_operation *operation = &change->operation;
	const enum vm_device device = device_of(change);
	struct removal *removal;

	if (change->call == NULL ||
	    !is_configured(&instance->config->vm, device, operation->remove.id)) {
		return;
	}
	removal = calloc(1, sizeof(*removal));
	if (removal == NULL) {
		return; /* answered as if it did not want to wait */
	}
	*removal = (struct removal){ .next = instance->removals,
				     .instance = instance,
				     .device = device,
				     .id = change->id,
				     .call = change->call,
				     .limit_ns = options->timeout_ns };
	change->id = NULL;
	change->call = NULL;
	instance->removals = removal;
	loop_timer_set(instance->host->loop, &removal->timer, removal->limit_ns, time_is_over);
}

static void explain_removal(const struct change *change, struct error *e)
{
	(void)error_prefix(e, "%s", kinds[device_of(change)].what);
}

static const struct change_kind removal_kind = { .during = INSTANCE_STATES,
						 .prepare = prepare_removal,
						 .done = asked,
						 .explain = explain_removal };

int plug_remove(struct instance *instance, const struct asked *asked, struct error *e)
{
	return control_change(instance, &removal_kind, asked, e);
}

static void leave_config(struct vm_config *vm, enum vm_device device, const char *id)
{
	(void)(device == VM_DISK ? vm_config_remove_disk(vm, id) : vm_config_remove_net(vm, id));
}

void plug_gone(struct vm_host *host, enum vm_device device, const char *id)
{
	struct instance *instance = container_of(host, struct instance, vm_host);
	const struct change *first = instance->changes;
	struct removal **link = &instance->removals;

	leave_config(&instance->config->vm, device, id);
	if (first != NULL && first->draft != NULL) {
		leave_config(&first->draft->vm, device, id);
	}
	tell(instance, kinds[device].removed, device, id);
	while (*link != NULL) {
		if ((*link)->device == device && strcmp((*link)->id, id) == 0) {
			end_removal(instance, link, NULL);
		} else {
			link = &(*link)->next;
		}
	}
}

void plug_fail(struct instance *instance, const struct error *failure)
{
	while (instance->removals != NULL) {
		end_removal(instance, &instance->removals, failure);
	}
}

void plug_forget(struct instance *instance, const struct instance_call *call)
{
	for (struct removal *removal = instance->removals; removal != NULL;
	     removal = removal->next) {
		if (removal->call == call) {
			removal->call = NULL;
		}
	}
}
