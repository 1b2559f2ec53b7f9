/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM that is parked: saved, ended, and waiting to go on. STATE/NAME/parked.json (vmm/definition_store.h):
 *
 *	{"version": 1, "state": "parked", "directory": "/...", "paused": false}
 *
 * "parked" alone says that the guest has not run since. The two others stand there while that may
 * change, so that who is interrupted leaves a note of what it was at:
 *
 *	"parking"	the snapshot is whole; whether the VM has ended, or gone on, nobody knows
 *	"unparking"	so does nobody whether it has begun to run again
 *
 * Restoring a guest that has run since, on disks that it has written to, would damage them: so only a
 * "parked" one is restored unless its user says that it has not.
 */
#ifndef VMM_SRC_CLI_PARKED_H
#define VMM_SRC_CLI_PARKED_H

#include "vmm/error.h"
#include "vmm/json.h"

enum parked_state { PARKED_NOT, PARKED_PARKED, PARKED_PARKING, PARKED_UNPARKING };

struct parked {
	json_t *root; /* has the string */
	enum parked_state state;
	const char *directory; /* of the snapshot, absolute */
	bool paused;	       /* it was, before it was parked */
};

/* ERROR_NOT_FOUND if there is no note. */
int parked_load(struct parked *parked, const char *name, struct error *e);
int parked_save(const char *name, enum parked_state state, const char *directory, bool paused,
		struct error *e);
void parked_finish(struct parked *parked);
/* Without a word: PARKED_NOT also for a note that cannot be read. */
enum parked_state parked_state(const char *name);
/* ERROR_EXISTS if a VM of that name waits to go on. */
int parked_check(const char *name, struct error *e);
/* Removes the note and, if it is in the VM's own directory, the snapshot. Whoever has the name's lock. */
int parked_forget(const char *name, struct error *e);

#endif
