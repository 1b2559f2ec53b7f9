/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is configured: the single truth that requests before the start change, that GET shows and
 * that the VM is made from. One handler per request; each makes the new part first, judges it
 * alone and against the rest, and puts it in place when nothing can fail any more.
 *
 * Files that are named are looked at here, so that a client hears of a mistake from the request
 * that has it: kernel, initrd and disks are opened and closed again (the start opens and locks
 * them), what is written to stays open.
 *
 * Main thread. All values are a client's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "internal.h"
#include "vmm/cleanup.h"
#include "vmm/loader.h"
#include "vmm/options_json.h"

int config_store_init(struct config_store *store, const struct instance_settings *settings,
		      struct error *e)
{
	int r;

	memset(store, 0, offsetof(struct config_store, drives));
	store->serial_fd = store->log_fd = store->metrics_fd = -1;
	r = settings->firecracker ? options_their_defaults(&vm_machine_options, &store->machine, e)
				  : options_defaults(&vm_machine_options, &store->machine, e);
	store->machine.on_reboot = (int)settings->on_reboot;
	return r;
}

/* The descriptor of an interface that a name stands for is the store's; one that a caller gave is the
 * VM's. */
static void release_net(struct vm_net_config *net)
{
	if (net->kind == VM_NET_TAP) {
		close_fd(&net->fd);
	}
	options_release(&vm_net_options, net);
}

void config_store_finish(struct config_store *store)
{
	options_release(&vm_boot_options, &store->boot);
	options_release(&serial_settings_options, &store->serial);
	options_release(&logger_settings_options, &store->logger);
	options_release(&metrics_settings_options, &store->metrics);
	for (uint32_t i = 0; i < store->drive_count; i++) {
		options_release(&block_options, &store->drives[i]);
	}
	for (uint32_t i = 0; i < store->net_count; i++) {
		release_net(&store->nets[i]);
	}
	store->drive_count = store->net_count = 0;
	json_decref(store->cpu_config);
	store->cpu_config = NULL;
	free(take_ptr(store->cpu_template));
	close_fd(&store->serial_fd);
	close_fd(&store->log_fd);
	close_fd(&store->metrics_fd);
}

int config_store_find_drive(const struct config_store *store, const char *id)
{
	for (uint32_t i = 0; i < store->drive_count; i++) {
		if (strcmp(store->drives[i].id, id) == 0) {
			return (int)i;
		}
	}
	return -1;
}

int config_store_find_net(const struct config_store *store, const char *id)
{
	for (uint32_t i = 0; i < store->net_count; i++) {
		if (strcmp(store->nets[i].id, id) == 0) {
			return (int)i;
		}
	}
	return -1;
}

const char *request_id(const char *from_path, const char *from_body, struct error *e)
{
	const char *id = from_path != NULL ? from_path : from_body;
	if (from_path != NULL && from_body != NULL && strcmp(from_path, from_body) != 0) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"The id from the path does not match the id from the body!");
		(void)error_hint(e, "they are '%.64s' and '%.64s'", from_path, from_body);
		return NULL;
	}
	if (vm_id_validate(id != NULL ? id : "", "id", e) < 0) {
		return NULL;
	}
	return id;
}

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

static int put_boot(struct config_store *store, const struct instance_settings *settings,
		    const struct request *request, struct error *e)
{
	const struct vm_boot_config *boot = request->object;
	struct vm_boot_config copy;
	int r = vm_boot_config_validate(boot, e);

	if (r == 0 && !settings->files_at_start) {
		r = settings->firecracker ? look_for_boot_files(boot, e)
					  : look_at_boot_files(boot, e);
	}
	if (r == 0) {
		r = options_clone(&vm_boot_options, &copy, boot, sizeof(copy), e);
	}
	if (r == 0) {
		options_release(&vm_boot_options, &store->boot);
		store->boot = copy;
		store->has_boot = true;
	}
	return r;
}

static void drop_own_template(struct config_store *store)
{
	json_decref(take_ptr(store->cpu_config));
	free(take_ptr(store->cpu_template));
}

