// SPDX-License-Identifier: Apache-2.0
/*
 * The life cycle of a VM; states in vmm/vm.h. Everything here runs on main, except report_event()
 * and report_failure(), which vCPU threads call: they write down the first event, close the gate so
 * that the guest does not run on, and post to main's loop.
 *
 * The guest controls when events come and which; nothing else. Saved: nothing here yet, the parts
 * save themselves.
 */
#include "vmm/vm.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "boot.h"
#include "kvm.h"
#include "machine.h"
#include "vcpu.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/platform.h"
#include "x86/static_templates.h"
#include "vmm/virtio_console.h"

LOG_DOMAIN("vm");

struct vm {
	const struct vm_config *config; /* vm_create()'s caller's; NULL after it */
	struct vm_machine_config machine_config;
	enum sandbox_mode sandbox;
	struct vm_host *host;
	enum vm_state state;
	struct kvm kvm;
	struct guest_memory mem;
	struct irqchip irqchip;
	struct machine machine;
	struct vcpus vcpus;
	struct boot boot;
	char *kernel_path; /* `boot` borrows these */
	char *initrd_paths[VM_INITRDS_MAX];
	struct cpu_template *cpu_template; /* ours; NULL: none */
	uint64_t resets;

	/*
	 * From vCPU threads to main. The first event since start or reset is written down
	 * (EVENT_WORD), the gate is closed, and main is posted to unless a post is on its way. A
	 * reset forgets the event; a post that then arrives finds nothing.
	 */
	struct power_sink power;
	_Atomic uint32_t event_word; /* 0: none */
	_Atomic bool event_posted;
	_Atomic(struct vcpu *) failed; /* of an EVENT_FAILURE */
	_Atomic uint32_t reporter;     /* index of the vCPU whose event it is */
	struct loop_post event_post;
	struct loop_post stop_post;
	struct vm_stop stop;
	struct loop_post reset_post;
	bool reset_posted;

	/* Starts the workers while main goes on; ends at once after that. */
	pthread_t starter;
	bool starter_runs; /* main: not joined yet */
	int starter_result;
	struct error starter_error; /* both written before the post */
	struct loop_post starter_post;
};

#define EVENT_WORD(event, code) ((uint32_t)(event) << 8 | (code))
#define EVENT_FAILURE		0xff /* beside enum power_event: a vCPU cannot go on */

/* vCPU threads. */
static void report(struct vm *vm, uint32_t word)
{
	uint32_t none = 0;

	if (!atomic_compare_exchange_strong(&vm->event_word, &none, word)) {
		return;
	}
	if (vcpu_current() != NULL) {
		atomic_store(&vm->reporter, vcpu_current()->index);
	}
	vcpus_want_hold(&vm->vcpus);
	if (!atomic_exchange(&vm->event_posted, true)) {
		loop_post(vm->host->loop, &vm->event_post);
	}
}

static void report_event(struct power_sink *sink, enum power_event event, uint8_t code)
{
	report(container_of(sink, struct vm, power), EVENT_WORD(event, code));
}

static void report_failure(struct vcpus *all, struct vcpu *vcpu)
{
	struct vm *vm = container_of(all, struct vm, vcpus);

	atomic_store(&vm->failed, vcpu);
	report(vm, EVENT_WORD(EVENT_FAILURE, 0));
}

static void call_stopped(void *arg)
{
	struct vm *vm = arg;

	vm->host->stopped(vm->host, &vm->stop);
}

static void call_was_reset(void *arg)
{
	struct vm *vm = arg;

	vm->reset_posted = false;
	vm->host->was_reset(vm->host);
}

/* Once for several resets that follow each other quickly. */
static void tell_of_reset(struct vm *vm)
{
	if (vm->host->was_reset != NULL && !vm->reset_posted) {
		vm->reset_posted = true;
		loop_post(vm->host->loop, &vm->reset_post);
	}
}

/* Where a vCPU of AMD's is after KVM has reset it (APM 2, 14.1.5). */
#define RESET_RIP 0xfff0

static void note_address(struct vm *vm, enum vm_stop_reason reason)
{
	struct vm_stop *stop = &vm->stop;

	stop->vcpu = atomic_load(&vm->event_word) != 0 ? atomic_load(&vm->reporter) : 0;
	stop->has_address = vcpu_address(&vm->vcpus.list[stop->vcpu], &stop->address) &&
			    !(reason == VM_STOP_TRIPLE_FAULT && stop->address == RESET_RIP);
}

