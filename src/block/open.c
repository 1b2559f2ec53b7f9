/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a raw disk: a regular file, a block device, or one like /dev/null. Before the sandbox, or
 * on the machine thread. Everything the file says is hostile: its content is looked at once, and only
 * to refuse what is an image of another format by mistake (a guest may write any header into its own
 * raw disk, so content never chooses a format). Nothing is written.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cow.h"
#include "vmm/bytes.h"
#include "vmm/cleanup.h"

#define SECTOR_LARGE 4096

/* Headers before Linux 5.17 do not have them. */
#ifndef CIFS_SUPER_MAGIC
#define CIFS_SUPER_MAGIC 0xff534d42
#endif
#ifndef SMB2_SUPER_MAGIC
#define SMB2_SUPER_MAGIC 0xfe534d42
#endif

static const struct option_value engines[] = {
	{ "auto", BLOCK_ENGINE_AUTO },
	{ "sync", BLOCK_ENGINE_SYNC },
	{ "uring", BLOCK_ENGINE_URING },
	{ NULL, 0 },
};
static const struct option_value formats[] = {
	{ "auto", BLOCK_FORMAT_AUTO },
	{ "raw", BLOCK_FORMAT_RAW },
	{ NULL, 0 },
};
static const struct option_value locks[] = {
	{ "on", BLOCK_LOCK_ON },
	{ "off", BLOCK_LOCK_OFF },
	{ NULL, 0 },
};

static const struct option_value caches[] = {
	{ "writeback", BLOCK_CACHE_WRITEBACK },
	{ "unsafe", BLOCK_CACHE_UNSAFE },
	{ NULL, 0 },
};
static const struct option_value sectors[] = {
	{ "512", BLOCK_SECTOR },
	{ "4096", SECTOR_LARGE },
	{ NULL, 0 },
};
/* The spelling of Firecracker's API, where it differs. */
static const struct option_value json_engines[] = {
	{ "Async", BLOCK_ENGINE_AUTO },
	{ "Sync", BLOCK_ENGINE_SYNC },
	{ NULL, 0 },
};
static const struct option_value json_caches[] = {
	{ "Writeback", BLOCK_CACHE_WRITEBACK },
	{ "Unsafe", BLOCK_CACHE_UNSAFE },
	{ NULL, 0 },
};

