/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that read: what the instance and its VM are at this moment, as JSON. Main thread; nothing
 * here changes anything or waits.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/cleanup.h"

static const char *const reason_names[] = {
	[VM_STOP_NONE] = "none",
	[VM_STOP_POWER_OFF] = "power-off",
	[VM_STOP_REBOOT] = "reboot",
	[VM_STOP_PANIC] = "panic",
	[VM_STOP_TRIPLE_FAULT] = "triple-fault",
	[VM_STOP_DEBUG_EXIT] = "debug-exit",
	[VM_STOP_REQUESTED] = "stopped",
	[VM_STOP_ERROR] = "error",
	[VM_STOP_BOOT_LOOP] = "boot-loop",
	[VM_STOP_MOVED] = "moved",
};

const char *stop_reason_name(enum vm_stop_reason reason)
{
	return reason_names[reason];
}

/* Firecracker knows three states; a VM that ended is one that is not there. Its clients take
 * `vmm_version` for the level of the API, and know no other keys than its own. */
json_t *answer_instance(struct instance *instance)
{
	const char *name = instance_states[instance->state].shown;

	if (instance->settings.firecracker) {
		return json_pack("{s:s, s:s, s:s, s:s}", "id", instance->settings.id, "state", name,
				 "vmm_version", INSTANCE_API_LEVEL, "app_name", "Firecracker");
	}
	return json_pack("{s:s, s:s, s:s, s:s, s:s}", "id", instance->settings.id, "state", name,
			 "vmm_version", VMM_VERSION, "firecracker_version", INSTANCE_API_LEVEL,
			 "app_name", "vmm");
}

json_t *answer_version(struct instance *instance)
{
	if (instance->settings.firecracker) {
		return json_pack("{s:s}", "firecracker_version", INSTANCE_API_LEVEL);
	}
	return json_pack("{s:s, s:s}", "firecracker_version", INSTANCE_API_LEVEL, "vmm_version",
			 VMM_VERSION);
}

json_t *describe_stop(const struct vm_stop *stop)
{
	json_t *object = json_pack("{s:s}", "reason", reason_names[stop->reason]);

	if (stop->reason == VM_STOP_DEBUG_EXIT) {
		(void)json_object_set_new(object, "code", json_integer(stop->code));
	}
	if (stop->reason == VM_STOP_ERROR || stop->reason == VM_STOP_BOOT_LOOP) {
		(void)json_object_set_new(object, "error",
					  json_pack("{s:s, s:s}", "code",
						    error_code_name(stop->error.code), "message",
						    stop->error.msg));
	}
	return object;
}

uint64_t resident_bytes(struct instance *instance)
{
	int fd = atomic_load(&instance->statm_fd);
	char text[128];
	uint64_t pages = 0;
	ssize_t n;
	char *end;

	if (fd < 0) {
		return 0;
	}
	/* "SIZE RESIDENT SHARED ...", in pages (proc(5)). */
	n = pread(fd, text, sizeof(text) - 1, 0);
	if (n <= 0) {
		return 0;
	}
	text[n] = '\0';
	(void)strtoull(text, &end, 10);
	pages = strtoull(end, NULL, 10);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

int open_statm(void)
{
	return open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
}

static json_t *describe_vcpus(const struct instance *instance)
{
	json_t *list = json_array();

	for (uint32_t i = 0; instance->vm != NULL && i < vm_vcpu_count(instance->vm); i++) {
		struct vm_vcpu_stats stats = { 0 };
		json_t *vcpu;

		vm_vcpu_stats(instance->vm, i, &stats);
		vcpu = json_pack("{s:i, s:I, s:{s:I, s:I, s:I}}", "index", (int)i, "cpu_time_us",
				 (json_int_t)(stats.cpu_time_ns / 1000), "exits", "io",
				 (json_int_t)stats.exits_io, "mmio", (json_int_t)stats.exits_mmio,
				 "other", (json_int_t)stats.exits_other);
		if (json_array_append_new(list, vcpu) != 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *or_null(json_t *value)
{
	return value != NULL ? value : json_null();
}

json_t *answer_vm(struct instance *instance)
{
	struct vm_stats stats = { 0 };
	uint32_t vcpus = instance->config->vm.machine.vcpus;
	uint64_t job = jobs_current(instance->jobs);

	if (instance->vm != NULL) {
		vm_stats(instance->vm, &stats);
		vcpus = vm_vcpu_count(instance->vm);
	}
	return json_pack(
		"{s:s, s:s, s:I, s:i, s:i, s:o, s:{s:I, s:I}, s:{s:I, s:I}, s:{s:I, s:I}, s:I, "
		"s:o, s:o, s:o*}",
		"id", instance->settings.id, "state", instance_state_name(instance->state),
		"uptime_ms", (json_int_t)(instance_uptime_ns(instance) / 1000000), "pid",
		(int)getpid(), "vcpu_count", (int)vcpus, "vcpus", describe_vcpus(instance),
		"memory", "size_bytes", (json_int_t)instance->config->vm.machine.memory_size,
		"resident_bytes", (json_int_t)resident_bytes(instance), "disk", "read_bytes",
		(json_int_t)stats.disk_read, "written_bytes", (json_int_t)stats.disk_written, "net",
		"received_bytes", (json_int_t)stats.net_received, "sent_bytes",
		(json_int_t)stats.net_sent, "resets", (json_int_t)stats.resets, "job",
		or_null(job != 0 ? jobs_describe(instance->jobs, job) : NULL), "ended",
		or_null(instance->stop != NULL ? describe_stop(instance->stop) : NULL),
		"kernel_cmdline",
		instance->vm != NULL ? json_string(vm_cmdline(instance->vm)) : NULL);
}
