# shellcheck shell=dash
# SPDX-License-Identifier: Apache-2.0
#
# Start of every test script that runs in a guest (as /run-command/start, or /run/run-command/start on a root disk).

directory=${0%/*}
export HOME=/ PATH=/bin TERM=dumb directory

# Ends vmm with a status of the guest's choice; needs --debug-exit.
debug_exit() {
	"$directory/debug-exit" "$1"
}

# The disk with tools (fio, iperf3, ...) as a root of its own, on the device given.
mount_tools() {
	mkdir -p /tools
	mount -t ext4 -o ro "$1" /tools
	for place in dev proc sys; do
		mount --bind /$place /tools/$place
	done
	mount -t tmpfs tmp /tools/tmp
}
