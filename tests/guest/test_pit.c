/* SPDX-License-Identifier: Apache-2.0 */
/* The timer of old PCs (8254), which no table announces: it is there or it is not (pit=1 or 0), and
 * the guest programs it at its shortest period. Says "ready" then, and goes on until a byte comes. */
#include "guest.h"

#define PIT_CHANNEL_0 0x40
#define PIT_COMMAND   0x43
#define PIT_RATE      0x34 /* channel 0, both bytes, a pulse each period */
#define PIT_LATCH     0x00
#define SPEAKER	      0x61
#define UART_LSR      (PLATFORM_PORT_SERIAL + 5)

static unsigned count_now(void)
{
	unsigned low;

	guest_out8(PIT_COMMAND, PIT_LATCH);
	low = guest_in8(PIT_CHANNEL_0);
	return low | (unsigned)guest_in8(PIT_CHANNEL_0) << 8;
}

static void set_period(unsigned period)
{
	guest_out8(PIT_COMMAND, PIT_RATE);
	guest_out8(PIT_CHANNEL_0, (uint8_t)period);
	guest_out8(PIT_CHANNEL_0, (uint8_t)(period >> 8));
}

static bool counts(void)
{
	unsigned first = count_now();
	uint64_t start = guest_tsc();

	while (guest_tsc() - start < GUEST_PATIENCE) {
		if (count_now() != first) {
			return true;
		}
	}
	return false;
}

static void check_absent(void)
{
	for (uint16_t port = PIT_CHANNEL_0; port <= PIT_COMMAND; port++) {
		guest_check(guest_in8(port) == 0xff);
	}
	guest_check(guest_in8(SPEAKER) == 0xff);
	guest_check(count_now() == 0xffff);
}

int test_pit(void)
{
	bool present = guest_equal(guest_option("pit"), "1");
	uint64_t start = guest_tsc();

	if (present) {
		set_period(0);
		guest_check(counts());
	} else {
		check_absent();
	}
	set_period(2);
	guest_puts("ready\n");
	while (!(guest_in8(UART_LSR) & 1) && guest_tsc() - start < GUEST_PATIENCE) {
	}
	if (!present) {
		check_absent();
	}
	return 0;
}
