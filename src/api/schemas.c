/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Schemas of answers, and of the CPU template. What src/instance answers is compared with these by
 * tests/unit/test_api.c. Constant data.
 */
#include "schemas.h"

#define SCHEMA(name_, fields_, help_, ...)                             \
	{                                                              \
		.name = (name_), .help = (help_), .fields = (fields_), \
		.count = ARRAY_SIZE(fields_), __VA_ARGS__              \
	}

static const struct schema_field error_fields[] = {
	{ "fault_message", "string", "what, with the object's name: why" },
	{ "code", "error-code", "a name for it that never changes" },
	{ "hint?", "string", "what can be done about it" },
	{ "error?", "string", "the text again, where the request was no proper HTTP" },
};

static const struct schema_field instance_fields[] = {
	{ "id", "string", "name of the VM" },
	{ "state", "Not started|Running|Paused", NULL },
	{ "vmm_version", "string", NULL },
	{ "firecracker_version", "string", "release of Firecracker whose API this is" },
	{ "app_name", "string", NULL },
};

static const struct schema_field version_fields[] = {
	{ "firecracker_version", "string", "release of Firecracker whose API this is" },
	{ "vmm_version", "string", NULL },
};

static const struct schema_field exits_fields[] = {
	{ "io", "integer", "for ports" },
	{ "mmio", "integer", "for devices in memory" },
	{ "other", "integer", NULL },
};

static const struct schema_field vcpu_fields[] = {
	{ "index", "integer", NULL },
	{ "cpu_time_us", "integer", "processor time of its thread in microseconds" },
	{ "exits", "VcpuExits", "how often it left the guest" },
};

static const struct schema_field memory_fields[] = {
	{ "size_bytes", "integer", "of the guest" },
	{ "resident_bytes", "integer", "of the process, with what the guest has touched" },
};

static const struct schema_field disk_traffic_fields[] = {
	{ "read_bytes", "integer", "by the guest, of all disks" },
	{ "written_bytes", "integer", NULL },
};

static const struct schema_field net_traffic_fields[] = {
	{ "received_bytes", "integer", "by the guest, of all network cards" },
	{ "sent_bytes", "integer", NULL },
};

static const struct schema_field failure_fields[] = {
	{ "code", "error-code", NULL },
	{ "message", "string", NULL },
	{ "hint?", "string", "the cure" },
};

static const struct schema_field end_fields[] = {
	{ "reason",
	  "power-off|reboot|panic|triple-fault|debug-exit|stopped|error|boot-loop|moved|none",
	  NULL },
	{ "code?", "integer", "what the guest wrote to the debug exit" },
	{ "error?", "Failure", NULL },
};

static const struct schema_field vm_fields[] = {
	{ "id", "string", "name of the VM" },
	{ "state", "not-started|starting|running|pausing|paused|resuming|resetting|stopping|ended",
	  NULL },
	{ "uptime_ms", "integer", "since it first ran" },
	{ "pid", "integer", "the process" },
	{ "vcpu_count", "integer", NULL },
	{ "vcpus", "Vcpu[]", "none before the start" },
	{ "memory", "VmMemory", NULL },
	{ "disk", "VmDiskTraffic", NULL },
	{ "net", "VmNetTraffic", NULL },
	{ "resets", "integer", "of the machine" },
	{ "job", "Job?", "the one that runs" },
	{ "ended", "VmEnd?", "how it ended" },
	{ "kernel_cmdline?", "string", "the guest's, whole; once it was started" },
};

static const struct schema_field config_fields[] = {
	{ "boot-source", "BootSource?", NULL },
	{ "machine-config", "MachineConfig", NULL },
	{ "cpu-config", "CpuConfig?", NULL },
	{ "drives", "Drive[]", NULL },
	{ "network-interfaces", "NetworkInterface[]", NULL },
	{ "serial", "Serial?", NULL },
	{ "entropy", "Entropy?", NULL },
	{ "logger", "Logger?", NULL },
	{ "metrics", "Metrics?", NULL },
};

static const struct schema_field job_fields[] = {
	{ "id", "integer", "from 1" },
	{ "kind", "string", "what it does" },
	{ "state", "running|done|failed|cancelled", NULL },
	{ "phase", "string", "what it is at" },
	{ "bytes_done", "integer", NULL },
	{ "bytes_total", "integer", "0: not known" },
	{ "bytes_per_second", "integer", NULL },
	{ "seconds_left?", "integer", "an estimate" },
	{ "elapsed_ms", "integer", NULL },
	{ "error?", "Failure", "why it failed" },
};

