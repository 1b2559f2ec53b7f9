/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device core: status machine, features, kicks, breaking, configuration space. "M..." are the device
 * requirements of virtio 1.3, "T-..." rows of the catalogue.
 */
#include "harness/echo_device.h"
#include "harness/virtio_state.h"

/* Drives a device in any state to one of the steps. */
static void drive_to(uint32_t target)
{
	fake_driver_set_status(&d, 0);
	if ((target & ACK) != 0) {
		fake_driver_set_status(&d, ACK);
	}
	if ((target & DRIVER) != 0) {
		fake_driver_set_status(&d, ACK | DRIVER);
		virtio_set_features(&echo->dev, 1, (uint32_t)(VERSION_1 >> 32));
	}
	if ((target & FEATURES_OK) != 0) {
		fake_driver_set_status(&d, ACK | DRIVER | FEATURES_OK);
	}
	if ((target & DRIVER_OK) != 0) {
		fake_driver_set_status(&d, ACK | DRIVER | FEATURES_OK | DRIVER_OK);
	}
	if ((target & FAILED) != 0) {
		fake_driver_set_status(&d, target);
	}
	if ((target & NEEDS_RESET) != 0) {
		virtio_needs_reset(&echo->dev, "test");
	}
	ck_assert_uint_eq(status(), target);
}

static uint32_t model(uint32_t old, uint32_t value)
{
	static const uint32_t steps[] = { ACK, DRIVER, FEATURES_OK, DRIVER_OK };
	uint32_t bits = value & ~(uint32_t)NEEDS_RESET;
	uint32_t now = old;

	if (value == 0) {
		return 0;
	}
	if ((bits & ~0x8fU) != 0 || ((old & 0x8f) & ~bits) != 0 || (old & FAILED) != 0) {
		return old;
	}
	if ((bits & FAILED) != 0) {
		return old | FAILED;
	}
	if ((old & NEEDS_RESET) != 0) {
		return old;
	}
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		if ((bits & steps[i]) == 0) {
			break; /* what comes after it is not due */
		}
		/* From below DRIVER the driver has had no chance to accept VERSION_1. */
		if (steps[i] == FEATURES_OK && (old & DRIVER) == 0) {
			break;
		}
		now |= steps[i];
	}
	return now;
}

static const uint32_t matrix_states[] = { 0x00, 0x01, 0x03, 0x0b, 0x0f, 0x80, 0x81, 0x83,
					  0x8b, 0x8f, 0x4f, 0xcf, 0x40, 0x43, 0x4b };

/* T-Q9: every write in every state. */
START_TEST(test_status_matrix)
{
	uint32_t state = matrix_states[_i];

	for (uint32_t value = 0; value < 0x100; value++) {
		drive_to(state);
		fake_driver_set_status(&d, value);
		ck_assert_msg(status() == model(state, value), "0x%x in 0x%x: 0x%x, not 0x%x",
			      value, state, status(), model(state, value));
	}
	/* PCI's register has 8 bits. */
	for (uint32_t bit = 8; bit < 32 && d.pci == NULL; bit++) {
		drive_to(state);
		fake_driver_set_status(&d, UINT32_C(1) << bit | 0x1);
		ck_assert_uint_eq(status(), state);
	}
}
END_TEST

/* The same said by hand. */
static const struct {
	uint32_t from, write, to;
} status_rows[] = {
	{ 0x00, 0x02, 0x00 }, { 0x00, 0x04, 0x00 }, { 0x00, 0x03, 0x03 }, { 0x01, 0x09, 0x01 },
	{ 0x03, 0x0b, 0x0b }, { 0x03, 0x07, 0x03 }, { 0x03, 0x0f, 0x0f }, { 0x0b, 0x03, 0x0b },
	{ 0x0f, 0x0b, 0x0f }, { 0x0f, 0x00, 0x00 }, { 0x0f, 0x8f, 0x8f }, { 0x8f, 0x0f, 0x8f },
	{ 0x8f, 0x00, 0x00 }, { 0x4f, 0xcf, 0xcf }, { 0x4f, 0x8f, 0xcf }, { 0x4f, 0x0f, 0x4f },
	{ 0x0f, 0x4f, 0x0f }, { 0x0b, 0x1f, 0x0b }, { 0x03, 0x83, 0x83 }, { 0x00, 0x80, 0x80 },
};

