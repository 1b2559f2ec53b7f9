/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The small devices of the board behind one port bus, driven by a string of bytes as a guest and
 * its host would: port accesses of every width and alignment, input on the console, Ctrl-Alt-Del,
 * the power button, a moving host clock, resets.
 *
 * Each step takes one opcode byte: bits 0-2 the action, bits 3-4 the width, bits 5-7 which device;
 * accesses take the offset into (or just around) its window and the value's bytes. Checked besides
 * crashes: every state that can be reached is one that validate() accepts, and the interrupt line
 * is never told the same level twice.
 */
#include <string.h>

#include "harness/fake_power.h"
#include "vmm/acpi_power.h"
#include "vmm/bus.h"
#include "vmm/bytes.h"
#include "vmm/i8042.h"
#include "vmm/platform.h"
#include "vmm/pm_timer.h"
#include "vmm/pvpanic.h"
#include "vmm/rtc.h"
#include "vmm/serial.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A line that objects to being told what it knows. */
struct strict_line {
	struct irq_line line;
	bool level;
};

struct board {
	struct bus bus;
	struct serial serial;
	struct rtc rtc;
	struct i8042 kbc;
	struct acpi_power pm;
	struct pm_timer timer;
	struct pvpanic pvpanic;
	struct debug_exit debug_exit;
	struct strict_line serial_irq, keyboard_irq, acpi_irq;
	struct console_channel channel;
	struct fake_power power;
};

struct input {
	const uint8_t *data;
	size_t len;
};

static int64_t fuzz_clock; /* rtc->now() has no argument */

static int64_t fuzz_now(void)
{
	return fuzz_clock;
}

static void line_trigger(struct irq_line *line)
{
	(void)line;
}

static void line_set_level(struct irq_line *line, bool high)
{
	struct strict_line *strict = container_of(line, struct strict_line, line);

	VMM_BUG_ON(strict->level == high);
	strict->level = high;
}

static void line_init(struct strict_line *strict, uint32_t gsi)
{
	static const struct irq_ops ops = { .trigger = line_trigger, .set_level = line_set_level };

	*strict = (struct strict_line){ .line = { .ops = &ops, .gsi = gsi, .fd = -1 } };
}

static void channel_output(struct console_channel *channel, const uint8_t *bytes, size_t len)
{
	(void)channel;
	VMM_BUG_ON(len == 0 || bytes == NULL);
}

static void channel_input_ready(struct console_channel *channel)
{
	(void)channel;
}

static void board_init(struct board *b)
{
	memset(b, 0, sizeof(*b));
	fake_power_init(&b->power);
	line_init(&b->serial_irq, PLATFORM_GSI_SERIAL);
	line_init(&b->keyboard_irq, PLATFORM_GSI_I8042_KEYBOARD);
	line_init(&b->acpi_irq, PLATFORM_GSI_ACPI);
	b->channel = (struct console_channel){ .output = channel_output,
					       .input_ready = channel_input_ready };
	b->pvpanic.power = &b->power.sink;
	b->debug_exit.power = &b->power.sink;
	serial_init(&b->serial, &b->serial_irq.line, &b->channel);
	rtc_init(&b->rtc);
	b->rtc.now = fuzz_now;
	i8042_init(&b->kbc, &b->keyboard_irq.line, &b->power.sink);
	acpi_power_init(&b->pm, &b->acpi_irq.line, &b->power.sink);
	pm_timer_init(&b->timer);
	b->timer.now = fuzz_now;
	pm_timer_reset(&b->timer);

	bus_init(&b->bus, 0x10000);
	VMM_BUG_ON(bus_add(&b->bus, PLATFORM_PORT_SERIAL, SERIAL_PORTS, &serial_bus_ops, &b->serial,
			   "serial", NULL) != 0);
	VMM_BUG_ON(bus_add(&b->bus, PLATFORM_PORT_RTC, RTC_PORTS, &rtc_bus_ops, &b->rtc, "rtc",
			   NULL) != 0);
	VMM_BUG_ON(bus_add(&b->bus, PLATFORM_PORT_I8042_DATA, 1, &i8042_data_bus_ops, &b->kbc,
			   "i8042", NULL) != 0);
	VMM_BUG_ON(bus_add(&b->bus, PLATFORM_PORT_I8042_COMMAND, 1, &i8042_command_bus_ops, &b->kbc,
			   "i8042", NULL) != 0);
	VMM_BUG_ON(bus_add(&b->bus, PLATFORM_PORT_ACPI, ACPI_POWER_PORTS, &acpi_power_bus_ops,
			   &b->pm, "acpi", NULL) != 0);
	VMM_BUG_ON(bus_add(&b->bus, PLATFORM_PORT_PM_TIMER, PM_TIMER_PORTS, &pm_timer_bus_ops,
			   &b->timer, "pm timer", NULL) != 0);
	VMM_BUG_ON(bus_add(&b->bus, PLATFORM_PORT_PVPANIC, 1, &pvpanic_bus_ops, &b->pvpanic,
			   "pvpanic", NULL) != 0);
	VMM_BUG_ON(bus_add(&b->bus, PLATFORM_PORT_DEBUG_EXIT, 1, &debug_exit_bus_ops,
			   &b->debug_exit, "debug-exit", NULL) != 0);
}

