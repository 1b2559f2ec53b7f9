/* SPDX-License-Identifier: Apache-2.0 */
/* The power block's ports, the event device's register, and the two small ports that end a machine:
 * pvpanic and debug exit. */
#include "harness/check_main.h"
#include "harness/fake_irq.h"
#include "harness/fake_power.h"
#include "harness/state_round_trip.h"
#include "vmm/acpi_power.h"
#include "vmm/pvpanic.h"

static struct acpi_power pm;
static struct fake_irq irq;
static struct fake_power power;

static void setup(void)
{
	fake_irq_init_edge(&irq, 9);
	fake_power_init(&power);
	acpi_power_init(&pm, &irq.line, &power.sink);
}

static uint64_t in(uint64_t offset, unsigned int size)
{
	return acpi_power_bus_ops.read(&pm, offset, size);
}

static void out(uint64_t offset, unsigned int size, uint64_t value)
{
	acpi_power_bus_ops.write(&pm, offset, size, value);
}

START_TEST(test_only_type_5_with_enable_powers_off)
{
	for (unsigned int value = 0; value < 256; value++) {
		bool off = (value & 0x20) != 0 && ((value >> 2) & 7) == 5;

		setup();
		out(ACPI_POWER_SLEEP_CONTROL, 1, value);
		ck_assert_uint_eq(power.count, off ? 1 : 0);
		ck_assert_int_eq(power.last, off ? POWER_OFF : POWER_NONE);
	}
	ck_assert_uint_eq(in(ACPI_POWER_SLEEP_CONTROL, 1), 0);
}
END_TEST

START_TEST(test_only_the_reset_value_resets)
{
	for (unsigned int value = 0; value < 256; value++) {
		setup();
		out(ACPI_POWER_RESET, 1, value);
		ck_assert_int_eq(power.last,
				 value == ACPI_POWER_RESET_VALUE ? POWER_RESET : POWER_NONE);
	}
}
END_TEST

START_TEST(test_sleep_status_is_quiet)
{
	out(ACPI_POWER_SLEEP_STATUS, 1, 0x80);
	ck_assert_uint_eq(in(ACPI_POWER_SLEEP_STATUS, 1), 0);
	ck_assert_uint_eq(power.count, 0);
}
END_TEST

START_TEST(test_power_button)
{
	acpi_power_notify(&pm, ACPI_EVENT_POWER_BUTTON);
	ck_assert_uint_eq(irq.pulses, 1);
	/* The interrupt's handler finds the event, once. */
	ck_assert_uint_eq(in(ACPI_POWER_EVENTS, 4), ACPI_EVENT_POWER_BUTTON);
	ck_assert_uint_eq(in(ACPI_POWER_EVENTS, 4), 0);
	/* Pressed twice before the guest looks: one event, for which the line is raised once. */
	acpi_power_notify(&pm, ACPI_EVENT_POWER_BUTTON);
	acpi_power_notify(&pm, ACPI_EVENT_POWER_BUTTON);
	ck_assert_uint_eq(irq.pulses, 2);
	ck_assert_uint_eq(in(ACPI_POWER_EVENTS, 4), ACPI_EVENT_POWER_BUTTON);
	acpi_power_notify(&pm, ACPI_EVENT_POWER_BUTTON);
	acpi_power_reset(&pm);
	ck_assert_uint_eq(in(ACPI_POWER_EVENTS, 4), 0);
	/* The register cannot be written. */
	out(ACPI_POWER_EVENTS, 4, UINT32_MAX);
	ck_assert_uint_eq(in(ACPI_POWER_EVENTS, 4), 0);
}
END_TEST

/* A read of some bytes takes the events of those bytes only. */
START_TEST(test_no_width_loses_events)
{
	acpi_power_notify(&pm, ACPI_EVENT_POWER_BUTTON);
	ck_assert_uint_eq(in(ACPI_POWER_EVENTS + 1, 1), 0);
	ck_assert_uint_eq(in(ACPI_POWER_EVENTS + 2, 2), 0);
	ck_assert_uint_eq(in(0, 4), 0);
	ck_assert_uint_eq(in(ACPI_POWER_EVENTS, 1), ACPI_EVENT_POWER_BUTTON);
	acpi_power_notify(&pm, ACPI_EVENT_POWER_BUTTON);
	ck_assert_uint_eq(in(3, 2), ACPI_EVENT_POWER_BUTTON << 8);
	ck_assert_uint_eq(in(ACPI_POWER_EVENTS, 4), 0);
}
END_TEST

