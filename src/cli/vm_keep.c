// SPDX-License-Identifier: Apache-2.0
/*
 * See vm_keep.h. The definition is made of the configuration on main, which takes some microseconds,
 * and written by the thread that starts the VM's workers: syncing a file takes longer than a start.
 * What is written at the end goes to a descriptor that was opened before.
 */
#include "vm_keep.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "definition.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"

LOG_DOMAIN("keep");

int vm_keep_check(const char *name, struct error *e)
{
	struct definition definition;
	struct error why = { 0 };
	bool created;

	if (definition_load(&definition, name, &why) < 0) {
		/* None, or one that nobody can start: it is replaced. */
		return 0;
	}
	created = definition.created;
	definition_finish(&definition);
	if (!created) {
		return 0;
	}
	(void)error_set(e, ERROR_EXISTS, EEXIST, "a VM named '%s' was created already", name);
	return error_hint(e, "vmm start %s starts it, vmm rm %s removes it", name, name);
}

int vm_keep_prepare(struct vm_keep *keep, const struct run_directory *directory,
		    struct instance *instance, const struct run_settings *settings, bool created,
		    struct error *e)
{
	const struct vm *vm = instance_vm(instance);
	json_t *config = NULL;
	int r = run_directory_open(directory, "events.json", &keep->events_fd, e);

	if (r == 0) {
		r = instance_describe(instance, &config, e);
	}
	if (r < 0) {
		return r;
	}
	keep->name = directory->name;
	keep->definition =
		definition_make(config, settings, vm != NULL ? vm_cmdline(vm) : NULL, created);
	return keep->definition != NULL
		       ? 0
		       : error_set(e, ERROR_NO_MEMORY, ENOMEM, "definition: out of memory");
}

void vm_keep_settle(struct vm_keep *keep)
{
	struct error e = { 0 };

	if (definition_save(keep->name, keep->definition, &e) < 0) {
		log_warn("no definition is kept, vmm start will not find the VM: %s", e.msg);
	}
}

static bool write_all(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno != EINTR) {
			return false;
		}
		text += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return true;
}

void vm_keep_events(struct vm_keep *keep, struct instance *instance)
{
	struct event_log *events = instance != NULL ? instance_events(instance) : NULL;

	if (keep->events_fd < 0 || events == NULL) {
		return;
	}
	for (uint64_t seq = 1; seq <= events->last; seq++) {
		const char *line = event_log_line(events, seq);

		if (line != NULL && !write_all(keep->events_fd, line, strlen(line))) {
			log_warn("events.json: %s", strerror(errno));
			return;
		}
	}
}

void vm_keep_finish(struct vm_keep *keep)
{
	json_decref(keep->definition);
	keep->definition = NULL;
	close_fd(&keep->events_fd);
}
