/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw disks by io_uring: a batch is handed over with one system call, and what the kernel can do at
 * once is done when that call returns.
 *
 * Main makes the ring, disabled (IORING_SETUP_R_DISABLED), with the disk as its one registered
 * file, and restricts it to reads, fsync and fallocate on registered files: a worker that
 * has been taken over cannot open or connect anything through it. The first worker enables it and
 * owns it from then on (SINGLE_ISSUER); its filter allows io_uring_enter and that one registration
 * call.
 *
 * Completions are looked at directly in the shared ring. An eventfd wakes the worker's loop for
 * those that come later; the kernel is told to be silent while the worker is looking anyway
 * (IORING_CQ_EVENTFD_DISABLED), and since the loop waits for edges, the eventfd is never read.
 * (Polling the ring's own descriptor would not do: with DEFER_TASKRUN it does not become ready.)
 *
 * Writes are made here and now, a batch with one call of io_submit() (aio.c): into the page cache
 * that is a copy, while io_uring hands every buffered write to a thread of the kernel, which on the
 * same file does one at a time. Measured on ext4 (Linux 6.18), 4 KiB at random, per request: 1.3 us
 * of processor time against 8-16, at depth 32 a batch of 32 against 2. The ring is entered before
 * that, so that reads are on their way meanwhile.
 *
 * Reads of a file in memory (tmpfs) are made the same way: there is nothing to wait for, and newer
 * kernels (6.18; 6.1 does not) hand them to a thread, too.
 *
 * What does not go smoothly - short transfers, interruptions, file systems without a fallocate mode
 * - is finished by the blocking steps of sync.c. Durability is grouped as there: one fsync at a
 * time serves all that waited when it started.
 *
 * Runs on the worker that owns the disk; no locks. Nothing is saved: the disk is drained before a
 * save.
 */
#include "raw.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "vmm/cleanup.h"

#define SQ_ENTRIES 128
#define CQ_ENTRIES 512 /* more than the requests of one queue (256) and a sync */

#define RETRY_NS 1000000 /* when the kernel has no memory for a submission */

/* liburing 2.1 and 2.2 do not know these; without them completions need no call to become visible.
 */
#ifdef IORING_SETUP_DEFER_TASKRUN
#define SETUP_DEFERRED /* Linux 6.1 */ \
	(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG)
#define SETUP_COOPERATIVE (IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG) /* Linux 5.19 */
#define SQ_TASKRUN	  IORING_SQ_TASKRUN
#define submit_and_look	  io_uring_submit_and_get_events
#define look		  io_uring_get_events
#else
#define SETUP_DEFERRED	  0
#define SETUP_COOPERATIVE 0
#define SQ_TASKRUN	  0
#define submit_and_look	  io_uring_submit
#define look(ring)	  0
#endif

struct uring {
	struct raw raw;
	struct io_uring ring;
	bool enabled;
	int event_fd; /* the kernel's: completions have come while it was not silent */
	struct loop *loop;
	struct loop_source source; /* event_fd */
	uint32_t fence;
	struct loop_timer retry;    /* the kernel did not take all submissions */
	uint32_t in_ring;	    /* submission entries whose completion has not been seen */
	struct block_queue syncing; /* served by the sync that is in the ring */
};

static struct uring *to_uring(struct block *b)
{
	return container_of(b, struct uring, raw.block);
}

/* Hands over what is in the submission queue, waiting for `wait` completions. False: not all was
 * taken, for now. */
static bool enter(struct uring *u, unsigned int wait)
{
	int r;

	do {
		if (wait != 0) {
			r = io_uring_submit_and_wait(&u->ring, wait);
		} else {
			r = submit_and_look(&u->ring);
		}
	} while (r == -EINTR || (r > 0 && io_uring_sq_ready(&u->ring) != 0));
	return io_uring_sq_ready(&u->ring) == 0;
}

static struct io_uring_sqe *next_entry(struct uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	if (sqe == NULL) {
		(void)enter(u, 0);
		sqe = io_uring_get_sqe(&u->ring);
	}
	return sqe;
}

/* `tag` is the request, or the ring itself for the sync. */
static void queue_entry(struct uring *u, struct io_uring_sqe *sqe, void *tag)
{
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, tag);
	u->in_ring++;
}

/* Carries a request out on this thread. */
static void finish_blocking(struct uring *u, struct block_request *req)
{
	struct raw *raw = &u->raw;

	if (req->op == BLOCK_READ || req->op == BLOCK_WRITE) {
		raw_done(raw, req, raw_transfer(raw, req));
	} else {
		raw_done(raw, req, raw_deallocate(raw, req));
	}
}

