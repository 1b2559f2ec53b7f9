/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest with much in its memory, which it goes on writing: for measurements of snapshots.
 *
 *	mib=N		fills so many MiB with what does not compress (default 0), and says "filled"
 *	rate=N		then writes a word into each page of them, one after the other, N MiB of pages a second (default 0: none)
 *	strict=1	of which it makes up for none that it had no time for
 *	khz=N		of the TSC, for that (default 2600000)
 *	again=N		or reads a word of every 2 MiB of the last N MiB of them, from the highest down, and says "touched", again and again
 *	say=1		and says '.' all the time
 *	rest=1		does nothing else: its processor halts
 *	slow=N		says "slow N us" of a write that has taken N microseconds or more: it waited
 *	gap=N		says "gap N us" when N microseconds or more have passed between two looks at its clock: it stood still
 */
#include "guest.h"

#define PAGE  4096UL
#define CHUNK (2UL << 20)
#define START (32UL << 20) /* above all that the guest has; the machine has `mib` more */

static void fill(uint64_t *words, size_t count)
{
	uint64_t random = 88172645463325252ULL;

	for (size_t i = 0; i < count; i++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		words[i] = random;
	}
}

static void __attribute__((noreturn))
touch_again(const volatile uint64_t *words, size_t bytes, size_t last)
{
	while (true) {
		for (size_t at = CHUNK; at <= last; at += CHUNK) {
			(void)words[(bytes - at) / sizeof(*words)];
		}
		guest_puts("touched\n");
	}
}

/* The time of a look at the clock. Writing takes some, too. */
static uint64_t look_at_clock(uint64_t last, uint64_t least_us, uint64_t khz)
{
	uint64_t us = (guest_tsc() - last) * 1000 / khz;

	if (us >= least_us) {
		guest_printf("gap %lu us\n", us);
	}
	return guest_tsc();
}

static void write_word(uint64_t *word, uint64_t slow_us, uint64_t khz)
{
	uint64_t began = guest_tsc(), us;

	(*(volatile uint64_t *)word)++;
	us = (guest_tsc() - began) * 1000 / khz;
	if (slow_us && us >= slow_us) {
		guest_printf("slow %lu us\n", us);
	}
}

int test_fill(void)
{
	size_t bytes = guest_option_number("mib", 0) << 20;
	uint64_t rate = guest_option_number("rate", 0), khz = guest_option_number("khz", 2600000);
	uint64_t say = guest_option_number("say", 0), gap = guest_option_number("gap", 0);
	uint64_t strict = guest_option_number("strict", 0), slow = guest_option_number("slow", 0);
	uint64_t cycles, next, looked;
	uint64_t *words = bytes ? (uint64_t *)START : NULL;
	size_t page = 0;

	if (words) {
		fill(words, bytes / sizeof(*words));
	}
	guest_puts("filled\n");
	if (words && guest_option_number("again", 0)) {
		touch_again(words, bytes, guest_option_number("again", 0) << 20);
	}
	if (guest_option_number("rest", 0)) {
		guest_trap_init();
		while (true) {
			guest_halt();
		}
	}
	cycles = rate ? khz * 1000 / (rate * (1 << 20) / PAGE) : 0;
	next = looked = guest_tsc();
	while (true) {
		if (gap) {
			looked = look_at_clock(looked, gap, khz);
		}
		if (say) {
			guest_putc('.');
		}
		if (words && rate && guest_tsc() >= next) {
			write_word(&words[page * (PAGE / sizeof(*words))], slow, khz);
			page = (page + 1) % (bytes / PAGE);
			next = strict ? guest_tsc() + cycles : next + cycles;
		}
		guest_pause();
	}
}
