/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing: where note.S is left out, the build still wants a source file. */
	.section .note.GNU-stack, "", @progbits
