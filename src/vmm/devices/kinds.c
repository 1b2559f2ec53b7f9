/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The types of devices that a machine of any architecture can have, behind those of its platform
 * (arch_device_kinds[]). Constant.
 */
#include "kinds.h"

#include "../arch.h"

static const struct device_kind *const device_kinds[] = {
	&vmgenid_kind, &vmclock_kind, &pci_kind,     &pci_hotplug_kind,
	&disk_kind,    &net_kind,     &console_kind, &entropy_kind,
};

const struct device_kind *device_kind_at(uint32_t index)
{
	uint32_t platform = 0;

	for (; arch_device_kinds[platform] != NULL; platform++) {
		if (platform == index) {
			return arch_device_kinds[platform];
		}
	}
	index -= platform;
	return index < ARRAY_SIZE(device_kinds) ? device_kinds[index] : NULL;
}
