/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot of a VM that lives: a change of several operations (changes.c), whose work is a job's.
 *
 * The job's thread says in order what is done (work()): it makes the files, asks for the operations that the machine thread carries
 * out (asking.h), writes memory, syncs and renames.
 *
 *	at rest		a VM that runs is paused while its memory is written
 *	live		it runs on, and stands still for its state. Memory is frozen in that moment (vmm/freezer.h) and written
 *			afterwards. Where that is not possible it is written as it is, again as often as the guest writes it,
 *			and the few pages that are left while the VM stands still (vmm/snapshot.h)
 *	early		live, and frozen: it takes its place right after the moment, so that children of the VM can be loaded from it while its memory is written
 *	diff		only what was written since the last snapshot, of a VM whose pages are tracked all the time
 *
 * Whatever fails or is cancelled, the VM is as it was before, so is what was in the place of the files, and so is what a next diff
 * will have. The VM cannot go away meanwhile: changes wait in line, and the job ends before the VM does.
 *
 * A job that is cancelled leaves while what it asked for may be under way.
 *
 * The client controls the paths, which are opened by the job within its filter; the guest, how fast it writes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "asking.h"
#include "vmm/cleanup.h"
#include "vmm/freezer.h"
#include "vmm/log.h"
#include "vmm/snapshot.h"

LOG_DOMAIN("snapshot");

/* Passes over pages that the guest writes meanwhile: until what is left is copied in a millisecond, or is not getting less. */
#define PASSES_MAX   10
#define LEFT_ENOUGH  MIB(1)
#define LESS_PERCENT 80

struct snapshot_task {
	struct instance *instance;
	struct change *change; /* lives as long as the job */
	const struct snapshot_request *request;
	bool was_running, tracked; /* as it began: the VM runs; its pages are tracked anyway */
	bool diff;
	bool paused, tracking; /* by us, until it is undone */
	/* The job has ended with this; something may still be undone. */
	bool ended;
	int result;
	struct error error;

	struct job *job;
	struct guest_memory *mem;
	int pagemap_fd, freezer_fd;
	uint64_t *noted
		[GUEST_MEMORY_REGIONS_MAX]; /* pages of each region that a collection has forgotten */
	struct snapshot_paths parent;	    /* of a diff */
	struct asking asking;
	struct wanted {
		enum vm_operation_type type;
		bool state;						 /* of VM_SAVE */
		int (*use)(struct snapshot_task *task, struct error *e); /* on the machine thread */
	} wanted;
	struct snapshot_writer *writer;
	struct freezer *freezer;		   /* live, where it is possible */
	struct error why_not;			   /* and where it is not */
	uint64_t *pages[GUEST_MEMORY_REGIONS_MAX]; /* of a diff: which */
	const char *method;
	bool published; /* early: nothing is to be committed any more */
	struct state_buf state;
	char *about, *config;
	struct saved_disks disks;
	uint64_t still_ns, paused_since; /* the longest that the VM stood still */
};

static uint64_t words_of(const struct guest_region *region)
{
	return (region->size / PAGE_SIZE_4K + 63) / 64;
}

static void task_destroy(struct snapshot_task *task)
{
	if (task == NULL) {
		return;
	}
	asking_finish(&task->asking);
	for (size_t i = 0; i < ARRAY_SIZE(task->noted); i++) {
		free(task->noted[i]);
	}
	state_buf_finish(&task->state);
	free(task->about);
	free(task->config);
	saved_disks_finish(&task->disks);
	free(task);
}

/* --- the machine thread -------------------------------------------------------------------------- */

static int use(void *arg, struct guest_memory *mem, struct error *e)
{
	struct snapshot_task *task = arg;

	(void)mem;
	if (task->wanted.state) {
		saved_disks_take(&task->disks);
	}
	return task->wanted.use != NULL ? task->wanted.use(task, e) : 0;
}

