/* SPDX-License-Identifier: Apache-2.0 */
/* The frame of jobs, with work that is none: it waits for what the test tells it. */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <time.h>

#include "harness/check_main.h"
#include "vmm/job.h"

struct work {
	sem_t told, go;
	int result; /* when it goes on; 1: waits for its cancellation */
	_Atomic bool interrupted;
	unsigned ended;
};

static struct loop loop;
static struct event_log event_log;
static struct jobs *jobs;
static struct error e;

static int run(struct job *job, void *arg, struct error *err)
{
	struct work *work = arg;

	job_progress(job, "copying", 250, 1000);
	(void)sem_post(&work->told);
	(void)sem_wait(&work->go);
	while (work->result == 1) {
		const struct timespec moment = { .tv_nsec = 1000000 };

		if (job_cancel_wanted(job)) {
			return -ECANCELED;
		}
		(void)nanosleep(&moment, NULL);
	}
	if (work->result == -ECANCELED) {
		return -ECANCELED;
	}
	if (work->result < 0) {
		return error_set(err, ERROR_DISK, -work->result, "the disk is full");
	}
	job_progress(job, "syncing", 1000, 1000);
	return 0;
}

static void ended(void *arg, int result, struct error *failure)
{
	struct work *w = arg;

	w->ended++;
	ck_assert(result < 0 || failure->code == ERROR_NONE);
}

static void interrupt(void *arg)
{
	atomic_store(&((struct work *)arg)->interrupted, true);
}

static const struct job_ops ops = { .kind = "fake", .run = run, .ended = ended };
static const struct job_ops ops_with_cancel = {
	.kind = "fake", .run = run, .ended = ended, .cancel = interrupt
};

static void work_init(struct work *work, int result)
{
	*work = (struct work){ .result = result };
	(void)sem_init(&work->told, 0, 0);
	(void)sem_init(&work->go, 0, 0);
}

static void setup(void)
{
	e = (struct error){ 0 };
	check_ok(loop_init(&loop, &e), &e);
	event_log_init(&event_log);
	check_ok(jobs_create(&jobs, &loop, &event_log, &e), &e);
}

static void teardown(void)
{
	jobs_destroy(jobs);
	event_log_finish(&event_log);
	loop_finish(&loop);
}

static uint64_t start(const struct job_ops *how, struct work *work)
{
	uint64_t id = 0;

	check_ok(jobs_start(jobs, how, work, &id, &e), &e);
	(void)sem_wait(&work->told);
	return id;
}

static void wait_for_end(struct work *work)
{
	while (work->ended == 0) {
		ck_assert_int_eq(loop_step(&loop, 1000), 0);
	}
	ck_assert_uint_eq(work->ended, 1);
}

static void expect(uint64_t id, const char *key, const char *value)
{
	json_t *job = jobs_describe(jobs, id);
	const char *text = json_string_value(json_object_get(job, key));

	ck_assert_ptr_nonnull(text);
	ck_assert_str_eq(text, value);
	json_decref(job);
}

static json_int_t number(uint64_t id, const char *key)
{
	json_t *job = jobs_describe(jobs, id);
	json_int_t n = -1;

	if (json_object_get(job, key) != NULL) {
		n = json_integer_value(json_object_get(job, key));
	}
	json_decref(job);
	return n;
}

static const struct {
	int result;
	const char *state;
} results[] = {
	{ 0, "done" },
	{ -ENOSPC, "failed" },
	{ -ECANCELED, "failed" }, /* nobody has cancelled it */
};

START_TEST(test_run)
{
	struct work work;
	uint64_t id;

	work_init(&work, results[_i].result);
	id = start(&ops, &work);
	ck_assert_uint_eq(id, 1);
	ck_assert_uint_eq(jobs_current(jobs), 1);
	expect(id, "state", "running");
	expect(id, "phase", "copying");
	expect(id, "kind", "fake");
	ck_assert_int_eq(number(id, "bytes_done"), 250);
	ck_assert_int_eq(number(id, "bytes_total"), 1000);
	ck_assert_int_ge(number(id, "bytes_per_second"), 0);
	ck_assert_int_ge(number(id, "elapsed_ms"), 0);
	(void)sem_post(&work.go);
	wait_for_end(&work);
	expect(id, "state", results[_i].state);
	ck_assert_uint_eq(jobs_current(jobs), 0);
	ck_assert_int_eq(number(id, "seconds_left"), -1);
	if (results[_i].result == 0) {
		expect(id, "phase", "syncing");
		ck_assert_int_eq(number(id, "bytes_done"), 1000);
	}
	if (results[_i].result == -ENOSPC) {
		json_t *job = jobs_describe(jobs, id);
		json_t *error = json_object_get(job, "error");

		ck_assert_str_eq(json_string_value(json_object_get(error, "code")), "disk");
		ck_assert_str_eq(json_string_value(json_object_get(error, "message")),
				 "the disk is full");
		json_decref(job);
	}
	/* Its start and its end. */
	ck_assert_uint_eq(event_log.last, 2);
	ck_assert_ptr_nonnull(strstr(event_log_line(&event_log, 1), "\"running\""));
	ck_assert_ptr_nonnull(strstr(event_log_line(&event_log, 2), results[_i].state));
}
END_TEST