/* All vCPUs are parked. The host hears of it from the loop, so that it may destroy the VM. */
static void stop_for(struct vm *vm, enum vm_stop_reason reason)
{
	if (vm->state == VM_STOPPED) {
		return;
	}
	if (vm->state == VM_RUNNING || vm->state == VM_PAUSED) {
		note_address(vm, reason);
	}
	vm->state = VM_STOPPED;
	vm->stop.reason = reason;
	loop_post(vm->host->loop, &vm->stop_post);
}

static void stop_with_error(struct vm *vm, const struct error *e)
{
	vm->stop.error = *e;
	stop_for(vm, VM_STOP_ERROR);
}

static void reboot(struct vm *vm)
{
	const int on_reboot = vm->machine_config.on_reboot;
	struct vm_host *host = vm->host;

	if (on_reboot == VM_ON_REBOOT_EXIT) {
		stop_for(vm, VM_STOP_REBOOT);
	} else if (on_reboot == VM_ON_REBOOT_AUTO && host->may_restart != NULL &&
		   !host->may_restart(host, &vm->stop.error)) {
		vm->resets++;
		stop_for(vm, VM_STOP_BOOT_LOOP);
	} else {
		(void)vm_reset(vm, NULL);
	}
}

static void act_on_event(struct vm *vm)
{
	uint32_t word = atomic_load(&vm->event_word);

	if (word == 0) {
		return;
	}
	vcpus_hold(&vm->vcpus);
	switch (word >> 8) {
	case POWER_OFF:
		stop_for(vm, VM_STOP_POWER_OFF);
		break;
	case POWER_RESET:
		reboot(vm);
		break;
	case POWER_PANIC:
		stop_for(vm, VM_STOP_PANIC);
		break;
	case POWER_TRIPLE_FAULT:
		stop_for(vm, VM_STOP_TRIPLE_FAULT);
		break;
	case POWER_DEBUG_EXIT:
		vm->stop.code = (uint8_t)word;
		stop_for(vm, VM_STOP_DEBUG_EXIT);
		break;
	case EVENT_FAILURE:
		stop_with_error(vm, &atomic_load(&vm->failed)->error);
		break;
	default:
		break;
	}
}

static void event_arrived(void *arg)
{
	struct vm *vm = arg;

	atomic_store(&vm->event_posted, false);
	if (vm->state == VM_RUNNING) {
		act_on_event(vm);
	}
	/* While PAUSED it waits for vm_resume(). */
}

static int open_images(struct vm *vm, struct error *e)
{
	return boot_open(&vm->boot, vm->kernel_path, vm->initrd_paths, e);
}

static int load_guest(struct vm *vm, struct error *e)
{
	return boot_load(&vm->boot, &vm->machine, &vm->mem, vm->machine_config.vcpus, e);
}

/* Kernels of Linux' size are worth huge pages from their first byte; what is smaller starts sooner
 * on small ones. */
#define HUGE_PAGES_FROM MIB(2)

static int first_load(struct vm *vm, struct error *e)
{
	struct stat st;
	bool transparent = vm->machine_config.huge_pages == VM_HUGE_PAGES_TRANSPARENT;
	bool large =
		fstat(vm->boot.load.kernel.fd, &st) == 0 && st.st_size >= (off_t)HUGE_PAGES_FROM;
	int r;

	if (large && transparent) {
		guest_memory_use_huge_pages(&vm->mem);
	}
	r = load_guest(vm, e);
	if (!large && transparent) {
		guest_memory_use_huge_pages(&vm->mem);
	}
	return r;
}

/* The order is KVM's: memory slots, then interrupt controllers, then vCPUs. */
static int create_kvm_objects(struct vm *vm, struct error *e)
{
	int r = kvm_create_vm(&vm->kvm, e);

	if (r == 0) {
		r = memslots_register(&vm->kvm, &vm->mem, e);
	}
	if (r == 0) {
		r = irqchip_init(&vm->irqchip, &vm->kvm, cmdline_wants_old_timer(vm->boot.cmdline),
				 e);
	}
	return r == 0 ? vcpus_create(&vm->vcpus, e) : r;
}

