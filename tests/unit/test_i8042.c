/* SPDX-License-Identifier: Apache-2.0 */
/* The keyboard controller in conversation with Linux' i8042 and atkbd drivers, the ways to reset
 * through it, and Ctrl-Alt-Del. */
#include "harness/check_main.h"
#include "harness/fake_irq.h"
#include "harness/fake_power.h"
#include "harness/state_round_trip.h"
#include "vmm/i8042.h"

#define OUTPUT_FULL 0x01

static struct i8042 kbc;
static struct fake_irq irq;
static struct fake_power power;

static void setup(void)
{
	fake_irq_init(&irq, 1);
	fake_power_init(&power);
	i8042_init(&kbc, &irq.line, &power.sink);
}

static void teardown(void)
{
	i8042_finish(&kbc);
}

static uint8_t status(void)
{
	return (uint8_t)i8042_command_bus_ops.read(&kbc, 0, 1);
}

static uint8_t in(void)
{
	return (uint8_t)i8042_data_bus_ops.read(&kbc, 0, 1);
}

static void out(uint8_t value)
{
	i8042_data_bus_ops.write(&kbc, 0, 1, value);
}

static void command(uint8_t value)
{
	i8042_command_bus_ops.write(&kbc, 0, 1, value);
}

static void expect_nothing(void)
{
	ck_assert_uint_eq(status() & OUTPUT_FULL, 0);
}

static void expect(uint8_t byte)
{
	uint8_t got;

	ck_assert_uint_eq(status() & OUTPUT_FULL, OUTPUT_FULL);
	got = in();
	ck_assert_msg(got == byte, "0x%02x, expected 0x%02x", got, byte);
}

static uint8_t ask(uint8_t value)
{
	command(value);
	ck_assert_uint_eq(status() & OUTPUT_FULL, OUTPUT_FULL);
	return in();
}

static void write_command_byte(uint8_t value)
{
	command(0x60);
	out(value);
}

/* As when the driver has bound: interface and interrupt on, translation as given. */
static void bind(bool translate)
{
	write_command_byte(translate ? 0x65 : 0x25);
	out(0xf4);
	expect(0xfa);
	expect_nothing();
}

START_TEST(test_power_on)
{
	/* Unlocked, self-test passed, nothing to read. */
	ck_assert_uint_eq(status(), 0x14);
	ck_assert_uint_eq(ask(0x20), 0x74);
	ck_assert_uint_eq(fake_irq_count(&irq), 0);
}
END_TEST

START_TEST(test_linux_probes_the_controller)
{
	uint8_t byte;

	expect_nothing(); /* i8042_flush() */
	byte = ask(0x20);
	ck_assert_uint_eq(byte, ask(0x20)); /* read until twice the same */
	ck_assert_uint_ne(status() & 0x10, 0);
	write_command_byte((uint8_t)((byte | 0x10) & ~1));
	ck_assert_uint_eq(ask(0x20), (uint8_t)((byte | 0x10) & ~1));
	ck_assert_uint_eq(ask(0xaa), 0x55);
	ck_assert_uint_eq(ask(0xab), 0x00);
	/*
	 * i8042_check_aux(): the loop's byte comes back, but not as from the auxiliary port (status
	 * bit 5), which is an error at once instead of a time-out; then the port's test must say
	 * neither 0 nor fa nor ff.
	 */
	command(0xd3);
	out(0x5a);
	ck_assert_uint_eq(status() & 0x21, 0x01);
	expect(0x5a);
	byte = ask(0xa9);
	ck_assert(byte != 0 && byte != 0xfa && byte != 0xff);
	/* i8042_enable_kbd_port() */
	write_command_byte(0x65);
	ck_assert_uint_eq(ask(0x20), 0x65);
	ck_assert_uint_eq(status() & 0x08, 0x08);
	expect_nothing();
}
END_TEST

