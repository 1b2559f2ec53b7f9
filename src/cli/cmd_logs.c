// SPDX-License-Identifier: Apache-2.0
/*
 * vmm logs: what a VM's console, or vmm itself, has said, from the files in the VM's directory.
 *
 * console.log is of bounded size: its beginning is a hole, or, on file systems without holes, it
 * begins anew now and then. Holes are skipped; a file that has become shorter is read from its
 * beginning. Following asks every FOLLOW_MS; the end of the VM is the end.
 *
 * The guest controls the bytes of console.log. To a terminal they go through plain_text.h, to
 * anything else as they are.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"
#include "elsewhere.h"
#include "exit_codes.h"
#include "plain_text.h"
#include "vmm/cleanup.h"
#include "vmm/run_directory.h"

#define FOLLOW_MS 100
#define PIECE	  KIB(16)

struct logs {
	bool follow, vmm, has_lines, help;
	uint64_t lines;
	const char *name, *file;
	int dir_fd, fd;
	bool filter; /* standard output is a terminal */
	bool reader_gone;
	int write_error; /* why it is gone */
	struct plain_text text;
	uint64_t offset; /* next byte to show */
};

static const struct option option_list[] = {
	{ .name = "follow",
	  .letter = 'f',
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct logs, follow),
	  .help = "go on with what comes, until the VM ends" },
	{ .name = "lines",
	  .letter = 'n',
	  .type = OPTION_U64,
	  .offset = offsetof(struct logs, lines),
	  .present = offsetof(struct logs, has_lines) + 1,
	  .argument = "LINES",
	  .help = "only the last LINES lines of what is there" },
	{ .name = "vmm",
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct logs, vmm),
	  .help = "what vmm says, in place of the guest's console" },
	HELP_OPTION(struct logs, help),
};
static const struct option_table table =
	OPTION_TABLE("logs", option_list, .foreign = elsewhere_logs_flags);

/* False if nobody reads standard output any more. */
static bool write_all(struct logs *logs, const uint8_t *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(STDOUT_FILENO, data, len);

		if (n < 0 && errno == EAGAIN) {
			/* Somebody else has made it non-blocking. */
			(void)run_directory_wait(logs->dir_fd, 1, NULL);
			continue;
		}
		if (n < 0 && errno != EINTR) {
			logs->reader_gone = true;
			logs->write_error = errno;
			return false;
		}
		data += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return true;
}

static bool show(struct logs *logs, const uint8_t *data, size_t len)
{
	uint8_t plain[PLAIN_TEXT_ROOM(PIECE)];

	if (!logs->filter) {
		return write_all(logs, data, len);
	}
	return write_all(logs, plain, plain_text_filter(&logs->text, data, len, plain));
}

static int failed(const struct logs *logs, const char *what, struct error *e)
{
	return error_set_sys(e, ERROR_CONSOLE, errno, "VM '%s': %s %s", logs->name, what,
			     logs->file);
}

/* The first byte at or behind `offset` that is not in a hole; the end of the file if none is. */
static uint64_t skip_hole(const struct logs *logs, uint64_t offset, uint64_t size)
{
	off_t data = lseek(logs->fd, (off_t)offset, SEEK_DATA);

	if (data >= 0) {
		return MIN((uint64_t)data, size);
	}
	return errno == ENXIO ? size : offset;
}

/* Shows what is there now. */
static int show_rest(struct logs *logs, struct error *e)
{
	uint8_t piece[PIECE];
	struct stat st;

	if (fstat(logs->fd, &st) < 0) {
		return failed(logs, "read", e);
	}
	if ((uint64_t)st.st_size < logs->offset) {
		logs->offset = 0;
	}
	/* Not for ever with a guest that speaks faster than we read: following is the caller's. */
	while (logs->offset < (uint64_t)st.st_size) {
		ssize_t n;

		logs->offset = skip_hole(logs, logs->offset, (uint64_t)st.st_size);
		n = pread(logs->fd, piece,
			  MIN(sizeof(piece), (size_t)((uint64_t)st.st_size - logs->offset)),
			  (off_t)logs->offset);
		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return failed(logs, "read", e);
		}
		if (n == 0 || !show(logs, piece, (size_t)n)) {
			return 0;
		}
		logs->offset += (uint64_t)n;
	}
	return 0;
}

