/* SPDX-License-Identifier: Apache-2.0 */
/* See hostile.h: what is done to each device, in order. */
#include "hostile.h"

static void abuse_device(struct hostile *h)
{
	static const char *const names[] = { "?", "net", "block", "console", "rng" };
	uint64_t offered;

	h->device = h->v.id < GUEST_ARRAY_SIZE(names) ? names[h->v.id] : names[0];
	offered = virtio_offered(&h->v);
	guest_printf("%s at slot %u, offers %lx\n", h->device, h->v.slot, offered);
	h->features = VIRTIO_F_INDIRECT | VIRTIO_F_EVENT_IDX;
	h->queue = (unsigned)guest_option_number("queue", hostile_busy_queue(h));
	h->cases = 0;
	h->answers = 0;
	h->ready = false;
	hostile_alive(h, "start");
	hostile_abuse_descriptors(h);
	hostile_abuse_flags(h);
	hostile_abuse_chains(h);
	hostile_abuse_indices(h);
	hostile_abuse_indirect(h);
	if (h->v.id == VIRTIO_ID_BLOCK) {
		hostile_abuse_block_framing(h);
	}
	hostile_abuse_states(h);
	hostile_abuse_features(h);
	hostile_abuse_placement(h);
	hostile_abuse_queue_registers(h);
	if (h->v.pci) {
		hostile_abuse_pci_registers(h);
		hostile_abuse_config_space(h);
		hostile_abuse_vectors(h);
	} else {
		hostile_abuse_mmio_registers(h);
	}
	/* Once more without the event index: the flags of the rings count then. */
	h->features = VIRTIO_F_INDIRECT;
	h->ready = false;
	hostile_abuse_flags(h);
	hostile_abuse_chains(h);
	hostile_abuse_indices(h);
	guest_printf("%s: %u abuses, %u answered\n", h->device, h->cases, h->answers);
	/* Silence alone would prove nothing. */
	guest_check(h->answers > h->cases / 20);
}

static void break_often(struct hostile *h, unsigned breaks)
{
	h->device = "device";
	h->features = VIRTIO_F_INDIRECT | VIRTIO_F_EVENT_IDX;
	h->queue = hostile_busy_queue(h);
	for (unsigned i = 0; i < breaks; i++) {
		h->ready = false;
		hostile_begin(h);
		h->arena->avail.index = 0x7fff;
		hostile_expect(h, "avail index", 0x7fff, BROKEN);
	}
	hostile_alive(h, "breaks");
}

/*
 * id=N the devices with this virtio id (default: all); queue=N the queue that is abused (default:
 * the one that the device serves without waiting for data from outside); rounds=N of writing from
 * another CPU, 0 for none; breaks=N only breaks the queue so many
 * times, for what vmm says of it.
 */
int test_hostile(void)
{
	static struct hostile hostile;
	struct hostile *h = &hostile;
	struct guest_memory map[32];
	unsigned count = guest_memory_map(map, GUEST_ARRAY_SIZE(map));
	unsigned rounds = (unsigned)guest_option_number("rounds", 30);
	unsigned only = (unsigned)guest_option_number("id", 0);
	unsigned breaks = (unsigned)guest_option_number("breaks", 0);

	for (unsigned i = 0; i < count; i++) {
		if (map[i].type == GUEST_RAM &&
		    map[i].start + map[i].size <= PLATFORM_RAM_LOW_END) {
			h->ram_end = map[i].start + map[i].size;
		}
	}
	/* A buffer of 2 GiB - 1 from the arena must not be honest. */
	guest_require(h->ram_end && h->ram_end <= 512UL << 20);
	h->arena = guest_alloc(sizeof(*h->arena), 0x1000);
	for (unsigned n = 0; virtio_find(&h->v, only, n); n++) {
		unsigned set_ups;

		if (breaks) {
			break_often(h, breaks);
			continue;
		}
		abuse_device(h);
		set_ups = rounds ? hostile_abuse_concurrently(h, rounds) : 0;
		hostile_alive(h, "writing by another CPU");
		guest_printf("%s: set up %u times under the hand of another CPU\n", h->device,
			     set_ups);
		if (h->v.pci && rounds) {
			guest_printf("%s: %u answers from places that change\n", h->device,
				     hostile_move_concurrently(h, rounds));
			hostile_alive(h, "moving");
		}
	}
	return 0;
}
