/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The work of a migration away from here: the job's thread connects, drives the migration, and sends memory and disks; what it needs of the VM
 * it asks of the machine thread (asking.h):
 *
 *	OFFER		the VM's configuration, and its state of this moment, which the other side tries
 *	NEXT_PASS	the first is all that may be other than zero; then what was written since the one before. As soon as what is
 *			left can be sent within the downtime that was asked for, by how fast the last pass was, there is no other
 *			(vmm/migration_converge.h). If passes do not get shorter, vCPUs are slowed down first, as far as the request allows
 *	PAUSE		vCPUs parked, devices quiesced
 *	SEND_LAST	the state; then what was written is collected, which nothing is after that; both are sent
 *	RELEASE_LOCKS, TAKE_LOCKS, RUN	as vmm/vm.h has them
 *
 * The client controls the address, which is opened by the job within its filter; the guest, how fast it writes; the other side, what
 * is told of its errors, and how long it takes.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "migrate_task.h"
#include "vmm/bytes.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/migration_address.h"
#include "vmm/sandbox.h"

LOG_DOMAIN("migration");

#define STATE_PIECE MIB(1)
/* Between two looks at how much time a limited bandwidth has left. */
#define SLEEP_MAX_NS 20000000ULL

/* --- the machine thread -------------------------------------------------------------------------- */

static int collect(void *arg, struct guest_memory *mem, struct error *e)
{
	struct migrate_task *task = arg;
	const uint32_t count = atomic_load(&mem->region_count);
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < count; i++) {
		uint64_t bits, *pages = migration_pages_wanted(&task->pages, i, &bits);

		r = pages != NULL ? guest_region_dirty_collect(mem, i, pages, bits, e) : 0;
	}
	return r;
}

static void forget(struct migrate_task *task)
{
	for (uint32_t i = 0; i < GUEST_MEMORY_REGIONS_MAX; i++) {
		uint64_t bits, *pages = migration_pages_wanted(&task->pages, i, &bits);

		if (pages != NULL) {
			memset(pages, 0, bits / 8);
		}
	}
}

/* Everything counts as written when it starts; what there is to send is looked for instead. */
static int start_tracking(void *arg, struct guest_memory *mem, struct error *e)
{
	struct migrate_task *task = arg;
	int r = task->tracked ? 0 : guest_memory_dirty_start(mem, e);

	r = r == 0 ? collect(task, mem, e) : r;
	forget(task);
	return r;
}

/* --- the job's thread: what there is to send ----------------------------------------------------- */

static int ask(struct migrate_task *task, enum vm_operation_type type, struct error *e)
{
	return asking_ask(&task->asking, &(const struct vm_operation){ .type = type }, e);
}

static int save(struct migrate_task *task,
		int (*also)(void *arg, struct guest_memory *mem, struct error *e), struct error *e)
{
	const struct vm_operation wanted = {
		.type = VM_SAVE,
		.save = { .buf = &task->state, .also = also, .arg = task },
	};

	task->state.len = 0;
	return asking_ask(&task->asking, &wanted, e);
}

static int collect_now(struct migrate_task *task, struct error *e)
{
	return asking_ask(
		&task->asking,
		&(const struct vm_operation){ .type = VM_MEMORY, .memory = { collect, task } }, e);
}

static int throttle(struct migrate_task *task, uint32_t percent, struct error *e)
{
	const struct vm_operation wanted = { .type = VM_THROTTLE, .throttle = { percent } };
	int r = asking_ask(&task->asking, &wanted, e);

	if (r == 0) {
		log_info("the guest writes as fast as can be sent: it is slowed down by %u %%",
			 percent);
		atomic_store(&migrate_view_of(task)->throttle, percent);
		atomic_store(&migrate_view_of(task)->throttle_most, percent);
	}
	return r;
}

/* What may be other than zero, once whatever was being written as tracking began has been. */
static int find_touched(struct migrate_task *task, struct error *e)
{
	const uint32_t count = atomic_load(&task->mem->region_count);
	int r = asking_ask(&task->asking, &(const struct vm_operation){ .type = VM_SAVE }, e);

	for (uint32_t i = 0; r == 0 && i < count; i++) {
		uint64_t bits, *pages = migration_pages_wanted(&task->pages, i, &bits);

		r = pages != NULL
			    ? guest_region_touched(task->mem, i, task->pagemap_fd, pages, bits, e)
			    : 0;
	}
	return r;
}

