/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-net device that is somewhere else now (virtio 1.2 §5.1.6.5.4): a driver that can is asked to announce
 * itself, for others a frame goes out. m_5_1_6_5_4_2_1 is the device's one MUST of that section.
 */
#include "harness/net_queues_rig.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/log.h"

#define ANNOUNCES (F(MRG_RXBUF) | F(STATUS) | F(CTRL_VQ) | F(GUEST_ANNOUNCE))
#define RARP	  60
/* What the last two fields are on the wire: tag, length, one byte. */
#define FIELDS (2 * 7)

static const uint8_t answered[] = { VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK };

static uint16_t config_status(void)
{
	struct virtio_net_config config;

	(void)pthread_mutex_lock(&d.dev->lock);
	virtio_config_read(d.dev, 0, &config, sizeof(config));
	(void)pthread_mutex_unlock(&d.dev->lock);
	return le16toh(config.status);
}

static uint32_t generation(void)
{
	return atomic_load(&d.dev->state.config_generation);
}

/* With as many pairs as there are: MQ moves the control queue behind them. */
static void start(uint64_t features)
{
	ck_assert(fake_driver_start(&d, features, RING_SIZE));
	ck_assert_uint_eq(config_status(), VIRTIO_NET_S_LINK_UP);
}

static int answer(void)
{
	return command_on(2, answered, sizeof(answered), 1);
}

static void expect_no_frame(void)
{
	uint8_t frame[HEADER + 100];

	for (uint32_t i = 0; i < PAIRS && peers[i] >= 0; i++) {
		ck_assert_int_lt(recv(peers[i], frame, sizeof(frame), MSG_DONTWAIT), 0);
	}
}

/* RFC 903, written out; one, of the first queue. */
static void expect_rarp(void)
{
	static const uint8_t zeroes[HEADER];
	static const uint8_t wanted[RARP] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0x80, 0x35,
		0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x03, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55,
		0x00, 0x00, 0x00, 0x00, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0x00, 0x00, 0x00, 0x00,
	};
	uint8_t frame[HEADER + 100];

	ck_assert_int_eq(recv(peers[0], frame, sizeof(frame), MSG_DONTWAIT), HEADER + RARP);
	ck_assert_mem_eq(frame, zeroes, HEADER);
	ck_assert_mem_eq(frame + HEADER, wanted, RARP);
	expect_no_frame();
}

/* An announcement for which the driver is asked; no frame but its own. */
static void expect_asked(void)
{
	uint32_t interrupts = atomic_load(&d.config_interrupts), before = generation();

	virtio_net_announce(d.dev);
	ck_assert_uint_eq(config_status(), VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), interrupts + 1);
	ck_assert_uint_ne(generation(), before);
	expect_no_frame();
}

/* One of which the driver hears nothing. */
static void expect_unasked(void)
{
	uint32_t interrupts = atomic_load(&d.config_interrupts), before = generation();

	virtio_net_announce(d.dev);
	ck_assert_uint_eq(config_status() & VIRTIO_NET_S_ANNOUNCE, 0);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), interrupts);
	ck_assert_uint_eq(generation(), before);
}

START_TEST(test_features)
{
	open_pairs();
	ck_assert(fake_driver_offered(&d) & F(GUEST_ANNOUNCE));
	/* §5.1.3.1 */
	ck_assert(!fake_driver_start(&d, ANNOUNCES & ~F(CTRL_VQ), RING_SIZE));
	start(ANNOUNCES);
}
END_TEST

/* m_5_1_6_5_4_2_1, on the third queue or behind four pairs. */
START_TEST(test_driver_is_asked)
{
	uint32_t queue = _i == 0 ? 2 : CONTROL, interrupts, before;

	open_pairs();
	start(ANNOUNCES | (_i == 0 ? 0 : F(MQ)));
	for (int round = 0; round < 3; round++) {
		expect_asked();
		interrupts = atomic_load(&d.config_interrupts);
		before = generation();
		ck_assert_int_eq(command_on(queue, answered, sizeof(answered), 1), VIRTIO_NET_OK);
		ck_assert_uint_eq(config_status(), VIRTIO_NET_S_LINK_UP);
		/* What it has read has changed; it knows. */
		ck_assert_uint_ne(generation(), before);
		ck_assert_uint_eq(atomic_load(&d.config_interrupts), interrupts);
	}
	expect_no_frame();
}
END_TEST

