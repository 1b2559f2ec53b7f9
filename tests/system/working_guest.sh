# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What tests share that take a real Linux away under load and look at it in another place: a guest that works (fio with verification on its
# disk, iperf3 over its network) and answers orders on its serial port, in a network namespace of its own. Sourced behind lib.sh;
# sets $space, $tools, $script (the guest's), $vmm. Needs root, /dev/net/tun and python3.
# shellcheck disable=SC2034,SC2154 # lib.sh sets $scratch and $data; who sources this uses $tools and $script

space=vmm-work-$$
if [ "$(id -u)" != 0 ] || [ ! -c /dev/net/tun ] || ! command -v python3 >/dev/null || ! ip netns add $space 2>/dev/null; then
	echo "1..0 # SKIP making a network namespace with a tap needs root and /dev/net/tun, listening there python3"
	exit 0
fi
export XDG_RUNTIME_DIR=$scratch/run VMM_STATE_DIR=$scratch/state
mkdir -p "$XDG_RUNTIME_DIR"
export VMM_RUNTIME_DIR=$scratch/run
vmm=
# Whoever makes another one adds it.
spaces=("$space")
leave() {
	inside "$VMM" kill --all 2>/dev/null
	for space in "${spaces[@]}"; do
		ip netns pids "$space" | xargs -r kill 2>/dev/null
		ip netns del "$space"
	done
	rm -rf "$scratch"
}
trap leave EXIT

inside() {
	ip netns exec "$space" "$@"
}

inside ip link set lo up
tools=()
if [ -f "$data/tools.img" ]; then
	tools=(--disk "$data/tools.img,ro,id=tools")
fi

# Reads its orders from the serial port. What it is shows a word that it drew when it began, in a variable and in a file.
script='
serial=/dev/ttyS0
stty -F $serial raw -echo 2>/dev/null
say() { echo "$* ." >$serial; }
hex() { od -v -An -tx1 | tr -d " \n"; }
nonce=$(dd if=/dev/urandom bs=8 count=1 2>/dev/null | hex)
echo $nonce >/tmp/nonce
ip addr add 10.9.0.2/24 dev eth0
ip link set eth0 up
fio= iperf= work=none
if [ -b /dev/vdb ]; then
	mount_tools /dev/vdb
	work=both
	chroot /tools /bin/fio --name=t --filename=/dev/vda --direct=1 --ioengine=libaio --iodepth=8 --size=16m --rw=randwrite --bs=4k --verify=crc32c \
		--verify_backlog=64 --verify_fatal=1 --time_based --runtime=100000 >/tmp/fio 2>&1 &
	fio=$!
	chroot /tools /bin/iperf3 -c 10.9.0.1 -p $port -t 80000 -b 2M -i 0 >/tmp/iperf 2>&1 &
	iperf=$!
fi
lives() { [ -z "$1" ] || kill -0 $1 2>/dev/null; }
say "ready $nonce"
while read -r order number; do
	case $order in
	state)
		say "state $number $nonce $(cat /tmp/nonce) $(cut -d. -f1 /proc/uptime) $(date +%s)" \
			"$(lives $fio && echo fio) $(lives $iperf && echo iperf) $(grep -ci "verify" /tmp/fio 2>/dev/null | grep -v "^0")" \
			"$(lives $fio || tail -n 1 /tmp/fio; lives $iperf || tail -n 1 /tmp/iperf)written=$(cut -d" " -f7 /sys/block/vda/stat 2>/dev/null || echo 0)"
		;;
	random) say "random $number $(dd if=/dev/urandom bs=16 count=1 2>/dev/null | hex)" ;;
	copy) say "copy $number $(dmesg | grep -c "crng reseeded due to virtual machine fork")" ;;
	complaints)
		dmesg | grep -iE "bug:|oops|soft lockup|hung task|rcu.*stall|i/o error|unstable" | tail -n 3 | while read -r line; do say "complaint $line"; done
		say "complaints $number $(dmesg | grep -ciE "bug:|oops|soft lockup|hung task|rcu.*stall|i/o error")"
		;;
	reboot) reboot -f ;;
	off) poweroff -f ;;
	esac
done <$serial
'

# attach VM: its console is ours: $scratch/out, and descriptor 9 for orders.
attach() {
	detach
	rm -f "$scratch/orders"
	mkfifo "$scratch/orders"
	inside "$VMM" console "$1" <"$scratch/orders" >"$scratch/out" 2>"$scratch/err" &
	vmm=$!
	exec 9>"$scratch/orders"
}

detach() {
	exec 9>&-
	[ -z "$vmm" ] || { kill "$vmm"; wait "$vmm"; } 2>/dev/null
	vmm=
}

# The last line that begins with $1, once all of it has come.
said() {
	tr -d '\r' <"$scratch/out" | sed -n "/^$1 .* \\.\$/s/ \\.\$//p" | tail -n 1
}

# shellcheck disable=SC2317 # eventually calls it
has_said() {
	[ -n "$(said "$1")" ]
}

number_of_order=0
# ask WORD: sends an order, and has the words of its answer in $answer.
ask() {
	local end=$((SECONDS + ${patience%s}))
	number_of_order=$((number_of_order + 1))
	echo "$1 $number_of_order" >&9
	while [ $SECONDS -lt $end ] && ! has_said "$1 $number_of_order" && kill -0 "$vmm" 2>/dev/null; do
		sleep 0.1
	done
	answer=$(said "$1 $number_of_order")
	answer=${answer#"$1 $number_of_order "}
}

# same NAME: it is the guest that drew $nonce, its work goes on, and nothing is wrong. Sets $uptime and $date, and when it was asked.
same() {
	local first second rest
	asked=$SECONDS
	ask state
	read -r first second uptime date rest <<<"$answer"
	equal "$1: what it had in its memory" "$nonce $nonce" "$first $second"
	echo "$answer" >"$scratch/answer"
	contains "$1: its disk is verified, its connection is there" "$scratch/answer" "$nonce [0-9]+ [0-9]+ fio iperf  written="
	ask complaints
	equal "$1: its kernel complains of nothing" 0 "$answer"
	[ "$answer" = 0 ] || tr -d '\r' <"$scratch/out" | grep -a '^complaint ' | tail -n 3 | sed 's/^/#   /'
}

# quietly NAME COMMAND...: succeeds; what it says is shown if not.
quietly() {
	local what=$1
	shift
	if "$@" >"$scratch/said" 2>&1; then
		pass "$what"
	else
		fail "$what" "status $?" "$(cat "$scratch/said")"
	fi
}

cli() {
	inside "$VMM" "$@"
}
