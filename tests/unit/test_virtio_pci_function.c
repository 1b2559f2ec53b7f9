/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PCI transport as a function of the bus: vectors, bus mastering, BARs that move, the way in by
 * configuration space, resets, saved state, several vCPUs at once. Registers: test_virtio_pci.c, which
 * says what "M..." and "T-..." are.
 */
#include "harness/state_round_trip.h"
#include "harness/virtio_pci_rig.h"
#include "harness/virtio_state.h"

/* M4.1.5.1.2.1-2 to -4, -6 */
START_TEST(test_M4_1_5_1_2_1_vectors)
{
	static const uint32_t wild[] = {
		QUEUES + 1, 63, 64, 0x7ff, 0x800, 0x8000, 0xfffe, NO_VECTOR
	};

	for (uint32_t vector = 0; vector <= QUEUES; vector++) {
		wr(VIRTIO_PCI_COMMON_MSIX, 2, vector);
		ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_MSIX, 2), vector);
		for (uint32_t queue = 0; queue < QUEUES; queue++) {
			select_queue(queue);
			wr(VIRTIO_PCI_COMMON_Q_MSIX, 2, vector);
			ck_assert_uint_eq(queue_vector(queue), vector);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(wild); i++) {
		wr(VIRTIO_PCI_COMMON_MSIX, 2, 0);
		wr(VIRTIO_PCI_COMMON_MSIX, 2, wild[i]);
		ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_MSIX, 2), NO_VECTOR);
		wr(VIRTIO_PCI_COMMON_Q_MSIX, 2, 0);
		wr(VIRTIO_PCI_COMMON_Q_MSIX, 2, wild[i]);
		ck_assert_uint_eq(queue_vector(1), NO_VECTOR);
	}
}
END_TEST

/* M4.1.5.3.1-1, M4.1.5.4.1-1, T-Q13: no vector, no interrupt; the queue works by polling. */
START_TEST(test_M4_1_5_3_1_no_vector)
{
	uint32_t id, len;

	ck_assert(fake_driver_start(&d, 0, 16));
	select_queue(0);
	wr(VIRTIO_PCI_COMMON_Q_MSIX, 2, NO_VECTOR);
	wr(VIRTIO_PCI_COMMON_MSIX, 2, 0x123);
	request(0);
	request(1);
	virtio_config_changed(&sink->dev);
	ck_assert(fake_ring_used(&d.rings[0], &id, &len));
	ck_assert_uint_eq(atomic_load(&d.queue_interrupts[0]), 0);
	ck_assert_uint_eq(atomic_load(&d.queue_interrupts[1]), 1);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 0);
	ck_assert_uint_eq(rd(PENDING, 8), 0);
	/* All events by one vector. */
	select_queue(0);
	wr(VIRTIO_PCI_COMMON_Q_MSIX, 2, 1);
	wr(VIRTIO_PCI_COMMON_MSIX, 2, 1);
	request(0);
	virtio_config_changed(&sink->dev);
	ck_assert_uint_eq(atomic_load(&d.queue_interrupts[1]), 3);
}
END_TEST

START_TEST(test_masked_interrupts)
{
	ck_assert(fake_driver_start(&d, 0, 16));
	wr(TABLE + 12, 4, 1);
	request(0);
	ck_assert_uint_eq(atomic_load(&d.queue_interrupts[0]), 0);
	ck_assert_uint_eq(rd(PENDING, 8), 1);
	wr(TABLE + 12, 4, 0);
	ck_assert_uint_eq(atomic_load(&d.queue_interrupts[0]), 1);
	set_msix(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	request(1);
	ck_assert_uint_eq(rd(PENDING, 8), 2);
	/* A reset of the device forgets what is pending. */
	ck_assert(fake_driver_start(&d, 0, 16));
	ck_assert_uint_eq(rd(PENDING, 8), 0);
	set_msix(PCI_MSIX_FLAGS_ENABLE);
	ck_assert_uint_eq(atomic_load(&d.queue_interrupts[1]), 0);
}
END_TEST

/* Without bus mastering no ring is touched and no message sent; nothing is lost. */
START_TEST(test_bus_master)
{
	ck_assert(fake_driver_start(&d, 0, 16));
	request(0);
	ck_assert_uint_eq(atomic_load(&d.queue_interrupts[0]), 1);
	cfg_wr(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	ck_assert_uint_eq(atomic_load(&sink->stopped), QUEUES);
	request(0);
	virtio_config_changed(&sink->dev);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[0]), 1);
	ck_assert_uint_eq(rd(PENDING, 8), 1 << QUEUES);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 0);
	ck_assert_uint_eq(status(), 0xf);
	cfg_wr(PCI_COMMAND, 2, ENABLED);
	fake_driver_sync(&d);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[0]), 2);
	ck_assert_uint_eq(atomic_load(&d.queue_interrupts[0]), 2);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 1);
	/* The same bit again starts nothing twice. */
	cfg_wr(PCI_COMMAND, 2, ENABLED);
	ck_assert_uint_eq(atomic_load(&sink->started), 2 * QUEUES);
}
END_TEST