static enum guest_memory_backing memory_backing(const struct vm_machine_config *machine)
{
	return machine->huge_pages == VM_HUGE_PAGES_2M
		       ? GUEST_MEMORY_HUGETLB
		       : (enum guest_memory_backing)machine->memory_backing;
}

/* What the machine has only for some kernels. */
static int suit_kernel(struct vm *vm, struct error *e)
{
	boot_warn(&vm->boot, &vm->machine);
	return vm->boot.entry.legacy && !vm->irqchip.has_pit ? irqchip_add_pit(&vm->irqchip, e) : 0;
}

static int create(struct vm *vm, struct error *e)
{
	int r = open_images(vm, e);

	if (r == 0) {
		r = boot_build_cmdline(&vm->boot, vm->config, vm->host->hvc != NULL, e);
	}
	if (r == 0) {
		r = kvm_open(&vm->kvm, vm->cpu_template, e);
	}
	if (r == 0) {
		r = vcpus_init(&vm->vcpus, &vm->kvm, vm->machine_config.vcpus, e);
	}
	if (r == 0) {
		r = guest_memory_init(&vm->mem, vm->machine_config.memory_size,
				      memory_backing(&vm->machine_config), e);
	}
	if (r == 0) {
		r = create_kvm_objects(vm, e);
	}
	if (r == 0) {
		r = machine_init(&vm->machine, vm->config, &vm->kvm, &vm->irqchip, &vm->mem,
				 vm->host, &vm->power, e);
	}
	if (r == 0) {
		r = boot_tell_clock(&vm->boot, vm->vcpus.list[0].fd, e);
	}
	if (r == 0) {
		r = boot_add_devices(&vm->boot, &vm->machine, e);
	}
	if (r == 0) {
		r = first_load(vm, e);
	}
	return r == 0 ? suit_kernel(vm, e) : r;
}

/*
 * Six threads take a quarter of a millisecond to start, and the guest needs none of them before its
 * drivers are up. Touches no guest data, so it has no filter of its own; what it starts has. Those of
 * the host come last: the guest needs none of them.
 */
static void *start_workers(void *arg)
{
	struct vm *vm = arg;
	int r = machine_start_workers(&vm->machine, &vm->starter_error);

	if (r == 0 && vm->host->start_threads != NULL) {
		r = vm->host->start_threads(vm->host, &vm->starter_error);
	}
	vm->starter_result = r;
	loop_post(vm->host->loop, &vm->starter_post);
	return NULL;
}

static void join_starter(struct vm *vm)
{
	if (vm->starter_runs) {
		vm->starter_runs = false;
		(void)pthread_join(vm->starter, NULL);
	}
}

static void starter_ended(void *arg)
{
	struct vm *vm = arg;

	join_starter(vm);
	if (vm->starter_result < 0 && vm->state != VM_STOPPED) {
		vcpus_hold(&vm->vcpus);
		stop_with_error(vm, &vm->starter_error);
	}
}

static int begin_workers(struct vm *vm, struct error *e)
{
	int r = pthread_create(&vm->starter, NULL, start_workers, vm);

	if (r != 0) {
		return error_set_sys(e, ERROR_INTERNAL, r, "start a thread");
	}
	vm->starter_runs = true;
	return 0;
}

/* vCPUs' threads read it after vm_create() has returned. */
static int make_cpu_template(struct vm *vm, struct error *e)
{
	enum vm_cpu_template named = (enum vm_cpu_template)vm->machine_config.cpu_template;
	struct host_cpu host;
	int r = 0;

	if (vm->config->cpu_template == NULL && named == VM_CPU_TEMPLATE_NONE) {
		return 0;
	}
	vm->cpu_template = malloc(sizeof(*vm->cpu_template));
	if (vm->cpu_template == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "CPU template: out of memory");
	}
	if (vm->config->cpu_template != NULL) {
		*vm->cpu_template = *vm->config->cpu_template;
	} else {
		host_cpu_read(&host);
		r = static_template_make(vm->cpu_template, named, &host, e);
	}
	vm->vcpus.cpu_template = vm->cpu_template;
	return r;
}

