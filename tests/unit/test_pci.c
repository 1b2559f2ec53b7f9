/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI bus: configuration space, the ways to it, BARs, functions that come and go. */
#include "harness/check_main.h"
#include "harness/state_round_trip.h"

#include <linux/pci_regs.h>
#include <sched.h>

#include "vmm/pci.h"
#include "vmm/platform.h"

#define APERTURE GIB(8)
#define BAR_SIZE 0x8000
#define ONES	 0xffffffffU
#define DECODE	 PCI_COMMAND_MEMORY

/* A function whose BAR is memory that knows who was asked. */
struct toy {
	struct pci_function function;
	_Atomic uint32_t reads, writes;
	_Atomic uint64_t offset, value;
	_Atomic unsigned int size;
	gpa_t mapped;
	uint32_t maps, unmaps, resets;
	_Atomic uint32_t last_written; /* register */
	_Atomic bool gone;	       /* nobody may come any more */
	_Atomic bool linger;	       /* accesses stay inside */
	_Atomic uint32_t inside;
};

static struct toy *toy_of(struct pci_function *function)
{
	return container_of(function, struct toy, function);
}

static uint64_t toy_read(struct pci_function *function, uint64_t offset, unsigned int size)
{
	struct toy *toy = toy_of(function);

	VMM_BUG_ON(atomic_load(&toy->gone));
	atomic_fetch_add(&toy->inside, 1);
	while (atomic_load(&toy->linger)) {
		(void)sched_yield();
	}
	toy->offset = offset;
	toy->size = size;
	atomic_fetch_add(&toy->reads, 1);
	atomic_fetch_sub(&toy->inside, 1);
	return 0x1122334455667788;
}

static void toy_write(struct pci_function *function, uint64_t offset, unsigned int size,
		      uint64_t value)
{
	struct toy *toy = toy_of(function);

	VMM_BUG_ON(atomic_load(&toy->gone));
	toy->offset = offset;
	toy->size = size;
	toy->value = value;
	atomic_fetch_add(&toy->writes, 1);
}

static void toy_mapped(struct pci_function *function, gpa_t base)
{
	VMM_BUG_ON(toy_of(function)->mapped != 0);
	toy_of(function)->mapped = base;
	toy_of(function)->maps++;
}

static void toy_unmapped(struct pci_function *function, gpa_t base)
{
	VMM_BUG_ON(toy_of(function)->mapped != base);
	toy_of(function)->mapped = 0;
	toy_of(function)->unmaps++;
}

/* The interrupt line reads as the device's number. */
static uint32_t toy_config_read(struct pci_function *function, uint32_t offset, unsigned int size,
				uint32_t value)
{
	return pci_touches(offset, size, PCI_INTERRUPT_LINE, 1) ? function->config.devfn : value;
}

static void toy_config_written(struct pci_function *function, uint32_t offset, unsigned int size)
{
	(void)size;
	toy_of(function)->last_written = offset;
}

static void toy_reset(struct pci_function *function)
{
	toy_of(function)->resets++;
}

static const struct pci_function_ops toy_ops = {
	.read = toy_read,
	.write = toy_write,
	.mapped = toy_mapped,
	.unmapped = toy_unmapped,
	.config_read = toy_config_read,
	.config_written = toy_config_written,
	.reset = toy_reset,
};

static const struct pci_identity identity = { .vendor = 0x1234,
					      .device = 0x5678,
					      .subsystem_vendor = 0x9abc,
					      .subsystem = 0xdef0,
					      .class_code = 0x018000,
					      .revision = 7 };

static struct pci_bus pci;
static struct bus ports, mmio;
static struct toy toys[3];

static void setup(void)
{
	struct error e = { 0 };

	bus_init(&ports, 0x10000);
	bus_init(&mmio, 0);
	pci_bus_init(&pci, APERTURE, GIB(1));
	check_ok(pci_bus_attach(&pci, &ports, &mmio, &e), &e);
	memset(toys, 0, sizeof(toys));
	for (uint32_t i = 0; i < ARRAY_SIZE(toys); i++) {
		pci_function_init(&toys[i].function, &toy_ops, "toy", &identity, BAR_SIZE);
		check_ok(pci_bus_add(&pci, &toys[i].function, PCI_DEVFN(i + 1, 0), &e), &e);
	}
}

static void teardown(void)
{
	for (uint32_t i = 0; i < ARRAY_SIZE(toys); i++) {
		pci_bus_remove(&pci, &toys[i].function);
		pci_function_finish(&toys[i].function);
	}
	pci_bus_finish(&pci);
}

