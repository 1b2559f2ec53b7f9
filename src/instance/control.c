/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests after the start: actions, pause and resume, changes of devices. What the machine thread
 * carries out is a kind of change each (changes.c): what has to be so when its turn comes, the
 * operation, and what follows. What changes of the configuration with it is judged before. Buttons are pressed at once.
 *
 * Main thread. All values are a client's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "upgrade.h"
#include "vmm/cleanup.h"

int instance_has_ended(struct error *e)
{
	(void)error_set(e, ERROR_WRONG_STATE, ENOTCONN, "The VM has ended.");
	return error_hint(e, "GET /vm says why");
}

int instance_check_alive(const struct instance *instance, struct error *e)
{
	if (instance->state == INSTANCE_ENDED) {
		return instance_has_ended(e);
	}
	if (instance->state == INSTANCE_STOPPING) {
		(void)error_set(e, ERROR_WRONG_STATE, ENOTCONN, "The VM is being stopped.");
		return error_hint(e, "what it does no longer matters");
	}
	return 0;
}

static int check_running(const struct instance *instance, const char *what, struct error *e)
{
	int r = instance_check_alive(instance, e);

	if (r == 0 && (instance->state == INSTANCE_PAUSED || instance->state == INSTANCE_PAUSING ||
		       instance->state == INSTANCE_RESUMING)) {
		(void)error_set(e, ERROR_WRONG_STATE, ENOTCONN, "%s: the VM is %s", what,
				instance_state_name(instance->state));
		r = error_hint(e, "resume it first");
	}
	return r;
}

int action_check(const struct action *action, struct error *e)
{
	if (action->paused && action->type != ACTION_INSTANCE_START) {
		return error_set(e, ERROR_CONFIG, EINVAL, "paused: only InstanceStart has it");
	}
	return 0;
}

/* Nothing waits in line for a VM that has ended. */
int control_change(struct instance *instance, const struct change_kind *kind,
		   const struct asked *asked, struct error *e)
{
	int r = instance_check_alive(instance, e);

	return r < 0 ? r : changes_request(instance, kind, asked->request, asked->call, e);
}

/* --- at once ----------------------------------------------------------------------------------- */

static int flush_metrics(struct instance *instance, struct error *e)
{
	(void)e;
	figures_flush(instance);
	return 0;
}

