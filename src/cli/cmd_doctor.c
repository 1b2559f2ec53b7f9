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
#include "vmm/cpu_baseline.h"
#include "vmm/instance.h"
#include "vmm/vm.h"

struct doctor {
	struct common_options common;
	bool probe, cpu_baseline;
	json_t *findings; /* with --json: what is said, NULL otherwise */
};

static const struct option option_list[] = {
	{ .name = "probe",
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct doctor, probe),
	  .help = "print only the measured guest instructions per second" },
	{ .name = "cpu-baseline",
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct doctor, cpu_baseline),
	  .help = "print what guests can see of this processor, for vmm run --cpu; with FILEs of "
		  "several hosts: what all of them have" },
	OPTION_INCLUDED(struct doctor, common, common_options),
};
static const struct option_table table = OPTION_TABLE("doctor", option_list);

enum verdict { GOOD, WARN, BAD };

static void say(struct doctor *doctor, enum verdict verdict, const char *subject, const char *text,
		const char *cure)
{
	static const char *const marks[] = { "ok  ", "warn", "FAIL" };
	static const char *const words[] = { "ok", "warning", "failure" };
	bool curable = verdict != GOOD && cure != NULL && cure[0] != '\0';

	if (doctor->findings != NULL) {
		(void)json_array_append_new(doctor->findings,
					    json_pack("{s:s, s:s, s:s, s:s*}", "subject", subject,
						      "verdict", words[verdict], "text", text,
						      "cure", curable ? cure : NULL));
		return;
	}
	(void)printf("%s  %-12s %s\n", marks[verdict], subject, text);
	if (curable) {
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

/* The first line of a file; "" if it cannot be read. */
static void read_line(const char *path, char *line, int size)
{
	FILE *file = fopen(path, "re");

	if (file == NULL || fgets(line, size, file) == NULL) {
		line[0] = '\0';
	}
	line[strcspn(line, "\n")] = '\0';
	if (file != NULL) {
		(void)fclose(file);
	}
}

static void check_host(struct doctor *doctor)
{
	struct utsname host;
	char text[300];

	(void)uname(&host);
	(void)snprintf(text, sizeof(text),
		       "vmm " VMM_VERSION " on %s %s, %ld CPUs, %lld MiB memory", host.sysname,
		       host.release, sysconf(_SC_NPROCESSORS_ONLN),
		       (long long)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) >> 20);
	say(doctor, GOOD, "host", text, NULL);
	if (cpuinfo_has("flags", " vmx") || cpuinfo_has("flags", " svm")) {
		say(doctor, GOOD, "cpu", cpuinfo_has("flags", " vmx") ? "VT-x" : "AMD-V", NULL);
	} else {
		say(doctor, WARN, "cpu",
		    "no VT-x and no AMD-V: guest kernels run slowly or not at all",
		    "enable virtualization in the firmware; in a VM, nested virtualization");
	}
}

static bool check_kvm(struct doctor *doctor, const struct kvm_report *report)
{
	char text[300];

	if (!report->opened) {
		say(doctor, BAD, "kvm", report->error.msg, report->error.hint);
		return false;
	}
	if (report->guest_instructions_per_second == 0) {
		say(doctor, BAD, "kvm", report->error.msg, "look into the kernel's log (dmesg)");
		return false;
	}
	(void)snprintf(text, sizeof(text), "/dev/kvm, a VM is created in %.2f ms",
		       (double)report->create_vm_ns / 1e6);
	say(doctor, GOOD, "kvm", text, NULL);
	(void)snprintf(text, sizeof(text), "%.1f million guest kernel instructions/s%s",
		       (double)report->guest_instructions_per_second / 1e6,
		       report->hardware
			       ? ""
			       : ": this KVM interprets guest kernels, stock ones do not boot");
	say(doctor, report->hardware ? GOOD : WARN, "speed", text,
	    "use a machine with VT-x or AMD-V, or scripts/quickstart, which emulates one");
	if (report->missing[0] != '\0') {
		say(doctor, WARN, "kvm extras", report->missing, "a newer host kernel or CPU");
	} else {
		say(doctor, GOOD, "kvm extras", "every optional capability is there", NULL);
	}
	return true;
}

static void check_tap(struct doctor *doctor)
{
	auto_close int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	char text[200];
	bool denied;

	if (fd >= 0) {
		say(doctor, GOOD, "tap", "/dev/net/tun can be opened", NULL);
		return;
	}
	denied = errno == EACCES || errno == EPERM;
	(void)snprintf(text, sizeof(text), "open /dev/net/tun: %s", strerror(errno));
	say(doctor, WARN, "tap", text,
	    denied ? "sudo chmod 0666 /dev/net/tun, which is the usual mode, or pass an open tap: "
		     "--net fd=N"
		   : "sudo modprobe tun; sudo ip tuntap add tap0 mode tap user $USER vnet_hdr");
}

static void check_io_uring(struct doctor *doctor)
{
	struct io_uring ring;
	int r = io_uring_queue_init(2, &ring, 0);

	if (r == 0) {
		io_uring_queue_exit(&ring);
		say(doctor, GOOD, "io_uring", "disks use it", NULL);
	} else {
		say(doctor, WARN, "io_uring",
		    "not available: disks use plain system calls, which is slower",
		    "sudo sysctl kernel.io_uring_disabled=0, or a kernel of version 5.10 or newer");
	}
}

static void check_memory(struct doctor *doctor)
{
	char text[200], pages[32], thp[128];

	read_line("/proc/sys/vm/nr_hugepages", pages, sizeof(pages));
	read_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled", thp, sizeof(thp));
	(void)snprintf(text, sizeof(text),
		       "%llu of 2 MiB reserved; transparent for shared memory: %s",
		       strtoull(pages, NULL, 10), thp[0] != '\0' ? thp : "unknown");
	say(doctor, GOOD, "huge pages", text, NULL);
}

static void check_sandbox(struct doctor *doctor)
{
	if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0) {
		say(doctor, GOOD, "sandbox", "system call filters can be loaded", NULL);
	} else {
		say(doctor, BAD, "sandbox", "this kernel has no system call filters",
		    "a kernel with CONFIG_SECCOMP_FILTER, or --sandbox off");
	}
}

