/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PCI transport (virtio 1.2 §4.1); vmm/virtio_pci.h has its shape.
 *
 * vCPU threads. Registers take the device's lock; ISR status is one atomic exchange; notify addresses
 * and MSI-X take no lock of the device, so that they answer while a reset drains queues. Workers
 * reach MSI-X by atomics. Under the function's lock, which is taken before the device's, configuration
 * space reaches the BAR (VIRTIO_PCI_CAP_PCI_CFG), MSI-X and the device's right to DMA.
 *
 * config_generation has 8 bits here. It is not the device's counter, which could come round between
 * two looks of the driver: it moves when the driver reads configuration that has changed since it
 * last read any (§4.1.4.3.1).
 *
 * The guest controls offset, width, value and order of accesses, and all of configuration space that
 * is writable. Saved: what virtio_pci.h says; routes, doorbells and the right to DMA follow from it.
 */
#include "vmm/virtio_pci.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <string.h>

#include "vmm/bytes.h"
#include "vmm/cleanup.h"

#define VENDOR	      0x1af4
#define DEVICE_BASE   0x1040
#define REVISION      1 /* 0 is a legacy device's */
#define CLASS_UNKNOWN 0xff0000

#define PAGE(page)  ((page)*VIRTIO_PCI_PAGE_SIZE)
#define COMMON_SIZE ((uint32_t)sizeof(struct virtio_pci_common_cfg))

#define ACCESS_BAR    4 /* of struct virtio_pci_cfg_cap */
#define ACCESS_OFFSET 8
#define ACCESS_LENGTH 12
#define ACCESS_DATA   16

_Static_assert(VIRTIO_QUEUES_MAX + 1 <= MSIX_VECTORS_MAX, "a vector for each queue, and one");
_Static_assert(VIRTIO_QUEUES_MAX <= VIRTIO_PCI_PAGE_SIZE / VIRTIO_PCI_NOTIFY_MULTIPLIER,
	       "a notify address for each queue");
_Static_assert((gpa_t)PAGE(VIRTIO_PCI_PAGE_MSIX_PENDING + 1) <= VIRTIO_PCI_BAR_SIZE, "all pages");

static const struct state_field pci_fields[] = {
	STATE_FIELD(1, struct virtio_pci_registers, device_feature_select, 1),
	STATE_FIELD(2, struct virtio_pci_registers, driver_feature_select, 1),
	STATE_FIELD(3, struct virtio_pci_registers, queue_select, 1),
	STATE_FIELD(4, struct virtio_pci_registers, config_vector, 1),
	STATE_ARRAY(5, struct virtio_pci_registers, queue_vectors, 1),
	STATE_FIELD(6, struct virtio_pci_registers, generation, 1),
	STATE_FIELD(7, struct virtio_pci_registers, generation_seen, 1),
};

static bool vector_possible(const struct virtio_pci *pci, uint32_t vector)
{
	return vector == VIRTIO_MSI_NO_VECTOR || vector < pci->msix.vectors;
}

static int pci_validate(const void *object, const void *owner, struct error *e)
{
	const struct virtio_pci_registers *registers = object;
	const struct virtio_pci *pci = owner;
	uint32_t bad = atomic_load(&registers->config_vector);
	bool possible = vector_possible(pci, bad);

	for (uint32_t i = 0; possible && i < VIRTIO_QUEUES_MAX; i++) {
		bad = atomic_load(&registers->queue_vectors[i]);
		possible = i < pci->device->queue_count ? vector_possible(pci, bad)
							: bad == VIRTIO_MSI_NO_VECTOR;
	}
	if (!possible) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "virtio-pci: vector %u, the function has %u", bad,
				 pci->msix.vectors);
	}
	return 0;
}

static void pci_post_load(void *object, void *owner);

const struct state_desc virtio_pci_state =
	STATE_DESC_IN(struct virtio_pci, registers, "virtio-pci", 1, pci_fields,
		      .validate = pci_validate, .post_load = pci_post_load);

