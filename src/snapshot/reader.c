/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot that was opened, with those that it is a difference to: include/vmm/snapshot.h is the contract.
 *
 * layers[0] is the snapshot itself, the last one a full snapshot. A parent is whom the caller named that has the right id, or else what lies
 * beside under the name that the diff says. A chain that comes back to itself, is too long, or whose memories do not lie alike is
 * refused, so whoever follows it afterwards need not ask.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* Bytes of all `state` files of a chain. */
#define CHAIN_STATE_MAX MIB(512)

static int __cold parent_error(struct error *e, const struct layer *child, int sys, const char *why)
{
	char id[SNAPSHOT_ID_TEXT];

	id_text(&child->parent.id, id);
	(void)error_set(e, sys == ENOENT ? ERROR_NOT_FOUND : ERROR_SNAPSHOT, sys,
			"snapshot '%s' is a difference to snapshot %s%s%.80s%s, %s", child->shown,
			id, child->parent.names[0][0] != '\0' ? " ('" : "", child->parent.names[0],
			child->parent.names[0][0] != '\0' ? "')" : "", why);
	return -sys;
}

static int refuse_early(const struct layer *layer, bool wanted, struct error *e)
{
	if (!layer->early || wanted) {
		return 0;
	}
	(void)error_set(e, ERROR_SNAPSHOT, EBUSY,
			"snapshot '%s' is the image of a VM for its children, not whole or of no "
			"further use",
			layer->shown);
	return error_hint(e, "vmm snapshot create makes one that lasts");
}

/* Among those that the caller named; 0 and *ret NULL: none is it. */
static int open_named(struct layer **ret, const struct layer *child,
		      const struct snapshot_reader_config *config, struct error *e)
{
	for (size_t i = 0; i < config->parent_count; i++) {
		struct layer *state = NULL;
		bool is_it;
		int r = layer_create(&state, AT_FDCWD, &config->parents[i], true, e);

		if (r < 0) {
			return error_prefix(e, "parent");
		}
		is_it = id_equal(&state->file.header.id, &child->parent.id);
		layer_destroy(state);
		if (is_it) {
			return layer_create(ret, AT_FDCWD, &config->parents[i], false, e);
		}
	}
	return 0;
}

static int open_beside(struct layer **ret, const struct layer *child, struct error *e)
{
	const struct parent_link *link = &child->parent;
	struct snapshot_paths paths = { 0 };
	int r;

	if (link->form == PARENT_ELSEWHERE || child->folder < 0) {
		(void)parent_error(e, child, ENOENT, "which was not beside it");
		return error_hint(e, "name that snapshot as its parent");
	}
	if (link->form == PARENT_DIRECTORY) {
		paths.directory = link->names[0];
	} else {
		paths.state = link->names[0];
		paths.memory = link->names[1];
	}
	r = layer_create(ret, child->folder, &paths, false, e);
	if (r == -ENOENT) {
		(void)parent_error(e, child, ENOENT, "which is not beside it");
		return error_hint(e, "put the parent back, or name the place where it is");
	}
	return r < 0 ? error_prefix(e, "parent of snapshot '%s'", child->shown) : 0;
}

/* Memory of a parent is where the child has it, or where the child has none. */
static int check_layout(const struct layer *child, const struct layer *parent, struct error *e)
{
	const struct layout *a = &child->table.layout, *b = &parent->table.layout;

	for (uint32_t i = 0; i < b->region_count; i++) {
		for (uint32_t k = 0; k < a->region_count; k++) {
			const struct snapshot_region *x = &a->regions[k], *y = &b->regions[i];
			bool apart = x->gpa >= y->gpa + y->size || y->gpa >= x->gpa + x->size;

			if (!apart && (x->gpa != y->gpa || x->size != y->size)) {
				(void)parent_error(e, child, EINVAL, "whose memory lies otherwise");
				return error_hint(e,
						  "they are not of one VM: name the right parent");
			}
		}
	}
	return 0;
}

