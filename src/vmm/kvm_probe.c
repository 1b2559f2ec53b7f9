// SPDX-License-Identifier: Apache-2.0
/*
 * Finds out what this host's KVM is like, by making a small VM that counts down and ends
 * with an exit: hardware runs that loop at hundreds of millions of instructions a
 * second, an interpreting KVM at about one million. For `vmm doctor` and for tests that choose
 * where real kernels can run. Main thread; nothing stays open.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "arch.h"
#include "vmm/cleanup.h"
#include "vmm/loop.h"
#include "vmm/vm.h"

#define PROBE_ADDRESS 0x1000
/* Between what was measured for interpreters (1.2 million/s) and emulated hardware (370 million/s).
 */
#define HARDWARE_THRESHOLD 20000000ULL

void kvm_describe_processor(char *buf, size_t size)
{
	arch_describe_processor(buf, size);
}

bool kvm_has_hardware(void)
{
	return arch_has_virtualization();
}

static int time_run(int vcpu_fd, const struct kvm_run *run, struct kvm_report *report)
{
	uint64_t start = loop_now_ns();
	uint64_t elapsed;
	int r = kvm_ioctl(vcpu_fd, KVM_RUN, NULL);

	if (r < 0) {
		return error_set_sys(&report->error, ERROR_KVM, -r, "KVM_RUN");
	}
	if (!arch_probe_has_ended(run)) {
		return error_set(&report->error, ERROR_KVM, EIO, "KVM_RUN: unexpected exit %u",
				 run->exit_reason);
	}
	elapsed = MAX(loop_now_ns() - start, 1ULL);
	report->guest_instructions_per_second = arch_probe.instructions * 1000000000ULL / elapsed;
	report->hardware = report->guest_instructions_per_second >= HARDWARE_THRESHOLD;
	return 0;
}

static int run_program(const struct kvm *kvm, uint8_t *page, struct kvm_report *report)
{
	struct kvm_userspace_memory_region slot = {
		.guest_phys_addr = PROBE_ADDRESS,
		.memory_size = PAGE_SIZE_4K,
		.userspace_addr = (uintptr_t)page,
	};
	auto_close int vcpu_fd = -1;
	struct kvm_run *run;
	int r;

	memcpy(page, arch_probe.program, arch_probe.size);
	r = kvm_ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot);
	if (r < 0) {
		return error_set_sys(&report->error, ERROR_KVM, -r, "KVM_SET_USER_MEMORY_REGION");
	}
	vcpu_fd = kvm_ioctl(kvm->vm_fd, KVM_CREATE_VCPU, NULL);
	if (vcpu_fd < 0) {
		return error_set_sys(&report->error, ERROR_KVM, -vcpu_fd, "KVM_CREATE_VCPU");
	}
	run = mmap(NULL, (size_t)kvm->vcpu_mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd,
		   0);
	if (run == MAP_FAILED) {
		return error_set_sys(&report->error, ERROR_KVM, errno, "map a vCPU's run page");
	}
	r = arch_probe_place(vcpu_fd, PROBE_ADDRESS, &report->error);
	if (r == 0) {
		r = time_run(vcpu_fd, run, report);
	}
	(void)munmap(run, (size_t)kvm->vcpu_mmap_size);
	return r;
}

void kvm_probe(struct kvm_report *report)
{
	struct kvm kvm;
	uint8_t *page;
	uint64_t start;

	*report = (struct kvm_report){ 0 };
	if (kvm_open(&kvm, NULL, &report->error) < 0) {
		return;
	}
	report->opened = true;
	start = loop_now_ns();
	if (kvm_create_vm(&kvm, &report->error) == 0) {
		report->create_vm_ns = loop_now_ns() - start;
		kvm_describe_missing(&kvm, report->missing, sizeof(report->missing));
		page = mmap(NULL, PAGE_SIZE_4K, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
		if (page == MAP_FAILED) {
			(void)error_set_sys(&report->error, ERROR_NO_MEMORY, errno, "map a page");
		} else {
			(void)run_program(&kvm, page, report);
			(void)munmap(page, PAGE_SIZE_4K);
		}
	}
	kvm_close(&kvm);
}
