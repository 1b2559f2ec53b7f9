/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bus: who is on it, the ways into configuration space, and where BARs answer; vmm/pci.h has the
 * rules.
 *
 * Configuration ports (PCI Local Bus 3.0 §3.2.2.3.2): the address register takes double words only,
 * so that what lies in between (0xcf9 is a reset register on some boards) stays nobody's. Data and
 * ECAM (PCI Express Base 5.0 §7.2.2) take what fits into one double word, at any byte of it, as byte
 * enables can say it. ECAM has 4 KiB a function, of which a conventional one has the first 256 bytes.
 *
 * Where BARs answer is computed anew from all of them, by rising devfn, whenever one changes or a
 * function comes or goes: the first has the place. So it depends on nothing but the registers, and
 * ops->mapped and ops->unmapped never see two functions at one address.
 *
 * Threads and locks: vmm/pci.h. The guest controls every address and value. Saved: the address
 * register, and the bridge's configuration space.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "pci_internal.h"
#include "vmm/cleanup.h"
#include "vmm/overflow.h"
#include "vmm/platform.h"

#define ECAM_FUNCTION_BITS   12
#define HEADER_MULTIFUNCTION 0x80

#define ADDRESS_ENABLE	 (1U << 31)
#define ADDRESS_BUS(a)	 ((a) >> 16 & 0xff)
#define ADDRESS_DEVFN(a) ((uint8_t)((a) >> 8))
#define ADDRESS_MASK	 (ADDRESS_ENABLE | 0xfffffcU)

static const struct state_field bus_fields[] = {
	STATE_FIELD(1, struct pci_bus_registers, config_address, 1),
};

static int bus_validate(const void *object, const void *owner, struct error *e)
{
	const struct pci_bus_registers *registers = object;
	uint32_t address = atomic_load(&registers->config_address);

	(void)owner;
	if ((address & ~ADDRESS_MASK) != 0) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "PCI bus: impossible configuration address 0x%x", address);
	}
	return 0;
}

const struct state_desc pci_bus_state = STATE_DESC_IN(struct pci_bus, registers, "pci-bus", 1,
						      bus_fields, .validate = bus_validate);

uint32_t pci_bus_parts(struct pci_bus *bus, struct state_part parts[PCI_BUS_STATES])
{
	parts[0] = (struct state_part){ &pci_bus_state, bus };
	parts[1] = (struct state_part){ &pci_config_state, &bus->bridge.config };
	return PCI_BUS_STATES;
}

/* Whoever is there is kept until put(). */
static struct pci_function *get(struct pci_bus *bus, uint8_t devfn)
{
	SCOPED_LOCK(&bus->lock);

	for (struct pci_function *f = bus->first; f != NULL; f = f->next) {
		if (f->config.devfn == devfn) {
			f->users++;
			return f;
		}
	}
	return NULL;
}

static struct pci_function *get_by_address(struct pci_bus *bus, gpa_t address, unsigned int size,
					   uint64_t *offset)
{
	SCOPED_LOCK(&bus->lock);

	for (struct pci_function *f = bus->first; f != NULL; f = f->next) {
		if (f->base != 0 && address >= f->base &&
		    range_within(address - f->base, size, f->bar_size)) {
			*offset = address - f->base;
			f->users++;
			return f;
		}
	}
	return NULL;
}

static void put(struct pci_bus *bus, struct pci_function *function)
{
	SCOPED_LOCK(&bus->lock);

	if (--function->users == 0) {
		(void)pthread_cond_broadcast(&bus->idle);
	}
}

/* Configuration space ------------------------------------------------------------------------ */

static uint64_t config_read(struct pci_bus *bus, uint8_t devfn, uint32_t reg, unsigned int size)
{
	struct pci_function *function;
	uint64_t value;

	if (reg >= PCI_CONFIG_SIZE || reg % 4 + size > 4) {
		return UINT64_MAX;
	}
	atomic_store_explicit(&bus->asked, true, memory_order_relaxed);
	function = get(bus, devfn);
	if (function == NULL) {
		return UINT64_MAX;
	}
	value = pci_function_read(function, reg, size);
	put(bus, function);
	return value;
}

