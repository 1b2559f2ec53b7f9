/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The option tables of a VM's configuration: what is booted, the machine, a network card, serial port,
 * entropy device, log, metrics file. Command lines, Firecracker's JSON and its OpenAPI schema are made from them. Tables know syntax;
 * vm_config.c knows what a machine can be, for all doors alike.
 *
 * Defaults are the same behind every door: 2 vCPUs and 512 MiB, transparent huge pages. Under the
 * name `firecracker` they are its own: 1 and 128, which few stock kernels start in, and none.
 */
#include "vmm/virtio_net.h"
#include "vmm/vm_config.h"

#define MORE_INITRDS(index, key)                                                \
	{                                                                       \
		.type = OPTION_STRING,                                          \
		.offset = offsetof(struct vm_boot_config, more_initrds[index]), \
		.more_of = "initrd", .file = true, .ours = true,                \
		.help = "one more, behind those before", .json = (key)          \
	}

static const struct option boot_options[] = {
	{ .name = "kernel",
	  .type = OPTION_STRING,
	  .offset = offsetof(struct vm_boot_config, kernel),
	  .argument = "FILE",
	  .file = true,
	  .help = "bzImage, vmlinux (also packed) or unified kernel image",
	  .json = "kernel_image_path",
	  .json_required = true },
	{ .name = "initrd",
	  .type = OPTION_STRING,
	  .offset = offsetof(struct vm_boot_config, initrd),
	  .argument = "FILE",
	  .file = true,
	  .help = "initial RAM disk; may be repeated: one behind the other",
	  .json = "initrd_path" },
	MORE_INITRDS(0, "initrd_path_2"),
	MORE_INITRDS(1, "initrd_path_3"),
	MORE_INITRDS(2, "initrd_path_4"),
	{ .name = "cmdline",
	  .verbatim = true,
	  .type = OPTION_STRING,
	  .offset = offsetof(struct vm_boot_config, cmdline),
	  .argument = "TEXT",
	  .help = "kernel command line, after the words made from the devices",
	  .ours = true,
	  .json = "cmdline" },
	{ .name = "cmdline-only",
	  .verbatim = true,
	  .type = OPTION_STRING,
	  .offset = offsetof(struct vm_boot_config, cmdline_only),
	  .argument = "TEXT",
	  .help = "kernel command line, whole",
	  .ours = true,
	  .json = "cmdline_only" },
	{ .verbatim = true,
	  .type = OPTION_STRING,
	  .offset = offsetof(struct vm_boot_config, boot_args),
	  .help = "kernel command line, whole but for the root= of a root drive",
	  .json = "boot_args" },
};
const struct option_table vm_boot_options = OPTION_TABLE("boot-source", boot_options);

static const struct option_value backings[] = {
	{ "auto", GUEST_MEMORY_AUTO },
	{ "memfd", GUEST_MEMORY_MEMFD },
	{ "anon", GUEST_MEMORY_ANON },
	{ "hugetlb", GUEST_MEMORY_HUGETLB },
	{ NULL, 0 },
};
static const struct option_value reboots[] = {
	{ "auto", VM_ON_REBOOT_AUTO },
	{ "restart", VM_ON_REBOOT_RESTART },
	{ "exit", VM_ON_REBOOT_EXIT },
	{ NULL, 0 },
};
static const struct option_value transports[] = {
	{ "auto", VM_TRANSPORT_AUTO },
	{ "pci", VM_TRANSPORT_PCI },
	{ "mmio", VM_TRANSPORT_MMIO },
	{ NULL, 0 },
};
static const struct option_value huge_pages[] = {
	{ "None", VM_HUGE_PAGES_NONE },
	{ "Transparent", VM_HUGE_PAGES_TRANSPARENT },
	{ "2M", VM_HUGE_PAGES_2M },
	{ NULL, 0 },
};
static const struct option_value cpu_templates[] = {
	{ "None", VM_CPU_TEMPLATE_NONE }, { "C3", VM_CPU_TEMPLATE_C3 },
	{ "T2", VM_CPU_TEMPLATE_T2 },	  { "T2S", VM_CPU_TEMPLATE_T2S },
	{ "T2CL", VM_CPU_TEMPLATE_T2CL }, { "T2A", VM_CPU_TEMPLATE_T2A },
	{ "V1N1", VM_CPU_TEMPLATE_V1N1 }, { NULL, 0 },
};

static const struct option_value cpu_levels[] = {
	{ "host", VM_CPU_LEVEL_HOST },
	{ "x86-64-v2", VM_CPU_LEVEL_V2 },
	{ "x86-64-v3", VM_CPU_LEVEL_V3 },
	{ "x86-64-v4", VM_CPU_LEVEL_V4 },
	{ NULL, 0 },
};