uint32_t virtio_pci_parts(struct virtio_pci *pci, struct state_part parts[VIRTIO_PCI_STATES])
{
	parts[0] = (struct state_part){ &pci_config_state, &pci->function.config };
	parts[1] = (struct state_part){ &msix_state, &pci->msix };
	/* Last: it makes of all three what follows from them. */
	parts[2] = (struct state_part){ &virtio_pci_state, pci };
	return VIRTIO_PCI_STATES;
}

static struct virtio_pci *pci_of(struct pci_function *function)
{
	return container_of(function, struct virtio_pci, function);
}

/* Common configuration ----------------------------------------------------------------------- */

/* How wide the field at `offset` is, halves of 64-bit fields being fields; 0: there is none. */
static unsigned int common_width(uint64_t offset)
{
	switch (offset) {
	case VIRTIO_PCI_COMMON_STATUS:
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		return 1;
	case VIRTIO_PCI_COMMON_MSIX:
	case VIRTIO_PCI_COMMON_NUMQ:
	case VIRTIO_PCI_COMMON_Q_SELECT:
	case VIRTIO_PCI_COMMON_Q_SIZE:
	case VIRTIO_PCI_COMMON_Q_MSIX:
	case VIRTIO_PCI_COMMON_Q_ENABLE:
	case VIRTIO_PCI_COMMON_Q_NOFF:
		return 2;
	case VIRTIO_PCI_COMMON_DFSELECT:
	case VIRTIO_PCI_COMMON_DF:
	case VIRTIO_PCI_COMMON_GFSELECT:
	case VIRTIO_PCI_COMMON_GF:
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		return 4;
	default:
		return 0;
	}
}

static uint64_t *queue_address(struct virtqueue *ring, uint64_t offset)
{
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		return &ring->state.desc_gpa;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		return &ring->state.avail_gpa;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		return &ring->state.used_gpa;
	default:
		return NULL;
	}
}

static bool is_high_half(uint64_t offset)
{
	return offset % 8 != 0;
}

/* Of a queue that there is not everything is 0, but the vector. */
static uint32_t queue_read(struct virtio_pci *pci, uint64_t offset)
{
	struct virtio_queue *queue =
		virtio_select_queue(pci->device, pci->registers.queue_select, false);
	const uint64_t *address;

	if (queue == NULL) {
		return offset == VIRTIO_PCI_COMMON_Q_MSIX ? VIRTIO_MSI_NO_VECTOR : 0;
	}
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		return queue->ring.state.size;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		return atomic_load(&pci->registers.queue_vectors[queue->index]);
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		return queue->ring.state.ready;
	case VIRTIO_PCI_COMMON_Q_NOFF:
		return queue->index;
	default:
		address = queue_address(&queue->ring, offset);
		return address != NULL ? (uint32_t)(*address >> (is_high_half(offset) ? 32 : 0))
				       : 0;
	}
}

static uint32_t common_read(struct virtio_pci *pci, uint64_t offset)
{
	const struct virtio_pci_registers *registers = &pci->registers;
	struct virtio_device *dev = pci->device;

	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		return registers->device_feature_select;
	case VIRTIO_PCI_COMMON_DF:
		return virtio_offered_features(dev, registers->device_feature_select);
	case VIRTIO_PCI_COMMON_GFSELECT:
		return registers->driver_feature_select;
	case VIRTIO_PCI_COMMON_GF:
		return registers->driver_feature_select > 1
			       ? 0
			       : (uint32_t)(dev->state.features >>
					    (registers->driver_feature_select * 32));
	case VIRTIO_PCI_COMMON_MSIX:
		return atomic_load(&registers->config_vector);
	case VIRTIO_PCI_COMMON_NUMQ:
		return dev->queue_count;
	case VIRTIO_PCI_COMMON_STATUS:
		return atomic_load(&dev->state.status);
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		return registers->generation;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		return registers->queue_select;
	default:
		return queue_read(pci, offset);
	}
}

static uint16_t usable_vector(const struct virtio_pci *pci, uint32_t vector)
{
	return (uint16_t)(vector_possible(pci, vector) ? vector : VIRTIO_MSI_NO_VECTOR);
}

