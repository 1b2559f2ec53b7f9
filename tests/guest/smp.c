/* SPDX-License-Identifier: Apache-2.0 */
/* Starting the other CPUs: INIT and start-up IPI to every APIC id of the MADT (Intel SDM volume
 * 3, 9.4). */
#include "guest.h"

#define TRAMPOLINE   0x80000UL
#define TSS_SELECTOR 0x40
#define TSS_SIZE     104
#define ICR_INIT     0x4500
#define ICR_STARTUP  0x4600
#define ICR_FIXED    0x4000
#define ICR_PENDING  (1U << 12)
#define INIT_CYCLES  20000000ULL

extern const uint8_t guest_trampoline[], guest_trampoline_end[];
extern uint8_t guest_gdt[], guest_tss[];
extern volatile uint32_t guest_cpu_next;

_Noreturn void guest_cpu_main(unsigned cpu);

static guest_cpu_fn *cpu_fn;
static volatile uint32_t cpus_started, cpus_finished;

static void tss_descriptor(unsigned cpu)
{
	uint8_t *entry = guest_gdt + TSS_SELECTOR + 16UL * cpu;
	uint64_t base = (uint64_t)guest_tss + (uint64_t)cpu * TSS_SIZE;

	entry[2] = (uint8_t)base;
	entry[3] = (uint8_t)(base >> 8);
	entry[4] = (uint8_t)(base >> 16);
	entry[5] = 0x89; /* not busy */
	entry[7] = (uint8_t)(base >> 24);
}

void guest_cpu_main(unsigned cpu)
{
	__atomic_fetch_add(&cpus_started, 1, __ATOMIC_SEQ_CST);
	cpu_fn(cpu);
	__atomic_fetch_add(&cpus_finished, 1, __ATOMIC_SEQ_CST);
	guest_sleep();
}

static void send_ipi(uint8_t apic_id, uint32_t command)
{
	guest_lapic_write(GUEST_LAPIC_ICR_HIGH, (uint32_t)apic_id << 24);
	guest_lapic_write(GUEST_LAPIC_ICR, command);
	guest_require(guest_wait(!(guest_lapic_read(GUEST_LAPIC_ICR) & ICR_PENDING)));
}

static void delay(uint64_t cycles)
{
	uint64_t start = guest_tsc();

	while (guest_tsc() - start < cycles) {
		guest_pause();
	}
}

unsigned guest_smp_run(guest_cpu_fn *fn)
{
	uint8_t ids[GUEST_CPUS_MAX];
	unsigned count = guest_acpi_cpus(ids, GUEST_ARRAY_SIZE(ids)), self = guest_apic_id();

	guest_require(count <= GUEST_CPUS_MAX);
	memcpy((void *)TRAMPOLINE, guest_trampoline,
	       (size_t)(guest_trampoline_end - guest_trampoline));
	cpu_fn = fn;
	cpus_started = 0;
	cpus_finished = 0;
	guest_cpu_next = 1;
	for (unsigned i = 1; i < GUEST_CPUS_MAX; i++) {
		tss_descriptor(i);
	}
	guest_lapic_enable();
	for (unsigned i = 0; i < count; i++) {
		if (ids[i] != self) {
			send_ipi(ids[i], ICR_INIT);
		}
	}
	delay(INIT_CYCLES);
	for (unsigned i = 0; i < count; i++) {
		if (ids[i] != self) {
			send_ipi(ids[i], ICR_STARTUP | TRAMPOLINE >> 12);
		}
	}
	guest_wait(cpus_started + 1 >= count);
	return cpus_started;
}

unsigned guest_smp_finished(void)
{
	return cpus_finished;
}

static volatile uint8_t seen[256];
static volatile uint8_t ipi_done[GUEST_CPUS_MAX];

static void report(unsigned cpu)
{
	struct guest_cpuid r = guest_cpuid(1, 0);
	unsigned id = guest_apic_id();

	seen[id]++;
	if (r.ebx >> 24 != id) {
		seen[id] = 100;
	}
	/* An interrupt must reach a CPU that is running, and one at rest. */
	guest_lapic_enable();
	ipi_done[cpu] = 1;
}

int test_smp(void)
{
	uint8_t ids[GUEST_CPUS_MAX];
	unsigned count = guest_acpi_cpus(ids, GUEST_ARRAY_SIZE(ids)), started;

	guest_printf("cpus %u\n", count);
	guest_check(count == guest_option_number("cpus", count));
	guest_require(count >= 1 && count <= GUEST_CPUS_MAX);
	started = guest_smp_run(report);
	guest_check(started == count - 1);
	guest_check(guest_wait(guest_smp_finished() == started));
	seen[guest_apic_id()]++;
	for (unsigned i = 0; i < count; i++) {
		guest_printf("apic %u answered %u\n", ids[i], seen[ids[i]]);
		guest_check(seen[ids[i]] == 1);
	}
	/* An IPI to itself. */
	guest_irq_enable();
	guest_lapic_write(GUEST_LAPIC_ICR_HIGH, guest_apic_id() << 24);
	guest_lapic_write(GUEST_LAPIC_ICR, ICR_FIXED | GUEST_VECTOR_IPI);
	guest_check(guest_wait(guest_irq_count[GUEST_VECTOR_IPI] == 1));
	guest_irq_disable();
	return 0;
}
