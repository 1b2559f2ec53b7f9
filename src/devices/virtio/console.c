/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console (virtio 1.2 §5.3), one port.
 *
 * Threads: input arrives on main and waits in a ring under `input_lock`; the receive worker takes
 * it from there. Output is made by the transmit worker, or by a vCPU for an emergency write;
 * `output_lock` keeps the two apart. Both locks are innermost, but output() of the channel runs
 * under the latter: it must not call back. input_ready() is called without a lock.
 *
 * The guest controls chains and emergency writes; the host's user the input and the window size.
 * Work per request is bounded by VIRTIO_CONSOLE_CHAIN_MAX, memory by the ring.
 *
 * Saved: window size and the input that the guest has not taken. Counters are not.
 */
#include "vmm/virtio_console.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_console.h>
#include <string.h>

#include "vmm/cleanup.h"
#include "vmm/iov.h"

#define FEATURE(bit) (UINT64_C(1) << (bit))

#define INPUT_SIZE 4096U
/* Output is copied out of guest memory in pieces of this. */
#define OUTPUT_PIECE 1024U
/* Output after which the worker looks at its other work. */
#define OUTPUT_TURN MIB(1)
/*
 * How long output waits for a host that takes none. Linux' driver spins, with a lock held and interrupts
 * off, until a console's buffer comes back: a longer wait would be a lock-up of the guest.
 */
#define PATIENCE_NS  (50 * UINT64_C(1000000))
#define DEFAULT_COLS 80
#define DEFAULT_ROWS 25

struct virtio_console_state {
	/* Columns, rows << 16: one word, so that a reader never sees half a change. */
	_Atomic uint32_t window;
	/* Under the input's lock. */
	uint8_t input[INPUT_SIZE];
	uint32_t input_head, input_len;
};

struct virtio_console {
	struct virtio_device dev;
	struct virtio_console_state state;
	struct console_channel *channel; /* borrowed; NULL: none */

	pthread_mutex_t input_lock;
	bool input_blocked; /* the channel waits for input_ready() */

	pthread_mutex_t output_lock;
	struct loop_timer patience; /* of the transmit worker: armed while output waits */
	_Atomic bool impatient; /* the host had its time: output is dropped until it takes some */
	_Atomic uint64_t input_bytes, output_bytes, output_dropped;

	struct iovec rx_iov[VIRTIO_CONSOLE_QUEUE_SIZE]; /* of the receive worker */
	struct iovec tx_iov[VIRTIO_CONSOLE_QUEUE_SIZE]; /* of the transmit worker */
};

static struct virtio_console *console_of(struct virtio_device *dev)
{
	return container_of(dev, struct virtio_console, dev);
}

static void count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void output(struct virtio_console *console, const uint8_t *data, size_t len)
{
	if (console->channel == NULL) {
		return;
	}
	SCOPED_LOCK(&console->output_lock);
	console->channel->output(console->channel, data, len);
}

static bool input_waits(struct virtio_console *console)
{
	SCOPED_LOCK(&console->input_lock);
	return console->state.input_len != 0;
}

/* Moves as much waiting input as fits into the chain's writable part. */
static size_t input_take(struct virtio_console *console, const struct virtqueue_chain *chain)
{
	const struct iovec *in = chain->iov + chain->out_count;
	size_t taken = 0;

	SCOPED_LOCK(&console->input_lock);
	while (console->state.input_len != 0) {
		size_t len = MIN(console->state.input_len, INPUT_SIZE - console->state.input_head);
		size_t n = iov_write(in, chain->in_count, taken,
				     console->state.input + console->state.input_head, len);

		if (n == 0) {
			break;
		}
		console->state.input_head =
			(uint32_t)((console->state.input_head + n) % INPUT_SIZE);
		console->state.input_len -= (uint32_t)n;
		taken += n;
	}
	return taken;
}

static void input_invite(struct virtio_console *console)
{
	bool blocked;

	{
		SCOPED_LOCK(&console->input_lock);
		blocked = console->input_blocked;
		console->input_blocked = false;
	}
	if (blocked && console->channel != NULL && console->channel->input_ready != NULL) {
		console->channel->input_ready(console->channel);
	}
}

static void process_rx(struct virtio_console *console, struct virtio_queue *queue)
{
	struct virtqueue_chain chain;
	bool taken = false;

	virtio_queue_begin(queue);
	do {
		while (input_waits(console) && virtqueue_pop(&queue->ring, &chain, console->rx_iov,
							     ARRAY_SIZE(console->rx_iov)) > 0) {
			size_t n = input_take(console, &chain);

			virtqueue_push_exact(&queue->ring, &chain, (uint32_t)n);
			count(&console->input_bytes, n);
			taken |= n != 0;
		}
		if (!input_waits(console)) {
			/* Kicks that only bring buffers stay suppressed; input wakes this worker by
			 * itself. */
			virtio_queue_publish(queue);
			break;
		}
	} while (virtio_queue_more(queue));
	if (taken) {
		input_invite(console);
	}
}

