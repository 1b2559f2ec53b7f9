/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Figures in two forms. For GET /metrics: Prometheus text. For the metrics file: one JSON object a
 * line with all of Firecracker's groups and fields (figures_keys.c), those that we have no figure for
 * 0; and, but under its name, what we have besides. At the start, each minute, when asked and at the end.
 *
 * In the file, as in Firecracker's, counters say what came since the line before; one that is lost
 * takes nothing with it, the next one covers both. Prometheus gets totals. A file that takes nothing
 * delays nobody: its lines are lost and counted. Main thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"

#define GROUP_NAME_SIZE 80

#define PERIOD_NS (60 * 1000000000ULL)

/* The group of that name, made if it is not there; borrowed. */
static json_t *group(json_t *all, const char *name)
{
	json_t *found = json_object_get(all, name);

	if (found == NULL && json_put(all, name, json_object())) {
		found = json_object_get(all, name);
	}
	return found;
}

/* Under the name firecracker nothing of ours is beside its keys. */
static bool known(const struct instance *instance, const json_t *object, const char *key)
{
	return !instance->settings.firecracker || json_object_get(object, key) != NULL;
}

static void set_number(const struct instance *instance, json_t *object, const char *key,
		       uint64_t value)
{
	if (known(instance, object, key)) {
		(void)json_put_number(object, key, value);
	}
}

static void add_number(const struct instance *instance, json_t *object, const char *key,
		       uint64_t value)
{
	uint64_t before = (uint64_t)json_integer_value(json_object_get(object, key));

	set_number(instance, object, key, before + value);
}

/* --- requests ---------------------------------------------------------------------------------- */

static const struct counted {
	const char *group, *name;
	enum request_type type;
} counted[] = {
	{ "get_api_requests", "instance_info", REQUEST_GET_INSTANCE },
	{ "get_api_requests", "vmm_version", REQUEST_GET_VERSION },
	{ "get_api_requests", "machine_cfg", REQUEST_GET_MACHINE_CONFIG },
	{ "get_api_requests", "vm_cfg", REQUEST_GET_VM_CONFIG },
	{ "get_api_requests", "vm", REQUEST_GET_VM },
	{ "put_api_requests", "actions", REQUEST_PUT_ACTION },
	{ "put_api_requests", "boot_source", REQUEST_PUT_BOOT_SOURCE },
	{ "put_api_requests", "drive", REQUEST_PUT_DISK },
	{ "put_api_requests", "logger", REQUEST_PUT_LOGGER },
	{ "put_api_requests", "machine_cfg", REQUEST_PUT_MACHINE_CONFIG },
	{ "put_api_requests", "cpu_cfg", REQUEST_PUT_CPU_CONFIG },
	{ "put_api_requests", "metrics", REQUEST_PUT_METRICS },
	{ "put_api_requests", "network", REQUEST_PUT_NET },
	{ "put_api_requests", "serial", REQUEST_PUT_SERIAL },
	{ "put_api_requests", "entropy", REQUEST_PUT_ENTROPY },
	{ "patch_api_requests", "drive", REQUEST_PATCH_DISK },
	{ "patch_api_requests", "network", REQUEST_PATCH_NET },
	{ "patch_api_requests", "machine_cfg", REQUEST_PATCH_MACHINE_CONFIG },
	{ "patch_api_requests", "vm", REQUEST_PATCH_VM },
};

static void put_requests(const struct instance *instance, json_t *all)
{
	for (size_t i = 0; i < ARRAY_SIZE(counted); i++) {
		const struct request_count *count = &instance->counts[counted[i].type];
		json_t *place = group(all, counted[i].group);
		char key[64];

		(void)snprintf(key, sizeof(key), "%s_count", counted[i].name);
		set_number(instance, place, key, count->made);
		if (strcmp(counted[i].group, "get_api_requests") != 0) {
			(void)snprintf(key, sizeof(key), "%s_fails", counted[i].name);
			set_number(instance, place, key, count->failed);
		}
	}
}

/* --- the machine ------------------------------------------------------------------------------- */

/* Under Firecracker's names what it counts as well; the others keep ours. */
static void add_figure(const struct instance *instance, json_t *place,
		       const struct vm_figure *figure)
{
	const char *name = figure->theirs;
	size_t len;

	if (name == NULL) {
		add_number(instance, place, figure->name, figure->value);
		return;
	}
	for (; *name != '\0'; name += len + (name[len] == ' ')) {
		char key[64];

		len = strcspn(name, " ");
		(void)snprintf(key, sizeof(key), "%.*s", (int)len, name);
		add_number(instance, place, key, figure->value);
	}
}