/* The bit is there when the interrupt comes, and the driver reads it by its own registers. */
START_TEST(test_interrupt)
{
	uint64_t status;

	open_pairs();
	if (d.pci == NULL) {
		start(ANNOUNCES);
		expect_asked();
		ck_assert_uint_eq(atomic_load(&d.dev->state.interrupt_status) & 2, 2);
		return;
	}
	start(ANNOUNCES);
	status = fake_pci_read(&d, (uint64_t)VIRTIO_PCI_PAGE_SIZE * VIRTIO_PCI_PAGE_DEVICE + 6, 2);
	ck_assert_uint_eq(status, VIRTIO_NET_S_LINK_UP);
	status = fake_pci_read(&d, 21, 1); /* config_generation */
	expect_asked();
	ck_assert_uint_eq(
		fake_pci_read(&d, (uint64_t)VIRTIO_PCI_PAGE_SIZE * VIRTIO_PCI_PAGE_DEVICE + 6, 2),
		VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	ck_assert_uint_ne(fake_pci_read(&d, 21, 1), status);
}
END_TEST

static const struct {
	uint8_t bytes[4];
	uint32_t len, room;
	int answer;
	bool clears;
} commands[] = {
	{ { 3, 0 }, 2, 1, VIRTIO_NET_OK, true },
	{ { 3, 0, 9, 9 }, 4, 1, VIRTIO_NET_OK, true },
	{ { 3, 0 }, 2, 100, VIRTIO_NET_OK, true },
	{ { 3, 0 }, 2, 0, -1, true }, /* nobody to tell */
	{ { 3 }, 1, 1, VIRTIO_NET_ERR, false },
	{ { 0 }, 0, 1, VIRTIO_NET_ERR, false },
	{ { 3, 1 }, 2, 1, VIRTIO_NET_ERR, false },
	{ { 3, 255 }, 2, 1, VIRTIO_NET_ERR, false },
	{ { 0, 3 }, 2, 1, VIRTIO_NET_ERR, false },
	{ { 4, 0 }, 2, 1, VIRTIO_NET_ERR, false },
	{ { 3, 1 }, 2, 0, -1, false },
};

START_TEST(test_commands)
{
	open_pairs();
	start(ANNOUNCES);
	expect_asked();
	ck_assert_int_eq(command_on(2, commands[_i].bytes, commands[_i].len, commands[_i].room),
			 commands[_i].answer);
	ck_assert_uint_eq((config_status() & VIRTIO_NET_S_ANNOUNCE) == 0, commands[_i].clears);
	/* Again, and when there is nothing to clear. */
	ck_assert_int_eq(answer(), VIRTIO_NET_OK);
	ck_assert_uint_eq(config_status(), VIRTIO_NET_S_LINK_UP);
	ck_assert_int_eq(answer(), VIRTIO_NET_OK);
	ck_assert_uint_eq(config_status(), VIRTIO_NET_S_LINK_UP);
	ck_assert_uint_eq(fake_driver_status(&d), 0xf);
}
END_TEST

/* A byte in each descriptor, by an indirect table or not. */
START_TEST(test_command_in_pieces)
{
	const struct fake_buf bufs[] = { { TX_AREA, 1, false },
					 { TX_AREA + 1, 1, false },
					 { TX_AREA + 0x1000, 1, true } };
	uint8_t ack = 0xee;
	uint32_t id, len;

	open_pairs();
	start(ANNOUNCES | (_i == 1 ? UINT64_C(1) << 28 : 0));
	expect_asked();
	fake_driver_write(&d, TX_AREA, answered, sizeof(answered));
	fake_driver_write(&d, TX_AREA + 0x1000, &ack, 1);
	(void)(_i == 1 ? fake_ring_add_indirect(&d.rings[2], bufs, 3)
		       : fake_ring_add(&d.rings[2], bufs, 3));
	fake_driver_kick(&d, 2);
	ck_assert(fake_driver_wait_used(&d, 2, 1));
	ck_assert(fake_ring_used(&d.rings[2], &id, &len));
	ck_assert_uint_eq(len, 1);
	fake_driver_read(&d, TX_AREA + 0x1000, &ack, 1);
	ck_assert_uint_eq(ack, VIRTIO_NET_OK);
	ck_assert_uint_eq(config_status(), VIRTIO_NET_S_LINK_UP);
}
END_TEST

/* A ring that is broken is no answer; the driver has to begin anew, so nobody is asked. */
START_TEST(test_broken_control_queue)
{
	open_pairs();
	start(ANNOUNCES);
	expect_asked();
	fake_ring_set_avail(&d.rings[2], 0, RING_SIZE + 1);
	fake_ring_set_avail_idx(&d.rings[2], 1);
	fake_driver_kick(&d, 2);
	ck_assert_uint_eq(fake_driver_status(&d) & 0x40, 0x40);
	ck_assert_uint_eq(config_status() & VIRTIO_NET_S_ANNOUNCE, VIRTIO_NET_S_ANNOUNCE);
	virtio_net_announce(d.dev);
	expect_rarp();
}
END_TEST

/* It may have announced itself where it was before, and be about to say so. */
START_TEST(test_asked_twice)
{
	uint32_t interrupts;

	open_pairs();
	start(ANNOUNCES);
	expect_asked();
	interrupts = atomic_load(&d.config_interrupts);
	virtio_net_announce(d.dev);
	ck_assert_uint_eq(config_status(), VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), interrupts + 1);
	expect_rarp();
	ck_assert_int_eq(answer(), VIRTIO_NET_OK);
	ck_assert_uint_eq(config_status(), VIRTIO_NET_S_LINK_UP);
}
END_TEST

