/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far something is that takes long: a line on the terminal that standard error is, drawn over
 * itself a few times a second, and gone at the end. Elsewhere nothing is shown. ^C ends the work, not
 * the process: whoever works asks, and puts things in order.
 */
#ifndef VMM_SRC_CLI_PROGRESS_H
#define VMM_SRC_CLI_PROGRESS_H

#include <pthread.h>
#include <signal.h>

#include "vmm/types.h"

struct progress_figures {
	const char *phase; /* a word or two of another process: shown as far as it is printable */
	uint64_t done, total; /* bytes; total 0: not known */
	uint64_t rate;	      /* bytes per second; 0: not known */
	uint64_t seconds_left;
	bool has_left;
};

/* "memory   [######      ]  50%  32M of 64M  1.2G/s  3s left", at most `columns` characters, without a line end. As
 * snprintf(3); what does not fit is left out from the end on, the bar first. */
#define PROGRESS_LINE_MAX 200
void progress_line(char buf[PROGRESS_LINE_MAX], const struct progress_figures *figures,
		   unsigned int columns);

struct progress {
	bool shown;    /* there is a terminal */
	int signal_fd; /* -1: signals do what they do */
	sigset_t before;
	pthread_mutex_t lock;
	/* Under it. */
	int signal; /* the first that came; 0: none */
	bool insisted;
	bool drawn;
	const char *phase;
	int64_t phase_ms, next_ms; /* when it began; when it may be drawn again */
};

/* Main, before threads start: SIGINT, SIGTERM and SIGHUP come here until the end. */
void progress_begin(struct progress *progress, bool quiet);
/* Any thread: which signal has come, 0: none. */
int progress_interrupted(struct progress *progress);
/* More than one has. */
bool progress_insisted(struct progress *progress);
/* Any thread; draws if it is time. */
void progress_show(struct progress *progress, const struct progress_figures *figures);
/* Both, in the form of a struct snapshot_watch: `arg` is the progress. The rate is that of the phase. */
bool progress_step(void *arg, const char *phase, uint64_t done, uint64_t total);
/* Waits so long, or until a signal comes, or `fd` (-1: none) is readable. */
void progress_sleep(struct progress *progress, int fd, int ms);
/* The line goes, before something else is printed. */
void progress_wipe(struct progress *progress);
void progress_end(struct progress *progress);

#endif
