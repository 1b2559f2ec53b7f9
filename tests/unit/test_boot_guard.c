/* SPDX-License-Identifier: Apache-2.0 */
/* Boot loops: which resets end a VM, which never do, and which cure is named. */
#include "harness/check_main.h"

#include "../../src/cli/boot_guard.h"
#include "vmm/log.h"

#define S ((uint64_t)1000000000)

static const char panic[] =
	"[1.0] VFS: Cannot open root device\r\n[1.1] Kernel panic - not syncing: "
	"VFS: Unable to mount root fs on unknown-block(0,0)\r\n[1.2] Rebooting";
static const char no_init[] = "Kernel panic - not syncing: No working init found.\n";
static struct boot_guard guard;
static struct error e;

static void setup(void)
{
	log_init(LOG_ERROR, -1);
	boot_guard_init(&guard, 100 * S);
	e = (struct error){ 0 };
}

static void teardown(void)
{
	log_init(LOG_WARN, -1);
}

static bool pci_unseen;

static bool reset(const char *said, size_t len, uint64_t at, bool initrd, uint32_t disks)
{
	const struct boot_facts facts = { .initrd = initrd,
					  .disks = disks,
					  .pci_unseen = pci_unseen };

	return boot_guard_may_restart(&guard, said, len, &facts, at, &e);
}

START_TEST(test_third_death)
{
	ck_assert(reset(panic, strlen(panic), 104 * S, false, 1));
	ck_assert(reset(panic, strlen(panic), 108 * S, false, 1));
	ck_assert(!reset(panic, strlen(panic), 112 * S, false, 1));
	ck_assert_ptr_nonnull(strstr(e.msg, "3 times in 12.0 s"));
	ck_assert_ptr_nonnull(strstr(e.msg,
				     "\"Kernel panic - not syncing: VFS: Unable to mount root fs "
				     "on unknown-block(0,0)\""));
	ck_assert_ptr_nonnull(strstr(e.hint, "--initrd FILE"));
	ck_assert_ptr_null(strstr(e.hint, "--disk"));
}
END_TEST

START_TEST(test_cures)
{
	static const struct {
		const char *said;
		bool initrd;
		uint32_t disks;
		const char *cure;
		bool pci_unseen;
	} rows[] = {
		{ panic, true, 1, "--transport mmio", true },
		{ panic, false, 1, "--transport mmio", true },
		{ panic, false, 0, "--initrd FILE, and --disk IMAGE", true },
		{ panic, false, 0, "--initrd FILE, and --disk IMAGE" },
		{ panic, true, 0, "--disk IMAGE" },
		{ panic, true, 1, "root=" },
		{ no_init, true, 1, "no program for init=" },
		{ "Kernel panic - not syncing: stack-protector", false, 0, "--on-reboot" },
		{ "Gave up waiting for root\nRebooting automatically due to panic= boot argument",
		  true, 1, "root=" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t len = strlen(rows[i].said);

		setup();
		pci_unseen = rows[i].pci_unseen;
		for (uint64_t k = 1; k <= 3; k++) {
			ck_assert(reset(rows[i].said, len, (100 + k) * S, rows[i].initrd,
					rows[i].disks) == (k < 3));
		}
		ck_assert_msg(strstr(e.hint, rows[i].cure) != NULL, "%s: %s", rows[i].cure, e.hint);
	}
}
END_TEST

/* One that got far in between, or took its time, or says nothing of the kind. */
START_TEST(test_goes_on)
{
	uint64_t at = 100 * S;

	for (int i = 0; i < 50; i++) {
		ck_assert(reset(panic, strlen(panic), at += S, false, 0));
		ck_assert(reset(panic, strlen(panic), at += S, false, 0));
		ck_assert(reset("login: reboot", 13, at += S, false, 0));
	}
	for (int i = 0; i < 50; i++) {
		ck_assert(reset(panic, strlen(panic), at += BOOT_GUARD_LIFE_NS + 1, false, 0));
	}
	for (int i = 0; i < 300; i++) {
		ck_assert(reset("", 0, at += S / 100, false, 0));
	}
}
END_TEST

/* The guest's text has no end, holds NULs, and is cut anywhere. */
START_TEST(test_hostile_text)
{
	char text[600];

	memset(text, 'x', sizeof(text));
	memcpy(text + 3, "Kernel panic - not syncing", 26);
	memset(text, 0, 2);
	ck_assert(reset(text, sizeof(text), 101 * S, false, 0));
	ck_assert(reset(text, 28, 102 * S, false, 0)); /* not whole: none */
	ck_assert_uint_eq(guard.deaths, 0);
	for (uint64_t k = 3; k <= 5; k++) {
		ck_assert(reset(text, sizeof(text), (100 + k) * S, false, 0) == (k < 5));
	}
	ck_assert_uint_lt(strlen(e.msg), sizeof(e.msg));
	ck_assert_ptr_nonnull(strstr(e.msg, "xxx\""));
}
END_TEST

CHECK_MAIN("boot-guard", CHECK_FIXTURE(setup, teardown); CHECK_TEST(test_third_death);
	   CHECK_TEST(test_cures); CHECK_TEST(test_goes_on); CHECK_TEST(test_hostile_text);)
