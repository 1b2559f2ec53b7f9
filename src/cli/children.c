/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several VMs at once: children.h. As many are on their way as keep the processors busy: each builds a machine, and waits for the
 * host in between. Main thread. Nothing here comes from a guest.
 */
#include "children.h"

#include <errno.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "command.h"

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

static int start(const struct children *children, uint32_t number, pid_t *pid, struct error *e)
{
	struct words words = { .count = 0 };
	int r;

	for (const char *const *word = (const char *const[]){ "vmm", "restore", "-q", "-d", NULL };
	     *word != NULL; word++) {
		words_add(&words, "%s", *word);
	}
	children->fill(children->arg, number, &words);
	r = words.failed ? ENOMEM
			 : posix_spawn(pid, "/proc/self/exe", NULL, NULL, words.list, environ);
	for (size_t i = 0; i < words.count; i++) {
		free(words.list[i]);
	}
	return r == 0 ? 0 : error_set_sys(e, ERROR_INTERNAL, r, "start child %u", number);
}

static int wait_for(pid_t pid, uint32_t number, struct error *e)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		VMM_BUG_ON(errno != EINTR);
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0
		       ? 0
		       : error_set(e, ERROR_INTERNAL, ECHILD, "child %u has not started", number);
}

static int start_all(const struct children *children, pid_t *pids, uint32_t *begun, struct error *e)
{
	const uint32_t lanes = (uint32_t)MAX(sysconf(_SC_NPROCESSORS_ONLN), 1) * 2;
	uint32_t ended = 0;
	int r = 0;

	while ((r == 0 && *begun < children->count) || ended < *begun) {
		if (r == 0 && *begun < children->count && *begun - ended < lanes) {
			r = start(children, *begun + 1, &pids[*begun], e);
			*begun += r == 0;
		} else {
			int came = wait_for(pids[ended], ended + 1, r == 0 ? e : NULL);

			ended++;
			if (came < 0 && children->failed != NULL) {
				children->failed(children->arg, ended);
			}
			r = r == 0 ? came : r;
		}
	}
	return r;
}

int children_start(const struct children *children, uint32_t *begun, struct error *e)
{
	pid_t *pids = calloc(children->count, sizeof(*pids));
	int r;

	*begun = 0;
	if (pids == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
	}
	r = start_all(children, pids, begun, e);
	free(pids);
	return r;
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
