/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The serial port as drivers see it: how Linux tells chips apart, output, interrupts, loop-back, widths,
 * saved state.
 */
#include "harness/serial_rig.h"

START_TEST(test_power_on)
{
	ck_assert_uint_eq(in(IER), 0);
	ck_assert_uint_eq(in(IIR), 0x01);
	ck_assert_uint_eq(in(LCR), 0);
	ck_assert_uint_eq(in(MCR), 0);
	ck_assert_uint_eq(in(LSR), 0x60);
	ck_assert_uint_eq(in(MSR), 0xb0);
	ck_assert_uint_eq(fake_irq_count(&irq), 0);
}
END_TEST

/* The steps of Linux' drivers/tty/serial/8250/8250_port.c: autoconfig() and autoconfig_16550a(). */
START_TEST(test_linux_finds_a_16550a)
{
	uint8_t first, second;

	out(IER, 0);
	ck_assert_uint_eq(in(IER)&0x0f, 0);
	out(IER, 0x0f);
	ck_assert_uint_eq(in(IER)&0x0f, 0x0f);
	out(IER, 0);

	/* Loop-back: OUT2 and RTS come back as DCD and CTS. */
	out(MCR, 0x10 | 0x0a);
	ck_assert_uint_eq(in(MSR)&0xf0, 0x90);
	out(MCR, 0);

	out(LCR, 0xbf);
	out(2, 0);
	out(LCR, 0);
	out(FCR, 0x01);
	ck_assert_uint_eq(in(IIR) >> 6, 3);

	/* None of the better chips: EFR of a 16650 reads 0 at this place, an NS16550's EXCR1
	 * mirrors MCR. */
	out(LCR, 0x80);
	ck_assert_uint_ne(in(2), 0);
	out(LCR, 0xbf);
	ck_assert_uint_ne(in(2), 0);
	out(LCR, 0);
	first = in(MCR);
	out(LCR, 0xe0);
	second = in(2);
	ck_assert_uint_eq((first ^ second) & 0x10, 0);
	out(LCR, 0);
	out(MCR, first ^ 0x10);
	out(LCR, 0xe0);
	second = in(2);
	ck_assert_uint_eq((first ^ second) & 0x10, 0);
	out(LCR, 0);
	out(MCR, first);
	/* 64-byte FIFO of a 16750; XScale's unit-enable bit. */
	out(FCR, 0x01 | 0x20);
	ck_assert_uint_ne(in(IIR) >> 5, 7);
	out(IER, 0x40);
	ck_assert_uint_eq(in(IER), 0);
	out(SCR, 0xa5);
	ck_assert_uint_eq(in(SCR), 0xa5);
}
END_TEST

/* serial8250_do_startup(): a chip that does not raise the transmit interrupt again gets a polling
 * timer. */
START_TEST(test_linux_finds_no_transmit_bugs)
{
	open_port(0);
	out(IER, 0x02);
	ck_assert_uint_eq(in(IIR)&1, 0);
	out(IER, 0);
	out(IER, 0x02);
	ck_assert_uint_eq(in(IIR)&1, 0);
	out(IER, 0);
	out(IER, 0x02);
	ck_assert_uint_eq(in(LSR)&0x40, 0x40);
	ck_assert_uint_eq(in(IIR)&1, 0);
}
END_TEST

START_TEST(test_output_reaches_the_channel)
{
	for (const char *p = "hello"; *p != '\0'; p++) {
		out(DATA, (uint8_t)*p);
	}
	ck_assert_uint_eq(host.output_len, 5);
	ck_assert_mem_eq(host.output, "hello", 5);
}
END_TEST

START_TEST(test_output_without_a_channel_vanishes)
{
	serial.channel = NULL;
	out(DATA, 'x');
	ck_assert_uint_eq(in(LSR), 0x60);
	serial_resume(&serial);
}
END_TEST

START_TEST(test_divisor_latch)
{
	out(LCR, 0x83);
	ck_assert_uint_eq(in(DATA), 12);
	out(DATA, 0x34);
	out(IER, 0x12);
	ck_assert_uint_eq(in(DATA), 0x34);
	ck_assert_uint_eq(in(IER), 0x12);
	out(LCR, 0x03);
	ck_assert_uint_eq(in(IER), 0);
	ck_assert_uint_eq(in(DATA), 0);
	ck_assert_uint_eq(host.output_len, 0);
	ck_assert_uint_eq(in(LCR), 0x03);
}
END_TEST

