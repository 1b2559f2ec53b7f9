# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What the system tests share: TAP output and running a guest. Sourced by each test.
#
# A test script runs where a guest can run (tests/system/run sees to that), finds kernels and disks in $VMM_TEST_DATA
# (tests/system/prepare made them) and the program in $VMM. It asserts behaviour, never elapsed time, and says SKIP with a
# reason for what this machine cannot do.

# shellcheck source=../../scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/common.sh"
# shellcheck source=../../scripts/lib/initrd.sh
source "$top/scripts/lib/initrd.sh"
set +e

plain_arguments 0 0 "$@"
VMM=${VMM:-$top/build/vmm}
data=${VMM_TEST_DATA:-$top/build-test/system}
kernels='debian-12-cloud debian-12 debian-13-cloud debian-13 host'
# How long a guest may take before it counts as hung, in seconds; the lab is slow, and slower beside other work.
patience=${VMM_TEST_PATIENCE:-180s}
number=0

if [ ! -x "$VMM" ]; then
	echo "Bail out! $VMM is not built"
	exit 1
fi
make_scratch "${TMPDIR:-/tmp}"

pass() {
	number=$((number + 1))
	echo "ok $number - $*"
}

# $1 = name, $2... = what was seen
fail() {
	number=$((number + 1))
	echo "not ok $number - $1"
	shift
	printf '%s\n' "$@" | sed 's/^/#   /'
}

skip() {
	number=$((number + 1))
	echo "ok $number - $1 # SKIP $2"
}

# check NAME COMMAND...: ok if the command succeeds.
check() {
	local name=$1
	shift
	if "$@"; then
		pass "$name"
	else
		fail "$name" "failed: $*"
	fi
}

# equal NAME WANT GOT
equal() {
	if [ "$2" = "$3" ]; then
		pass "$1"
	else
		fail "$1" "want: $2" "got: $3"
	fi
}

# contains NAME FILE PATTERN: an extended regular expression in a file.
contains() {
	if grep -Eq -- "$3" "$2"; then
		pass "$1"
	else
		fail "$1" "not found: $3" "$(tail -n 20 "$2" | tr -d '\r')"
	fi
}

# eventually NAME COMMAND...: ok if the command succeeds before the time is up that a guest may take; not if $vmm, a
# process number if set, ends meanwhile. Too late is status 124, see lab_failed in tests/system/run.
eventually() {
	local what=$1 why='status 124' end=$((SECONDS + ${patience%s}))
	shift
	while [ $SECONDS -lt $end ]; do
		if ! kill -0 "${vmm:-$$}" 2>/dev/null; then
			why='vmm has ended'
			break
		elif "$@"; then
			break
		fi
		sleep 0.2
	done
	if "$@"; then
		pass "$what"
	else
		fail "$what" "$why" "$(tail -n 15 "$scratch/out" "$scratch/err" 2>/dev/null | tr -d '\r')"
	fi
}

done_testing() {
	echo "1..$number"
	exit 0
}

# The first kernel that is there, for tests to which any will do.
some_kernel() {
	local name
	for name in $kernels; do
		[ ! -f "$data/$name/vmlinuz" ] || { echo "$name"; return; }
	done
	return 1
}

# For callers of some_kernel: nothing can be tested here.
skip_all() {
	echo "1..0 # SKIP no stock kernel could be fetched"
	exit 0
}

# guest_initrd KERNEL SCRIPT OUT [FILE...]: the kernel's initrd with a shell script that runs in place of its init, and
# files beside it (in $directory). The script ends with the guest's power-off if it does not end it otherwise.
guest_initrd() {
	local kernel=$1 script=$2 out=$3 root=$scratch/archive
	shift 3
	rm -rf "$root"
	mkdir -p "$root/run-command"
	cp "$data/debug-exit" "$@" "$root/run-command/"
	{
		cat "$top/tests/system/guest.sh"
		printf '%s\n' "$script"
		echo 'poweroff -f'
	} >"$root/run-command/start"
	write_initrd "$root" "$scratch/second"
	cat "$data/$kernel/initrd" "$scratch/second" >"$out"
}

# In the lab a guest may stand still at any place, also another monitor's (see tests/lab/run). There, and only there, a guest
# that its time limit ended (status 124) is started again, with twice the time, as often in one script as the lab says; the
# suite counts the lines that tell of it.
excuses=${VMM_LAB_EXCUSES:-0}
# Runs before each start, for what a guest leaves behind.
each_try=true

# Sets $limit, the seconds for the first try.
first_try() {
	limit=${patience%s}
	[ "$excuses" = 0 ] || limit=$((limit / 2))
	$each_try
}

# Whether there is another try after this $status.
again() {
	if [ "$status" != 124 ] || [ "$excuses" = 0 ]; then
		return 1
	fi
	echo "# once more: the guest stood still in the lab for $limit s after: $(tail -n 1 "$scratch/out" | tr -d '\r')"
	excuses=$((excuses - 1)) limit=$((limit * 2))
	$each_try
}

# run_vmm OPTION...: vmm run; sets $status, and the files $scratch/{out,err,report}. Standard input is empty unless
# given. The sandbox is on: no test turns it off.
run_vmm() {
	local ends=()
	first_try
	while :; do
		rm -f "$scratch/report"
		status=0
		case " $* " in
		*' --timeout '*) ;; # is what is tested
		*) ends=(--timeout "${limit}s") ;;
		esac
		"$VMM" run ${ends[@]+"${ends[@]}"} --exit-report "$scratch/report" "$@" >"$scratch/out" 2>"$scratch/err" </dev/null ||
			status=$?
		[ ${#ends[@]} -gt 0 ] && again || return 0
	done
}

# guest KERNEL SCRIPT OPTION...: boots the kernel (vmlinuz) with a script as its user space. $guest_words are more of its
# command line.
guest() {
	local kernel=$1 script=$2
	shift 2
	guest_initrd "$kernel" "$script" "$scratch/initrd"
	run_vmm --kernel "$data/$kernel/vmlinuz" --initrd "$scratch/initrd" --cmdline "quiet panic=-1 ${guest_words:-}" "$@"
}

# value NAME: what the guest said as "NAME=value" on its console.
value() {
	tr -d '\r' <"$scratch/out" | sed -n "s/^.*\\b$1=//p" | tail -n 1
}

# What a failed boot left, as a comment.
show_guest() {
	{ tail -n 15 "$scratch/out"; tail -n 5 "$scratch/err"; } | tr -d '\r' | sed 's/^/#   /'
}