/* A driver that starts the device before it lets it master, and one that resets it meanwhile. */
START_TEST(test_bus_master_late)
{
	cfg_wr(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	ck_assert(fake_driver_start(&d, 0, 16));
	request(1);
	ck_assert_uint_eq(atomic_load(&sink->started), 0);
	cfg_wr(PCI_COMMAND, 2, ENABLED);
	fake_driver_sync(&d);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[1]), 1);
	cfg_wr(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	wr(VIRTIO_PCI_COMMON_STATUS, 1, 0);
	cfg_wr(PCI_COMMAND, 2, ENABLED);
	ck_assert_uint_eq(atomic_load(&sink->started), QUEUES);
	ck_assert(fake_driver_start(&d, 0, 16));
	ck_assert_uint_eq(atomic_load(&sink->started), 2 * QUEUES);
	/* A pause in between does not give it the right. */
	cfg_wr(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	virtio_device_quiesce(&sink->dev);
	virtio_device_resume(&sink->dev);
	ck_assert_uint_eq(atomic_load(&sink->started), 2 * QUEUES);
}
END_TEST

/* T-Q12: the BAR moves while a queue runs; doorbells go with it, and none is left behind. */
START_TEST(test_bar_moves)
{
	gpa_t base = FAKE_PCI_APERTURE + FAKE_DEVFN * PCI_BAR_SIZE_MAX;

	ck_assert(fake_driver_start(&d, 0, 16));
	ck_assert_uint_eq(d.msi.bells_added, QUEUES);
	for (uint32_t i = 1; i < 20; i++) {
		cfg_wr(PCI_BASE_ADDRESS_0, 4, (uint32_t)(i * 0x10000));
		ck_assert_uint_eq(fake_msi_bells(&d.msi), QUEUES);
		ck_assert(!fake_msi_ring(&d.msi, base + NOTIFY));
		base = FAKE_PCI_APERTURE + i * 0x10000;
		ck_assert(fake_msi_ring(&d.msi, base + NOTIFY));
		request(0);
		ck_assert_uint_eq(fake_ring_used_idx(&d.rings[0]), i);
	}
	cfg_wr(PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	ck_assert_uint_eq(fake_msi_bells(&d.msi), 0);
	ck_assert_uint_eq(status(), 0xff); /* nobody answers */
	cfg_wr(PCI_COMMAND, 2, ENABLED);
	ck_assert_uint_eq(fake_msi_bells(&d.msi), QUEUES);
	ck_assert_uint_eq(status(), 0xf);
	ck_assert_uint_eq(d.msi.bells_refused, 0);
}
END_TEST

/* M4.1.4.9.1-2 and -3: as firmware drives a device whose BAR is not decoded. */
static uint32_t window_read(uint32_t offset, uint32_t size)
{
	uint32_t at = d.pci->access_capability;

	cfg_wr(at + VIRTIO_PCI_CAP_OFFSET, 4, offset);
	cfg_wr(at + VIRTIO_PCI_CAP_LENGTH, 4, size);
	return cfg(at + 16, size == 3 ? 4 : size);
}

static void window_write(uint32_t offset, uint32_t size, uint32_t value)
{
	uint32_t at = d.pci->access_capability;

	cfg_wr(at + VIRTIO_PCI_CAP_OFFSET, 4, offset);
	cfg_wr(at + VIRTIO_PCI_CAP_LENGTH, 4, size);
	cfg_wr(at + 16, size, value);
}

START_TEST(test_M4_1_4_9_1_pci_cfg)
{
	uint32_t before;

	cfg_wr(PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	window_write(VIRTIO_PCI_COMMON_DFSELECT, 4, 1);
	ck_assert_uint_eq(window_read(VIRTIO_PCI_COMMON_DF, 4), 1);
	window_write(VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	ck_assert_uint_eq(window_read(VIRTIO_PCI_COMMON_Q_SIZE, 2), 16);
	window_write(VIRTIO_PCI_COMMON_STATUS, 1, 1);
	ck_assert_uint_eq(window_read(VIRTIO_PCI_COMMON_STATUS, 1), 1);
	window_write(DEVICE, 4, 0x12345678);
	ck_assert_uint_eq(window_read(DEVICE, 4), 0x12345678);
	virtio_config_changed(&sink->dev);
	ck_assert_uint_eq(window_read(ISR, 1), 2);
	ck_assert_uint_eq(window_read(ISR, 1), 0);
	/* Kicks, with the queues started in the usual way. */
	cfg_wr(PCI_COMMAND, 2, ENABLED);
	ck_assert(fake_driver_start(&d, 0, 16));
	before = processed(1);
	window_write(NOTIFY + 4, 2, 1);
	ck_assert_uint_eq(processed(1), before + 1);
}
END_TEST

/* T-Q11: every field of it wild. */
START_TEST(test_pci_cfg_hostile)
{
	static const uint32_t lengths[] = { 0, 3, 5, 8, 0x10000, 0x80000000, UINT32_MAX };
	static const uint32_t offsets[] = { (uint32_t)TABLE,	 (uint32_t)PENDING,
					    VIRTIO_PCI_BAR_SIZE, VIRTIO_PCI_BAR_SIZE - 4,
					    0x7ffffffc,		 0x80000000,
					    0xfffffffc,		 UINT32_MAX };
	uint32_t at = d.pci->access_capability;

	ck_assert(fake_driver_start(&d, 0, 16));
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		cfg_wr(at + VIRTIO_PCI_CAP_OFFSET, 4, VIRTIO_PCI_COMMON_STATUS);
		cfg_wr(at + VIRTIO_PCI_CAP_LENGTH, 4, lengths[i]);
		ck_assert_uint_eq(cfg(at + VIRTIO_PCI_CAP_LENGTH, 4), lengths[i]);
		cfg_wr(at + 16, 4, 0);
		ck_assert_uint_eq(cfg(at + 16, 4), 0);
		ck_assert_uint_eq(status(), 0xf);
	}
	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		window_write(offsets[i], 4, 0xdeadbeec);
		ck_assert_uint_eq(cfg(at + 16, 4), 0xdeadbeec); /* memory of its own */
	}
	window_write(VIRTIO_PCI_COMMON_STATUS + 2, 4, 0); /* misaligned */
	for (uint32_t bar = 1; bar < 0x100; bar++) {
		cfg_wr(at + VIRTIO_PCI_CAP_BAR, 1, bar);
		window_write(VIRTIO_PCI_COMMON_STATUS, 1, 0);
	}
	ck_assert_uint_eq(status(), 0xf);
	ck_assert_uint_eq(rd(TABLE, 4), 0xfee00000);
	/* A part of the data register is an access, too. */
	cfg_wr(at + VIRTIO_PCI_CAP_BAR, 1, 0);
	cfg_wr(at + VIRTIO_PCI_CAP_OFFSET, 4, VIRTIO_PCI_COMMON_STATUS);
	cfg_wr(at + VIRTIO_PCI_CAP_LENGTH, 4, 1);
	ck_assert_uint_eq(cfg(at + 18, 2), 0);
	ck_assert_uint_eq(cfg(at + 16, 1), 0xf);
}
END_TEST

/* Machine reset: as at power-on, whatever the guest has done. */
START_TEST(test_machine_reset)
{
	ck_assert(fake_driver_start(&d, 0, 16));
	select_queue(0xffff);
	wr(VIRTIO_PCI_COMMON_DFSELECT, 4, 7);
	wr(VIRTIO_PCI_COMMON_GFSELECT, 4, 7);
	cfg_wr(PCI_BASE_ADDRESS_0, 4, 0x10000);
	cfg_wr(d.pci->access_capability + VIRTIO_PCI_CAP_LENGTH, 4, 4);
	virtio_device_reset(&sink->dev);
	pci_function_reset(&d.pci->function);
	ck_assert_uint_eq(fake_msi_bells(&d.msi), 0);
	ck_assert_uint_eq(cfg(d.pci->msix_capability + PCI_MSIX_FLAGS, 2), QUEUES);
	ck_assert_uint_eq(cfg(PCI_COMMAND, 2), 0);
	ck_assert(sink->dev.dma_off);
	cfg_wr(PCI_COMMAND, 2, ENABLED);
	for (size_t k = 0; k < ARRAY_SIZE(fields); k++) {
		ck_assert_uint_eq(rd(fields[k].offset, fields[k].width), fields[k].fresh);
	}
	for (uint32_t i = 0; i <= QUEUES; i++) {
		ck_assert_uint_eq(rd(TABLE + (uint64_t)i * 16, 8), 0);
		ck_assert_uint_eq(rd(TABLE + (uint64_t)i * 16 + 12, 4), 1);
	}
	ck_assert_uint_eq(rd(PENDING, 8), 0);
}
END_TEST

/* Through the tables into a fresh machine, which goes on where the other one was. */
START_TEST(test_state)
{
	struct virtio_pci *pci = d.pci;
	const struct state_entry entry = virtio_entry(&sink->dev, pci, NULL);
	struct state_buf saved = { 0 };
	struct error e = { 0 };
	uint32_t config_vector = QUEUES;

	ck_assert(fake_driver_start(&d, EVENT_IDX, 16));
	request(0);
	cfg_wr(PCI_BASE_ADDRESS_0, 4, 0x50000);
	wr(TABLE + 16 + 12, 4, 1);
	request(1); /* pending */
	virtio_config_changed(&sink->dev);
	(void)rd(DEVICE, 4);
	virtio_device_quiesce(&sink->dev);
	check_ok(state_set_save(&entry, 1, &saved, &e), &e);
	virtio_device_reset(&sink->dev);
	pci_function_reset(&d.pci->function);
	check_ok(virtio_load(&entry, &saved, &e), &e);
	/* Nothing runs yet. */
	ck_assert_uint_eq(atomic_load(&sink->started), atomic_load(&sink->stopped));
	ck_assert_uint_eq(fake_msi_bells(&d.msi), QUEUES);
	virtio_device_resume(&sink->dev);
	ck_assert_uint_eq(pci->function.base, FAKE_PCI_APERTURE + 0x50000);
	ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_CFGGENERATION, 1), 1);
	(void)rd(DEVICE, 4);
	ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_CFGGENERATION, 1), 1);
	ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_MSIX, 2), config_vector);
	ck_assert_uint_eq(queue_vector(0), 0);
	ck_assert_uint_eq(rd(PENDING, 8), 2);
	request(0);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[0]), 2);
	ck_assert_uint_eq(atomic_load(&d.queue_interrupts[1]), 0);
	wr(TABLE + 16 + 12, 4, 0);
	ck_assert_uint_eq(atomic_load(&d.queue_interrupts[1]), 1);
	state_buf_finish(&saved);
}
END_TEST

