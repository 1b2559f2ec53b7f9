/* SPDX-License-Identifier: Apache-2.0 */
#include "harness/check_main.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/loop.h"

#define MS 1000000ULL

static struct loop loop;
static struct error err;

/* A source on an eventfd that counts its calls and may do something on the way. */
struct probe {
	struct loop_source source;
	int fd;
	int calls;
	uint32_t events;
	struct probe *other;
	void (*action)(struct probe *probe);
};

static void probe_ready(struct loop_source *source, uint32_t events)
{
	struct probe *probe = container_of(source, struct probe, source);

	probe->calls++;
	probe->events = events;
	if (probe->action != NULL) {
		probe->action(probe);
	}
}

static void probe_init(struct probe *probe, unsigned int initial)
{
	*probe = (struct probe){ .fd = eventfd(initial, EFD_CLOEXEC | EFD_NONBLOCK) };
	ck_assert_int_ge(probe->fd, 0);
	check_ok(loop_source_add(&loop, &probe->source, probe->fd, EPOLLIN, probe_ready, &err),
		 &err);
}

static void probe_finish(struct probe *probe)
{
	loop_source_remove(&probe->source);
	(void)close(probe->fd);
}

static struct loop_timer timers[4];
static char order[32];

static void setup(void)
{
	memset(timers, 0, sizeof(timers));
	order[0] = '\0';
	check_ok(loop_init(&loop, &err), &err);
}

static void teardown(void)
{
	loop_finish(&loop);
}

START_TEST(test_source)
{
	struct probe p;
	uint64_t count;

	probe_init(&p, 0);
	ck_assert_int_eq(loop_step(&loop, 0), 0);
	ck_assert_int_eq(p.calls, 0);
	ck_assert_int_eq(eventfd_write(p.fd, 1), 0);
	ck_assert_int_eq(loop_step(&loop, -1), 0);
	ck_assert_int_eq(loop_step(&loop, -1), 0); /* level triggered */
	ck_assert_int_eq(p.calls, 2);
	ck_assert_uint_eq(p.events, EPOLLIN);
	ck_assert_int_eq(eventfd_read(p.fd, &count), 0);
	ck_assert_int_eq(loop_step(&loop, 0), 0);
	ck_assert_int_eq(p.calls, 2);
	probe_finish(&p);
	ck_assert_ptr_null(p.source.loop);
	loop_source_remove(&p.source);
}
END_TEST

START_TEST(test_remove_of_nothing)
{
	struct loop_source source = { 0 };
	struct loop_timer timer = { 0 };
	struct loop nothing = { 0 };

	loop_source_remove(&source);
	ck_assert_int_eq(loop_source_modify(&source, EPOLLIN), -EINVAL);
	loop_timer_cancel(&timer);
	loop_finish(&nothing);
	loop_finish(&nothing);
	ck_assert_int_ge(fcntl(STDERR_FILENO, F_GETFD), 0);
}
END_TEST

START_TEST(test_modify)
{
	struct probe p;

	probe_init(&p, 1);
	ck_assert_int_eq(loop_source_modify(&p.source, 0), 0);
	ck_assert_int_eq(loop_source_modify(&p.source, 0), 0);
	ck_assert_int_eq(loop_step(&loop, 0), 0);
	ck_assert_int_eq(p.calls, 0);
	ck_assert_int_eq(loop_source_modify(&p.source, EPOLLOUT), 0);
	ck_assert_int_eq(loop_step(&loop, -1), 0);
	ck_assert_uint_eq(p.events, EPOLLOUT);
	ck_assert_int_eq(loop_source_modify(&p.source, EPOLLIN | EPOLLOUT), 0);
	ck_assert_int_eq(loop_step(&loop, -1), 0);
	ck_assert_uint_eq(p.events, EPOLLIN | EPOLLOUT);
	ck_assert_int_eq(loop_source_modify(&p.source, 0), 0);
	probe_finish(&p);
}
END_TEST

