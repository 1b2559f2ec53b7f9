/* SPDX-License-Identifier: Apache-2.0 */
/* The witness of a disk as JSON, which snapshots have it as: include/vmm/disk_witness.h. Any thread, no state; what is read is
 * hostile. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/disk_witness.h"
#include "vmm/json.h"

#define SAMPLE	      "crc32c:"
#define SAMPLE_LEN    7
#define SAMPLE_DIGITS 8

json_t *disk_witness_to_json(const struct disk_witness *witness)
{
	char sample[SAMPLE_LEN + SAMPLE_DIGITS + 1];
	json_t *json = json_object();
	bool ok;

	(void)snprintf(sample, sizeof(sample), SAMPLE "%08x", witness->sample);
	/* A seed is any 64 bits. */
	ok = json_put_number(json, "size", witness->size) &&
	     json_put(json, "type", json_string(witness->is_device ? "device" : "file")) &&
	     json_put(json, "sample", json_string(sample)) &&
	     json_put(json, "seed", json_integer((json_int_t)witness->seed)) &&
	     json_put_number(json, "device", witness->device) &&
	     json_put_number(json, "inode", witness->inode);
	if (ok && !witness->is_device) {
		ok = json_put(json, "mtime",
			      json_pack("[I,I]", (json_int_t)witness->mtime_s,
					(json_int_t)witness->mtime_ns));
	}
	if (!ok) {
		json_decref(json);
		return NULL;
	}
	return json;
}

static int bad(const char *what, const char *key, struct error *e)
{
	return error_set(e, ERROR_STATE, EINVAL,
			 "what is known of %s: '%s' is missing, or of no use", what, key);
}

static bool get_number(const json_t *json, uint64_t *ret)
{
	if (!json_is_integer(json) || json_integer_value(json) < 0) {
		return false;
	}
	*ret = (uint64_t)json_integer_value(json);
	return true;
}

static bool get_sample(const json_t *json, uint32_t *ret)
{
	const char *text = json_string_value(json);

	if (text == NULL || strncmp(text, SAMPLE, SAMPLE_LEN) != 0 ||
	    strlen(text) != SAMPLE_LEN + SAMPLE_DIGITS ||
	    strspn(text + SAMPLE_LEN, "0123456789abcdef") != SAMPLE_DIGITS) {
		return false;
	}
	*ret = (uint32_t)strtoul(text + SAMPLE_LEN, NULL, 16);
	return true;
}

static bool get_time(const json_t *json, struct disk_witness *witness)
{
	const json_t *seconds = json_array_get(json, 0);
	uint64_t ns;

	if (json_array_size(json) != 2 || !json_is_integer(seconds) ||
	    !get_number(json_array_get(json, 1), &ns) || ns >= 1000000000) {
		return false;
	}
	witness->mtime_s = json_integer_value(seconds);
	witness->mtime_ns = (uint32_t)ns;
	return true;
}

int disk_witness_from_json(struct disk_witness *ret, const json_t *json, const char *what,
			   struct error *e)
{
	struct disk_witness witness = { 0 };
	const char *type = json_string_value(json_object_get(json, "type"));

	if (!get_number(json_object_get(json, "size"), &witness.size)) {
		return bad(what, "size", e);
	}
	if (type == NULL || (strcmp(type, "file") != 0 && strcmp(type, "device") != 0)) {
		return bad(what, "type", e);
	}
	witness.is_device = strcmp(type, "device") == 0;
	if (!get_sample(json_object_get(json, "sample"), &witness.sample)) {
		return bad(what, "sample", e);
	}
	if (!json_is_integer(json_object_get(json, "seed"))) {
		return bad(what, "seed", e);
	}
	witness.seed = (uint64_t)json_integer_value(json_object_get(json, "seed"));
	if (!witness.is_device && !get_time(json_object_get(json, "mtime"), &witness)) {
		return bad(what, "mtime", e);
	}
	(void)get_number(json_object_get(json, "device"), &witness.device);
	(void)get_number(json_object_get(json, "inode"), &witness.inode);
	*ret = witness;
	return 0;
}
