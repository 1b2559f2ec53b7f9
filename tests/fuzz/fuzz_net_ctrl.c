/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: the control queue of a card with several pairs, beside frames on all of them. Beyond
 * crashes: a command that is well formed is answered as the specification says, pairs in use are
 * always between one and all, frames come only on these, nobody is asked for an announcement any more
 * when it has been answered, and nothing stays in flight over a pause.
 */
#include <linux/virtio_net.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fake_driver.h"
#include "fuzz_input.h"
#include "vmm/bytes.h"
#include "vmm/log.h"
#include "vmm/virtio_net.h"

#define REQUIRE(condition) VMM_BUG_ON(!(condition))

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PAIRS	  2
#define QUEUES	  (2 * PAIRS + 1)
#define CONTROL	  (2 * PAIRS)
#define RING_SIZE 16
#define BUFFERS	  (FAKE_DATA + MIB(1))
#define COMMAND	  FAKE_DATA
#define ANSWER	  (FAKE_DATA + 0x1000)
#define F(bit)	  (UINT64_C(1) << (VIRTIO_NET_F_##bit))
#define ALL	  (F(MQ) | F(CTRL_VQ) | F(MRG_RXBUF) | F(STATUS) | F(GUEST_ANNOUNCE))

struct rig {
	struct fake_driver *d;
	struct fuzz_input in;
	int peers[PAIRS];
	bool running, honest;
	uint32_t active; /* as the driver knows */
};

static void nothing(void *arg)
{
	(void)arg;
}

/* The worker of a queue has come round twice. */
static void settle(struct rig *rig, uint32_t queue)
{
	worker_call(&rig->d->workers[queue], nothing, NULL);
	worker_call(&rig->d->workers[queue], nothing, NULL);
}

static void start(struct rig *rig)
{
	uint64_t features = (fuzz_take(&rig->in, 1) & 7) != 0 ? ALL : F(CTRL_VQ);

	rig->running = fake_driver_start(rig->d, features, RING_SIZE);
	rig->honest = rig->running && features == ALL;
	rig->active = 1;
}

static bool is_asked(struct virtio_device *dev)
{
	struct virtio_net_config config;

	(void)pthread_mutex_lock(&dev->lock);
	virtio_config_read(dev, 0, &config, sizeof(config));
	(void)pthread_mutex_unlock(&dev->lock);
	return (config.status & VIRTIO_NET_S_ANNOUNCE) != 0;
}

static void command(struct rig *rig)
{
	struct fake_ring *ring = &rig->d->rings[CONTROL];
	uint8_t shape = (uint8_t)fuzz_take(&rig->in, 1);
	uint32_t len = shape % 8, room = shape >> 3 & 3;
	const struct fake_buf bufs[] = { { COMMAND, len, false }, { ANSWER, room, true } };
	uint8_t bytes[8], ack = 0xee, answer;
	uint32_t id, written, wanted;
	bool right, announced;

	if (!rig->running) {
		return;
	}
	for (uint32_t i = 0; i < sizeof(bytes); i++) {
		bytes[i] = (uint8_t)fuzz_take(&rig->in, 1) % (i == 2 ? PAIRS + 2 : 6);
	}
	wanted = load_le16(bytes + 2);
	right = len >= 4 && bytes[0] == VIRTIO_NET_CTRL_MQ && bytes[1] == 0 && wanted != 0 &&
		wanted <= PAIRS;
	announced = len >= 2 && bytes[0] == VIRTIO_NET_CTRL_ANNOUNCE && bytes[1] == 0;
	fake_driver_write(rig->d, COMMAND, bytes, sizeof(bytes));
	fake_driver_write(rig->d, ANSWER, &ack, 1);
	(void)fake_ring_add(ring, bufs, 2);
	virtio_kick(rig->d->dev, CONTROL);
	settle(rig, CONTROL);
	if (!rig->honest || !fake_ring_used(ring, &id, &written)) {
		rig->honest = false; /* there is a limit: it is answered later */
		return;
	}
	REQUIRE(written == (room != 0 ? 1 : 0));
	REQUIRE(!announced || !is_asked(rig->d->dev));
	answer = right || announced ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
	fake_driver_read(rig->d, ANSWER, &ack, 1);
	REQUIRE(ack == (room != 0 ? answer : 0xee));
	rig->active = right ? wanted : rig->active;
}

