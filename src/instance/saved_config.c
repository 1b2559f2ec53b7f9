/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a snapshot says of a VM besides its state, and what becomes of that at a restore: the
 * configuration in the form of a config file, complete. What is decided when a VM is built (the transport,
 * queues, addresses of cards) stands in it as it was decided, and what only command lines say ("vmm") as
 * well, because the saved state fits the machine that they made. What belongs to the process around a VM
 * (log, metrics, the file of the serial port) is not in it.
 *
 * Main, or the thread of a start. Of a file whoever wrote it controls all; it is judged as a config file is.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/cleanup.h"
#include "vmm/options_json.h"

#define OURS	   "vmm"
#define CPU_CONFIG "cpu-config"

static void complete(struct vm_config *vm)
{
	vm->machine.transport = vm_config_has_pci(vm) ? VM_TRANSPORT_PCI : VM_TRANSPORT_MMIO;
	for (uint32_t i = 0; i < vm->disk_count; i++) {
		if (vm->disks[i].queues == 0) {
			vm->disks[i].queues = vm_default_queues(vm);
		}
	}
	for (uint32_t i = 0; i < vm->net_count; i++) {
		vm->nets[i].has_mac = true;
	}
	vm->has_logger = vm->has_metrics = vm->has_serial = false;
}

char *saved_config(const struct instance *instance, const struct saved_disks *disks)
{
	struct config *copy = config_draft(instance->config, NULL);
	auto_free char *directory = getcwd(NULL, 0);
	auto_json json_t *json = NULL;
	char *text = NULL;

	if (copy == NULL) {
		return NULL;
	}
	complete(&copy->vm);
	json = config_to_json(&copy->vm, false);
	if (json != NULL && (directory == NULL || config_absolute_paths(json, directory)) &&
	    json_put(json, OURS,
		     json_pack("{s:b, s:b, s:o, s:o}", "console", copy->vm.console, "debug_exit",
			       copy->vm.debug_exit, "disks", saved_disks_to_json(disks), "copies",
			       saved_disks_copies_to_json(disks)))) {
		text = json_dumps(json, JSON_COMPACT);
	}
	config_drop(copy, instance->config);
	return text;
}

char *saved_about(const struct instance *instance)
{
	struct utsname host = { 0 };
	char processor[64];
	auto_json json_t *json = NULL;

	(void)uname(&host);
	kvm_describe_processor(processor, sizeof(processor));
	json = json_pack("{s:s, s:s, s:s, s:i, s:I, s:s}", "name", instance->settings.id,
			 "host_kernel", host.release, "processor", processor, "vcpu_count",
			 (int)vm_vcpu_count(instance->vm), "memory_bytes",
			 (json_int_t)instance->config->vm.machine.memory_size, "kernel_cmdline",
			 vm_cmdline(instance->vm));
	return json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
}

/* --- and back ------------------------------------------------------------------------------------ */

/* The element of a list that has this id; NULL: there is none. */
static json_t *find(const json_t *config, const char *list, const char *key, const char *id)
{
	const json_t *array = json_object_get(config, list);

	for (size_t i = 0; i < json_array_size(array); i++) {
		json_t *element = json_array_get(array, i);
		const char *found = json_string_value(json_object_get(element, key));

		if (found != NULL && strcmp(found, id) == 0) {
			return element;
		}
	}
	return NULL;
}

static int put_text(json_t *object, const char *key, const char *text, struct error *e)
{
	return json_object_set_new(object, key, json_string(text)) == 0
		       ? 0
		       : error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
}

static int unknown(const char *what, const char *id, struct error *e)
{
	(void)error_set(e, ERROR_NOT_FOUND, ENODEV, "the snapshot has no %s '%.64s'", what, id);
	return error_hint(e, "'vmm snapshot inspect' shows what it has");
}

static int override_net(json_t *config, const json_t *json, struct error *e)
{
	struct net_override net;
	json_t *element;
	int r = options_from_json(&net_override_options, &net, json, 0, e);

	if (r < 0) {
		return r;
	}
	element = find(config, "network-interfaces", "iface_id", net.id);
	return element != NULL ? put_text(element, "host_dev_name", net.tap, e)
			       : unknown("network card", net.id, e);
}

