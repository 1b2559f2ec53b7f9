/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtual machine: the only contract of src/vmm towards what lies above it. One VM per process.
 *
 * Life (all functions on the main thread):
 *
 *	            vm_create          vm_start           power event, vm_stop
 *	(nothing) ------------> CREATED --------> RUNNING ---------------------> STOPPED
 *	                                          |     ^
 *	                                 vm_pause v     | vm_resume
 *	                                          PAUSED -----------------------> STOPPED
 *
 *	CREATED	  everything is open and allocated, no thread runs guest code
 *	RUNNING	  vCPU threads in KVM_RUN, workers serve queues
 *	PAUSED	  vCPUs parked, workers quiesced: state is readable
 *	STOPPED	  final; `stopped` was called once with the reason
 *
 * Order of a start: vm_create() opens everything; the caller enters the process sandbox; vm_start() starts threads, each of
 * which enters its own filter before it touches guest data.
 */
#ifndef VMM_VM_H
#define VMM_VM_H

#include "vmm/console.h"
#include "vmm/error.h"
#include "vmm/loop.h"
#include "vmm/metrics.h"
#include "vmm/power.h"
#include "vmm/types.h"
#include "vmm/vm_config.h"

enum vm_state { VM_CREATED, VM_RUNNING, VM_PAUSED, VM_STOPPED };

/* Why a VM stopped. */
enum vm_stop_reason {
	VM_STOP_NONE = 0,
	VM_STOP_POWER_OFF,
	VM_STOP_REBOOT, /* with VM_ON_REBOOT_EXIT */
	VM_STOP_PANIC,
	VM_STOP_TRIPLE_FAULT,
	VM_STOP_DEBUG_EXIT, /* `code` is the guest's byte */
	VM_STOP_REQUESTED,  /* vm_stop() */
	VM_STOP_ERROR,	    /* KVM refused to go on, or a reset failed: `error` says why */
	VM_STOP_BOOT_LOOP,  /* may_restart() said no: `error` has its words */
};

struct vm_stop {
	enum vm_stop_reason reason;
	uint8_t code;
	struct error error;
	/* Where a vCPU stood: the one that ended the machine, else the first. Not known: KVM has reset a
	 * vCPU of AMD's after a triple fault. */
	bool has_address;
	uint32_t vcpu;
	uint64_t address;
};

struct vm;

struct vm_host {
	struct loop *loop; /* main's; borrowed */
	/* Main thread, once, from the loop. `stop` lives as long as the VM. */
	void (*stopped)(struct vm_host *host, const struct vm_stop *stop);
	/* Main thread, from the loop: the guest, or vm_reset(), has reset the machine; once for
	 * resets that follow each other quickly. May be NULL. */
	void (*was_reset)(struct vm_host *host);
	/* Main thread: the guest resets the machine, and on_reboot is AUTO. False: it stops with
	 * VM_STOP_BOOT_LOOP, and `why` is filled. May not touch the VM. May be NULL. */
	bool (*may_restart)(struct vm_host *host, struct error *why);
	/* On a thread without a filter, soon after vm_start(): for threads that main cannot start any
	 * more. A failure stops the VM. May be NULL. */
	int (*start_threads)(struct vm_host *host, struct error *e);
	/* Guest output and room for input; NULL members are not allowed, a NULL channel is: output
	 * vanishes. */
	struct console_channel *serial; /* COM1 */
	struct console_channel *hvc;	/* virtio console */
};

struct vm_stats {
	uint64_t resets; /* since start */
	uint64_t exits_io, exits_mmio, exits_other;
	/* Bytes of all disks and of all network cards, as the guest sees their direction. */
	uint64_t disk_read, disk_written, net_received, net_sent;
};

struct vm_vcpu_stats {
	uint64_t exits_io, exits_mmio, exits_other;
	uint64_t exits_io_out, exits_mmio_write; /* of those above */
	uint64_t cpu_time_ns;			 /* of its thread */
};

