/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VM is made of: the one configuration, as data. The command line, a config file, a
 * definition and the API all fill this struct, by the same option tables; vm_config_validate() is
 * pure, the only judge, and names the place of what it refuses.
 *
 * A configuration that is in use is never changed: a change is a copy (vm_config_copy()) that is
 * changed, validated as a whole, and then put in place of the one before, or thrown away.
 *
 * Strings are its own (vm_config_keep(), and what the functions below copy), or borrowed from what
 * outlives it, such as a command line; a copy owns all of its strings. Disks and cards are known by
 * id. Descriptors are numbers here: who opened them closes them.
 */
#ifndef VMM_VM_CONFIG_H
#define VMM_VM_CONFIG_H

#include "vmm/block.h"
#include "vmm/error.h"
#include "vmm/guest_memory.h"
#include "vmm/json.h"
#include "vmm/netdev.h"
#include "vmm/rate_limit.h"
#include "vmm/sandbox.h"
#include "vmm/types.h"

/* Of each kind; on virtio-mmio PLATFORM_VIRTIO_MMIO_MAX bounds all together. */
#define VM_DISKS_MAX   24
#define VM_NETS_MAX    24
#define VM_NAME_MAX    64
#define VM_INITRDS_MAX 4
#define VM_ID_MAX \
	1024 /* bytes of the id of a drive or card: more than a path of Firecracker's API has */

enum vm_on_reboot {
	VM_ON_REBOOT_AUTO = 0, /* as RESTART, unless the host of the VM has a reason to end it */
	VM_ON_REBOOT_RESTART,  /* the machine resets within this process */
	VM_ON_REBOOT_EXIT,
};

/* NONE: whichever of `tap` and `fd` is given. */
enum vm_net_kind { VM_NET_NONE = 0, VM_NET_TAP, VM_NET_FD };

/* A network card. JSON as in Firecracker's API; `id` is its name there. */
struct vm_net_config {
	const char *id;
	enum vm_net_kind kind;
	const char *tap; /* VM_NET_TAP: name of an interface, which is made if it is not there */
	/* VM_NET_FD: number of an open descriptor, ours from vm_create() on. VM_NET_TAP: attached to
	 * the interface, stays the caller's; none if it is 0 to 2 or negative. */
	int fd;
	/* Given; else made by who starts the VM, and not shown; all 0: made from the VM's name and the
	 * card's number. */
	uint8_t mac[NETDEV_MAC_SIZE];
	bool has_mac;	 /* given */
	uint32_t mtu;	 /* told to the guest; 0: nothing is */
	uint32_t queues; /* pairs of them; 0: one */
	struct rate_limit_config rx, tx;
	bool has_rx, has_tx;
};

/* What is booted. */
struct vm_boot_config {
	const char *kernel, *initrd; /* paths; initrd may be NULL */
	/* Loaded behind it, one behind the other; NULL: no more. */
	const char *more_initrds[VM_INITRDS_MAX - 1];
	/*
	 * The kernel's command line. At most one of:
	 *	cmdline		appended to the words made from the devices (console, root)
	 *	boot_args	in place of the console's words; root= is still added for a root drive
	 *			(Firecracker's rule)
	 *	cmdline_only	everything
	 */
	const char *cmdline, *boot_args, *cmdline_only;
};

/* AUTO: PCI, unless the kernel is told not to look for it ("pci=off"). */
enum vm_transport { VM_TRANSPORT_AUTO = 0, VM_TRANSPORT_PCI, VM_TRANSPORT_MMIO };

enum vm_huge_pages { VM_HUGE_PAGES_NONE = 0, VM_HUGE_PAGES_TRANSPARENT, VM_HUGE_PAGES_2M };

/* Firecracker's static templates: each is for some hosts only, which the start finds out. V1N1 is for
 * ARM, and known so that it can be refused by name. */
enum vm_cpu_template {
	VM_CPU_TEMPLATE_NONE = 0,
	VM_CPU_TEMPLATE_C3,
	VM_CPU_TEMPLATE_T2,
	VM_CPU_TEMPLATE_T2S,
	VM_CPU_TEMPLATE_T2CL,
	VM_CPU_TEMPLATE_T2A,
	VM_CPU_TEMPLATE_V1N1,
};

