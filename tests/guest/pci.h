/* SPDX-License-Identifier: Apache-2.0 */
/* PCI configuration space by the ports, MSI-X, and virtio's registers over PCI (virtio 1.2, 4.1). */
#ifndef GUEST_PCI_H
#define GUEST_PCI_H

#include "virtio.h"

#define VIRTIO_VENDOR	   0x1af4U
#define VIRTIO_DEVICE_BASE 0x1040U
#define PCI_COMMAND	   0x04
#define PCI_COMMAND_MEMORY 2U
#define PCI_COMMAND_MASTER 4U
#define PCI_BAR0	   0x10
#define PCI_BAR1	   0x14
#define PCI_CAPABILITIES   0x34
#define PCI_CAP_VENDOR	   0x09
#define PCI_CAP_MSIX	   0x11

#define MSIX_CONTROL  2U /* in the capability */
#define MSIX_ENABLE   0x8000U
#define MSIX_MASK_ALL 0x4000U
#define MSIX_ENTRY    16U
#define NO_VECTOR     0xffffU

/* Whether there is a bus at all. */
bool pci_present(void);
/* 1, 2 or 4 bytes inside a double word. */
uint32_t pci_read(unsigned devfn, unsigned reg, unsigned size);
void pci_write(unsigned devfn, unsigned reg, unsigned size, uint32_t value);
/* The first capability of that id at or behind `from` (0: any); 0: there is none. */
unsigned pci_capability(unsigned devfn, unsigned id, unsigned from);
uint64_t pci_bar(unsigned devfn);
void pci_set_bar(unsigned devfn, uint64_t base);

/* Fills what virtio_find() fills, for the function at devfn, and turns it on. */
void virtio_pci_open(struct virtio *v, unsigned devfn);
uint32_t virtio_pci_read(const struct virtio *v, unsigned reg);
void virtio_pci_write(const struct virtio *v, unsigned reg, uint32_t value);
/* Entry of the MSI-X table: this CPU, vector v->vector, unmasked. */
void virtio_pci_open_vector(const struct virtio *v, unsigned entry);
/* MSI-X on, every event by entry 0. */
void virtio_pci_interrupts(struct virtio *v);

#endif
