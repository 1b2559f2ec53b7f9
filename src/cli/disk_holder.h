/* SPDX-License-Identifier: Apache-2.0 */
/* Which VM has a disk that another one wants. */
#ifndef VMM_SRC_CLI_DISK_HOLDER_H
#define VMM_SRC_CLI_DISK_HOLDER_H

#include "vmm/error.h"

/* Puts the name of the VM behind an ERROR_DISK_LOCKED whose holder is known, and says what can be done
 * with that name, or `otherwise`. Outside of any sandbox. */
void disk_holder_explain(struct error *e, const char *otherwise);

#endif
