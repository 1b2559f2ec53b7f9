/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: a side of a migration at work (vmm/migration.h), with its socket, and what a peer sends before it closes. The first byte:
 * & 1 the destination, & 2 whole messages with right checksums, epochs and sequence numbers: a byte for the type, one for the length, the
 * payload; without it, bytes as they are.
 *
 * Beyond crashes and hangs: pages land in memory, clusters in the disk, which stays as large as it was, and the destination runs only
 * after COMMIT.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/bytes.h"
#include "vmm/migration.h"
#include "vmm/migration_blocks.h"
#include "vmm/migration_pages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define EPOCH 5
#define BYTES MIB(1)
#define DISK  (3 * MIGRATION_CLUSTER + 512)

struct side {
	struct migration *m;
	struct guest_memory mem;
	struct compressor unpacks;
	struct migration_blocks disks;
	bool source, sent;
	bool committed; /* COMMIT was among what the peer said */
	uint8_t pass_end[16];
};

static void check(bool right)
{
	if (!right) {
		abort();
	}
}

static int send_page(struct side *side, struct error *e)
{
	uint8_t payload[MIGRATION_PAGES_HEADER] = { 0 };

	if (side->sent) {
		return MIGRATION_CONVERGED;
	}
	side->sent = true;
	store_le32(payload + 4, 1);
	store_le32(payload + 16, MIGRATION_PAGES_ZERO);
	return migration_send(side->m, HANDOVER_PAGES, payload, sizeof(payload), e);
}

static int act(void *arg, enum handover_action_kind what, const struct handover_frame *frame,
	       struct error *e)
{
	struct side *side = arg;
	uint64_t bytes = 0;
	int r = 0;

	switch (what) {
	case HANDOVER_NEXT_PASS:
		return send_page(side, e);
	case HANDOVER_STORE:
		if (frame->placed) {
			migration_pages_placed(&side->mem, frame->payload, &bytes);
			check(bytes != 0 && bytes <= BYTES);
		} else if (frame->message == HANDOVER_PAGES) {
			r = migration_pages_store(&side->mem, &side->unpacks, frame->payload,
						  frame->len, &bytes, e);
			check(r == 0 ? bytes != 0 && bytes <= BYTES : bytes == 0);
		} else if (frame->message == HANDOVER_BLOCKS) {
			r = migration_blocks_store(&side->disks, frame->payload, frame->len, &bytes,
						   e);
			check(r == 0 ? bytes != 0 && bytes <= DISK : bytes == 0);
		}
		return r;
	case HANDOVER_RUN:
		check(side->source || side->committed);
		return 0;
	case HANDOVER_TELL_DOUBT:
	case HANDOVER_TELL_BLOCKED:
		migration_leave(side->m);
		return 0;
	default:
		return 0;
	}
}

static void say(void *arg, struct handover_frame *frame)
{
	struct side *side = arg;

	if (frame->message == HANDOVER_OFFER) {
		frame->payload = (const uint8_t *)"offer!";
		frame->len = 6;
	} else if (frame->message == HANDOVER_PASS_END) {
		frame->payload = side->pass_end;
		frame->len = sizeof(side->pass_end);
	}
}

static uint8_t *place(void *arg, const struct handover_frame *frame)
{
	struct side *side = arg;

	check(migration_state(side->m) == HANDOVER_D_RECEIVING);
	return migration_pages_place(&side->mem, frame->payload, frame->len);
}

static const struct migration_ops ops = { act, say, place };

/* What the socket takes: it does not block, and what is beyond is not said. */
static void put(int fd, const void *bytes, size_t len)
{
	(void)!send(fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void put_messages(struct side *side, int fd, const uint8_t *data, size_t size)
{
	uint64_t sequence = 0;

	while (size >= 2) {
		const struct handover_message_info *info =
			handover_message_info(data[0] % HANDOVER_MESSAGES);
		uint32_t len = data[1];
		struct handover_frame frame = { .message = (enum handover_message)(
							data[0] % HANDOVER_MESSAGES),
						.epoch = EPOCH,
						.sequence = ++sequence };
		uint8_t header[HANDOVER_HEADER_SIZE];

		data += 2;
		size -= 2;
		if (info == NULL) {
			continue;
		}
		len = (uint32_t)MIN(MAX(len, info->min), info->max);
		if (len > size) {
			return;
		}
		frame.payload = data;
		frame.len = len;
		handover_frame_header(header, &frame);
		put(fd, header, sizeof(header));
		put(fd, data, len);
		side->committed |= frame.message == HANDOVER_COMMIT;
		data += len;
		size -= len;
	}
}

static void add_disk(struct side *side)
{
	struct error e = { 0 };
	int fd = memfd_create("disk", MFD_CLOEXEC);

	check(fd >= 0 && ftruncate(fd, DISK) == 0);
	check(migration_blocks_add(&side->disks, fd, DISK, &e) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct side side;
	struct migration_config config = {
		.epoch = EPOCH, .stall_ns = 1000000000, .ops = &ops, .arg = &side
	};
	struct error e = { 0 };
	int fds[2];

	if (size < 1) {
		return 0;
	}
	side = (struct side){ .source = (data[0] & 1) == 0 };
	check(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	check(guest_memory_init(&side.mem, BYTES, GUEST_MEMORY_ANON, &e) == 0);
	add_disk(&side);
	config.role = side.source ? HANDOVER_SOURCE : HANDOVER_DESTINATION;
	config.epoch = side.source ? EPOCH : 0;
	config.fd = fds[0];
	check(migration_create(&side.m, &config, &e) == 0);
	if ((data[0] & 2) != 0) {
		put_messages(&side, fds[1], data + 1, size - 1);
	} else {
		put(fds[1], data + 1, size - 1);
	}
	(void)shutdown(fds[1], SHUT_WR);
	(void)migration_run(side.m, &e);
	check(lseek(side.disks.disks[0].fd, 0, SEEK_END) == DISK);
	migration_destroy(side.m);
	guest_memory_finish(&side.mem);
	compressor_finish(&side.unpacks);
	migration_blocks_finish(&side.disks);
	(void)close(fds[1]);
	return 0;
}
