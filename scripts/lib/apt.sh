# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# apt with sources of our own and what it writes kept to itself: the machine's /etc/apt and its lists stay as they are, its
# mirrors, proxies, credentials and the check of signatures stay in force. Sourced after common.sh. Needs apt.

# The machine's mirrors, one "URI SUITE" a line, out of whichever style of file they are written in.
# shellcheck disable=SC2016 # apt's variables, not the shell's
machine_sources() {
	apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		awk '$3 == "main" { print $1, $2 }' | sort -u
}

# The mirrors of Debian or Ubuntu that the machine has: $1 = distribution, $2 = suite. VMM_DEBIAN_MIRROR names another.
machine_mirrors() {
	if [ "$1" = debian ]; then
		[ -z "${VMM_DEBIAN_MIRROR:-}" ] || { echo "$VMM_DEBIAN_MIRROR"; return; }
		machine_sources |
			awk '$2 ~ /^(bullseye|bookworm|trixie|forky|sid|stable|oldstable|testing|unstable)$/ { print $1 }' | sort -u
	else
		machine_sources | awk -v s="$2" '$2 == s { print $1 }' | sort -u
	fi
}

# write_sources DISTRIBUTION SUITE [ALSO]...: a sources list for the suite with its updates, its security updates, and the
# other suites named, from the mirrors that serve the distribution here. Fails if there are none.
write_sources() {
	local distribution=$1 suite=$2 uris keyring security='' key='' uri one suites
	shift 2
	suites="$suite $suite-updates $*"
	# Debian's development is one suite; nothing comes to it by another way.
	[ "$suite" != sid ] || suites="sid $*"
	case $distribution in
	debian)
		keyring=/usr/share/keyrings/debian-archive-keyring
		security=$(machine_sources | awk '$2 ~ /-security$/ && $1 ~ /debian/ && !seen++ { print $1 }')
		;;
	ubuntu)
		keyring=/usr/share/keyrings/ubuntu-archive-keyring
		suites+=" $suite-security"
		;;
	esac
	uris=$(machine_mirrors "$distribution" "$suite")
	[ -n "$uris" ] || return 1
	for one in gpg pgp; do
		[ ! -r "$keyring.$one" ] || key=$keyring.$one
	done
	[ -n "$key" ] || die "$keyring.gpg is missing: install the package ${keyring##*/}"
	for uri in $uris; do
		for one in $suites; do
			echo "deb [arch=amd64 signed-by=$key] $uri $one main"
		done
	done
	if [ -n "$security" ] && [ "$suite" != sid ]; then
		echo "deb [arch=amd64 signed-by=$key] $security $suite-security main"
	fi
}

# prepare_apt DIRECTORY: for private_apt; the sources are DIRECTORY/sources.list. Packages that are installed are the
# machine's own, unless DIRECTORY/status is there, an empty file: then none is.
prepare_apt() {
	local own=$1
	mkdir -p "$own"/{state/lists/partial,cache/archives/partial,log,empty}
	cat >"$own/conf" <<-END
		#clear APT::Update::Pre-Invoke;
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
		Dir::State::lists "$own/state/lists";
		Dir::Cache "$own/cache";
		Dir::Etc::sourcelist "$own/sources.list";
		Dir::Etc::sourceparts "$own/empty";
		Dir::Etc::preferences "/dev/null";
		Dir::Etc::preferencesparts "$own/empty";
		APT::Sandbox::User "root";
		Acquire::Languages "none";
		Acquire::Retries "3";
		Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
	END
	[ -e "$own/status" ] || return 0
	cat >>"$own/conf" <<-END
		#clear DPkg::Post-Invoke;
		Dir::State "$own/state";
		Dir::State::status "$own/status";
		Dir::Log "$own/log";
		APT::Architecture "amd64";
		APT::Architectures { "amd64"; };
	END
}

# private_apt DIRECTORY TOOL [ARGUMENT]...: of a directory that prepare_apt made.
private_apt() {
	local own=$1 tool=$2
	shift 2
	"$tool" -c "$own/conf" "$@"
}