/* Frozen after DRIVER_OK, and while the queue is enabled; a driver cannot disable one (§4.1.4.3.2).
 * Vectors, which the rings do not depend on, can be changed at any time. */
static void queue_write(struct virtio_pci *pci, uint64_t offset, uint32_t value)
{
	uint16_t select = pci->registers.queue_select;
	struct virtio_queue *queue = virtio_select_queue(pci->device, select, true);
	uint64_t *address;

	if (offset == VIRTIO_PCI_COMMON_Q_MSIX) {
		if (virtio_select_queue(pci->device, select, false) != NULL) {
			atomic_store(&pci->registers.queue_vectors[select],
				     usable_vector(pci, value));
		}
		return;
	}
	if (queue == NULL || queue->ring.state.ready) {
		return;
	}
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		virtqueue_set_size(&queue->ring, value);
		break;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		queue->ring.state.ready = value == 1;
		break;
	default:
		address = queue_address(&queue->ring, offset);
		if (address != NULL) {
			virtio_set_half(address, is_high_half(offset), value);
		}
		break;
	}
}

/* A reset by the driver or of the machine: events are not mapped to vectors any more, and those that
 * waited for one are over. */
static void forget_vectors(struct virtio_pci *pci)
{
	atomic_store(&pci->registers.config_vector, VIRTIO_MSI_NO_VECTOR);
	for (uint32_t i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		atomic_store(&pci->registers.queue_vectors[i], VIRTIO_MSI_NO_VECTOR);
	}
	msix_forget_pending(&pci->msix);
}

static void common_write(struct virtio_pci *pci, uint64_t offset, uint32_t value)
{
	struct virtio_pci_registers *registers = &pci->registers;
	struct virtio_device *dev = pci->device;

	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		registers->device_feature_select = value;
		break;
	case VIRTIO_PCI_COMMON_GFSELECT:
		registers->driver_feature_select = value;
		break;
	case VIRTIO_PCI_COMMON_GF:
		virtio_set_features(dev, registers->driver_feature_select, value);
		break;
	case VIRTIO_PCI_COMMON_MSIX:
		atomic_store(&registers->config_vector, usable_vector(pci, value));
		break;
	case VIRTIO_PCI_COMMON_STATUS:
		virtio_set_status(dev, value);
		if (value == 0) {
			forget_vectors(pci);
		}
		break;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		registers->queue_select = (uint16_t)value;
		break;
	default:
		queue_write(pci, offset, value);
		break;
	}
}

/* The BAR ------------------------------------------------------------------------------------ */

static uint64_t device_read(struct virtio_pci *pci, uint64_t offset, unsigned int size)
{
	struct virtio_device *dev = pci->device;
	uint8_t bytes[8];
	uint32_t now;

	virtio_config_read(dev, offset, bytes, size);
	now = atomic_load(&dev->state.config_generation);
	if (now != pci->registers.generation_seen) {
		pci->registers.generation_seen = now;
		pci->registers.generation++;
	}
	return load_le(bytes, size);
}

/* Kicks are no reads: there is nothing to read there. */
static uint64_t structure_read(struct virtio_pci *pci, uint64_t page, uint64_t offset,
			       unsigned int size)
{
	if (page == VIRTIO_PCI_PAGE_ISR && offset == 0 && size == 1) {
		return atomic_exchange(&pci->device->state.interrupt_status, 0);
	}
	if (page == VIRTIO_PCI_PAGE_COMMON && size == common_width(offset)) {
		SCOPED_LOCK(&pci->device->lock);
		return common_read(pci, offset);
	}
	if (page == VIRTIO_PCI_PAGE_DEVICE) {
		SCOPED_LOCK(&pci->device->lock);
		return device_read(pci, offset, size);
	}
	return bus_all_ones(size);
}

