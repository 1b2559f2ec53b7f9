/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The overlay's file: its header, the states of its blocks, and what is to be found out about them when the file is opened
 * after a crash. cow.h has the layout, cow.c the argument.
 *
 * Opening, closing, giving away and taking back: main before its sandbox, or the machine thread; there are no workers then, or
 * they hold still, but the lock is held where the functions ask for it. The file is hostile. Where everything in it lies follows from the base's size and the block size
 * alone, so a header can lie about nothing else than these, and states about nothing else than blocks that the base has.
 */
#include "cow.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/bytes.h"
#include "vmm/cleanup.h"
#include "vmm/crc32c.h"

/* Places in the header. */
#define AT_VERSION    8
#define AT_CRC	      12
#define AT_BLOCK_SIZE 16
#define AT_FLAGS      20
#define AT_SIZE	      24
#define AT_SECONDS    32
#define AT_NS	      40
#define AT_SAMPLE     44
#define AT_SEED	      48
#define AT_PATH	      64

#define LOW_BITS UINT64_C(0x5555555555555555)

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	       "states are written as they lie in memory");

/* --- states ------------------------------------------------------------------------------------- */

void cow_publish(struct cow_disk *disk, uint64_t block)
{
	(void)atomic_fetch_or_explicit(&disk->present[block / 64], UINT64_C(1) << block % 64,
				       memory_order_release);
}

enum cow_state cow_get_state(const struct cow_disk *disk, uint64_t block)
{
	return (enum cow_state)(
		disk->states[block / COW_PER_WORD] >> (block % COW_PER_WORD * COW_STATE_BITS) & 3);
}

void cow_set_state(struct cow_disk *disk, uint64_t block, enum cow_state state)
{
	uint64_t *word = &disk->states[block / COW_PER_WORD];
	uint32_t shift = (uint32_t)(block % COW_PER_WORD) * COW_STATE_BITS;

	*word = (*word & ~(UINT64_C(3) << shift)) | (uint64_t)state << shift;
}

uint64_t cow_find(const struct cow_disk *disk, uint64_t block, uint64_t end, uint32_t states)
{
	while (block < end) {
		if (block % COW_PER_WORD == 0 && (states & 1U << COW_ABSENT) == 0 &&
		    disk->states[block / COW_PER_WORD] == 0) {
			block += COW_PER_WORD;
		} else if ((states >> cow_get_state(disk, block) & 1) != 0) {
			return block;
		} else {
			block++;
		}
	}
	return end;
}

/* Blocking, any part of the file. */
static int put(struct raw *overlay, uint64_t offset, const void *bytes, uint64_t len)
{
	const struct iovec iov = { (void *)(uintptr_t)bytes, len };
	struct block_request req = {
		.op = BLOCK_WRITE, .offset = offset, .len = len, .iov = &iov, .iov_count = 1
	};

	return raw_transfer(overlay, &req);
}

static int get(struct raw *overlay, uint64_t offset, void *bytes, uint64_t len)
{
	const struct iovec iov = { bytes, len };
	struct block_request req = {
		.op = BLOCK_READ, .offset = offset, .len = len, .iov = &iov, .iov_count = 1
	};

	return raw_transfer(overlay, &req);
}

int cow_put_states(const struct cow_disk *disk, struct raw *overlay, uint64_t first, uint64_t end)
{
	uint64_t word = first / COW_PER_WORD;
	uint64_t words = (end - 1) / COW_PER_WORD + 1 - word;

	return put(overlay, disk->states_at + word * sizeof(uint64_t), disk->states + word,
		   words * sizeof(uint64_t));
}

/* The host tells of lost data once: whoever hears it says so to all who flush later. */
int cow_sync(struct cow_disk *disk, struct raw *overlay)
{
	int r = raw_sync(overlay);

	if (r < 0) {
		overlay->sync_failed = true;
		disk->sync_owed = true;
	}
	return r;
}

int cow_begin(struct cow_disk *disk, struct raw *overlay)
{
	static const uint8_t none[COW_MARK_SIZE];
	int r;

	disk->begun = true;
	if (!disk->clean) {
		return 0;
	}
	r = put(overlay, disk->mark_at, none, sizeof(none));
	if (r == 0) {
		r = cow_sync(disk, overlay);
	}
	disk->clean = r != 0;
	return r;
}

/* --- the header --------------------------------------------------------------------------------- */