static const struct option options[] = {
	{ .name = "path",
	  .type = OPTION_STRING,
	  .offset = offsetof(struct block_config, path),
	  .argument = "PATH",
	  .first = true,
	  .file = true,
	  .help = "raw image file or block device",
	  .json = "path_on_host",
	  .json_required = true },
	{ .name = "id",
	  .type = OPTION_STRING,
	  .offset = offsetof(struct block_config, id),
	  .argument = "NAME",
	  .help = "name of the disk in the API",
	  .json = "drive_id",
	  .json_required = true },
	{ .type = OPTION_FLAG,
	  .offset = offsetof(struct block_config, root),
	  .help = "the guest's root file system is on it: root= is put on the command line",
	  .json = "is_root_device",
	  .json_required = true },
	{ .verbatim = true,
	  .type = OPTION_STRING,
	  .offset = offsetof(struct block_config, partuuid),
	  .help = "of a root drive's partition: root=PARTUUID=...",
	  .json = "partuuid" },
	{ .type = OPTION_STRING,
	  .offset = offsetof(struct block_config, socket),
	  .help = "refused: there are no vhost-user disks yet; null is accepted",
	  .json = "socket" },
	{ .name = "ro",
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct block_config, read_only),
	  .help = "the guest cannot write; several machines can share the disk",
	  .json = "is_read_only" },
	{ .name = "overlay",
	  .type = OPTION_STRING,
	  .offset = offsetof(struct block_config, overlay),
	  .argument = "FILE",
	  .file = true,
	  .help = "what the guest writes goes there, the disk is only read; made if it is not "
		  "there",
	  .ours = true,
	  .json = "overlay" },
	{ .name = "serial",
	  .type = OPTION_STRING,
	  .offset = offsetof(struct block_config, serial),
	  .argument = "TEXT",
	  .help = "serial number, up to 20 characters",
	  .ours = true,
	  .json = "serial" },
	{ .name = "engine",
	  .type = OPTION_ENUM,
	  .offset = offsetof(struct block_config, engine),
	  .values = engines,
	  .argument = "auto|sync|uring",
	  .fallback = "auto",
	  .help = "how the host does the work",
	  .json = "io_engine",
	  .json_values = json_engines },
	{ .name = "cache",
	  .type = OPTION_ENUM,
	  .offset = offsetof(struct block_config, cache),
	  .values = caches,
	  .argument = "writeback|unsafe",
	  .fallback = "writeback",
	  .help = "unsafe: the guest cannot flush, a crash of the host loses what it has written "
		  "(Firecracker's default)",
	  .json = "cache_type",
	  .json_values = json_caches },
	{ .name = "format",
	  .type = OPTION_ENUM,
	  .offset = offsetof(struct block_config, format),
	  .values = formats,
	  .argument = "auto|raw",
	  .fallback = "auto",
	  .help = "raw: it is raw, whatever its first bytes look like",
	  .ours = true,
	  .json = "format" },
	{ .name = "lock",
	  .type = OPTION_ENUM,
	  .offset = offsetof(struct block_config, lock),
	  .values = locks,
	  .argument = "on|off",
	  .fallback = "on",
	  .help = "keep other machines from using the disk",
	  .ours = true,
	  .json = "lock" },
	{ .name = "sector",
	  .type = OPTION_ENUM,
	  .offset = offsetof(struct block_config, sector),
	  .values = sectors,
	  .argument = "512|4096",
	  .help = "size of a sector for the guest; default: the host's (512 for files)",
	  .ours = true,
	  .zero = OPTION_ZERO_NOT_GIVEN,
	  .json = "sector" },
	{ .name = "queues",
	  .type = OPTION_U32,
	  .offset = offsetof(struct block_config, queues),
	  .min = 1,
	  .max = BLOCK_QUEUES_MAX,
	  .argument = "N",
	  .unit = "1 to 16",
	  .help = "queues of the disk, each with a thread of vmm; by PCI one for each virtual CPU, "
		  "up to 4, else 1",
	  .theirs = "1",
	  .ours = true,
	  .zero = OPTION_ZERO_NOT_GIVEN,
	  .json = "num_queues" },
	{ .type = OPTION_OBJECT,
	  .offset = offsetof(struct block_config, limiter),
	  .present = offsetof(struct block_config, has_limiter) + 1,
	  .object = &rate_limit_options,
	  .help = "limits bytes and requests per time",
	  .json = "rate_limiter" },
};
const struct option_table block_options = OPTION_TABLE("disk", options);

/* First bytes of images that are not raw. */
static const struct magic {
	uint32_t offset;
	uint32_t len;
	const char *bytes;
	const char *name;
} magics[] = {
	{ 0, 4, "QFI\xfb", "qcow2" },
	{ 0, 8, "vhdxfile", "vhdx" },
	{ 0, 8, "conectix", "vpc" },
	{ 0, 4, "KDMV", "vmdk" },
	{ 0, 4, "COWD", "vmdk" },
	{ 0, 21, "# Disk DescriptorFile", "vmdk" },
	{ 0x40, 4, "\x7f\x10\xda\xbe", "vdi" },
	{ 0, 4, "QED\0", "qed" },
};

/* A GUID partition table begins in the second block (UEFI 2.10 §5.3.2). */
#define TABLE_MAGIC	 "EFI PART"
#define TABLE_MAGIC_SIZE 8
#define HEADER_SIZE	 (SECTOR_LARGE + TABLE_MAGIC_SIZE)

static int describe_open_error(const char *path, bool read_only, int sys, struct error *e)
{
	int r = error_set_sys(e, ERROR_DISK, sys, "open '%s'", path);

	if (sys == ENOENT && strncmp(path, "/dev/", strlen("/dev/")) != 0) {
		(void)error_hint(e, "'truncate -s 4G %s' makes an empty disk", path);
	} else if (sys == EISDIR) {
		r = error_set(e, ERROR_DISK, EISDIR, "'%s' is a directory", path);
		(void)error_hint(e, "a disk is a raw image file or a block device");
	} else if (sys == ENXIO) {
		r = error_set(e, ERROR_DISK, ENXIO,
			      "'%s' is a socket or a device that is not there", path);
		(void)error_hint(e, "a disk is a raw image file or a block device");
	} else if (!read_only &&
		   (sys == EACCES || sys == EPERM || sys == EROFS || sys == ETXTBSY)) {
		auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

		if (fd >= 0) {
			(void)error_hint(e, "it can be read: ',ro' uses it read-only");
		} else {
			(void)error_hint(e, "'ls -l %s' shows who may use it", path);
		}
	} else if (sys == EACCES) {
		(void)error_hint(e, "'ls -l %s' shows who may use it", path);
	}
	return r;
}

