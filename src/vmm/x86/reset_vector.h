/* SPDX-License-Identifier: Apache-2.0 */
/* The one piece of firmware that the machine has. Private to src/vmm. */
#ifndef VMM_SRC_X86_RESET_VECTOR_H
#define VMM_SRC_X86_RESET_VECTOR_H

#include "vmm/error.h"
#include "vmm/guest_memory.h"

/* Puts real-mode code at PLATFORM_RESET_VECTOR that resets the machine. */
int reset_vector_write(struct guest_memory *mem, struct error *e);

#endif
