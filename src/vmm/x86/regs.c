// SPDX-License-Identifier: Apache-2.0
/*
 * The first register values of a vCPU: what firmware would have left behind.
 *
 * Linux 64-bit boot protocol (Documentation/arch/x86/boot.rst): long mode, identity paging and GDT
 * made by the loader, boot_params in %rsi, interrupts off. PVH
 * (xen/include/public/arch-x86/hvm/start_info.h): 32-bit protected mode, paging off, flat segments,
 * start_info in %ebx. Application processors wait for INIT and SIPI, as KVM leaves them.
 */
#include <string.h>

#include "vcpu_state.h"
#include "vmm/platform.h"

#define CR0_PE		(1UL << 0)
#define CR0_ET		(1UL << 4)
#define CR0_NE		(1UL << 5)
#define CR0_PG		(1UL << 31)
#define CR4_PAE		(1UL << 5)
#define EFER_LME	(1UL << 8)
#define EFER_LMA	(1UL << 10)
#define RFLAGS_RESERVED 2

#define MSR_IA32_MISC_ENABLE	0x1a0
#define MISC_ENABLE_FAST_STRING 1
#define MSR_MTRR_DEF_TYPE	0x2ff
#define MTRR_ENABLE		(1U << 11)
#define MTRR_TYPE_WRITE_BACK	6

#define SEGMENT_CODE	 0xb /* execute, read, accessed */
#define SEGMENT_DATA	 0x3 /* read, write, accessed */
#define SEGMENT_TSS_BUSY 0xb
#define SELECTOR_CODE	 0x10 /* __BOOT_CS */
#define SELECTOR_DATA	 0x18 /* __BOOT_DS */
#define SELECTOR_TSS	 0x20

#define APIC_LVT0	 0x350
#define APIC_LVT1	 0x360
#define APIC_MODE_EXTINT 7
#define APIC_MODE_NMI	 4

static struct kvm_segment flat_segment(uint16_t selector, uint8_t type, bool long_mode)
{
	bool code = type == SEGMENT_CODE;

	return (struct kvm_segment){
		.base = 0,
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1,
		.g = 1,
		.l = long_mode && code,
		.db = !(long_mode && code),
	};
}

static void set_segments(struct kvm_sregs *sregs, bool long_mode)
{
	struct kvm_segment data = flat_segment(SELECTOR_DATA, SEGMENT_DATA, long_mode);

	sregs->cs = flat_segment(SELECTOR_CODE, SEGMENT_CODE, long_mode);
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
	sregs->tr = (struct kvm_segment){
		.limit = 0x67,
		.selector = SELECTOR_TSS,
		.type = SEGMENT_TSS_BUSY,
		.present = 1,
	};
}

int vcpu_set_entry(int vcpu_fd, const struct boot_entry *entry, struct error *e)
{
	bool long_mode = entry->protocol == BOOT_LINUX64;
	struct kvm_regs regs = { .rip = entry->entry, .rflags = RFLAGS_RESERVED };
	struct kvm_sregs sregs;
	int r = kvm_ioctl(vcpu_fd, KVM_GET_SREGS, &sregs);

	if (r < 0) {
		return error_set_sys(e, ERROR_KVM, -r, "KVM_GET_SREGS");
	}
	set_segments(&sregs, long_mode);
	sregs.cr0 = CR0_PE | CR0_ET | CR0_NE;
	if (long_mode) {
		regs.rsi = entry->info;
		sregs.cr0 |= CR0_PG;
		sregs.cr3 = entry->page_tables;
		sregs.cr4 |= CR4_PAE;
		sregs.efer |= EFER_LME | EFER_LMA;
		sregs.gdt.base = entry->gdt;
		sregs.gdt.limit = entry->gdt_limit;
	} else {
		regs.rbx = entry->info;
	}
	r = kvm_ioctl(vcpu_fd, KVM_SET_SREGS, &sregs);
	if (r < 0) {
		return error_set_sys(e, ERROR_KVM, -r, "KVM_SET_SREGS");
	}
	r = kvm_ioctl(vcpu_fd, KVM_SET_REGS, &regs);
	return r < 0 ? error_set_sys(e, ERROR_KVM, -r, "KVM_SET_REGS") : 0;
}

static int set_lints(int vcpu_fd, struct error *e)
{
	struct kvm_lapic_state lapic;
	uint32_t lvt;
	int r = kvm_ioctl(vcpu_fd, KVM_GET_LAPIC, &lapic);

	if (r < 0) {
		return error_set_sys(e, ERROR_KVM, -r, "KVM_GET_LAPIC");
	}
	memcpy(&lvt, lapic.regs + APIC_LVT0, sizeof(lvt));
	lvt = (lvt & ~0x700U) | APIC_MODE_EXTINT << 8;
	memcpy(lapic.regs + APIC_LVT0, &lvt, sizeof(lvt));
	memcpy(&lvt, lapic.regs + APIC_LVT1, sizeof(lvt));
	lvt = (lvt & ~0x700U) | APIC_MODE_NMI << 8;
	memcpy(lapic.regs + APIC_LVT1, &lvt, sizeof(lvt));
	r = kvm_ioctl(vcpu_fd, KVM_SET_LAPIC, &lapic);
	return r < 0 ? error_set_sys(e, ERROR_KVM, -r, "KVM_SET_LAPIC") : 0;
}

int vcpu_set_power_on(int vcpu_fd, struct error *e)
{
	struct {
		struct kvm_msrs header;
		struct kvm_msr_entry entries[2];
	} msrs = {
		.header.nmsrs = 2,
		.entries = {
			{ .index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLE | MTRR_TYPE_WRITE_BACK },
			{ .index = MSR_IA32_MISC_ENABLE, .data = MISC_ENABLE_FAST_STRING },
		},
	};
	int r = kvm_ioctl(vcpu_fd, KVM_SET_MSRS, &msrs);

	if (r < 0) {
		return error_set_sys(e, ERROR_KVM, -r, "KVM_SET_MSRS");
	}
	/* AMD hosts without MISC_ENABLE take one of two; that is fine. */
	return set_lints(vcpu_fd, e);
}
