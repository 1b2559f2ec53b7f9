// SPDX-License-Identifier: Apache-2.0
/*
 * What users of QEMU, docker, libvirt and Firecracker type first, and what it is here. These are
 * explanations, never actions: a word that destroys something elsewhere is answered with what there
 * is and what that would remove, and nothing is done.
 *
 * Tables alone; any thread.
 */
#include "elsewhere.h"

#include <string.h>

static const struct option_foreign commands[] = {
	/* docker, podman */
	{ "exec", "there is no agent in the guest: vmm console NAME types to it" },
	{ "attach connect ssh", "here it is vmm console NAME; Ctrl-] d leaves it" },
	{ "boot launch up", "here it is vmm run --kernel FILE, with -d in the background" },
	{ "ls list", "here it is vmm ps; -a shows also those that have ended" },
	{ "images pull build",
	  "there are no images: vmm run takes a kernel file and disks, vmm run --help" },
	{ "top", "here it is vmm stats" },
	{ "info show status describe dumpxml",
	  "here it is vmm inspect NAME; vmm doctor says what the machine can do" },
	{ "suspend", "here it is vmm pause NAME; vmm resume NAME goes on" },
	{ "unpause", "here it is vmm resume NAME" },
	{ "restart reboot",
	  "vmm stop NAME powers it off in order, vmm start NAME starts it again" },
	{ "poweroff shutdown down", "the power button is vmm stop NAME" },
	{ "delete remove undefine prune destroy",
	  "nothing was done: vmm stop ends a VM, vmm rm removes what an ended one has left" },
	{ "terminate", "nothing was done: vmm stop NAME ends a VM" },
	{ "define", "here it is vmm create --name NAME --kernel FILE" },
	{ "autostart", "systemctl enable vmm-start@NAME starts it with the host" },
	{ "rename edit update set",
	  "what a VM is made of is said when it is created: vmm create --help" },
	{ "cp port network", "the host has no way into the guest but its console and its network "
			     "card: vmm run --net tap=NAME" },
	{ "save commit checkpoint dump", "here it is vmm snapshot create NAME DIR" },
	{ "load", "here it is vmm restore DIR" },
	{ "incoming", "here it is vmm receive ADDRESS" },
	{ "managedsave hibernate", "here it is vmm park NAME; vmm unpark NAME goes on" },
	{ "log", "here it is vmm logs NAME" },
	{ "tail", "here it is vmm logs -f NAME" },
	{ "monitor qmp", "here it is vmm api NAME METHOD PATH, and vmm events -f NAME" },
	{ "-v -V", "here it is vmm version" },
	{ "daemon", "there is no daemon; vmm serve waits for one VM's configuration" },
	{ NULL, NULL },
};

