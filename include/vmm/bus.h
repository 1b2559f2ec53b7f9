/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two address spaces that guest instructions reach us through: ports and MMIO. A bus is a
 * sorted table of disjoint windows, built before the first vCPU runs and immutable after it, so
 * lookups take no lock. Access runs on the vCPU's thread; a device that several vCPUs or a worker
 * can reach brings its own lock.
 *
 * The guest controls address, width (1, 2, 4, 8; ports: 1, 2, 4) and value. An access that no
 * window covers wholly reads as all ones and its write is dropped; an access never reaches a device
 * with offset + size beyond its window. The same for widths that no instruction has: KVM cuts
 * accesses at page borders into pieces of any size.
 */
#ifndef VMM_BUS_H
#define VMM_BUS_H

#include "vmm/error.h"
#include "vmm/types.h"

#define BUS_WINDOWS_MAX 64

struct bus_ops {
	/* `size` is 1, 2, 4 or 8. Returns the value; bits above `size` are ignored. Widths a device
	 * does not know: all ones. */
	uint64_t (*read)(void *device, uint64_t offset, unsigned int size);
	void (*write)(void *device, uint64_t offset, unsigned int size, uint64_t value);
};

struct bus_window {
	uint64_t base, len;
	const struct bus_ops *ops;
	void *device;
	const char *name;
};

struct bus {
	uint64_t limit; /* first address beyond the space: 0x10000 for ports, 0 for 2^64 */
	uint32_t count;
	struct bus_window windows[BUS_WINDOWS_MAX]; /* sorted by base */
};

void bus_init(struct bus *bus, uint64_t limit);
/* Refuses empty, wrapping or overlapping windows: ERROR_INTERNAL names both. */
int bus_add(struct bus *bus, uint64_t base, uint64_t len, const struct bus_ops *ops, void *device,
	    const char *name, struct error *e);
const struct bus_window *bus_find(const struct bus *bus, uint64_t addr, uint64_t len);
/* `data` holds `size` bytes, little-endian, as KVM gives them. False if nothing answers there
 * (reads are filled with 0xff). */
bool bus_read(const struct bus *bus, uint64_t addr, void *data, unsigned int size);
bool bus_write(const struct bus *bus, uint64_t addr, const void *data, unsigned int size);

/* What a read gives where nothing answers. */
static inline uint64_t bus_all_ones(unsigned int size)
{
	return size >= 8 ? UINT64_MAX : (UINT64_C(1) << (size * 8)) - 1;
}

#endif