/* Of the page without the checksum itself. */
static uint32_t header_checksum(const uint8_t page[COW_PAGE])
{
	uint32_t crc = crc32c(0, page, AT_CRC);

	return crc32c(crc, page + AT_BLOCK_SIZE, COW_PAGE - AT_BLOCK_SIZE);
}

void cow_header_encode(const struct cow_header *header, uint8_t page[COW_PAGE])
{
	memset(page, 0, COW_PAGE);
	memcpy(page, COW_MAGIC, sizeof(COW_MAGIC));
	store_le32(page + AT_VERSION, COW_VERSION);
	store_le32(page + AT_BLOCK_SIZE, header->block_size);
	store_le32(page + AT_FLAGS, header->base.is_device ? 1 : 0);
	store_le64(page + AT_SIZE, header->base.size);
	store_le64(page + AT_SECONDS, (uint64_t)header->base.mtime_s);
	store_le32(page + AT_NS, header->base.mtime_ns);
	store_le32(page + AT_SAMPLE, header->base.sample);
	store_le64(page + AT_SEED, header->base.seed);
	memcpy(page + AT_PATH, header->path, strnlen(header->path, COW_HEADER_PATH - 1));
	store_le32(page + AT_CRC, header_checksum(page));
}

static int damaged(const char *path, const char *what, struct error *e)
{
	(void)error_set(e, ERROR_DISK, EINVAL, "overlay '%s' is damaged: %s", path, what);
	return error_hint(e, "nothing was changed; a path where no file is gets a new overlay");
}

int cow_header_decode(struct cow_header *ret, const uint8_t page[COW_PAGE], const char *path,
		      struct error *e)
{
	uint32_t version = load_le32(page + AT_VERSION);
	struct cow_header header = { .block_size = load_le32(page + AT_BLOCK_SIZE) };
	uint32_t flags = load_le32(page + AT_FLAGS);

	if (memcmp(page, COW_MAGIC, sizeof(COW_MAGIC)) != 0) {
		(void)error_set(e, ERROR_DISK, EINVAL,
				"'%s' is no overlay: it has something else in it, or its end is "
				"missing",
				path);
		return error_hint(e, "overlay=FILE is made if it is not there, or empty");
	}
	if (version != COW_VERSION) {
		return error_set(e, ERROR_NOT_SUPPORTED, ENOTSUP,
				 "overlay '%s' has format %u, and this version knows %d", path,
				 version, COW_VERSION);
	}
	if (load_le32(page + AT_CRC) != header_checksum(page)) {
		return damaged(path, "the checksum of its header does not fit", e);
	}
	header.base.is_device = (flags & 1) != 0;
	header.base.size = load_le64(page + AT_SIZE);
	header.base.mtime_s = (int64_t)load_le64(page + AT_SECONDS);
	header.base.mtime_ns = load_le32(page + AT_NS);
	header.base.sample = load_le32(page + AT_SAMPLE);
	header.base.seed = load_le64(page + AT_SEED);
	memcpy(header.path, page + AT_PATH, COW_HEADER_PATH);
	if (header.block_size < COW_BLOCK_MIN || header.block_size > COW_BLOCK_MAX ||
	    (header.block_size & (header.block_size - 1)) != 0 ||
	    (flags & ~(uint32_t)COW_HEADER_FLAGS) != 0 || header.base.mtime_ns >= 1000000000 ||
	    memchr(header.path, '\0', COW_HEADER_PATH) == NULL) {
		return damaged(path, "its header has values that no version writes", e);
	}
	for (char *c = header.path; *c != '\0'; c++) {
		if ((uint8_t)*c < 0x20 || *c == 0x7f) {
			*c = '?';
		}
	}
	*ret = header;
	return 0;
}

/* --- opening ------------------------------------------------------------------------------------ */

static uint64_t base_size(const struct raw *base)
{
	return base->block.capacity + base->block.tail;
}

/* A power of two, so that the file system keeps account of each block by itself, and states stay small. */
static int choose_block_size(uint32_t *ret, uint64_t preferred, uint64_t size, struct error *e)
{
	uint64_t block = COW_BLOCK_MIN;

	while (block < COW_BLOCK_MAX && (block < preferred || size / block >= COW_BLOCKS_MAX)) {
		block *= 2;
	}
	if (size / block >= COW_BLOCKS_MAX) {
		return error_set(e, ERROR_NOT_SUPPORTED, EFBIG,
				 "an overlay over a base of %llu bytes: less than 16T work",
				 (unsigned long long)size);
	}
	*ret = (uint32_t)block;
	return 0;
}

