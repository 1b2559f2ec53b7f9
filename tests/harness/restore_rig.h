/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instances that save and load VMs with a guest that notices what is lost (tests/guest/test_work.c), on top of running_rig.h.
 */
#ifndef TESTS_HARNESS_RESTORE_RIG_H
#define TESTS_HARNESS_RESTORE_RIG_H

#include "harness/running_rig.h"

static inline void forget_output(void)
{
	(void)pthread_mutex_lock(&screen.lock);
	memset(screen.text, 0, sizeof(screen.text));
	screen.len = 0;
	(void)pthread_mutex_unlock(&screen.lock);
}

static inline void put_disk(const char *path)
{
	json_t *json = json_pack("{s:s, s:s, s:b}", "drive_id", "data", "path_on_host", path,
				 "is_root_device", 0);

	check_ok(rig_request(REQUEST_PUT_DISK, "data", json, NULL), &rig.e);
	json_decref(json);
}

static inline void start_work(void)
{
	put_guest("test=work");
	put_disk("disk");
	start_now();
	step_until(screen_has("round 3 "));
}

static inline void pause_vm(void)
{
	rig_ok(REQUEST_PATCH_VM, NULL, "{\"state\": \"Paused\"}");
}

static inline void anew(void)
{
	ck_assert(instance_destroy(rig.instance));
	forget_output();
	rig.started = rig.failed = 0;
	check_ok(instance_create(&rig.instance, &rig.settings, &rig.host, &rig.e), &rig.e);
}

static inline bool state_is(enum instance_state state)
{
	return instance_state(rig.instance) == state;
}

static inline bool there(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0;
}

/* Files in the directory: nothing is left of what failed. */
static inline unsigned count_files(const char *path)
{
	DIR *directory = opendir(path);
	const struct dirent *entry;
	unsigned count = 0;

	ck_assert_ptr_nonnull(directory);
	while ((entry = readdir(directory)) != NULL) {
		count += entry->d_name[0] != '.' || strlen(entry->d_name) > 2;
	}
	(void)closedir(directory);
	return count;
}

static inline void remove_snapshot(const char *directory)
{
	rig_empty_directory(directory);
	(void)rmdir(directory);
}

static char nonce[32];

static inline void read_nonce(void)
{
	(void)pthread_mutex_lock(&screen.lock);
	ck_assert_int_eq(sscanf(strstr(screen.text, "round "), "round %*u %31s", nonce), 1);
	(void)pthread_mutex_unlock(&screen.lock);
}

/* Both forms of one snapshot of a VM that works; the instance is a fresh one. */
static inline void make_snapshot(void)
{
	start_work();
	read_nonce();
	pause_vm();
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL, "{\"directory\": \"snap\"}");
	rig_ok(REQUEST_PUT_SNAPSHOT, NULL, "{\"snapshot_path\": \"s\", \"mem_file_path\": \"m\"}");
	anew();
}

static inline void expect_goes_on(void)
{
	step_until(screen_has(nonce));
	ck_assert(!screen_has("work"));
	ck_assert(!screen_has("FAIL"));
}

#endif
