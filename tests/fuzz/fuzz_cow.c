/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An overlay with any bytes changed in its header, mark, states and data, with a right checksum or without, of any length: it
 * is refused, or it is a disk of the base's size that answers every request, and nothing is written but the overlay.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../src/block/cow_requests.h"
#include "fuzz_input.h"
#include "vmm/crc32c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define BASE_SIZE 70000 /* 18 blocks */

static int base_fd = -1, overlay_fd = -1;
static char base_path[32], overlay_path[32];
static uint8_t base[BASE_SIZE], made[KIB(256)]; /* the overlay as it is made */
static size_t made_len;

#define CHECK(condition)            \
	do {                        \
		if (!(condition)) { \
			abort();    \
		}                   \
	} while (0)

static void ignore(struct block_request *req, int result)
{
	(void)req;
	(void)result;
}

static void request(struct block *b, enum block_op op, uint64_t offset, uint64_t len)
{
	static uint8_t bytes[65536];
	const struct iovec iov = { bytes, (size_t)len };
	struct block_request req = { .op = op,
				     .offset = offset,
				     .len = len,
				     .iov = &iov,
				     .iov_count = 1,
				     .unmap = (offset & 512) != 0,
				     .done = ignore };

	block_submit(b, &req);
	block_drain(b);
}

static struct block *open_overlay(void)
{
	struct block_config config = { .path = base_path,
				       .overlay = overlay_path,
				       .engine = BLOCK_ENGINE_SYNC,
				       .cache = BLOCK_CACHE_UNSAFE };
	struct block *b = NULL;
	struct error e;

	return block_open_late(&b, &config, &e) == 0 ? b : NULL;
}

/* A base, and an overlay with some blocks in it. */
static void make(void)
{
	struct block *b;

	base_fd = memfd_create("base", MFD_CLOEXEC);
	overlay_fd = memfd_create("overlay", MFD_CLOEXEC);
	(void)snprintf(base_path, sizeof(base_path), "/proc/self/fd/%d", base_fd);
	(void)snprintf(overlay_path, sizeof(overlay_path), "/proc/self/fd/%d", overlay_fd);
	memset(base, 0x5a, sizeof(base));
	CHECK(pwrite(base_fd, base, sizeof(base), 0) == (ssize_t)sizeof(base));
	b = open_overlay();
	CHECK(b != NULL);
	request(b, BLOCK_WRITE, 8192, 8192);
	request(b, BLOCK_WRITE, 32768 + 512, 512);
	request(b, BLOCK_WRITE_ZEROES, 49152, 4096);
	block_close(b);
	made_len = (size_t)pread(overlay_fd, made, sizeof(made), 0);
	CHECK(made_len > 3 * COW_PAGE && made_len < sizeof(made));
}

/* Holes stay holes. */
static void restore(void)
{
	CHECK(ftruncate(overlay_fd, 0) == 0);
	CHECK(ftruncate(overlay_fd, (off_t)made_len) == 0);
	for (size_t at = 0; at < made_len; at += COW_PAGE) {
		static const uint8_t zero[COW_PAGE];

		if (memcmp(made + at, zero, COW_PAGE) != 0) {
			CHECK(pwrite(overlay_fd, made + at, COW_PAGE, (off_t)at) == COW_PAGE);
		}
	}
}

static void put_byte(uint64_t at, uint8_t value)
{
	CHECK(pwrite(overlay_fd, &value, 1, (off_t)at) == 1);
}

static void change(struct fuzz_input *in, bool mend)
{
	uint64_t header = made_len - COW_PAGE, states = ALIGN_UP(BASE_SIZE, 4096);
	uint8_t page[COW_PAGE];

	for (uint64_t left = fuzz_take(in, 1) % 16; left != 0; left--) {
		uint64_t where = fuzz_take(in, 1);
		uint8_t value = (uint8_t)fuzz_take(in, 1);

		switch (where % 4) {
		case 0:
			put_byte(header + where / 4, value);
			break;
		case 1:
			put_byte(states + where / 4 % 8, value);
			break;
		case 2:
			put_byte(header - COW_PAGE + where / 4 % 8, value);
			break;
		default:
			put_byte(where * 1021 % made_len, value);
			break;
		}
	}
	if (mend) {
		uint8_t sum[4];

		CHECK(pread(overlay_fd, page, sizeof(page), (off_t)header) == COW_PAGE);
		store_le32(sum, crc32c(crc32c(0, page, 12), page + 16, COW_PAGE - 16));
		CHECK(pwrite(overlay_fd, sum, sizeof(sum), (off_t)header + 12) == 4);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz_input in = { data, len };
	static uint8_t now[BASE_SIZE];
	struct block *b;
	uint64_t flags;
	off_t size;

	if (base_fd < 0) {
		make();
	}
	flags = fuzz_take(&in, 1);
	restore();
	change(&in, (flags & 1) != 0);
	if ((flags & 6) == 6) {
		CHECK(ftruncate(overlay_fd, (off_t)(fuzz_take(&in, 4) % (2 * made_len))) == 0);
	}
	size = lseek(overlay_fd, 0, SEEK_END);
	b = open_overlay();
	if (b != NULL) {
		CHECK(b->capacity == BASE_SIZE / 512 * 512);
		while (in.len != 0) {
			uint64_t op = fuzz_take(&in, 1), at = fuzz_take(&in, 1);

			request(b, (enum block_op)(op % BLOCK_OPS), at * 512,
				op % BLOCK_OPS == BLOCK_FLUSH ? 0 : op / 8 * 512);
		}
		block_close(b);
		CHECK(size < (off_t)COW_PAGE * 2 || lseek(overlay_fd, 0, SEEK_END) == size ||
		      size < (off_t)made_len);
	} else {
		CHECK(lseek(overlay_fd, 0, SEEK_END) == size);
	}
	CHECK(pread(base_fd, now, sizeof(now), 0) == BASE_SIZE);
	CHECK(memcmp(now, base, sizeof(base)) == 0);
	return 0;
}
