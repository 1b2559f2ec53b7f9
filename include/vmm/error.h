/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The error object of the control path. The caller owns it, usually on its stack; no heap is involved, so that running out of
 * memory can be reported too.
 *
 * Convention: `int f(..., struct error *e)` returns 0 and leaves `e` alone, or returns a negative errno and has filled `e`.
 * Outputs are untouched on failure. Text reads "what, with the object's name: why"; the hint says what the user can do.
 * Callers add context in front:
 *
 *	return error_set(e, ERROR_DISK, EACCES, "open '%s': %s", path, strerror(EACCES));
 *	...
 *	return error_prefix(e, "disk 'vda'");		-> "disk 'vda': open '/x': Permission denied"
 *
 * All functions are safe in any thread, and accept e == NULL (the caller does not care for the text).
 */
#ifndef VMM_ERROR_H
#define VMM_ERROR_H

#include "vmm/types.h"

/* Stable: shown by the API as `code` in words (error_code_name()). Append only. */
enum error_code {
	ERROR_NONE = 0,
	ERROR_INTERNAL, /* a broken invariant of ours, or a system call that should not fail */
	ERROR_USAGE,	/* the command line itself is wrong: exit code 2 */
	ERROR_CONFIG,	/* well-formed, but the value cannot be used */
	ERROR_NO_MEMORY,
	ERROR_KVM_UNAVAILABLE, /* no /dev/kvm, no permission, too old, a capability is missing */
	ERROR_KVM,	       /* a KVM ioctl failed */
	ERROR_KERNEL_IMAGE,
	ERROR_INITRD,
	ERROR_CMDLINE,
	ERROR_DISK,
	ERROR_DISK_LOCKED,
	ERROR_NET,
	ERROR_CONSOLE,
	ERROR_SANDBOX,
	ERROR_STATE,	/* saved state that cannot be accepted */
	ERROR_JSON,	/* JSON text or a value in it */
	ERROR_HTTP,	/* a request that is not HTTP as we speak it */
	ERROR_NO_ROUTE, /* no such method and path */
	ERROR_TOO_LARGE,
	ERROR_NOT_SUPPORTED, /* not by this version, or not on this machine; says which */
	ERROR_WRONG_STATE,   /* not before, or not after, the VM was started */
	ERROR_NOT_FOUND,     /* a device, job or VM of that name */
	ERROR_EXISTS,	     /* a VM or device of that name is there already */
	ERROR_BUSY,	     /* another job, or a start, is under way */
	ERROR_CANCELLED,
	ERROR_SNAPSHOT,	 /* files of a snapshot, or where they are */
	ERROR_MIGRATION, /* the other side of a migration, or the way to it */
	ERROR_CODES,
};

struct error {
	enum error_code code;
	int sys;    /* positive errno, 0 if none applies */
	int holder; /* ERROR_DISK_LOCKED: the other process that has the disk; 0: not known */
	char msg[400];
	char hint[240];
};

/* Fills `e`. Returns -sys, or -EINVAL when sys is 0. */
int error_set(struct error *e, enum error_code code, int sys, const char *fmt, ...)
	__printf_like(4, 5) __cold;
/* As error_set(), and appends ": strerror(sys)" to the text. */
int error_set_sys(struct error *e, enum error_code code, int sys, const char *fmt, ...)
	__printf_like(4, 5) __cold;
/* Puts "text: " before the message; truncates the tail cleanly. Returns what error_set() returned
 * (-EINVAL for a NULL `e`). */
int error_prefix(struct error *e, const char *fmt, ...) __printf_like(2, 3) __cold;
/* Puts text behind the message. Returns as error_prefix(). */
int error_suffix(struct error *e, const char *fmt, ...) __printf_like(2, 3) __cold;
/* Sets the hint if there is none yet. Returns as error_prefix(). */
int error_hint(struct error *e, const char *fmt, ...) __printf_like(2, 3) __cold;

/* "disk-locked" for ERROR_DISK_LOCKED and so on; never NULL. */
const char *error_code_name(enum error_code code);

#endif