static void structure_write(struct virtio_pci *pci, uint64_t page, uint64_t offset,
			    unsigned int size, uint64_t value)
{
	uint8_t bytes[8];

	if (page == VIRTIO_PCI_PAGE_NOTIFY) {
		if (offset % VIRTIO_PCI_NOTIFY_MULTIPLIER == 0) {
			virtio_kick(pci->device, (uint32_t)offset / VIRTIO_PCI_NOTIFY_MULTIPLIER);
		}
	} else if (page == VIRTIO_PCI_PAGE_COMMON && size == common_width(offset)) {
		SCOPED_LOCK(&pci->device->lock);
		common_write(pci, offset, (uint32_t)value & (uint32_t)bus_all_ones(size));
	} else if (page == VIRTIO_PCI_PAGE_DEVICE) {
		SCOPED_LOCK(&pci->device->lock);
		store_le(bytes, value, size);
		virtio_config_write(pci->device, offset, bytes, size);
	}
}

static uint64_t bar_read(struct pci_function *function, uint64_t offset, unsigned int size)
{
	struct virtio_pci *pci = pci_of(function);
	uint64_t page = offset / VIRTIO_PCI_PAGE_SIZE, within = offset % VIRTIO_PCI_PAGE_SIZE;

	switch (page) {
	case VIRTIO_PCI_PAGE_MSIX_TABLE:
		return msix_table_read(&pci->msix, within, size);
	case VIRTIO_PCI_PAGE_MSIX_PENDING:
		return msix_pending_read(&pci->msix, within, size);
	default:
		return structure_read(pci, page, within, size);
	}
}

static void bar_write(struct pci_function *function, uint64_t offset, unsigned int size,
		      uint64_t value)
{
	struct virtio_pci *pci = pci_of(function);
	uint64_t page = offset / VIRTIO_PCI_PAGE_SIZE, within = offset % VIRTIO_PCI_PAGE_SIZE;

	if (page == VIRTIO_PCI_PAGE_MSIX_TABLE) {
		msix_table_write(&pci->msix, within, size, value);
	} else {
		structure_write(pci, page, within, size, value);
	}
}

static gpa_t notify_address(gpa_t base, uint32_t queue)
{
	return base + (gpa_t)PAGE(VIRTIO_PCI_PAGE_NOTIFY) +
	       (gpa_t)queue * VIRTIO_PCI_NOTIFY_MULTIPLIER;
}

static void mapped(struct pci_function *function, gpa_t base)
{
	struct virtio_pci *pci = pci_of(function);

	for (uint32_t i = 0; pci->doorbells != NULL && i < pci->device->queue_count; i++) {
		pci->doorbells->ops->add(pci->doorbells, notify_address(base, i),
					 pci->device->queues[i].kick_fd);
	}
}

static void unmapped(struct pci_function *function, gpa_t base)
{
	struct virtio_pci *pci = pci_of(function);

	for (uint32_t i = 0; pci->doorbells != NULL && i < pci->device->queue_count; i++) {
		pci->doorbells->ops->remove(pci->doorbells, notify_address(base, i),
					    pci->device->queues[i].kick_fd);
	}
}

/* Configuration space ------------------------------------------------------------------------ */

static bool may_master(const struct virtio_pci *pci)
{
	return (pci_config_get(&pci->function, PCI_COMMAND, 2) & PCI_COMMAND_MASTER) != 0;
}

static enum msix_mode configured_mode(const struct virtio_pci *pci)
{
	uint32_t control = pci_config_get(&pci->function, pci->msix_capability + PCI_MSIX_FLAGS, 2);

	if ((control & PCI_MSIX_FLAGS_ENABLE) == 0) {
		return MSIX_OFF;
	}
	return (control & PCI_MSIX_FLAGS_MASKALL) != 0 || !may_master(pci) ? MSIX_MASKED : MSIX_ON;
}

static void follow_config(struct virtio_pci *pci)
{
	enum msix_mode mode = configured_mode(pci);

	if (mode != atomic_load(&pci->msix.mode)) {
		msix_set_mode(&pci->msix, mode);
	}
	SCOPED_LOCK(&pci->device->lock);
	virtio_allow_dma(pci->device, may_master(pci));
}

/*
 * What the access capability (§4.1.4.9) points to: 1, 2 or 4 aligned bytes of BAR 0 inside the virtio
 * structures. A capability that points elsewhere reads and writes its own data only.
 */
