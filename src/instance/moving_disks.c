/* SPDX-License-Identifier: Apache-2.0 */
/*
 * moving_disks.h says what for.
 *
 * A disk that the guest ejects while it moves stays open here, by a descriptor of ours, until the migration ends; it is no disk of the
 * machine any more then, and the destination refuses the state.
 */
#include "moving_disks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "restored_disks.h"
#include "vmm/block_dirty.h"
#include "vmm/cleanup.h"
#include "vmm/disk_copies.h"

/* NOLINTNEXTLINE(misc-redundant-expression): numbers of two rooms */
_Static_assert(MIGRATION_CLUSTER == BLOCK_DIRTY_CLUSTER, "one bit is one cluster");
_Static_assert(MIGRATION_DISKS_MAX >= VM_DISKS_MAX, "all disks of a VM can move");

static void forget_ids(struct moving_disks *disks)
{
	for (uint32_t i = 0; i < disks->count; i++) {
		free(take_ptr(disks->ids[i]));
	}
	disks->count = 0;
}

void moving_disks_finish(struct moving_disks *disks)
{
	forget_ids(disks);
	migration_blocks_finish(&disks->blocks);
	close_fd(&disks->folder);
	free(take_ptr(disks->path));
}

/* --- source -------------------------------------------------------------------------------------- */

struct visit {
	struct moving_disks *disks;
	struct error *e;
	int result;
};

/* Descriptors of our own: the guest may let go of a disk meanwhile. */
static int add_files(struct moving_disks *disks, const struct block *b, struct error *e)
{
	struct block_files files;
	int fd, base = -1;

	block_get_files(b, &files);
	fd = fcntl(files.fd, F_DUPFD_CLOEXEC, 3);
	if (fd >= 0 && files.base >= 0) {
		base = fcntl(files.base, F_DUPFD_CLOEXEC, 3);
	}
	if (fd < 0 || (files.base >= 0 && base < 0)) {
		(void)error_set_sys(e, ERROR_DISK, errno, "a descriptor");
		close_fd(&fd);
		return -EMFILE;
	}
	return base < 0 ? migration_blocks_add(&disks->blocks, fd, b->capacity, e)
			: migration_blocks_add_layers(&disks->blocks, fd, base, files.unit,
						      b->capacity, e);
}

static int add(struct moving_disks *disks, const char *id, struct block *b, struct error *e)
{
	int r = disk_copy_check_id(id, e);

	if (r < 0) {
		return r;
	}
	disks->sizes[disks->count] = b->capacity;
	r = add_files(disks, b, e);
	disks->ids[disks->count] = r == 0 ? strdup(id) : NULL;
	if (r == 0 && disks->ids[disks->count++] == NULL) {
		r = error_set(e, ERROR_NO_MEMORY, ENOMEM, "migration: out of memory");
	}
	r = r == 0 ? block_dirty_start(b, e) : r;
	return r < 0 ? error_prefix(e, "drive '%.64s'", id) : 0;
}

static void visit(void *arg, const char *id, struct block *b)
{
	struct visit *visit = arg;

	if (visit->result == 0 && !b->read_only && !b->is_null) {
		visit->result = add(visit->disks, id, b, visit->e);
	}
}

int moving_disks_begin(struct moving_disks *disks, struct vm *vm, struct error *e)
{
	struct visit all = { .disks = disks, .e = e };

	disks->vm = vm;
	vm_visit_blocks(vm, visit, &all);
	return all.result < 0 ? error_prefix(e, "with disks") : 0;
}

static void stop(void *arg, const char *id, struct block *b)
{
	(void)arg;
	(void)id;
	block_dirty_stop(b);
}

void moving_disks_end(struct moving_disks *disks)
{
	if (disks->vm != NULL) {
		vm_visit_blocks(disks->vm, stop, NULL);
	}
}

json_t *moving_disks_to_json(const struct moving_disks *disks)
{
	auto_json json_t *list = json_array();

	for (uint32_t i = 0; i < disks->count; i++) {
		if (json_array_append_new(list, json_string(disks->ids[i])) != 0) {
			return NULL;
		}
	}
	return take_ptr(list);
}

