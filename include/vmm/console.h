/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A console channel: bytes between a guest device (serial port, virtio-console port) and the host's
 * side of it (standard input and output, later a socket with a ring). The device is one end,
 * `struct console_channel` the other.
 *
 * Output: the device calls output() from a vCPU or worker thread. It never blocks the caller for
 * longer than one non-blocking write; what the host cannot take is dropped and counted. Input: the
 * host side (main thread) calls the device's input function with what it has, gets back how many
 * bytes the device took, keeps the rest, and is told through input_ready() (any thread) when there
 * is room again. Memory stays bounded.
 */
#ifndef VMM_CONSOLE_H
#define VMM_CONSOLE_H

#include "vmm/types.h"

struct console_channel {
	/* Device to host. */
	void (*output)(struct console_channel *channel, const uint8_t *data, size_t len);
	/* Device to host: there is room for input again. */
	void (*input_ready)(struct console_channel *channel);
	/*
	 * Device to host, from a worker that can wait: would `len` bytes of output be kept now? False: they would be dropped; the host
	 * calls the device's output_ready function when it has room. NULL: always. Devices on vCPU threads do not ask.
	 */
	bool (*may_output)(struct console_channel *channel, size_t len);
};

#endif
