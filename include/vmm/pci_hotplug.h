/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What firmware and its guest need so that devices of a PCI bus come and go while the machine runs
 * (ACPI 6.4 §5.6.6 notifications, §6.3.3 _EJ0): registers that the methods of the DSDT read and write
 * (src/vmm/acpi_hotplug.c), 12 ports at PLATFORM_PORT_PCI_HOTPLUG. Bit n is device n of bus 0, which
 * is what ACPI calls a slot; 0, the host bridge, never comes nor goes.
 *	+0 arrived, dword: a read returns the slots that have got a device since the last read
 *	+4 wanted, dword: a read returns the slots whose device the host has asked for since
 *	+8 eject, dword: a write lets go of the devices in these slots; reads as 0
 * Registers are accessed as a whole; what else comes reads as all ones and writes nothing.
 *
 * A device that was asked for stays where it is until the guest ejects it, and an eject is for devices
 * that were asked for: everything else that a guest writes is ignored. It leaves the bus before the
 * write has ended, so that a guest which looks again finds the slot empty; what is behind it is taken
 * down by the thread that owns the machine. A request that the guest does not follow stays, and a
 * machine reset fulfils it.
 *
 * Threads: vCPUs at the registers; the thread that owns the machine, and main, at the functions. One
 * lock, which is not held during calls of the sink. Saved: the masks.
 */
#ifndef VMM_PCI_HOTPLUG_H
#define VMM_PCI_HOTPLUG_H

#include <pthread.h>

#include "vmm/bus.h"
#include "vmm/error.h"
#include "vmm/state.h"
#include "vmm/types.h"

#define PCI_HOTPLUG_PORTS   12
#define PCI_HOTPLUG_ARRIVED 0
#define PCI_HOTPLUG_WANTED  4
#define PCI_HOTPLUG_EJECT   8

struct pci_hotplug;

struct pci_hotplug_sink {
	/* The guest has something to read: raises the event. Any thread. */
	void (*notify)(struct pci_hotplug_sink *sink);
	/* vCPU: takes the device in the slot off the bus. May wait for accesses that have found it. */
	void (*eject)(struct pci_hotplug_sink *sink, uint32_t slot);
	/* vCPU: pci_hotplug_take() has something. */
	void (*left)(struct pci_hotplug_sink *sink);
};

/* What is saved. */
struct pci_hotplug_state {
	uint32_t arrived, wanted; /* not read yet */
	uint32_t leaving;	  /* asked for and still known to us */
	uint32_t left;		  /* of these: ejected */
};

struct pci_hotplug {
	struct pci_hotplug_sink *sink; /* borrowed */
	pthread_mutex_t lock;
	struct pci_hotplug_state state;
	uint32_t ejecting; /* a vCPU is at it: of `leaving`, not of `left` */
};

extern const struct bus_ops pci_hotplug_bus_ops;
extern const struct state_desc pci_hotplug_state;

void pci_hotplug_init(struct pci_hotplug *hotplug, struct pci_hotplug_sink *sink);
/* Accepts a zeroed one. */
void pci_hotplug_finish(struct pci_hotplug *hotplug);

/* The thread that owns the machine. The slot has a device now: tells the guest. */
void pci_hotplug_added(struct pci_hotplug *hotplug, uint32_t slot);
/* Asks the guest for the device in the slot; again, if it was asked before. */
void pci_hotplug_request(struct pci_hotplug *hotplug, uint32_t slot);
/* The device goes without the guest. False: the guest has ejected it or is at it. */
bool pci_hotplug_withdraw(struct pci_hotplug *hotplug, uint32_t slot);
/* Slots whose devices are to be taken down: those that were ejected; before a machine reset, with
 * vCPUs parked, all that were asked for (`all`). They are free once the caller has done so. */
uint32_t pci_hotplug_take(struct pci_hotplug *hotplug, bool all);
/* vCPUs are parked; take() came before. */
void pci_hotplug_reset(struct pci_hotplug *hotplug);

/* Any thread: the guest has read that the device in the slot was asked for. */
bool pci_hotplug_heard(struct pci_hotplug *hotplug, uint32_t slot);

#endif