static void arrive(struct rig *rig)
{
	uint32_t pair = (uint32_t)fuzz_take(&rig->in, 1) % PAIRS;
	uint8_t frame[NETDEV_HEADER_SIZE + 64] = { 0 };
	uint16_t before;

	if (!rig->running) {
		return;
	}
	before = fake_ring_used_idx(&rig->d->rings[2 * pair]);
	(void)send(rig->peers[pair], frame, sizeof(frame), MSG_DONTWAIT);
	settle(rig, 2 * pair);
	REQUIRE(!rig->honest || pair < rig->active ||
		fake_ring_used_idx(&rig->d->rings[2 * pair]) == before);
}

static void offer(struct rig *rig)
{
	uint32_t queue = (uint32_t)fuzz_take(&rig->in, 1) % CONTROL;
	const struct fake_buf buf = { BUFFERS + queue * KIB(64), 256, queue % 2 == 0 };

	if (rig->running) {
		(void)fake_ring_add(&rig->d->rings[queue], &buf, 1);
		virtio_kick(rig->d->dev, queue);
		settle(rig, queue);
	}
}

static void mutate(struct rig *rig)
{
	uint32_t queue = (uint32_t)fuzz_take(&rig->in, 1) % QUEUES;
	uint64_t offset = fuzz_take(&rig->in, 2) % 0x200;

	*guest_memory_write_pointer(&rig->d->mem, fake_ring_place(queue) + offset, 1) =
		(uint8_t)fuzz_take(&rig->in, 1);
	rig->honest = false;
}

static void check_quiet(struct rig *rig)
{
	struct virtio_device *dev = rig->d->dev;

	virtio_device_quiesce(dev);
	for (uint32_t i = 0; i < QUEUES; i++) {
		const struct virtqueue *q = &dev->queues[i].ring;

		REQUIRE(q->state.broken || q->in_flight_count == 0);
	}
	REQUIRE(state_validate(virtio_net_ops.state, dev, NULL) == 0);
	virtio_device_resume(dev);
}

static void step(struct rig *rig)
{
	switch (fuzz_take(&rig->in, 1) % 8) {
	case 0:
		start(rig);
		break;
	case 1:
		mutate(rig);
		break;
	case 2:
		check_quiet(rig);
		break;
	case 3:
		arrive(rig);
		break;
	case 4:
		offer(rig);
		break;
	case 5:
		virtio_net_announce(rig->d->dev);
		break;
	default:
		command(rig);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 1 };
	static struct fake_driver d;
	struct rig rig = { .d = &d, .in = { .data = data, .len = size } };
	struct netdev *netdev = NULL;
	struct netdev **end = &netdev;
	struct virtio_device *dev;

	if (d.mem.size == 0) {
		log_init(LOG_ERROR, -1);
		(void)signal(SIGPIPE, SIG_IGN);
		fake_driver_init_queues(&d, QUEUES);
		fake_driver_unwatch(&d);
	}
	fake_memory_clear(&d.mem);
	for (uint32_t i = 0; i < PAIRS; i++, end = &(*end)->more) {
		REQUIRE(netdev_open_pair(end, &rig.peers[i], NULL) == 0);
	}
	REQUIRE(virtio_net_create(&dev, "net0", netdev, mac, &d.mem, d.workers, NULL) == 0);
	fake_driver_attach(&d, dev);
	memset(d.rings, 0, sizeof(d.rings));
	start(&rig);
	while (rig.in.len != 0) {
		step(&rig);
	}
	check_quiet(&rig);
	virtio_device_reset(dev);
	dev->ops->destroy(dev);
	d.dev = NULL;
	for (uint32_t i = 0; i < PAIRS; i++) {
		(void)close(rig.peers[i]);
	}
	return 0;
}
