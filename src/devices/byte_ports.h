/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices whose registers are one byte wide. As on an ISA bus, a wider access becomes one access
 * per byte, lowest address first. The bus has already checked that offset + size lies inside the
 * window.
 */
#ifndef DEVICES_BYTE_PORTS_H
#define DEVICES_BYTE_PORTS_H

#include "vmm/types.h"

static inline uint64_t byte_ports_read(uint8_t (*read)(void *device, uint64_t offset), void *device,
				       uint64_t offset, unsigned int size)
{
	uint64_t value = 0;

	for (unsigned int i = 0; i < size; i++) {
		value |= (uint64_t)read(device, offset + i) << (8 * i);
	}
	return value;
}

static inline void byte_ports_write(void (*write)(void *device, uint64_t offset, uint8_t value),
				    void *device, uint64_t offset, unsigned int size,
				    uint64_t value)
{
	for (unsigned int i = 0; i < size; i++) {
		write(device, offset + i, (uint8_t)(value >> (8 * i)));
	}
}

#endif