static int begin_copying(struct migrate_task *task, struct error *e)
{
	int r = asking_ask(&task->asking,
			   &(const struct vm_operation){ .type = VM_MEMORY,
							 .memory = { start_tracking, task } },
			   e);

	task->started = r == 0;
	task->copying_since = loop_now_ns();
	return r == 0 ? find_touched(task, e) : r;
}

static uint64_t bytes_left(const struct migrate_task *task)
{
	return migration_pages_left(&task->pages) + migration_blocks_left(&task->disks.blocks);
}

static uint64_t bytes_sent(const struct migrate_task *task)
{
	return task->pages.sent + task->disks.blocks.sent;
}

/* --- how fast ------------------------------------------------------------------------------------ */

static int give_up(const struct migrate_task *task, struct error *e)
{
	const struct migration_converge *converge = &task->converge;
	char slowed[32] = "";

	if (converge->throttle != 0) {
		(void)snprintf(slowed, sizeof(slowed), ", slowed down by %u %%,",
			       converge->throttle);
	}
	(void)error_set(
		e, ERROR_MIGRATION, ETIME,
		"migration: after %llu s the guest still%s writes faster than can be sent: it "
		"would stand still for %llu ms",
		(unsigned long long)(converge->time_limit_ns / 1000000000), slowed,
		(unsigned long long)(converge->expected_ns / 1000000));
	return error_hint(
		e, "allow for a longer pause (--downtime), more time (--time-limit), a slower "
		   "guest (--throttle), or let it come (--at-limit force, postcopy)");
}

/* Of disks nothing comes later: what is left of them is sent in the pause. */
static bool disks_fit(const struct migrate_task *task)
{
	const uint64_t left = migration_blocks_left(&task->disks.blocks);

	return (double)left * 1e9 <=
	       (double)task->converge.rate * (double)task->converge.downtime_ns;
}

/* 0: another pass; or MIGRATION_CONVERGED. */
static int look_at_pass(struct migrate_task *task, struct error *e)
{
	struct migration_view *view = migrate_view_of(task);
	struct migration_converge *converge = &task->converge;
	const uint64_t now = loop_now_ns();
	const struct migration_pass pass = { .sent = bytes_sent(task) - task->pass_sent,
					     .took_ns = now - task->pass_began,
					     .left = bytes_left(task) };
	enum migration_verdict verdict;

	converge->still_ns = task->still_ns;
	verdict = migration_judge_pass(converge, &pass, now - task->copying_since);
	atomic_store(&view->left, pass.left);
	atomic_store(&view->rate, converge->rate);
	atomic_store(&view->dirty_rate, converge->dirty_rate);
	atomic_store(&view->expected_ns, converge->expected_ns);
	if (verdict != MIGRATION_PAUSE_NOW && disks_fit(task) &&
	    postcopy_is_due(&task->postcopy, verdict == MIGRATION_GIVE_UP)) {
		int r = postcopy_begin(&task->postcopy, task->mem, e);

		return r == 0 ? MIGRATION_CONVERGED : r;
	}
	switch (verdict) {
	case MIGRATION_PAUSE_NOW:
		return MIGRATION_CONVERGED;
	case MIGRATION_GIVE_UP:
		return give_up(task, e);
	case MIGRATION_SLOWER:
		return throttle(task, converge->throttle, e);
	default:
		return 0;
	}
}

void migrate_keep_to_bandwidth(const struct migrate_task *task)
{
	const uint64_t limit = task->request->bandwidth;
	const uint64_t sent = atomic_load(&task->pass_wire);
	uint64_t until, now;

	if (limit == 0 || migration_state(task->m) != HANDOVER_S_COPYING) {
		return;
	}
	until = task->pass_began + (uint64_t)((double)sent * 1e9 / (double)limit);
	while ((now = loop_now_ns()) < until && !migration_is_called(task->m)) {
		const struct timespec pause = { .tv_nsec = (long)MIN(until - now, SLEEP_MAX_NS) };

		(void)nanosleep(&pause, NULL);
	}
}

int migrate_enter_job(void *arg, struct error *e)
{
	const struct instance *instance = arg;

	return sandbox_enter_thread(instance->settings.sandbox, SANDBOX_ROLE_JOB, e);
}

/* --- the job's thread: what it is told to do ----------------------------------------------------- */

