# SPDX-License-Identifier: Apache-2.0
"""The parts of scripts/bench that need stock Linux as guest, so as a rule the lab (tests/lab/run).

Each gets `at`: the program measured (vmm), the source and build directories (top, build), a directory for what it makes
(work), the guest's kernel (kernel; None: the one that scripts/fetch-kernel gives), how often to measure (runs), and how to
time a start (measure). What they find goes into the table.
"""
import collections
import ctypes
import json
import os
import re
import shutil
import statistics
import subprocess
import time

from bench.table import Unable, remember, row, say, spread

BOOT_MEMORY = 256
CLONE_NEWNET = 0x40000000
GUEST_WORDS = 'console=ttyS0 quiet reboot=t panic=-1'
# What the programs that measure inside of a guest need: modules, and the programs themselves.
GUESTS = {'fio': ('virtio_blk', 'fio'), 'net': ('virtio_net', 'iperf3')}
PATIENCE = 300
QEMU_MICROVM = ['qemu-system-x86_64', '-M', 'microvm,acpi=on,pit=off,pic=off,rtc=off,isa-serial=on,x-option-roms=off',
                '-accel', 'kvm', '-cpu', 'host', '-nodefaults', '-no-user-config', '-display', 'none', '-serial', 'stdio',
                '-no-reboot', '-global', 'virtio-mmio.force-legacy=false']


def archive(at, part):
    return os.path.join(at.build, 'tests/bench', part + '.cpio')


