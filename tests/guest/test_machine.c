/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the machine itself: ways to end, memory, CPUID, timers, clock, power button, reboot. */
#include "pci.h"

#define MIB  (1UL << 20)
#define SEED 0x5eedUL

static uint64_t ring0_triple_fault(uint64_t unused)
{
	static const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) empty;

	(void)unused;
	__asm__ volatile("lidt %0; ud2" : : "m"(empty));
	return 0;
}

/* One instruction that reads the first registers of the PCI bridge or of virtio device 0, for ever:
 * each word is an access of its own, and a machine that stops between two of them must not mix them
 * up. */
static void read_registers(void)
{
	static const uint32_t of_mmio[] = { 0x74726976, 2 }, of_pci[] = { 0x00081b36, 0 };
	const uint32_t *expected = pci_present() ? of_pci : of_mmio;

	guest_puts("reading\n");
	for (;;) {
		uint32_t words[4];
		const void *from = (const void *)(expected == of_pci ? PLATFORM_PCI_ECAM
								     : PLATFORM_VIRTIO_MMIO);
		void *to = words;
		uint64_t count = GUEST_ARRAY_SIZE(words);

		__asm__ volatile("rep movsl" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
		guest_require(!memcmp(words, expected, sizeof(of_mmio)));
	}
}

/* mode=acpi|reset|i8042|triple|panic|linux-panic|hang|spin|registers|code (with value=N). */
static void end_machine(const char *mode)
{
	if (guest_equal(mode, "acpi")) {
		guest_out8(GUEST_ACPI_SLEEP_CONTROL, GUEST_ACPI_SLEEP_S5);
	} else if (guest_equal(mode, "reset")) {
		guest_out8(GUEST_ACPI_RESET, 1);
	} else if (guest_equal(mode, "i8042")) {
		guest_out8(PLATFORM_PORT_I8042_COMMAND, 0xfe);
	} else if (guest_equal(mode, "triple")) {
		guest_ring0(ring0_triple_fault, 0);
	} else if (guest_equal(mode, "panic")) {
		guest_check((guest_in8(PLATFORM_PORT_PVPANIC) & 3) == 3);
		guest_out8(PLATFORM_PORT_PVPANIC, 1);
	} else if (guest_equal(mode, "linux-panic")) {
		/* What a kernel without a root says, and does with panic=-1. */
		guest_printf(
			"[    1.0] Kernel panic - not syncing: VFS: Unable to mount root fs on "
			"unknown-block(0,0)\r\n[    1.1] Rebooting in 1 seconds..\r\n");
		end_machine("reset");
	} else if (guest_equal(mode, "hang")) {
		guest_puts("hanging\n");
		guest_sleep();
	} else if (guest_equal(mode, "spin")) {
		guest_puts("spinning\n");
		for (;;) {
			guest_pause();
		}
	} else if (guest_equal(mode, "registers")) {
		read_registers();
	} else if (guest_equal(mode, "code")) {
		guest_out8(PLATFORM_PORT_DEBUG_EXIT, (uint8_t)guest_option_number("value", 0));
	} else {
		guest_fatal(__FILE__, __LINE__, mode);
	}
}

int test_exit(void)
{
	char mode[32];
	const char *option = guest_option("mode");
	size_t length;

	guest_require(option != NULL);
	length = guest_strlen(option);
	guest_require(length < sizeof(mode));
	memcpy(mode, option, length + 1);
	/* What must not end the machine: SLP_EN clear, another sleep type, a reset value that is
	 * not the FADT's. */
	if (guest_equal(mode, "acpi")) {
		guest_out8(GUEST_ACPI_SLEEP_CONTROL, GUEST_ACPI_SLEEP_S5 & ~0x20);
		guest_out8(GUEST_ACPI_SLEEP_CONTROL, 0x20);
	} else if (guest_equal(mode, "reset")) {
		guest_out8(GUEST_ACPI_RESET, 0);
	}
	guest_printf("ending by %s\n", mode);
	end_machine(mode);
	/* A panic notice and a reset on another thread may take effect a little later. */
	guest_wait(false);
	guest_require(!"the machine goes on");
	return 0;
}

static uint64_t pattern(uint64_t address, uint64_t seed)
{
	return (address ^ seed) * 0x9e3779b97f4a7c15ULL;
}

/* One word in each page that is looked at, and all of each 256th page. */
static void fill(uint64_t start, uint64_t end, uint64_t step, bool check)
{
	uint64_t page = 0;

	for (uint64_t at = start; at < end; at += step, page++) {
		uint64_t words = page % 256 ? 1 : 512;

		for (uint64_t i = 0; i < words; i++) {
			uint64_t *word = (uint64_t *)(at + i * 8);

			if (!check) {
				*word = pattern((uint64_t)word, SEED);
			} else if (*word != pattern((uint64_t)word, SEED)) {
				guest_printf("at %lx: %lx\n", (uint64_t)word, *word);
				guest_require(!"memory holds what was written");
			}
		}
	}
}

static void check_hole(uint64_t address)
{
	guest_check(guest_read8(address) == 0xff);
	guest_check(guest_read16(address) == 0xffff);
	guest_check(guest_read32(address) == 0xffffffff);
	guest_check(guest_read64(address) == ~0ULL);
	guest_write32(address, 0x12345678);
	guest_check(guest_read32(address) == 0xffffffff);
}

/* step=BYTES from one page that is touched to the next; high=1: there must be RAM above 4 GiB. */
int test_memory(void)
{
	struct guest_memory map[32];
	unsigned count = guest_memory_map(map, GUEST_ARRAY_SIZE(map));
	uint64_t tested = 0, low_end = 0, high_end = 0, step = guest_option_number("step", 4096);

	for (int check = 0; check < 2; check++) {
		for (unsigned i = 0; i < count; i++) {
			/* What lies below 32 MiB holds this program and its tables. */
			uint64_t start = map[i].start < 32 * MIB ? 32 * MIB : map[i].start,
				 end = map[i].start + map[i].size;

			if (map[i].type != GUEST_RAM || start >= end) {
				continue;
			}
			fill((start + 4095) & ~4095UL, end & ~4095UL, step, check);
			if (!check) {
				tested += end - start;
			}
			if (end <= PLATFORM_RAM_LOW_END) {
				low_end = end > low_end ? end : low_end;
			} else {
				high_end = end > high_end ? end : high_end;
			}
		}
	}
	guest_printf("tested %lu MiB, low RAM to %lx, high RAM to %lx\n", tested / MIB, low_end,
		     high_end);
	if (guest_option("high")) {
		guest_check(high_end > PLATFORM_RAM_HIGH_START);
	}
	check_hole(PLATFORM_RAM_LOW_END);
	check_hole(PLATFORM_VIRTIO_MMIO + PLATFORM_VIRTIO_MMIO_MAX * PLATFORM_VIRTIO_MMIO_SIZE);
	check_hole(PLATFORM_IOAPIC - 0x1000);
	/* The last byte of RAM and the first of the hole: an access across the seam is two. */
	if (low_end && low_end < PLATFORM_RAM_LOW_END) {
		check_hole(low_end);
	}
	return 0;
}

int test_cpuid(void)
{
	struct guest_cpuid r = guest_cpuid(0, 0), leaf1 = guest_cpuid(1, 0);
	unsigned apic_id = guest_apic_id(), cpus = (unsigned)guest_option_number("cpus", 1);

	for (uint32_t leaf = 0; leaf <= r.eax && leaf < 0x40; leaf++) {
		for (uint32_t sub = 0;
		     sub < (leaf == 4 || leaf == 0xb || leaf == 0x1f || leaf == 7 ? 4 : 1); sub++) {
			struct guest_cpuid x = guest_cpuid(leaf, sub);

			guest_printf("cpuid %08x.%u %08x %08x %08x %08x\n", leaf, sub, x.eax, x.ebx,
				     x.ecx, x.edx);
		}
	}
	guest_check(r.eax >= 1);
	guest_check(leaf1.ebx >> 24 == apic_id);
	guest_check(leaf1.ecx >> 31 == 1); /* a hypervisor is there */
	guest_check(leaf1.edx & 1 << 9);   /* APIC */
	guest_printf("tsc-deadline %u x2apic %u\n", leaf1.ecx >> 24 & 1, leaf1.ecx >> 21 & 1);
	guest_check(leaf1.ecx & 1 << 21);
	if (cpus > 1) {
		guest_check(leaf1.edx & 1 << 28);
		guest_check((leaf1.ebx >> 16 & 0xff) >= cpus);
	}
	if (r.eax >= 0xb) {
		unsigned threads = 0;

		for (uint32_t sub = 0; sub < 8; sub++) {
			struct guest_cpuid x = guest_cpuid(0xb, sub);

			guest_check(x.edx == apic_id);
			if (!(x.ecx >> 8 & 0xff)) {
				break;
			}
			guest_check((x.ecx & 0xff) == sub);
			guest_check((x.ecx >> 8 & 0xff) == (sub == 0 ? 1U : 2U));
			guest_check(1U << (x.eax & 31) >= (x.ebx & 0xffff));
			threads = x.ebx & 0xffff;
		}
		guest_printf("topology %u threads\n", threads);
		guest_check(threads == cpus || !threads);
	}
	r = guest_cpuid(0x40000000, 0);
	guest_printf("hypervisor leaves to %08x signature %08x %08x %08x\n", r.eax, r.ebx, r.ecx,
		     r.edx);
	guest_check(r.ebx == 0x4b4d564b && r.ecx == 0x564b4d56 && r.edx == 0x4d); /* KVMKVMKVM */
	r = guest_cpuid(0x40000001, 0);
	guest_check(r.eax & 1 << 3);  /* kvm-clock by MSR 0x4b564d01 */
	guest_check(r.eax & 1 << 24); /* and stable */
	r = guest_cpuid(0x80000000, 0);
	guest_check(r.eax >= 0x80000008);
	r = guest_cpuid(0x80000008, 0);
	guest_printf("physical address bits %u\n", r.eax & 0xff);
	guest_check((r.eax & 0xff) >= 36);
	r = guest_cpuid(0x80000007, 0);
	guest_printf("invariant-tsc %u\n", r.edx >> 8 & 1);
	return 0;
}

#define MSR_TSC_DEADLINE    0x6e0
#define MSR_KVM_SYSTEM_TIME 0x4b564d01
#define TIMER_PERIODIC	    (1U << 17)
#define TIMER_DEADLINE	    (2U << 17)
#define TIMER_MASKED	    (1U << 16)

struct kvm_clock {
	uint32_t version, padding;
	uint64_t tsc, system_time;
	uint32_t multiplier;
	int8_t shift;
	uint8_t flags, padding2[2];
};

int test_timer(void)
{
	volatile struct kvm_clock *clock = guest_alloc(64, 64);
	volatile uint32_t *ticks = &guest_irq_count[GUEST_VECTOR_TIMER];
	uint64_t start, time;

	guest_lapic_enable();
	guest_irq_enable();
	guest_lapic_write(GUEST_LAPIC_TIMER_DIVIDE, 0xb);
	guest_lapic_write(GUEST_LAPIC_TIMER, GUEST_VECTOR_TIMER);
	guest_lapic_write(GUEST_LAPIC_TIMER_INITIAL, 1000000);
	guest_check(guest_wait(*ticks == 1));
	guest_lapic_write(GUEST_LAPIC_TIMER, GUEST_VECTOR_TIMER | TIMER_PERIODIC);
	guest_lapic_write(GUEST_LAPIC_TIMER_INITIAL, 5000000);
	guest_check(guest_wait(*ticks >= 5));
	guest_lapic_write(GUEST_LAPIC_TIMER, GUEST_VECTOR_TIMER | TIMER_MASKED);
	guest_lapic_write(GUEST_LAPIC_TIMER_INITIAL, 0);
	guest_printf("ticks %u\n", *ticks);
	if (guest_cpuid(1, 0).ecx & 1 << 24) {
		uint32_t before = *ticks;

		guest_lapic_write(GUEST_LAPIC_TIMER, GUEST_VECTOR_TIMER | TIMER_DEADLINE);
		start = guest_tsc();
		guest_wrmsr(MSR_TSC_DEADLINE, start + 50000000);
		/* At rest: the timer must wake the CPU. */
		while (*ticks == before && guest_tsc() - start < GUEST_PATIENCE) {
			guest_halt();
		}
		guest_check(*ticks == before + 1);
		guest_check(guest_tsc() - start >= 50000000);
	}
	guest_irq_disable();
	if (guest_cpuid(0x40000001, 0).eax & 1 << 3) {
		guest_wrmsr(MSR_KVM_SYSTEM_TIME, (uint64_t)clock | 1);
		/* The page is written at the next entry. */
		guest_check(guest_wait(clock->version && !(clock->version & 1)));
		guest_check(clock->multiplier != 0);
		guest_printf("kvm-clock multiplier %u shift %d flags %u\n", clock->multiplier,
			     clock->shift, clock->flags);
		time = clock->system_time;
		guest_printf("kvm-clock %lu ms\n", time / 1000000);
		guest_wrmsr(MSR_KVM_SYSTEM_TIME, 0);
	}
	return 0;
}

static unsigned rtc_read(uint8_t reg)
{
	guest_out8(PLATFORM_PORT_RTC, reg);
	return guest_in8(PLATFORM_PORT_RTC + 1);
}

static unsigned rtc_number(uint8_t reg, bool binary)
{
	unsigned value = rtc_read(reg);

	return binary ? value : (value >> 4) * 10 + (value & 15);
}

/* Days since 1970-01-01 of a date in the Gregorian calendar. */
static uint64_t days(unsigned year, unsigned month, unsigned day)
{
	static const unsigned before[] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 };
	uint64_t count = 0;

	for (unsigned y = 1970; y < year; y++) {
		count += (y % 4 == 0 && y % 100) || y % 400 == 0 ? 366 : 365;
	}
	if (month > 2 && ((year % 4 == 0 && year % 100) || year % 400 == 0)) {
		count++;
	}
	return count + before[(month - 1) % 12] + day - 1;
}