/* Of all regions: pages that were written since the last time, into `noted`, and if `look` among those to write. */
static int collect(struct snapshot_task *task, bool look, struct error *e)
{
	const uint32_t count = atomic_load(&task->mem->region_count);
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < count; i++) {
		uint64_t bits, *noted = task->noted[i];
		uint64_t *pages = snapshot_writer_pages(task->writer, i, &bits);

		if (pages == NULL) {
			continue;
		}
		r = guest_region_dirty_collect(
			task->mem, i, look ? pages : noted,
			ALIGN_UP(task->mem->regions[i].size / PAGE_SIZE_4K, (uint64_t)64), e);
		for (uint64_t word = 0; look && word < words_of(&task->mem->regions[i]); word++) {
			noted[word] |= pages[word];
		}
	}
	return r;
}

static int forget_written(struct snapshot_task *task, struct error *e)
{
	return collect(task, false, e);
}

static int look_at_written(struct snapshot_task *task, struct error *e)
{
	return collect(task, true, e);
}

static int hold_written(struct snapshot_task *task, struct error *e)
{
	int r = collect(task, true, e);

	if (r == 0) {
		snapshot_writer_hold(task->writer);
	}
	return r;
}

static int enter_freezer(void *arg, struct error *e)
{
	const struct instance *instance = arg;

	return sandbox_enter_thread(instance->settings.sandbox, SANDBOX_ROLE_FREEZER, e);
}

/* That there is none is no failure. */
static int start_freezer(struct snapshot_task *task, struct error *e)
{
	const struct freezer_config config = { .mem = task->mem,
					       .fd = task->freezer_fd,
					       .pagemap_fd = task->pagemap_fd,
					       .soon = task->request->early,
					       .enter = enter_freezer,
					       .arg = task->instance };

	(void)e;
	(void)freezer_create(&task->freezer, &config, &task->why_not);
	return 0;
}

/* Whoever was giving pages back as the freezer was made has done so. */
static int arm_freezer(struct snapshot_task *task, struct error *e)
{
	(void)e;
	freezer_arm(task->freezer);
	return 0;
}

static int freeze(struct snapshot_task *task, struct error *e)
{
	int r = task->tracked ? collect(task, task->diff, e) : 0;

	snapshot_writer_wanted(task->writer, task->pages);
	return r == 0 ? freezer_freeze(task->freezer, task->diff ? task->pages : NULL, e) : r;
}

static int start_tracking(struct snapshot_task *task, struct error *e)
{
	int r = guest_memory_dirty_start(task->mem, e);

	return r == 0 ? collect(task, false, e) : r;
}

static int stop_tracking(void *arg, struct guest_memory *mem, struct error *e)
{
	(void)arg;
	(void)e;
	guest_memory_dirty_stop(mem);
	return 0;
}

/* --- the job's thread ---------------------------------------------------------------------------- */

static bool watch(void *arg, const char *phase, uint64_t done, uint64_t total)
{
	struct snapshot_task *task = arg;

	job_progress(task->job, phase, done, total);
	return !job_cancel_wanted(task->job);
}

static int ask(struct snapshot_task *task, const struct wanted *wanted, struct error *e)
{
	struct vm_operation operation = { .type = wanted->type };

	task->wanted = *wanted;
	if (wanted->type == VM_SAVE) {
		operation.save.buf = wanted->state ? &task->state : NULL;
		operation.save.also = use;
		operation.save.arg = task;
	} else if (wanted->type == VM_MEMORY) {
		operation.memory.use = use;
		operation.memory.arg = task;
	}
	return asking_ask(&task->asking, &operation, e);
}

#define ASK(task, e, ...) ask(task, &(const struct wanted){ __VA_ARGS__ }, e)

static bool copying(void *arg, uint64_t done, uint64_t total)
{
	return watch(arg, "disks", done, total);
}

