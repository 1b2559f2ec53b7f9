/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: an 8042 keyboard controller as IBM's PC/AT and PS/2 technical references
 * describe it, with an AT keyboard behind it and nothing at the auxiliary port. Two sources feed
 * the data port: the controller's own answer (one byte, a newer one replaces it) and the queue of
 * bytes from the keyboard, which waits while the keyboard interface is disabled. "Output buffer
 * full" and the interrupt follow from the two; nothing takes time, so "input buffer full" is never
 * set.
 *
 * Machines start without firmware, so power-on values are those a BIOS leaves: self-test passed,
 * translation on, keyboard interface and interrupt off until the guest's driver enables them.
 *
 * vCPU threads and main; `lock` covers all members. The guest controls every byte in any order.
 * Everything is saved but the line's level, which i8042_resume() computes.
 */
#include "vmm/i8042.h"

#include <errno.h>
#include <string.h>

#include "byte_ports.h"
#include "vmm/cleanup.h"

#define STATUS_OUTPUT_FULL  0x01
#define STATUS_SELF_TEST    0x04
#define STATUS_LAST_COMMAND 0x08
#define STATUS_UNLOCKED	    0x10

#define BYTE_KEYBOARD_INTERRUPT 0x01
#define BYTE_SELF_TEST		0x04
#define BYTE_KEYBOARD_DISABLE	0x10
#define BYTE_AUX_DISABLE	0x20
#define BYTE_TRANSLATE		0x40

#define OUTPUT_PORT_RESET   0x01 /* low resets the processor */
#define OUTPUT_PORT_A20	    0x02
#define OUTPUT_PORT_DEFAULT 0xcf

#define COMMAND_READ_BYTE	  0x20
#define COMMAND_READ_RAM_LAST	  0x3f
#define COMMAND_WRITE_BYTE	  0x60
#define COMMAND_WRITE_RAM_LAST	  0x7f
#define COMMAND_AUX_TEST	  0xa9
#define COMMAND_SELF_TEST	  0xaa
#define COMMAND_KEYBOARD_TEST	  0xab
#define COMMAND_KEYBOARD_DISABLE  0xad
#define COMMAND_KEYBOARD_ENABLE	  0xae
#define COMMAND_READ_INPUT_PORT	  0xc0
#define COMMAND_READ_OUTPUT_PORT  0xd0
#define COMMAND_WRITE_OUTPUT_PORT 0xd1
#define COMMAND_KEYBOARD_LOOP	  0xd2
#define COMMAND_AUX_LOOP	  0xd3
#define COMMAND_AUX_WRITE	  0xd4
#define COMMAND_PULSE_FIRST	  0xf0

#define SELF_TEST_PASSED	 0x55
#define AUX_TEST_CLOCK_STUCK	 0x02
#define INPUT_PORT_NOT_INHIBITED 0x80

#define KEYBOARD_LEDS	       0xed
#define KEYBOARD_ECHO	       0xee
#define KEYBOARD_SCAN_SET      0xf0
#define KEYBOARD_IDENTIFY      0xf2
#define KEYBOARD_RATE	       0xf3
#define KEYBOARD_ENABLE	       0xf4
#define KEYBOARD_DISABLE       0xf5
#define KEYBOARD_DEFAULTS      0xf6
#define KEYBOARD_KEY_MODES     0xf7 /* to 0xfa: for all keys; 0xfb to 0xfd: for one, the argument */
#define KEYBOARD_KEY_MODES_ONE 0xfb
#define KEYBOARD_RESEND	       0xfe
#define KEYBOARD_RESET	       0xff
#define KEYBOARD_FIRST	       KEYBOARD_LEDS

#define ANSWER_ACK	 0xfa
#define ANSWER_RESEND	 0xfe
#define ANSWER_SELF_TEST 0xaa