START_TEST(test_status_rows)
{
	drive_to(status_rows[_i].from);
	fake_driver_set_status(&d, status_rows[_i].write);
	ck_assert_uint_eq(status(), status_rows[_i].to);
}
END_TEST

START_TEST(test_M6_2_1_offered)
{
	ck_assert_uint_eq(fake_driver_offered(&d),
			  VERSION_1 | INDIRECT | EVENT_IDX | FEATURE_A | FEATURE_B);
	ck_assert_uint_eq(virtio_offered_features(&echo->dev, 2), 0);
	ck_assert_uint_eq(virtio_offered_features(&echo->dev, UINT32_MAX), 0);
}
END_TEST

static const struct {
	uint64_t features;
	bool accepted;
} feature_rows[] = {
	{ VERSION_1, true },
	{ VERSION_1 | FEATURE_A, true },
	{ VERSION_1 | FEATURE_A | FEATURE_B | EVENT_IDX | INDIRECT, true },
	{ VERSION_1 | EVENT_IDX, true },
	{ 0, false },
	{ FEATURE_A, false },
	{ VERSION_1 | FEATURE_B, false }, /* which needs A */
	{ VERSION_1 | 1, false },
	{ VERSION_1 | UINT64_C(1) << 34, false },
	{ VERSION_1 | UINT64_C(1) << 40, false },
	{ VERSION_1 | UINT64_C(1) << 63, false },
	{ UINT64_MAX, false },
};

START_TEST(test_M2_2_2_2_subsets)
{
	ck_assert_int_eq(fake_driver_negotiate(&d, feature_rows[_i].features),
			 feature_rows[_i].accepted);
	ck_assert_uint_eq(status(), feature_rows[_i].accepted ? 0xb : 0x3);
	/* A driver that was refused may think again. */
	if (!feature_rows[_i].accepted) {
		virtio_set_features(&echo->dev, 0, 0);
		virtio_set_features(&echo->dev, 1, 1);
		fake_driver_set_status(&d, 0xb);
		ck_assert_uint_eq(status(), 0xb);
	}
}
END_TEST

START_TEST(test_features_frozen)
{
	virtio_set_features(&echo->dev, 0, 0x8);
	ck_assert_uint_eq(echo->dev.state.features, 0); /* before DRIVER */
	fake_driver_set_status(&d, ACK | DRIVER);
	virtio_set_features(&echo->dev, 0, 0x8);
	virtio_set_features(&echo->dev, 1, 0x1);
	virtio_set_features(&echo->dev, 2, 0xffffffff);
	virtio_set_features(&echo->dev, UINT32_MAX, 0xffffffff);
	ck_assert_uint_eq(echo->dev.state.features, VERSION_1 | FEATURE_A);
	fake_driver_set_status(&d, ACK | DRIVER | FEATURES_OK);
	virtio_set_features(&echo->dev, 0, 0);
	virtio_set_features(&echo->dev, 1, 0xffffffff);
	ck_assert_uint_eq(echo->dev.state.features, VERSION_1 | FEATURE_A);
	ck_assert(virtio_has_feature(&echo->dev, 3));
	ck_assert(!virtio_has_feature(&echo->dev, 50));
}
END_TEST

START_TEST(test_echo)
{
	ck_assert(fake_driver_start(&d, EVENT_IDX | INDIRECT, 32));
	ck_assert_uint_eq(echo->activations, 1);
	for (uint32_t i = 0; i < 200; i++) {
		fake_ring_set_used_event(&d.rings[i % 2], fake_ring_used_idx(&d.rings[i % 2]));
		check_echo(i % 2);
	}
	ck_assert_uint_eq(atomic_load(&d.queue_interrupts[0]), 100);
	ck_assert_uint_eq(atomic_load(&d.queue_interrupts[1]), 100);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 0);
	ck_assert_uint_eq(atomic_load(&echo->dev.state.interrupt_status), 1);
}
END_TEST

