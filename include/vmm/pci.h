/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One PCI bus (PCI Local Bus 3.0 §6; PCI Express Base 5.0 §7.2 for the ways to configuration space).
 * Bus 0 of segment 0 has a host bridge at 00.0 and conventional functions behind it, each with 256
 * bytes of configuration space and one 64-bit memory BAR, or none. No I/O space, no expansion ROMs,
 * no bridges, no INTx (the interrupt pin is 0): functions interrupt by MSI-X.
 *
 * Ways in: the ECAM window, the configuration ports 0xcf8 and 0xcfc, and the aperture, one window of
 * the MMIO bus in which all BARs lie. So BARs move without touching the bus, which is immutable.
 * What nobody answers reads as all ones, and its write is dropped.
 *
 * BARs: every function's has a place at power-on, aperture + devfn * PCI_BAR_SIZE_MAX, as firmware
 * would give it; memory decoding and bus mastering are off, as hardware has it. A BAR answers while
 * decoding is on, it is wholly inside the aperture, and no function of a lower number has the place.
 *
 * Threads and locks. Configuration space is driven by vCPU threads under the function's `lock`; an
 * access to a BAR holds no lock of ours. The bus' `lock` is taken inside a function's: it guards the
 * list, places of BARs and `users`, and is held for look-ups, not for accesses. `users` keeps a
 * function that an access has found: pci_bus_remove() waits until there is none. An access that has
 * found its function before the BAR moved reaches it, as one does that was on its way.
 *
 * The guest controls address, width, order and value of every access. Saved: the configuration space
 * of each function, and the address register.
 */
#ifndef VMM_PCI_H
#define VMM_PCI_H

#include <pthread.h>
#include <stdatomic.h>

#include "vmm/bus.h"
#include "vmm/error.h"
#include "vmm/state.h"
#include "vmm/types.h"

#define PCI_CONFIG_SIZE	 256
#define PCI_DEVICES_MAX	 32 /* 0 is the host bridge */
#define PCI_BAR_SIZE_MAX KIB(64)
#define PCI_BAR_SPACE \
	(UINT64_C(8) * PCI_DEVICES_MAX * PCI_BAR_SIZE_MAX) /* all of them, side by side */

#define PCI_DEVFN(device, function) ((uint8_t)((device) << 3 | (function)))

struct pci_function;

struct pci_function_ops {
	/*
	 * An access to the BAR, wholly inside it: 1, 2, 4 or 8 bytes at any offset. vCPU threads, no
	 * lock held, several at once. All that a function without a BAR needs not have.
	 */
	uint64_t (*read)(struct pci_function *function, uint64_t offset, unsigned int size);
	void (*write)(struct pci_function *function, uint64_t offset, unsigned int size,
		      uint64_t value);
	/*
	 * Under the bus' lock: writes to the BAR come to `base` from now on; come no more. Never twice
	 * in a row. NULL: nothing. Must not take the function's lock, nor wait.
	 */
	void (*mapped)(struct pci_function *function, gpa_t base);
	void (*unmapped)(struct pci_function *function, gpa_t base);
	/*
	 * Under the function's lock, 1 to 4 bytes inside one double word. Read: what the guest gets
	 * for registers that are more than memory; `value` is what is stored. Written: afterwards,
	 * writable bits are stored and the BAR has its place. NULL: nothing.
	 */
	uint32_t (*config_read)(struct pci_function *function, uint32_t offset, unsigned int size,
				uint32_t value);
	void (*config_written)(struct pci_function *function, uint32_t offset, unsigned int size);
	/* pci_function_reset(): configuration space is as at power-on. NULL: nothing. */
	void (*reset)(struct pci_function *function);
};

/* Configuration space as memory with read-only bits. */
struct pci_config {
	uint8_t bytes[PCI_CONFIG_SIZE]; /* saved */
	uint8_t devfn;			/* saved: a guest knows devices by their places */
	uint8_t power_on[PCI_CONFIG_SIZE];
	uint8_t writable[PCI_CONFIG_SIZE];
	uint32_t end;	    /* where the next capability goes */
	uint32_t last_link; /* the register that will point to it */
};

extern const struct state_desc pci_config_state;

struct pci_identity {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class_code; /* base class, subclass, interface: 24 bits */
	uint8_t revision;
};

struct pci_function {
	const struct pci_function_ops *ops;
	const char *name;  /* borrowed, for messages */
	uint32_t bar_size; /* a power of 2 from 16 on; 0: no BAR */
	pthread_mutex_t lock;
	struct pci_config config; /* under the lock */

