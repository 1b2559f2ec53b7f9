// SPDX-License-Identifier: Apache-2.0
/*
 * Kernel, initrd and command line of a VM. The machine is announced by ACPI. A Linux kernel that
 * does not read ACPI, or is told "acpi=off", finds its processors and interrupts in an MP table, its
 * devices in words of its command line, and has a PIT: see `legacy` in vmm/loader.h.
 *
 * Words with which Linux would stand still on this machine are left out (arch_fatal_words[]): who
 * writes them (they are in the default of firectl) means an old Firecracker, where they did no harm.
 * Nothing is left out of --cmdline-only.
 *
 * Runs before the guest; the guest controls nothing here.
 */
#include "boot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"

LOG_DOMAIN("vm");

#define DEVICE_WORD "virtio_mmio.device="
#define NO_PCI	    "pci=off"

void boot_init(struct boot *boot)
{
	*boot = (struct boot){ .load.kernel.fd = -1 };
}

int boot_open(struct boot *boot, const char *kernel, char *const initrds[VM_INITRDS_MAX],
	      struct error *e)
{
	struct loader_request *load = &boot->load;
	int r = loader_open(&load->kernel, kernel, ERROR_KERNEL_IMAGE, e);

	for (uint32_t i = 0; r == 0 && i < VM_INITRDS_MAX; i++) {
		if (initrds[i] != NULL) {
			r = loader_open(&load->initrds[load->initrd_count], initrds[i],
					ERROR_INITRD, e);
			load->initrd_count += r == 0;
		}
	}
	return r == 0 ? loader_prepare(load, &boot->image_cmdline, e) : r;
}

static void leave_out_words(struct boot *boot)
{
	for (const struct arch_word *word = arch_fatal_words; word->word != NULL; word++) {
		if (cmdline_remove_word(boot->cmdline, word->word)) {
			log_warn("kernel command line: %s is left out: this machine's interrupts "
				 "come by local and I/O APIC only%s",
				 word->word, word->instead);
		}
	}
}

int boot_build_cmdline(struct boot *boot, const struct vm_config *config, bool hvc, struct error *e)
{
	bool root = config->disk_count > 0 && config->disks[0].root;
	const struct cmdline_request request = {
		.append = config->boot.cmdline,
		.boot_args = config->boot.boot_args,
		.only = config->boot.cmdline_only,
		.image = boot->image_cmdline,
		.serial = !hvc,
		.hvc = hvc,
		.pci = vm_config_has_pci(config),
		.root_disk = root,
		.root_partuuid = root ? config->disks[0].partuuid : NULL,
		.root_read_only = root && config->disks[0].read_only,
		.initrd = config->boot.initrd != NULL,
	};
	char *shrunk;
	int r;

	boot->cmdline = malloc(PLATFORM_CMDLINE_MAX);
	if (boot->cmdline == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "kernel command line: out of memory");
	}
	r = cmdline_build(&request, boot->cmdline, PLATFORM_CMDLINE_MAX, e);
	if (r < 0) {
		return r;
	}
	boot->whole = request.only != NULL;
	if (!boot->whole) {
		leave_out_words(boot);
	}
	if (request.pci && cmdline_has_word(boot->cmdline, NO_PCI)) {
		log_warn("kernel command line: " NO_PCI ": this machine's disks, network cards and "
			 "virtio console are on PCI, and Linux will not look there; leave the word "
			 "out, or use --transport mmio");
	}
	shrunk = realloc(boot->cmdline, strlen(boot->cmdline) + 1);
	if (shrunk != NULL) {
		boot->cmdline = shrunk;
	}
	boot->load.cmdline = boot->cmdline;
	boot->load.acpi_off = cmdline_has_word(boot->cmdline, "acpi=off");
	return 0;
}

/* The command line and these words; free(). */
static int with_words(const struct boot *boot, const char *words, char **ret, struct error *e)
{
	size_t size = strlen(boot->cmdline) + strlen(words) + 3;

	*ret = malloc(size);
	if (*ret == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "kernel command line: out of memory");
	}
	return cmdline_insert(boot->cmdline, words, *ret, size, e);
}

int boot_tell_clock(struct boot *boot, const struct vcpu *vcpu, struct error *e)
{
	char word[64];
	char *line;
	int r;

	if (boot->whole || !arch_clock_word(vcpu, boot->cmdline, word, sizeof(word))) {
		return 0;
	}
	r = with_words(boot, word, &line, e);
	if (r == 0) {
		free(boot->cmdline);
		boot->load.cmdline = boot->cmdline = take_ptr(line);
	}
	free(line);
	return r;
}

int boot_add_devices(struct boot *boot, struct machine *machine, struct error *e)
{
	auto_free char *words = NULL;

	int r;

	if (boot->whole || !machine_needs_words(machine) ||
	    cmdline_has_prefix(boot->cmdline, DEVICE_WORD)) {
		return 0;
	}
	words = machine_device_words(machine);
	if (words == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "kernel command line: out of memory");
	}
	r = with_words(boot, words, &boot->cmdline_devices, e);
	boot->load.cmdline_devices = boot->cmdline_devices;
	return r;
}

int boot_load(struct boot *boot, struct machine *machine, struct guest_memory *mem, uint32_t vcpus,
	      struct error *e)
{
	int r = arch_write_firmware(machine, vcpus, &boot->load.rsdp, e);

	if (r == 0) {
		r = machine_write_generation(machine, e);
	}
	if (r == 0) {
		r = loader_load(mem, &boot->load, &boot->entry, e);
	}
	return r == 0 && boot->entry.legacy ? arch_write_legacy(mem, vcpus, e) : r;
}

void boot_warn(const struct boot *boot, struct machine *machine)
{
	const struct boot_entry *entry = &boot->entry;
	bool by_word = entry->knows_device_words == LOADER_YES ||
		       cmdline_has_prefix(boot->cmdline, DEVICE_WORD);

	if (!entry->legacy || !machine_needs_words(machine) || by_word) {
		return;
	}
	if (boot->load.acpi_off) {
		log_warn("kernel command line: acpi=off: without ACPI only a kernel that knows "
			 "virtio_mmio.device= finds disks, network cards and the virtio console, "
			 "and %s",
			 entry->knows_device_words == LOADER_NO
				 ? "this one does not, unless by a module"
				 : "that is not to be seen of this one");
	} else if (entry->is_linux) {
		log_warn("kernel '%s' reads no ACPI tables and does not know virtio_mmio.device=: "
			 "it "
			 "finds no disks, network cards and virtio console, unless by a module",
			 boot->load.kernel.path);
	}
}

void boot_finish(struct boot *boot)
{
	for (uint32_t i = 0; i < boot->load.initrd_count; i++) {
		/* That of a unified kernel image is part of the same file. */
		if (boot->load.initrds[i].fd != boot->load.kernel.fd) {
			close_fd(&boot->load.initrds[i].fd);
		}
	}
	close_fd(&boot->load.kernel.fd);
	free(take_ptr(boot->image_cmdline));
	free(boot->cmdline);
	free(boot->cmdline_devices);
	boot->cmdline = boot->cmdline_devices = NULL;
}
