// SPDX-License-Identifier: Apache-2.0
/*
 * Checks a configuration as data, before anything is opened: pure, no system calls. Each message
 * names the place.
 */
#include <errno.h>
#include <string.h>

#include "vmm/platform.h"
#include "vmm/vm_config.h"

static int check_memory(const struct vm_config *config, struct error *e)
{
	uint64_t size = config->memory_size;

	if (size < PLATFORM_MEMORY_MIN) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"--memory: %llu bytes is less than %llu MiB",
				(unsigned long long)size, PLATFORM_MEMORY_MIN >> 20);
		return error_hint(e, "Linux wants 64M or more; 512M is the default");
	}
	if (size % MIB(1) != 0) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"--memory: %llu bytes is not a whole number of MiB",
				(unsigned long long)size);
		return error_hint(e, "try --memory %lluM", (unsigned long long)(size >> 20) + 1);
	}
	return 0;
}

static int check_vcpus(const struct vm_config *config, struct error *e)
{
	if (config->vcpus < 1 || config->vcpus > PLATFORM_VCPUS_MAX) {
		(void)error_set(e, ERROR_CONFIG, EINVAL, "--cpus: %u is not between 1 and %d",
				config->vcpus, PLATFORM_VCPUS_MAX);
		return error_hint(e, "try --cpus %d", config->vcpus < 1 ? 1 : PLATFORM_VCPUS_MAX);
	}
	return 0;
}

static int explain_name(struct error *e)
{
	return error_hint(e,
			  "use 1 to %d letters, digits, '-', '_' and '.', beginning with a "
			  "letter or digit",
			  VM_NAME_MAX);
}

static int check_name(const struct vm_config *config, struct error *e)
{
	const char *name = config->name;
	size_t len;

	if (name == NULL) {
		return 0;
	}
	len = strlen(name);
	if (len == 0 || len > VM_NAME_MAX) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"--name: '%.64s' has %zu characters, not 1 to %d", name, len,
				VM_NAME_MAX);
		return explain_name(e);
	}
	if (strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") !=
		    len ||
	    name[0] == '.' || name[0] == '-') {
		(void)error_set(e, ERROR_CONFIG, EINVAL, "--name: '%s' is not a name", name);
		return explain_name(e);
	}
	return 0;
}

static int check_disks(const struct vm_config *config, struct error *e)
{
	for (uint32_t i = 0; i < config->disk_count; i++) {
		const char *path = config->disks[i].path;

		if (path == NULL || path[0] == '\0') {
			(void)error_set(e, ERROR_CONFIG, EINVAL, "--disk %u: no path given", i + 1);
			return error_hint(e, "--disk PATH[,ro][,serial=S]");
		}
	}
	return 0;
}

int vm_config_validate(const struct vm_config *config, struct error *e)
{
	int r = check_name(config, e);

	if (r == 0 && config->kernel == NULL) {
		(void)error_set(e, ERROR_USAGE, EINVAL, "no kernel given");
		r = error_hint(e, "vmm run --kernel FILE");
	}
	if (r == 0 && config->cmdline != NULL && config->cmdline_only != NULL) {
		(void)error_set(e, ERROR_USAGE, EINVAL,
				"--cmdline and --cmdline-only exclude each other");
		r = error_hint(e, "--cmdline appends to what vmm makes of the devices, "
				  "--cmdline-only replaces it");
	}
	if (r == 0) {
		r = check_memory(config, e);
	}
	if (r == 0) {
		r = check_vcpus(config, e);
	}
	return r == 0 ? check_disks(config, e) : r;
}
