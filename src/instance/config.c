/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is configured: the single truth that requests change, that GET shows and that the VM is made
 * from: a struct vm_config, and what is open for it. A change is a draft, a copy that one handler per
 * request changes; it is judged as a whole, the files that it names are looked at, and then it is
 * committed, when nothing can fail any more, or dropped.
 *
 * Files that are named are looked at here, so that a client hears of a mistake from the request
 * that has it: kernel, initrd and disks are opened and closed again (the start opens and locks
 * them), what is written to stays open.
 *
 * Main thread. All values are a client's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/cleanup.h"
#include "vmm/loader.h"
#include "vmm/options_json.h"

/* --- drafts ------------------------------------------------------------------------------------ */

static struct config *allocate(struct error *e)
{
	struct config *config = malloc(sizeof(*config));

	if (config == NULL) {
		(void)error_set(e, ERROR_NO_MEMORY, ENOMEM, "configuration: out of memory");
		return NULL;
	}
	vm_config_init(&config->vm);
	config->serial_fd = config->log_fd = config->metrics_fd = -1;
	return config;
}

/* What is not a client's to say. */
static void follow(struct vm_config *vm, const struct instance_settings *settings)
{
	vm->name = settings->id;
	vm->unfinished = true;
	vm->console = settings->virtio_console;
	vm->debug_exit = settings->debug_exit;
	vm->sandbox = settings->sandbox;
	vm->vcpu_name = settings->firecracker ? "fc_vcpu " : NULL;
	vm->machine_name = settings->firecracker ? "fc_api" : NULL;
}

void config_adopt(struct config *draft, const struct instance_settings *settings, bool console,
		  bool debug_exit)
{
	follow(&draft->vm, settings);
	draft->vm.console = console;
	draft->vm.debug_exit = debug_exit;
}

struct config *config_create(const struct instance_settings *settings, struct error *e)
{
	struct config *config = allocate(e);
	struct vm_machine_config *machine;
	int r;

	if (config == NULL) {
		return NULL;
	}
	machine = &config->vm.machine;
	follow(&config->vm, settings);
	r = settings->firecracker ? options_their_defaults(&vm_machine_options, machine, e)
				  : options_defaults(&vm_machine_options, machine, e);
	machine->on_reboot = (int)settings->on_reboot;
	if (settings->enable_pci) {
		machine->transport = VM_TRANSPORT_PCI;
	}
	if (r < 0) {
		config_drop(config, NULL);
		return NULL;
	}
	return config;
}

struct config *config_draft(const struct config *config, struct error *e)
{
	struct config *draft = allocate(e);

	if (draft != NULL && vm_config_copy(&draft->vm, &config->vm, e) < 0) {
		free(draft);
		return NULL;
	}
	if (draft != NULL) {
		draft->serial_fd = config->serial_fd;
		draft->log_fd = config->log_fd;
		draft->metrics_fd = config->metrics_fd;
	}
	return draft;
}

/* The descriptor of an interface that a name stands for is the configuration's; one that a caller gave
 * is the VM's. */
static int held_fd(const struct vm_net_config *net)
{
	return net->kind == VM_NET_TAP && net->fd > STDERR_FILENO ? net->fd : -1;
}

static bool has_fd(const struct config *config, int fd)
{
	bool has = fd == config->serial_fd || fd == config->log_fd || fd == config->metrics_fd;

	for (uint32_t i = 0; !has && i < config->vm.net_count; i++) {
		has = fd == held_fd(&config->vm.nets[i]);
	}
	return has;
}

static void close_unless(const struct config *stays, int fd)
{
	if (fd >= 0 && (stays == NULL || !has_fd(stays, fd))) {
		close_fd(&fd);
	}
}

void config_drop(struct config *config, const struct config *stays)
{
	if (config == NULL) {
		return;
	}
	for (uint32_t i = 0; i < config->vm.net_count; i++) {
		close_unless(stays, held_fd(&config->vm.nets[i]));
	}
	close_unless(stays, config->serial_fd);
	close_unless(stays, config->log_fd);
	close_unless(stays, config->metrics_fd);
	vm_config_finish(&config->vm);
	free(config);
}

