/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads kernel, initrd, command line and boot structures, in that order, into fresh RAM. Runs on
 * the main thread before the first vCPU and again at a machine reset; keeps nothing in between. On
 * failure RAM holds pieces, and `entry` is untouched.
 */
#include "internal.h"
#include "vmm/platform.h"

static int load_kernel(const struct source *src, struct guest_memory *mem, struct kernel *kernel,
		       struct error *e)
{
	enum image_format format;
	int r = detect_image(src, &format, e);

	if (r != 0) {
		return r;
	}
	return format == IMAGE_ELF ? elf_load(src, mem, kernel, e)
				   : arch_load_image(src, format, mem, kernel, e);
}

int loader_check_kernel(const struct loader_image *kernel, struct error *e)
{
	enum image_format format;
	struct source src;
	int r = source_init(&src, kernel, "kernel", ERROR_KERNEL_IMAGE, e);

	return r == 0 ? detect_image(&src, &format, e) : r;
}

/*
 * The words that name the devices go to a kernel that does not read ACPI, or is told not to. A
 * kernel for which they mean nothing might pass them on or refuse them, so one that is known and no
 * Linux gets them only if it has them.
 */
static const char *choose_cmdline(const struct loader_request *request,
				  const struct boot_entry *result)
{
	bool understood = result->knows_device_words != LOADER_NO || result->is_linux;

	return result->legacy && understood && request->cmdline_devices != NULL
		       ? request->cmdline_devices
		       : request->cmdline;
}

int loader_load(struct guest_memory *mem, const struct loader_request *request,
		struct boot_entry *entry, struct error *e)
{
	struct boot_entry result = { 0 };
	struct kernel kernel = { 0 };
	struct initrd initrd;
	struct source src;
	int r;

	if (arch_low_end(mem) < PLATFORM_MEMORY_MIN) {
		return error_set(e, ERROR_INTERNAL, 0, "no RAM at address 0");
	}
	kernel.look_for_words = request->acpi_off;
	r = source_init(&src, &request->kernel, "kernel", ERROR_KERNEL_IMAGE, e);
	if (r == 0) {
		r = load_kernel(&src, mem, &kernel, e);
	}
	if (r != 0) {
		return detect_hint(e);
	}
	result.reads_acpi = kernel.reads_acpi;
	result.knows_device_words = kernel.knows_device_words;
	result.is_linux = kernel.is_linux;
	result.legacy = request->acpi_off || kernel.reads_acpi == LOADER_NO;
	result.cmdline = choose_cmdline(request, &result);
	r = cmdline_write(mem, &kernel, result.cmdline, e);
	if (r == 0) {
		r = initrd_load(request->initrds, request->initrd_count, mem, &kernel, &initrd, e);
	}
	if (r != 0) {
		return r;
	}
	result.protocol = kernel.protocol;
	result.entry = kernel.entry;
	r = arch_write_boot_data(mem, &kernel, &initrd, request->rsdp, &result, e);
	if (r == 0) {
		*entry = result;
	}
	return r;
}
