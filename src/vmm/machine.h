/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's machine: its devices (vmm/device.h) on the two buses. Private to src/vmm. Built by main
 * before any vCPU runs; reset, quiesced and resumed while all vCPUs are parked.
 *
 * The list is changed by the thread that owns the machine and nobody else, under the lock; that thread
 * reads it without, others under the lock. It is held for a walk of main's (figures) or for the
 * moment that it takes to link or unlink a device, never while one is made, started or taken down.
 */
#ifndef VMM_SRC_MACHINE_H
#define VMM_SRC_MACHINE_H

#include <pthread.h>

#include "kvm.h"
#include "vmm/block.h"
#include "vmm/bus.h"
#include "vmm/device.h"
#include "vmm/metrics.h"
#include "vmm/platform.h"
#include "vmm/power.h"
#include "vmm/sandbox.h"
#include "vmm/vm.h"

/* Platform devices, and all virtio devices. */
#define MACHINE_DEVICES_MAX (16 + PLATFORM_VIRTIO_PCI_MAX)
/* That go at once: one a slot. */
#define MACHINE_GONE_MAX 32

struct places;

struct machine {
	struct kvm *kvm;
	struct irqchip *irqchip;
	struct guest_memory *mem;
	struct vm_host *host;
	struct power_sink *power;
	enum sandbox_mode sandbox;
	struct bus ports, mmio;
	/* A loaded machine: its clocks go on from what they would be had it run all the time. */
	bool clock_steps;
	/* Where devices of a loaded machine were; NULL: it boots. */
	const struct places *places;
	bool disks_later;      /* disks that come are locked by machine_take_disks() */
	bool runs;	       /* what comes now comes within the filter of the owner's thread */
	uint32_t virtio_count; /* that there are: places that have been given away */
	pthread_mutex_t lock;  /* see above */
	uint32_t count;
	struct device *devices[MACHINE_DEVICES_MAX];

	/* machine_plug.c: taken down, for machine_take_gone(). */
	uint32_t gone_count;
	struct device *gone[MACHINE_GONE_MAX];
	/* vCPU: machine_take_left() has something to do. NULL: nobody wants to know. */
	void (*device_left)(struct machine *machine);
};

/* devices/kinds.c: every type of device, in the order in which they are made. NULL: no more. */
const struct device_kind *device_kind_at(uint32_t index);

int machine_init(struct machine *machine, const struct vm_config *config, struct kvm *kvm,
		 struct irqchip *irqchip, struct guest_memory *mem, struct vm_host *host,
		 struct power_sink *power, struct error *e);
/* Starts the workers' threads: after the sandbox of the process, at any time before or while vCPUs
 * run. After a failure: machine_cancel_workers(). */
int machine_start_workers(struct machine *machine, struct error *e);
/* Those that were not started never will be: a vCPU may wait for one, and who holds vCPUs for that
 * vCPU. */
void machine_cancel_workers(struct machine *machine);
int machine_reset(struct machine *machine, struct error *e);
void machine_quiesce(struct machine *machine);
void machine_resume(struct machine *machine);
/* vCPUs are gone. Accepts a zeroed or half-made machine. */
void machine_finish(struct machine *machine);

/*
 * save.c: the state of vCPUs (NULL: without them) and of all devices. vCPUs are parked, devices
 * quiesced, and stay so. Load: into a machine built of the same devices; ERROR_STATE names the object
 * and what is wrong with it. A load that fails has changed nothing.
 */
struct vcpus;
int machine_save(struct machine *machine, struct vcpus *vcpus, struct state_buf *buf,
		 struct error *e);
int machine_load(struct machine *machine, struct vcpus *vcpus, const uint8_t *data, size_t len,
		 struct error *e);
/* Whether it could be loaded: everything is, KVM's part as well, and is then as it was before. */
int machine_try_load(struct machine *machine, struct vcpus *vcpus, const uint8_t *data, size_t len,
		     struct error *e);

