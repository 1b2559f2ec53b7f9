/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtual machine: the only contract of src/vmm towards what lies above it. One VM per process.
 *
 *	            vm_create          vm_start           power event, vm_stop
 *	(nothing) ------------> CREATED --------> RUNNING ---------------------> STOPPED
 *	                           |              |     ^
 *	                  vm_start |     VM_PAUSE v     | VM_RESUME
 *	                  (paused) +-----------> PAUSED -----------------------> STOPPED
 *
 *	CREATED	  everything is open and allocated, no thread runs guest code
 *	RUNNING	  vCPU threads in KVM_RUN, workers serve queues
 *	PAUSED	  vCPUs parked, workers quiesced: state is readable
 *	STOPPED	  final; `stopped` was called once with the reason
 *
 * A life in three steps. *Build*: KVM's objects, memory, devices: what any VM of this configuration
 * has, whatever its memory holds. *Fill*: a VM that boots gets its kernel into RAM and vCPU 0 before
 * the kernel's first instruction; one that is loaded gets memory and state as they were saved.
 * vm_create() builds and boots, vm_load() builds and loads. *Run*: the caller enters the process
 * sandbox; vm_start() starts threads, each of which enters its own filter before it touches guest data.
 *
 * A reset boots, however the VM was filled: it needs the files of the kernel. Who boots has them
 * open; who was loaded finds them by their paths then, and the VM stops with an error that names the
 * one that is not there.
 *
 * Threads: all functions are main's, but where it says otherwise. From vm_start() on the VM's own
 * thread, "machine", changes the machine, and nobody else: it holds vCPUs, waits for workers, opens
 * disks, starts threads. Main asks it for operations (vm_ask()), hears of their ends by its loop,
 * and never waits, so that a disk that does not answer keeps nobody but who asked for it. Only
 * vm_destroy() waits, and not for ever.
 */
#ifndef VMM_VM_H
#define VMM_VM_H

#include "vmm/console.h"
#include "vmm/error.h"
#include "vmm/guest_memory.h"
#include "vmm/loop.h"
#include "vmm/metrics.h"
#include "vmm/power.h"
#include "vmm/state.h"
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
	VM_STOP_MOVED,	    /* it goes on elsewhere; never from here */
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

/* What can come and go while a VM runs. */
enum vm_device { VM_DISK, VM_NET, VM_DEVICES };

/*
 * What every VM needs of KVM, made before anybody knows which VM it will be. Any thread; NULL: it could not be made, and
 * whoever makes a VM without it hears why.
 */
struct vm_spare;
struct vm_spare *vm_spare_create(void);
/* Accepts NULL. */
void vm_spare_destroy(struct vm_spare *spare);

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
	/* On the thread "machine", before it enters its filter, soon after vm_start(): for what main
	 * cannot do any more. Short: operations wait for it. A failure stops the VM. May be NULL. */
	int (*begin)(struct vm_host *host, struct error *e);
	/* Main thread, from the loop: a disk or card has gone, ejected by the guest, by a reset, or taken
	 * away. Before the operation that has done it is over. Its id may be given again. May be NULL. */
	void (*device_gone)(struct vm_host *host, enum vm_device device, const char *id);
	/* How long main waits for a machine that does not answer before it is given up, in vm_stop()
	 * and vm_destroy(); 0: VM_PATIENCE_NS. */
	uint64_t patience_ns;
	/* Guest output and room for input; NULL members are not allowed, a NULL channel is: output
	 * vanishes. */
	struct console_channel *serial; /* COM1 */
	struct console_channel *hvc;	/* virtio console */
	/* Taken by vm_create() or vm_load(), and NULL then, if they have a use for it. */
	struct vm_spare *spare;
};

struct vm_stats {
	uint64_t resets; /* since start */
	uint64_t exits_io, exits_mmio, exits_other;
	/* Bytes of all disks and of all network cards, as the guest sees their direction. */
	uint64_t disk_read, disk_written, net_received, net_sent;
	bool pci_unseen; /* there is a PCI bus, and the guest has not looked at it in this life */
};

