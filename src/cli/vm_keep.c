// SPDX-License-Identifier: Apache-2.0
/*
 * See vm_keep.h. The definition is made of the configuration on main, which takes some microseconds,
 * and written by a thread of its own: syncing a file takes longer than a start.
 * What is written at the end goes to a descriptor that was opened before.
 */
#include "vm_keep.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "definition.h"
#include "parked.h"
#include "vmm/cleanup.h"
#include "vmm/definition_store.h"
#include "vmm/log.h"
#include "vmm/text.h"

LOG_DOMAIN("keep");

int vm_keep_check(const char *name, struct error *e)
{
	struct definition definition;
	struct error why = { 0 };
	bool created;

	if (parked_check(name, e) < 0) {
		return -EEXIST;
	}
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
		    struct instance *instance, const struct vm_keep_what *what, struct error *e)
{
	const struct vm *vm = instance_vm(instance);
	json_t *config = NULL;
	int r = run_directory_open(directory, "events.json", &keep->events_fd, e);

	keep->name = directory->name;
	if (r < 0 || what->definition_stays) {
		return r;
	}
	r = instance_describe(instance, &config, e);
	if (r < 0) {
		return r;
	}
	keep->definition = definition_make(config, what->settings,
					   vm != NULL ? vm_cmdline(vm) : NULL, what->created);
	return keep->definition != NULL
		       ? 0
		       : error_set(e, ERROR_NO_MEMORY, ENOMEM, "definition: out of memory");
}

void vm_keep_settle(struct vm_keep *keep)
{
	struct error e = { 0 };

	if (keep->definition != NULL && definition_save(keep->name, keep->definition, &e) < 0) {
		log_warn("no definition is kept, vmm start will not find the VM: %s", e.msg);
	}
	keep->directory_fd = definition_open_directory(keep->name, NULL);
}

void vm_keep_forget(struct vm_keep *keep)
{
	struct error e = { 0 };

	if (keep->directory_fd >= 0 && definition_remove_at(keep->directory_fd, &e) < 0) {
		log_warn("vmm start could start the VM here once more: %s", e.msg);
	}
}

void vm_keep_events(struct vm_keep *keep, struct instance *instance)
{
	struct event_log *events = instance != NULL ? instance_events(instance) : NULL;

	if (keep->events_fd < 0 || events == NULL) {
		return;
	}
	for (uint64_t seq = 1; seq <= events->last; seq++) {
		const char *line = event_log_line(events, seq);
		int r = line != NULL ? write_all(keep->events_fd, line, strlen(line)) : 0;

		if (r < 0) {
			log_warn("events.json: %s", strerror(-r));
			return;
		}
	}
}

void vm_keep_finish(struct vm_keep *keep)
{
	json_decref(keep->definition);
	keep->definition = NULL;
	close_fd(&keep->events_fd);
	close_fd(&keep->directory_fd);
}
