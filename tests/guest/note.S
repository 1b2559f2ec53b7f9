/* SPDX-License-Identifier: Apache-2.0 */
/* The PVH note: XEN_ELFNOTE_PHYS32_ENTRY (18) with the 32-bit entry point. A guest without it is entered in 64-bit mode. */
	.section .note.vmm, "a", @note
	.balign 4
	.long 4, 8, 18
	.asciz "Xen"
	.quad guest_start32
	.section .note.GNU-stack, "", @progbits
