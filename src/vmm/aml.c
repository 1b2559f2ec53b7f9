/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: bytecode is appended to the caller's buffer. A package length (ACPI 6.4
 * §20.2.4) stands in front of what it measures and has one to four bytes itself, so it is inserted
 * when the body is closed, which moves the body up.
 */
#include "aml.h"

#include <string.h>

#include "vmm/bytes.h"
#include "vmm/overflow.h"

#define OP_ZERO		0x00
#define OP_ONE		0x01
#define OP_NAME		0x08
#define OP_BYTE		0x0a
#define OP_WORD		0x0b
#define OP_DWORD	0x0c
#define OP_STRING	0x0d
#define OP_QWORD	0x0e
#define OP_SCOPE	0x10
#define OP_BUFFER	0x11
#define OP_PACKAGE	0x12
#define OP_METHOD	0x14
#define OP_DUAL_NAME	0x2e
#define OP_MULTI_NAME	0x2f
#define OP_EXTENDED	0x5b
#define OP_ROOT		0x5c
#define OP_LOCAL0	0x60
#define OP_STORE	0x70
#define OP_AND		0x7b
#define OP_NOTIFY	0x86
#define OP_IF		0xa0
#define EXTENDED_REGION 0x80
#define EXTENDED_FIELD	0x81
#define EXTENDED_DEVICE 0x82

#define SEGMENT_LEN	     4
#define SEGMENTS_MAX	     255
#define METHOD_ARGUMENTS_MAX 7
#define METHOD_SERIALIZED    0x08
#define REGION_SYSTEM_IO     0x01
#define FIELD_DWORD_ACCESS   0x03 /* no lock, preserve */
#define PACKAGE_LENGTH_MAX   0x0fffffff

void aml_init(struct aml *aml, uint8_t *buf, size_t size)
{
	*aml = (struct aml){ .buf = buf, .size = size };
}

void aml_bytes(struct aml *aml, const void *bytes, size_t len)
{
	if (aml->failed || !range_within(aml->len, len, aml->size)) {
		aml->failed = true;
		return;
	}
	memcpy(aml->buf + aml->len, bytes, len);
	aml->len += len;
}

void aml_byte(struct aml *aml, uint8_t byte)
{
	aml_bytes(aml, &byte, 1);
}

/* Puts bytes before what stands from `at` on. */
static void insert(struct aml *aml, size_t at, const uint8_t *bytes, size_t len)
{
	if (aml->failed || at > aml->len || !range_within(aml->len, len, aml->size)) {
		aml->failed = true;
		return;
	}
	memmove(aml->buf + at + len, aml->buf + at, aml->len - at);
	memcpy(aml->buf + at, bytes, len);
	aml->len += len;
}

static size_t integer_encode(uint8_t *out, uint64_t value)
{
	if (value <= 1) {
		out[0] = value == 0 ? OP_ZERO : OP_ONE;
		return 1;
	}
	if (value <= UINT8_MAX) {
		out[0] = OP_BYTE;
		out[1] = (uint8_t)value;
		return 2;
	}
	if (value <= UINT16_MAX) {
		out[0] = OP_WORD;
		store_le16(out + 1, (uint16_t)value);
		return 3;
	}
	if (value <= UINT32_MAX) {
		out[0] = OP_DWORD;
		store_le32(out + 1, (uint32_t)value);
		return 5;
	}
	out[0] = OP_QWORD;
	store_le64(out + 1, value);
	return 9;
}

void aml_integer(struct aml *aml, uint64_t value)
{
	uint8_t bytes[9];
	size_t len = integer_encode(bytes, value);

	aml_bytes(aml, bytes, len);
}

void aml_string(struct aml *aml, const char *text)
{
	aml_byte(aml, OP_STRING);
	aml_bytes(aml, text, strlen(text) + 1);
}

void aml_eisa_id(struct aml *aml, const char *id)
{
	uint8_t bytes[5] = { OP_DWORD };
	uint32_t letters = 0, digits = 0;

	if (strlen(id) != 7) {
		aml->failed = true;
		return;
	}
	for (int i = 0; i < 3; i++) {
		letters = letters << 5 | ((uint32_t)(id[i] - '@') & 0x1f);
	}
	for (int i = 3; i < 7; i++) {
		char c = id[i];

		digits = digits << 4 | ((uint32_t)(c <= '9' ? c - '0' : c - 'A' + 10) & 0x0f);
	}
	/* Big-endian in both halves. */
	bytes[1] = (uint8_t)(letters >> 8);
	bytes[2] = (uint8_t)letters;
	bytes[3] = (uint8_t)(digits >> 8);
	bytes[4] = (uint8_t)digits;
	aml_bytes(aml, bytes, sizeof(bytes));
}

