/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console against a driver of our own and a channel that remembers. m_5_3_5_1_1 is a MUST
 * statement of virtio 1.2; t_c1 and t_c2 are classes of bugs that other consoles had.
 */
#include "harness/check_main.h"

#include <unistd.h>
#include <linux/virtio_console.h>
#include <sys/resource.h>

#include "fake_driver.h"
#include "harness/state_round_trip.h"
#include "vmm/cleanup.h"
#include "vmm/virtio_console.h"

#define F(bit)	   (UINT64_C(1) << (VIRTIO_CONSOLE_F_##bit))
#define RX	   VIRTIO_CONSOLE_QUEUE_RX
#define TX	   VIRTIO_CONSOLE_QUEUE_TX
#define QUEUE_SIZE 64
#define INPUT_ROOM 4096
#define RX_AREA	   (FAKE_DATA + MIB(8))

struct host {
	struct console_channel channel;
	pthread_mutex_t lock;
	uint8_t seen[65536];
	uint64_t bytes;
	bool deaf; /* takes nothing: as the channel of a host that does not read */
	_Atomic uint32_t ready;
};

static struct fake_driver d;
static struct host host;

static void host_output(struct console_channel *channel, const uint8_t *data, size_t len)
{
	struct host *h = container_of(channel, struct host, channel);

	SCOPED_LOCK(&h->lock);
	for (size_t i = 0; i < len && !h->deaf && h->bytes + i < sizeof(h->seen); i++) {
		h->seen[h->bytes + i] = data[i];
	}
	h->bytes += len;
}

static void host_input_ready(struct console_channel *channel)
{
	atomic_fetch_add(&container_of(channel, struct host, channel)->ready, 1);
}

static void setup(void)
{
	struct virtio_device *dev;
	struct error e = { 0 };

	memset(&host, 0, sizeof(host));
	(void)pthread_mutex_init(&host.lock, NULL);
	host.channel.output = host_output;
	host.channel.input_ready = host_input_ready;
	fake_driver_init(&d);
	check_ok(virtio_console_create(&dev, "hvc0", &host.channel, &d.mem, d.workers, &e), &e);
	fake_driver_attach(&d, dev);
}

static void teardown(void)
{
	fake_driver_finish(&d);
	(void)pthread_mutex_destroy(&host.lock);
}

static void start(uint64_t features)
{
	ck_assert(fake_driver_start(&d, features, QUEUE_SIZE));
}

static uint64_t host_bytes(void)
{
	SCOPED_LOCK(&host.lock);
	return host.bytes;
}

static size_t input(const char *text)
{
	size_t n = virtio_console_input(d.dev, (const uint8_t *)text, strlen(text));

	fake_driver_sync(&d);
	return n;
}

static void expect_config(uint16_t cols, uint16_t rows)
{
	struct virtio_console_config config;

	(void)pthread_mutex_lock(&d.dev->lock);
	virtio_config_read(d.dev, 0, &config, sizeof(config));
	(void)pthread_mutex_unlock(&d.dev->lock);
	ck_assert_uint_eq(config.cols, cols);
	ck_assert_uint_eq(config.rows, rows);
	ck_assert_uint_eq(config.max_nr_ports, 0);
	ck_assert_uint_eq(config.emerg_wr, 0);
}

static void config_write(uint64_t offset, const void *data, uint32_t len)
{
	(void)pthread_mutex_lock(&d.dev->lock);
	virtio_config_write(d.dev, offset, data, len);
	(void)pthread_mutex_unlock(&d.dev->lock);
}

/* One receive buffer of `len` bytes; buffers lie 64 KiB apart, 16 of them. */
static uint64_t post(uint32_t len)
{
	static uint32_t next;
	const struct fake_buf buf = { RX_AREA + next++ % 16 * KIB(64), len, true };

	fake_driver_fill(&d, buf.addr, 0xaa, len);
	fake_ring_add(&d.rings[RX], &buf, 1);
	fake_driver_kick(&d, RX);
	return buf.addr;
}

static void expect_input(uint64_t addr, const char *text)
{
	uint32_t id, len;
	char bytes[64] = { 0 };

	ck_assert(fake_ring_used(&d.rings[RX], &id, &len));
	ck_assert_uint_eq(len, strlen(text));
	ck_assert_uint_lt(len, sizeof(bytes));
	fake_driver_read(&d, addr, bytes, len);
	ck_assert_str_eq(bytes, text);
}