static void config_write(struct pci_bus *bus, uint8_t devfn, uint32_t reg, unsigned int size,
			 uint32_t value)
{
	struct pci_function *function;

	if (reg >= PCI_CONFIG_SIZE || reg % 4 + size > 4) {
		return;
	}
	function = get(bus, devfn);
	if (function != NULL) {
		pci_function_write(function, reg, size, value);
		put(bus, function);
	}
}

static uint64_t ecam_read(void *device, uint64_t offset, unsigned int size)
{
	return config_read(device, (uint8_t)(offset >> ECAM_FUNCTION_BITS),
			   offset & ((1U << ECAM_FUNCTION_BITS) - 1), size);
}

static void ecam_write(void *device, uint64_t offset, unsigned int size, uint64_t value)
{
	config_write(device, (uint8_t)(offset >> ECAM_FUNCTION_BITS),
		     offset & ((1U << ECAM_FUNCTION_BITS) - 1), size, (uint32_t)value);
}

static uint64_t address_read(void *device, uint64_t offset, unsigned int size)
{
	const struct pci_bus *bus = device;

	(void)offset;
	return size == 4 ? atomic_load(&bus->registers.config_address) : UINT64_MAX;
}

static void address_write(void *device, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pci_bus *bus = device;

	(void)offset;
	if (size == 4) {
		atomic_store(&bus->registers.config_address, (uint32_t)value & ADDRESS_MASK);
	}
}

/* Two vCPUs that use the ports at once without a lock of their own get what they ask for: any
 * function's register. */
static bool addressed(const struct pci_bus *bus, uint8_t *devfn, uint32_t *reg)
{
	uint32_t address = atomic_load(&bus->registers.config_address);

	*devfn = ADDRESS_DEVFN(address);
	*reg = address & 0xfc;
	return (address & ADDRESS_ENABLE) != 0 && ADDRESS_BUS(address) == 0;
}

static uint64_t data_read(void *device, uint64_t offset, unsigned int size)
{
	uint8_t devfn;
	uint32_t reg;

	return addressed(device, &devfn, &reg)
		       ? config_read(device, devfn, reg + (uint32_t)offset, size)
		       : UINT64_MAX;
}

static void data_write(void *device, uint64_t offset, unsigned int size, uint64_t value)
{
	uint8_t devfn;
	uint32_t reg;

	if (addressed(device, &devfn, &reg)) {
		config_write(device, devfn, reg + (uint32_t)offset, size, (uint32_t)value);
	}
}

/* BARs --------------------------------------------------------------------------------------- */

static uint64_t aperture_read(void *device, uint64_t offset, unsigned int size)
{
	struct pci_bus *bus = device;
	struct pci_function *function = get_by_address(bus, bus->aperture + offset, size, &offset);
	uint64_t value;

	if (function == NULL) {
		return UINT64_MAX;
	}
	value = function->ops->read(function, offset, size);
	put(bus, function);
	return value;
}

static void aperture_write(void *device, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pci_bus *bus = device;
	struct pci_function *function = get_by_address(bus, bus->aperture + offset, size, &offset);

	if (function != NULL) {
		function->ops->write(function, offset, size, value);
		put(bus, function);
	}
}

/* Where it will answer, given those before it on the list; 0: nowhere. */
static gpa_t find_place(const struct pci_bus *bus, const struct pci_function *function)
{
	if (function->wanted < bus->aperture ||
	    !range_within(function->wanted - bus->aperture, function->bar_size,
			  bus->aperture_size)) {
		return 0;
	}
	for (const struct pci_function *f = bus->first; f != function; f = f->next) {
		if (f->place != 0 &&
		    ranges_overlap(f->place, f->bar_size, function->wanted, function->bar_size)) {
			return 0;
		}
	}
	return function->wanted;
}

