/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configurations as objects that are copied and changed: who owns which string, disks and cards by
 * id. What may be in one is vm_config.c's.
 *
 * Strings that a configuration owns are in a list and go with it. One that a change replaces stays
 * until then: the next change begins with a copy, which takes only what is used.
 *
 * Any thread, each configuration by one at a time. All values may be a client's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cleanup.h"
#include "vmm/options_json.h"
#include "vmm/vm_config.h"

struct vm_config_text {
	struct vm_config_text *next;
	char text[];
};

/* Parts that have strings. */
static const struct part {
	size_t offset;
	const struct option_table *table;
} parts[] = {
	{ offsetof(struct vm_config, boot), &vm_boot_options },
	{ offsetof(struct vm_config, serial), &serial_settings_options },
	{ offsetof(struct vm_config, logger), &logger_settings_options },
	{ offsetof(struct vm_config, metrics), &metrics_settings_options },
};

void vm_config_init(struct vm_config *config)
{
	memset(config, 0, offsetof(struct vm_config, disks));
}

void vm_config_finish(struct vm_config *config)
{
	while (config->texts != NULL) {
		struct vm_config_text *text = config->texts;

		config->texts = text->next;
		free(text);
	}
	json_decref(config->cpu_config);
	free(config->cpu_template);
	vm_config_init(config);
}

static char *keep(void *arg, const char *text)
{
	struct vm_config *config = arg;
	size_t size = strlen(text) + 1;
	struct vm_config_text *kept = malloc(sizeof(*kept) + size);

	if (kept == NULL) {
		return NULL;
	}
	kept->next = config->texts;
	config->texts = kept;
	return memcpy(kept->text, text, size);
}

static int no_memory(struct error *e)
{
	return error_set(e, ERROR_NO_MEMORY, ENOMEM, "configuration: out of memory");
}

char *vm_config_keep(struct vm_config *config, const char *text, struct error *e)
{
	char *kept = keep(config, text);

	if (kept == NULL) {
		(void)no_memory(e);
	}
	return kept;
}

int vm_config_keep_all(struct vm_config *config, const struct option_table *table, void *part,
		       struct error *e)
{
	return options_keep(table, part, keep, config) ? 0 : no_memory(e);
}

static int keep_everything(struct vm_config *config, struct error *e)
{
	int r = 0;

	if (config->name != NULL) {
		config->name = vm_config_keep(config, config->name, e);
		r = config->name != NULL ? 0 : -ENOMEM;
	}
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(parts); i++) {
		r = vm_config_keep_all(config, parts[i].table, (char *)config + parts[i].offset, e);
	}
	for (uint32_t i = 0; r == 0 && i < config->disk_count; i++) {
		r = vm_config_keep_all(config, &block_options, &config->disks[i], e);
	}
	for (uint32_t i = 0; r == 0 && i < config->net_count; i++) {
		r = vm_config_keep_all(config, &vm_net_options, &config->nets[i], e);
	}
	return r;
}

int vm_config_copy(struct vm_config *copy, const struct vm_config *config, struct error *e)
{
	const struct cpu_template *template = config->cpu_template;
	int r;

	memcpy(copy, config, offsetof(struct vm_config, disks));
	memcpy(copy->disks, config->disks, config->disk_count * sizeof(copy->disks[0]));
	memcpy(copy->nets, config->nets, config->net_count * sizeof(copy->nets[0]));
	copy->texts = NULL;
	copy->cpu_template = NULL;
	json_incref(copy->cpu_config);
	r = keep_everything(copy, e);
	if (r == 0 && template != NULL) {
		copy->cpu_template = malloc(sizeof(*template));
		if (copy->cpu_template != NULL) {
			*copy->cpu_template = *template;
		} else {
			r = no_memory(e);
		}
	}
	if (r < 0) {
		vm_config_finish(copy);
	}
	return r;
}

/* --- disks and cards ---------------------------------------------------------------------------- */

struct block_config *vm_config_find_disk(struct vm_config *config, const char *id)
{
	for (uint32_t i = 0; i < config->disk_count; i++) {
		if (config->disks[i].id != NULL && strcmp(config->disks[i].id, id) == 0) {
			return &config->disks[i];
		}
	}
	return NULL;
}

