# SPDX-License-Identifier: Apache-2.0
"""drive_firecracker_python FIRECRACKER KERNEL DISK DIRECTORY: a machine's life by firecracker-python's public calls (drive.py).

What it asks of the network outside, a public address, of docker, and of nftables' Python module, which PyPI does not have, is
answered here; taps, process, files and the API are its own.
"""
import functools
import os

from drive import directory, disk, kernel, program, run, same, taps
from firecracker import MicroVM, config, microvm, network, process, vmm

os.makedirs(f"{directory}/data")
settings = functools.partial(config.MicroVMConfig, data_path=f"{directory}/data", binary_path=program,
                             snapshot_path=f"{directory}/snapshots")
for module in (microvm, network, process, vmm):
    module.MicroVMConfig = settings
microvm.get_public_ip = lambda *_: "198.51.100.2"
microvm.docker.from_env = lambda: None
for name in ("add_nat_rules", "create_masquerade", "delete_nat_rules", "delete_masquerade", "delete_all_port_forward"):
    setattr(network.NetworkManager, name, lambda *_: None)


vm = MicroVM(name="one", kernel_file=kernel, base_rootfs=disk, vcpu=2, memory="128M", labels={"kind": "test"})
identity = vm._microvm_id
state = vmm.VMMManager()


def creates():
    said = vm.create()
    assert said.endswith("created"), said


def lists():
    same([(x["id"], x["state"]) for x in MicroVM.list()], [(identity, "Running")])
    same(len(vm.find(state="Running", labels={"kind": "test"})), 1)


def shows():
    got = vm.config()
    same((got["machine-config"]["vcpu_count"], got["machine-config"]["mem_size_mib"]), (2, 128))
    same(got["drives"][0]["is_root_device"], True)
    same(got["network-interfaces"][0]["host_dev_name"], f"tap_{identity}")
    same(sorted(got), ["balloon", "boot-source", "cpu-config", "drives", "entropy", "logger", "machine-config", "memory-hotplug",
                       "metrics", "mmds-config", "network-interfaces", "pmem", "vsock"])


def describes():
    same(state.get_vmm_state(identity), "Running")
    said = vm.status()
    assert said.endswith("is running"), said


def pauses():
    vm.pause()
    same(state.get_vmm_state(identity), "Paused")
    vm.resume()
    same(state.get_vmm_state(identity), "Running")


def log():
    with open(f"{directory}/data/{identity}/logs/{identity}.log", encoding="utf-8") as file:
        text = file.read()
    assert "Running Firecracker" in text and f"[{identity}:" in text, text
    with open(f"{directory}/data/{identity}/firecracker.log", encoding="utf-8") as file:
        same(file.read().strip(), "ready")


def one_too_many():
    try:
        state.get_api(identity).machine_config.put(vcpu_count=3, mem_size_mib=128)
    except Exception as error:
        assert "API fault: " in str(error), str(error)
        return str(error)
    raise AssertionError("a running machine has taken another CPU")


def deletes():
    said = vm.delete()
    assert said.endswith("is deleted"), said
    same(MicroVM.list(), [])
    same(taps(f"tap_{identity}"), [])
    assert not os.path.exists(f"{directory}/data/{identity}")


run([("create", creates), ("list", lists), ("config", shows), ("status", describes), ("pause-resume", pauses), ("log", log),
     ("fault", one_too_many), ("delete", deletes)])
