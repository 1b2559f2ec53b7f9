# SPDX-License-Identifier: Apache-2.0
"""Snapshots, on this machine's KVM: how long a VM stands still for one, what writing one costs against dd, how soon one runs again."""
import json
import os
import select
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

from .table import Unable, remember, row

MIB = 1 << 20
PATIENCE = 120


class Vm:
    """A vmm process with an API socket; requests are timed from the first byte to the answer."""

    def __init__(self, bench, command, path):
        self.path = path
        self.asked = 0
        self.said = b''
        remember('snapshot: ' + command[0], [bench.vmm] + command)
        self.process = subprocess.Popen([bench.vmm] + command + ['--api-sock', path], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.request('GET', '/')
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    self.end()
                    raise Unable('no socket from: vmm ' + ' '.join(command))
                time.sleep(0.001)

    def request(self, method, target, body=None):
        data = json.dumps(body).encode() if body is not None else b''
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(PATIENCE)
            s.connect(self.path)
            begin = time.perf_counter()
            s.sendall(b'%s %s HTTP/1.1\r\nHost: vm\r\nContent-Length: %d\r\n\r\n' % (method.encode(), target.encode(), len(data)) + data)
            answer = s.recv(65536)
            took = time.perf_counter() - begin
        if b' 200 ' not in answer[:20] and b' 204 ' not in answer[:20]:
            raise Unable('%s %s: %s' % (method, target, answer.decode(errors='replace')[-300:]))
        return took * 1000, answer

    def say(self, text):
        """Waits until the guest has said it."""
        seen = b''
        deadline = time.monotonic() + PATIENCE
        while text not in seen:
            seen = seen[-100:] + os.read(self.process.stdout.fileno(), 4096)
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise Unable('the guest has not said %r' % text)

    def slow_writes(self):
        """Milliseconds of each write that the guest says has waited, since the last time; it writes whole lines, if not at once."""
        while select.select([self.process.stdout], [], [], 0)[0]:
            got = os.read(self.process.stdout.fileno(), 65536)
            if not got:
                break
            self.said += got
        whole, newline, self.said = self.said.rpartition(b'\n')
        return [int(line.split()[1]) / 1000 for line in (whole + newline).splitlines() if line.startswith(b'slow ')]

    def stood_still(self):
        """Milliseconds, of the snapshot after the one that was asked about last."""
        self.asked += 1
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(5)
            s.connect(self.path)
            s.sendall(b'GET /events HTTP/1.1\r\nHost: vm\r\n\r\n')
            seen = b''
            while True:
                seen += s.recv(65536)
                found = [line for line in seen.splitlines() if b'"still_us"' in line]
                if len(found) >= self.asked:
                    return json.loads(found[self.asked - 1])['still_us'] / 1000

    def end(self):
        self.process.kill()
        self.process.communicate()


def guest(bench, name, memory, words, extra=()):
    command = ['run', '--kernel', os.path.join(bench.build, 'tests/guest/guest.elf'), '--cmdline-only', 'test=fill ' + words,
               '-m', memory, '-c', '1', *extra]
    vm = Vm(bench, command, os.path.join(bench.work, name + '.sock'))
    vm.say(b'filled')
    return vm


def percentile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def pauses(bench):
    """Of snapshots of a guest that writes 50 MiB a second all over its memory: ten in a row."""
    for memory, mib in (('256M', 200), ('1280M', 1024)):
        vm = guest(bench, 'pause', memory, 'mib=%d rate=50' % mib)
        try:
            for kind, body in (('live', {'live': True}), ('paused', {})):
                still = []
                for _ in range(10):
                    vm.request('PUT', '/snapshot/create', dict(body, directory=os.path.join(bench.work, 'snap')))
                    still.append(vm.stood_still())
                row('snapshot', '%s, %d MiB written over at 50 MiB/s: stands still' % (kind, mib),
                    'p50 %.2f, p99 %.2f ms; first %.2f, tenth %.2f' % (percentile(still, .5), max(still), still[0], still[-1]),
                    target='<= 3 ms, p99 <= 5' if kind == 'live' else '')
        finally:
            vm.end()
            shutil.rmtree(os.path.join(bench.work, 'snap'), ignore_errors=True)


def stalls(bench):
    """Of a guest that writes: each write that waits for its chunk to be copied, by the guest's own clock, from the moment of a live
    snapshot until all is written; and what the host does to as many seconds without one."""
    vm = guest(bench, 'stall', '256M', 'mib=200 rate=50 slow=100')
    target = os.path.join(bench.work, 'stall')
    without, waited, worst = [], [], []
    try:
        for _ in range(20):
            vm.slow_writes()
            began = time.perf_counter()
            vm.request('PUT', '/snapshot/create', {'directory': target, 'live': True})
            took = time.perf_counter() - began
            slow = vm.slow_writes()
            waited += slow
            worst.append(max(slow, default=0))
            time.sleep(took)
            without += vm.slow_writes()
        if waited:
            row('snapshot', 'live, 200 MiB written over at 50 MiB/s: a write that waits',
                'p50 %.2f, p99 %.2f ms of %d; worst of one snapshot: p50 %.2f' % (
                    percentile(waited, .5), percentile(waited, .99), len(waited), percentile(worst, .5)),
                'without: %d, worst %.2f ms' % (len(without), max(without, default=0)), target='p99 <= 1 ms')
    finally:
        vm.end()
        shutil.rmtree(target, ignore_errors=True)


def sizes(bench):
    vm = guest(bench, 'empty', '1024M', '')
    try:
        vm.request('PATCH', '/vm', {'state': 'Paused'})
        took = [vm.request('PUT', '/snapshot/create', {'directory': os.path.join(bench.work, 'empty%d' % i)})[0] for i in range(5)]
        blocks = os.stat(os.path.join(bench.work, 'empty0/memory')).st_blocks * 512
        row('snapshot', 'full, 1 GiB nearly empty, paused', 'median %.1f ms, %d KiB on disk' % (statistics.median(took), blocks >> 10),
            target='<= 50 ms')
    finally:
        vm.end()
    vm = guest(bench, 'full', '1280M', 'mib=1024')
    try:
        vm.request('PATCH', '/vm', {'state': 'Paused'})
        ours, dd = [], []
        for i in range(3):
            target = os.path.join(bench.work, 'full%d' % i)
            ours.append(vm.request('PUT', '/snapshot/create', {'directory': target})[0])
            begin = time.perf_counter()
            subprocess.run(['dd', 'if=' + target + '/memory', 'of=' + os.path.join(bench.work, 'copy'), 'bs=2M', 'count=512',
                            'conv=fsync'], check=True, stderr=subprocess.DEVNULL)
            dd.append((time.perf_counter() - begin) * 1000)
            os.unlink(os.path.join(bench.work, 'copy'))
            shutil.rmtree(target)
        row('snapshot', 'full, 1 GiB of random data', 'median %.0f ms' % statistics.median(ours), 'dd conv=fsync %.0f' % statistics.median(dd),
            statistics.median(ours) / statistics.median(dd), '<= 1.2')
    finally:
        vm.end()


def diffs(bench):
    config = os.path.join(bench.work, 'tracked.json')
    with open(config, 'w') as f:
        json.dump({'boot-source': {'kernel_image_path': os.path.join(bench.build, 'tests/guest/guest.elf'),
                                   'cmdline_only': 'test=fill mib=1024 rate=50'},
                   'machine-config': {'vcpu_count': 1, 'mem_size_mib': 1280, 'track_dirty_pages': True}}, f)
    vm = Vm(bench, ['serve', '--config-file', config], os.path.join(bench.work, 'diff.sock'))
    try:
        vm.say(b'filled')
        vm.request('PUT', '/snapshot/create', {'directory': os.path.join(bench.work, 'diff0')})
        vm.stood_still()
        still, stored = [], []
        for i in range(1, 11):
            time.sleep(0.3)
            target = os.path.join(bench.work, 'diff%d' % i)
            vm.request('PUT', '/snapshot/create', {'directory': target, 'snapshot_type': 'Diff', 'live': True})
            still.append(vm.stood_still())
            stored.append(os.stat(target + '/memory').st_blocks * 512 / MIB)
        row('snapshot', 'diff, live, %.0f MiB written of 1 GiB: stands still' % statistics.median(stored),
            'p50 %.2f, p99 %.2f ms' % (percentile(still, .5), max(still)), target='<= 5 ms')
    finally:
        vm.end()


def loads(bench):
    for memory in ('128M', '1024M', '8192M'):
        disk = os.path.join(bench.work, 'load.img')
        with open(disk, 'wb') as f:
            f.truncate(8 * MIB)
        target = os.path.join(bench.work, 'load' + memory)
        vm = guest(bench, 'load', memory, 'say=1', ('--disk', disk) + (('--net', 'tap=bench0') if bench.tap else ()))
        try:
            vm.request('PUT', '/snapshot/create', {'directory': target})
        finally:
            vm.end()
        took, byte = [], []
        for i in range(bench.here_runs):
            # A disk's lock outlives a killed process by a moment.
            copy = '%s.%d' % (disk, i)
            shutil.copy(disk, copy)
            vm = Vm(bench, ['serve'], os.path.join(bench.work, 'load%d.sock' % i))
            try:
                time.sleep(0.02)
                begin = time.perf_counter()
                took.append(vm.request('PUT', '/snapshot/load', {'directory': target, 'resume_vm': True, 'drive_overrides': [
                    {'drive_id': 'drive0', 'path_on_host': copy}]})[0])
                vm.say(b'.')
                byte.append((time.perf_counter() - begin) * 1000)
            finally:
                vm.end()
                os.unlink(copy)
            time.sleep(0.02)
        row('snapshot', 'load with resume, %s' % memory, 'p50 %.2f, p99 %.2f ms' % (percentile(took, .5), percentile(took, .99)),
            target='<= 1, <= 2 ms')
        row('snapshot', '  to the next byte', 'p50 %.2f, p99 %.2f ms' % (percentile(byte, .5), percentile(byte, .99)))


def lazy_faults(bench):
    """Memory that comes when it is touched, here by who saves it again: read, checked, put in its place."""
    vm = guest(bench, 'source', '1280M', 'mib=1024')
    source, target = (os.path.join(bench.work, name) for name in ('source', 'target'))
    try:
        vm.request('PATCH', '/vm', {'state': 'Paused'})
        vm.request('PUT', '/snapshot/create', {'directory': source})
        plain = vm.request('PUT', '/snapshot/create', {'directory': target})[0]
    finally:
        vm.end()
    vm = Vm(bench, ['serve'], os.path.join(bench.work, 'lazy.sock'))
    try:
        began = time.perf_counter()
        load = vm.request('PUT', '/snapshot/load', {'directory': source, 'memory_mode': 'lazy'})[0]
        vm.request('PUT', '/snapshot/create', {'directory': target})
        took = (time.perf_counter() - began) * 1000
        row('snapshot', 'lazy, 1 GiB: loaded', '%.1f ms' % load)
        row('snapshot', '  all of it touched and saved again', '%.0f ms, %d pages/s' % (took, 262144 / took * 1000), 'saved from RAM %.0f' % plain,
            took / plain, '>= 100000 pages/s')
    finally:
        vm.end()
        shutil.rmtree(source)
        shutil.rmtree(target)


def working_set(bench):
    """From the request to a guest that has read a word of each of 64 chunks at the end of 1 GiB: what comes first is recorded by one restore, and then
    restores with the record and without take turns."""
    vm = guest(bench, 'source', '1280M', 'mib=1024 again=128')
    source = os.path.join(bench.work, 'source')
    record = os.path.join(source, 'working-set')
    try:
        vm.request('PATCH', '/vm', {'state': 'Paused'})
        vm.request('PUT', '/snapshot/create', {'directory': source})
    finally:
        vm.end()

    def restored(**more):
        vm = Vm(bench, ['serve'], os.path.join(bench.work, 'set.sock'))
        try:
            began = time.perf_counter()
            vm.request('PUT', '/snapshot/load', {'directory': source, 'memory_mode': 'lazy', 'resume_vm': True, **more})
            # It was saved on its way through them: the first time may be a part of one.
            vm.say(b'touched\ntouched')
            took = (time.perf_counter() - began) * 1000
            if more:
                vm.request('PUT', '/snapshot/mark')
            return took
        finally:
            vm.end()

    try:
        restored(record_working_set=True)
        took = {True: [], False: []}
        for i in range(2 * bench.here_runs):
            if i % 2:
                os.rename(record, record + '.away')
            took[i % 2 == 0].append(restored())
            if i % 2:
                os.rename(record + '.away', record)
        recorded, plain = (statistics.median(took[known]) for known in (True, False))
        row('snapshot', 'lazy, 1 GiB: 128 MiB at its end were touched, recorded', 'median %.0f ms' % recorded, 'without a record %.0f' % plain, recorded / plain)
    finally:
        shutil.rmtree(source)


def available():
    with open('/proc/meminfo') as f:
        return next(int(line.split()[1]) for line in f if line.startswith('MemAvailable')) / 1024


def in_memory():
    """A directory as the runtime directory of a host that is set up as usual: in memory."""
    with open('/proc/mounts') as f:
        mounts = [line.split()[1] for line in f if line.split()[2] == 'tmpfs']
    return tempfile.TemporaryDirectory(prefix='vmm-bench-', dir=next((x for x in ('/run', '/dev/shm') if x in mounts and os.access(x, os.W_OK)), None))


def command(bench, runtime, *words):
    """Milliseconds of a command that succeeds."""
    began = time.perf_counter()
    done = subprocess.run([bench.vmm, *words], env=dict(os.environ, VMM_RUNTIME_DIR=runtime, VMM_STATE_DIR=os.path.join(bench.work, 'state')),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    took = (time.perf_counter() - began) * 1000
    if done.returncode:
        raise Unable('vmm %s: %s' % (' '.join(words), done.stderr.decode(errors='replace')[-300:]))
    return took, done.stdout.decode(errors='replace')


def named(bench, runtime, name, memory, words, *args):
    command(bench, runtime, 'run', '-d', '--name', name, '--kernel', os.path.join(bench.build, 'tests/guest/guest.elf'),
            '--cmdline-only', 'test=fill ' + words, '-m', memory, '-c', '1', *args)
    deadline = time.monotonic() + PATIENCE
    while 'filled' not in command(bench, runtime, 'logs', name)[1]:
        if time.monotonic() > deadline:
            raise Unable('the guest has not filled its memory')
        time.sleep(0.05)


def forks(bench):
    with in_memory() as runtime:
        named(bench, runtime, 'parent', '256M', 'mib=200 rest=1')
        try:
            one, whole = ([command(bench, runtime, 'fork', 'parent', '--name', '%s%d' % (name, i), *words)[0] for i in range(20)]
                          for name, words in (('one', ['--no-wait']), ('whole', [])))
            row('snapshot', 'fork of 200 MiB: one child runs', 'median %.0f ms, worst %.0f' % (statistics.median(one), max(one)), target='<= 10 ms')
            row('snapshot', '  and needs its parent no longer', 'median %.0f ms, worst %.0f' % (statistics.median(whole), max(whole)))
            before = available()
            many = command(bench, runtime, 'fork', 'parent', '--name', 'many', '--count', '100')[0]
            time.sleep(1)
            row('snapshot', '  100 children run', '%.0f ms; %.2f MiB each' % (many, (before - available() - 200) / 100),
                target='<= 300 ms, <= 1.2 MiB')
        finally:
            command(bench, runtime, 'rm', '--force', '--all')


def parks(bench):
    with in_memory() as runtime:
        named(bench, runtime, 'parked', '1280M', 'mib=1024 rest=1')
        try:
            times = [[command(bench, runtime, word, 'parked')[0] for word in ('park', 'unpark')] for _ in range(3)]
            row('snapshot', 'park, 1 GiB of random data', 'median %.0f ms' % statistics.median(t[0] for t in times))
            row('snapshot', 'unpark', 'median %.1f ms' % statistics.median(t[1] for t in times), target="as a load to the next byte")
        finally:
            command(bench, runtime, 'rm', '--force', '--all')


def snapshot(bench):
    for part in (sizes, pauses, stalls, diffs, loads, lazy_faults, working_set, forks, parks):
        part(bench)