static bool is_given(const json_t *json, const char *key)
{
	const json_t *value = json_object_get(json, key);

	return value != NULL && !json_is_null(value);
}

/* Of a named template and one of the client's own the one that came last counts, whatever else is
 * changed meanwhile: so it is with Firecracker. */
static void set_machine(struct config_store *store, const struct vm_machine_config *machine,
			const json_t *json)
{
	int before = store->machine.cpu_template;

	store->machine = *machine;
	if (json == NULL) {
		return;
	}
	if (is_given(json, "cpu_template")) {
		drop_own_template(store);
	} else {
		store->machine.cpu_template = before;
	}
}

static int put_machine(struct config_store *store, const struct instance_settings *settings,
		       const struct request *request, struct error *e)
{
	struct vm_machine_config machine = *(const struct vm_machine_config *)request->object;
	int r;

	if (request->json != NULL && !is_given(request->json, "on_reboot")) {
		machine.on_reboot = (int)settings->on_reboot;
	}
	r = vm_machine_config_validate(&machine, e);
	if (r == 0) {
		set_machine(store, &machine, request->json);
	}
	return r;
}

static int patch_machine(struct config_store *store, const struct instance_settings *settings,
			 const struct request *request, struct error *e)
{
	struct vm_machine_config machine = store->machine;
	int r = options_from_json(&vm_machine_options, &machine, request->json, OPTIONS_JSON_PATCH,
				  e);

	(void)settings;
	if (r == 0) {
		r = vm_machine_config_validate(&machine, e);
	}
	if (r == 0) {
		set_machine(store, &machine, request->json);
	}
	return r;
}

static int put_cpu(struct config_store *store, const struct instance_settings *settings,
		   const struct request *request, struct error *e)
{
	struct cpu_template *template = NULL;
	json_t *copy;
	auto_json json_t *nothing = json_object();
	/* Firecracker's parser takes an object's values in their order as well, here none of them. */
	bool empty = settings->firecracker && json_is_array(request->json) &&
		     json_array_size(request->json) == 0;
	int r = cpu_template_from_json(&template, empty ? nothing : request->json, e);

	if (r < 0) {
		return r;
	}
	copy = json_deep_copy(request->json);
	if (copy == NULL) {
		free(template);
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "CPU template: out of memory");
	}
	drop_own_template(store);
	store->cpu_config = copy;
	store->cpu_template = template;
	store->machine.cpu_template = VM_CPU_TEMPLATE_NONE;
	return 0;
}

/* --- devices ----------------------------------------------------------------------------------- */

/*
 * As the start will open it, without what leaves a trace: the lock, which another VM may hold until
 * then, and the ring.
 */
static int look_at_disk(const struct instance_settings *settings, const struct block_config *drive,
			struct error *e)
{
	struct block_config config = *drive;
	struct block *block = NULL;
	struct stat st;
	int r;

	/* Firecracker opens a directory without looking at it; that it is no disk the start says. */
	if (settings->firecracker && drive->read_only && stat(drive->path, &st) == 0 &&
	    S_ISDIR(st.st_mode)) {
		return 0;
	}
	config.lock = BLOCK_LOCK_OFF;
	config.engine = BLOCK_ENGINE_SYNC;
	r = block_open(&block, &config, e);
	block_close(block);
	return r;
}

static int check_drive(const struct config_store *store, const struct block_config *drive,
		       int place, struct error *e)
{
	if (place < 0 && store->drive_count == VM_DISKS_MAX) {
		(void)error_set(e, ERROR_CONFIG, ENOSPC,
				"there are %d drives already, no more are "
				"possible",
				VM_DISKS_MAX);
		return error_hint(e, "use the id of one of them to replace it");
	}
	for (uint32_t i = 0; drive->root && i < store->drive_count; i++) {
		if ((int)i != place && store->drives[i].root) {
			(void)error_set(e, ERROR_CONFIG, EEXIST,
					"'%s' is the root drive already (is_root_device)",
					store->drives[i].id);
			return error_hint(e, "only one drive can have the root file system");
		}
	}
	if (drive->socket != NULL) {
		(void)error_set(e, ERROR_NOT_SUPPORTED, EOPNOTSUPP,
				"socket: this version has no vhost-user disks");
		return error_hint(e, "give the image's path as path_on_host");
	}
	if (drive->path == NULL || drive->path[0] == '\0') {
		return error_set(e, ERROR_CONFIG, EINVAL, "no path given (path_on_host)");
	}
	return 0;
}