START_TEST(test_transmit_interrupt)
{
	open_port(0);
	ck_assert(!irq.level);
	out(IER, 0x02);
	ck_assert(irq.level);
	ck_assert_uint_eq(in(IIR), 0xc2);
	/* Reading the identification acknowledged it. */
	ck_assert(!irq.level);
	ck_assert_uint_eq(in(IIR), 0xc1);
	out(DATA, 'a');
	ck_assert(irq.level);
	ck_assert_uint_eq(irq.edges, 2);
	/* A write without reading IIR is an edge of its own. */
	out(DATA, 'b');
	ck_assert_uint_eq(irq.edges, 3);
	/* Other registers do not acknowledge. */
	(void)in(LSR);
	(void)in(MSR);
	ck_assert(irq.level);
	out(IER, 0);
	ck_assert(!irq.level);
	/* Setting the bit again while it is set is no new interrupt. */
	out(IER, 0x02);
	(void)in(IIR);
	out(IER, 0x02);
	ck_assert_uint_eq(in(IIR), 0xc1);
}
END_TEST

START_TEST(test_line_changes_only_on_changes)
{
	unsigned int changes;

	open_port(0x01);
	ck_assert_uint_eq(type("abc"), 3);
	changes = irq.changes;
	ck_assert_uint_eq(changes, 1);
	(void)in(LSR);
	(void)in(IIR);
	(void)in(DATA);
	ck_assert_uint_eq(irq.changes, changes);
	(void)in(DATA);
	(void)in(DATA);
	ck_assert_uint_eq(irq.changes, changes + 1);
	ck_assert(!irq.level);
}
END_TEST

START_TEST(test_out2_gates_the_interrupt)
{
	out(MCR, 0x03);
	out(IER, 0x02);
	ck_assert(!irq.level);
	ck_assert_uint_eq(irq.changes, 0);
	out(MCR, 0x0b);
	ck_assert(irq.level);
	out(MCR, 0x1b); /* loop-back takes OUT2 away */
	ck_assert(!irq.level);
	out(MCR, 0x0b);
	ck_assert(irq.level);
	out(MCR, 0x03);
	ck_assert(!irq.level);
}
END_TEST

START_TEST(test_edge_only_line_gets_one_pulse_per_rise)
{
	fake_irq_init_edge(&irq, 4);
	open_port(0x01);
	ck_assert_uint_eq(type("a"), 1);
	ck_assert_uint_eq(irq.pulses, 1);
	(void)in(DATA);
	ck_assert_uint_eq(irq.pulses, 1);
	ck_assert_uint_eq(type("b"), 1);
	ck_assert_uint_eq(irq.pulses, 2);
}
END_TEST

START_TEST(test_loop_back)
{
	open_port(0x05);
	out(MCR, 0x1b);
	ck_assert_uint_eq(type("outside"), 0);
	for (int i = 0; i < 16; i++) {
		out(DATA, (uint8_t)i);
	}
	ck_assert_uint_eq(host.output_total, 0);
	ck_assert_uint_eq(in(LSR), 0x61);
	out(DATA, 0xff);
	ck_assert_uint_eq(in(LSR), 0x63); /* the guest overran itself */
	ck_assert_uint_eq(in(LSR), 0x61);
	for (int i = 0; i < 16; i++) {
		ck_assert_uint_eq(in(DATA), (unsigned int)i);
	}
	/* All lines come back crossed, with deltas. */
	(void)in(MSR);
	out(MCR, 0x10 | 0x0f);
	ck_assert_uint_eq(in(MSR)&0xf0, 0xf0);
	out(MCR, 0x10);
	ck_assert_uint_eq(in(MSR), 0x0f);
	ck_assert_uint_eq(in(MSR), 0x00);
	out(MCR, 0x0b);
	ck_assert_uint_eq(host.ready, 1);
	ck_assert_uint_eq(in(MSR)&0xf0, 0xb0);
}
END_TEST

START_TEST(test_modem_and_line_status_interrupts)
{
	open_port(0x0c);
	out(MCR, 0x10);
	out(FCR, 0x00);
	out(DATA, 1);
	out(DATA, 2);
	ck_assert_uint_eq(in(IIR), 0x06);
	(void)in(LSR);
	ck_assert_uint_eq(in(IIR), 0x00);
	(void)in(MSR);
	ck_assert_uint_eq(in(IIR), 0x01);
}
END_TEST

/* Each byte of a wide access is an access of its own, lowest port first, never beyond the window.
 */
START_TEST(test_wide_accesses_are_split)
{
	static const unsigned int widths[] = { 1, 2, 4, 8 };

	out(SCR, 0x77);
	ck_assert_uint_eq(serial_bus_ops.read(&serial, 4, 4), UINT64_C(0x77b06000));
	ck_assert_uint_eq(serial_bus_ops.read(&serial, 6, 2), 0x77b0);
	serial_bus_ops.write(&serial, LCR, 2, 0x0203);
	ck_assert_uint_eq(in(LCR), 0x03);
	ck_assert_uint_eq(in(MCR), 0x02);
	serial_bus_ops.write(&serial, DATA, 2, 0x0241);
	ck_assert_uint_eq(host.output[0], 'A');
	ck_assert_uint_eq(in(IER), 0x02);
	for (size_t w = 0; w < ARRAY_SIZE(widths); w++) {
		for (unsigned int offset = 0; offset <= 8 - widths[w]; offset++) {
			(void)serial_bus_ops.read(&serial, offset, widths[w]);
			serial_bus_ops.write(&serial, offset, widths[w], UINT64_MAX);
		}
	}
}
END_TEST

