/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/check_main.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/worker.h"

static struct worker worker;
static struct error e;

static void setup(void)
{
	memset(&worker, 0, sizeof(worker));
	memset(&e, 0, sizeof(e));
	check_ok(worker_init(&worker, "disk0", &e), &e);
}

static void teardown(void)
{
	worker_finish(&worker);
}

struct seen {
	bool current;
	pthread_t thread;
	char name[WORKER_NAME_SIZE];
	sigset_t blocked;
};

static void look(void *arg)
{
	struct seen *seen = arg;

	seen->current = worker_is_current(&worker);
	seen->thread = pthread_self();
	(void)pthread_getname_np(pthread_self(), seen->name, sizeof(seen->name));
	(void)pthread_sigmask(SIG_SETMASK, NULL, &seen->blocked);
}

START_TEST(test_call)
{
	struct seen seen = { 0 };

	check_ok(worker_start(&worker, NULL, NULL, &e), &e);
	ck_assert(!worker_is_current(&worker));
	worker_call(&worker, look, &seen);
	ck_assert(seen.current);
	ck_assert(!pthread_equal(seen.thread, pthread_self()));
	ck_assert_str_eq(seen.name, "disk0");
	/* Asynchronous signals are for main; the sandbox reports by SIGSYS. */
	ck_assert(sigismember(&seen.blocked, SIGTERM));
	ck_assert(sigismember(&seen.blocked, SIGUSR1));
	ck_assert(!sigismember(&seen.blocked, SIGSYS));
	ck_assert(!sigismember(&seen.blocked, SIGBUS));
}
END_TEST

START_TEST(test_start_leaves_callers_signals)
{
	sigset_t before, after;

	(void)pthread_sigmask(SIG_SETMASK, NULL, &before);
	check_ok(worker_start(&worker, NULL, NULL, &e), &e);
	(void)pthread_sigmask(SIG_SETMASK, NULL, &after);
	ck_assert_int_eq(sigismember(&before, SIGTERM), sigismember(&after, SIGTERM));
	ck_assert_int_eq(sigismember(&after, SIGUSR1), 0);
}
END_TEST

static void count(void *arg)
{
	(*(unsigned int *)arg)++; /* unsynchronised: calls themselves must order it */
}

#define CALLERS 4
#define CALLS	500

static void *caller(void *arg)
{
	for (unsigned int i = 0; i < CALLS; i++) {
		worker_call(&worker, count, arg);
	}
	return NULL;
}

START_TEST(test_many_callers)
{
	pthread_t threads[CALLERS];
	unsigned int counter = 0;

	check_ok(worker_start(&worker, NULL, NULL, &e), &e);
	for (size_t i = 0; i < CALLERS; i++) {
		ck_assert_int_eq(pthread_create(&threads[i], NULL, caller, &counter), 0);
	}
	for (size_t i = 0; i < CALLERS; i++) {
		(void)pthread_join(threads[i], NULL);
	}
	ck_assert_uint_eq(counter, CALLERS * CALLS);
}
END_TEST

START_TEST(test_calls_wait_for_start)
{
	pthread_t threads[CALLERS];
	unsigned int counter = 0;

	for (size_t i = 0; i < CALLERS; i++) {
		ck_assert_int_eq(pthread_create(&threads[i], NULL, caller, &counter), 0);
	}
	check_ok(worker_start(&worker, NULL, NULL, &e), &e);
	for (size_t i = 0; i < CALLERS; i++) {
		(void)pthread_join(threads[i], NULL);
	}
	ck_assert_uint_eq(counter, CALLERS * CALLS);
}
END_TEST

static void on_signal(int signal)
{
	(void)signal;
}

static void signal_the_caller(void *arg)
{
	for (int i = 0; i < 100; i++) {
		(void)pthread_kill(*(pthread_t *)arg, SIGUSR1);
		(void)sched_yield();
	}
}

/* vCPU threads are interrupted by signals all the time. */
START_TEST(test_call_survives_signals)
{
	const struct sigaction action = { .sa_handler = on_signal };
	pthread_t self = pthread_self();
	unsigned int counter = 0;

	ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
	check_ok(worker_start(&worker, NULL, NULL, &e), &e);
	worker_call(&worker, signal_the_caller, &self);
	worker_call(&worker, count, &counter);
	ck_assert_uint_eq(counter, 1);
}
END_TEST

static struct loop_source source;
static _Atomic unsigned int ready;

static void on_ready(struct loop_source *s, uint32_t events)
{
	uint64_t value;

	(void)events;
	ck_assert(worker_is_current(&worker));
	if (read(s->fd, &value, sizeof(value)) == sizeof(value)) {
		atomic_fetch_add(&ready, (unsigned int)value);
	}
}

static void add_source(void *arg)
{
	check_ok(loop_source_add(&worker.loop, &source, *(int *)arg, EPOLLIN, on_ready, &e), &e);
}

static void remove_source(void *arg)
{
	(void)arg;
	loop_source_remove(&source);
}

