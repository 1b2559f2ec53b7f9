/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests after the start: actions, pause and resume, changes of devices. What was changed in the
 * VM is written down in the configuration as well, so that it goes on being true.
 *
 * Main thread. All values are a client's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static int check_alive(const struct instance *instance, struct error *e)
{
	if (instance_state(instance) == INSTANCE_ENDED) {
		(void)error_set(e, ERROR_WRONG_STATE, ENOTCONN, "The VM has ended.");
		return error_hint(e, "GET /vm says why");
	}
	return 0;
}

static int check_running(const struct instance *instance, const char *what, struct error *e)
{
	int r = check_alive(instance, e);

	if (r == 0 && instance->state == INSTANCE_PAUSED) {
		(void)error_set(e, ERROR_WRONG_STATE, ENOTCONN, "%s: the VM is paused", what);
		r = error_hint(e, "resume it first");
	}
	return r;
}

static int flush_metrics(struct instance *instance, struct error *e)
{
	(void)e;
	figures_flush(instance);
	return 0;
}

static int press_ctrl_alt_del(struct instance *instance, struct error *e)
{
	int r = check_alive(instance, e);

	if (r == 0) {
		r = vm_press_ctrl_alt_del(instance->vm, e);
	}
	if (r == 0) {
		event_log_add(&instance->events, "ctrl-alt-del", NULL);
	}
	return r;
}

static int press_power_button(struct instance *instance, struct error *e)
{
	int r = check_running(instance, "power button", e);

	if (r == 0) {
		r = vm_press_power_button(instance->vm, e);
	}
	if (r == 0) {
		event_log_add(&instance->events, "power-button", NULL);
	}
	return r;
}

/* The event comes from the VM. */
static int reset(struct instance *instance, struct error *e)
{
	int r = check_running(instance, "reset", e);

	return r == 0 ? vm_reset(instance->vm, e) : r;
}

static int stop(struct instance *instance, struct error *e)
{
	int r = check_alive(instance, e);

	if (r == 0) {
		vm_stop(instance->vm);
	}
	return r;
}

int control_action(struct instance *instance, const struct request *request, struct error *e)
{
	static int (*const actions[])(struct instance *, struct error *) = {
		[ACTION_INSTANCE_START] = instance_wrong_state,
		[ACTION_FLUSH_METRICS] = flush_metrics,
		[ACTION_SEND_CTRL_ALT_DEL] = press_ctrl_alt_del,
		[ACTION_POWER_BUTTON] = press_power_button,
		[ACTION_RESET] = reset,
		[ACTION_STOP] = stop,
	};
	const struct action *action = request->object;

	if ((unsigned int)action->type >= ARRAY_SIZE(actions)) {
		return error_set(e, ERROR_INTERNAL, EINVAL, "action %d is not known", action->type);
	}
	return actions[action->type](instance, e);
}

int control_patch_vm(struct instance *instance, const struct request *request, struct error *e)
{
	const struct vm_update *update = request->object;
	bool pause = update->state == VM_WANTED_PAUSED;
	int r = check_alive(instance, e);

	if (r < 0 || pause == (instance->state == INSTANCE_PAUSED)) {
		return r;
	}
	r = pause ? vm_pause(instance->vm, e) : vm_resume(instance->vm, e);
	if (r == 0) {
		instance->state = pause ? INSTANCE_PAUSED : INSTANCE_RUNNING;
		event_log_add(&instance->events, pause ? "paused" : "resumed", NULL);
	}
	return r;
}

/* As rate_limit_update() does it: a bucket that is not given stays. */
static void merge_limiter(struct rate_limit_config *limiter, bool *has,
			  const struct rate_limit_config *change)
{
	if (!*has) {
		*limiter = (struct rate_limit_config){ 0 };
	}
	*has = true;
	if (change->has_bandwidth) {
		limiter->bandwidth = change->bandwidth;
		limiter->has_bandwidth = true;
	}
	if (change->has_ops) {
		limiter->ops = change->ops;
		limiter->has_ops = true;
	}
}

static int unknown_device(const char *what, const char *id, struct error *e)
{
	(void)error_set(e, ERROR_NOT_FOUND, ENODEV, "there is no %s '%.64s'", what, id);
	return error_hint(e, "GET /vm/config shows what there is");
}

static int replace_disk(struct instance *instance, int place, const char *path, struct error *e)
{
	struct block_config *drive = &instance->config.drives[place];
	char *copy = strdup(path);
	int r;

	if (copy == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
	}
	r = vm_replace_disk(instance->vm, instance->drive_places[place], path, e);
	if (r < 0) {
		free(copy);
		return r;
	}
	/* The store's strings are its own (options_clone()). */
	free((void *)(uintptr_t)drive->path);
	drive->path = copy;
	return 0;
}

int control_patch_drive(struct instance *instance, const struct request *request, struct error *e)
{
	const struct drive_update *update = request->object;
	const char *id = request_id(request->id, update->id, e);
	int place = id != NULL ? config_store_find_drive(&instance->config, id) : -1;
	int r = id != NULL ? check_alive(instance, e) : -EINVAL;

	if (r < 0) {
		return r;
	}
	if (place < 0) {
		return unknown_device("drive", id, e);
	}
	if (update->path != NULL) {
		r = replace_disk(instance, place, update->path, e);
	}
	if (r == 0 && update->has_limiter) {
		struct block_config *drive = &instance->config.drives[place];

		r = vm_limit_disk(instance->vm, instance->drive_places[place], &update->limiter, e);
		if (r == 0) {
			merge_limiter(&drive->limiter, &drive->has_limiter, &update->limiter);
		}
	}
	if (r < 0) {
		return error_prefix(e, "drive '%.64s'", id);
	}
	event_log_add(&instance->events, "drive-updated", json_pack("{s:s}", "drive_id", id));
	return 0;
}

int control_patch_net(struct instance *instance, const struct request *request, struct error *e)
{
	const struct net_update *update = request->object;
	const char *id = request_id(request->id, update->id, e);
	int place = id != NULL ? config_store_find_net(&instance->config, id) : -1;
	int r = id != NULL ? check_alive(instance, e) : -EINVAL;
	struct vm_net_config *net;

	if (r < 0) {
		return r;
	}
	if (place < 0) {
		return unknown_device("network card", id, e);
	}
	net = &instance->config.nets[place];
	r = vm_limit_net(instance->vm, (uint32_t)place, update->has_rx ? &update->rx : NULL,
			 update->has_tx ? &update->tx : NULL, e);
	if (r < 0) {
		return error_prefix(e, "network card '%.64s'", id);
	}
	if (update->has_rx) {
		merge_limiter(&net->rx, &net->has_rx, &update->rx);
	}
	if (update->has_tx) {
		merge_limiter(&net->tx, &net->has_tx, &update->tx);
	}
	event_log_add(&instance->events, "net-updated", json_pack("{s:s}", "iface_id", id));
	return 0;
}

int control_patch_console(struct instance *instance, const struct request *request, struct error *e)
{
	const struct console_update *update = request->object;

	(void)e;
	/* The table has checked the range. */
	instance->columns = (uint16_t)update->columns;
	instance->rows = (uint16_t)update->rows;
	if (instance->vm != NULL) {
		vm_console_resize(instance->vm, instance->columns, instance->rows);
	}
	if (instance->host->resized != NULL) {
		instance->host->resized(instance->host, instance->columns, instance->rows);
	}
	return 0;
}