/* M2.1.2-1, and the kick is not lost. */
START_TEST(test_M2_1_2_1_kick_before_driver_ok)
{
	uint32_t id, len;

	ck_assert(fake_driver_negotiate(&d, VERSION_1));
	fake_driver_setup_queue(&d, 0, 32);
	(void)add(0, FAKE_DATA, FAKE_DATA + 16);
	fake_driver_kick(&d, 0);
	fake_driver_kick(&d, 1);
	ck_assert_uint_eq(atomic_load(&echo->processed[0]), 0);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[0]), 0);
	ck_assert_uint_eq(atomic_load(&d.queue_interrupts[0]), 0);
	fake_driver_set_status(&d, 0xf);
	ck_assert(fake_ring_used(&d.rings[0], &id, &len));
	ck_assert_uint_eq(atomic_load(&d.queue_interrupts[0]), 1);
	/* The other queue was never made ready. */
	fake_driver_sync(&d);
	ck_assert_uint_eq(atomic_load(&echo->processed[1]), 0);
	ck_assert_uint_eq(atomic_load(&echo->started[1]), 0);
}
END_TEST

START_TEST(test_M2_7_10_2_3_spurious_kicks)
{
	ck_assert(fake_driver_start(&d, EVENT_IDX, 32));
	for (uint32_t i = 0; i < 100; i++) {
		fake_driver_kick(&d, i % 2);
	}
	for (uint32_t i = 0; i < 1000; i++) {
		virtio_kick(&echo->dev, 0);
	}
	virtio_kick(&echo->dev, 2);
	virtio_kick(&echo->dev, 0x80000000);
	virtio_kick(&echo->dev, UINT32_MAX);
	fake_driver_sync(&d);
	ck_assert_uint_eq(status(), 0xf);
	ck_assert_uint_eq(atomic_load(&d.queue_interrupts[0]), 0);
	check_echo(0);
}
END_TEST

START_TEST(test_M2_1_2_2_needs_reset_signals)
{
	virtio_needs_reset(&echo->dev, "test");
	ck_assert_uint_eq(status(), NEEDS_RESET);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 0);
	fake_driver_reset(&d);
	ck_assert(fake_driver_start(&d, 0, 32));
	virtio_needs_reset(&echo->dev, "test");
	virtio_needs_reset(&echo->dev, "test");
	ck_assert_uint_eq(status(), 0xf | NEEDS_RESET);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 1);
	ck_assert_uint_eq(atomic_load(&echo->dev.state.interrupt_status), 2);
}
END_TEST

/* T-Q15: a broken queue stops its device, and a reset revives it. */
START_TEST(test_broken_queue)
{
	uint32_t processed;

	ck_assert(fake_driver_start(&d, 0, 32));
	check_echo(0);
	fake_ring_set_avail_idx(&d.rings[0], 0x7fff);
	fake_driver_kick(&d, 0);
	ck_assert_uint_eq(status(), 0xf | NEEDS_RESET);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 1);
	processed = atomic_load(&echo->processed[1]);
	fake_driver_kick(&d, 1);
	ck_assert_uint_eq(atomic_load(&echo->processed[1]), processed);
	ck_assert(fake_driver_start(&d, 0, 32));
	check_echo(0);
	check_echo(1);
}
END_TEST

/* T-Q5 */
START_TEST(test_config_bounds)
{
	static const uint64_t offsets[] = { 0,
					    1,
					    7,
					    CONFIG_SIZE - 1,
					    CONFIG_SIZE,
					    CONFIG_SIZE + 1,
					    UINT64_C(1) << 31,
					    UINT32_MAX,
					    UINT64_MAX - 7,
					    UINT64_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		for (uint32_t len = 1; len <= 8; len++) {
			uint8_t buf[8], ones[8];

			for (uint8_t k = 0; k < CONFIG_SIZE; k++) {
				echo->config[k] = (uint8_t)(k + 1);
			}
			memset(buf, 0xee, sizeof(buf));
			memset(ones, 0xff, sizeof(ones));
			virtio_config_read(&echo->dev, offsets[i], buf, len);
			for (uint64_t k = 0; k < 8; k++) {
				uint64_t at = offsets[i] + k;
				bool inside = at >= k && at < CONFIG_SIZE;

				ck_assert_uint_eq(buf[k], k >= len ? 0xee : inside ? at + 1 : 0);
			}
			virtio_config_write(&echo->dev, offsets[i], ones, len);
			for (uint64_t k = 0; k < CONFIG_SIZE; k++) {
				bool hit = k >= offsets[i] && k - offsets[i] < len;

				ck_assert_uint_eq(echo->config[k], hit ? 0xff : k + 1);
			}
		}
	}
}
END_TEST