START_TEST(test_cancel)
{
	struct work work;
	uint64_t id;

	work_init(&work, 1);
	id = start(_i == 0 ? &ops : &ops_with_cancel, &work);
	(void)sem_post(&work.go);
	check_ok(jobs_cancel(jobs, id, &e), &e);
	check_ok(jobs_cancel(jobs, id, &e), &e);
	ck_assert_int_eq(atomic_load(&work.interrupted), _i == 1);
	wait_for_end(&work);
	expect(id, "state", "cancelled");
	ck_assert_int_lt(jobs_cancel(jobs, id, &e), 0);
	check_error(&e, ERROR_WRONG_STATE, "cancelled");
	ck_assert_int_lt(jobs_cancel(jobs, id + 1, &e), 0);
	check_error(&e, ERROR_NOT_FOUND, "job 2");
	ck_assert_int_lt(jobs_cancel(jobs, 0, &e), 0);
	check_error(&e, ERROR_NOT_FOUND, "job 0");
}
END_TEST

START_TEST(test_one_at_a_time)
{
	struct work first, second;
	uint64_t id = 77;

	work_init(&first, 0);
	work_init(&second, 0);
	(void)start(&ops, &first);
	ck_assert_int_lt(jobs_start(jobs, &ops, &second, &id, &e), 0);
	check_error(&e, ERROR_BUSY, "job 1");
	ck_assert_uint_eq(id, 77);
	ck_assert_uint_eq(second.ended, 0);
	(void)sem_post(&first.go);
	wait_for_end(&first);
	ck_assert_uint_eq(start(&ops, &second), 2);
	(void)sem_post(&second.go);
	wait_for_end(&second);
}
END_TEST

START_TEST(test_kept)
{
	json_t *all;

	for (unsigned i = 1; i <= JOBS_KEPT + 3; i++) {
		struct work work;

		work_init(&work, 0);
		ck_assert_uint_eq(start(&ops, &work), i);
		(void)sem_post(&work.go);
		wait_for_end(&work);
	}
	all = jobs_describe_all(jobs);
	ck_assert_uint_eq(json_array_size(all), JOBS_KEPT);
	ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(all, 0), "id")), 4);
	json_decref(all);
	ck_assert_ptr_null(jobs_describe(jobs, 3));
	ck_assert_ptr_null(jobs_describe(jobs, 0));
	ck_assert_ptr_null(jobs_describe(jobs, JOBS_KEPT + 4));
	ck_assert_ptr_null(jobs_describe(jobs, UINT64_MAX));
}
END_TEST

START_TEST(test_none)
{
	json_t *all = jobs_describe_all(jobs);

	ck_assert_uint_eq(json_array_size(all), 0);
	json_decref(all);
	ck_assert_uint_eq(jobs_current(jobs), 0);
}
END_TEST

/* While it works, and when its end is on its way to main. */
START_TEST(test_destroy)
{
	struct work work;

	work_init(&work, _i == 0 ? 1 : 0);
	(void)start(&ops_with_cancel, &work);
	(void)sem_post(&work.go);
	jobs_destroy(jobs);
	jobs = NULL;
	ck_assert_uint_eq(work.ended, 1);
	ck_assert_int_eq(atomic_load(&work.interrupted), true);
	/* Nothing of it is left in the loop. */
	ck_assert_int_eq(loop_step(&loop, 0), 0);
	ck_assert_uint_eq(work.ended, 1);
}
END_TEST

/* --- a spawner --------------------------------------------------------------------------------- */

/* What was asked of it waits until the test has it done. */
static struct spawner {
	struct job_spawner base;
	int (*start)(void *arg, struct error *e);
	void (*told)(void *arg, const struct error *failure);
	void *arg;
	bool refuses, cannot_enter;
	_Atomic unsigned entered;
} spawner;

static int spawn(struct job_spawner *base, int (*begin)(void *arg, struct error *e),
		 void (*told)(void *arg, const struct error *failure), void *arg, struct error *err)
{
	ck_assert_ptr_eq(base, &spawner.base);
	if (spawner.refuses) {
		return error_set(err, ERROR_BUSY, EBUSY, "not now");
	}
	ck_assert_ptr_null(spawner.start);
	spawner.start = begin;
	spawner.told = told;
	spawner.arg = arg;
	return 0;
}

static int enter(struct job_spawner *base, struct error *err)
{
	atomic_fetch_add(&container_of(base, struct spawner, base)->entered, 1);
	return spawner.cannot_enter ? error_set(err, ERROR_SANDBOX, EPERM, "no filter") : 0;
}

static void use_spawner(void)
{
	spawner = (struct spawner){ .base = { .spawn = spawn, .enter = enter } };
	jobs_spawn_by(jobs, &spawner.base);
}

static void *call_start(void *arg)
{
	(void)arg;
	check_ok(spawner.start(spawner.arg, &e), &e);
	return NULL;
}

