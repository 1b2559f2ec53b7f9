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
#include "vmm/sandbox.h"
#include "vmm/types.h"

#define VM_DISKS_MAX 8
#define VM_NETS_MAX  4
#define VM_NAME_MAX  64

enum vm_on_reboot {
	VM_ON_REBOOT_RESTART = 0, /* the machine resets within this process */
	VM_ON_REBOOT_EXIT,
};

enum vm_net_kind { VM_NET_NONE = 0, VM_NET_TAP, VM_NET_FD };

struct vm_net_config {
	enum vm_net_kind kind;
	const char *tap; /* VM_NET_TAP: name of an existing interface */
	int fd;		 /* VM_NET_FD: number of an open descriptor, ours from vm_create() on */
	uint8_t mac[NETDEV_MAC_SIZE];
	bool has_mac; /* else made from the VM's name and the card's number */
};

struct vm_config {
	const char *name;	     /* NULL: "vm" */
	const char *kernel, *initrd; /* paths; initrd may be NULL */
	const char *cmdline;	     /* appended; may be NULL */
	const char *cmdline_only;    /* replaces; may be NULL */
	uint64_t memory_size;	     /* bytes */
	enum guest_memory_backing memory_backing;
	uint32_t vcpus;
	uint32_t disk_count, net_count;
	struct block_config disks[VM_DISKS_MAX];
	struct vm_net_config nets[VM_NETS_MAX];
	bool console; /* virtio console (hvc0) */
	bool entropy;
	bool debug_exit;
	enum vm_on_reboot on_reboot;
	enum sandbox_mode sandbox;
};

int vm_config_validate(const struct vm_config *config, struct error *e);

#endif
