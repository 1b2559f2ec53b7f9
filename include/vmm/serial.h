/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 16550A UART (TL16C550 data sheet), the guest's COM1: 8 ports, 16-byte receive FIFO, transmitter
 * that is always empty.
 *
 * Input waits on the host's side until the guest wants it, and only as much is taken as the FIFO has
 * room for, so memory stays bounded. A guest wants input while it has the receive interrupt enabled,
 * or when it looks for some: reads the line status twice in a row; then it gets one byte at a time.
 * RTS says nothing: Linux leaves it raised while it starts the port anew.
 *
 * What a driver's start clears out of the FIFO is held and comes again: the clearing means bytes of
 * an earlier life, and these had just come. So does a byte that no line status has shown yet when a
 * guest without the interrupt programs the port: it did not poll, Linux reads the status twice while
 * it starts and then the data blindly. Only a driver that receives by interrupts and clears its
 * receiver loses what is in it.
 *
 * Threads: registers on vCPU threads, serial_input() on main; one lock inside, never held while the
 * channel is called. The guest controls every register; the host controls input bytes. Saved: all
 * registers and the FIFO; after loading, the owner calls serial_resume().
 */
#ifndef VMM_SERIAL_H
#define VMM_SERIAL_H

#include <pthread.h>

#include "vmm/bus.h"
#include "vmm/console.h"
#include "vmm/irq.h"
#include "vmm/state.h"
#include "vmm/types.h"

#define SERIAL_PORTS	 8
#define SERIAL_FIFO_SIZE 16

/* What is saved. */
struct serial_state {
	uint8_t ier, lcr, mcr, scr, fcr, dll, dlm;
	uint8_t lsr; /* error bits only; DR, THRE and TEMT follow from the rest */
	uint8_t msr;
	bool thr_empty_pending; /* THRE interrupt not yet acknowledged */
	uint8_t fifo[SERIAL_FIFO_SIZE];
	uint8_t fifo_head, fifo_len;
	bool fifo_looped;		/* it has the guest's own bytes */
	uint8_t held[SERIAL_FIFO_SIZE]; /* was in the FIFO, will be again; with it 16 at most */
	uint8_t held_len;
};

struct serial {
	pthread_mutex_t lock;
	struct irq_line *irq;		 /* borrowed */
	struct console_channel *channel; /* borrowed; may be NULL: output vanishes */
	bool input_blocked;		 /* the channel waits for input_ready() */
	bool irq_level;
	struct serial_state state;
	uint8_t looks; /* for input, in a row */
	bool shown;    /* the line status has said that the FIFO is not empty */
};

extern const struct bus_ops serial_bus_ops;
extern const struct state_desc serial_state;

void serial_init(struct serial *serial, struct irq_line *irq, struct console_channel *channel);
void serial_finish(struct serial *serial);
/* Power-on values; input in the FIFO is lost, as on the real chip. */
void serial_reset(struct serial *serial);
/* Main thread. Returns how many of `len` bytes were taken; input_ready() follows if it was fewer. */
size_t serial_input(struct serial *serial, const uint8_t *data, size_t len);
/* After state_load(): drives the interrupt line as the registers say and invites input. Main
 * thread, vCPUs stopped. */
void serial_resume(struct serial *serial);

#endif
