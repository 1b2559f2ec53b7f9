/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several VMs at once: children.h. As many are on their way as keep the processors busy: each builds a machine, and waits for the
 * host in between. What a child says is printed and nothing else; one that says nothing holds up whoever started it until it ends.
 * Main thread, the only one there is. Nothing here comes from a guest.
 */
#include "children.h"

#include <errno.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "command.h"
#include "detach.h"
#include "vmm/cleanup.h"

static void take(struct words *words, char *text)
{
	if (text == NULL || words->count == CHILDREN_WORDS_MAX) {
		free(text);
		words->failed = true;
		return;
	}
	words->list[words->count++] = text;
}

void words_add(struct words *words, const char *fmt, ...)
{
	va_list list;
	char *text;

	va_start(list, fmt);
	if (vasprintf(&text, fmt, list) < 0) {
		text = NULL;
	}
	va_end(list);
	take(words, text);
}

void words_add_numbered(struct words *words, const char *word, uint32_t number)
{
	const char *mark;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (out == NULL) {
		words->failed = true;
		return;
	}
	for (; (mark = strstr(word, "%d")) != NULL; word = mark + 2) {
		(void)fprintf(out, "%.*s%u", (int)(mark - word), word, number);
	}
	(void)fputs(word, out);
	if (fclose(out) != 0) {
		free(text);
		text = NULL;
	}
	take(words, text);
}

struct lane {
	pid_t pid;
	int fd; /* -1: it has been waited for */
};

struct starting {
	const struct children *children;
	uint32_t spawned, begun, ended;
	struct lane list[]; /* by number */
};

/* Processors are kept busy while some of them wait: for the disk that has their definitions, for each other. */
static uint32_t lanes(void)
{
	return (uint32_t)MAX(sysconf(_SC_NPROCESSORS_ONLN), 1) * 4;
}

/* A session of its own and standard input and output that lead nowhere it makes itself. */
static int spawn_words(struct lane *lane, struct words *words, int fd)
{
	posix_spawn_file_actions_t actions;
	char number[16];
	int r;

	(void)snprintf(number, sizeof(number), "%d", fd);
	if (setenv(DETACH_ENVIRONMENT, number, 1) < 0) {
		return errno;
	}
	r = posix_spawn_file_actions_init(&actions);
	if (r == 0) {
		/* The same number: it is inherited. */
		r = posix_spawn_file_actions_adddup2(&actions, fd, fd);
		r = r == 0 ? posix_spawn(&lane->pid, "/proc/self/exe", &actions, NULL, words->list,
					 environ)
			   : r;
		(void)posix_spawn_file_actions_destroy(&actions);
	}
	(void)unsetenv(DETACH_ENVIRONMENT);
	return r;
}

static int spawn(struct starting *starting, struct error *e)
{
	const struct children *children = starting->children;
	const uint32_t number = starting->spawned + 1;
	struct lane *lane = &starting->list[starting->spawned];
	struct words words = { .count = 0 };
	int fds[2], r = ENOMEM;

	for (const char *const *word = (const char *const[]){ "vmm", "restore", "-q", "-d", NULL };
	     *word != NULL; word++) {
		words_add(&words, "%s", *word);
	}
	children->fill(children->arg, number, &words);
	if (!words.failed) {
		r = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0 ? errno : 0;
	}
	if (r == 0) {
		r = spawn_words(lane, &words, fds[1]);
		(void)close(fds[1]);
		lane->fd = fds[0];
		if (r != 0) {
			close_fd(&lane->fd);
		}
	}
	for (size_t i = 0; i < words.count; i++) {
		free(words.list[i]);
	}
	starting->spawned += r == 0;
	return r == 0 ? 0 : error_set_sys(e, ERROR_INTERNAL, r, "start child %u", number);
}

static void reap(const struct lane *lane)
{
	while (waitpid(lane->pid, NULL, 0) < 0) {
		VMM_BUG_ON(errno != EINTR);
	}
}

/* The oldest one that is on its way. */
static int wait_for_next(struct starting *starting, struct error *e)
{
	struct lane *lane = &starting->list[starting->ended++];
	int r = detach_hear(lane->fd);

	close_fd(&lane->fd);
	if (r < 0) {
		reap(lane);
		return error_set(e, ERROR_INTERNAL, ECHILD, "child %u has not started",
				 starting->ended);
	}
	return 0;
}

/* One that has died is found when it is waited for. */
static int begin_next(struct starting *starting, struct error *e)
{
	int r = starting->begun == starting->spawned ? spawn(starting, e) : 0;

	if (r == 0) {
		(void)send(starting->list[starting->begun++].fd, "", 1, MSG_NOSIGNAL);
	}
	return r;
}

int children_prepare(struct starting **ret, const struct children *children, struct error *e)
{
	struct starting *starting =
		calloc(1, sizeof(*starting) + children->count * sizeof(starting->list[0]));
	const uint32_t wanted = MIN(lanes(), children->count);
	int r = 0;

	if (starting == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
	}
	starting->children = children;
	while (r == 0 && starting->spawned < wanted) {
		r = spawn(starting, e);
	}
	if (r < 0) {
		children_finish(starting);
		return r;
	}
	*ret = starting;
	return 0;
}

int children_start(struct starting *starting, uint32_t *begun, struct error *e)
{
	const struct children *children = starting->children;
	const uint32_t most = lanes();
	int r = 0;

	while ((r == 0 && starting->begun < children->count) || starting->ended < starting->begun) {
		if (r == 0 && starting->begun < children->count &&
		    starting->begun - starting->ended < most) {
			r = begin_next(starting, e);
		} else {
			int came = wait_for_next(starting, r == 0 ? e : NULL);

			if (came < 0 && children->failed != NULL) {
				children->failed(children->arg, starting->ended);
			}
			r = r == 0 ? came : r;
		}
	}
	*begun = starting->begun;
	return r;
}

void children_finish(struct starting *starting)
{
	if (starting == NULL) {
		return;
	}
	for (uint32_t i = starting->begun; i < starting->spawned; i++) {
		close_fd(&starting->list[i].fd);
	}
	for (uint32_t i = starting->begun; i < starting->spawned; i++) {
		reap(&starting->list[i]);
	}
	free(starting);
}

void child_name(const char *name, uint32_t count, uint32_t number, char ret[CHILD_NAME_SIZE])
{
	if (count == 1) {
		(void)snprintf(ret, CHILD_NAME_SIZE, "%s", name);
	} else {
		(void)snprintf(ret, CHILD_NAME_SIZE, "%s-%u", name, number);
	}
}

int child_name_check(const char *name, uint32_t count, struct error *e)
{
	char last[CHILD_NAME_SIZE];

	if (strlen(name) > VM_NAME_MAX) {
		return error_set(e, ERROR_USAGE, ENAMETOOLONG,
				 "--name: the children's names are too long");
	}
	child_name(name, count, count, last);
	return command_value(vm_name_validate(last, e), e);
}
