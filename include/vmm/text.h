/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of a file, a peer or a command line as text, and whole files. Any thread. */
#ifndef VMM_TEXT_H
#define VMM_TEXT_H

#include <sys/types.h>

#include "vmm/types.h"

/* Bytes of the UTF-8 character at `text`, and the character; 0 if there is none: malformed, cut off by
 * the NUL, not the shortest form, a surrogate, beyond Unicode (RFC 3629). */
size_t utf8_length(const char *text, uint32_t *character);

/* Of a hexadecimal digit; -1: it is none. */
int hex_value(char c);
/* Digits and nothing else, at least one. -EINVAL; -ERANGE: more than 64 bits. `base` is 2 to 16. */
int text_to_number(const char *text, size_t len, unsigned int base, uint64_t *ret);

/* Grows; free() data. */
struct text_buffer {
	char *data; /* NUL behind it; NULL until something was added */
	size_t len, room;
};
/* False if memory is short: it is as before. */
bool text_buffer_add(struct text_buffer *buffer, const char *data, size_t len);

/* All of it, however often it takes: 0, or a negative errno. For what blocks. */
int write_all(int fd, const void *data, size_t len);
/*
 * Reads until the end of the file, or until one byte more than `max` is there. *ret is malloc'ed, with
 * room for a NUL behind it; `expected` is a guess. The length, or a negative errno.
 */
ssize_t read_whole(int fd, size_t expected, size_t max, char **ret);

#endif