	/* Under the bus' lock. */
	struct pci_bus *bus; /* NULL: on none */
	struct pci_function *next;
	uint32_t users;
	/* Of the BAR, 0: nowhere. */
	gpa_t wanted; /* by BAR and command register */
	gpa_t place;  /* wanted, possible and free: what becomes `base` */
	gpa_t base;   /* where it answers */
};

/* Building: before pci_bus_add(), one thread. A function that was never added can be forgotten after
 * pci_function_finish(), which accepts a zeroed one. */
void pci_function_init(struct pci_function *function, const struct pci_function_ops *ops,
		       const char *name, const struct pci_identity *identity, uint32_t bar_size);
void pci_function_finish(struct pci_function *function);
/* Appends a capability: `body` is what follows id and link. Returns where it is. There must be room. */
uint32_t pci_add_capability(struct pci_function *function, uint8_t id, const void *body,
			    size_t len);
/* Bits that the guest may write, of 1, 2 or 4 bytes at `offset`. */
void pci_make_writable(struct pci_function *function, uint32_t offset, unsigned int size,
		       uint32_t mask);

/* Registers, by whoever holds the lock. */
uint32_t pci_config_get(const struct pci_function *function, uint32_t offset, unsigned int size);
void pci_config_set(struct pci_function *function, uint32_t offset, unsigned int size,
		    uint32_t value);
/* Whether [offset, offset + size) touches `len` bytes at `reg`. */
static inline bool pci_touches(uint32_t offset, unsigned int size, uint32_t reg, uint32_t len)
{
	return offset < reg + len && reg < offset + size;
}

struct pci_bus_registers {
	_Atomic uint32_t config_address;
};

struct pci_bus {
	pthread_mutex_t lock;
	pthread_cond_t idle; /* some function has no more users */
	gpa_t aperture;
	uint64_t aperture_size;
	struct pci_function *first; /* by rising devfn */
	struct pci_function bridge;
	struct pci_bus_registers registers;
	_Atomic bool asked; /* configuration space was read since the last reset; not saved */
};

extern const struct state_desc pci_bus_state; /* of struct pci_bus: its registers */
/* Its tables: the registers, and the bridge's configuration space. */
#define PCI_BUS_STATES 2
uint32_t pci_bus_parts(struct pci_bus *bus, struct state_part parts[PCI_BUS_STATES]);

/* Makes the bus with its host bridge. The aperture is not at 0, a multiple of PCI_BAR_SIZE_MAX, and has
 * PCI_BAR_SPACE at least. */
void pci_bus_init(struct pci_bus *bus, gpa_t aperture, uint64_t aperture_size);
/* Puts its windows on the buses, before any vCPU runs. */
int pci_bus_attach(struct pci_bus *bus, struct bus *ports, struct bus *mmio, struct error *e);
/* Every function but the bridge has been removed. Accepts a zeroed bus. */
void pci_bus_finish(struct pci_bus *bus);
/*
 * Puts a complete function on the bus, at any time: the guest finds it from now on. ERROR_INTERNAL
 * if somebody is there, or if the number is beyond 0 and function 0 of the device is missing.
 * The thread that owns the machine.
 */
int pci_bus_add(struct pci_bus *bus, struct pci_function *function, uint8_t devfn, struct error *e);
/*
 * Takes it out, at any time: its BAR is unmapped, nobody finds it any more, and accesses that have
 * found it are waited for, vCPUs that wait for its workers included. Afterwards none of its ops is
 * called. Functions of the same device are removed before function 0. Nothing if it is on no bus.
 * Not a worker, nor inside an access to the function; no two at once.
 */
void pci_bus_remove(struct pci_bus *bus, struct pci_function *function);
/* The same of function 0 of a device, by its number, if somebody is there. */
void pci_bus_remove_device(struct pci_bus *bus, uint32_t device);
/* How many functions the device of that number has. */
uint32_t pci_bus_count(struct pci_bus *bus, uint32_t device);
/* To power-on, the BAR to its first place; the bus' own registers and the bridge. vCPUs are parked. */
void pci_function_reset(struct pci_function *function);
void pci_bus_reset(struct pci_bus *bus);
/* Configuration space was loaded: the BAR goes where it says. vCPUs are parked. */
void pci_function_loaded(struct pci_function *function);

#endif