static int check_parent(const struct snapshot_reader *r, const struct layer *child,
			const struct layer *parent, uint64_t *size, struct error *e)
{
	const struct snapshot_id *id = &parent->file.header.id;
	char found[SNAPSHOT_ID_TEXT], why[SNAPSHOT_ID_TEXT + PATH_SHOWN + 20];
	uint32_t depth = parent->diff ? parent->parent.depth : 1;

	if (refuse_early(parent, false, e) < 0) {
		return error_prefix(e, "parent of snapshot '%s'", child->shown);
	}
	if (!id_equal(id, &child->parent.id)) {
		id_text(id, found);
		(void)snprintf(why, sizeof(why), "but '%s' is snapshot %s", parent->shown, found);
		(void)parent_error(e, child, EXDEV, why);
		return error_hint(e, "put the parent back, or name the place where it is");
	}
	for (uint32_t i = 0; i < r->depth; i++) {
		if (id_equal(id, &r->layers[i]->file.header.id)) {
			(void)parent_error(e, child, ELOOP,
					   "so that the chain comes back to itself");
			return error_hint(e, "the files are not made by vmm: do not trust them");
		}
	}
	if (depth + 1 != child->parent.depth) {
		(void)parent_error(e, child, EINVAL, "whose place in the chain is another");
		return error_hint(e, "the files are not made by vmm: do not trust them");
	}
	*size += parent->state_size;
	if (*size > CHAIN_STATE_MAX) {
		(void)parent_error(e, child, EFBIG, "and the chain's state files are too large");
		return error_hint(e, "merge the chain on the host where it was made");
	}
	return check_layout(child, parent, e);
}

static int open_chain(struct snapshot_reader *r, const struct snapshot_reader_config *config,
		      struct error *e)
{
	uint64_t size = 0;

	while (r->layers[r->depth - 1]->diff) {
		const struct layer *child = r->layers[r->depth - 1];
		struct layer *parent = NULL;
		int x;

		if (r->depth == SNAPSHOT_CHAIN_MAX) {
			(void)parent_error(e, child, EMLINK, "and the chain is too long");
			return error_hint(e, "%d snapshots are allowed", SNAPSHOT_CHAIN_MAX);
		}
		x = open_named(&parent, child, config, e);
		x = x == 0 && parent == NULL ? open_beside(&parent, child, e) : x;
		x = x == 0 ? check_parent(r, child, parent, &size, e) : x;
		if (x < 0) {
			layer_destroy(parent);
			return x;
		}
		parent->pack = &r->pack;
		r->packed = r->packed || parent->packed;
		r->layers[r->depth++] = parent;
	}
	return 0;
}

static void fill_info(struct snapshot_reader *r)
{
	const struct layer *layer = r->layers[0];
	const struct state_section *sections = layer->file.sections;
	struct snapshot_info *info = &r->info;

	id_text(&layer->file.header.id, info->id);
	if (layer->diff) {
		id_text(&layer->parent.id, info->parent_id);
	}
	(void)snprintf(info->version, sizeof(info->version), "%s", layer->file.header.version);
	info->format = layer->file.header.format;
	info->created = layer->file.header.created;
	info->about = (const char *)sections[SECTION_ABOUT].data;
	info->config = (const char *)sections[SECTION_CONFIG].data;
	info->machine = sections[SECTION_MACHINE].data;
	info->machine_len = sections[SECTION_MACHINE].len;
	info->region_count = layer->table.layout.region_count;
	memcpy(info->regions, layer->table.layout.regions, sizeof(info->regions));
	info->memory_size = layer->table.layout.memory_size;
	info->stored = layer->table.stored * PAGE_SIZE_4K;
	info->packed = layer->packed;
	info->early = layer->early;
	info->depth = layer->diff ? layer->parent.depth : 1;
}

int snapshot_reader_create(struct snapshot_reader **ret,
			   const struct snapshot_reader_config *config, struct error *e)
{
	struct snapshot_reader *r = calloc(1, sizeof(*r));
	int x;

	if (r == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "snapshot");
	}
	r->state_only = config->state_only;
	pack_init(&r->pack);
	x = layer_create(&r->layers[0], AT_FDCWD, &config->paths, config->state_only, e);
	if (x == 0) {
		r->depth = 1;
		x = refuse_early(r->layers[0], config->early, e);
	}
	if (x == 0) {
		r->layers[0]->pack = &r->pack;
		r->packed = r->layers[0]->packed;
		x = config->state_only ? 0 : open_chain(r, config, e);
		x = x == 0 && r->packed && !config->state_only
			    ? pack_supported(r->layers[0]->shown, e)
			    : x;
	}
	if (x < 0) {
		snapshot_reader_destroy(r);
		return x;
	}
	fill_info(r);
	*ret = r;
	return 0;
}

void snapshot_reader_destroy(struct snapshot_reader *r)
{
	if (r == NULL) {
		return;
	}
	for (uint32_t i = 0; i < r->depth; i++) {
		layer_destroy(r->layers[i]);
	}
	pack_finish(&r->pack);
	free(r);
}

int snapshot_reader_directory(const struct snapshot_reader *r)
{
	return r->layers[0]->inside;
}

const struct snapshot_info *snapshot_reader_info(const struct snapshot_reader *r)
{
	return &r->info;
}