static int copy_disks(struct snapshot_task *task, struct error *e)
{
	return saved_disks_copy(&task->disks, copying, task, e);
}

/* A VM that is paused, by its client or by us until its memory is written. */
static int write_at_rest(struct snapshot_task *task, struct error *e)
{
	struct snapshot_writer *writer = task->writer;
	int r = task->was_running ? ASK(task, e, .type = VM_PAUSE) : 0;

	if (r == 0) {
		r = ASK(task, e, .type = VM_SAVE, .state = true,
			.use = task->tracked ? look_at_written : NULL);
	}
	if (r == 0) {
		r = copy_disks(task, e);
	}
	if (r == 0 && !task->diff) {
		r = snapshot_writer_scan(writer, e);
	}
	if (r == 0) {
		r = snapshot_writer_run(writer, e);
	}
	return r == 0 && task->was_running ? ASK(task, e, .type = VM_RESUME) : r;
}

/* The first pass: what a full snapshot has, or what was written since the last one. */
static int begin_passes(struct snapshot_task *task, struct error *e)
{
	int r = snapshot_writer_begin_live(task->writer, e);

	if (r == 0 && task->diff) {
		return ASK(task, e, .type = VM_MEMORY, .use = look_at_written);
	}
	if (r == 0) {
		r = ASK(task, e, .type = VM_MEMORY,
			.use = task->tracked ? forget_written : start_tracking);
	}
	if (r == 0 && !task->tracked) {
		/* Whoever was writing as tracking began has noted nothing, and has written when all hold still. */
		r = ASK(task, e, .type = VM_SAVE);
	}
	return r == 0 ? snapshot_writer_scan(task->writer, e) : r;
}

/* The one moment that the snapshot is of. Copies of disks are of the same. */
static int hold_still(struct snapshot_task *task,
		      int (*memory)(struct snapshot_task *task, struct error *e), struct error *e)
{
	const bool pauses =
		json_array_size(task->request->copies) != 0 || task->request->with_disks;
	int r = pauses ? ASK(task, e, .type = VM_PAUSE) : 0;

	if (r == 0) {
		r = ASK(task, e, .type = VM_SAVE, .state = true, .use = memory);
	}
	if (r == 0 && pauses) {
		r = copy_disks(task, e);
	}
	return r == 0 && pauses ? ASK(task, e, .type = VM_RESUME) : r;
}

static int write_by_passes(struct snapshot_task *task, struct error *e)
{
	struct snapshot_writer *writer = task->writer;
	uint64_t left, before = UINT64_MAX;
	int r = begin_passes(task, e);

	for (int pass = 0; r == 0 && pass < PASSES_MAX; pass++) {
		left = snapshot_writer_bytes(writer);
		if (pass != 0 && (left <= LEFT_ENOUGH || left > before / 100 * LESS_PERCENT)) {
			break;
		}
		before = left;
		r = snapshot_writer_pass(writer, e);
		if (r == 0) {
			r = ASK(task, e, .type = VM_MEMORY, .use = look_at_written);
		}
	}
	if (r == 0) {
		r = hold_still(task, hold_written, e);
	}
	return r == 0 ? snapshot_writer_settle(writer, e) : r;
}

static bool not_cancelled(void *arg)
{
	struct snapshot_task *task = arg;

	return !job_cancel_wanted(task->job);
}

static struct snapshot_contents contents_of(const struct snapshot_task *task)
{
	return (struct snapshot_contents){ .about = task->about,
					   .config = task->config,
					   .machine = task->state.data,
					   .machine_len = task->state.len };
}

/* For children; where that is not possible they wait for the end. */
static int publish(struct snapshot_task *task, struct error *e)
{
	const struct snapshot_contents contents = contents_of(task);
	int r = snapshot_writer_publish(task->writer, task->freezer, &contents, e);

	if (r < 0 && e->code == ERROR_NOT_SUPPORTED) {
		log_info("children wait until memory has been copied: %s", e->msg);
		*e = (struct error){ 0 };
		return 0;
	}
	task->method = r == 0 ? "copy-before-write, early" : task->method;
	task->published = r == 0;
	return r;
}

