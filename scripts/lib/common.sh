# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What every script here starts with: where the tree is, how to speak, where to keep things.
# Sourced, never run. Messages go to standard error, one line each; standard output carries only results.

set -euo pipefail
export LC_ALL=C

# For the scripts that source this file: the tree, what is kept between runs, a directory for this run.
# shellcheck disable=SC2034
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck disable=SC2034
cache=${VMM_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/vmm}
self=${0##*/}
scratch=

say() {
	printf '%s: %s\n' "$self" "$*" >&2
}

die() {
	say "$*"
	exit 1
}

# The comment block on top of a script is its help text.
usage() {
	sed -n '3,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
}

# Where a program is; administrators' programs are not on everybody's path.
find_program() {
	PATH=$PATH:/usr/sbin:/sbin command -v "$1"
}

# Stops with a sentence when one of the programs is not there.
need() {
	local program
	for program in "$@"; do
		find_program "$program" >/dev/null || die "$program is missing; scripts/install-deps installs it"
	done
}

# A directory below $1 that goes when the script ends. Beside a result, one rename publishes what was made in it.
make_scratch() {
	scratch=$(mktemp -d "$1/.vmm-XXXXXX")
	trap 'rm -rf "$scratch"' EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
}
