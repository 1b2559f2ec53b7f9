/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PAGES messages out of guest memory and into it: include/vmm/migration_pages.h is the contract.
 *
 * The guest may write a page while it is copied: the copy is torn then, and the page is sent again, because whoever tracks pages notes
 * the write. What is judged (is it zero?) and sent is the copy. On the other side every number is the peer's: each is read once and
 * bounded before memory is touched.
 */
#include "vmm/migration_pages.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "vmm/bytes.h"
#include "vmm/cleanup.h"

#define MESSAGE_MAX (MIGRATION_PAGES_HEADER + MIGRATION_PAGES_BATCH * PAGE_SIZE_4K)
/* Words of a region's bits: 2 MiB in its place, so that channels end at about the same time, and none waits for a huge page that another one
 * has touched there. */
#define PIECE_WORDS UINT64_C(8)

int migration_pages_init(struct migration_pages *pages, struct guest_memory *mem, struct error *e)
{
	const uint32_t count = atomic_load(&mem->region_count);
	bool made;

	*pages = (struct migration_pages){ .mem = mem };
	made = migration_pages_sender_init(&pages->sender, pages, e) == 0;
	for (uint32_t i = 0; made && i < count; i++) {
		uint64_t bits = ALIGN_UP(mem->regions[i].size / PAGE_SIZE_4K, (uint64_t)64);

		pages->bits[i] = bits;
		pages->look[i] = calloc(bits / 64 + 1, sizeof(uint64_t));
		pages->there[i] = calloc(bits / 64 + 1, sizeof(uint64_t));
		made = pages->look[i] != NULL && pages->there[i] != NULL;
	}
	if (!made) {
		migration_pages_finish(pages);
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "migration: out of memory");
	}
	return 0;
}

void migration_pages_finish(struct migration_pages *pages)
{
	for (uint32_t i = 0; i < GUEST_MEMORY_REGIONS_MAX; i++) {
		free(take_ptr(pages->look[i]));
		free(take_ptr(pages->there[i]));
	}
	migration_pages_sender_finish(&pages->sender);
}

int migration_pages_sender_init(struct migration_pages_sender *sender,
				const struct migration_pages *pages, struct error *e)
{
	*sender = (struct migration_pages_sender){ .buf = malloc(MESSAGE_MAX) };
	if (sender->buf != NULL && pages->packs) {
		sender->packed = malloc(MESSAGE_MAX);
	}
	if (sender->buf == NULL || (pages->packs && sender->packed == NULL)) {
		migration_pages_sender_finish(sender);
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "migration: out of memory");
	}
	return 0;
}

void migration_pages_sender_finish(struct migration_pages_sender *sender)
{
	free(take_ptr(sender->buf));
	free(take_ptr(sender->packed));
	compressor_finish(&sender->compressor);
}

int migration_pages_pack(struct migration_pages *pages, struct error *e)
{
	if (!compress_supported()) {
		(void)error_set(e, ERROR_NOT_SUPPORTED, ENOTSUP,
				"migration: this vmm was built without zstd");
		return error_hint(e, "build it with -Dzstd=enabled, or do without --compress");
	}
	pages->packs = true;
	migration_pages_sender_finish(&pages->sender);
	return migration_pages_sender_init(&pages->sender, pages, e);
}

uint64_t *migration_pages_wanted(struct migration_pages *pages, uint32_t index, uint64_t *bits)
{
	if (index >= GUEST_MEMORY_REGIONS_MAX || pages->bits[index] == 0) {
		return NULL;
	}
	*bits = pages->bits[index];
	return pages->look[index];
}

uint64_t migration_pages_left(const struct migration_pages *pages)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < GUEST_MEMORY_REGIONS_MAX; i++) {
		for (uint64_t word = 0; word < pages->bits[i] / 64; word++) {
			count += (uint64_t)__builtin_popcountll(pages->look[i][word]);
		}
	}
	return count * PAGE_SIZE_4K;
}