static gpa_t ecam(uint8_t devfn, uint32_t reg)
{
	return PLATFORM_PCI_ECAM + ((gpa_t)devfn << 12) + reg;
}

static uint64_t access_read(const struct bus *bus, gpa_t address, unsigned int size)
{
	uint64_t value = 0;

	(void)bus_read(bus, address, &value, size);
	return value;
}

static void access_write(const struct bus *bus, gpa_t address, unsigned int size, uint64_t value)
{
	(void)bus_write(bus, address, &value, size);
}

static uint32_t cfg_rd(uint8_t devfn, uint32_t reg, unsigned int size)
{
	return (uint32_t)access_read(&mmio, ecam(devfn, reg), size);
}

static void cfg_wr(uint8_t devfn, uint32_t reg, unsigned int size, uint32_t value)
{
	access_write(&mmio, ecam(devfn, reg), size, value);
}

static uint8_t toy_devfn(uint32_t i)
{
	return PCI_DEVFN(i + 1, 0);
}

static void move_bar(uint32_t i, gpa_t base)
{
	cfg_wr(toy_devfn(i), PCI_BASE_ADDRESS_0, 4, (uint32_t)base);
	cfg_wr(toy_devfn(i), PCI_BASE_ADDRESS_1, 4, (uint32_t)(base >> 32));
}

static void decode(uint32_t i, bool on)
{
	cfg_wr(toy_devfn(i), PCI_COMMAND, 2, on ? DECODE : 0);
}

static gpa_t bar_of(uint32_t i)
{
	return (cfg_rd(toy_devfn(i), PCI_BASE_ADDRESS_0, 4) & ~0xfU) |
	       (gpa_t)cfg_rd(toy_devfn(i), PCI_BASE_ADDRESS_1, 4) << 32;
}

/* Which toy answers there; -1: nobody. */
static int who_answers(gpa_t address)
{
	for (uint32_t i = 0; i < ARRAY_SIZE(toys); i++) {
		atomic_store(&toys[i].reads, 0);
	}
	if (access_read(&mmio, address, 4) == ONES) {
		return -1;
	}
	for (uint32_t i = 0; i < ARRAY_SIZE(toys); i++) {
		if (atomic_load(&toys[i].reads) == 1) {
			return (int)i;
		}
	}
	return -2;
}

START_TEST(test_header)
{
	uint8_t devfn = toy_devfn(0);

	ck_assert_uint_eq(cfg_rd(devfn, PCI_VENDOR_ID, 4), 0x56781234);
	ck_assert_uint_eq(cfg_rd(devfn, PCI_CLASS_REVISION, 4), 0x01800007);
	ck_assert_uint_eq(cfg_rd(devfn, PCI_SUBSYSTEM_VENDOR_ID, 4), 0xdef09abc);
	ck_assert_uint_eq(cfg_rd(devfn, PCI_COMMAND, 4), 0); /* no capability, nothing on */
	ck_assert_uint_eq(cfg_rd(devfn, PCI_CACHE_LINE_SIZE, 4), 0);
	ck_assert_uint_eq(cfg_rd(devfn, PCI_BASE_ADDRESS_0, 4) & 0xf, 4);
	for (uint32_t reg = PCI_BASE_ADDRESS_2; reg < PCI_SUBSYSTEM_VENDOR_ID; reg += 4) {
		ck_assert_uint_eq(cfg_rd(devfn, reg, 4), 0);
	}
	ck_assert_uint_eq(cfg_rd(devfn, PCI_ROM_ADDRESS, 4), 0);
	ck_assert_uint_eq(cfg_rd(devfn, PCI_INTERRUPT_PIN, 1), 0);
	ck_assert_uint_eq(cfg_rd(devfn, PCI_INTERRUPT_LINE, 1), devfn); /* ops->config_read */
}
END_TEST

