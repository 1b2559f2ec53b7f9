/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening KVM on hosts that lack something: no device, no permission, another device, an old
 * version, a missing capability. The linker puts open() and ioctl() of this file in place of the C
 * library's, so no host is needed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <unistd.h>

#include "harness/check_main.h"

#include "../../src/vmm/kvm.h"
#include "../../src/vmm/x86/caps.h"
#include "vmm/vm_config.h"
#include "../../src/vmm/kvm_cure.h"

int __wrap_open(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __real_open(const char *path, int flags, ...);

/* The host of a test. */
static struct {
	int open_errno; /* 0: it opens */
	int version, version_errno, run_size;
	int missing; /* a capability; -1: none */
	int create_errno, identity_errno, tss_errno, xsave2, interrupts;
} host;
static struct kvm kvm;
static struct error e;

int __wrap_open(const char *path, int flags, ...)
{
	va_list args;
	int mode;

	if (strcmp(path, "/dev/kvm") != 0) {
		va_start(args, flags);
		mode = (flags & O_CREAT) != 0 ? va_arg(args, int) : 0;
		va_end(args);
		return __real_open(path, flags, mode);
	}
	if (host.open_errno != 0) {
		errno = host.open_errno;
		return -1;
	}
	return __real_open("/dev/null", flags);
}

int __wrap_open64(const char *path, int flags, ...)
{
	return __wrap_open(path, flags, 0);
}

static int fail_or(int sys, int value)
{
	errno = sys;
	return sys != 0 ? -1 : value;
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	uintptr_t arg;

	(void)fd;
	va_start(args, request);
	arg = va_arg(args, uintptr_t);
	va_end(args);
	if (host.interrupts > 0) {
		host.interrupts--;
		return fail_or(EINTR, 0);
	}
	switch (request) {
	case KVM_GET_API_VERSION:
		return fail_or(host.version_errno, host.version);
	case KVM_GET_VCPU_MMAP_SIZE:
		return host.run_size;
	case KVM_CHECK_EXTENSION:
		if (arg == KVM_CAP_XSAVE2) {
			return host.xsave2;
		}
		return (int)arg == host.missing ? 0 : 1;
	case KVM_CREATE_VM:
		return host.create_errno != 0 ? fail_or(host.create_errno, 0) : dup(STDIN_FILENO);
	case KVM_SET_IDENTITY_MAP_ADDR:
		return fail_or(host.identity_errno, 0);
	case KVM_SET_TSS_ADDR:
		return fail_or(host.tss_errno, 0);
	default:
		return fail_or(ENOTTY, 0);
	}
}

static void setup(void)
{
	memset(&host, 0, sizeof(host));
	host.version = KVM_API_VERSION;
	host.run_size = 12288;
	host.missing = -1;
	e = (struct error){ 0 };
	kvm = (struct kvm){ .fd = -1, .vm_fd = -1 };
}

static void teardown(void)
{
	kvm_close(&kvm);
}

START_TEST(test_good_host)
{
	host.interrupts = 3; /* a signal during an ioctl is not an error */
	check_ok(kvm_open(&kvm, NULL, &e), &e);
	ck_assert_int_ge(kvm.fd, 0);
	ck_assert_int_eq(kvm.vcpu_mmap_size, 12288);
	ck_assert(kvm_has(&kvm, X86_XCRS) && kvm_has(&kvm, X86_TSC_DEADLINE) &&
		  kvm_has(&kvm, X86_VCPU_EVENTS));
	kvm_close(&kvm);
	ck_assert_int_eq(kvm.fd, -1);
	kvm_close(&kvm);
}
END_TEST

/* Which cure it is depends on the machine: test_cure. */
static const struct open_row {
	int sys;
	const char *why;
	bool cure;
} opens[] = {
	{ ENOENT, "No such file", true },	  { ENODEV, "No such device", true },
	{ ENXIO, "No such device", true },	  { EACCES, "Permission denied", true },
	{ EPERM, "not permitted", true },	  { EBUSY, "busy", true },
	{ EMFILE, "Too many open files", false },
};

START_TEST(test_open_fails)
{
	host.open_errno = opens[_i].sys;
	ck_assert_int_eq(kvm_open(&kvm, NULL, &e), -opens[_i].sys);
	check_error(&e, ERROR_KVM_UNAVAILABLE, "/dev/kvm");
	check_error(&e, ERROR_KVM_UNAVAILABLE, opens[_i].why);
	ck_assert_msg((e.hint[0] != '\0') == opens[_i].cure, "hint '%s'", e.hint);
	ck_assert_int_eq(kvm.fd, -1);
}
END_TEST

#define ALICE	  .uid = 1000, .user = "alice"
#define NODE	  .exists = true, .character = true, .module = KVM_MODULE_LOADED
#define KVM_GROUP .group = 104, .group_name = "kvm"

static const struct cure_row {
	struct kvm_node node;
	const char *cure;
} cures[] = {
	{ { .open_error = ENOENT, ALICE }, "enable VT-x or AMD-V in the firmware" },
	{ { .open_error = ENOENT, ALICE, .module_name = "kvm_amd" }, "sudo modprobe kvm_amd" },
	{ { .open_error = ENOENT, ALICE, .module_name = "kvm_amd", .container = true },
	  "on the host: sudo modprobe kvm_amd" },
	{ { .open_error = ENOENT, ALICE, .module = KVM_MODULE_LOADED, .minor = 232 },
	  "mknod -m 660 /dev/kvm c 10 232" },
	{ { .open_error = ENOENT, .module = KVM_MODULE_LOADED, .container = true },
	  "--device /dev/kvm" },
	{ { .open_error = ENODEV,
	    .exists = true,
	    .character = true,
	    .module_name = "kvm_intel",
	    ALICE },
	  "sudo modprobe kvm_intel" },
	{ { .open_error = EACCES, .exists = true, .mode = 0644, .minor = 232, ALICE },
	  "is no device: sudo rm /dev/kvm" },
	/* Debian's own: root:kvm 0660. */
	{ { .open_error = EACCES, NODE, ALICE, KVM_GROUP, .mode = 0660 },
	  "sudo usermod -aG kvm alice, then log in again" },
	{ { .open_error = EACCES, NODE, ALICE, KVM_GROUP, .mode = 0660, .in_record = true },
	  "log in again, or newgrp kvm" },
	{ { .open_error = EACCES, NODE, ALICE, .group = 36, .group_name = "qemu", .mode = 0660 },
	  "sudo usermod -aG qemu alice" },
	{ { .open_error = EACCES, NODE, .uid = 1000, KVM_GROUP, .mode = 0660 },
	  "sudo usermod -aG kvm $USER" },
	{ { .open_error = EACCES, NODE, ALICE, .group = 993, .mode = 0660 },
	  "group 993, which has no name here: sudo setfacl -m u:alice:rw /dev/kvm" },
	/* In the group, but the list's mask or entry says no. */
	{ { .open_error = EACCES,
	    NODE,
	    ALICE,
	    KVM_GROUP,
	    .mode = 0660,
	    .in_group = true,
	    .acl = true },
	  "sudo setfacl -m u:alice:rw /dev/kvm" },
	/* Without udev's rule: root:root. */
	{ { .open_error = EACCES, NODE, ALICE, .group_name = "root", .mode = 0600 },
	  "its mode is 0600: sudo chgrp kvm /dev/kvm && sudo chmod 660 /dev/kvm" },
	{ { .open_error = EACCES, NODE, ALICE, .group_name = "root", .mode = 0660 },
	  "sudo chgrp kvm" },
	{ { .open_error = EACCES, NODE, ALICE, KVM_GROUP, .mode = 0600 }, "its mode is 0600" },
	/* Nobody's mode is in the way. */
	{ { .open_error = EPERM, NODE, .uid = 0, KVM_GROUP, .mode = 0660 },
	  "DeviceAllow=/dev/kvm rw" },
	{ { .open_error = EPERM, NODE, ALICE, KVM_GROUP, .mode = 0666 }, "--device /dev/kvm" },
	{ { .open_error = EACCES, NODE, ALICE, KVM_GROUP, .mode = 0660, .in_group = true },
	  "its mode permits it" },
	{ { .open_error = EBUSY, NODE, ALICE, KVM_GROUP, .mode = 0660 }, "another hypervisor" },
};

START_TEST(test_cure)
{
	char text[sizeof(e.hint)];

	kvm_node_cure(&cures[_i].node, text, sizeof(text));
	ck_assert_msg(strstr(text, cures[_i].cure) != NULL, "'%s', not '%s'", text, cures[_i].cure);
	/* Cut short it would not help. */
	ck_assert_uint_lt(strlen(text), sizeof(text) - 1);
}
END_TEST

START_TEST(test_not_kvm)
{
	host.version_errno = ENOTTY;
	ck_assert_int_lt(kvm_open(&kvm, NULL, &e), 0);
	check_error(&e, ERROR_KVM_UNAVAILABLE, "/dev/kvm");
	check_error(&e, ERROR_KVM_UNAVAILABLE, "Inappropriate ioctl");
	ck_assert_str_ne(e.hint, "");
	ck_assert_int_eq(kvm.fd, -1);
}
END_TEST

static const int versions[] = { 0, 10, 11, 13 };

START_TEST(test_other_version)
{
	char text[32];

	host.version = versions[_i];
	(void)snprintf(text, sizeof(text), "API version %d", versions[_i]);
	ck_assert_int_lt(kvm_open(&kvm, NULL, &e), 0);
	check_error(&e, ERROR_KVM_UNAVAILABLE, text);
	check_error(&e, ERROR_KVM_UNAVAILABLE, "needs 12");
	ck_assert_str_ne(e.hint, "");
	ck_assert_int_eq(kvm.fd, -1);
}
END_TEST

static const struct required_row {
	int number;
	const char *name;
} required[] = {
	{ KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP" },
	{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY" },
	{ KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID" },
	{ KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE" },
	{ KVM_CAP_IRQFD, "KVM_CAP_IRQFD" },
	{ KVM_CAP_PIT2, "KVM_CAP_PIT2" },
	{ KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD" },
	{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT" },
};

START_TEST(test_required_capability)
{
	char text[64];

	host.missing = required[_i].number;
	(void)snprintf(text, sizeof(text), "%s is missing", required[_i].name);
	ck_assert_int_lt(kvm_open(&kvm, NULL, &e), 0);
	check_error(&e, ERROR_KVM_UNAVAILABLE, text);
	check_error(&e, ERROR_KVM_UNAVAILABLE, "need"); /* what for */
	check_error(&e, ERROR_KVM_UNAVAILABLE, "4.13");
	ck_assert_int_eq(kvm.fd, -1);
}
END_TEST

static const struct template_row {
	int missing;
	struct capability_modifier modifiers[3];
	uint32_t count;
	const char *says; /* NULL: it opens */
} template_rows[] = {
	{ -1, { { KVM_CAP_XCRS, false } }, 1, NULL },
	{ KVM_CAP_XCRS, { { KVM_CAP_XCRS, false } }, 1, "Missing KVM capabilities: 0x38 (56)" },
	{ KVM_CAP_XCRS, { { KVM_CAP_XCRS, false }, { KVM_CAP_XCRS, true } }, 2, NULL },
	{ KVM_CAP_XCRS, { { KVM_CAP_XCRS, true }, { KVM_CAP_XCRS, false } }, 2, "0x38" },
	{ KVM_CAP_PIT2, { { KVM_CAP_PIT2, true } }, 1, NULL },
	{ KVM_CAP_PIT2, { { KVM_CAP_IRQFD, true } }, 1, "KVM_CAP_PIT2" },
	{ KVM_CAP_PIT2, { { KVM_CAP_PIT2, true }, { KVM_CAP_PIT2, false } }, 2, "KVM_CAP_PIT2" },
	{ -1, { { UINT32_MAX, false } }, 1, "0xffffffff" },
	{ -1, { { UINT32_MAX, true } }, 1, NULL },
};

/* A CPU template's list is checked beside ours, or excuses what is missing. */
START_TEST(test_template_capabilities)
{
	const struct template_row *row = &template_rows[_i];
	struct cpu_template template = { .capability_count = row->count };

	memcpy(template.capabilities, row->modifiers, sizeof(row->modifiers));
	host.missing = row->missing;
	if (row->says == NULL) {
		check_ok(kvm_open(&kvm, &template, &e), &e);
		return;
	}
	ck_assert_int_lt(kvm_open(&kvm, &template, &e), 0);
	ck_assert_ptr_nonnull(strstr(e.msg, row->says));
	ck_assert_str_ne(e.hint, "");
	ck_assert_int_eq(kvm.fd, -1);
}
END_TEST

static const struct optional_row {
	int number;
	const char *consequence;
} optional[] = {
	{ KVM_CAP_TSC_DEADLINE_TIMER, "periodic timer" },
	{ KVM_CAP_XCRS, "AVX" },
	{ KVM_CAP_VCPU_EVENTS, "pending interrupts" },
	{ KVM_CAP_KVMCLOCK_CTRL, "lock-ups" },
	{ KVM_CAP_TSC_CONTROL, "frequency" },
};

START_TEST(test_optional_capability)
{
	char text[512], small[8];

	host.missing = optional[_i].number;
	check_ok(kvm_open(&kvm, NULL, &e), &e);
	kvm_describe_missing(&kvm, text, sizeof(text));
	ck_assert_msg(strstr(text, optional[_i].consequence) != NULL, "'%s'", text);
	ck_assert_ptr_null(strchr(text, ';'));
	memset(small, 'x', sizeof(small));
	kvm_describe_missing(&kvm, small, 7);
	ck_assert_uint_lt(strlen(small), 7);
	ck_assert_int_eq(small[7], 'x');
	kvm_describe_missing(&kvm, NULL, 0);
}
END_TEST

START_TEST(test_nothing_optional)
{
	struct kvm bare = { .fd = -1 };
	char text[1024];

	kvm_describe_missing(&bare, text, sizeof(text));
	for (size_t i = 0; i < ARRAY_SIZE(optional); i++) {
		ck_assert_ptr_nonnull(strstr(text, optional[i].consequence));
	}
	host.missing = -1;
	check_ok(kvm_open(&kvm, NULL, &e), &e);
	kvm_describe_missing(&kvm, text, sizeof(text));
	ck_assert_str_eq(text, "");
}
END_TEST

static const int run_sizes[] = { -1, 0, 64 };

START_TEST(test_run_page)
{
	host.run_size = run_sizes[_i];
	ck_assert_int_lt(kvm_open(&kvm, NULL, &e), 0);
	check_error(&e, ERROR_KVM, "KVM_GET_VCPU_MMAP_SIZE");
	ck_assert_int_eq(kvm.fd, -1);
}
END_TEST

START_TEST(test_create_vm)
{
	check_ok(kvm_open(&kvm, NULL, &e), &e);
	check_ok(kvm_create_vm(&kvm, &e), &e);
	ck_assert_int_ge(kvm.vm_fd, 0);
	ck_assert(!kvm_has(&kvm, X86_XSAVE2));
	ck_assert_uint_eq(kvm.fpu_size, 4096);
	kvm_close(&kvm);

	host.xsave2 = 11008;
	host.identity_errno = ENOTTY; /* AMD and software KVM do not know these two */
	host.tss_errno = EINVAL;
	check_ok(kvm_open(&kvm, NULL, &e), &e);
	check_ok(kvm_create_vm(&kvm, &e), &e);
	ck_assert(kvm_has(&kvm, X86_XSAVE2));
	ck_assert_uint_eq(kvm.fpu_size, 11008);
}
END_TEST

START_TEST(test_create_vm_fails)
{
	check_ok(kvm_open(&kvm, NULL, &e), &e);
	host.create_errno = ENOMEM;
	ck_assert_int_eq(kvm_create_vm(&kvm, &e), -ENOMEM);
	check_error(&e, ERROR_KVM, "KVM_CREATE_VM");
	ck_assert_int_eq(kvm.vm_fd, -1);
	host.create_errno = 0;
	host.tss_errno = EEXIST;
	ck_assert_int_eq(kvm_create_vm(&kvm, &e), -EEXIST);
	check_error(&e, ERROR_KVM, "KVM_SET_TSS_ADDR");
}
END_TEST

CHECK_MAIN("kvm", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_good_host);
	   CHECK_TABLE(test_open_fails, opens); CHECK_TABLE(test_cure, cures);
	   CHECK_TEST(test_not_kvm); CHECK_TABLE(test_other_version, versions);
	   CHECK_TABLE(test_template_capabilities, template_rows);
	   CHECK_TABLE(test_required_capability, required);
	   CHECK_TABLE(test_optional_capability, optional); CHECK_TEST(test_nothing_optional);
	   CHECK_TABLE(test_run_page, run_sizes); CHECK_TEST(test_create_vm);
	   CHECK_TEST(test_create_vm_fails))