static bool check_all(struct doctor *doctor, const struct kvm_report *report)
{
	bool usable;

	check_host(doctor);
	usable = check_kvm(doctor, report);
	check_tap(doctor);
	check_io_uring(doctor);
	check_memory(doctor);
	check_sandbox(doctor);
	return usable;
}

static int read_baseline(struct cpu_baseline *baseline, const char *path, struct error *e)
{
	auto_json json_t *json = NULL;
	auto_free struct cpu_template *template = NULL;
	int r = cpu_config_read_file(&json, &template, path, e);

	if (r == 0 && template->baseline_count == 0) {
		(void)error_set(e, ERROR_CONFIG, EINVAL, "'%.120s' is no CPU baseline", path);
		return error_hint(e, "vmm doctor --cpu-baseline makes one");
	}
	if (r == 0) {
		*baseline = template->baselines[0];
	}
	return r;
}

/* Of this host, or of the files, which are several hosts'. */
static int make_baseline(struct cpu_baseline *baseline, char **paths, int count, struct error *e)
{
	int r = count == 0 ? cpu_baseline_read_host(baseline, e)
			   : read_baseline(baseline, paths[0], e);

	for (int i = 1; r == 0 && i < count; i++) {
		struct cpu_baseline other;

		r = read_baseline(&other, paths[i], e);
		if (r == 0 && cpu_baseline_intersect(baseline, &other, e) < 0) {
			r = error_prefix(e, "'%.60s'", paths[i]);
		}
	}
	return r;
}

static int print_baseline(char **paths, int count)
{
	struct cpu_baseline baseline = { 0 };
	struct error e = { 0 };
	int r;

	json_prepare();
	r = make_baseline(&baseline, paths, count, &e);
	return r < 0 ? command_fail(&e)
		     : command_print_json(cpu_baseline_to_json(&baseline), false);
}

static int run(int argc, char **argv)
{
	struct doctor doctor = { 0 };
	struct kvm_report report;
	bool usable;
	int operands, code;

	operands = command_parse(&command_doctor, &doctor, &doctor.common.help, argc, argv, &code);
	if (operands < 0) {
		return code;
	}
	if (doctor.cpu_baseline) {
		return print_baseline(argv + 1, operands);
	}
	if (operands > 0) {
		return command_wrong_operands(&command_doctor, "too many", argv[1]);
	}
	kvm_probe(&report);
	if (doctor.probe) {
		(void)printf("%llu\n", (unsigned long long)report.guest_instructions_per_second);
		return report.guest_instructions_per_second > 0 ? EXIT_OK : EXIT_VMM_ERROR;
	}
	if (!doctor.common.json) {
		return check_all(&doctor, &report) ? EXIT_OK : EXIT_VMM_ERROR;
	}
	doctor.findings = json_array();
	usable = check_all(&doctor, &report);
	code = command_print_json(json_pack("{s:b, s:I, s:o}", "usable", usable,
					    "guest_instructions_per_second",
					    (json_int_t)report.guest_instructions_per_second,
					    "findings", doctor.findings),
				  true);
	return usable ? code : EXIT_VMM_ERROR;
}

const struct command command_doctor = {
	.name = "doctor",
	.operands = " [--cpu-baseline [FILE...]]",
	.help = "say what this machine can do, and how to mend what it cannot",
	.options = &table,
	.run = run,
	.description =
		"Looks at KVM, processor, memory, network and sandbox, and changes nothing. With "
		"--json: *usable*, *guest\\_instructions\\_per\\_second*, and *findings*, each "
		"with "
		"*subject*, *verdict* (ok, warning or failure), *text* and, where something can be "
		"done, *cure*.\n\n"
		"With *--cpu-baseline* it prints, as JSON, everything that a guest can see of this "
		"host's processor; "
		"with files of that kind, made on several hosts, what all of them have. A guest "
		"that "
		"is started with "
		"*vmm run --cpu FILE* sees just that, and can move between these hosts.",
	.exits = "125 no VM can run here",
};
