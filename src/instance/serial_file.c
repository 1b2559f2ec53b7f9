/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The serial port's output on its way out: limited by a token bucket, then to a file or FIFO, or to
 * the console as it would go without. What the limit or the file does not let pass is dropped and
 * counted. Input is none of its business: that goes from the console to the port.
 *
 * output() runs on vCPU threads; `lock` keeps the limiter and is held for its arithmetic only.
 * Output is the guest's in content and amount.
 */
#include <errno.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/cleanup.h"

static bool may_pass(struct serial_file *file, size_t len)
{
	SCOPED_LOCK(&file->lock);

	if (!rate_limit_active(&file->limiter)) {
		return true;
	}
	if (rate_limit_delay(&file->limiter, loop_now_ns()) != 0) {
		return false;
	}
	rate_limit_take(&file->limiter, len, loop_now_ns());
	return true;
}

static void output(struct console_channel *channel, const uint8_t *data, size_t len)
{
	struct serial_file *file = container_of(channel, struct serial_file, channel);
	ssize_t n = 0;

	if (may_pass(file, len)) {
		if (file->fd < 0) {
			if (file->inner != NULL) {
				file->inner->output(file->inner, data, len);
			}
			return;
		}
		do {
			n = write(file->fd, data, len);
		} while (n < 0 && errno == EINTR);
	}
	if (n < (ssize_t)len) {
		(void)atomic_fetch_add_explicit(&file->lost_bytes, len - (size_t)MAX(n, 0),
						memory_order_relaxed);
	}
}

static void input_ready(struct console_channel *channel)
{
	struct serial_file *file = container_of(channel, struct serial_file, channel);

	if (file->inner != NULL) {
		file->inner->input_ready(file->inner);
	}
}

struct console_channel *serial_file_init(struct serial_file *file, const struct config *config,
					 struct console_channel *inner)
{
	const struct rate_limit_config limiter = {
		.bandwidth = config->vm.serial.limiter,
		.has_bandwidth = config->vm.has_serial && config->vm.serial.has_limiter,
	};

	file->channel = (struct console_channel){ .output = output, .input_ready = input_ready };
	file->inner = inner;
	file->fd = config->serial_fd;
	rate_limit_init(&file->limiter, &limiter);
	if (file->fd < 0 && !rate_limit_active(&file->limiter)) {
		return inner;
	}
	return &file->channel;
}
