# SPDX-License-Identifier: Apache-2.0
"""What the tests with Firecracker's clients share.

Each runs a client library's own tests, or a life of a machine by its public calls, with vmm under the name `firecracker`.
Results are TAP: one line for each of the client's tests. A test that is known to fail stands in a file beside its script,
NAME.expected, one a line:

    TEST | WHEN | REASON

WHEN is empty or the names of conditions (see `conditions`), all of which must hold for the line to count. A failure that is
not listed fails, and so does a listed test that passes: a list that is not true is no list. Clients' tests have limits of their own
for an idle machine (a quarter of a second for a start): a failure that is not listed is tried again, twice at most, and the last
line counts these.

--firecracker PATH runs the same with another program, such as the real one: nothing is expected then, the numbers are printed.

The client's source comes from its language's package manager, pinned and checked by the hashes beside each script; what is
built of it is kept in the cache directory of the other scripts. Without the toolchain, root or /dev/kvm: SKIP, with the reason.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
# Where `install` of a toolchain puts it that changes no PATH of services.
TOOL_DIRECTORIES = ["/usr/local/go/bin", os.path.expanduser("~/.cargo/bin"), "/usr/local/bin", "/usr/sbin", "/sbin"]
PATIENCE = 1500


# Clients ask the jailer for a cpuset of the unified control groups; where these have none, the old ones do.
JAILER_WITH_OLD_GROUPS = """#!/bin/bash
arguments=(--cgroup-version 1)
while [ $# -gt 0 ] && [ "$1" != -- ]; do
	if [ "$1" = --cgroup-version ]; then
		shift
	else
		arguments+=("$1")
	fi
	shift
done
exec -a "$0" "${0%/*}/jailer-itself" "${arguments[@]}" "$@"
"""


class Skip(Exception):
    pass


def find_tool(name):
    tool = shutil.which(name) or shutil.which(name, path=os.pathsep.join(TOOL_DIRECTORIES))
    if not tool:
        raise Skip(f"{name} is not installed")
    return tool


def cpu_vendor():
    for line in open("/proc/cpuinfo", encoding="ascii", errors="replace"):
        if line.startswith("vendor_id"):
            return line.split(":")[1].strip()
    return ""


def has_template_t2():
    """Whether Firecracker has its CPU template T2 for this processor: Skylake, Cascade Lake or Ice Lake servers."""
    fields = {}
    for line in open("/proc/cpuinfo", encoding="ascii", errors="replace"):
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    model = tuple(fields.get(x) for x in ["vendor_id", "cpu family", "model", "stepping"])
    return model in [("GenuineIntel", "6", *x) for x in [("85", "4"), ("85", "7"), ("106", "6")]]


def no_unified_cpuset():
    for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]:
        try:
            if "cpuset" in pathlib.Path(root, "cgroup.controllers").read_text(encoding="ascii").split():
                return False
        except OSError:
            pass
    return True


class Client:
    """One run: arguments, where things are, the results so far."""

    def __init__(self, name, description):
        self.name = name
        parser = argparse.ArgumentParser(prog=name, description=description)
        parser.add_argument("--vmm", type=pathlib.Path, required=True)
        parser.add_argument("--guest", type=pathlib.Path, required=True, help="tests/guest/standby.elf, built")
        parser.add_argument("--firecracker", type=pathlib.Path, help="run this program instead, and expect nothing")
        parser.add_argument("--jailer", type=pathlib.Path, help="the jailer that starts it (default: the one in PATH)")
        parser.add_argument("--only", default="", help="a regular expression: only these tests, where the client can choose")
        parser.add_argument("--verbose", action="store_true", help="print what each failed test said")
        self.options = parser.parse_args()
        self.real = self.options.firecracker is not None
        self.program = (self.options.firecracker or self.options.vmm).resolve()
        self.guest = self.options.guest.resolve()
        cache = os.environ.get("VMM_CACHE") or os.path.join(
            os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "vmm")
        self.cache = pathlib.Path(cache) / "clients"
        # Short, because sockets are made in it; not in /tmp, which tests may get empty (alone).
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="vmc-", dir="/var/tmp"))
        self.conditions = {cpu_vendor().lower()} | (set() if has_template_t2() else {"no-template-t2"})
        self.passed, self.failed, self.skipped, self.listed = 0, 0, 0, 0
        self.again = 0
        self.count = 0

    def need_machine(self):
        if os.geteuid() != 0:
            raise Skip("needs root: network and mount namespaces, taps, jails")
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            raise Skip("needs /dev/kvm")

    def bin_directory(self):
        """A directory with `firecracker` and `jailer`, as a client's installation has them."""
        directory = self.scratch / "bin"
        directory.mkdir(exist_ok=True)
        # Copies: jailers copy the file that they are given, and clients look at the name of the process.
        shutil.copy2(self.program, directory / "firecracker")
        jailer = self.options.jailer or shutil.which("jailer")
        self.conditions.add("real-jailer" if jailer else "own-jailer")
        if jailer and no_unified_cpuset():
            shutil.copy2(jailer, directory / "jailer-itself")
            (directory / "jailer").write_text(JAILER_WITH_OLD_GROUPS, encoding="ascii")
            (directory / "jailer").chmod(0o755)
        else:
            shutil.copy2(jailer or HERE / "jailer", directory / "jailer")
        return directory

    def alone(self):
        """The command that others run behind: in namespaces of their own."""
        return str(HERE / "alone")

    def environment(self, **more):
        paths = [os.environ.get("PATH", "")] + TOOL_DIRECTORIES
        return {**os.environ, "PATH": os.pathsep.join(paths), "TMPDIR": str(self.scratch), **more}

    def fetch(self, what, command, **arguments):
        """Runs a package manager; when it cannot get at its registry, or the toolchain is too old, that is the reason to skip."""
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                                timeout=PATIENCE, **arguments)
        if result.returncode != 0:
            lines = (result.stderr + result.stdout).strip().splitlines()
            said = next((x for x in reversed(lines) if re.search("error|cannot|failed|forbidden|requires", x, re.I)),
                        lines[-1] if lines else "nothing said")
            raise Skip(f"{what}: {said.strip().replace('#', '')[:160]}")
        return result.stdout

    # Go -------------------------------------------------------------------------------------

    def go_environment(self):
        return self.environment(GOTOOLCHAIN="local", GOFLAGS="-mod=readonly", CGO_ENABLED="0", TMPDIR="/tmp")

    def run_go_tests(self, go, directory, module, environment):
        """Builds and runs the tests of a module's packages: test -> (result, output)."""
        self.fetch("Go cannot build it", [go, "test", "-exec", "true", "./..."], cwd=directory, env=self.go_environment())
        results = self.go_round(go, directory, module, environment, self.options.only)
        # A test runs with its subtests or not at all; the package's name is no part of the pattern.
        return self.try_again(results, lambda tests: self.go_round(
            go, directory, module, environment, "^(" + "|".join({x.split("/")[0] for x in tests}) + ")$"))

    def go_round(self, go, directory, module, environment, only):
        command = [go, "test", "-json", "-p", "1", "-count=1", "-exec", self.alone(), "./..."]
        if only:
            command.insert(-1, f"-run={only}")
        ran = subprocess.run(command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, errors="replace", timeout=PATIENCE, check=False)
        got, said = {}, {}
        for line in ran.stdout.splitlines():
            event = json.loads(line) if line.startswith("{") else {}
            if "Test" not in event:
                continue
            test = (event["Package"].removeprefix(module) + "/" + event["Test"]).removeprefix("/")
            if event["Action"] == "output":
                said[test] = said.get(test, "") + event["Output"]
            elif event["Action"] in ("pass", "fail", "skip"):
                got[test] = event["Action"]
        if not got:
            raise SystemExit(f"no test ran: {ran.stdout[-2000:]}{ran.stderr[-2000:]}")
        return {test: (result, said.get(test, "")) for test, result in got.items()}

    # Rust -----------------------------------------------------------------------------------

    def crate(self, name, version, checksum):
        """The source of a crate where it can be built and written to, by a package that asks cargo for it."""
        kept = self.cache / f"{name}-{version}"
        if (kept / "Cargo.toml").exists():
            return kept
        cargo = find_tool("cargo")
        package = self.scratch / "package"
        (package / "src").mkdir(parents=True)
        (package / "src" / "lib.rs").touch()
        (package / "Cargo.toml").write_text(
            f'[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\n{name} = "={version}"\n',
            encoding="ascii")
        said = json.loads(self.fetch("crates.io", [cargo, "metadata", "--format-version=1"], cwd=package, env=self.environment()))
        directory = pathlib.Path(next(x["manifest_path"] for x in said["packages"] if x["name"] == name)).parent
        lock = (package / "Cargo.lock").read_text(encoding="utf-8")
        if f'checksum = "{checksum}"' not in lock:
            raise SystemExit(f"{name} {version} has another checksum than {checksum}:\n{lock}")
        self.cache.mkdir(parents=True, exist_ok=True)
        fresh = pathlib.Path(f"{kept}.{os.getpid()}")
        shutil.copytree(directory, fresh)
        if kept.exists():
            shutil.rmtree(kept)
        fresh.rename(kept)
        return kept

    def test_programs(self, crate, features):
        """Builds a crate's tests: name -> the program and the directory it runs in."""
        cargo = find_tool("cargo")
        # Of the crates below, speed does not matter, and the time to build them does.
        command = [cargo, "test", "--no-run", "--message-format=json", "--features", features,
                   "--config", 'profile.dev.package."*".opt-level=0', "--config", "profile.dev.build-override.opt-level=0"]
        said = self.fetch("cargo", command, cwd=crate, env=self.environment(TMPDIR="/tmp"))
        programs = {}
        for line in said.splitlines():
            message = json.loads(line) if line.startswith("{") else {}
            if message.get("reason") == "compiler-artifact" and message.get("executable") and message["profile"]["test"]:
                programs[message["target"]["name"]] = message["executable"]
        if not programs:
            raise SystemExit(f"cargo built no test of {crate}")
        return programs

    def run_rust_tests(self, programs, prefix="", environment=None, seconds=60, leave_out=None):
        """Runs each test for itself, so that one that hangs is one that fails, a few at a time: test -> (result, output)."""
        jobs = {}
        for name, program in programs.items():
            listed = subprocess.run([program, "--list", "--format", "terse"], stdout=subprocess.PIPE, text=True, check=True)
            for line in listed.stdout.splitlines():
                if not line.endswith(": test"):
                    continue
                test = line.removesuffix(": test")
                if re.search(self.options.only, test) and not (leave_out and re.match(leave_out, test)):
                    jobs[f"{prefix}{name}/{test}"] = (program, test)

        def one(job):
            program, test = job
            ran = subprocess.run(["timeout", "--signal=KILL", str(seconds), self.alone(), program, "--exact", test, "--nocapture"],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                                 env=environment, check=False)
            if ran.returncode == 0 and "1 passed" in ran.stdout:
                return "pass", ran.stdout
            return "fail", ran.stdout + (f"\nno end within {seconds} s" if ran.returncode in (137, -9) else "")

        def some(tests, at_once):
            with concurrent.futures.ThreadPoolExecutor(max_workers=at_once) as pool:
                return dict(zip(tests, pool.map(one, [jobs[x] for x in tests])))

        return self.try_again(some(list(jobs), 3), lambda tests: some(tests, 1))

    # Python ---------------------------------------------------------------------------------

    def drive_python(self, packages, driver, tools):
        """Runs a driver with packages of PyPI in an environment of their own."""
        for tool in tools:
            find_tool(tool)
        python = self.cache / f"python-{'-'.join(packages)}" / "bin" / "python"
        done = python.parent / "complete"
        if not done.exists():
            self.fetch("venv", [sys.executable, "-m", "venv", "--clear", str(python.parent.parent)])
            self.fetch("PyPI", [str(python), "-m", "pip", "install", "--quiet", *packages])
            done.touch()
        disk, place = self.scratch / "disk", self.scratch / "place"
        place.mkdir()
        with open(disk, "wb") as file:
            file.truncate(4 << 20)
        ran = subprocess.run([self.alone(), str(python), "-B", str(HERE / driver), str(self.bin_directory() / "firecracker"),
                              str(self.guest), str(disk), str(place)],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                             env=self.environment(), timeout=PATIENCE, check=False)
        steps = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
        if ran.returncode != 0 or not steps:
            raise SystemExit(f"{driver} ended with {ran.returncode}:\n{ran.stdout}{ran.stderr}")
        self.judge({x["test"]: (x["result"], x["said"]) for x in steps})

    # Results --------------------------------------------------------------------------------

    def expected(self):
        listed = {}
        path = HERE / f"{self.name}.expected"
        if self.real or not path.exists():
            return listed
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            words = [x.strip() for x in line.split("|")]
            if len(words) != 3 or not words[0] or not words[2]:
                raise SystemExit(f"{path}:{number}: not TEST | WHEN | REASON")
            if all(x.lower() in self.conditions for x in words[1].split()):
                listed[words[0]] = words[2]
        return listed

    def try_again(self, results, function):
        """function(tests): their results. Only for what clients' limits of time decide; nothing is tried with another program."""
        listed = self.expected()
        for _ in range(0 if self.real else 2):
            failed = [test for test, (result, _) in results.items() if result == "fail" and test not in listed]
            if not failed:
                break
            self.again += len(failed)
            for test in failed:
                print(f"# once more: {test} failed")
                for said in results[test][1].rstrip().splitlines()[-20:]:
                    print("#   " + said)
            results = {**results, **{x: y for x, y in function(failed).items() if x in failed}}
        return results

    def line(self, good, text, output=""):
        self.count += 1
        print(f"{'ok' if good else 'not ok'} {self.count} - {text}")
        if not good or (output and self.options.verbose):
            for said in output.rstrip().splitlines()[-40:]:
                print("#   " + said)
        sys.stdout.flush()

    def judge(self, results):
        """results: test -> (pass, fail or skip; what it said). Everything listed must be among them."""
        listed = self.expected()
        for test, (result, output) in results.items():
            reason = listed.pop(test, None)
            if result == "skip":
                self.skipped += 1
                self.line(True, f"{test} # SKIP by the client itself: {output.strip().splitlines()[-1] if output.strip() else ''}")
            elif result == "pass":
                self.passed += 1
                self.line(reason is None, test if reason is None else f"{test} passes, but is listed: {reason}")
            else:
                self.failed += 1
                if reason is not None:
                    self.listed += 1
                # With the real program nothing is expected.
                good = reason is not None or self.real
                self.line(good, f"{test} fails, as listed: {reason}" if reason else f"{test} fails", output)
        for test, reason in listed.items():
            if not self.options.only:
                self.line(False, f"{test} is listed ({reason}), but there is no such test")

    def run(self, function):
        """Calls function(self), which ends in judge(), and prints the plan and the numbers."""
        status = 0
        try:
            self.need_machine()
            function(self)
            print(f"1..{self.count}")
            print(f"# {self.name} with {self.program.name}: {self.passed} pass, {self.failed} fail"
                  f"{'' if self.real else f' ({self.listed} of them listed)'}, {self.skipped} skip; {self.again} tried again")
        except Skip as reason:
            if self.count:
                print(f"1..{self.count}")
            else:
                print(f"1..0 # SKIP {reason}")
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)
        return status
