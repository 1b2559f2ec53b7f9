/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BLOCKS messages out of files and into files: include/vmm/migration_blocks.h is the contract.
 *
 * A cluster is no longer wanted before it is read: what the guest writes from then on is noted anew, and sent again. On the other side every
 * number is the peer's: each is read once and bounded before the file is touched.
 */
#include "vmm/migration_blocks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/bytes.h"
#include "vmm/cleanup.h"

static uint64_t clusters_of(const struct migration_disk *disk)
{
	return disk->size / MIGRATION_CLUSTER + (disk->size % MIGRATION_CLUSTER != 0);
}

static bool is_set(const uint64_t *bits, uint64_t at)
{
	return (bits[at / 64] >> at % 64 & 1) != 0;
}

static void set_to(uint64_t *bits, uint64_t at, bool value)
{
	bits[at / 64] = (bits[at / 64] & ~(1ULL << at % 64)) | (uint64_t)value << at % 64;
}

void migration_blocks_finish(struct migration_blocks *blocks)
{
	for (uint32_t i = 0; i < blocks->count; i++) {
		close_fd(&blocks->disks[i].fd);
		close_fd(&blocks->disks[i].base);
		free(take_ptr(blocks->disks[i].above));
		free(take_ptr(blocks->disks[i].want));
		free(take_ptr(blocks->disks[i].there));
	}
	blocks->count = 0;
	free(take_ptr(blocks->buf));
}

static int add(struct migration_blocks *blocks, struct migration_disk disk, struct error *e)
{
	bool made;

	disk.words = clusters_of(&disk) / 64 + 1;
	if (blocks->count == MIGRATION_DISKS_MAX) {
		close_fd(&disk.fd);
		close_fd(&disk.base);
		return error_set(e, ERROR_NOT_SUPPORTED, E2BIG,
				 "migration: more than %d disks cannot move", MIGRATION_DISKS_MAX);
	}
	if (blocks->buf == NULL) {
		blocks->buf =
			malloc(MIGRATION_BLOCKS_HEADER + MIGRATION_BLOCKS_MAX * MIGRATION_CLUSTER);
	}
	disk.want = calloc(disk.words, sizeof(*disk.want));
	disk.there = calloc(disk.words, sizeof(*disk.there));
	made = blocks->buf != NULL && disk.want != NULL && disk.there != NULL;
	if (disk.base >= 0) {
		disk.above = calloc(disk.size / disk.unit / 64 + 1, sizeof(*disk.above));
		made = made && disk.above != NULL;
	}
	blocks->disks[blocks->count++] = disk;
	return made ? 0 : error_set(e, ERROR_NO_MEMORY, ENOMEM, "migration: out of memory");
}

int migration_blocks_add(struct migration_blocks *blocks, int fd, uint64_t size, struct error *e)
{
	return add(blocks, (struct migration_disk){ .fd = fd, .base = -1, .size = size }, e);
}

int migration_blocks_add_layers(struct migration_blocks *blocks, int fd, int base, uint32_t unit,
				uint64_t size, struct error *e)
{
	VMM_BUG_ON(unit == 0 || MIGRATION_CLUSTER % unit != 0);
	return add(blocks,
		   (struct migration_disk){ .fd = fd, .base = base, .unit = unit, .size = size },
		   e);
}

uint64_t *migration_blocks_above(struct migration_blocks *blocks, uint32_t index)
{
	return blocks->disks[index].above;
}

uint64_t *migration_blocks_wanted(struct migration_blocks *blocks, uint32_t index)
{
	return blocks->disks[index].want;
}

static void want_range(struct migration_disk *disk, uint64_t from, uint64_t to)
{
	for (uint64_t at = from / MIGRATION_CLUSTER; at * MIGRATION_CLUSTER < to; at++) {
		set_to(disk->want, at, true);
	}
}

static void want_data_of(struct migration_disk *disk, int fd)
{
	uint64_t at = 0;

	while (at < disk->size) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA), hole;

		/* A file that has lost its end is noticed when it is read. */
		if (data < 0 && errno == ENXIO) {
			return;
		}
		hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
		if (data < 0 || hole <= data) {
			/* Nobody knows. */
			want_range(disk, at, disk->size);
			return;
		}
		want_range(disk, (uint64_t)data, MIN((uint64_t)hole, disk->size));
		at = (uint64_t)hole;
	}
}

/* A hole in an overlay over data of the base: the base has it wanted. */
void migration_blocks_want_data(struct migration_blocks *blocks, uint32_t index)
{
	struct migration_disk *disk = &blocks->disks[index];

	want_data_of(disk, disk->fd);
	if (disk->base >= 0) {
		want_data_of(disk, disk->base);
	}
}

