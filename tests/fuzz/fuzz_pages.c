/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: the page service (vmm/page_service.h), one side at work with its threads and sockets, and what a peer says over three
 * connections before it closes them. The first byte: & 1 the destination, & 2 whole messages with right checksums, & 4 behind a handshake
 * as it should be; without 2 the rest are bytes as they are, on one connection. A message: a byte for type (& 15), connection (& 48: >> 4)
 * and whether `first` is a large number (& 128), then region, count (2 bytes), first (2 bytes), the length of what follows; of pages it is how
 * many follow, all of one byte.
 *
 * Beyond crashes and hangs: a source sends its memory, from where there is some, and nothing else; a destination changes no page but those
 * that it lacked, and never lacks more. Where the host has no userfaultfd the destination is left out.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../src/migration/page_link.h"
#include "fuzz_input.h"
#include "vmm/cleanup.h"
#include "vmm/crc32c.h"
#include "vmm/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LINKS	    3
#define BYTES	    KIB(512)
#define PAGES	    (BYTES / PAGE_SIZE_4K)
#define STALL_NS    50000000ULL
#define PATIENCE_MS 30
#define MISSES	    0x00000000ffff0ff0ULL /* of the destination's first pages */

static const uint8_t token[PAGE_SERVICE_TOKEN] = "0123456789abcde";
static int fds[LINKS]; /* the peer's */
static uint8_t payload[2 * PAGE_SIZE_4K];

static void check(bool right)
{
	if (!right) {
		abort();
	}
}

/* Every fourth page is zero. */
static uint8_t byte_of(uint64_t page)
{
	return page % 4 == 0 ? 0 : (uint8_t)(page | 1);
}

static void make_memory(struct guest_memory *mem)
{
	const struct guest_region_config region = { .size = BYTES, .backing = GUEST_MEMORY_ANON };
	struct error e = { 0 };

	check(guest_memory_add(mem, &region, &e) == 0);
	for (uint64_t page = 0; page < PAGES; page++) {
		if (byte_of(page) != 0) {
			memset(mem->regions[0].host + page * PAGE_SIZE_4K, byte_of(page),
			       PAGE_SIZE_4K);
		}
	}
}

/* --- the peer ------------------------------------------------------------------------------------ */

