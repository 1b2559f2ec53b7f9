/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration space of a PCI function (PCI Local Bus 3.0 §6.1, §6.2, §6.7): bytes with a mask of
 * those bits that the guest may write. Everything else is fixed when the function is built; the
 * error bits of the status register, which a write of 1 would clear, are never set. Registers that
 * are more than memory are the business of ops->config_read and ops->config_written.
 *
 * Threads: vCPUs, under the function's lock. The guest controls offset, width and value, all of them
 * checked in pci_bus.c. Saved: the bytes; what is not writable has to be as this machine has it.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "pci_internal.h"
#include "vmm/bytes.h"
#include "vmm/cleanup.h"

static const struct state_field config_fields[] = {
	STATE_BYTES(1, struct pci_config, bytes, 1),
	STATE_FIELD(2, struct pci_config, devfn, 1),
};

static int config_validate(const void *object, const void *owner, struct error *e)
{
	const struct pci_config *config = object, *here = owner;

	if (config->devfn != here->devfn) {
		return error_set(e, ERROR_STATE, EINVAL, "PCI function %02x.%u, and %02x.%u here",
				 config->devfn >> 3, config->devfn % 8U, here->devfn >> 3,
				 here->devfn % 8U);
	}
	for (uint32_t i = 0; i < PCI_CONFIG_SIZE; i++) {
		uint8_t differing = config->bytes[i] ^ config->power_on[i];

		if ((differing & ~config->writable[i]) != 0) {
			return error_set(e, ERROR_STATE, EINVAL,
					 "PCI configuration space: register 0x%02x is 0x%02x, and "
					 "0x%02x here",
					 i, config->bytes[i], config->power_on[i]);
		}
	}
	return 0;
}

const struct state_desc pci_config_state =
	STATE_DESC("pci-config", 1, struct pci_config, config_fields, .validate = config_validate);

uint32_t pci_config_get(const struct pci_function *function, uint32_t offset, unsigned int size)
{
	return (uint32_t)load_le(function->config.bytes + offset, size);
}

void pci_config_set(struct pci_function *function, uint32_t offset, unsigned int size,
		    uint32_t value)
{
	store_le(function->config.bytes + offset, value, size);
}

void pci_function_fix(struct pci_function *function, uint32_t offset, unsigned int size,
		      uint32_t value)
{
	pci_config_set(function, offset, size, value);
	store_le(function->config.power_on + offset, value, size);
}

void pci_make_writable(struct pci_function *function, uint32_t offset, unsigned int size,
		       uint32_t mask)
{
	store_le(function->config.writable + offset, mask, size);
}

void pci_function_init(struct pci_function *function, const struct pci_function_ops *ops,
		       const char *name, const struct pci_identity *identity, uint32_t bar_size)
{
	uint32_t command = PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE;

	VMM_BUG_ON((bar_size & (bar_size - 1)) != 0 || bar_size > PCI_BAR_SIZE_MAX);
	memset(function, 0, sizeof(*function));
	function->ops = ops;
	function->name = name;
	function->bar_size = bar_size;
	(void)pthread_mutex_init(&function->lock, NULL);
	pci_function_fix(function, PCI_VENDOR_ID, 2, identity->vendor);
	pci_function_fix(function, PCI_DEVICE_ID, 2, identity->device);
	pci_function_fix(function, PCI_CLASS_REVISION, 4,
			 identity->class_code << 8 | identity->revision);
	pci_function_fix(function, PCI_SUBSYSTEM_VENDOR_ID, 2, identity->subsystem_vendor);
	pci_function_fix(function, PCI_SUBSYSTEM_ID, 2, identity->subsystem);
	pci_make_writable(function, PCI_CACHE_LINE_SIZE, 2, 0xffff); /* and the latency timer */
	pci_make_writable(function, PCI_INTERRUPT_LINE, 1, 0xff);
	if (bar_size != 0) {
		command |= PCI_COMMAND_MEMORY;
		pci_function_fix(function, PCI_BASE_ADDRESS_0, 4, PCI_BASE_ADDRESS_MEM_TYPE_64);
		pci_make_writable(function, PCI_BASE_ADDRESS_0, 4,
				  ~(bar_size - 1) & (uint32_t)PCI_BASE_ADDRESS_MEM_MASK);
		pci_make_writable(function, PCI_BASE_ADDRESS_1, 4, UINT32_MAX);
	}
	pci_make_writable(function, PCI_COMMAND, 2, command);
	function->config.end = PCI_STD_HEADER_SIZEOF;
	function->config.last_link = PCI_CAPABILITY_LIST;
}

void pci_function_finish(struct pci_function *function)
{
	if (function->ops != NULL) {
		VMM_BUG_ON(function->bus != NULL);
		(void)pthread_mutex_destroy(&function->lock);
		function->ops = NULL;
	}
}

uint32_t pci_add_capability(struct pci_function *function, uint8_t id, const void *body, size_t len)
{
	struct pci_config *config = &function->config;
	uint32_t at = config->end;

	VMM_BUG_ON(len > PCI_CONFIG_SIZE - 2 - at);
	pci_function_fix(function, at + PCI_CAP_LIST_ID, 1, id);
	for (size_t i = 0; i < len; i++) {
		pci_function_fix(function, at + 2 + (uint32_t)i, 1, ((const uint8_t *)body)[i]);
	}
	pci_function_fix(function, config->last_link, 1, at);
	pci_function_fix(function, PCI_STATUS, 2, PCI_STATUS_CAP_LIST);
	config->last_link = at + PCI_CAP_LIST_NEXT;
	config->end = ALIGN_UP(at + 2 + (uint32_t)len, 4);
	return at;
}

gpa_t pci_function_wanted(const struct pci_function *function)
{
	uint64_t bar = pci_config_get(function, PCI_BASE_ADDRESS_0, 4) |
		       (uint64_t)pci_config_get(function, PCI_BASE_ADDRESS_1, 4) << 32;
	bool decodes = (pci_config_get(function, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY) != 0;

	return decodes ? bar & ~(uint64_t)~PCI_BASE_ADDRESS_MEM_MASK : 0;
}

uint32_t pci_function_read(struct pci_function *function, uint32_t offset, unsigned int size)
{
	SCOPED_LOCK(&function->lock);
	uint32_t value = pci_config_get(function, offset, size);

	return function->ops->config_read != NULL
		       ? function->ops->config_read(function, offset, size, value)
		       : value;
}

void pci_function_write(struct pci_function *function, uint32_t offset, unsigned int size,
			uint32_t value)
{
	struct pci_config *config = &function->config;

	SCOPED_LOCK(&function->lock);
	for (unsigned int i = 0; i < size; i++) {
		uint8_t writable = config->writable[offset + i];
		uint8_t byte = (uint8_t)(value >> 8 * i);

		config->bytes[offset + i] =
			(config->bytes[offset + i] & ~writable) | (byte & writable);
	}
	if (pci_touches(offset, size, PCI_COMMAND, 2) ||
	    pci_touches(offset, size, PCI_BASE_ADDRESS_0, 8)) {
		pci_function_loaded(function);
	}
	if (function->ops->config_written != NULL) {
		function->ops->config_written(function, offset, size);
	}
}
