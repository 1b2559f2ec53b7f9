/* SPDX-License-Identifier: Apache-2.0 */
/* Firecracker's named CPU templates (machine-config's cpu_template). Private to src/vmm. */
#ifndef VMM_SRC_X86_STATIC_TEMPLATES_H
#define VMM_SRC_X86_STATIC_TEMPLATES_H

#include "vmm/error.h"
#include "vmm/vm_config.h"

/* What CPUID says of the host: leaf 0's EBX, EDX, ECX as text, leaf 1's EAX. */
struct host_cpu {
	char vendor[13];
	uint32_t signature;
};

void host_cpu_read(struct host_cpu *host);
/* Fills `ret`. ERROR_CONFIG if the template (not NONE) is not for this host: by vendor, then by
 * family, model and stepping, as Firecracker decides it. */
int static_template_make(struct cpu_template *ret, enum vm_cpu_template which,
			 const struct host_cpu *host, struct error *e);

#endif