static void expect_output_used(uint16_t head)
{
	uint32_t id, len;

	ck_assert(fake_ring_used(&d.rings[TX], &id, &len));
	ck_assert_uint_eq(id, head);
	ck_assert_uint_eq(len, 0);
}

/* ---- configuration ---- */

START_TEST(test_features)
{
	uint64_t core = UINT64_C(1) << 32 | UINT64_C(1) << 28 | UINT64_C(1) << 29;

	ck_assert_uint_eq(fake_driver_offered(&d), F(SIZE) | F(EMERG_WRITE) | core);
	ck_assert_uint_eq(d.dev->config_size, 12);
	expect_config(80, 25);
}
END_TEST

START_TEST(test_resize)
{
	uint32_t generation;

	virtio_console_resize(d.dev, 100, 40);
	expect_config(100, 40);
	start(F(SIZE));
	expect_config(100, 40);
	/* The first size is told as a change: Linux looks at no other. */
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 1);
	generation = atomic_load(&d.dev->state.config_generation);
	virtio_console_resize(d.dev, 132, 43);
	expect_config(132, 43);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 2);
	ck_assert_uint_ne(atomic_load(&d.dev->state.config_generation), generation);
	virtio_console_resize(d.dev, 132, 43);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 2);
	/* The window is the host's: it survives the guest's reset. */
	fake_driver_reset(&d);
	expect_config(132, 43);
}
END_TEST

START_TEST(test_resize_without_size)
{
	start(0);
	virtio_console_resize(d.dev, 132, 43);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 0);
	expect_config(132, 43);
}
END_TEST

/* At every step of the status machine, and beyond. */
START_TEST(test_m_5_3_5_1_1_emergency_write)
{
	static const uint32_t steps[] = { 0x1, 0x3, 0xb, 0xf, 0x8f };
	uint32_t word = 'A';

	config_write(8, &word, 4);
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		if (steps[i] == 0xb) {
			(void)pthread_mutex_lock(&d.dev->lock);
			virtio_set_features(d.dev, 1, 1);
			(void)pthread_mutex_unlock(&d.dev->lock);
		}
		fake_driver_set_status(&d, steps[i]);
		word++;
		config_write(8, &word, 4);
	}
	ck_assert_uint_eq(host_bytes(), 6);
	ck_assert_mem_eq(host.seen, "ABCDEF", 6);
}
END_TEST