static bool find_target(const struct virtio_pci *pci, uint32_t *offset, uint32_t *size)
{
	const struct pci_function *function = &pci->function;
	uint32_t at = pci->access_capability;

	*offset = pci_config_get(function, at + ACCESS_OFFSET, 4);
	*size = pci_config_get(function, at + ACCESS_LENGTH, 4);
	return pci_config_get(function, at + ACCESS_BAR, 1) == 0 &&
	       (*size == 1 || *size == 2 || *size == 4) && *offset % *size == 0 &&
	       *offset < PAGE(VIRTIO_PCI_PAGE_MSIX_TABLE);
}

static uint32_t config_read(struct pci_function *function, uint32_t offset, unsigned int size,
			    uint32_t value)
{
	struct virtio_pci *pci = pci_of(function);
	uint32_t data = pci->access_capability + ACCESS_DATA, target, target_size;

	if (pci_touches(offset, size, data, 4) && find_target(pci, &target, &target_size)) {
		pci_config_set(function, data, target_size,
			       (uint32_t)bar_read(function, target, target_size));
		value = pci_config_get(function, offset, size);
	}
	if (pci_touches(offset, size, PCI_STATUS, 1) && atomic_load(&pci->msix.mode) == MSIX_OFF &&
	    atomic_load(&pci->device->state.interrupt_status) != 0) {
		value |= PCI_STATUS_INTERRUPT << 8 * (PCI_STATUS - offset);
	}
	return value;
}

static void config_written(struct pci_function *function, uint32_t offset, unsigned int size)
{
	struct virtio_pci *pci = pci_of(function);
	uint32_t data = pci->access_capability + ACCESS_DATA, target, target_size;

	if (pci_touches(offset, size, data, 4) && find_target(pci, &target, &target_size)) {
		bar_write(function, target, target_size,
			  pci_config_get(function, data, target_size));
	}
	if (pci_touches(offset, size, PCI_COMMAND, 2) ||
	    pci_touches(offset, size, pci->msix_capability + PCI_MSIX_FLAGS, 2)) {
		follow_config(pci);
	}
}

static void registers_reset(struct virtio_pci *pci)
{
	pci->registers.device_feature_select = 0;
	pci->registers.driver_feature_select = 0;
	pci->registers.queue_select = 0;
	pci->registers.generation = 0;
	pci->registers.generation_seen = atomic_load(&pci->device->state.config_generation);
	forget_vectors(pci);
}

static void reset(struct pci_function *function)
{
	struct virtio_pci *pci = pci_of(function);

	msix_reset(&pci->msix);
	registers_reset(pci);
	follow_config(pci);
}

static void pci_post_load(void *object, void *owner)
{
	struct virtio_pci *pci = owner;

	(void)object;
	msix_set_mode(&pci->msix, configured_mode(pci));
	/* Not virtio_allow_dma(): queues start when the device resumes. */
	pci->device->dma_off = !may_master(pci);
	if (pci->function.bus != NULL) {
		pci_function_loaded(&pci->function);
	}
}

static const struct pci_function_ops function_ops = {
	.read = bar_read,
	.write = bar_write,
	.mapped = mapped,
	.unmapped = unmapped,
	.config_read = config_read,
	.config_written = config_written,
	.reset = reset,
};

/* Interrupts --------------------------------------------------------------------------------- */

static void notify_queue(struct virtio_device *dev, uint16_t queue)
{
	struct virtio_pci *pci = dev->transport_data;

	/* VIRTIO_MSI_NO_VECTOR is beyond any table. */
	msix_trigger(&pci->msix, atomic_load(&pci->registers.queue_vectors[queue]));
}

static void notify_config(struct virtio_device *dev)
{
	struct virtio_pci *pci = dev->transport_data;

	msix_trigger(&pci->msix, atomic_load(&pci->registers.config_vector));
}

static const struct virtio_transport pci_transport = {
	.notify_queue = notify_queue,
	.notify_config = notify_config,
};

/* Building ----------------------------------------------------------------------------------- */

/* §4.1.4: where a structure is; returns where the capability is. `extra` are bytes behind it, zeroes
 * but for the first four. */