static const struct schema_field migration_fields[] = {
	{ "state", "string", "none, or that of its side: source-copying, destination-in-doubt" },
	{ "role?", "source|destination", NULL },
	{ "under_way?", "boolean", "not over" },
	{ "address?", "string", "where it goes to or comes from" },
	{ "epoch?", "integer", "number of the attempt" },
	{ "passes?", "integer", "over memory" },
	{ "sent_bytes?", "integer", "of pages, or received" },
	{ "left_bytes?", "integer", "after the last pass" },
	{ "bytes_per_second?", "integer", "in it" },
	{ "dirty_bytes_per_second?", "integer", "that the guest has written meanwhile" },
	{ "throttle_percent?", "integer", "of their time that processors are kept from running" },
	{ "throttle_most_percent?", "integer", "the same, at its worst" },
	{ "expected_downtime_us?", "integer", "if it stood still now" },
	{ "downtime_us?", "MigrationDowntime", "how long it has, in parts" },
	{ "memory?", "comes|lost|waits",
	  "of a VM that has moved before all of its memory had: it comes; what it comes over is "
	  "lost, "
	  "and the VM stands still; and a client has to resume it" },
	{ "decide?", "string", "what has to be decided" },
	{ "word?", "string", "for the other side" },
	{ "error?", "Failure", "why it is over" },
};

static const struct schema_field downtime_fields[] = {
	{ "pause", "integer", "until all processors and devices were at rest" },
	{ "save", "integer", "state, and finding the last pages" },
	{ "pages", "integer", "sending both" },
	{ "prepare", "integer", "the other side loads" },
	{ "commit", "integer", "locks of disks, and its first instruction" },
};

static const struct schema_field event_fields[] = {
	{ "seq", "integer", "from 1, without gaps" },
	{ "time", "string", "UTC, to the millisecond" },
	{ "event", "string", "what happened; further keys belong to the event" },
};

/* Strings of Firecracker's custom CPU templates. */
static const struct schema_field register_fields[] = {
	{ "register", "eax|ebx|ecx|edx", NULL },
	{ "bitmap", "string", "0b and bits, the highest first: 0, 1, or x for unchanged" },
};

static const struct schema_field cpuid_fields[] = {
	{ "leaf", "string", "0x and hexadecimal digits, or 0b and bits" },
	{ "subleaf", "string", "as the leaf" },
	{ "flags", "integer", "of KVM's CPUID entry" },
	{ "modifiers", "CpuidRegister[]", NULL },
};

static const struct schema_field msr_fields[] = {
	{ "addr", "string", "0x and hexadecimal digits, or 0b and bits" },
	{ "bitmap", "string", "0b and bits, the highest first: 0, 1, or x for unchanged" },
};

static const struct schema_field bits_fields[] = {
	{ "leaf", "string", "0x and hexadecimal digits, or 0b and bits" },
	{ "subleaf", "string", "as the leaf" },
	{ "register", "eax|ebx|ecx|edx", NULL },
	{ "bits", "string", "that the host must have, and the guest sees" },
};

static const struct schema_field baseline_fields[] = {
	{ "version", "integer", "1" },
	{ "vendor", "string", "of the processor, as in its CPUID" },
	{ "cpuid", "CpuBaselineBits[]", "what is not here is hidden" },
	{ "arch_capabilities", "string", "of that MSR" },
};

static const struct schema_field cpu_fields[] = {
	{ "baseline?", "CpuBaseline?", "the most that the guest may see; ours" },
	{ "kvm_capabilities?", "string[]?", NULL },
	{ "cpuid_modifiers?", "CpuidLeaf[]?", NULL },
	{ "msr_modifiers?", "Msr[]?", NULL },
};

const struct schema schemas[] = {
	SCHEMA("Error", error_fields, "Why a request was refused"),
	SCHEMA("Instance", instance_fields, "The instance"),
	SCHEMA("Version", version_fields, "Versions"),
	SCHEMA("Vm", vm_fields, "The VM at this moment"),
	SCHEMA("Vcpu", vcpu_fields, "A virtual CPU"),
	SCHEMA("VcpuExits", exits_fields, "Exits of a virtual CPU"),
	SCHEMA("VmMemory", memory_fields, "Memory"),
	SCHEMA("VmDiskTraffic", disk_traffic_fields, "What all disks have transferred"),
	SCHEMA("VmNetTraffic", net_traffic_fields, "What all network cards have transferred"),
	SCHEMA("VmEnd", end_fields, "How a VM ended"),
	SCHEMA("VmConfig", config_fields, "What is configured"),
	SCHEMA("Job", job_fields, "Work on a VM that takes long"),
	SCHEMA("Migration", migration_fields, "A migration, seen from this side"),
	SCHEMA("MigrationDowntime", downtime_fields,
	       "Microseconds that the guest stood still, as the source sees it"),
	SCHEMA("Failure", failure_fields, "Why something ended badly"),
	SCHEMA("Event", event_fields, "Something that happened"),
	SCHEMA("CpuidRegister", register_fields, "Bits of a CPUID register", .closed = true),
	SCHEMA("CpuidLeaf", cpuid_fields, "Changes of a CPUID leaf", .closed = true),
	SCHEMA("Msr", msr_fields, "Bits of a model-specific register", .closed = true),
	SCHEMA("CpuBaselineBits", bits_fields, "Bits of a CPUID register", .closed = true),
	SCHEMA("CpuBaseline", baseline_fields, "A CPU baseline", .closed = true),
	SCHEMA("CpuConfig", cpu_fields, "A CPU template", .closed = true),
};
const size_t schema_count = ARRAY_SIZE(schemas);
