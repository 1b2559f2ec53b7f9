/* SPDX-License-Identifier: Apache-2.0 */
/* A disk that two sides have open, of which one has the lock: shared by the tests of src/block/hold.c. Include behind block_rig.h or
 * cow_rig.h. */
#ifndef TESTS_UNIT_HOLD_RIG_H
#define TESTS_UNIT_HOLD_RIG_H

#include <sys/mman.h>

#define SIDE_QUEUES 3

/* A process's part. */
struct side {
	struct block *b;
	struct loop loops[SIDE_QUEUES];
};

/* As the only thing it does, or NULL: the engine is not on this host. */
static inline struct block *open_held(const struct block_config *config, bool later)
{
	struct block_config wanted = *config;
	struct error e = { 0 };
	struct block *b = NULL;

	wanted.lock_later = later;
	if (block_open(&b, &wanted, &e) < 0) {
		ck_assert_msg(config->engine == BLOCK_ENGINE_URING &&
				      strstr(e.msg, "io_uring") != NULL,
			      "%s", e.msg);
		return NULL;
	}
	ck_assert_int_eq(b->unheld, later);
	return b;
}

static inline void side_attach(struct side *side)
{
	struct error e = { 0 };
	uint32_t i = 0;

	for (struct block *each = side->b; each != NULL; each = each->more, i++) {
		ck_assert_uint_lt(i, SIDE_QUEUES);
		check_ok(loop_init(&side->loops[i], &e), &e);
		check_ok(block_attach(each, &side->loops[i], NULL, NULL, &e), &e);
	}
}

static inline bool side_open(struct side *side, const struct block_config *config, bool later)
{
	side->b = open_held(config, later);
	side_attach(side);
	return side->b != NULL;
}

static inline void side_close(struct side *side)
{
	uint32_t count = block_count(side->b);

	for (struct block *each = side->b; each != NULL; each = each->more) {
		block_detach(each);
	}
	block_close(side->b);
	for (uint32_t i = 0; i < count; i++) {
		loop_finish(&side->loops[i]);
	}
	side->b = NULL;
}

static inline void release(struct block *b)
{
	struct error e = { 0 };

	check_ok(block_release_lock(b, &e), &e);
	for (; b != NULL; b = b->more) {
		ck_assert(b->unheld);
	}
}

static inline void take(struct block *b)
{
	struct error e = { 0 };

	check_ok(block_take_lock(b, &e), &e);
	for (; b != NULL; b = b->more) {
		ck_assert(!b->unheld);
	}
}

static inline void take_fails(struct block *b, enum error_code code, const char *text)
{
	struct error e = { 0 };

	ck_assert_int_lt(block_take_lock(b, &e), 0);
	check_error(&e, code, text);
	ck_assert(b->unheld);
}

/* A worker of the disk, by a number. */
static inline struct block *queue_of(struct block *b, uint32_t number)
{
	for (number %= block_count(b); number > 0; number--) {
		b = b->more;
	}
	return b;
}

static inline void refuses_requests(struct block *b)
{
	static uint8_t data[4096];

	for (; b != NULL; b = b->more) {
		ck_assert_int_eq(run_buf(b, BLOCK_READ, 0, data, sizeof(data)), -EBUSY);
		ck_assert_int_eq(run_buf(b, BLOCK_WRITE, 0, data, sizeof(data)), -EBUSY);
		ck_assert_int_eq(run(b, BLOCK_FLUSH, 0, 0, NULL, 0), -EBUSY);
		ck_assert_int_eq(run(b, BLOCK_DISCARD, 0, 4096, NULL, 0), -EBUSY);
		ck_assert_int_eq(run(b, BLOCK_WRITE_ZEROES, 0, 4096, NULL, 0), -EBUSY);
	}
}

/* A file as it was. */
struct snap {
	struct stat st;
	uint8_t *bytes;
};