struct vm_net_config *vm_config_find_net(struct vm_config *config, const char *id)
{
	for (uint32_t i = 0; i < config->net_count; i++) {
		if (config->nets[i].id != NULL && strcmp(config->nets[i].id, id) == 0) {
			return &config->nets[i];
		}
	}
	return NULL;
}

static void *no_room(const char *what, int max, struct error *e)
{
	(void)error_set(e, ERROR_CONFIG, ENOSPC, "more than %d %s are not possible", max, what);
	(void)error_hint(e, "use the id of one of them to replace it");
	return NULL;
}

/* A root drive moves to the front, unless there is one, which the validation says. */
static struct block_config *put_in_order(struct vm_config *config, struct block_config *place)
{
	const struct block_config disk = *place;

	if (!disk.root || config->disks[0].root) { /* which is perhaps this one */
		return place;
	}
	memmove(&config->disks[1], &config->disks[0],
		(size_t)(place - config->disks) * sizeof(disk));
	config->disks[0] = disk;
	return &config->disks[0];
}

/* At `place`; NULL: behind the others. */
static struct block_config *set_disk(struct vm_config *config, struct block_config *place,
				     const struct block_config *disk, struct error *e)
{
	struct block_config copy = *disk;
	char id[24];

	if (place == NULL && config->disk_count == VM_DISKS_MAX) {
		return no_room("drives", VM_DISKS_MAX, e);
	}
	for (uint32_t n = config->disk_count; copy.id == NULL; n++) {
		(void)snprintf(id, sizeof(id), "drive%u", n);
		copy.id = vm_config_find_disk(config, id) == NULL ? id : NULL;
	}
	if (vm_config_keep_all(config, &block_options, &copy, e) < 0) {
		return NULL;
	}
	if (place == NULL) {
		place = &config->disks[config->disk_count++];
	}
	*place = copy;
	return put_in_order(config, place);
}

struct block_config *vm_config_add_disk(struct vm_config *config, const struct block_config *disk,
					struct error *e)
{
	return set_disk(config, NULL, disk, e);
}

struct block_config *vm_config_put_disk(struct vm_config *config, const struct block_config *disk,
					struct error *e)
{
	return set_disk(config, disk->id != NULL ? vm_config_find_disk(config, disk->id) : NULL,
			disk, e);
}

static struct vm_net_config *set_net(struct vm_config *config, struct vm_net_config *place,
				     const struct vm_net_config *net, struct error *e)
{
	struct vm_net_config copy = *net;
	char id[24];

	if (place == NULL && config->net_count == VM_NETS_MAX) {
		return no_room("network cards", VM_NETS_MAX, e);
	}
	for (uint32_t n = config->net_count; copy.id == NULL; n++) {
		(void)snprintf(id, sizeof(id), "net%u", n);
		copy.id = vm_config_find_net(config, id) == NULL ? id : NULL;
	}
	if (vm_config_keep_all(config, &vm_net_options, &copy, e) < 0) {
		return NULL;
	}
	if (place == NULL) {
		place = &config->nets[config->net_count++];
	}
	*place = copy;
	return place;
}

struct vm_net_config *vm_config_add_net(struct vm_config *config, const struct vm_net_config *net,
					struct error *e)
{
	return set_net(config, NULL, net, e);
}

struct vm_net_config *vm_config_put_net(struct vm_config *config, const struct vm_net_config *net,
					struct error *e)
{
	return set_net(config, net->id != NULL ? vm_config_find_net(config, net->id) : NULL, net,
		       e);
}

bool vm_config_remove_disk(struct vm_config *config, const char *id)
{
	struct block_config *disk = vm_config_find_disk(config, id);

	if (disk == NULL) {
		return false;
	}
	config->disk_count--;
	memmove(disk, disk + 1,
		(size_t)(&config->disks[config->disk_count] - disk) * sizeof(*disk));
	return true;
}

bool vm_config_remove_net(struct vm_config *config, const char *id)
{
	struct vm_net_config *net = vm_config_find_net(config, id);

	if (net == NULL) {
		return false;
	}
	config->net_count--;
	memmove(net, net + 1, (size_t)(&config->nets[config->net_count] - net) * sizeof(*net));
	return true;
}
