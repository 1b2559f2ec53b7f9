// SPDX-License-Identifier: Apache-2.0
/*
 * vm_create() and vm_load(): the first two steps of a life (vmm/vm.h).
 *
 *	plan	what is to be filled decides a few things of what is built: the command line of the
 *		kernel and whether there is an old timer; the places of saved devices
 *	build	KVM's objects, memory, devices
 *	boot	the kernel goes into RAM; vm_start() puts vCPU 0 before its first instruction
 *	load	instead: memory was made as it was saved, and all that is saved of vCPUs and devices
 *		takes the place of power-on, as soon as the vCPUs' threads have set them up
 *
 * Main, or a thread that it waits for; nothing runs yet. The guest controls nothing; whoever wrote a
 * saved state controls all of it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "arch.h"
#include "places.h"
#include "spare.h"
#include "vm_internal.h"
#include "vmm/cleanup.h"
#include "vmm/cpu_baseline.h"
#include "vmm/pager.h"

static int open_boot(struct vm *vm, const struct vm_config *config, struct error *e)
{
	int r = boot_open(&vm->boot, vm->kernel_path, vm->initrd_paths, e);

	return r == 0 ? boot_build_cmdline(&vm->boot, config, vm->host->hvc != NULL, e) : r;
}

/* The first reset of a VM that was loaded: what it boots from has not been needed before. */
static int find_kernel(struct vm *vm, struct error *e)
{
	int r;

	if (vm->kernel_path == NULL) {
		(void)error_set(e, ERROR_CONFIG, ENOENT,
				"the VM was loaded, and does not know its kernel");
		return error_hint(e, "restore it again");
	}
	r = open_boot(vm, vm->boot_config, e);
	if (r == 0) {
		r = boot_tell_clock(&vm->boot, &vm->vcpus.list[0], e);
	}
	if (r == 0) {
		r = boot_add_devices(&vm->boot, &vm->machine, e);
	}
	if (r < 0) {
		boot_finish(&vm->boot);
		boot_init(&vm->boot);
		return error_prefix(e, "a VM that was restored boots from its kernel's file");
	}
	vm_config_finish(vm->boot_config);
	free(take_ptr(vm->boot_config));
	return 0;
}

int vm_load_kernel(struct vm *vm, struct error *e)
{
	int r = vm->boot_config != NULL ? find_kernel(vm, e) : 0;

	if (r < 0) {
		return r;
	}
	return boot_load(&vm->boot, &vm->machine, &vm->mem, vm->machine_config.vcpus, e);
}

int vm_place_vcpus(struct vm *vm, struct error *e)
{
	return arch_vcpu_place(&vm->vcpus.list[0], &vm->boot.entry, e);
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
	r = vm_load_kernel(vm, e);
	if (!large && transparent) {
		guest_memory_use_huge_pages(&vm->mem);
	}
	return r;
}

/* What the machine has only for some kernels. */
static int suit_kernel(struct vm *vm, struct error *e)
{
	boot_warn(&vm->boot, &vm->machine);
	return vm->boot.entry.legacy ? arch_irqchip_add_old_timer(&vm->irqchip, e) : 0;
}

static int boot(struct vm *vm, struct error *e)
{
	int r = boot_tell_clock(&vm->boot, &vm->vcpus.list[0], e);

	if (r == 0) {
		r = boot_add_devices(&vm->boot, &vm->machine, e);
	}
	if (r == 0) {
		r = machine_begin_generation(&vm->machine, e);
	}
	if (r == 0) {
		r = first_load(vm, e);
	}
	/* A reset may find another kernel in the file, and choose its words anew. */
	vm->cmdline = vm->boot.entry.cmdline;
	return r == 0 ? suit_kernel(vm, e) : r;
}

/*
 * Before the interrupt controllers, because a slot that changes after them waits for a grace period. What
 * was loaded has not been written yet, of what will be booted everything has.
 */
static int start_tracking(struct vm *vm, bool loaded, struct error *e)
{
	struct guest_memory *mem = &vm->mem;
	int r = guest_memory_dirty_start(mem, e);

	for (uint32_t i = 0; r == 0 && loaded && i < mem->region_count; i++) {
		uint64_t bits = ALIGN_UP(mem->regions[i].size / PAGE_SIZE_4K, (uint64_t)64);
		auto_free uint64_t *nobody = calloc(bits / 64 + 1, sizeof(*nobody));

		r = nobody != NULL ? guest_region_dirty_collect(mem, i, nobody, bits, e)
				   : error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "dirty pages");
	}
	return r;
}

