# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# The pieces of which initial RAM disks are made: modules with what they depend on, and the archive.
# Sourced after common.sh. Needs kmod, cpio, and xz or zstd for kernels with packed modules.

# The loading order of modules: $1 = kernel directory, then names. One file a line, none twice, none built in.
# A name that this kernel does not have is left out: kernels differ in what is a module and what exists at all.
module_files() {
	local kernel=$1 name
	shift
	for name in "$@"; do
		"$(find_program modprobe)" -d "$kernel/modules" -S "$(cat "$kernel/version")" --show-depends "$name" \
			2>/dev/null || true
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'
}

# Copies modules, unpacked, into $1/modules with the loading order in $1/modules/order: $1 = root, $2 = kernel
# directory, then names.
copy_modules() {
	local root=$1 kernel=$2 file base
	shift 2
	mkdir -p "$root/modules"
	: >"$root/modules/order"
	while read -r file; do
		base=${file##*/}
		base=${base%.ko*}.ko
		case $file in
		*.xz) xz -dc "$file" ;;
		*.zst) zstd -q -dc "$file" ;;
		*.gz) gzip -dc "$file" ;;
		*) cat "$file" ;;
		esac >"$root/modules/$base"
		echo "$base" >>"$root/modules/order"
	done < <(module_files "$kernel" "$@")
}

# A root with busybox under all its names that an early user space needs: $1 = root.
copy_busybox() {
	local root=$1 name
	mkdir -p "$root"/{bin,dev,proc,sys,run,tmp,etc,root,mnt}
	ln -sfn bin "$root/sbin"
	cp "$(find_program busybox)" "$root/bin/busybox"
	for name in $("$root/bin/busybox" --list); do
		[ "$name" = busybox ] || ln -sf busybox "$root/bin/$name"
	done
}

# The archive of a root as the kernel reads it, everything owned by root, no clock in it: $1 = root, $2 = out.
# Not packed: unpacking costs a slow guest more than copying.
write_initrd() {
	(cd "$1" && find . -mindepth 1 -printf '%P\n' | sort |
		cpio -o -H newc --quiet --owner=0:0 --reproducible) >"$2"
}