/*
 * Opens and allocates everything; of `config` nothing is borrowed after that. May run on another
 * thread than main if main does not touch `host` and its loop's sources meanwhile; that thread must
 * have ended before vm_start().
 */
int vm_create(struct vm **ret, const struct vm_config *config, struct vm_host *host,
	      struct error *e);
int vm_start(struct vm *vm, struct error *e);
int vm_pause(struct vm *vm, struct error *e);
int vm_resume(struct vm *vm, struct error *e);
/* Machine reset: RAM is emptied, the kernel loaded again. If that fails half-way, the VM stops with
 * VM_STOP_ERROR and the same error. */
int vm_reset(struct vm *vm, struct error *e);
/* Where the first vCPU stands, by holding the machine for a moment. False: it does not run. */
bool vm_look(struct vm *vm, uint64_t *address);
/* Stops for good; `stopped` is called with VM_STOP_REQUESTED from the loop. */
void vm_stop(struct vm *vm);
void vm_destroy(struct vm *vm);

/* What the guest sees as somebody pressing the power button. -ENOTCONN if the VM does not run. */
int vm_press_power_button(struct vm *vm, struct error *e);
/* Also of one that is paused; a guest that has no driver for the keyboard yet gets it when it has. */
int vm_press_ctrl_alt_del(struct vm *vm, struct error *e);
/* Console input; returns the bytes taken, channel->input_ready() tells when there is room again. */
size_t vm_serial_input(struct vm *vm, const uint8_t *data, size_t len);
size_t vm_hvc_input(struct vm *vm, const uint8_t *data, size_t len);
/* host->hvc takes output again, after its may_output() said no. */
void vm_hvc_output_ready(struct vm *vm);
void vm_console_resize(struct vm *vm, uint16_t columns, uint16_t rows);

/*
 * Changes at run time; RUNNING or PAUSED. `index` is the disk's or card's place in the config given
 * to vm_create().
 *
 * Another file behind a disk (removable media): opened and checked first, then what is in flight is
 * completed, then the new one takes its place and the guest hears of its capacity. A failure leaves
 * the old one. Opening happens on the caller's thread, within main's filter.
 */
int vm_replace_disk(struct vm *vm, uint32_t index, const char *path, struct error *e);
int vm_limit_disk(struct vm *vm, uint32_t index, const struct rate_limit_config *limiter,
		  struct error *e);
/* NULL: that direction stays. */
int vm_limit_net(struct vm *vm, uint32_t index, const struct rate_limit_config *rx,
		 const struct rate_limit_config *tx, struct error *e);

enum vm_state vm_state(const struct vm *vm);
void vm_stats(const struct vm *vm, struct vm_stats *stats);
uint32_t vm_vcpu_count(const struct vm *vm);
/* The kernel's command line as the guest gets it; lives as long as the VM. */
const char *vm_cmdline(const struct vm *vm);
/* `index` is below vm_vcpu_count(). */
void vm_vcpu_stats(const struct vm *vm, uint32_t index, struct vm_vcpu_stats *stats);
/* vCPUs, devices: vmm_vcpu_exits_total, vmm_disk_reads_total{device="vda"}, ... */
void vm_write_metrics(const struct vm *vm, struct metrics_text *text);

/* What this host's KVM can do; for `vmm doctor`. Fills `lines` through `say`; returns negative if
 * no VM can run at all. */
struct kvm_report {
	bool opened;				/* /dev/kvm could be opened and is new enough */
	bool hardware;				/* guest kernel code runs at native speed */
	uint64_t guest_instructions_per_second; /* measured; 0 if no VM could run */
	uint64_t create_vm_ns;
	char missing[512];  /* "irqfd: ...; ..." consequences of absent capabilities, empty if none
			     */
	struct error error; /* why not, if !opened */
};
void kvm_probe(struct kvm_report *report);
/* Is there VT-x or AMD-V below KVM, by the processor's word? If not it interprets guest kernels. At
 * any time, within any filter. */
bool kvm_has_hardware(void);

#endif
