/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest for tests of other people's clients, which choose its command line themselves: says "ready" on the serial port and
 * rests, and resets the machine through the keyboard controller when Ctrl-Alt-Del is pressed, as Linux does with reboot=k. Runs
 * on Firecracker as well, whose keyboard sends set 2 without translation.
 */
#include "guest.h"

#define KEYBOARD_GSI	1
#define PIC_MASK_FIRST	0x21
#define PIC_MASK_SECOND 0xa1
#define STATUS_FULL	0x01
#define WRITE_BYTE	0x60
#define ENABLE_KEYBOARD 0xae
#define RESET_CPU	0xfe
/* Interrupt on, self-test passed, keyboard on, auxiliary port off, translation on. */
#define CONTROLLER_BYTE 0x65
#define DELETE_SET1	0x53
#define DELETE_SET2	0x71
/* Cycles: a tenth of a second or so, less than a kernel takes to go down; clients count on some time. */
#define GOING_DOWN 300000000ULL

_Noreturn void guest_main(void);

/* Keys that were pressed before this: they wait at the port, or behind the byte that is written now. */
static void enable_keyboard(void)
{
	/* Firecracker wires the old interrupt controller to the boot CPU, with every line open and vectors from 0. */
	guest_out8(PIC_MASK_FIRST, 0xff);
	guest_out8(PIC_MASK_SECOND, 0xff);
	guest_ioapic_route(KEYBOARD_GSI);
	if ((guest_in8(PLATFORM_PORT_I8042_COMMAND) & STATUS_FULL) != 0) {
		return;
	}
	guest_out8(PLATFORM_PORT_I8042_COMMAND, WRITE_BYTE);
	guest_out8(PLATFORM_PORT_I8042_DATA, CONTROLLER_BYTE);
	guest_out8(PLATFORM_PORT_I8042_COMMAND, ENABLE_KEYBOARD);
}

_Noreturn void guest_main(void)
{
	guest_trap_init();
	enable_keyboard();
	guest_puts("ready\n");
	for (;;) {
		while ((guest_in8(PLATFORM_PORT_I8042_COMMAND) & STATUS_FULL) != 0) {
			uint8_t key = guest_in8(PLATFORM_PORT_I8042_DATA);

			if (key == DELETE_SET1 || key == DELETE_SET2) {
				uint64_t pressed = guest_tsc();

				guest_puts("reset\n");
				while (guest_tsc() - pressed < GOING_DOWN) {
					guest_pause();
				}
				guest_out8(PLATFORM_PORT_I8042_COMMAND, RESET_CPU);
			}
		}
		/* An edge between the look and the rest is held by the local APIC, whose interrupt wakes. */
		guest_halt();
	}
}