static int write_frozen(struct snapshot_task *task, struct error *e)
{
	int r = ASK(task, e, .type = VM_SAVE, .use = arm_freezer);

	r = r == 0 ? freezer_wait(task->freezer, not_cancelled, task, e) : r;
	r = r == 0 ? hold_still(task, freeze, e) : r;
	r = r == 0 && task->request->early ? publish(task, e) : r;
	return r == 0 ? snapshot_writer_frozen(task->writer, task->freezer, e) : r;
}

static int write_live(struct snapshot_task *task, struct error *e)
{
	int r = ASK(task, e, .type = VM_MEMORY, .use = start_freezer);

	if (r < 0) {
		return r;
	}
	task->method = task->freezer != NULL ? "copy-before-write" : "passes";
	if (task->freezer != NULL) {
		return write_frozen(task, e);
	}
	log_debug("live by passes: %s", task->why_not.msg);
	return write_by_passes(task, e);
}

static int write_snapshot(struct snapshot_task *task, struct error *e)
{
	const struct snapshot_request *request = task->request;
	const struct snapshot_writer_config config = {
		.paths = { .directory = request->directory,
			   .state = request->state_path,
			   .memory = request->memory_path },
		.parent = task->parent,
		.mem = task->mem,
		.pagemap_fd = task->pagemap_fd,
		.compress = request->compress,
		.watch = { watch, task },
	};
	struct snapshot_contents contents;
	int r = snapshot_writer_create(&task->writer, &config, e);

	saved_disks_open(&task->disks);
	if (r == 0) {
		task->disks.directory = snapshot_writer_directory(task->writer);
		r = request->live && task->was_running ? write_live(task, e)
						       : write_at_rest(task, e);
	}
	/* Not sooner: the guest would stand still for it. */
	r = r == 0 ? saved_disks_sync(&task->disks, e) : r;
	if (r < 0 || task->published) {
		return r;
	}
	contents = contents_of(task);
	return snapshot_writer_commit(task->writer, &contents, e);
}

static int work(struct job *job, void *arg, struct error *e)
{
	struct snapshot_task *task = arg;
	int r;

	task->job = job;
	r = write_snapshot(task, e);
	if (r < 0 && !task->published) {
		saved_disks_forget(&task->disks);
	}
	/* It reads what the writer has. */
	freezer_destroy(take_ptr(task->freezer));
	snapshot_writer_destroy(take_ptr(task->writer));
	return r;
}

/* --- what a diff is one to ------------------------------------------------------------------------ */

void snapshot_parent_set(struct instance *instance, const char *directory, const char *state,
			 const char *memory)
{
	const char *const paths[] = { directory, state, memory };

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		free(instance->snapshot_parent[i]);
		/* Without memory for it the next one is a full one. */
		instance->snapshot_parent[i] = paths[i] != NULL ? strdup(paths[i]) : NULL;
	}
}

static bool snapshot_parent_get(const struct instance *instance, struct snapshot_paths *paths)
{
	*paths = (struct snapshot_paths){ .directory = instance->snapshot_parent[0],
					  .state = instance->snapshot_parent[1],
					  .memory = instance->snapshot_parent[2] };
	return paths->directory != NULL || (paths->state != NULL && paths->memory != NULL);
}

/* --- main ---------------------------------------------------------------------------------------- */

static void enter(struct snapshot_task *task, enum instance_state state)
{
	if (instance_lives(task->instance)) {
		instance_enter(task->instance, state);
	}
}

/* Before an operation begins. */
static void begins(struct snapshot_task *task, enum vm_operation_type type)
{
	if (type == VM_PAUSE) {
		enter(task, INSTANCE_PAUSING);
	} else if (type == VM_RESUME) {
		enter(task, INSTANCE_RESUMING);
	} else if (type == VM_MEMORY) {
		task->tracking |= task->wanted.use == start_tracking;
	}
}

