// SPDX-License-Identifier: Apache-2.0
/*
 * Finds out what this host's KVM is like, by making a small VM that counts down in real mode and
 * then halts through a port: hardware runs that loop at hundreds of millions of instructions a
 * second, an interpreting KVM at about one million. For `vmm doctor` and for tests that choose
 * where real kernels can run. Main thread; nothing stays open.
 */
#include <cpuid.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "kvm.h"
#include "vmm/cleanup.h"
#include "vmm/loop.h"
#include "vmm/platform.h"
#include "vmm/vm.h"

#define CPUID_VMX (1U << 5)
#define CPUID_SVM (1U << 2)

#define PROBE_ADDRESS	   0x1000
#define PROBE_ROUNDS	   100000U
#define PROBE_INSTRUCTIONS (2ULL * PROBE_ROUNDS)
/* Between what was measured for interpreters (1.2 million/s) and emulated hardware (370 million/s).
 */
#define HARDWARE_THRESHOLD 20000000ULL

/* mov ecx, PROBE_ROUNDS; 1: dec ecx; jnz 1b; out 0xf4, al; hlt */
static const uint8_t program[] = {
	0x66,
	0xb9,
	PROBE_ROUNDS & 0xff,
	PROBE_ROUNDS >> 8 & 0xff,
	PROBE_ROUNDS >> 16 & 0xff,
	0x00,
	0x66,
	0x49,
	0x75,
	0xfc,
	0xe6,
	PLATFORM_PORT_DEBUG_EXIT,
	0xf4,
};

/* CPUID.1:ECX.VMX (Intel SDM 3A, 24.6), Fn8000_0001:ECX.SVM (AMD APM 3, E.4.2). */
bool kvm_has_hardware(void)
{
	unsigned int a, b, c, d;

	return (__get_cpuid(1, &a, &b, &c, &d) != 0 && (c & CPUID_VMX) != 0) ||
	       (__get_cpuid(0x80000001, &a, &b, &c, &d) != 0 && (c & CPUID_SVM) != 0);
}

static int set_real_mode(int vcpu_fd, struct error *e)
{
	struct kvm_regs regs = { .rip = PROBE_ADDRESS, .rflags = 2 };
	struct kvm_sregs sregs;
	int r = kvm_ioctl(vcpu_fd, KVM_GET_SREGS, &sregs);

	if (r == 0) {
		sregs.cs.base = 0;
		sregs.cs.selector = 0;
		r = kvm_ioctl(vcpu_fd, KVM_SET_SREGS, &sregs);
	}
	if (r == 0) {
		r = kvm_ioctl(vcpu_fd, KVM_SET_REGS, &regs);
	}
	return r < 0 ? error_set_sys(e, ERROR_KVM, -r, "set the registers of a vCPU") : 0;
}

static int time_run(int vcpu_fd, const struct kvm_run *run, struct kvm_report *report)
{
	uint64_t start = loop_now_ns();
	uint64_t elapsed;
	int r = kvm_ioctl(vcpu_fd, KVM_RUN, NULL);

	if (r < 0) {
		return error_set_sys(&report->error, ERROR_KVM, -r, "KVM_RUN");
	}
	if (run->exit_reason != KVM_EXIT_IO) {
		return error_set(&report->error, ERROR_KVM, EIO, "KVM_RUN: unexpected exit %u",
				 run->exit_reason);
	}
	elapsed = MAX(loop_now_ns() - start, 1ULL);
	report->guest_instructions_per_second = PROBE_INSTRUCTIONS * 1000000000ULL / elapsed;
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

	memcpy(page, program, sizeof(program));
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
	r = set_real_mode(vcpu_fd, &report->error);
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