/* The first "driveN" or "netN" from the given number on that nobody has. */
static const char *free_id(const struct config_store *store, const char *what, uint32_t from,
			   int (*find)(const struct config_store *, const char *), char *buf,
			   size_t size)
{
	do {
		(void)snprintf(buf, size, "%s%u", what, from++);
	} while (find(store, buf) >= 0);
	return buf;
}

static int put_drive(struct config_store *store, const struct instance_settings *settings,
		     const struct request *request, struct error *e)
{
	struct block_config drive = *(const struct block_config *)request->object;
	struct block_config copy;
	char made[24];
	int place, r;

	drive.id = request->id == NULL && drive.id == NULL
			   ? free_id(store, "drive", store->drive_count, config_store_find_drive,
				     made, sizeof(made))
			   : request_id(request->id, drive.id, e);
	if (drive.id == NULL) {
		return -EINVAL;
	}
	place = config_store_find_drive(store, drive.id);
	r = check_drive(store, &drive, place, e);
	if (r == 0 && !settings->files_at_start) {
		r = look_at_disk(settings, &drive, e);
	}
	if (r == 0) {
		r = options_clone(&block_options, &copy, &drive, sizeof(copy), e);
	}
	if (r < 0) {
		return error_prefix(e, "drive '%.64s'", drive.id);
	}
	if (place < 0) {
		place = (int)store->drive_count++;
	} else {
		options_release(&block_options, &store->drives[place]);
	}
	store->drives[place] = copy;
	return 0;
}

static int check_net(const struct config_store *store, const struct vm_net_config *net, int place,
		     struct error *e)
{
	if (place < 0 && store->net_count == VM_NETS_MAX) {
		(void)error_set(e, ERROR_CONFIG, ENOSPC,
				"there are %d network cards already, no more are possible",
				VM_NETS_MAX);
		return error_hint(e, "use the id of one of them to replace it");
	}
	for (uint32_t i = 0; i < store->net_count; i++) {
		const struct vm_net_config *other = &store->nets[i];

		if ((int)i == place) {
			continue;
		}
		if (net->has_mac && other->has_mac &&
		    memcmp(net->mac, other->mac, sizeof(net->mac)) == 0) {
			(void)error_set(e, ERROR_CONFIG, EEXIST,
					"'%s' has the same address (guest_mac)", other->id);
			return error_hint(e, "leave it out: each card then gets one of its own");
		}
		if (net->tap != NULL && other->tap != NULL && strcmp(net->tap, other->tap) == 0) {
			(void)error_set(e, ERROR_CONFIG, EEXIST,
					"'%s' uses the interface '%s' already (host_dev_name)",
					other->id, net->tap);
			return error_hint(e, "give each card a tap of its own");
		}
	}
	return 0;
}

/*
 * Clients of Firecracker count on an interface that is there, is ours and can be set up, as soon as a
 * card is configured; the start attaches to it else. One that this card has already cannot be had a
 * second time.
 */
static int hold_tap(struct config_store *store, int place, struct vm_net_config *net,
		    struct error *e)
{
	struct vm_net_config *old = place >= 0 ? &store->nets[place] : NULL;

	if (old != NULL && old->tap != NULL && old->fd >= 0 && strcmp(old->tap, net->tap) == 0) {
		net->fd = take_fd(&old->fd);
		return 0;
	}
	return netdev_claim_tap(&net->fd, net->tap, e);
}