/* Messages about a reset name the files. */
static int copy_paths(struct vm *vm, struct error *e)
{
	const struct vm_boot_config *boot = &vm->config->boot;

	bool copied;

	vm->kernel_path = strdup(boot->kernel);
	copied = vm->kernel_path != NULL;
	for (uint32_t i = 0; i < VM_INITRDS_MAX; i++) {
		const char *path = i == 0 ? boot->initrd : boot->more_initrds[i - 1];

		vm->initrd_paths[i] = path != NULL ? strdup(path) : NULL;
		copied = copied && (path == NULL || vm->initrd_paths[i] != NULL);
	}
	if (!copied) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "create the VM: out of memory");
	}
	return 0;
}

int vm_create(struct vm **ret, const struct vm_config *config, struct vm_host *host,
	      struct error *e)
{
	struct vm *vm;
	int r = vm_config_validate(config, e);

	if (r < 0) {
		return r;
	}
	vm = calloc(1, sizeof(*vm));
	if (vm == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "create the VM: out of memory");
	}
	vm->config = config;
	vm->machine_config = config->machine;
	vm->sandbox = config->sandbox;
	vm->host = host;
	vm->kvm.fd = vm->kvm.vm_fd = vm->mem.fd = -1;
	boot_init(&vm->boot);
	vm->power.event = report_event;
	vm->event_post = (struct loop_post){ .run = event_arrived, .arg = vm };
	vm->stop_post = (struct loop_post){ .run = call_stopped, .arg = vm };
	vm->reset_post = (struct loop_post){ .run = call_was_reset, .arg = vm };
	vm->starter_post = (struct loop_post){ .run = starter_ended, .arg = vm };
	vm->vcpus.ports = &vm->machine.ports;
	vm->vcpus.mmio = &vm->machine.mmio;
	vm->vcpus.power = &vm->power;
	vm->vcpus.failed = report_failure;
	vm->vcpus.sandbox = config->sandbox;
	vm->vcpus.thread_name = config->vcpu_name != NULL ? config->vcpu_name : "vcpu";
	vm->vcpus.threads = config->machine.smt && config->machine.vcpus > 1 ? 2 : 1;
	r = make_cpu_template(vm, e);
	if (r == 0) {
		r = copy_paths(vm, e);
	}
	if (r == 0) {
		r = create(vm, e);
	}
	if (r < 0) {
		vm_destroy(vm);
		return r;
	}
	vm->config = NULL;
	*ret = vm;
	return 0;
}

static int enter_main_filter(struct vm *vm, struct error *e)
{
	return sandbox_enter_thread(vm->sandbox, SANDBOX_ROLE_MAIN, e);
}

/*
 * Main enters its filter while the vCPUs set themselves up, which takes about as long. But they may
 * refuse a CPU template; then main must still be able to make another VM, so there it waits first.
 */
static int prepare_to_run(struct vm *vm, struct error *e)
{
	bool may_refuse = vm->cpu_template != NULL;
	int r = begin_workers(vm, e);

	if (r == 0 && !may_refuse) {
		r = enter_main_filter(vm, e);
	}
	if (r == 0) {
		r = vcpus_wait_ready(&vm->vcpus, e);
	}
	if (r == 0) {
		r = vcpu_set_entry(vm->vcpus.list[0].fd, &vm->boot.entry, e);
	}
	return r == 0 && may_refuse ? enter_main_filter(vm, e) : r;
}

int vm_start(struct vm *vm, struct error *e)
{
	int r;

	if (vm->state != VM_CREATED) {
		return error_set(e, ERROR_CONFIG, EBUSY, "start: the VM was started before");
	}
	r = prepare_to_run(vm, e);
	if (r < 0) {
		return r;
	}
	vm->state = VM_RUNNING;
	vcpus_release(&vm->vcpus);
	return 0;
}

/* Workers are there, too: to call one that never started would never end. */
static int check_started(struct vm *vm, const char *what, struct error *e)
{
	if (vm->state != VM_RUNNING && vm->state != VM_PAUSED) {
		return error_set(e, ERROR_CONFIG, ENOTCONN, "%s: the VM does not run", what);
	}
	join_starter(vm);
	if (vm->starter_result < 0 && e != NULL) {
		*e = vm->starter_error;
	}
	return vm->starter_result;
}