START_TEST(test_host_bridge)
{
	ck_assert_uint_eq(cfg_rd(0, PCI_VENDOR_ID, 4), 0x00081b36);
	ck_assert_uint_eq(cfg_rd(0, PCI_CLASS_REVISION, 4) >> 8, 0x060000);
	ck_assert_uint_eq(cfg_rd(0, PCI_HEADER_TYPE, 1), 0);
	cfg_wr(0, PCI_BASE_ADDRESS_0, 4, ONES);
	ck_assert_uint_eq(cfg_rd(0, PCI_BASE_ADDRESS_0, 4), 0);
	cfg_wr(0, PCI_COMMAND, 2, 0xffff);
	ck_assert_uint_eq(cfg_rd(0, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY, 0);
}
END_TEST

/* All ones and all zeroes into every register: what is not writable stays. */
START_TEST(test_write_masks)
{
	static const struct {
		uint32_t reg, writable;
	} registers[] = {
		{ PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE },
		{ PCI_CACHE_LINE_SIZE, 0xffff },
		{ PCI_BASE_ADDRESS_0, 0xffff8000 },
		{ PCI_BASE_ADDRESS_1, 0xffffffff },
	};
	uint8_t devfn = toy_devfn(1);

	for (uint32_t reg = 0; reg < PCI_CONFIG_SIZE; reg += 4) {
		uint32_t before = cfg_rd(devfn, reg, 4), writable = 0;

		for (size_t i = 0; i < ARRAY_SIZE(registers); i++) {
			writable |= registers[i].reg == reg ? registers[i].writable : 0;
		}
		cfg_wr(devfn, reg, 4, ONES);
		ck_assert_uint_eq(cfg_rd(devfn, reg, 4), before | writable);
		ck_assert_uint_eq(toys[1].last_written, reg);
		cfg_wr(devfn, reg, 4, 0);
		ck_assert_uint_eq(cfg_rd(devfn, reg, 4), before & ~writable);
	}
	/* Bytes and words reach their part only. */
	cfg_wr(devfn, PCI_CACHE_LINE_SIZE, 1, 0x12);
	cfg_wr(devfn, PCI_LATENCY_TIMER, 1, 0x34);
	ck_assert_uint_eq(cfg_rd(devfn, PCI_CACHE_LINE_SIZE, 2), 0x3412);
	cfg_wr(devfn, PCI_CACHE_LINE_SIZE + 1, 2, 0xff56);
	ck_assert_uint_eq(cfg_rd(devfn, PCI_CACHE_LINE_SIZE, 4), 0x5612);
}
END_TEST

START_TEST(test_capabilities)
{
	static struct pci_function function;
	static const uint8_t a[] = { 1, 2, 3 }, b[] = { 9, 8, 7, 6, 5, 4 };
	struct error e = { 0 };
	uint8_t devfn = PCI_DEVFN(9, 0);
	uint32_t first, second;

	pci_function_init(&function, &toy_ops, "two", &identity, 0);
	first = pci_add_capability(&function, 0x11, a, sizeof(a));
	second = pci_add_capability(&function, 0x09, b, sizeof(b));
	check_ok(pci_bus_add(&pci, &function, devfn, &e), &e);
	ck_assert_uint_eq(cfg_rd(devfn, PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
	ck_assert_uint_eq(cfg_rd(devfn, PCI_CAPABILITY_LIST, 1), first);
	ck_assert_uint_eq(first, 0x40);
	ck_assert_uint_eq(cfg_rd(devfn, first, 4), 0x02010011 | second << 8);
	ck_assert_uint_eq(second % 4, 0);
	ck_assert_uint_eq(second, 0x48);
	ck_assert_uint_eq(cfg_rd(devfn, second, 4), 0x08090009);
	ck_assert_uint_eq(cfg_rd(devfn, second + 4, 4), 0x04050607);
	cfg_wr(devfn, first + 2, 2, 0xffff);
	ck_assert_uint_eq(cfg_rd(devfn, first + 2, 2), 0x0201);
	pci_bus_remove(&pci, &function);
	pci_make_writable(&function, first + 2, 1, 0xf0);
	check_ok(pci_bus_add(&pci, &function, devfn, &e), &e);
	cfg_wr(devfn, first + 2, 2, 0xffff);
	ck_assert_uint_eq(cfg_rd(devfn, first + 2, 2), 0x02f1);
	pci_bus_remove(&pci, &function);
	pci_function_finish(&function);
}
END_TEST

/* T-Q10: every width at every byte of a double word; what is across its end is nobody's. */
START_TEST(test_ecam_widths)
{
	static const unsigned int widths[] = { 1, 2, 4, 8 };
	const uint64_t bytes = 0x0180000756781234; /* class and revision behind the ids */

	for (uint32_t at = 0; at < 4; at++) {
		for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
			unsigned int width = widths[i];
			uint64_t ones = bus_all_ones(width);
			uint64_t expected = at + width <= 4 ? (bytes >> 8 * at) & ones : ones;

			ck_assert_uint_eq(access_read(&mmio, ecam(toy_devfn(0), at), width),
					  expected);
			access_write(&mmio, ecam(toy_devfn(0), PCI_COMMAND + at), width, 0);
		}
	}
	access_write(&mmio, ecam(toy_devfn(0), PCI_COMMAND), 8, UINT64_MAX);
	ck_assert_uint_eq(cfg_rd(toy_devfn(0), PCI_COMMAND, 2), 0);
	/* The 3840 bytes that a conventional function has not, and the end of the window. */
	ck_assert_uint_eq(cfg_rd(toy_devfn(0), 0x100, 4), ONES);
	ck_assert_uint_eq(cfg_rd(toy_devfn(0), 0xffc, 4), ONES);
	cfg_wr(toy_devfn(0), 0x104, 4, ONES);
	ck_assert_uint_eq(cfg_rd(toy_devfn(0), PCI_COMMAND, 2), 0);
	ck_assert_uint_eq(cfg_rd(0xff, 0xffc, 4), ONES);
}
END_TEST

START_TEST(test_absent_functions)
{
	for (uint32_t devfn = 0; devfn < 256; devfn++) {
		bool there = devfn == 0 || (devfn % 8 == 0 && devfn / 8 <= ARRAY_SIZE(toys));

		ck_assert((cfg_rd((uint8_t)devfn, PCI_VENDOR_ID, 4) != ONES) == there);
		if (!there) {
			ck_assert_uint_eq(cfg_rd((uint8_t)devfn, PCI_HEADER_TYPE, 1), 0xff);
			cfg_wr((uint8_t)devfn, PCI_COMMAND, 2, 0xffff);
		}
	}
}
END_TEST

static uint32_t port_rd(uint16_t port, unsigned int size)
{
	return (uint32_t)access_read(&ports, port, size);
}

static void port_wr(uint16_t port, unsigned int size, uint32_t value)
{
	access_write(&ports, port, size, value);
}

START_TEST(test_ports)
{
	static const unsigned int widths[] = { 1, 2, 4 };
	uint32_t toy0 = 0x80000000 | (uint32_t)toy_devfn(0) << 8;

	/* Linux' test for the ports. */
	port_wr(0xcfb, 1, 1);
	port_wr(0xcf8, 4, 0x80000000);
	ck_assert_uint_eq(port_rd(0xcf8, 4), 0x80000000);
	ck_assert_uint_eq(port_rd(0xcfc, 4), 0x00081b36);
	/* Reserved bits are 0. */
	port_wr(0xcf8, 4, ONES);
	ck_assert_uint_eq(port_rd(0xcf8, 4), 0x80fffffc);
	/* The address takes double words only. */
	port_wr(0xcf8, 4, toy0);
	for (uint16_t at = 0; at < 4; at++) {
		port_wr(0xcf8 + at, 1, 0xee);
		ck_assert_uint_eq(port_rd(0xcf8 + at, 1), 0xff);
	}
	port_wr(0xcf8, 2, 0xeeee);
	ck_assert_uint_eq(port_rd(0xcfa, 2), 0xffff);
	ck_assert_uint_eq(port_rd(0xcf8, 4), toy0);
	/* Byte enables. */
	for (uint16_t at = 0; at < 4; at++) {
		for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
			uint64_t ones = bus_all_ones(widths[i]);

			ck_assert_uint_eq(port_rd(0xcfc + at, widths[i]),
					  at + widths[i] <= 4 ? (0x56781234 >> 8 * at) & ones
							      : ones);
		}
	}
	port_wr(0xcf8, 4, toy0 | PCI_CACHE_LINE_SIZE);
	port_wr(0xcfd, 1, 0x77);
	ck_assert_uint_eq(cfg_rd(toy_devfn(0), PCI_LATENCY_TIMER, 1), 0x77);
	port_wr(0xcfd, 2, 0xff78); /* the header type is not writable */
	ck_assert_uint_eq(port_rd(0xcfc, 4), 0x7800);
	/* Not enabled; another bus; nobody. */
	port_wr(0xcf8, 4, toy0 & ~0x80000000);
	ck_assert_uint_eq(port_rd(0xcfc, 4), ONES);
	port_wr(0xcfc, 4, 0);
	port_wr(0xcf8, 4, toy0 | 0x10000);
	ck_assert_uint_eq(port_rd(0xcfc, 4), ONES);
	port_wr(0xcf8, 4, 0x8000f800);
	ck_assert_uint_eq(port_rd(0xcfc, 4), ONES);
	port_wr(0xcfc, 4, 0);
	ck_assert_uint_eq(cfg_rd(toy_devfn(0), PCI_LATENCY_TIMER, 1), 0x78);
}
END_TEST

/* We play firmware: each BAR has a place of its own, above RAM, that is not decoded yet. */
START_TEST(test_first_places)
{
	for (uint32_t i = 0; i < ARRAY_SIZE(toys); i++) {
		ck_assert_uint_eq(bar_of(i), APERTURE + toy_devfn(i) * PCI_BAR_SIZE_MAX);
		ck_assert_int_eq(who_answers(bar_of(i)), -1);
		ck_assert_uint_eq(toys[i].maps, 0);
		decode(i, true);
		ck_assert_int_eq(who_answers(bar_of(i)), (int)i);
		ck_assert_uint_eq(toys[i].mapped, bar_of(i));
	}
	decode(1, false);
	ck_assert_int_eq(who_answers(bar_of(1)), -1);
	ck_assert_uint_eq(toys[1].mapped, 0);
	ck_assert_int_eq(who_answers(bar_of(2)), 2);
}
END_TEST

START_TEST(test_bar_accesses)
{
	static const unsigned int widths[] = { 1, 2, 4, 8 };

	decode(0, true);
	for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
		unsigned int width = widths[i];
		uint64_t ones = bus_all_ones(width);
		gpa_t last = bar_of(0) + BAR_SIZE - width;

		ck_assert_uint_eq(access_read(&mmio, last, width), 0x1122334455667788 & ones);
		ck_assert_uint_eq(toys[0].offset, BAR_SIZE - width);
		ck_assert_uint_eq(toys[0].size, width);
		access_write(&mmio, last, width, 0xa5a5a5a5a5a5a5a5);
		ck_assert_uint_eq(toys[0].value & ones, 0xa5a5a5a5a5a5a5a5 & ones);
		/* Beyond the end, across it, before the start. */
		ck_assert_uint_eq(access_read(&mmio, bar_of(0) + BAR_SIZE, width), ones);
		ck_assert_uint_eq(access_read(&mmio, bar_of(0) - width, width), ones);
		if (width > 1) {
			ck_assert_uint_eq(access_read(&mmio, last + 1, width), ones);
			ck_assert_uint_eq(access_read(&mmio, bar_of(0) - 1, width), ones);
		}
		ck_assert_uint_eq(atomic_load(&toys[0].writes), i + 1);
	}
	/* The whole window is ours, and its ends. */
	ck_assert_uint_eq(access_read(&mmio, APERTURE, 8), UINT64_MAX);
	ck_assert_uint_eq(access_read(&mmio, APERTURE + GIB(1) - 8, 8), UINT64_MAX);
	access_write(&mmio, APERTURE + GIB(1) - 8, 8, 0);
}
END_TEST