/*
 * Which disks have to be as they were, after one has got another file or overlay: what the client names is taken at its word, and an
 * overlay that is there knows its base. A new one shows what its base has: of a disk that had none, this is the disk itself, whose
 * witness stays; of one that had another, it is not what the guest knows.
 */
static int judge_override(json_t *config, const json_t *drive, const struct disk_override *disk,
			  const struct snapshot_load_request *request, struct error *e)
{
	const bool had = json_is_string(json_object_get(drive, "overlay"));
	bool is_new;

	/* Only a directory's disks are compared with what they were. Of a VM that is received nothing may be looked at here, either. */
	if (request->directory == NULL) {
		return 0;
	}
	is_new = disk->path == NULL && access(disk->overlay, F_OK) != 0;
	if (is_new && !had) {
		return 0;
	}
	/* With `disks_to` it may be one that is yet to be copied there. */
	if (is_new && request->disks_to == NULL && request->changed_disks == CHANGED_DISKS_REFUSE) {
		(void)error_set(e, ERROR_DISK, ENOENT,
				"drive '%.64s': its overlay is to be '%.108s', which is not there",
				disk->id, disk->overlay);
		return error_hint(e, "the disk had an overlay, without which the guest would find "
				     "another disk: name a copy of that of that moment");
	}
	(void)json_object_del(json_object_get(json_object_get(config, OURS), "disks"), disk->id);
	return 0;
}

static int override_disk(json_t *config, const json_t *json,
			 const struct snapshot_load_request *request, struct error *e)
{
	struct disk_override disk;
	json_t *element;
	int r = options_from_json(&disk_override_options, &disk, json, 0, e);

	if (r < 0) {
		return r;
	}
	if (disk.path == NULL && disk.overlay == NULL) {
		return error_set(e, ERROR_CONFIG, EINVAL,
				 "drive_overrides: neither path_on_host nor overlay of '%.64s'",
				 disk.id);
	}
	element = find(config, "drives", "drive_id", disk.id);
	if (element == NULL) {
		return unknown("drive", disk.id, e);
	}
	r = judge_override(config, element, &disk, request, e);
	if (r == 0 && disk.path != NULL) {
		r = put_text(element, "path_on_host", disk.path, e);
	}
	return r == 0 && disk.overlay != NULL ? put_text(element, "overlay", disk.overlay, e) : r;
}

/* A card has the name of a tap in JSON, whatever it is connected to later (use_fds()). */
#define TAP_OF_FD "fd"

static int override_fd(json_t *config, const struct net_fd *net, struct error *e)
{
	json_t *element = find(config, "network-interfaces", "iface_id", net->id);

	return element != NULL ? put_text(element, "host_dev_name", TAP_OF_FD, e)
			       : unknown("network card", net->id, e);
}

static int use_fds(struct vm_config *vm, const struct snapshot_load_request *request,
		   struct error *e)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < request->net_fd_count; i++) {
		const struct net_fd *given = &request->net_fds[i];
		struct vm_net_config *net = vm_config_find_net(vm, given->id);

		if (net == NULL) {
			return unknown("network card", given->id, e);
		}
		net->kind = VM_NET_FD;
		net->tap = NULL;
		net->fd = given->fd;
		r = vm_net_config_validate(net, e);
		if (r < 0) {
			(void)error_prefix(e, "network card '%.64s'", given->id);
		}
	}
	return r;
}

/* A descriptor is not in a file. */
static int check_nets(const json_t *config, struct error *e)
{
	const json_t *array = json_object_get(config, "network-interfaces");

	for (size_t i = 0; i < json_array_size(array); i++) {
		const json_t *element = json_array_get(array, i);
		const char *id = json_string_value(json_object_get(element, "iface_id"));

		if (!json_is_string(json_object_get(element, "host_dev_name"))) {
			(void)error_set(e, ERROR_CONFIG, EINVAL,
					"network card '%.64s' was connected by a descriptor",
					id != NULL ? id : "?");
			return error_hint(
				e, "name a tap for it (network_overrides; --net ID=tap:TAP), or "
				   "give another descriptor (--net ID=fd:N)");
		}
	}
	return 0;
}