int vm_pause(struct vm *vm, struct error *e)
{
	int r;

	if (vm->state != VM_RUNNING) {
		return error_set(e, ERROR_CONFIG, ENOTCONN, "pause: the VM does not run");
	}
	r = check_started(vm, "pause", e);
	if (r < 0) {
		return r;
	}
	vcpus_hold(&vm->vcpus);
	machine_quiesce(&vm->machine);
	vm->state = VM_PAUSED;
	return 0;
}

int vm_resume(struct vm *vm, struct error *e)
{
	if (vm->state != VM_PAUSED) {
		return error_set(e, ERROR_CONFIG, ENOTCONN, "resume: the VM is not paused");
	}
	vm->state = VM_RUNNING;
	vcpus_excuse_pause(&vm->vcpus);
	machine_resume(&vm->machine);
	if (atomic_load(&vm->event_word) != 0) {
		act_on_event(vm);
		return 0;
	}
	vcpus_release(&vm->vcpus);
	return 0;
}

/* All vCPUs are parked. */
static int start_anew(struct vm *vm, struct error *e)
{
	const struct vcpu *failed = atomic_load(&vm->failed);
	int r;

	if (failed != NULL) {
		/* Main has not heard of it yet; its thread runs no more. */
		*e = failed->error;
		return -EIO;
	}
	machine_reset(&vm->machine);
	r = guest_memory_discard(&vm->mem, e);
	if (r == 0) {
		r = irqchip_reset(&vm->irqchip, e);
	}
	if (r == 0) {
		r = vcpus_reset(&vm->vcpus, e);
	}
	if (r == 0) {
		r = load_guest(vm, e);
	}
	return r == 0 ? vcpu_set_entry(vm->vcpus.list[0].fd, &vm->boot.entry, e) : r;
}

int vm_reset(struct vm *vm, struct error *e)
{
	struct error failure = { 0 };
	int r;

	if (vm->state != VM_RUNNING) {
		return error_set(e, ERROR_CONFIG, ENOTCONN, "reset: the VM does not run");
	}
	vcpus_hold(&vm->vcpus);
	r = start_anew(vm, &failure);
	if (r < 0) {
		(void)error_prefix(&failure, "reset");
		stop_with_error(vm, &failure);
		if (e != NULL) {
			*e = failure;
		}
		return r;
	}
	vm->resets++;
	atomic_store(&vm->event_word, 0);
	vcpus_release(&vm->vcpus);
	tell_of_reset(vm);
	return 0;
}

bool vm_look(struct vm *vm, uint64_t *address)
{
	bool known;

	if (vm->state != VM_RUNNING) {
		return false;
	}
	vcpus_hold(&vm->vcpus);
	known = vcpu_address(&vm->vcpus.list[0], address);
	/* One that came meanwhile is on its way to act_on_event(), which finds all parked. */
	if (atomic_load(&vm->event_word) == 0) {
		vcpus_release(&vm->vcpus);
	}
	return known;
}

void vm_stop(struct vm *vm)
{
	if (vm->state == VM_RUNNING) {
		vcpus_hold(&vm->vcpus);
	}
	stop_for(vm, VM_STOP_REQUESTED);
}

void vm_destroy(struct vm *vm)
{
	if (vm == NULL) {
		return;
	}
	join_starter(vm);
	vcpus_finish(&vm->vcpus);
	/* Nobody posts any more; what was posted must not find a VM that is gone. */
	loop_post_cancel(vm->host->loop, &vm->starter_post);
	loop_post_cancel(vm->host->loop, &vm->event_post);
	loop_post_cancel(vm->host->loop, &vm->stop_post);
	loop_post_cancel(vm->host->loop, &vm->reset_post);
	machine_finish(&vm->machine);
	irqchip_finish(&vm->irqchip);
	kvm_close(&vm->kvm);
	guest_memory_finish(&vm->mem);
	boot_finish(&vm->boot);
	free(vm->cpu_template);
	free(vm->kernel_path);
	for (uint32_t i = 0; i < VM_INITRDS_MAX; i++) {
		free(vm->initrd_paths[i]);
	}
	free(vm);
}

static int check_running(const struct vm *vm, const char *what, struct error *e)
{
	if (vm->state != VM_RUNNING) {
		return error_set(e, ERROR_CONFIG, ENOTCONN, "%s: the VM does not run", what);
	}
	return 0;
}

