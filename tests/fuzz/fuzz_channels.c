/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: the destination's end of further connections (vmm/migration_channels.h), at work with its threads and sockets, and what a
 * peer says over two of them before it closes them. The first byte: & 1 behind a JOIN as it should be, & 2 whole messages with right
 * checksums; without 2 the rest are bytes as they are, on one connection. A message: a byte for type (& 31), connection (& 32) and whether
 * its number is the next one (& 64: it is not), then its length (2 bytes), and what it has: for PAGES region, count, first (a byte each, the
 * last two), flags, and a byte of which all pages are.
 *
 * Beyond crashes and hangs: when it has been stopped nothing is written any more, and a pass is there only if both have said it.
 */
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fuzz_input.h"
#include "vmm/bytes.h"
#include "vmm/cleanup.h"
#include "vmm/crc32c.h"
#include "vmm/handover_frames.h"
#include "vmm/log.h"
#include "vmm/migration_channels.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LINKS	    2
#define BYTES	    KIB(512)
#define EPOCH	    3
#define STALL_NS    50000000ULL
#define PATIENCE_MS 30

static const uint8_t token[MIGRATION_CHANNELS_TOKEN] = "0123456789abcde";
static uint8_t payload[64 + 3 * PAGE_SIZE_4K];

struct peer {
	int fds[LINKS];
	uint64_t said[LINKS];	/* messages */
	uint64_t passes[LINKS]; /* that were said as they should be, one after another */
};

static void check(bool right)
{
	if (!right) {
		abort();
	}
}

/* What the socket takes: what is beyond is not said. */
static void put(int fd, const void *bytes, size_t len)
{
	(void)!send(fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* As vmm/handover_frames.h has it, whether there is such a message or not. */
static void put_message(struct peer *peer, int which, uint16_t type, uint32_t len, bool next)
{
	uint8_t header[HANDOVER_HEADER_SIZE] = "VMMH";

	store_le16(header + 4, HANDOVER_VERSION);
	store_le16(header + 6, type);
	store_le64(header + 8, EPOCH);
	store_le64(header + 16, next ? ++peer->said[which] : peer->said[which] + 7);
	store_le32(header + 24, len);
	store_le32(header + 28, crc32c(0, payload, len));
	store_le32(header + 32, crc32c(0, header, 32));
	put(peer->fds[which], header, sizeof(header));
	put(peer->fds[which], payload, len);
}

static void join(struct peer *peer, int which)
{
	memcpy(payload, token, sizeof(token));
	store_le32(payload + 16, (uint32_t)which);
	store_le32(payload + 20, LINKS);
	put_message(peer, which, HANDOVER_JOIN, 24, true);
}

static uint32_t take_pages(struct fuzz_input *in, uint32_t len)
{
	memset(payload, 0, MIGRATION_PAGES_HEADER);
	store_le32(payload, (uint32_t)fuzz_take(in, 1));
	store_le32(payload + 4, (uint32_t)fuzz_take(in, 1));
	store_le64(payload + 8, fuzz_take(in, 2));
	store_le32(payload + 16, (uint32_t)fuzz_take(in, 1));
	memset(payload + MIGRATION_PAGES_HEADER, (int)fuzz_take(in, 1),
	       sizeof(payload) - MIGRATION_PAGES_HEADER);
	return MIGRATION_PAGES_HEADER + len % 4 * (uint32_t)PAGE_SIZE_4K;
}

static void put_messages(struct peer *peer, struct fuzz_input *in)
{
	while (in->len > 0) {
		const uint8_t what = (uint8_t)fuzz_take(in, 1), type = what & 31;
		const int which = what >> 5 & 1;
		uint32_t len = (uint32_t)fuzz_take(in, 2);

		if (type == HANDOVER_PAGES) {
			len = take_pages(in, len);
		} else {
			len = (uint32_t)MIN((size_t)len % 64, in->len);
			memcpy(payload, in->data, len);
			in->data += len;
			in->len -= len;
		}
		if (type == HANDOVER_GATHER && len == 8 &&
		    load_le64(payload) == peer->passes[which] + 1) {
			peer->passes[which]++;
		}
		put_message(peer, which, type, len, (what & 64) == 0);
	}
}

static void connect_all(struct peer *peer, int *listener)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(sa_family_t);

	*listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	/* The kernel chooses a name. */
	check(bind(*listener, (struct sockaddr *)&address, len) == 0 &&
	      listen(*listener, LINKS) == 0);
	len = sizeof(address);
	check(getsockname(*listener, (struct sockaddr *)&address, &len) == 0);
	for (int i = 0; i < LINKS; i++) {
		peer->fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		check(peer->fds[i] >= 0 &&
		      connect(peer->fds[i], (struct sockaddr *)&address, len) == 0);
	}
}

/* Until the other side has closed them; a stranger is closed as soon as he has said something else, or has nothing more to say. */
static void drain(const struct peer *peer)
{
	for (int i = 0; i < LINKS; i++) {
		struct pollfd fd = { .fd = peer->fds[i], .events = POLLIN };

		while (poll(&fd, 1, PATIENCE_MS) > 0 &&
		       recv(peer->fds[i], payload, sizeof(payload), MSG_DONTWAIT) > 0) {
		}
	}
}

static bool is_late(void *arg)
{
	uint64_t *looks = arg;

	return ++*looks > 10;
}

/* What is in memory when nothing comes any more stays as it is. */
static uint32_t sum_of(const struct guest_memory *mem)
{
	uint32_t sum = 0;

	for (uint64_t at = 0; at < BYTES; at += 8) {
		sum = sum * 31 + (uint32_t)load_le64(mem->regions[0].host + at);
	}
	return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct guest_region_config region = { .size = BYTES, .backing = GUEST_MEMORY_ANON };
	struct fuzz_input in = { data, size };
	struct channel_sink_config config = { .count = LINKS,
					      .epoch = EPOCH,
					      .stall_ns = STALL_NS };
	struct guest_memory mem = { 0 };
	struct channel_sink *sink;
	struct peer peer = { 0 };
	struct error e = { 0 };
	uint64_t looks = 0;
	uint32_t sum;
	uint8_t how;

	if (size < 1) {
		return 0;
	}
	log_init(LOG_ERROR, STDERR_FILENO);
	how = (uint8_t)fuzz_take(&in, 1);
	check(guest_memory_add(&mem, &region, &e) == 0);
	memcpy(config.token, token, sizeof(token));
	config.mem = &mem;
	connect_all(&peer, &config.listener);
	check(channel_sink_create(&sink, &config, &e) == 0);
	channel_sink_open(sink);
	for (int i = 0; (how & 1) != 0 && i < LINKS; i++) {
		join(&peer, i);
	}
	if ((how & 2) != 0) {
		put_messages(&peer, &in);
	} else {
		put(peer.fds[how >> 2 & 1], in.data, in.len);
	}
	for (int i = 0; i < LINKS; i++) {
		(void)shutdown(peer.fds[i], SHUT_WR);
	}
	if ((how & 1) == 0) {
		drain(&peer);
	} else if (channel_sink_gather(sink, 1, is_late, &looks, &e) == 0) {
		check((how & 2) == 0 || (peer.passes[0] > 0 && peer.passes[1] > 0));
	}
	channel_sink_stop(sink);
	sum = sum_of(&mem);
	for (int i = 0; i < LINKS; i++) {
		(void)close(peer.fds[i]);
	}
	channel_sink_destroy(sink);
	check(sum == sum_of(&mem));
	guest_memory_finish(&mem);
	return 0;
}
