/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a request for a snapshot can be one: what it names, and of which VM. Main; nothing is opened or changed. The client controls all of the request.
 */
#include <errno.h>

#include "internal.h"

static int check_copies(const struct snapshot_request *request, struct error *e)
{
	if (request->with_disks && request->directory == NULL) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"with_disks: a snapshot of two files has no place for copies of "
				"disks");
		return error_hint(e, "give a directory, or name a file for each (drive_copies)");
	}
	if (request->with_disks && json_array_size(request->copies) != 0) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"with_disks and drive_copies exclude each other");
		return error_hint(e, "with_disks copies every drive that is written");
	}
	return 0;
}

int snapshot_check_form(const struct snapshot_request *request, struct error *e)
{
	bool files = request->state_path != NULL || request->memory_path != NULL;

	if (files && request->directory != NULL) {
		return error_set(e, ERROR_CONFIG, EINVAL,
				 "snapshot: a directory and files are given; it is one or the "
				 "other");
	}
	if (request->directory == NULL &&
	    (request->state_path == NULL || request->memory_path == NULL)) {
		(void)error_set(e, ERROR_CONFIG, EINVAL, "snapshot: %s is not given",
				request->state_path == NULL ? "snapshot_path" : "mem_file_path");
		return error_hint(e, "give both, or a directory");
	}
	if (request->early && (!request->live || request->compress || request->with_disks ||
			       request->type != SNAPSHOT_FULL || request->directory == NULL)) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"early: only of a live, full snapshot in a directory, neither "
				"compressed nor with disks");
		return error_hint(e, "it is for children of this VM, which load it at once");
	}
	return check_copies(request, e);
}

int snapshot_check_state(const struct instance *instance, const struct snapshot_request *request,
			 struct error *e)
{
	int r = instance_check_alive(instance, e);

	if (r == 0 && instance->state == INSTANCE_RUNNING && request->directory == NULL) {
		(void)error_set(e, ERROR_WRONG_STATE, EBUSY,
				"The VM runs: a snapshot in two files is one of a paused VM.");
		return error_hint(e, "PATCH /vm with Paused; a snapshot in a directory pauses it "
				     "by itself");
	}
	/* Firecracker's clients get one of all that may have been written. */
	if (r == 0 && request->type == SNAPSHOT_DIFF && request->directory != NULL &&
	    !instance->config->vm.machine.track_dirty_pages) {
		(void)error_set(e, ERROR_WRONG_STATE, EINVAL,
				"snapshot: nobody has noted which pages the guest has written");
		return error_hint(e, "track_dirty_pages of the machine's configuration, or of the "
				     "load, asks for that (--track-dirty-pages)");
	}
	return r;
}
