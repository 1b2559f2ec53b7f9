/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a machine needs of its architecture. Private to src/vmm. Everything outside the folders x86/
 * of src/vmm and src/loader is written against this, src/loader/internal.h and the <linux/kvm.h> of
 * any architecture, and compiles for another one (tests/lint/arch). Another architecture is one more
 * folder with what is declared here; nobody else includes a header of such a folder.
 *
 * Calls are made by the thread that builds the machine or owns it, with all vCPUs parked, unless said
 * otherwise. Errors as everywhere: 0, or a negative errno with `e` filled.
 */
#ifndef VMM_SRC_ARCH_H
#define VMM_SRC_ARCH_H

#include "boot.h"
#include "kvm.h"
#include "vcpu.h"
#include "vmm/cpu_baseline.h"
#include "vmm/device.h"

/* Devices ------------------------------------------------------------------------------------- */

/* Those that a machine has whatever it is for, in the order in which they are made; interrupt
 * controllers first. NULL ends. Among them are serial_kind, a struct serial, and acpi_power_kind, a
 * struct acpi_power. */
extern const struct device_kind *const arch_device_kinds[];

/* Main, at any time: the keys that ask a guest to restart. ERROR_CONFIG where there is no keyboard. */
int arch_press_ctrl_alt_del(struct machine *machine, struct error *e);

/* KVM ----------------------------------------------------------------------------------------- */

/* What is needed beside what every architecture needs, and what a guest or we are better off with. */
extern const struct kvm_capabilities arch_required, arch_optional;
/* KVM_CREATE_VM has been called, nothing else has. May set more bits of kvm->optional. */
int arch_vm_init(struct kvm *kvm, struct error *e);
/* How many bits a guest's physical address has. Any thread. */
uint32_t arch_physical_bits(void);
/* arch_machine_syscalls: see vmm/vm_syscalls.h. */

/* A guest of a few instructions for kvm_probe(), which ends with an exit of its own. */
struct arch_probe {
	const uint8_t *program;
	size_t size;
	uint64_t instructions;
};
extern const struct arch_probe arch_probe;
/* Puts a fresh vCPU before the program at `address`, which is below 64 KiB. */
int arch_probe_place(int vcpu_fd, uint32_t address, struct error *e);
bool arch_probe_has_ended(const struct kvm_run *run);
/* Who made it, and which it is; any thread. */
void arch_describe_processor(char *buf, size_t size);
/* The processor can run guests: any thread. */
bool arch_has_virtualization(void);

/* Interrupt controllers ----------------------------------------------------------------------- */

/* Makes them after the memory slots and before vCPUs; fills chip->arch. `old_timer`: with the timer
 * that kernels want who find nothing better. */
int arch_irqchip_create(struct irqchip *chip, bool old_timer, struct error *e);
/* That timer, if there is none yet; before the sandbox. */
int arch_irqchip_add_old_timer(struct irqchip *chip, struct error *e);
/* Accepts a chip of which nothing was made. */
void arch_irqchip_destroy(struct irqchip *chip);
/* The routes of the pins 0 to PLATFORM_GSIS - 1 as KVM has made them, into a table with room for
 * ARCH_PIN_ROUTES_MAX more. */
#define ARCH_PIN_ROUTES_MAX 40
void arch_add_pin_routes(struct kvm_irq_routing *table);
/* Whether a write of a PCI function is an interrupt, not one to memory. Any thread. */
bool arch_is_interrupt(const struct msi_message *message);

/* vCPUs --------------------------------------------------------------------------------------- */

/* What KVM says of this host, whatever the VM: fills kvm->host, by malloc(). It takes longer than all else before the
 * vCPUs run, where a hypervisor is below. */
int arch_host_read(struct kvm *kvm, struct error *e);
/* How a vCPU of this host looks, and what of it is saved: fills all->arch, from kvm->host if that is there. On the thread of
 * vCPU 0, before vCPUs exist. */
int arch_vcpus_identify(struct vcpus *all, struct error *e);
/* Accepts one that was never filled. */
void arch_vcpus_finish(struct vcpus *all);
/* Power-on: fills vcpu->arch. On its own thread. */
int arch_vcpu_init(struct vcpu *vcpu, struct error *e);
void arch_vcpu_finish(struct vcpu *vcpu);
/* Back to power-on. Time runs on. */
int arch_vcpu_reset(struct vcpu *vcpu, struct error *e);
/* The boot vCPU at the kernel's first instruction. */
int arch_vcpu_place(struct vcpu *vcpu, const struct boot_entry *entry, struct error *e);
/* Where it stands. False: KVM does not say. */
bool arch_vcpu_address(const struct vcpu *vcpu, uint64_t *ret);
/* Whether that is where a vCPU is after a reset by KVM, which says nothing of the guest. */
bool arch_is_reset_address(uint64_t address);
/* The same with more registers, as the hint of what the vCPU has failed with. */
void arch_vcpu_describe(const struct vcpu *vcpu, struct error *e);
/* A pause that the guest was not told of is over. */
void arch_vcpu_excuse_pause(const struct vcpu *vcpu);

/* What KVM holds of a vCPU, as it is saved: capture, then its tables; a load, then apply. KVM judges what
 * is loaded. */
int arch_vcpu_capture(struct vcpu *vcpu, struct error *e);
uint32_t arch_vcpu_states(struct vcpu *vcpu, struct state_part states[STATE_PARTS_MAX]);
/* vCPU 0 first. `clock_steps`: see struct machine. */
int arch_vcpu_apply(struct vcpu *vcpu, bool clock_steps, struct error *e);

/* An exit that KVM has on this architecture only; counts it. On the vCPU's thread. ARCH_EXIT_FAILED:
 * vcpu->error is set. */
enum arch_exit { ARCH_EXIT_DONE, ARCH_EXIT_FAILED, ARCH_EXIT_UNKNOWN };
enum arch_exit arch_handle_exit(struct vcpu *vcpu);

/* A CPU template by Firecracker's name of it, for this host. */
int arch_make_cpu_template(struct cpu_template *ret, enum vm_cpu_template which, struct error *e);

/* What vmm/cpu_baseline.h says of this architecture. */
extern const struct cpu_baseline_place arch_baseline_places[CPU_BASELINE_PLACES];
void arch_baseline_of_level(struct cpu_baseline *baseline, enum vm_cpu_level level);
int arch_baseline_read_host(struct cpu_baseline *baseline, const struct kvm *kvm, struct error *e);
/* Which bits of `arch_capabilities` say of a processor that it is worse. */
extern const uint64_t arch_capabilities_worse;

/* Boot ---------------------------------------------------------------------------------------- */

/* Words of Linux' command line with which it would have no interrupts on this machine. A NULL word
 * ends. */
struct arch_word {
	const char *word, *instead; /* of the warning that it is left out */
};
extern const struct arch_word arch_fatal_words[];
/* A word that tells a kernel the rate of the clock that it would measure in vain; false: it needs none.
 * vCPU 0 exists. */
bool arch_clock_word(const struct vcpu *vcpu, const char *cmdline, char *word, size_t size);
/* The tables and code of firmware, into fresh RAM; *rsdp is where ACPI begins. */
int arch_write_firmware(struct machine *machine, uint32_t vcpus, gpa_t *rsdp, struct error *e);
/* What a kernel finds processors and interrupts by that reads no ACPI, besides. */
int arch_write_legacy(struct guest_memory *mem, uint32_t vcpus, struct error *e);

#endif