/* The offset of the first of the last `lines` lines that lie at or behind `floor`. */
static int find_lines(struct logs *logs, uint64_t floor, uint64_t size, struct error *e)
{
	uint64_t at = size, seen = 0;
	uint8_t piece[PIECE];

	while (at > floor) {
		size_t len = (size_t)MIN((uint64_t)sizeof(piece), at - floor);
		ssize_t n = pread(logs->fd, piece, len, (off_t)(at - len));

		if (n != (ssize_t)len) {
			/* It was cut off meanwhile. */
			return n < 0 ? failed(logs, "read", e) : 0;
		}
		for (size_t i = len; i > 0; i--) {
			uint64_t offset = at - len + i;

			/* The newline at the very end ends the last line. */
			if (piece[i - 1] == '\n' && offset < size && ++seen == logs->lines) {
				logs->offset = offset;
				return 0;
			}
		}
		at -= len;
	}
	return 0;
}

/* Where to begin. */
static int find_start(struct logs *logs, struct error *e)
{
	uint64_t size;
	struct stat st;

	if (fstat(logs->fd, &st) < 0) {
		return failed(logs, "read", e);
	}
	size = (uint64_t)st.st_size;
	logs->offset = skip_hole(logs, 0, size);
	if (!logs->has_lines) {
		return 0;
	}
	if (logs->lines == 0) {
		logs->offset = size;
		return 0;
	}
	return find_lines(logs, logs->offset, size, e);
}

static int open_log(struct logs *logs, struct error *e)
{
	bool alive;
	int r = run_directory_find(logs->name, &logs->dir_fd, &alive, e);

	if (r < 0) {
		return r;
	}
	logs->fd = openat(logs->dir_fd, logs->file,
			  O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (logs->fd >= 0) {
		return 0;
	}
	r = failed(logs, "open", e);
	if (r == -ENOENT && logs->vmm) {
		return error_hint(e, "a VM that runs at a terminal has its messages there; one by "
				     "vmm run --detach has the file");
	}
	return r;
}

static int print(struct logs *logs, struct error *e)
{
	bool ended = false;
	int r = find_start(logs, e);

	while (r == 0 && !logs->reader_gone) {
		r = show_rest(logs, e);
		if (!logs->follow || ended) {
			break;
		}
		/* What it said last comes after that: one more round. */
		ended = run_directory_wait(logs->dir_fd, FOLLOW_MS, NULL) == 0;
	}
	if (logs->text.coloured && !logs->reader_gone) {
		(void)write_all(logs, (const uint8_t *)"\x1b[m", 3);
	}
	return r;
}

static int run(int argc, char **argv)
{
	struct logs logs = { .dir_fd = -1, .fd = -1 };
	struct error e = { 0 };
	int code, r;

	if (command_parse_exactly(&command_logs, &logs, &logs.help, 1, 1, argc, argv, &code) < 0) {
		return code;
	}
	logs.name = argv[1];
	logs.file = logs.vmm ? "vmm.log" : "console.log";
	logs.filter = isatty(STDOUT_FILENO) == 1;
	r = open_log(&logs, &e);
	if (r == 0) {
		r = print(&logs, &e);
	}
	close_fd(&logs.fd);
	close_fd(&logs.dir_fd);
	/* A closed pipe is how a reader says that it has enough. */
	if (r == 0 && logs.reader_gone && logs.write_error != EPIPE) {
		r = error_set_sys(&e, ERROR_CONSOLE, logs.write_error, "standard output");
	}
	if (r < 0) {
		return command_fail(&e);
	}
	return logs.reader_gone ? EXIT_SIGNAL_BASE + SIGPIPE : EXIT_OK;
}

static const struct command_example examples[] = {
	{ "vmm logs --follow web", "watch the guest's console without typing" },
	{ "vmm logs -n 20 web", "its last 20 lines" },
	{ "vmm logs --vmm web", "what vmm itself had to say" },
	{ NULL, NULL },
};

const struct command command_logs = {
	.name = "logs",
	.operands = " NAME",
	.help = "print what a VM's console has said",
	.options = &table,
	.run = run,
	.description =
		"Prints the log of the VM's console, which keeps about the last 4 MiB, or with "
		"--vmm the messages of vmm itself.\n\n"
		"On a terminal only text, line ends, tabs and colours of the guest are shown: "
		"other "
		"control characters could make the terminal do things, or answer in your name. "
		"Into a file or a pipe the bytes go as they are.",
	.examples = examples,
};
