/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages are missing when a VM goes on, as the hand-over says it: include/vmm/page_service.h has the format. What is read is the
 * peer's: each number once, and bounded before memory is looked at or had.
 */
#include <errno.h>
#include <stdlib.h>

#include "page_link.h"
#include "vmm/bytes.h"

int page_missing_send(uint32_t region, const uint64_t *bitmap, uint64_t pages, uint8_t *buf,
		      int (*send)(void *arg, const uint8_t *payload, uint32_t len, struct error *e),
		      void *arg, struct error *e)
{
	int r = 0;

	for (uint64_t at = 0; r == 0 && at < pages; at += PAGE_MISSING_MAX) {
		const uint64_t words = (MIN(pages - at, (uint64_t)PAGE_MISSING_MAX) + 63) / 64;
		uint64_t first = 0, end = words;

		while (first < end && bitmap[at / 64 + first] == 0) {
			first++;
		}
		while (end > first && bitmap[at / 64 + end - 1] == 0) {
			end--;
		}
		if (first == end) {
			continue;
		}
		store_le32(buf, region);
		store_le32(buf + 4, (uint32_t)MIN((end - first) * 64, pages - (at + first * 64)));
		store_le64(buf + 8, at + first * 64);
		store_le32(buf + 16, PAGE_MISSING_FLAG);
		store_le32(buf + 20, 0);
		for (uint64_t i = first; i < end; i++) {
			store_le64(buf + PAGE_MISSING_HEADER + (i - first) * 8,
				   bitmap[at / 64 + i]);
		}
		r = send(arg, buf, (uint32_t)(PAGE_MISSING_HEADER + (end - first) * 8), e);
	}
	return r;
}

bool page_missing_is(const uint8_t *payload, uint32_t len)
{
	return len >= PAGE_MISSING_HEADER && load_le32(payload + 16) == PAGE_MISSING_FLAG;
}

int page_missing_read(struct page_missing *ret, const struct guest_memory *mem,
		      const uint8_t *payload, uint32_t len, struct error *e)
{
	struct page_missing missing = { 0 };
	uint32_t words;

	if (!page_missing_is(payload, len)) {
		return error_set(e, ERROR_MIGRATION, EPROTO, "which pages are missing is cut off");
	}
	missing.region = load_le32(payload);
	missing.count = load_le32(payload + 4);
	missing.first = load_le64(payload + 8);
	words = missing.count / 64 + (missing.count % 64 != 0);
	if (missing.count > PAGE_MISSING_MAX || missing.first % 64 != 0 ||
	    !page_range_is_good(mem, missing.region, missing.first, missing.count) ||
	    len != PAGE_MISSING_HEADER + words * 8) {
		return error_set(e, ERROR_MIGRATION, EPROTO,
				 "%u pages from %llu on of region %u cannot be missing",
				 missing.count, (unsigned long long)missing.first, missing.region);
	}
	missing.bitmap = calloc(words, sizeof(*missing.bitmap));
	if (missing.bitmap == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "migration: out of memory");
	}
	for (uint32_t i = 0; i < words; i++) {
		missing.bitmap[i] = load_le64(payload + PAGE_MISSING_HEADER + (size_t)i * 8);
	}
	*ret = missing;
	return 0;
}

bool page_missing_fill(struct page_frame *frame, const struct pager *pager,
		       uint8_t payload[PAGE_SAY_PAGES / 8])
{
	uint64_t bits[PAGE_SAY_PAGES / 64], any = 0;

	pager_missing(pager, frame->region, frame->first, bits, ARRAY_SIZE(bits));
	frame->len = (frame->count + 63) / 64 * 8;
	frame->payload = payload;
	for (uint32_t i = 0; i < frame->len / 8; i++) {
		store_le64(payload + (size_t)i * 8, bits[i]);
		any |= bits[i];
	}
	return any != 0;
}