struct vm_vcpu_stats {
	uint64_t exits_io, exits_mmio, exits_other;
	uint64_t exits_io_out, exits_mmio_write; /* of those above */
	uint64_t cpu_time_ns;			 /* of its thread */
};

#define VM_PATIENCE_NS (5 * 1000000000ULL)

/*
 * Builds and fills; of `config` nothing is borrowed after that. May run on another thread than main
 * if main does not touch `host` and its loop's sources meanwhile; that thread must have ended before
 * vm_start().
 */
int vm_create(struct vm **ret, const struct vm_config *config, struct vm_host *host,
	      struct error *e);

/* A VM as it was saved: its memory and, from VM_SAVE, its state. */
struct vm_saved {
	const uint8_t *state;
	size_t state_len;
	/* Makes the regions of an empty memory, with their content, or so that it comes when they are
	 * read. Those of RAM have to be what `config` has. */
	int (*fill)(void *arg, struct guest_memory *mem, struct error *e);
	void *arg;
	const char *cmdline; /* vm_cmdline() of it */
	/* The guest's clocks (kvm-clock, TSC) step over the time that it was not there, by this host's
	 * CLOCK_REALTIME; else they go on where they were. */
	bool clock_steps;
	/*
	 * The VM still runs elsewhere: memory is made, and its content and the state as it will be come later. `state`, of some
	 * moment before, is tried and taken back: what would not fit is known now. The VM does nothing before VM_LOAD.
	 */
	bool comes_later;
	/* Another process has the disks still: they are opened, and neither locked nor written to, until
	 * VM_TAKE_DISKS. vm_start() then has to be `paused`. */
	bool disks_unlocked;
};

/*
 * Builds, and fills with what was saved. `config` is that of the VM when it was saved, with the same
 * devices by id, of the same kinds and with as many queues; what they are connected to may have
 * changed. All of it is hostile: ERROR_STATE names what does not fit, the processor's abilities
 * included. A guest that goes on from a bad state may crash; it harms itself. The kernel is not opened.
 * As vm_create() otherwise; the VM waits for vm_start().
 */
int vm_load(struct vm **ret, const struct vm_config *config, const struct vm_saved *saved,
	    struct vm_host *host, struct error *e);
/* `paused`: the guest's first instruction waits for VM_RESUME. ERROR_WRONG_STATE: a disk is not held, and `paused` is not
 * given; nothing has changed. */
int vm_start(struct vm *vm, bool paused, struct error *e);