static bool queue_put(struct i8042 *kbc, const uint8_t *bytes, uint8_t count)
{
	if (count > I8042_QUEUE_SIZE - kbc->state.queue_len) {
		return false;
	}
	for (uint8_t i = 0; i < count; i++) {
		kbc->state
			.queue[(kbc->state.queue_head + kbc->state.queue_len) % I8042_QUEUE_SIZE] =
			bytes[i];
		kbc->state.queue_len++;
	}
	return true;
}

static bool keyboard_byte_ready(const struct i8042 *kbc)
{
	return kbc->state.queue_len != 0 && (kbc->state.command_byte & BYTE_KEYBOARD_DISABLE) == 0;
}

static bool output_full(const struct i8042 *kbc)
{
	return kbc->state.reply_full || keyboard_byte_ready(kbc);
}

static bool interrupt_level(const struct i8042 *kbc)
{
	return (kbc->state.command_byte & BYTE_KEYBOARD_INTERRUPT) != 0 && output_full(kbc);
}

static void set_line(struct i8042 *kbc, bool level)
{
	if (level != kbc->irq_level) {
		kbc->irq_level = level;
		irq_set_level(kbc->irq, level);
	}
}

static void update_irq(struct i8042 *kbc)
{
	set_line(kbc, interrupt_level(kbc));
}

static void controller_answer(struct i8042 *kbc, uint8_t value)
{
	kbc->state.reply = value;
	kbc->state.reply_full = true;
}

static uint8_t read_data(struct i8042 *kbc)
{
	if (kbc->state.reply_full) {
		kbc->state.reply_full = false;
		kbc->state.last_read = kbc->state.reply;
	} else if (keyboard_byte_ready(kbc)) {
		kbc->state.last_read = kbc->state.queue[kbc->state.queue_head];
		kbc->state.queue_head = (kbc->state.queue_head + 1) % I8042_QUEUE_SIZE;
		kbc->state.queue_len--;
	}
	/* The line falls with every byte taken: the next one is an edge of its own. */
	set_line(kbc, false);
	return kbc->state.last_read;
}

static uint8_t read_status(const struct i8042 *kbc)
{
	uint8_t status = STATUS_UNLOCKED;

	status |= output_full(kbc) ? STATUS_OUTPUT_FULL : 0;
	status |= (kbc->state.command_byte & BYTE_SELF_TEST) != 0 ? STATUS_SELF_TEST : 0;
	status |= kbc->state.last_was_command ? STATUS_LAST_COMMAND : 0;
	return status;
}

/* The keyboard ------------------------------------------------------------------------------- */

static void keyboard_defaults(struct i8042 *kbc)
{
	kbc->state.scan_set = 2;
	kbc->state.keyboard_command = 0;
}

static void keyboard_say(struct i8042 *kbc, const uint8_t *bytes, uint8_t count)
{
	/* A guest that sends commands without reading answers loses answers, as with a real one. */
	if (queue_put(kbc, bytes, count)) {
		kbc->state.keyboard_last = bytes[count - 1];
	}
}

static void keyboard_say_byte(struct i8042 *kbc, uint8_t byte)
{
	keyboard_say(kbc, &byte, 1);
}

static void keyboard_identify(struct i8042 *kbc)
{
	/* 83 in scan code set 2 is F7, which translation turns into 41: drivers expect that. */
	bool translate = (kbc->state.command_byte & BYTE_TRANSLATE) != 0;
	const uint8_t bytes[] = { ANSWER_ACK, 0xab, translate ? 0x41 : 0x83 };

	keyboard_say(kbc, bytes, sizeof(bytes));
}

static void keyboard_show_scan_set(struct i8042 *kbc)
{
	static const uint8_t translated[] = { 0, 0x43, 0x41, 0x3f };
	bool translate = (kbc->state.command_byte & BYTE_TRANSLATE) != 0;
	uint8_t bytes[2];

	bytes[0] = ANSWER_ACK;
	bytes[1] = translate ? translated[kbc->state.scan_set & 3] : kbc->state.scan_set;
	keyboard_say(kbc, bytes, sizeof(bytes));
}

