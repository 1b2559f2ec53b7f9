/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine is a list of devices. Everything that has state of its own beside RAM and vCPUs is an entry
 * with an id: interrupt controllers, platform devices, virtio devices. Reset, pause, save, load,
 * figures, ACPI and command line words walk the list (src/vmm/machine.h); what they need of a type of
 * device stands in its one `struct device_kind`, and all of these in two tables: those of the
 * architecture's platform, arch_device_kinds[], and those of every machine, device_kinds[].
 *
 * Order: devices are made in the order of the table, and of the configuration within a kind; they are
 * reset, stopped and destroyed the other way round, so that interrupt controllers, which come first,
 * outlive the interrupts of the others.
 *
 * Calls are made by the thread that owns the machine, with all vCPUs parked, unless said otherwise.
 */
#ifndef VMM_DEVICE_H
#define VMM_DEVICE_H

#include "vmm/bus.h"
#include "vmm/error.h"
#include "vmm/state_set.h"
#include "vmm/types.h"

#define DEVICE_NAME_SIZE   16
#define DEVICE_WINDOWS_MAX 2

struct aml;
struct machine;
struct vm_config;
struct device_kind;

struct device {
	const struct device_kind *kind;
	/* What clients call it; unique in the machine, and what snapshots know it by. Owned. */
	char *id;
	char name[DEVICE_NAME_SIZE]; /* what messages, threads and figures call it: "vda" */
	void *object;		     /* `size` bytes of the kind's, zeroed before create() */
} __attribute__((aligned(16)));

/* Where a platform device answers, always the same. */
struct device_window {
	uint16_t port, len; /* len 0: no window */
	const struct bus_ops *ops;
};

/* How a guest that reads ACPI finds a platform device, with the ports of its windows. */
struct device_node {
	const char *name, *hid; /* "COM1", "PNP0501"; name NULL: it is not announced like that */
	const char *ddn;	/* NULL: none */
	uint32_t gsi;		/* edge triggered; 0: none */
};

/* Any of them may be NULL: nothing to do. */
struct device_ops {
	/* Threads of its own: after the sandbox of the process, at any time before or while vCPUs run.
	 * cancel(): those that have not started never will. */
	int (*start)(struct device *device, struct error *e);
	void (*cancel)(struct device *device);
	/* Back to power-on. */
	int (*reset)(struct device *device, struct error *e);
	/* Nothing of guest memory and of the device's state changes in between. */
	void (*quiesce)(struct device *device);
	void (*resume)(struct device *device);
	/* Fills `states` with the tables of what is saved, returns how many. */
	uint32_t (*states)(struct device *device, struct state_part states[STATE_PARTS_MAX]);
	/* Quiesced. Before a save: what others hold (KVM, a clock) into the saved object. After a load,
	 * when all objects have what was loaded: out of it, lines of interrupts as registers say. */
	int (*capture)(struct device *device, struct error *e);
	int (*loaded)(struct device *device, struct error *e);
	/* More than a `node`: writes what it is into the DSDT's \_SB (src/vmm/acpi_nodes.h). Before the
	 * first instruction, and at each reset. */
	void (*describe)(const struct device *device, struct machine *machine, struct aml *aml);
	/* vCPUs are gone. Accepts what a failed create() has left. */
	void (*destroy)(struct device *device);
};

/* Sums of several devices that are shown for the VM as a whole. */
enum device_total {
	DEVICE_TOTAL_NONE,
	DEVICE_TOTAL_DISK_READ,
	DEVICE_TOTAL_DISK_WRITTEN,
	DEVICE_TOTAL_NET_RECEIVED,
	DEVICE_TOTAL_NET_SENT,
	DEVICE_TOTALS,
};

/* A counter: a uint64_t member of what the kind's read_figures() fills. */
struct device_figure {
	const char *name;   /* "reads" of "disk": vmm_disk_reads_total */
	const char *theirs; /* Firecracker's names of it, between blanks; NULL: it has none */
	const char *help;
	size_t offset;
	enum device_total total;
};

#define DEVICE_FIGURES_SIZE 256 /* bytes, of the largest that a kind fills */

struct device_figures {
	const char *prefix; /* "disk" */
	const char *theirs; /* Firecracker's group of them; NULL: it has none */
	bool each;	    /* it has a group for each device besides: "block_ID" */
	const struct device_figure *list;
	size_t count;
	/* Any thread, at any time. */
	void (*read)(const struct device *device, void *ret);
};

struct device_kind {
	const char *name; /* "virtio-blk": in saved state, so it never changes */
	size_t size;	  /* of the object */
	const struct device_ops *ops;
	/* How many of them the configuration asks for; NULL: one in every machine. */
	uint32_t (*count)(const struct vm_config *config);
	/*
	 * Makes number `index` of them. Before it: name is the kind's and the id is NULL; it may set
	 * both, an id that stays NULL becomes the name.
	 */
	int (*create)(struct device *device, struct machine *machine,
		      const struct vm_config *config, uint32_t index, struct error *e);
	struct device_window windows[DEVICE_WINDOWS_MAX];
	struct device_node node;
	const struct device_figures *figures; /* NULL: none */
};

/* For create(): copies a client's id; NULL: there is none. */
int device_take_id(struct device *device, const char *id, struct error *e);

#endif