START_TEST(test_linux_probes_the_keyboard)
{
	bool translate = _i != 0;

	write_command_byte(translate ? 0x65 : 0x25);
	out(0xf2);
	expect(0xfa);
	expect(0xab);
	expect(translate ? 0x41 : 0x83);
	out(0xf5);
	expect(0xfa);
	out(0xff);
	expect(0xfa);
	expect(0xaa);
	out(0xed);
	expect(0xfa);
	out(0x07);
	expect(0xfa);
	out(0xf3);
	expect(0xfa);
	out(0x00);
	expect(0xfa);
	/* Extra features that this keyboard does not have are refused, not ignored. */
	out(0xea);
	expect(0xfe);
	out(0xf4);
	expect(0xfa);
	expect_nothing();
	ck_assert(kbc.state.keyboard_scanning);
}
END_TEST

START_TEST(test_scan_code_sets)
{
	static const uint8_t plain[] = { 0, 1, 2, 3 }, translated[] = { 0, 0x43, 0x41, 0x3f };

	for (int t = 0; t < 2; t++) {
		write_command_byte(t != 0 ? 0x65 : 0x25);
		for (uint8_t set = 1; set <= 3; set++) {
			out(0xf0);
			expect(0xfa);
			out(set);
			expect(0xfa);
			out(0xf0);
			expect(0xfa);
			out(0);
			expect(0xfa);
			expect(t != 0 ? translated[set] : plain[set]);
		}
		out(0xf0);
		expect(0xfa);
		out(4);
		expect(0xfe);
		ck_assert_uint_eq(kbc.state.scan_set, 3);
		out(0xf6);
		expect(0xfa);
		ck_assert_uint_eq(kbc.state.scan_set, 2);
	}
}
END_TEST

START_TEST(test_other_keyboard_commands)
{
	bind(true);
	out(0xee);
	expect(0xee);
	out(0xfe);
	expect(0xee);
	for (unsigned int modes = 0xf7; modes <= 0xfa; modes++) {
		out((uint8_t)modes);
		expect(0xfa);
	}
	for (unsigned int mode = 0xfb; mode <= 0xfd; mode++) {
		out((uint8_t)mode);
		expect(0xfa);
		out(0x1c);
		expect(0xfa);
	}
	/* A command in the place of an argument is a command. */
	out(0xed);
	expect(0xfa);
	out(0xf4);
	expect(0xfa);
	out(0x02);
	expect(0xfe);
	expect_nothing();
}
END_TEST

START_TEST(test_interrupts)
{
	write_command_byte(0x64);
	out(0xff);
	ck_assert_uint_eq(fake_irq_count(&irq), 0);
	ck_assert_uint_eq(status() & OUTPUT_FULL, OUTPUT_FULL);
	/* Enabled with bytes waiting: now. */
	write_command_byte(0x65);
	ck_assert(irq.level);
	ck_assert_uint_eq(irq.edges, 1);
	(void)status();
	ck_assert_uint_eq(irq.edges, 1);
	/* The next byte is an edge of its own. */
	expect(0xfa);
	ck_assert(irq.level);
	ck_assert_uint_eq(irq.edges, 2);
	expect(0xaa);
	ck_assert(!irq.level);
	ck_assert_uint_eq(irq.edges, 2);
}
END_TEST

START_TEST(test_disabled_interface_holds_bytes)
{
	bind(true);
	i8042_ctrl_alt_del(&kbc);
	command(0xad);
	expect_nothing();
	ck_assert(!irq.level);
	ck_assert_uint_eq(ask(0x20), 0x75);
	command(0xae);
	expect(0x1d);
	/* Writing to the keyboard turns it on as well. */
	command(0xad);
	out(0xee);
	ck_assert_uint_eq(ask(0x20) & 0x10, 0);
}
END_TEST

/* The controller's answers come before the keyboard's bytes, and the data port shows the last byte
 * again when empty. */
START_TEST(test_answers_overtake_keys)
{
	bind(true);
	i8042_ctrl_alt_del(&kbc);
	command(0x20);
	expect(0x65);
	expect(0x1d);
	out(0xff);
	expect(0xfa);
	expect(0xaa);
	expect_nothing();
	ck_assert_uint_eq(in(), 0xaa);
	ck_assert_uint_eq(in(), 0xaa);
}
END_TEST

START_TEST(test_ctrl_alt_del_translated)
{
	static const uint8_t keys[] = { 0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d };

	bind(true);
	i8042_ctrl_alt_del(&kbc);
	for (size_t i = 0; i < sizeof(keys); i++) {
		ck_assert(irq.level);
		expect(keys[i]);
	}
	expect_nothing();
	ck_assert_uint_eq(irq.edges, 1 + sizeof(keys)); /* one for the acknowledgement in bind() */
}
END_TEST