START_TEST(test_M4_2_2_1_6_config_changed)
{
	virtio_config_changed(&echo->dev);
	ck_assert_uint_eq(atomic_load(&echo->dev.state.config_generation), 1);
	ck_assert_uint_eq(atomic_load(&echo->dev.state.interrupt_status), 0);
	/* Between ACKNOWLEDGE and DRIVER_OK: the interrupt comes when the driver is ready. */
	ck_assert(fake_driver_negotiate(&d, VERSION_1));
	virtio_config_changed(&echo->dev);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 0);
	ck_assert_uint_eq(atomic_load(&echo->dev.state.interrupt_status), 2);
	fake_driver_set_status(&d, 0xf);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 1);
	virtio_config_changed(&echo->dev);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 2);
	ck_assert_uint_eq(atomic_load(&echo->dev.state.config_generation), 3);
	/* The driver's reset keeps the generation, a machine reset does not. */
	fake_driver_reset(&d);
	ck_assert_uint_eq(atomic_load(&echo->dev.state.config_generation), 3);
	virtio_device_reset(&echo->dev);
	ck_assert_uint_eq(atomic_load(&echo->dev.state.config_generation), 0);
}
END_TEST

START_TEST(test_init_without_descriptors)
{
	struct rlimit limit = { 0 }, none;
	struct virtio_device dev;
	int before = count_descriptors();

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = 0;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	ck_assert_int_eq(
		virtio_device_init(&dev, &echo_ops, "echo1", &d.mem, 0, 0, 2, d.workers, &e),
		-EMFILE);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	check_error(&e, ERROR_INTERNAL, "virtio-echo 'echo1'");
	ck_assert_int_eq(count_descriptors(), before);
	virtio_device_finish(&dev);
	memset(&dev, 0, sizeof(dev));
	virtio_device_finish(&dev);
}
END_TEST

/* ---- how many queues there are is the instance's ---- */

static const struct virtio_queue_type group[] = { { 64, "rx" }, { 32, "tx" }, { 16, "ctl" } };
static const struct virtio_ops grouped = { .queue_types = group,
					   .queue_type_count = 3,
					   .queue_repeat = 2 };
static const struct virtio_ops repeated = { .queue_types = group,
					    .queue_type_count = 1,
					    .queue_repeat = 1 };

static const struct {
	const struct virtio_ops *ops;
	uint32_t count, index;
	uint16_t size;
	const char *name;
} types[] = {
	{ &echo_ops, 2, 0, 64, "net0-echo0" },	{ &echo_ops, 2, 1, 32, "net0-echo1" },
	{ &repeated, 1, 0, 64, "net0-rx" },	{ &repeated, 16, 1, 64, "net0-rx1" },
	{ &repeated, 16, 15, 64, "net0-rx15" }, { &grouped, 2, 1, 32, "net0-tx" },
	{ &grouped, 3, 2, 16, "net0-ctl" },	{ &grouped, 17, 0, 64, "net0-rx" },
	{ &grouped, 17, 1, 32, "net0-tx" },	{ &grouped, 17, 2, 64, "net0-rx1" },
	{ &grouped, 17, 15, 32, "net0-tx7" },	{ &grouped, 17, 16, 16, "net0-ctl" },
};

START_TEST(test_queue_types)
{
	char name[WORKER_NAME_SIZE];

	ck_assert_uint_eq(
		virtio_queue_type(types[_i].ops, types[_i].count, types[_i].index)->size_max,
		types[_i].size);
	virtio_worker_name(types[_i].ops, "net0", types[_i].count, types[_i].index, name);
	ck_assert_str_eq(name, types[_i].name);
}
END_TEST