uint64_t migration_blocks_left(const struct migration_blocks *blocks)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < blocks->count; i++) {
		for (uint64_t word = 0; word < blocks->disks[i].words; word++) {
			count += (uint64_t)__builtin_popcountll(blocks->disks[i].want[word]);
		}
	}
	return count * MIGRATION_CLUSTER;
}

/* --- sending ------------------------------------------------------------------------------------- */

/* Clusters of one disk that follow each other, all zero or none; the bytes of the latter are in the buffer. */
struct run {
	uint32_t disk, count;
	uint64_t first;
	bool zero;
	uint64_t bytes;
};

struct sender {
	struct migration_blocks *blocks;
	int (*send)(void *arg, const uint8_t *payload, uint32_t len, struct error *e);
	void *arg;
	struct run run;
};

static uint64_t bytes_of(const struct migration_disk *disk, uint64_t cluster)
{
	return MIN(MIGRATION_CLUSTER, disk->size - cluster * MIGRATION_CLUSTER);
}

static int send_run(struct sender *sender, struct error *e)
{
	struct migration_blocks *blocks = sender->blocks;
	struct run *run = &sender->run;
	const struct migration_disk *disk = &blocks->disks[run->disk];
	int r;

	if (run->count == 0) {
		return 0;
	}
	store_le32(blocks->buf, run->disk);
	store_le32(blocks->buf + 4, run->count);
	store_le64(blocks->buf + 8, run->first);
	store_le32(blocks->buf + 16, run->zero ? MIGRATION_BLOCKS_ZERO : 0);
	store_le32(blocks->buf + 20, 0);
	r = sender->send(sender->arg, blocks->buf, (uint32_t)(MIGRATION_BLOCKS_HEADER + run->bytes),
			 e);
	for (uint32_t i = 0; i < run->count; i++) {
		if (r < 0) {
			set_to(disk->want, run->first + i, true);
		} else {
			set_to(disk->there, run->first + i, !run->zero);
		}
	}
	blocks->sent += r < 0 ? 0 : run->bytes;
	run->count = 0;
	run->bytes = 0;
	return r;
}

/* The file that the byte has, and up to where. */
static int file_at(const struct migration_disk *disk, uint64_t at, uint64_t *end)
{
	uint64_t unit;
	bool above;

	if (disk->above == NULL) {
		return disk->fd;
	}
	unit = at / disk->unit;
	above = is_set(disk->above, unit);
	do {
		unit++;
	} while (unit * disk->unit < *end && is_set(disk->above, unit) == above);
	*end = MIN(*end, unit * disk->unit);
	return above ? disk->fd : disk->base;
}

static int read_cluster(const struct migration_disk *disk, uint64_t cluster, uint8_t *to,
			struct error *e)
{
	const uint64_t end = cluster * MIGRATION_CLUSTER + bytes_of(disk, cluster);
	uint64_t at = cluster * MIGRATION_CLUSTER;

	while (at < end) {
		uint64_t until = end;
		const int fd = file_at(disk, at, &until);
		ssize_t n = pread(fd, to, until - at, (off_t)at);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			return error_set_sys(e, ERROR_DISK, n < 0 ? errno : EIO,
					     "migration: read a disk at byte %llu",
					     (unsigned long long)at);
		}
		at += (uint64_t)n;
		to += n;
	}
	return 0;
}

static bool is_zero(const uint8_t *bytes, uint64_t len)
{
	return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

static bool continues(const struct run *run, uint32_t disk, uint64_t cluster)
{
	return run->count != 0 && run->count < MIGRATION_BLOCKS_MAX && run->disk == disk &&
	       run->first + run->count == cluster;
}

static int add_cluster(struct sender *sender, uint32_t index, uint64_t cluster, struct error *e)
{
	struct migration_blocks *blocks = sender->blocks;
	struct migration_disk *disk = &blocks->disks[index];
	const uint64_t bytes = bytes_of(disk, cluster);
	struct run *run = &sender->run;
	uint8_t *place;
	bool zero;
	int r = continues(run, index, cluster) ? 0 : send_run(sender, e);

	if (r < 0) {
		return r;
	}
	set_to(disk->want, cluster, false);
	place = blocks->buf + MIGRATION_BLOCKS_HEADER + run->bytes;
	r = read_cluster(disk, cluster, place, e);
	if (r < 0) {
		set_to(disk->want, cluster, true);
		return r;
	}
	zero = is_zero(place, bytes);
	if (zero && !is_set(disk->there, cluster)) {
		return 0;
	}
	if (run->count != 0 && run->zero != zero) {
		/* What was read stays: a run of zeroes has no bytes before it. */
		r = send_run(sender, e);
	}
	if (r < 0) {
		set_to(disk->want, cluster, true);
		return r;
	}
	if (run->count == 0) {
		*run = (struct run){ .disk = index, .first = cluster, .zero = zero };
	}
	run->count++;
	run->bytes += zero ? 0 : bytes;
	return 0;
}

int migration_blocks_send(struct migration_blocks *blocks,
			  int (*send)(void *arg, const uint8_t *payload, uint32_t len,
				      struct error *e),
			  void *arg, struct error *e)
{
	struct sender sender = { .blocks = blocks, .send = send, .arg = arg };
	struct error ignored = { 0 };
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < blocks->count; i++) {
		const struct migration_disk *disk = &blocks->disks[i];

		for (uint64_t word = 0; r == 0 && word < disk->words; word++) {
			uint64_t bits = disk->want[word];

			for (; r == 0 && bits != 0; bits &= bits - 1) {
				r = add_cluster(&sender, i,
						word * 64 + (uint64_t)__builtin_ctzll(bits), e);
			}
		}
	}
	if (r < 0) {
		/* What was read goes, or is wanted again. */
		(void)send_run(&sender, &ignored);
		return r;
	}
	return send_run(&sender, e);
}

