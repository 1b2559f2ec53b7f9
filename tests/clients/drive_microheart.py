# SPDX-License-Identifier: Apache-2.0
"""drive_microheart FIRECRACKER KERNEL DISK DIRECTORY: the lives of machines by microheart's public calls, as its README shows
them (drive.py).

Its machines are Linux with ssh; the guest here is none, so that its ssh command says yes when the guest is up, and "reboot" is
Ctrl-Alt-Del by its own client of the API. Everything else is its own.
"""
import os
import re
import shutil
import subprocess

from drive import directory, disk, kernel, program, run, same, taps

os.environ["MICROHEART_HOME"] = directory
shutil.copy2(program, os.path.join(directory, "firecracker"))
shutil.copy2(kernel, os.path.join(directory, "vmlinux-1"))

from microheart import MicroVM, api, pool  # noqa: E402
from microheart.state import Registry  # noqa: E402


def guest_output(vm):
    """The console without the program's log, whose lines may come between any two bytes of the guest."""
    return re.sub(r"\d{4}-\d\d-\d\dT[^\n]*\n", "", vm.tail() + "\n")


def ssh(self, command, check=True, timeout=30):
    if command == "reboot":
        api.request(self.sock, "PUT", "/actions", {"action_type": "SendCtrlAltDel"})
    return subprocess.CompletedProcess(command, 0 if "ready" in guest_output(self) else 255, "", "")


MicroVM.ssh = ssh


def threads(pid):
    names = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/comm", encoding="ascii") as file:
            names.append(file.read().strip())
    return names


with open(os.path.join(directory, "key"), "w", encoding="ascii") as file:
    file.write("no key\n")
key = os.path.join(directory, "key")
vm = MicroVM("job1", disk, key, vcpu=2, mem_mib=128)


def machine():
    got = vm.machine_config()
    same((got["vcpu_count"], got["mem_size_mib"]), (2, 128))


def runs():
    assert vm.running() and "ready" in guest_output(vm)
    names = threads(vm.pid())
    assert "firecracker" in names and "fc_api" in names and "fc_vcpu 1" in names, names


def again():
    assert vm.start() is None


def stops():
    pid = vm.pid()
    vm.stop()
    assert not vm.running()
    # By the guest's reset, not by a signal after ten seconds.
    assert "exit_code=0" in vm.tail(), vm.tail()
    same(os.waitpid(pid, os.WNOHANG)[1] if os.path.exists(f"/proc/{pid}") else 0, 0)


def cleans():
    vm.clean()
    same(taps("mh"), [])
    assert not os.path.exists(vm.sock)


def with_context():
    with MicroVM("job2", disk, key) as other:
        same(other.run(["true"]).returncode, 0)
        same(len(taps("mh")), 1)
    same(taps("mh"), [])


def dies():
    """A disk that is not there: the library shows what the program said before it ended."""
    other = MicroVM("job3", disk, key)
    config = other.config

    def broken(path):
        made = config(path)
        made["drives"][0]["path_on_host"] += ".gone"
        return made
    other.config = broken
    try:
        other.start(wait=20)
    except RuntimeError as error:
        assert "Firecracker stopped" in str(error), str(error)
        assert len(str(error).splitlines()) > 1, "and not a word why"
        return str(error)
    raise AssertionError("it started")


registry = Registry()


def pool_fills():
    registry.pool_create("py", 2, 1, 64)
    made = pool.refill(registry, "py", disk, key)
    same([error for name, error in made], [None, None])
    same(len(taps("mh")), 2)


def pool_leases():
    name = pool.lease(registry, "py", disk, key)
    leased = MicroVM(name, registry=registry)
    assert leased.running()
    leased.clean()
    same([x[1] for x in pool.refill(registry, "py", disk, key)], [None])


def pool_goes():
    same(pool.delete(registry, "py"), 2)
    same(taps("mh"), [])


run([("start", vm.start), ("machine-config", machine), ("running", runs), ("start-again", again), ("stop", stops), ("clean", cleans),
     ("with", with_context), ("failure", dies), ("pool-refill", pool_fills), ("pool-lease", pool_leases),
     ("pool-delete", pool_goes)])