static void keyboard_argument(struct i8042 *kbc, uint8_t command, uint8_t argument)
{
	kbc->state.keyboard_command = 0;
	if (command == KEYBOARD_SCAN_SET && argument == 0) {
		keyboard_show_scan_set(kbc);
		return;
	}
	if (command == KEYBOARD_SCAN_SET) {
		if (argument > 3) {
			keyboard_say_byte(kbc, ANSWER_RESEND);
			return;
		}
		kbc->state.scan_set = argument;
	}
	keyboard_say_byte(kbc, ANSWER_ACK);
}

static void keyboard_reset(struct i8042 *kbc)
{
	static const uint8_t bytes[] = { ANSWER_ACK, ANSWER_SELF_TEST };

	keyboard_defaults(kbc);
	kbc->state.keyboard_scanning = true;
	kbc->state.queue_len = 0;
	keyboard_say(kbc, bytes, sizeof(bytes));
}

static void keyboard_execute(struct i8042 *kbc, uint8_t command)
{
	switch (command) {
	case KEYBOARD_ECHO:
		keyboard_say_byte(kbc, KEYBOARD_ECHO);
		break;
	case KEYBOARD_IDENTIFY:
		keyboard_identify(kbc);
		break;
	case KEYBOARD_RESEND:
		keyboard_say_byte(kbc, kbc->state.keyboard_last);
		break;
	case KEYBOARD_RESET:
		keyboard_reset(kbc);
		break;
	case KEYBOARD_LEDS:
	case KEYBOARD_SCAN_SET:
	case KEYBOARD_RATE:
	case KEYBOARD_KEY_MODES_ONE ... KEYBOARD_RESEND - 1:
		kbc->state.keyboard_command = command;
		keyboard_say_byte(kbc, ANSWER_ACK);
		break;
	case KEYBOARD_ENABLE:
	case KEYBOARD_DISABLE:
	case KEYBOARD_DEFAULTS:
		if (command != KEYBOARD_ENABLE) {
			keyboard_defaults(kbc);
		}
		kbc->state.keyboard_scanning = command != KEYBOARD_DISABLE;
		keyboard_say_byte(kbc, ANSWER_ACK);
		break;
	case KEYBOARD_KEY_MODES ... KEYBOARD_KEY_MODES_ONE - 1:
		keyboard_say_byte(kbc, ANSWER_ACK);
		break;
	default:
		keyboard_say_byte(kbc, ANSWER_RESEND);
		break;
	}
}

static void keyboard_receive(struct i8042 *kbc, uint8_t byte)
{
	uint8_t command = kbc->state.keyboard_command;

	/* Talking to the keyboard turns its clock on. */
	kbc->state.command_byte &= (uint8_t)~BYTE_KEYBOARD_DISABLE;
	if (command != 0 && byte < KEYBOARD_FIRST) {
		keyboard_argument(kbc, command, byte);
	} else {
		kbc->state.keyboard_command = 0;
		keyboard_execute(kbc, byte);
	}
}

/* The controller ----------------------------------------------------------------------------- */

static void write_output_port(struct i8042 *kbc, uint8_t value)
{
	kbc->state.output_port = value | OUTPUT_PORT_RESET;
	if ((value & OUTPUT_PORT_RESET) == 0) {
		power_report(kbc->power, POWER_RESET, 0);
	}
}

static void write_data(struct i8042 *kbc, uint8_t value)
{
	uint8_t command = kbc->state.pending_command;

	kbc->state.pending_command = 0;
	kbc->state.last_was_command = false;
	switch (command) {
	case 0:
		keyboard_receive(kbc, value);
		break;
	case COMMAND_WRITE_BYTE:
		kbc->state.command_byte = value;
		break;
	case COMMAND_WRITE_OUTPUT_PORT:
		write_output_port(kbc, value);
		break;
	case COMMAND_KEYBOARD_LOOP:
	case COMMAND_AUX_LOOP:
		/* Never marked as from the auxiliary port: Linux sees at once that it is absent. */
		controller_answer(kbc, value);
		break;
	default: /* RAM of the controller, auxiliary device: nobody there */
		break;
	}
}