static const char *type_name(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "directory";
	case S_IFCHR:
		return "character device";
	case S_IFIFO:
		return "named pipe";
	case S_IFSOCK:
		return "socket";
	default:
		return "special file";
	}
}

/* Sizes of a block device. */
static int examine_device(struct raw_disk *disk, const char *path, struct error *e)
{
	int logical = 0;
	unsigned int physical = 0;

	if (!disk->read_only && !disk->unheld && disk->twin == NULL) {
		int r = raw_claim_device(disk->fd, path, &disk->claim, e);

		if (r < 0) {
			return r;
		}
	}
	if (ioctl(disk->fd, BLKGETSIZE64, &disk->capacity) < 0 ||
	    ioctl(disk->fd, BLKSSZGET, &logical) < 0) {
		return error_set_sys(e, ERROR_DISK, errno, "size of block device '%s'", path);
	}
	if (logical < BLOCK_SECTOR || logical > 4096 || (logical & (logical - 1)) != 0) {
		return error_set(e, ERROR_DISK, EINVAL,
				 "'%s' has blocks of %d bytes: 512 to 4096 work", path, logical);
	}
	disk->logical_block = disk->host_block = (uint32_t)logical;
	disk->physical_block = disk->logical_block;
	if (ioctl(disk->fd, BLKPBSZGET, &physical) == 0 && physical > disk->logical_block &&
	    physical <= KIB(64) && (physical & (physical - 1)) == 0) {
		disk->physical_block = physical;
	}
	disk->is_device = true;
	return 0;
}

/* A character device that is empty wherever one looks is an empty disk: who wants a drive of nothing
 * names /dev/null. */
static int examine_null(struct raw_disk *disk, const char *path, mode_t mode, struct error *e)
{
	int r;

	if (S_ISCHR(mode) && lseek(disk->fd, 0, SEEK_END) == 0) {
		disk->is_null = true;
		disk->logical_block = BLOCK_SECTOR;
		disk->physical_block = BLOCK_SECTOR;
		return 0;
	}
	r = error_set(e, ERROR_DISK, EINVAL, "'%s' is a %s", path, type_name(mode));
	(void)error_hint(e, "a disk is a raw image file or a block device");
	return r;
}

/* `sector` 0: the host's. */
static void set_size(struct raw_disk *disk, uint32_t sector)
{
	if (sector != 0) {
		disk->logical_block = sector;
	}
	VMM_BUG_ON(disk->logical_block == 0);
	disk->physical_block = MAX(disk->physical_block, disk->logical_block);
	disk->tail = (uint32_t)(disk->capacity % disk->logical_block);
	disk->capacity -= disk->tail;
}

/* Other hosts may write to its files, and the pages that this one keeps of them do not hear of it. Those of clusters (OCFS2,
 * GFS2, Ceph) see to that themselves. */
static bool is_remote(const struct statfs *fs)
{
	static const uint32_t types[] = { NFS_SUPER_MAGIC,  SMB_SUPER_MAGIC, CIFS_SUPER_MAGIC,
					  SMB2_SUPER_MAGIC, V9FS_MAGIC,	     FUSE_SUPER_MAGIC };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if ((uint32_t)fs->f_type == types[i]) {
			return true;
		}
	}
	return false;
}

static int examine(struct raw_disk *disk, const char *path, struct error *e)
{
	struct stat st;
	int r = 0;

	if (fstat(disk->fd, &st) != 0) {
		return error_set_sys(e, ERROR_DISK, errno, "stat '%s'", path);
	}
	if (S_ISBLK(st.st_mode)) {
		r = examine_device(disk, path, e);
	} else if (S_ISREG(st.st_mode)) {
		struct statfs fs = { 0 };

		(void)fstatfs(disk->fd, &fs);
		disk->in_memory = fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC;
		disk->is_remote = is_remote(&fs);
		disk->capacity = (uint64_t)st.st_size;
		disk->logical_block = BLOCK_SECTOR;
		disk->physical_block = PAGE_SIZE_4K;
	} else {
		r = examine_null(disk, path, st.st_mode, e);
	}
	return r;
}

