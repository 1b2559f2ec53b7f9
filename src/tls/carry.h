/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What vmm-tls does once it has what it needs: connections are accepted at one address, each is carried to one of its own at another,
 * and one of the two speaks TLS. Several at a time, CARRY_LANES at most; who is not who it should be takes one of them for
 * HANDSHAKE_MS, and nothing else.
 */
#ifndef VMM_SRC_TLS_CARRY_H
#define VMM_SRC_TLS_CARRY_H

#include "session.h"
#include "vmm/sandbox.h"

#define CARRY_LANES  32
#define HANDSHAKE_MS 10000

struct carry {
	const struct tls_credentials *credentials;
	enum sandbox_mode sandbox;
	int listener;		 /* does not block */
	const char *destination; /* what migration_address_connect() takes */
	/* Of who has started this program, -1: nobody. A line for each failure is written to it; when he has closed the other end,
	 * nobody is accepted any more, and it is over when the last connection is. */
	int status_fd;
};

/* Main; enters the sandbox. Returns when it is over. */
int carry_run(const struct carry *carry, struct error *e);

#endif
