/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console: output chains and receive buffers of any shape, input and window sizes from the
 * host, emergency writes, rings that are spoilt, saved and restored state.
 *
 * Checked besides crashes, while the rings are honest: input reaches the driver whole, in order and
 * once; output bytes are those of the chains; nothing stays in flight.
 */
#include <linux/virtio_config.h>
#include <stdlib.h>

#include "fuzz_input.h"
#include "harness/fake_driver.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/virtio_console.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)          \
	do {                        \
		if (!(condition)) { \
			abort();    \
		}                   \
	} while (0)

#define RX	  VIRTIO_CONSOLE_QUEUE_RX
#define TX	  VIRTIO_CONSOLE_QUEUE_TX
#define RING_SIZE 32
#define SLOT	  KIB(16)
#define PATTERN	  0x33

struct rig {
	struct fake_driver *d;
	struct fuzz_input in;
	struct console_channel channel;
	pthread_mutex_t lock;
	uint64_t output; /* bytes that came out */
	uint64_t expected_output;
	uint64_t input_given, input_seen;
	bool honest;
	uint32_t posted;
	uint64_t addr[RING_SIZE];
	uint32_t len[RING_SIZE];
};

static void take_output(struct console_channel *channel, const uint8_t *data, size_t len)
{
	struct rig *rig = container_of(channel, struct rig, channel);

	SCOPED_LOCK(&rig->lock);
	for (size_t i = 0; i < len; i++) {
		REQUIRE(!rig->honest || data[i] == PATTERN);
	}
	rig->output += len;
}

static void ready(struct console_channel *channel)
{
	(void)channel;
}

static void nothing(void *arg)
{
	(void)arg;
}

/* As fake_driver_sync(), for the workers of this device. */
static void sync_workers(struct rig *rig)
{
	for (uint32_t i = 0; i < 2 * VIRTIO_CONSOLE_QUEUES; i++) {
		worker_call(&rig->d->workers[i / 2], nothing, NULL);
	}
}

static void start(struct rig *rig)
{
	uint8_t how = (uint8_t)fuzz_take(&rig->in, 1);

	if ((fake_driver_status(rig->d) & VIRTIO_CONFIG_S_DRIVER_OK) != 0) {
		rig->input_seen = rig->input_given; /* what waited is gone with its driver */
	}
	fake_driver_reset(rig->d);
	sync_workers(rig);
	rig->honest =
		fake_driver_start(rig->d, (how & 3) | (uint64_t)(how >> 2 & 3) << 28, RING_SIZE);
	rig->posted = 0;
	fake_driver_fill(rig->d, FAKE_DATA, PATTERN, KIB(8));
	{
		SCOPED_LOCK(&rig->lock);
		rig->output = rig->expected_output = 0;
	}
}

static void offer(struct rig *rig, uint32_t queue)
{
	struct fake_ring *ring = &rig->d->rings[queue];
	uint8_t how = (uint8_t)fuzz_take(&rig->in, 1);
	uint32_t len = (uint32_t)fuzz_take(&rig->in, 2) % 5000;
	uint32_t cut = (uint32_t)fuzz_take(&rig->in, 2) % (len + 1);
	uint64_t at = FAKE_DATA + (queue == RX ? MIB(4) + rig->posted % 64 * SLOT : 0);
	struct fake_buf bufs[3] = { { at, cut, queue == RX },
				    { at + cut, len - cut, queue == RX },
				    { FAKE_HIGH_START, how, true } };
	uint16_t count = (uint16_t)(queue == TX && (how & 2) != 0 ? 3 : 2), head;

	if (ring->size == 0 || (uint16_t)(ring->avail_idx - ring->used_seen) * 3 + 3 > RING_SIZE) {
		return;
	}
	head = (how & 1) != 0 ? fake_ring_add_indirect(ring, bufs, count)
			      : fake_ring_add(ring, bufs, count);
	if (queue == TX) {
		rig->expected_output += len;
	} else {
		rig->addr[head % RING_SIZE] = at;
		rig->len[head % RING_SIZE] = len;
		rig->posted++;
	}
	virtio_kick(rig->d->dev, queue);
	sync_workers(rig);
}

static void input(struct rig *rig)
{
	uint8_t bytes[600];
	size_t want = fuzz_take(&rig->in, 2) % sizeof(bytes);

	for (size_t i = 0; i < want; i++) {
		bytes[i] = (uint8_t)((rig->input_given + i) % 253);
	}
	rig->input_given += virtio_console_input(rig->d->dev, bytes, want);
	sync_workers(rig);
}