START_TEST(test_ctrl_alt_del_in_set_2)
{
	static const uint8_t keys[] = { 0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0,
					0x71, 0xf0, 0x11, 0xf0, 0x14 };

	bind(false);
	i8042_ctrl_alt_del(&kbc);
	for (size_t i = 0; i < sizeof(keys); i++) {
		expect(keys[i]);
	}
	expect_nothing();
}
END_TEST

static void expect_keys(void)
{
	static const uint8_t keys[] = { 0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d };

	for (size_t i = 0; i < sizeof(keys); i++) {
		ck_assert(irq.level);
		expect(keys[i]);
	}
}

/* It waits for a driver: for one that enables nothing but the interrupt, and for one that then talks
 * to the keyboard, whose last word is "enable". Ten times pressed is once. */
START_TEST(test_ctrl_alt_del_is_held)
{
	for (int i = 0; i < 10; i++) {
		i8042_ctrl_alt_del(&kbc);
	}
	expect_nothing();
	ck_assert(!irq.level);
	command(0xae);
	expect_nothing();
	write_command_byte(0x65);
	expect_keys();
	expect_nothing();
	out(0xf2);
	expect(0xfa);
	expect(0xab);
	expect(0x41);
	expect_nothing();
	out(0xf4);
	expect(0xfa);
	expect_keys();
	expect_nothing();
	out(0xf4);
	expect(0xfa);
	expect_nothing();
	/* A keyboard that was told to be silent is. */
	out(0xf5);
	expect(0xfa);
	i8042_ctrl_alt_del(&kbc);
	expect_nothing();
	out(0xf4);
	expect(0xfa);
	expect_keys();
	expect_nothing();
	/* A machine reset forgets it. */
	write_command_byte(0x75);
	i8042_ctrl_alt_del(&kbc);
	i8042_reset(&kbc);
	bind(true);
	expect_nothing();
}
END_TEST

/* Whole or not at all, when the guest does not read. */
START_TEST(test_ctrl_alt_del_is_bounded)
{
	bind(true);
	for (int i = 0; i < I8042_QUEUE_SIZE / 8 + 3; i++) {
		i8042_ctrl_alt_del(&kbc);
	}
	ck_assert_uint_eq(kbc.state.queue_len, 32);
	for (int i = 0; i < I8042_QUEUE_SIZE / 8; i++) {
		expect_keys();
	}
	expect_nothing();
}
END_TEST

START_TEST(test_resets)
{
	for (unsigned int value = 0xf0; value <= 0xff; value++) {
		setup();
		command((uint8_t)value);
		ck_assert_int_eq(power.last, (value & 1) == 0 ? POWER_RESET : POWER_NONE);
	}
	setup();
	ck_assert_uint_eq(ask(0xd0) & 0x03, 0x03);
	command(0xd1);
	out(0xdf);
	ck_assert_uint_eq(power.count, 0);
	command(0xd1);
	out(0xfe);
	ck_assert_int_eq(power.last, POWER_RESET);
	ck_assert_uint_eq(power.count, 1);
	/* A20 is remembered. */
	setup();
	command(0xd1);
	out(0xdd);
	ck_assert_uint_eq(ask(0xd0), 0xdd);
}
END_TEST

START_TEST(test_arguments_do_not_reach_the_keyboard)
{
	bind(true);
	command(0xd4); /* to the mouse that is not there */
	out(0xff);
	expect_nothing();
	command(0x61); /* controller RAM */
	out(0xff);
	expect_nothing();
	ck_assert_uint_eq(ask(0x21), 0);
	command(0xd2);
	out(0x1e);
	expect(0x1e);
	/* A command instead of the argument: the argument is not awaited any more. */
	command(0x60);
	command(0xae);
	out(0xee);
	expect(0xee);
	ck_assert_uint_eq(ask(0x20), 0x65);
	ck_assert_uint_eq(ask(0xc0), 0x80);
}
END_TEST

