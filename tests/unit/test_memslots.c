/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory as KVM's slots, and KVM's dirty log. The first half has a KVM of its own: the linker
 * puts ioctl() of this file in place of the C library's. The second half runs three instructions on
 * the machine's KVM, with capabilities hidden from us.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include "harness/check_main.h"

#include "../../src/vmm/kvm.h"
#include "vmm/cleanup.h"
#include "vmm/guest_memory.h"
#include "vmm/platform.h"

int __wrap_ioctl(int fd, unsigned long request, ...);
int __real_ioctl(int fd, unsigned long request, ...);

#define MANUAL	      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE
#define INITIALLY_SET KVM_DIRTY_LOG_INITIALLY_SET
#define CALLS_MAX     32
#define LOG_PAGES     (GIB(3) / 4096)

/* What was asked of KVM, and what the first half's KVM is like. */
static struct {
	bool real;
	int offered; /* KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 */
	int fail_at; /* the call that fails; 0: none */
	uint64_t log[LOG_PAGES / 64];
	uint32_t calls, clears;
	struct kvm_userspace_memory_region slots[CALLS_MAX];
	uint32_t slot_calls;
	struct kvm_clear_dirty_log cleared[CALLS_MAX];
	uint64_t enabled;
	uint32_t enables;
} host;

static struct kvm kvm;
static struct guest_memory mem;
static struct error e;

