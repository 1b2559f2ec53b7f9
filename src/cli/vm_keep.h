/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VM with a name leaves behind, until `vmm rm`: its definition (definition.h), from its start
 * on, and its events, from its end on. One without a name pays nothing for it.
 */
#ifndef VMM_SRC_CLI_VM_KEEP_H
#define VMM_SRC_CLI_VM_KEEP_H

#include "run_settings.h"
#include "vmm/instance.h"
#include "vmm/run_directory.h"

struct vm_keep {
	json_t *definition; /* main's until the VM runs, then the settling thread's until its post;
			     * NULL: none is written */
	const char *name;   /* borrowed */
	int events_fd;	    /* -1: none */
	int directory_fd;   /* of the definition, once it has been written; -1: none */
};

/* Main, before the name is claimed, which removes what an earlier VM has left: a definition that
 * somebody has made for later is not replaced by a start that is not one of it. ERROR_EXISTS. */
int vm_keep_check(const char *name, struct error *e);
struct vm_keep_what {
	const struct run_settings *settings;
	bool created;	       /* by vmm create */
	bool definition_stays; /* there is one, and it is not written */
};
/* Main, within a start, outside of the sandbox. */
int vm_keep_prepare(struct vm_keep *keep, const struct run_directory *directory,
		    struct instance *instance, const struct vm_keep_what *what, struct error *e);
/* A thread without a filter, when the VM runs: writes the definition. A failure is a warning. */
void vm_keep_settle(struct vm_keep *keep);
/* Main, within its filter. */
void vm_keep_events(struct vm_keep *keep, struct instance *instance);
/* The same, when the VM has settled: it goes on elsewhere, and nobody shall start it here once more. A failure is a warning. */
void vm_keep_forget(struct vm_keep *keep);
/* Nothing of it is used any more. Accepts a zeroed one whose descriptors are -1. */
void vm_keep_finish(struct vm_keep *keep);

#endif
