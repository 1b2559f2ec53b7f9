/* SPDX-License-Identifier: Apache-2.0 */
/* Why /dev/kvm cannot be opened, and what mends it: what is looked at, and the sentence that is made
 * of it (kvm_cure.c). */
#ifndef VMM_SRC_VMM_KVM_CURE_H
#define VMM_SRC_VMM_KVM_CURE_H

#include <sys/types.h>

#include "vmm/types.h"

enum kvm_module {
	KVM_MODULE_NONE,   /* not loaded; or built in and without a processor for it */
	KVM_MODULE_LOADED, /* the kernel has KVM: /proc/misc lists it */
};

struct kvm_node {
	int open_error;		/* errno of the open */
	bool exists, character; /* the node; a character device */
	mode_t mode;
	uid_t owner;
	gid_t group;
	char group_name[32]; /* "" if the group has no name */
	bool acl;	     /* has an access control list besides its mode */
	unsigned int minor;  /* of kvm in /proc/misc */
	enum kvm_module module;
	const char *module_name; /* "kvm_intel", "kvm_amd", NULL: neither VT-x nor AMD-V */
	bool container;		 /* as far as it can be seen */
	/* Who we are. */
	uid_t uid;
	char user[40];	/* "" if it has no name */
	bool in_group;	/* this process is in the node's group */
	bool in_record; /* /etc/group has the user in it, since the last login */
};

/* Looks at this machine; changes nothing. */
void kvm_node_look(struct kvm_node *node, int open_error);
/* The cure, a line. Pure. */
void kvm_node_cure(const struct kvm_node *node, char *buf, size_t size);

#endif