/*
 * generation.c: which copy of itself the guest is (vmm/vmgenid.h, vmm/vmclock.h). vCPUs are parked.
 *
 * begin: before the first boot. write: at each boot, into fresh RAM, the same after a reset.
 * new: what was loaded or forked is a copy. After machine_load() and when memory has its content, before the
 * first instruction: fresh random bytes in place of those that were loaded, pages marked as written, and the
 * event that the guest hears of as soon as it runs. Not after a migration, which leaves one of the two.
 * Once more does no harm. An error is getrandom(2)'s, or memory that has no RAM below 1 MiB.
 */
int machine_begin_generation(struct machine *machine, struct error *e);
int machine_write_generation(struct machine *machine, struct error *e);
int machine_new_generation(struct machine *machine, struct error *e);

/*
 * announce.c: the guest goes on somewhere else, or is a copy: its network cards say where they are now
 * (vmm/virtio_net.h). Once, after a restore, a fork or a migration, when the guest is let go on: devices
 * were resumed, vCPUs are parked still. Not at a boot. What fails is logged.
 */
void machine_announce(struct machine *machine);

/* The object of the first device of that kind; NULL: there is none. Any thread. */
void *machine_object(struct machine *machine, const struct device_kind *kind);
/* NULL with `e` set: there is none of that kind with that id. The owner's thread. */
struct device *machine_find(const struct machine *machine, const struct device_kind *kind,
			    const char *id, struct error *e);

/* Parts of making and unmaking, by the owner's thread. device_make() leaves half a device in *ret if it
 * fails; the last two accept that, and NULL. */
int device_make(struct device **ret, struct machine *machine, const struct vm_config *config,
		const struct device_kind *kind, uint32_t index, struct error *e);
void device_destroy(struct device *device); /* all but id and names */
void device_free(struct device *device);
/* For create(). */
bool machine_has_name(const struct machine *machine, const char *name);
/* Behind the last of its kind; there must be room. */
void machine_link(struct machine *machine, struct device *device);
void machine_unlink(struct machine *machine, struct device *device);

/* machine_plug.c: devices that come and go while the machine runs; see vmm/vm.h. */
int machine_add_device(struct machine *machine, const struct vm_config *config,
		       const struct device_kind *kind, uint32_t index, struct error *e);
int machine_remove_device(struct machine *machine, const struct device_kind *kind, const char *id,
			  bool force, struct error *e);
/* What the guest has ejected; with `all`, before a reset with vCPUs parked, all that it was asked for. */
void machine_take_left(struct machine *machine, bool all);
/* What has been taken down since the last call, empty: their number. device_free() is the caller's. */
uint32_t machine_take_gone(struct machine *machine, struct device *gone[MACHINE_GONE_MAX]);
/* The guest has read that the device was asked for. Any thread. */
bool machine_removal_heard(struct machine *machine, const struct device_kind *kind, const char *id);

/* machine_change.c: changes while the workers run; see vmm/vm.h. */
int machine_replace_disk(struct machine *machine, const char *id, const char *path,
			 struct error *e);
int machine_limit_disk(struct machine *machine, const char *id,
		       const struct rate_limit_config *limiter, struct error *e);
int machine_limit_net(struct machine *machine, const char *id, const struct rate_limit_config *rx,
		      const struct rate_limit_config *tx, struct error *e);

/* machine_disks.c: who has the disks; see vmm/vm.h. vCPUs are parked, devices quiesced. */
int machine_release_disks(struct machine *machine, bool stay_here, struct error *e);
int machine_take_disks(struct machine *machine, struct error *e);
void machine_sync_disks(struct machine *machine); /* at any time */
/* A disk is not ours. */
bool machine_lacks_disks(const struct machine *machine);

/* figures.c: see vmm/vm.h. */
void machine_add_totals(struct machine *machine, uint64_t totals[DEVICE_TOTALS]);
void machine_write_metrics(struct machine *machine, struct metrics_text *text);
void machine_visit_figures(struct machine *machine, vm_figure_visitor *visit, void *arg);

/* The machine as a guest finds it. x86/describe.c: ACPI tables. machine_words.c: words for a command
 * line (NULL: out of memory; free()). */
int machine_write_acpi(struct machine *machine, uint32_t vcpus, gpa_t *rsdp, struct error *e);
bool machine_needs_words(struct machine *machine);
char *machine_device_words(const struct machine *machine);

#endif