static void start(struct uring *u, struct block_request *req)
{
	struct io_uring_sqe *sqe;
	int mode = -1;

	if (req->op == BLOCK_FLUSH) {
		block_queue_push(&u->raw.sync_waiting, req);
		return;
	}
	if (req->op == BLOCK_WRITE || (req->op == BLOCK_READ && u->raw.in_memory)) {
		block_queue_push(&u->raw.transfers, req);
		return;
	}
	if (req->op != BLOCK_READ && req->op != BLOCK_WRITE) {
		mode = raw_fallocate_mode(&u->raw, req);
		if (mode < 0) {
			finish_blocking(u, req);
			return;
		}
	}
	sqe = next_entry(u);
	if (sqe == NULL) {
		finish_blocking(u, req);
		return;
	}
	switch (req->op) {
	case BLOCK_READ:
		io_uring_prep_readv(sqe, 0, req->iov, req->iov_count, req->offset);
		break;
	default:
		io_uring_prep_fallocate(sqe, 0, mode, (off_t)req->offset, (off_t)req->len);
		break;
	}
	queue_entry(u, sqe, req);
}

/* One sync at a time, for all that wait when it starts. */
static void start_sync(struct uring *u)
{
	struct io_uring_sqe *sqe;

	if (u->raw.sync_waiting.head == NULL || u->syncing.head != NULL) {
		return;
	}
	u->syncing = u->raw.sync_waiting;
	block_queue_init(&u->raw.sync_waiting);
	sqe = next_entry(u);
	if (sqe == NULL) {
		raw_synced(&u->raw, &u->syncing, raw_sync(&u->raw));
		return;
	}
	io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
	queue_entry(u, sqe, u);
}

static void complete_sync(struct uring *u, int result)
{
	struct block_queue synced = u->syncing;

	if (result == -EINTR || result == -EAGAIN || result == -ECANCELED) {
		result = raw_sync(&u->raw);
	}
	block_queue_init(&u->syncing);
	raw_synced(&u->raw, &synced, result);
}

static void complete(struct uring *u, struct block_request *req, int result)
{
	bool transfer = req->op == BLOCK_READ || req->op == BLOCK_WRITE;

	if (transfer && result > 0) {
		req->transferred = (uint64_t)(unsigned int)result;
	}
	if (transfer && result > 0 && req->transferred == req->len) {
		raw_done(&u->raw, req, 0);
	} else if (transfer && result == 0) {
		raw_done(&u->raw, req, -EIO); /* the file has become shorter than the disk */
	} else if (result > 0 || result == -EINTR || result == -EAGAIN || result == -ECANCELED ||
		   (!transfer && (result == -EOPNOTSUPP || result == -EBUSY))) {
		finish_blocking(u, req);
	} else {
		raw_done(&u->raw, req, result);
	}
}

/* True if a look would find completions. */
static bool has_completions(struct uring *u)
{
	unsigned int flags = __atomic_load_n(u->ring.sq.kflags, __ATOMIC_ACQUIRE);

	return io_uring_cq_ready(&u->ring) != 0 ||
	       (flags & (IORING_SQ_CQ_OVERFLOW | SQ_TASKRUN)) != 0;
}

/* Takes what has completed. Returns true if anything had. */
static bool reap(struct uring *u)
{
	struct io_uring_cqe *cqe;
	bool any = false;

	if (io_uring_cq_ready(&u->ring) == 0 && has_completions(u)) {
		(void)look(&u->ring);
	}
	while (io_uring_cq_ready(&u->ring) != 0 && io_uring_peek_cqe(&u->ring, &cqe) == 0) {
		void *tag = io_uring_cqe_get_data(cqe);
		int result = cqe->res;

		io_uring_cqe_seen(&u->ring, cqe);
		u->in_ring--;
		any = true;
		if (tag == u) {
			complete_sync(u, result);
		} else {
			complete(u, tag, result);
		}
	}
	return any;
}

/* The kernel need not tell: we look. */
static void disarm(struct uring *u)
{
	(void)io_uring_cq_eventfd_toggle(&u->ring, false);
}

/* The kernel shall tell what completes from now on. False if something has completed already. */
static bool arm(struct uring *u)
{
	if (u->in_ring == 0) {
		return true;
	}
	(void)io_uring_cq_eventfd_toggle(&u->ring, true);
	/* The kernel must see that before we look; an exchange, because ThreadSanitizer has no
	 * fences. */
	(void)__atomic_exchange_n(&u->fence, 1, __ATOMIC_SEQ_CST);
	if (has_completions(u)) {
		disarm(u);
		return false;
	}
	return true;
}

static void retry_expired(struct loop_timer *timer);

/* Starts and reaps until nothing is left that could be done without waiting. */
static void uring_commit(struct block *b)
{
	struct uring *u = to_uring(b);
	bool taken;

	disarm(u);
	do {
		do {
			struct block_request *req;

			while ((req = block_next(b)) != NULL) {
				start(u, req);
			}
			if (io_uring_sq_ready(&u->ring) != 0) {
				(void)enter(u, 0); /* what is left is tried again below */
			}
			raw_transfer_all(&u->raw);
			start_sync(u);
			taken = io_uring_sq_ready(&u->ring) == 0 || enter(u, 0);
		} while (reap(u));
	} while (!arm(u));
	if (!taken && u->loop != NULL) {
		loop_timer_set(u->loop, &u->retry, RETRY_NS, retry_expired);
	}
}