/* False: the host is full, and says when it is not. */
static bool may_transmit(struct virtio_console *console, const struct virtqueue_chain *chain)
{
	struct console_channel *channel = console->channel;

	return channel == NULL || channel->may_output == NULL || atomic_load(&console->impatient) ||
	       channel->may_output(channel, MIN(chain->out_len, VIRTIO_CONSOLE_CHAIN_MAX));
}

static uint64_t transmit(struct virtio_console *console, const struct virtqueue_chain *chain)
{
	uint64_t len = MIN(chain->out_len, VIRTIO_CONSOLE_CHAIN_MAX);
	uint8_t piece[OUTPUT_PIECE];

	for (uint64_t done = 0; done < len;) {
		size_t n = iov_read(chain->iov, chain->out_count, done, piece,
				    MIN(len - done, sizeof(piece)));

		output(console, piece, n);
		done += n;
	}
	count(&console->output_bytes, len);
	count(&console->output_dropped, chain->out_len - len);
	return len;
}

static void patience_ended(struct loop_timer *timer);

static void process_tx(struct virtio_console *console, struct virtio_queue *queue)
{
	struct virtqueue_chain chain;
	uint64_t bytes = 0;

	virtio_queue_begin(queue);
	do {
		while (virtqueue_pop(&queue->ring, &chain, console->tx_iov,
				     ARRAY_SIZE(console->tx_iov)) > 0) {
			if (!may_transmit(console, &chain)) {
				virtqueue_unpop(&queue->ring, &chain);
				virtio_queue_publish(queue);
				if (console->patience.loop == NULL) {
					loop_timer_set(&queue->worker->loop, &console->patience,
						       PATIENCE_NS, patience_ended);
				}
				return;
			}
			bytes += transmit(console, &chain);
			virtqueue_push(&queue->ring, &chain, 0);
			if (bytes >= OUTPUT_TURN) {
				/* Calls and the other sources of this worker first. */
				virtio_queue_publish(queue);
				virtio_kick(&console->dev, queue->index);
				return;
			}
		}
	} while (virtio_queue_more(queue));
}

static void patience_ended(struct loop_timer *timer)
{
	struct virtio_console *console = container_of(timer, struct virtio_console, patience);

	atomic_store(&console->impatient, true);
	process_tx(console, &console->dev.queues[VIRTIO_CONSOLE_QUEUE_TX]);
}

static void console_queue_stop(struct virtio_device *dev, struct virtio_queue *queue)
{
	if (queue->index == VIRTIO_CONSOLE_QUEUE_TX) {
		loop_timer_cancel(&console_of(dev)->patience);
	}
}

static void console_queue_process(struct virtio_device *dev, struct virtio_queue *queue)
{
	if (queue->index == VIRTIO_CONSOLE_QUEUE_RX) {
		process_rx(console_of(dev), queue);
	} else {
		process_tx(console_of(dev), queue);
	}
}

static void console_config_read(struct virtio_device *dev, uint32_t offset, void *buf, uint32_t len)
{
	uint32_t window = atomic_load(&console_of(dev)->state.window);
	struct virtio_console_config config = {
		.cols = htole16((uint16_t)window),
		.rows = htole16((uint16_t)(window >> 16)),
	};

	memcpy(buf, (const uint8_t *)&config + offset, len);
}

static void console_config_write(struct virtio_device *dev, uint32_t offset, const void *buf,
				 uint32_t len)
{
	const uint32_t at = offsetof(struct virtio_console_config, emerg_wr);
	struct virtio_console *console = console_of(dev);

	/* The character is the lowest byte of emerg_wr, in whatever state the device is (§5.3.5.1).
	 */
	if (offset <= at && at - offset < len) {
		output(console, (const uint8_t *)buf + (at - offset), 1);
		count(&console->output_bytes, 1);
	}
}

/* Linux reads the size only when it hears of a change. */
static void console_activate(struct virtio_device *dev)
{
	if (virtio_has_feature(dev, VIRTIO_CONSOLE_F_SIZE)) {
		virtio_config_changed(dev);
	}
}

/* Input for the driver that has gone is not for the next one; what came before the first, which
 * begins with a reset as well, is. */
static void console_reset(struct virtio_device *dev)
{
	struct virtio_console *console = console_of(dev);

	if ((atomic_load(&dev->state.status) & VIRTIO_CONFIG_S_DRIVER_OK) == 0) {
		return;
	}
	{
		SCOPED_LOCK(&console->input_lock);
		console->state.input_head = 0;
		console->state.input_len = 0;
	}
	input_invite(console);
}

static void console_destroy(struct virtio_device *dev)
{
	struct virtio_console *console = console_of(dev);

	virtio_device_finish(dev);
	(void)pthread_mutex_destroy(&console->input_lock);
	(void)pthread_mutex_destroy(&console->output_lock);
	free(console);
}