/*
 * What can be asked of a VM that runs or is paused, one operation at a time. Between it and the next
 * the VM does what the guest asks for: an event that came first is acted on first.
 *
 *	VM_PAUSE	RUNNING -> PAUSED. -EALREADY: it is paused
 *	VM_RESUME	PAUSED -> RUNNING. -EALREADY: it runs. A power event that came meanwhile follows
 *	VM_RESET	RUNNING: RAM is emptied, the kernel loaded again. If that fails half-way, the VM
 *			stops with VM_STOP_ERROR and the same error
 *	VM_LOOK		RUNNING: where vCPU 0 stands, by holding the machine for a moment
 *	VM_CHANGE_DISK	another file behind a disk (removable media): opened and checked first, then what
 *			is in flight is completed, then it takes its place and the guest hears of its
 *			capacity. A failure leaves the old one. Then limits
 *	VM_CHANGE_NET	limits
 *	VM_ADD_DEVICE	a disk or card more, on PCI: the one of that id in `config`, which is
 *			borrowed until done(). The guest is told by ACPI and finds it by itself; of a VM
 *			that is paused when it runs again
 *	VM_REMOVE_DEVICE RUNNING: the guest is asked to give it back; device_gone() tells when it has, or
 *			when a reset has come before. It may do so late or never: the request stays, and
 *			asking again is telling it again. `force` takes it away at once, unasked, also of
 *			a VM that is paused
 *	VM_SAVE		the state of vCPUs and devices is appended to `buf`, for vm_load(), and also() is
 *			called, on the thread "machine", if it is not NULL: nothing of the guest's memory
 *			changes. RUNNING: the VM stands still for just that, `still_ns`. `buf` NULL:
 *			without the state
 *	VM_LOAD		PAUSED, once, of a VM that `comes_later`: the state that it goes on with. Its memory
 *			has its content. A failure leaves it waiting
 *	VM_MEMORY	use() is called on the thread "machine": it may start, collect and stop tracking
 *	VM_RELEASE_DISKS PAUSED: all disks are given away: what was written is in the files, the locks are dropped, and
 *			nothing is written any more (block_release_lock()). An error: all are held as before,
 *			or, if a disk could not be taken back, some are not, and VM_TAKE_DISKS says why
 *	VM_TAKE_DISKS	PAUSED: the reverse, also of a VM that was loaded with `disks_unlocked`: all, or none
 *			that was not held before (block_take_lock()). What is held stays so
 *	VM_SYNC_DISKS	what the host keeps of disks begins to be written, so that VM_RELEASE_DISKS has less
 *			to wait for (block_sync_ahead())
 *	VM_THROTTLE	RUNNING: for `percent` of the time, 0 to 99, vCPUs do not run guest code; in periods of 10 ms, or
 *			longer ones if the share that is left is short. 0, and VM_PAUSE, end it. Of a VM that resets it goes on
 *	VM_SPAWN	start() is called on the thread "machine", within its filter: it may start threads,
 *			which enter the filter of a role before anything else (SANDBOX_ROLE_JOB)
 *
 * As long as a disk is not held, VM_RESUME, VM_RESET and VM_CHANGE_DISK are refused: ERROR_WRONG_STATE (-EBUSY). A
 * disk that is added is locked as at a start, at once.
 *
 * `id` is the disk's or card's in the config given to vm_create(), or, if it has none there, its name
 * ("vda", "net0"); ERROR_NOT_FOUND. A limit that is NULL stays, and so does the file behind a disk
 * without a path.
 */
enum vm_operation_type {
	VM_PAUSE,
	VM_RESUME,
	VM_RESET,
	VM_LOOK,
	VM_CHANGE_DISK,
	VM_CHANGE_NET,
	VM_ADD_DEVICE,
	VM_REMOVE_DEVICE,
	VM_SAVE,
	VM_LOAD,
	VM_MEMORY,
	VM_SPAWN,
	VM_RELEASE_DISKS,
	VM_TAKE_DISKS,
	VM_SYNC_DISKS,
	VM_THROTTLE,
	VM_OPERATIONS,
};

/* The caller's until done() is called, with all that it points to. */
struct vm_operation {
	enum vm_operation_type type;
	union {
		struct {
			bool known; /* KVM says where */
			uint64_t address;
		} look; /* filled */
		struct {
			const char *id, *path;
			const struct rate_limit_config *limiter;
		} disk;
		struct {
			const char *id;
			const struct rate_limit_config *rx, *tx;
		} net;
		struct {
			enum vm_device device;
			const struct vm_config *config;
			const char *id;
		} add;
		struct {
			enum vm_device device;
			const char *id;
			bool force;
		} remove;
		struct {
			struct state_buf *buf;
			int (*also)(void *arg, struct guest_memory *mem, struct error *e);
			void *arg;
			uint64_t still_ns; /* filled */
		} save;
		struct {
			const uint8_t *state;
			size_t state_len;
		} load;
		struct {
			int (*use)(void *arg, struct guest_memory *mem, struct error *e);
			void *arg;
		} memory;
		struct {
			int (*start)(void *arg, struct error *e);
			void *arg;
		} spawn;
		struct {
			uint32_t percent;
		} throttle;
		struct {
			/* The next process that has them is of this host: struct block. */
			bool stay_here;
		} release;
	};
	/* Main, once: from the loop, also if the operation is refused (-ENOTCONN: not in this state),
	 * or from vm_destroy(), then perhaps with ERROR_CANCELLED. `result` is 0 or a negative errno
	 * with `error` filled. May ask for the next one; may not destroy the VM. */
	void (*done)(struct vm_operation *operation);
	int result;
	struct error error;
};
/* None may be under way. In any state: what is not possible in it is refused. */
void vm_ask(struct vm *vm, struct vm_operation *operation);

