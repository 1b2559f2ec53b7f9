/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: a snapshot's file `working-set`. Its first byte
 *
 *	& 1	the rest is the file, as it is; else it is its chunks, behind a right header
 *	& 2	with a right checksum and count
 *	& 4	chunks are ones that there are
 *
 * Beyond crashes: what was accepted names each chunk once, and none that there is not.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/snapshot/internal.h"
#include "fuzz_input.h"
#include "vmm/bytes.h"
#include "vmm/crc32c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHUNKS 64

static const struct snapshot_id id = { { 'i', 'd' } };
static const struct layout layout = {
	.region_count = 2,
	.regions = { { .size = 32 * SNAPSHOT_CHUNK },
		     { .gpa = GIB(4),
		       .size = 32 * SNAPSHOT_CHUNK,
		       .offset = 32 * SNAPSHOT_CHUNK } },
	.length = CHUNKS * SNAPSHOT_CHUNK,
};

static void check(bool right)
{
	if (!right) {
		abort();
	}
}

static void seal(uint8_t *file, size_t len)
{
	if (len >= WORKING_SET_HEADER_SIZE) {
		store_le32(file + 12, (uint32_t)((len - WORKING_SET_HEADER_SIZE) / 4));
		memset(file + WORKING_SET_HEADER_SIZE - 4, 0, 4);
		store_le32(file + WORKING_SET_HEADER_SIZE - 4, crc32c(0, file, len));
	}
}

static void look(const uint8_t *file, size_t len)
{
	struct working_set set;
	struct error e = { 0 };
	uint64_t seen = 0;

	if (working_set_parse(&set, file, len, &id, &layout, "fuzz", &e) < 0) {
		check(e.msg[0] != '\0' && set.chunks == NULL && set.count == 0);
		return;
	}
	check(working_set_size(set.count) == len);
	for (uint32_t i = 0; i < set.count; i++) {
		check(set.chunks[i] < CHUNKS && (seen >> set.chunks[i] & 1) == 0);
		seen |= 1ULL << set.chunks[i];
	}
	working_set_finish(&set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	uint8_t kind = (uint8_t)fuzz_take(&in, 1);
	size_t before = (kind & 1) != 0 ? 0 : WORKING_SET_HEADER_SIZE, len = before + in.len;
	/* Only that long. */
	uint8_t *file = malloc(len + 1);

	check(file != NULL);
	if (before != 0) {
		working_set_encode(file, &id, NULL, 0);
	}
	memcpy(file + before, in.data, in.len);
	for (size_t i = 0; (kind & 4) != 0 && i < in.len; i++) {
		file[before + i] %= i % 4 == 0 ? CHUNKS : 1;
	}
	if ((kind & 2) != 0) {
		seal(file, len);
	}
	file = realloc(file, len + (len == 0));
	check(file != NULL);
	look(file, len);
	free(file);
	return 0;
}