static void lay_out(struct cow_disk *disk, uint64_t size, uint32_t block_size)
{
	uint64_t words;

	disk->block_shift = (uint32_t)__builtin_ctz(block_size);
	disk->size = size;
	disk->states_at = ALIGN_UP(size, (uint64_t)block_size);
	disk->blocks = disk->states_at >> disk->block_shift;
	words = (disk->blocks + COW_PER_WORD - 1) / COW_PER_WORD;
	disk->mark_at = ALIGN_UP(disk->states_at + words * sizeof(uint64_t), (uint64_t)COW_PAGE);
	disk->header_at = disk->mark_at + COW_PAGE;
}

/*
 * A file that has no byte of data (new, or of whatever size) becomes an overlay by one write at its end: somebody who is
 * killed here leaves a file that is still without data, or an overlay. It has no mark, so its first block needs no sync.
 */
static int make(struct cow_disk *disk, struct raw *overlay, const struct raw *base,
		const struct block_config *config, const struct stat *st, struct error *e)
{
	struct cow_header header = { 0 };
	uint8_t page[COW_PAGE];
	uint32_t block_size = 0;
	int r = choose_block_size(&block_size, (uint64_t)st->st_blksize, base_size(base), e);

	if (r < 0) {
		return r;
	}
	lay_out(disk, base_size(base), block_size);
	if ((uint64_t)st->st_size > disk->header_at + COW_PAGE) {
		(void)error_set(e, ERROR_DISK, EINVAL,
				"'%s' is empty and has %llu bytes, more than an overlay over '%s'",
				config->overlay, (unsigned long long)st->st_size, config->path);
		return error_hint(e, "remove it: overlay=FILE is made if it is not there");
	}
	r = disk_witness_take(&header.base, base->fd, disk->size, config->path, NULL, e);
	if (r < 0) {
		return r;
	}
	header.block_size = block_size;
	(void)snprintf(header.path, sizeof(header.path), "%s", config->path);
	cow_header_encode(&header, page);
	disk->base = header.base;
	r = put(overlay, disk->header_at, page, sizeof(page));
	if (r < 0) {
		(void)error_set_sys(e, ERROR_DISK, -r, "make overlay '%s' (%llu bytes, sparse)",
				    config->overlay,
				    (unsigned long long)disk->header_at + COW_PAGE);
	}
	return r;
}

static int compare_base(const struct cow_header *header, const struct disk_witness *now,
			const struct raw *overlay, const struct raw *base, struct error *e)
{
	int r = disk_witness_compare(&header->base, now, base->path, e);

	if (r < 0) {
		(void)error_prefix(e, "overlay '%s' was made over '%.128s', and its base",
				   overlay->path, header->path);
	}
	return r;
}

static int check_base(const struct cow_header *header, const struct raw *overlay,
		      const struct raw *base, struct error *e)
{
	struct disk_witness now;
	int r = disk_witness_take(&now, base->fd, base_size(base), base->path, &header->base, e);

	return r == 0 ? compare_base(header, &now, overlay, base, e) : r;
}

/* The last page of a file of `size` bytes. */
static int read_header(struct cow_header *ret, struct raw *overlay, uint64_t size, struct error *e)
{
	uint8_t page[COW_PAGE] = { 0 };
	int r = size >= COW_PAGE ? get(overlay, size - COW_PAGE, page, sizeof(page)) : 0;

	if (r < 0) {
		return error_set_sys(e, ERROR_DISK, -r, "read overlay '%s'", overlay->path);
	}
	return cow_header_decode(ret, page, overlay->path, e);
}

static int check(struct cow_disk *disk, struct raw *overlay, const struct raw *base,
		 const struct stat *st, struct error *e)
{
	struct cow_header header = { .block_size = COW_BLOCK_MIN };
	int r = read_header(&header, overlay, (uint64_t)st->st_size, e);

	if (r == 0) {
		r = check_base(&header, overlay, base, e);
	}
	if (r < 0) {
		return r;
	}
	disk->base = header.base;
	lay_out(disk, base_size(base), header.block_size);
	if (disk->blocks > COW_BLOCKS_MAX || (uint64_t)st->st_size != disk->header_at + COW_PAGE) {
		return damaged(overlay->path, "its length does not fit its header", e);
	}
	return 0;
}

/* Where data or a hole begins at or behind `offset`; at most `end`. A file system that does not know says that all is
 * data. */
