/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VM boots: kernel, initrd and command line, and how the guest finds its machine. Private to
 * src/vmm. Main, or the thread of a start; boot_load() again at a machine reset, on the machine
 * thread.
 *
 * A reset loads from the files that boot_open() has left open, or has unpacked. A VM that was loaded has
 * none of them open and may never need them: its first reset opens them by the paths of its
 * configuration (the machine thread may, within its filter), and ends the VM with an error that names the
 * one that is not there.
 */
#ifndef VMM_SRC_BOOT_H
#define VMM_SRC_BOOT_H

#include "machine.h"
#include "vmm/loader.h"
#include "vmm/vm_config.h"

struct vcpu;

struct boot {
	struct loader_request load;
	struct boot_entry entry;
	char *image_cmdline;		 /* of a unified kernel image; NULL: none */
	char *cmdline, *cmdline_devices; /* `load` borrows them */
	bool whole;			 /* the user's command line: nothing is added */
};

void boot_init(struct boot *boot);
/* Paths are borrowed. Takes apart what contains a kernel; before the sandbox. */
int boot_open(struct boot *boot, const char *kernel, char *const initrds[VM_INITRDS_MAX],
	      struct error *e);
/* `hvc`: the console that the user sees is the virtio console. */
int boot_build_cmdline(struct boot *boot, const struct vm_config *config, bool hvc,
		       struct error *e);
/* vCPU 0 exists: its clock's rate, for a kernel that may not ask kvm-clock. */
int boot_tell_clock(struct boot *boot, const struct vcpu *vcpu, struct error *e);
/* The devices exist. */
int boot_add_devices(struct boot *boot, struct machine *machine, struct error *e);
/* Fills fresh RAM for the first instruction; boot->entry says how it is reached. */
int boot_load(struct boot *boot, struct machine *machine, struct guest_memory *mem, uint32_t vcpus,
	      struct error *e);
/* After the first load: says what of the command line this machine or kernel cannot do. */
void boot_warn(const struct boot *boot, struct machine *machine);
/* Accepts a half-made one. */
void boot_finish(struct boot *boot);

#endif
