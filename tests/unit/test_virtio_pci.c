/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PCI transport, register by register (virtio 1.2 §4.1). "M..." are the device requirements of
 * virtio 1.3 in research/reliability.md §3.3, "T-..." tests of its §1. M4.1.4.3.1-8 to -12 and -15
 * (queue reset, administration queues), M4.1.4.4.1-7 to -9 (notification data), M4.1.4.7.1 and
 * M4.1.4.8.1 (shared memory, vendor data) are of features and structures that are not offered.
 */
#include "harness/virtio_pci_rig.h"

/* The `skip`th virtio capability of a type; 0: there is none. */
static uint32_t find_capability(uint8_t type, uint32_t skip)
{
	uint32_t steps = 0;

	for (uint32_t at = cfg(PCI_CAPABILITY_LIST, 1); at != 0; at = cfg(at + 1, 1)) {
		ck_assert_uint_lt(steps++, 48);
		if (cfg(at, 1) == PCI_CAP_ID_VNDR && cfg(at + VIRTIO_PCI_CAP_CFG_TYPE, 1) == type &&
		    skip-- == 0) {
			return at;
		}
	}
	return 0;
}

/* M4.1.2.1-1, -2, and the SHOULDs of §4.1.2.1 */
START_TEST(test_M4_1_2_1_identity)
{
	ck_assert_uint_eq(cfg(PCI_VENDOR_ID, 2), 0x1af4);
	ck_assert_uint_eq(cfg(PCI_DEVICE_ID, 2), 0x1040 + 0x2a);
	ck_assert_uint_ge(cfg(PCI_REVISION_ID, 1), 1);
	ck_assert_uint_eq(cfg(PCI_CLASS_REVISION, 4) >> 8, 0x028000);
	ck_assert_uint_eq(cfg(PCI_SUBSYSTEM_VENDOR_ID, 2), 0x1af4);
	ck_assert_uint_ge(cfg(PCI_SUBSYSTEM_ID, 2), 0x40);
	ck_assert_uint_eq(cfg(PCI_HEADER_TYPE, 1), 0);
	ck_assert_uint_eq(cfg(PCI_INTERRUPT_PIN, 1), 0); /* no INTx */
}
END_TEST

/* M4.1.4.2-1, M4.1.4.3.1-1 and -2, M4.1.4.4.1-1 to -6, M4.1.4.5.1-1, M4.1.4.6.1-1, M4.1.4.9.1-1:
 * each structure once, aligned, inside the BAR, apart from the others. */
static const struct {
	uint8_t type;
	uint32_t len, align, offset, length;
} structures[] = {
	{ VIRTIO_PCI_CAP_COMMON_CFG, 16, 4, 0, 56 },
	{ VIRTIO_PCI_CAP_NOTIFY_CFG, 20, 2, NOTIFY, QUEUES * 4 },
	{ VIRTIO_PCI_CAP_ISR_CFG, 16, 1, ISR, 1 },
	{ VIRTIO_PCI_CAP_DEVICE_CFG, 16, 4, DEVICE, 0x1000 },
	{ VIRTIO_PCI_CAP_PCI_CFG, 20, 1, 0, 0 },
};

START_TEST(test_M4_1_4_structures)
{
	uint32_t at = find_capability(structures[_i].type, 0);
	uint32_t offset = cfg(at + VIRTIO_PCI_CAP_OFFSET, 4);
	uint32_t length = cfg(at + VIRTIO_PCI_CAP_LENGTH, 4);

	ck_assert_uint_ne(at, 0);
	ck_assert_uint_eq(find_capability(structures[_i].type, 1), 0);
	ck_assert_uint_eq(cfg(at + VIRTIO_PCI_CAP_LEN, 1), structures[_i].len);
	ck_assert_uint_eq(cfg(at + VIRTIO_PCI_CAP_BAR, 1), 0);
	ck_assert_uint_eq(offset, structures[_i].offset);
	ck_assert_uint_eq(offset % structures[_i].align, 0);
	ck_assert_uint_eq(length, structures[_i].length);
	ck_assert_uint_le(offset + length, VIRTIO_PCI_BAR_SIZE);
	if (structures[_i].type == VIRTIO_PCI_CAP_NOTIFY_CFG) {
		uint32_t multiplier = cfg(at + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);

		ck_assert_uint_eq(multiplier, 4); /* an even power of 2 */
		for (uint32_t i = 0; i < QUEUES; i++) {
			select_queue(i);
			ck_assert_uint_ge(length, rd(VIRTIO_PCI_COMMON_Q_NOFF, 2) * multiplier + 2);
		}
	}
	/* Read-only, but for the access capability. */
	if (structures[_i].type != VIRTIO_PCI_CAP_PCI_CFG) {
		for (uint32_t i = 0; i < structures[_i].len; i += 4) {
			uint32_t before = cfg(at + i, 4);

			cfg_wr(at + i, 4, ~before);
			ck_assert_uint_eq(cfg(at + i, 4), before);
		}
	}
}
END_TEST

