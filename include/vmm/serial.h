/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 16550A UART (TL16C550 data sheet), the guest's COM1: 8 ports, 16-byte receive FIFO, transmitter that is always empty.
 *
 * Threads: registers on vCPU threads, serial_input() on main; one lock inside. The guest controls every register; the host
 * controls input bytes. Saved: all registers and the FIFO.
 */
#ifndef VMM_SERIAL_H
#define VMM_SERIAL_H

#include <pthread.h>

#include "vmm/bus.h"
#include "vmm/console.h"
#include "vmm/irq.h"
#include "vmm/state.h"
#include "vmm/types.h"

#define SERIAL_PORTS 8
#define SERIAL_FIFO_SIZE 16

struct serial {
	pthread_mutex_t lock;
	struct irq_line *irq;		  /* borrowed */
	struct console_channel *channel;  /* borrowed; may be NULL: output vanishes */
	bool input_blocked;		  /* the channel waits for input_ready() */
	bool irq_level;
	uint8_t ier, iir, lcr, mcr, lsr, msr, scr, fcr, dll, dlm;
	bool thr_empty_pending; /* THRE interrupt not yet acknowledged */
	uint8_t fifo[SERIAL_FIFO_SIZE];
	uint8_t fifo_head, fifo_len;
};

extern const struct bus_ops serial_bus_ops;
extern const struct state_desc serial_state;

void serial_init(struct serial *serial, struct irq_line *irq, struct console_channel *channel);
void serial_finish(struct serial *serial);
/* Power-on values; input in the FIFO is lost, as on the real chip. */
void serial_reset(struct serial *serial);
/* Main thread. Returns how many of `len` bytes were taken; input_ready() follows if it was fewer. */
size_t serial_input(struct serial *serial, const uint8_t *data, size_t len);

#endif