START_TEST(test_wide_writes_are_split)
{
	static const unsigned int widths[] = { 1, 2, 4, 8 };

	out(0, 4, UINT64_C(0x00010000));
	ck_assert_int_eq(power.last, POWER_RESET);
	out(0, 2, 0x34);
	ck_assert_int_eq(power.last, POWER_OFF);
	for (size_t w = 0; w < ARRAY_SIZE(widths); w++) {
		for (unsigned int offset = 0; offset <= ACPI_POWER_PORTS - widths[w]; offset++) {
			(void)in(offset, widths[w]);
			out(offset, widths[w], UINT64_MAX);
		}
	}
}
END_TEST

START_TEST(test_state)
{
	struct acpi_power restored;

	acpi_power_notify(&pm, ACPI_EVENT_POWER_BUTTON);
	acpi_power_init(&restored, &irq.line, &power.sink);
	check_state_round_trip(&acpi_power_state, &pm.state, &restored.state);
	ck_assert_uint_eq(acpi_power_bus_ops.read(&restored, ACPI_POWER_EVENTS, 4),
			  ACPI_EVENT_POWER_BUTTON);
	check_state_refused(&acpi_power_state, &pm.state, events, 16, "events 0x10");
	check_state_refused(&acpi_power_state, &pm.state, events, UINT32_MAX, "unknown");
}
END_TEST

/* The line is high as long as an event waits, so that a driver that comes late hears of it. */
START_TEST(test_line_follows_events)
{
	fake_irq_init(&irq, 9);
	acpi_power_notify(&pm, ACPI_EVENT_POWER_BUTTON);
	ck_assert(atomic_load(&irq.level));
	acpi_power_notify(&pm, ACPI_EVENT_PCI_HOTPLUG);
	ck_assert(atomic_load(&irq.level));
	ck_assert_uint_eq(atomic_load(&irq.edges), 1);
	ck_assert_uint_eq(in(ACPI_POWER_EVENTS + 1, 1), 0);
	ck_assert(atomic_load(&irq.level));
	ck_assert_uint_eq(in(ACPI_POWER_EVENTS, 4),
			  ACPI_EVENT_POWER_BUTTON | ACPI_EVENT_PCI_HOTPLUG);
	ck_assert(!atomic_load(&irq.level));
	acpi_power_notify(&pm, 1U << 7); /* none of ours */
	ck_assert(!atomic_load(&irq.level));
	acpi_power_notify(&pm, ACPI_EVENT_PCI_HOTPLUG);
	ck_assert_uint_eq(atomic_load(&irq.edges), 2);
	acpi_power_reset(&pm);
	ck_assert(!atomic_load(&irq.level));
	pm.state.events = ACPI_EVENT_PCI_HOTPLUG;
	acpi_power_loaded(&pm);
	ck_assert(atomic_load(&irq.level));
	acpi_power_finish(&pm);
	acpi_power_finish(&pm);
}
END_TEST

START_TEST(test_pvpanic)
{
	struct pvpanic pvpanic = { .power = &power.sink };

	ck_assert_uint_eq(pvpanic_bus_ops.read(&pvpanic, 0, 1), 3);
	pvpanic_bus_ops.write(&pvpanic, 0, 1, 0);
	/* A crash kernel takes over: the machine runs on. */
	pvpanic_bus_ops.write(&pvpanic, 0, 1, PVPANIC_CRASH_LOADED);
	ck_assert_uint_eq(power.count, 0);
	pvpanic_bus_ops.write(&pvpanic, 0, 1, PVPANIC_PANICKED);
	ck_assert_uint_eq(power.count, 1);
	ck_assert_int_eq(power.last, POWER_PANIC);
}
END_TEST

START_TEST(test_debug_exit)
{
	struct debug_exit debug_exit = { .power = &power.sink };

	ck_assert_uint_eq(debug_exit_bus_ops.read(&debug_exit, 0, 1) & 0xff, 0xff);
	debug_exit_bus_ops.write(&debug_exit, 0, 1, 42);
	ck_assert_int_eq(power.last, POWER_DEBUG_EXIT);
	ck_assert_uint_eq(power.code, 42);
	debug_exit_bus_ops.write(&debug_exit, 0, 4, 0xffffff07);
	ck_assert_uint_eq(power.code, 7);
	ck_assert_uint_eq(power.count, 2);
}
END_TEST

CHECK_MAIN("acpi_power", CHECK_FIXTURE(setup, NULL);
	   CHECK_TEST(test_only_type_5_with_enable_powers_off);
	   CHECK_TEST(test_only_the_reset_value_resets); CHECK_TEST(test_sleep_status_is_quiet);
	   CHECK_TEST(test_power_button); CHECK_TEST(test_no_width_loses_events);
	   CHECK_TEST(test_line_follows_events); CHECK_TEST(test_wide_writes_are_split);
	   CHECK_TEST(test_state); CHECK_TEST(test_pvpanic); CHECK_TEST(test_debug_exit))