static bool is_set(const uint64_t *bits, uint64_t page)
{
	return (bits[page / 64] >> page % 64 & 1) != 0;
}

/* Pages of one region that follow each other, all zero or none. */
struct run {
	uint32_t region, count;
	uint64_t first;
	bool zero, packed;
};

struct sender {
	struct migration_pages *pages;
	struct migration_pages_sender *own;
	int (*send)(void *arg, const uint8_t *payload, uint32_t len, struct error *e);
	void *arg;
	struct run run;
};

static void forget_run(const struct sender *sender)
{
	const struct run *run = &sender->run;
	uint64_t *look = sender->pages->look[run->region];
	uint64_t *there = sender->pages->there[run->region];

	for (uint64_t page = run->first; page < run->first + run->count; page++) {
		look[page / 64] &= ~(1ULL << page % 64);
		if (run->zero) {
			there[page / 64] &= ~(1ULL << page % 64);
		} else {
			there[page / 64] |= 1ULL << page % 64;
		}
	}
}

/* Packed, if that makes `bytes` of pages less: *len, behind the header's place in what is returned. NULL: as they are. */
static uint8_t *pack_run(struct migration_pages_sender *own, uint64_t bytes, uint64_t *len)
{
	int64_t n;

	if (own->packed == NULL || bytes == 0) {
		return NULL;
	}
	n = compress_block(&own->compressor, own->packed + MIGRATION_PAGES_HEADER, bytes - 1,
			   own->buf + MIGRATION_PAGES_HEADER, bytes);
	if (n <= 0) {
		return NULL;
	}
	*len = (uint64_t)n;
	return own->packed;
}

static int send_run(struct sender *sender, struct error *e)
{
	struct run *run = &sender->run;
	uint64_t bytes = run->zero ? 0 : run->count * PAGE_SIZE_4K, len = bytes;
	uint8_t *buf;
	bool packed;
	int r;

	if (run->count == 0) {
		return 0;
	}
	buf = pack_run(sender->own, bytes, &len);
	packed = buf != NULL;
	buf = packed ? buf : sender->own->buf;
	store_le32(buf, run->region);
	store_le32(buf + 4, run->count);
	store_le64(buf + 8, run->first);
	store_le32(buf + 16, run->zero ? MIGRATION_PAGES_ZERO
			     : packed  ? MIGRATION_PAGES_PACKED
				       : 0);
	store_le32(buf + 20, 0);
	r = sender->send(sender->arg, buf, (uint32_t)(MIGRATION_PAGES_HEADER + len), e);
	if (r < 0) {
		return r;
	}
	atomic_fetch_add(&sender->pages->wire, MIGRATION_PAGES_HEADER + len);
	forget_run(sender);
	atomic_fetch_add(&sender->pages->sent, bytes);
	run->count = 0;
	return 0;
}

static bool continues(const struct run *run, uint32_t region, uint64_t page, bool zero)
{
	return run->count != 0 && run->count < MIGRATION_PAGES_BATCH && run->region == region &&
	       run->first + run->count == page && run->zero == zero;
}

/* The next page's copy goes behind the run's. */
static uint8_t *place_of_next(const struct sender *sender, bool fresh)
{
	uint32_t before = fresh || sender->run.zero ? 0 : sender->run.count;

	return sender->own->buf + MIGRATION_PAGES_HEADER + before * PAGE_SIZE_4K;
}

static int add_page(struct sender *sender, uint32_t region, uint64_t page, struct error *e)
{
	struct migration_pages *pages = sender->pages;
	const uint8_t *host = pages->mem->regions[region].host + page * PAGE_SIZE_4K;
	struct run *run = &sender->run;
	uint8_t *copy;
	bool zero;
	int r = 0;

	/* Whatever it is, there is no room for it, or it does not follow. */
	if (!continues(run, region, page, run->zero)) {
		r = send_run(sender, e);
	}
	if (r < 0) {
		return r;
	}
	copy = place_of_next(sender, run->count == 0);
	page_copy_unsteady(copy, host);
	zero = page_is_zero(copy);
	if (zero && !is_set(pages->there[region], page)) {
		pages->look[region][page / 64] &= ~(1ULL << page % 64);
		return 0;
	}
	if (run->count != 0 && run->zero != zero) {
		r = send_run(sender, e);
		if (r == 0 && !zero) {
			memmove(place_of_next(sender, true), copy, PAGE_SIZE_4K);
		}
	}
	if (r == 0 && run->count == 0) {
		*run = (struct run){ .region = region, .first = page, .zero = zero };
	}
	run->count += r == 0;
	return r;
}

