/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entry points of a test guest. guest_start32: PVH, 32-bit protected mode, start_info in %ebx. guest_start64: the Linux
 * 64-bit boot protocol, boot_params in %rsi. Both end in guest_main() at CPL 3, on the boot stack.
 *
 * CPL 3 because a software KVM interprets ring 0 at about a million instructions per second, and runs ring 3 natively; the
 * selectors are those of Linux, which such a KVM wants to see. It also drops IOPL on the way to ring 3: the ports are opened by
 * the I/O bitmap of the TSS instead. Ring 0 is entered again for interrupts, exceptions and guest_ring0() only, so these paths
 * are kept short. Tables that can be built by the assembler cost no instruction.
 */
#define CPUS 32 /* PLATFORM_VCPUS_MAX */
#define TSS_SIZE 104
#define TRAMPOLINE 0x80000
#define KERNEL_CS 0x10
#define KERNEL_DS 0x18
#define USER_DS 0x2b
#define USER_CS 0x33
#define TSS 0x40

	.section .text.start, "ax"
	.code32
	.globl guest_start32
guest_start32:
	cli
	cld
	movl $guest_boot_stack_end, %esp
	movl %ebx, guest_boot_info
	movl $1, guest_boot_kind
	lgdt gdt_pointer
enter_long_mode:
	movl %cr4, %eax
	orl $0x20, %eax
	movl %eax, %cr4
	movl $guest_pml4, %eax
	movl %eax, %cr3
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x100, %eax
	wrmsr
	movl %cr0, %eax
	orl $0x80000001, %eax
	movl %eax, %cr0
	ljmp $KERNEL_CS, $start_common

	/*
	 * The 64-bit entry of a bzImage: 0x200 into the image, which may have been loaded anywhere. Move it to where it is linked,
	 * and clear what an ELF loader would have cleared.
	 */
	.code64
	.org 0x200
guest_start_bzimage:
	cli
	cld
	movq %rsi, %rbx
	leaq guest_start_bzimage - 0x200(%rip), %rsi
	movl $guest_image_start, %edi
	movl $guest_image_words, %ecx
	cmpq %rsi, %rdi
	je 1f
	rep movsq
	movl $1f, %eax
	jmpq *%rax
1:
	movl $guest_bss_start, %edi
	movl $guest_bss_words, %ecx
	xorl %eax, %eax
	rep stosq
	movq %rbx, %rsi

	.globl guest_start64
guest_start64:
	cli
	cld
	movq $guest_boot_stack_end, %rsp
	movq %rsi, guest_boot_info
	movl $2, guest_boot_kind
	lgdt gdt_pointer
	movq $guest_pml4, %rax
	movq %rax, %cr3
	pushq $KERNEL_CS
	pushq $start_common
	lretq

start_common:
	movl $KERNEL_DS, %eax
	movl %eax, %ss
	movl $USER_DS, %eax
	movl %eax, %ds
	movl %eax, %es
	xorl %eax, %eax
	movl %eax, %fs
	movl %eax, %gs
	lidt guest_idt_pointer
	/* The TSS descriptor's base: the assembler cannot split an address. */
	movq $guest_tss, %rax
	movw %ax, guest_gdt + TSS + 2
	shrl $16, %eax
	movb %al, guest_gdt + TSS + 4
	movb %ah, guest_gdt + TSS + 7
	movl $TSS, %eax
	ltr %ax
	pushq $USER_DS
	pushq $guest_boot_stack_end
	pushq $2
	pushq $USER_CS
	pushq $guest_main
	iretq

	/*
	 * The other CPUs: smp.c copies this to TRAMPOLINE and sends INIT and SIPI. Each takes the next number, which selects its
	 * stack and its TSS, and calls guest_cpu_main(number) at CPL 3.
	 */
	.code16
	.globl guest_trampoline, guest_trampoline_end
guest_trampoline:
	cli
	cld
	movw %cs, %ax
	movw %ax, %ds
	lgdtl trampoline_gdt - guest_trampoline
	movl %cr0, %eax
	orl $1, %eax
	movl %eax, %cr0
	ljmpl $8, $cpu_start32
	.balign 4
trampoline_gdt:
	.word gdt_end - guest_gdt - 1
	.long guest_gdt
guest_trampoline_end:

	.code32