/* --- the other side ------------------------------------------------------------------------------ */

static int __cold refuse(const struct run *run, const char *why, struct error *e)
{
	(void)error_set(e, ERROR_MIGRATION, EPROTO,
			"migration: %u clusters from %llu on of disk %u: %s", run->count,
			(unsigned long long)run->first, run->disk, why);
	return error_hint(e, "the other side is no vmm of this version, or something between them "
			     "changes what they say");
}

static int check(const struct migration_blocks *blocks, struct run *run, uint32_t flags,
		 uint32_t rest, struct error *e)
{
	const struct migration_disk *disk;
	uint64_t clusters, from;

	if (run->disk >= blocks->count) {
		return refuse(run, "no such disk moves", e);
	}
	disk = &blocks->disks[run->disk];
	clusters = clusters_of(disk);
	if (run->count == 0 || run->count > MIGRATION_BLOCKS_MAX) {
		return refuse(run, "that is not a number of clusters that one message has", e);
	}
	if (run->first >= clusters || run->count > clusters - run->first) {
		return refuse(run, "the disk ends before", e);
	}
	from = run->first * MIGRATION_CLUSTER;
	run->bytes = MIN(run->count * MIGRATION_CLUSTER, disk->size - from);
	if ((flags & ~MIGRATION_BLOCKS_ZERO) != 0 || rest != (run->zero ? 0 : run->bytes)) {
		return refuse(run, "length or flags do not fit", e);
	}
	return 0;
}

static int write_all(int fd, const uint8_t *bytes, uint64_t len, uint64_t at)
{
	while (len != 0) {
		ssize_t n = pwrite(fd, bytes, len, (off_t)at);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n <= 0) {
			return n < 0 ? errno : EIO;
		}
		bytes += n;
		len -= (uint64_t)n;
		at += (uint64_t)n;
	}
	return 0;
}

static int write_zeroes(const struct migration_blocks *blocks, int fd, uint64_t len, uint64_t at)
{
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)len) == 0) {
		return 0;
	}
	memset(blocks->buf, 0, len);
	return write_all(fd, blocks->buf, len, at);
}

int migration_blocks_store(struct migration_blocks *blocks, const uint8_t *payload, uint32_t len,
			   uint64_t *bytes, struct error *e)
{
	struct run run = { 0 };
	uint32_t flags;
	uint64_t at;
	int fd, r;

	*bytes = 0;
	if (len < MIGRATION_BLOCKS_HEADER || load_le32(payload + 20) != 0) {
		return refuse(&run, "that is no such message", e);
	}
	flags = load_le32(payload + 16);
	run = (struct run){ .disk = load_le32(payload),
			    .count = load_le32(payload + 4),
			    .first = load_le64(payload + 8),
			    .zero = (flags & MIGRATION_BLOCKS_ZERO) != 0 };
	r = check(blocks, &run, flags, len - MIGRATION_BLOCKS_HEADER, e);
	if (r < 0) {
		return r;
	}
	fd = blocks->disks[run.disk].fd;
	at = run.first * MIGRATION_CLUSTER;
	r = run.zero ? write_zeroes(blocks, fd, run.bytes, at)
		     : write_all(fd, payload + MIGRATION_BLOCKS_HEADER, run.bytes, at);
	if (r != 0) {
		return error_set_sys(e, ERROR_DISK, r, "migration: write disk %u at byte %llu",
				     run.disk, (unsigned long long)at);
	}
	*bytes = run.bytes;
	return 0;
}

int migration_blocks_sync(const struct migration_blocks *blocks, struct error *e)
{
	for (uint32_t i = 0; i < blocks->count; i++) {
		if (fdatasync(blocks->disks[i].fd) < 0) {
			return error_set_sys(e, ERROR_DISK, errno,
					     "migration: write disk %u to stable storage", i);
		}
	}
	return 0;
}