static int put_net(struct config_store *store, const struct instance_settings *settings,
		   const struct request *request, struct error *e)
{
	struct vm_net_config net = *(const struct vm_net_config *)request->object;
	struct vm_net_config copy;
	char made[24];
	int place, r;

	net.id = request->id == NULL && net.id == NULL
			 ? free_id(store, "net", store->net_count, config_store_find_net, made,
				   sizeof(made))
			 : request_id(request->id, net.id, e);
	if (net.id == NULL) {
		return -EINVAL;
	}
	place = config_store_find_net(store, net.id);
	r = vm_net_config_validate(&net, e);
	if (r == 0) {
		r = check_net(store, &net, place, e);
	}
	if (r == 0) {
		if (net.kind == VM_NET_NONE) {
			net.kind = net.tap != NULL ? VM_NET_TAP : VM_NET_FD;
		}
		r = options_clone(&vm_net_options, &copy, &net, sizeof(copy), e);
	}
	if (r == 0 && copy.kind == VM_NET_TAP) {
		copy.fd = -1;
	}
	if (r == 0 && copy.kind == VM_NET_TAP && settings->firecracker &&
	    !settings->files_at_start) {
		r = hold_tap(store, place, &copy, e);
		if (r < 0) {
			options_release(&vm_net_options, &copy);
		}
	}
	if (r < 0) {
		return error_prefix(e, "network card '%.64s'", net.id);
	}
	if (place < 0) {
		place = (int)store->net_count++;
	} else {
		release_net(&store->nets[place]);
	}
	store->nets[place] = copy;
	return 0;
}

int config_store_open_serial(int *ret, const char *path, struct error *e)
{
	return output_open(ret, "serial port's output", path, ERROR_CONSOLE, e);
}

static int put_serial(struct config_store *store, const struct instance_settings *settings,
		      const struct request *request, struct error *e)
{
	const struct serial_settings *serial = request->object;
	struct serial_settings copy;
	auto_close int fd = -1;
	int r = options_clone(&serial_settings_options, &copy, serial, sizeof(copy), e);

	if (r == 0 && serial->output_path != NULL) {
		r = config_store_open_serial(&fd, serial->output_path, e);
		if (r < 0 && settings->firecracker) {
			r = 0; /* it would open it at the start, and so do we then */
		} else if (r < 0) {
			options_release(&serial_settings_options, &copy);
		}
	}
	if (r == 0) {
		options_release(&serial_settings_options, &store->serial);
		close_fd(&store->serial_fd);
		store->serial = copy;
		store->serial_fd = take_fd(&fd);
		store->has_serial = true;
	}
	return r;
}

static int put_entropy(struct config_store *store, const struct instance_settings *settings,
		       const struct request *request, struct error *e)
{
	(void)settings;
	(void)e;
	store->entropy = *(const struct entropy_settings *)request->object;
	store->has_entropy = true;
	return 0;
}

/* --- what is told about it --------------------------------------------------------------------- */

static int put_logger(struct config_store *store, const struct instance_settings *settings,
		      const struct request *request, struct error *e)
{
	struct logger_settings logger = *(const struct logger_settings *)request->object;
	struct logger_settings copy;
	bool stays = logger.path == NULL;
	auto_close int fd = -1;
	int r;

	(void)settings;
	if (stays) {
		logger.path = store->logger.path;
	}
	/* As Firecracker: what is not named stays, but for the level. */
	if (request->json != NULL && json_object_get(request->json, "show_level") == NULL) {
		logger.show_level = store->logger.show_level;
	}
	if (request->json != NULL && json_object_get(request->json, "show_log_origin") == NULL) {
		logger.show_origin = store->logger.show_origin;
	}
	if (logger.module == NULL) {
		logger.module = store->logger.module;
	}
	r = options_clone(&logger_settings_options, &copy, &logger, sizeof(copy), e);
	if (r == 0 && !stays) {
		r = output_open(&fd, "logger", logger.path, ERROR_CONFIG, e);
		if (r < 0) {
			options_release(&logger_settings_options, &copy);
		}
	}
	if (r < 0) {
		return r;
	}
	if (!stays) {
		/* The log itself changes over in instance.c, before it says anything more. */
		close_fd(&store->log_fd);
		store->log_fd = take_fd(&fd);
	}
	options_release(&logger_settings_options, &store->logger);
	store->logger = copy;
	store->has_logger = true;
	return 0;
}

