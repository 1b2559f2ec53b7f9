/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The serial port's receiver: levels, order, when input is taken and when it waits, and floods that must
 * stay bounded (T-C2).
 */
#include "harness/serial_rig.h"

static const struct trigger_row {
	uint8_t fcr, level;
} triggers[] = { { 0x01, 1 }, { 0x41, 4 }, { 0x81, 8 }, { 0xc1, 14 } };

START_TEST(test_receive_trigger_levels)
{
	const struct trigger_row *row = &triggers[_i];

	open_port(0x01);
	out(FCR, row->fcr);
	for (uint8_t i = 1; i <= 16; i++) {
		ck_assert_uint_eq(type("x"), 1);
		ck_assert(irq.level);
		ck_assert_uint_eq(in(IIR), i < row->level ? 0xcc : 0xc4);
	}
	ck_assert_uint_eq(in(LSR), 0x61);
	for (uint8_t i = 0; i < 16; i++) {
		ck_assert(irq.level);
		ck_assert_uint_eq(in(DATA), 'x');
	}
	ck_assert(!irq.level);
	ck_assert_uint_eq(in(LSR), 0x60);
	ck_assert_uint_eq(in(IIR), 0xc1);
}
END_TEST

START_TEST(test_receive_before_transmit_in_priority)
{
	open_port(0x03);
	ck_assert_uint_eq(type("12345678"), 8);
	ck_assert_uint_eq(in(IIR), 0xc4);
	ck_assert_uint_eq(in(IIR), 0xc4);
	while ((in(LSR)&1) != 0) {
		(void)in(DATA);
	}
	/* The transmit interrupt was not acknowledged by what it hid behind. */
	ck_assert(irq.level);
	ck_assert_uint_eq(in(IIR), 0xc2);
	ck_assert(!irq.level);
}
END_TEST

START_TEST(test_input_keeps_its_order_across_the_ring)
{
	char expected = 'a';

	open_port(0x01);
	for (int round = 0; round < 20; round++) {
		const char letters[] = { (char)('a' + round * 5 % 25), (char)('b' + round * 5 % 25),
					 (char)('c' + round * 5 % 25), (char)('d' + round * 5 % 25),
					 (char)('e' + round * 5 % 25) };

		ck_assert_uint_eq(serial_input(&serial, (const uint8_t *)letters, 5), 5);
		for (int i = 0; i < 5; i++) {
			expected = (char)('a' + (round * 5 % 25) + i);
			ck_assert_int_eq(in(DATA), expected);
		}
	}
}
END_TEST

START_TEST(test_full_receiver_holds_input_back)
{
	open_port(0x01);
	ck_assert_uint_eq(type("0123456789abcdefREST"), 16);
	ck_assert_uint_eq(type("REST"), 0);
	ck_assert_uint_eq(host.ready, 0);
	ck_assert_uint_eq(in(LSR)&0x02, 0); /* no overrun */
	ck_assert_uint_eq(in(DATA), '0');
	ck_assert_uint_eq(host.ready, 1);
	/* Invited once, not for every byte. */
	ck_assert_uint_eq(in(DATA), '1');
	ck_assert_uint_eq(host.ready, 1);
	ck_assert_uint_eq(type("RE"), 2);
	ck_assert_uint_eq(in(DATA), '2');
	ck_assert_uint_eq(host.ready, 1);
}
END_TEST

START_TEST(test_without_fifo_one_byte_at_a_time)
{
	out(MCR, 0x0b);
	out(IER, 0x01);
	ck_assert_uint_eq(type("ab"), 1);
	ck_assert_uint_eq(in(IIR), 0x04);
	ck_assert_uint_eq(in(DATA), 'a');
	ck_assert_uint_eq(host.ready, 1);
	ck_assert_uint_eq(type("b"), 1);
	ck_assert_uint_eq(in(DATA), 'b');
}
END_TEST