/* A silent source says nothing about a peer that hung up, which would otherwise spin the loop. */
START_TEST(test_silent_hangup)
{
	struct probe p = { 0 };
	int fds[2];

	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	check_ok(loop_source_add(&loop, &p.source, fds[0], 0, probe_ready, &err), &err);
	(void)close(fds[1]);
	ck_assert_int_eq(loop_step(&loop, 0), 0);
	ck_assert_int_eq(p.calls, 0);
	ck_assert_int_eq(loop_source_modify(&p.source, EPOLLIN), 0);
	ck_assert_int_eq(loop_step(&loop, 0), 0);
	ck_assert_uint_eq(p.events, EPOLLHUP);
	loop_source_remove(&p.source);
	(void)close(fds[0]);
}
END_TEST

static void remove_other(struct probe *p)
{
	loop_source_remove(&p->other->source);
}

static void remove_self(struct probe *p)
{
	loop_source_remove(&p->source);
}

static void silence_other(struct probe *p)
{
	ck_assert_int_eq(loop_source_modify(&p->other->source, 0), 0);
}

/* The slot of the removed source is taken again at once, by a descriptor that is not ready. */
static struct probe newcomer;

static void replace_other(struct probe *p)
{
	if (p->other->source.loop != NULL) {
		loop_source_remove(&p->other->source);
		probe_init(&newcomer, 0);
		ck_assert_uint_eq(newcomer.source.slot, p->other->source.slot);
	}
}

static void (*const actions[])(struct probe *) = { remove_other, silence_other, replace_other };

/* Both are ready in one round; the first one that runs takes the other away, whose event is then
 * stale. */
START_TEST(test_stale_events)
{
	struct probe a, b;

	newcomer = (struct probe){ 0 };
	probe_init(&a, 1);
	probe_init(&b, 1);
	a.other = &b;
	b.other = &a;
	a.action = b.action = actions[_i];
	ck_assert_int_eq(loop_step(&loop, -1), 0);
	ck_assert_int_eq(a.calls + b.calls, 1);
	ck_assert_int_eq(newcomer.calls, 0);
	if (newcomer.source.loop != NULL) {
		ck_assert_int_eq(eventfd_write(newcomer.fd, 1), 0);
		ck_assert_int_eq(loop_step(&loop, -1), 0);
		ck_assert_int_eq(newcomer.calls, 1);
		probe_finish(&newcomer);
	}
	probe_finish(&a);
	probe_finish(&b);
}
END_TEST

START_TEST(test_remove_self)
{
	struct probe p;

	probe_init(&p, 1);
	p.action = remove_self;
	ck_assert_int_eq(loop_step(&loop, -1), 0);
	ck_assert_int_eq(loop_step(&loop, 0), 0);
	ck_assert_int_eq(p.calls, 1);
	probe_finish(&p);
}
END_TEST

START_TEST(test_full)
{
	static struct probe probes[LOOP_SOURCES_MAX];
	struct loop_source extra;

	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < LOOP_SOURCES_MAX - 1; i++) {
			probe_init(&probes[i], 1);
		}
		ck_assert_int_eq(
			loop_source_add(&loop, &extra, STDERR_FILENO, EPOLLIN, probe_ready, &err),
			-ENOSPC);
		check_error(&err, ERROR_INTERNAL, "64");
		/* More than one batch of events: nobody starves. */
		for (int i = 0; i < 10; i++) {
			ck_assert_int_eq(loop_step(&loop, 0), 0);
		}
		for (int i = 0; i < LOOP_SOURCES_MAX - 1; i++) {
			ck_assert_int_gt(probes[i].calls, 0);
			probe_finish(&probes[i]);
		}
	}
}
END_TEST

static const uint32_t sizes[] = { 1, 2, 3, 64, 65, 1000, LOOP_SOURCES_SIZED_MAX };

/* Every slot can be had, in any order of coming and going, and no more than that, as far as this
 * process may have descriptors. */
