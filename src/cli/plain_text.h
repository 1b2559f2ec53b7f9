/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text of a guest, made safe for the user's terminal. A terminal obeys what it is sent: it can be
 * told to change its title, the clipboard or the keyboard, or to answer in the user's name as if
 * typed. What passes: valid UTF-8, line feed, tab, carriage return, and colours (ESC [ ... m). All
 * other control characters and sequences are left out; what is no UTF-8 becomes U+FFFD.
 */
#ifndef VMM_SRC_CLI_PLAIN_TEXT_H
#define VMM_SRC_CLI_PLAIN_TEXT_H

#include "vmm/types.h"

/* The longest colour sequence that passes; longer ones are left out. */
#define PLAIN_TEXT_HELD 32

struct plain_text {
	int state;
	uint8_t held[PLAIN_TEXT_HELD]; /* a sequence or character that is not whole yet */
	size_t held_len, held_want;
	bool coloured; /* a colour may be on: the end of the text should turn it off */
};

/* At most so much comes of `len` bytes. */
#define PLAIN_TEXT_ROOM(len) ((len)*3 + PLAIN_TEXT_HELD + 3)

/* From a zeroed filter on; sequences may be cut anywhere. Returns how much it wrote to `to`, which
 * has PLAIN_TEXT_ROOM(len) bytes. */
size_t plain_text_filter(struct plain_text *text, const uint8_t *data, size_t len, uint8_t *to);

#endif