START_TEST(test_state_round_trip_and_hostile)
{
	static struct virtio_pci other, hostile;
	struct virtio_pci *pci = d.pci;
	struct error e = { 0 };

	check_ok(virtio_pci_init(&other, &sink->dev, &d.msi.controller, NULL, &e), &e);
	sink->dev.transport_data = pci;
	/* Another place on the bus. */
	memcpy(other.function.config.power_on, pci->function.config.power_on, PCI_CONFIG_SIZE);
	memcpy(other.function.config.bytes, pci->function.config.power_on, PCI_CONFIG_SIZE);
	ck_assert(fake_driver_start(&d, EVENT_IDX, 16));
	check_state_round_trip(&virtio_pci_state, pci, &other);
	memcpy(&hostile, pci, sizeof(hostile));
	check_state_refused(&virtio_pci_state, &hostile, registers.config_vector, 3, "vector 3");
	check_state_refused(&virtio_pci_state, &hostile, registers.queue_vectors[0], 0x7ff, "2047");
	check_state_refused(&virtio_pci_state, &hostile, registers.queue_vectors[1], 3, "vector 3");
	check_state_refused(&virtio_pci_state, &hostile, registers.queue_vectors[QUEUES], 0,
			    "vector 0");
	virtio_pci_finish(&other);
}
END_TEST