static int64_t seek(const struct raw *overlay, uint64_t offset, int whence, uint64_t end)
{
	off_t at = lseek(overlay->fd, (off_t)offset, whence);

	if (at < 0 && errno == ENXIO) {
		return (int64_t)end;
	}
	if (at < 0 && errno == EINVAL) {
		return (int64_t)(whence == SEEK_DATA ? offset : end);
	}
	return at < 0 ? -errno : (int64_t)MIN((uint64_t)at, end);
}

static int check_word(const struct cow_disk *disk, uint64_t word, const char *path, struct error *e)
{
	uint64_t value = disk->states[word];
	uint64_t left = disk->blocks - word * COW_PER_WORD;

	if ((value & value >> 1 & LOW_BITS) != 0 ||
	    (left < COW_PER_WORD && value >> (left * COW_STATE_BITS) != 0)) {
		return damaged(path, "blocks are in states that there are not", e);
	}
	return 0;
}

/* The states that the file has. What is a hole there is ABSENT, and takes no memory. */
static int load_states(struct cow_disk *disk, struct raw *overlay, const char *path,
		       struct error *e)
{
	const uint64_t end = disk->mark_at;
	const uint64_t words = (disk->blocks + COW_PER_WORD - 1) / COW_PER_WORD;
	uint64_t pos = disk->states_at;

	while (pos < end) {
		int64_t data = seek(overlay, pos, SEEK_DATA, end), hole;
		int r = data < 0 ? (int)data : 0;

		if (data == (int64_t)end) {
			break;
		}
		hole = r == 0 ? seek(overlay, (uint64_t)data, SEEK_HOLE, end) : 0;
		r = hole < 0 ? (int)hole : r;
		if (r == 0) {
			uint64_t from = ALIGN_DOWN((uint64_t)data - disk->states_at, 8ULL) / 8;
			uint64_t to = MIN(((uint64_t)hole - disk->states_at + 7) / 8, words);

			r = from < to ? get(overlay, disk->states_at + from * 8,
					    disk->states + from, (to - from) * 8)
				      : 0;
			for (; r == 0 && from < to; from++) {
				int bad = check_word(disk, from, path, e);

				if (bad < 0) {
					return bad;
				}
			}
		}
		if (r < 0) {
			return error_set_sys(e, ERROR_DISK, -r, "read overlay '%s'", path);
		}
		pos = MAX((uint64_t)hole, pos + 1);
	}
	return 0;
}

/* What an opening after a crash has found. */
struct recovery {
	struct cow_disk *disk;
	struct raw *overlay;
	bool changed; /* something that must be stable before the first write */
};

/* The block's bytes in the overlay are nobody's. */
static int clear_block(struct recovery *recovery, uint64_t first, uint64_t end)
{
	const struct cow_disk *disk = recovery->disk;
	struct raw *overlay = recovery->overlay;
	struct block_request req = {
		.op = BLOCK_DISCARD,
		.offset = first << disk->block_shift,
		.len = (end - first) << disk->block_shift,
	};

	recovery->changed = true;
	return raw_deallocate(overlay, &req);
}

/* No data in [from, to): what was written last of the blocks there has never arrived. */
static int recover_hole(struct recovery *recovery, uint64_t from, uint64_t to)
{
	struct cow_disk *disk = recovery->disk;
	uint64_t end = (to + cow_block_size(disk) - 1) >> disk->block_shift;
	uint64_t block = from >> disk->block_shift;
	int r = 0;

	while (r == 0 && (block = cow_find(disk, block, end, 1U << COW_FRESH)) < end) {
		cow_set_state(disk, block, COW_ABSENT);
		r = clear_block(recovery, block, block + 1);
		if (r == 0) {
			r = cow_put_states(disk, recovery->overlay, block, block + 1);
		}
		block++;
	}
	return r;
}

/* Data in [from, to), which of absent blocks is that of a write that had not got as far as its state. */
static int recover_data(struct recovery *recovery, uint64_t from, uint64_t to)
{
	struct cow_disk *disk = recovery->disk;
	uint64_t end = (to + cow_block_size(disk) - 1) >> disk->block_shift;
	uint64_t block = from >> disk->block_shift;
	int r = 0;

	while (r == 0 && (block = cow_find(disk, block, end, 1U << COW_ABSENT)) < end) {
		uint64_t next = cow_find(disk, block, end, 1U << COW_FRESH | 1U << COW_SETTLED);

		r = clear_block(recovery, block, next);
		block = next;
	}
	return r;
}

/*
 * After a crash: fresh blocks are kept where the file has all of their data, and data without a state goes. Afterwards no
 * absent block has data, which later crashes rely on, so what was taken away is stable before anything is written.
 */