START_TEST(test_emergency_write_at_any_offset)
{
	static const struct {
		uint64_t offset;
		uint32_t len;
		bool writes;
	} tries[] = { { 8, 1, true },	{ 8, 2, true },		 { 8, 8, true },   { 4, 8, true },
		      { 7, 2, true },	{ 9, 1, false },	 { 11, 4, false }, { 0, 8, false },
		      { 12, 4, false }, { UINT64_MAX, 4, false } };
	const uint8_t data[8] = { 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h' };
	uint64_t bytes = 0;

	for (size_t i = 0; i < ARRAY_SIZE(tries); i++) {
		config_write(tries[i].offset, data, tries[i].len);
		if (tries[i].writes) {
			ck_assert_uint_eq(host.seen[bytes++], data[8 - tries[i].offset]);
		}
		ck_assert_uint_eq(host_bytes(), bytes);
	}
	expect_config(80, 25);
}
END_TEST

START_TEST(test_no_channel)
{
	struct virtio_device *dev;
	struct error e = { 0 };
	uint8_t byte = 'x';

	check_ok(virtio_console_create(&dev, "hvc1", NULL, &d.mem, d.workers, &e), &e);
	virtio_config_write(dev, 8, &byte, 1);
	ck_assert_uint_eq(virtio_console_input(dev, &byte, 1), 1);
	virtio_device_reset(dev);
	dev->ops->destroy(dev);
}
END_TEST

/* ---- output ---- */

START_TEST(test_output)
{
	const struct fake_buf bufs[] = { { FAKE_DATA, 1, false },
					 { FAKE_DATA + 1, 3, false },
					 { FAKE_HIGH_START, 1, false },
					 { FAKE_DATA + 4096, 64, true } };
	uint16_t head;

	start(0);
	fake_driver_write(&d, FAKE_DATA, "hell", 4);
	fake_driver_write(&d, FAKE_HIGH_START, "o", 1);
	fake_driver_fill(&d, FAKE_DATA + 4096, 0x55, 64);
	head = fake_ring_add(&d.rings[TX], bufs, 3);
	fake_driver_kick(&d, TX);
	expect_output_used(head);
	head = fake_ring_add(&d.rings[TX], bufs, 4); /* a writable buffer means nothing */
	fake_driver_kick(&d, TX);
	expect_output_used(head);
	head = fake_ring_add(&d.rings[TX], bufs + 3, 1);
	fake_driver_kick(&d, TX);
	expect_output_used(head);
	ck_assert_uint_eq(host_bytes(), 10);
	ck_assert_mem_eq(host.seen, "hellohello", 10);
	ck_assert_uint_ge(atomic_load(&d.queue_interrupts[TX]), 1);
}
END_TEST

static _Atomic bool refuse_output;

static bool may_output(struct console_channel *channel, size_t len)
{
	(void)channel;
	(void)len;
	return !refuse_output;
}

START_TEST(test_output_waits_for_the_host)
{
	static const uint8_t text[] = "kept";
	uint16_t head;

	host.channel.may_output = may_output;
	refuse_output = true;
	start(0);
	fake_driver_write(&d, FAKE_DATA, text, 4);
	head = fake_ring_add(&d.rings[TX], &(struct fake_buf){ FAKE_DATA, 4, false }, 1);
	fake_driver_kick(&d, TX);
	ck_assert_uint_eq(host_bytes(), 0);
	refuse_output = false;
	virtio_console_output_ready(d.dev);
	fake_driver_sync(&d);
	ck_assert_uint_eq(host_bytes(), 4);
	ck_assert_mem_eq(host.seen, text, 4);
	expect_output_used(head);
}
END_TEST

START_TEST(test_output_waits_not_for_ever)
{
	uint16_t head;

	host.channel.may_output = may_output;
	refuse_output = true;
	start(0);
	head = fake_ring_add(&d.rings[TX], &(struct fake_buf){ FAKE_DATA, 4, false }, 1);
	fake_driver_kick(&d, TX);
	while (host_bytes() == 0) {
		(void)usleep(1000);
	}
	fake_driver_sync(&d);
	expect_output_used(head);
	/* From now on without a wait, until the host takes something. */
	head = fake_ring_add(&d.rings[TX], &(struct fake_buf){ FAKE_DATA, 4, false }, 1);
	fake_driver_kick(&d, TX);
	expect_output_used(head);
	virtio_console_output_ready(d.dev);
	(void)fake_ring_add(&d.rings[TX], &(struct fake_buf){ FAKE_DATA, 4, false }, 1);
	fake_driver_kick(&d, TX);
	/* A reset does not wait for the end of the host's patience. */
	fake_driver_reset(&d);
	ck_assert_uint_eq(host_bytes(), 8);
}
END_TEST

START_TEST(test_output_in_order)
{
	const uint32_t lines = 5000;
	uint32_t id, len, done = 0;

	start(0);
	for (uint32_t i = 0; i < lines; i++) {
		uint64_t at = FAKE_DATA + i % QUEUE_SIZE * 64ULL;
		const struct fake_buf buf = { at, sizeof(i), false };

		while ((uint16_t)(d.rings[TX].avail_idx - d.rings[TX].used_seen) == QUEUE_SIZE) {
			fake_driver_sync(&d);
			while (fake_ring_used(&d.rings[TX], &id, &len)) {
				done++;
			}
		}
		fake_driver_write(&d, at, &i, sizeof(i));
		fake_ring_add(&d.rings[TX], &buf, 1);
		virtio_kick(d.dev, TX);
	}
	ck_assert(fake_driver_wait_used(&d, TX, (uint16_t)lines));
	ck_assert_uint_eq(host_bytes(), lines * sizeof(uint32_t));
	for (uint32_t i = 0; i < lines; i++) {
		ck_assert_mem_eq(host.seen + i * sizeof(i), &i, sizeof(i));
	}
}
END_TEST

/* T-C2: gigabytes in one chain, again and again: bounded work, no memory, and a reset comes
 * through. */
START_TEST(test_t_c2_output_flood)
{
	struct fake_buf bufs[63];
	struct virtio_console_counters c;
	struct rusage before, after;
	uint32_t id, len;

	host.deaf = true;
	start(UINT64_C(1) << 28);
	(void)getrusage(RUSAGE_SELF, &before);
	for (size_t i = 0; i < ARRAY_SIZE(bufs); i++) {
		bufs[i] = (struct fake_buf){ FAKE_DATA, MIB(14), false };
	}
	fake_ring_add_indirect(&d.rings[TX], bufs, ARRAY_SIZE(bufs));
	fake_driver_kick(&d, TX);
	ck_assert(fake_ring_used(&d.rings[TX], &id, &len));
	virtio_console_read_counters(d.dev, &c);
	ck_assert_uint_eq(c.output_bytes, VIRTIO_CONSOLE_CHAIN_MAX);
	ck_assert_uint_eq(c.output_dropped, 63 * MIB(14) - VIRTIO_CONSOLE_CHAIN_MAX);
	for (int i = 0; i < QUEUE_SIZE; i++) {
		fake_ring_add_indirect(&d.rings[TX], bufs, ARRAY_SIZE(bufs));
	}
	virtio_kick(d.dev, TX);
	fake_driver_reset(&d);
	ck_assert_uint_eq(fake_driver_status(&d), 0);
	(void)getrusage(RUSAGE_SELF, &after);
	ck_assert_int_lt(after.ru_maxrss - before.ru_maxrss, 65536);
}
END_TEST

/* ---- input ---- */

START_TEST(test_input)
{
	uint64_t a, b;

	start(0);
	a = post(16);
	b = post(16);
	ck_assert_uint_eq(input("ls\n"), 3);
	expect_input(a, "ls\n");
	ck_assert_uint_ge(atomic_load(&d.queue_interrupts[RX]), 1);
	ck_assert_uint_eq(input("pwd\n"), 4);
	expect_input(b, "pwd\n");
	ck_assert_uint_eq(atomic_load(&host.ready), 0);
}
END_TEST

START_TEST(test_input_before_driver)
{
	uint64_t addr;

	ck_assert_uint_eq(input("early"), 5);
	start(0); /* begins with a reset */
	addr = post(16);
	expect_input(addr, "early");
	addr = post(16);
	ck_assert_uint_eq(input("late"), 4);
	expect_input(addr, "late");
}
END_TEST

START_TEST(test_input_waits_for_buffers)
{
	uint64_t a, b, c;

	start(0);
	ck_assert_uint_eq(input("abcdefgh"), 8);
	a = post(3);
	b = post(3);
	c = post(30);
	expect_input(a, "abc");
	expect_input(b, "def");
	expect_input(c, "gh");
}
END_TEST

/* Kicks are asked for while input waits for buffers, and only then. */
START_TEST(test_input_kicks)
{
	start(0);
	(void)post(3);
	ck_assert_uint_eq(fake_ring_used_flags(&d.rings[RX]), 1); /* NO_NOTIFY */
	ck_assert_uint_eq(input("abcd"), 4);
	ck_assert_uint_eq(fake_ring_used_flags(&d.rings[RX]), 0);
	(void)post(3);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[RX]), 2);
	ck_assert_uint_eq(fake_ring_used_flags(&d.rings[RX]), 1);
}
END_TEST