/* A device of two queues cannot become what one of three was. */
START_TEST(test_state_of_another_count)
{
	static const struct virtio_queue_type one[] = { { 32, "echo" } };
	struct virtio_ops ops = echo_ops;
	struct state_buf buf = { 0 };
	struct virtio_device other;
	struct state_entry here, there;

	ops.queue_types = one;
	ops.queue_type_count = ops.queue_repeat = 1;
	for (uint32_t count = 1; count <= VIRTIO_QUEUES_MAX; count++) {
		int r;

		check_ok(virtio_device_init(&other, &ops, "other", &d.mem, FEATURE_A | FEATURE_B,
					    CONFIG_SIZE, count, d.workers, &e),
			 &e);
		other.queues[count - 1].ring.state.avail_next = 7;
		other.queues[count - 1].ring.state.used_next = 7;
		other.queues[count - 1].ring.state.avail_gpa = 0x2000;
		other.queues[count - 1].ring.state.used_gpa = 0x4000;
		there = virtio_entry(&other, NULL, NULL);
		here = virtio_entry(&echo->dev, NULL, NULL);
		here.kind = there.kind;
		check_ok(state_set_save(&there, 1, &buf, &e), &e);
		r = virtio_load(&here, &buf, &e);
		ck_assert_msg((r == 0) == (count == 2), "%u queues: %s", count, e.msg);
		ck_assert_uint_eq(echo->dev.queues[1].ring.state.used_next, count >= 2 ? 7 : 0);
		buf.len = 0;
		virtio_device_finish(&other);
	}
	state_buf_finish(&buf);
}
END_TEST

/* What every test here relies on: the driver sees a page that was written and not marked. */
START_TEST(test_unmarked_write_is_seen)
{
	const uint64_t page = FAKE_HIGH_START + 5 * PAGE_SIZE_4K;

	ck_assert(fake_driver_start(&d, EVENT_IDX, 32));
	fake_driver_fill(&d, FAKE_DATA, 'x', 16);
	(void)add(0, FAKE_DATA, page);
	fake_driver_kick(&d, 0);
	ck_assert_uint_eq(fake_driver_unmarked(&d), 0);
	atomic_store(&echo->secret, true);
	(void)add(0, FAKE_DATA, page);
	fake_driver_kick(&d, 0); /* the same bytes: nothing has changed */
	ck_assert_uint_eq(fake_driver_unmarked(&d), 0);
	fake_driver_fill(&d, FAKE_DATA, 'y', 16);
	(void)add(0, FAKE_DATA, page);
	fake_driver_kick(&d, 0);
	ck_assert_uint_eq(fake_driver_unmarked(&d), 1);
	guest_memory_written(&d.mem, guest_memory_write_pointer(&d.mem, page, 1), 1);
	ck_assert_uint_eq(fake_driver_unmarked(&d), 0);
}
END_TEST

CHECK_MAIN("virtio", CHECK_FIXTURE(setup, teardown); CHECK_TABLE(test_status_matrix, matrix_states);
	   CHECK_TABLE(test_status_rows, status_rows); CHECK_TEST(test_M6_2_1_offered);
	   CHECK_TABLE(test_M2_2_2_2_subsets, feature_rows); CHECK_TEST(test_features_frozen);
	   CHECK_TEST(test_echo); CHECK_TEST(test_M2_1_2_1_kick_before_driver_ok);
	   CHECK_TEST(test_M2_7_10_2_3_spurious_kicks);
	   CHECK_TEST(test_M2_1_2_2_needs_reset_signals); CHECK_TEST(test_broken_queue);
	   CHECK_TEST(test_config_bounds); CHECK_TEST(test_M4_2_2_1_6_config_changed);
	   CHECK_TEST(test_init_without_descriptors); CHECK_TEST(test_unmarked_write_is_seen);
	   CHECK_TABLE(test_queue_types, types); CHECK_TEST(test_state_of_another_count))
