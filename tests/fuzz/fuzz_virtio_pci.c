/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An entropy device behind PCI, driven by a string of bytes: accesses of configuration space, by
 * memory and by ports, of the BAR at any place and width, of the MSI-X table; rings that are good or
 * not, kicks, pauses, saved and restored state, machine resets, a second function that is moved over
 * the first one. The worker is a real thread; after every step the driver waits for it, so that a run
 * depends on its input alone.
 *
 * Checked besides crashes: every state that can be reached is accepted by the state tables; nothing is
 * pending for a vector that is open; doorbells are where the BAR is, and nowhere else; no queue runs
 * without the right to DMA.
 */
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "fuzz_input.h"
#include "harness/fake_driver.h"
#include "harness/virtio_state.h"
#include "vmm/log.h"
#include "vmm/platform.h"
#include "vmm/virtio_entropy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)          \
	do {                        \
		if (!(condition)) { \
			abort();    \
		}                   \
	} while (0)

#define RING_SIZE   16
#define OTHER_DEVFN PCI_DEVFN(2, 0)
#define TABLE	    (VIRTIO_PCI_PAGE_MSIX_TABLE * VIRTIO_PCI_PAGE_SIZE)
#define NOTIFY	    (VIRTIO_PCI_PAGE_NOTIFY * VIRTIO_PCI_PAGE_SIZE)

struct rig {
	struct fake_driver *d;
	struct virtio_pci *pci;
	struct pci_function other; /* in a lower place: where both are, it is */
	struct fuzz_input in;
};

static uint64_t other_read(struct pci_function *function, uint64_t offset, unsigned int size)
{
	(void)function;
	(void)size;
	return offset;
}

static void other_write(struct pci_function *function, uint64_t offset, unsigned int size,
			uint64_t value)
{
	(void)function;
	(void)offset;
	(void)size;
	(void)value;
}

static const struct pci_function_ops other_ops = { .read = other_read, .write = other_write };

/* A register that means something, mostly. */
static uint32_t pick_register(struct rig *rig)
{
	const uint32_t known[] = {
		PCI_COMMAND,
		PCI_BASE_ADDRESS_0,
		PCI_BASE_ADDRESS_1,
		rig->pci->msix_capability + PCI_MSIX_FLAGS,
		rig->pci->access_capability + VIRTIO_PCI_CAP_BAR,
		rig->pci->access_capability + VIRTIO_PCI_CAP_OFFSET,
		rig->pci->access_capability + VIRTIO_PCI_CAP_LENGTH,
		rig->pci->access_capability + 16,
	};
	uint8_t which = (uint8_t)fuzz_take(&rig->in, 1);

	return which < 0xc0 ? known[which % ARRAY_SIZE(known)] : (uint32_t)fuzz_take(&rig->in, 2);
}

/* A BAR in the aperture, at one of a few places, or anywhere. */
static uint64_t pick_value(struct rig *rig, uint32_t reg, unsigned int width)
{
	uint64_t value = fuzz_take(&rig->in, width);

	if (reg == PCI_BASE_ADDRESS_0 && value % 4 != 0) {
		return value % 5 * 0x8000;
	}
	if (reg == PCI_BASE_ADDRESS_1 && value % 4 != 0) {
		return FAKE_PCI_APERTURE >> 32;
	}
	return value;
}

static void access_config(struct rig *rig)
{
	uint8_t how = (uint8_t)fuzz_take(&rig->in, 1);
	unsigned int width = 1U << (how & 3);
	uint32_t reg = pick_register(rig), select;
	uint8_t devfn = (how & 0x10) != 0 ? OTHER_DEVFN : FAKE_DEVFN;
	gpa_t at = PLATFORM_PCI_ECAM + ((gpa_t)devfn << 12) + (reg & 0xfff);
	uint64_t value;

	if ((how & 4) != 0) {
		select = 0x80000000 | (uint32_t)devfn << 8 | reg;
		(void)bus_write(&rig->d->pci_ports, PLATFORM_PORT_PCI_ADDRESS, &select, 4);
		at = PLATFORM_PORT_PCI_DATA + reg % 4;
	}
	if ((how & 8) != 0) {
		value = pick_value(rig, reg, width);
		(void)bus_write((how & 4) != 0 ? &rig->d->pci_ports : &rig->d->pci_mmio, at, &value,
				width);
	} else {
		(void)bus_read((how & 4) != 0 ? &rig->d->pci_ports : &rig->d->pci_mmio, at, &value,
			       width);
	}
}

