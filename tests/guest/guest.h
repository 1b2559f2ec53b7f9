/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runtime of the bare-metal test guests. A test is a function that runs on the boot CPU at CPL 3,
 * with every port open to it (TSS bitmap) and all of the address space mapped one to one, writable.
 * It returns 0, or leaves through guest_exit().
 *
 * Interrupts and exceptions run at CPL 0 on a trap stack. An interrupt's handler does no more than
 * count and acknowledge: look at guest_irq_count[] from the test. Instructions that CPL 3 may not
 * use go through guest_ring0().
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vmm/platform.h>

#define GUEST_CPUS_MAX	    PLATFORM_VCPUS_MAX
#define GUEST_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Values given to the debug exit port. */
enum guest_status {
	GUEST_PASS = 0,
	GUEST_FAIL = 1,
	GUEST_USAGE = 3,
	GUEST_SKIP = 77,
	GUEST_EXCEPTION = 99,
};

/* Registers of port 0x600 (the machine's ACPI power block). */
#define GUEST_ACPI_SLEEP_CONTROL (PLATFORM_PORT_ACPI + 0)
#define GUEST_ACPI_SLEEP_STATUS	 (PLATFORM_PORT_ACPI + 1)
#define GUEST_ACPI_RESET	 (PLATFORM_PORT_ACPI + 2)
#define GUEST_ACPI_EVENT	 (PLATFORM_PORT_ACPI + 4)
#define GUEST_ACPI_SLEEP_S5	 0x34