static int send_words(struct sender *sender, uint32_t region, uint64_t word, uint64_t end,
		      struct error *e)
{
	const struct migration_pages *pages = sender->pages;
	int r = 0;

	for (; r == 0 && word < end; word++) {
		for (uint64_t bits = pages->look[region][word]; r == 0 && bits != 0;
		     bits &= bits - 1) {
			r = add_page(sender, region, word * 64 + (uint64_t)__builtin_ctzll(bits),
				     e);
		}
	}
	/* What follows is another thread's, perhaps. */
	return r == 0 ? send_run(sender, e) : r;
}

/* Of all regions, in their order. False: there are not so many. */
static bool find_piece(const struct migration_pages *pages, uint64_t number, uint32_t *region,
		       uint64_t *word, uint64_t *end)
{
	for (uint32_t i = 0; i < GUEST_MEMORY_REGIONS_MAX; i++) {
		const uint64_t words = pages->bits[i] / 64;
		const uint64_t pieces = (words + PIECE_WORDS - 1) / PIECE_WORDS;

		if (number < pieces) {
			*region = i;
			*word = number * PIECE_WORDS;
			*end = MIN(*word + PIECE_WORDS, words);
			return true;
		}
		number -= pieces;
	}
	return false;
}

void migration_pages_begin(struct migration_pages *pages)
{
	atomic_store(&pages->next, 0);
}

int migration_pages_share(struct migration_pages *pages, struct migration_pages_sender *own,
			  int (*send)(void *arg, const uint8_t *payload, uint32_t len,
				      struct error *e),
			  void *arg, struct error *e)
{
	struct sender sender = { .pages = pages, .own = own, .send = send, .arg = arg };
	uint64_t word, end;
	uint32_t region;
	int r = 0;

	while (r == 0 &&
	       find_piece(pages, atomic_fetch_add(&pages->next, 1), &region, &word, &end)) {
		r = send_words(&sender, region, word, end, e);
	}
	return r;
}

int migration_pages_send(struct migration_pages *pages,
			 int (*send)(void *arg, const uint8_t *payload, uint32_t len,
				     struct error *e),
			 void *arg, struct error *e)
{
	migration_pages_begin(pages);
	return migration_pages_share(pages, &pages->sender, send, arg, e);
}

/* --- the other side ------------------------------------------------------------------------------ */

/* Fewer pages are faulted in one by one. */
#define POPULATE_FROM 8

static int __cold refuse(const struct run *run, const char *why, struct error *e)
{
	(void)error_set(e, ERROR_MIGRATION, EPROTO,
			"migration: %u pages from %llu on of region %u: %s", run->count,
			(unsigned long long)run->first, run->region, why);
	return error_hint(e, "the other side is no vmm of this version, or something between them "
			     "changes what they say");
}

/* `rest` bytes behind the header, for `bytes` of pages. */
static bool fits(uint64_t bytes, uint32_t flags, uint32_t rest)
{
	switch (flags) {
	case 0:
		return rest == bytes;
	case MIGRATION_PAGES_ZERO:
		return rest == 0;
	case MIGRATION_PAGES_PACKED:
		return rest > 0 && rest < bytes;
	default:
		return false;
	}
}

