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
#include "vmm/freezer.h"

#define ASKS_AT_ONCE 64

static int open_asks(struct snapshot_writer *w, struct error *e)
{
	if (w->place.inside < 0 || w->diff || w->packed) {
		return error_set(e, ERROR_SNAPSHOT, EINVAL,
				 "snapshot '%s': only a full one in a directory, which is not "
				 "compressed, can be read early",
				 w->place.shown);
	}
	if (mknodat(w->place.inside, EARLY_ASKS, S_IFIFO | 0600, 0) < 0) {
		return file_error(e, errno, "make", w->place.shown);
	}
	w->asks = openat(w->place.inside, EARLY_ASKS, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	return w->asks >= 0 ? 0 : file_error(e, errno, "open", w->place.shown);
}

int early_prepare(struct snapshot_writer *w, struct error *e)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int r = open_asks(w, e);

	if (r < 0) {
		return r;
	}
	w->asked = calloc(w->chunk_count / 64 + 1, sizeof(*w->asked));
	if (w->asked == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "snapshot '%s'", w->place.shown);
	}
	if (fcntl(w->place.memory, F_OFD_SETLK, &lock) < 0) {
		return file_error(e, errno, "lock", w->place.memory_shown);
	}
	if (ftruncate(w->place.memory, (off_t)early_size(&w->layout)) < 0) {
		return file_error(e, errno, "make room in", w->place.memory_shown);
	}
	return 0;
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
