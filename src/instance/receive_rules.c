/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See receive_rules.h. Paths are compared by name, and nothing is opened here: that is for who makes the VM.
 */
#include "receive_rules.h"

#include <errno.h>
#include <string.h>

/* The client has said, of the device of that id, what `key` is. */
static bool has_override(const json_t *list, const char *id_key, const char *id, const char *key)
{
	const json_t *entry;
	size_t i;

	json_array_foreach(list, i, entry)
	{
		const char *given = json_string_value(json_object_get(entry, id_key));

		if (given != NULL && strcmp(given, id) == 0 &&
		    json_is_string(json_object_get(entry, key))) {
			return true;
		}
	}
	return false;
}

/* Below the folder by its name; where links in there lead is its owner's affair. */
static bool is_below(const char *folder, const char *path)
{
	size_t len = strlen(folder);

	while (len > 0 && folder[len - 1] == '/') {
		len--;
	}
	return path[0] == '/' && strncmp(path, folder, len) == 0 && path[len] == '/' &&
	       strstr(path, "/../") == NULL &&
	       (strlen(path) < 3 || strcmp(path + strlen(path) - 3, "/..") != 0);
}

static int check_path(const struct receive_rules *rules, const char *what, const char *id,
		      const char *path, const char *cure, struct error *e)
{
	if (path == NULL || (rules->allow != NULL && is_below(rules->allow, path))) {
		return 0;
	}
	(void)error_set(e, ERROR_CONFIG, EACCES,
			"%s%s%.64s%s: the other side names '%.150s', which may not be opened here",
			what, id != NULL ? " '" : "", id != NULL ? id : "", id != NULL ? "'" : "",
			path);
	return error_hint(e, "vmm receive: --allow FOLDER allows files in there%s", cure);
}

static int check_paths(const struct receive_rules *rules, const struct vm_config *vm,
		       const json_t *disks, struct error *e)
{
	int r = check_path(rules, "kernel", NULL, vm->boot.kernel, "", e);

	r = r == 0 ? check_path(rules, "initrd", NULL, vm->boot.initrd, "", e) : r;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(vm->boot.more_initrds); i++) {
		r = check_path(rules, "initrd", NULL, vm->boot.more_initrds[i], "", e);
	}
	/* Who names another base has not named another overlay, nor the reverse: each is judged by itself. */
	for (uint32_t i = 0; r == 0 && i < vm->disk_count; i++) {
		const struct block_config *disk = &vm->disks[i];

		if (!has_override(disks, "drive_id", disk->id, "path_on_host")) {
			r = check_path(rules, "drive", disk->id, disk->path,
				       ", --disk ID=PATH names another", e);
		}
		if (r == 0 && !has_override(disks, "drive_id", disk->id, "overlay")) {
			r = check_path(rules, "drive", disk->id, disk->overlay,
				       ", --disk ID=overlay:PATH names another", e);
		}
	}
	return r;
}

static int check_nets(const struct vm_config *vm, const struct snapshot_load_request *request,
		      struct error *e)
{
	for (uint32_t i = 0; i < vm->net_count; i++) {
		const char *id = vm->nets[i].id;
		bool given = has_override(request->nets, "iface_id", id, "host_dev_name");

		for (uint32_t k = 0; k < request->net_fd_count; k++) {
			given |= strcmp(request->net_fds[k].id, id) == 0;
		}
		if (!given) {
			(void)error_set(
				e, ERROR_CONFIG, EACCES,
				"network card '%.64s': what it is connected to here is not said",
				id);
			return error_hint(e, "vmm receive: --net %.64s=tap:NAME says it", id);
		}
	}
	return 0;
}

static int check_memory(const struct receive_rules *rules, const struct vm_config *vm,
			struct error *e)
{
	const uint64_t size = vm->machine.memory_size;

	if (rules->memory_max == 0 || size <= rules->memory_max) {
		return 0;
	}
	(void)error_set(e, ERROR_CONFIG, E2BIG,
			"the VM has %llu MiB, more than the %llu MiB allowed here",
			(unsigned long long)(size / MIB(1)),
			(unsigned long long)(rules->memory_max / MIB(1)));
	return error_hint(e, "vmm receive: --max-memory SIZE allows more");
}

int receive_rules_check(const struct receive_rules *rules, const struct vm_config *vm,
			const struct snapshot_load_request *request, struct error *e)
{
	int r = check_memory(rules, vm, e);

	if (rules->anything) {
		return r;
	}
	r = r == 0 ? check_paths(rules, vm, request->disks, e) : r;
	return r == 0 ? check_nets(vm, request, e) : r;
}

/* --- disks --------------------------------------------------------------------------------------- */

struct comparing {
	const json_t *expected;
	struct error *e;
	int result;
};

static void compare_disk(void *arg, const char *id, uint64_t bytes)
{
	struct comparing *comparing = arg;
	const json_t *there = json_object_get(comparing->expected, id);
	const json_int_t want = json_integer_value(there);

	if (comparing->result < 0 ||
	    (json_is_integer(there) && want >= 0 && (uint64_t)want == bytes)) {
		return;
	}
	(void)error_set(comparing->e, ERROR_DISK, EINVAL,
			"drive '%.64s' has %llu bytes here, and %lld where the VM runs", id,
			(unsigned long long)bytes, (long long)want);
	comparing->result =
		error_hint(comparing->e, "it has to be the same disk, which both hosts share");
}

int receive_rules_compare_disks(const json_t *bytes, struct vm *vm, struct error *e)
{
	struct comparing comparing = { .expected = bytes, .e = e };

	vm_visit_disks(vm, compare_disk, &comparing);
	return comparing.result;
}
