/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The error object: text in fixed buffers. A text that does not fit ends in "..." and never in half
 * a UTF-8 sequence.
 *
 * Any thread; no locks; the object belongs to the caller. Arguments may hold guest or file bytes:
 * control characters are kept here, and replaced where the text is shown (log.c, the API).
 */
#include "vmm/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const code_names[] = {
	[ERROR_NONE] = "none",
	[ERROR_INTERNAL] = "internal",
	[ERROR_USAGE] = "usage",
	[ERROR_CONFIG] = "config",
	[ERROR_NO_MEMORY] = "no-memory",
	[ERROR_KVM_UNAVAILABLE] = "kvm-unavailable",
	[ERROR_KVM] = "kvm",
	[ERROR_KERNEL_IMAGE] = "kernel-image",
	[ERROR_INITRD] = "initrd",
	[ERROR_CMDLINE] = "cmdline",
	[ERROR_DISK] = "disk",
	[ERROR_DISK_LOCKED] = "disk-locked",
	[ERROR_NET] = "net",
	[ERROR_CONSOLE] = "console",
	[ERROR_SANDBOX] = "sandbox",
	[ERROR_STATE] = "state",
	[ERROR_JSON] = "json",
	[ERROR_HTTP] = "http",
	[ERROR_NO_ROUTE] = "no-route",
	[ERROR_TOO_LARGE] = "too-large",
	[ERROR_NOT_SUPPORTED] = "not-supported",
	[ERROR_WRONG_STATE] = "wrong-state",
	[ERROR_NOT_FOUND] = "not-found",
	[ERROR_EXISTS] = "exists",
	[ERROR_BUSY] = "busy",
	[ERROR_CANCELLED] = "cancelled",
	[ERROR_SNAPSHOT] = "snapshot",
	[ERROR_MIGRATION] = "migration",
};

_Static_assert(ARRAY_SIZE(code_names) == ERROR_CODES, "every error code has a name");

static const char ellipsis[] = "...";

/* `text` fills its buffer and was cut off: puts the ellipsis at its end, in place of whole
 * characters. */
static void mark_truncated(char *text, size_t size)
{
	size_t end = size - sizeof(ellipsis);

	while (end > 0 && ((unsigned char)text[end] & 0xc0) == 0x80) {
		end--;
	}
	memcpy(text + end, ellipsis, sizeof(ellipsis));
}

static void __printf_like(3, 0) format(char *buf, size_t size, const char *fmt, va_list args)
{
	int n = vsnprintf(buf, size, fmt, args);

	if (n < 0) {
		(void)snprintf(buf, size, "(message cannot be formatted)");
	} else if ((size_t)n >= size) {
		mark_truncated(buf, size);
	}
}

/* Appends whole or with an ellipsis. */
static void append(char *buf, size_t size, const char *text)
{
	size_t len = strlen(buf);
	int n = snprintf(buf + len, size - len, "%s", text);

	if (n >= 0 && (size_t)n >= size - len) {
		mark_truncated(buf, size);
	}
}

static int error_return(int sys)
{
	return sys > 0 ? -sys : -EINVAL;
}

static void __printf_like(4, 0)
	fill(struct error *e, enum error_code code, int sys, const char *fmt, va_list args)
{
	e->code = code;
	e->sys = sys > 0 ? sys : 0;
	e->holder = 0;
	e->hint[0] = '\0';
	format(e->msg, sizeof(e->msg), fmt, args);
}

int error_set(struct error *e, enum error_code code, int sys, const char *fmt, ...)
{
	if (e != NULL) {
		va_list args;

		va_start(args, fmt);
		fill(e, code, sys, fmt, args);
		va_end(args);
	}
	return error_return(sys);
}

int error_set_sys(struct error *e, enum error_code code, int sys, const char *fmt, ...)
{
	if (e != NULL) {
		char reason[80];
		va_list args;

		va_start(args, fmt);
		fill(e, code, sys, fmt, args);
		va_end(args);
		append(e->msg, sizeof(e->msg), ": ");
		append(e->msg, sizeof(e->msg), strerror_r(e->sys, reason, sizeof(reason)));
	}
	return error_return(sys);
}

int error_prefix(struct error *e, const char *fmt, ...)
{
	char text[sizeof(e->msg)];
	va_list args;

	if (e == NULL) {
		return -EINVAL;
	}
	va_start(args, fmt);
	format(text, sizeof(text), fmt, args);
	va_end(args);
	append(text, sizeof(text), ": ");
	append(text, sizeof(text), e->msg);
	memcpy(e->msg, text, sizeof(e->msg));
	return error_return(e->sys);
}

int error_suffix(struct error *e, const char *fmt, ...)
{
	char text[sizeof(e->msg)];
	va_list args;

	if (e == NULL) {
		return -EINVAL;
	}
	va_start(args, fmt);
	format(text, sizeof(text), fmt, args);
	va_end(args);
	append(e->msg, sizeof(e->msg), text);
	return error_return(e->sys);
}

int error_hint(struct error *e, const char *fmt, ...)
{
	if (e == NULL) {
		return -EINVAL;
	}
	if (e->hint[0] == '\0') {
		va_list args;

		va_start(args, fmt);
		format(e->hint, sizeof(e->hint), fmt, args);
		va_end(args);
	}
	return error_return(e->sys);
}

const char *error_code_name(enum error_code code)
{
	return (unsigned int)code < ERROR_CODES ? code_names[code] : "unknown";
}
