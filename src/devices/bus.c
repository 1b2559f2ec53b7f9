/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: a bus is a sorted array of disjoint windows. It is filled on the main thread
 * before the first vCPU runs and only read afterwards, so look-ups are a binary search without a
 * lock.
 *
 * The guest controls address, width and value. Nothing of it is saved: the machine's configuration
 * rebuilds it.
 */
#include "vmm/bus.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "vmm/bytes.h"
#include "vmm/overflow.h"

void bus_init(struct bus *bus, uint64_t limit)
{
	memset(bus, 0, sizeof(*bus));
	bus->limit = limit;
}

/* The number of windows that start at or below `addr`. */
static uint32_t windows_from(const struct bus *bus, uint64_t addr)
{
	uint32_t low = 0, high = bus->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (bus->windows[middle].base <= addr) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return low;
}

static int refuse_overlap(struct error *e, const struct bus_window *old, uint64_t base,
			  uint64_t len, const char *name)
{
	return error_set(e, ERROR_INTERNAL, EEXIST,
			 "bus window '%s' at 0x%" PRIx64 "+0x%" PRIx64
			 ": overlaps '%s' at 0x%" PRIx64 "+0x%" PRIx64,
			 name, base, len, old->name, old->base, old->len);
}

int bus_add(struct bus *bus, uint64_t base, uint64_t len, const struct bus_ops *ops, void *device,
	    const char *name, struct error *e)
{
	/* A limit of 0 stands for 2^64 and wraps to the last address. */
	uint64_t last_in_space = bus->limit - 1;
	uint32_t at = windows_from(bus, base);

	if (len == 0 || base > last_in_space || len - 1 > last_in_space - base) {
		return error_set(e, ERROR_INTERNAL, EINVAL,
				 "bus window '%s' at 0x%" PRIx64 "+0x%" PRIx64
				 ": empty or beyond 0x%" PRIx64,
				 name, base, len, last_in_space);
	}
	if (at > 0 && base - bus->windows[at - 1].base < bus->windows[at - 1].len) {
		return refuse_overlap(e, &bus->windows[at - 1], base, len, name);
	}
	if (at < bus->count && bus->windows[at].base - base < len) {
		return refuse_overlap(e, &bus->windows[at], base, len, name);
	}
	if (bus->count == BUS_WINDOWS_MAX) {
		return error_set(e, ERROR_INTERNAL, ENOSPC, "bus window '%s': all %d are taken",
				 name, BUS_WINDOWS_MAX);
	}
	memmove(&bus->windows[at + 1], &bus->windows[at],
		(bus->count - at) * sizeof(bus->windows[0]));
	bus->windows[at] = (struct bus_window){
		.base = base, .len = len, .ops = ops, .device = device, .name = name
	};
	bus->count++;
	return 0;
}

const struct bus_window *bus_find(const struct bus *bus, uint64_t addr, uint64_t len)
{
	uint32_t at = windows_from(bus, addr);
	const struct bus_window *window;

	if (at == 0) {
		return NULL;
	}
	window = &bus->windows[at - 1];
	if (addr - window->base >= window->len ||
	    !range_within(addr - window->base, len, window->len)) {
		return NULL;
	}
	return window;
}

/* KVM cuts accesses at page borders, so that odd sizes arrive too: devices never see those. */
static bool width_is_known(unsigned int size)
{
	return size == 1 || size == 2 || size == 4 || size == 8;
}

bool bus_read(const struct bus *bus, uint64_t addr, void *data, unsigned int size)
{
	const struct bus_window *window = width_is_known(size) ? bus_find(bus, addr, size) : NULL;

	if (window == NULL || window->ops->read == NULL) {
		memset(data, 0xff, size);
		return false;
	}
	store_le(data, window->ops->read(window->device, addr - window->base, size), size);
	return true;
}

bool bus_write(const struct bus *bus, uint64_t addr, const void *data, unsigned int size)
{
	const struct bus_window *window = width_is_known(size) ? bus_find(bus, addr, size) : NULL;

	if (window == NULL || window->ops->write == NULL) {
		return false;
	}
	window->ops->write(window->device, addr - window->base, size, load_le(data, size));
	return true;
}