static const struct option machine_options[] = {
	{ .name = "cpus",
	  .letter = 'c',
	  .type = OPTION_U32,
	  .offset = offsetof(struct vm_machine_config, vcpus),
	  .argument = "N",
	  .fallback = "2",
	  .theirs = "1",
	  .help = "virtual CPUs",
	  .json = "vcpu_count",
	  .json_required = true },
	{ .name = "memory",
	  .letter = 'm',
	  .type = OPTION_SIZE,
	  .offset = offsetof(struct vm_machine_config, memory_size),
	  .argument = "SIZE",
	  .fallback = "512M",
	  .theirs = "128M",
	  .help = "guest memory",
	  .json = "mem_size_mib",
	  .json_unit = MIB(1),
	  .json_required = true },
	{ .type = OPTION_FLAG,
	  .offset = offsetof(struct vm_machine_config, smt),
	  .help = "two virtual CPUs are threads of one core",
	  .json = "smt" },
	{ .type = OPTION_ENUM,
	  .offset = offsetof(struct vm_machine_config, cpu_template),
	  .values = cpu_templates,
	  .fallback = "None",
	  .help = "the CPU of an EC2 instance type, on hosts that it is for; PUT /cpu-config "
		  "describes a CPU bit by bit",
	  .deprecated = true,
	  .zero = OPTION_ZERO_NOT_THEIRS,
	  .json = "cpu_template" },
	{ .type = OPTION_ENUM,
	  .offset = offsetof(struct vm_machine_config, cpu_level),
	  .values = cpu_levels,
	  .fallback = "host",
	  .help = "the most that the guest sees of its processor, for fleets of several kinds; "
		  "PUT /cpu-config takes one of your own, see vmm doctor --cpu-baseline",
	  .ours = true,
	  .zero = OPTION_ZERO_NOT_GIVEN,
	  .json = "cpu_baseline" },
	{ .name = "track-dirty-pages",
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct vm_machine_config, track_dirty_pages),
	  .help = "note which pages the guest writes, for incremental snapshots",
	  .json = "track_dirty_pages" },
	{ .type = OPTION_ENUM,
	  .offset = offsetof(struct vm_machine_config, huge_pages),
	  .values = huge_pages,
	  .fallback = "Transparent",
	  .theirs = "None",
	  .help = "page size of guest memory; 2M needs reserved huge pages",
	  .json = "huge_pages" },
	{ .name = "memory-backing",
	  .type = OPTION_ENUM,
	  .offset = offsetof(struct vm_machine_config, memory_backing),
	  .values = backings,
	  .argument = "auto|memfd|anon|hugetlb",
	  .fallback = "auto",
	  .help = "what guest memory is made of",
	  .ours = true,
	  .json = "memory_backing" },
	{ .name = "on-reboot",
	  .type = OPTION_ENUM,
	  .offset = offsetof(struct vm_machine_config, on_reboot),
	  .values = reboots,
	  .argument = "auto|restart|exit",
	  .fallback = "auto",
	  .help = "what a guest's reboot does; auto: restart, but not a kernel that panics again "
		  "and "
		  "again",
	  .ours = true,
	  .json = "on_reboot" },
	{ .name = "transport",
	  .type = OPTION_ENUM,
	  .offset = offsetof(struct vm_machine_config, transport),
	  .values = transports,
	  .argument = "auto|pci|mmio",
	  .fallback = "auto",
	  .theirs = "mmio",
	  .help = "how the guest finds disks, cards and console; auto: by PCI, unless the command "
		  "line says pci=off or pci=nomsi",
	  .ours = true,
	  .json = "transport" },
};
const struct option_table vm_machine_options = OPTION_TABLE("machine-config", machine_options);

static const struct option net_options[] = {
	{ .type = OPTION_STRING,
	  .offset = offsetof(struct vm_net_config, id),
	  .help = "name of the card in the API",
	  .json = "iface_id",
	  .json_required = true },
	{ .name = "tap",
	  .type = OPTION_STRING,
	  .offset = offsetof(struct vm_net_config, tap),
	  .argument = "NAME",
	  .help = "tap interface; one that is not there is made, if we may",
	  .json = "host_dev_name",
	  .json_required = true },
	{ .name = "fd",
	  .type = OPTION_FD,
	  .offset = offsetof(struct vm_net_config, fd),
	  .argument = "N",
	  .help = "open descriptor of a tap or a packet socket" },
	{ .name = "mac",
	  .type = OPTION_MAC,
	  .offset = offsetof(struct vm_net_config, mac),
	  .present = offsetof(struct vm_net_config, has_mac) + 1,
	  .argument = "MAC",
	  .help = "address of the card",
	  .json = "guest_mac" },
	{ .name = "mtu",
	  .type = OPTION_U32,
	  .offset = offsetof(struct vm_net_config, mtu),
	  .argument = "N",
	  .unit = "68 to 65535",
	  .help = "largest packet that the guest is told of; default: the interface's own",
	  .zero = OPTION_ZERO_NOT_GIVEN,
	  .json = "mtu" },
	{ .name = "queues",
	  .type = OPTION_U32,
	  .offset = offsetof(struct vm_net_config, queues),
	  .min = 1,
	  .max = VIRTIO_NET_PAIRS_MAX,
	  .argument = "N",
	  .unit = "1 to 8",
	  .help = "pairs of queues of the card, each with two threads of vmm; needs a tap made "
		  "with "
		  "multi_queue",
	  .ours = true,
	  .zero = OPTION_ZERO_NOT_GIVEN,
	  .json = "num_queue_pairs" },
	{ .type = OPTION_OBJECT,
	  .offset = offsetof(struct vm_net_config, rx),
	  .present = offsetof(struct vm_net_config, has_rx) + 1,
	  .object = &rate_limit_options,
	  .help = "limits bytes and frames per time towards the guest",
	  .json = "rx_rate_limiter" },
	{ .type = OPTION_OBJECT,
	  .offset = offsetof(struct vm_net_config, tx),
	  .present = offsetof(struct vm_net_config, has_tx) + 1,
	  .object = &rate_limit_options,
	  .help = "limits bytes and frames per time from the guest",
	  .json = "tx_rate_limiter" },
};
const struct option_table vm_net_options = OPTION_TABLE("net", net_options, .keys = true);

