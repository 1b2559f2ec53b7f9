/* SPDX-License-Identifier: Apache-2.0 */
/* CRC32C (Castagnoli; RFC 3720 §12.1): by the processor's own instruction where it has one, in three lanes. Any thread. */
#ifndef VMM_CRC32C_H
#define VMM_CRC32C_H

#include "vmm/types.h"

/* Of what `crc` is the checksum of, followed by `data`; 0 is that of nothing. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);
/* The same without that instruction, for tests of both. */
uint32_t crc32c_by_table(uint32_t crc, const void *data, size_t len);

#endif
