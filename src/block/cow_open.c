/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a disk with an overlay: two raw disks, and what the overlay says of itself. Before the sandbox, where an overlay
 * that is missing is made, or on the machine thread, whose filter makes no files. Paths are a client's.
 */
#include "cow.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/cleanup.h"

static int check_config(const struct block_config *config, struct error *e)
{
	struct stat base, overlay;

	if (config->read_only) {
		(void)error_set(
			e, ERROR_CONFIG, EINVAL,
			"overlay '%s': the disk is read-only, so nothing would be written there",
			config->overlay);
		return error_hint(e, "leave out 'ro' (is_read_only), or the overlay");
	}
	if (config->overlay[0] == '\0') {
		return error_set(e, ERROR_CONFIG, EINVAL, "an overlay needs a path");
	}
	if (config->path != NULL && stat(config->path, &base) == 0 &&
	    stat(config->overlay, &overlay) == 0 && base.st_dev == overlay.st_dev &&
	    base.st_ino == overlay.st_ino) {
		(void)error_set(e, ERROR_CONFIG, EINVAL, "overlay '%s' is its base, '%s'",
				config->overlay, config->path);
		return error_hint(e, "overlay=FILE is made if it is not there");
	}
	return 0;
}

static int missing(const struct block_config *config, struct error *e)
{
	(void)error_set_sys(e, ERROR_DISK, ENOENT, "open overlay '%s'", config->overlay);
	if (config->lock_later) {
		return error_hint(e, "it has to be the file that the VM has used so far");
	}
	return error_hint(e, "a VM that runs makes no files: 'touch %s' makes an empty one",
			  config->overlay);
}

/* An empty file, if there is none: the overlay's own code makes an overlay of it. */
static int make_missing(const struct block_config *config, bool running, bool *made,
			struct error *e)
{
	const int flags = O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	auto_close int fd = open(config->overlay, flags);

	if (fd >= 0 || errno != ENOENT) {
		return 0; /* what is wrong with it will be said */
	}
	if (running || config->lock_later) {
		return missing(config, e);
	}
	fd = open(config->overlay, flags | O_CREAT | O_EXCL, 0600);
	if (fd < 0 && errno != EEXIST) {
		return error_set_sys(e, ERROR_DISK, errno, "make overlay '%s'", config->overlay);
	}
	*made = fd >= 0;
	return 0;
}

static int open_base(struct block **ret, const struct block_config *config, bool running,
		     struct error *e)
{
	struct block_config base = *config;
	int r;

	base.read_only = true;
	r = raw_open(ret, &base, NULL, running, e);
	if (r == 0 && ((*ret)->is_null || (*ret)->capacity == 0)) {
		r = error_set(e, ERROR_DISK, EINVAL,
			      "'%s' is empty: there is nothing for overlay '%s'", config->path,
			      config->overlay);
	}
	return r;
}

static int open_overlay(struct block **ret, const struct block_config *config, bool running,
			struct error *e)
{
	const struct block_config overlay = {
		.path = config->overlay,
		.engine = config->engine,
		.format = BLOCK_FORMAT_RAW,
		.lock = config->lock,
		.lock_later = config->lock_later,
		.cache = config->cache,
		.queues = config->queues,
	};
	int r = raw_open(ret, &overlay, NULL, running, e);

	if (r == 0 && (container_of(*ret, struct raw, block)->is_device || (*ret)->is_null)) {
		r = error_set(e, ERROR_DISK, EINVAL, "overlay '%s' is a device", config->overlay);
		(void)error_hint(e, "an overlay is a file: FILE in overlay=FILE is made");
	}
	return r;
}

int cow_open(struct block **ret, const struct block_config *config, bool running, struct error *e)
{
	struct block *overlay = NULL, *base = NULL;
	struct cow_disk *disk = NULL;
	bool made = false;
	int r = check_config(config, e);

	if (r == 0) {
		r = open_base(&base, config, running, e);
	}
	if (r == 0) {
		r = make_missing(config, running, &made, e);
	}
	if (r == 0) {
		r = open_overlay(&overlay, config, running, e);
	}
	if (r == 0) {
		r = cow_disk_open(&disk, container_of(overlay, struct raw, block),
				  container_of(base, struct raw, block), config, e);
	}
	if (r == 0) {
		r = cow_create(ret, overlay, base, disk, e);
	}
	if (r == 0) {
		return 0;
	}
	if (disk != NULL) {
		disk->users = 1; /* of those that should have been */
		cow_disk_close(disk, container_of(overlay, struct raw, block));
	}
	if (made) {
		(void)unlink(config->overlay); /* with its lock held */
	}
	block_close(overlay);
	block_close(base);
	return r;
}
