// SPDX-License-Identifier: Apache-2.0
/*
 * What has to be done so that /dev/kvm can be opened here, by this user: it depends on whether the
 * device, the module and the processor's feature are there, on the device's owner, mode and access
 * control list, and on whether the user is in its group by now. Looked at only after open(2) has
 * failed.
 *
 * /etc/group and /etc/passwd are read as text: the C library's way loads modules of the name service,
 * which a program that is linked statically should not. Their lines are bounded, and nothing in them
 * is believed but names.
 *
 * Main thread.
 */
#include "kvm_cure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define KVM_DEVICE "/dev/kvm"
#define LINE_BYTES 8192

/* Calls visit() with each line of a file, until it says true. */
static bool find_line(const char *path, bool (*visit)(struct kvm_node *node, char *line),
		      struct kvm_node *node)
{
	FILE *file = fopen(path, "re");
	char line[LINE_BYTES];
	bool found = false;

	while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		found = visit(node, line);
	}
	if (file != NULL) {
		(void)fclose(file);
	}
	return found;
}

/* "232 kvm" in /proc/misc */
static bool visit_misc(struct kvm_node *node, char *line)
{
	char *end;
	unsigned long minor_number = strtoul(line, &end, 10);

	if (strcmp(end, " kvm") != 0) {
		return false;
	}
	node->minor = (unsigned int)minor_number;
	node->module = KVM_MODULE_LOADED;
	return true;
}

static bool visit_cpuinfo(struct kvm_node *node, char *line)
{
	if (strncmp(line, "flags", strlen("flags")) != 0) {
		return false;
	}
	if (strstr(line, " vmx") != NULL) {
		node->module_name = "kvm_intel";
	} else if (strstr(line, " svm") != NULL) {
		node->module_name = "kvm_amd";
	}
	return true;
}

/* "name:x:1000:..." with our number */
static bool visit_passwd(struct kvm_node *node, char *line)
{
	char *rest = line, *end;
	const char *name = strsep(&rest, ":");
	const char *number;
	unsigned long uid;

	(void)strsep(&rest, ":");
	number = strsep(&rest, ":");
	if (number == NULL) {
		return false;
	}
	uid = strtoul(number, &end, 10);
	if (*number == '\0' || *end != '\0' || uid != node->uid) {
		return false;
	}
	(void)snprintf(node->user, sizeof(node->user), "%.39s", name);
	return true;
}

/* "kvm:x:104:alice,bob" with the device's number */
static bool visit_group(struct kvm_node *node, char *line)
{
	char *rest = line, *end;
	const char *name = strsep(&rest, ":");
	const char *number, *member;
	unsigned long gid;

	(void)strsep(&rest, ":");
	number = strsep(&rest, ":");
	if (number == NULL) {
		return false;
	}
	gid = strtoul(number, &end, 10);
	if (*number == '\0' || *end != '\0' || gid != node->group) {
		return false;
	}
	(void)snprintf(node->group_name, sizeof(node->group_name), "%.31s", name);
	while ((member = strsep(&rest, ",")) != NULL) {
		node->in_record |= node->user[0] != '\0' && strcmp(member, node->user) == 0;
	}
	return true;
}

static bool in_group(gid_t group)
{
	gid_t groups[256];
	int count = getgroups(ARRAY_SIZE(groups), groups);

	if (getegid() == group) {
		return true;
	}
	for (int i = 0; i < count; i++) {
		if (groups[i] == group) {
			return true;
		}
	}
	return false;
}

void kvm_node_look(struct kvm_node *node, int open_error)
{
	struct stat st;

	*node = (struct kvm_node){ .open_error = open_error, .uid = geteuid(), .minor = 232 };
	(void)find_line("/proc/misc", visit_misc, node);
	(void)find_line("/proc/cpuinfo", visit_cpuinfo, node);
	node->container = access("/run/.containerenv", F_OK) == 0 ||
			  access("/.dockerenv", F_OK) == 0 ||
			  access("/run/systemd/container", F_OK) == 0;
	if (stat(KVM_DEVICE, &st) < 0) {
		return;
	}
	node->exists = true;
	node->character = S_ISCHR(st.st_mode);
	node->mode = st.st_mode & 07777;
	node->owner = st.st_uid;
	node->group = st.st_gid;
	node->acl = getxattr(KVM_DEVICE, "system.posix_acl_access", NULL, 0) > 0;
	node->in_group = in_group(st.st_gid);
	(void)find_line("/etc/passwd", visit_passwd, node);
	(void)find_line("/etc/group", visit_group, node);
}