/* A pipe's bytes must survive what a driver does before it receives. */
START_TEST(test_no_input_before_the_guest_listens)
{
	out(FCR, 0x01);
	ck_assert_uint_eq(type("early"), 0);
	out(FCR, 0x07);
	out(MCR, 0x0b); /* Linux leaves RTS raised between two openings */
	ck_assert_uint_eq(type("early"), 0);
	(void)in(LSR);
	(void)in(DATA);
	ck_assert_uint_eq(type("early"), 0);
	ck_assert_uint_eq(host.ready, 0);
	out(IER, 0x01);
	ck_assert_uint_eq(host.ready, 1);
	ck_assert_uint_eq(type("early"), 5);
}
END_TEST

/* As the owner of a channel does: what was not taken is offered again. */
static void offer(const char *text, size_t *at)
{
	*at += type(text + *at);
}

/* serial8250_do_startup() and serial8250_do_set_termios() of Linux 6.1, with bytes that are offered
 * at every step, or at some: the interrupt handler gets all of them. */
START_TEST(test_linux_start_loses_nothing)
{
	static const struct {
		char access; /* 'r', 'w' */
		uint8_t reg, value;
	} steps[] = {
		/* autoconfig() enables everything for a moment */
		{ 'w', IER, 0x00 },
		{ 'r', IER, 0 },
		{ 'w', IER, 0x0f },
		{ 'r', IER, 0 },
		{ 'w', IER, 0x00 },
		{ 'w', MCR, 0x1a },
		{ 'r', MSR, 0 },
		{ 'w', MCR, 0x0b },
		{ 'w', FCR, 0x01 },
		{ 'r', IIR, 0 },
		/* serial8250_clear_fifos() */
		{ 'w', FCR, 0x01 },
		{ 'w', FCR, 0x07 },
		{ 'w', FCR, 0x00 },
		/* "clear the interrupt registers" */
		{ 'r', LSR, 0 },
		{ 'r', DATA, 0 },
		{ 'r', IIR, 0 },
		{ 'r', MSR, 0 },
		{ 'r', LSR, 0 },
		/* wait_for_xmitr() is the second look in a row; the transmitter's interrupt is tested */
		{ 'r', LSR, 0 },
		{ 'w', IER, 0x02 },
		{ 'r', IER, 0 },
		{ 'r', IIR, 0 },
		{ 'w', IER, 0x00 },
		{ 'w', LCR, 0x03 },
		{ 'w', MCR, 0x08 },
		{ 'w', IER, 0x02 },
		{ 'r', LSR, 0 },
		{ 'r', IIR, 0 },
		{ 'w', IER, 0x00 },
		/* "again for luck" */
		{ 'r', LSR, 0 },
		{ 'r', DATA, 0 },
		{ 'r', IIR, 0 },
		{ 'r', MSR, 0 },
		/* set_termios */
		{ 'w', IER, 0x05 },
		{ 'w', LCR, 0x93 },
		{ 'w', DATA, 1 },
		{ 'w', IER, 0 },
		{ 'w', LCR, 0x13 },
		{ 'w', FCR, 0x01 },
		{ 'w', FCR, 0x81 },
		{ 'w', MCR, 0x0b },
	};
	static const char text[] = "uptime, and then some more\n";
	char got[sizeof(text)] = "";
	uint32_t seed = (uint32_t)_i;
	size_t at = 0, n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		seed = seed * 1664525U + 1013904223U;
		if (_i == 0 || seed >> 30 == 0) {
			offer(text, &at);
		}
		if (steps[i].access == 'w') {
			out(steps[i].reg, steps[i].value);
		} else {
			(void)in(steps[i].reg);
		}
	}
	while (n < sizeof(text) - 1) {
		offer(text, &at);
		ck_assert(irq.level);
		ck_assert_uint_eq(in(IIR)&0x0d, 0x04 & 0x0d);
		while ((in(LSR)&1) != 0) {
			got[n++] = (char)in(DATA);
		}
	}
	ck_assert_str_eq(got, text);
}
END_TEST

static const struct {
	uint8_t mcr, fcr;
	bool sends; /* between two looks */
} pollers[] = { { 0, 0, false }, { 0, 1, false }, { 0x0b, 0xc7, false }, { 0x03, 0, true } };