/* The most that the guest sees of its processor: a level of the x86-64 psABI. */
enum vm_cpu_level {
	VM_CPU_LEVEL_HOST = 0,
	VM_CPU_LEVEL_V2,
	VM_CPU_LEVEL_V3,
	VM_CPU_LEVEL_V4,
	VM_CPU_LEVELS,
};

struct vm_machine_config {
	uint32_t vcpus;
	uint64_t memory_size; /* bytes */
	bool smt;	      /* two vCPUs are threads of one core; one vCPU is accepted with it */
	bool track_dirty_pages; /* for diffs: which pages the guest writes is noted all the time */
	int huge_pages;		/* enum vm_huge_pages */
	int memory_backing;	/* enum guest_memory_backing; huge_pages 2M means hugetlb */
	int cpu_template;	/* enum vm_cpu_template; a cpu_template of one's own comes first */
	int cpu_level; /* enum vm_cpu_level; on top of a template, beside a baseline of one's own */
	int on_reboot; /* enum vm_on_reboot */
	int transport; /* of virtio devices: enum vm_transport */
};

/* A CPU template (PUT /cpu-config): what the guest sees of CPUID and starts with in MSRs, bit by
 * bit. Applied after vmm's own edits; made from JSON by src/instance. */
enum cpuid_register { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };
struct cpuid_modifier {
	uint32_t leaf, subleaf;
	uint32_t flags;	      /* as in struct kvm_cpuid_entry2; the host's stay */
	uint8_t reg;	      /* enum cpuid_register */
	uint32_t mask, value; /* bits of mask become those of value */
};
struct msr_modifier {
	uint32_t index;
	uint64_t mask, value;
};
/* KVM_CAP_...: one more that KVM must have, or one of ours that it need not have. The last word about
 * a number counts. */
struct capability_modifier {
	uint32_t number;
	bool removed;
};
#define CPU_TEMPLATE_CPUID_MAX	    256
#define CPU_TEMPLATE_MSR_MAX	    128
#define CPU_TEMPLATE_CAPABILITY_MAX 64
/* See vmm/cpu_baseline.h. */
#define CPU_BASELINE_PLACES 22
struct cpu_baseline {
	char name[16];			    /* of a level; "": one of a client's own */
	char vendor[13];		    /* "": any */
	uint32_t must[CPU_BASELINE_PLACES]; /* the host has it, and the guest sees it */
	uint32_t may[CPU_BASELINE_PLACES];  /* the guest sees it if the host has it */
	uint64_t arch_capabilities;	    /* of the MSR of that name */
};
struct cpu_template {
	uint32_t cpuid_count, msr_count, capability_count;
	uint32_t baseline_count; /* each of them hides what it has not */
	struct cpu_baseline baselines[2];
	struct capability_modifier capabilities[CPU_TEMPLATE_CAPABILITY_MAX];
	struct cpuid_modifier cpuid[CPU_TEMPLATE_CPUID_MAX];
	struct msr_modifier msrs[CPU_TEMPLATE_MSR_MAX];
};

struct serial_settings {
	const char *output_path; /* NULL: the console of the VM */
	struct token_bucket_config limiter;
	bool has_limiter;
};
struct entropy_settings {
	struct rate_limit_config limiter;
	bool has_limiter;
};
enum logger_level {
	LOGGER_ERROR,
	LOGGER_WARNING,
	LOGGER_INFO,
	LOGGER_DEBUG,
	LOGGER_TRACE,
	LOGGER_OFF
};
struct logger_settings {
	const char *path; /* file or FIFO, a file is made if it is not there; NULL: stays */
	int level;	  /* enum logger_level */
	bool show_level,
		show_origin; /* in a request of JSON that does not name them they stay, as do
					 path and module */
	const char *module;  /* only lines of this part, see log_set_style(); NULL: all */
};
struct metrics_settings {
	const char *path; /* one JSON object a line, each minute and on FlushMetrics */
	bool emit_id;
};

/* Of each part; disks: struct block_config with block_options. */
extern const struct option_table vm_net_options, vm_boot_options, vm_machine_options,
	serial_settings_options, entropy_settings_options, logger_settings_options,
	metrics_settings_options;

