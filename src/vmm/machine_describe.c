// SPDX-License-Identifier: Apache-2.0
/*
 * How a guest finds the machine's devices: by ACPI tables or, where a kernel does not read those, by
 * words of its command line, as Linux' virtio_mmio driver takes them. Main thread, before the first
 * instruction and again at a machine reset; the guest controls nothing here.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "machine.h"
#include "vmm/acpi.h"

/* "virtio_mmio.device=4K@0xd0000000:23 " */
#define DEVICE_WORD_SIZE 40

int machine_write_acpi(struct machine *machine, uint32_t vcpus, gpa_t *rsdp, struct error *e)
{
	uint32_t apic_ids[PLATFORM_VCPUS_MAX];
	struct acpi_virtio_mmio virtio[PLATFORM_VIRTIO_MMIO_MAX];
	struct acpi_machine description = {
		.vcpus = vcpus,
		.apic_ids = apic_ids,
		.virtio = virtio,
		.virtio_count = machine->device_count,
		.serial = true,
		.pvpanic = true,
	};

	for (uint32_t i = 0; i < vcpus; i++) {
		apic_ids[i] = i;
	}
	for (uint32_t i = 0; i < machine->device_count; i++) {
		virtio[i] = (struct acpi_virtio_mmio){
			.base = machine->devices[i]->base,
			.size = PLATFORM_VIRTIO_MMIO_SIZE,
			.gsi = machine->devices[i]->gsi,
		};
	}
	return acpi_write_tables(machine->mem, &description, rsdp, e);
}

char *machine_device_words(const struct machine *machine)
{
	size_t size = (size_t)machine->device_count * DEVICE_WORD_SIZE + 1, len = 0;
	char *words = malloc(size);

	if (words == NULL) {
		return NULL;
	}
	words[0] = '\0';
	for (uint32_t i = 0; i < machine->device_count; i++) {
		const struct machine_device *slot = machine->devices[i];
		int n = snprintf(words + len, size - len,
				 "%svirtio_mmio.device=%lluK@0x%" PRIx64 ":%u", i == 0 ? "" : " ",
				 PLATFORM_VIRTIO_MMIO_SIZE / 1024, slot->base, slot->gsi);

		len += (size_t)n;
	}
	return words;
}