int test_rtc(void)
{
	unsigned year, month, day, hour, minute, second;
	uint64_t now, expected = guest_option_number("epoch", 0);
	bool binary;

	guest_check(guest_wait(!(rtc_read(0x0a) & 0x80)));
	guest_check(rtc_read(0x0d) & 0x80); /* the battery is good */
	binary = rtc_read(0x0b) & 4;
	guest_check(rtc_read(0x0b) & 2); /* 24 hours */
	second = rtc_number(0, binary);
	minute = rtc_number(2, binary);
	hour = rtc_number(4, binary);
	day = rtc_number(7, binary);
	month = rtc_number(8, binary);
	year = rtc_number(9, binary);
	year += rtc_number(0x32, binary) >= 19 && rtc_number(0x32, binary) < 30
			? rtc_number(0x32, binary) * 100
			: 2000;
	guest_printf("rtc %04u-%02u-%02u %02u:%02u:%02u\n", year, month, day, hour, minute, second);
	guest_check(second < 60 && minute < 60 && hour < 24 && day >= 1 && day <= 31 &&
		    month >= 1 && month <= 12);
	now = days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
	if (expected) {
		guest_check(now + 5 >= expected && now <= expected + 300);
	}
	/* Byte 0x0f is CMOS RAM: it keeps what is written. */
	guest_out8(PLATFORM_PORT_RTC, 0x0f);
	guest_out8(PLATFORM_PORT_RTC + 1, 0x5a);
	guest_check(rtc_read(0x0f) == 0x5a);
	/* Every index is readable. */
	for (unsigned i = 0; i < 128; i++) {
		rtc_read((uint8_t)i);
	}
	return 0;
}