START_TEST(test_input_into_pieces)
{
	const struct fake_buf bufs[] = { { FAKE_DATA, 10, false },
					 { RX_AREA, 2, true },
					 { RX_AREA + 2, 1, true },
					 { RX_AREA + 3, 0, true },
					 { RX_AREA + 3, 60, true } };
	const struct fake_buf readable = { FAKE_DATA, 10, false };
	uint32_t id, len;

	start(0);
	fake_ring_add(&d.rings[RX], &readable, 1); /* goes back empty */
	fake_ring_add(&d.rings[RX], bufs, 5);
	fake_driver_kick(&d, RX);
	ck_assert_uint_eq(input("0123456789"), 10);
	ck_assert(fake_ring_used(&d.rings[RX], &id, &len));
	ck_assert_uint_eq(len, 0);
	expect_input(RX_AREA, "0123456789");
}
END_TEST

/* T-C2: the host floods, the guest does not read, then reads all: bounded, nothing lost, nothing
 * twice. */
START_TEST(test_t_c2_input_flood)
{
	const uint32_t total = 1000000;
	static uint8_t bytes[65536];
	uint32_t sent = 0, seen = 0;
	uint8_t chunk[1000];

	start(0);
	while (seen < total) {
		uint32_t id, len;
		uint64_t addr;

		while (sent < total) {
			uint32_t want = MIN((uint32_t)sizeof(chunk), total - sent);
			size_t n;

			for (uint32_t i = 0; i < want; i++) {
				chunk[i] = (uint8_t)((sent + i) % 251);
			}
			n = virtio_console_input(d.dev, chunk, want);
			sent += (uint32_t)n;
			if (n < want) {
				break;
			}
		}
		ck_assert_uint_le(sent - seen, INPUT_ROOM);
		ck_assert(sent == total || sent - seen == INPUT_ROOM);
		addr = post(65000 - seen % 777 * 80);
		ck_assert(fake_ring_used(&d.rings[RX], &id, &len));
		fake_driver_read(&d, addr, bytes, len);
		for (uint32_t i = 0; i < len; i++) {
			ck_assert_uint_eq(bytes[i], (seen + i) % 251);
		}
		seen += len;
		/* A channel that was refused bytes is told that there is room. */
		ck_assert(sent == total || atomic_exchange(&host.ready, 0) == 1);
	}
}
END_TEST