void config_commit(struct config **config, struct config *draft)
{
	struct config *before = *config;

	*config = draft;
	config_drop(before, draft);
}

int config_check_id(const char *from_path, const char *from_body, const char **ret, struct error *e)
{
	const char *id = from_path != NULL ? from_path : from_body;

	if (from_path != NULL && from_body != NULL && strcmp(from_path, from_body) != 0) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"The id from the path does not match the id from the body!");
		return error_hint(e, "they are '%.64s' and '%.64s'", from_path, from_body);
	}
	*ret = id;
	return vm_id_validate(id != NULL ? id : "", "id", e);
}

/* A request on its way into a draft. */
struct put {
	struct config *draft;
	struct vm_config *vm; /* the draft's */
	const struct instance_settings *settings;
	const struct request *request;
	const char *id; /* of the disk or card that it is about; NULL: of none, or not known yet */
};

/* --- what is booted and on what ---------------------------------------------------------------- */

static int look_at_boot_files(const struct vm_boot_config *boot, struct error *e)
{
	struct loader_image kernel = { .fd = -1 }, initrd = { .fd = -1 };
	int r = loader_open(&kernel, boot->kernel, ERROR_KERNEL_IMAGE, e);

	if (r == 0) {
		r = loader_check_kernel(&kernel, e);
	}
	for (uint32_t i = 0; r == 0 && i < VM_INITRDS_MAX; i++) {
		const char *path = i == 0 ? boot->initrd : boot->more_initrds[i - 1];

		r = path != NULL ? loader_open(&initrd, path, ERROR_INITRD, e) : 0;
		close_fd(&initrd.fd);
	}
	close_fd(&kernel.fd);
	return r;
}

static int look_at_file(const char *what, const char *path, enum error_code code, struct error *e)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	return fd < 0 ? error_set_sys(e, code, errno, "%s '%s'", what, path) : 0;
}

/* All that Firecracker looks at; what is in the files is judged when the VM starts. */
static int look_for_boot_files(const struct vm_boot_config *boot, struct error *e)
{
	int r = look_at_file("kernel", boot->kernel, ERROR_KERNEL_IMAGE, e);

	if (r == 0 && boot->initrd != NULL) {
		r = look_at_file("initrd", boot->initrd, ERROR_INITRD, e);
	}
	return r;
}

static int look_at_boot(const struct instance_settings *settings, const struct vm_boot_config *boot,
			struct error *e)
{
	return settings->firecracker ? look_for_boot_files(boot, e) : look_at_boot_files(boot, e);
}

static int put_boot(struct put *put, struct error *e)
{
	struct vm_boot_config *boot = &put->vm->boot;
	int r;

	*boot = *(const struct vm_boot_config *)put->request->object;
	r = vm_boot_config_validate(boot, e);
	return r == 0 ? vm_config_keep_all(put->vm, &vm_boot_options, boot, e) : r;
}

static void drop_own_template(struct vm_config *vm)
{
	json_decref(take_ptr(vm->cpu_config));
	free(take_ptr(vm->cpu_template));
}

static bool is_given(const json_t *json, const char *key)
{
	const json_t *value = json_object_get(json, key);

	return value != NULL && !json_is_null(value);
}

/* Of a named template and one of the client's own the one that came last counts, whatever else is
 * changed meanwhile: so it is with Firecracker. */
static void set_machine(struct vm_config *vm, const struct vm_machine_config *machine,
			const json_t *json)
{
	int before = vm->machine.cpu_template;

	vm->machine = *machine;
	if (json == NULL) {
		return;
	}
	if (is_given(json, "cpu_template")) {
		drop_own_template(vm);
	} else {
		vm->machine.cpu_template = before;
	}
}

static int put_machine(struct put *put, struct error *e)
{
	struct vm_machine_config machine = *(const struct vm_machine_config *)put->request->object;
	const json_t *json = put->request->json;

	(void)e;
	if (json != NULL && !is_given(json, "on_reboot")) {
		machine.on_reboot = (int)put->settings->on_reboot;
	}
	if (json != NULL && put->settings->enable_pci && !is_given(json, "transport")) {
		machine.transport = VM_TRANSPORT_PCI;
	}
	set_machine(put->vm, &machine, json);
	return 0;
}

