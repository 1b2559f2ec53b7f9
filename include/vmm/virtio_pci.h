/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PCI transport (virtio 1.2 §4.1), modern only: one function with vendor 0x1af4, device 0x1040 +
 * type, revision 1, one BAR, MSI-X with a vector for each queue and one for configuration changes.
 * No INTx: the interrupt pin is 0, so a driver that is told to do without MSI-X has to poll, or
 * fails. No VIRTIO_F_RING_RESET, no VIRTIO_F_NOTIFICATION_DATA.
 *
 * The BAR, a page each: common configuration, ISR status, device configuration, notify addresses (4
 * bytes a queue), MSI-X table, pending bits. Registers are accessed at their own width (§4.1.3.1);
 * other accesses read as all ones and write nothing. A write of any width at a queue's notify address
 * kicks the queue whatever is written; normally it is a doorbell and does not come here.
 *
 * Bus mastering is honoured: while it is off the rings are not touched and messages wait, so that a
 * kernel can keep a device of the one before it from writing into its memory.
 *
 * Threads: vCPUs, under the device's lock; MSI-X and kicks without. Saved: configuration space, MSI-X,
 * the registers below, each a table of virtio_pci_parts(). A load is complete when these and the
 * device's own tables are; the device resumes after it.
 */
#ifndef VMM_VIRTIO_PCI_H
#define VMM_VIRTIO_PCI_H

#include "vmm/irq.h"
#include "vmm/msix.h"
#include "vmm/pci.h"
#include "vmm/virtio.h"

#define VIRTIO_PCI_BAR_SIZE KIB(32)

enum virtio_pci_page {
	VIRTIO_PCI_PAGE_COMMON,
	VIRTIO_PCI_PAGE_ISR,
	VIRTIO_PCI_PAGE_DEVICE,
	VIRTIO_PCI_PAGE_NOTIFY,
	VIRTIO_PCI_PAGE_MSIX_TABLE,
	VIRTIO_PCI_PAGE_MSIX_PENDING,
};
#define VIRTIO_PCI_PAGE_SIZE	     0x1000U
#define VIRTIO_PCI_NOTIFY_MULTIPLIER 4U

struct virtio_pci_registers {
	uint32_t device_feature_select, driver_feature_select;
	uint16_t queue_select;
	_Atomic uint16_t config_vector;
	_Atomic uint16_t queue_vectors[VIRTIO_QUEUES_MAX];
	uint8_t generation;	  /* config_generation */
	uint32_t generation_seen; /* the device's, when the driver last read configuration */
};

struct virtio_pci {
	struct pci_function function;
	struct msix msix;
	struct virtio_pci_registers registers;
	struct virtio_device *device; /* borrowed */
	struct doorbells *doorbells;  /* borrowed */
	uint32_t msix_capability, access_capability;
};

extern const struct state_desc virtio_pci_state; /* of struct virtio_pci: its registers */
/* Its tables: configuration space, MSI-X, the registers. */
#define VIRTIO_PCI_STATES 3
uint32_t virtio_pci_parts(struct virtio_pci *pci, struct state_part parts[VIRTIO_PCI_STATES]);

/* pci_bus_add(bus, &pci->function, ...) makes it seen. `doorbells` NULL: kicks come as accesses. */
int virtio_pci_init(struct virtio_pci *pci, struct virtio_device *device,
		    struct msi_controller *controller, struct doorbells *doorbells,
		    struct error *e);
/* Off the bus, the device's queues stopped. Accepts a zeroed one. */
void virtio_pci_finish(struct virtio_pci *pci);

#endif