static const struct state_field console_fields[] = {
	STATE_FIELD(1, struct virtio_console_state, window, 1),
	STATE_BYTES(2, struct virtio_console_state, input, 1),
	STATE_FIELD(3, struct virtio_console_state, input_head, 1),
	STATE_FIELD(4, struct virtio_console_state, input_len, 1),
};

static int console_validate(const void *object, const void *owner, struct error *e)
{
	const struct virtio_console_state *state = object;

	(void)owner;
	if (state->input_head >= INPUT_SIZE || state->input_len > INPUT_SIZE) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "virtio-console: input at %u, %u bytes, is not inside %u",
				 state->input_head, state->input_len, INPUT_SIZE);
	}
	return 0;
}

static const struct state_desc console_state =
	STATE_DESC_IN(struct virtio_console, state, "virtio-console", 1, console_fields,
		      .validate = console_validate);

static const struct virtio_queue_type queues[VIRTIO_CONSOLE_QUEUES] = {
	{ VIRTIO_CONSOLE_QUEUE_SIZE, "console-rx" },
	{ VIRTIO_CONSOLE_QUEUE_SIZE, "console-tx" },
};

/* The workers need no system call of their own: what output() does is declared by the channel. */
const struct virtio_ops virtio_console_ops = {
	.name = "virtio-console",
	.id = VIRTIO_ID_CONSOLE,
	.pci_class = 0x078000, /* communication, other */
	.queue_types = queues,
	.queue_type_count = VIRTIO_CONSOLE_QUEUES,
	.state = &console_state,
	.config_read = console_config_read,
	.config_write = console_config_write,
	.activate = console_activate,
	.reset = console_reset,
	.queue_process = console_queue_process,
	.queue_stop = console_queue_stop,
	.destroy = console_destroy,
};

int virtio_console_create(struct virtio_device **ret, const char *name,
			  struct console_channel *channel, struct guest_memory *mem,
			  struct worker *workers, struct error *e)
{
	struct virtio_console *console = calloc(1, sizeof(*console));
	int r;

	if (console == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "%s", name);
	}
	r = virtio_device_init(
		&console->dev, &virtio_console_ops, name, mem,
		FEATURE(VIRTIO_CONSOLE_F_SIZE) | FEATURE(VIRTIO_CONSOLE_F_EMERG_WRITE),
		sizeof(struct virtio_console_config), VIRTIO_CONSOLE_QUEUES, workers, e);
	if (r < 0) {
		free(console);
		return r;
	}
	(void)pthread_mutex_init(&console->input_lock, NULL);
	(void)pthread_mutex_init(&console->output_lock, NULL);
	console->channel = channel;
	atomic_store(&console->state.window, DEFAULT_COLS | (uint32_t)DEFAULT_ROWS << 16);
	*ret = &console->dev;
	return 0;
}

size_t virtio_console_input(struct virtio_device *dev, const uint8_t *data, size_t len)
{
	struct virtio_console *console = console_of(dev);
	size_t taken = 0;

	{
		SCOPED_LOCK(&console->input_lock);
		while (taken < len && console->state.input_len < INPUT_SIZE) {
			uint32_t tail =
				(console->state.input_head + console->state.input_len) % INPUT_SIZE;
			size_t n = MIN(INPUT_SIZE - console->state.input_len, INPUT_SIZE - tail);

			n = MIN(n, len - taken);
			memcpy(console->state.input + tail, data + taken, n);
			console->state.input_len += (uint32_t)n;
			taken += n;
		}
		console->input_blocked = taken < len;
	}
	if (taken != 0) {
		virtio_kick(dev, VIRTIO_CONSOLE_QUEUE_RX);
	}
	return taken;
}

void virtio_console_output_ready(struct virtio_device *dev)
{
	atomic_store(&console_of(dev)->impatient, false);
	virtio_kick(dev, VIRTIO_CONSOLE_QUEUE_TX);
}

void virtio_console_resize(struct virtio_device *dev, uint16_t cols, uint16_t rows)
{
	struct virtio_console *console = console_of(dev);
	uint32_t window = cols | (uint32_t)rows << 16;

	SCOPED_LOCK(&dev->lock);
	if (atomic_exchange(&console->state.window, window) != window &&
	    (dev->state.features == 0 || virtio_has_feature(dev, VIRTIO_CONSOLE_F_SIZE))) {
		virtio_config_changed(dev);
	}
}

void virtio_console_read_counters(const struct virtio_device *dev,
				  struct virtio_console_counters *ret)
{
	const struct virtio_console *console = container_of(dev, const struct virtio_console, dev);

	*ret = (struct virtio_console_counters){
		.input_bytes = atomic_load(&console->input_bytes),
		.output_bytes = atomic_load(&console->output_bytes),
		.output_dropped = atomic_load(&console->output_dropped),
	};
}