def prepare(at, parts):
    """What the lab has no network or time for: the kernel's directory, and the guests' archives."""
    done = subprocess.run([os.path.join(at.top, 'scripts/fetch-kernel'), 'debian-12-cloud'], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise Unable('no guest kernel')
    kernel = done.stdout.strip()
    for part in set(parts) & set(GUESTS):
        modules, program = GUESTS[part]
        if not shutil.which(program):
            raise Unable(program + ' is not installed')
        subprocess.run([os.path.join(at.top, 'scripts/make-initrd'), '--kernel', kernel, '--modules',
                        'virtio_pci virtio_mmio ' + modules, '--init', os.path.join(at.top, 'tests/bench', part + '-init'), '--add',
                        shutil.which(program) + ':/bin/' + program, archive(at, part)], check=True)
    return kernel


def guest_kernel(at):
    """Copies of the kernel in memory: the lab's root is a slow network file system."""
    target = os.path.join(at.work, 'kernel')
    os.makedirs(target, exist_ok=True)
    for name in ('vmlinux', 'vmlinuz'):
        shutil.copy(os.path.join(at.kernel or prepare(at, []), name), target)
    return target


def make_tap(address=None):
    """A network of its own, so that nothing on the machine changes."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        return False
    steps = [['tuntap', 'add', 'bench0', 'mode', 'tap'], ['link', 'set', 'lo', 'up']]
    if address:
        steps += [['addr', 'add', address, 'dev', 'bench0'], ['link', 'set', 'bench0', 'up']]
    return all(subprocess.run(['ip'] + step, stderr=subprocess.DEVNULL).returncode == 0 for step in steps)


# --- boot --------------------------------------------------------------------------------------------------------------


def boot_plans(at, kernel_dir, initrd, cmdline):
    """name -> command that boots the kernel to the mark on its standard output."""
    vmlinux, bzimage = os.path.join(kernel_dir, 'vmlinux'), os.path.join(kernel_dir, 'vmlinuz')
    plans = collections.OrderedDict()
    for name, kernel in (('vmlinux', vmlinux), ('bzImage', bzimage)):
        plans['vmm ' + name] = [at.vmm, 'run', '--kernel', kernel, '--initrd', initrd, '--cmdline-only', cmdline, '-m',
                                '%dM' % BOOT_MEMORY, '-c', '1']
        if shutil.which('qemu-system-x86_64'):
            plans['qemu-microvm ' + name] = QEMU_MICROVM + ['-smp', '1', '-m', str(BOOT_MEMORY), '-kernel', kernel, '-initrd',
                                                            initrd, '-append', cmdline]
        if shutil.which('cloud-hypervisor'):
            plans['cloud-hypervisor ' + name] = ['cloud-hypervisor', '--kernel', kernel, '--initramfs', initrd, '--cmdline',
                                                 cmdline, '--memory', 'size=%dM' % BOOT_MEMORY, '--cpus', 'boot=1',
                                                 '--serial', 'tty', '--console', 'off']
    if shutil.which('lkvm'):
        plans['lkvm bzImage'] = ['lkvm', 'run', '-k', bzimage, '-i', initrd, '-m', str(BOOT_MEMORY), '-c', '1', '-p', cmdline,
                                 '--console', 'serial', '--network', 'mode=none']
    if shutil.which('firecracker'):
        config = os.path.join(at.work, 'firecracker.json')
        with open(config, 'w') as f:
            json.dump({'boot-source': {'kernel_image_path': vmlinux, 'initrd_path': initrd, 'boot_args': cmdline},
                       'drives': [], 'machine-config': {'vcpu_count': 1, 'mem_size_mib': BOOT_MEMORY}}, f)
        plans['firecracker vmlinux'] = ['firecracker', '--no-api', '--config-file', config]
    return plans


def make_archive(path, files):
    """A cpio archive in the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    with open(path, 'wb') as out:
        def entry(name, data, mode, inode):
            header = '070701' + ''.join('%08x' % x for x in (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0))
            for piece in (header.encode() + name.encode() + b'\0', data):
                out.write(piece + b'\0' * (-len(piece) % 4))
        # The header with the name is padded as a whole; 110 bytes of it come first.
        for inode, (name, source) in enumerate(files.items(), 1):
            with open(source, 'rb') as f:
                entry(name, f.read(), 0o100755, inode)
        entry('TRAILER!!!', b'', 0, 0)


def boot(at):
    kernel = guest_kernel(at)
    initrd = os.path.join(at.work, 'boot.cpio')
    make_archive(initrd, {'init': os.path.join(at.build, 'tests/bench/bench-init')})
    plans = boot_plans(at, kernel, initrd, GUEST_WORDS + ' rdinit=/init')
    times = {name: [] for name in plans}
    for _ in range(at.runs):
        for name, command in plans.items():
            try:
                times[name].append(at.measure(command, mark='init-is-here', seconds=120) / 1000)
                say('boot: %s %.2f s' % (name, times[name][-1]))
            except Unable as why:
                say('boot: %s: %s' % (name, why))
            remember('boot: ' + name, command)
    for name, values in times.items():
        if not values:
            row('boot', name, 'does not start here')
            continue
        other = times.get('qemu-microvm ' + name.split()[-1])
        row('boot', name, '%s s' % spread(values), 'qemu-microvm' if other else '',
            statistics.median(values) / statistics.median(other) if other else None, '<= 0.4' if name[:3] == 'vmm' else '')


# --- guests that measure by themselves ---------------------------------------------------------------------------------


def guest_results(at, part, name, command):
    """One run of a guest that prints lines "PART WHAT NUMBER" and then "PART-is-done": WHAT -> NUMBER."""
    remember('%s: %s' % (part, name), command)
    output = os.path.join(at.work, part + '.out')
    with open(output, 'wb') as f:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT)
    deadline, text = time.monotonic() + PATIENCE, ''
    while part + '-is-done' not in text and time.monotonic() < deadline and process.poll() is None:
        time.sleep(1)
        with open(output, errors='replace') as f:
            text = f.read()
    process.kill()
    process.wait()
    found = {what: float(number) for what, number in re.findall(r'%s (\w+) ([0-9.]+)' % part, text)}
    say('%s: %s: %s' % (part, name, found or 'no result:\n' + text[-2000:]))
    return found


def interleaved(at, part, plans):
    """plan -> WHAT -> numbers of all runs."""
    results = {name: collections.defaultdict(list) for name in plans}
    for _ in range(at.runs):
        for name, command in plans.items():
            for what, number in guest_results(at, part, name, command).items():
                results[name][what].append(number)
    return results