static void cure_missing(const struct kvm_node *node, char *buf, size_t size)
{
	if (node->module == KVM_MODULE_LOADED && node->container) {
		(void)snprintf(buf, size,
			       "the host has KVM, this container was not given it: start it with "
			       "--device " KVM_DEVICE);
	} else if (node->module == KVM_MODULE_LOADED) {
		(void)snprintf(buf, size,
			       "the kernel has KVM, only the device is missing: sudo mknod -m "
			       "660 " KVM_DEVICE " c 10 %u",
			       node->minor);
	} else if (node->module_name != NULL && !node->container) {
		(void)snprintf(buf, size,
			       "the module is not loaded: sudo modprobe %s (if that fails, the "
			       "firmware has virtualization turned off)",
			       node->module_name);
	} else if (node->module_name != NULL) {
		(void)snprintf(buf, size,
			       "on the host: sudo modprobe %s; and start this container with "
			       "--device " KVM_DEVICE,
			       node->module_name);
	} else {
		(void)snprintf(buf, size,
			       "enable VT-x or AMD-V in the firmware; in a VM, enable nested "
			       "virtualization on its host; or scripts/quickstart, which emulates "
			       "a machine");
	}
}

/* What the mode gives us, if no list says otherwise. */
static bool mode_permits(const struct kvm_node *node)
{
	unsigned int bits = node->mode;

	if (node->uid == node->owner) {
		bits >>= 6;
	} else if (node->in_group) {
		bits >>= 3;
	}
	return (bits & 6) == 6;
}

static void cure_permission(const struct kvm_node *node, char *buf, size_t size)
{
	const char *user = node->user[0] != '\0' ? node->user : "$USER";
	bool group_may = (node->mode & 0060) == 0060 && node->group != 0;

	if (node->uid == 0 || (mode_permits(node) && !node->acl)) {
		(void)snprintf(buf, size,
			       "its mode permits it, something else does not: for a container "
			       "--device " KVM_DEVICE ", for a service DeviceAllow=" KVM_DEVICE
			       " rw");
	} else if (group_may && node->in_record && !node->in_group) {
		(void)snprintf(buf, size,
			       "'%s' is in group %s since the last login: log in again, or newgrp "
			       "%s",
			       user, node->group_name, node->group_name);
	} else if (group_may && !node->in_group && node->group_name[0] != '\0') {
		(void)snprintf(buf, size, "sudo usermod -aG %s %s, then log in again",
			       node->group_name, user);
	} else if (group_may && !node->in_group) {
		(void)snprintf(buf, size,
			       "it belongs to group %u, which has no name here: sudo setfacl -m "
			       "u:%s:rw " KVM_DEVICE,
			       (unsigned int)node->group, user);
	} else if (node->acl) {
		(void)snprintf(buf, size,
			       "its access control list leaves '%s' out: sudo setfacl -m "
			       "u:%s:rw " KVM_DEVICE,
			       user, user);
	} else {
		/* root:root, as without udev's rule. */
		(void)snprintf(buf, size,
			       "its mode is %04o: sudo chgrp kvm " KVM_DEVICE
			       " && sudo chmod 660 " KVM_DEVICE
			       " && sudo usermod -aG kvm %s, then log in again",
			       (unsigned int)node->mode, user);
	}
}

void kvm_node_cure(const struct kvm_node *node, char *buf, size_t size)
{
	buf[0] = '\0';
	if (node->exists && !node->character) {
		(void)snprintf(buf, size,
			       KVM_DEVICE " is no device: sudo rm " KVM_DEVICE
					  ", then sudo mknod -m 660 " KVM_DEVICE " c 10 %u",
			       node->minor);
		return;
	}
	switch (node->open_error) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		cure_missing(node, buf, size);
		break;
	case EACCES:
	case EPERM:
		cure_permission(node, buf, size);
		break;
	case EBUSY:
		(void)snprintf(buf, size,
			       "another hypervisor (VirtualBox, VMware) has the processor: end its "
			       "machines");
		break;
	default:
		break;
	}
}