/* M4.1.5.1.2.1-1 */
START_TEST(test_M4_1_5_1_2_1_1_msix_capability)
{
	uint32_t at = cfg(PCI_CAPABILITY_LIST, 1);

	while (cfg(at, 1) != PCI_CAP_ID_MSIX) {
		at = cfg(at + 1, 1);
		ck_assert_uint_ne(at, 0);
	}
	ck_assert_uint_eq(cfg(at + PCI_MSIX_FLAGS, 2), PCI_MSIX_FLAGS_ENABLE | QUEUES);
	ck_assert_uint_eq(cfg(at + PCI_MSIX_TABLE, 4), TABLE);
	ck_assert_uint_eq(cfg(at + PCI_MSIX_PBA, 4), PENDING);
	cfg_wr(at + PCI_MSIX_FLAGS, 2, 0xffff);
	ck_assert_uint_eq(cfg(at + PCI_MSIX_FLAGS, 2),
			  PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL | QUEUES);
	ck_assert_uint_ne(cfg(PCI_STATUS, 2) & PCI_STATUS_CAP_LIST, 0);
}
END_TEST

/* Without device configuration there is no structure for it; a type without a class has one that
 * says so. */
START_TEST(test_plain_device)
{
	static const struct virtio_ops plain = { .name = "virtio-plain",
						 .id = 4,
						 .queue_types = queues,
						 .queue_type_count = 1,
						 .queue_process = sink_process,
						 .destroy = sink_destroy };

	struct error e = { 0 };

	teardown();
	fake_driver_init(&d);
	sink = calloc(1, sizeof(*sink));
	ck_assert_ptr_nonnull(sink);
	check_ok(virtio_device_init(&sink->dev, &plain, "plain", &d.mem, 0, 0, 1, d.workers, &e),
		 &e);
	fake_driver_attach_pci(&d, &sink->dev);
	ck_assert_uint_eq(find_capability(VIRTIO_PCI_CAP_DEVICE_CFG, 0), 0);
	ck_assert_uint_ne(find_capability(VIRTIO_PCI_CAP_PCI_CFG, 0), 0);
	ck_assert_uint_eq(cfg(PCI_CLASS_REVISION, 4) >> 8, 0xff0000);
	ck_assert_uint_eq(cfg(PCI_DEVICE_ID, 2), 0x1044);
	ck_assert(fake_driver_start(&d, 0, 16));
}
END_TEST

START_TEST(test_fresh)
{
	ck_assert_uint_eq(rd(fields[_i].offset, fields[_i].width), fields[_i].fresh);
}
END_TEST

static bool is_field(uint64_t offset, unsigned int width)
{
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		if (fields[i].offset == offset && fields[i].width == width) {
			return true;
		}
	}
	return (offset == ISR && width == 1) || (offset >= DEVICE && offset < NOTIFY) ||
	       (offset >= NOTIFY && offset < TABLE) /* writes there are kicks */;
}

/* T-Q10: the whole BAR, every offset in every width: a field at its own width, or all ones and
 * nothing happens. The MSI-X pages have their own test. */
START_TEST(test_widths)
{
	static const unsigned int widths[] = { 1, 2, 4, 8 };

	ck_assert(fake_driver_negotiate(&d, VERSION_1));
	for (uint64_t offset = 0; offset < TABLE; offset++) {
		for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
			if (is_field(offset, widths[i])) {
				continue;
			}
			ck_assert_uint_eq(rd(offset, widths[i]), bus_all_ones(widths[i]));
			wr(offset, widths[i], 0);
			wr(offset, widths[i], UINT64_MAX);
		}
	}
	ck_assert_uint_eq(status(), 0xb);
	ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_GFSELECT, 4), 1);
	ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_Q_SIZE, 2), 64);
	ck_assert_uint_eq(sink->dev.queues[0].ring.state.desc_gpa, 0);
	ck_assert_uint_eq(rd(NOTIFY, 2), 0xffff);
	ck_assert_uint_eq(rd(PENDING + 0x1000, 4), UINT32_MAX);
	ck_assert_uint_eq(rd(VIRTIO_PCI_BAR_SIZE - 8, 8), UINT64_MAX);
	wr(PENDING, 8, UINT64_MAX);
	ck_assert_uint_eq(rd(PENDING, 8), 0);
}
END_TEST