static int refuse_formats(const uint8_t header[HEADER_SIZE], const char *path, struct error *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(magics); i++) {
		const struct magic *magic = &magics[i];

		if (memcmp(header + magic->offset, magic->bytes, magic->len) == 0) {
			int r = error_set(e, ERROR_DISK, EINVAL, "'%s' looks like %s, not raw",
					  path, magic->name);

			(void)error_hint(e,
					 "'qemu-img convert -f %s -O raw %s NEW.img' converts it; "
					 "',format=raw' if it is a raw disk",
					 magic->name, path);
			return r;
		}
	}
	return 0;
}

static bool has_table(const uint8_t header[HEADER_SIZE], uint32_t block)
{
	return memcmp(header + block, TABLE_MAGIC, TABLE_MAGIC_SIZE) == 0;
}

/* Looks at the first bytes: what they say is believed only to refuse, and to warn. */
static int look(struct raw_disk *disk, const struct block_config *config, struct error *e)
{
	uint8_t header[HEADER_SIZE] = { 0 };
	uint32_t other = disk->logical_block == BLOCK_SECTOR ? SECTOR_LARGE : BLOCK_SECTOR;
	ssize_t n;

	if (disk->is_null) {
		return 0;
	}
	do {
		n = pread(disk->fd, header, sizeof(header), 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		return error_set_sys(e, ERROR_DISK, errno, "read '%s'", config->path);
	}
	if (has_table(header, other) && !has_table(header, disk->logical_block)) {
		disk->table_block = other;
	}
	return config->format == BLOCK_FORMAT_AUTO ? refuse_formats(header, config->path, e) : 0;
}

static int set_serial(struct raw_disk *disk, const char *serial, struct error *e)
{
	size_t len = serial != NULL ? strlen(serial) : 0;

	if (len > BLOCK_SERIAL_SIZE) {
		return error_set(e, ERROR_CONFIG, EINVAL,
				 "serial number '%s' has %zu characters, at most %d work", serial,
				 len, BLOCK_SERIAL_SIZE);
	}
	for (size_t i = 0; i < len; i++) {
		if (serial[i] < 0x20 || serial[i] > 0x7e) {
			return error_set(e, ERROR_CONFIG, EINVAL,
					 "serial number has a character that is not printable "
					 "ASCII, at place %zu",
					 i + 1);
		}
	}
	if (len != 0) {
		memcpy(disk->serial, serial, len);
	}
	return 0;
}

/* O_NONBLOCK keeps open() from waiting for the other end of a named pipe; it must not stay,
 * io_uring would obey it. */
static int open_file(struct raw_disk *disk, const char *path, struct error *e)
{
	int mode = disk->read_only ? O_RDONLY : O_RDWR;

	disk->fd = open(path, mode | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_LARGEFILE);
	if (disk->fd < 0) {
		return describe_open_error(path, disk->read_only, errno, e);
	}
	if (fcntl(disk->fd, F_SETFL, mode | O_LARGEFILE) < 0) {
		return error_set_sys(e, ERROR_DISK, errno, "open '%s'", path);
	}
	return 0;
}

static int create(struct block **ret, struct raw_disk *disk, int engine, struct error *e)
{
	if (engine != BLOCK_ENGINE_SYNC && !disk->is_null) {
		struct error ignored;
		bool insist = engine == BLOCK_ENGINE_URING;
		int r = uring_create(ret, disk, insist ? e : &ignored);

		if (r == 0 || insist) {
			return r;
		}
	}
	return sync_create(ret, disk, e);
}

static bool same_file(int a, int b)
{
	struct stat x, y;

	if (fstat(a, &x) != 0 || fstat(b, &y) != 0) {
		return false;
	}
	if (S_ISBLK(x.st_mode) && S_ISBLK(y.st_mode)) {
		return x.st_rdev == y.st_rdev;
	}
	return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* A lock belongs to an open file, so a second one of the same file would be refused it. */
static int share_file(struct raw_disk *disk, struct block *old, struct error *e)
{
	struct raw *raw =
		old != NULL && old->ops->raw ? container_of(old, struct raw, block) : NULL;
	int fd;

	if (raw == NULL || old->read_only != disk->read_only || !same_file(disk->fd, raw->fd)) {
		return 0;
	}
	fd = fcntl(raw->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0) {
		return error_set_sys(e, ERROR_DISK, errno, "duplicate a descriptor");
	}
	close_fd(&disk->fd);
	disk->fd = fd;
	disk->twin = raw;
	if (raw->claim >= 0) {
		disk->claim = fcntl(raw->claim, F_DUPFD_CLOEXEC, 0);
		if (disk->claim < 0) {
			return error_set_sys(e, ERROR_DISK, errno, "duplicate a descriptor");
		}
	}
	return 0;
}

/*
 * The same disk for one more worker: an open file of its own, without a lock, which the first has. It
 * is opened by its name once more, and has to be the same file still.
 */
static int open_again(struct block **ret, const struct block_config *config,
		      const struct raw_disk *facts, int first, struct error *e)
{
	struct raw_disk disk = *facts;
	int r = open_file(&disk, config->path, e);

	if (r == 0 && !same_file(disk.fd, first)) {
		r = error_set(e, ERROR_DISK, ESTALE, "'%s' became another file while it was opened",
			      config->path);
	}
	if (r == 0) {
		r = create(ret, &disk, config->engine, e);
	}
	close_fd(&disk.fd);
	return r;
}

/* The whole chain; `disk` is consumed. */
static int create_all(struct block **ret, const struct block_config *config, struct raw_disk *disk,
		      struct error *e)
{
	struct raw_disk facts = *disk; /* of all others */
	struct block *block = NULL;
	struct block **end;
	int first = disk->fd;
	int r = create(&block, disk, config->engine, e);

	facts.fd = facts.claim = -1;
	facts.twin = NULL;
	facts.path = NULL;
	end = &block;
	for (uint32_t i = 1; r == 0 && i < config->queues; i++) {
		end = &(*end)->more;
		r = open_again(end, config, &facts, first, e);
		if (r == 0) {
			container_of(*end, struct raw, block)->first =
				container_of(block, struct raw, block);
		}
	}
	if (r < 0) {
		block_close(block);
		return r;
	}
	*ret = block;
	return 0;
}

int raw_open(struct block **ret, const struct block_config *config, struct block *old, bool running,
	     struct error *e)
{
	struct raw_disk disk = { .fd = -1,
				 .read_only = config->read_only,
				 .host_block = 1,
				 .unheld = config->lock_later,
				 .path = config->path,
				 .claim = -1,
				 .unsafe = config->cache == BLOCK_CACHE_UNSAFE };
	int r;

	if (config->path == NULL || config->path[0] == '\0') {
		r = error_set(e, ERROR_CONFIG, EINVAL, "a disk needs a path");
		goto out;
	}
	r = set_serial(&disk, config->serial, e);
	if (r == 0) {
		r = open_file(&disk, config->path, e);
	}
	if (r == 0) {
		r = share_file(&disk, old, e);
	}
	if (r == 0) {
		r = examine(&disk, config->path, e);
	}
	if (r == 0) {
		set_size(&disk, old != NULL ? old->logical_block : (uint32_t)config->sector);
	}
	disk.locks = config->lock == BLOCK_LOCK_ON && !disk.is_null;
	if (r == 0 && disk.locks && !disk.unheld) {
		r = lock_disk(disk.fd, config->path, config->read_only, running, e);
	}
	if (r == 0) {
		r = look(&disk, config, e);
	}
	if (r == 0) {
		r = create_all(ret, config, &disk, e);
	}

out:
	close_fd(&disk.fd);
	close_fd(&disk.claim);
	return r;
}

/* An overlay belongs to its base. */
static int refuse_instead(const struct block_config *config, struct error *e)
{
	(void)error_set(e, ERROR_NOT_SUPPORTED, EOPNOTSUPP,
			"'%s' cannot take the place of a disk with an overlay", config->path);
	return error_hint(e, "its files stay as long as the device does: add another device, or "
			     "start the VM with other files");
}

int block_open_instead(struct block **ret, const struct block_config *config, struct block *old,
		       struct error *e)
{
	return config->overlay != NULL || cow_is(old) ? refuse_instead(config, e)
						      : raw_open(ret, config, old, true, e);
}

int block_open_late(struct block **ret, const struct block_config *config, struct error *e)
{
	return config->overlay != NULL ? cow_open(ret, config, true, e)
				       : raw_open(ret, config, NULL, true, e);
}

int block_open(struct block **ret, const struct block_config *config, struct error *e)
{
	return config->overlay != NULL ? cow_open(ret, config, false, e)
				       : raw_open(ret, config, NULL, false, e);
}