static int put_metrics(struct config_store *store, const struct instance_settings *settings,
		       const struct request *request, struct error *e)
{
	const struct metrics_settings *metrics = request->object;
	int r;

	(void)settings;
	if (metrics->path == NULL) {
		return error_set(e, ERROR_CONFIG, EINVAL, "metrics: no path given (metrics_path)");
	}
	if (store->has_metrics) {
		(void)error_set(e, ERROR_EXISTS, EEXIST, "metrics: they go to '%s' already",
				store->metrics.path);
		return error_hint(e, "this can be said once");
	}
	r = options_clone(&metrics_settings_options, &store->metrics, metrics,
			  sizeof(store->metrics), e);
	if (r == 0) {
		r = output_open(&store->metrics_fd, "metrics", metrics->path, ERROR_CONFIG, e);
		if (r < 0) {
			options_release(&metrics_settings_options, &store->metrics);
		}
	}
	store->has_metrics = r == 0;
	return r;
}

/* --- all of it --------------------------------------------------------------------------------- */

static int (*const handlers[REQUEST_TYPES])(struct config_store *store,
					    const struct instance_settings *settings,
					    const struct request *request, struct error *e) = {
	[REQUEST_PUT_BOOT_SOURCE] = put_boot,
	[REQUEST_PUT_MACHINE_CONFIG] = put_machine,
	[REQUEST_PATCH_MACHINE_CONFIG] = patch_machine,
	[REQUEST_PUT_CPU_CONFIG] = put_cpu,
	[REQUEST_PUT_DRIVE] = put_drive,
	[REQUEST_PUT_NET] = put_net,
	[REQUEST_PUT_SERIAL] = put_serial,
	[REQUEST_PUT_ENTROPY] = put_entropy,
	[REQUEST_PUT_LOGGER] = put_logger,
	[REQUEST_PUT_METRICS] = put_metrics,
};

void config_store_keep_outputs(struct config_store *next, struct config_store *before)
{
	if (!next->has_logger && before->has_logger) {
		next->has_logger = true;
		next->logger = before->logger;
		before->logger = (struct logger_settings){ 0 };
		next->log_fd = take_fd(&before->log_fd);
	} else if (next->logger.path == NULL && before->logger.path != NULL) {
		/* As in put_logger(): a level alone leaves the log where it is. */
		next->logger.path = take_ptr(before->logger.path);
		next->log_fd = take_fd(&before->log_fd);
	}
	if (next->has_logger && next->logger.module == NULL) {
		next->logger.module = take_ptr(before->logger.module);
	}
	if (!next->has_metrics && before->has_metrics) {
		next->has_metrics = true;
		next->metrics = before->metrics;
		before->metrics = (struct metrics_settings){ 0 };
		next->metrics_fd = take_fd(&before->metrics_fd);
	}
}

int config_store_put(struct config_store *store, const struct instance_settings *settings,
		     const struct request *request, struct error *e)
{
	return handlers[request->type](store, settings, request, e);
}

void config_store_to_vm(const struct config_store *store, const struct instance_settings *settings,
			struct vm_config *config, uint32_t places[VM_DISKS_MAX])
{
	uint32_t next = 0;

	vm_config_init(config);
	config->name = settings->id;
	config->boot = store->boot;
	config->machine = store->machine;
	config->disk_count = store->drive_count;
	config->net_count = store->net_count;
	config->cpu_template = store->cpu_template;
	config->entropy = store->has_entropy;
	config->debug_exit = settings->debug_exit;
	config->sandbox = settings->sandbox;
	config->vcpu_name = settings->firecracker ? "fc_vcpu " : NULL;
	if (store->has_entropy && store->entropy.has_limiter) {
		config->entropy_limiter = store->entropy.limiter;
	}
	memcpy(config->nets, store->nets, store->net_count * sizeof(config->nets[0]));
	/* The root drive becomes vda, the others follow in the order they came. */
	for (int root = 1; root >= 0; root--) {
		for (uint32_t i = 0; i < store->drive_count; i++) {
			if (store->drives[i].root == (root == 1)) {
				places[i] = next;
				config->disks[next++] = store->drives[i];
			}
		}
	}
}