START_TEST(test_sources)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	unsigned int counter = 0;

	ck_assert_int_ge(fd, 0);
	check_ok(worker_start(&worker, NULL, NULL, &e), &e);
	worker_call(&worker, add_source, &fd);
	ck_assert_int_eq(eventfd_write(fd, 3), 0);
	worker_call(&worker, count, &counter);
	worker_call(&worker, count, &counter);
	ck_assert_uint_eq(atomic_load(&ready), 3);
	worker_call(&worker, remove_source, NULL);
	ck_assert_int_eq(eventfd_write(fd, 3), 0);
	worker_call(&worker, count, &counter);
	worker_call(&worker, count, &counter);
	ck_assert_uint_eq(atomic_load(&ready), 3);
	(void)close(fd);
}
END_TEST

static int enter_well(void *arg, struct error *error)
{
	(void)error;
	*(pthread_t *)arg = pthread_self();
	return 0;
}

START_TEST(test_enter_runs_first)
{
	pthread_t entered;
	struct seen seen = { 0 };

	check_ok(worker_start(&worker, enter_well, &entered, &e), &e);
	worker_call(&worker, look, &seen);
	ck_assert(pthread_equal(entered, seen.thread));
}
END_TEST

static void *call_until_refused(void *arg)
{
	while (worker_call(&worker, count, arg)) {
	}
	return NULL;
}

/* Some wait already, some come in that moment, some later: none runs, all return. */
START_TEST(test_cancel)
{
	unsigned int counter = 0;
	pthread_t callers[8];

	for (size_t i = 0; i < ARRAY_SIZE(callers); i++) {
		ck_assert_int_eq(pthread_create(&callers[i], NULL, call_until_refused, &counter),
				 0);
		if (i == _i % ARRAY_SIZE(callers)) {
			worker_cancel(&worker);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(callers); i++) {
		ck_assert_int_eq(pthread_join(callers[i], NULL), 0);
	}
	ck_assert(!worker_call(&worker, count, &counter));
	ck_assert_uint_eq(counter, 0);
}
END_TEST

static int enter_badly(void *arg, struct error *error)
{
	(void)arg;
	return error_set(error, ERROR_SANDBOX, EPERM, "filter refused");
}

START_TEST(test_enter_failure_ends_the_process)
{
	char text[512] = "";
	ssize_t n;
	int fds[2], status;
	pid_t pid;

	ck_assert_int_eq(pipe(fds), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		struct worker failing;

		(void)dup2(fds[1], 2);
		if (worker_init(&failing, "net-rx", NULL) == 0 &&
		    worker_start(&failing, enter_badly, NULL, NULL) == 0) {
			(void)pause();
		}
		_exit(1);
	}
	(void)close(fds[1]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 125);
	n = read(fds[0], text, sizeof(text) - 1);
	ck_assert_int_gt(n, 0);
	ck_assert_ptr_nonnull(strstr(text, "thread 'net-rx': filter refused"));
	(void)close(fds[0]);
}
END_TEST

START_TEST(test_finish)
{
	struct worker zeroed;

	memset(&zeroed, 0, sizeof(zeroed));
	worker_finish(&zeroed);
	worker_finish(&worker); /* never started */
	worker_finish(&worker); /* twice */
	check_ok(worker_init(&worker, "a name that is too long for a thread", &e), &e);
	ck_assert_str_eq(worker.name, "a name that is ");
	check_ok(worker_start(&worker, NULL, NULL, &e), &e);
	worker_finish(&worker);
	ck_assert(!worker_is_current(&worker));
}
END_TEST

static void wait_for(void *arg)
{
	while (sem_wait(arg) != 0) {
	}
}

/* Also in the middle of a slice. */
START_TEST(test_join_in_time)
{
	struct loop_post post;
	sem_t go;

	ck_assert_int_eq(sem_init(&go, 0, 0), 0);
	post = (struct loop_post){ .run = wait_for, .arg = &go };
	check_ok(worker_start(&worker, NULL, NULL, &e), &e);
	loop_post(&worker.loop, &post);
	loop_stop(&worker.loop);
	ck_assert(!worker_join(&worker, 0));
	ck_assert(!worker_join(&worker, 1000000));
	ck_assert(!worker_join(&worker, 150000000));
	(void)sem_post(&go);
	ck_assert(worker_join(&worker, UINT64_MAX));
	ck_assert(!worker.started);
	worker_finish(&worker);
	(void)sem_destroy(&go);
}
END_TEST

START_TEST(test_syscalls_are_named_once)
{
	for (size_t i = 0; i < worker_syscalls.count; i++) {
		for (size_t k = i + 1; k < worker_syscalls.count; k++) {
			ck_assert_str_ne(worker_syscalls.rules[i].name,
					 worker_syscalls.rules[k].name);
		}
	}
}
END_TEST

CHECK_MAIN("worker", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_call);
	   CHECK_TEST(test_start_leaves_callers_signals); CHECK_TEST(test_many_callers);
	   CHECK_TEST(test_calls_wait_for_start); CHECK_TEST(test_call_survives_signals);
	   CHECK_TEST(test_sources); CHECK_TEST(test_enter_runs_first); CHECK_LOOP(test_cancel, 32);
	   CHECK_TEST(test_enter_failure_ends_the_process); CHECK_TEST(test_finish);
	   CHECK_TEST(test_join_in_time); CHECK_TEST(test_syscalls_are_named_once))