START_TEST(test_sizing)
{
	gpa_t before = bar_of(0);

	decode(0, true);
	cfg_wr(toy_devfn(0), PCI_BASE_ADDRESS_0, 4, ONES);
	cfg_wr(toy_devfn(0), PCI_BASE_ADDRESS_1, 4, ONES);
	ck_assert_uint_eq(cfg_rd(toy_devfn(0), PCI_BASE_ADDRESS_0, 4), 0xffff8004);
	ck_assert_uint_eq(cfg_rd(toy_devfn(0), PCI_BASE_ADDRESS_1, 4), ONES);
	ck_assert_int_eq(who_answers(before), -1);
	move_bar(0, before);
	ck_assert_int_eq(who_answers(before), 0);
}
END_TEST

static const struct {
	gpa_t base;
	bool answers;
} places[] = {
	{ APERTURE, true },
	{ APERTURE + GIB(1) - BAR_SIZE, true },
	{ APERTURE + GIB(1), false },
	{ APERTURE - BAR_SIZE, false },
	{ 0, false },
	{ 0x8000, false },		  /* RAM */
	{ PLATFORM_PCI_ECAM, false },	  /* another window of the MMIO bus */
	{ 0xfee00000, false },		  /* local APIC */
	{ 0xffffffffffff8000ULL, false }, /* the end of the address space */
	{ 1ULL << 63, false },
};