/* No interrupt is enabled: the line status alone. */
START_TEST(test_polling_guest_gets_input)
{
	static const char text[] = "typed";
	size_t at = 0;

	out(MCR, pollers[_i].mcr);
	out(FCR, pollers[_i].fcr);
	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		unsigned int looks = 0;

		offer(text, &at);
		while ((in(LSR)&1) == 0) {
			offer(text, &at);
			/* It waits for the transmitter before it writes. */
			if (pollers[_i].sends && (in(LSR)&0x21) == 0x20) {
				out(DATA, '.');
			}
			ck_assert_uint_lt(looks++, 4);
		}
		ck_assert_uint_eq(in(DATA), (uint8_t)text[i]);
	}
	ck_assert_uint_gt(host.ready, 0);
	ck_assert_uint_eq(in(LSR), 0x60);
	ck_assert_uint_eq(fake_irq_count(&irq), 0);
}
END_TEST

/* A console that only sends looks once before each byte. */
START_TEST(test_sending_is_no_polling)
{
	ck_assert_uint_eq(type("x"), 0);
	for (int i = 0; i < 100; i++) {
		ck_assert_uint_eq(in(LSR), 0x60);
		out(DATA, '.');
	}
	ck_assert_uint_eq(in(LSR), 0x60);
	ck_assert_uint_eq(in(IER), 0);
	ck_assert_uint_eq(in(LSR), 0x60);
	ck_assert_uint_eq(host.ready, 0);
	ck_assert_uint_eq(in(LSR), 0x60);
	ck_assert_uint_eq(host.ready, 1);
}
END_TEST

START_TEST(test_fifo_control)
{
	open_port(0x01);
	ck_assert_uint_eq(type("abc"), 3);
	out(FCR, 0x83); /* clear the receiver: the driver receives, and means what it says */
	ck_assert_uint_eq(in(LSR), 0x60);
	ck_assert(!irq.level);
	ck_assert_uint_eq(type("abc"), 3);
	out(FCR, 0x85); /* clear the transmitter: nothing in it */
	ck_assert_uint_eq(in(LSR), 0x61);
	out(FCR, 0x00); /* switching clears too, which is nobody's purpose: they come one by one */
	ck_assert_uint_eq(in(IIR), 0x04);
	ck_assert_uint_eq(in(DATA), 'a');
	ck_assert_uint_eq(type("d"), 0);
	out(FCR, 0xc0); /* trigger bits without enable are not programmed */
	out(FCR, 0x01);
	ck_assert_uint_eq(in(IIR), 0xc4);
	ck_assert_uint_eq(host.ready, 1);
	ck_assert_uint_eq(type("d"), 1);
	ck_assert_uint_eq(in(DATA), 'b');
	ck_assert_uint_eq(in(DATA), 'c');
	ck_assert_uint_eq(in(DATA), 'd');
}
END_TEST

/* Clearing a full FIFO makes room: the host must hear of it. */
START_TEST(test_clearing_invites_input)
{
	open_port(0x01);
	ck_assert_uint_eq(type("0123456789abcdefg"), 16);
	out(FCR, 0x83);
	ck_assert_uint_eq(host.ready, 1);
}
END_TEST

/* A full FIFO in front of the loop-back test comes again behind it. */
START_TEST(test_loop_back_keeps_input)
{
	open_port(0x01);
	ck_assert_uint_eq(type("0123456789abcdef"), 16);
	out(MCR, 0x1b);
	for (int i = 0; i < 20; i++) {
		out(DATA, 0xaa);
	}
	ck_assert_uint_eq(in(DATA), 0xaa);
	out(MCR, 0x0b);
	for (int i = 1; i < 16; i++) {
		ck_assert_uint_eq(type("x"), 0);
		ck_assert_uint_eq(in(DATA), 0xaa);
	}
	for (int i = 0; i < 16; i++) {
		ck_assert_uint_eq(in(DATA), (uint8_t) "0123456789abcdef"[i]);
	}
	ck_assert_uint_eq(host.ready, 1);
	/* Or is cleared with the loop's own bytes in front. */
	ck_assert_uint_eq(type("ab"), 2);
	out(IER, 0);
	out(MCR, 0x1b);
	out(DATA, 0xaa);
	out(FCR, 0x83);
	out(MCR, 0x0b);
	out(IER, 1);
	ck_assert_uint_eq(in(DATA), 'a');
	ck_assert_uint_eq(in(DATA), 'b');
	ck_assert_uint_eq(in(LSR), 0x60 | 0x02);
}
END_TEST