static void group_name(char name[GROUP_NAME_SIZE], const char *of, const char *id)
{
	(void)snprintf(name, GROUP_NAME_SIZE, "%s_%s", of, id);
}

struct visit {
	const struct instance *instance;
	json_t *all;
};

/* The reads of drive "rootfs" belong to "block_rootfs" and to "block". */
static void visit_figure(void *arg, const struct vm_figure *figure)
{
	const struct visit *visit = arg;
	char name[GROUP_NAME_SIZE];

	if (figure->group == NULL) {
		return;
	}
	add_figure(visit->instance, group(visit->all, figure->group), figure);
	if (figure->each) {
		group_name(name, figure->group, figure->id);
		add_figure(visit->instance, group(visit->all, name), figure);
	}
}

/* "block_rootfs" has the fields of "block". Before there are figures. */
static void copy_group(json_t *all, const char *of, const char *id)
{
	char name[GROUP_NAME_SIZE];

	group_name(name, of, id);
	(void)json_put(all, name, json_deep_copy(json_object_get(all, of)));
}

static void put_devices(const struct instance *instance, json_t *all)
{
	const struct vm_config *vm = &instance->config->vm;
	struct visit visit = { instance, all };

	for (uint32_t i = 0; i < vm->disk_count; i++) {
		copy_group(all, "block", vm->disks[i].id);
	}
	for (uint32_t i = 0; i < vm->net_count; i++) {
		copy_group(all, "net", vm->nets[i].id);
	}
	vm_visit_figures(instance->vm, visit_figure, &visit);
}

