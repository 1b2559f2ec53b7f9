/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures the time from exec to the first sign of life: launch [-c] [-k] [-m MARK] [-t SECONDS]
 * COMMAND...
 *
 * The command gets a new terminal (-c: with it as its controlling one) as standard input and
 * output. The clock starts in the child right before exec, and stops when MARK (default "!") has
 * been read from the terminal. Prints the microseconds and the process id. The command is then
 * killed, with -k not before end of file on standard input, so that the process can be looked at.
 * Exit code 1: no mark in time, or the command ended without it.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define TAIL 4096

static double microseconds(const struct timespec *from, const struct timespec *to)
{
	return (double)(to->tv_sec - from->tv_sec) * 1e6 +
	       (double)(to->tv_nsec - from->tv_nsec) / 1e3;
}

/* Reads until the mark; keeps the last half of the buffer, which is longer than any mark. */
static bool wait_for_mark(int fd, const char *mark, double seconds, struct timespec *now)
{
	static char text[TAIL + 1];
	size_t used = 0;
	struct timespec start;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t got;

		clock_gettime(CLOCK_MONOTONIC, now);
		if (microseconds(&start, now) > seconds * 1e6 ||
		    poll(&p, 1, (int)(seconds * 1e3)) <= 0) {
			return false;
		}
		got = read(fd, text + used, TAIL - used);
		clock_gettime(CLOCK_MONOTONIC, now);
		if (got <= 0) {
			return false;
		}
		used += (size_t)got;
		if (memmem(text, used, mark, strlen(mark))) {
			return true;
		}
		if (used > TAIL / 2) {
			memmove(text, text + used - TAIL / 2, TAIL / 2);
			used = TAIL / 2;
		}
	}
}

/* What the guest goes on to say is read, so that it does not stop for want of room. */
static void drain_until_told(int fd)
{
	struct pollfd p[2] = { { .fd = STDIN_FILENO, .events = POLLIN },
			       { .fd = fd, .events = POLLIN } };
	char text[TAIL];

	while (poll(p, 2, -1) >= 0) {
		if (p[0].revents && read(STDIN_FILENO, text, sizeof(text)) <= 0) {
			return;
		}
		if (p[1].revents && read(fd, text, sizeof(text)) <= 0) {
			return;
		}
	}
}

_Noreturn static void run(char **command, int terminal, bool control, struct timespec *start)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (control) {
		setsid();
		ioctl(terminal, TIOCSCTTY, 0);
	}
	dup2(terminal, STDIN_FILENO);
	dup2(terminal, STDOUT_FILENO);
	if (terminal > STDERR_FILENO) {
		close(terminal);
	}
	clock_gettime(CLOCK_MONOTONIC, start);
	execvp(command[0], command);
	_exit(127);
}

struct arguments {
	const char *mark;
	double seconds;
	bool keep, control;
	char **command;
};

static void parse(int argc, char **argv, struct arguments *a)
{
	int option;

	*a = (struct arguments){ .mark = "!", .seconds = 60 };
	while ((option = getopt(argc, argv, "+ckm:t:")) != -1) {
		switch (option) {
		case 'c':
			a->control = true;
			break;
		case 'k':
			a->keep = true;
			break;
		case 'm':
			a->mark = optarg;
			break;
		case 't':
			a->seconds = strtod(optarg, NULL);
			break;
		default:
			exit(2);
		}
	}
	if (optind == argc || strlen(a->mark) > TAIL / 2) {
		errx(2, "usage: launch [-c] [-k] [-m MARK] [-t SECONDS] COMMAND...");
	}
	a->command = argv + optind;
}

int main(int argc, char **argv)
{
	struct arguments a;
	struct timespec *start, now;
	int master, slave;
	pid_t child;
	bool seen;

	parse(argc, argv, &a);
	start = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (start == MAP_FAILED || openpty(&master, &slave, NULL, NULL, NULL) ||
	    fcntl(master, F_SETFD, FD_CLOEXEC)) {
		err(1, "pseudo terminal");
	}
	child = fork();
	if (child < 0) {
		err(1, "fork");
	}
	if (child == 0) {
		run(a.command, slave, a.control, start);
	}
	close(slave);
	seen = wait_for_mark(master, a.mark, a.seconds, &now);
	if (seen) {
		printf("%.0f %d\n", microseconds(start, &now), (int)child);
		fflush(stdout);
	}
	if (seen && a.keep) {
		drain_until_told(master);
	}
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return seen ? 0 : 1;
}