/* The order is KVM's: memory slots, then interrupt controllers, then vCPUs. */
static int create_kvm_objects(struct vm *vm, bool loaded, struct error *e)
{
	int r = vm->kvm.vm_fd < 0 ? kvm_create_vm(&vm->kvm, e) : 0;

	if (r == 0) {
		r = memslots_register(&vm->kvm, &vm->mem, e);
	}
	if (r == 0 && vm->machine_config.track_dirty_pages) {
		r = start_tracking(vm, loaded, e);
	}
	if (r == 0) {
		r = irqchip_init(
			&vm->irqchip, &vm->kvm,
			vm->boot.cmdline != NULL && cmdline_wants_old_timer(vm->boot.cmdline), e);
	}
	return r == 0 ? vcpus_create(&vm->vcpus, e) : r;
}

static enum guest_memory_backing memory_backing(const struct vm_machine_config *machine)
{
	return machine->huge_pages == VM_HUGE_PAGES_2M
		       ? GUEST_MEMORY_HUGETLB
		       : (enum guest_memory_backing)machine->memory_backing;
}

static const char *machine_thread_name(const struct vm_config *config)
{
	return config->machine_name != NULL ? config->machine_name : "machine";
}

static int fill_memory(struct vm *vm, const struct vm_saved *saved, struct error *e)
{
	const uint64_t size = vm->machine_config.memory_size;
	int r = saved->fill(saved->arg, &vm->mem, e);

	if (r == 0 && !guest_memory_is_ram_of(&vm->mem, size)) {
		r = error_set(e, ERROR_STATE, EINVAL,
			      "the saved memory is not that of a machine with %llu MiB",
			      (unsigned long long)(size / MIB(1)));
	}
	return r;
}

static int make_memory(struct vm *vm, const struct vm_saved *saved, struct error *e)
{
	return saved != NULL ? fill_memory(vm, saved, e)
			     : guest_memory_init(&vm->mem, vm->machine_config.memory_size,
						 memory_backing(&vm->machine_config), e);
}

/* `saved` NULL: what will be booted. */
static int build(struct vm *vm, const struct vm_saved *saved, struct error *e)
{
	int r = 0;

	/* A template has a say in what KVM must have. */
	if (vm->host->spare == NULL || vm->cpu_template != NULL) {
		r = kvm_open(&vm->kvm, vm->cpu_template, e);
	} else {
		spare_take(take_ptr(vm->host->spare), &vm->kvm);
	}
	if (r == 0) {
		r = vcpus_init(&vm->vcpus, &vm->kvm, vm->machine_config.vcpus, e);
	}
	if (r == 0) {
		r = make_memory(vm, saved, e);
	}
	if (r == 0) {
		r = create_kvm_objects(vm, saved != NULL, e);
	}
	if (r == 0) {
		r = worker_init(&vm->thread, machine_thread_name(vm->config), e);
	}
	return r == 0 ? machine_init(&vm->machine, vm->config, &vm->kvm, &vm->irqchip, &vm->mem,
				     vm->host, &vm->power, e)
		      : r;
}

/* vCPUs' threads read it after vm_create() has returned. */
static int make_cpu_template(struct vm *vm, struct error *e)
{
	enum vm_cpu_template named = (enum vm_cpu_template)vm->machine_config.cpu_template;
	enum vm_cpu_level level = (enum vm_cpu_level)vm->machine_config.cpu_level;
	struct cpu_template *ours;
	int r = 0;

	if (vm->config->cpu_template == NULL && named == VM_CPU_TEMPLATE_NONE &&
	    level == VM_CPU_LEVEL_HOST) {
		return 0;
	}
	ours = vm->cpu_template = calloc(1, sizeof(*vm->cpu_template));
	if (ours == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "CPU template: out of memory");
	}
	if (vm->config->cpu_template != NULL) {
		*ours = *vm->config->cpu_template;
	} else if (named != VM_CPU_TEMPLATE_NONE) {
		r = arch_make_cpu_template(ours, named, e);
	}
	if (level != VM_CPU_LEVEL_HOST) {
		VMM_BUG_ON(ours->baseline_count >= ARRAY_SIZE(ours->baselines));
		cpu_baseline_of_level(&ours->baselines[ours->baseline_count++], level);
	}
	vm->vcpus.cpu_template = vm->cpu_template;
	return r;
}

