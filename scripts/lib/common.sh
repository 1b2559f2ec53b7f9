# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What every script here starts with: where the tree is, how to speak, where to keep things. Some of them are installed as
# well (scripts/meson.build), as commands vmm-NAME: links to LIBEXECDIR/vmm/scripts, so that $top is LIBEXECDIR/vmm there.
# Sourced, never run, before the script looks at its arguments: `--help` as the first of them is answered here. Messages go
# to standard error, one line each; standard output carries only results.
#
# A script that ends without having said why is a riddle. Whatever `set -e` ends, in a function or a subshell too, is named
# with its file and line (explain_end); an end that was meant is `die`, `bad_usage` or `exit`.

set -Eeuo pipefail
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
help_text() {
	awk 'NR > 2 { if (!/^#/) exit; sub(/^# ?/, ""); if ($0 != "" || said++) print }' "$0"
}

# A command line that cannot be: $* says why.
bad_usage() {
	say "$*"
	help_text >&2
	exit 2
}

# plain_arguments FROM TO ARGUMENT...: there are so many, and none is an option, which no file is named like.
plain_arguments() {
	local from=$1 to=$2 argument
	shift 2
	for argument in "$@"; do
		case $argument in
		-?*) bad_usage "there is no option '$argument'" ;;
		esac
	done
	[ $# -ge "$from" ] || bad_usage "an argument is missing"
	[ $# -le "$to" ] || bad_usage "too many arguments"
}

# option_value OPTION VALUE...: stops when the option is the command line's last word.
option_value() {
	[ $# -ge 2 ] || bad_usage "$1 needs a value"
}

# explain_end STATUS COMMAND FILE LINE: the trap of errors. Where `set -e` is off, also in $(...), an error ends nothing.
explain_end() {
	case $- in
	*e*) say "${3#"$top"/}:$4: status $1 of: ${2%%$'\n'*}" ;;
	esac
}
trap 'explain_end $? "$BASH_COMMAND" "${BASH_SOURCE[0]}" "$LINENO"' ERR

# Where a program is; administrators' programs are not on everybody's path.
find_program() {
	PATH=$PATH:/usr/sbin:/sbin command -v "$1"
}

# Stops with a sentence when one of the programs is not there.
need() {
	local program how='scripts/install-deps installs it'
	[ -e "$top/scripts/install-deps" ] || how="install its package, which $self --help names"
	for program in "$@"; do
		find_program "$program" >/dev/null || die "$program is missing; $how"
	done
}

# Whether QEMU is there, and none that can lose a change of code between two of its processors (see tests/lab/run).
qemu_is_sound() {
	local version
	find_program qemu-system-x86_64 >/dev/null || return 1
	version=$(qemu-system-x86_64 --version | sed -n '1s/.* version \([0-9]*\.[0-9]*\).*/\1/p')
	[ "$(printf '%s\n' "$version" 8.1 | sort -V | head -n 1)" = 8.1 ]
}

# A directory below $1 that goes when the script ends. Beside a result, one rename publishes what was made in it.
make_scratch() {
	scratch=$(mktemp -d "$1/.vmm-XXXXXX")
	trap 'rm -rf "$scratch"' EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

case ${1-} in
-h | --help)
	help_text
	exit 0
	;;
esac
