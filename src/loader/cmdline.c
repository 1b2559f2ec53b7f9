/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel command line. Words of ours come first and are as few as a stock kernel needs, so that the user's win:
 *
 *	console=ttyS0		messages and /dev/console go to the serial port; without it a stock kernel is mute
 *	console=hvc0		instead, if that is the console which the user sees; silent until its driver is loaded
 *	panic=-1		reboot at once after a panic, so that the VMM sees the end; the default waits for ever
 *	root=/dev/vda rw|ro	the first disk; Linux mounts read-only unless told otherwise; root=PARTUUID=... names a partition
 *	quiet			only if asked for: each character on the serial port is an exit
 *
 * "boot_args" of the API stands for all of them but root=, which follows it, as clients of Firecracker expect.
 *
 * Not given, because they would gain nothing: reboot= (every way of a reboot is caught), tsc=reliable and no_timer_check (kvm-clock
 * and the KVM guest code settle both), virtio_mmio.device= (the DSDT names the devices; Debian's driver is a module anyway).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"
#include "vmm/platform.h"

#define WORDS_MAX     7
#define ROOT_WORD_MAX 96

/* Tabs and newlines too: Linux takes them for spaces, people do not see them, and they would let a
 * script forge words. */
static int check_text(const char *option, const char *text, struct error *e)
{
	for (size_t i = 0; text[i] != '\0'; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c < 0x20 || c == 0x7f) {
			error_set(e, ERROR_CMDLINE, EINVAL,
				  "%s: control character 0x%02x at offset %zu", option, c, i);
			return error_hint(e, "separate words with single spaces");
		}
	}
	return 0;
}

static size_t join(const char *const *words, size_t count, char *buf)
{
	size_t len = 0;

	for (size_t i = 0; i < count; i++) {
		size_t n = strlen(words[i]);

		if (n == 0) {
			continue;
		}
		if (len != 0) {
			if (buf != NULL) {
				buf[len] = ' ';
			}
			len++;
		}
		if (buf != NULL) {
			memcpy(buf + len, words[i], n);
		}
		len += n;
	}
	if (buf != NULL) {
		buf[len] = '\0';
	}
	return len;
}

/* "root=..." and "ro" or "rw"; *room holds the first of them as long as the words are used. */
static int add_root(const struct cmdline_request *request, const char **words, size_t *count,
		    char *room, size_t size, struct error *e)
{
	const char *partuuid = request->root_partuuid;
	int n;

	if (!request->root_disk) {
		return 0;
	}
	if (partuuid == NULL) {
		words[(*count)++] = "root=/dev/vda";
	} else {
		n = snprintf(room, size, "root=PARTUUID=%s", partuuid);
		if (n < 0 || (size_t)n >= size || partuuid[0] == '\0' ||
		    strspn(partuuid, "0123456789abcdefABCDEF-") != strlen(partuuid)) {
			error_set(e, ERROR_CMDLINE, EINVAL, "partuuid: '%.64s' is not one",
				  partuuid);
			return error_hint(e, "'blkid -s PARTUUID DEVICE' shows it");
		}
		words[(*count)++] = room;
	}
	words[(*count)++] = request->root_read_only ? "ro" : "rw";
	return 0;
}

int cmdline_build(const struct cmdline_request *request, char *buf, size_t size, struct error *e)
{
	const char *words[WORDS_MAX];
	char root[ROOT_WORD_MAX];
	size_t count = 0;
	size_t len;
	int r = 0;

	if (request->only != NULL) {
		r = check_text("--cmdline-only", request->only, e);
		words[count++] = request->only;
	} else if (request->boot_args != NULL) {
		r = check_text("boot_args", request->boot_args, e);
		words[count++] = request->boot_args;
		if (r == 0) {
			r = add_root(request, words, &count, root, sizeof(root), e);
		}
	} else {
		if (request->serial) {
			words[count++] = "console=ttyS0";
		}
		if (request->hvc) {
			words[count++] = "console=hvc0";
		}
		words[count++] = "panic=-1";
		if (request->quiet) {
			words[count++] = "quiet";
		}
		r = add_root(request, words, &count, root, sizeof(root), e);
		if (r == 0 && request->append != NULL) {
			r = check_text("--cmdline", request->append, e);
			words[count++] = request->append;
		}
	}
	if (r != 0) {
		return r;
	}
	len = join(words, count, NULL);
	if (len >= size) {
		error_set(e, ERROR_CMDLINE, E2BIG,
			  "the command line has %zu characters, the limit is %zu", len,
			  size == 0 ? 0 : size - 1);
		return error_hint(e, "shorten --cmdline, or drop our words with --cmdline-only");
	}
	join(words, count, buf);
	return 0;
}

int cmdline_write(struct guest_memory *mem, const struct kernel *kernel, const char *cmdline,
		  struct error *e)
{
	uint64_t max = MIN(kernel->cmdline_max, (uint64_t)PLATFORM_CMDLINE_MAX - 1);
	size_t len = strlen(cmdline);

	if (len > max) {
		error_set(e, ERROR_CMDLINE, E2BIG,
			  "the command line has %zu characters, the kernel takes %" PRIu64, len,
			  max);
		return error_hint(e, "shorten --cmdline, or drop our words with --cmdline-only");
	}
	if (!guest_memory_write(mem, PLATFORM_CMDLINE, cmdline, len + 1)) {
		return error_set(e, ERROR_INTERNAL, 0, "the command line is outside RAM");
	}
	return 0;
}

_Static_assert(PLATFORM_CMDLINE + PLATFORM_CMDLINE_MAX <= PLATFORM_EBDA,
	       "the command line ends before the EBDA");
