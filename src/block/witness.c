/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The witness of a disk: include/vmm/disk_witness.h has what it is worth. Any thread, no state. The file's content is only
 * summed up.
 */
#include "vmm/disk_witness.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vmm/crc32c.h"

#define PLACES	  (UINT64_C(2) * DISK_WITNESS_PLACES)
#define TIME_SIZE 96

/* The next of a series that `*state` begins (splitmix64). */
static uint64_t next_number(uint64_t *state)
{
	uint64_t n = *state += UINT64_C(0x9e3779b97f4a7c15);

	n = (n ^ n >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	n = (n ^ n >> 27) * UINT64_C(0x94d049bb133111eb);
	return n ^ n >> 31;
}

static uint64_t new_seed(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Adds `len` bytes from `offset` on to the checksum; what the file does not have counts as nothing. */
static int add_sample(uint32_t *sum, int fd, uint64_t offset, uint64_t len)
{
	uint8_t bytes[DISK_WITNESS_BYTES];
	size_t have = 0;

	while (have < len) {
		ssize_t n = pread(fd, bytes + have, len - have, (off_t)(offset + have));

		if (n < 0 && errno != EINTR) {
			return -errno;
		}
		if (n == 0) {
			break;
		}
		have += n > 0 ? (size_t)n : 0;
	}
	*sum = crc32c(*sum, bytes, have);
	return 0;
}

static int take_samples(struct disk_witness *w, int fd)
{
	uint64_t len = MIN(w->size, (uint64_t)DISK_WITNESS_BYTES);
	uint64_t room = w->size - len; /* a sample begins in [0, room] */
	uint64_t series = w->seed;
	int r = 0;

	w->sample = 0;
	for (uint64_t i = 0; r == 0 && i < PLACES; i++) {
		uint64_t at = next_number(&series) % (room + 1);

		if (i < DISK_WITNESS_PLACES) {
			/* room * i / 15 without its overflow: 15 gives the last bytes. */
			const uint64_t last = DISK_WITNESS_PLACES - 1;

			at = room / last * i + room % last * i / last;
		}
		r = add_sample(&w->sample, fd, at, len);
	}
	return r;
}

int disk_witness_take(struct disk_witness *ret, int fd, uint64_t size, const char *path,
		      const struct disk_witness *like, struct error *e)
{
	struct disk_witness w = { .size = size };
	struct stat st;
	int r;

	if (fstat(fd, &st) != 0) {
		return error_set_sys(e, ERROR_DISK, errno, "stat '%s'", path);
	}
	w.is_device = S_ISBLK(st.st_mode);
	w.device = w.is_device ? st.st_rdev : st.st_dev;
	w.inode = w.is_device ? 0 : st.st_ino;
	if (!w.is_device) {
		w.mtime_s = st.st_mtim.tv_sec;
		w.mtime_ns = (uint32_t)st.st_mtim.tv_nsec;
	}
	w.seed = like != NULL ? like->seed : new_seed();
	r = take_samples(&w, fd);
	if (r < 0) {
		return error_set_sys(e, ERROR_DISK, -r, "read '%s'", path);
	}
	*ret = w;
	return 0;
}

/* A time as people and touch(1) read it. */
static const char *time_text(const struct disk_witness *w, char buf[TIME_SIZE])
{
	time_t seconds = (time_t)w->mtime_s;
	struct tm tm;

	if (gmtime_r(&seconds, &tm) == NULL || tm.tm_year < -1900 || tm.tm_year > 8099) {
		(void)snprintf(buf, TIME_SIZE, "@%lld.%09u", (long long)w->mtime_s, w->mtime_ns);
		return buf;
	}
	(void)snprintf(buf, TIME_SIZE, "%04d-%02d-%02d %02d:%02d:%02d.%09u UTC", tm.tm_year + 1900,
		       tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, w->mtime_ns);
	return buf;
}

int disk_witness_compare(const struct disk_witness *then, const struct disk_witness *now,
			 const char *path, struct error *e)
{
	char was[TIME_SIZE], is[TIME_SIZE];

	if (then->is_device != now->is_device) {
		return error_set(e, ERROR_DISK, ESTALE, "'%s' was a %s, is a %s", path,
				 then->is_device ? "block device" : "file",
				 now->is_device ? "block device" : "file");
	}
	if (then->size != now->size) {
		return error_set(e, ERROR_DISK, ESTALE,
				 "'%s' is not what it was: its size was %llu, is %llu", path,
				 (unsigned long long)then->size, (unsigned long long)now->size);
	}
	if (then->sample != now->sample) {
		return error_set(e, ERROR_DISK, ESTALE,
				 "'%s' is not what it was: the checksum of samples of its content "
				 "was %08x, is %08x",
				 path, then->sample, now->sample);
	}
	if (!then->is_device &&
	    (then->mtime_s != now->mtime_s || then->mtime_ns != now->mtime_ns)) {
		(void)error_set(e, ERROR_DISK, ESTALE,
				"'%s' is not what it was: it was changed last at %s, now at %s",
				path, time_text(then, was), time_text(now, is));
		return error_hint(
			e,
			"if its content is the same (a copy without its time): touch -d '%s' '%s'",
			was, path);
	}
	return 0;
}
