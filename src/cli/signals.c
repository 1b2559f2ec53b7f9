// SPDX-License-Identifier: Apache-2.0
/*
 * See signals.h. Main thread. A blocked signal is queued even if it is ignored, so what was ignored
 * must not be blocked; SIGPIPE is the exception: vmm itself ignores it, and Firecracker counts it.
 */
#include "signals.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* Firecracker's exit codes after the signals that it has handlers for; those of faults are crash.c's. */
#define FIRECRACKER_EXIT_XCPU 154
#define FIRECRACKER_EXIT_HUP  156

#define LAST_SIGNAL 64

static const struct known {
	int number;
	const char *name;
	enum signal_meaning vmm, firecracker;
} known[] = {
	{ SIGTERM, "SIGTERM", SIGNAL_ASK, SIGNAL_STOP },
	{ SIGINT, "SIGINT", SIGNAL_ASK, SIGNAL_STOP },
	{ SIGHUP, "SIGHUP", SIGNAL_ASK, SIGNAL_STOP },
	{ SIGXCPU, "SIGXCPU", SIGNAL_ASK, SIGNAL_STOP },
	{ SIGPWR, "SIGPWR", SIGNAL_ASK, SIGNAL_STOP },
	{ SIGQUIT, "SIGQUIT", SIGNAL_STOP, SIGNAL_STOP },
	/* Sent by somebody; abort() unblocks it, and is crash.c's. */
	{ SIGABRT, "SIGABRT", SIGNAL_STOP, SIGNAL_STOP },
	{ SIGUSR1, "SIGUSR1", SIGNAL_REOPEN, SIGNAL_REOPEN },
	{ SIGWINCH, "SIGWINCH", SIGNAL_WINDOW, SIGNAL_WINDOW },
	{ SIGUSR2, "SIGUSR2", SIGNAL_NOTHING, SIGNAL_STOP },
	{ SIGALRM, "SIGALRM", SIGNAL_NOTHING, SIGNAL_STOP },
	{ SIGVTALRM, "SIGVTALRM", SIGNAL_NOTHING, SIGNAL_STOP },
	{ SIGPROF, "SIGPROF", SIGNAL_NOTHING, SIGNAL_STOP },
	{ SIGIO, "SIGIO", SIGNAL_NOTHING, SIGNAL_STOP },
	{ SIGSTKFLT, "SIGSTKFLT", SIGNAL_NOTHING, SIGNAL_STOP },
	{ SIGPIPE, "SIGPIPE", SIGNAL_NOTHING, SIGNAL_NOTHING },
};

static const struct known *find(int number)
{
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (known[i].number == number) {
			return &known[i];
		}
	}
	return NULL;
}

enum signal_meaning signal_meaning(int number, bool firecracker)
{
	const struct known *signal = find(number);

	if (signal == NULL) {
		return firecracker ? SIGNAL_STOP : SIGNAL_NOTHING;
	}
	return firecracker ? signal->firecracker : signal->vmm;
}

const char *signal_name(int number, char *buf)
{
	const struct known *signal = find(number);

	if (signal != NULL) {
		return signal->name;
	}
	(void)snprintf(buf, SIGNAL_NAME_SIZE, "signal %d", number);
	return buf;
}

static bool ignored(int number)
{
	struct sigaction action;

	return sigaction(number, NULL, &action) < 0 || action.sa_handler == SIG_IGN;
}

int signals_watch(bool firecracker, int *ret, struct error *e)
{
	sigset_t set;

	(void)sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (known[i].number == SIGPIPE ? firecracker : !ignored(known[i].number)) {
			(void)sigaddset(&set, known[i].number);
		}
	}
	for (int number = SIGRTMIN; number <= LAST_SIGNAL; number++) {
		/* Being said does no harm to one that is ignored, and each look costs a call. */
		if (!firecracker || !ignored(number)) {
			(void)sigaddset(&set, number);
		}
	}
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	*ret = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return *ret < 0 ? error_set_sys(e, ERROR_INTERNAL, errno, "signalfd") : 0;
}

int signal_firecracker_code(int number)
{
	return number == SIGHUP	   ? FIRECRACKER_EXIT_HUP
	       : number == SIGXCPU ? FIRECRACKER_EXIT_XCPU
				   : -1;
}

void signal_die(int number)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, number);
	(void)sigprocmask(SIG_UNBLOCK, &set, NULL);
	(void)raise(number);
	/* SIGABRT has a handler, for once. */
	(void)raise(number);
}