static void asked(struct asking *asking, enum vm_operation_type type)
{
	begins(container_of(asking, struct snapshot_task, asking), type);
}

static int describe(struct snapshot_task *task, struct error *e)
{
	struct instance *instance = task->instance;

	task->about = saved_about(instance);
	task->config = saved_config(instance, &task->disks);
	return task->about != NULL && task->config != NULL
		       ? 0
		       : error_set(e, ERROR_NO_MEMORY, ENOMEM, "snapshot: out of memory");
}

/* What was forgotten of writes is known again to the next diff. */
static void note_again(const struct snapshot_task *task)
{
	for (uint32_t i = 0; i < GUEST_MEMORY_REGIONS_MAX; i++) {
		const struct guest_region *region = &task->mem->regions[i];

		for (uint64_t word = 0; task->noted[i] != NULL && word < words_of(region); word++) {
			for (uint64_t bits = task->noted[i][word]; bits != 0; bits &= bits - 1) {
				uint64_t page = word * 64 + (uint64_t)__builtin_ctzll(bits);

				guest_memory_mark(task->mem, region->host + page * PAGE_SIZE_4K, 1);
			}
		}
	}
}

/* The job has ended: what it has left is undone. */
static int finish(struct snapshot_task *task, struct error *e)
{
	struct vm_operation *operation = &task->change->operation;
	int result = task->result;

	if (task->paused && instance_lives(task->instance)) {
		operation->type = VM_RESUME;
		begins(task, VM_RESUME);
		return CHANGE_PENDING;
	}
	if (task->tracking && instance_lives(task->instance)) {
		task->tracking = false;
		operation->type = VM_MEMORY;
		operation->memory.use = stop_tracking;
		return CHANGE_PENDING;
	}
	/* Of what is for children nothing is left that a diff could be one to. */
	if ((result < 0 || task->request->early) && task->tracked &&
	    instance_lives(task->instance)) {
		note_again(task);
	}
	*e = task->error;
	task_destroy(task);
	return result;
}

static void note_operation(struct snapshot_task *task, int result)
{
	const struct vm_operation *operation = &task->change->operation;

	switch (operation->type) {
	case VM_PAUSE:
		task->paused = result == 0;
		task->paused_since = loop_now_ns();
		enter(task, task->paused ? INSTANCE_PAUSED : INSTANCE_RUNNING);
		break;
	case VM_RESUME:
		task->still_ns = MAX(task->still_ns, loop_now_ns() - task->paused_since);
		task->paused = false;
		enter(task, result == 0 ? INSTANCE_RUNNING : INSTANCE_PAUSED);
		break;
	case VM_SAVE:
		task->still_ns = task->was_running && !task->paused
					 ? MAX(task->still_ns, operation->save.still_ns)
					 : task->still_ns;
		break;
	default:
		break;
	}
}

static int step(struct instance *instance, struct change *change, int result, struct error *e)
{
	struct snapshot_task *task = change->snapshot;

	(void)instance;
	note_operation(task, result);
	if (task->ended) {
		return finish(task, e);
	}
	if (result == 0 && change->operation.type == VM_SAVE && task->wanted.state) {
		result = describe(task, e);
	}
	asking_answer(&task->asking, result, e);
	return CHANGE_WAITS;
}

static void tell(const struct snapshot_task *task)
{
	const struct snapshot_request *request = task->request;
	const char *path = request->directory != NULL ? request->directory : request->state_path;

	event_log_add(&task->instance->events, "snapshot",
		      json_pack("{s:s, s:s, s:s, s:I}", "path", path, "type",
				task->diff ? "Diff" : "Full", "method", task->method, "still_us",
				(json_int_t)(task->still_ns / 1000)));
}