START_TEST(test_floods_stay_bounded)
{
	static uint8_t megabyte[1 << 20];
	size_t taken = 0;

	open_port(0x01);
	for (int i = 0; i < 1024; i++) {
		taken += serial_input(&serial, megabyte, sizeof(megabyte));
	}
	ck_assert_uint_eq(taken, SERIAL_FIFO_SIZE);
	for (unsigned int i = 0; i < 1000000; i++) {
		out(DATA, (uint8_t)i);
	}
	ck_assert_uint_eq(host.output_total, 1000000);
	ck_assert_uint_eq(serial.state.fifo_len, SERIAL_FIFO_SIZE);
}
END_TEST

#define STREAM_LEN 50000U

static _Atomic unsigned int invitations;

static void count_invitation(struct console_channel *channel)
{
	(void)channel;
	atomic_fetch_add(&invitations, 1);
}

/* A guest that polls: echoes what it reads. Returns how many bytes came out of order. */
static void *guest_thread(void *arg)
{
	size_t *wrong = arg;

	for (unsigned int next = 0; next < STREAM_LEN;) {
		if ((in(LSR)&1) == 0) {
			(void)sched_yield();
			continue;
		}
		*wrong += in(DATA) != (uint8_t)next ? 1 : 0;
		out(DATA, (uint8_t)next);
		next++;
	}
	return NULL;
}

/* The host feeds as the contract says: it offers again only when invited. No byte is lost and no
 * invitation missing. */
START_TEST(test_two_threads)
{
	unsigned int seen = 0;
	size_t sent = 0, wrong = 0;
	pthread_t guest;

	host.channel.input_ready = count_invitation;
	atomic_store(&invitations, 0);
	open_port(0x03);
	ck_assert_int_eq(pthread_create(&guest, NULL, guest_thread, &wrong), 0);
	while (sent < STREAM_LEN) {
		uint8_t chunk[64];
		size_t len = MIN(sizeof(chunk), STREAM_LEN - sent);
		size_t taken;

		for (size_t i = 0; i < len; i++) {
			chunk[i] = (uint8_t)(sent + i);
		}
		taken = serial_input(&serial, chunk, len);
		sent += taken;
		while (taken < len && atomic_load(&invitations) == seen) {
			(void)sched_yield();
		}
		seen += taken < len ? 1 : 0;
	}
	ck_assert_int_eq(pthread_join(guest, NULL), 0);
	ck_assert_uint_eq(wrong, 0);
	ck_assert_uint_eq(host.output_total, STREAM_LEN);
}
END_TEST

CHECK_MAIN("serial_input", CHECK_FIXTURE(setup, teardown);
	   CHECK_TABLE(test_receive_trigger_levels, triggers);
	   CHECK_TEST(test_receive_before_transmit_in_priority);
	   CHECK_TEST(test_input_keeps_its_order_across_the_ring);
	   CHECK_TEST(test_full_receiver_holds_input_back);
	   CHECK_TEST(test_without_fifo_one_byte_at_a_time);
	   CHECK_TEST(test_no_input_before_the_guest_listens); CHECK_TEST(test_fifo_control);
	   CHECK_TEST(test_clearing_invites_input); CHECK_TEST(test_loop_back_keeps_input);
	   CHECK_LOOP(test_linux_start_loses_nothing, 200);
	   CHECK_TABLE(test_polling_guest_gets_input, pollers);
	   CHECK_TEST(test_sending_is_no_polling); CHECK_TEST(test_floods_stay_bounded);
	   CHECK_TEST(test_two_threads))
