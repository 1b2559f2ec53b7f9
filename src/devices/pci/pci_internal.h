/* SPDX-License-Identifier: Apache-2.0 */
/* Between the two files of vmm/pci.h. */
#ifndef VMM_SRC_PCI_INTERNAL_H
#define VMM_SRC_PCI_INTERNAL_H

#include "vmm/pci.h"

/* A register's value at power-on, and now. */
void pci_function_fix(struct pci_function *function, uint32_t offset, unsigned int size,
		      uint32_t value);
/* Where command register and BAR want the BAR: any value, 0: nowhere. Under the function's lock. */
gpa_t pci_function_wanted(const struct pci_function *function);
/* The guest's accesses: 1 to 4 bytes inside one double word of the 256 bytes. Take the lock. */
uint32_t pci_function_read(struct pci_function *function, uint32_t offset, unsigned int size);
void pci_function_write(struct pci_function *function, uint32_t offset, unsigned int size,
			uint32_t value);

#endif