/* T-Q12 */
START_TEST(test_moves)
{
	gpa_t first = bar_of(1);

	decode(1, true);
	move_bar(1, places[_i].base);
	ck_assert_uint_eq(bar_of(1), places[_i].base);
	ck_assert_int_eq(who_answers(first), -1);
	ck_assert_uint_eq(toys[1].mapped, places[_i].answers ? places[_i].base : 0);
	if (places[_i].answers) {
		ck_assert_int_eq(who_answers(places[_i].base), 1);
	}
	move_bar(1, first);
	ck_assert_int_eq(who_answers(first), 1);
}
END_TEST

/* The low bits of a BAR are not writable, so that it is always aligned. */
START_TEST(test_misaligned_bar)
{
	decode(0, true);
	move_bar(0, APERTURE + 0x7fff);
	ck_assert_uint_eq(bar_of(0), APERTURE);
	ck_assert_int_eq(who_answers(APERTURE), 0);
}
END_TEST

/* Two at one place: the lower number has it, and the other one when it is free again. */
START_TEST(test_overlaps)
{
	gpa_t place = bar_of(0);

	for (uint32_t i = 0; i < ARRAY_SIZE(toys); i++) {
		decode(i, true);
		move_bar(i, place);
	}
	ck_assert_int_eq(who_answers(place), 0);
	ck_assert_uint_eq(toys[1].mapped | toys[2].mapped, 0);
	decode(0, false);
	ck_assert_int_eq(who_answers(place), 1);
	move_bar(1, place + 0x100000);
	ck_assert_int_eq(who_answers(place), 2);
	ck_assert_int_eq(who_answers(place + 0x100000), 1);
	decode(0, true);
	ck_assert_int_eq(who_answers(place), 0);
	ck_assert_uint_eq(toys[2].mapped, 0);
	pci_bus_remove(&pci, &toys[0].function);
	ck_assert_int_eq(who_answers(place), 2);
	for (uint32_t i = 0; i < ARRAY_SIZE(toys); i++) {
		ck_assert_uint_eq(toys[i].maps, toys[i].unmaps + (toys[i].mapped != 0));
	}
}
END_TEST

