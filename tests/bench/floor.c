/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floor under every start time: only the system calls without which no guest can start. The
 * guest writes one byte to COM1; the byte goes to standard output. Memory slots come before the
 * irqchip: after it each one waits for a grace period.
 */
#include <err.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM_SIZE (128UL << 20)
#define ENTRY	 0x1000

int main(void)
{
	/* mov $0x3f8, %dx; mov $'!', %al; out %al, (%dx); hlt */
	static const unsigned char code[] = { 0xba, 0xf8, 0x03, 0xb0, '!', 0xee, 0xf4 };
	struct kvm_pit_config pit = { 0 };
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rip = ENTRY, .rflags = 2 };
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm = ioctl(kvm, KVM_CREATE_VM, 0), vcpu;
	unsigned char *ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct kvm_userspace_memory_region slot = { .memory_size = RAM_SIZE };
	struct kvm_run *run;

	if (kvm < 0 || vm < 0 || ram == MAP_FAILED) {
		err(1, "/dev/kvm");
	}
	memcpy(ram + ENTRY, code, sizeof(code));
	slot.userspace_addr = (unsigned long)ram;
	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot) || ioctl(vm, KVM_CREATE_IRQCHIP, 0) ||
	    ioctl(vm, KVM_CREATE_PIT2, &pit)) {
		err(1, "virtual machine");
	}
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	run = mmap(NULL, (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE,
		   MAP_SHARED, vcpu, 0);
	if (vcpu < 0 || run == MAP_FAILED || ioctl(vcpu, KVM_GET_SREGS, &sregs)) {
		err(1, "vCPU");
	}
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (ioctl(vcpu, KVM_SET_SREGS, &sregs) || ioctl(vcpu, KVM_SET_REGS, &regs) ||
	    ioctl(vcpu, KVM_RUN, 0) || run->exit_reason != KVM_EXIT_IO) {
		err(1, "guest");
	}
	if (write(STDOUT_FILENO, (char *)run + run->io.data_offset, 1) != 1) {
		return 1;
	}
	return pause();
}
