/* SPDX-License-Identifier: Apache-2.0 */
/* The test guest: runs the test that the command line names with test=NAME, says PASS or FAIL, and
 * ends the machine. */
#include "guest.h"

_Noreturn void guest_main(void);

static const struct {
	const char *name;
	guest_test *run;
} tests[] = {
	{ "acpi", test_acpi },
	{ "block", test_block },
	{ "block-load", test_block_load },
	{ "boot", test_boot },
	{ "console", test_console },
	{ "cpuid", test_cpuid },
	{ "exit", test_exit },
	{ "fill", test_fill },
	{ "hostile", test_hostile },
	{ "hotplug", test_hotplug },
	{ "memory", test_memory },
	{ "net", test_net },
	{ "pit", test_pit },
	{ "ports", test_ports },
	{ "powerbutton", test_powerbutton },
	{ "reboot", test_reboot },
	{ "rng", test_rng },
	{ "rtc", test_rtc },
	{ "serial", test_serial },
	{ "smp", test_smp },
	{ "timer", test_timer },
	{ "work", test_work },
};

void guest_main(void)
{
	const char *name;

	guest_trap_init();
	guest_map_high_memory();
	name = guest_option("test");
	for (size_t i = 0; name && i < GUEST_ARRAY_SIZE(tests); i++) {
		if (guest_equal(name, tests[i].name)) {
			tests[i].run();
			guest_printf("%s %s\n", guest_failures() ? "FAIL" : "PASS", tests[i].name);
			guest_exit(guest_failures() ? GUEST_FAIL : GUEST_PASS);
		}
	}
	guest_printf("no such test: %s\n", name ? name : "(none; give test=NAME)");
	guest_exit(GUEST_USAGE);
}