static uint32_t add_structure(struct virtio_pci *pci, uint8_t type, uint32_t page, uint32_t length,
			      uint32_t extra, uint32_t first)
{
	struct virtio_pci_notify_cap capability = {
		.cap = { .cap_len = (uint8_t)(sizeof(struct virtio_pci_cap) + extra),
			 .cfg_type = type,
			 .offset = htole32(PAGE(page)),
			 .length = htole32(length) },
		.notify_off_multiplier = htole32(first),
	};

	return pci_add_capability(&pci->function, PCI_CAP_ID_VNDR, (uint8_t *)&capability + 2,
				  capability.cap.cap_len - 2U);
}

static void add_capabilities(struct virtio_pci *pci)
{
	struct pci_function *function = &pci->function;
	const struct virtio_device *dev = pci->device;
	uint8_t msix[PCI_CAP_MSIX_SIZEOF];

	store_le16(msix + PCI_MSIX_FLAGS, (uint16_t)(pci->msix.vectors - 1));
	store_le32(msix + PCI_MSIX_TABLE, PAGE(VIRTIO_PCI_PAGE_MSIX_TABLE));
	store_le32(msix + PCI_MSIX_PBA, PAGE(VIRTIO_PCI_PAGE_MSIX_PENDING));
	pci->msix_capability =
		pci_add_capability(function, PCI_CAP_ID_MSIX, msix + 2, sizeof(msix) - 2);
	pci_make_writable(function, pci->msix_capability + PCI_MSIX_FLAGS, 2,
			  PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	(void)add_structure(pci, VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_PCI_PAGE_COMMON, COMMON_SIZE, 0,
			    0);
	(void)add_structure(pci, VIRTIO_PCI_CAP_ISR_CFG, VIRTIO_PCI_PAGE_ISR, 1, 0, 0);
	if (dev->config_size != 0) {
		(void)add_structure(pci, VIRTIO_PCI_CAP_DEVICE_CFG, VIRTIO_PCI_PAGE_DEVICE,
				    VIRTIO_PCI_PAGE_SIZE, 0, 0);
	}
	(void)add_structure(pci, VIRTIO_PCI_CAP_NOTIFY_CFG, VIRTIO_PCI_PAGE_NOTIFY,
			    dev->queue_count * VIRTIO_PCI_NOTIFY_MULTIPLIER, 4,
			    VIRTIO_PCI_NOTIFY_MULTIPLIER);
	pci->access_capability = add_structure(pci, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, 4, 0);
	pci_make_writable(function, pci->access_capability + ACCESS_BAR, 1, 0xff);
	pci_make_writable(function, pci->access_capability + ACCESS_OFFSET, 4, UINT32_MAX);
	pci_make_writable(function, pci->access_capability + ACCESS_LENGTH, 4, UINT32_MAX);
	pci_make_writable(function, pci->access_capability + ACCESS_DATA, 4, UINT32_MAX);
}

int virtio_pci_init(struct virtio_pci *pci, struct virtio_device *device,
		    struct msi_controller *controller, struct doorbells *doorbells, struct error *e)
{
	uint16_t id = (uint16_t)(DEVICE_BASE + device->ops->id);
	const struct pci_identity identity = {
		.vendor = VENDOR,
		.device = id,
		.subsystem_vendor = VENDOR,
		.subsystem = id,
		.class_code = device->ops->pci_class != 0 ? device->ops->pci_class : CLASS_UNKNOWN,
		.revision = REVISION,
	};
	int r;

	memset(pci, 0, sizeof(*pci));
	r = msix_init(&pci->msix, controller, device->queue_count + 1, e);
	if (r < 0) {
		return error_prefix(e, "%s", device->name);
	}
	pci->device = device;
	pci->doorbells = doorbells;
	pci_function_init(&pci->function, &function_ops, device->name, &identity,
			  VIRTIO_PCI_BAR_SIZE);
	add_capabilities(pci);
	registers_reset(pci);
	device->dma_off = true;
	device->transport = &pci_transport;
	device->transport_data = pci;
	return 0;
}

void virtio_pci_finish(struct virtio_pci *pci)
{
	pci_function_finish(&pci->function);
	msix_finish(&pci->msix);
}
