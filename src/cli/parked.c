// SPDX-License-Identifier: Apache-2.0
/* See parked.h. The file is the user's own, and read as strictly as a definition is. Any thread without a filter. */
#include "parked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cleanup.h"
#include "vmm/definition_store.h"
#include "vmm/log.h"
#include "vmm/snapshot.h"

LOG_DOMAIN("park");

#define VERSION 1

static const char *const names[] = { [PARKED_NOT] = "",
				     [PARKED_PARKED] = "parked",
				     [PARKED_PARKING] = "parking",
				     [PARKED_UNPARKING] = "unparking" };

static int read_root(struct parked *parked, struct error *e)
{
	static const char *const known[] = { "version", "state", "directory", "paused", NULL };
	const char *unknown = json_unknown_key(parked->root, known);
	const char *state = json_string_value(json_object_get(parked->root, "state"));

	if (json_integer_value(json_object_get(parked->root, "version")) != VERSION) {
		return error_set(e, ERROR_NOT_SUPPORTED, EOPNOTSUPP,
				 "it is not of version %d, which this vmm knows", VERSION);
	}
	if (unknown != NULL) {
		return error_set(e, ERROR_JSON, EINVAL, "unknown key '%.60s'", unknown);
	}
	for (size_t i = PARKED_PARKED; state != NULL && i < ARRAY_SIZE(names); i++) {
		if (strcmp(state, names[i]) == 0) {
			parked->state = (enum parked_state)i;
		}
	}
	parked->directory = json_string_value(json_object_get(parked->root, "directory"));
	parked->paused = json_is_true(json_object_get(parked->root, "paused"));
	if (parked->state == PARKED_NOT || parked->directory == NULL ||
	    parked->directory[0] != '/') {
		return error_set(e, ERROR_JSON, EINVAL, "%s: not what it should be",
				 parked->state == PARKED_NOT ? "state" : "directory");
	}
	return 0;
}

int parked_load(struct parked *parked, const char *name, struct error *e)
{
	int r;

	*parked = (struct parked){ 0 };
	r = parked_read(name, &parked->root, e);
	if (r < 0) {
		return r;
	}
	r = read_root(parked, e);
	if (r < 0) {
		parked_finish(parked);
		(void)error_prefix(e, "parked.json of '%s'", name);
		(void)error_hint(e, "vmm rm --force %s removes it", name);
	}
	return r;
}

int parked_save(const char *name, enum parked_state state, const char *directory, bool paused,
		struct error *e)
{
	auto_json json_t *root = json_pack("{s:i, s:s, s:s, s:b}", "version", VERSION, "state",
					   names[state], "directory", directory, "paused", paused);
	auto_free char *text = root != NULL ? json_dumps(root, JSON_INDENT(2)) : NULL;
	size_t len;

	if (text == NULL) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"'%.120s' is no name that can be written down", directory);
		return error_hint(e, "give a path in UTF-8");
	}
	len = strlen(text);
	text[len] = '\n'; /* over the NUL: written by length */
	return parked_write(name, text, len + 1, e);
}

void parked_finish(struct parked *parked)
{
	json_decref(parked->root);
	*parked = (struct parked){ 0 };
}

enum parked_state parked_state(const char *name)
{
	struct parked parked;
	enum parked_state state;

	if (parked_load(&parked, name, NULL) < 0) {
		return PARKED_NOT;
	}
	state = parked.state;
	parked_finish(&parked);
	return state;
}

int parked_check(const char *name, struct error *e)
{
	if (parked_state(name) != PARKED_PARKED) {
		return 0;
	}
	(void)error_set(e, ERROR_EXISTS, EEXIST, "a VM named '%s' is parked", name);
	return error_hint(e,
			  "vmm unpark %s lets it go on; vmm rm --force %s forgets what it was at",
			  name, name);
}

/* In the VM's own directory there is only what vmm park has put there. `directory` NULL: nobody knows of one. */
static void remove_snapshot(const char *name, const char *directory)
{
	char own[RUN_DIRECTORY_PATH_SIZE + 16];
	struct error e = { 0 };

	if (parked_directory(name, own, sizeof(own), NULL) < 0) {
		return;
	}
	if (directory != NULL && strcmp(own, directory) != 0) {
		log_info("the snapshot of '%s' stays: %s", name, directory);
	} else if (snapshot_remove(&(struct snapshot_paths){ .directory = own }, &e) < 0 &&
		   e.code != ERROR_NOT_FOUND) {
		log_warn("%s", e.msg);
	}
}

int parked_forget(const char *name, struct error *e)
{
	struct parked parked;
	int r = parked_load(&parked, name, NULL);

	remove_snapshot(name, r == 0 ? parked.directory : NULL);
	parked_finish(&parked);
	return parked_remove(name, e);
}