/* By the driver, and by the machine. */
START_TEST(test_reset)
{
	open_pairs();
	start(ANNOUNCES);
	expect_asked();
	if (_i == 0) {
		fake_driver_reset(&d);
	} else {
		virtio_device_reset(d.dev);
	}
	ck_assert_uint_eq(config_status(), VIRTIO_NET_S_LINK_UP);
	ck_assert(fake_driver_offered(&d) & F(GUEST_ANNOUNCE));
	start(ANNOUNCES);
	expect_asked();
}
END_TEST

/* --- for the others a frame ----------------------------------------------------------------------- */

static const uint64_t unheard[] = {
	ANNOUNCES & ~F(GUEST_ANNOUNCE),
	ANNOUNCES & ~F(STATUS), /* it does not look */
	F(MRG_RXBUF),
	0,
};

START_TEST(test_driver_without_it)
{
	struct virtio_net_counters c;

	open_pairs();
	start(unheard[_i]);
	expect_unasked();
	expect_rarp();
	if ((unheard[_i] & F(GUEST_ANNOUNCE)) == 0 && (unheard[_i] & F(CTRL_VQ)) != 0) {
		ck_assert_int_eq(answer(), VIRTIO_NET_ERR);
	}
	/* It is no frame of the guest's. */
	virtio_net_read_counters(d.dev, &c);
	ck_assert_uint_eq(c.tx_frames + c.tx_bytes + c.tx_errors, 0);
}
END_TEST

START_TEST(test_no_driver)
{
	open_pairs();
	expect_unasked();
	expect_rarp();
	ck_assert(fake_driver_negotiate(&d, UINT64_C(1) << 32 | ANNOUNCES));
	expect_unasked();
	expect_rarp();
	/* Which is not there later, when it has come. */
	start(ANNOUNCES);
	expect_no_frame();
}
END_TEST

/* A card as most are. */
START_TEST(test_one_pair)
{
	open_device(make_chain(1));
	ck_assert_uint_eq(d.dev->queue_count, 2);
	ck_assert_uint_eq(fake_driver_offered(&d) & (F(GUEST_ANNOUNCE) | F(CTRL_VQ)), 0);
	start(F(MRG_RXBUF) | F(STATUS));
	expect_unasked();
	expect_rarp();
}
END_TEST