static inline void guest_out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void guest_out16(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void guest_out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t guest_in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint16_t guest_in16(uint16_t port)
{
	uint16_t value;

	__asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint32_t guest_in32(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

/* Device memory, by one plain instruction each: a compiler may otherwise pick one that no emulator
 * knows. */
static inline uint8_t guest_read8(uint64_t address)
{
	uint8_t value;

	__asm__ volatile("movb (%1), %0" : "=q"(value) : "r"(address) : "memory");
	return value;
}

static inline uint16_t guest_read16(uint64_t address)
{
	uint16_t value;

	__asm__ volatile("movw (%1), %0" : "=r"(value) : "r"(address) : "memory");
	return value;
}

static inline uint32_t guest_read32(uint64_t address)
{
	uint32_t value;

	__asm__ volatile("movl (%1), %0" : "=r"(value) : "r"(address) : "memory");
	return value;
}

static inline uint64_t guest_read64(uint64_t address)
{
	uint64_t value;

	__asm__ volatile("movq (%1), %0" : "=r"(value) : "r"(address) : "memory");
	return value;
}

static inline void guest_write8(uint64_t address, uint8_t value)
{
	__asm__ volatile("movb %0, (%1)" : : "q"(value), "r"(address) : "memory");
}

static inline void guest_write16(uint64_t address, uint16_t value)
{
	__asm__ volatile("movw %0, (%1)" : : "r"(value), "r"(address) : "memory");
}

static inline void guest_write32(uint64_t address, uint32_t value)
{
	__asm__ volatile("movl %0, (%1)" : : "r"(value), "r"(address) : "memory");
}

static inline void guest_write64(uint64_t address, uint64_t value)
{
	__asm__ volatile("movq %0, (%1)" : : "r"(value), "r"(address) : "memory");
}

static inline void guest_pause(void)
{
	__asm__ volatile("pause" : : : "memory");
}

static inline uint64_t guest_tsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

/* runtime.c */
void *memset(void *to, int byte, size_t size);
void *memcpy(void *to, const void *from, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t guest_strlen(const char *s);
bool guest_equal(const char *a, const char *b);

void guest_putc(char c);
void guest_puts(const char *s);
/* %s %c %d %u %x, with l for 64 bits; %02x pads with zeros. */
void guest_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

_Noreturn void guest_exit(enum guest_status status);
_Noreturn void guest_skip(const char *why);
_Noreturn void guest_fatal(const char *file, int line, const char *what);
void guest_failed(const char *file, int line, const char *what);
unsigned guest_failures(void);

/* Note a failure and go on; or stop the guest. */
#define guest_check(condition)                                        \
	do {                                                          \
		if (!(condition)) {                                   \
			guest_failed(__FILE__, __LINE__, #condition); \
		}                                                     \
	} while (0)
#define guest_require(condition)                                     \
	do {                                                         \
		if (!(condition)) {                                  \
			guest_fatal(__FILE__, __LINE__, #condition); \
		}                                                    \
	} while (0)

/* The value of KEY=VALUE on the command line, copied into a static buffer; NULL when absent. */
const char *guest_option(const char *key);
uint64_t guest_option_number(const char *key, uint64_t fallback);

/* Cycles that a wait may take: about 40 seconds, in which a host with other work gets to it. */
#define GUEST_PATIENCE 120000000000ULL

/* What counts at most of the time between two looks: of a guest that was paused, or saved, its other CPUs did nothing either. */
#define GUEST_LOOK 30000000ULL

/* Wait for a condition on memory or registers; false after GUEST_PATIENCE. */
#define guest_wait(condition)                                               \
	({                                                                  \
		uint64_t last_ = guest_tsc(), waited_ = 0;                  \
		bool met_;                                                  \
		while (!(met_ = (condition)) && waited_ < GUEST_PATIENCE) { \
			uint64_t now_ = guest_tsc(), look_ = now_ - last_;  \
			waited_ += look_ < GUEST_LOOK ? look_ : GUEST_LOOK; \
			last_ = now_;                                       \
			guest_pause();                                      \
		}                                                           \
		met_;                                                       \
	})

/* Zeroed memory that is never given back. */
void *guest_alloc(size_t size, size_t align);

/* boot.c: what the loader handed over. */
enum guest_memory_type { GUEST_RAM = 1 };

struct guest_memory {
	uint64_t start, size;
	uint32_t type;
};

unsigned guest_memory_map(struct guest_memory *map, unsigned max);
const char *guest_command_line(void);
uint64_t guest_rsdp(void);
bool guest_initrd(uint64_t *start, uint64_t *size);
bool guest_booted_by_pvh(void);
void guest_map_high_memory(void);
/* The GiB around an address below 512 GiB, one to one. */
void guest_map(uint64_t address);

/* trap.c */
typedef uint64_t guest_ring0_fn(uint64_t argument);

uint64_t guest_ring0(guest_ring0_fn *fn, uint64_t argument);
uint64_t guest_rdmsr(uint32_t msr);
void guest_wrmsr(uint32_t msr, uint64_t value);

struct guest_cpuid {
	uint32_t eax, ebx, ecx, edx;
};

/* What vmm gave this CPU, wherever it runs: at CPL 3 a software KVM may leave CPUID to the host's
 * processor, which answers for itself; at CPL 0 every KVM answers. */
struct guest_cpuid guest_cpuid(uint32_t leaf, uint32_t subleaf);

void guest_irq_enable(void);
void guest_irq_disable(void);
/* Sleep until the next interrupt, with interrupts enabled while asleep only. */
void guest_halt(void);
/* Sleep for ever, with interrupts disabled. */
_Noreturn void guest_sleep(void);
void guest_trap_init(void);

extern volatile uint32_t guest_irq_count[256];

/* apic.c */
#define GUEST_VECTOR_GSI(gsi) (0x40 + (gsi))
#define GUEST_VECTOR_TIMER    0x60
#define GUEST_VECTOR_IPI      0x61
#define GUEST_VECTOR_SPURIOUS 0xff

#define GUEST_LAPIC_ID		  0x20
#define GUEST_LAPIC_EOI		  0xb0
#define GUEST_LAPIC_SPURIOUS	  0xf0
#define GUEST_LAPIC_ICR		  0x300
#define GUEST_LAPIC_ICR_HIGH	  0x310
#define GUEST_LAPIC_TIMER	  0x320
#define GUEST_LAPIC_TIMER_INITIAL 0x380
#define GUEST_LAPIC_TIMER_CURRENT 0x390
#define GUEST_LAPIC_TIMER_DIVIDE  0x3e0

uint32_t guest_lapic_read(unsigned reg);
void guest_lapic_write(unsigned reg, uint32_t value);
void guest_lapic_enable(void);
unsigned guest_apic_id(void);
/* Deliver a GSI, edge triggered and active high, to this CPU at GUEST_VECTOR_GSI(gsi). */
void guest_ioapic_route(unsigned gsi);
void guest_ioapic_mask(unsigned gsi);

/* smp.c */
typedef void guest_cpu_fn(unsigned cpu);

/* Start every other CPU in the MADT: each calls fn once at CPL 3 and then sleeps for ever. Returns
 * how many came. */
unsigned guest_smp_run(guest_cpu_fn *fn);
/* CPUs whose function has returned. */
unsigned guest_smp_finished(void);

/* acpi.c */
struct guest_acpi_header {
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem_id[6], oem_table_id[8];
	uint32_t oem_revision, creator_id, creator_revision;
} __attribute__((packed));

/* A table by its signature; DSDT is found through the FADT. NULL when absent. */
const struct guest_acpi_header *guest_acpi_table(const char *signature);
bool guest_acpi_checksum(const void *table, size_t size);
/* APIC ids of the enabled CPUs in the MADT. */
unsigned guest_acpi_cpus(uint8_t *ids, unsigned max);

/* The tests. */
typedef int guest_test(void);
guest_test test_acpi, test_block, test_block_load, test_boot, test_console, test_cpuid, test_exit,
	test_hostile, test_hotplug, test_memory, test_net, test_pit, test_ports, test_powerbutton,
	test_reboot, test_rng, test_rtc, test_serial, test_smp, test_timer, test_work, test_fill;

#endif
