/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A start from a snapshot, instead of from a configuration. Two steps on threads of their own
 * (start.c): what the snapshot says of the VM is read, and becomes the configuration; then the VM is built
 * of that and loaded. A failure of either leaves the instance as it was, and it may be tried again. The kernel is not
 * opened. Copies of disks for the VM are made between (restored_disks.h).
 *
 * Threads: one at a time works on a struct restore; main owns it between the two, and may cancel the first.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"
#include "restored_disks.h"
#include "upgrade.h"
#include "vmm/cleanup.h"
#include "vmm/options_json.h"
#include "vmm/sandbox.h"
#include "vmm/snapshot.h"

/* More do not make a disk faster. */
#define READ_THREADS_MAX 8

struct restore {
	struct snapshot_load_request request; /* its strings are its own */
	struct snapshot_reader *reader;
	char *cmdline;
	struct restored_disks disks;
	_Atomic bool cancelled;
	bool early;	       /* it is still written */
	struct config *draft;  /* what was read, until it is the configuration */
	struct config *before; /* what was the configuration, while that may come back */
	const struct instance_settings *settings;
	enum guest_memory_backing backing; /* of memory that is not mapped from files */
	bool transparent;		   /* huge pages in it */
	/* The VM comes from elsewhere, not from a snapshot: in place of `reader`. */
	struct receive *receive;
	const struct offer *offer;
	uint64_t memory_size;
};

/* Another process brings the pages. */
static bool is_outside(const struct snapshot_load_request *request)
{
	return request->has_backend && request->backend.type == SNAPSHOT_BACKEND_UFFD;
}

void restore_destroy(struct restore *restore)
{
	if (restore == NULL) {
		return;
	}
	snapshot_reader_destroy(restore->reader);
	receive_destroy(restore->receive);
	config_drop(restore->draft, NULL);
	restored_disks_finish(&restore->disks);
	free(restore->cmdline);
	options_release(&snapshot_load_options, &restore->request);
	free(restore);
}

static int check_form(const struct snapshot_load_request *request, struct error *e)
{
	const bool file = request->memory_path != NULL || request->has_backend;

	if (request->has_backend && request->memory_path != NULL) {
		return error_set(
			e, ERROR_CONFIG, EINVAL,
			"too many fields: either `mem_backend` or `mem_file_path` exclusively "
			"is required");
	}
	if (request->directory != NULL && (file || request->state_path != NULL)) {
		return error_set(e, ERROR_CONFIG, EINVAL,
				 "snapshot: a directory and files are given; it is one or the "
				 "other");
	}
	if (request->directory == NULL && request->state_path == NULL) {
		(void)error_set(e, ERROR_CONFIG, EINVAL, "missing field `snapshot_path`");
		return error_hint(e, "or give a directory");
	}
	if (request->directory == NULL && !file) {
		return error_set(e, ERROR_CONFIG, EINVAL,
				 "missing field: either `mem_backend` or `mem_file_path` is "
				 "required");
	}
	if (request->record &&
	    (request->directory == NULL || request->memory != SNAPSHOT_MEMORY_LAZY)) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"record_working_set: only of a directory, with memory_mode lazy");
		return error_hint(e, "any other way of memory does not know what is asked for");
	}
	if (request->directory == NULL && request->disks_to != NULL) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"disks_to: a snapshot of two files has no copies of disks");
		return error_hint(e, "leave it out, or load a directory that has some");
	}
	return 0;
}

/* As with Firecracker: log and metrics may be there. */
static int check_fresh(const struct instance *instance, struct error *e)
{
	const struct vm_config *vm = &instance->config->vm;

	if (vm->boot.kernel != NULL || vm->disk_count != 0 || vm->net_count != 0 || vm->entropy ||
	    vm->cpu_config != NULL) {
		(void)error_set(e, ERROR_WRONG_STATE, EBUSY,
				"Loading a microVM snapshot not allowed after configuring "
				"boot-specific resources.");
		return error_hint(e, "what a snapshot has is configured by it; it is loaded into a "
				     "fresh process");
	}
	return 0;
}

