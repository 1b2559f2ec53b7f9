/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PCI bus as a device: made before those that sit on it, reset and destroyed after them. BARs are
 * above all RAM (platform_pci_aperture()); a guest's physical addresses are as wide as the host's.
 *
 * By the thread that owns the machine; what the guest controls is in src/devices/pci. Saved: the bus.
 * Routes and doorbells follow from what is saved of its functions.
 */
#include "pci.h"

#include <errno.h>

#include "../acpi_nodes.h"
#include "../arch.h"
#include "../places.h"
#include "vmm/vm_config.h"

#define SLOTS	    (PCI_DEVICES_MAX - 1)
#define NARROW_BITS 36 /* of a physical address: every processor of 64 bits has these */

static int find_slot(struct pci_host *host, uint8_t *devfn, struct error *e)
{
	for (uint32_t device = 1; device <= SLOTS; device++) {
		if (pci_bus_count(&host->bus, device) == 0) {
			*devfn = PCI_DEVFN(device, 0);
			return 0;
		}
	}
	(void)error_set(e, ERROR_CONFIG, ENOSPC, "all %d slots of the PCI bus are taken", SLOTS);
	return error_hint(e, "take out a device that is not used any more ('vmm device rm')");
}

int pci_host_place(struct pci_host *host, const struct device *device,
		   const struct machine *machine, uint8_t *devfn, struct error *e)
{
	uint32_t number, behind;

	if (machine->places != NULL) {
		const char *id = device->id != NULL ? device->id : device->name;

		host->placed++; /* what comes later finds a slot for itself */
		return places_find(machine->places, id, devfn)
			       ? 0
			       : error_set(e, ERROR_STATE, ENOENT,
					   "'%s' is in the configuration, and was not saved", id);
	}
	if (host->placed >= host->planned) {
		return find_slot(host, devfn, e);
	}
	number = host->placed++;
	if (number < host->alone) {
		*devfn = PCI_DEVFN(1 + number, 0);
		return 0;
	}
	behind = number - host->alone;
	VMM_BUG_ON(behind / 8 >= SLOTS - host->alone);
	*devfn = PCI_DEVFN(1 + host->alone + behind / 8, behind % 8);
	return 0;
}

/* As many as leave room for the others. */
static uint32_t count_alone(uint32_t devices)
{
	uint32_t alone = MIN(devices, SLOTS);

	while (alone < devices && (devices - alone + 7) / 8 > SLOTS - alone) {
		alone--;
	}
	return alone;
}

static uint32_t count_virtio(const struct vm_config *config)
{
	const struct device_kind *kind;
	uint32_t count = 0;

	for (uint32_t i = 0; (kind = device_kind_at(i)) != NULL; i++) {
		if (kind_is_virtio(kind)) {
			count += kind->count(config);
		}
	}
	return count;
}

static int check_width(gpa_t end, struct error *e)
{
	uint32_t bits = end > UINT64_C(1) << NARROW_BITS ? arch_physical_bits() : NARROW_BITS;

	if (end <= UINT64_C(1) << bits) {
		return 0;
	}
	(void)error_set(e, ERROR_CONFIG, E2BIG,
			"PCI devices have no room above the guest's memory: this processor's "
			"addresses have %u bits",
			bits);
	return error_hint(e, "use less --memory, or --transport mmio");
}

static int pci_create(struct device *device, struct machine *machine,
		      const struct vm_config *config, uint32_t index, struct error *e)
{
	struct pci_host *host = device->object;
	gpa_t aperture = platform_pci_aperture(config->machine.memory_size);
	int r = check_width(aperture + PLATFORM_PCI_APERTURE_SIZE, e);

	(void)index;
	if (r == 0) {
		r = msi_init(&host->msi, machine->kvm, e);
	}
	if (r < 0) {
		return r;
	}
	host->planned = count_virtio(config);
	host->alone = count_alone(host->planned);
	pci_bus_init(&host->bus, aperture, PLATFORM_PCI_APERTURE_SIZE);
	return pci_bus_attach(&host->bus, &machine->ports, &machine->mmio, e);
}

static uint32_t pci_count(const struct vm_config *config)
{
	return vm_config_has_pci(config) ? 1 : 0;
}

static int reset(struct device *device, struct error *e)
{
	struct pci_host *host = device->object;

	(void)e;
	pci_bus_reset(&host->bus);
	return 0;
}

static uint32_t states(struct device *device, struct state_part states[STATE_PARTS_MAX])
{
	struct pci_host *host = device->object;

	return pci_bus_parts(&host->bus, states);
}

void pci_host_announce(const struct pci_host *host, struct acpi_pci *ret)
{
	*ret = (struct acpi_pci){
		.ecam = PLATFORM_PCI_ECAM,
		.ecam_size = PLATFORM_PCI_ECAM_SIZE,
		.aperture = host->bus.aperture,
		.aperture_size = PLATFORM_PCI_APERTURE_SIZE,
	};
}

static void describe(const struct device *device, struct machine *machine, struct aml *aml)
{
	struct acpi_pci pci;

	(void)machine;
	pci_host_announce(device->object, &pci);
	acpi_describe_pci(aml, &pci);
}

static void destroy(struct device *device)
{
	struct pci_host *host = device->object;

	pci_bus_finish(&host->bus);
	msi_finish(&host->msi);
}

static const struct device_ops ops = {
	.reset = reset, .states = states, .describe = describe, .destroy = destroy
};

const struct device_kind pci_kind = {
	.name = "pci",
	.size = sizeof(struct pci_host),
	.ops = &ops,
	.count = pci_count,
	.create = pci_create,
};