int vm_press_power_button(struct vm *vm, struct error *e)
{
	int r = check_running(vm, "power button", e);

	if (r == 0) {
		acpi_power_notify(&vm->machine.acpi_power, ACPI_EVENT_POWER_BUTTON);
	}
	return r;
}

int vm_press_ctrl_alt_del(struct vm *vm, struct error *e)
{
	if (vm->state != VM_RUNNING && vm->state != VM_PAUSED) {
		return check_running(vm, "Ctrl-Alt-Del", e);
	}
	i8042_ctrl_alt_del(&vm->machine.kbc);
	return 0;
}

size_t vm_serial_input(struct vm *vm, const uint8_t *data, size_t len)
{
	return serial_input(&vm->machine.serial, data, len);
}

size_t vm_hvc_input(struct vm *vm, const uint8_t *data, size_t len)
{
	if (vm->machine.console == NULL) {
		return len;
	}
	return virtio_console_input(vm->machine.console->virtio, data, len);
}

void vm_hvc_output_ready(struct vm *vm)
{
	if (vm->machine.console != NULL) {
		virtio_console_output_ready(vm->machine.console->virtio);
	}
}

void vm_console_resize(struct vm *vm, uint16_t columns, uint16_t rows)
{
	if (vm->machine.console != NULL) {
		virtio_console_resize(vm->machine.console->virtio, columns, rows);
	}
}

int vm_replace_disk(struct vm *vm, uint32_t index, const char *path, struct error *e)
{
	int r = check_started(vm, "replace disk", e);

	return r == 0 ? machine_replace_disk(&vm->machine, index, path, e) : r;
}

int vm_limit_disk(struct vm *vm, uint32_t index, const struct rate_limit_config *limiter,
		  struct error *e)
{
	int r = check_started(vm, "limit disk", e);

	return r == 0 ? machine_limit_disk(&vm->machine, index, limiter, e) : r;
}

int vm_limit_net(struct vm *vm, uint32_t index, const struct rate_limit_config *rx,
		 const struct rate_limit_config *tx, struct error *e)
{
	int r = check_started(vm, "limit network card", e);

	return r == 0 ? machine_limit_net(&vm->machine, index, rx, tx, e) : r;
}

enum vm_state vm_state(const struct vm *vm)
{
	return vm->state;
}

void vm_stats(const struct vm *vm, struct vm_stats *stats)
{
	*stats = (struct vm_stats){ .resets = vm->resets };
	for (uint32_t i = 0; i < vm->vcpus.count; i++) {
		const struct vcpu *vcpu = &vm->vcpus.list[i];

		stats->exits_io += atomic_load_explicit(&vcpu->exits_io, memory_order_relaxed);
		stats->exits_mmio += atomic_load_explicit(&vcpu->exits_mmio, memory_order_relaxed);
		stats->exits_other +=
			atomic_load_explicit(&vcpu->exits_other, memory_order_relaxed);
	}
	machine_add_traffic(&vm->machine, stats);
}

const char *vm_cmdline(const struct vm *vm)
{
	return vm->boot.entry.cmdline;
}

uint32_t vm_vcpu_count(const struct vm *vm)
{
	return vm->vcpus.count;
}

void vm_vcpu_stats(const struct vm *vm, uint32_t index, struct vm_vcpu_stats *stats)
{
	const struct vcpu *vcpu = &vm->vcpus.list[index];

	*stats = (struct vm_vcpu_stats){
		.exits_io = atomic_load_explicit(&vcpu->exits_io, memory_order_relaxed),
		.exits_mmio = atomic_load_explicit(&vcpu->exits_mmio, memory_order_relaxed),
		.exits_other = atomic_load_explicit(&vcpu->exits_other, memory_order_relaxed),
		.exits_io_out = atomic_load_explicit(&vcpu->exits_io_out, memory_order_relaxed),
		.exits_mmio_write =
			atomic_load_explicit(&vcpu->exits_mmio_write, memory_order_relaxed),
		.cpu_time_ns = vcpu_cpu_time_ns(vcpu),
	};
}

void vm_write_metrics(const struct vm *vm, struct metrics_text *text)
{
	metrics_begin(text, "vmm_resets_total", METRIC_COUNTER,
		      "Machine resets, by the guest or on request.");
	metrics_sample(text, NULL, NULL, vm->resets);
	vcpus_write_metrics(&vm->vcpus, text);
	machine_write_metrics(&vm->machine, text);
}