int restore_create(struct restore **ret, struct instance *instance, const struct request *request,
		   struct error *e)
{
	struct restore *restore;
	int r = check_form(request->object, e);

	if (r == 0) {
		r = check_fresh(instance, e);
	}
	if (r < 0) {
		return r;
	}
	restore = calloc(1, sizeof(*restore));
	if (restore == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "restore: out of memory");
	}
	restore->disks.folder = -1;
	r = options_clone(&snapshot_load_options, &restore->request, request->object,
			  sizeof(restore->request), e);
	if (r < 0) {
		free(restore);
		return r;
	}
	*ret = restore;
	return 0;
}

int restore_create_receive(struct restore **ret, struct instance *instance,
			   const struct receive_request *request, struct error *e)
{
	const struct snapshot_load_request load = { .nets = request->nets,
						    .disks = request->disks,
						    .net_fds = request->net_fds,
						    .net_fd_count = request->net_fd_count,
						    .track_dirty_pages =
							    request->track_dirty_pages };
	struct restore *restore;
	int r = check_fresh(instance, e);

	if (r < 0) {
		return r;
	}
	restore = calloc(1, sizeof(*restore));
	if (restore == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "receive: out of memory");
	}
	restore->disks.folder = -1;
	r = options_clone(&snapshot_load_options, &restore->request, &load, sizeof(load), e);
	if (r == 0) {
		r = receive_create(&restore->receive, instance, request, e);
	}
	if (r < 0) {
		restore_destroy(restore);
		return r;
	}
	*ret = restore;
	return 0;
}

bool restore_wants_resume(const struct restore *restore)
{
	return restore->request.resume;
}

void restore_cancel(struct restore *restore)
{
	atomic_store(&restore->cancelled, true);
	if (restore->receive != NULL) {
		receive_cancel(restore->receive);
	}
}

/* Where main itself is at it, a signal waits for it. */
static bool go_on(void *arg, uint64_t done, uint64_t total)
{
	const struct restore *restore = arg;
	sigset_t waiting;

	(void)done;
	(void)total;
	(void)sigemptyset(&waiting);
	(void)sigpending(&waiting);
	return !atomic_load(&restore->cancelled) && sigismember(&waiting, SIGINT) != 1 &&
	       sigismember(&waiting, SIGTERM) != 1;
}

static int read_config(struct restore *restore, const struct instance_settings *settings,
		       struct error *e)
{
	const char *config = snapshot_reader_info(restore->reader)->config;
	struct snapshot_load_request request = restore->request;
	struct restored_disks *disks = &restore->disks;
	int r = restored_disks_init(disks, config, &request, e);

	if (r == 0) {
		request.disks = disks->overrides;
		r = saved_config_read(&restore->draft, settings, config, &request, &disks->copies,
				      e);
	}
	return r == 0 ? restored_disks_make(disks, &restore->request,
					    snapshot_reader_directory(restore->reader), go_on,
					    restore, e)
		      : r;
}

/* What comes from elsewhere says where its files are; which of those may be opened is said here. */
static int read_offer(struct restore *restore, const struct instance_settings *settings,
		      struct error *e)
{
	struct snapshot_load_request request = restore->request;
	struct upgrade *upgrade;
	const struct disk_copies none = { 0 };
	auto_json json_t *disks = NULL;
	int r = receive_offer(restore->receive, &restore->offer, e);

	restore->settings = settings;
	if (r < 0) {
		return r;
	}
	restore->cmdline = strdup(restore->offer->cmdline);
	if (restore->cmdline == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "receive: out of memory");
	}
	upgrade = receive_upgrade(restore->receive);
	r = receive_override_disks(restore->receive, request.disks, &disks, e);
	request.disks = disks;
	r = r == 0 && upgrade != NULL ? upgrade_name_nets(upgrade, &request, e) : r;
	r = r == 0 ? saved_config_read(&restore->draft, settings, restore->offer->config, &request,
				       &none, e)
		   : r;
	if (r == 0 && upgrade != NULL) {
		upgrade_connect_nets(upgrade, &restore->draft->vm);
	}
	return r == 0 ? receive_check_config(restore->receive, &restore->draft->vm, &request, e)
		      : r;
}