cpu_start32:
	movl $KERNEL_DS, %eax
	movl %eax, %ss
	movl %eax, %ds
	movl %cr4, %eax
	orl $0x20, %eax
	movl %eax, %cr4
	movl $guest_pml4, %eax
	movl %eax, %cr3
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x100, %eax
	wrmsr
	movl $1, %edi
	lock xaddl %edi, guest_cpu_next
	/* Caching on as well: SIPI starts with CD and NW set. */
	movl %cr0, %eax
	andl $0x9fffffff, %eax
	orl $0x80000001, %eax
	movl %eax, %cr0
	ljmp $KERNEL_CS, $cpu_start64

	.code64
cpu_start64:
	movl $USER_DS, %eax
	movl %eax, %ds
	movl %eax, %es
	lidt guest_idt_pointer
	movl %edi, %eax
	shll $4, %eax
	addl $TSS, %eax
	ltr %ax
	movl %edi, %eax
	shll $12, %eax
	leaq guest_cpu_stacks(%rax), %rsp
	movq %rsp, %rax
	pushq $USER_DS
	pushq %rax
	pushq $2
	pushq $USER_CS
	pushq $guest_cpu_main
	iretq

	/* Where interrupts and exceptions land: 256 stubs of 16 bytes. */
	.balign 16
	.globl guest_trap_stubs
guest_trap_stubs:
	.set vector, 0
	.rept 256
	.balign 16
	.if !((vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21))
	pushq $0
	.endif
	pushq $vector
	jmp trap_common
	.set vector, vector + 1
	.endr
	.balign 16

trap_common:
	pushq %rax
	pushq %rcx
	pushq %rdx
	pushq %rsi
	pushq %rdi
	pushq %r8
	pushq %r9
	pushq %r10
	pushq %r11
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, %rdi
	cld
	call guest_trap
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	popq %r11
	popq %r10
	popq %r9
	popq %r8
	popq %rdi
	popq %rsi
	popq %rdx
	popq %rcx
	popq %rax
	addq $16, %rsp
	iretq

	.section .data.tables, "aw"
	.balign 4096
	.globl guest_pml4
guest_pml4:
	.quad guest_pdpt + 7
	.fill 511, 8, 0
	.globl guest_pdpt
guest_pdpt:
	.quad guest_pd + 0x0007, guest_pd + 0x1007, guest_pd + 0x2007, guest_pd + 0x3007
	.fill 508, 8, 0
	.globl guest_pd
guest_pd:
	.set page, 0
	.rept 2048
	.quad (page << 21) | 0x87
	.set page, page + 1
	.endr

	.balign 16
	.globl guest_gdt
guest_gdt:
	.quad 0
	.quad 0x00cf9b000000ffff
	.quad 0x00af9b000000ffff
	.quad 0x00cf93000000ffff
	.quad 0x00cffb000000ffff
	.quad 0x00cff3000000ffff
	.quad 0x00affb000000ffff
	.quad 0
	/* Limit: to the last byte of the I/O bitmap, which follows the TSSes of all CPUs. */
	.rept CPUS
	.quad 0x0000890000002000 + CPUS * TSS_SIZE, 0
	.endr
gdt_end:
gdt_pointer:
	.word gdt_end - guest_gdt - 1
	.quad guest_gdt
	.balign 8
	.globl guest_idt_pointer
guest_idt_pointer:
	.word 0xfff
	.quad guest_idt

	.balign 8
	.globl guest_boot_info, guest_boot_kind
guest_boot_info:
	.quad 0
guest_boot_kind:
	.long 0, 0
	.globl guest_cpu_next
guest_cpu_next:
	.long 0, 0
	/* One TSS per CPU, all with the same I/O bitmap behind them: every port is open. */
	.globl guest_tss
guest_tss:
	.set cpu, 0
	.rept CPUS
	.long 0
	.quad guest_trap_stacks + (cpu + 1) * 2048
	.fill 90, 1, 0
	.word (CPUS - cpu) * TSS_SIZE
	.set cpu, cpu + 1
	.endr
	.fill 8192, 1, 0
	.byte 255

	.section .bss
	.balign 4096
	.globl guest_idt
guest_idt:
	.skip 4096
	.skip 16384
guest_boot_stack_end:
	/* The stack of CPU n, from 1 on, ends at guest_cpu_stacks + n * 4096. */
guest_cpu_stacks:
	.skip 4096 * CPUS
guest_trap_stacks:
	.skip 2048 * CPUS
	.section .note.GNU-stack, "", @progbits
