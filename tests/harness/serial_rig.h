/* SPDX-License-Identifier: Apache-2.0 */
/* The serial port, its interrupt and the console behind it, as a driver drives them. */
#ifndef TESTS_HARNESS_SERIAL_RIG_H
#define TESTS_HARNESS_SERIAL_RIG_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "harness/check_main.h"
#include "harness/fake_irq.h"
#include "harness/state_round_trip.h"
#include "vmm/serial.h"

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };
enum { FCR = IIR };

struct fake_channel {
	struct console_channel channel;
	uint8_t output[4096];
	size_t output_len, output_total;
	unsigned int ready;
};

static struct serial serial;
static struct fake_irq irq;
static struct fake_channel host;

static inline void host_output(struct console_channel *channel, const uint8_t *data, size_t len)
{
	struct fake_channel *fake = container_of(channel, struct fake_channel, channel);

	for (size_t i = 0; i < len; i++) {
		fake->output[fake->output_len++ % sizeof(fake->output)] = data[i];
	}
	fake->output_total += len;
}

static inline void host_input_ready(struct console_channel *channel)
{
	struct fake_channel *fake = container_of(channel, struct fake_channel, channel);

	fake->ready++;
}

static inline void setup(void)
{
	host = (struct fake_channel){
		.channel = { .output = host_output, .input_ready = host_input_ready },
	};
	fake_irq_init(&irq, 4);
	serial_init(&serial, &irq.line, &host.channel);
}

static inline void teardown(void)
{
	serial_finish(&serial);
}

static inline uint8_t in(unsigned int reg)
{
	return (uint8_t)serial_bus_ops.read(&serial, reg, 1);
}

static inline void out(unsigned int reg, uint8_t value)
{
	serial_bus_ops.write(&serial, reg, 1, value);
}

/* As a driver leaves the port when it is open: FIFO on, interrupts gated through, ready to receive.
 */
static inline void open_port(uint8_t ier)
{
	out(FCR, 0x81);
	out(MCR, 0x0b);
	out(IER, ier);
	(void)in(MSR);
}

static inline size_t type(const char *text)
{
	return serial_input(&serial, (const uint8_t *)text, strlen(text));
}

#endif