int restore_read(struct restore *restore, const struct instance_settings *settings, struct error *e)
{
	const struct snapshot_load_request *request = &restore->request;
	const struct snapshot_reader_config config = {
		.paths = { .directory = request->directory,
			   .state = request->state_path,
			   .memory = request->has_backend ? request->backend.path
							  : request->memory_path },
		.state_only = is_outside(request),
		/* Its pages cannot be checked, nor read before they are there. */
		.early = request->directory != NULL && request->memory == SNAPSHOT_MEMORY_MAP,
	};
	const struct snapshot_info *info;
	int r;

	if (restore->receive != NULL) {
		return read_offer(restore, settings, e);
	}
	r = snapshot_reader_create(&restore->reader, &config, e);
	restore->settings = settings;
	if (r < 0) {
		return r;
	}
	info = snapshot_reader_info(restore->reader);
	restore->early = info->early;
	restore->cmdline = saved_cmdline(info->about);
	if (restore->cmdline == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "restore: out of memory");
	}
	return read_config(restore, settings, e);
}

int restore_commit(struct restore *restore, struct instance *instance, struct error *e)
{
	int r = config_keep_outputs(restore->draft, instance->config, e);

	if (r == 0) {
		restore->before = instance->config;
		instance->config = take_ptr(restore->draft);
	}
	return r;
}

/* Whose VM it is from now on. */
static void conclude_receive(struct restore *restore, struct instance *instance,
			     const struct error *failure)
{
	if (failure == NULL) {
		instance->receive = take_ptr(restore->receive);
	} else {
		receive_refuse(restore->receive, failure);
		migration_view_end(instance, failure);
	}
}

void restore_conclude(struct restore *restore, struct instance *instance,
		      const struct error *failure)
{
	const struct snapshot_load_request *request = &restore->request;
	const bool success = failure == NULL;

	if (restore->receive != NULL) {
		conclude_receive(restore, instance, failure);
	} else if (success && instance->config->vm.machine.track_dirty_pages &&
		   !is_outside(request) && !restore->early) {
		snapshot_parent_set(instance, request->directory, request->state_path,
				    request->has_backend ? request->backend.path
							 : request->memory_path);
	}
	/* Within its filter main can remove nothing. */
	if (!success && !sandbox_thread_entered()) {
		restored_disks_forget(&restore->disks);
	}
	if (restore->before != NULL && success) {
		config_drop(take_ptr(restore->before), instance->config);
	} else if (restore->before != NULL) {
		config_drop(instance->config, restore->before);
		instance->config = take_ptr(restore->before);
	}
}

/* On a thread that may outlive the restore. */
static int enter_pager(void *arg, struct error *e)
{
	const struct instance_settings *settings = arg;

	return sandbox_enter_thread(settings->sandbox, SANDBOX_ROLE_PAGER, e);
}

static uint32_t read_threads(void)
{
	long count = sysconf(_SC_NPROCESSORS_ONLN);

	return count < 1 ? 1 : (uint32_t)MIN(count, (long)READ_THREADS_MAX);
}

