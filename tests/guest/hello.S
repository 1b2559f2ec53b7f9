/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The smallest guest: one byte to COM1 as its first act, then debug exit 0, and rest if there is no debug exit. Entered by PVH
 * or in 64-bit mode: these instructions are the same in both.
 */
	.section .text.start, "ax"
	.globl guest_start32, guest_start64
guest_start32:
guest_start64:
	movw $0x3f8, %dx
	movb $'!', %al
	outb %al, %dx
	xorl %eax, %eax
	outb %al, $0xf4
1:	cli
	hlt
	jmp 1b
	/* What a kernel has that reads ACPI: vmm spares the PIT for it. */
	.ascii "RSD PTR "
	.section .note.GNU-stack, "", @progbits
