/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: a 16550A (TL16C550C data sheet) whose sender waits until it is wanted. The
 * transmitter is always empty: a byte written goes to the channel at once and the "holding register
 * empty" interrupt is pending again. The receiver takes bytes only while the guest wants them (see
 * vmm/serial.h) and its FIFO has room, so overruns do not happen (except in loop-back mode, where
 * the guest overruns itself).
 *
 * Registers run on vCPU threads, serial_input() on main; `lock` covers all members. The channel is
 * called after the lock is released, because its owner calls serial_input() under locks of its own.
 * The interrupt line is driven under the lock, on changes only; OUT2 gates it as on a PC's card.
 *
 * The guest controls every register, order and width of access. Saved: registers, FIFO, held bytes,
 * pending transmit interrupt. Not saved: whether the channel waits (serial_resume() invites it
 * again), how often the guest has looked for input (it looks again) and the line's level (computed
 * from the registers).
 */
#include "vmm/serial.h"

#include <errno.h>
#include <string.h>

#include "byte_ports.h"
#include "vmm/cleanup.h"

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

#define IER_RDI	 0x01
#define IER_THRI 0x02
#define IER_RLSI 0x04
#define IER_MSI	 0x08
#define IER_MASK 0x0f

#define IIR_NONE	0x01
#define IIR_MODEM	0x00
#define IIR_THR_EMPTY	0x02
#define IIR_RX_DATA	0x04
#define IIR_LINE_STATUS 0x06
#define IIR_RX_TIMEOUT	0x0c
#define IIR_FIFO	0xc0

#define FCR_ENABLE	  0x01
#define FCR_CLEAR_RX	  0x02
#define FCR_TRIGGER_SHIFT 6
#define FCR_STORED	  0xc9 /* enable, DMA mode, trigger */

#define LCR_DLAB 0x80

#define MCR_DTR	 0x01
#define MCR_RTS	 0x02
#define MCR_OUT1 0x04
#define MCR_OUT2 0x08
#define MCR_LOOP 0x10
#define MCR_MASK 0x1f

#define LSR_DR	   0x01
#define LSR_OE	   0x02
#define LSR_ERRORS LSR_OE
#define LSR_THRE   0x20
#define LSR_TEMT   0x40

#define MSR_DELTAS 0x0f
#define MSR_DCTS   0x01
#define MSR_DDSR   0x02
#define MSR_TERI   0x04
#define MSR_DDCD   0x08
#define MSR_CTS	   0x10
#define MSR_DSR	   0x20
#define MSR_RI	   0x40
#define MSR_DCD	   0x80

/* So many looks for input in a row make a guest that polls. */
#define LOOKS_OF_POLLING 2

#define DIVISOR_POWER_ON 12 /* 9600 baud; the speed means nothing here */

/* What has to be told to the channel once the lock is released. */
struct host_work {
	bool output, input_ready;
	uint8_t byte;
};

static uint8_t fifo_room(const struct serial *serial)
{
	uint8_t size = (serial->state.fcr & FCR_ENABLE) != 0 ? SERIAL_FIFO_SIZE : 1;

	return serial->state.fifo_len < size ? (uint8_t)(size - serial->state.fifo_len) : 0;
}

static bool receives_by_interrupt(const struct serial *serial)
{
	return (serial->state.ier & IER_RDI) != 0;
}

/* How many bytes of the host's the guest wants now. */
static uint8_t wanted(const struct serial *serial)
{
	if ((serial->state.mcr & MCR_LOOP) != 0 ||
	    (serial->state.fifo_looped && serial->state.fifo_len != 0)) {
		return 0;
	}
	if (receives_by_interrupt(serial)) {
		return fifo_room(serial);
	}
	return serial->looks >= LOOKS_OF_POLLING && serial->state.fifo_len == 0 ? 1 : 0;
}

static void fifo_push(struct serial *serial, uint8_t byte)
{
	serial->state.fifo[(serial->state.fifo_head + serial->state.fifo_len) % SERIAL_FIFO_SIZE] =
		byte;
	serial->state.fifo_len++;
}