static const struct option serial_options[] = {
	{ .verbatim = true,
	  .type = OPTION_STRING,
	  .offset = offsetof(struct serial_settings, output_path),
	  .file = true,
	  .json = "serial_out_path",
	  .help = "file or FIFO that gets the serial port's output instead of the console" },
	{ .type = OPTION_OBJECT,
	  .object = &token_bucket_options,
	  .offset = offsetof(struct serial_settings, limiter),
	  .present = offsetof(struct serial_settings, has_limiter) + 1,
	  .json = "rate_limiter",
	  .help = "bytes of output; what is beyond is dropped" },
};
const struct option_table serial_settings_options = OPTION_TABLE("serial", serial_options);

static const struct option entropy_options[] = {
	{ .type = OPTION_OBJECT,
	  .object = &rate_limit_options,
	  .offset = offsetof(struct entropy_settings, limiter),
	  .present = offsetof(struct entropy_settings, has_limiter) + 1,
	  .json = "rate_limiter",
	  .help = "how fast the guest gets random numbers" },
};
const struct option_table entropy_settings_options = OPTION_TABLE("entropy", entropy_options);

/* The first spelling of each is the one that is shown. */
static const struct option_value logger_levels[] = {
	{ "Error", LOGGER_ERROR },  { "Warning", LOGGER_WARNING },
	{ "Info", LOGGER_INFO },    { "Debug", LOGGER_DEBUG },
	{ "Trace", LOGGER_TRACE },  { "Off", LOGGER_OFF },
	{ "Warn", LOGGER_WARNING }, { NULL, 0 },
};

static const struct option logger_options[] = {
	{ .name = "log-path",
	  .type = OPTION_STRING,
	  .offset = offsetof(struct logger_settings, path),
	  .argument = "FILE",
	  .file = true,
	  .json = "log_path",
	  .help = "file or FIFO for messages, in place of standard error" },
	{ .name = "level",
	  .type = OPTION_ENUM,
	  .offset = offsetof(struct logger_settings, level),
	  .values = logger_levels,
	  .any_case = true, /* of those that its clients use */
	  .argument = "LEVEL",
	  .fallback = "Info",
	  .json = "level",
	  .help = "which messages are written: Off, Error, Warning, Info, Debug or Trace" },
	{ .name = "show-level",
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct logger_settings, show_level),
	  .json = "show_level",
	  .help = "lines of a log file say their level; vmm's own always do" },
	{ .name = "show-log-origin",
	  .type = OPTION_FLAG,
	  .offset = offsetof(struct logger_settings, show_origin),
	  .json = "show_log_origin",
	  .help = "lines of a log file say which file and line they come from" },
	{ .name = "module",
	  .verbatim = true,
	  .type = OPTION_STRING,
	  .offset = offsetof(struct logger_settings, module),
	  .argument = "NAME",
	  .json = "module",
	  .help = "only lines of parts whose name begins so: vmm::virtio, "
		  "firecracker::api_server" },
};
const struct option_table logger_settings_options = OPTION_TABLE("logger", logger_options);

static const struct option metrics_options[] = {
	{ .name = "metrics-path",
	  .type = OPTION_STRING,
	  .offset = offsetof(struct metrics_settings, path),
	  .argument = "FILE",
	  .file = true,
	  .json = "metrics_path",
	  .json_required = true,
	  .help = "file or FIFO that gets a JSON object with all figures each minute" },
	{ .type = OPTION_FLAG,
	  .offset = offsetof(struct metrics_settings, emit_id),
	  .json = "emit_id",
	  .help = "begin each object with the id of the instance" },
};
const struct option_table metrics_settings_options =
	OPTION_TABLE("metrics", metrics_options, .open = true);
