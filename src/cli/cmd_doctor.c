// SPDX-License-Identifier: Apache-2.0
/*
 * vmm doctor: what this machine can do, a line each, and how to mend what it cannot. Only looks;
 * changes nothing. Exit code 0 if a VM can run, 125 if not.
 *
 * `--probe` prints one number for scripts: guest kernel instructions per second, 0 if no VM can
 * run. Below 20 million KVM interprets guest kernels instead of running them.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "command.h"
#include "exit_codes.h"
#include "vmm/cleanup.h"
#include "vmm/vm.h"

struct doctor {
	bool probe, help;
};

static const struct option option_list[] = {
	{ .name = "probe",
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct doctor, probe),
	  .help = "print only the measured guest instructions per second" },
	{ .name = "help",
	  .letter = 'h',
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct doctor, help),
	  .help = "show this" },
};
static const struct option_table table = {
	.name = "doctor",
	.options = option_list,
	.count = ARRAY_SIZE(option_list),
};

enum verdict { GOOD, WARN, BAD };

static void say(enum verdict verdict, const char *subject, const char *text, const char *cure)
{
	static const char *const marks[] = { "ok  ", "warn", "FAIL" };

	(void)printf("%s  %-12s %s\n", marks[verdict], subject, text);
	if (verdict != GOOD && cure != NULL && cure[0] != '\0') {
		(void)printf("                   cure: %s\n", cure);
	}
}

/* The first line of /proc/cpuinfo that begins with `key` contains `word`. */
static bool cpuinfo_has(const char *key, const char *word)
{
	FILE *file = fopen("/proc/cpuinfo", "re");
	char line[8192];
	bool found = false;

	if (file == NULL) {
		return false;
	}
	while (fgets(line, sizeof(line), file) != NULL) {
		if (strncmp(line, key, strlen(key)) == 0) {
			found = strstr(line, word) != NULL;
			break;
		}
	}
	(void)fclose(file);
	return found;
}

static uint64_t read_number(const char *path, uint64_t fallback)
{
	FILE *file = fopen(path, "re");
	uint64_t value = fallback;
	char text[32];

	if (file != NULL) {
		if (fgets(text, sizeof(text), file) != NULL) {
			value = strtoull(text, NULL, 10);
		}
		(void)fclose(file);
	}
	return value;
}

static void check_host(void)
{
	struct utsname host;
	char text[300];

	(void)uname(&host);
	(void)snprintf(text, sizeof(text),
		       "vmm " VMM_VERSION " on %s %s, %ld CPUs, %lld MiB memory", host.sysname,
		       host.release, sysconf(_SC_NPROCESSORS_ONLN),
		       (long long)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) >> 20);
	say(GOOD, "host", text, NULL);
	if (cpuinfo_has("flags", " vmx") || cpuinfo_has("flags", " svm")) {
		say(GOOD, "cpu", cpuinfo_has("flags", " vmx") ? "VT-x" : "AMD-V", NULL);
	} else {
		say(WARN, "cpu", "no VT-x and no AMD-V: guest kernels run slowly or not at all",
		    "enable virtualization in the firmware; in a VM, nested virtualization");
	}
}

static bool check_kvm(const struct kvm_report *report)
{
	char text[300];

	if (!report->opened) {
		say(BAD, "kvm", report->error.msg, report->error.hint);
		return false;
	}
	if (report->guest_instructions_per_second == 0) {
		say(BAD, "kvm", report->error.msg, "look into the kernel's log (dmesg)");
		return false;
	}
	(void)snprintf(text, sizeof(text), "/dev/kvm, a VM is created in %.2f ms",
		       (double)report->create_vm_ns / 1e6);
	say(GOOD, "kvm", text, NULL);
	(void)snprintf(text, sizeof(text), "%.1f million guest kernel instructions/s%s",
		       (double)report->guest_instructions_per_second / 1e6,
		       report->hardware
			       ? ""
			       : ": this KVM interprets guest kernels, stock ones do not boot");
	say(report->hardware ? GOOD : WARN, "speed", text,
	    "use a machine with VT-x or AMD-V, or scripts/quickstart, which emulates one");
	if (report->missing[0] != '\0') {
		say(WARN, "kvm extras", report->missing, "a newer host kernel or CPU");
	} else {
		say(GOOD, "kvm extras", "every optional capability is there", NULL);
	}
	return true;
}

static void check_tap(void)
{
	auto_close int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd >= 0) {
		say(GOOD, "tap", "/dev/net/tun can be opened", NULL);
	} else {
		say(WARN, "tap", strerror(errno),
		    "sudo modprobe tun; sudo ip tuntap add tap0 mode tap user $USER vnet_hdr");
	}
}

static void check_io_uring(void)
{
	struct io_uring ring;
	int r = io_uring_queue_init(2, &ring, 0);

	if (r == 0) {
		io_uring_queue_exit(&ring);
		say(GOOD, "io_uring", "disks use it", NULL);
	} else {
		say(WARN, "io_uring",
		    "not available: disks use plain system calls, which is slower",
		    "sudo sysctl kernel.io_uring_disabled=0, or a kernel of version 5.10 or newer");
	}
}

static void check_memory(void)
{
	uint64_t pages = read_number("/proc/sys/vm/nr_hugepages", 0);
	char text[200];
	char thp[128] = "";
	FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "re");

	if (file != NULL) {
		if (fgets(thp, sizeof(thp), file) == NULL) {
			thp[0] = '\0';
		}
		thp[strcspn(thp, "\n")] = '\0';
		(void)fclose(file);
	}
	(void)snprintf(text, sizeof(text),
		       "%llu of 2 MiB reserved; transparent for shared memory: %s",
		       (unsigned long long)pages, thp[0] != '\0' ? thp : "unknown");
	say(GOOD, "huge pages", text, NULL);
}

static void check_sandbox(void)
{
	if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0) {
		say(GOOD, "sandbox", "system call filters can be loaded", NULL);
	} else {
		say(BAD, "sandbox", "this kernel has no system call filters",
		    "a kernel with CONFIG_SECCOMP_FILTER, or --sandbox off");
	}
}

static int run(int argc, char **argv)
{
	struct doctor doctor = { 0 };
	struct kvm_report report;
	struct error e = { 0 };
	int r = options_parse(&table, &doctor, argc, argv, &e);
	bool usable;

	if (r < 0) {
		return command_fail(&e);
	}
	if (doctor.help) {
		command_print_help(&command_doctor);
		return EXIT_OK;
	}
	kvm_probe(&report);
	if (doctor.probe) {
		(void)printf("%llu\n", (unsigned long long)report.guest_instructions_per_second);
		return report.guest_instructions_per_second > 0 ? EXIT_OK : EXIT_VMM_ERROR;
	}
	check_host();
	usable = check_kvm(&report);
	check_tap();
	check_io_uring();
	check_memory();
	check_sandbox();
	return usable ? EXIT_OK : EXIT_VMM_ERROR;
}

const struct command command_doctor = {
	.name = "doctor",
	.operands = "",
	.help = "say what this machine can do, and how to mend what it cannot",
	.options = &table,
	.run = run,
};