static uint8_t fifo_pop(struct serial *serial)
{
	uint8_t byte;

	if (serial->state.fifo_len == 0) {
		return 0;
	}
	byte = serial->state.fifo[serial->state.fifo_head];
	serial->state.fifo_head = (serial->state.fifo_head + 1) % SERIAL_FIFO_SIZE;
	serial->state.fifo_len--;
	return byte;
}

static void fifo_clear(struct serial *serial)
{
	serial->state.fifo_head = 0;
	serial->state.fifo_len = 0;
	serial->state.fifo_looped = false;
}

/* As if what is in the FIFO had not come yet. */
static void hold_fifo(struct serial *serial)
{
	uint8_t len = serial->state.fifo_looped ? 0 : serial->state.fifo_len;
	uint8_t kept[SERIAL_FIFO_SIZE];

	memcpy(kept, serial->state.held, sizeof(kept));
	for (uint8_t i = 0; i < len; i++) {
		serial->state.held[i] = fifo_pop(serial);
	}
	/* Bytes come from the host only when none are held: all of them have room. */
	memcpy(serial->state.held + len, kept, MIN(serial->state.held_len, SERIAL_FIFO_SIZE - len));
	serial->state.held_len += len;
	fifo_clear(serial);
}

/* A byte of the host's; wanted(). */
static void push_received(struct serial *serial, uint8_t byte)
{
	serial->state.fifo_looped = false;
	serial->shown = serial->shown && serial->state.fifo_len != 0;
	fifo_push(serial, byte);
}

static void release_held(struct serial *serial)
{
	uint8_t count = MIN(serial->state.held_len, wanted(serial));

	for (uint8_t i = 0; i < count; i++) {
		push_received(serial, serial->state.held[i]);
	}
	serial->state.held_len -= count;
	memmove(serial->state.held, serial->state.held + count, serial->state.held_len);
}

static uint8_t rx_trigger(const struct serial *serial)
{
	static const uint8_t levels[] = { 1, 4, 8, 14 };

	return (serial->state.fcr & FCR_ENABLE) != 0
		       ? levels[serial->state.fcr >> FCR_TRIGGER_SHIFT]
		       : 1;
}

/* The pending interrupt of the highest priority, as IIR shows it (data sheet, table 4). */
static uint8_t interrupt_id(const struct serial *serial)
{
	if ((serial->state.ier & IER_RLSI) != 0 && (serial->state.lsr & LSR_ERRORS) != 0) {
		return IIR_LINE_STATUS;
	}
	if ((serial->state.ier & IER_RDI) != 0 && serial->state.fifo_len != 0) {
		/* Fewer bytes than the trigger level: the sender's pause has always been long
		 * enough. */
		return serial->state.fifo_len >= rx_trigger(serial) ? IIR_RX_DATA : IIR_RX_TIMEOUT;
	}
	if ((serial->state.ier & IER_THRI) != 0 && serial->state.thr_empty_pending) {
		return IIR_THR_EMPTY;
	}
	if ((serial->state.ier & IER_MSI) != 0 && (serial->state.msr & MSR_DELTAS) != 0) {
		return IIR_MODEM;
	}
	return IIR_NONE;
}