static void unmap(struct pci_function *function)
{
	gpa_t base = function->base;

	function->base = 0;
	if (base != 0 && function->ops->unmapped != NULL) {
		function->ops->unmapped(function, base);
	}
}

/* Under the lock. */
static void place_all(struct pci_bus *bus)
{
	for (struct pci_function *f = bus->first; f != NULL; f = f->next) {
		f->place = find_place(bus, f);
		if (f->base != f->place) {
			unmap(f);
		}
	}
	for (struct pci_function *f = bus->first; f != NULL; f = f->next) {
		if (f->base != f->place) {
			f->base = f->place;
			if (f->ops->mapped != NULL) {
				f->ops->mapped(f, f->base);
			}
		}
	}
}

void pci_function_loaded(struct pci_function *function)
{
	struct pci_bus *bus = function->bus;

	SCOPED_LOCK(&bus->lock);
	function->wanted = pci_function_wanted(function);
	place_all(bus); /* without this one, if it has been taken out meanwhile */
}

/* The bus ------------------------------------------------------------------------------------ */

void pci_bus_init(struct pci_bus *bus, gpa_t aperture, uint64_t aperture_size)
{
	/* Red Hat's generic host bridge, which has no driver and needs none. */
	static const struct pci_identity identity = {
		.vendor = 0x1b36,
		.device = 0x0008,
		.class_code = 0x060000,
	};
	static const struct pci_function_ops ops = { 0 };

	VMM_BUG_ON(aperture == 0 || aperture % PCI_BAR_SIZE_MAX != 0 ||
		   aperture_size < PCI_BAR_SPACE);
	memset(bus, 0, sizeof(*bus));
	bus->aperture = aperture;
	bus->aperture_size = aperture_size;
	(void)pthread_mutex_init(&bus->lock, NULL);
	(void)pthread_cond_init(&bus->idle, NULL);
	pci_function_init(&bus->bridge, &ops, "host bridge", &identity, 0);
	bus->bridge.bus = bus;
	bus->first = &bus->bridge;
}

int pci_bus_attach(struct pci_bus *bus, struct bus *ports, struct bus *mmio, struct error *e)
{
	static const struct bus_ops address_ops = { .read = address_read, .write = address_write };
	static const struct bus_ops data_ops = { .read = data_read, .write = data_write };
	static const struct bus_ops ecam_ops = { .read = ecam_read, .write = ecam_write };
	static const struct bus_ops aperture_ops = { .read = aperture_read,
						     .write = aperture_write };
	int r = bus_add(ports, PLATFORM_PORT_PCI_ADDRESS, 4, &address_ops, bus, "pci address", e);

	if (r == 0) {
		r = bus_add(ports, PLATFORM_PORT_PCI_DATA, 4, &data_ops, bus, "pci data", e);
	}
	if (r == 0) {
		r = bus_add(mmio, PLATFORM_PCI_ECAM, PLATFORM_PCI_ECAM_SIZE, &ecam_ops, bus,
			    "pci ecam", e);
	}
	return r == 0 ? bus_add(mmio, bus->aperture, bus->aperture_size, &aperture_ops, bus,
				"pci aperture", e)
		      : r;
}

void pci_bus_finish(struct pci_bus *bus)
{
	if (bus->first == NULL) {
		return;
	}
	VMM_BUG_ON(bus->first != &bus->bridge || bus->bridge.next != NULL);
	bus->bridge.bus = NULL;
	pci_function_finish(&bus->bridge);
	(void)pthread_cond_destroy(&bus->idle);
	(void)pthread_mutex_destroy(&bus->lock);
	bus->first = NULL;
}

/* The link that points, or will point, to `devfn`. */
static struct pci_function **find_link(struct pci_bus *bus, uint8_t devfn)
{
	struct pci_function **link = &bus->first;

