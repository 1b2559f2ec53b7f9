/* SPDX-License-Identifier: Apache-2.0 */
/*
 * i8042 keyboard controller with an AT keyboard that answers its commands and has no keys but
 * Ctrl-Alt-Del: enough for Linux' driver to bind, for "reboot=k" (command 0xfe) and for the host's
 * Ctrl-Alt-Del. What is pressed before the guest's driver is there waits for it, once, however often
 * it was. No auxiliary port (mouse). Ports 0x60 (data) and 0x64 (status/command), GSI 1. vCPU threads
 * and main; one lock inside. Saved: everything; after loading, the owner calls i8042_resume().
 */
#ifndef VMM_I8042_H
#define VMM_I8042_H

#include <pthread.h>

#include "vmm/bus.h"
#include "vmm/irq.h"
#include "vmm/power.h"
#include "vmm/state.h"
#include "vmm/types.h"

#define I8042_QUEUE_SIZE 32

/* A Ctrl-Alt-Del that was pressed before anybody listened. */
enum i8042_held {
	I8042_HELD_NONE,
	I8042_HELD_PRESSED,
	I8042_HELD_TYPED, /* to a driver that may not have been whole */
};

/* What is saved. */
struct i8042_state {
	uint8_t command_byte;	 /* of the controller, command 0x60 */
	uint8_t pending_command; /* the controller waits for this command's argument at the data
				    port; 0: none */
	uint8_t output_port;
	bool last_was_command; /* status bit A2 */
	bool reply_full;       /* the controller's own answer, ahead of the keyboard's bytes */
	uint8_t reply;
	uint8_t last_read;	  /* the data port shows it again while nothing is there */
	uint8_t keyboard_command; /* keyboard waits for this command's argument; 0: none */
	uint8_t keyboard_last;	  /* for the resend command */
	uint8_t scan_set;	  /* 1, 2 or 3 */
	bool keyboard_scanning;
	uint8_t queue[I8042_QUEUE_SIZE]; /* bytes from the keyboard */
	uint8_t queue_head, queue_len;
	uint8_t held; /* enum i8042_held */
};

struct i8042 {
	pthread_mutex_t lock;
	struct irq_line *irq;	  /* borrowed */
	struct power_sink *power; /* borrowed */
	bool irq_level;
	struct i8042_state state;
};

extern const struct bus_ops i8042_data_bus_ops;	   /* 1 port at 0x60 */
extern const struct bus_ops i8042_command_bus_ops; /* 1 port at 0x64 */
extern const struct state_desc i8042_state;

void i8042_init(struct i8042 *kbc, struct irq_line *irq, struct power_sink *power);
void i8042_finish(struct i8042 *kbc);
void i8042_reset(struct i8042 *kbc);
/* Types Ctrl-Alt-Del, or holds it until the guest has enabled the keyboard. Where it waits in the
 * queue more often than there is room for, it is not typed once more. Any thread. */
void i8042_ctrl_alt_del(struct i8042 *kbc);
/* After state_load(): drives the interrupt line as the registers say. vCPUs stopped. */
void i8042_resume(struct i8042 *kbc);

#endif