static void board_finish(struct board *b)
{
	serial_finish(&b->serial);
	rtc_finish(&b->rtc);
	i8042_finish(&b->kbc);
}

static uint8_t take(struct input *in)
{
	if (in->len == 0) {
		return 0;
	}
	in->len--;
	return *in->data++;
}

static uint64_t take_bytes(struct input *in, size_t count)
{
	uint8_t bytes[8] = { 0 };

	for (size_t i = 0; i < count; i++) {
		bytes[i] = take(in);
	}
	return load_le64(bytes);
}

static void access_port(struct board *b, struct input *in, unsigned int device, unsigned int size,
			bool write)
{
	static const uint16_t bases[] = { PLATFORM_PORT_SERIAL,	    PLATFORM_PORT_RTC,
					  PLATFORM_PORT_I8042_DATA, PLATFORM_PORT_I8042_COMMAND,
					  PLATFORM_PORT_ACPI,	    PLATFORM_PORT_PVPANIC,
					  PLATFORM_PORT_DEBUG_EXIT, PLATFORM_PORT_PM_TIMER };
	/* Most accesses meant for a register, some for what is around it. */
	uint8_t offset = take(in);
	uint64_t addr = (uint64_t)bases[device] + (offset & 7);
	uint8_t bytes[8];

	if ((offset & 0x80) != 0) {
		addr = take_bytes(in, 2);
	}
	if (write) {
		store_le64(bytes, take_bytes(in, size));
		(void)bus_write(&b->bus, addr, bytes, size);
	} else {
		(void)bus_read(&b->bus, addr, bytes, size);
	}
}

static void type(struct board *b, struct input *in)
{
	uint8_t len = take(in);
	uint8_t text[256];

	memset(text, len, sizeof(text));
	VMM_BUG_ON(serial_input(&b->serial, text, len) > len);
	VMM_BUG_ON(b->serial.state.fifo_len > SERIAL_FIFO_SIZE);
}

static void reset(struct board *b)
{
	serial_reset(&b->serial);
	rtc_reset(&b->rtc);
	i8042_reset(&b->kbc);
	acpi_power_reset(&b->pm);
	pm_timer_reset(&b->timer);
}

static void step(struct board *b, struct input *in)
{
	uint8_t opcode = take(in);
	unsigned int size = 1U << (opcode >> 3 & 3), device = opcode >> 5;

	switch (opcode & 7) {
	case 0:
	case 1:
		access_port(b, in, device, size, false);
		break;
	case 2:
	case 3:
		access_port(b, in, device, size, true);
		break;
	case 4:
		type(b, in);
		break;
	case 5:
		fuzz_clock = (int64_t)take_bytes(in, size);
		break;
	case 6:
		i8042_ctrl_alt_del(&b->kbc);
		acpi_power_notify(&b->pm, ACPI_EVENT_POWER_BUTTON);
		break;
	default:
		if (device == 7) {
			reset(b);
		}
		break;
	}
}

static void check_states(const struct board *b)
{
	VMM_BUG_ON(state_validate(&serial_state, &b->serial.state, NULL) != 0);
	VMM_BUG_ON(state_validate(&rtc_state, &b->rtc.state, NULL) != 0);
	VMM_BUG_ON(state_validate(&i8042_state, &b->kbc.state, NULL) != 0);
	VMM_BUG_ON(state_validate(&acpi_power_state, &b->pm.state, NULL) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { .data = data, .len = size };
	struct board board;

	fuzz_clock = 0;
	board_init(&board);
	while (in.len != 0) {
		step(&board, &in);
		check_states(&board);
	}
	board_finish(&board);
	return 0;
}
