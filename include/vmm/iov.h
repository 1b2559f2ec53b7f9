/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Byte-wise access to scatter-gather lists, so that no device assumes how a driver arranged its
 * descriptors (virtio 1.2 §2.7.4.1). Buffers are guest memory: what is read is copied once.
 */
#ifndef VMM_IOV_H
#define VMM_IOV_H

#include <sys/uio.h>

#include "vmm/types.h"

/* Sum of lengths; callers' lists come from virtqueue_pop(), whose totals cannot overflow. */
uint64_t iov_length(const struct iovec *iov, size_t count);
/* Copy `len` bytes at `offset`; returns bytes copied: less than `len` if the list ends first. */
size_t iov_read(const struct iovec *iov, size_t count, uint64_t offset, void *buf, size_t len);
size_t iov_write(const struct iovec *iov, size_t count, uint64_t offset, const void *buf,
		 size_t len);
size_t iov_zero(const struct iovec *iov, size_t count, uint64_t offset, size_t len);
/*
 * Makes `ret` (room for `max` entries) describe [offset, offset + len) of the list. Returns the
 * entries used, or -1 if the list is too short or `max` too small. May be called with ret == iov
 * and offset == 0.
 */
int iov_slice(const struct iovec *iov, size_t count, uint64_t offset, uint64_t len,
	      struct iovec *ret, size_t max);

#endif