/* On a thread of its own, as a VM's does it. */
static void spawner_starts(void)
{
	pthread_t thread;

	ck_assert_ptr_nonnull(spawner.start);
	ck_assert_int_eq(pthread_create(&thread, NULL, call_start, NULL), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

static void spawner_tells(const struct error *failure)
{
	spawner.start = NULL;
	spawner.told(spawner.arg, failure);
}

/* It begins when main has heard of its thread, not before. */
START_TEST(test_spawner)
{
	use_spawner();
	for (unsigned i = 1; i <= 3; i++) {
		struct work work;
		uint64_t id = 0;

		work_init(&work, 0);
		check_ok(jobs_start(jobs, &ops, &work, &id, &e), &e);
		ck_assert_uint_eq(id, i);
		expect(id, "state", "running");
		expect(id, "phase", "starting");
		spawner_starts();
		ck_assert_int_eq(loop_step(&loop, 10), 0);
		ck_assert_uint_eq(atomic_load(&spawner.entered), i - 1);
		ck_assert_int_ne(sem_trywait(&work.told), 0);
		spawner_tells(NULL);
		(void)sem_wait(&work.told);
		ck_assert_uint_eq(work.ended, 0);
		(void)sem_post(&work.go);
		wait_for_end(&work);
		expect(id, "state", "done");
		ck_assert_uint_eq(atomic_load(&spawner.entered), i);
	}
}
END_TEST

/* No thread, or none that may be used: the job has failed, the next one works. */
START_TEST(test_spawner_fails)
{
	struct error why = { 0 };
	struct work work;
	uint64_t id = 0;

	use_spawner();
	work_init(&work, 0);
	spawner.refuses = true;
	ck_assert_int_lt(jobs_start(jobs, &ops, &work, &id, &e), 0);
	check_error(&e, ERROR_BUSY, "fake: not now");
	ck_assert_uint_eq(jobs_current(jobs), 0);
	ck_assert_ptr_null(jobs_describe(jobs, 1));
	ck_assert_uint_eq(work.ended, 0);
	spawner.refuses = false;
	check_ok(jobs_start(jobs, &ops, &work, &id, &e), &e);
	(void)error_set(&why, ERROR_INTERNAL, EAGAIN, "no thread");
	spawner_tells(&why);
	ck_assert_uint_eq(work.ended, 1);
	expect(id, "state", "failed");
	work_init(&work, 0);
	spawner.cannot_enter = true;
	check_ok(jobs_start(jobs, &ops, &work, &id, &e), &e);
	spawner_starts();
	spawner_tells(NULL);
	wait_for_end(&work);
	expect(id, "state", "failed");
	ck_assert_int_ne(sem_trywait(&work.told), 0);
	spawner.cannot_enter = false;
	work_init(&work, 0);
	check_ok(jobs_start(jobs, &ops, &work, &id, &e), &e);
	spawner_starts();
	spawner_tells(NULL);
	(void)sem_post(&work.go);
	wait_for_end(&work);
	expect(id, "state", "done");
}
END_TEST

/* The end finds a job at work, at its end, and one whose thread comes too late, or never, or is there before
 * main has heard of it. */
START_TEST(test_spawner_ends)
{
	struct error why = { 0 };
	struct work work;
	uint64_t id = 0;

	use_spawner();
	work_init(&work, _i == 0 ? 1 : 0);
	check_ok(jobs_start(jobs, &ops, &work, &id, &e), &e);
	if (_i < 2) {
		spawner_starts();
		spawner_tells(NULL);
		(void)sem_wait(&work.told);
		(void)sem_post(&work.go);
	} else if (_i == 4) {
		spawner_starts();
	}
	jobs_end(jobs);
	ck_assert_uint_eq(work.ended, _i < 2);
	if (_i == 2) {
		spawner_starts();
		spawner_tells(NULL);
		ck_assert_int_ne(sem_trywait(&work.told), 0);
	} else if (_i == 4) {
		spawner_tells(NULL);
		ck_assert_int_ne(sem_trywait(&work.told), 0);
	} else if (_i == 3) {
		(void)error_set(&why, ERROR_CANCELLED, ECANCELED, "the VM ends");
		spawner_tells(&why);
	}
	ck_assert_uint_eq(work.ended, 1);
	expect(1, "state", _i == 1 ? "done" : "cancelled");
	ck_assert_int_eq(loop_step(&loop, 0), 0);
	ck_assert_uint_eq(work.ended, 1);
	ck_assert_int_lt(jobs_start(jobs, &ops, &work, &id, &e), 0);
	check_error(&e, ERROR_CANCELLED, "ends");
}
END_TEST

CHECK_MAIN("job", CHECK_FIXTURE(setup, teardown); CHECK_TABLE(test_run, results);
	   CHECK_LOOP(test_cancel, 2); CHECK_TEST(test_one_at_a_time); CHECK_TEST(test_kept);
	   CHECK_TEST(test_none); CHECK_LOOP(test_destroy, 2); CHECK_TEST(test_spawner);
	   CHECK_TEST(test_spawner_fails); CHECK_LOOP(test_spawner_ends, 5))
