/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See offering.h. Main describes; the job's thread makes the message of that. Nothing of it is anybody's but ours: who receives it
 * judges it (receive.c).
 */
#include "offering.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "vmm/bytes.h"
#include "vmm/cleanup.h"
#include "vmm/handover.h"
#include "vmm/text.h"

static void add_disk(void *arg, const char *id, uint64_t bytes)
{
	(void)json_put_number(arg, id, bytes);
}

/* Disks are not witnessed: they are in use, and come over with the VM. */
void offering_describe(struct offering *offering, struct instance *instance)
{
	static const struct saved_disks none = { 0 };

	if (offering->about != NULL) {
		return;
	}
	offering->about = saved_about(instance);
	offering->config = saved_config(instance, &none);
	offering->disk_bytes = json_object();
	offering->uptime_ns = instance_uptime_ns(instance);
	vm_visit_disks(instance->vm, add_disk, offering->disk_bytes);
	offering->described =
		offering->about != NULL && offering->config != NULL && offering->disk_bytes != NULL;
}

void offering_finish(struct offering *offering)
{
	free(take_ptr(offering->about));
	free(take_ptr(offering->config));
	json_decref(take_ptr(offering->disk_bytes));
}

/* A disk that moves becomes one file there, whatever it is here. NULL: out of memory. */
static char *without_overlays(const char *config, const json_t *moving)
{
	auto_json json_t *json = NULL;
	const json_t *drives;

	(void)json_parse(&json, config, strlen(config), NULL);
	drives = json_object_get(json, "drives");
	for (size_t i = 0; i < json_array_size(drives); i++) {
		json_t *drive = json_array_get(drives, i);
		const char *id = json_string_value(json_object_get(drive, "drive_id"));

		for (size_t k = 0; id != NULL && k < json_array_size(moving); k++) {
			if (strcmp(json_string_value(json_array_get(moving, k)), id) == 0) {
				(void)json_object_del(drive, "overlay");
			}
		}
	}
	return json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
}

int offering_make(const struct offering *offering, const struct state_buf *state, bool paused,
		  json_t *moving_disks, json_t *postcopy, json_t *channels, uint8_t **ret,
		  uint32_t *ret_len, struct error *e)
{
	auto_free char *edited = json_array_size(moving_disks) != 0
					 ? without_overlays(offering->config, moving_disks)
					 : NULL;
	const char *config = json_array_size(moving_disks) != 0 ? edited : offering->config;
	auto_json json_t *json = json_pack(
		"{s:s, s:s, s:s, s:b, s:O, s:I, s:o, s:o*, s:o*}", "vmm", VMM_VERSION, "about",
		offering->about, "config", config, "paused", paused, "disk_bytes",
		offering->disk_bytes, "uptime_ns", (json_int_t)offering->uptime_ns, "moving_disks",
		moving_disks, "postcopy", postcopy, "channels", channels);
	auto_free char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
	const uint32_t most = handover_message_info(HANDOVER_OFFER)->max;
	size_t len = text != NULL ? strlen(text) : 0, all = OFFER_JSON_LENGTH + len + state->len;
	uint8_t *offer;

	if (text != NULL && all > most) {
		return error_set(e, ERROR_NOT_SUPPORTED, EFBIG,
				 "migration: configuration and state are %zu bytes; %u can be sent",
				 all, most);
	}
	offer = text != NULL ? malloc(all) : NULL;
	if (offer == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "migration: out of memory");
	}
	store_le32(offer, (uint32_t)len);
	memcpy(offer + OFFER_JSON_LENGTH, text, len);
	memcpy(offer + OFFER_JSON_LENGTH + len, state->data, state->len);
	*ret = offer;
	*ret_len = (uint32_t)all;
	return 0;
}

int offering_draw_token(uint8_t token[OFFER_TOKEN], json_t **ret, struct error *e)
{
	char text[2 * OFFER_TOKEN + 1];

	if (getrandom(token, OFFER_TOKEN, 0) != OFFER_TOKEN) {
		return error_set_sys(e, ERROR_MIGRATION, errno, "migration: getrandom");
	}
	for (size_t i = 0; i < OFFER_TOKEN; i++) {
		(void)snprintf(text + 2 * i, 3, "%02x", token[i]);
	}
	*ret = json_string(text);
	return *ret != NULL ? 0 : error_set(e, ERROR_NO_MEMORY, ENOMEM, "migration: out of memory");
}

bool offering_read_token(const char *text, uint8_t token[OFFER_TOKEN])
{
	if (text == NULL || strlen(text) != (size_t)2 * OFFER_TOKEN) {
		return false;
	}
	for (size_t i = 0; i < OFFER_TOKEN; i++) {
		uint64_t byte;

		if (text_to_number(text + 2 * i, 2, 16, &byte) != 0) {
			return false;
		}
		token[i] = (uint8_t)byte;
	}
	return true;
}
