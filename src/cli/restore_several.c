// SPDX-License-Identifier: Apache-2.0
/*
 * vmm restore --count N: each VM is a `vmm restore` in a process of its own (children.h), which gets the words of this command line
 * but for names, with its number in place of %d. What none of them writes of the memory file they share.
 *
 * A compressed snapshot would be unpacked by each for itself: it is unpacked once, into a directory of the runtime directory, which is
 * memory, and they restore that; it has no name any more when they run. Not if they want copies of its disks, which stay where they
 * are, or read their memory themselves.
 *
 * Main thread. The snapshot is whoever's made it.
 */
#include "restore_several.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "children.h"
#include "exit_codes.h"
#include "snapshot_command.h"
#include "vmm/run_directory.h"
#include "vmm/snapshot.h"

#define IMAGE_SUFFIX_SIZE 32

struct restoring {
	const struct restore_several *several;
	struct progress progress;
	char directory[RUN_DIRECTORY_PATH_SIZE + IMAGE_SUFFIX_SIZE]; /* of the image; "": none */
};

/* --- words --------------------------------------------------------------------------------------- */

/* A flag that children get in another way, and its argument if that is the next word. */
static bool is_own(const char *word, bool *takes_next)
{
	static const char *const with_argument[] = { "--count", "--name" };

	*takes_next = false;
	for (size_t i = 0; i < ARRAY_SIZE(with_argument); i++) {
		size_t len = strlen(with_argument[i]);

		if (strncmp(word, with_argument[i], len) == 0 &&
		    (word[len] == '\0' || word[len] == '=')) {
			*takes_next = word[len] == '\0';
			return true;
		}
	}
	if (word[0] == '-' && word[1] != '-' && word[1] != '\0') {
		/* -d, -q, -n NAME: there are no other letters. */
		*takes_next = word[strlen(word) - 1] == 'n' && strchr(word, 'n')[1] == '\0';
		return true;
	}
	return strcmp(word, "--detach") == 0 || strcmp(word, "--quiet") == 0 ||
	       strcmp(word, "--") == 0;
}

static void fill(void *arg, uint32_t number, struct words *words)
{
	const struct restoring *restoring = arg;
	const struct restore_several *several = restoring->several;
	char name[CHILD_NAME_SIZE];
	bool takes_next;

	child_name(several->name, several->count, number, name);
	words_add(words, "-n");
	words_add(words, "%s", name);
	for (int i = 1; i < several->argc; i++) {
		if (is_own(several->argv[i], &takes_next)) {
			i += takes_next;
		} else if (several->argv[i] != several->directory) {
			words_add_numbered(words, several->argv[i], number);
		}
	}
	words_add(words, "--");
	words_add(words, "%s%s",
		  restoring->directory[0] != '\0' ? restoring->directory : several->directory,
		  restoring->directory[0] != '\0' ? "/image" : "");
}

/* --- unpacking ----------------------------------------------------------------------------------- */

static bool wants_image(const struct snapshot_load_request *load)
{
	return load->disks_to == NULL &&
	       (load->memory == SNAPSHOT_MEMORY_MAP || load->memory == SNAPSHOT_MEMORY_VERIFY);
}

static int make_directory(struct restoring *restoring, struct error *e)
{
	char root[RUN_DIRECTORY_PATH_SIZE];
	int r = run_directory_root(root, sizeof(root), e);

	if (r < 0) {
		return r;
	}
	(void)snprintf(restoring->directory, sizeof(restoring->directory), "%s/.restore-XXXXXX",
		       root);
	if (mkdtemp(restoring->directory) == NULL) {
		r = error_set_sys(e, ERROR_CONFIG, errno, "make '%s'", restoring->directory);
		restoring->directory[0] = '\0';
	}
	return r;
}

static int unpack(struct restoring *restoring, struct snapshot_reader *reader, struct error *e)
{
	char image[sizeof(restoring->directory) + IMAGE_SUFFIX_SIZE], id[SNAPSHOT_ID_TEXT];
	const long processors = sysconf(_SC_NPROCESSORS_ONLN);
	const struct snapshot_merge how = {
		.paths = { .directory = image },
		.threads = processors > 1 ? (uint32_t)processors : 1,
		.no_sync = true,
		.watch = { progress_step, &restoring->progress },
	};
	int r = make_directory(restoring, e);

	if (r == 0) {
		(void)snprintf(image, sizeof(image), "%s/image", restoring->directory);
		r = snapshot_merge(reader, &how, id, e);
	}
	return r;
}

static int prepare(struct restoring *restoring, struct error *e)
{
	const struct restore_several *several = restoring->several;
	const struct snapshot_reader_config config = { .paths = { .directory =
									  several->directory } };
	struct snapshot_reader *reader = NULL;
	int r = snapshot_reader_create(&reader, &config, e);

	if (r == 0 && wants_image(several->load) && snapshot_reader_info(reader)->packed) {
		r = unpack(restoring, reader, e);
	}
	snapshot_reader_destroy(reader);
	return r;
}

static void remove_image(const struct restoring *restoring)
{
	char image[sizeof(restoring->directory) + IMAGE_SUFFIX_SIZE];

	if (restoring->directory[0] == '\0') {
		return;
	}
	(void)snprintf(image, sizeof(image), "%s/image", restoring->directory);
	(void)snapshot_remove(&(const struct snapshot_paths){ .directory = image }, NULL);
	(void)rmdir(restoring->directory);
}

/* ------------------------------------------------------------------------------------------------- */

static int check(const struct restore_several *several, struct error *e)
{
	if (several->name == NULL) {
		(void)error_set(e, ERROR_USAGE, EINVAL, "--count: the VMs need names");
		return error_hint(e, "with --name web they are web-1, web-2 and so on");
	}
	if (several->count > 1 && several->load->net_fd_count != 0) {
		(void)error_set(e, ERROR_USAGE, EINVAL,
				"--net ID=fd:N: %u VMs cannot share a descriptor", several->count);
		return error_hint(e, "--net ID=tap:NAME%%d gives each a tap of its own");
	}
	return child_name_check(several->name, several->count, e);
}

int restore_several(const struct restore_several *several)
{
	struct restoring restoring = { .several = several };
	const struct children children = { .count = several->count,
					   .fill = fill,
					   .arg = &restoring };
	struct starting *starting = NULL;
	struct error e = { 0 };
	uint32_t begun;
	int r = check(several, &e), code = EXIT_OK;

	if (r < 0) {
		return command_fail(&e);
	}
	progress_begin(&restoring.progress, false);
	r = prepare(&restoring, &e);
	progress_wipe(&restoring.progress);
	if (r == 0) {
		r = children_prepare(&starting, &children, &e);
	}
	if (r == 0) {
		r = children_start(starting, &begun, &e);
	}
	children_finish(starting);
	remove_image(&restoring);
	if (r < 0) {
		code = snapshot_fail(&restoring.progress, &e);
	}
	progress_end(&restoring.progress);
	return code;
}