static size_t path_segments(const char *path)
{
	size_t count = *path == '\0' ? 0 : 1;

	for (; *path != '\0'; path++) {
		count += *path == '.' ? 1 : 0;
	}
	return count;
}

/* Writes one segment, padded; returns what follows its dot. */
static const char *segment_write(struct aml *aml, const char *path)
{
	char segment[SEGMENT_LEN] = { '_', '_', '_', '_' };
	size_t len = strcspn(path, ".");

	if (len == 0 || len > SEGMENT_LEN) {
		aml->failed = true;
		return path + len;
	}
	memcpy(segment, path, len);
	aml_bytes(aml, segment, sizeof(segment));
	return path[len] == '.' ? path + len + 1 : path + len;
}

void aml_path(struct aml *aml, const char *path)
{
	size_t segments;

	if (*path == '\\') {
		aml_byte(aml, OP_ROOT);
		path++;
	}
	segments = path_segments(path);
	if (segments == 0) {
		aml_byte(aml, OP_ZERO);
	} else if (segments == 2) {
		aml_byte(aml, OP_DUAL_NAME);
	} else if (segments > SEGMENTS_MAX) {
		aml->failed = true;
	} else if (segments > 2) {
		aml_byte(aml, OP_MULTI_NAME);
		aml_byte(aml, (uint8_t)segments);
	}
	while (*path != '\0' && !aml->failed) {
		path = segment_write(aml, path);
	}
}

void aml_name(struct aml *aml, const char *path)
{
	aml_byte(aml, OP_NAME);
	aml_path(aml, path);
}

void aml_name_integer(struct aml *aml, const char *path, uint64_t value)
{
	aml_name(aml, path);
	aml_integer(aml, value);
}

void aml_name_string(struct aml *aml, const char *path, const char *text)
{
	aml_name(aml, path);
	aml_string(aml, text);
}

void aml_name_eisa_id(struct aml *aml, const char *path, const char *id)
{
	aml_name(aml, path);
	aml_eisa_id(aml, id);
}

size_t aml_scope_begin(struct aml *aml, const char *path)
{
	size_t start;

	aml_byte(aml, OP_SCOPE);
	start = aml->len;
	aml_path(aml, path);
	return start;
}

size_t aml_device_begin(struct aml *aml, const char *path)
{
	size_t start;

	aml_byte(aml, OP_EXTENDED);
	aml_byte(aml, EXTENDED_DEVICE);
	start = aml->len;
	aml_path(aml, path);
	return start;
}

size_t aml_method_begin(struct aml *aml, const char *path, unsigned int arguments, bool serialized)
{
	size_t start;

	aml->failed = aml->failed || arguments > METHOD_ARGUMENTS_MAX;
	aml_byte(aml, OP_METHOD);
	start = aml->len;
	aml_path(aml, path);
	aml_byte(aml, (uint8_t)(arguments | (serialized ? METHOD_SERIALIZED : 0)));
	return start;
}

size_t aml_package_begin(struct aml *aml, uint8_t elements)
{
	size_t start;

	aml_byte(aml, OP_PACKAGE);
	start = aml->len;
	aml_byte(aml, elements);
	return start;
}

size_t aml_if_begin(struct aml *aml)
{
	aml_byte(aml, OP_IF);
	return aml->len;
}

/* The length counts its own bytes too; the first byte says how many follow it. */
static size_t package_length_encode(uint8_t out[4], size_t body)
{
	size_t total;

	if (body + 1 <= 0x3f) {
		out[0] = (uint8_t)(body + 1);
		return 1;
	}
	for (size_t more = 1; more <= 3; more++) {
		total = body + 1 + more;
		if (total >> (4 + 8 * more) == 0) {
			out[0] = (uint8_t)(more << 6 | (total & 0x0f));
			for (size_t i = 0; i < more; i++) {
				out[1 + i] = (uint8_t)(total >> (4 + 8 * i));
			}
			return 1 + more;
		}
	}
	return 0;
}

void aml_end(struct aml *aml, size_t start)
{
	uint8_t length[4];
	size_t len;

	if (aml->failed || start > aml->len || aml->len - start > PACKAGE_LENGTH_MAX - 4) {
		aml->failed = true;
		return;
	}
	len = package_length_encode(length, aml->len - start);
	insert(aml, start, length, len);
}

