/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts, exceptions and the way from CPL 3 to CPL 0. That way is the undefined instruction
 * exception with a magic number in %rax: a software KVM knows neither INT n nor SYSCALL, and takes
 * IOPL away, so that CLI and STI need this way as well.
 */
#include "guest.h"

#define RING0_MAGIC 0x52494e4730
#define RFLAGS_IF   0x200ULL
#define VECTOR_UD   6

struct trap_frame {
	uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax;
	uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

struct idt_entry {
	uint16_t offset0, selector;
	uint8_t ist, attributes;
	uint16_t offset1;
	uint32_t offset2, reserved;
};

extern const char guest_trap_stubs[];
extern struct idt_entry guest_idt[256];

volatile uint32_t guest_irq_count[256];

void guest_trap(struct trap_frame *frame);

enum { CALL_IRQ_ENABLE = 1, CALL_IRQ_DISABLE = 2 };

void guest_trap(struct trap_frame *frame)
{
	if (frame->vector >= 32) {
		guest_irq_count[frame->vector]++;
		if (frame->vector != GUEST_VECTOR_SPURIOUS) {
			guest_write32(PLATFORM_LAPIC + GUEST_LAPIC_EOI, 0);
		}
		return;
	}
	if (frame->vector == VECTOR_UD && frame->rax == RING0_MAGIC) {
		frame->rip += 2;
		if (frame->rdi == CALL_IRQ_ENABLE) {
			frame->rflags |= RFLAGS_IF;
		} else if (frame->rdi == CALL_IRQ_DISABLE) {
			frame->rflags &= ~RFLAGS_IF;
		} else {
			frame->rax = ((guest_ring0_fn *)frame->rdi)(frame->rsi);
		}
		return;
	}
	guest_printf("EXCEPTION %lu error %lx rip %lx cs %lx rflags %lx rsp %lx\n", frame->vector,
		     frame->error, frame->rip, frame->cs, frame->rflags, frame->rsp);
	if (frame->vector == 14) {
		uint64_t cr2;

		__asm__ volatile("movq %%cr2, %0" : "=r"(cr2));
		guest_printf("cr2 %lx\n", cr2);
	}
	guest_out8(PLATFORM_PORT_DEBUG_EXIT, GUEST_EXCEPTION);
	for (;;) {
		__asm__ volatile("cli; hlt");
	}
}

static uint64_t enter(uint64_t call, uint64_t argument)
{
	uint64_t result = RING0_MAGIC;

	__asm__ volatile("ud2" : "+a"(result) : "D"(call), "S"(argument) : "memory");
	return result;
}

uint64_t guest_ring0(guest_ring0_fn *fn, uint64_t argument)
{
	return enter((uint64_t)fn, argument);
}

void guest_irq_enable(void)
{
	enter(CALL_IRQ_ENABLE, 0);
}

void guest_irq_disable(void)
{
	enter(CALL_IRQ_DISABLE, 0);
}

static uint64_t ring0_halt(uint64_t unused)
{
	(void)unused;
	__asm__ volatile("sti; hlt; cli" : : : "memory");
	return 0;
}

void guest_halt(void)
{
	guest_ring0(ring0_halt, 0);
}

static uint64_t ring0_sleep(uint64_t unused)
{
	(void)unused;
	do {
		__asm__ volatile("cli; hlt");
	} while (true);
	return 0;
}

void guest_sleep(void)
{
	for (;;) {
		guest_ring0(ring0_sleep, 0);
	}
}

static uint64_t ring0_rdmsr(uint64_t msr)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"((uint32_t)msr));
	return (uint64_t)high << 32 | low;
}

uint64_t guest_rdmsr(uint32_t msr)
{
	return guest_ring0(ring0_rdmsr, msr);
}

struct msr_write {
	uint32_t msr;
	uint64_t value;
};

static uint64_t ring0_wrmsr(uint64_t argument)
{
	const struct msr_write *w = (const void *)argument;

	__asm__ volatile("wrmsr"
			 :
			 : "a"((uint32_t)w->value), "d"((uint32_t)(w->value >> 32)), "c"(w->msr)
			 : "memory");
	return 0;
}

void guest_wrmsr(uint32_t msr, uint64_t value)
{
	struct msr_write w = { msr, value };

	guest_ring0(ring0_wrmsr, (uint64_t)&w);
}

static uint64_t ring0_cpuid(uint64_t argument)
{
	struct guest_cpuid *r = (void *)argument;

	__asm__ volatile("cpuid" : "+a"(r->eax), "=b"(r->ebx), "+c"(r->ecx), "=d"(r->edx));
	return 0;
}

struct guest_cpuid guest_cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct guest_cpuid r = { .eax = leaf, .ecx = subleaf };

	guest_ring0(ring0_cpuid, (uint64_t)&r);
	return r;
}

void guest_trap_init(void)
{
	for (unsigned i = 0; i < 256; i++) {
		uint64_t stub = (uint64_t)guest_trap_stubs + i * 16UL;

		guest_idt[i] = (struct idt_entry){
			.offset0 = (uint16_t)stub,
			.selector = 0x10,
			.attributes = 0x8e,
			.offset1 = (uint16_t)(stub >> 16),
			.offset2 = (uint32_t)(stub >> 32),
		};
	}
}