static void note(unsigned long request, const void *arg)
{
	if (request == KVM_SET_USER_MEMORY_REGION && host.slot_calls < CALLS_MAX) {
		memcpy(&host.slots[host.slot_calls++], arg, sizeof(host.slots[0]));
	} else if (request == KVM_CLEAR_DIRTY_LOG && host.clears < CALLS_MAX) {
		memcpy(&host.cleared[host.clears++], arg, sizeof(host.cleared[0]));
	} else if (request == KVM_ENABLE_CAP) {
		const struct kvm_enable_cap *cap = arg;

		ck_assert_uint_eq(cap->cap, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
		host.enabled = cap->args[0];
		host.enables++;
	}
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	note(request, arg);
	if (request == KVM_CHECK_EXTENSION && (uintptr_t)arg == KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) {
		return host.real ? __real_ioctl(fd, request, arg) & host.offered : host.offered;
	}
	if (host.real) {
		return __real_ioctl(fd, request, arg);
	}
	if (++host.calls == (uint32_t)host.fail_at) {
		errno = EIO;
		return -1;
	}
	if (request == KVM_GET_DIRTY_LOG) {
		const struct kvm_dirty_log *log = arg;
		uint64_t pages = host.slots[log->slot].memory_size / 4096;

		memcpy(log->dirty_bitmap, host.log, ALIGN_UP(pages, 64) / 8);
	}
	return 0;
}

static void setup(void)
{
	memset(&host, 0, sizeof(host));
	e = (struct error){ 0 };
	kvm = (struct kvm){ .fd = -1, .vm_fd = -1 };
}

static void teardown(void)
{
	kvm_close(&kvm);
	guest_memory_finish(&mem);
	kvm_close(&kvm);
}

/* ---- a KVM of our own ---- */

static void init_fake(uint64_t size)
{
	check_ok(guest_memory_init(&mem, size, GUEST_MEMORY_ANON, &e), &e);
	check_ok(memslots_register(&kvm, &mem, &e), &e);
}

/* A start costs one call for each region, and the log is not on. */
START_TEST(test_start)
{
	init_fake(PLATFORM_RAM_LOW_END + MIB(64));
	ck_assert_uint_eq(host.calls, 2);
	ck_assert_uint_eq(host.slot_calls, 2);
	for (uint32_t i = 0; i < 2; i++) {
		ck_assert_uint_eq(host.slots[i].slot, i);
		ck_assert_uint_eq(host.slots[i].flags, 0);
		ck_assert_uint_eq(host.slots[i].guest_phys_addr, mem.regions[i].gpa);
		ck_assert_uint_eq(host.slots[i].memory_size, mem.regions[i].size);
		ck_assert_uint_eq(host.slots[i].userspace_addr, (uintptr_t)mem.regions[i].host);
	}
	guest_memory_finish(&mem);
	ck_assert_uint_eq(host.slot_calls, 4);
	ck_assert_uint_eq(host.slots[2].slot, 0);
	ck_assert_uint_eq(host.slots[2].memory_size, 0);
	ck_assert_uint_eq(host.slots[3].slot, 1);
}
END_TEST

START_TEST(test_slot_refused)
{
	host.fail_at = 2;
	check_ok(guest_memory_init(&mem, PLATFORM_RAM_LOW_END + MIB(64), GUEST_MEMORY_ANON, &e),
		 &e);
	ck_assert_int_eq(memslots_register(&kvm, &mem, &e), -EIO);
	check_error(&e, ERROR_KVM, "KVM_SET_USER_MEMORY_REGION of 64 MiB at 0x100000000");
	ck_assert_uint_eq(host.slot_calls, 3); /* the first one is gone again */
	ck_assert_uint_eq(host.slots[2].slot, 0);
	ck_assert_uint_eq(host.slots[2].memory_size, 0);
}
END_TEST

static const struct {
	int offered;
	uint64_t enabled;
	uint32_t enables, clears;
} protocols[] = {
	{ MANUAL | INITIALLY_SET, MANUAL | INITIALLY_SET, 1, 1 },
	{ MANUAL, MANUAL, 1, 1 },
	{ 0xff, MANUAL | INITIALLY_SET, 1, 1 }, /* what later kernels may add is not asked for */
	{ 0, 0, 0, 0 },
	{ -1, 0, 0, 0 },
	{ INITIALLY_SET, 0, 0, 0 },
};

START_TEST(test_protocol)
{
	uint64_t bitmap[MIB(16) / 4096 / 64] = { 0 };

	host.offered = protocols[_i].offered;
	init_fake(MIB(16));
	for (int round = 0; round < 2; round++) {
		check_ok(guest_memory_dirty_start(&mem, &e), &e);
		ck_assert_uint_eq(host.slots[1 + 2 * round].flags, KVM_MEM_LOG_DIRTY_PAGES);
		ck_assert_uint_eq(host.slots[1 + 2 * round].memory_size, MIB(16));
		ck_assert_uint_eq(host.enabled, protocols[_i].enabled);
		ck_assert_uint_eq(host.enables, protocols[_i].enables); /* once for all */
		check_ok(guest_region_dirty_collect(&mem, 0, bitmap, MIB(16) / 4096, &e), &e);
		guest_memory_dirty_stop(&mem);
		ck_assert_uint_eq(host.slots[2 + 2 * round].flags, 0);
	}
	ck_assert_uint_eq(host.clears, 0); /* nothing was dirty */
	host.log[3] = 2;
	check_ok(guest_memory_dirty_start(&mem, &e), &e);
	check_ok(guest_region_dirty_collect(&mem, 0, bitmap, MIB(16) / 4096, &e), &e);
	memset(bitmap, 0, sizeof(bitmap));
	check_ok(guest_region_dirty_collect(&mem, 0, bitmap, MIB(16) / 4096, &e), &e);
	ck_assert_uint_eq(bitmap[3], 2);
	ck_assert_uint_eq(host.clears, 2 * protocols[_i].clears);
}
END_TEST

#define PIECES (MIB(600) / 4096)

/* Pieces in which nothing is dirty are left alone; the last one may be odd. */
START_TEST(test_pieces)
{
	const uint64_t size = MIB(600) - 4096;
	uint64_t *bitmap = calloc(PIECES / 64, sizeof(*bitmap));

	ck_assert_ptr_nonnull(bitmap);
	host.offered = MANUAL;
	init_fake(size);
	check_ok(guest_memory_dirty_start(&mem, &e), &e);
	host.log[0] = 1;
	host.log[PIECES / 64 - 1] = UINT64_C(1) << 62;
	check_ok(guest_region_dirty_collect(&mem, 0, bitmap, PIECES, &e), &e);
	ck_assert_uint_eq(host.clears, 2);
	ck_assert_uint_eq(host.cleared[0].first_page, 0);
	ck_assert_uint_eq(host.cleared[0].num_pages, 65536);
	ck_assert_uint_eq(host.cleared[1].first_page, 2 * 65536);
	ck_assert_uint_eq(host.cleared[1].num_pages, size / 4096 - 2 * 65536);
	ck_assert_uint_eq(((uint64_t *)host.cleared[1].dirty_bitmap)[(PIECES - 2 * 65536) / 64 - 1],
			  UINT64_C(1) << 62);
	free(bitmap);
}
END_TEST

static const struct {
	int offered, fail_at; /* calls: slots 1 and 2, (capability 3,) logs, collection */
	const char *says;
} failures[] = {
	{ 0, 3, "the dirty log of 3072 MiB" },
	{ 0, 4, "the dirty log of 64 MiB" },
	{ 0, 5, "KVM_GET_DIRTY_LOG of 3072 MiB at 0x0" },
	{ MANUAL, 4, "the dirty log of 3072 MiB" },
	{ MANUAL, 7, "KVM_CLEAR_DIRTY_LOG" },
	{ MANUAL, 3, NULL }, /* the capability is a wish */
};

START_TEST(test_failures)
{
	uint64_t *bitmap = calloc(GIB(3) / 4096 / 64, sizeof(*bitmap));
	int r;

	ck_assert_ptr_nonnull(bitmap);
	host.offered = failures[_i].offered;
	host.fail_at = failures[_i].fail_at;
	host.log[0] = 1;
	init_fake(PLATFORM_RAM_LOW_END + MIB(64));
	ck_assert_uint_eq(PLATFORM_RAM_LOW_END, GIB(3));
	r = guest_memory_dirty_start(&mem, &e);
	if (r < 0) {
		ck_assert_uint_eq(mem.tracked, 0);
		/* Whatever was switched on is off again. */
		for (uint32_t i = 0; i < 2; i++) {
			uint32_t flags = 0;

			for (uint32_t j = 0; j < host.slot_calls; j++) {
				flags = host.slots[j].slot == i ? host.slots[j].flags : flags;
			}
			ck_assert(flags == 0 || strstr(failures[_i].says, i == 0 ? "3072" : " 64"));
		}
	} else {
		r = guest_region_dirty_collect(&mem, 0, bitmap, GIB(3) / 4096, &e);
	}
	if (failures[_i].says == NULL) {
		check_ok(r, &e);
		ck_assert_uint_eq(host.clears, 0);
	} else {
		ck_assert_int_eq(r, -EIO);
		check_error(&e, ERROR_KVM, failures[_i].says);
	}
	free(bitmap);
}
END_TEST

/* ---- the machine's KVM ---- */

#define CODE 0x1000
#define RAM  MIB(300) /* more than one piece of the log */
#define MORE GIB(1)   /* a region that comes later */

static int vcpu = -1;
static struct kvm_run *run;

/* mov %al,(%edi); hlt; mov (%edi),%al; hlt */
static void put_code(void)
{
	static const uint8_t code[] = { 0x88, 0x07, 0xf4, 0x8a, 0x07, 0xf4 };

	ck_assert(guest_memory_write(&mem, CODE, code, sizeof(code)));
}

static bool open_real(uint64_t size, int offered)
{
	struct kvm_sregs sregs;

	if (access("/dev/kvm", R_OK | W_OK) != 0) {
		fprintf(stderr, "# SKIP /dev/kvm cannot be opened\n");
		return false;
	}
	host.real = true;
	host.offered = offered;
	check_ok(kvm_open(&kvm, NULL, &e), &e);
	check_ok(kvm_create_vm(&kvm, &e), &e);
	check_ok(guest_memory_init(&mem, size, GUEST_MEMORY_ANON, &e), &e);
	check_ok(memslots_register(&kvm, &mem, &e), &e);
	vcpu = kvm_ioctl(kvm.vm_fd, KVM_CREATE_VCPU, NULL);
	ck_assert_int_ge(vcpu, 0);
	run = mmap(NULL, (size_t)kvm.vcpu_mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	ck_assert_ptr_ne(run, MAP_FAILED);
	ck_assert_int_eq(kvm_ioctl(vcpu, KVM_GET_SREGS, &sregs), 0);
	/* Flat segments of 4 GiB, 32 bits, no paging. */
	sregs.cr0 |= 1;
	sregs.cs = (struct kvm_segment){ .limit = UINT32_MAX,
					 .selector = 8,
					 .type = 11,
					 .present = 1,
					 .db = 1,
					 .s = 1,
					 .g = 1 };
	sregs.ds = sregs.cs;
	sregs.ds.selector = 16;
	sregs.ds.type = 3;
	sregs.es = sregs.fs = sregs.gs = sregs.ss = sregs.ds;
	ck_assert_int_eq(kvm_ioctl(vcpu, KVM_SET_SREGS, &sregs), 0);
	put_code();
	return true;
}

static void close_real(void)
{
	(void)munmap(run, (size_t)kvm.vcpu_mmap_size);
	(void)close(vcpu);
}

/* Runs one of the two pairs of instructions; the reason why it stopped. */
static uint32_t guest(uint64_t at, uint64_t gpa, uint8_t *al)
{
	struct kvm_regs regs = { .rip = at, .rdi = gpa, .rax = *al, .rflags = 2 };

	ck_assert_int_eq(kvm_ioctl(vcpu, KVM_SET_REGS, &regs), 0);
	ck_assert_int_eq(kvm_ioctl(vcpu, KVM_RUN, NULL), 0);
	ck_assert_int_eq(kvm_ioctl(vcpu, KVM_GET_REGS, &regs), 0);
	*al = (uint8_t)regs.rax;
	return run->exit_reason;
}

static void guest_writes(uint64_t gpa)
{
	static uint8_t value;
	uint8_t al = ++value;

	ck_assert_uint_eq(guest(CODE, gpa, &al), KVM_EXIT_HLT);
	ck_assert_uint_eq(*guest_memory_read_pointer(&mem, gpa, 1), value);
}

static uint8_t guest_reads(uint64_t gpa)
{
	uint8_t al = 0;

	ck_assert_uint_eq(guest(CODE + 3, gpa, &al), KVM_EXIT_HLT);
	return al;
}

/* Exactly these pages of the region are dirty. */
static void expect_dirty(uint32_t region, const uint64_t *pages, size_t count)
{
	uint64_t bits = ALIGN_UP(mem.regions[region].size / 4096, 64);
	uint64_t *bitmap = calloc(bits / 64, sizeof(*bitmap));
	uint64_t found = 0;

	ck_assert_ptr_nonnull(bitmap);
	check_ok(guest_region_dirty_collect(&mem, region, bitmap, bits, &e), &e);
	for (uint64_t i = 0; i < bits / 64; i++) {
		found += (uint64_t)__builtin_popcountll(bitmap[i]);
	}
	for (size_t i = 0; i < count; i++) {
		ck_assert_msg((bitmap[pages[i] / 64] >> pages[i] % 64 & 1) != 0,
			      "page %llu is not marked", (unsigned long long)pages[i]);
	}
	ck_assert_uint_eq(found, count);
	free(bitmap);
}

static uint64_t count_dirty(uint32_t region)
{
	uint64_t bits = ALIGN_UP(mem.regions[region].size / 4096, 64);
	uint64_t *bitmap = calloc(bits / 64, sizeof(*bitmap));
	uint64_t found = 0;

	ck_assert_ptr_nonnull(bitmap);
	check_ok(guest_region_dirty_collect(&mem, region, bitmap, bits, &e), &e);
	for (uint64_t i = 0; i < bits / 64; i++) {
		found += (uint64_t)__builtin_popcountll(bitmap[i]);
	}
	free(bitmap);
	return found;
}

static const int real_offers[] = { MANUAL | INITIALLY_SET, MANUAL, 0 };

/* The guest's writes and ours, again and again, whatever the host's KVM can do. */
START_TEST(test_log)
{
	const uint64_t last = RAM / 4096 - 1;
	const uint64_t both[] = { 5, 9, 65535, 65536, last };
	uint8_t byte = 1;

	if (!open_real(RAM, real_offers[_i])) {
		return;
	}
	guest_writes(5 * 4096); /* mapped before the log is on */
	for (int round = 0; round < 2; round++) {
		check_ok(guest_memory_dirty_start(&mem, &e), &e);
		ck_assert_uint_eq(count_dirty(0), RAM / 4096);
		expect_dirty(0, NULL, 0);
		for (int again = 0; again < 3; again++) {
			guest_writes(5 * 4096);
			guest_writes(65535 * UINT64_C(4096));
			guest_writes(65536 * UINT64_C(4096) + 77);
			guest_writes(last * 4096 + 4095);
			(void)guest_reads(12 * 4096);
			ck_assert(guest_memory_write(&mem, 9 * 4096, &byte, 1));
			expect_dirty(0, both, ARRAY_SIZE(both));
			guest_writes(5 * 4096);
			expect_dirty(0, both, 1);
			expect_dirty(0, NULL, 0);
		}
		guest_memory_dirty_stop(&mem);
		guest_writes(5 * 4096);
	}
	ck_assert_uint_le(host.enables, 1);
	ck_assert(real_offers[_i] != 0 || host.enables == 0);
	close_real();
}
END_TEST

/* A region that comes and goes while the VM is there, with a log of its own. */
START_TEST(test_hot_plug)
{
	const struct guest_region_config config = { .kind = GUEST_REGION_HOTPLUG,
						    .gpa = MORE,
						    .size = MIB(2) };
	const uint64_t page = 7;
	uint8_t al = 1;

	if (!open_real(MIB(16), MANUAL | INITIALLY_SET)) {
		return;
	}
	ck_assert_uint_eq(guest(CODE, MORE, &al), KVM_EXIT_MMIO);
	ck_assert_int_eq(kvm_ioctl(vcpu, KVM_RUN, NULL), 0); /* completes it */
	for (int round = 0; round < 2; round++) {
		int index = guest_memory_add(&mem, &config, &e);

		ck_assert_msg(index == 1, "%s", e.msg);
		guest_writes(MORE + MIB(2) - 1);
		check_ok(guest_region_dirty_start(&mem, 1, &e), &e);
		ck_assert_uint_eq(count_dirty(1), MIB(2) / 4096);
		guest_writes(MORE + page * 4096);
		guest_writes(3 * 4096); /* of the other region, which has no log */
		expect_dirty(1, &page, 1);
		guest_memory_remove(&mem, 1);
		ck_assert_uint_eq(guest(CODE, MORE, &al), KVM_EXIT_MMIO);
		ck_assert_int_eq(kvm_ioctl(vcpu, KVM_RUN, NULL), 0);
	}
	close_real();
}
END_TEST

/* What a reset puts in the place of a file is what the guest sees, and its log goes on. */
START_TEST(test_discarded_file)
{
	const uint64_t page = 1;
	uint8_t byte = 0x11;
	int file = memfd_create("file", MFD_CLOEXEC);
	struct guest_region_config config = { .kind = GUEST_REGION_HOTPLUG,
					      .gpa = MORE,
					      .size = MIB(2),
					      .backing = GUEST_MEMORY_FILE_PRIVATE,
					      .fd = fcntl(file, F_DUPFD_CLOEXEC, 0) };

	ck_assert_int_eq(ftruncate(file, (off_t)MIB(2)), 0);
	ck_assert_int_eq(pwrite(file, &byte, 1, 4096), 1);
	ck_assert_int_eq(pwrite(file, &byte, 1, 8192), 1);
	if (!open_real(MIB(16), MANUAL | INITIALLY_SET)) {
		return;
	}
	ck_assert_int_eq(guest_memory_add(&mem, &config, &e), 1);
	check_ok(guest_memory_dirty_start(&mem, &e), &e);
	ck_assert_uint_eq(guest_reads(MORE + 4096), 0x11);
	ck_assert_uint_eq(guest_reads(MORE + 8192), 0x11);
	guest_writes(MORE + 4096);
	check_ok(guest_memory_discard(&mem, &e), &e);
	put_code();
	ck_assert_uint_eq(guest_reads(MORE + 4096), 0);
	ck_assert_uint_eq(guest_reads(MORE + 8192), 0);
	ck_assert_uint_eq(count_dirty(1), MIB(2) / 4096);
	guest_writes(MORE + 4096);
	expect_dirty(1, &page, 1);
	ck_assert_int_eq(pread(file, &byte, 1, 4096), 1);
	ck_assert_uint_eq(byte, 0x11);
	(void)close(file);
	close_real();
}
END_TEST

CHECK_MAIN("memslots", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_start);
	   CHECK_TEST(test_slot_refused); CHECK_TABLE(test_protocol, protocols);
	   CHECK_TEST(test_pieces); CHECK_TABLE(test_failures, failures);
	   CHECK_TABLE(test_log, real_offers); CHECK_TEST(test_hot_plug);
	   CHECK_TEST(test_discarded_file))