START_TEST(test_add_and_remove)
{
	struct error e = { 0 };

	ck_assert_int_lt(pci_bus_add(&pci, &toys[0].function, toy_devfn(1), &e), 0);
	check_error(&e, ERROR_INTERNAL, "02.0");
	decode(1, true);
	pci_bus_remove(&pci, &toys[1].function);
	ck_assert_uint_eq(toys[1].mapped, 0);
	ck_assert_uint_eq(cfg_rd(toy_devfn(1), PCI_VENDOR_ID, 4), ONES);
	ck_assert_uint_eq(cfg_rd(toy_devfn(2), PCI_VENDOR_ID, 2), 0x1234);
	pci_bus_remove(&pci, &toys[1].function); /* nothing */
	check_ok(pci_bus_add(&pci, &toys[1].function, PCI_DEVFN(31, 0), &e), &e);
	ck_assert_uint_eq(cfg_rd(PCI_DEVFN(31, 0), PCI_VENDOR_ID, 2), 0x1234);
	/* It was decoding when it was taken out, and still is. */
	ck_assert_uint_eq(toys[1].mapped, APERTURE + PCI_DEVFN(31, 0) * PCI_BAR_SIZE_MAX);
	/* By its number, as an eject does it; where nobody is nothing happens. */
	ck_assert_uint_eq(pci_bus_count(&pci, 31), 1);
	ck_assert_uint_eq(pci_bus_count(&pci, 30), 0);
	pci_bus_remove_device(&pci, 30);
	pci_bus_remove_device(&pci, 31);
	ck_assert_uint_eq(pci_bus_count(&pci, 31), 0);
	ck_assert_uint_eq(toys[1].mapped, 0);
	ck_assert_uint_eq(cfg_rd(PCI_DEVFN(31, 0), PCI_VENDOR_ID, 4), ONES);
	pci_bus_remove_device(&pci, 31);
	pci_bus_remove(&pci, &toys[1].function); /* nothing */
}
END_TEST

START_TEST(test_multifunction)
{
	struct error e = { 0 };

	pci_bus_remove(&pci, &toys[2].function);
	ck_assert_int_lt(pci_bus_add(&pci, &toys[2].function, PCI_DEVFN(5, 1), &e), 0);
	check_error(&e, ERROR_INTERNAL, "no function 0");
	ck_assert_uint_eq(cfg_rd(toy_devfn(0), PCI_HEADER_TYPE, 1), 0);
	check_ok(pci_bus_add(&pci, &toys[2].function, PCI_DEVFN(1, 7), &e), &e);
	ck_assert_uint_eq(cfg_rd(toy_devfn(0), PCI_HEADER_TYPE, 1), 0x80);
	ck_assert_uint_eq(cfg_rd(PCI_DEVFN(1, 7), PCI_VENDOR_ID, 2), 0x1234);
	ck_assert_uint_eq(cfg_rd(PCI_DEVFN(1, 6), PCI_VENDOR_ID, 2), 0xffff);
	pci_function_reset(&toys[0].function);
	ck_assert_uint_eq(cfg_rd(toy_devfn(0), PCI_HEADER_TYPE, 1), 0x80);
}
END_TEST