static int send_message(struct migrate_task *task, enum handover_message message,
			const uint8_t *payload, uint32_t len, struct error *e)
{
	struct migration_view *view = migrate_view_of(task);
	const uint64_t left = atomic_load(&view->left);
	int r = migration_send(task->m, message, payload, len, e);

	atomic_store(&view->sent, bytes_sent(task));
	job_progress(task->job,
		     message == HANDOVER_BLOCKS ? "disks"
		     : task->pass == 0		? "memory"
						: "memory, again",
		     bytes_sent(task), bytes_sent(task) + left);
	atomic_fetch_add(&task->pass_wire, len);
	migrate_keep_to_bandwidth(task);
	return r;
}

static int send_pages(void *arg, const uint8_t *payload, uint32_t len, struct error *e)
{
	return send_message(arg, HANDOVER_PAGES, payload, len, e);
}

static int send_blocks(void *arg, const uint8_t *payload, uint32_t len, struct error *e)
{
	return send_message(arg, HANDOVER_BLOCKS, payload, len, e);
}

/* Disks first, which take longer the first time. */
static int send_content(struct migrate_task *task, struct error *e)
{
	int r = migration_blocks_send(&task->disks.blocks, send_blocks, task, e);

	return r == 0 ? migrate_channels_send(task, send_pages, e) : r;
}

static int next_pass(struct migrate_task *task, struct error *e)
{
	int r;

	if (migrate_passes_memory(task)) {
		return MIGRATION_CONVERGED;
	}
	r = task->started ? 0 : migrate_channels_begin(task, e);
	if (r == 0) {
		r = task->started ? collect_now(task, e) : begin_copying(task, e);
	}
	if (task->pass == 0) {
		moving_disks_want_all(&task->disks);
	}
	moving_disks_want_written(&task->disks);
	if (r == 0 && task->pass != 0) {
		r = look_at_pass(task, e);
	} else if (r == 0) {
		atomic_store(&migrate_view_of(task)->left, bytes_left(task));
	}
	if (r != 0) {
		return r;
	}
	task->pass_began = loop_now_ns();
	task->pass_sent = bytes_sent(task);
	atomic_store(&task->pass_wire, 0);
	r = send_content(task, e);
	task->pass++;
	atomic_store(&migrate_view_of(task)->passes, task->pass);
	store_le64(task->pass_end, task->pass);
	store_le64(task->pass_end + 8, (bytes_sent(task) - task->pass_sent) / PAGE_SIZE_4K);
	return r;
}

/* A part of the time that the guest stands still is over. */
static void note_part(struct migrate_task *task, enum migration_part part)
{
	const uint64_t now = loop_now_ns();

	atomic_store(&migrate_view_of(task)->parts_ns[part], now - task->part_since);
	task->part_since = now;
}

static int pause_guest(struct migrate_task *task, struct error *e)
{
	struct error ignored = { 0 };
	int r;

	job_progress(task->job, "pause", task->pages.sent, 0);
	/* What the guest has written before need not be waited for in the pause. */
	(void)ask(task, VM_SYNC_DISKS, &ignored);
	task->part_since = loop_now_ns();
	/* Which ends throttling. */
	r = task->was_running ? ask(task, VM_PAUSE, e) : 0;
	note_part(task, MIGRATION_PART_PAUSE);
	return r;
}

static int send_last(struct migrate_task *task, struct error *e)
{
	int r = save(task, migrate_passes_memory(task) ? NULL : collect, e);

	note_part(task, MIGRATION_PART_SAVE);
	moving_disks_want_written(&task->disks);
	if (r == 0 && task->postcopy.switching) {
		r = migration_blocks_send(&task->disks.blocks, send_blocks, task, e);
		r = r == 0 ? postcopy_say_missing(task->m, &task->pages, e) : r;
	} else if (r == 0) {
		r = send_content(task, e);
	}
	for (size_t at = 0; r == 0 && at < task->state.len; at += STATE_PIECE) {
		r = migration_send(task->m, HANDOVER_STATE, task->state.data + at,
				   (uint32_t)MIN(task->state.len - at, STATE_PIECE), e);
	}
	note_part(task, MIGRATION_PART_PAGES);
	return r;
}

static int release_locks(struct migrate_task *task, struct error *e)
{
	/* In doubt it is asked for once more: it is done, then. */
	if (migration_state(task->m) == HANDOVER_S_RELEASING) {
		note_part(task, MIGRATION_PART_PREPARE);
	}
	return upgrade_release_disks(task->upgrade, &task->asking, e);
}