START_TEST(test_read_only_fields)
{
	static const uint32_t offsets[] = { VIRTIO_PCI_COMMON_DF, VIRTIO_PCI_COMMON_NUMQ,
					    VIRTIO_PCI_COMMON_CFGGENERATION,
					    VIRTIO_PCI_COMMON_Q_NOFF };

	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		for (size_t k = 0; k < ARRAY_SIZE(fields); k++) {
			if (fields[k].offset == offsets[i]) {
				wr(offsets[i], fields[k].width, UINT32_MAX);
				ck_assert_uint_eq(rd(offsets[i], fields[k].width), fields[k].fresh);
			}
		}
	}
}
END_TEST

/* M4.1.4.3.1-3 */
START_TEST(test_M4_1_4_3_1_3_device_features)
{
	static const uint32_t selectors[] = { 2, 3, 0x20, 0x80000000, 0xffffffff };

	ck_assert_uint_eq(fake_driver_offered(&d), 1 | INDIRECT | EVENT_IDX | VERSION_1);
	for (size_t i = 0; i < ARRAY_SIZE(selectors); i++) {
		wr(VIRTIO_PCI_COMMON_DFSELECT, 4, selectors[i]);
		ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_DFSELECT, 4), selectors[i]);
		ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_DF, 4), 0);
	}
}
END_TEST

/* M4.1.4.3.1-4 */
START_TEST(test_M4_1_4_3_1_4_driver_features)
{
	static const uint32_t selectors[] = { 2, 0x20, 0xffffffff };

	ck_assert(fake_driver_negotiate(&d, VERSION_1 | 1));
	for (uint32_t i = 0; i < 2; i++) {
		wr(VIRTIO_PCI_COMMON_GFSELECT, 4, i);
		ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_GF, 4), 1);
		/* Too late now. */
		wr(VIRTIO_PCI_COMMON_GF, 4, 0);
		ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_GF, 4), 1);
	}
	for (size_t i = 0; i < ARRAY_SIZE(selectors); i++) {
		wr(VIRTIO_PCI_COMMON_GFSELECT, 4, selectors[i]);
		wr(VIRTIO_PCI_COMMON_GF, 4, UINT32_MAX);
		ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_GF, 4), 0);
	}
	ck_assert_uint_eq(sink->dev.state.features, VERSION_1 | 1);
}
END_TEST

/* M4.1.4.3.1-5: also after exactly as many changes as the field has values. */
START_TEST(test_M4_1_4_3_1_5_config_generation)
{
	uint64_t generation = rd(VIRTIO_PCI_COMMON_CFGGENERATION, 1);

	(void)rd(DEVICE, 4);
	ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_CFGGENERATION, 1), generation);
	for (uint32_t changes = 1; changes <= 1024; changes *= 2) {
		for (uint32_t i = 0; i < changes; i++) {
			virtio_config_changed(&sink->dev);
		}
		(void)rd(DEVICE, 1);
		ck_assert_uint_ne(rd(VIRTIO_PCI_COMMON_CFGGENERATION, 1), generation);
		generation = rd(VIRTIO_PCI_COMMON_CFGGENERATION, 1);
		(void)rd(DEVICE + 8, 8);
		ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_CFGGENERATION, 1), generation);
	}
}
END_TEST

/* M4.1.4.3.1-6, -7, M4.1.5.1.2.1-5, M4.1.3.2-1 */
START_TEST(test_M4_1_4_3_1_6_reset)
{
	ck_assert(fake_driver_start(&d, 0, 16));
	ck_assert_uint_eq(queue_vector(1), 1);
	ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_MSIX, 2), QUEUES);
	request(0);
	virtio_config_changed(&sink->dev);
	wr(VIRTIO_PCI_COMMON_STATUS, 1, 0);
	ck_assert_uint_eq(status(), 0);
	ck_assert_uint_eq(rd(ISR, 1), 0);
	ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_MSIX, 2), NO_VECTOR);
	for (uint32_t i = 0; i < QUEUES; i++) {
		ck_assert_uint_eq(queue_vector(i), NO_VECTOR);
		ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
		ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_Q_SIZE, 2), queues[i].size_max);
		ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_Q_DESCLO, 4), 0);
	}
}
END_TEST