static void access_bar(struct rig *rig)
{
	uint8_t how = (uint8_t)fuzz_take(&rig->in, 1);
	unsigned int width = 1U << (how & 3);
	uint64_t offset = fuzz_take(&rig->in, 2) % VIRTIO_PCI_BAR_SIZE, value;
	gpa_t base = rig->pci->function.base;

	switch (how >> 2 & 3) {
	case 0:
		offset %= 0x40; /* common configuration */
		break;
	case 1:
		offset = TABLE + offset % 0x28;
		break;
	case 2:
		offset = NOTIFY + offset % 8;
		break;
	default:
		break;
	}
	if (base == 0) {
		base = FAKE_PCI_APERTURE + how / 64 * 0x8000U;
	}
	if ((how & 0x10) != 0) {
		value = fuzz_take(&rig->in, width);
		if (!fake_msi_ring(&rig->d->msi, base + offset)) {
			(void)bus_write(&rig->d->pci_mmio, base + offset, &value, width);
		}
	} else {
		(void)bus_read(&rig->d->pci_mmio, base + offset, &value, width);
	}
}

/* A good driver's start, if the device can be reached; it may refuse when the input has made a mess
 * before. */
static void start(struct rig *rig)
{
	uint64_t features = (fuzz_take(&rig->in, 1) & 3) << VIRTIO_RING_F_INDIRECT_DESC;

	fake_config_write(rig->d, PCI_BASE_ADDRESS_0, 4, 0x100000);
	fake_config_write(rig->d, PCI_BASE_ADDRESS_1, 4, FAKE_PCI_APERTURE >> 32);
	fake_config_write(rig->d, PCI_COMMAND, 2,
			  PCI_COMMAND_MEMORY | (fuzz_take(&rig->in, 1) & PCI_COMMAND_MASTER));
	if (rig->pci->function.base == 0) {
		return; /* the other one is there */
	}
	if (!fake_driver_start(rig->d, features, RING_SIZE)) {
		REQUIRE(fake_driver_status(rig->d) != 0xf);
	}
}

static void offer(struct rig *rig)
{
	struct fake_ring *ring = &rig->d->rings[0];
	uint8_t how = (uint8_t)fuzz_take(&rig->in, 1);
	struct fake_buf bufs[4];
	uint16_t count = (uint16_t)(1 + how % ARRAY_SIZE(bufs));

	if (ring->size == 0) {
		return;
	}
	for (uint16_t i = 0; i < count; i++) {
		uint64_t where = fuzz_take(&rig->in, 2);

		bufs[i] =
			(struct fake_buf){ where << 8 | (where & 7),
					   (uint32_t)fuzz_take(&rig->in, 2), (how >> 4 & 3) <= i };
	}
	fake_ring_add(ring, bufs, count);
}

/* Through the state tables and back, as a snapshot would. */
static void save_and_load(struct rig *rig)
{
	struct virtio_device *dev = rig->d->dev;
	const struct state_entry entry = virtio_entry(dev, rig->pci, NULL);
	struct state_buf saved = { 0 };

	virtio_device_quiesce(dev);
	REQUIRE(state_set_save(&entry, 1, &saved, NULL) == 0);
	virtio_device_reset(dev);
	pci_function_reset(&rig->pci->function);
	REQUIRE(fake_msi_bells(&rig->d->msi) == 0);
	REQUIRE(virtio_load(&entry, &saved, NULL) == 0);
	state_buf_finish(&saved);
	virtio_device_resume(dev);
}