static void write_command(struct i8042 *kbc, uint8_t command)
{
	kbc->state.pending_command = 0;
	kbc->state.last_was_command = true;
	switch (command) {
	case COMMAND_READ_BYTE:
		controller_answer(kbc, kbc->state.command_byte);
		break;
	case COMMAND_READ_BYTE + 1 ... COMMAND_READ_RAM_LAST:
		controller_answer(kbc, 0);
		break;
	case COMMAND_WRITE_BYTE ... COMMAND_WRITE_RAM_LAST:
	case COMMAND_WRITE_OUTPUT_PORT:
	case COMMAND_KEYBOARD_LOOP:
	case COMMAND_AUX_LOOP:
	case COMMAND_AUX_WRITE:
		kbc->state.pending_command = command;
		break;
	case COMMAND_AUX_TEST:
		controller_answer(kbc, AUX_TEST_CLOCK_STUCK);
		break;
	case COMMAND_SELF_TEST:
		kbc->state.command_byte |= BYTE_SELF_TEST;
		controller_answer(kbc, SELF_TEST_PASSED);
		break;
	case COMMAND_KEYBOARD_TEST:
		controller_answer(kbc, 0);
		break;
	case COMMAND_KEYBOARD_DISABLE:
		kbc->state.command_byte |= BYTE_KEYBOARD_DISABLE;
		break;
	case COMMAND_KEYBOARD_ENABLE:
		kbc->state.command_byte &= (uint8_t)~BYTE_KEYBOARD_DISABLE;
		break;
	case COMMAND_READ_INPUT_PORT:
		controller_answer(kbc, INPUT_PORT_NOT_INHIBITED);
		break;
	case COMMAND_READ_OUTPUT_PORT:
		controller_answer(kbc, kbc->state.output_port);
		break;
	case COMMAND_PULSE_FIRST ... 0xff:
		/* Pulses the output port's lines whose bits are 0. */
		if ((command & OUTPUT_PORT_RESET) == 0) {
			power_report(kbc->power, POWER_RESET, 0);
		}
		break;
	default:
		break;
	}
}

/* What is held ------------------------------------------------------------------------------- */

static bool is_listened_to(const struct i8042 *kbc)
{
	return kbc->state.keyboard_scanning &&
	       (kbc->state.command_byte & BYTE_KEYBOARD_DISABLE) == 0 &&
	       (kbc->state.command_byte & BYTE_KEYBOARD_INTERRUPT) != 0;
}

static void type_ctrl_alt_del(struct i8042 *kbc)
{
	/* Left Ctrl, left Alt, (grey) Delete down; then up in the opposite order. */
	static const uint8_t set1[] = { 0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d };
	static const uint8_t set2[] = { 0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0,
					0x71, 0xf0, 0x11, 0xf0, 0x14 };

	if ((kbc->state.command_byte & BYTE_TRANSLATE) != 0 || kbc->state.scan_set == 1) {
		(void)queue_put(kbc, set1, sizeof(set1));
	} else {
		(void)queue_put(kbc, set2, sizeof(set2));
	}
}

/*
 * The guest has done something. Its controller's driver enables the interrupt, and then its
 * keyboard's driver, if there is one that talks to keyboards, sends commands, of which "enable" is
 * the last; what is typed before that is lost in the talk. Nobody knows whether there is one (Linux
 * has i8042.dumbkbd), so it is typed at both points.
 */