START_TEST(test_sized)
{
	uint32_t count = MIN(sizes[_i] - 1, 500U);
	struct probe *probes = calloc(count + 1, sizeof(*probes));
	struct loop_source extra = { 0 };

	ck_assert_ptr_nonnull(probes);
	loop_finish(&loop);
	check_ok(loop_init_sized(&loop, sizes[_i], &err), &err);
	for (int round = 0; round < 4; round++) {
		for (uint32_t i = 0; i < count; i++) {
			if (probes[i].source.loop == NULL) {
				probe_init(&probes[i], 1);
			}
		}
		if (count + 1 == sizes[_i]) {
			ck_assert_int_eq(loop_source_add(&loop, &extra, STDERR_FILENO, EPOLLIN,
							 probe_ready, &err),
					 -ENOSPC);
		}
		for (uint32_t i = 0; i < count / 16 + 1; i++) {
			ck_assert_int_eq(loop_step(&loop, 0), 0);
		}
		for (uint32_t i = 0; i < count; i++) {
			ck_assert_int_gt(probes[i].calls, 0);
			if (i % 3 == (uint32_t)round % 3) {
				probe_finish(&probes[i]);
			}
		}
	}
	for (uint32_t i = 0; i < count; i++) {
		for (uint32_t j = 0; probes[i].source.loop != NULL && j < i; j++) {
			ck_assert(probes[j].source.loop == NULL ||
				  probes[i].source.slot != probes[j].source.slot);
		}
	}
	for (uint32_t i = 0; i < count; i++) {
		if (probes[i].source.loop != NULL) {
			probe_finish(&probes[i]);
		}
	}
	free(probes);
}
END_TEST

/* A failed addition gives its slot back. */
START_TEST(test_failed_add_keeps_room)
{
	struct loop_source source = { 0 };

	for (int i = 0; i < 2 * LOOP_SOURCES_MAX; i++) {
		ck_assert_int_eq(loop_source_add(&loop, &source, -1, EPOLLIN, probe_ready, &err),
				 -EBADF);
	}
	check_ok(loop_source_add(&loop, &source, STDERR_FILENO, 0, probe_ready, &err), &err);
	ck_assert_uint_lt(source.slot, 2);
	loop_source_remove(&source);
}
END_TEST

START_TEST(test_add_errors)
{
	struct loop_source source = { 0 };
	char path[] = "/tmp/test_loop.XXXXXX";
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	(void)unlink(path);
	ck_assert_int_eq(loop_source_add(&loop, &source, fd, EPOLLIN, probe_ready, &err), -EPERM);
	(void)close(fd);
	ck_assert_int_eq(loop_source_add(&loop, &source, fd, EPOLLIN, probe_ready, &err), -EBADF);
	ck_assert_int_eq(loop_source_add(&loop, &source, -1, EPOLLIN, probe_ready, NULL), -EBADF);
	ck_assert_ptr_null(source.loop);
}
END_TEST

static void note(struct loop_timer *timer)
{
	char c[2] = { (char)('a' + (timer - timers)), '\0' };

	ck_assert_ptr_null(timer->loop);
	ck_assert_uint_ge(loop_now_ns(), timer->deadline_ns);
	strncat(order, c, sizeof(order) - strlen(order) - 1);
}

static void run_until(const char *expected)
{
	for (int i = 0; i < 100 && strcmp(order, expected) != 0; i++) {
		ck_assert_int_eq(loop_step(&loop, 20), 0);
	}
	ck_assert_str_eq(order, expected);
}

START_TEST(test_timers_in_order)
{
	loop_timer_set(&loop, &timers[0], 9 * MS, note);
	loop_timer_set(&loop, &timers[1], 3 * MS, note);
	loop_timer_set(&loop, &timers[2], 6 * MS, note);
	loop_timer_set(&loop, &timers[3], 0, note);
	run_until("dbca");
	ck_assert_ptr_null(loop.timers);
}
END_TEST

START_TEST(test_timer_cancel_and_rearm)
{
	loop_timer_set(&loop, &timers[0], 2 * MS, note);
	loop_timer_set(&loop, &timers[1], 4 * MS, note);
	loop_timer_set(&loop, &timers[2], 6 * MS, note);
	loop_timer_cancel(&timers[1]);
	loop_timer_cancel(&timers[1]);
	loop_timer_set(&loop, &timers[0], 8 * MS, note); /* moves behind */
	run_until("ca");
	loop_timer_set(&loop, &timers[3], UINT64_MAX, note);
	ck_assert_int_eq(loop_step(&loop, 1), 0);
	ck_assert_str_eq(order, "ca");
	ck_assert_ptr_nonnull(timers[3].loop);
}
END_TEST

static void cancel_next(struct loop_timer *timer)
{
	note(timer);
	loop_timer_cancel(&timers[1]);
	loop_timer_set(&loop, &timers[2], 0, note);
}

