/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Write protection of chunks of guest memory, for a freezer (freezer.c), by its descriptor. Under its lock. The guest controls nothing here.
 */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>

#include "freezer_internal.h"
#include "vmm/log.h"

LOG_DOMAIN("memory");

uint64_t freezer_length(const struct frozen_region *r, uint32_t first, uint32_t n)
{
	return MIN((uint64_t)n * FREEZER_CHUNK, r->region->size - (uint64_t)first * FREEZER_CHUNK);
}

/* Or lifts it, which wakes whoever waits. 0 or a negative errno. */
int freezer_protect(const struct freezer *f, const struct frozen_region *r, uint32_t first,
		    uint32_t n, bool on)
{
	struct uffdio_writeprotect arg = {
		.range = { .start = (uintptr_t)r->region->host + (uint64_t)first * FREEZER_CHUNK,
			   .len = freezer_length(r, first, n) },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};
	int x;

	do {
		x = ioctl(f->fd, UFFDIO_WRITEPROTECT, &arg);
	} while (x != 0 && (errno == EAGAIN || errno == EINTR));
	return x == 0 ? 0 : -errno;
}

/* The kernel lifts protection with it, and forgets to wake those who wait for that. */
static int unregister_chunks(const struct freezer *f, const struct frozen_region *r, uint32_t first,
			     uint32_t n)
{
	struct uffdio_range range = {
		.start = (uintptr_t)r->region->host + (uint64_t)first * FREEZER_CHUNK,
		.len = freezer_length(r, first, n),
	};

	if (ioctl(f->fd, UFFDIO_UNREGISTER, &range) != 0) {
		return -errno;
	}
	return ioctl(f->fd, UFFDIO_WAKE, &range) == 0 ? 0 : -errno;
}

/* In pieces, because the lock of this process' mappings is held meanwhile; as a whole if there are too many mappings for that. */
void freezer_unregister(const struct freezer *f, struct frozen_region *r)
{
	int x = 0;

	if (!r->registered) {
		return;
	}
	for (uint32_t chunk = 0; x == 0 && chunk < r->count; chunk += FREEZER_PIECE) {
		x = unregister_chunks(f, r, chunk, MIN(FREEZER_PIECE, r->count - chunk));
	}
	x = x < 0 ? unregister_chunks(f, r, 0, r->count) : x;
	if (x < 0) {
		log_error("UFFDIO_UNREGISTER: %s", strerrordesc_np(-x));
	}
	r->registered = false;
	atomic_store(&r->region->held, false);
}
