/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes ACPI Machine Language (ACPI 6.4 §20) into a fixed buffer. A writer that has run out of
 * room stays `failed` and writes nothing more, so a caller checks once, at the end.
 *
 * Things with a body are opened and closed: the _begin functions return where the body starts,
 * which goes to aml_end(). Names are paths as ASL spells them ("\\_SB.PWRB", "_HID"); segments
 * shorter than four characters are padded.
 */
#ifndef VMM_SRC_AML_H
#define VMM_SRC_AML_H

#include "vmm/types.h"

struct aml {
	uint8_t *buf;
	size_t size, len;
	bool failed; /* out of room, or a name that AML cannot spell */
};

void aml_init(struct aml *aml, uint8_t *buf, size_t size);

void aml_bytes(struct aml *aml, const void *bytes, size_t len);
void aml_byte(struct aml *aml, uint8_t byte);
void aml_path(struct aml *aml, const char *path);
void aml_integer(struct aml *aml, uint64_t value);
void aml_string(struct aml *aml, const char *text);
/* A compressed identifier, such as "PNP0501". */
void aml_eisa_id(struct aml *aml, const char *id);

/* Name (path, ...): the object follows. */
void aml_name(struct aml *aml, const char *path);
void aml_name_integer(struct aml *aml, const char *path, uint64_t value);
void aml_name_string(struct aml *aml, const char *path, const char *text);
void aml_name_eisa_id(struct aml *aml, const char *path, const char *id);

size_t aml_scope_begin(struct aml *aml, const char *path);
size_t aml_device_begin(struct aml *aml, const char *path);
size_t aml_method_begin(struct aml *aml, const char *path, unsigned int arguments, bool serialized);
size_t aml_package_begin(struct aml *aml, uint8_t elements);
/* The predicate follows, then the body. */
size_t aml_if_begin(struct aml *aml);
void aml_end(struct aml *aml, size_t start);

/* A region of ports, and fields of it of a double word each, from its beginning on. */
void aml_port_region(struct aml *aml, const char *path, uint16_t base, uint8_t len);
void aml_dword_fields(struct aml *aml, const char *region, const char *const *fields, size_t count);

void aml_local(struct aml *aml, unsigned int index);
/* Both are followed by their operands: Store (source, target), And (a, b). */
void aml_store(struct aml *aml);
void aml_and_begin(struct aml *aml);
void aml_and_end(struct aml *aml); /* after the operands: the result goes nowhere */
void aml_notify(struct aml *aml, const char *path, uint8_t value);

/* ResourceTemplate () { ... } (§6.4): the descriptors go between. */
size_t aml_resources_begin(struct aml *aml);
void aml_resources_end(struct aml *aml, size_t start);
void aml_resource_ports(struct aml *aml, uint16_t base, uint8_t len);
void aml_resource_memory32(struct aml *aml, uint32_t base, uint32_t len);
/* What a bridge passes on (ResourceProducer): bus numbers, and memory that is not cacheable. */
void aml_resource_buses(struct aml *aml, uint16_t first, uint16_t count);
void aml_resource_window64(struct aml *aml, uint64_t base, uint64_t len);
/* Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive or Shared) { gsi } */
void aml_resource_interrupt(struct aml *aml, uint32_t gsi, bool shared);
/* Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive) { gsi } */
void aml_resource_level_interrupt(struct aml *aml, uint32_t gsi);

#endif
