/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several VMs at once, each a `vmm restore` of its own: fresh processes, which share neither the layout of their memory nor
 * anything else with whoever starts them. Main thread.
 */
#ifndef VMM_SRC_CLI_CHILDREN_H
#define VMM_SRC_CLI_CHILDREN_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/error.h"
#include "vmm/vm_config.h"

#define CHILDREN_MAX	   1000
#define CHILDREN_WORDS_MAX (64 + 2 * (VM_DISKS_MAX + VM_NETS_MAX))
/* With its number and NUL. */
#define CHILD_NAME_SIZE (VM_NAME_MAX + 16)

/* A command line. */
struct words {
	char *list[CHILDREN_WORDS_MAX + 1];
	size_t count;
	bool failed; /* memory is short, or there are too many */
};
void words_add(struct words *words, const char *fmt, ...) __printf_like(2, 3);
/* Each %d in it is the number. */
void words_add_numbered(struct words *words, const char *word, uint32_t number);

struct children {
	uint32_t count; /* 1 to CHILDREN_MAX */
	/* What follows "vmm restore -q -d" for child `number`, from 1. */
	void (*fill)(void *arg, uint32_t number, struct words *words);
	/* It has not started. May be NULL. */
	void (*failed)(void *arg, uint32_t number);
	void *arg;
};

/*
 * Those that are on their way. They are the caller's direct children, each with a socket (detach.h), by which it is let begin and
 * says that its VM runs.
 *
 *	children_prepare()	optional: as many as go at once are started, and wait before they open what they restore
 *	children_start()	all begin, a few at a time, and are waited for until they run, or stand still if that was said; each
 *				prints its name. Of one that fails, which has said why, the others that are on their way still come,
 *				but no more are begun
 *	children_finish()	in any case: those that still wait end, and are waited for
 */
struct starting;
int children_prepare(struct starting **ret, const struct children *children, struct error *e);
/* *begun: how many were, in any case. */
int children_start(struct starting *starting, uint32_t *begun, struct error *e);
void children_finish(struct starting *starting);

/* "web-3", or without a number where there is one only. */
void child_name(const char *name, uint32_t count, uint32_t number, char ret[CHILD_NAME_SIZE]);
/* ERROR_USAGE: the last one's is none. */
int child_name_check(const char *name, uint32_t count, struct error *e);

#endif