static int apply_overrides(json_t *config, const struct snapshot_load_request *request,
			   struct error *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < json_array_size(request->nets); i++) {
		r = override_net(config, json_array_get(request->nets, i), e);
	}
	for (uint32_t i = 0; r == 0 && i < request->net_fd_count; i++) {
		r = override_fd(config, &request->net_fds[i], e);
	}
	for (size_t i = 0; r == 0 && i < json_array_size(request->disks); i++) {
		r = override_disk(config, json_array_get(request->disks, i), request, e);
	}
	return r == 0 ? check_nets(config, e) : r;
}

/* Not of a file that has none of it. */
static bool says(const json_t *config, const char *key)
{
	return json_is_true(json_object_get(json_object_get(config, OURS), key));
}

/* What else a config file may have is the process's, or names files that a restore has no business with. */
static int take_machine(const json_t *config, json_t **ret, struct error *e)
{
	static const char *const keys[] = { CPU_CONFIG, "boot-source",	      "machine-config",
					    "drives",	"network-interfaces", "entropy" };
	json_t *machine;

	if (!json_is_object(config)) {
		(void)error_set(e, ERROR_STATE, EINVAL,
				"restore: the snapshot's configuration is not a JSON object");
		return error_hint(e, "'vmm snapshot verify' checks a snapshot");
	}
	machine = json_object();
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		json_t *value = json_object_get(config, keys[i]);

		/* In a config file it may be a path. */
		if (value == NULL || (i == 0 && !json_is_object(value))) {
			continue;
		}
		if (json_object_set(machine, keys[i], value) != 0) {
			json_decref(machine);
			machine = NULL;
		}
	}
	*ret = machine;
	return machine != NULL ? 0
			       : error_set(e, ERROR_NO_MEMORY, ENOMEM, "restore: out of memory");
}

static void choose_pages(struct vm_machine_config *machine, int wanted)
{
	if (wanted == SNAPSHOT_HUGE_PAGES_AS_SAVED) {
		return;
	}
	machine->huge_pages = wanted - SNAPSHOT_HUGE_PAGES(VM_HUGE_PAGES_NONE);
	/* The older word for 2M. */
	if (machine->huge_pages != VM_HUGE_PAGES_2M &&
	    machine->memory_backing == GUEST_MEMORY_HUGETLB) {
		machine->memory_backing = GUEST_MEMORY_AUTO;
	}
}

int saved_config_read(struct config **ret, const struct instance_settings *settings,
		      const char *text, const struct snapshot_load_request *request,
		      const struct disk_copies *copies, struct error *e)
{
	/* Nothing is opened before the machine is built, the kernel never; defaults are ours. */
	struct instance_settings reading = *settings;
	auto_json json_t *config = NULL, *machine = NULL;
	const json_t *disks;
	struct config *draft;
	int r = json_parse(&config, text, strlen(text), e);

	if (r == 0) {
		r = apply_overrides(config, request, e);
	}
	if (r < 0) {
		return r;
	}
	reading.files_at_start = true;
	reading.firecracker = false;
	reading.virtio_console = says(config, "console");
	reading.debug_exit = says(config, "debug_exit");
	draft = config_create(&reading, e);
	if (draft == NULL) {
		return -ENOMEM;
	}
	disks = json_object_get(json_object_get(config, OURS), "disks");
	r = take_machine(config, &machine, e);
	if (r == 0) {
		r = config_read(draft, &reading, machine, e);
	}
	if (r == 0) {
		r = use_fds(&draft->vm, request, e);
	}
	if (r < 0) {
		config_drop(draft, NULL);
		return r;
	}
	config_adopt(draft, settings, reading.virtio_console, reading.debug_exit);
	draft->vm.machine.track_dirty_pages = request->track_dirty_pages || request->enable_diff;
	choose_pages(&draft->vm.machine, request->huge_pages);
	/* Firecracker's form: its clients look after their disks themselves. */
	if (request->directory != NULL && request->changed_disks == CHANGED_DISKS_REFUSE) {
		r = saved_disks_check(disks, &draft->vm, request->disks, copies, e);
	}
	if (r < 0) {
		config_drop(draft, NULL);
		return r;
	}
	*ret = draft;
	return 0;
}

char *saved_cmdline(const char *about)
{
	auto_json json_t *json = NULL;
	const char *line = NULL;

	if (json_parse(&json, about, strlen(about), NULL) == 0) {
		line = json_string_value(json_object_get(json, "kernel_cmdline"));
	}
	return strdup(line != NULL ? line : "");
}
