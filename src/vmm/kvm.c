// SPDX-License-Identifier: Apache-2.0
/*
 * Opening KVM, and what it can do. Required capabilities are refused by name with what they are
 * needed for; optional ones are remembered in struct kvm, and each user of one degrades. Those of one
 * architecture are its own tables.
 *
 * Main thread only. Nothing here is saved; the guest controls nothing here.
 */
#include "kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "arch.h"
#include "kvm_cure.h"
#include "vmm/cleanup.h"
#include "vmm/vm_config.h"

#define KVM_DEVICE "/dev/kvm"

/* In the order in which Linux got them: the newest, KVM_CAP_IMMEDIATE_EXIT, is of 4.13. */
static const struct kvm_capability everywhere[] = {
	{ KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP", "interrupt controllers" },
	{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY", "guest memory" },
	{ KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE", "vCPU reset" },
	{ KVM_CAP_IRQFD, "KVM_CAP_IRQFD", "device interrupts" },
	{ KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD", "device doorbells" },
	{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT", "stopping vCPUs" },
};
static const struct kvm_capabilities required = { everywhere, ARRAY_SIZE(everywhere) };

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

static int check_required(int fd, const struct kvm_capabilities *capabilities,
			  const struct cpu_template *cpu, struct error *e)
{
	for (size_t i = 0; i < capabilities->count; i++) {
		const struct kvm_capability *capability = &capabilities->list[i];

		if (is_excused(cpu, (uint32_t)capability->number)) {
			continue;
		}
		if (!has_capability(fd, capability->number)) {
			(void)error_set(e, ERROR_KVM_UNAVAILABLE, ENOTSUP,
					KVM_DEVICE ": %s is missing, which %s need",
					capability->name, capability->text);
			return error_hint(e, "use a kernel of version 4.13 or newer");
		}
	}
	return 0;
}

static uint32_t find_optional(int fd)
{
	uint32_t found = 0;

	for (size_t i = 0; i < arch_optional.count; i++) {
		found |= has_capability(fd, arch_optional.list[i].number) ? 1U << i : 0;
	}
	return found;
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
	r = check_required(kvm->fd, &required, cpu, e);
	if (r == 0) {
		r = check_required(kvm->fd, &arch_required, cpu, e);
	}
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
	kvm->optional = find_optional(kvm->fd);
	return 0;
fail:
	kvm_close(kvm);
	return r;
}

int kvm_create_vm(struct kvm *kvm, struct error *e)
{
	int r;

	kvm->vm_fd = kvm_ioctl(kvm->fd, KVM_CREATE_VM, NULL);
	if (kvm->vm_fd < 0) {
		r = error_set_sys(e, ERROR_KVM, -kvm->vm_fd, "KVM_CREATE_VM");
		kvm->vm_fd = -1;
		return r;
	}
	return arch_vm_init(kvm, e);
}

void kvm_close(struct kvm *kvm)
{
	memslots_unregister(kvm);
	free(take_ptr(kvm->host));
	close_fd(&kvm->vm_fd);
	close_fd(&kvm->fd);
}

void kvm_describe_missing(const struct kvm *kvm, char *buf, size_t size)
{
	size_t used = 0;

	if (size > 0) {
		buf[0] = '\0';
	}
	for (uint32_t i = 0; i < arch_optional.count; i++) {
		const struct kvm_capability *capability = &arch_optional.list[i];

		if (capability->text != NULL && !kvm_has(kvm, i) && used < size) {
			used += (size_t)snprintf(buf + used, size - used, "%s%s: %s",
						 used > 0 ? "; " : "", capability->name,
						 capability->text);
		}
	}
}