START_TEST(test_reset)
{
	gpa_t first = bar_of(0);

	port_wr(0xcf8, 4, 0x80001234);
	move_bar(0, APERTURE);
	cfg_wr(toy_devfn(0), PCI_COMMAND, 2, 0xffff);
	cfg_wr(toy_devfn(0), PCI_CACHE_LINE_SIZE, 1, 16);
	pci_bus_reset(&pci);
	pci_function_reset(&toys[0].function);
	ck_assert_uint_eq(bar_of(0), first);
	ck_assert_uint_eq(cfg_rd(toy_devfn(0), PCI_COMMAND, 2), 0);
	ck_assert_uint_eq(cfg_rd(toy_devfn(0), PCI_CACHE_LINE_SIZE, 1), 0);
	ck_assert_uint_eq(port_rd(0xcf8, 4), 0);
	ck_assert_uint_eq(toys[0].resets, 1);
	ck_assert_uint_eq(toys[0].mapped, 0);
	ck_assert_int_eq(who_answers(APERTURE), -1);
}
END_TEST

START_TEST(test_state)
{
	static struct pci_config fresh;
	static struct pci_bus other;
	struct pci_config *config = &toys[0].function.config;
	struct state_buf saved = { 0 };
	struct error e = { 0 };

	pci_bus_init(&other, APERTURE, GIB(1));
	port_wr(0xcf8, 4, 0x80001230);
	cfg_wr(0, PCI_CACHE_LINE_SIZE, 1, 0x21);
	check_state_round_trip(&pci_bus_state, &pci, &other);
	check_state_round_trip(&pci_config_state, &pci.bridge.config, &other.bridge.config);
	ck_assert_uint_eq(other.bridge.config.bytes[PCI_CACHE_LINE_SIZE], 0x21);
	ck_assert_uint_eq(atomic_load(&other.registers.config_address), 0x80001230);
	check_state_refused(&pci_bus_state, &pci, registers.config_address, 1, "address 0x1");
	check_state_refused(&pci_bus_state, &pci, registers.config_address, 0xff000000, "address");
	pci_bus_finish(&other);

	fresh = *config;
	decode(0, true);
	move_bar(0, APERTURE);
	check_state_round_trip(&pci_config_state, config, &fresh);
	check_state_refused(&pci_config_state, config, bytes[PCI_VENDOR_ID], 0, "register 0x00");
	check_state_refused(&pci_config_state, config, bytes[PCI_BASE_ADDRESS_0], 0, "0x10");
	check_state_refused(&pci_config_state, config, bytes[PCI_COMMAND], 0xff, "0x04");
	check_state_refused(&pci_config_state, config, bytes[0xff], 1, "0xff");
	/* Loaded into a function on the bus: the BAR goes where it says. */
	check_state_refused(&pci_config_state, config, devfn, 0xf9, "function 1f.1, and");
	fresh = *config;
	fresh.devfn = toys[1].function.config.devfn;
	check_ok(state_save(&pci_config_state, &fresh, &saved, &e), &e);
	check_ok(state_load(&pci_config_state, &toys[1].function.config, saved.data, saved.len, 1,
			    &e),
		 &e);
	state_buf_finish(&saved);
	decode(0, false);
	pci_function_loaded(&toys[1].function);
	ck_assert_int_eq(who_answers(APERTURE), 1);
}
END_TEST

/* T-Q14: vCPUs hammer a function's BAR and configuration space, another function is moved over it,
 * while it is taken out and put back. Nobody reaches it in between. */
static _Atomic bool hammer_ends;

static void *hammer(void *arg)
{
	uint32_t random = *(const uint32_t *)arg;

	while (!atomic_load(&hammer_ends)) {
		random = random * 1664525 + 1013904223;
		switch (random >> 29) {
		case 0:
		case 1:
		case 2:
			(void)access_read(&mmio, APERTURE + toy_devfn(0) * PCI_BAR_SIZE_MAX, 4);
			break;
		case 3:
			access_write(&mmio, APERTURE + toy_devfn(0) * PCI_BAR_SIZE_MAX, 4, 0);
			break;
		case 4:
			cfg_wr(toy_devfn(0), PCI_COMMAND, 2, DECODE);
			break;
		case 5:
			move_bar(1, APERTURE + toy_devfn(random % 2) * PCI_BAR_SIZE_MAX);
			break;
		default:
			cfg_wr(toy_devfn(1), PCI_COMMAND, 2, DECODE);
			break;
		}
	}
	return NULL;
}