/* Looks, commits what follows from it, and tells the owner, until nothing more has completed. */
static void look_around(struct uring *u)
{
	struct block *b = &u->raw.block;

	do {
		disarm(u);
		block_group_begin(b);
		if (reap(u) || io_uring_sq_ready(&u->ring) != 0) {
			uring_commit(b);
		}
		block_group_end(b);
	} while (!arm(u));
}

static void ring_ready(struct loop_source *source, uint32_t events)
{
	(void)events;
	look_around(container_of(source, struct uring, source));
}

static void retry_expired(struct loop_timer *timer)
{
	look_around(container_of(timer, struct uring, retry));
}

static void uring_wait(struct block *b)
{
	struct uring *u = to_uring(b);

	(void)enter(u, 1);
	if (reap(u)) {
		uring_commit(b);
	}
}

static int uring_attach(struct block *b, struct loop *loop, struct error *e)
{
	struct uring *u = to_uring(b);
	int r;

	if (!u->enabled) {
		r = io_uring_enable_rings(&u->ring);
		if (r < 0) {
			return error_set_sys(e, ERROR_DISK, -r, "io_uring: enable the ring");
		}
		u->enabled = true;
	}
	r = loop_source_add(loop, &u->source, u->event_fd, EPOLLIN | EPOLLET, ring_ready, e);
	if (r == 0) {
		u->loop = loop;
	}
	return r;
}

static void uring_detach(struct block *b)
{
	struct uring *u = to_uring(b);

	loop_source_remove(&u->source);
	loop_timer_cancel(&u->retry);
	u->loop = NULL;
}

static void uring_close(struct block *b)
{
	struct uring *u = to_uring(b);

	io_uring_queue_exit(&u->ring);
	close_fd(&u->event_fd);
	raw_finish(&u->raw);
	free(u);
}

static const struct block_ops uring_ops = {
	.name = "io_uring",
	.raw = true,
	.attach = uring_attach,
	.detach = uring_detach,
	.commit = uring_commit,
	.wait = uring_wait,
	.close = uring_close,
	.release = raw_release,
	.take = raw_take,
	.sync_ahead = raw_sync_ahead,
};

static int restrict_ring(struct io_uring *ring)
{
	static const uint8_t ops[] = { IORING_OP_READV, IORING_OP_FSYNC, IORING_OP_FALLOCATE };
	struct io_uring_restriction rules[ARRAY_SIZE(ops) + 1];

	memset(rules, 0, sizeof(rules));
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		rules[i].opcode = IORING_RESTRICTION_SQE_OP;
		rules[i].sqe_op = ops[i];
	}
	rules[ARRAY_SIZE(ops)].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
	rules[ARRAY_SIZE(ops)].sqe_flags = IOSQE_FIXED_FILE;
	return io_uring_register_restrictions(ring, rules, ARRAY_SIZE(rules));
}

/* The best set of flags that this kernel takes. */
static int make_ring(struct io_uring *ring)
{
	static const unsigned int flags[] = {
		SETUP_DEFERRED,
		SETUP_COOPERATIVE,
		0,
	};
	int r = -EINVAL;

	for (size_t i = 0; i < ARRAY_SIZE(flags) && r == -EINVAL; i++) {
		struct io_uring_params params = {
			.flags = flags[i] | IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE,
			.cq_entries = CQ_ENTRIES,
		};

		r = io_uring_queue_init_params(SQ_ENTRIES, ring, &params);
	}
	return r;
}

static int prepare_ring(struct uring *u, int fd, const char **step)
{
	int r;

	*step = "register the disk";
	r = io_uring_register_files(&u->ring, &fd, 1);
	if (r == 0) {
		*step = "register an eventfd";
		r = io_uring_register_eventfd(&u->ring, u->event_fd);
	}
	if (r == 0) {
		*step = "restrict the ring";
		r = restrict_ring(&u->ring);
	}
	return r;
}

int uring_create(struct block **ret, struct raw_disk *disk, struct error *e)
{
	struct uring *u = calloc(1, sizeof(*u));
	const char *step = "make an eventfd";
	int r;

	if (u == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "disk");
	}
	u->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = u->event_fd < 0 ? -errno : 0;
	if (r == 0) {
		step = "make a ring";
		r = make_ring(&u->ring);
	}
	if (r == 0) {
		r = prepare_ring(u, disk->fd, &step);
		if (r < 0) {
			io_uring_queue_exit(&u->ring);
		}
	}
	if (r < 0) {
		goto fail;
	}
	r = raw_init(&u->raw, &uring_ops, disk, e);
	if (r < 0) {
		io_uring_queue_exit(&u->ring);
		close_fd(&u->event_fd);
		free(u);
		return r;
	}
	block_queue_init(&u->syncing);
	*ret = &u->raw.block;
	return 0;

fail:
	close_fd(&u->event_fd);
	free(u);
	(void)error_set_sys(e, ERROR_DISK, -r, "io_uring is not usable on this host: %s", step);
	if (r == -EPERM) {
		(void)error_hint(
			e,
			"sysctl kernel.io_uring_disabled=0 allows it; engine=sync works without");
	} else {
		(void)error_hint(e, "engine=sync works without io_uring");
	}
	return r;
}
