/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot that is read while its pages are still written, by the writer's side; snapshot_writer_publish() has the order, load_early.c the readers.
 *
 *	memory	the pages' part, the trailer, then a byte for each chunk (enum early_mark). A chunk is written first and marked afterwards,
 *		each by a system call of its own, so whoever reads the mark finds the bytes
 *	asks	a FIFO to which readers write numbers of chunks, 32 bits each, that they wait for
 *
 * That the writer lives is a lock on `memory` (F_OFD_SETLK, for writing) which goes with its last descriptor, however it ends. Who may only read
 * the file can neither hold such a lock nor keep the writer's. The writer maps nothing of the files, so that nobody can shorten them under it.
 *
 * Numbers from readers are hostile: each is compared with what there is, counts once, and changes the order of what is written only. Between two chunks
 * ASKS_AT_ONCE are read; a reader that fills the FIFO, or writes half a number, hides those of others, who then wait until it is their
 * turn.
 *
 * The writer's thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/cleanup.h"
#include "vmm/freezer.h"

#define ASKS_AT_ONCE 64

static int not_here(const struct snapshot_writer *w, int sys, const char *what, struct error *e)
{
	return error_set_sys(e, ERROR_NOT_SUPPORTED, sys,
			     "a snapshot in '%s' that is read early: %s", w->place.shown, what);
}

static int make_asks(struct snapshot_writer *w, struct error *e)
{
	if (w->place.inside < 0 || w->diff || w->packed) {
		return not_here(w, EINVAL, "it is full, in a directory, not compressed", e);
	}
	if (mknodat(w->place.inside, EARLY_ASKS, S_IFIFO | 0600, 0) < 0) {
		return not_here(w, errno, "a FIFO", e);
	}
	w->asks = openat(w->place.inside, EARLY_ASKS, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	return w->asks >= 0 ? 0 : not_here(w, errno, "a FIFO", e);
}

static int lock_memory(const struct snapshot_writer *w, struct error *e)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(w->place.memory, F_OFD_SETLK, &lock) == 0 ? 0
							       : not_here(w, errno, "a lock", e);
}

int early_prepare(struct snapshot_writer *w, struct error *e)
{
	int r = make_asks(w, e);

	r = r == 0 ? lock_memory(w, e) : r;
	if (r == 0) {
		w->asked = calloc(w->chunk_count / 64 + 1, sizeof(*w->asked));
		r = w->asked != NULL ? 0 : not_here(w, ENOMEM, "a list of chunks", e);
	}
	if (r == 0 && ftruncate(w->place.memory, (off_t)early_size(&w->layout)) < 0) {
		r = not_here(w, errno, "room", e);
	}
	if (r < 0 && w->asks >= 0) {
		close_fd(&w->asks);
		(void)unlinkat(w->place.inside, EARLY_ASKS, 0);
	}
	w->early = r == 0;
	w->sync = w->sync && !w->early;
	return r;
}

int early_mark(struct snapshot_writer *w, uint32_t chunk, bool written)
{
	const uint8_t mark = written ? EARLY_WRITTEN : EARLY_EMPTY;

	return file_write(w->place.memory, &mark, 1, early_mark_at(&w->layout, chunk));
}

void early_hear(struct snapshot_writer *w, struct freezer *freezer)
{
	uint32_t chunks[ASKS_AT_ONCE];
	const ssize_t n = read(w->asks, chunks, sizeof(chunks));

	for (ssize_t i = 0; i < n / (ssize_t)sizeof(chunks[0]); i++) {
		uint32_t region = 0;

		if (layout_chunk_pages(&w->layout, chunks[i], &region) != 0 &&
		    !page_is_set(w->asked, chunks[i])) {
			page_set(w->asked, chunks[i]);
			freezer_hurry(freezer, w->regions[region].index,
				      chunks[i] - (uint32_t)(w->layout.regions[region].offset /
							     SNAPSHOT_CHUNK));
		}
	}
}

bool early_writer_lives(int memory)
{
	struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET };

	return fcntl(memory, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}