START_TEST(test_reset_drops_input)
{
	static uint8_t full[INPUT_ROOM + 1];
	uint64_t addr;

	start(0);
	ck_assert_uint_eq(virtio_console_input(d.dev, full, sizeof(full)), INPUT_ROOM);
	ck_assert_uint_eq(atomic_load(&host.ready), 0);
	start(0);
	ck_assert_uint_eq(atomic_load(&host.ready), 1);
	addr = post(64);
	ck_assert_uint_eq(input("fresh"), 5);
	expect_input(addr, "fresh");
}
END_TEST

START_TEST(test_quiesce_keeps_input)
{
	uint64_t addr;

	start(0);
	ck_assert_uint_eq(input("one "), 4);
	virtio_device_quiesce(d.dev);
	ck_assert_uint_eq(input("two"), 3);
	virtio_device_resume(d.dev);
	addr = post(64);
	expect_input(addr, "one two");
}
END_TEST

/* ---- whole device ---- */

/* T-C1: there is no control queue, and nothing answers for one. */
START_TEST(test_t_c1_no_control_queue)
{
	start(0);
	(void)pthread_mutex_lock(&d.dev->lock);
	ck_assert_ptr_null(virtio_select_queue(d.dev, 2, false));
	ck_assert_ptr_null(virtio_select_queue(d.dev, 3, false));
	(void)pthread_mutex_unlock(&d.dev->lock);
	virtio_kick(d.dev, 2);
	virtio_kick(d.dev, 0xffffffff);
	fake_driver_sync(&d);
	ck_assert_uint_eq(fake_driver_status(&d), 0xf);
	ck_assert(!fake_driver_start(&d, F(MULTIPORT), QUEUE_SIZE));
}
END_TEST

START_TEST(test_m_2_1_2_1_nothing_before_driver_ok)
{
	const struct fake_buf out = { FAKE_DATA, 4, false }, in = { RX_AREA, 4, true };

	ck_assert(fake_driver_negotiate(&d, UINT64_C(1) << 32));
	fake_driver_setup_queue(&d, RX, QUEUE_SIZE);
	fake_driver_setup_queue(&d, TX, QUEUE_SIZE);
	fake_ring_add(&d.rings[TX], &out, 1);
	fake_ring_add(&d.rings[RX], &in, 1);
	ck_assert_uint_eq(input("x"), 1);
	fake_driver_kick(&d, TX);
	fake_driver_kick(&d, RX);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[TX]), 0);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[RX]), 0);
	ck_assert_uint_eq(host_bytes(), 0);
	fake_driver_set_status(&d, 0xf);
	fake_driver_sync(&d);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[TX]), 1);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[RX]), 1);
	ck_assert_uint_eq(host_bytes(), 4);
}
END_TEST