/* What was written before is above by then, or noted anew. */
static void look_above(struct moving_disks *disks, uint32_t index, const struct block *b)
{
	uint64_t *above = migration_blocks_above(&disks->blocks, index);

	if (above != NULL) {
		block_get_above(b, above);
	}
}

static void collect(void *arg, const char *id, struct block *b)
{
	struct moving_disks *disks = arg;

	for (uint32_t i = 0; i < disks->count; i++) {
		if (strcmp(disks->ids[i], id) == 0) {
			block_dirty_collect(b, migration_blocks_wanted(&disks->blocks, i));
			look_above(disks, i, b);
		}
	}
}

void moving_disks_want_all(struct moving_disks *disks)
{
	for (uint32_t i = 0; i < disks->count; i++) {
		migration_blocks_want_data(&disks->blocks, i);
	}
}

void moving_disks_want_written(struct moving_disks *disks)
{
	if (disks->count > 0) {
		vm_visit_blocks(disks->vm, collect, disks);
	}
}

/* --- destination --------------------------------------------------------------------------------- */

int moving_disks_init(struct moving_disks *disks, const char *path, uint64_t max, struct error *e)
{
	disks->max = max;
	if (path == NULL) {
		return 0;
	}
	disks->folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (disks->folder < 0) {
		(void)error_set_sys(e, ERROR_CONFIG, errno, "--disks-to (disks_to) '%.120s'", path);
		return error_hint(e, "name a directory that is there and may be written to: mkdir");
	}
	disks->path = strdup(path);
	return disks->path != NULL
		       ? 0
		       : error_set(e, ERROR_NO_MEMORY, ENOMEM, "receive: out of memory");
}

void moving_disks_forget_offer(struct moving_disks *disks)
{
	forget_ids(disks);
	migration_blocks_finish(&disks->blocks);
}

static int read_one(struct moving_disks *disks, const char *id, const json_t *sizes,
		    struct error *e)
{
	const json_int_t size = id != NULL ? json_integer_value(json_object_get(sizes, id)) : 0;
	int r;

	if (id == NULL || size <= 0 || disks->count == MIGRATION_DISKS_MAX) {
		return error_set(e, ERROR_MIGRATION, EPROTO,
				 "the offer's disks that move are not to be understood");
	}
	r = disk_copy_check_id(id, e);
	if (r < 0) {
		return r;
	}
	for (uint32_t i = 0; i < disks->count; i++) {
		if (strcmp(disks->ids[i], id) == 0) {
			return error_set(e, ERROR_MIGRATION, EPROTO,
					 "drive '%.64s' moves twice in the offer", id);
		}
	}
	disks->ids[disks->count] = strdup(id);
	if (disks->ids[disks->count] == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "receive: out of memory");
	}
	disks->sizes[disks->count++] = (uint64_t)size;
	return 0;
}

static int check_sizes(const struct moving_disks *disks, struct error *e)
{
	uint64_t all = 0;

	for (uint32_t i = 0; i < disks->count; i++) {
		if (__builtin_add_overflow(all, disks->sizes[i], &all)) {
			all = UINT64_MAX;
		}
	}
	if (disks->max == 0 || all <= disks->max) {
		return 0;
	}
	(void)error_set(e, ERROR_CONFIG, EFBIG,
			"the disks that move have %llu MiB, more than the %llu MiB allowed here",
			(unsigned long long)(all / MIB(1)),
			(unsigned long long)(disks->max / MIB(1)));
	return error_hint(e, "vmm receive: --max-disks SIZE allows more");
}

int moving_disks_read(struct moving_disks *disks, const json_t *ids, const json_t *sizes,
		      struct error *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < json_array_size(ids); i++) {
		r = read_one(disks, json_string_value(json_array_get(ids, i)), sizes, e);
	}
	if (r == 0 && disks->count > 0 && disks->folder < 0) {
		(void)error_set(e, ERROR_CONFIG, EACCES,
				"drive '%.64s' comes with the VM, and nobody has said where to",
				disks->ids[0]);
		return error_hint(e, "vmm receive: --disks-to FOLDER says it");
	}
	return r == 0 ? check_sizes(disks, e) : r;
}