/* What the next diff is one to. */
static void remember(const struct snapshot_task *task)
{
	const struct snapshot_request *request = task->request;

	if (task->tracked && !request->early) {
		snapshot_parent_set(task->instance, request->directory, request->state_path,
				    request->memory_path);
	}
}

static void ended(void *arg, int result, struct error *e)
{
	struct snapshot_task *task = arg;
	struct change *change = task->change;
	struct error why = *e;
	int r;

	if (result == 0) {
		tell(task);
		remember(task);
	} else if (why.code == ERROR_NONE) {
		(void)error_set(&why, ERROR_CANCELLED, ECANCELED, "snapshot: cancelled");
	}
	task->ended = true;
	task->result = result;
	task->error = why;
	if (!change->waits) {
		return; /* an operation is under way; step() comes */
	}
	r = finish(task, &why);
	if (r == CHANGE_PENDING) {
		changes_ask(change);
	} else {
		changes_end(change, r, &why);
	}
}

static void cancel(void *arg)
{
	struct snapshot_task *task = arg;

	asking_leave(&task->asking);
}

static const struct job_ops job_ops = {
	.kind = "snapshot", .run = work, .ended = ended, .cancel = cancel
};

/* --- the request --------------------------------------------------------------------------------- */

static bool make_notes(struct snapshot_task *task)
{
	const uint32_t count = atomic_load(&task->mem->region_count);
	bool made = true;

	for (uint32_t i = 0; i < count; i++) {
		task->noted[i] = calloc(words_of(&task->mem->regions[i]) + 1, sizeof(uint64_t));
		made = made && task->noted[i] != NULL;
	}
	return made;
}

static struct snapshot_task *task_create(struct instance *instance, struct change *change)
{
	struct snapshot_task *task = calloc(1, sizeof(*task));

	if (task == NULL) {
		return NULL;
	}
	task->instance = instance;
	task->change = change;
	task->request = change->object;
	task->was_running = instance->state == INSTANCE_RUNNING;
	task->tracked = instance->config->vm.machine.track_dirty_pages;
	task->diff = task->request->type == SNAPSHOT_DIFF && task->tracked &&
		     snapshot_parent_get(instance, &task->parent);
	task->mem = vm_memory(instance->vm);
	task->pagemap_fd = atomic_load(&instance->pagemap_fd);
	task->freezer_fd = atomic_load(&instance->freezer_fd);
	task->method = "at rest";
	asking_init(&task->asking, instance, change);
	task->asking.begins = asked;
	if (!make_notes(task) || saved_disks_init(&task->disks, &instance->config->vm, NULL) < 0) {
		task_destroy(task);
		return NULL;
	}
	return task;
}

static int prepare(struct instance *instance, struct change *change, struct error *e)
{
	const struct snapshot_request *request = change->object;
	uint64_t job;
	int r = snapshot_check_state(instance, request, e);

	if (r < 0) {
		return r;
	}
	change->snapshot = task_create(instance, change);
	if (change->snapshot == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "snapshot: out of memory");
	}
	r = request->with_disks ? saved_disks_want_all(&change->snapshot->disks, e)
				: saved_disks_want(&change->snapshot->disks, request->copies, e);
	if (r < 0) {
		task_destroy(change->snapshot);
		return r;
	}
	r = change_start_job(change, &job_ops, change->snapshot, &job, e);
	if (r < 0) {
		task_destroy(change->snapshot);
		return r;
	}
	if (request->background) {
		change_answer_begun(change, job);
	}
	return CHANGE_WAITS;
}

static const struct change_kind snapshot_kind = { .during = INSTANCE_STATES,
						  .prepare = prepare,
						  .step = step };

int snapshot_create(struct instance *instance, const struct asked *asked, struct error *e)
{
	int r = snapshot_check_form(asked->request->object, e);

	return r == 0 ? control_change(instance, &snapshot_kind, asked, e) : r;
}