START_TEST(test_remove_under_load)
{
	uint32_t seeds[] = { 1, 77 };
	pthread_t threads[ARRAY_SIZE(seeds)];
	struct error e = { 0 };

	atomic_store(&hammer_ends, false);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, &seeds[i]), 0);
	}
	for (uint32_t round = 0; round < 10000; round++) {
		pci_bus_remove(&pci, &toys[0].function);
		atomic_store(&toys[0].gone, true);
		ck_assert_uint_eq(toys[0].function.users, 0);
		ck_assert_uint_eq(toys[0].mapped, 0);
		(void)sched_yield();
		atomic_store(&toys[0].gone, false);
		check_ok(pci_bus_add(&pci, &toys[0].function, toy_devfn(0), &e), &e);
	}
	atomic_store(&hammer_ends, true);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	}
}
END_TEST

static void *read_slowly(void *arg)
{
	(void)arg;
	(void)access_read(&mmio, bar_of(0), 4);
	return NULL;
}

static void *let_go(void *arg)
{
	(void)arg;
	/* The remover has unmapped it, and waits. */
	while (cfg_rd(toy_devfn(0), PCI_VENDOR_ID, 4) != ONES) {
		(void)sched_yield();
	}
	VMM_BUG_ON(atomic_load(&toys[0].inside) != 1);
	atomic_store(&toys[0].linger, false);
	return NULL;
}

START_TEST(test_remove_waits_for_accesses)
{
	pthread_t reader, helper;

	decode(0, true);
	atomic_store(&toys[0].linger, true);
	ck_assert_int_eq(pthread_create(&reader, NULL, read_slowly, NULL), 0);
	while (atomic_load(&toys[0].inside) == 0) {
		(void)sched_yield();
	}
	/* Others are not held up by it: configuration space, and other BARs. */
	decode(1, true);
	ck_assert_int_eq(who_answers(bar_of(1)), 1);
	cfg_wr(toy_devfn(0), PCI_CACHE_LINE_SIZE, 1, 1);
	ck_assert_int_eq(pthread_create(&helper, NULL, let_go, NULL), 0);
	pci_bus_remove(&pci, &toys[0].function);
	ck_assert_uint_eq(atomic_load(&toys[0].inside), 0);
	ck_assert_int_eq(pthread_join(reader, NULL), 0);
	ck_assert_int_eq(pthread_join(helper, NULL), 0);
}
END_TEST

START_TEST(test_aperture)
{
	static const struct {
		uint64_t ram, aperture;
	} rows[] = {
		{ MIB(128), GIB(4) },
		{ PLATFORM_RAM_LOW_END, GIB(4) },
		{ PLATFORM_RAM_LOW_END + 4096, GIB(5) },
		{ GIB(4), GIB(5) },
		{ GIB(64), GIB(65) },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		ck_assert_uint_eq(platform_pci_aperture(rows[i].ram), rows[i].aperture);
	}
	ck_assert_uint_ge(PLATFORM_PCI_APERTURE_SIZE, PCI_BAR_SPACE);
	ck_assert_uint_ge(PLATFORM_PCI_ECAM_SIZE, 256 << 12);
}
END_TEST

CHECK_MAIN("pci", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_header);
	   CHECK_TEST(test_host_bridge); CHECK_TEST(test_write_masks);
	   CHECK_TEST(test_capabilities); CHECK_TEST(test_ecam_widths);
	   CHECK_TEST(test_absent_functions); CHECK_TEST(test_ports); CHECK_TEST(test_first_places);
	   CHECK_TEST(test_bar_accesses); CHECK_TEST(test_sizing); CHECK_TABLE(test_moves, places);
	   CHECK_TEST(test_misaligned_bar); CHECK_TEST(test_overlaps);
	   CHECK_TEST(test_add_and_remove); CHECK_TEST(test_multifunction); CHECK_TEST(test_reset);
	   CHECK_TEST(test_state); CHECK_TEST(test_remove_under_load);
	   CHECK_TEST(test_remove_waits_for_accesses); CHECK_TEST(test_aperture))