/* T-Q1 with several vCPUs: registers, the MSI-X table and configuration space hammered while the
 * device is started, used and reset. */
static _Atomic bool hammer_stop;

static void hammer_once(uint32_t random)
{
	uint64_t offset = (random >> 8) % 0x40;
	uint32_t flags = random >> 4 & 0xf;

	switch (random >> 28) {
	case 0:
		cfg_wr(PCI_BASE_ADDRESS_0, 4, (random >> 6 & 0xf) * 0x10000);
		break;
	case 1:
		cfg_wr(PCI_COMMAND, 2, flags < 12 ? ENABLED : flags);
		break;
	case 2:
		set_msix(flags << 12);
		break;
	case 3:
	case 4:
		wr(TABLE + (random >> 6 & 0x3c), 4, random >> 4);
		break;
	case 5:
		wr(NOTIFY + (flags & 4), 2, 0);
		break;
	case 6:
		virtio_config_changed(&sink->dev);
		break;
	case 7:
		(void)cfg(d.pci->access_capability + 16, 4);
		break;
	case 8:
		cfg_wr(d.pci->access_capability + 12 * (flags & 1), 4, flags);
		break;
	case 9:
		(void)rd(PENDING, 8);
		break;
	default:
		if (offset != VIRTIO_PCI_COMMON_STATUS) {
			wr(offset, flags < 6 ? 2 : 4, random >> 12 & 0xf);
		}
		break;
	}
}