START_TEST(test_M4_1_3_2_1_halves)
{
	select_queue(1);
	wr(VIRTIO_PCI_COMMON_Q_DESCHI, 4, 0x11111111);
	wr(VIRTIO_PCI_COMMON_Q_DESCLO, 4, 0x22222220);
	wr(VIRTIO_PCI_COMMON_Q_AVAILLO, 4, 0x33333330);
	wr(VIRTIO_PCI_COMMON_Q_AVAILHI, 4, 0x44444444);
	wr(VIRTIO_PCI_COMMON_Q_USEDHI, 4, 0x55555555);
	wr(VIRTIO_PCI_COMMON_Q_USEDLO, 4, 0x66666660);
	ck_assert_uint_eq(sink->dev.queues[1].ring.state.desc_gpa, 0x1111111122222220);
	ck_assert_uint_eq(sink->dev.queues[1].ring.state.avail_gpa, 0x4444444433333330);
	ck_assert_uint_eq(sink->dev.queues[1].ring.state.used_gpa, 0x5555555566666660);
	ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_Q_DESCLO, 4), 0x22222220);
	ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_Q_DESCHI, 4), 0x11111111);
	ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_Q_USEDHI, 4), 0x55555555);
	ck_assert_uint_eq(sink->dev.queues[0].ring.state.desc_gpa, 0);
}
END_TEST

/* T-Q2, M4.1.4.3.1-13 */
START_TEST(test_M4_1_4_3_1_13_queue_select)
{
	static const uint32_t selectors[] = { 2, 3, 4, 5, 0x7fff, 0x8000, 0xfffe, 0xffff };

	for (size_t i = 0; i < ARRAY_SIZE(selectors); i++) {
		select_queue(selectors[i]);
		for (size_t k = 0; k < ARRAY_SIZE(fields); k++) {
			if (fields[k].offset < VIRTIO_PCI_COMMON_Q_SIZE) {
				continue;
			}
			wr(fields[k].offset, fields[k].width, 1);
			ck_assert_uint_eq(rd(fields[k].offset, fields[k].width),
					  fields[k].offset == VIRTIO_PCI_COMMON_Q_MSIX ? NO_VECTOR
										       : 0);
		}
		ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_Q_SELECT, 2), selectors[i]);
	}
	select_queue(1);
	ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_Q_SIZE, 2), 16);
	ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_Q_NOFF, 2), 1);
	ck_assert_uint_eq(sink->dev.queues[0].ring.state.size, 64);
}
END_TEST

static const struct {
	uint32_t written;
	uint16_t kept;
} queue_sizes[] = {
	{ 1, 1 },  { 2, 2 },   { 64, 64 },    { 0, 0 },	     { 3, 0 },
	{ 65, 0 }, { 128, 0 }, { 0x8000, 0 }, { 0xffff, 0 },
};

/* T-Q8, M4.1.4.3.1-14 */
START_TEST(test_M4_1_4_3_1_14_queue_size)
{
	wr(VIRTIO_PCI_COMMON_Q_SIZE, 2, queue_sizes[_i].written);
	ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_Q_SIZE, 2), queue_sizes[_i].kept);
}
END_TEST

START_TEST(test_queue_enable)
{
	static const uint32_t values[] = { 2, 3, 0x100, 0x8000, 0xffff };

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		wr(VIRTIO_PCI_COMMON_Q_ENABLE, 2, values[i]);
		ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	}
	wr(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	/* An enabled queue keeps its settings, and cannot be disabled but by a reset. */
	wr(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0);
	wr(VIRTIO_PCI_COMMON_Q_SIZE, 2, 8);
	wr(VIRTIO_PCI_COMMON_Q_DESCLO, 4, 0x1000);
	ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_Q_SIZE, 2), 64);
	ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_Q_DESCLO, 4), 0);
	wr(VIRTIO_PCI_COMMON_STATUS, 1, 0);
	ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
}
END_TEST