static int press_ctrl_alt_del(struct instance *instance, struct error *e)
{
	int r = instance_check_alive(instance, e);

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

/* --- the end ----------------------------------------------------------------------------------- */

/* Who waits for it. */
struct stop_call {
	struct stop_call *next;
	struct instance_call *call;
};

static int stop(struct instance *instance, struct instance_call *call, struct error *e)
{
	struct stop_call *waits = NULL;

	if (instance->state == INSTANCE_ENDED) {
		return instance_has_ended(e);
	}
	if (call != NULL) {
		waits = malloc(sizeof(*waits));
	}
	if (waits != NULL) {
		*waits = (struct stop_call){ .next = instance->stops, .call = call };
		instance->stops = waits;
	}
	if (instance->state != INSTANCE_STOPPING) {
		upgrade_end(instance->upgrade);
		instance_enter(instance, INSTANCE_STOPPING);
		vm_stop(instance->vm);
	}
	/* Without memory for one who waits it is stopped all the same. */
	return waits != NULL ? CHANGE_PENDING : 0;
}

void instance_end_moved(struct instance *instance)
{
	instance->own_stop = (struct vm_stop){ .reason = VM_STOP_MOVED };
	(void)stop(instance, NULL, NULL);
}

void instance_end_failed(struct instance *instance, const struct error *why)
{
	instance->own_stop = (struct vm_stop){ .reason = VM_STOP_ERROR, .error = *why };
	(void)stop(instance, NULL, NULL);
}

void control_stopped(struct instance *instance)
{
	while (instance->stops != NULL) {
		struct stop_call *waits = instance->stops;

		instance->stops = waits->next;
		if (waits->call != NULL) {
			waits->call->done(waits->call, NULL, NULL);
		}
		free(waits);
	}
}

void control_forget(struct instance *instance, const struct instance_call *call)
{
	for (struct stop_call *waits = instance->stops; waits != NULL; waits = waits->next) {
		if (waits->call == call) {
			waits->call = NULL;
		}
	}
}

/* --- pause, resume, reset ---------------------------------------------------------------------- */

static int prepare_pause(struct instance *instance, struct change *change, struct error *e)
{
	int r = instance_check_alive(instance, e);

	change->operation.type = change->kind->after == INSTANCE_PAUSED ? VM_PAUSE : VM_RESUME;
	return r < 0 || instance->state == change->kind->after ? r : CHANGE_PENDING;
}

static void paused(struct instance *instance, struct change *change)
{
	event_log_add(&instance->events,
		      change->kind->after == INSTANCE_PAUSED ? "paused" : "resumed", NULL);
}

static const struct change_kind pause_kind = { .during = INSTANCE_PAUSING,
					       .after = INSTANCE_PAUSED,
					       .prepare = prepare_pause,
					       .done = paused };
static const struct change_kind resume_kind = { .during = INSTANCE_RESUMING,
						.after = INSTANCE_RUNNING,
						.prepare = prepare_pause,
						.done = paused };

int control_patch_vm(struct instance *instance, const struct asked *asked, struct error *e)
{
	const struct vm_update *update = asked->request->object;
	bool pause = update->state == VM_WANTED_PAUSED;

	return control_change(instance, pause ? &pause_kind : &resume_kind, asked, e);
}

static int prepare_reset(struct instance *instance, struct change *change, struct error *e)
{
	int r = check_running(instance, "reset", e);

	change->operation.type = VM_RESET;
	return r < 0 ? r : CHANGE_PENDING;
}

/* The event comes from the VM. */
static const struct change_kind reset_kind = { .during = INSTANCE_RESETTING,
					       .after = INSTANCE_RUNNING,
					       .prepare = prepare_reset };

int control_action(struct instance *instance, const struct asked *asked, struct error *e)
{
	static int (*const at_once[])(struct instance *, struct error *) = {
		[ACTION_INSTANCE_START] = instance_wrong_state,
		[ACTION_FLUSH_METRICS] = flush_metrics,
		[ACTION_SEND_CTRL_ALT_DEL] = press_ctrl_alt_del,
		[ACTION_POWER_BUTTON] = press_power_button,
	};
	const struct action *action = asked->request->object;

	if (action_check(action, e) < 0) {
		return -EINVAL;
	}
	switch (action->type) {
	case ACTION_RESET:
		return control_change(instance, &reset_kind, asked, e);
	case ACTION_STOP:
		return stop(instance, asked->call, e);
	default:
		break;
	}
	if ((unsigned int)action->type >= ARRAY_SIZE(at_once)) {
		return error_set(e, ERROR_INTERNAL, EINVAL, "action %d is not known", action->type);
	}
	return at_once[action->type](instance, e);
}

/* --- devices ----------------------------------------------------------------------------------- */

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

/* What the configuration will be, for prepare() to change, and the device that is meant. NULL with
 * `e`. */
static struct vm_config *begin_draft(struct instance *instance, struct change *change,
				     const char *id_in_body, const char **id, struct error *e)
{
	if (config_check_id(change->id, id_in_body, id, e) < 0 ||
	    instance_check_alive(instance, e) < 0) {
		return NULL;
	}
	change->draft = config_draft(instance->config, e);
	return change->draft != NULL ? &change->draft->vm : NULL;
}

static int prepare_disk(struct instance *instance, struct change *change, struct error *e)
{
	const struct disk_update *update = change->object;
	struct vm_operation *operation = &change->operation;
	const char *id = NULL;
	struct vm_config *vm = begin_draft(instance, change, update->id, &id, e);
	struct block_config *disk;

	if (vm == NULL) {
		return -EINVAL;
	}
	disk = vm_config_find_disk(vm, id);
	if (disk == NULL) {
		return unknown_device("drive", id, e);
	}
	if (update->path != NULL) {
		disk->path = vm_config_keep(vm, update->path, e);
		if (disk->path == NULL) {
			return -ENOMEM;
		}
	}
	if (update->has_limiter) {
		merge_limiter(&disk->limiter, &disk->has_limiter, &update->limiter);
	}
	operation->type = VM_CHANGE_DISK;
	operation->disk.id = id;
	operation->disk.path = update->path;
	operation->disk.limiter = update->has_limiter ? &update->limiter : NULL;
	return vm_config_validate(vm, e) < 0 ? -EINVAL : CHANGE_PENDING;
}

static void disk_changed(struct instance *instance, struct change *change)
{
	event_log_add(&instance->events, "drive-updated",
		      json_pack("{s:s}", "drive_id", change->operation.disk.id));
}

static void explain_disk(const struct change *change, struct error *e)
{
	(void)error_prefix(e, "drive '%.64s'", change->operation.disk.id);
}

static const struct change_kind disk_kind = { .during = INSTANCE_STATES,
					      .prepare = prepare_disk,
					      .done = disk_changed,
					      .explain = explain_disk };

int control_patch_disk(struct instance *instance, const struct asked *asked, struct error *e)
{
	return control_change(instance, &disk_kind, asked, e);
}

static int prepare_net(struct instance *instance, struct change *change, struct error *e)
{
	const struct net_update *update = change->object;
	struct vm_operation *operation = &change->operation;
	const char *id = NULL;
	struct vm_config *vm = begin_draft(instance, change, update->id, &id, e);
	struct vm_net_config *net;

	if (vm == NULL) {
		return -EINVAL;
	}
	net = vm_config_find_net(vm, id);
	if (net == NULL) {
		return unknown_device("network card", id, e);
	}
	if (update->has_rx) {
		merge_limiter(&net->rx, &net->has_rx, &update->rx);
	}
	if (update->has_tx) {
		merge_limiter(&net->tx, &net->has_tx, &update->tx);
	}
	operation->type = VM_CHANGE_NET;
	operation->net.id = id;
	operation->net.rx = update->has_rx ? &update->rx : NULL;
	operation->net.tx = update->has_tx ? &update->tx : NULL;
	return vm_config_validate(vm, e) < 0 ? -EINVAL : CHANGE_PENDING;
}

static void net_changed(struct instance *instance, struct change *change)
{
	event_log_add(&instance->events, "net-updated",
		      json_pack("{s:s}", "iface_id", change->operation.net.id));
}

static void explain_net(const struct change *change, struct error *e)
{
	(void)error_prefix(e, "network card '%.64s'", change->operation.net.id);
}

static const struct change_kind net_kind = { .during = INSTANCE_STATES,
					     .prepare = prepare_net,
					     .done = net_changed,
					     .explain = explain_net };

int control_patch_net(struct instance *instance, const struct asked *asked, struct error *e)
{
	return control_change(instance, &net_kind, asked, e);
}

int control_patch_console(struct instance *instance, const struct asked *asked, struct error *e)
{
	const struct console_update *update = asked->request->object;

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

/* --- for ourselves ----------------------------------------------------------------------------- */

static int prepare_spawn(struct instance *instance, struct change *change, struct error *e)
{
	(void)change;
	return instance->vm == NULL ? instance_has_ended(e) : CHANGE_PENDING;
}

static void spawned(struct instance *instance, struct change *change, const struct error *failure)
{
	(void)instance;
	change->spawn.told(change->spawn.arg, failure);
}

static const struct change_kind spawn_kind = { .during = INSTANCE_STATES,
					       .prepare = prepare_spawn,
					       .over = spawned };

int control_spawn(struct job_spawner *spawner, int (*start)(void *arg, struct error *e),
		  void (*told)(void *arg, const struct error *failure), void *arg, struct error *e)
{
	struct instance *instance = container_of(spawner, struct instance, spawner);
	struct change *change;
	int r = instance_check_alive(instance, e);

	if (r < 0) {
		return r;
	}
	change = change_create(&spawn_kind, e);
	if (change == NULL) {
		return -ENOMEM;
	}
	change->spawn.told = told;
	change->spawn.arg = arg;
	change->operation.type = VM_SPAWN;
	change->operation.spawn.start = start;
	change->operation.spawn.arg = arg;
	/* A change's own job: the machine thread is free for it. */
	if (instance->changes != NULL && instance->changes->waits) {
		changes_beside(instance, change);
		return 0;
	}
	r = changes_add(instance, change, e);
	return r < 0 ? r : 0;
}

static int prepare_look(struct instance *instance, struct change *change, struct error *e)
{
	change->operation.type = VM_LOOK;
	return instance->state == INSTANCE_RUNNING ? CHANGE_PENDING
						   : check_running(instance, "look", e);
}

static void looked(struct instance *instance, struct change *change, const struct error *failure)
{
	bool known = failure == NULL && change->operation.look.known;

	if (instance->state != INSTANCE_ENDED && !instance->ending) {
		change->look.told(change->look.arg, known ? &change->operation.look.address : NULL);
	}
}

static const struct change_kind look_kind = { .during = INSTANCE_STATES,
					      .prepare = prepare_look,
					      .over = looked };

int instance_look(struct instance *instance, void (*told)(void *arg, const uint64_t *address),
		  void *arg)
{
	struct change *change;
	int r;

	if (instance->state != INSTANCE_RUNNING || instance->changes != NULL) {
		return -EBUSY;
	}
	change = change_create(&look_kind, NULL);
	if (change == NULL) {
		return -ENOMEM;
	}
	change->look.told = told;
	change->look.arg = arg;
	r = changes_add(instance, change, NULL);
	return r == CHANGE_PENDING ? 0 : -EBUSY;
}