void aml_port_region(struct aml *aml, const char *path, uint16_t base, uint8_t len)
{
	aml_byte(aml, OP_EXTENDED);
	aml_byte(aml, EXTENDED_REGION);
	aml_path(aml, path);
	aml_byte(aml, REGION_SYSTEM_IO);
	aml_integer(aml, base);
	aml_integer(aml, len);
}

void aml_dword_fields(struct aml *aml, const char *region, const char *const *fields, size_t count)
{
	size_t start;

	aml_byte(aml, OP_EXTENDED);
	aml_byte(aml, EXTENDED_FIELD);
	start = aml->len;
	aml_path(aml, region);
	aml_byte(aml, FIELD_DWORD_ACCESS);
	for (size_t i = 0; i < count; i++) {
		aml_path(aml, fields[i]);
		aml_byte(aml, 32); /* bits, as a package length */
	}
	aml_end(aml, start);
}

void aml_local(struct aml *aml, unsigned int index)
{
	aml_byte(aml, (uint8_t)(OP_LOCAL0 + (index & 7)));
}

void aml_store(struct aml *aml)
{
	aml_byte(aml, OP_STORE);
}

void aml_and_begin(struct aml *aml)
{
	aml_byte(aml, OP_AND);
}

void aml_and_end(struct aml *aml)
{
	aml_byte(aml, OP_ZERO);
}

void aml_notify(struct aml *aml, const char *path, uint8_t value)
{
	aml_byte(aml, OP_NOTIFY);
	aml_path(aml, path);
	aml_integer(aml, value);
}

size_t aml_resources_begin(struct aml *aml)
{
	aml_byte(aml, OP_BUFFER);
	return aml->len;
}

void aml_resources_end(struct aml *aml, size_t start)
{
	static const uint8_t end_tag[] = { 0x79, 0x00 }; /* checksum 0: not computed */
	uint8_t size[9];

	aml_bytes(aml, end_tag, sizeof(end_tag));
	if (!aml->failed) {
		insert(aml, start, size, integer_encode(size, aml->len - start));
	}
	aml_end(aml, start);
}

void aml_resource_ports(struct aml *aml, uint16_t base, uint8_t len)
{
	uint8_t bytes[8] = { 0x47, 0x01 }; /* decodes 16 bits */

	store_le16(bytes + 2, base); /* lowest and highest possible base */
	store_le16(bytes + 4, base);
	bytes[6] = 1; /* alignment */
	bytes[7] = len;
	aml_bytes(aml, bytes, sizeof(bytes));
}

void aml_resource_memory32(struct aml *aml, uint32_t base, uint32_t len)
{
	uint8_t bytes[12] = { 0x86, 9, 0, 0x01 }; /* read and write */

	store_le32(bytes + 4, base);
	store_le32(bytes + 8, len);
	aml_bytes(aml, bytes, sizeof(bytes));
}

/* Address space descriptors (§6.4.3.5): granularity, minimum, maximum, translation, length. */
void aml_resource_buses(struct aml *aml, uint16_t first, uint16_t count)
{
	uint8_t bytes[16] = { 0x88, 13, 0, 2 /* buses */, 0x0c /* both ends fixed */ };

	store_le16(bytes + 8, first);
	store_le16(bytes + 10, (uint16_t)(first + count - 1));
	store_le16(bytes + 14, count);
	aml_bytes(aml, bytes, sizeof(bytes));
}

void aml_resource_window64(struct aml *aml, uint64_t base, uint64_t len)
{
	uint8_t bytes[46] = { 0x8a, 43, 0, 0 /* memory */, 0x0c, 0x01 /* read and write */ };

	store_le64(bytes + 14, base);
	store_le64(bytes + 22, base + len - 1);
	store_le64(bytes + 38, len);
	aml_bytes(aml, bytes, sizeof(bytes));
}

#define INTERRUPT_CONSUMER 0x01 /* level and active high, unless said otherwise */
#define INTERRUPT_EDGE	   0x02
#define INTERRUPT_SHARED   0x08

static void resource_interrupt(struct aml *aml, uint32_t gsi, uint8_t flags)
{
	uint8_t bytes[9] = { 0x89, 6, 0, flags, 1 };

	store_le32(bytes + 5, gsi);
	aml_bytes(aml, bytes, sizeof(bytes));
}

void aml_resource_interrupt(struct aml *aml, uint32_t gsi, bool shared)
{
	resource_interrupt(aml, gsi,
			   INTERRUPT_CONSUMER | INTERRUPT_EDGE | (shared ? INTERRUPT_SHARED : 0));
}

void aml_resource_level_interrupt(struct aml *aml, uint32_t gsi)
{
	resource_interrupt(aml, gsi, INTERRUPT_CONSUMER);
}