/* Neither a limit nor what the driver has in the ring keeps it back. */
START_TEST(test_limit)
{
	static const struct rate_limit_config none;
	const struct rate_limit_config limit = { .ops = { 1, 0, 3600000 }, .has_ops = true };
	const struct fake_buf buf = { TX_AREA, HEADER + 100, false };
	uint8_t frame[HEADER + 100] = { 0 };

	open_pairs();
	virtio_net_init_limits(d.dev, &none, &limit);
	start(F(MRG_RXBUF));
	fake_driver_write(&d, TX_AREA, frame, sizeof(frame));
	(void)fake_ring_add(&d.rings[1], &buf, 1);
	(void)fake_ring_add(&d.rings[1], &buf, 1);
	fake_driver_kick(&d, 1);
	ck_assert_uint_eq(used(1), 1);
	ck_assert_int_eq(recv(peers[0], frame, sizeof(frame), MSG_DONTWAIT), sizeof(frame));
	virtio_net_announce(d.dev);
	expect_rarp();
	ck_assert_uint_eq(used(1), 1);
}
END_TEST

/* What a logged line says; no more than that comes of a back end that is full, or gone. */
START_TEST(test_back_end_fails)
{
	uint8_t frame[HEADER + RARP] = { 0 };
	struct netdev *netdev;
	char line[300] = "";
	int ends[2];

	ck_assert_int_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	log_init(LOG_INFO, ends[1]);
	netdev = make_chain(1);
	open_device(netdev);
	start(F(MRG_RXBUF));
	if (_i == 0) {
		close_fd(&peers[0]);
	} else {
		while (send(netdev->fd, frame, sizeof(frame), MSG_DONTWAIT) > 0) {
		}
	}
	virtio_net_announce(d.dev);
	log_init(LOG_WARN, -1);
	ck_assert_int_gt(read(ends[0], line, sizeof(line) - 1), 0);
	ck_assert_ptr_nonnull(strstr(line, "net0: "));
	ck_assert_ptr_nonnull(strstr(line, "where the card is now"));
	ck_assert_uint_eq(fake_driver_status(&d), 0xf);
	if (_i == 1) {
		while (recv(peers[0], frame, sizeof(frame), MSG_DONTWAIT) > 0) {
			ck_assert_uint_eq(frame[HEADER], 0);
		}
		virtio_net_announce(d.dev);
		expect_rarp();
	}
	close_fd(&ends[0]);
	close_fd(&ends[1]);
}
END_TEST

/* --- saved and loaded ----------------------------------------------------------------------------- */

/* Saved, and loaded into the device as it is after a power-on. */
static void save_and_load(void)
{
	struct state_buf all = { 0 };
	struct state_entry entry = virtio_entry(d.dev, d.pci, NULL);

	virtio_device_quiesce(d.dev);
	check_ok(state_set_save(&entry, 1, &all, &e), &e);
	virtio_device_reset(d.dev);
	virtio_net_expect_state(d.dev);
	check_ok(virtio_load(&entry, &all, &e), &e);
	virtio_device_resume(d.dev);
	state_buf_finish(&all);
}

