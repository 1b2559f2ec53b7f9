/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The saved state of many objects in one buffer: each has an id, a kind and its tables
 * (vmm/state.h). Objects are found by their ids, whatever their order.
 *
 * Loading is all or nothing: everything is decoded into copies and found valid before any object
 * changes, and what was there before can be put back.
 *
 *	state_set_read(entries, count, data, len, &reading, e)	nothing has changed
 *	state_set_exchange(&reading)				the objects have what was read
 *	state_set_exchange(&reading)				if something else failed: as before
 *	state_set_finish(&reading)
 *
 * Encoding, little-endian, no padding; a string is u16 length and bytes:
 *
 *	set   = entry*
 *	entry = u32 length of what follows, string id, string kind, u16 count, part*
 *	part  = string name, u16 version, u32 length, section	(vmm/state.h)
 *
 * Input comes from files and peers. Objects are quiesced. Any thread that owns them.
 */
#ifndef VMM_STATE_SET_H
#define VMM_STATE_SET_H

#include "vmm/state.h"

/* A virtio device on PCI: itself, its type, 17 queues, and three of its transport. */
#define STATE_PARTS_MAX 22
#define STATE_ID_MAX	1024

struct state_entry {
	const char *id, *kind; /* borrowed; up to STATE_ID_MAX bytes */
	uint32_t count;
	struct state_part parts[STATE_PARTS_MAX];
};

/* Appends all; on failure `buf` ends where it did. */
int state_set_save(const struct state_entry *entries, size_t count, struct state_buf *buf,
		   struct error *e);

struct state_reading {
	const struct state_entry *entries; /* borrowed */
	size_t count;
	void **decoded; /* STATE_PARTS_MAX for each entry; NULL: none */
};

/*
 * Decodes exactly `len` bytes: each entry once, of its kind, with all of its tables, and nothing else.
 * ERROR_STATE names the object and what is wrong with it; `reading` is empty then.
 */
int state_set_read(const struct state_entry *entries, size_t count, const uint8_t *data, size_t len,
		   struct state_reading *reading, struct error *e);
/* What was read for what the objects have, and back; then every table's post_load(), in order. */
void state_set_exchange(struct state_reading *reading);
/* Accepts an empty one. */
void state_set_finish(struct state_reading *reading);

#endif
