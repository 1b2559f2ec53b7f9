// SPDX-License-Identifier: Apache-2.0
/*
 * See plain_text.h. A state machine over bytes (ECMA-48 §5.4 and §8.3 for sequences, Unicode 15
 * table 3-7 for characters). The guest controls every byte; memory is what the object holds.
 */
#include "plain_text.h"

#include <string.h>

enum state {
	TEXT,
	CHARACTER,	/* within a UTF-8 sequence, `held_want` bytes long */
	ESCAPE,		/* behind ESC */
	ESCAPE_BETWEEN, /* ESC, then 0x20-0x2f: up to a final byte */
	CONTROL,	/* ESC [ */
	STRING,		/* ESC ] P X ^ _: up to BEL or ESC \ */
	STRING_ESCAPE,	/* ESC within one */
};

#define ESC 0x1b
#define BEL 0x07
#define CAN 0x18
#define SUB 0x1a

static size_t put(uint8_t *to, const void *data, size_t len)
{
	memcpy(to, data, len);
	return len;
}

static size_t put_replacement(uint8_t *to)
{
	return put(to, "\xef\xbf\xbd", 3);
}

static void hold(struct plain_text *text, uint8_t byte)
{
	if (text->held_len < sizeof(text->held)) {
		text->held[text->held_len] = byte;
	}
	text->held_len++;
}

/* Where a sequence begins. */
static size_t take_text(struct plain_text *text, uint8_t byte, uint8_t *to)
{
	text->held_len = 0;
	if (byte >= 0xc2 && byte <= 0xf4) {
		text->state = CHARACTER;
		text->held_want = byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
		hold(text, byte);
		return 0;
	}
	if (byte >= 0x80) {
		return put_replacement(to);
	}
	if (byte == ESC) {
		text->state = ESCAPE;
		return 0;
	}
	if ((byte < ' ' && byte != '\n' && byte != '\t' && byte != '\r') || byte == 0x7f) {
		return 0;
	}
	return put(to, &byte, 1);
}

/* May `byte` be the second one of a character that begins with `first`? */
static bool second_fits(uint8_t first, uint8_t byte)
{
	switch (first) {
	case 0xe0:
		return byte >= 0xa0;
	case 0xed:
		return byte <= 0x9f;
	case 0xf0:
		return byte >= 0x90;
	case 0xf4:
		return byte <= 0x8f;
	case 0xc2:
		return byte >= 0xa0; /* U+0080 to U+009F are controls */
	default:
		return true;
	}
}

static size_t take_character(struct plain_text *text, uint8_t byte, uint8_t *to)
{
	if ((byte & 0xc0) != 0x80 || (text->held_len == 1 && !second_fits(text->held[0], byte))) {
		size_t len = put_replacement(to);

		/* A control in two bytes is gone as a whole; else the byte begins something new. */
		text->state = TEXT;
		return (byte & 0xc0) == 0x80 ? len : len + take_text(text, byte, to + len);
	}
	hold(text, byte);
	if (text->held_len < text->held_want) {
		return 0;
	}
	text->state = TEXT;
	return put(to, text->held, text->held_len);
}

static size_t take_escape(struct plain_text *text, uint8_t byte)
{
	if (byte == '[') {
		text->state = CONTROL;
		text->held_len = 0;
	} else if (byte != '\0' && strchr("]PX^_", byte) != NULL) {
		text->state = STRING;
	} else if (byte >= 0x20 && byte <= 0x2f) {
		text->state = ESCAPE_BETWEEN;
	} else if (byte != ESC) {
		text->state = TEXT;
	}
	return 0;
}

/* ESC [, parameters, a final byte. Colours are digits, ';' and ':', then 'm'. */
static size_t take_control(struct plain_text *text, uint8_t byte, uint8_t *to)
{
	size_t len = 0;

	if (byte == ESC) {
		text->state = ESCAPE;
		return 0;
	}
	if (byte >= 0x80 || byte == CAN || byte == SUB || byte == '\n') {
		text->state = TEXT;
		return take_text(text, byte, to);
	}
	if (byte < ' ' || byte == 0x7f) {
		return 0; /* terminals obey controls within a sequence; we leave them out */
	}
	hold(text, byte);
	if (byte < 0x40) {
		return 0;
	}
	text->state = TEXT;
	if (byte != 'm' || text->held_len > sizeof(text->held)) {
		return 0;
	}
	for (size_t i = 0; i + 1 < text->held_len; i++) {
		if (text->held[i] < '0' || text->held[i] > ';') {
			return 0;
		}
	}
	text->coloured = true;
	len = put(to, "\x1b[", 2);
	return len + put(to + len, text->held, text->held_len);
}

static size_t take(struct plain_text *text, uint8_t byte, uint8_t *to)
{
	switch (text->state) {
	case CHARACTER:
		return take_character(text, byte, to);
	case ESCAPE:
		return take_escape(text, byte);
	case ESCAPE_BETWEEN:
		text->state = byte == ESC ? ESCAPE : byte >= 0x30 ? TEXT : ESCAPE_BETWEEN;
		return 0;
	case CONTROL:
		return take_control(text, byte, to);
	case STRING:
		/* A string without an end must not swallow all that follows: a line is enough. */
		if (byte == BEL || byte == CAN || byte == SUB || byte == '\n') {
			text->state = TEXT;
			return byte == '\n' ? put(to, "\n", 1) : 0;
		}
		text->state = byte == ESC ? STRING_ESCAPE : STRING;
		return 0;
	case STRING_ESCAPE:
		if (byte == '\\') {
			text->state = TEXT;
			return 0;
		}
		return take_escape(text, byte);
	default:
		return take_text(text, byte, to);
	}
}

size_t plain_text_filter(struct plain_text *text, const uint8_t *data, size_t len, uint8_t *to)
{
	size_t done = 0;

	for (size_t i = 0; i < len; i++) {
		done += take(text, data[i], to + done);
	}
	return done;
}