/* What the socket takes: what is beyond is not said. */
static void put(int fd, const void *bytes, size_t len)
{
	(void)!send(fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void put_message(int fd, uint16_t type, const struct page_frame *frame)
{
	uint8_t header[PAGE_HEADER] = "VMMP";

	store_le16(header + 4, PAGE_VERSION);
	store_le16(header + 6, type);
	store_le32(header + 8, frame->region);
	store_le32(header + 12, frame->count);
	store_le64(header + 16, frame->first);
	store_le32(header + 24, frame->len);
	store_le32(header + 28, crc32c(0, frame->payload, frame->len));
	store_le32(header + 32, crc32c(0, header, 32));
	put(fd, header, sizeof(header));
	put(fd, frame->payload, frame->len);
}

static void put_messages(struct fuzz_input *in)
{
	while (in->len > 0) {
		const uint8_t what = (uint8_t)fuzz_take(in, 1);
		struct page_frame frame = { .region = (uint32_t)fuzz_take(in, 1),
					    .count = (uint32_t)fuzz_take(in, 2),
					    .first = fuzz_take(in, 2),
					    .payload = payload };
		const uint8_t len = (uint8_t)fuzz_take(in, 1);

		frame.first <<= (what & 128) != 0 ? 48 : 0;
		frame.region = frame.region == 0xff ? UINT32_MAX : frame.region;
		if ((what & 15) == PAGE_PAGES) {
			frame.len = (len % 3) * (uint32_t)PAGE_SIZE_4K;
			memset(payload, len, frame.len);
		} else {
			frame.len = (uint32_t)MIN((size_t)len, in->len);
			memcpy(payload, in->data, frame.len);
			in->data += frame.len;
			in->len -= frame.len;
		}
		put_message(fds[(what >> 4 & 3) % LINKS], what & 15, &frame);
	}
}

static void speak(uint8_t how, struct fuzz_input *in)
{
	if ((how & 2) != 0) {
		put_messages(in);
	} else {
		put(fds[(how >> 3) % LINKS], in->data, in->len);
	}
	for (int i = 0; i < LINKS; i++) {
		(void)shutdown(fds[i], SHUT_WR);
	}
}

/* --- a source ------------------------------------------------------------------------------------ */

static int ours[LINKS], next_link;

static int connect_next(void *arg, const char *address, struct error *e)
{
	(void)arg;
	(void)address;
	return next_link < LINKS ? ours[next_link++]
				 : error_set(e, ERROR_MIGRATION, ECONNREFUSED, "nobody");
}

/* All that was said to the peer on a connection. */
static void check_said(const struct guest_memory *mem, int *fd)
{
	struct page_link link;
	struct page_frame frame;
	struct error e = { 0 };

	check(page_link_init(&link, take_fd(fd), PAGE_SINK, &e) == 0);
	while (page_link_hear(&link, &frame, &e) > 0) {
		const uint8_t *there = mem->regions[0].host + frame.first * PAGE_SIZE_4K;

		if (frame.message != PAGE_PAGES) {
			continue;
		}
		check(page_range_is_good(mem, frame.region, frame.first, frame.count));
		check(frame.len == 0 || (frame.len == frame.count * PAGE_SIZE_4K &&
					 memcmp(frame.payload, there, frame.len) == 0));
		for (uint32_t i = 0; frame.len == 0 && i < frame.count; i++) {
			check(byte_of(frame.first + i) == 0);
		}
	}
	/* It is cut off, at most. */
	check(e.code == ERROR_NONE || strstr(e.msg, "closed") != NULL);
	page_link_finish(&link);
}

static void be_asked(uint8_t how, struct fuzz_input *in)
{
	const struct page_frame welcome = { .message = PAGE_WELCOME };
	struct guest_memory mem = { 0 };
	struct page_source_config config = { .mem = &mem,
					     .asking = LINKS - 1,
					     .stall_ns = STALL_NS,
					     .connect = connect_next,
					     .address = "unix:x" };
	enum page_source_state state = PAGE_SOURCE_CONNECTED;
	struct page_source *source;
	struct error e = { 0 };

	make_memory(&mem);
	for (int i = 0; i < LINKS; i++) {
		int pair[2];

		check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
		ours[i] = pair[0];
		fds[i] = pair[1];
		if ((how & 4) != 0) {
			put_message(fds[i], PAGE_WELCOME, &welcome);
		}
	}
	next_link = 0;
	check(page_source_create(&source, &config, &e) == 0);
	speak(how, in);
	if (page_source_connect(source, &e) == 0) {
		check(page_source_start(source, NULL, NULL, &e) == 0);
		page_source_moved(source);
		while (state != PAGE_SOURCE_WAITS && state != PAGE_SOURCE_DONE) {
			state = page_source_wait(source, state, NULL);
		}
	}
	page_source_destroy(source);
	for (int i = 0; i < LINKS; i++) {
		if (i >= next_link) {
			(void)close(ours[i]);
		}
		check_said(&mem, &fds[i]);
	}
	guest_memory_finish(&mem);
}

/* --- a destination ------------------------------------------------------------------------------- */

static void was_lost(struct guest_memory *mem, const struct error *why)
{
	(void)mem;
	check(why->msg[0] != '\0');
}

static void connect_all(struct page_sink *sink)
{
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(sa_family_t);

	/* The kernel chooses a name. */
	check(bind(listener, (struct sockaddr *)&address, len) == 0 &&
	      listen(listener, LINKS) == 0);
	len = sizeof(address);
	check(getsockname(listener, (struct sockaddr *)&address, &len) == 0);
	page_sink_listen(sink, listener);
	for (int i = 0; i < LINKS; i++) {
		fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		check(fds[i] >= 0 && connect(fds[i], (struct sockaddr *)&address, len) == 0);
	}
}

static void say_hello(int number)
{
	const struct page_frame hello = { .region = (uint32_t)number,
					  .count = LINKS - 1,
					  .first = 1,
					  .len = sizeof(token),
					  .payload = token };

	put_message(fds[number], PAGE_HELLO, &hello);
}

static void miss(struct page_sink *sink)
{
	uint8_t missing[PAGE_MISSING_HEADER + 8] = { 0 };
	struct error e = { 0 };

	store_le32(missing + 4, 64);
	store_le32(missing + 16, PAGE_MISSING_FLAG);
	store_le64(missing + PAGE_MISSING_HEADER, MISSES);
	check(page_sink_miss(sink, missing, sizeof(missing), &e) == 0);
	check(page_sink_arm(sink, &e) == 0);
}

/* Until the other side has closed them; who waits for a session that does not come is not waited for. */
static void drain(void)
{
	for (int i = 0; i < LINKS; i++) {
		struct pollfd fd = { .fd = fds[i], .events = POLLIN };

		while (poll(&fd, 1, PATIENCE_MS) > 0 &&
		       recv(fds[i], payload, sizeof(payload), MSG_DONTWAIT) > 0) {
		}
	}
}

/* Whoever touches a page that is missing would wait. */
static void check_memory(const struct guest_memory *mem)
{
	uint64_t left;

	pager_missing(mem->pager, 0, 0, &left, 1);
	check((left & ~MISSES) == 0);
	for (uint64_t page = 0; page < PAGES; page++) {
		const uint8_t *bytes = mem->regions[0].host + page * PAGE_SIZE_4K;

		if (page >= 64 || (MISSES >> page & 1) == 0) {
			check(bytes[0] == byte_of(page) &&
			      memcmp(bytes, bytes + 1, PAGE_SIZE_4K - 1) == 0);
		}
	}
}

static void be_served(uint8_t how, struct fuzz_input *in)
{
	struct page_sink_config config = { .stall_ns = STALL_NS };
	struct guest_memory mem = { .lost = was_lost };
	struct page_sink *sink;
	struct error e = { 0 };

	make_memory(&mem);
	memcpy(config.token, token, sizeof(token));
	if (page_sink_create(&sink, &mem, &config, &e) == 0) {
		connect_all(sink);
		miss(sink);
		for (int i = 0; (how & 4) != 0 && i < LINKS; i++) {
			say_hello(i);
		}
		speak(how, in);
		drain();
		check(page_sink_left(sink) <= 64 * PAGE_SIZE_4K);
		if (mem.pager != NULL) {
			check_memory(&mem);
		}
		for (int i = 0; i < LINKS; i++) {
			(void)close(fds[i]);
		}
	}
	guest_memory_finish(&mem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	uint8_t how;

	if (size < 1) {
		return 0;
	}
	log_init(LOG_ERROR, STDERR_FILENO);
	how = (uint8_t)fuzz_take(&in, 1);
	if ((how & 1) != 0) {
		be_served(how, &in);
	} else {
		be_asked(how, &in);
	}
	return 0;
}
