/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scatter-gather lists by byte: include/vmm/iov.h is the contract. Pure functions; the lists are
 * ours, the bytes are the guest's. Nothing is saved.
 */
#include "vmm/iov.h"

#include <string.h>

enum direction { FROM_LIST, TO_LIST, ZERO_LIST };

uint64_t iov_length(const struct iovec *iov, size_t count)
{
	uint64_t total = 0;

	for (size_t i = 0; i < count; i++) {
		total += iov[i].iov_len;
	}
	return total;
}

static size_t transfer(const struct iovec *iov, size_t count, uint64_t offset, void *to,
		       const void *from, size_t len, enum direction direction)
{
	size_t done = 0;

	for (size_t i = 0; i < count && done < len; i++) {
		uint8_t *base;
		size_t n;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		base = (uint8_t *)iov[i].iov_base + offset;
		n = MIN(iov[i].iov_len - (size_t)offset, len - done);
		offset = 0;
		if (direction == FROM_LIST) {
			memcpy((uint8_t *)to + done, base, n);
		} else if (direction == TO_LIST) {
			memcpy(base, (const uint8_t *)from + done, n);
		} else {
			memset(base, 0, n);
		}
		done += n;
	}
	return done;
}

size_t iov_read(const struct iovec *iov, size_t count, uint64_t offset, void *buf, size_t len)
{
	return transfer(iov, count, offset, buf, NULL, len, FROM_LIST);
}

size_t iov_write(const struct iovec *iov, size_t count, uint64_t offset, const void *buf,
		 size_t len)
{
	return transfer(iov, count, offset, NULL, buf, len, TO_LIST);
}

size_t iov_zero(const struct iovec *iov, size_t count, uint64_t offset, size_t len)
{
	return transfer(iov, count, offset, NULL, NULL, len, ZERO_LIST);
}

int iov_slice(const struct iovec *iov, size_t count, uint64_t offset, uint64_t len,
	      struct iovec *ret, size_t max)
{
	size_t used = 0;

	if (len == 0) {
		return offset <= iov_length(iov, count) ? 0 : -1;
	}
	for (size_t i = 0; i < count && len != 0; i++) {
		uint64_t n;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		if (used == max) {
			return -1;
		}
		n = MIN((uint64_t)iov[i].iov_len - offset, len);
		ret[used++] = (struct iovec){ .iov_base = (uint8_t *)iov[i].iov_base + offset,
					      .iov_len = (size_t)n };
		offset = 0;
		len -= n;
	}
	return len == 0 ? (int)used : -1;
}