static bool interrupt_level(const struct serial *serial)
{
	/* In loop-back mode the chip's outputs are inactive, OUT2 among them. */
	bool gate = (serial->state.mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;

	return gate && interrupt_id(serial) != IIR_NONE;
}

static void update_irq(struct serial *serial)
{
	bool level = interrupt_level(serial);

	if (level != serial->irq_level) {
		serial->irq_level = level;
		irq_set_level(serial->irq, level);
	}
}

static uint8_t modem_lines(const struct serial_state *state)
{
	uint8_t lines = 0;

	if ((state->mcr & MCR_LOOP) == 0) {
		return MSR_CTS | MSR_DSR | MSR_DCD;
	}
	lines |= (state->mcr & MCR_RTS) != 0 ? MSR_CTS : 0;
	lines |= (state->mcr & MCR_DTR) != 0 ? MSR_DSR : 0;
	lines |= (state->mcr & MCR_OUT1) != 0 ? MSR_RI : 0;
	lines |= (state->mcr & MCR_OUT2) != 0 ? MSR_DCD : 0;
	return lines;
}

static void update_modem_status(struct serial *serial)
{
	uint8_t lines = modem_lines(&serial->state);
	uint8_t changed = (serial->state.msr ^ lines) & (uint8_t)~MSR_DELTAS;
	uint8_t deltas = serial->state.msr & MSR_DELTAS;

	deltas |= (changed & MSR_CTS) != 0 ? MSR_DCTS : 0;
	deltas |= (changed & MSR_DSR) != 0 ? MSR_DDSR : 0;
	deltas |= (changed & MSR_RI) != 0 && (lines & MSR_RI) == 0 ? MSR_TERI : 0;
	deltas |= (changed & MSR_DCD) != 0 ? MSR_DDCD : 0;
	serial->state.msr = lines | deltas;
}

static void write_data(struct serial *serial, uint8_t value, struct host_work *work)
{
	/* Full for an instant: a driver that never reads IIR still sees an edge for the next empty
	 * register. */
	serial->state.thr_empty_pending = false;
	update_irq(serial);
	if ((serial->state.mcr & MCR_LOOP) == 0) {
		work->output = true;
		work->byte = value;
	} else if (fifo_room(serial) != 0) {
		fifo_push(serial, value);
		serial->state.fifo_looped = true;
	} else {
		serial->state.lsr |= LSR_OE;
	}
	serial->state.thr_empty_pending = true;
}

static void write_ier(struct serial *serial, uint8_t value)
{
	/* Enabling the transmit interrupt while the register is empty raises it anew; Linux tests
	 * for that. */
	if ((value & ~serial->state.ier & IER_THRI) != 0) {
		serial->state.thr_empty_pending = true;
	}
	serial->state.ier = value & IER_MASK;
}

static void write_fcr(struct serial *serial, uint8_t value)
{
	if ((value & FCR_CLEAR_RX) != 0 && receives_by_interrupt(serial)) {
		fifo_clear(serial);
	} else if (((value ^ serial->state.fcr) & FCR_ENABLE) != 0 || (value & FCR_CLEAR_RX) != 0) {
		hold_fifo(serial);
	}
	/* Without the enable bit the others are not programmed. */
	serial->state.fcr = (value & FCR_ENABLE) != 0 ? value & FCR_STORED : 0;
}

static void write_register(struct serial *serial, uint64_t reg, uint8_t value,
			   struct host_work *work)
{
	bool dlab = (serial->state.lcr & LCR_DLAB) != 0;

	switch (reg) {
	case REG_DATA:
		if (dlab) {
			serial->state.dll = value;
		} else {
			write_data(serial, value, work);
		}
		break;
	case REG_IER:
		if (dlab) {
			serial->state.dlm = value;
		} else {
			write_ier(serial, value);
		}
		break;
	case REG_IIR_FCR:
		write_fcr(serial, value);
		break;
	case REG_LCR:
		serial->state.lcr = value;
		break;
	case REG_MCR:
		if ((value & ~serial->state.mcr & MCR_LOOP) != 0) {
			hold_fifo(serial);
		}
		serial->state.mcr = value & MCR_MASK;
		update_modem_status(serial);
		break;
	case REG_SCR:
		serial->state.scr = value;
		break;
	default: /* LSR and MSR: factory test only */
		break;
	}
}

static uint8_t read_iir(struct serial *serial)
{
	uint8_t id = interrupt_id(serial);

	if (id == IIR_THR_EMPTY) {
		serial->state.thr_empty_pending = false;
	}
	return id | ((serial->state.fcr & FCR_ENABLE) != 0 ? IIR_FIFO : 0);
}

static uint8_t read_lsr(struct serial *serial)
{
	uint8_t value = serial->state.lsr | LSR_THRE | LSR_TEMT;

	if (serial->state.fifo_len != 0) {
		value |= LSR_DR;
		serial->shown = true;
	}
	serial->state.lsr = 0;
	return value;
}

static uint8_t read_register(struct serial *serial, uint64_t reg)
{
	bool dlab = (serial->state.lcr & LCR_DLAB) != 0;
	uint8_t value;

	switch (reg) {
	case REG_DATA:
		return dlab ? serial->state.dll : fifo_pop(serial);
	case REG_IER:
		return dlab ? serial->state.dlm : serial->state.ier;
	case REG_IIR_FCR:
		return read_iir(serial);
	case REG_LCR:
		return serial->state.lcr;
	case REG_MCR:
		return serial->state.mcr;
	case REG_LSR:
		return read_lsr(serial);
	case REG_MSR:
		value = serial->state.msr;
		serial->state.msr &= (uint8_t)~MSR_DELTAS;
		return value;
	case REG_SCR:
		return serial->state.scr;
	default:
		return 0xff;
	}
}

/*
 * Counts looks for input in a row. A guest that polls also sends: that changes nothing; anything else
 * belongs to a driver's start or end.
 */
static void note_access(struct serial *serial, uint64_t reg, bool write)
{
	bool data = reg == REG_DATA && (serial->state.lcr & LCR_DLAB) == 0;

	if (serial->looks >= LOOKS_OF_POLLING && (data || !write)) {
		return;
	}
	if (write && !data && serial->looks != 0 && !receives_by_interrupt(serial) &&
	    !serial->shown) {
		hold_fifo(serial);
	}
	if (write || reg != REG_LSR) {
		serial->looks = 0;
	} else {
		serial->looks++;
	}
}

/* Every register access ends here: settles the line and notes whether held-back input can move. */
static void settle(struct serial *serial, struct host_work *work)
{
	release_held(serial);
	update_irq(serial);
	if (serial->input_blocked && serial->state.held_len == 0 && wanted(serial) != 0) {
		serial->input_blocked = false;
		work->input_ready = true;
	}
}

static void call_host(struct serial *serial, const struct host_work *work)
{
	struct console_channel *channel = serial->channel;

	if (channel == NULL) {
		return;
	}
	if (work->output) {
		channel->output(channel, &work->byte, 1);
	}
	if (work->input_ready) {
		channel->input_ready(channel);
	}
}

static uint8_t read_port(void *device, uint64_t offset)
{
	struct serial *serial = device;
	struct host_work work = { 0 };
	uint8_t value;

	{
		SCOPED_LOCK(&serial->lock);
		note_access(serial, offset, false);
		value = read_register(serial, offset);
		settle(serial, &work);
	}
	call_host(serial, &work);
	return value;
}

static void write_port(void *device, uint64_t offset, uint8_t value)
{
	struct serial *serial = device;
	struct host_work work = { 0 };

	{
		SCOPED_LOCK(&serial->lock);
		note_access(serial, offset, true);
		write_register(serial, offset, value, &work);
		settle(serial, &work);
	}
	call_host(serial, &work);
}

static uint64_t serial_read(void *device, uint64_t offset, unsigned int size)
{
	return byte_ports_read(read_port, device, offset, size);
}

static void serial_write(void *device, uint64_t offset, unsigned int size, uint64_t value)
{
	byte_ports_write(write_port, device, offset, size, value);
}

const struct bus_ops serial_bus_ops = { .read = serial_read, .write = serial_write };

size_t serial_input(struct serial *serial, const uint8_t *data, size_t len)
{
	size_t taken = 0;

	SCOPED_LOCK(&serial->lock);
	while (taken < len && serial->state.held_len == 0 && wanted(serial) != 0) {
		push_received(serial, data[taken++]);
	}
	if (len != 0) {
		serial->input_blocked = taken < len;
	}
	update_irq(serial);
	return taken;
}

static int serial_validate(const void *object, const void *owner, struct error *e)
{
	const struct serial_state *state = object;

	(void)owner;
	if (state->fifo_head >= SERIAL_FIFO_SIZE || state->fifo_len > SERIAL_FIFO_SIZE) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "serial: receive FIFO head %u, length %u: beyond its %d bytes",
				 state->fifo_head, state->fifo_len, SERIAL_FIFO_SIZE);
	}
	if (state->held_len > SERIAL_FIFO_SIZE ||
	    (!state->fifo_looped && state->held_len + state->fifo_len > SERIAL_FIFO_SIZE)) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "serial: %u bytes held and %u received: more than %d",
				 state->held_len, state->fifo_len, SERIAL_FIFO_SIZE);
	}
	if (state->fifo_len > 1 && (state->fcr & FCR_ENABLE) == 0) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "serial: %u bytes received with the FIFO off", state->fifo_len);
	}
	if ((state->ier & ~IER_MASK) != 0 || (state->mcr & ~MCR_MASK) != 0 ||
	    (state->lsr & ~LSR_ERRORS) != 0 || (state->fcr & ~FCR_STORED) != 0 ||
	    ((state->fcr & FCR_ENABLE) == 0 && state->fcr != 0) ||
	    (state->msr & ~MSR_DELTAS) != modem_lines(state)) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "serial: registers IER 0x%02x MCR 0x%02x LSR 0x%02x FCR 0x%02x "
				 "MSR 0x%02x: a 16550A cannot hold that",
				 state->ier, state->mcr, state->lsr, state->fcr, state->msr);
	}
	return 0;
}

