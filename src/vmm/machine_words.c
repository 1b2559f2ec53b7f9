/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a guest finds the machine's devices that reads no tables of firmware: by words of its command
 * line, as Linux' virtio_mmio driver takes them. PCI it finds by itself. Main thread; the guest controls
 * nothing here.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "devices/virtio_node.h"

/* "virtio_mmio.device=4K@0xd0000000:23 " */
#define DEVICE_WORD_SIZE 40

bool machine_needs_words(struct machine *machine)
{
	return machine->virtio_count != 0 && pci_host_of(machine) == NULL;
}

char *machine_device_words(const struct machine *machine)
{
	size_t size = (size_t)machine->virtio_count * DEVICE_WORD_SIZE + 1, len = 0;
	char *words = malloc(size);

	if (words == NULL) {
		return NULL;
	}
	words[0] = '\0';
	for (uint32_t i = 0; i < machine->count; i++) {
		const struct virtio_node *node = virtio_node_of(machine->devices[i]);

		if (device_is_virtio(machine->devices[i])) {
			len += (size_t)snprintf(
				words + len, size - len,
				"%svirtio_mmio.device=%lluK@0x%" PRIx64 ":%u", len == 0 ? "" : " ",
				PLATFORM_VIRTIO_MMIO_SIZE / 1024, node->base, node->gsi);
		}
	}
	return words;
}
