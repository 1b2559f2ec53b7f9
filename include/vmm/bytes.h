/* SPDX-License-Identifier: Apache-2.0 */
/* Little-endian loads and stores at any alignment. For buffers of our own: guest memory that the
 * guest can change meanwhile is copied first (guest_memory.h), then decoded. */
#ifndef VMM_BYTES_H
#define VMM_BYTES_H

#include <endian.h>
#include <string.h>

#include "vmm/types.h"

static inline uint16_t load_le16(const void *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

static inline uint32_t load_le32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static inline uint64_t load_le64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

static inline void store_le16(void *p, uint16_t v)
{
	v = htole16(v);
	memcpy(p, &v, sizeof(v));
}

static inline void store_le32(void *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void store_le64(void *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

/* Reads 1, 2, 4 or 8 bytes as a little-endian number; other sizes give 0. */
static inline uint64_t load_le(const void *p, size_t size)
{
	uint8_t bytes[8] = { 0 };

	if (size > sizeof(bytes)) {
		return 0;
	}
	memcpy(bytes, p, size);
	return load_le64(bytes);
}

/* Writes the low `size` (<= 8) bytes of v. */
static inline void store_le(void *p, uint64_t v, size_t size)
{
	uint8_t bytes[8];

	store_le64(bytes, v);
	if (size <= sizeof(bytes)) {
		memcpy(p, bytes, size);
	}
}

#endif