static void add_exits(const struct instance *instance, json_t *sum,
		      const struct vm_vcpu_stats *stats)
{
	const struct {
		const char *key;
		uint64_t value;
	} exits[] = {
		{ "exit_io_in", stats->exits_io - MIN(stats->exits_io, stats->exits_io_out) },
		{ "exit_io_out", stats->exits_io_out },
		{ "exit_mmio_read",
		  stats->exits_mmio - MIN(stats->exits_mmio, stats->exits_mmio_write) },
		{ "exit_mmio_write", stats->exits_mmio_write },
		{ "exit_io", stats->exits_io },
		{ "exit_mmio", stats->exits_mmio },
		{ "exit_other", stats->exits_other },
		{ "cpu_time_us", stats->cpu_time_ns / 1000 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(exits); i++) {
		add_number(instance, sum, exits[i].key, exits[i].value);
	}
}

static void put_vcpus(const struct instance *instance, json_t *all)
{
	json_t *sum = group(all, "vcpu");

	for (uint32_t i = 0; i < vm_vcpu_count(instance->vm); i++) {
		struct vm_vcpu_stats stats = { 0 };

		vm_vcpu_stats(instance->vm, i, &stats);
		add_exits(instance, sum, &stats);
	}
}
/* Counters since the VM was made. */
static json_t *totals(const struct instance *instance)
{
	const struct request_count *updates = &instance->counts[REQUEST_PATCH_DISK];
	const struct log_counts lines = log_counts();
	json_t *all = figures_zeroes();
	struct vm_stats stats = { 0 };
	json_t *logger = group(all, "logger");

	put_requests(instance, all);
	if (instance->vm != NULL) {
		put_vcpus(instance, all);
		put_devices(instance, all);
		vm_stats(instance->vm, &stats);
	}
	set_number(instance, group(all, "vmm"), "resets", stats.resets);
	set_number(instance, group(all, "vmm"), "events", instance->events.last);
	set_number(instance, group(all, "block"), "update_count", updates->made);
	set_number(instance, group(all, "block"), "update_fails", updates->failed);
	set_number(instance, logger, "missed_metrics_count", instance->metrics.lost);
	set_number(instance, logger, "missed_log_count", lines.lost);
	set_number(instance, logger, "rate_limited_log_count", lines.limited);
	set_number(instance, group(all, "signals"), "sigpipe", instance->sigpipes);
	set_number(instance, group(all, "uart"), "rate_limiter_dropped_bytes",
		   atomic_load(&instance->serial.lost_bytes));
	return all;
}

/* --- the metrics file -------------------------------------------------------------------------- */

static void subtract(json_t *group, const json_t *before)
{
	for (void *i = json_object_iter(group); i != NULL; i = json_object_iter_next(group, i)) {
		json_t *value = json_object_iter_value(i);
		const json_t *then = json_object_get(before, json_object_iter_key(i));

		(void)json_integer_set(value, json_integer_value(value) - json_integer_value(then));
	}
}

/* What came since `before`, which may be NULL. */
static json_t *difference(const json_t *now, const json_t *before)
{
	json_t *all = json_deep_copy(now);

	for (void *i = json_object_iter(all); i != NULL; i = json_object_iter_next(all, i)) {
		subtract(json_object_iter_value(i),
			 json_object_get(before, json_object_iter_key(i)));
	}
	return all;
}

/* What is no counter. */
static void put_moment(struct instance *instance, json_t *all)
{
	json_t *vmm = group(all, "vmm");

	if (instance->config->vm.metrics.emit_id) {
		(void)json_put(all, "id", json_string(instance->settings.id));
	}
	(void)json_put_number(all, "utc_timestamp_ms", event_time_ms());
	(void)json_put_number(group(all, "api_server"), "process_startup_time_us",
			      instance->settings.startup_us);
	(void)json_put_number(group(all, "api_server"), "process_startup_time_cpu_us",
			      instance->settings.startup_cpu_us);
	if (instance->settings.firecracker) {
		return;
	}
	(void)json_put_number(vmm, "uptime_ms", instance_uptime_ns(instance) / 1000000);
	(void)json_put_number(vmm, "resident_bytes", resident_bytes(instance));
}

void figures_flush(struct instance *instance)
{
	auto_json json_t *now = NULL;
	auto_json json_t *line = NULL;
	auto_free char *text = NULL;

	if (instance->metrics.fd < 0) {
		return;
	}
	now = totals(instance);
	line = difference(now, instance->metrics_before);
	put_moment(instance, line);
	text = json_dumps(line, JSON_COMPACT);
	if (text == NULL) {
		instance->metrics.lost++;
	} else if (output_write(&instance->metrics, text, strlen(text))) {
		json_decref(instance->metrics_before);
		instance->metrics_before = take_ptr(now);
	}
}

static void minute_passed(struct loop_timer *timer)
{
	struct instance *instance = container_of(timer, struct instance, metrics_timer);

	figures_flush(instance);
	loop_timer_set(instance->host->loop, timer, PERIOD_NS, minute_passed);
}

void figures_begin(struct instance *instance)
{
	if (instance->metrics.fd >= 0) {
		minute_passed(&instance->metrics_timer);
	}
}

void figures_end(struct instance *instance)
{
	loop_timer_cancel(&instance->metrics_timer);
	figures_flush(instance);
}

/* --- Prometheus -------------------------------------------------------------------------------- */

void instance_write_metrics(struct instance *instance, struct metrics_text *text)
{
	metrics_begin(text, "vmm_info", METRIC_GAUGE, "The program, always 1");
	metrics_sample(text, "version", VMM_VERSION, 1);
	metrics_begin(text, "vmm_state", METRIC_GAUGE, "1 for the state that the VM is in");
	for (int state = INSTANCE_NOT_STARTED; state < INSTANCE_STATES; state++) {
		metrics_sample(text, "state", instance_state_name((enum instance_state)state),
			       instance_state(instance) == (enum instance_state)state);
	}
	metrics_begin(text, "vmm_uptime_seconds", METRIC_GAUGE, "Since the VM first ran");
	metrics_sample_seconds(text, NULL, NULL, instance_uptime_ns(instance));
	metrics_number(text, "vmm_memory_bytes", METRIC_GAUGE, "Memory of the guest",
		       instance->config->vm.machine.memory_size);
	metrics_number(text, "vmm_resident_bytes", METRIC_GAUGE,
		       "Memory of the process that is resident, the guest's included",
		       resident_bytes(instance));
	metrics_number(text, "vmm_events_total", METRIC_COUNTER, "Events in the log",
		       instance->events.last);
	metrics_number(text, "vmm_metrics_lines_lost_total", METRIC_COUNTER,
		       "Lines that the metrics file has not taken", instance->metrics.lost);
	metrics_number(text, "vmm_migration_throttle_percent", METRIC_GAUGE,
		       "Of their time that processors are kept from running for a migration",
		       atomic_load(&instance->migration.throttle));
	metrics_number(text, "vmm_serial_output_lost_bytes_total", METRIC_COUNTER,
		       "Output of the serial port beyond its limit, or not taken by its file",
		       atomic_load(&instance->serial.lost_bytes));
	if (instance->vm != NULL) {
		vm_write_metrics(instance->vm, text);
	}
}