static inline struct snap snap(const char *path)
{
	struct snap s;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	ck_assert_int_eq(fstat(fd, &s.st), 0);
	s.bytes = malloc((size_t)s.st.st_size + 1);
	ck_assert_int_eq(pread(fd, s.bytes, (size_t)s.st.st_size, 0), s.st.st_size);
	(void)close(fd);
	return s;
}

static inline void is_as_it_was(const char *path, struct snap *was)
{
	struct snap now = snap(path);

	ck_assert_int_eq(now.st.st_size, was->st.st_size);
	ck_assert_int_eq(now.st.st_mtim.tv_sec, was->st.st_mtim.tv_sec);
	ck_assert_int_eq(now.st.st_mtim.tv_nsec, was->st.st_mtim.tv_nsec);
	ck_assert_mem_eq(now.bytes, was->bytes, (size_t)was->st.st_size);
	free(now.bytes);
	free(was->bytes);
}

/* --- two processes ------------------------------------------------------------------------------ */

/* What the other process is to do with its side, and what came of it. */
enum order { ORDER_TAKE, ORDER_RELEASE, ORDER_WORK, ORDER_CLOSE };
struct other {
	pid_t pid;
	int orders, answers;
};

static inline int ask_other(const struct other *other, enum order order)
{
	int answer = 0;

	ck_assert_int_eq(write(other->orders, &order, sizeof(order)), sizeof(order));
	ck_assert_int_eq(read(other->answers, &answer, sizeof(answer)), sizeof(answer));
	return answer;
}

/* Another process with the disk open, which is to be locked later; `work` is what ORDER_WORK does. */
static inline void start_other(struct other *other, const struct block_config *config,
			       void (*work)(struct block *b))
{
	int orders[2], answers[2];

	ck_assert_int_eq(pipe2(orders, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(answers, O_CLOEXEC), 0);
	other->pid = fork();
	ck_assert_int_ge(other->pid, 0);
	if (other->pid == 0) {
		struct side side;
		enum order order = ORDER_CLOSE;
		int answer = 0;

		(void)close(orders[1]);
		ck_assert(side_open(&side, config, true));
		ck_assert_int_eq(write(answers[1], &answer, sizeof(answer)), sizeof(answer));
		do {
			struct error e = { 0 };

			if (read(orders[0], &order, sizeof(order)) != sizeof(order)) {
				_exit(1);
			}
			answer = 0;
			if (order == ORDER_TAKE) {
				answer = block_take_lock(side.b, &e);
			} else if (order == ORDER_RELEASE) {
				answer = block_release_lock(side.b, &e);
			} else if (order == ORDER_WORK) {
				work(side.b);
			} else {
				side_close(&side);
			}
			ck_assert_int_eq(write(answers[1], &answer, sizeof(answer)),
					 sizeof(answer));
		} while (order != ORDER_CLOSE);
		_exit(0);
	}
	(void)close(orders[0]);
	(void)close(answers[1]);
	other->orders = orders[1];
	other->answers = answers[0];
	ck_assert_int_eq(read(answers[0], orders, sizeof(int)), sizeof(int));
}

static inline void end_other(struct other *other, bool kill_it)
{
	int status = 0;

	if (kill_it) {
		(void)kill(other->pid, SIGKILL);
	} else {
		ck_assert_int_eq(ask_other(other, ORDER_CLOSE), 0);
	}
	ck_assert_int_eq(waitpid(other->pid, &status, 0), other->pid);
	ck_assert(kill_it ? WIFSIGNALED(status) : WIFEXITED(status) && WEXITSTATUS(status) == 0);
	(void)close(other->orders);
	(void)close(other->answers);
}

/* The lock of a process that was killed lives until the kernel has taken its ring apart. */
static inline void take_in_the_end(struct block *b)
{
	uint64_t deadline = loop_now_ns() + 200 * UINT64_C(1000000000);
	struct error e = { 0 };
	int r;

	while ((r = block_take_lock(b, &e)) == -EAGAIN && loop_now_ns() < deadline) {
	}
	check_ok(r, &e);
}

#endif
