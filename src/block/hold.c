/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk that goes to another process, or back, while both have it open (vmm/block.h): what is the same for all, and what the
 * two raw engines do. Those of an overlay are in cow.c and cow_file.c.
 *
 * The thread that owns the machine, within its filter, while workers have the disk drained; no locks. What the files are, who
 * else has them and what they say is others' business, so all of it is looked at anew when the lock is ours.
 *
 * A device's claim is an open file of its own, beside that of the requests, which a ring has registered and which stays. The
 * workers use it for what only who has claimed the device may do (sync.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "raw.h"
#include "vmm/cleanup.h"

static void check_at_rest(const struct block *b)
{
	for (; b != NULL; b = b->more) {
		VMM_BUG_ON(b->in_flight != 0 || b->pending.head != NULL);
	}
}

static void set_unheld(struct block *b, bool unheld)
{
	for (; b != NULL; b = b->more) {
		b->unheld = unheld;
	}
}

int block_release_lock(struct block *b, struct error *e)
{
	int r = 0;

	check_at_rest(b);
	if (b->unheld) {
		return 0;
	}
	if (b->ops->release != NULL) {
		r = b->ops->release(b, e);
	}
	if (r == 0) {
		set_unheld(b, true);
	}
	return r;
}

int block_take_lock(struct block *b, struct error *e)
{
	int r = 0;

	check_at_rest(b);
	if (!b->unheld) {
		return 0;
	}
	if (b->ops->take != NULL) {
		r = b->ops->take(b, e);
	}
	if (r == 0) {
		set_unheld(b, false);
	}
	return r;
}

void block_sync_ahead(struct block *b)
{
	if (b->ops->sync_ahead != NULL) {
		b->ops->sync_ahead(b);
	}
}

/* O_EXCL is how the kernel says that nobody else (a mount, RAID, LVM) has it. */
int raw_claim_device(int fd, const char *path, int *claim, struct error *e)
{
	char self[40];
	int mine;

	(void)snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	mine = open(self, O_RDWR | O_CLOEXEC | O_EXCL);
	if (mine < 0 && errno == EBUSY) {
		(void)error_set(e, ERROR_DISK_LOCKED, EBUSY,
				"'%s' is in use by this host: mounted, or part of another device",
				path);
		(void)error_hint(e, "unmount it first, or use it with ',ro'");
		return -EBUSY;
	}
	*claim = mine;
	return 0;
}

void raw_let_go(struct raw *raw)
{
	close_fd(&raw->claim);
	if (raw->locks) {
		unlock_disk(raw->fd);
	}
}

int raw_refuse_release(const struct raw *raw, int sys, struct error *e)
{
	(void)error_set_sys(e, ERROR_DISK, sys,
			    "'%s' cannot be given away: the host does not keep what was written",
			    raw->path);
	return error_hint(e, "see the host's log; nobody else could tell what is missing");
}

/* Others will want to see, or still have, what is written to it. */
static bool needs_sync(const struct raw *raw)
{
	return !raw->block.read_only && !raw->block.is_null && (!raw->unsafe || raw->is_remote);
}

/*
 * The host tells each open file of what it has lost, once: those of other workers may know of something that this one was told
 * at its own sync. A failure here is told to nobody else, so FLUSH must fail from now on.
 */
int raw_release(struct block *b, struct error *e)
{
	struct raw *raw = container_of(b, struct raw, block);
	const bool syncs = needs_sync(raw) && (!b->stays_here || raw->is_remote);
	int r;

	VMM_BUG_ON(raw->twin != NULL);
	for (struct block *each = b; each != NULL; each = each->more) {
		if (container_of(each, struct raw, block)->sync_failed) {
			return raw_refuse_release(raw, EIO, e);
		}
	}
	r = syncs ? raw_sync(raw) : 0;
	if (r < 0) {
		raw->sync_failed = true;
		return raw_refuse_release(raw, -r, e);
	}
	raw_let_go(raw);
	return 0;
}

static int current_size(const struct raw *raw, uint64_t *size)
{
	struct stat st;

	if (raw->is_device) {
		return ioctl(raw->fd, BLKGETSIZE64, size) == 0 ? 0 : -errno;
	}
	if (fstat(raw->fd, &st) != 0) {
		return -errno;
	}
	*size = (uint64_t)st.st_size;
	return 0;
}

static int check_size(const struct raw *raw, struct error *e)
{
	uint64_t was = raw->block.capacity + raw->block.tail, is = was;
	int r = raw->block.is_null ? 0 : current_size(raw, &is);

	if (r < 0) {
		return error_set_sys(e, ERROR_DISK, -r, "size of '%s'", raw->path);
	}
	if (is == was) {
		return 0;
	}
	r = error_set(e, ERROR_DISK, ESTALE,
		      "'%s' is not what it was when it was opened: it had %llu bytes, and has %llu",
		      raw->path, (unsigned long long)was, (unsigned long long)is);
	(void)error_hint(e, "'truncate -s %llu %s' gives it the size that the guest counts on",
			 (unsigned long long)was, raw->path);
	return r;
}

int raw_take(struct block *b, struct error *e)
{
	struct raw *raw = container_of(b, struct raw, block);
	int r = raw->locks ? lock_disk(raw->fd, raw->path, b->read_only, true, e) : 0;

	if (r < 0) {
		return r;
	}
	if (raw->is_device && !b->read_only) {
		r = raw_claim_device(raw->fd, raw->path, &raw->claim, e);
	}
	if (r == 0) {
		r = check_size(raw, e);
	}
	if (r < 0) {
		raw_let_go(raw);
		return r;
	}
	if (raw->is_device || raw->is_remote) {
		/* Another host may have written it since we read them. */
		(void)posix_fadvise(raw->fd, 0, 0, POSIX_FADV_DONTNEED);
	}
	return 0;
}

/* Without waiting: who waits is told of errors, and then a worker's FLUSH on the same open file would not be. */
void raw_sync_ahead(struct block *b)
{
	const struct raw *raw = container_of(b, struct raw, block);

	if (needs_sync(raw)) {
		(void)sync_file_range(raw->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	}
}
