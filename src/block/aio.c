/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several transfers with one system call: Linux AIO, io_submit(2). On files that are not opened
 * with O_DIRECT the kernel carries the whole list out inside that call, on this thread, as
 * preadv2() and pwritev2() would: what makes it a poor way to be asynchronous makes it a good way
 * to save calls. io_uring has nothing like that: it hands each buffered write to a thread of the
 * kernel.
 *
 * Measured (Linux 6.18, 4 KiB at random, per request, without a filter): writes 1.2-1.5 us of
 * processor time either way, on tmpfs and ext4; with 32 in a call 0.03 system calls. The same
 * through io_uring takes 8-16 us.
 *
 * The results are read from the ring that the kernel has mapped for the context, in the layout that
 * libaio reads, too; a result that should not be there at once is waited for. So nothing is ever
 * under way when aio_transfer() returns.
 *
 * A call may take long when the host's disk does, and what has been done is shown to nobody
 * meanwhile: how many transfers the next call gets follows from how long the last one took.
 *
 * The context is made by the worker when it first has two transfers: most disks of short-lived
 * machines never do. Where there is none (fs.aio-max-nr, a kernel without it), each transfer is a
 * call. Runs on the worker that owns the disk; no locks. Nothing is saved.
 */
#include "raw.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/loop.h"

#define RING_MAGIC 0xa10a10a1U

/* A call that takes longer is followed by one with half as many transfers; half of what a finished
 * request may wait in the device. */
#define CALL_NS 1000000

/* fs/aio.c: struct aio_ring. */
struct ring {
	uint32_t id, nr;
	uint32_t head, tail; /* ours, the kernel's */
	uint32_t magic, compat_features, incompat_features, header_length;
	struct io_event events[];
};

void aio_init(struct aio *aio)
{
	aio->context = 0;
	aio->unusable = false;
	aio->limit = AIO_TRANSFERS_MAX;
}

void aio_finish(struct aio *aio)
{
	if (aio->context != 0) {
		(void)syscall(SYS_io_destroy, aio->context);
		aio->context = 0;
	}
}

static bool make_context(struct aio *aio)
{
	if (aio->context == 0 && !aio->unusable &&
	    syscall(SYS_io_setup, AIO_TRANSFERS_MAX, &aio->context) < 0) {
		aio->context = 0;
		aio->unusable = true;
	}
	return aio->context != 0;
}

static void take_event(struct aio *aio, const struct io_event *event)
{
	VMM_BUG_ON(event->data >= AIO_TRANSFERS_MAX);
	aio->transfers[event->data].moved = event->res;
}

/* Takes what has completed, at most `count`, without a call. Returns how many. */
static uint32_t take_ring(struct aio *aio, uint32_t count)
{
	struct ring *ring = (struct ring *)(uintptr_t)aio->context;
	uint32_t taken = 0, head, tail;

	if (ring->magic != RING_MAGIC || ring->incompat_features != 0) {
		return 0;
	}
	head = __atomic_load_n(&ring->head, __ATOMIC_RELAXED);
	tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
	while (head != tail && taken < count) {
		take_event(aio, &ring->events[head]);
		head = (head + 1) % ring->nr;
		taken++;
	}
	__atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
	return taken;
}

/* Takes the results of `count` transfers. */
static void take_all(struct aio *aio, uint32_t count)
{
	struct io_event events[8];

	count -= take_ring(aio, count);
	while (count != 0) {
		long want = MIN(count, (uint32_t)ARRAY_SIZE(events));
		long r = syscall(SYS_io_getevents, aio->context, want, want, events, NULL);

		/* The kernel still has the buffers: there is no way on without them. */
		VMM_BUG_ON(r < 0 && errno != EINTR);
		for (long i = 0; i < r; i++) {
			take_event(aio, &events[i]);
			count--;
		}
	}
}

static void adapt(struct aio *aio, uint32_t count, uint64_t took_ns)
{
	if (took_ns > CALL_NS) {
		aio->limit = MAX(2U, count / 2);
	} else if (took_ns < CALL_NS / 4 && count == aio->limit) {
		aio->limit = MIN(aio->limit * 2, (uint32_t)AIO_TRANSFERS_MAX);
	}
}

void aio_transfer(struct raw *raw, uint32_t count)
{
	struct aio *aio = raw->aio;
	struct iocb *list[AIO_TRANSFERS_MAX];
	uint64_t start = loop_now_ns();
	int taken;

	if (!make_context(aio)) {
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		const struct transfer *t = &aio->transfers[i];

		aio->iocbs[i] = (struct iocb){
			.aio_data = i,
			.aio_lio_opcode = t->op == BLOCK_READ ? IOCB_CMD_PREADV : IOCB_CMD_PWRITEV,
			.aio_fildes = (uint32_t)raw->fd,
			.aio_buf = (uintptr_t)t->iov,
			.aio_nbytes = t->iov_count,
			.aio_offset = (int64_t)t->offset,
		};
		list[i] = &aio->iocbs[i];
	}
	taken = raw->io->io_submit(aio->context, (long)count, list);
	if (taken > 0) {
		take_all(aio, (uint32_t)taken);
	}
	adapt(aio, count, loop_now_ns() - start);
}
