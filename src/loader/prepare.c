/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that contain a kernel rather than being one. Runs on the thread of a start, before the
 * sandbox, which has neither programs to run nor files to make.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static int take_kernel(struct loader_request *request, const struct source *src, char **cmdline,
		       struct error *e)
{
	struct uki uki;
	int r = uki_parse(src, &uki, e);

	if (r != 0) {
		return r;
	}
	if (uki.initrd.size != 0 && request->initrd_count == LOADER_INITRDS_MAX) {
		return source_error(src, e, "with its own initrd there are more than %d",
				    LOADER_INITRDS_MAX);
	}
	if (uki.cmdline.size != 0) {
		r = uki_read_cmdline(src, &uki, cmdline, e);
		if (r != 0) {
			return r;
		}
	}
	if (uki.initrd.size != 0) {
		memmove(&request->initrds[1], &request->initrds[0],
			request->initrd_count * sizeof(request->initrds[0]));
		request->initrds[0] = (struct loader_image){
			.path = request->kernel.path,
			.fd = request->kernel.fd,
			.offset = uki.initrd.offset,
			.size = uki.initrd.size,
		};
		request->initrd_count++;
	}
	request->kernel.offset = uki.kernel.offset;
	request->kernel.size = uki.kernel.size;
	return 0;
}

/* What is in a packed file may be a unified kernel image, but not a packed file again. */
int loader_prepare(struct loader_request *request, char **cmdline, struct error *e)
{
	struct loader_image *kernel = &request->kernel;
	enum image_format format;
	struct source src;
	int r = source_init(&src, kernel, "kernel", ERROR_KERNEL_IMAGE, e);

	*cmdline = NULL;
	r = r == 0 ? detect_image(&src, &format, e) : r;
	if (r == 0 && format >= IMAGE_GZIP && format <= IMAGE_ZSTD) {
		r = packed_open(kernel, &src, format, e);
		r = r == 0 ? source_init(&src, kernel, "kernel", ERROR_KERNEL_IMAGE, e) : r;
		r = r == 0 ? detect_image(&src, &format, e) : r;
	}
	if (r == 0 && format == IMAGE_UKI) {
		r = take_kernel(request, &src, cmdline, e);
	}
	return r == 0 ? 0 : detect_hint(e);
}