static void name_of(const char *id, char name[NAME_MAX + 1])
{
	(void)snprintf(name, NAME_MAX + 1, "%.*s.img", NAME_MAX - 4, id);
}

static int override(const struct moving_disks *disks, const char *id, json_t *list, struct error *e)
{
	char name[NAME_MAX + 1], path[PATH_MAX];
	json_t *entry;
	int n;

	if (restored_disks_is_named(list, id)) {
		(void)error_set(e, ERROR_CONFIG, EINVAL,
				"drive '%.64s' comes with the VM: its file is made in '%.120s'", id,
				disks->path);
		return error_hint(e, "name no other for it here, or send the VM without its disks");
	}
	name_of(id, name);
	n = snprintf(path, sizeof(path), "%s/%s", disks->path, name);
	if (n < 0 || (size_t)n >= sizeof(path)) {
		return error_set(e, ERROR_CONFIG, ENAMETOOLONG,
				 "--disks-to (disks_to): '%.80s...' is too long", disks->path);
	}
	entry = json_pack("{s:s, s:s}", "drive_id", id, "path_on_host", path);
	return json_array_append_new(list, entry) == 0
		       ? 0
		       : error_set(e, ERROR_NO_MEMORY, ENOMEM, "receive: out of memory");
}

int moving_disks_override(const struct moving_disks *disks, const json_t *overrides, json_t **ret,
			  struct error *e)
{
	auto_json json_t *list =
		overrides != NULL ? json_copy((json_t *)(uintptr_t)overrides) : json_array();
	int r = list != NULL ? 0 : error_set(e, ERROR_NO_MEMORY, ENOMEM, "receive: out of memory");

	for (uint32_t i = 0; r == 0 && i < disks->count; i++) {
		r = override(disks, disks->ids[i], list, e);
	}
	*ret = r == 0 ? take_ptr(list) : NULL;
	return r;
}

static int make_one(struct moving_disks *disks, uint32_t index, struct error *e)
{
	char name[NAME_MAX + 1];
	int fd;

	name_of(disks->ids[index], name);
	fd = openat(disks->folder, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 && errno == EEXIST) {
		(void)error_set(e, ERROR_EXISTS, EEXIST, "'%.120s/%s' is there already",
				disks->path, name);
		return error_hint(e, "give another folder, or remove it yourself");
	}
	if (fd < 0) {
		return error_set_sys(e, ERROR_DISK, errno, "make '%.120s/%s'", disks->path, name);
	}
	disks->made = index + 1;
	if (ftruncate(fd, (off_t)disks->sizes[index]) < 0) {
		const int sys = errno;

		(void)close(fd);
		return error_set_sys(e, ERROR_DISK, sys, "'%.120s/%s': its size of %llu bytes",
				     disks->path, name, (unsigned long long)disks->sizes[index]);
	}
	return migration_blocks_add(&disks->blocks, fd, disks->sizes[index], e);
}

int moving_disks_make(struct moving_disks *disks, struct error *e)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < disks->count; i++) {
		r = make_one(disks, i, e);
	}
	/* What the guest has written to a disk of no name would be lost with the host's power. */
	if (r == 0 && disks->count > 0 && fsync(disks->folder) < 0) {
		r = error_set_sys(e, ERROR_DISK, errno, "write '%.120s' to the disk", disks->path);
	}
	if (r < 0) {
		moving_disks_remove(disks);
	}
	return r;
}

void moving_disks_remove(struct moving_disks *disks)
{
	for (uint32_t i = 0; i < disks->made; i++) {
		char name[NAME_MAX + 1];

		name_of(disks->ids[i], name);
		(void)unlinkat(disks->folder, name, 0);
	}
	disks->made = 0;
}
