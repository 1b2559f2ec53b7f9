/* SPDX-License-Identifier: Apache-2.0 */
/* Scope-bound ownership of locals. `take_fd()` and `take_ptr()` hand a value over and leave the
 * local empty. */
#ifndef VMM_CLEANUP_H
#define VMM_CLEANUP_H

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free_(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_close_(const int *fd)
{
	if (*fd >= 0) {
		(void)close(*fd);
	}
}

static inline void cleanup_unlock_(pthread_mutex_t **m)
{
	(void)pthread_mutex_unlock(*m);
}

#define auto_free  __attribute__((cleanup(cleanup_free_)))
#define auto_close __attribute__((cleanup(cleanup_close_)))

#define SCOPED_LOCK_NAME_(line) scoped_lock_##line
#define SCOPED_LOCK_AT_(m, line)                                         \
	pthread_mutex_t *SCOPED_LOCK_NAME_(line)                         \
		__attribute__((cleanup(cleanup_unlock_), unused)) = (m); \
	(void)pthread_mutex_lock(SCOPED_LOCK_NAME_(line))
#define SCOPED_LOCK_EXPAND_(m, line) SCOPED_LOCK_AT_(m, line)
/* Holds the mutex until the enclosing block ends. */
#define SCOPED_LOCK(m) SCOPED_LOCK_EXPAND_((m), __LINE__)

static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

#define take_ptr(p)                         \
	({                                  \
		__typeof__(p) taken_ = (p); \
		(p) = NULL;                 \
		taken_;                     \
	})

/* Closes and forgets a descriptor that a struct member owns; -1 is fine. */
static inline void close_fd(int *fd)
{
	cleanup_close_(fd);
	*fd = -1;
}

#endif