static const struct state_field serial_fields[] = {
	STATE_FIELD(1, struct serial_state, ier, 1),
	STATE_FIELD(2, struct serial_state, lcr, 1),
	STATE_FIELD(3, struct serial_state, mcr, 1),
	STATE_FIELD(4, struct serial_state, scr, 1),
	STATE_FIELD(5, struct serial_state, fcr, 1),
	STATE_FIELD(6, struct serial_state, dll, 1),
	STATE_FIELD(7, struct serial_state, dlm, 1),
	STATE_FIELD(8, struct serial_state, lsr, 1),
	STATE_FIELD(9, struct serial_state, msr, 1),
	STATE_FIELD(10, struct serial_state, thr_empty_pending, 1),
	STATE_BYTES(11, struct serial_state, fifo, 1),
	STATE_FIELD(12, struct serial_state, fifo_head, 1),
	STATE_FIELD(13, struct serial_state, fifo_len, 1),
	STATE_FIELD(14, struct serial_state, fifo_looped, 2),
	STATE_BYTES(15, struct serial_state, held, 2),
	STATE_FIELD(16, struct serial_state, held_len, 2),
};
const struct state_desc serial_state =
	STATE_DESC("serial", 2, struct serial_state, serial_fields, .validate = serial_validate);

static void set_power_on_values(struct serial *serial)
{
	serial->state.ier = 0;
	serial->state.lcr = 0;
	serial->state.mcr = 0;
	serial->state.scr = 0;
	serial->state.fcr = 0;
	serial->state.dll = DIVISOR_POWER_ON;
	serial->state.dlm = 0;
	serial->state.lsr = 0;
	serial->state.msr = modem_lines(&serial->state);
	serial->state.thr_empty_pending = false;
	memset(serial->state.fifo, 0, sizeof(serial->state.fifo));
	fifo_clear(serial);
	memset(serial->state.held, 0, sizeof(serial->state.held));
	serial->state.held_len = 0;
	serial->looks = 0;
}

void serial_init(struct serial *serial, struct irq_line *irq, struct console_channel *channel)
{
	memset(serial, 0, sizeof(*serial));
	(void)pthread_mutex_init(&serial->lock, NULL);
	serial->irq = irq;
	serial->channel = channel;
	set_power_on_values(serial);
}

void serial_finish(struct serial *serial)
{
	(void)pthread_mutex_destroy(&serial->lock);
}

void serial_reset(struct serial *serial)
{
	SCOPED_LOCK(&serial->lock);
	set_power_on_values(serial);
	update_irq(serial);
}

void serial_resume(struct serial *serial)
{
	struct host_work work = { 0 };

	{
		SCOPED_LOCK(&serial->lock);
		/* Told even if low: what the line was before is not known here. */
		serial->irq_level = interrupt_level(serial);
		irq_set_level(serial->irq, serial->irq_level);
		serial->input_blocked = true;
		settle(serial, &work);
	}
	call_host(serial, &work);
}
