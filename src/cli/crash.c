// SPDX-License-Identifier: Apache-2.0
/*
 * See crash.h. The handlers run on the thread that faulted, with whatever is broken: they use the
 * stack, write(2) and _exit(2), which every filter allows. The report is the short form of
 * exit_report.c's.
 */
#include "crash.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "exit_codes.h"
#include "vmm/sandbox.h"

#define FIRECRACKER_EXIT_UNEXPECTED 2

static const struct fault {
	int number;
	const char *name;
	int firecracker; /* exit code; 0: by the signal */
} faults[] = {
	{ SIGSEGV, "SIGSEGV", 150 }, { SIGBUS, "SIGBUS", 149 }, { SIGILL, "SIGILL", 157 },
	{ SIGXFSZ, "SIGXFSZ", 151 }, { SIGSYS, "SIGSYS", 148 }, { SIGFPE, "SIGFPE", 0 },
	{ SIGABRT, "SIGABRT", 0 },
};

/* What a signal handler can know: the one thing here that changes. */
static _Atomic(const struct crash_watch *) watched;

struct text {
	size_t used;
	char bytes[512];
};

static void add(struct text *text, const char *string)
{
	size_t len = MIN(strlen(string), sizeof(text->bytes) - text->used);

	memcpy(text->bytes + text->used, string, len);
	text->used += len;
}

static void add_number(struct text *text, uint64_t number, unsigned int base)
{
	char digits[24];
	size_t i = sizeof(digits);

	digits[--i] = '\0';
	do {
		digits[--i] = "0123456789abcdef"[number % base];
		number /= base;
	} while (number != 0);
	add(text, &digits[i]);
}

static const struct fault *find(int number)
{
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		if (faults[i].number == number) {
			return &faults[i];
		}
	}
	return &faults[0];
}

static void report(const struct crash_watch *watch, const struct fault *fault, int code)
{
	struct text text = { 0 };

	add(&text, "{\n  \"vmm_version\": \"" VMM_VERSION "\",\n  \"name\": \"");
	add(&text, watch->name);
	add(&text, "\",\n  \"reason\": \"crash\",\n  \"exit_code\": ");
	add_number(&text, (uint64_t)code, 10);
	add(&text, ",\n  \"error\": {\"code\": \"internal\", \"message\": \"vmm has died of ");
	add(&text, fault->name);
	add(&text, "\", \"hint\": \"\"}\n}\n");
	for (size_t i = 0; i < ARRAY_SIZE(watch->report_fds); i++) {
		int fd = watch->report_fds[i];

		if (fd >= 0) {
			(void)!write(fd, text.bytes, text.used);
		}
	}
}

/* The exit code; 0: by the signal. */
static int code_of(const struct crash_watch *watch, const struct fault *fault, bool of_ours)
{
	if (watch == NULL || !watch->firecracker) {
		return fault->number == SIGSYS ? EXIT_VMM_ERROR : 0;
	}
	/* Somebody's SIGSYS is none of a filter's. */
	return fault->number == SIGSYS && !of_ours ? FIRECRACKER_EXIT_UNEXPECTED
						   : fault->firecracker;
}

static void end(const struct fault *fault, bool of_ours)
{
	const struct crash_watch *watch = atomic_exchange(&watched, NULL);
	int code = code_of(watch, fault, of_ours);

	if (watch != NULL) {
		report(watch, fault, code != 0 ? code : EXIT_SIGNAL_BASE + fault->number);
	}
	if (code != 0) {
		_exit(code);
	}
	if (!of_ours) {
		/* It would not come again by itself. */
		_exit(EXIT_SIGNAL_BASE + fault->number);
	}
}

/* The handler is gone by now (SA_RESETHAND): what has faulted faults again, and ends by the signal. */
static void died(int number, siginfo_t *info, void *context)
{
	const struct fault *fault = find(number);
	bool of_ours = info->si_code > 0 || number == SIGABRT;
	struct text text = { 0 };

	(void)context;
	if (number == SIGABRT && atomic_load(&watched) == NULL) {
		return; /* signal_die() */
	}
	add(&text, "vmm: Shutting down VM after intercepting signal ");
	add_number(&text, (uint64_t)number, 10);
	add(&text, ", code ");
	add(&text, info->si_code < 0 ? "-" : "");
	add_number(&text, (uint64_t)(info->si_code < 0 ? -(int64_t)info->si_code : info->si_code),
		   10);
	add(&text, ". (");
	add(&text, fault->name);
	if (info->si_code > 0) {
		add(&text, " at address 0x");
		add_number(&text, (uintptr_t)info->si_addr, 16);
	}
	add(&text, of_ours && number != SIGXFSZ ? ": this is a bug in vmm)\n" : ")\n");
	(void)!write(STDERR_FILENO, text.bytes, text.used);
	end(fault, of_ours);
}

/* Its line is out: sandbox.c's. */
static void refused(bool of_a_filter)
{
	end(find(SIGSYS), of_a_filter);
}

void crash_watch(const struct crash_watch *watch)
{
	struct sigaction action = { .sa_sigaction = died, .sa_flags = SA_SIGINFO | SA_RESETHAND };
	struct sigaction before;

	atomic_store(&watched, watch);
	sandbox_on_refusal(refused);
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		int number = faults[i].number;

		if (number == SIGXFSZ && !watch->firecracker) {
			/* Who writes hears of it: the guest's request fails. */
			(void)signal(SIGXFSZ, SIG_IGN);
			continue;
		}
		if (sigaction(number, NULL, &before) == 0 && before.sa_handler == SIG_DFL) {
			(void)sigaction(number, &action, NULL);
		}
	}
}

void crash_unwatch(void)
{
	atomic_store(&watched, NULL);
}
