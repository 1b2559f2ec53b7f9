// SPDX-License-Identifier: Apache-2.0
/* Names of the roles, shared by the filter compiler and vmm. */
#include "vmm/sandbox.h"

static const char *const names[SANDBOX_ROLES] = {
	[SANDBOX_ROLE_MAIN] = "main",	    [SANDBOX_ROLE_MACHINE] = "machine",
	[SANDBOX_ROLE_VCPU] = "vcpu",	    [SANDBOX_ROLE_BLOCK] = "block",
	[SANDBOX_ROLE_NET] = "net",	    [SANDBOX_ROLE_CONSOLE] = "console",
	[SANDBOX_ROLE_ENTROPY] = "entropy", [SANDBOX_ROLE_JOB] = "job",
	[SANDBOX_ROLE_PAGER] = "pager",	    [SANDBOX_ROLE_FREEZER] = "freezer",
	[SANDBOX_ROLE_RECEIVE] = "receive", [SANDBOX_ROLE_RELAY] = "relay",
	[SANDBOX_ROLE_TLS] = "tls",	    [SANDBOX_ROLE_PAGES] = "pages",
};

const char *sandbox_role_name(enum sandbox_role role)
{
	return (unsigned int)role < SANDBOX_ROLES ? names[role] : "unknown";
}