static int tell(struct migrate_task *task, const char *what)
{
	if (upgrade_decide(task->upgrade, task->m)) {
		return 0;
	}
	job_progress(task->job, what, task->pages.sent, 0);
	log_warn("%s: GET /migration says what has to be decided", what);
	loop_post(task->instance->host->loop, &task->told);
	return 0;
}

static int act(void *arg, enum handover_action_kind what, const struct handover_frame *frame,
	       struct error *e)
{
	struct migrate_task *task = arg;

	(void)frame;
	switch (what) {
	case HANDOVER_NEXT_PASS:
		return next_pass(task, e);
	case HANDOVER_PAUSE:
		return pause_guest(task, e);
	case HANDOVER_SEND_LAST:
		return send_last(task, e);
	case HANDOVER_RELEASE_LOCKS:
		return release_locks(task, e);
	case HANDOVER_TAKE_LOCKS:
		return ask(task, VM_TAKE_DISKS, e);
	case HANDOVER_RUN:
		postcopy_end(&task->postcopy);
		return upgrade_go_on(task->upgrade, &task->asking, task->was_running, e);
	case HANDOVER_TELL_DOUBT:
		return tell(task, "in doubt");
	case HANDOVER_TELL_BLOCKED:
		return tell(task, "blocked");
	default:
		return 0;
	}
}

static void say(void *arg, struct handover_frame *frame)
{
	struct migrate_task *task = arg;

	if (frame->message == HANDOVER_OFFER) {
		frame->payload = task->offer;
		frame->len = task->offer_len;
	} else if (frame->message == HANDOVER_PASS_END) {
		frame->payload = task->pass_end;
		frame->len = sizeof(task->pass_end);
	}
}

static const struct migration_ops ops = { .act = act, .say = say };

static int connect_sides(struct migrate_task *task, struct error *e)
{
	const struct migrate_request *request = task->request;
	struct migration_config config = { .role = HANDOVER_SOURCE,
					   .epoch = task->epoch,
					   .stall_ns = request->silence_ns,
					   .ops = &ops,
					   .arg = task };
	int r;

	job_progress(task->job, "connect", 0, 0);
	config.fd = task->upgrade != NULL
			    ? upgrade_connect(task->upgrade, request->silence_ns, e)
			    : migration_address_connect(request->address, request->insecure, e);
	if (config.fd < 0) {
		return config.fd;
	}
	r = migration_create(&task->m, &config, e);
	atomic_store(&task->made, task->m);
	return r;
}

static void memory_waits(void *arg)
{
	struct migrate_task *task = arg;

	loop_post(task->instance->host->loop, &task->told);
}

static int move(struct migrate_task *task, struct error *e)
{
	struct job *job = task->job;
	json_t *token = NULL, *channels = NULL;
	int r = connect_sides(task, e);

	r = r == 0 ? migration_pages_init(&task->pages, task->mem, e) : r;
	r = r == 0 && task->request->compress ? migration_pages_pack(&task->pages, e) : r;
	r = r == 0 ? save(task, NULL, e) : r;
	if (r == 0 && task->request->with_disks) {
		r = moving_disks_begin(&task->disks, task->instance->vm, e);
	}
	r = r == 0 ? postcopy_offer(&task->postcopy, &token, e) : r;
	r = r == 0 ? migrate_channels_offer(task, &channels, e) : r;
	r = r == 0 ? offering_make(&task->offering, &task->state, !task->was_running,
				   moving_disks_to_json(&task->disks), token, channels,
				   &task->offer, &task->offer_len, e)
		   : r;
	if (r < 0) {
		return r;
	}
	if (job_cancel_wanted(job)) {
		return error_set(e, ERROR_CANCELLED, ECANCELED, "migration: cancelled");
	}
	loop_post(task->instance->host->loop, &task->driven);
	r = migration_run(task->m, e);
	if (r == 0) {
		note_part(task, MIGRATION_PART_COMMIT);
	}
	/* Also for one that was given up here, and goes on there by this side's word. */
	if (task->postcopy.switching && migrate_has_left(task)) {
		r = postcopy_serve(&task->postcopy, job, memory_waits, task, e);
	}
	return r;
}

int migrate_work(struct job *job, void *arg, struct error *e)
{
	struct migrate_task *task = arg;
	int r;

	task->job = job;
	r = move(task, e);
	moving_disks_end(&task->disks);
	return r;
}