START_TEST(test_floods_stay_bounded)
{
	bind(true);
	for (unsigned int i = 0; i < 100000; i++) {
		out((uint8_t)(0xed + i % 19));
		ck_assert_uint_le(kbc.state.queue_len, I8042_QUEUE_SIZE);
	}
	for (unsigned int i = 0; i < 100000; i++) {
		command((uint8_t)(i % 0xf0));
		out((uint8_t)(i >> 4));
		ck_assert_uint_le(kbc.state.queue_len, I8042_QUEUE_SIZE);
		ck_assert_int_eq(state_validate(&i8042_state, &kbc.state, NULL), 0);
	}
}
END_TEST

START_TEST(test_widths_and_offsets)
{
	static const unsigned int widths[] = { 1, 2, 4, 8 };

	out(0xee);
	ck_assert_uint_eq(i8042_data_bus_ops.read(&kbc, 0, 4), UINT64_C(0xffffffee));
	ck_assert_uint_eq(i8042_command_bus_ops.read(&kbc, 0, 2) & 0xff00, 0xff00);
	for (size_t w = 0; w < ARRAY_SIZE(widths); w++) {
		for (unsigned int offset = 0; offset < 8; offset++) {
			(void)i8042_data_bus_ops.read(&kbc, offset, widths[w]);
			(void)i8042_command_bus_ops.read(&kbc, offset, widths[w]);
			i8042_data_bus_ops.write(&kbc, offset, widths[w], UINT64_MAX);
			i8042_command_bus_ops.write(&kbc, offset, widths[w], UINT64_MAX);
		}
	}
	ck_assert_uint_eq(power.count, 0);
}
END_TEST

START_TEST(test_reset)
{
	bind(true);
	i8042_ctrl_alt_del(&kbc);
	command(0x60);
	i8042_reset(&kbc);
	ck_assert(!irq.level);
	ck_assert_uint_eq(status(), 0x14);
	ck_assert_uint_eq(kbc.state.pending_command, 0);
	ck_assert_uint_eq(ask(0x20), 0x74);
}
END_TEST

START_TEST(test_state)
{
	struct i8042 restored;
	struct fake_irq other;

	bind(true);
	i8042_ctrl_alt_del(&kbc);
	expect(0x1d);
	expect(0x38);
	command(0x60);
	fake_irq_init(&other, 1);
	i8042_init(&restored, &other.line, &power.sink);
	check_state_round_trip(&i8042_state, &kbc.state, &restored.state);
	i8042_resume(&restored);
	ck_assert(other.level);
	/* The argument of the command in flight is still one. */
	i8042_data_bus_ops.write(&restored, 0, 1, 0x64);
	ck_assert(!other.level);
	ck_assert_uint_eq(i8042_data_bus_ops.read(&restored, 0, 1), 0xe0);
	i8042_finish(&restored);

	check_state_refused(&i8042_state, &kbc.state, queue_head, 32, "head 32");
	check_state_refused(&i8042_state, &kbc.state, queue_len, 33, "length 33");
	check_state_refused(&i8042_state, &kbc.state, scan_set, 0, "set 0");
	check_state_refused(&i8042_state, &kbc.state, scan_set, 4, "set 4");
	check_state_refused(&i8042_state, &kbc.state, pending_command, 0xaa, "0xaa");
	check_state_refused(&i8042_state, &kbc.state, keyboard_command, 0xf4, "0xf4");
}
END_TEST

CHECK_MAIN("i8042", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_power_on);
	   CHECK_TEST(test_linux_probes_the_controller);
	   CHECK_LOOP(test_linux_probes_the_keyboard, 2); CHECK_TEST(test_scan_code_sets);
	   CHECK_TEST(test_other_keyboard_commands); CHECK_TEST(test_interrupts);
	   CHECK_TEST(test_disabled_interface_holds_bytes); CHECK_TEST(test_answers_overtake_keys);
	   CHECK_TEST(test_ctrl_alt_del_translated); CHECK_TEST(test_ctrl_alt_del_in_set_2);
	   CHECK_TEST(test_ctrl_alt_del_is_held); CHECK_TEST(test_ctrl_alt_del_is_bounded);
	   CHECK_TEST(test_resets); CHECK_TEST(test_arguments_do_not_reach_the_keyboard);
	   CHECK_TEST(test_floods_stay_bounded); CHECK_TEST(test_widths_and_offsets);
	   CHECK_TEST(test_reset); CHECK_TEST(test_state))