START_TEST(test_timer_cancelled_by_timer)
{
	loop_timer_set(&loop, &timers[0], 0, cancel_next);
	loop_timer_set(&loop, &timers[1], 1, note);
	run_until("ac");
	ck_assert_int_eq(loop_step(&loop, 2), 0);
	ck_assert_str_eq(order, "ac");
}
END_TEST

static int rearmed;

static void rearm(struct loop_timer *timer)
{
	rearmed++;
	loop_timer_set(&loop, timer, 0, rearm);
}

/* A timer that always re-arms itself at once does not keep other sources from running. */
START_TEST(test_timer_does_not_starve)
{
	struct probe p;

	probe_init(&p, 1);
	loop_timer_set(&loop, &timers[0], 0, rearm);
	for (int i = 0; i < 5; i++) {
		ck_assert_int_eq(loop_step(&loop, -1), 0);
	}
	ck_assert_int_eq(p.calls, 5);
	ck_assert_int_ge(rearmed, 1);
	probe_finish(&p);
}
END_TEST

START_TEST(test_finish_lets_go)
{
	struct probe p;

	probe_init(&p, 1);
	loop_timer_set(&loop, &timers[0], 0, note);
	loop_finish(&loop);
	ck_assert_ptr_null(p.source.loop);
	ck_assert_ptr_null(timers[0].loop);
	loop_source_remove(&p.source);
	loop_timer_cancel(&timers[0]);
	(void)close(p.fd);
}
END_TEST

struct job {
	struct loop_post post;
	int *sum;
	int add;
	struct job *again;
};

static void job_run(void *arg)
{
	struct job *job = arg;

	*job->sum = *job->sum * 10 + job->add;
	if (job->again != NULL) {
		loop_post(&loop, &job->again->post);
	}
}

static void job_init(struct job *job, int *sum, int add)
{
	*job = (struct job){ .post = { .run = job_run, .arg = job }, .sum = sum, .add = add };
}

START_TEST(test_posts_in_order)
{
	struct job jobs[4];
	int sum = 0;

	for (int i = 0; i < 4; i++) {
		job_init(&jobs[i], &sum, i + 1);
	}
	jobs[0].again = &jobs[3];
	for (int i = 0; i < 3; i++) {
		loop_post(&loop, &jobs[i].post);
	}
	ck_assert_int_eq(sum, 0);
	ck_assert_int_eq(loop_step(&loop, -1), 0);
	ck_assert_int_eq(sum, 123);
	ck_assert_int_eq(loop_step(&loop, -1), 0);
	ck_assert_int_eq(sum, 1234);
	ck_assert_int_eq(loop_step(&loop, 0), 0);
	ck_assert_int_eq(sum, 1234);
	/* A node that has run may be posted again. */
	jobs[0].again = NULL;
	loop_post(&loop, &jobs[0].post);
	ck_assert_int_eq(loop_step(&loop, -1), 0);
	ck_assert_int_eq(sum, 12341);
}
END_TEST

/* Cancelled nodes do not run: the last, the first, one of the same round; what is posted later does. */
struct canceller {
	struct loop_post post;
	struct loop_post *other;
};

static void cancel_run(void *arg)
{
	struct canceller *canceller = arg;

	loop_post_cancel(&loop, canceller->other);
}

START_TEST(test_post_cancel)
{
	struct job jobs[4];
	struct canceller canceller;
	int sum = 0;

	for (int i = 0; i < 4; i++) {
		job_init(&jobs[i], &sum, 1 << i);
	}
	canceller = (struct canceller){ .post = { .run = cancel_run, .arg = &canceller },
					.other = &jobs[2].post };
	loop_post_cancel(&loop, &jobs[0].post); /* never posted */
	loop_post(&loop, &jobs[0].post);
	loop_post(&loop, &jobs[1].post);
	loop_post_cancel(&loop, &jobs[1].post);
	loop_post_cancel(&loop, &jobs[0].post);
	loop_post(&loop, &canceller.post);
	loop_post(&loop, &jobs[2].post);
	loop_post(&loop, &jobs[3].post);
	ck_assert_int_eq(loop_step(&loop, 0), 0);
	ck_assert_int_eq(loop_step(&loop, 0), 0);
	ck_assert_int_eq(sum, 8);
	loop_post(&loop, &jobs[0].post);
	ck_assert_int_eq(loop_step(&loop, 0), 0);
	ck_assert_int_eq(sum, 81);
}
END_TEST

