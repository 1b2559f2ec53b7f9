/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel command line. Words of ours come first and are as few as a stock kernel needs, so that the user's win:
 *
 *	console=ttyS0		messages and /dev/console go to the serial port; without it a stock kernel is mute
 *	console=hvc0		instead, if that is the console which the user sees; silent until its driver is loaded
 *	panic=-1		reboot at once after a panic, so that the VMM sees the end; the default waits for ever
 *	pci=off			where there is none: looking for one takes hundreds of exits
 *	root=/dev/vda rw|ro	the first disk; Linux mounts read-only unless told otherwise; root=PARTUUID=... names a partition
 *	quiet			only if asked for: each character on the serial port is an exit
 *
 * The command line of a unified kernel image follows them, and then the user's.
 *
 * "boot_args" of the API stands for all of them but root=, which follows it, as clients of Firecracker expect: behind the kernel's
 * words, before the "--" that begins init's. Its tabs and newlines become blanks; it is a client's, and may hold anything else.
 *
 * virtio_mmio.device=SIZE@ADDRESS:LINE for each device joins them where a kernel does not read ACPI, whose DSDT names the devices: with
 * both, Linux would meet each device twice.
 *
 * Not given, because they would gain nothing: reboot= (every way of a reboot is caught), tsc=reliable and no_timer_check (kvm-clock
 * and the KVM guest code settle both).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"
#include "vmm/platform.h"

#define PIECES_MAX 10

/* A part of the line; a blank stands before each that is not glued to the one before. */
struct piece {
	const char *text;
	size_t len;
	bool glued;
};

struct line {
	struct piece pieces[PIECES_MAX];
	size_t count;
};

/* What Linux takes for the end of a word. */
static bool is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static void add_bytes(struct line *line, const char *text, size_t len)
{
	line->pieces[line->count++] = (struct piece){ .text = text, .len = len };
}

static void add(struct line *line, const char *text)
{
	add_bytes(line, text, strlen(text));
}

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

/* Length of the line, which is written if `buf` is not NULL. */
static size_t join(const struct line *line, char *buf)
{
	size_t len = 0;

	for (size_t i = 0; i < line->count; i++) {
		const struct piece *piece = &line->pieces[i];

		if (piece->len == 0) {
			continue;
		}
		if (len != 0 && !piece->glued) {
			if (buf != NULL) {
				buf[len] = ' ';
			}
			len++;
		}
		if (buf != NULL) {
			memcpy(buf + len, piece->text, piece->len);
		}
		len += piece->len;
	}
	if (buf != NULL) {
		buf[len] = '\0';
	}
	return len;
}

/* "root=..." and "ro" or "rw". */
static int add_root(struct line *line, const struct cmdline_request *request, struct error *e)
{
	const char *partuuid = request->root_partuuid;

	if (!request->root_disk) {
		return 0;
	}
	if (partuuid == NULL) {
		add(line, "root=/dev/vda");
	} else if (check_text("partuuid", partuuid, e) < 0) {
		return error_hint(e, "'blkid -s PARTUUID DEVICE' shows it");
	} else {
		add(line, "root=PARTUUID=");
		add(line, partuuid);
		line->pieces[line->count - 1].glued = true;
	}
	add(line, request->root_read_only ? "ro" : "rw");
	return 0;
}

/*
 * Where the word "--" stands, which ends the kernel's words: what follows is init's. The end of the
 * text if there is none. Quotes as the kernel knows them.
 */
static size_t find_separator(const char *text)
{
	bool quoted = false, begins = true;
	size_t i;

	for (i = 0; text[i] != '\0'; i++) {
		if (begins && !quoted && strncmp(text + i, "--", 2) == 0 &&
		    (text[i + 2] == '\0' || is_blank(text[i + 2]))) {
			break;
		}
		quoted ^= text[i] == '"';
		begins = is_blank(text[i]);
	}
	return i;
}

/* The client's words, and ours where the kernel looks at them. */
static int add_boot_args(struct line *line, const struct cmdline_request *request, struct error *e)
{
	const char *text = request->boot_args;
	size_t separator = find_separator(text), len = separator;
	int r;

	while (len != 0 && is_blank(text[len - 1])) {
		len--;
	}
	add_bytes(line, text, len);
	r = add_root(line, request, e);
	add(line, text + separator);
	return r;
}

static int add_our_words(struct line *line, const struct cmdline_request *request, struct error *e)
{
	int r;

	if (request->serial) {
		add(line, "console=ttyS0");
	}
	if (request->hvc) {
		add(line, "console=hvc0");
	}
	add(line, "panic=-1");
	if (!request->pci) {
		add(line, "pci=off");
	}
	if (request->quiet) {
		add(line, "quiet");
	}
	r = add_root(line, request, e);
	if (request->image != NULL) {
		add(line, request->image);
	}
	if (r == 0 && request->append != NULL) {
		r = check_text("--cmdline", request->append, e);
		add(line, request->append);
	}
	return r;
}

static int finish(const struct line *line, char *buf, size_t size, struct error *e)
{
	size_t len = join(line, NULL);

	if (len >= size) {
		error_set(e, ERROR_CMDLINE, E2BIG,
			  "the command line has %zu characters, the limit is %zu", len,
			  size == 0 ? 0 : size - 1);
		return error_hint(e, "shorten --cmdline, or drop our words with --cmdline-only");
	}
	join(line, buf);
	return 0;
}

int cmdline_build(const struct cmdline_request *request, char *buf, size_t size, struct error *e)
{
	struct line line = { 0 };
	int r;

	if (request->only != NULL) {
		r = check_text("--cmdline-only", request->only, e);
		add(&line, request->only);
	} else if (request->boot_args != NULL) {
		r = add_boot_args(&line, request, e);
	} else {
		r = add_our_words(&line, request, e);
	}
	if (r != 0) {
		return r;
	}
	r = finish(&line, buf, size, e);
	if (r != 0) {
		return r;
	}
	/* Those of boot_args: Firecracker passes them on. */
	for (size_t i = 0; buf[i] != '\0'; i++) {
		buf[i] = is_blank(buf[i]) ? ' ' : buf[i];
	}
	return 0;
}

int cmdline_insert(const char *cmdline, const char *words, char *buf, size_t size, struct error *e)
{
	size_t separator = find_separator(cmdline);
	struct line line = { 0 };

	add_bytes(&line, cmdline, separator);
	add(&line, words);
	line.pieces[1].glued = separator != 0 && is_blank(cmdline[separator - 1]);
	add(&line, cmdline + separator);
	return finish(&line, buf, size, e);
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
