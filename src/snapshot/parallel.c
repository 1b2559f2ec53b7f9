/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many items on several threads, each of which has scratch memory of its own. Items are taken from a counter; the first
 * failure, or a watcher who has had enough, stops all. A thread that the host does not give is done without.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "internal.h"
#include "vmm/cleanup.h"

#define THREADS_MAX 64

struct helper {
	pthread_t thread;
	bool runs;
	struct parallel *parallel;
	struct error failure;
	int result;
};

static int work(struct parallel *p, struct error *e)
{
	auto_free void *scratch = NULL;

	if (p->scratch_size != 0 && posix_memalign(&scratch, PAGE_SIZE_4K, p->scratch_size) != 0) {
		atomic_store(&p->stop, true);
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "snapshot");
	}
	while (!atomic_load(&p->stop)) {
		uint64_t item = atomic_fetch_add(&p->next, 1), done = 0;
		int r;

		if (item >= p->count) {
			return 0;
		}
		r = p->one(p->arg, scratch, item, &done, e);
		if (r < 0) {
			atomic_store(&p->stop, true);
			return r;
		}
		done += atomic_fetch_add(&p->done, done);
		if (p->watch != NULL && p->watch->step != NULL &&
		    !p->watch->step(p->watch->arg, p->phase, done, p->total)) {
			atomic_store(&p->stop, true);
		}
	}
	return error_set(e, ERROR_CANCELLED, ECANCELED, "%s was cancelled", p->what);
}

static void *helper_main(void *arg)
{
	struct helper *helper = arg;

	helper->result = work(helper->parallel, &helper->failure);
	return NULL;
}

int parallel_run(struct parallel *p, uint32_t threads, struct error *e)
{
	uint32_t count = threads > 1 ? MIN(threads, (uint32_t)THREADS_MAX) - 1 : 0;
	struct helper *helpers = calloc(count + 1, sizeof(*helpers));
	int r;

	atomic_store(&p->next, 0);
	atomic_store(&p->done, 0);
	atomic_store(&p->stop, false);
	if (helpers == NULL) {
		count = 0;
	}
	for (uint32_t i = 0; i < count; i++) {
		helpers[i].parallel = p;
		helpers[i].runs =
			pthread_create(&helpers[i].thread, NULL, helper_main, &helpers[i]) == 0;
	}
	r = work(p, e);
	for (uint32_t i = 0; i < count; i++) {
		if (helpers[i].runs) {
			(void)pthread_join(helpers[i].thread, NULL);
		}
		/* Who was only told to stop knows less than who failed. */
		if (helpers[i].runs && helpers[i].result < 0 &&
		    (r == 0 || (r == -ECANCELED && helpers[i].result != -ECANCELED))) {
			r = helpers[i].result;
			if (e != NULL) {
				*e = helpers[i].failure;
			}
		}
	}
	free(helpers);
	return r;
}
