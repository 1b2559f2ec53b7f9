/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A restore whose pages another process brings, by Firecracker's protocol: it listens on a Unix socket, and gets one message,
 * a JSON array that says where each region of guest memory is mapped here and at which offset of the memory file it begins,
 * with a userfaultfd (SCM_RIGHTS) that tells it of the faults and takes the pages.
 *
 * We keep the descriptor open as well: with the handler's end alone the kernel would make zeroes of what is missing, and
 * the guest go on with them. So a guest whose handler has died stands still, until it is stopped.
 *
 * The thread of the start. Whoever serves the socket decides what the guest's memory is, as whoever writes a memory file does.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "internal.h"
#include "vmm/cleanup.h"
#include "vmm/pager.h"
#include "vmm/snapshot.h"

/* For a queue of connections that is full, and for a handler that does not read. */
#define PATIENCE_S 5

static int fail(struct error *e, int sys, const char *path)
{
	(void)error_set_sys(e, ERROR_SNAPSHOT, sys, "the handler of page faults at '%.108s'", path);
	return error_hint(e, "it has to be listening on that socket before the load");
}

static int connect_to(const char *path, int *ret, struct error *e)
{
	const struct timeval patience = { .tv_sec = PATIENCE_S };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	auto_close int fd = -1;

	if (strlen(path) >= sizeof(address.sun_path)) {
		return fail(e, ENAMETOOLONG, path);
	}
	memcpy(address.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) != 0 ||
	    connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
		return fail(e, errno, path);
	}
	*ret = take_fd(&fd);
	return 0;
}

/* "page_size_kib" is in bytes: that is how its readers have it. */
static char *describe(const struct snapshot_info *info, const struct guest_memory *mem,
		      enum guest_memory_backing backing)
{
	auto_json json_t *regions = json_array();
	const json_int_t page = backing == GUEST_MEMORY_HUGETLB ? MIB(2) : KIB(4);

	for (uint32_t i = 0; i < info->region_count; i++) {
		json_t *region = json_pack("{s:I, s:I, s:I, s:I, s:I}", "base_host_virt_addr",
					   (json_int_t)(uintptr_t)mem->regions[i].host, "size",
					   (json_int_t)info->regions[i].size, "offset",
					   (json_int_t)info->regions[i].offset, "page_size", page,
					   "page_size_kib", page);

		if (json_array_append_new(regions, region) != 0) {
			return NULL;
		}
	}
	return json_dumps(regions, JSON_COMPACT);
}

static int send_all(int fd, const char *text, int descriptor)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { .bytes = { 0 } };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text) };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = control.bytes,
				  .msg_controllen = sizeof(control.bytes) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	ssize_t n;

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
	n = sendmsg(fd, &message, MSG_NOSIGNAL);
	if (n < 0) {
		return -errno;
	}
	/* A stream socket takes a message of this length as a whole, or nothing. */
	return (size_t)n == iov.iov_len ? 0 : -EMSGSIZE;
}

/* Nobody here knows what the handler will bring: any page may have something. */
static int expect_everything(struct guest_memory *mem, struct pager *pager, uint32_t index,
			     struct error *e)
{
	const uint64_t size = mem->regions[index].size;
	const size_t bytes = ALIGN_UP(size, PAGER_CHUNK) / PAGE_SIZE_4K / 8;
	uint64_t *content = malloc(bytes);

	if (content == NULL) {
		return error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "restore");
	}
	memset(content, 0xff, bytes);
	guest_region_set_content(mem, index, content);
	return pager_add(pager, index, 0, size, e);
}

static int make_memory(const struct snapshot_info *info, struct guest_memory *mem,
		       enum guest_memory_backing backing, struct error *e)
{
	struct pager *pager;
	int r = pager_create(&pager, mem, e);

	if (r == 0) {
		pager_attach(pager);
	}
	for (uint32_t i = 0; r == 0 && i < info->region_count; i++) {
		const struct guest_region_config config = { .kind = info->regions[i].kind,
							    .gpa = info->regions[i].gpa,
							    .size = info->regions[i].size,
							    .backing = backing };

		r = guest_memory_add(mem, &config, e);
		r = r >= 0 ? expect_everything(mem, pager, (uint32_t)r, e) : r;
	}
	return r;
}

int restore_ask_handler(const struct snapshot_info *info, struct guest_memory *mem,
			enum guest_memory_backing backing, const char *path, struct error *e)
{
	auto_close int fd = -1;
	auto_free char *text = NULL;
	int r = connect_to(path, &fd, e);

	if (r == 0) {
		r = make_memory(info, mem, backing, e);
	}
	if (r == 0) {
		text = describe(info, mem, backing);
		r = text != NULL ? 0 : error_set_sys(e, ERROR_NO_MEMORY, ENOMEM, "restore");
	}
	if (r == 0) {
		r = send_all(fd, text, pager_descriptor(mem->pager));
		r = r < 0 ? fail(e, -r, path) : 0;
	}
	if (r < 0) {
		guest_memory_finish(mem);
	}
	return r;
}
