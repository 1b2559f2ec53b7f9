/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's machine: platform devices and virtio devices on the two buses, with their interrupt
 * lines and workers. Private to src/vmm. Built by main before any vCPU runs; reset, quiesced and
 * resumed by main while all vCPUs are parked.
 */
#ifndef VMM_SRC_MACHINE_H
#define VMM_SRC_MACHINE_H

#include "kvm.h"
#include "vmm/acpi_power.h"
#include "vmm/block.h"
#include "vmm/bus.h"
#include "vmm/i8042.h"
#include "vmm/metrics.h"
#include "vmm/platform.h"
#include "vmm/pm_timer.h"
#include "vmm/pvpanic.h"
#include "vmm/rtc.h"
#include "vmm/sandbox.h"
#include "vmm/serial.h"
#include "vmm/virtio.h"
#include "vmm/virtio_mmio.h"
#include "vmm/vm.h"
#include "vmm/worker.h"

#define MACHINE_DEVICE_NAME_SIZE 16

struct machine_device {
	char name[MACHINE_DEVICE_NAME_SIZE];
	struct virtio_device *virtio;
	struct virtio_mmio mmio;
	struct worker workers[VIRTIO_QUEUES_MAX];
	uint32_t worker_count;
	enum sandbox_mode sandbox;
	enum sandbox_role role;
	gpa_t base;
	uint32_t gsi;
	/* A disk: as configured, without strings, which were vm_create()'s caller's. */
	struct block_config disk;
};

struct machine {
	struct kvm *kvm;
	struct irqchip *irqchip;
	struct guest_memory *mem;
	struct bus ports, mmio;
	struct serial serial;
	struct rtc rtc;
	struct i8042 kbc;
	struct acpi_power acpi_power;
	struct pm_timer pm_timer;
	struct pvpanic pvpanic;
	struct debug_exit debug_exit;
	bool platform_ready;
	uint32_t device_count;
	struct machine_device *devices[PLATFORM_VIRTIO_MMIO_MAX];
	uint32_t disk_count, net_count;		  /* the first devices, in this order */
	struct machine_device *console, *entropy; /* NULL: none */
};

int machine_init(struct machine *machine, const struct vm_config *config, struct kvm *kvm,
		 struct irqchip *irqchip, struct guest_memory *mem, struct vm_host *host,
		 struct power_sink *power, struct error *e);
/* Starts the workers' threads: after the sandbox of the process, at any time before or while vCPUs
 * run. A failure cancels those that have not started. */
int machine_start_workers(struct machine *machine, struct error *e);
void machine_reset(struct machine *machine);
void machine_quiesce(struct machine *machine);
void machine_resume(struct machine *machine);
/* Says what is odd about a disk that has just been opened and is used all the same. */
void machine_warn_of_disk(const char *name, const char *path, const struct block *block);
/* machine_change.c: changes while the workers run; see vmm/vm.h. */
int machine_replace_disk(struct machine *machine, uint32_t index, const char *path,
			 struct error *e);
int machine_limit_disk(struct machine *machine, uint32_t index,
		       const struct rate_limit_config *limiter, struct error *e);
int machine_limit_net(struct machine *machine, uint32_t index, const struct rate_limit_config *rx,
		      const struct rate_limit_config *tx, struct error *e);
/* metrics.c: figures of all devices; what they have transferred, into `stats`. */
void machine_add_traffic(const struct machine *machine, struct vm_stats *stats);
void machine_write_metrics(const struct machine *machine, struct metrics_text *text);

/* vCPUs are gone. Accepts a zeroed or half-made machine. */
void machine_finish(struct machine *machine);

/* machine_describe.c: the machine as a guest finds it: ACPI tables, and words for a command line
 * (NULL: out of memory; free()). */
int machine_write_acpi(struct machine *machine, uint32_t vcpus, gpa_t *rsdp, struct error *e);
char *machine_device_words(const struct machine *machine);

#endif