static int recover(struct cow_disk *disk, struct raw *overlay, const char *path, struct error *e)
{
	struct recovery recovery = { .disk = disk, .overlay = overlay };
	uint64_t pos = 0;
	int r = 0;

	while (r == 0 && pos < disk->size) {
		int64_t data = seek(overlay, pos, SEEK_DATA, disk->size), hole;

		r = data < 0 ? (int)data
			     : (pos < (uint64_t)data ? recover_hole(&recovery, pos, (uint64_t)data)
						     : 0);
		if (r < 0 || (uint64_t)data == disk->size) {
			break;
		}
		hole = seek(overlay, (uint64_t)data, SEEK_HOLE, disk->size);
		r = hole < 0 ? (int)hole : recover_data(&recovery, (uint64_t)data, (uint64_t)hole);
		pos = MAX((uint64_t)hole, (uint64_t)data + 1);
	}
	if (r == 0 && recovery.changed) {
		r = raw_sync(overlay);
	}
	return r == 0 ? 0
		      : error_set_sys(e, ERROR_DISK, -r,
				      "overlay '%s' was not closed, and cannot be mended", path);
}

static void publish_all(struct cow_disk *disk)
{
	const uint32_t there = 1U << COW_FRESH | 1U << COW_SETTLED;

	for (uint64_t block = 0;
	     (block = cow_find(disk, block, disk->blocks, there)) < disk->blocks; block++) {
		cow_publish(disk, block);
	}
}

static void destroy(struct cow_disk *disk)
{
	(void)pthread_mutex_destroy(&disk->lock);
	free(disk->states);
	free(disk->present);
	free(disk);
}

/* Everything but the header, from a file that is ours. */
static int read_account(struct cow_disk *disk, struct raw *overlay, struct error *e)
{
	const char *path = overlay->path;
	uint8_t mark[COW_MARK_SIZE] = { 0 };
	int r = get(overlay, disk->mark_at, mark, sizeof(mark));

	if (r < 0) {
		return error_set_sys(e, ERROR_DISK, -r, "read overlay '%s'", path);
	}
	disk->clean = memcmp(mark, COW_CLEAN, COW_MARK_SIZE) == 0;
	disk->begun = disk->sync_owed = false;
	/* Anew: what is never touched takes no memory. */
	free(disk->states);
	free(disk->present);
	disk->states =
		calloc((disk->blocks + COW_PER_WORD - 1) / COW_PER_WORD + 1, sizeof(*disk->states));
	disk->present = calloc(disk->blocks / 64 + 1, sizeof(*disk->present));
	if (disk->states == NULL || disk->present == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "overlay '%s'", path);
	}
	r = load_states(disk, overlay, path, e);
	if (r == 0 &&
	    (!disk->clean || cow_find(disk, 0, disk->blocks, 1U << COW_FRESH) < disk->blocks)) {
		disk->clean = false;
		r = recover(disk, overlay, path, e);
	}
	if (r == 0) {
		publish_all(disk);
	}
	return r;
}

static int open_file(struct cow_disk *disk, struct raw *overlay, const struct raw *base,
		     const struct block_config *config, struct error *e)
{
	struct stat st;
	bool fresh;
	int r;

	if (fstat(overlay->fd, &st) != 0) {
		return error_set_sys(e, ERROR_DISK, errno, "stat '%s'", config->overlay);
	}
	fresh = lseek(overlay->fd, 0, SEEK_DATA) < 0 && errno == ENXIO;
	r = fresh && !config->lock_later ? make(disk, overlay, base, config, &st, e)
					 : check(disk, overlay, base, &st, e);
	return r == 0 && !config->lock_later ? read_account(disk, overlay, e) : r;
}

/* The header never changes once it is there, so one that is another is that of another overlay. Of the base the samples were
 * compared when it was opened, so its time and size say the rest. */
static int check_again(const struct cow_disk *disk, struct raw *overlay, const struct raw *base,
		       struct error *e)
{
	struct cow_header header = { .block_size = COW_BLOCK_MIN };
	struct disk_witness now = disk->base;
	struct stat st;
	int r = read_header(&header, overlay, disk->header_at + COW_PAGE, e);