START_TEST(test_state)
{
	open_pairs();
	start(ANNOUNCES);
	save_and_load();
	ck_assert_uint_eq(config_status(), VIRTIO_NET_S_LINK_UP);
	expect_asked();
	save_and_load();
	ck_assert_uint_eq(config_status(), VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	ck_assert(fake_driver_offered(&d) & F(GUEST_ANNOUNCE));
	ck_assert_int_eq(answer(), VIRTIO_NET_OK);
	save_and_load();
	ck_assert_uint_eq(config_status(), VIRTIO_NET_S_LINK_UP);
	expect_asked();
	ck_assert_int_eq(answer(), VIRTIO_NET_OK);
	expect_no_frame();
}
END_TEST

/* What it said before there was the feature: nothing. */
static void load_older(void)
{
	struct state_buf own = { 0 };

	virtio_device_quiesce(d.dev);
	check_ok(state_save(d.dev->ops->state, d.dev, &own, &e), &e);
	ck_assert_uint_gt(own.len, FIELDS);
	virtio_net_expect_state(d.dev);
	check_ok(state_load(d.dev->ops->state, d.dev, own.data, own.len - FIELDS, 1, &e), &e);
	virtio_device_resume(d.dev);
	state_buf_finish(&own);
}

/* The card offers what it did, to this driver and to the next one, and wherever it is saved and loaded from now on. */
START_TEST(test_older_state)
{
	uint64_t offered;

	open_pairs();
	offered = fake_driver_offered(&d);
	start(ANNOUNCES & ~F(GUEST_ANNOUNCE));
	load_older();
	ck_assert_uint_eq(fake_driver_offered(&d), offered & ~F(GUEST_ANNOUNCE));
	expect_unasked();
	expect_rarp();
	save_and_load();
	ck_assert_uint_eq(fake_driver_offered(&d), offered & ~F(GUEST_ANNOUNCE));
	ck_assert(!fake_driver_start(&d, ANNOUNCES, RING_SIZE));
	virtio_device_reset(d.dev);
	ck_assert_uint_eq(fake_driver_offered(&d), offered & ~F(GUEST_ANNOUNCE));
	start(ANNOUNCES & ~F(GUEST_ANNOUNCE));
}
END_TEST

START_TEST(test_older_state_of_one_pair)
{
	uint64_t offered;

	open_device(make_chain(1));
	offered = fake_driver_offered(&d);
	start(F(MRG_RXBUF) | F(STATUS));
	load_older();
	ck_assert_uint_eq(fake_driver_offered(&d), offered);
	expect_unasked();
	expect_rarp();
}
END_TEST

/* A card without a control queue can be told nothing. */
START_TEST(test_hostile_state)
{
	struct state_buf own = { 0 };

	open_device(make_chain(1));
	check_ok(state_save(d.dev->ops->state, d.dev, &own, &e), &e);
	own.data[own.len - 1 - (size_t)_i * 7] = 1;
	ck_assert_int_lt(state_load(d.dev->ops->state, d.dev, own.data, own.len,
				    d.dev->ops->state->version, &e),
			 0);
	check_error(&e, ERROR_STATE, "GUEST_ANNOUNCE needs a control queue");
	ck_assert_uint_eq(config_status(), VIRTIO_NET_S_LINK_UP);
	state_buf_finish(&own);
}
END_TEST

/* Who has not accepted it never sees the bit, whatever a state says. */
START_TEST(test_hostile_bit)
{
	struct state_buf own = { 0 };

	open_pairs();
	start(ANNOUNCES & ~F(GUEST_ANNOUNCE));
	virtio_device_quiesce(d.dev);
	check_ok(state_save(d.dev->ops->state, d.dev, &own, &e), &e);
	own.data[own.len - 1 - 7] = 1;
	check_ok(state_load(d.dev->ops->state, d.dev, own.data, own.len, d.dev->ops->state->version,
			    &e),
		 &e);
	virtio_device_resume(d.dev);
	ck_assert_uint_eq(config_status(), VIRTIO_NET_S_LINK_UP);
	start(ANNOUNCES);
	state_buf_finish(&own);
}
END_TEST

CHECK_MAIN("net_announce", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_features);
	   CHECK_LOOP(test_driver_is_asked, 2); CHECK_TEST(test_interrupt);
	   CHECK_TABLE(test_commands, commands); CHECK_LOOP(test_command_in_pieces, 2);
	   CHECK_TEST(test_broken_control_queue); CHECK_TEST(test_asked_twice);
	   CHECK_LOOP(test_reset, 2); CHECK_TABLE(test_driver_without_it, unheard);
	   CHECK_TEST(test_no_driver); CHECK_TEST(test_one_pair); CHECK_TEST(test_limit);
	   CHECK_LOOP(test_back_end_fails, 2); CHECK_TEST(test_state); CHECK_TEST(test_older_state);
	   CHECK_TEST(test_older_state_of_one_pair); CHECK_LOOP(test_hostile_state, 2);
	   CHECK_TEST(test_hostile_bit))