static int patch_machine(struct put *put, struct error *e)
{
	struct vm_machine_config machine = put->vm->machine;
	const json_t *json = put->request->json;
	int r = options_from_json(&vm_machine_options, &machine, json, OPTIONS_JSON_PATCH, e);

	if (r == 0) {
		set_machine(put->vm, &machine, json);
	}
	return r;
}

static int put_cpu(struct put *put, struct error *e)
{
	auto_json json_t *nothing = json_object();
	const json_t *json = put->request->json;
	/* Firecracker's parser takes an object's values in their order as well, here none of them. */
	bool empty =
		put->settings->firecracker && json_is_array(json) && json_array_size(json) == 0;
	struct vm_config *vm = put->vm;
	int r;

	drop_own_template(vm);
	r = cpu_template_from_json(&vm->cpu_template, empty ? nothing : json, e);
	if (r < 0) {
		return r;
	}
	vm->cpu_config = json_deep_copy(json);
	vm->machine.cpu_template = VM_CPU_TEMPLATE_NONE;
	return vm->cpu_config != NULL
		       ? 0
		       : error_set(e, ERROR_NO_MEMORY, ENOMEM, "CPU template: out of memory");
}

/* --- devices ----------------------------------------------------------------------------------- */

/*
 * As the start will open it, without what leaves a trace: the lock, which another VM may hold until
 * then, and the ring. Of a disk with an overlay that is the base; the overlay is made by the start.
 */
static int look_at_disk(const struct instance_settings *settings, const struct block_config *disk,
			struct error *e)
{
	struct block_config config = *disk;
	struct block *block = NULL;
	struct stat st;
	int r;

	/* Firecracker opens a directory without looking at it; that it is no disk the start says. */
	if (settings->firecracker && disk->read_only && stat(disk->path, &st) == 0 &&
	    S_ISDIR(st.st_mode)) {
		return 0;
	}
	config.lock = BLOCK_LOCK_OFF;
	config.engine = BLOCK_ENGINE_SYNC;
	if (config.overlay != NULL) {
		config.overlay = NULL;
		config.read_only = true;
	}
	r = block_open(&block, &config, e);
	block_close(block);
	return r;
}

/* Of the path or the body; one that neither has is made. */
static int find_id(struct put *put, const char **id, struct error *e)
{
	int r = put->request->id != NULL || *id != NULL
			? config_check_id(put->request->id, *id, id, e)
			: 0;

	put->id = r == 0 ? *id : NULL;
	return r;
}

static int put_disk(struct put *put, struct error *e)
{
	struct block_config disk = *(const struct block_config *)put->request->object;
	const struct block_config *in_draft;
	int r = find_id(put, &disk.id, e);

	if (r < 0) {
		return r;
	}
	in_draft = put->request->add ? vm_config_add_disk(put->vm, &disk, e)
				     : vm_config_put_disk(put->vm, &disk, e);
	if (in_draft == NULL) {
		return -EINVAL;
	}
	put->id = in_draft->id;
	return 0;
}

static int put_net(struct put *put, struct error *e)
{
	struct vm_net_config net = *(const struct vm_net_config *)put->request->object;
	const struct vm_net_config *old, *in_draft;
	int r = find_id(put, &net.id, e);

	if (r == 0) {
		r = vm_net_config_validate(&net, e);
	}
	if (r < 0) {
		return r;
	}
	if (net.kind == VM_NET_NONE) {
		net.kind = net.tap != NULL ? VM_NET_TAP : VM_NET_FD;
	}
	if (net.kind == VM_NET_TAP) {
		old = net.id != NULL ? vm_config_find_net(put->vm, net.id) : NULL;
		net.fd = old != NULL && old->tap != NULL && strcmp(old->tap, net.tap) == 0
				 ? held_fd(old)
				 : -1;
	}
	in_draft = put->request->add ? vm_config_add_net(put->vm, &net, e)
				     : vm_config_put_net(put->vm, &net, e);
	if (in_draft == NULL) {
		return -EINVAL;
	}
	put->id = in_draft->id;
	return 0;
}

