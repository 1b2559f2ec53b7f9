/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VM is made of, as plain data: no descriptors we opened, no run-time pointers. The command
 * line, a config file and the API all fill this struct; vm_config_validate() is pure and names the
 * place of what it refuses.
 */
#ifndef VMM_VM_CONFIG_H
#define VMM_VM_CONFIG_H

#include "vmm/block.h"
#include "vmm/error.h"
#include "vmm/guest_memory.h"
#include "vmm/netdev.h"
#include "vmm/rate_limit.h"
#include "vmm/sandbox.h"
#include "vmm/types.h"

/* Of each kind; PLATFORM_VIRTIO_MMIO_MAX bounds all together. */
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
	uint8_t mac[NETDEV_MAC_SIZE];
	bool has_mac; /* else made from the VM's name and the card's number; src/instance makes better ones */
	uint32_t mtu; /* told to the guest; 0: nothing is */
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

struct vm_machine_config {
	uint32_t vcpus;
	uint64_t memory_size; /* bytes */
	bool smt;	      /* two vCPUs are threads of one core; one vCPU is accepted with it */
	bool track_dirty_pages; /* for snapshots; no effect before there are any */
	int huge_pages;		/* enum vm_huge_pages */
	int memory_backing;	/* enum guest_memory_backing; huge_pages 2M means hugetlb */
	int cpu_template;	/* enum vm_cpu_template; a cpu_template of one's own comes first */
	int on_reboot;		/* enum vm_on_reboot */
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
struct cpu_template {
	uint32_t cpuid_count, msr_count, capability_count;
	struct capability_modifier capabilities[CPU_TEMPLATE_CAPABILITY_MAX];
	struct cpuid_modifier cpuid[CPU_TEMPLATE_CPUID_MAX];
	struct msr_modifier msrs[CPU_TEMPLATE_MSR_MAX];
};

/* Drives: struct block_config with block_options; nets, boot, machine: these. */
extern const struct option_table vm_net_options, vm_boot_options, vm_machine_options;

struct vm_config {
	const char *name;      /* NULL: "vm" */
	const char *vcpu_name; /* of vCPU threads, before the number; a constant; NULL: "vcpu" */
	struct vm_boot_config boot;
	struct vm_machine_config machine;
	const struct cpu_template *cpu_template; /* NULL: none; borrowed by vm_create() only */
	bool console;				 /* virtio console (hvc0) */
	bool entropy;
	struct rate_limit_config entropy_limiter;
	bool debug_exit;
	enum sandbox_mode sandbox;
	/* What lies beyond the counts is never read, so that room for many devices costs those
	 * nothing who have few. */
	uint32_t disk_count, net_count;
	struct block_config disks[VM_DISKS_MAX]; /* the root drive, if any, becomes vda */
	struct vm_net_config nets[VM_NETS_MAX];
};

/* No devices, everything else zero; the arrays are left alone. */
void vm_config_init(struct vm_config *config);

/* Each part alone, as a request is judged; `what` ("--memory", "/vcpu_count") is not needed: messages
 * name flag and key. */
int vm_boot_config_validate(const struct vm_boot_config *boot, struct error *e);
int vm_machine_config_validate(const struct vm_machine_config *machine, struct error *e);
int vm_net_config_validate(const struct vm_net_config *net, struct error *e);
int vm_name_validate(const char *name, struct error *e);
/* The id of a drive or card, as Firecracker's config files have them: any text. `what` begins the
 * message. */
int vm_id_validate(const char *id, const char *what, struct error *e);
/* All, and what they must not be to each other (two root drives, ids or MAC addresses twice, too many
 * devices). Pure. */
int vm_config_validate(const struct vm_config *config, struct error *e);

#endif
