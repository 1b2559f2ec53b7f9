/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the guest is now, told to the network that it was restored, forked or migrated into. What is told,
 * and to whom, is the card's (src/devices/virtio/net_announce.c).
 *
 * The thread that owns the machine, when it lets the guest go on: before that another host may be where
 * the guest is, after a migration that fails. Waits for a worker of each card, which waits for nobody.
 * The guest controls which of the two ways a card takes. Saved: by the cards.
 */
#include "devices/kinds.h"
#include "devices/virtio_node.h"
#include "vmm/virtio_net.h"

void machine_announce(struct machine *machine)
{
	for (uint32_t i = 0; i < machine->count; i++) {
		if (machine->devices[i]->kind == &net_kind) {
			virtio_net_announce(virtio_of(machine->devices[i]));
		}
	}
}