/* T-Q1: after DRIVER_OK every queue field but the vector is frozen, and the device goes on with what
 * it checked. */
START_TEST(test_frozen_after_driver_ok)
{
	ck_assert(fake_driver_start(&d, 0, 16));
	for (uint32_t sel = 0; sel < QUEUES; sel++) {
		struct virtqueue before = sink->dev.queues[sel].ring;
		const struct virtqueue *ring = &sink->dev.queues[sel].ring;
		uint32_t id, len;

		select_queue(sel);
		for (size_t k = 0; k < ARRAY_SIZE(fields); k++) {
			if (fields[k].offset >= VIRTIO_PCI_COMMON_Q_SIZE) {
				wr(fields[k].offset, fields[k].width, 0);
				wr(fields[k].offset, fields[k].width, 1);
				wr(fields[k].offset, fields[k].width, 0xfffffff0);
			}
		}
		ck_assert_uint_eq(rd(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
		ck_assert_uint_eq(ring->state.size, before.state.size);
		ck_assert_uint_eq(ring->state.desc_gpa, before.state.desc_gpa);
		ck_assert_uint_eq(ring->state.avail_gpa, before.state.avail_gpa);
		ck_assert_uint_eq(ring->state.used_gpa, before.state.used_gpa);
		request(sel);
		ck_assert(fake_ring_used(&d.rings[sel], &id, &len));
	}
}
END_TEST

START_TEST(test_not_enabled_not_touched)
{
	const struct fake_buf buf = { FAKE_DATA, 16, true };

	ck_assert(fake_driver_negotiate(&d, VERSION_1));
	fake_driver_setup_queue(&d, 0, 16);
	fake_ring_init(&d.rings[1], &d.mem, 16, FAKE_RINGS + FAKE_RING_SPACE);
	fake_ring_add(&d.rings[1], &buf, 1);
	wr(VIRTIO_PCI_COMMON_STATUS, 1, 0xf);
	fake_driver_kick(&d, 1);
	ck_assert_uint_eq(fake_ring_used_idx(&d.rings[1]), 0);
	ck_assert_uint_eq(processed(1), 0);
	ck_assert_uint_eq(status(), 0xf);
}
END_TEST

/* T-Q4: every value and width at a queue's address kicks that queue, by doorbell or by access; other
 * addresses kick nobody. */
START_TEST(test_notify)
{
	static const uint64_t values[] = { 0, 1, 2, 0xffff, 0x80000000, UINT64_MAX };
	static const unsigned int widths[] = { 1, 2, 4, 8 };
	gpa_t base = FAKE_PCI_APERTURE + FAKE_DEVFN * PCI_BAR_SIZE_MAX;
	uint32_t before[QUEUES];

	ck_assert(fake_driver_start(&d, 0, 16));
	ck_assert_uint_eq(fake_msi_bells(&d.msi), QUEUES);
	before[0] = processed(0);
	before[1] = processed(1);
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		for (size_t k = 0; k < ARRAY_SIZE(widths); k++) {
			/* Past the doorbell, as on a host that has none for the width. */
			(void)bus_write(&d.pci_mmio, base + NOTIFY + 4, &values[i], widths[k]);
			ck_assert_uint_eq(processed(1), ++before[1]);
			for (uint64_t at = 1; at < 0x100; at++) {
				if (at != 4) {
					(void)bus_write(&d.pci_mmio, base + NOTIFY + at, &values[i],
							widths[k]);
				}
			}
		}
	}
	wr(NOTIFY + 0xffc, 4, 0);
	ck_assert_uint_eq(processed(0), before[0]);
	ck_assert_uint_eq(processed(1), before[1]);
	ck_assert(fake_msi_ring(&d.msi, base + NOTIFY));
	ck_assert_uint_eq(processed(0), before[0] + 1);
}
END_TEST

/* M4.1.4.5.1-2, -5: with MSI-X on as well. */
START_TEST(test_M4_1_4_5_1_isr)
{
	ck_assert(fake_driver_start(&d, 0, 16));
	ck_assert_uint_eq(rd(ISR, 1), 0);
	virtio_config_changed(&sink->dev);
	ck_assert_uint_eq(rd(ISR, 1) & 2, 2);
	ck_assert_uint_eq(rd(ISR, 1), 0);
	wr(ISR, 1, 0xff);
	ck_assert_uint_eq(rd(ISR, 1), 0);
}
END_TEST

/* M4.1.4.5.1-3, -4: without MSI-X the ISR status has both bits, and the status register of
 * configuration space says whether it has any. */
START_TEST(test_M4_1_4_5_1_3_without_msix)
{
	ck_assert(fake_driver_start(&d, 0, 16));
	virtio_config_changed(&sink->dev);
	ck_assert_uint_eq(cfg(PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, 0); /* MSI-X is on */
	set_msix(0);
	ck_assert_uint_eq(cfg(PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, PCI_STATUS_INTERRUPT);
	ck_assert_uint_eq(rd(ISR, 1), 2);
	ck_assert_uint_eq(cfg(PCI_COMMAND, 4) >> 16 & PCI_STATUS_INTERRUPT, 0);
	request(0);
	ck_assert_uint_eq(atomic_load(&d.queue_interrupts[0]), 0);
	ck_assert_uint_eq(cfg(PCI_COMMAND, 4) >> 16 & PCI_STATUS_INTERRUPT, PCI_STATUS_INTERRUPT);
	ck_assert_uint_eq(cfg(PCI_STATUS, 1) & PCI_STATUS_INTERRUPT, PCI_STATUS_INTERRUPT);
	ck_assert_uint_eq(cfg(PCI_STATUS + 1, 1), 0);
	ck_assert_uint_eq(rd(ISR, 1), 1);
	ck_assert_uint_eq(cfg(PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, 0);
	ck_assert_uint_eq(rd(PENDING, 8), 0);
}
END_TEST

/* M2.5.2-1, M4.1.4.6.1: every offset around configuration space in every width. */
START_TEST(test_M2_5_2_1_config)
{
	static const unsigned int widths[] = { 1, 2, 4, 8 };

	for (uint64_t offset = 0; offset < 40; offset++) {
		for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
			uint64_t expected = 0;

			for (uint8_t k = 0; k < CONFIG_SIZE; k++) {
				sink->config[k] = (uint8_t)(0xa0 + k);
			}
			for (unsigned int k = 0; k < widths[i]; k++) {
				uint64_t at = offset + k;

				expected |= at < CONFIG_SIZE ? (0xa0 + at) << 8 * k : 0;
			}
			ck_assert_uint_eq(rd(DEVICE + offset, widths[i]), expected);
			wr(DEVICE + offset, widths[i], 0x0807060504030201);
			for (uint64_t k = 0; k < CONFIG_SIZE; k++) {
				bool hit = k >= offset && k - offset < widths[i];

				ck_assert_uint_eq(sink->config[k], hit ? k - offset + 1 : 0xa0 + k);
			}
		}
	}
	/* T-Q5: the end of the page, and over it into the notify addresses. */
	ck_assert_uint_eq(rd(NOTIFY - 8, 8), 0);
	ck_assert_uint_eq(rd(NOTIFY - 1, 1), 0);
	ck_assert_uint_eq(rd(NOTIFY - 4, 8), 0);
	wr(NOTIFY - 4, 8, UINT64_MAX);
}
END_TEST

CHECK_MAIN("virtio_pci", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_M4_1_2_1_identity);
	   CHECK_TABLE(test_M4_1_4_structures, structures);
	   CHECK_TEST(test_M4_1_5_1_2_1_1_msix_capability); CHECK_TEST(test_plain_device);
	   CHECK_TABLE(test_fresh, fields); CHECK_TEST(test_widths);
	   CHECK_TEST(test_read_only_fields); CHECK_TEST(test_M4_1_4_3_1_3_device_features);
	   CHECK_TEST(test_M4_1_4_3_1_4_driver_features);
	   CHECK_TEST(test_M4_1_4_3_1_5_config_generation); CHECK_TEST(test_M4_1_4_3_1_6_reset);
	   CHECK_TEST(test_M4_1_3_2_1_halves); CHECK_TEST(test_M4_1_4_3_1_13_queue_select);
	   CHECK_TABLE(test_M4_1_4_3_1_14_queue_size, queue_sizes); CHECK_TEST(test_queue_enable);
	   CHECK_TEST(test_frozen_after_driver_ok); CHECK_TEST(test_not_enabled_not_touched);
	   CHECK_TEST(test_notify); CHECK_TEST(test_M4_1_4_5_1_isr);
	   CHECK_TEST(test_M4_1_4_5_1_3_without_msix); CHECK_TEST(test_M2_5_2_1_config))