const struct option_foreign elsewhere_run_flags[] = {
	/* QEMU; some begin with a letter that is a flag here. */
	{ "-hda -hdb -sda -drive -blockdev --drive --block --rwdisk --rootfs --root-drive --volume "
	  "-v",
	  "here it is --disk FILE, once for each disk; ',ro' behind it is read-only" },
	{ "-cdrom", "here it is --disk FILE,ro; the guest sees a disk" },
	{ "-fda", "there are no floppy disks: --disk FILE" },
	{ "-smp --smp --vcpus --vcpu --vcpu-count --ncpus", "here it is -c N (--cpus)" },
	{ "--mem --ram --mem-size-mib", "here it is -m SIZE (--memory), such as -m 512M" },
	{ "-append --append --params --boot-args --kernel-opts --args",
	  "here it is --cmdline TEXT, or --cmdline-only TEXT for the whole line" },
	{ "--initramfs", "here it is --initrd FILE" },
	{ "-netdev -nic -net --network --nic --tap --tap-device",
	  "here it is --net tap=NAME[,mac=MAC]" },
	{ "--publish -p", "the guest has an address of its own: --net tap=NAME" },
	{ "-nographic -curses -display -vga -vnc -it -t --tty --interactive",
	  "not needed: there is no screen, the console is on standard input and output" },
	{ "-serial -chardev --serial", "not needed: the serial port is on standard input and "
				       "output; --console hvc is the other console" },
	{ "-enable-kvm -accel -machine -M -cpu --accel --enable-kvm",
	  "not needed: there is KVM, one machine, and the host's processor" },
	{ "-monitor -qmp",
	  "not needed: every VM has an API; vmm api NAME METHOD PATH, vmm inspect NAME" },
	{ "--api-socket", "here it is --api-sock PATH" },
	{ "-daemonize --daemonize --background", "here it is -d (--detach)" },
	{ "-no-reboot --no-reboot", "here it is --on-reboot exit" },
	{ "-snapshot --snapshot -loadvm --from-snapshot",
	  "here it is vmm restore DIR, of what vmm snapshot create has written; --disk FILE,ro "
	  "leaves the file as it is" },
	{ "-bios -pflash --firmware -boot",
	  "there is no firmware: --kernel FILE, and --initrd FILE" },
	{ "-device --device -usb",
	  "devices are --disk and --net; console and entropy are always there" },
	{ "-object -mem-path", "here it is --memory-backing memfd|hugetlb" },
	{ "-pidfile", "vmm ps --json has the process of each VM" },
	{ "-gdb -S", "there is no debugger's port; vmm pause NAME stops the clock" },
	{ "-uuid --id --hostname", "here it is -n NAME (--name)" },
	{ "-sandbox --seccomp --seccomp-level --no-seccomp --privileged",
	  "here it is --sandbox on|log|off" },
	{ "-nodefaults -no-user-config -nodefconfig",
	  "not needed: there is nothing that was not asked for" },
	{ "--rm", "not needed: without --name and --detach nothing stays" },
	{ "--restart", "a service manager's work: the template vmm@.service" },
	{ "--env -e", "words for the guest stand on its command line: --cmdline TEXT" },
	{ "--config -f", "here it is --config-file FILE" },
	{ "--metadata --vsock --vsock-device",
	  "this version has neither vsock nor a metadata service" },
	{ "--version", "here it is vmm version" },
	{ "-V", "here it is vmm version" },
	{ NULL, NULL },
};

const struct option_foreign elsewhere_restore_flags[] = {
	{ "--kernel --initrd --cmdline --memory --mem -m --cpus -c --vcpus --on-reboot "
	  "--debug-exit "
	  "--config-file",
	  "the machine is the one that was saved; vmm snapshot inspect DIR shows it" },
	{ "--resume", "not needed: it goes on unless --paused is given" },
	{ "--snapshot --snapshot-path --source-url --from",
	  "the snapshot is the operand: vmm restore DIR" },
	{ "--tap --network", "here it is --net ID=tap:NAME" },
	{ "--drive", "here it is --disk ID=PATH" },
	{ "--with-disks --copy-disks", "here it is --disks-to FOLDER" },
	{ "--memory-restore-mode --prefault --mem-backend",
	  "here it is --memory-mode map|verify|read|lazy" },
	{ "--api-socket", "here it is --api-sock PATH" },
	{ "--background", "here it is -d (--detach)" },
	{ NULL, NULL },
};

const struct option_foreign elsewhere_serve_flags[] = {
	{ "--kernel --initrd --disk --net --memory --mem -m --cpus --vcpus -c --cmdline",
	  "the VM is described by requests (PUT /boot-source) or by --config-file; vmm run has "
	  "flags" },
	{ "--api-socket", "here it is --api-sock PATH" },
	{ "-d --detach",
	  "a server stays in the foreground; vmm run -d has a VM in the background" },
	{ "--config", "here it is --config-file FILE" },
	{ NULL, NULL },
};

const struct option_foreign elsewhere_logs_flags[] = {
	{ "--tail --lines", "here it is -n N" },
	{ "--since --timestamps -t", "the guest's words have no times here; vmm events NAME has" },
	{ NULL, NULL },
};

const struct option_foreign elsewhere_end_flags[] = {
	{ "--time", "here it is --timeout TIME, such as -t 10s" },
	{ "-s --signal",
	  "a VM takes no signals: vmm stop powers it off, vmm kill ends its process" },
	{ "-v --volumes", "disks are never removed" },
	{ NULL, NULL },
};

const char *elsewhere_command(const char *name)
{
	return options_foreign(commands, name, strlen(name));
}