static void *hammer(void *arg)
{
	uint32_t random = *(const uint32_t *)arg;

	while (!atomic_load(&hammer_stop)) {
		random = random * 1664525 + 1013904223;
		hammer_once(random);
	}
	return NULL;
}

START_TEST(test_concurrent_registers)
{
	uint32_t seeds[] = { 1, 99 };
	pthread_t threads[ARRAY_SIZE(seeds)];

	atomic_store(&hammer_stop, false);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, &seeds[i]), 0);
	}
	for (uint32_t i = 0; i < 300; i++) {
		wr(VIRTIO_PCI_COMMON_STATUS, 1, 0);
		for (uint32_t queue = 0; queue < QUEUES; queue++) {
			select_queue(queue);
			wr(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
		}
		for (uint32_t value = 1; value < 0x10; value = value << 1 | 1) {
			wr(VIRTIO_PCI_COMMON_STATUS, 1, value & 0xb);
		}
		wr(VIRTIO_PCI_COMMON_STATUS, 1, 0xf);
	}
	atomic_store(&hammer_stop, true);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		(void)pthread_join(threads[i], NULL);
	}
	/* It is still a device. */
	virtio_device_reset(&sink->dev);
	pci_function_reset(&d.pci->function);
	ck_assert_uint_eq(fake_msi_bells(&d.msi), 0);
	ck_assert_uint_eq(d.msi.bells_refused, 0);
	cfg_wr(PCI_COMMAND, 2, ENABLED);
	set_msix(PCI_MSIX_FLAGS_ENABLE);
	for (uint32_t i = 0; i <= QUEUES; i++) {
		fake_pci_open_vector(&d, i, i);
	}
	ck_assert(fake_driver_start(&d, EVENT_IDX, 16));
	request(0);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[0]), 1);
}
END_TEST

START_TEST(test_no_interrupts_left)
{
	static struct virtio_pci other;
	struct error e = { 0 };

	d.msi.refuse = true;
	ck_assert_int_lt(virtio_pci_init(&other, &sink->dev, &d.msi.controller, NULL, &e), 0);
	check_error(&e, ERROR_KVM, "sink0");
	virtio_pci_finish(&other);
}
END_TEST

CHECK_MAIN("virtio_pci_function", CHECK_FIXTURE(setup, teardown);
	   CHECK_TEST(test_M4_1_5_1_2_1_vectors); CHECK_TEST(test_M4_1_5_3_1_no_vector);
	   CHECK_TEST(test_masked_interrupts); CHECK_TEST(test_bus_master);
	   CHECK_TEST(test_bus_master_late); CHECK_TEST(test_bar_moves);
	   CHECK_TEST(test_M4_1_4_9_1_pci_cfg); CHECK_TEST(test_pci_cfg_hostile);
	   CHECK_TEST(test_machine_reset); CHECK_TEST(test_state);
	   CHECK_TEST(test_state_round_trip_and_hostile); CHECK_TEST(test_concurrent_registers);
	   CHECK_TEST(test_no_interrupts_left))