START_TEST(test_reset)
{
	open_port(0x0f);
	(void)type("abcdef");
	out(LCR, 0x9b);
	out(SCR, 1);
	ck_assert(irq.level);
	serial_reset(&serial);
	ck_assert(!irq.level);
	ck_assert_uint_eq(in(IER), 0);
	ck_assert_uint_eq(in(IIR), 1);
	ck_assert_uint_eq(in(LCR), 0);
	ck_assert_uint_eq(in(MCR), 0);
	ck_assert_uint_eq(in(LSR), 0x60);
	ck_assert_uint_eq(in(SCR), 0);
	ck_assert_uint_eq(in(DATA), 0);
}
END_TEST

/* Also in the middle of a transmission: a pending transmit interrupt must arrive after loading
 * (T-C3). */
START_TEST(test_state_round_trip)
{
	struct serial restored;
	struct fake_irq other;

	open_port(0x03);
	out(DATA, 'x');
	(void)type("123456789");
	(void)in(DATA);
	out(LCR, 0x03);
	out(SCR, 0x42);
	fake_irq_init(&other, 4);
	serial_init(&restored, &other.line, &host.channel);
	check_state_round_trip(&serial_state, &serial.state, &restored.state);
	serial_resume(&restored);
	ck_assert(other.level);
	ck_assert_uint_eq(host.ready, 1);
	ck_assert_uint_eq(restored.state.fifo_len, 8);
	ck_assert_uint_eq(serial_bus_ops.read(&restored, DATA, 1), '2');
	/* What is held is part of it. */
	serial_bus_ops.write(&serial, IER, 1, 0x02);
	serial_bus_ops.write(&serial, FCR, 1, 0x83);
	ck_assert_uint_eq(serial.state.held_len, 8);
	check_state_round_trip(&serial_state, &serial.state, &restored.state);
	serial_resume(&restored);
	ck_assert_uint_eq(restored.state.fifo_len, 0);
	serial_bus_ops.write(&restored, IER, 1, 0x03);
	ck_assert_uint_eq(restored.state.fifo_len, 8);
	restored.state.fifo_len = 0;
	ck_assert_uint_eq(serial_bus_ops.read(&restored, IIR, 1), 0xc2);
	ck_assert(!other.level);
	serial_finish(&restored);
}
END_TEST

START_TEST(test_hostile_state_is_refused)
{
	open_port(0x03);
	(void)type("ab");
	check_state_refused(&serial_state, &serial.state, fifo_head, 16, "FIFO head 16");
	check_state_refused(&serial_state, &serial.state, fifo_len, 17, "length 17");
	check_state_refused(&serial_state, &serial.state, fifo_len, 255, "length 255");
	check_state_refused(&serial_state, &serial.state, held_len, 15,
			    "15 bytes held and 2 received");
	check_state_refused(&serial_state, &serial.state, held_len, 255, "255 bytes held");
	check_state_refused(&serial_state, &serial.state, fcr, 0, "FIFO off");
	check_state_refused(&serial_state, &serial.state, fcr, 0xff, "FCR 0xff");
	check_state_refused(&serial_state, &serial.state, ier, 0x10, "IER 0x10");
	check_state_refused(&serial_state, &serial.state, mcr, 0x20, "MCR 0x20");
	check_state_refused(&serial_state, &serial.state, lsr, 0x60, "LSR 0x60");
	check_state_refused(&serial_state, &serial.state, msr, 0x40, "MSR 0x40");
}
END_TEST

START_TEST(test_finish_of_zeroes)
{
	struct serial zeroed;

	memset(&zeroed, 0, sizeof(zeroed));
	serial_finish(&zeroed);
}
END_TEST

CHECK_MAIN("serial", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_power_on);
	   CHECK_TEST(test_linux_finds_a_16550a); CHECK_TEST(test_linux_finds_no_transmit_bugs);
	   CHECK_TEST(test_output_reaches_the_channel);
	   CHECK_TEST(test_output_without_a_channel_vanishes); CHECK_TEST(test_divisor_latch);
	   CHECK_TEST(test_transmit_interrupt); CHECK_TEST(test_line_changes_only_on_changes);
	   CHECK_TEST(test_out2_gates_the_interrupt);
	   CHECK_TEST(test_edge_only_line_gets_one_pulse_per_rise); CHECK_TEST(test_loop_back);
	   CHECK_TEST(test_modem_and_line_status_interrupts);
	   CHECK_TEST(test_wide_accesses_are_split); CHECK_TEST(test_reset);
	   CHECK_TEST(test_state_round_trip); CHECK_TEST(test_hostile_state_is_refused);
	   CHECK_TEST(test_finish_of_zeroes))