static void type_what_is_held(struct i8042 *kbc, bool enabled)
{
	if (kbc->state.held == I8042_HELD_NONE || !is_listened_to(kbc)) {
		return;
	}
	if (enabled) {
		type_ctrl_alt_del(kbc);
		kbc->state.held = I8042_HELD_NONE;
	} else if (kbc->state.held == I8042_HELD_PRESSED) {
		type_ctrl_alt_del(kbc);
		kbc->state.held = I8042_HELD_TYPED;
	}
}

static uint8_t data_port_read(void *device, uint64_t offset)
{
	struct i8042 *kbc = device;
	uint8_t value;

	if (offset != 0) {
		return 0xff;
	}
	SCOPED_LOCK(&kbc->lock);
	value = read_data(kbc);
	update_irq(kbc);
	return value;
}

static void data_port_write(void *device, uint64_t offset, uint8_t value)
{
	struct i8042 *kbc = device;
	bool enable;

	if (offset != 0) {
		return;
	}
	SCOPED_LOCK(&kbc->lock);
	enable = kbc->state.pending_command == 0 && kbc->state.keyboard_command == 0 &&
		 value == KEYBOARD_ENABLE;
	write_data(kbc, value);
	type_what_is_held(kbc, enable);
	update_irq(kbc);
}

static uint8_t command_port_read(void *device, uint64_t offset)
{
	struct i8042 *kbc = device;

	if (offset != 0) {
		return 0xff;
	}
	SCOPED_LOCK(&kbc->lock);
	return read_status(kbc);
}

static void command_port_write(void *device, uint64_t offset, uint8_t value)
{
	struct i8042 *kbc = device;

	if (offset != 0) {
		return;
	}
	SCOPED_LOCK(&kbc->lock);
	write_command(kbc, value);
	type_what_is_held(kbc, false);
	update_irq(kbc);
}

static uint64_t i8042_data_read(void *device, uint64_t offset, unsigned int size)
{
	return byte_ports_read(data_port_read, device, offset, size);
}

static void i8042_data_write(void *device, uint64_t offset, unsigned int size, uint64_t value)
{
	byte_ports_write(data_port_write, device, offset, size, value);
}

static uint64_t i8042_command_read(void *device, uint64_t offset, unsigned int size)
{
	return byte_ports_read(command_port_read, device, offset, size);
}

static void i8042_command_write(void *device, uint64_t offset, unsigned int size, uint64_t value)
{
	byte_ports_write(command_port_write, device, offset, size, value);
}

const struct bus_ops i8042_data_bus_ops = { .read = i8042_data_read, .write = i8042_data_write };
const struct bus_ops i8042_command_bus_ops = { .read = i8042_command_read,
					       .write = i8042_command_write };

/* The host ----------------------------------------------------------------------------------- */

void i8042_ctrl_alt_del(struct i8042 *kbc)
{
	SCOPED_LOCK(&kbc->lock);
	if (is_listened_to(kbc)) {
		type_ctrl_alt_del(kbc);
		kbc->state.held = I8042_HELD_NONE;
	} else {
		kbc->state.held = I8042_HELD_PRESSED;
	}
	update_irq(kbc);
}

static bool argument_is_awaited(uint8_t command)
{
	return command == 0 ||
	       (command >= COMMAND_WRITE_BYTE && command <= COMMAND_WRITE_RAM_LAST) ||
	       (command >= COMMAND_WRITE_OUTPUT_PORT && command <= COMMAND_AUX_WRITE);
}

static bool keyboard_argument_is_awaited(uint8_t command)
{
	return command == 0 || command == KEYBOARD_LEDS || command == KEYBOARD_SCAN_SET ||
	       command == KEYBOARD_RATE ||
	       (command >= KEYBOARD_KEY_MODES_ONE && command < KEYBOARD_RESEND);
}