/*
 * Clients of Firecracker count on an interface that is there, is ours and can be set up, as soon as a
 * card is configured; the start attaches to it else. One that this card has already cannot be had a
 * second time.
 */
static int hold_tap(const struct instance_settings *settings, struct vm_net_config *net,
		    struct error *e)
{
	return settings->firecracker && net->kind == VM_NET_TAP && net->fd < 0
		       ? netdev_claim_tap(&net->fd, net->tap, net->queues > 1, e)
		       : 0;
}

int config_open_serial(int *ret, const char *path, struct error *e)
{
	return output_open(ret, "serial port's output", path, ERROR_CONSOLE, e);
}

static int put_serial(struct put *put, struct error *e)
{
	struct serial_settings *serial = &put->vm->serial;
	int r = 0;

	*serial = *(const struct serial_settings *)put->request->object;
	put->vm->has_serial = true;
	put->draft->serial_fd = -1;
	if (serial->output_path != NULL) {
		r = config_open_serial(&put->draft->serial_fd, serial->output_path, e);
	}
	/* Firecracker would open it at the start, and so do we then. */
	return r == 0 || put->settings->firecracker
		       ? vm_config_keep_all(put->vm, &serial_settings_options, serial, e)
		       : r;
}

static int put_entropy(struct put *put, struct error *e)
{
	(void)e;
	put->vm->entropy_settings = *(const struct entropy_settings *)put->request->object;
	put->vm->entropy = true;
	return 0;
}

/* --- what is told about it --------------------------------------------------------------------- */

static int put_logger(struct put *put, struct error *e)
{
	const struct logger_settings before = put->vm->logger;
	struct logger_settings *logger = &put->vm->logger;
	const json_t *json = put->request->json;
	int r = 0;

	*logger = *(const struct logger_settings *)put->request->object;
	/* As Firecracker: what is not named stays, but for the level. */
	if (json != NULL && json_object_get(json, "show_level") == NULL) {
		logger->show_level = before.show_level;
	}
	if (json != NULL && json_object_get(json, "show_log_origin") == NULL) {
		logger->show_origin = before.show_origin;
	}
	if (logger->module == NULL) {
		logger->module = before.module;
	}
	if (logger->path == NULL) {
		logger->path = before.path;
	} else {
		/* The log itself changes over in instance.c, before it says anything more. */
		put->draft->log_fd = -1;
		r = output_open(&put->draft->log_fd, "logger", logger->path, ERROR_CONFIG, e);
	}
	put->vm->has_logger = true;
	return r == 0 ? vm_config_keep_all(put->vm, &logger_settings_options, logger, e) : r;
}

static int put_metrics(struct put *put, struct error *e)
{
	const struct metrics_settings *metrics = put->request->object;
	int r;

	if (metrics->path == NULL) {
		return error_set(e, ERROR_CONFIG, EINVAL, "metrics: no path given (metrics_path)");
	}
	if (put->vm->has_metrics) {
		(void)error_set(e, ERROR_EXISTS, EEXIST, "metrics: they go to '%s' already",
				put->vm->metrics.path);
		return error_hint(e, "this can be said once");
	}
	put->vm->has_metrics = true;
	put->vm->metrics = *metrics;
	r = output_open(&put->draft->metrics_fd, "metrics", metrics->path, ERROR_CONFIG, e);
	return r == 0 ? vm_config_keep_all(put->vm, &metrics_settings_options, &put->vm->metrics, e)
		      : r;
}

/* --- all of it --------------------------------------------------------------------------------- */