static void free_job(void *arg)
{
	free(arg);
}

START_TEST(test_post_frees_its_node)
{
	for (int i = 0; i < 3; i++) {
		struct loop_post *post = calloc(1, sizeof(*post));

		ck_assert_ptr_nonnull(post);
		*post = (struct loop_post){ .run = free_job, .arg = post };
		loop_post(&loop, post);
	}
	ck_assert_int_eq(loop_step(&loop, -1), 0);
}
END_TEST

#define POSTERS 3
#define POSTS	500

struct numbered {
	struct loop_post post;
	int poster, number;
};

static struct numbered numbered[POSTERS][POSTS];
static int seen[POSTERS], total; /* the loop's thread only: TSan checks that */

static void numbered_run(void *arg)
{
	struct numbered *n = arg;

	ck_assert_int_eq(n->number, seen[n->poster]);
	seen[n->poster]++;
	if (++total == POSTERS * POSTS) {
		loop_stop(&loop);
	}
}

static void *poster(void *arg)
{
	int id = (int)(intptr_t)arg;

	for (int i = 0; i < POSTS; i++) {
		numbered[id][i] = (struct numbered){
			.post = { .run = numbered_run, .arg = &numbered[id][i] },
			.poster = id,
			.number = i,
		};
		loop_post(&loop, &numbered[id][i].post);
	}
	return NULL;
}

START_TEST(test_posts_of_threads)
{
	pthread_t threads[POSTERS];

	for (intptr_t i = 0; i < POSTERS; i++) {
		ck_assert_int_eq(pthread_create(&threads[i], NULL, poster, (void *)i), 0);
	}
	ck_assert_int_eq(loop_run(&loop), 0);
	ck_assert_int_eq(total, POSTERS * POSTS);
	for (int i = 0; i < POSTERS; i++) {
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
		ck_assert_int_eq(seen[i], POSTS);
	}
}
END_TEST

static void *stopper(void *arg)
{
	loop_stop(arg);
	return NULL;
}

START_TEST(test_stop)
{
	pthread_t thread;
	struct job job;
	int sum = 0;

	/* Before it runs: one round, so what was posted is not lost. */
	job_init(&job, &sum, 5);
	loop_post(&loop, &job.post);
	loop_stop(&loop);
	ck_assert_int_eq(loop_run(&loop), 0);
	ck_assert_int_eq(sum, 5);
	/* From another thread, while it waits for ever; and it can run again. */
	for (int i = 0; i < 10; i++) {
		ck_assert_int_eq(pthread_create(&thread, NULL, stopper, &loop), 0);
		ck_assert_int_eq(loop_run(&loop), 0);
		ck_assert_int_eq(pthread_join(thread, NULL), 0);
	}
}
END_TEST

/* No descriptor is left behind. */
START_TEST(test_no_leak)
{
	int before = dup(STDERR_FILENO), after;

	(void)close(before);
	for (int i = 0; i < 10; i++) {
		struct loop l;

		check_ok(loop_init(&l, &err), &err);
		loop_finish(&l);
		loop_finish(&l);
	}
	after = dup(STDERR_FILENO);
	(void)close(after);
	ck_assert_int_eq(before, after);
}
END_TEST

CHECK_MAIN("loop", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_source);
	   CHECK_TEST(test_remove_of_nothing); CHECK_TEST(test_modify);
	   CHECK_TEST(test_silent_hangup); CHECK_TABLE(test_stale_events, actions);
	   CHECK_TEST(test_remove_self); CHECK_TEST(test_full); CHECK_TABLE(test_sized, sizes);
	   CHECK_TEST(test_failed_add_keeps_room); CHECK_TEST(test_add_errors);
	   CHECK_TEST(test_timers_in_order); CHECK_TEST(test_timer_cancel_and_rearm);
	   CHECK_TEST(test_timer_cancelled_by_timer); CHECK_TEST(test_timer_does_not_starve);
	   CHECK_TEST(test_finish_lets_go); CHECK_TEST(test_posts_in_order);
	   CHECK_TEST(test_post_cancel); CHECK_TEST(test_post_frees_its_node);
	   CHECK_TEST(test_posts_of_threads); CHECK_TEST(test_stop); CHECK_TEST(test_no_leak))
