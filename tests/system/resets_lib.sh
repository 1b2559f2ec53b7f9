# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Many quick resets in a row of a stock kernel; sourced by user_resets and panic_resets. Every start must come as far as the
# one before; memory, descriptors and threads stay flat. A guest that stands still is looked at before it is ended: who runs,
# and whether it still exits to vmm.

# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

name=$(some_kernel) || skip_all
count=${VMM_TEST_RESETS:-100}
[ -z "${VMM_TEST_QUICK:-}" ] || count=8

# RSS in KiB of what is not the guest's RAM, without huge pages, which the host's kernel makes of other memory of vmm's when
# it likes; descriptors, threads of vmm.
usage() {
	echo "$(awk '$1 == "Size:" { own = $2 < 100 * 1024 } own && $1 == "Rss:" { sum += $2 }
		own && $1 == "AnonHugePages:" { sum -= $2 } END { print sum }' \
		"/proc/$vmm/smaps") $(find "/proc/$vmm/fd" -mindepth 1 | wc -l) $(find "/proc/$vmm/task" -mindepth 1 -maxdepth 1 | wc -l)"
}

exits() {
	"$VMM" metrics "$1" 2>/dev/null | grep '_exits'
}

# A guest that has said nothing for so long: what is known of it, as comments.
look_at() {
	local task
	echo "# $1: no word for ${patience%s} s after $starts starts, the last one was: $(tail -n 1 "$scratch/out" | tr -d '\r')"
	for task in "/proc/$vmm/task"/*; do
		echo "#   $(cat "$task/comm") $(cut -d' ' -f3 "$task/stat" 2>/dev/null) in $(cat "$task/wchan" 2>/dev/null)," \
			"processor time $(cut -d' ' -f14,15 "$task/stat" 2>/dev/null) (ticks: user, kernel)"
	done
	exits "$1" | sed 's/^/#   /'
	sleep 5
	echo "#   five seconds later:"
	exits "$1" | sed 's/^/#   /'
}

# begun COUNT: waits until the kernel has started so often. Each start has the time that a guest may take.
begun() {
	local seen=-1 end=0
	while starts=$(grep -c "$word" "$scratch/out"); [ "$starts" -lt "$1" ]; do
		if [ "$starts" != "$seen" ]; then
			seen=$starts end=$((SECONDS + ${patience%s}))
		elif ! kill -0 "$vmm" 2>/dev/null || [ $SECONDS -ge $end ]; then
			return 1
		fi
		sleep 0.1
	done
}

# resets LABEL WORD OPTION...: the guest says the word once in each life.
resets() {
	local label=$1 before after
	word=$2
	shift 2
	: >"$scratch/out"
	VMM_RUNTIME_DIR=$scratch/vms "$VMM" run --name resets --memory 128M --on-reboot restart --kernel "$data/$name/vmlinuz" "$@" \
		>"$scratch/out" 2>"$scratch/err" </dev/null &
	vmm=$!
	begun 2 && before=$(usage) && begun $((count + 1)) && after=$(usage)
	equal "$label: resets" "$count" "$((starts > count ? count : starts - 1))"
	if [ "$starts" -le "$count" ]; then
		if kill -0 $vmm 2>/dev/null; then
			look_at resets
		fi
		show_guest
	else
		equal "$label: descriptors and threads are as many as before" "${before#* }" "${after#* }"
		if [ "${after%% *}" -le $((${before%% *} + 1024)) ]; then
			pass "$label: memory is flat (${before%% *} KiB, ${after%% *} KiB)"
		else
			fail "$label: memory is flat" "$before then $after (KiB, descriptors, threads)"
		fi
	fi
	kill -KILL $vmm 2>/dev/null
	wait $vmm 2>/dev/null
}