START_TEST(test_broken_ring)
{
	uint32_t queue = (uint32_t)_i;

	start(0);
	ck_assert_uint_eq(input("x"), 1);
	fake_ring_set_avail(&d.rings[queue], 0, QUEUE_SIZE);
	fake_ring_set_avail_idx(&d.rings[queue], 1);
	fake_driver_kick(&d, queue);
	ck_assert_uint_eq(fake_driver_status(&d), 0x4f);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 1);
	ck_assert_uint_eq(input("y"), 1);
	start(0);
	fake_ring_add(&d.rings[TX], &(struct fake_buf){ FAKE_DATA, 4, false }, 1);
	fake_driver_kick(&d, TX);
	ck_assert_uint_eq(host_bytes(), 4);
}
END_TEST

static _Atomic bool stop_resizing;

static void *resize_often(void *arg)
{
	for (uint16_t i = 0; !atomic_load(&stop_resizing); i++) {
		virtio_console_resize(d.dev, i, i);
	}
	return arg;
}

/* The two halves of the window always belong together. */
START_TEST(test_resize_is_whole)
{
	pthread_t thread;

	start(F(SIZE));
	atomic_store(&stop_resizing, false);
	ck_assert_int_eq(pthread_create(&thread, NULL, resize_often, NULL), 0);
	for (int i = 0; i < 20000; i++) {
		uint16_t window[2];

		(void)pthread_mutex_lock(&d.dev->lock);
		virtio_config_read(d.dev, 0, window, sizeof(window));
		(void)pthread_mutex_unlock(&d.dev->lock);
		ck_assert(window[0] == window[1] || (window[0] == 80 && window[1] == 25));
	}
	atomic_store(&stop_resizing, true);
	pthread_join(thread, NULL);
}
END_TEST

START_TEST(test_state)
{
	const struct state_desc *desc = virtio_console_ops.state;
	struct virtio_device *dev;
	struct error e = { 0 };
	struct state_buf buf = { 0 };
	uint16_t window[2];
	static uint8_t hostile[8192];

	virtio_console_resize(d.dev, 99, 33);
	ck_assert_uint_eq(input("kept"), 4);
	check_ok(virtio_console_create(&dev, "hvc1", NULL, &d.mem, d.workers, &e), &e);
	check_state_round_trip(desc, d.dev, dev);
	virtio_config_read(dev, 0, window, sizeof(window));
	ck_assert_uint_eq(window[0], 99);
	ck_assert_uint_eq(window[1], 33);

	/* Every 32-bit field in turn beyond its range: refused, or it was not an index. */
	check_ok(state_save(desc, d.dev, &buf, &e), &e);
	ck_assert_uint_le(buf.len, sizeof(hostile));
	for (size_t i = 0, refused = 0; i + 4 <= buf.len || refused == 0; i++) {
		ck_assert_uint_le(i + 4, buf.len);
		memcpy(hostile, buf.data, buf.len);
		memset(hostile + i, 0xff, 4);
		if (state_load(desc, dev, hostile, buf.len, desc->version, &e) < 0 &&
		    strstr(e.msg, "input at") != NULL) {
			refused++;
		}
		if (i + 4 == buf.len) {
			ck_assert_uint_ge(refused, 2);
			break;
		}
	}
	state_buf_finish(&buf);
	dev->ops->destroy(dev);
}
END_TEST

CHECK_MAIN("virtio_console", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_features);
	   CHECK_TEST(test_resize); CHECK_TEST(test_resize_without_size);
	   CHECK_TEST(test_m_5_3_5_1_1_emergency_write);
	   CHECK_TEST(test_emergency_write_at_any_offset); CHECK_TEST(test_no_channel);
	   CHECK_TEST(test_output); CHECK_TEST(test_output_in_order);
	   CHECK_TEST(test_output_waits_for_the_host); CHECK_TEST(test_output_waits_not_for_ever);
	   CHECK_TEST(test_t_c2_output_flood); CHECK_TEST(test_input);
	   CHECK_TEST(test_input_before_driver); CHECK_TEST(test_input_waits_for_buffers);
	   CHECK_TEST(test_input_kicks); CHECK_TEST(test_input_into_pieces);
	   CHECK_TEST(test_t_c2_input_flood); CHECK_TEST(test_reset_drops_input);
	   CHECK_TEST(test_quiesce_keeps_input); CHECK_TEST(test_t_c1_no_control_queue);
	   CHECK_TEST(test_m_2_1_2_1_nothing_before_driver_ok); CHECK_LOOP(test_broken_ring, 2);
	   CHECK_TEST(test_resize_is_whole); CHECK_TEST(test_state))