int test_powerbutton(void)
{
	volatile uint32_t *count = &guest_irq_count[GUEST_VECTOR_GSI(PLATFORM_GSI_ACPI)];
	uint32_t events;

	/* Whatever came before the test is none of its business. */
	guest_in32(GUEST_ACPI_EVENT);
	guest_ioapic_route(PLATFORM_GSI_ACPI);
	guest_irq_enable();
	guest_puts("ready\n");
	guest_check(guest_wait(*count != 0));
	events = guest_in32(GUEST_ACPI_EVENT);
	guest_printf("event %x\n", events);
	guest_check(events == 1);
	guest_check(guest_in32(GUEST_ACPI_EVENT) == 0);
	if (guest_failures()) {
		return 0;
	}
	guest_puts("PASS powerbutton\n");
	end_machine("acpi");
	return 0;
}

/* The whole port space: every width at every port reads something, and what nothing claims reads as
 * all ones. */
int test_ports(void)
{
	static const uint16_t empty[] = { 0x80,	 0x170, 0x2e8, 0x3e8,  0x402, 0x5ff,
					  0x60c, 0x700, 0xfff, 0x1000, 0xfffc };
	uint32_t sum = 0;

	for (size_t i = 0; i < GUEST_ARRAY_SIZE(empty); i++) {
		guest_check(guest_in8(empty[i]) == 0xff);
		guest_check(guest_in16(empty[i]) == 0xffff);
		guest_check(guest_in32(empty[i]) == 0xffffffff);
		guest_out8(empty[i], 0xa5);
		guest_out16(empty[i], 0xa5a5);
		guest_out32(empty[i], 0xa5a5a5a5);
	}
	for (uint32_t port = 0; port < 0x1000; port++) {
		sum += guest_in8((uint16_t)port);
		sum += guest_in16((uint16_t)port);
		sum += guest_in32((uint16_t)port);
	}
	/* Wrong widths on each device: must be taken or ignored, and must not end the machine. */
	for (uint16_t port = 0x3f8; port < 0x400; port++) {
		/* Not the transmit register: this output is read by someone. */
		if (port != 0x3f8) {
			guest_out16(port, 0);
			guest_out32(port, 0);
		}
	}
	guest_out8(PLATFORM_PORT_SERIAL + 3, 3);
	for (uint16_t port = 0x70; port < 0x72; port++) {
		guest_out16(port, 0);
		guest_out32(port, 0);
	}
	for (uint16_t port = PLATFORM_PORT_ACPI; port < PLATFORM_PORT_ACPI + 8; port++) {
		guest_out8(port, 0);
		guest_out16(port, 0);
		guest_out32(port, 0);
	}
	for (uint16_t port = PLATFORM_PORT_I8042_DATA; port <= PLATFORM_PORT_I8042_COMMAND;
	     port++) {
		guest_out16(port, 0);
		guest_out32(port, 0);
	}
	/* Every command of the keyboard controller but those that pulse the reset line (0xf0-0xff,
	 * bit 0 clear). */
	for (unsigned command = 0; command < 0x100; command++) {
		if (command < 0xf0 || command & 1) {
			guest_out8(PLATFORM_PORT_I8042_COMMAND, (uint8_t)command);
			guest_in8(PLATFORM_PORT_I8042_COMMAND);
			guest_in8(PLATFORM_PORT_I8042_DATA);
			/* The output port's bit 0 is the reset line too: keep it high. */
			guest_out8(PLATFORM_PORT_I8042_DATA, 0xff);
		}
	}
	guest_printf("ports read, sum %08x\n", sum);
	return 0;
}