static int (*const handlers[REQUEST_TYPES])(struct put *put, struct error *e) = {
	[REQUEST_PUT_BOOT_SOURCE] = put_boot,
	[REQUEST_PUT_MACHINE_CONFIG] = put_machine,
	[REQUEST_PATCH_MACHINE_CONFIG] = patch_machine,
	[REQUEST_PUT_CPU_CONFIG] = put_cpu,
	[REQUEST_PUT_DISK] = put_disk,
	[REQUEST_PUT_NET] = put_net,
	[REQUEST_PUT_SERIAL] = put_serial,
	[REQUEST_PUT_ENTROPY] = put_entropy,
	[REQUEST_PUT_LOGGER] = put_logger,
	[REQUEST_PUT_METRICS] = put_metrics,
};

/* At the files that the request names, or interfaces. */
static int look(const struct put *put, struct error *e)
{
	switch (put->request->type) {
	case REQUEST_PUT_BOOT_SOURCE:
		return look_at_boot(put->settings, &put->vm->boot, e);
	case REQUEST_PUT_DISK:
		return look_at_disk(put->settings, vm_config_find_disk(put->vm, put->id), e);
	case REQUEST_PUT_NET:
		return hold_tap(put->settings, vm_config_find_net(put->vm, put->id), e);
	default:
		return 0;
	}
}

/* Which of many is meant goes before what is wrong with it. */
static int name_device(enum request_type type, const char *id, struct error *e)
{
	return error_prefix(e, "%s '%.64s'", type == REQUEST_PUT_DISK ? "drive" : "network card",
			    id);
}

int config_put(struct config *draft, const struct instance_settings *settings,
	       const struct request *request, struct error *e)
{
	struct put put = {
		.draft = draft, .vm = &draft->vm, .settings = settings, .request = request
	};
	int r = handlers[request->type](&put, e);

	if (r == 0) {
		r = vm_config_validate(&draft->vm, e);
	}
	if (r == 0 && !settings->files_at_start) {
		r = look(&put, e);
	}
	return r < 0 && put.id != NULL ? name_device(request->type, put.id, e) : r;
}

int config_plug(struct config *draft, const struct instance_settings *settings,
		const struct request *request, const char **id, struct error *e)
{
	struct put put = {
		.draft = draft, .vm = &draft->vm, .settings = settings, .request = request
	};
	int r = handlers[request->type](&put, e);

	*id = put.id;
	if (r == 0) {
		r = vm_config_validate(&draft->vm, e);
	}
	return r < 0 && put.id != NULL ? name_device(request->type, put.id, e) : r;
}

int config_take(struct config *draft, const struct instance_settings *settings,
		const struct vm_config *from, struct error *e)
{
	int r = vm_config_copy(&draft->vm, from, e);

	if (r < 0) {
		return r;
	}
	follow(&draft->vm, settings);
	r = vm_config_validate(&draft->vm, e);
	if (r == 0 && !settings->files_at_start) {
		r = look_at_boot(settings, &draft->vm.boot, e);
	}
	for (uint32_t i = 0; r == 0 && !settings->files_at_start && i < draft->vm.disk_count; i++) {
		r = look_at_disk(settings, &draft->vm.disks[i], e);
		if (r < 0) {
			(void)name_device(REQUEST_PUT_DISK, draft->vm.disks[i].id, e);
		}
	}
	return r;
}

int config_keep_outputs(struct config *draft, const struct config *before, struct error *e)
{
	struct vm_config *vm = &draft->vm;
	int r;

	if (!vm->has_logger) {
		vm->has_logger = before->vm.has_logger;
		vm->logger = before->vm.logger;
		draft->log_fd = before->log_fd;
	} else if (vm->logger.path == NULL && before->vm.logger.path != NULL) {
		/* As in put_logger(): a level alone leaves the log where it is. */
		vm->logger.path = before->vm.logger.path;
		draft->log_fd = before->log_fd;
	}
	if (vm->has_logger && vm->logger.module == NULL) {
		vm->logger.module = before->vm.logger.module;
	}
	if (!vm->has_metrics) {
		vm->has_metrics = before->vm.has_metrics;
		vm->metrics = before->vm.metrics;
		draft->metrics_fd = before->metrics_fd;
	}
	r = vm_config_keep_all(vm, &logger_settings_options, &vm->logger, e);
	return r == 0 ? vm_config_keep_all(vm, &metrics_settings_options, &vm->metrics, e) : r;
}
