// SPDX-License-Identifier: Apache-2.0
/*
 * Asking many VMs for their state at once. One thread per VM, at most ASKERS of them: a VM that is
 * stuck costs its own time limit, and the others' answers do not wait for it.
 *
 * What a VM answers is another process's: text is cut, and what is missing or of a wrong type is 0.
 */
#include "vm_status.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "vmm/cleanup.h"
#include "vmm/run_directory.h"

#define ASKERS 32

static uint64_t number_at(const json_t *object, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(object, key));

	return n > 0 ? (uint64_t)n : 0;
}

static void copy_printable(char *buf, size_t size, const char *text)
{
	size_t len = 0;

	for (; text != NULL && text[len] != '\0' && len + 1 < size; len++) {
		buf[len] = text[len] >= ' ' && text[len] <= '~' ? text[len] : '?';
	}
	buf[len] = '\0';
}

/* By the job that it has. */
static const char *moving(const json_t *job)
{
	static const struct {
		const char *key, *value, *shown;
	} words[] = {
		{ "phase", "in doubt", "in doubt" },
		{ "phase", "blocked", "blocked" },
		{ "phase", "serves memory", "moved, serves memory" },
		{ "phase", "memory waits", "moved, serves memory: waits" },
		{ "phase", "memory comes", "memory comes" },
		{ "phase", "waits for memory", "waits for memory" },
		{ "kind", "migration", "moves" },
		{ "kind", "receive", "arrives" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		const char *text = json_string_value(json_object_get(job, words[i].key));

		if (text != NULL && strcmp(text, words[i].value) == 0) {
			return words[i].shown;
		}
	}
	return NULL;
}

void vm_status_read(struct vm_status *status, const json_t *vm)
{
	const json_t *memory = json_object_get(vm, "memory");
	const json_t *disk = json_object_get(vm, "disk"), *net = json_object_get(vm, "net");
	const json_t *vcpu;
	size_t i;

	*status = (struct vm_status){
		.answered = true,
		.uptime_ms = number_at(vm, "uptime_ms"),
		.vcpus = number_at(vm, "vcpu_count"),
		.memory = number_at(memory, "size_bytes"),
		.resident = number_at(memory, "resident_bytes"),
		.disk_bytes = number_at(disk, "read_bytes") + number_at(disk, "written_bytes"),
		.net_bytes = number_at(net, "received_bytes") + number_at(net, "sent_bytes"),
		.pid = number_at(vm, "pid")
	};
	copy_printable(status->state, sizeof(status->state),
		       json_string_value(json_object_get(vm, "state")));
	status->moving = moving(json_object_get(vm, "job"));
	json_array_foreach(json_object_get(vm, "vcpus"), i, vcpu)
	{
		const json_t *exits = json_object_get(vcpu, "exits");

		status->cpu_time_us += number_at(vcpu, "cpu_time_us");
		status->exits += number_at(exits, "io") + number_at(exits, "mmio") +
				 number_at(exits, "other");
	}
}

static void ask_one(struct vm_asked *asked, int timeout_ms)
{
	struct vm_status *status = &asked->status;
	auto_close int dir_fd = -1, pidfd = -1;
	auto_json json_t *vm = NULL;
	bool alive = false;
	pid_t pid = 0;

	if (run_directory_find(asked->name, &dir_fd, &alive, NULL) < 0 || !alive) {
		*status = (struct vm_status){ .state = "ended" };
		return;
	}
	if (client_call_at(dir_fd, timeout_ms, "GET", "/vm", NULL, &vm, NULL) == 0 && vm != NULL) {
		vm_status_read(status, vm);
	} else {
		*status = (struct vm_status){ .state = "not answering" };
	}
	if (status->pid == 0 && run_directory_process(dir_fd, &pidfd, &pid, NULL) == 0) {
		status->pid = (uint64_t)pid;
	}
}

struct asking {
	struct vm_asked *list;
	size_t count;
	int timeout_ms;
	_Atomic size_t next;
};

static void *ask_some(void *arg)
{
	struct asking *asking = arg;
	size_t i;

	while ((i = atomic_fetch_add(&asking->next, 1)) < asking->count) {
		if (asking->list[i].name != NULL) {
			ask_one(&asking->list[i], asking->timeout_ms);
		}
	}
	return NULL;
}

void vm_status_ask(struct vm_asked *list, size_t count, int timeout_ms)
{
	struct asking asking = { .list = list, .count = count, .timeout_ms = timeout_ms };
	pthread_t threads[ASKERS];
	size_t started = 0;

	json_prepare();
	while (started < ASKERS && started + 1 < count &&
	       pthread_create(&threads[started], NULL, ask_some, &asking) == 0) {
		started++;
	}
	(void)ask_some(&asking);
	while (started > 0) {
		(void)pthread_join(threads[--started], NULL);
	}
}

const char *show_bytes(char buf[FIGURE_SIZE], uint64_t bytes)
{
	static const char units[] = "KMGTPE";
	uint64_t scaled = bytes; /* in 1/1024 of the unit that is tried */
	size_t unit = 0;

	while (scaled >= MIB(1) && units[unit + 1] != '\0') {
		scaled /= 1024;
		unit++;
	}
	if (bytes < 1024) {
		(void)snprintf(buf, FIGURE_SIZE, "%u", (unsigned int)bytes);
	} else if (scaled < KIB(10)) {
		(void)snprintf(buf, FIGURE_SIZE, "%u.%u%c", (unsigned int)(scaled / 1024),
			       (unsigned int)(scaled % 1024 * 10 / 1024), units[unit]);
	} else {
		(void)snprintf(buf, FIGURE_SIZE, "%u%c", (unsigned int)(scaled / 1024),
			       units[unit]);
	}
	return buf;
}

const char *show_duration(char buf[FIGURE_SIZE], uint64_t seconds)
{
	static const struct {
		uint64_t from, unit;
		char letter;
	} units[] = { { 172800, 86400, 'd' }, { 7200, 3600, 'h' }, { 120, 60, 'm' } };

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (seconds >= units[i].from) {
			(void)snprintf(buf, FIGURE_SIZE, "%" PRIu64 "%c", seconds / units[i].unit,
				       units[i].letter);
			return buf;
		}
	}
	(void)snprintf(buf, FIGURE_SIZE, "%us", (unsigned int)seconds);
	return buf;
}
