/* SPDX-License-Identifier: Apache-2.0 */
/* What a saved VM's processor has, against what a host has (src/vmm/x86/cpuid_saved.c). KVM is asked for
 * nothing here: what it would do with a table is test_vm_load.c's. */
#include "../../src/vmm/x86/cpuid.h"

#include <errno.h>
#include <string.h>

#include "harness/check_main.h"

static struct cpuid saved, here;
static struct error e;

static struct kvm_cpuid_entry2 *add(struct cpuid *cpuid, uint32_t function, uint32_t index)
{
	struct kvm_cpuid_entry2 *entry = &cpuid->entries[cpuid->count++];

	*entry = (struct kvm_cpuid_entry2){ .function = function, .index = index };
	return entry;
}

static void fill(struct cpuid *cpuid)
{
	struct kvm_cpuid_entry2 *vendor = add(cpuid, 0, 0), *features = add(cpuid, 1, 0);
	struct kvm_cpuid_entry2 *extended = add(cpuid, 7, 0), *kvm = add(cpuid, 0x40000000, 0);

	memcpy(&vendor->ebx, "Genu", 4);
	memcpy(&vendor->edx, "ineI", 4);
	memcpy(&vendor->ecx, "ntel", 4);
	memcpy(&kvm->ebx, "KVMK", 4);
	memcpy(&kvm->ecx, "VMKV", 4);
	memcpy(&kvm->edx, "M\0\0\0", 4);
	features->ecx = 0x81202001;
	features->edx = 0x0f8bfbff;
	extended->ebx = 0x20;
}

static void setup(void)
{
	memset(&saved, 0, sizeof(saved));
	memset(&here, 0, sizeof(here));
	memset(&e, 0, sizeof(e));
	fill(&saved);
	fill(&here);
}

/* There is no KVM behind these descriptors: what passes the comparison is EBADF. */
static int compare(void)
{
	e = (struct error){ 0 };
	return cpuid_load(&saved, &here, -1, -1, &e);
}

START_TEST(test_same)
{
	ck_assert_int_eq(compare(), -EBADF);
	check_error(&e, ERROR_STATE, "KVM_SET_CPUID2");
	/* A host may have more, and what the guest has done is not asked for. */
	here.entries[1].ecx |= 1U << 28;
	saved.entries[1].ecx |= 1U << 27;
	saved.entries[2].ecx |= 1U << 4;
	/* Words, not abilities. */
	saved.entries[1].ebx = 0x07000800;
	ck_assert_int_eq(compare(), -EBADF);
	check_error(&e, ERROR_STATE, "KVM_SET_CPUID2");
}
END_TEST

START_TEST(test_missing)
{
	/* KVM is asked for all that it has before anything is said. */
	saved.entries[2].ebx |= 1U << 16;
	ck_assert_int_eq(compare(), -EBADF);
	check_error(&e, ERROR_KVM, "KVM_GET_SUPPORTED_CPUID");
	saved.entries[2].ebx = 0x20;
	(void)add(&saved, 0xd, 1);
	ck_assert_int_eq(compare(), -EBADF);
	check_error(&e, ERROR_STATE, "KVM_SET_CPUID2");
	saved.entries[4].eax = 1;
	ck_assert_int_eq(compare(), -EBADF);
	check_error(&e, ERROR_KVM, "KVM_GET_SUPPORTED_CPUID");
}
END_TEST

/* Each of them is said, by its name or its place. */
START_TEST(test_each_is_named)
{
	ck_assert_int_eq(cpuid_compare(&saved, &here, &e), 0);
	saved.entries[1].ecx |= 1U << 28 | 1U << 12 | 1U << 27;
	saved.entries[2].ebx |= 1U << 16;
	saved.entries[2].edx |= 1U << 12;
	add(&saved, 0xd, 1)->eax = 8;
	add(&saved, 0x80000001, 0)->ecx = 1U << 5;
	ck_assert_int_eq(cpuid_compare(&saved, &here, &e), -ENOTSUP);
	check_error(&e, ERROR_STATE, ": fma, avx, avx512f, 0x7.0 EDX bit 12, xsaves, lzcnt");
	ck_assert_ptr_null(strstr(e.msg, "more"));
	check_error(&e, ERROR_STATE, "--cpu-baseline");
	/* As many as find room, and how many do not: none is forgotten. */
	saved.entries[1].ecx = saved.entries[1].edx = UINT32_MAX;
	saved.entries[2].ebx = saved.entries[2].ecx = saved.entries[2].edx = UINT32_MAX;
	ck_assert_int_eq(cpuid_compare(&saved, &here, &e), -ENOTSUP);
	{
		const char *list = strchr(e.msg, ':'), *more = strstr(e.msg, " more");
		unsigned named = 0, others = 0;

		ck_assert(list != NULL && more != NULL && more[5] == '\0');
		for (const char *at = list; (at = strchr(at + 1, ',')) != NULL; named++) {
			ck_assert(sscanf(at, ", %u more", &others) == 1 || at < more);
		}
		/* Of three registers of leaf 7, of leaf 1's two what the host has not, two words beside; less what is not asked. */
		ck_assert_uint_eq(
			named + others,
			31 + 31 + 32 + 2 +
				(unsigned)(__builtin_popcount(~0x81202001U & ~0x88000000U) +
					   __builtin_popcount(~0x0f8bfbffU)));
	}
}
END_TEST

START_TEST(test_other_vendor)
{
	memcpy(&saved.entries[0].ebx, "Auth", 4);
	memcpy(&saved.entries[0].edx, "enti", 4);
	memcpy(&saved.entries[0].ecx, "cAMD", 4);
	ck_assert_int_lt(compare(), 0);
	check_error(&e, ERROR_STATE, "'AuthenticAMD', and this is 'GenuineIntel'");
	saved.entries[0] = here.entries[0];
	memcpy(&saved.entries[3].ebx, "XenV", 4);
	ck_assert_int_lt(compare(), 0);
	check_error(&e, ERROR_STATE, "hypervisor of 'XenVVMKVM'");
}
END_TEST

CHECK_MAIN("cpuid_saved", CHECK_FIXTURE(setup, NULL); CHECK_TEST(test_same);
	   CHECK_TEST(test_missing); CHECK_TEST(test_each_is_named); CHECK_TEST(test_other_vendor))
