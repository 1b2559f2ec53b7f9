/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Escape commands in what a user types at a console: a prefix key, then a letter. The same for `vmm
 * run` and `vmm console`; what is not an escape command is for the guest.
 *
 *	PREFIX letter	a command, see escape_help()
 *	PREFIX PREFIX	the prefix itself, for the guest
 *	PREFIX alone	is for the guest, too, after ESCAPE_TIMEOUT_MS without another key
 *
 * No locks, no clock: the owner has the timer.
 */
#ifndef VMM_SRC_CLI_ESCAPE_H
#define VMM_SRC_CLI_ESCAPE_H

#include "vmm/error.h"
#include "vmm/types.h"

#define ESCAPE_KEY_DEFAULT 0x1d /* Ctrl-] */
#define ESCAPE_KEY_NONE	   (-1)
#define ESCAPE_TIMEOUT_MS  1000
#define ESCAPE_HELP_SIZE   480

/* What the user asked for by an escape command. */
enum escape_command { ESCAPE_POWER_BUTTON, ESCAPE_STOP, ESCAPE_CTRL_ALT_DEL, ESCAPE_RESET };

struct escape {
	int key;	 /* the prefix: a control character, or ESCAPE_KEY_NONE */
	bool can_detach; /* help says so; detach() is called in any case */
	bool waiting;	 /* the prefix was typed, what follows decides */
	void (*command)(struct escape *escape, enum escape_command command);
	void (*detach)(struct escape *escape);
	/* Asked for, or a letter that is none. */
	void (*help)(struct escape *escape);
};

/* Takes escape commands out of what was typed, calling for each in its place; returns what is left
 * for the guest. In place: never more than `len`. */
size_t escape_filter(struct escape *escape, uint8_t *data, size_t len);
/* The time is up: true if the prefix, now in *byte, is for the guest. */
bool escape_expire(struct escape *escape, uint8_t *byte);

/* "none", "ctrl-a", "Ctrl-]", "^]". */
int escape_parse_key(const char *text, int *key, struct error *e);
/* "Ctrl-]" */
void escape_key_name(int key, char buf[8]);
/* The list of commands, with CR LF; returns its length. */
size_t escape_help(const struct escape *escape, char buf[ESCAPE_HELP_SIZE]);

#endif