static void check(struct rig *rig)
{
	static uint8_t bytes[5000];
	uint32_t id, len;

	sync_workers(rig);
	if (!rig->honest || fake_driver_status(rig->d) != 0xf) {
		return;
	}
	while (fake_ring_used(&rig->d->rings[TX], &id, &len)) {
		REQUIRE(len == 0);
	}
	while (fake_ring_used(&rig->d->rings[RX], &id, &len)) {
		REQUIRE(id < RING_SIZE && len <= rig->len[id]);
		fake_driver_read(rig->d, rig->addr[id], bytes, len);
		for (uint32_t i = 0; i < len; i++) {
			REQUIRE(bytes[i] == rig->input_seen++ % 253);
		}
	}
	REQUIRE(rig->input_seen <= rig->input_given && rig->input_given - rig->input_seen <= 4096);
	SCOPED_LOCK(&rig->lock);
	REQUIRE(rig->output == rig->expected_output);
}

/* Into a second device and back, as a restored machine would. */
static void save_and_load(struct rig *rig)
{
	struct virtio_device *dev = rig->d->dev;
	struct state_buf saved = { 0 };

	virtio_device_quiesce(dev);
	for (uint32_t i = 0; i < VIRTIO_CONSOLE_QUEUES; i++) {
		const struct virtqueue *q = &dev->queues[i].ring;

		REQUIRE(q->state.broken || q->in_flight_count == 0);
	}
	REQUIRE(state_save(virtio_console_ops.state, dev, &saved, NULL) == 0);
	REQUIRE(state_load(virtio_console_ops.state, dev, saved.data, saved.len,
			   virtio_console_ops.state->version, NULL) == 0);
	state_buf_finish(&saved);
	virtio_device_resume(dev);
	sync_workers(rig);
}

static void emergency_write(struct rig *rig)
{
	uint64_t offset = fuzz_take(&rig->in, 1) % 16;
	uint32_t len = 1 + (uint32_t)fuzz_take(&rig->in, 1) % 8;
	uint8_t bytes[8];

	memset(bytes, PATTERN, sizeof(bytes));
	if (offset <= 8 && offset + len > 8) {
		rig->expected_output++;
	}
	(void)pthread_mutex_lock(&rig->d->dev->lock);
	virtio_config_write(rig->d->dev, offset, bytes, len);
	virtio_config_read(rig->d->dev, offset, bytes, len);
	(void)pthread_mutex_unlock(&rig->d->dev->lock);
}

static void step(struct rig *rig)
{
	uint64_t offset;

	switch (fuzz_take(&rig->in, 1) % 12) {
	case 0:
		start(rig);
		break;
	case 1: {
		SCOPED_LOCK(&rig->lock);
		rig->honest = false;
	}
		offset = fuzz_take(&rig->in, 2) % 0x20000;
		*guest_memory_write_pointer(&rig->d->mem,
					    FAKE_RINGS + offset % 0x600 + (offset & 0x10000), 1) =
			(uint8_t)fuzz_take(&rig->in, 1);
		break;
	case 2:
	case 3:
		offer(rig, TX);
		break;
	case 4:
	case 5:
		offer(rig, RX);
		break;
	case 6:
	case 7:
		input(rig);
		break;
	case 8:
		check(rig);
		break;
	case 9:
		save_and_load(rig);
		break;
	case 10:
		emergency_write(rig);
		break;
	default:
		virtio_console_resize(rig->d->dev, (uint16_t)fuzz_take(&rig->in, 2), 25);
		virtio_kick(rig->d->dev, (uint32_t)fuzz_take(&rig->in, 1));
		sync_workers(rig);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fake_driver d;
	struct rig rig = { .d = &d,
			   .in = { .data = data, .len = size },
			   .channel = { .output = take_output, .input_ready = ready } };
	struct virtio_device *dev;

	if (d.mem.size == 0) {
		log_init(LOG_ERROR, -1);
		fake_driver_init(&d);
		fake_driver_unwatch(&d);
	}
	fake_memory_clear(&d.mem);
	(void)pthread_mutex_init(&rig.lock, NULL);
	REQUIRE(virtio_console_create(&dev, "hvc0", &rig.channel, &d.mem, d.workers, NULL) == 0);
	fake_driver_attach(&d, dev);
	memset(d.rings, 0, sizeof(d.rings));
	start(&rig);
	while (rig.in.len != 0) {
		step(&rig);
	}
	check(&rig);
	save_and_load(&rig);
	virtio_device_reset(dev);
	dev->ops->destroy(dev);
	d.dev = NULL;
	(void)pthread_mutex_destroy(&rig.lock);
	return 0;
}
