// SPDX-License-Identifier: Apache-2.0
/*
 * Opening KVM, and what it can do. Required capabilities are refused by name with what they are
 * needed for; optional ones are remembered in struct kvm, and each user of one degrades.
 *
 * Main thread only. Nothing here is saved; the guest controls nothing here.
 */
#include "kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "kvm_cure.h"
#include "vmm/cleanup.h"
#include "vmm/platform.h"
#include "vmm/vm_config.h"

#define KVM_DEVICE "/dev/kvm"

struct capability {
	int number;
	const char *name;
	const char *purpose;
};

/* In the order in which Linux got them: the newest, KVM_CAP_IMMEDIATE_EXIT, is of 4.13. */
static const struct capability required[] = {
	{ KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP", "interrupt controllers" },
	{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY", "guest memory" },
	{ KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID", "CPU identification" },
	{ KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE", "vCPU reset" },
	{ KVM_CAP_IRQFD, "KVM_CAP_IRQFD", "device interrupts" },
	{ KVM_CAP_PIT2, "KVM_CAP_PIT2", "the timer" },
	{ KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD", "device doorbells" },
	{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT", "stopping vCPUs" },
};

int kvm_ioctl(int fd, unsigned long request, void *arg)
{
	int r;

	do {
		r = ioctl(fd, request, arg);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

static int explain_open_failure(int sys, struct error *e)
{
	struct kvm_node node;
	char cure[sizeof(e->hint)];

	(void)error_set_sys(e, ERROR_KVM_UNAVAILABLE, sys, "open " KVM_DEVICE);
	kvm_node_look(&node, sys);
	kvm_node_cure(&node, cure, sizeof(cure));
	return cure[0] != '\0' ? error_hint(e, "%s", cure) : -sys;
}

static bool has_capability(int fd, int capability)
{
	return kvm_ioctl(fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)capability) > 0;
}

/* The last word of a template about the capability, NULL: it has none. */
static const struct capability_modifier *find_modifier(const struct cpu_template *cpu,
						       uint32_t number)
{
	for (uint32_t i = cpu != NULL ? cpu->capability_count : 0; i-- > 0;) {
		if (cpu->capabilities[i].number == number) {
			return &cpu->capabilities[i];
		}
	}
	return NULL;
}

static bool is_excused(const struct cpu_template *cpu, uint32_t number)
{
	const struct capability_modifier *modifier = find_modifier(cpu, number);

	return modifier != NULL && modifier->removed;
}

static int check_added(int fd, const struct cpu_template *cpu, struct error *e)
{
	for (uint32_t i = 0; cpu != NULL && i < cpu->capability_count; i++) {
		uint32_t number = cpu->capabilities[i].number;

		if (is_excused(cpu, number)) {
			continue;
		}
		/* KVM takes an int for what the template may have as 32 bits. */
		if (number > INT_MAX || !has_capability(fd, (int)number)) {
			(void)error_set(e, ERROR_CONFIG, ENOTSUP,
					"CPU template: Missing KVM capabilities: 0x%x (%u)", number,
					number);
			return error_hint(e, "take it out of the template's kvm_capabilities, or "
					     "use a host that has it");
		}
	}
	return 0;
}

static int check_required(int fd, const struct cpu_template *cpu, struct error *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(required); i++) {
		if (is_excused(cpu, (uint32_t)required[i].number)) {
			continue;
		}
		if (!has_capability(fd, required[i].number)) {
			(void)error_set(e, ERROR_KVM_UNAVAILABLE, ENOTSUP,
					KVM_DEVICE ": %s is missing, which %s need",
					required[i].name, required[i].purpose);
			return error_hint(e, "use a kernel of version 4.13 or newer");
		}
	}
	return 0;
}

int kvm_open(struct kvm *kvm, const struct cpu_template *cpu, struct error *e)
{
	int version;
	int r;

	*kvm = (struct kvm){ .fd = -1, .vm_fd = -1 };
	kvm->fd = open(KVM_DEVICE, O_RDWR | O_CLOEXEC);
	if (kvm->fd < 0) {
		return explain_open_failure(errno, e);
	}
	version = kvm_ioctl(kvm->fd, KVM_GET_API_VERSION, NULL);
	if (version < 0) {
		r = error_set_sys(e, ERROR_KVM_UNAVAILABLE, -version,
				  KVM_DEVICE " is not KVM: KVM_GET_API_VERSION");
		(void)error_hint(e, "load the module again: sudo modprobe -r kvm_intel; sudo "
				    "modprobe kvm_intel (or kvm_amd)");
		goto fail;
	}
	if (version != KVM_API_VERSION) {
		r = error_set(e, ERROR_KVM_UNAVAILABLE, ENOTSUP,
			      KVM_DEVICE ": API version %d, but vmm needs %d", version,
			      KVM_API_VERSION);
		(void)error_hint(e, "use a kernel of version 4.13 or newer");
		goto fail;
	}
	r = check_required(kvm->fd, cpu, e);
	if (r == 0) {
		r = check_added(kvm->fd, cpu, e);
	}
	if (r < 0) {
		goto fail;
	}
	r = kvm_ioctl(kvm->fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	if (r < (int)sizeof(struct kvm_run)) {
		r = error_set(e, ERROR_KVM, EPROTO, KVM_DEVICE ": KVM_GET_VCPU_MMAP_SIZE gave %d",
			      r);
		goto fail;
	}
	kvm->vcpu_mmap_size = r;
	kvm->has_xcrs = has_capability(kvm->fd, KVM_CAP_XCRS);
	kvm->has_vcpu_events = has_capability(kvm->fd, KVM_CAP_VCPU_EVENTS);
	kvm->has_debugregs = has_capability(kvm->fd, KVM_CAP_DEBUGREGS);
	kvm->has_tsc_deadline = has_capability(kvm->fd, KVM_CAP_TSC_DEADLINE_TIMER);
	kvm->has_kvmclock_ctrl = has_capability(kvm->fd, KVM_CAP_KVMCLOCK_CTRL);
	kvm->has_tsc_control = has_capability(kvm->fd, KVM_CAP_TSC_CONTROL);
	return 0;
fail:
	kvm_close(kvm);
	return r;
}

int kvm_create_vm(struct kvm *kvm, struct error *e)
{
	uint64_t identity_map = PLATFORM_KVM_IDENTITY_MAP;
	int r;

	kvm->vm_fd = kvm_ioctl(kvm->fd, KVM_CREATE_VM, NULL);
	if (kvm->vm_fd < 0) {
		r = error_set_sys(e, ERROR_KVM, -kvm->vm_fd, "KVM_CREATE_VM");
		kvm->vm_fd = -1;
		return r;
	}
	/* Only Intel CPUs without unrestricted guest mode use these pages; the others ignore them.
	 */
	r = kvm_ioctl(kvm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	if (r < 0 && r != -EINVAL && r != -ENOTTY) {
		return error_set_sys(e, ERROR_KVM, -r, "KVM_SET_IDENTITY_MAP_ADDR");
	}
	r = kvm_ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, (void *)(uintptr_t)PLATFORM_KVM_TSS);
	if (r < 0 && r != -EINVAL && r != -ENOTTY) {
		return error_set_sys(e, ERROR_KVM, -r, "KVM_SET_TSS_ADDR");
	}
	r = kvm_ioctl(kvm->vm_fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)KVM_CAP_XSAVE2);
	kvm->has_xsave2 = r > 0;
	kvm->xsave_size =
		r > (int)sizeof(struct kvm_xsave) ? (uint32_t)r : sizeof(struct kvm_xsave);
	return 0;
}

void kvm_close(struct kvm *kvm)
{
	close_fd(&kvm->vm_fd);
	close_fd(&kvm->fd);
}

void kvm_describe_missing(const struct kvm *kvm, char *buf, size_t size)
{
	const struct {
		bool present;
		const char *text;
	} optional[] = {
		{ kvm->has_tsc_deadline,
		  "TSC deadline timer: guests use the slower periodic timer" },
		{ kvm->has_xcrs, "XCRS: AVX state cannot be saved" },
		{ kvm->has_vcpu_events, "VCPU_EVENTS: pending interrupts are lost in snapshots" },
		{ kvm->has_kvmclock_ctrl,
		  "KVMCLOCK_CTRL: guests may report lock-ups after a pause" },
		{ kvm->has_tsc_control,
		  "TSC scaling: snapshots move only between hosts of one frequency" },
	};
	size_t used = 0;

	if (size > 0) {
		buf[0] = '\0';
	}
	for (size_t i = 0; i < ARRAY_SIZE(optional); i++) {
		if (!optional[i].present && used < size) {
			used += (size_t)snprintf(buf + used, size - used, "%s%s",
						 used > 0 ? "; " : "", optional[i].text);
		}
	}
}