/* On the worker, between two passes. */
static void check(void *arg)
{
	struct rig *rig = arg;
	struct virtio_device *dev = rig->d->dev;
	struct virtio_pci *pci = rig->pci;
	const struct msix *msix = &pci->msix;
	uint64_t pending = atomic_load(&msix->registers.pending);
	bool master = (pci_config_get(&pci->function, PCI_COMMAND, 2) & PCI_COMMAND_MASTER) != 0;

	REQUIRE(state_validate(&pci_config_state, &pci->function.config, NULL) == 0);
	REQUIRE(state_validate(&virtio_pci_state, pci, NULL) == 0);
	REQUIRE(state_validate(&msix_state, msix, NULL) == 0);
	REQUIRE(state_validate(&pci_bus_state, &rig->d->pci_bus, NULL) == 0);
	REQUIRE(dev->dma_off == !master);
	REQUIRE(!dev->queues[0].ring.running || master);
	for (uint32_t i = 0; i < msix->vectors; i++) {
		REQUIRE((pending >> i & 1) == 0 || atomic_load(&msix->mode) != MSIX_ON ||
			atomic_load(&msix->registers.entries[i].masked));
	}
	REQUIRE(fake_msi_bells(&rig->d->msi) == (pci->function.base != 0 ? dev->queue_count : 0));
	REQUIRE(rig->d->msi.bells_refused == 0);
	REQUIRE(pci->function.base == 0 || rig->other.base == 0 ||
		pci->function.base >= rig->other.base + rig->other.bar_size ||
		rig->other.base >= pci->function.base + pci->function.bar_size);
}

static void step(struct rig *rig)
{
	struct fake_driver *d = rig->d;

	switch (fuzz_take(&rig->in, 1) % 12) {
	case 0:
	case 1:
	case 2:
		access_config(rig);
		break;
	case 3:
	case 4:
	case 5:
		access_bar(rig);
		break;
	case 6:
		start(rig);
		break;
	case 7:
		offer(rig);
		break;
	case 8:
		virtio_config_changed(d->dev);
		break;
	case 9:
		virtio_kick(d->dev, (uint32_t)fuzz_take(&rig->in, 1));
		break;
	case 10:
		save_and_load(rig);
		break;
	default:
		virtio_device_quiesce(d->dev);
		virtio_device_resume(d->dev);
		if (fuzz_take(&rig->in, 1) == 0xff) {
			virtio_device_reset(d->dev);
			pci_function_reset(&rig->pci->function);
		}
		break;
	}
	fake_driver_sync(d);
	worker_call(&d->workers[0], check, rig);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct pci_identity identity = { .vendor = 0x1234, .device = 0x5678 };
	static struct fake_driver d;
	static struct rig rig;
	struct virtio_device *dev;
	struct error e = { 0 };

	if (d.mem.size == 0) {
		log_init(LOG_ERROR, -1);
		fake_driver_init(&d);
		fake_driver_unwatch(&d);
	}
	memset(&rig, 0, sizeof(rig));
	rig.d = &d;
	rig.in = (struct fuzz_input){ .data = data, .len = size };
	fake_memory_clear(&d.mem); /* nothing of the last run */
	REQUIRE(virtio_entropy_create(&dev, "rng0", &d.mem, d.workers, NULL) == 0);
	memset(d.rings, 0, sizeof(d.rings));
	fake_driver_attach_pci(&d, dev);
	rig.pci = d.pci;
	pci_function_init(&rig.other, &other_ops, "other", &identity, VIRTIO_PCI_BAR_SIZE / 4);
	REQUIRE(pci_bus_add(&d.pci_bus, &rig.other, OTHER_DEVFN, &e) == 0);
	while (rig.in.len != 0) {
		step(&rig);
	}
	virtio_device_reset(dev);
	pci_bus_remove(&d.pci_bus, &d.pci->function);
	virtio_pci_finish(d.pci);
	d.pci = NULL;
	pci_bus_remove(&d.pci_bus, &rig.other);
	pci_function_finish(&rig.other);
	pci_bus_finish(&d.pci_bus);
	dev->ops->destroy(dev);
	d.dev = NULL;
	return 0;
}
