/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See upgrade.h: what the destination does with the descriptors that were passed.
 *
 * They are heard of within the filter of who receives; cards and disks are looked at on the start's thread, without a filter, as those of
 * any start; memory is taken over by the machine thread. The other process controls what a descriptor is of: memory has to be sealed, so
 * that its length stays, and as large as the region; a card's is judged as one that a client gives.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "upgrade.h"
#include "vmm/cleanup.h"

#define TAP "tap:"
#define FD  "fd:"

static int __cold not_it(const char *what, struct error *e)
{
	(void)error_set(e, ERROR_MIGRATION, EPROTO, "upgrade: %s", what);
	return error_hint(e, "the other side is no vmm of this version");
}

static bool is_memory(const char *name)
{
	return strncmp(name, "memfd:", 6) == 0 || strncmp(name, "hugetlb:", 8) == 0;
}

/* Memory that could be cut would end this process at the guest's next access. */
static int check_list(struct upgrade *upgrade, struct error *e)
{
	const struct migration_descriptors *list = &upgrade->list;

	for (uint32_t i = 0; i < list->count; i++) {
		int seals;

		if (!is_memory(list->all[i].name)) {
			continue;
		}
		seals = fcntl(list->all[i].fd, F_GET_SEALS);
		if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
			return not_it("guest memory was passed that is not sealed", e);
		}
		upgrade->passes = true;
	}
	atomic_store(&upgrade->token, migration_descriptors_take(&upgrade->list, "token"));
	return atomic_load(&upgrade->token) >= 0 ? 0 : not_it("there is no token", e);
}

int upgrade_hear(struct upgrade **ret, struct instance *instance, int fd, uint64_t silence_ns,
		 struct error *e)
{
	struct upgrade *upgrade = calloc(1, sizeof(*upgrade));
	int r;

	if (upgrade == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "upgrade: out of memory");
	}
	upgrade->instance = instance;
	atomic_store(&upgrade->token, -1);
	r = migration_descriptors_receive(&upgrade->list, fd, silence_ns, e);
	r = r == 0 ? check_list(upgrade, e) : r;
	if (r < 0) {
		upgrade_destroy(upgrade);
		return r;
	}
	*ret = upgrade;
	return 0;
}

int upgrade_name_nets(struct upgrade *upgrade, struct snapshot_load_request *request,
		      struct error *e)
{
	uint32_t at = 0;
	const char *id;

	upgrade->net_fds = calloc(upgrade->list.count + 1, sizeof(*upgrade->net_fds));
	if (upgrade->net_fds == NULL) {
		return error_set(e, ERROR_NO_MEMORY, ENOMEM, "upgrade: out of memory");
	}
	request->net_fds = upgrade->net_fds;
	request->net_fd_count = 0;
	while ((id = migration_descriptors_next(&upgrade->list, &at, FD)) != NULL) {
		struct net_fd *net = &upgrade->net_fds[request->net_fd_count++];

		/* The VM's, once it is made. */
		net->id = id;
		net->fd = take_fd(&upgrade->list.all[at - 1].fd);
	}
	return 0;
}

void upgrade_connect_nets(struct upgrade *upgrade, struct vm_config *vm)
{
	uint32_t at = 0;
	const char *id;

	while ((id = migration_descriptors_next(&upgrade->list, &at, TAP)) != NULL) {
		struct vm_net_config *net = vm_config_find_net(vm, id);

		if (net != NULL && net->kind == VM_NET_TAP && net->fd <= STDERR_FILENO) {
			net->fd = take_fd(&upgrade->list.all[at - 1].fd);
		}
	}
}

/*
 * The other process has a lock on it as long as it runs the VM: what has none is another file of that name. Devices are claimed in another
 * way.
 */
static int check_disk(const struct block_config *disk, struct error *e)
{
	const char *path = disk->overlay != NULL ? disk->overlay : disk->path;
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		return error_set_sys(e, ERROR_DISK, errno, "upgrade: open '%s'", path);
	}
	if (!S_ISREG(st.st_mode) || fcntl(fd, F_OFD_GETLK, &lock) < 0 || lock.l_type != F_UNLCK) {
		return 0;
	}
	(void)error_set(e, ERROR_DISK, ESTALE,
			"upgrade: '%s' is not the file that the VM has open: it was replaced",
			path);
	return error_hint(e, "put the file back, or stop the VM");
}

int upgrade_check_disks(const struct vm_config *vm, struct error *e)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < vm->disk_count; i++) {
		if (vm->disks[i].lock != BLOCK_LOCK_OFF) {
			r = check_disk(&vm->disks[i], e);
		}
	}
	return r;
}

static int adopt_region(struct upgrade *upgrade, struct guest_memory *mem, uint32_t index,
			struct error *e)
{
	enum guest_memory_backing backing = GUEST_MEMORY_MEMFD;
	auto_close int fd = -1;
	char name[24];
	int r;

	(void)snprintf(name, sizeof(name), "memfd:%u", index);
	fd = migration_descriptors_take(&upgrade->list, name);
	if (fd < 0) {
		backing = GUEST_MEMORY_HUGETLB;
		(void)snprintf(name, sizeof(name), "hugetlb:%u", index);
		fd = migration_descriptors_take(&upgrade->list, name);
	}
	if (fd < 0) {
		return not_it("guest memory was passed in part only", e);
	}
	r = guest_region_adopt(mem, index, backing, fd, e);
	if (r == 0) {
		(void)take_fd(&fd);
	}
	return r;
}

int upgrade_adopt(void *arg, struct guest_memory *mem, struct error *e)
{
	struct upgrade *upgrade = arg;
	const uint32_t count = atomic_load(&mem->region_count);
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < count; i++) {
		if (atomic_load(&mem->regions[i].size) != 0) {
			r = adopt_region(upgrade, mem, i, e);
		}
	}
	return r;
}