/* A machine on huge pages of hugetlb is on them again: they cannot be mapped from a file of another kind. */
static int fill(void *arg, struct guest_memory *mem, struct error *e)
{
	static const enum snapshot_load_mode modes[] = {
		[SNAPSHOT_MEMORY_MAP] = SNAPSHOT_LOAD_MAP_UNVERIFIED,
		[SNAPSHOT_MEMORY_VERIFY] = SNAPSHOT_LOAD_MAP,
		[SNAPSHOT_MEMORY_READ] = SNAPSHOT_LOAD_READ,
	};
	struct restore *restore = arg;
	const enum snapshot_memory memory = restore->request.memory;
	const struct snapshot_lazy lazy = { .backing = restore->backing,
					    .enter = enter_pager,
					    .arg = (void *)(uintptr_t)restore->settings,
					    .record = restore->request.record };
	struct snapshot_load how = { .backing = restore->backing, .threads = read_threads() };

	if (is_outside(&restore->request)) {
		return restore_ask_handler(snapshot_reader_info(restore->reader), mem,
					   restore->backing, restore->request.backend.path, e);
	}
	if (restore->early && restore->backing == GUEST_MEMORY_HUGETLB) {
		return error_set(e, ERROR_NOT_SUPPORTED, ENOTSUP,
				 "a child of a VM that runs cannot be on huge pages of hugetlb");
	}
	if (restore->early) {
		return snapshot_reader_load_early(&restore->reader, mem, &lazy, e);
	}
	if (memory == SNAPSHOT_MEMORY_LAZY) {
		return snapshot_reader_load_lazily(&restore->reader, mem, &lazy, e);
	}
	how.mode = restore->backing == GUEST_MEMORY_HUGETLB ? SNAPSHOT_LOAD_READ : modes[memory];
	how.huge_pages = restore->transparent;
	return snapshot_reader_load(restore->reader, mem, &how, e);
}

/* Empty: its pages come later. */
static int make_ram(void *arg, struct guest_memory *mem, struct error *e)
{
	const struct restore *restore = arg;
	int r = guest_memory_init(mem, restore->memory_size, restore->backing, e);

	if (r == 0 && restore->transparent) {
		guest_memory_use_huge_pages(mem);
	}
	return r == 0 ? receive_make_sink(restore->receive, mem, e) : r;
}

static struct vm_saved what_was_saved(struct restore *restore)
{
	const struct snapshot_load_request *request = &restore->request;
	struct vm_saved saved = { .arg = restore, .cmdline = restore->cmdline };

	if (restore->receive != NULL) {
		saved.state = restore->offer->state;
		saved.state_len = restore->offer->state_len;
		saved.fill = make_ram;
		saved.comes_later = saved.clock_steps = saved.disks_unlocked = true;
	} else {
		const struct snapshot_info *info = snapshot_reader_info(restore->reader);

		saved.state = info->machine;
		saved.state_len = info->machine_len;
		saved.fill = fill;
		saved.clock_steps =
			request->clock == SNAPSHOT_CLOCK_STEP || request->clock_realtime;
	}
	return saved;
}

int restore_make_vm(struct restore *restore, struct instance *instance, struct error *e)
{
	const struct vm_machine_config *machine = &instance->config->vm.machine;
	const struct vm_saved saved = what_was_saved(restore);
	struct upgrade *upgrade;
	int r;

	restore->backing = machine->huge_pages == VM_HUGE_PAGES_2M ||
					   machine->memory_backing == GUEST_MEMORY_HUGETLB
				   ? GUEST_MEMORY_HUGETLB
				   : GUEST_MEMORY_AUTO;
	restore->transparent = machine->huge_pages == VM_HUGE_PAGES_TRANSPARENT;
	restore->memory_size = machine->memory_size;
	upgrade = restore->receive != NULL ? receive_upgrade(restore->receive) : NULL;
	if (upgrade != NULL && upgrade->passes) {
		/* What is in its place until the other process's is taken over. */
		restore->backing = GUEST_MEMORY_ANON;
	}
	r = restore->receive != NULL ? receive_make_disks(restore->receive, e) : 0;
	r = r == 0 && upgrade != NULL ? upgrade_check_disks(&instance->config->vm, e) : r;
	if (r < 0) {
		return r;
	}
	r = vm_load(&instance->new_vm, &instance->config->vm, &saved, &instance->vm_host, e);
	if (r == 0 && restore->receive != NULL) {
		r = receive_check_disks(restore->receive, instance->new_vm, e);
		if (r < 0) {
			/* It has no thread yet that could wait. */
			(void)vm_destroy(take_ptr(instance->new_vm));
		}
	}
	return r;
}