def compare(part, results, whats, others):
    """A row for each plan and WHAT -> (words, unit); `others`: (plan, WHAT) -> plan it is held against, target."""
    for what, (words, unit) in whats.items():
        for name, found in results.items():
            if not found[what]:
                row(part, '%s, %s' % (name, words), 'no result')
                continue
            value = '%s %s' % (spread(found[what]), unit)
            rivals = [(other, target) for (plan, about, other), target in others.items()
                      if (plan, about) == (name, what) and results.get(other, {}).get(what)]
            for other, target in rivals or [('', '')]:
                ratio = statistics.median(found[what]) / statistics.median(results[other][what]) if other else None
                row(part, '%s, %s' % (name, words), value, other, ratio, target)


def vmm_plans(at, part, vmlinux, device):
    return collections.OrderedDict(
        ('vmm ' + transport, [at.vmm, 'run', '--kernel', vmlinux, '--initrd', archive(at, part), '--cmdline-only', GUEST_WORDS,
                              '-m', '512M', '-c', '1', '--transport', transport] + device) for transport in ('pci', 'mmio'))


def fio(at):
    vmlinux = os.path.join(guest_kernel(at), 'vmlinux')
    disk = os.path.join(at.work, 'fio.img')
    with open(disk, 'wb') as f:
        f.write(os.urandom(1 << 20) * 256)
    plans = vmm_plans(at, 'fio', vmlinux, ['--disk', disk])
    if shutil.which('qemu-system-x86_64'):
        plans['qemu-microvm'] = QEMU_MICROVM + [
            '-smp', '1', '-m', '512', '-kernel', vmlinux, '-initrd', archive(at, 'fio'), '-append', GUEST_WORDS, '-object',
            'iothread,id=io', '-drive', 'if=none,id=d,format=raw,cache=writeback,aio=io_uring,file=' + disk, '-device',
            'virtio-blk-device,drive=d,iothread=io']
    if shutil.which('cloud-hypervisor'):
        plans['cloud-hypervisor'] = ['cloud-hypervisor', '--kernel', vmlinux, '--initramfs', archive(at, 'fio'), '--cmdline',
                                     GUEST_WORDS, '--memory', 'size=512M', '--cpus', 'boot=1', '--serial', 'tty', '--console',
                                     'off', '--disk', 'path=' + disk]
    others = {}
    for what in ('read', 'write'):
        others['vmm pci', what, 'vmm mmio'] = '>= 1.3'
        others['vmm pci', what, 'cloud-hypervisor'] = '>= 1'
        others['vmm mmio', what, 'qemu-microvm'] = '>= 1.3'
    others['vmm pci', 'alone', 'vmm mmio'] = '<= 1'
    compare('fio', interleaved(at, 'fio', plans),
            {'read': ('random reads, queue depth 32', 'IOPS'), 'write': ('random writes, queue depth 32', 'IOPS'),
             'alone': ('a read alone', 'us')}, others)


def net(at):
    vmlinux = os.path.join(guest_kernel(at), 'vmlinux')
    if not make_tap('192.168.213.1/24'):
        raise Unable('a network namespace with a tap needs root')
    server = subprocess.Popen(['iperf3', '-s'], stdout=subprocess.DEVNULL)
    try:
        results = interleaved(at, 'net', vmm_plans(at, 'net', vmlinux, ['--net', 'tap=bench0']))
    finally:
        server.kill()
        server.wait()
    compare('net', results,
            {'up': ('TCP from the guest', 'Mbit/s'), 'down': ('TCP to the guest', 'Mbit/s'), 'ping': ('ping', 'ms')},
            {('vmm pci', 'up', 'vmm mmio'): '>= 1', ('vmm pci', 'down', 'vmm mmio'): '>= 1', ('vmm pci', 'ping', 'vmm mmio'): '<= 1'})
