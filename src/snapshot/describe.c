/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot in words, as JSON. What others wrote into it is shown if it is JSON, and null otherwise. */
#include <string.h>

#include "internal.h"

static const char *const kinds[] = {
	[GUEST_REGION_RAM] = "ram", [GUEST_REGION_HOTPLUG] = "hotplug", [GUEST_REGION_PMEM] = "pmem"
};

static json_t *text_or_null(const char *text)
{
	json_t *value = NULL;

	return json_parse(&value, text, strlen(text), NULL) == 0 ? value : json_null();
}

static json_t *regions(const struct snapshot_info *info)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < info->region_count; i++) {
		json_t *region = json_object();

		if (!json_put(region, "kind", json_string(kinds[info->regions[i].kind])) ||
		    !json_put_number(region, "address", info->regions[i].gpa) ||
		    !json_put_number(region, "size", info->regions[i].size) ||
		    json_array_append(list, region) != 0) {
			json_decref(region);
			json_decref(list);
			return NULL;
		}
		json_decref(region);
	}
	return list;
}

/* {"id", "name"?: of whatever lies beside} */
static json_t *parent(const struct layer *layer)
{
	char id[SNAPSHOT_ID_TEXT];
	json_t *value = json_object();

	id_text(&layer->parent.id, id);
	if (!json_put(value, "id", json_string(id)) ||
	    (layer->parent.form != PARENT_ELSEWHERE &&
	     !json_put(value, "name", json_any_string(layer->parent.names[0], "?")))) {
		json_decref(value);
		return NULL;
	}
	return value;
}

json_t *snapshot_reader_describe(const struct snapshot_reader *r)
{
	const struct snapshot_info *info = &r->info;
	const struct layer *layer = r->layers[0];
	auto_json json_t *value = json_object();
	json_t *memory = json_object();

	if (!json_put(value, "id", json_string(info->id)) ||
	    !json_put(value, "kind", json_string(layer->diff ? "diff" : "full")) ||
	    (layer->diff && !json_put(value, "parent", parent(layer))) ||
	    !json_put_number(value, "depth", info->depth) ||
	    !json_put_number(value, "format", info->format) ||
	    !json_put(value, "vmm", json_string(info->version)) ||
	    !json_put_number(value, "created", info->created) ||
	    !json_put_number(value, "machine_bytes", info->machine_len) ||
	    !json_put_number(memory, "size", info->memory_size) ||
	    !json_put_number(memory, "stored", info->stored) ||
	    !json_put(memory, "compressed", json_boolean(info->packed)) ||
	    !json_put(memory, "regions", regions(info))) {
		json_decref(memory);
		return NULL;
	}
	if (!json_put(value, "memory", memory) ||
	    !json_put(value, "about", text_or_null(info->about)) ||
	    !json_put(value, "config", text_or_null(info->config))) {
		return NULL;
	}
	return json_incref(value);
}
