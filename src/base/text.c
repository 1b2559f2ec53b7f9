/* SPDX-License-Identifier: Apache-2.0 */
/* See vmm/text.h. All bytes may be hostile. */
#include "vmm/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cleanup.h"
#include "vmm/overflow.h"

#define CHUNK KIB(16)

size_t utf8_length(const char *text, uint32_t *character)
{
	static const struct {
		uint8_t mask, lead;
		uint32_t min;
	} forms[] = { { 0x80, 0x00, 0 },
		      { 0xe0, 0xc0, 0x80 },
		      { 0xf0, 0xe0, 0x800 },
		      { 0xf8, 0xf0, 0x10000 } };
	const uint8_t *bytes = (const uint8_t *)text;

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		uint32_t c = bytes[0] & (uint8_t)~forms[i].mask;

		if ((bytes[0] & forms[i].mask) != forms[i].lead) {
			continue;
		}
		for (size_t k = 1; k <= i; k++) {
			if ((bytes[k] & 0xc0) != 0x80) {
				return 0;
			}
			c = c << 6 | (bytes[k] & 0x3fU);
		}
		*character = c;
		return c < forms[i].min || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff ? 0 : i + 1;
	}
	return 0;
}

int hex_value(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	if (c >= 'a' && c <= 'f') {
		return c - 'a' + 10;
	}
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int text_to_number(const char *text, size_t len, unsigned int base, uint64_t *ret)
{
	uint64_t n = 0;
	bool fits = true;

	for (size_t i = 0; i < len; i++) {
		int digit = hex_value(text[i]);

		if (digit < 0 || (unsigned int)digit >= base) {
			return -EINVAL;
		}
		fits = fits && !mul_overflow(n, base, &n) &&
		       !add_overflow(n, (unsigned int)digit, &n);
	}
	if (len == 0) {
		return -EINVAL;
	}
	*ret = n;
	return fits ? 0 : -ERANGE;
}

bool text_buffer_add(struct text_buffer *buffer, const char *data, size_t len)
{
	size_t need;

	if (add_overflow(buffer->len, len, &need) || need > SIZE_MAX / 4) {
		return false;
	}
	if (buffer->data == NULL || need >= buffer->room) {
		size_t room = MAX(2 * buffer->room, need + 1);
		char *grown = realloc(buffer->data, room);

		if (grown == NULL) {
			return false;
		}
		buffer->data = grown;
		buffer->room = room;
	}
	if (len > 0) {
		memcpy(buffer->data + buffer->len, data, len);
	}
	buffer->len = need;
	buffer->data[need] = '\0';
	return true;
}

int write_all(int fd, const void *data, size_t len)
{
	const char *at = data;

	while (len > 0) {
		ssize_t n = write(fd, at, len);

		if (n < 0 && errno != EINTR) {
			return -errno;
		}
		at += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

ssize_t read_whole(int fd, size_t expected, size_t max, char **ret)
{
	auto_free char *data = NULL;
	size_t len = 0, room = 0;

	for (;;) {
		ssize_t n;

		if (len == room) {
			size_t wanted = room == 0 ? MAX(expected, (size_t)CHUNK) : 2 * room;
			char *grown;

			room = MIN(wanted, max) + 1;
			grown = realloc(data, room);
			if (grown == NULL) {
				return -ENOMEM;
			}
			data = grown;
		}
		n = read(fd, data + len, room - len);
		if (n < 0 && errno != EINTR) {
			return -errno;
		}
		len += n > 0 ? (size_t)n : 0;
		if (n == 0 || len > max) {
			*ret = take_ptr(data);
			return (ssize_t)len;
		}
	}
}