/*
 * Stops for good, ahead of everything that waits; `stopped` is called with VM_STOP_REQUESTED from
 * the loop. If the machine does not stop in time (a thread waits for a disk that does not answer),
 * `stopped` is called all the same, and vm_destroy() will say what became of it.
 */
void vm_stop(struct vm *vm);
/*
 * Accepts NULL. False: a thread has not ended in time, or the VM had been given up and it still has
 * not. Then nothing was freed, that thread may go on to use what it knows (the host, its loop, the
 * channels), and all that is left to do is to end the process; or to call this again.
 */
bool vm_destroy(struct vm *vm);

/* Whether the guest has read that it shall give the device back: it has a driver for that. */
bool vm_removal_heard(struct vm *vm, enum vm_device device, const char *id);
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
 * The guest's memory, as long as the VM. While the VM is paused, and nobody resumes, stops or destroys
 * it, nothing of it changes: a job may read it.
 */
struct guest_memory *vm_memory(struct vm *vm);
enum vm_state vm_state(const struct vm *vm);
void vm_stats(struct vm *vm, struct vm_stats *stats);
uint32_t vm_vcpu_count(const struct vm *vm);
/* The kernel's command line as the guest gets it; lives as long as the VM. */
const char *vm_cmdline(const struct vm *vm);
/* `index` is below vm_vcpu_count(). */
void vm_vcpu_stats(const struct vm *vm, uint32_t index, struct vm_vcpu_stats *stats);
/* vCPUs, devices: vmm_vcpu_exits_total, vmm_disk_reads_total{device="vda"}, ... */
void vm_write_metrics(struct vm *vm, struct metrics_text *text);
/* The disks, and what the guest takes for their size in bytes. */
typedef void vm_disk_visitor(void *arg, const char *id, uint64_t bytes);
void vm_visit_disks(struct vm *vm, vm_disk_visitor *visit, void *arg);
/* The same; what is behind each, which goes nowhere meanwhile (vmm/block.h says what any thread may do with one). */
struct block;
typedef void vm_block_visitor(void *arg, const char *id, struct block *block);
void vm_visit_blocks(struct vm *vm, vm_block_visitor *visit, void *arg);
/* The network cards, and the descriptor of what is behind each (of its first queue): open, and the card's. */
typedef void vm_net_visitor(void *arg, const char *id, int fd, uint32_t queues);
void vm_visit_nets(struct vm *vm, vm_net_visitor *visit, void *arg);
/* Every counter of every device that has some. The strings are constants, but for the id. */
struct vm_figure {
	const char *group;  /* Firecracker's of devices of that kind: "block"; NULL: it has none */
	bool each;	    /* devices have groups of their own besides */
	const char *id;	    /* of the device */
	const char *name;   /* ours: "reads" */
	const char *theirs; /* Firecracker's, between blanks; NULL: it has none */
	uint64_t value;
};
/* May not ask anything of the VM. */
typedef void vm_figure_visitor(void *arg, const struct vm_figure *figure);
void vm_visit_figures(struct vm *vm, vm_figure_visitor *visit, void *arg);

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
/* "GenuineIntel family 6 model 167 stepping 1". Any thread, within any filter. */
void kvm_describe_processor(char *buf, size_t size);
/* Is there VT-x or AMD-V below KVM, by the processor's word? If not it interprets guest kernels. At
 * any time, within any filter. */
bool kvm_has_hardware(void);

#endif