	while (*link != NULL && (*link)->config.devfn < devfn) {
		link = &(*link)->next;
	}
	return link;
}

/* Function 0 tells that it is not the only one (§6.2.1). False: there is none. */
static bool tell_of_functions(struct pci_bus *bus, uint8_t devfn)
{
	struct pci_function *zero = get(bus, PCI_DEVFN(devfn >> 3, 0));

	if (zero == NULL) {
		return false;
	}
	{
		SCOPED_LOCK(&zero->lock);
		pci_function_fix(zero, PCI_HEADER_TYPE, 1, HEADER_MULTIFUNCTION);
	}
	put(bus, zero);
	return true;
}

int pci_bus_add(struct pci_bus *bus, struct pci_function *function, uint8_t devfn, struct error *e)
{
	gpa_t bar = bus->aperture + devfn * PCI_BAR_SIZE_MAX;
	struct pci_function **link;

	if (devfn % 8 != 0 && !tell_of_functions(bus, devfn)) {
		return error_set(e, ERROR_INTERNAL, ENODEV,
				 "PCI function %02x.%u '%s': there is no function 0", devfn >> 3,
				 devfn % 8U, function->name);
	}
	if (function->bar_size != 0) {
		pci_function_fix(function, PCI_BASE_ADDRESS_0, 4,
				 (uint32_t)bar | PCI_BASE_ADDRESS_MEM_TYPE_64);
		pci_function_fix(function, PCI_BASE_ADDRESS_1, 4, (uint32_t)(bar >> 32));
	}
	SCOPED_LOCK(&bus->lock);
	link = find_link(bus, devfn);
	if (*link != NULL && (*link)->config.devfn == devfn) {
		return error_set(e, ERROR_INTERNAL, EEXIST,
				 "PCI function %02x.%u '%s': '%s' is there", devfn >> 3, devfn % 8U,
				 function->name, (*link)->name);
	}
	function->bus = bus;
	function->config.devfn = devfn;
	function->next = *link;
	*link = function;
	function->wanted = pci_function_wanted(function);
	place_all(bus);
	return 0;
}

/* Under the lock. */
static void take_out(struct pci_bus *bus, struct pci_function *function)
{
	*find_link(bus, function->config.devfn) = function->next;
	unmap(function);
	place_all(bus);
	while (function->users != 0) {
		(void)pthread_cond_wait(&bus->idle, &bus->lock);
	}
	function->bus = NULL;
}

void pci_bus_remove(struct pci_bus *bus, struct pci_function *function)
{
	SCOPED_LOCK(&bus->lock);

	if (function->bus != NULL) {
		take_out(bus, function);
	}
}

void pci_bus_remove_device(struct pci_bus *bus, uint32_t device)
{
	const uint8_t devfn = PCI_DEVFN(device, 0);
	struct pci_function *function;

	SCOPED_LOCK(&bus->lock);
	function = *find_link(bus, devfn);
	if (function != NULL && function->config.devfn == devfn) {
		take_out(bus, function);
	}
}

uint32_t pci_bus_count(struct pci_bus *bus, uint32_t device)
{
	uint32_t count = 0;

	SCOPED_LOCK(&bus->lock);
	for (const struct pci_function *f = bus->first; f != NULL; f = f->next) {
		count += f->config.devfn >> 3 == device ? 1 : 0;
	}
	return count;
}

void pci_function_reset(struct pci_function *function)
{
	SCOPED_LOCK(&function->lock);
	memcpy(function->config.bytes, function->config.power_on, sizeof(function->config.bytes));
	pci_function_loaded(function);
	if (function->ops->reset != NULL) {
		function->ops->reset(function);
	}
}

void pci_bus_reset(struct pci_bus *bus)
{
	atomic_store(&bus->registers.config_address, 0);
	atomic_store(&bus->asked, false);
	pci_function_reset(&bus->bridge);
}