/* Messages about a reset name the files. */
static int copy_paths(struct vm *vm, struct error *e)
{
	const struct vm_boot_config *boot = &vm->config->boot;

	bool copied;

	vm->kernel_path = boot->kernel != NULL ? strdup(boot->kernel) : NULL;
	copied = boot->kernel == NULL || vm->kernel_path != NULL;
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

static int create(struct vm *vm, struct error *e)
{
	int r = make_cpu_template(vm, e);

	if (r == 0) {
		r = copy_paths(vm, e);
	}
	if (r == 0) {
		r = open_boot(vm, vm->config, e);
	}
	if (r == 0) {
		r = build(vm, NULL, e);
	}
	return r == 0 ? boot(vm, e) : r;
}

/* What a reset will need. */
static int keep_boot_config(struct vm *vm, const struct vm_saved *saved, struct error *e)
{
	vm->boot_config = calloc(1, sizeof(*vm->boot_config));
	vm->cmdline = vm->saved_cmdline = strdup(saved->cmdline);
	if (vm->boot_config == NULL || vm->saved_cmdline == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "load the VM: out of memory");
	}
	return vm_config_copy(vm->boot_config, vm->config, e);
}

static int load_state(struct vm *vm, const struct vm_saved *saved, struct error *e)
{
	const uint8_t *state = saved->state;
	size_t len = saved->state_len;
	struct places *places;
	int r = places_read(&places, &state, &len, e);

	vm->machine.places = places;
	vm->machine.clock_steps = saved->clock_steps;
	vm->machine.disks_later = saved->disks_unlocked;
	if (r == 0) {
		r = build(vm, saved, e);
	}
	vm->machine.disks_later = false;
	if (r == 0) {
		r = vcpus_wait_ready(&vm->vcpus, e);
	}
	if (r == 0 && saved->comes_later) {
		vm->awaits_state = true;
		r = machine_try_load(&vm->machine, &vm->vcpus, state, len, e);
	} else if (r == 0) {
		r = machine_load(&vm->machine, &vm->vcpus, state, len, e);
		r = r == 0 ? machine_new_generation(&vm->machine, e) : r;
	}
	vm->moved = r == 0;
	vm->lacks_disks = r == 0 && machine_lacks_disks(&vm->machine);
	vm->machine.places = NULL;
	free(places);
	return r;
}

static int load(struct vm *vm, const struct vm_saved *saved, struct error *e)
{
	int r = make_cpu_template(vm, e);

	if (r == 0) {
		r = copy_paths(vm, e);
	}
	if (r == 0) {
		r = keep_boot_config(vm, saved, e);
	}
	vm->loaded = true;
	return r == 0 ? load_state(vm, saved, e) : r;
}

/* `saved` NULL: boots. */
static int make(struct vm **ret, const struct vm_config *config, const struct vm_saved *saved,
		struct vm_host *host, struct error *e)
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
	vm->kvm.fd = vm->kvm.vm_fd = -1;
	vm->mem.lost = vm_memory_lost;
	boot_init(&vm->boot);
	vm_init_life(vm);
	vm->vcpus.ports = &vm->machine.ports;
	vm->vcpus.mmio = &vm->machine.mmio;
	vm->vcpus.power = &vm->power;
	vm->vcpus.sandbox = config->sandbox;
	vm->vcpus.thread_name = config->vcpu_name != NULL ? config->vcpu_name : "vcpu";
	vm->vcpus.threads = config->machine.smt && config->machine.vcpus > 1 ? 2 : 1;
	r = saved != NULL ? load(vm, saved, e) : create(vm, e);
	if (r == 0) {
		/* What the load has looked at itself. */
		r = pager_check(vm->mem.pager, e);
	}
	if (r < 0) {
		(void)vm_destroy(vm);
		return r;
	}
	vm->config = NULL;
	*ret = vm;
	return 0;
}

int vm_create(struct vm **ret, const struct vm_config *config, struct vm_host *host,
	      struct error *e)
{
	return make(ret, config, NULL, host, e);
}

int vm_load(struct vm **ret, const struct vm_config *config, const struct vm_saved *saved,
	    struct vm_host *host, struct error *e)
{
	return make(ret, config, saved, host, e);
}

void vm_take_down(struct vm *vm)
{
	throttle_end(&vm->throttle);
	/* It serves until nobody uses the memory. */
	pager_silence(vm->mem.pager);
	vcpus_finish(&vm->vcpus);
	machine_finish(&vm->machine);
	irqchip_finish(&vm->irqchip);
	kvm_close(&vm->kvm);
	guest_memory_finish(&vm->mem);
	boot_finish(&vm->boot);
}