struct vm_config {
	struct vm_config_text *texts; /* strings that it owns */
	const char *name;	      /* NULL: "vm" */
	/* Of threads; constants. */
	const char *vcpu_name;	  /* before the number; NULL: "vcpu" */
	const char *machine_name; /* NULL: "machine" */
	/* Somebody is still at it: what is booted need not be named yet. */
	bool unfinished;
	struct vm_boot_config boot;
	struct vm_machine_config machine;
	struct cpu_template *cpu_template; /* NULL: none */
	json_t *cpu_config;		   /* what that was made from, for who asks; NULL: none */
	bool console;			   /* virtio console (hvc0) */
	bool entropy;
	struct entropy_settings entropy_settings;
	bool debug_exit;
	enum sandbox_mode sandbox;
	/* Of the process around the VM. */
	bool has_serial, has_logger, has_metrics;
	struct serial_settings serial;
	struct logger_settings logger;
	struct metrics_settings metrics;
	/* What lies beyond the counts is never read, so that room for many devices costs those
	 * nothing who have few. */
	uint32_t disk_count, net_count;
	struct block_config disks[VM_DISKS_MAX]; /* the root drive, if any, comes first: vda */
	struct vm_net_config nets[VM_NETS_MAX];
};

/* No devices, everything else zero; the arrays are left alone. */
void vm_config_init(struct vm_config *config);
/* `copy` need not be initialized; on failure (-ENOMEM) it is as vm_config_init() makes it. */
int vm_config_copy(struct vm_config *copy, const struct vm_config *config, struct error *e);
/* Accepts one that was initialized, or zeroed. */
void vm_config_finish(struct vm_config *config);
/* A copy of `text` that lives as long as the configuration; NULL with `e` if memory is short. */
char *vm_config_keep(struct vm_config *config, const char *text, struct error *e);
/* The same for all strings of a part. */
int vm_config_keep_all(struct vm_config *config, const struct option_table *table, void *part,
		       struct error *e);

/* By id; NULL: there is none. */
struct block_config *vm_config_find_disk(struct vm_config *config, const char *id);
struct vm_net_config *vm_config_find_net(struct vm_config *config, const char *id);
/*
 * Take the place of the one with that id, or come behind the others, a root drive first. add: always,
 * so that an id that is there already is refused by the validation. Without an id the first of
 * "drive0", "drive1", ... ("net0", ...) that is free is theirs. Strings are copied. What they return
 * is in the configuration; NULL with `e` if there is no room, or memory is short.
 */
struct block_config *vm_config_put_disk(struct vm_config *config, const struct block_config *disk,
					struct error *e);
struct block_config *vm_config_add_disk(struct vm_config *config, const struct block_config *disk,
					struct error *e);
struct vm_net_config *vm_config_put_net(struct vm_config *config, const struct vm_net_config *net,
					struct error *e);
struct vm_net_config *vm_config_add_net(struct vm_config *config, const struct vm_net_config *net,
					struct error *e);
/* False: there is none. The others keep their order. */
bool vm_config_remove_disk(struct vm_config *config, const char *id);
bool vm_config_remove_net(struct vm_config *config, const char *id);

/* Each part alone, as a request is judged; `what` ("--memory", "/vcpu_count") is not needed: messages
 * name flag and key. */
int vm_boot_config_validate(const struct vm_boot_config *boot, struct error *e);
int vm_machine_config_validate(const struct vm_machine_config *machine, struct error *e);
int vm_net_config_validate(const struct vm_net_config *net, struct error *e);
int vm_name_validate(const char *name, struct error *e);
/* The id of a drive or card, as Firecracker's config files have them: any text. `what` begins the
 * message. */
int vm_id_validate(const char *id, const char *what, struct error *e);
/* Whether virtio devices are on a PCI bus. Pure. */
bool vm_config_has_pci(const struct vm_config *config);
/* All, and what they must not be to each other (two root drives, ids, interfaces or MAC addresses
 * twice, too many devices). Pure. */
int vm_config_validate(const struct vm_config *config, struct error *e);
/* How many queues a disk has that does not say (`queues` 0): one for each vCPU up to four, whose messages
 * PCI brings to each; one by virtio-mmio. */
uint32_t vm_default_queues(const struct vm_config *config);

#endif
