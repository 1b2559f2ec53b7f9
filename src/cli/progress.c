// SPDX-License-Identifier: Apache-2.0
/* See progress.h. Threads that work draw by themselves, one at a time; one that finds another at it goes on. */
#include "progress.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "terminal.h"
#include "vm_status.h"
#include "vmm/cleanup.h"
#include "vmm/loop.h"

#define EVERY_MS 100
#define BAR_MAX	 30
#define BAR_MIN	 8

static void copy_word(char *to, size_t size, const char *from)
{
	size_t len = 0;

	for (; from != NULL && from[len] >= ' ' && from[len] <= '~' && len + 1 < size; len++) {
		to[len] = from[len];
	}
	to[len] = '\0';
}

static unsigned int percent_of(const struct progress_figures *figures)
{
	return figures->done >= figures->total
		       ? 100
		       : (unsigned int)((double)figures->done * 100 / (double)figures->total);
}

/* "  50%  32M of 64M  1.2G/s  3s left", each part whole or not at all. */
static size_t write_figures(char *buf, size_t size, const struct progress_figures *figures,
			    size_t columns)
{
	char parts[4][64] = { "" };
	char a[FIGURE_SIZE], b[FIGURE_SIZE];
	size_t len = 0;

	if (figures->total > 0) {
		(void)snprintf(parts[0], sizeof(parts[0]), "%3u%%", percent_of(figures));
		(void)snprintf(parts[1], sizeof(parts[1]), "  %s of %s",
			       show_bytes(a, figures->done), show_bytes(b, figures->total));
	} else if (figures->done > 0) {
		(void)snprintf(parts[1], sizeof(parts[1]), "%s", show_bytes(a, figures->done));
	}
	if (figures->rate > 0) {
		(void)snprintf(parts[2], sizeof(parts[2]), "  %s/s", show_bytes(a, figures->rate));
	}
	if (figures->has_left) {
		(void)snprintf(parts[3], sizeof(parts[3]), "  %s left",
			       show_duration(a, figures->seconds_left));
	}
	buf[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		size_t more = strlen(parts[i]);

		if (len + more > columns || len + more >= size) {
			break;
		}
		memcpy(buf + len, parts[i], more + 1);
		len += more;
	}
	return len;
}

static void write_bar(char *bar, size_t width, unsigned int percent)
{
	const size_t full = (width - 2) * percent / 100;

	bar[0] = '[';
	for (size_t i = 1; i + 1 < width; i++) {
		bar[i] = i <= full ? '#' : ' ';
	}
	bar[width - 1] = ']';
	bar[width] = '\0';
}

void progress_line(char buf[PROGRESS_LINE_MAX], const struct progress_figures *figures,
		   unsigned int columns)
{
	const size_t room = MIN((size_t)columns, (size_t)PROGRESS_LINE_MAX - 1);
	char phase[24], words[128], bar[BAR_MAX + 1] = "";
	size_t left, len, width;

	copy_word(phase, sizeof(phase), figures->phase);
	len = strlen(phase);
	if (room <= len + 2) {
		(void)snprintf(buf, PROGRESS_LINE_MAX, "%.*s", (int)room, phase);
		return;
	}
	left = room - len - 2;
	left -= write_figures(words, sizeof(words), figures, left);
	width = MIN(left > 1 ? left - 1 : 0, (size_t)BAR_MAX);
	if (figures->total > 0 && width >= BAR_MIN) {
		write_bar(bar, width, percent_of(figures));
	}
	(void)snprintf(buf, PROGRESS_LINE_MAX, "%s  %s%s%s", phase, bar, bar[0] != '\0' ? " " : "",
		       words);
}

void progress_begin(struct progress *progress, bool quiet)
{
	sigset_t mask;

	*progress = (struct progress){ .shown = !quiet && isatty(STDERR_FILENO) == 1 };
	(void)pthread_mutex_init(&progress->lock, NULL);
	(void)sigemptyset(&mask);
	(void)sigaddset(&mask, SIGINT);
	(void)sigaddset(&mask, SIGTERM);
	(void)sigaddset(&mask, SIGHUP);
	(void)pthread_sigmask(SIG_BLOCK, &mask, &progress->before);
	progress->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (progress->signal_fd < 0) {
		(void)pthread_sigmask(SIG_SETMASK, &progress->before, NULL);
	}
}

/* Under the lock. */
static int look_for_signal(struct progress *progress)
{
	struct signalfd_siginfo info;

	if (progress->signal_fd >= 0 &&
	    read(progress->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		progress->insisted = progress->signal != 0;
		progress->signal = progress->insisted ? progress->signal : (int)info.ssi_signo;
	}
	return progress->signal;
}

bool progress_insisted(struct progress *progress)
{
	(void)progress_interrupted(progress);
	return progress->insisted;
}

int progress_interrupted(struct progress *progress)
{
	int number;

	(void)pthread_mutex_lock(&progress->lock);
	number = look_for_signal(progress);
	(void)pthread_mutex_unlock(&progress->lock);
	return number;
}

/* Under the lock. */
static void draw(struct progress *progress, const struct progress_figures *figures, int64_t now)
{
	unsigned short columns = 80, rows = 0;
	char line[PROGRESS_LINE_MAX];

	if (!progress->shown || now < progress->next_ms) {
		return;
	}
	progress->next_ms = now + EVERY_MS;
	(void)terminal_window_size(&columns, &rows);
	progress_line(line, figures, columns > 1 ? columns - 1U : 79);
	(void)fprintf(stderr, "\r%s\x1b[K", line);
	(void)fflush(stderr);
	progress->drawn = true;
}

void progress_show(struct progress *progress, const struct progress_figures *figures)
{
	(void)pthread_mutex_lock(&progress->lock);
	draw(progress, figures, loop_now_ms());
	(void)pthread_mutex_unlock(&progress->lock);
}

bool progress_step(void *arg, const char *phase, uint64_t done, uint64_t total)
{
	struct progress *progress = arg;
	struct progress_figures figures = { .phase = phase, .done = done, .total = total };
	int64_t now = loop_now_ms(), ms;
	bool go_on;

	if (pthread_mutex_trylock(&progress->lock) != 0) {
		return true;
	}
	if (progress->phase == NULL || strcmp(progress->phase, phase) != 0) {
		progress->phase = phase;
		progress->phase_ms = now;
	}
	ms = now - progress->phase_ms;
	if (ms >= EVERY_MS) {
		figures.rate = (uint64_t)((double)done * 1000 / (double)ms);
	}
	if (figures.rate > 0 && total > done) {
		figures.has_left = true;
		figures.seconds_left = (total - done) / figures.rate;
	}
	draw(progress, &figures, now);
	go_on = look_for_signal(progress) == 0;
	(void)pthread_mutex_unlock(&progress->lock);
	return go_on;
}

void progress_sleep(struct progress *progress, int fd, int ms)
{
	struct pollfd fds[2] = { { .fd = progress->signal_fd, .events = POLLIN },
				 { .fd = fd, .events = POLLIN } };

	(void)poll(fds, 2, ms);
}

void progress_wipe(struct progress *progress)
{
	if (progress->drawn) {
		(void)fprintf(stderr, "\r\x1b[K");
		(void)fflush(stderr);
		progress->drawn = false;
	}
}

void progress_end(struct progress *progress)
{
	progress_wipe(progress);
	if (progress->signal_fd >= 0) {
		close_fd(&progress->signal_fd);
		(void)pthread_sigmask(SIG_SETMASK, &progress->before, NULL);
	}
	(void)pthread_mutex_destroy(&progress->lock);
}
