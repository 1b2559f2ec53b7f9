// SPDX-License-Identifier: Apache-2.0
/*
 * Which VMs there are: of those that live or have left something the runtime directory knows, of
 * those that are defined the state directory. Both are read by one loop, which takes what has a
 * VM's name and is judged a VM's; anything else there is somebody else's and no error. Others may
 * make and remove directories meanwhile; a list is bounded whatever they do.
 *
 * Nothing here takes a lock or changes a file. Any thread.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run_directory_internal.h"
#include "vmm/cleanup.h"
#include "vmm/definition_store.h"
#include "vmm/vm_config.h"

#define LIST_MAX 65536 /* VMs */

static int compare(const void *a, const void *b)
{
	const struct run_entry *x = a, *y = b;

	return strverscmp(x->name, y->name);
}

static int add_entry(struct run_entry **entries, size_t *count, size_t *room,
		     const struct run_entry *entry)
{
	if (*count == *room) {
		size_t more = *room != 0 ? 2 * *room : 16;
		struct run_entry *grown = reallocarray(*entries, more, sizeof(**entries));

		if (grown == NULL) {
			return -ENOMEM;
		}
		*entries = grown;
		*room = more;
	}
	(*entries)[(*count)++] = *entry;
	return 0;
}

static int read_entries(DIR *list, bool (*judge)(int dir_fd, struct run_entry *entry),
			struct run_entry **entries, size_t *count)
{
	const struct dirent *found;
	size_t room = 0;

	while (*count < LIST_MAX && (found = readdir(list)) != NULL) {
		struct run_entry entry = { 0 };
		size_t len = strlen(found->d_name);

		if (len >= sizeof(entry.name) || vm_name_validate(found->d_name, NULL) < 0) {
			continue;
		}
		memcpy(entry.name, found->d_name, len + 1);
		if (judge(dirfd(list), &entry) && add_entry(entries, count, &room, &entry) < 0) {
			return -ENOMEM;
		}
	}
	return 0;
}

int run_list(int fd, const char *shown, bool (*judge)(int dir_fd, struct run_entry *entry),
	     struct run_entry **ret, size_t *count, struct error *e)
{
	auto_free struct run_entry *entries = NULL;
	size_t found = 0;
	DIR *list;
	int r;

	*ret = NULL;
	*count = 0;
	if (fd < 0) {
		return 0;
	}
	list = fdopendir(fd);
	if (list == NULL) {
		r = error_set_sys(e, ERROR_INTERNAL, errno, "read '%s'", shown);
		(void)close(fd);
		return r;
	}
	r = read_entries(list, judge, &entries, &found);
	(void)closedir(list);
	if (r < 0) {
		return error_set(e, ERROR_NO_MEMORY, -r, "out of memory");
	}
	if (found > 0) {
		qsort(entries, found, sizeof(*entries), compare);
	}
	*ret = take_ptr(entries);
	*count = found;
	return 0;
}

static bool is_left(int root_fd, struct run_entry *entry)
{
	auto_close int fd =
		openat(root_fd, entry->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != geteuid()) {
		return false;
	}
	entry->alive = run_is_alive(fd);
	entry->left = true;
	return true;
}

int run_directory_list(struct run_entry **ret, size_t *count, struct error *e)
{
	char root[RUN_DIRECTORY_PATH_SIZE];
	struct error own;
	int fd = -1;
	int r;

	e = e != NULL ? e : &own;
	r = run_root_open(false, root, &fd, e);
	return r < 0 && e->code != ERROR_NOT_FOUND ? r : run_list(fd, root, is_left, ret, count, e);
}

/* Both lists are sorted. `into` has room for all of both. */
static size_t merge(struct run_entry *into, const struct run_entry *left, size_t left_count,
		    const struct run_entry *defined, size_t defined_count)
{
	size_t count = 0;

	for (size_t i = 0, k = 0; i < left_count || k < defined_count;) {
		int order = i == left_count	 ? 1
			    : k == defined_count ? -1
						 : compare(&left[i], &defined[k]);

		into[count++] = order <= 0 ? left[i++] : defined[k];
		k += order >= 0;
	}
	return count;
}

int run_directory_list_all(struct run_entry **ret, size_t *count, struct error *e)
{
	auto_free struct run_entry *left = NULL, *defined = NULL;
	size_t left_count = 0, defined_count = 0;
	int r = run_directory_list(&left, &left_count, e);

	if (r == 0) {
		r = definition_list(&defined, &defined_count, e);
	}
	if (r < 0) {
		return r;
	}
	*ret = calloc(left_count + defined_count + 1, sizeof(**ret));
	if (*ret == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "out of memory");
	}
	*count = merge(*ret, left, left_count, defined, defined_count);
	return 0;
}
