// SPDX-License-Identifier: Apache-2.0
/*
 * How a guest finds the machine's devices by ACPI tables: each describes itself. Main thread, before the first instruction and
 * again at a machine reset; the guest controls nothing here.
 */
#include "../acpi_nodes.h"
#include "../devices/virtio_node.h"
#include "vmm/acpi.h"

static void describe_devices(const struct acpi_machine *description, struct aml *aml)
{
	struct machine *machine = description->devices;

	for (uint32_t i = 0; i < machine->count; i++) {
		const struct device *device = machine->devices[i];

		acpi_describe_node(aml, device->kind);
		if (device->kind->ops->describe != NULL) {
			device->kind->ops->describe(device, machine, aml);
		}
	}
}

int machine_write_acpi(struct machine *machine, uint32_t vcpus, gpa_t *rsdp, struct error *e)
{
	uint32_t apic_ids[PLATFORM_VCPUS_MAX];
	struct acpi_virtio_mmio virtio[PLATFORM_VIRTIO_MMIO_MAX];
	const struct pci_host *host = pci_host_of(machine);
	struct acpi_pci pci;
	struct acpi_machine description = {
		.vcpus = vcpus,
		.apic_ids = apic_ids,
		.virtio = virtio,
		.pci = host != NULL ? &pci : NULL,
		.describe = describe_devices,
		.devices = machine,
	};

	if (host != NULL) {
		pci_host_announce(host, &pci);
	}
	for (uint32_t i = 0; i < vcpus; i++) {
		apic_ids[i] = i;
	}
	for (uint32_t i = 0; host == NULL && i < machine->count; i++) {
		if (device_is_virtio(machine->devices[i])) {
			const struct virtio_node *node = virtio_node_of(machine->devices[i]);

			virtio[description.virtio_count++] = (struct acpi_virtio_mmio){
				.base = node->base,
				.size = PLATFORM_VIRTIO_MMIO_SIZE,
				.gsi = node->gsi,
			};
		}
	}
	return acpi_write_tables(machine->mem, &description, rsdp, e);
}
