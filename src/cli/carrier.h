/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What carries a migration that the VM's process cannot connect by itself, since it has no programs, no library that could be loaded,
 * and no descriptors of its caller: a child of the command, between a private socket and
 *
 *	exec:COMMAND	the standard input and output of a command, which are the connection itself
 *	fd:N		a stream socket that the caller has open
 *	tcp:, unix:	with TLS, which vmm-tls speaks (src/tls)
 *
 * and, where a VM is received, "-": standard input and output.
 *
 * A child lives as long as its connection, whatever becomes of the command: a migration that is under way is not cut because
 * somebody's terminal has closed. One that has none yet ends with the command. Main thread, before other threads.
 */
#ifndef VMM_SRC_CLI_CARRIER_H
#define VMM_SRC_CLI_CARRIER_H

#include <sys/types.h>

#include "vmm/error.h"
#include "vmm/request.h"
#include "vmm/sandbox.h"

struct carrier_settings {
	const char *tls_dir, *tls_hostname; /* NULL: no TLS; as the address has it */
	int sandbox;			    /* enum sandbox_mode, of the child */
};

/* --- of a VM that is sent ------------------------------------------------------------------------ */

struct carrier {
	char *address;	    /* what the VM is told */
	const char *shown;  /* what the user has said; borrowed */
	char directory[90]; /* of the private socket; "": none */
	pid_t child;	    /* 0: none */
	int status_fd; /* what the child says; it ends with this if it has no connection; -1: no child */
	bool command; /* exec: */
};

/* It is a command, or a socket that is open: there can be no other connection to it. */
bool carrier_is_single(const char *address);
/* *carrier can be finished in any case. */
int carrier_begin(struct carrier *carrier, const struct carrier_settings *settings,
		  const char *address, struct error *e);
/* `e` says why a migration has failed: what the child knows about that is added. */
void carrier_explain(struct carrier *carrier, struct error *e);
/* Waits a little for the child. A command that does not end by itself is ended, unless the VM has moved: it may be the receiver. Accepts
 * a zeroed one. */
void carrier_finish(struct carrier *carrier, bool moved);
/* Does not wait. */
void carrier_leave(struct carrier *carrier);

/* --- of a VM that is received -------------------------------------------------------------------- */

/* "-" or fd:N. */
bool carrier_is_given(const char *address);
/*
 * The stream socket that such an address is, or one that a child makes of two pipes. After "-" standard input and output lead
 * nowhere, so that nothing else is said there.
 */
int carrier_take(const char *address, int sandbox, struct receive_socket *ret, struct error *e);
/* A socket that vmm-tls connects to for each client at `address` that has shown who it is. In the VM's process, before its filter. */
int carrier_accept_tls(const char *address, const struct carrier_settings *settings,
		       struct receive_socket *ret, struct error *e);

/* --- between the files --------------------------------------------------------------------------- */

/* ROOT/.migration-XXXXXX/socket, which listens; directory[] as above. */
int carrier_listen(char directory[90], char path[108], int *ret, struct error *e);
void carrier_remove(const char *directory);
/* In a child: signals do what they do, but for those of a terminal. */
void carrier_become_child(void);
/*
 * Runs vmm-tls with these words behind its name, in a child; returns when it listens. `orphan`: nobody waits for it, *child is not
 * set. What it needs of descriptors has to stay open over exec in the child only: `keep`, -1 ends.
 */
int carrier_start_tls(const char *const words[], const int keep[], bool orphan, pid_t *child,
		      int *status_fd, struct error *e);

#endif