static int check(const struct guest_memory *mem, const struct run *run, uint32_t flags,
		 uint32_t rest, struct error *e)
{
	const struct guest_region *region;
	uint64_t pages;

	if (run->region >= atomic_load(&mem->region_count)) {
		return refuse(run, "there is no such region", e);
	}
	region = &mem->regions[run->region];
	pages = region->size / PAGE_SIZE_4K;
	if (run->count == 0 || run->count > MIGRATION_PAGES_MAX) {
		return refuse(run, "that is not a number of pages that one message has", e);
	}
	if (run->first >= pages || run->count > pages - run->first) {
		return refuse(run, "the region ends before", e);
	}
	if (!fits(run->count * PAGE_SIZE_4K, flags, rest)) {
		return refuse(run, "length or flags do not fit", e);
	}
	return 0;
}

static int read_header(const struct guest_memory *mem, const uint8_t *payload, uint32_t len,
		       struct run *run, struct error *e)
{
	uint32_t flags;

	*run = (struct run){ 0 };
	if (len < MIGRATION_PAGES_HEADER || load_le32(payload + 20) != 0) {
		return refuse(run, "that is no such message", e);
	}
	flags = load_le32(payload + 16);
	*run = (struct run){ .region = load_le32(payload),
			     .count = load_le32(payload + 4),
			     .first = load_le64(payload + 8),
			     .zero = flags == MIGRATION_PAGES_ZERO,
			     .packed = flags == MIGRATION_PAGES_PACKED };
	return check(mem, run, flags, len - MIGRATION_PAGES_HEADER, e);
}

static uint8_t *host_of(const struct guest_memory *mem, const struct run *run)
{
	return mem->regions[run->region].host + run->first * PAGE_SIZE_4K;
}

uint8_t *migration_pages_place(struct guest_memory *mem, const uint8_t *header, uint32_t len)
{
	struct error ignored = { 0 };
	struct run run;
	uint8_t *host;

	if (read_header(mem, header, len, &run, &ignored) < 0 || run.zero || run.packed) {
		return NULL;
	}
	host = host_of(mem, &run);
	if (run.count >= POPULATE_FROM) {
		/* One call in place of a fault for each page, where pages are small. */
		(void)madvise(host, run.count * PAGE_SIZE_4K, MADV_POPULATE_WRITE);
	}
	return host;
}

void migration_pages_placed(struct guest_memory *mem, const uint8_t *header, uint64_t *bytes)
{
	*bytes = load_le32(header + 4) * PAGE_SIZE_4K;
	guest_memory_written(
		mem, mem->regions[load_le32(header)].host + load_le64(header + 8) * PAGE_SIZE_4K,
		*bytes);
}

static int unpack(struct compressor *unpacks, const struct run *run, uint8_t *host,
		  const uint8_t *payload, uint32_t len, struct error *e)
{
	int r = decompress_block(unpacks, host, run->count * PAGE_SIZE_4K,
				 payload + MIGRATION_PAGES_HEADER, len - MIGRATION_PAGES_HEADER);

	if (r == -ENOTSUP) {
		(void)error_set(e, ERROR_NOT_SUPPORTED, ENOTSUP,
				"migration: pages come compressed, and this vmm was built without "
				"zstd");
		return error_hint(e, "migrate without --compress");
	}
	if (r == -ENOMEM) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "migration: out of memory");
	}
	return r == 0 ? 0 : refuse(run, "they cannot be unpacked", e);
}

int migration_pages_store(struct guest_memory *mem, struct compressor *unpacks,
			  const uint8_t *payload, uint32_t len, uint64_t *bytes, struct error *e)
{
	struct run run;
	uint8_t *host;
	int r;

	*bytes = 0;
	r = read_header(mem, payload, len, &run, e);
	if (r < 0) {
		return r;
	}
	host = host_of(mem, &run);
	if (run.packed) {
		r = unpack(unpacks, &run, host, payload, len, e);
		if (r < 0) {
			return r;
		}
	}
	*bytes = run.count * PAGE_SIZE_4K;
	if (run.zero) {
		memset(host, 0, *bytes);
	} else if (!run.packed) {
		memcpy(host, payload + MIGRATION_PAGES_HEADER, *bytes);
	}
	guest_memory_written(mem, host, *bytes);
	return 0;
}