static int i8042_validate(const void *object, const void *owner, struct error *e)
{
	const struct i8042_state *state = object;

	(void)owner;
	if (state->queue_head >= I8042_QUEUE_SIZE || state->queue_len > I8042_QUEUE_SIZE) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "i8042: keyboard queue head %u, length %u: beyond its %d bytes",
				 state->queue_head, state->queue_len, I8042_QUEUE_SIZE);
	}
	if (state->held > I8042_HELD_TYPED) {
		return error_set(e, ERROR_STATE, EINVAL, "i8042: held keys %u: 0 to %d",
				 state->held, I8042_HELD_TYPED);
	}
	if (state->scan_set < 1 || state->scan_set > 3) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "i8042: scan code set %u: there are 1, 2 and 3", state->scan_set);
	}
	if (!argument_is_awaited(state->pending_command) ||
	    !keyboard_argument_is_awaited(state->keyboard_command)) {
		return error_set(e, ERROR_STATE, EINVAL,
				 "i8042: waits for an argument of command 0x%02x (keyboard: "
				 "0x%02x), which has none",
				 state->pending_command, state->keyboard_command);
	}
	return 0;
}

static const struct state_field i8042_fields[] = {
	STATE_FIELD(1, struct i8042_state, command_byte, 1),
	STATE_FIELD(2, struct i8042_state, pending_command, 1),
	STATE_FIELD(3, struct i8042_state, output_port, 1),
	STATE_FIELD(4, struct i8042_state, last_was_command, 1),
	STATE_FIELD(5, struct i8042_state, reply_full, 1),
	STATE_FIELD(6, struct i8042_state, reply, 1),
	STATE_FIELD(7, struct i8042_state, last_read, 1),
	STATE_FIELD(8, struct i8042_state, keyboard_command, 1),
	STATE_FIELD(9, struct i8042_state, keyboard_last, 1),
	STATE_FIELD(10, struct i8042_state, scan_set, 1),
	STATE_FIELD(11, struct i8042_state, keyboard_scanning, 1),
	STATE_BYTES(12, struct i8042_state, queue, 1),
	STATE_FIELD(13, struct i8042_state, queue_head, 1),
	STATE_FIELD(14, struct i8042_state, queue_len, 1),
	STATE_FIELD(15, struct i8042_state, held, 2),
};
const struct state_desc i8042_state =
	STATE_DESC("i8042", 2, struct i8042_state, i8042_fields, .validate = i8042_validate);

static void set_power_on_values(struct i8042 *kbc)
{
	kbc->state.command_byte =
		BYTE_TRANSLATE | BYTE_AUX_DISABLE | BYTE_KEYBOARD_DISABLE | BYTE_SELF_TEST;
	kbc->state.pending_command = 0;
	kbc->state.output_port = OUTPUT_PORT_DEFAULT | OUTPUT_PORT_A20;
	kbc->state.last_was_command = false;
	kbc->state.reply_full = false;
	kbc->state.reply = 0;
	kbc->state.last_read = 0;
	kbc->state.keyboard_last = 0;
	kbc->state.keyboard_scanning = true;
	memset(kbc->state.queue, 0, sizeof(kbc->state.queue));
	kbc->state.queue_head = 0;
	kbc->state.queue_len = 0;
	kbc->state.held = I8042_HELD_NONE;
	keyboard_defaults(kbc);
}

void i8042_init(struct i8042 *kbc, struct irq_line *irq, struct power_sink *power)
{
	memset(kbc, 0, sizeof(*kbc));
	(void)pthread_mutex_init(&kbc->lock, NULL);
	kbc->irq = irq;
	kbc->power = power;
	set_power_on_values(kbc);
}

void i8042_finish(struct i8042 *kbc)
{
	(void)pthread_mutex_destroy(&kbc->lock);
}

void i8042_reset(struct i8042 *kbc)
{
	SCOPED_LOCK(&kbc->lock);
	set_power_on_values(kbc);
	update_irq(kbc);
}

void i8042_resume(struct i8042 *kbc)
{
	SCOPED_LOCK(&kbc->lock);
	kbc->irq_level = interrupt_level(kbc);
	irq_set_level(kbc->irq, kbc->irq_level);
}