	if (r < 0) {
		return r;
	}
	if (header.block_size != cow_block_size(disk) || header.base.seed != disk->base.seed ||
	    header.base.sample != disk->base.sample) {
		return error_set(e, ERROR_DISK, ESTALE,
				 "'%s' is not what it was when it was opened: another overlay was "
				 "made in its place",
				 overlay->path);
	}
	if (fstat(base->fd, &st) != 0) {
		return error_set_sys(e, ERROR_DISK, errno, "stat '%s'", base->path);
	}
	if (!now.is_device) {
		now.mtime_s = st.st_mtim.tv_sec;
		now.mtime_ns = (uint32_t)st.st_mtim.tv_nsec;
	}
	return compare_base(&header, &now, overlay, base, e);
}

int cow_disk_read(struct cow_disk *disk, struct raw *overlay, const struct raw *base,
		  struct error *e)
{
	SCOPED_LOCK(&disk->lock);
	int r = check_again(disk, overlay, base, e);

	return r == 0 ? read_account(disk, overlay, e) : r;
}

int cow_disk_open(struct cow_disk **ret, struct raw *overlay, const struct raw *base,
		  const struct block_config *config, struct error *e)
{
	struct cow_disk *disk = calloc(1, sizeof(*disk));
	int r;

	if (disk == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "overlay '%s'", config->overlay);
	}
	(void)pthread_mutex_init(&disk->lock, NULL);
	disk->unsafe = config->cache == BLOCK_CACHE_UNSAFE;
	{
		SCOPED_LOCK(&disk->lock);
		r = open_file(disk, overlay, base, config, e);
	}
	if (r < 0) {
		destroy(disk);
		return r;
	}
	*ret = disk;
	return 0;
}

/* --- closing, giving away ------------------------------------------------------------------------ */

/* All that is in the overlay is stable, and says so without the file system's help. */
static int settle(struct cow_disk *disk, struct raw *overlay)
{
	uint64_t block = 0;
	int r = overlay->sync_failed || disk->sync_owed ? -EIO : cow_sync(disk, overlay);

	while (r == 0 &&
	       (block = cow_find(disk, block, disk->blocks, 1U << COW_FRESH)) < disk->blocks) {
		uint64_t end = cow_find(disk, block, disk->blocks, 1U << COW_ABSENT);

		for (uint64_t i = block; i < end; i++) {
			cow_set_state(disk, i, COW_SETTLED);
		}
		r = cow_put_states(disk, overlay, block, end);
		block = end;
	}
	if (r == 0) {
		r = cow_sync(disk, overlay);
	}
	if (r == 0) {
		r = put(overlay, disk->mark_at, COW_CLEAN, COW_MARK_SIZE);
	}
	return r;
}

/* The file's time stays that of the last change by the guest: whoever remembers it (disk_witness.h) is to find it as it was. */
static int settle_quietly(struct cow_disk *disk, struct raw *overlay)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT } };
	struct stat st;
	bool known = fstat(overlay->fd, &st) == 0;
	int r = settle(disk, overlay);

	if (known) {
		times[1] = st.st_mtim;
		(void)futimens(overlay->fd, times); /* not the owner: then it has changed */
	}
	return r;
}

/*
 * As at the end, where that has something to do; else a sync, since blocks that were there before are written without a change of
 * the account. What a failed write has left makes the next one look through the file, which needs no more than that.
 *
 * The mark is made stable by nobody: without it the next one looks through the file. But other hosts must not get it late, when
 * it is not true any more.
 */
static int give_away(struct cow_disk *disk, struct raw *overlay)
{
	bool settles = disk->begun && !disk->clean && !disk->unsafe && !disk->sync_owed;
	int r = 0;

	if (settles) {
		r = settle_quietly(disk, overlay);
		disk->sync_owed = r < 0;
		disk->clean = true; /* or nearly: a disk that goes on takes the mark off */
	}
	if (r == 0 && (overlay->is_remote || (!settles && !disk->unsafe))) {
		r = cow_sync(disk, overlay);
	}
	return r;
}

int cow_disk_release(struct cow_disk *disk, struct raw *overlay, struct error *e)
{
	SCOPED_LOCK(&disk->lock);
	int r = give_away(disk, overlay);

	if (r < 0) {
		return raw_refuse_release(overlay, -r, e);
	}
	disk->begun = false;
	return 0;
}

void cow_disk_close(struct cow_disk *disk, struct raw *overlay)
{
	if (disk == NULL || --disk->users != 0) {
		return;
	}
	if (disk->begun && !disk->clean && !disk->unsafe) {
		SCOPED_LOCK(&disk->lock);
		(void)settle_quietly(disk, overlay);
	}
	destroy(disk);
}
