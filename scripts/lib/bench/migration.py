# SPDX-License-Identifier: Apache-2.0
"""Live migration between two processes of this host, by TCP over the loopback: how long the guest stands still, as the source sees it
(from before its processors are parked until the other side has said that it runs) and by the guest's own clock, and how long all of it
takes."""
import json
import mmap
import multiprocessing
import os
import re
import socket
import time

from .snapshot import command, in_memory, named, percentile
from .table import Unable, row

MIB = 1 << 20


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def tsc_khz():
    """Near enough for a guest that measures milliseconds."""
    with open('/proc/cpuinfo') as f:
        return int(float(re.search(r'^cpu MHz\s*: ([\d.]+)', f.read(), re.M)[1]) * 1000)


def gap_of(bench, runtime, name):
    """Milliseconds: the longest that a guest with gap=N has not seen its clock, of what it has said since it moved."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        gaps = re.findall(r'^gap (\d+) us', command(bench, runtime, 'logs', name)[1], re.M)
        if gaps:
            return max(map(int, gaps)) / 1000
        time.sleep(0.01)
    raise Unable('the guest has not noticed that it stood still')


def move(bench, runtime, memory, words, *args):
    """One migration of a fresh guest: (downtime in ms, all of it in ms, what GET /migration says)."""
    address = 'tcp:127.0.0.1:%d' % free_port()
    named(bench, runtime, 'here', memory, words)
    try:
        command(bench, runtime, 'receive', '-d', '--name', 'there', '--allow', '/', address)
        took, out = command(bench, runtime, 'migrate', '--json', *args, 'here', address)
        migration = json.loads(out)['migration']
        if 'gap=' in words:
            migration['gap'] = gap_of(bench, runtime, 'there')
        return sum(migration['downtime_us'].values()) / 1000, took, migration
    finally:
        command(bench, runtime, 'rm', '--force', '--all')


def upgrades(bench, runtime, memory, *args):
    """A guest that goes on in a new process as often as is asked: what each has said."""
    named(bench, runtime, 'here', memory, 'rest=1', *args)
    try:
        return [json.loads(command(bench, runtime, 'upgrade', '--json', 'here')[1])['migration'] for _ in range(bench.here_runs)]
    finally:
        command(bench, runtime, 'rm', '--force', '--all')


def receive_all(port, ready, total):
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', port))
        listener.listen(1)
        ready.set()
        with listener.accept()[0] as s:
            buffer, got = bytearray(4 * MIB), 0
            while got < total:
                n = s.recv_into(buffer)
                if n == 0:
                    return
                got += n
            s.sendall(b'!')


def plain_copy(total):
    """Milliseconds of so many bytes over a TCP connection, with nothing done to them."""
    port, ready = free_port(), multiprocessing.Event()
    process = multiprocessing.Process(target=receive_all, args=(port, ready, total))
    process.start()
    ready.wait(60)
    data = os.urandom(4 * MIB)
    with socket.socket() as s:
        s.connect(('127.0.0.1', port))
        began = time.perf_counter()
        for _ in range(total // len(data)):
            s.sendall(data)
        s.recv(1)
        took = (time.perf_counter() - began) * 1000
    process.join()
    return took


def warm(mib):
    """Touches so much memory: a host that is a virtual machine itself gets it from its own host by then, which takes seconds for a GiB
    and is no part of a migration."""
    process = multiprocessing.Process(target=touch, args=(mib,))
    process.start()
    process.join()


def touch(mib):
    memory = mmap.mmap(-1, mib * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    for at in range(0, len(memory), mmap.PAGESIZE):
        memory[at] = 1


def report(what, downtimes, target=''):
    row('migration', what + ': stands still', 'p50 %.2f, p99 %.2f ms' % (percentile(downtimes, .5), percentile(downtimes, .99)), target=target)


def migration(bench):
    with in_memory() as runtime:
        moves = [move(bench, runtime, '1024M', 'rest=1') for _ in range(bench.here_runs)]
        report('idle, 1 GiB', [m[0] for m in moves], '<= 10 ms p50, <= 15 p99')
        parts = [percentile([m[2]['downtime_us'][part] for m in moves], .5) for part in ('pause', 'save', 'pages', 'prepare', 'commit')]
        row('migration', '  of that pause, save, pages, prepare, commit', '%d %d %d %d %d us' % tuple(parts))
        gaps = [move(bench, runtime, '1024M', 'gap=300 khz=%d' % tsc_khz())[2]['gap'] for _ in range(bench.here_runs)]
        report('idle, 1 GiB, by the guest\'s clock', gaps, '<= 10 ms p50, <= 15 p99')
        for how, args in ('passed', ('--memory-backing', 'memfd')), ('sent', ()):
            pauses = [sum(u['downtime_us'].values()) / 1000 for u in upgrades(bench, runtime, '1024M', *args)]
            report('upgrade in place, 1 GiB, memory is ' + how, pauses, '<= 20 ms')
        moves = [move(bench, runtime, '8192M', 'rest=1') for _ in range(3)]
        row('migration', 'untouched 8 GiB: all of it', 'p50 %.0f ms' % percentile([m[1] for m in moves], .5), target='<= 300 ms')
        full, plain, packed = [], [], []
        for _ in range(3):
            warm(3072)
            full.append(move(bench, runtime, '1280M', 'mib=1024 rest=1'))
            plain.append(plain_copy(1024 * MIB))
            packed.append(move(bench, runtime, '1280M', 'mib=1024 rest=1', '--compress')[1])
        took, copy = percentile([m[1] for m in full], .5), percentile(plain, .5)
        row('migration', '1 GiB of random data: all of it', 'p50 %.0f ms' % took, 'a TCP copy %.0f' % copy, copy / took, '>= 0.95 x its rate')
        row('migration', '  compressed, which gains nothing of them', 'p50 %.0f ms' % percentile(packed, .5))
        rate = percentile([m[2]['bytes_per_second'] for m in full], .5) / MIB
        busy = [move(bench, runtime, '512M', 'mib=256 rate=%d' % (rate / 2), '--downtime', '20ms', '--at-limit', 'force', '--time-limit', '20s')
                for _ in range(max(3, bench.here_runs // 3))]
        report('256 MiB written over at %d MiB/s, half of what goes over' % (rate / 2), [m[0] for m in busy], '<= 20 ms')
        row('migration', '  in so many passes', 'p50 %d' % percentile([m[2]['passes'] for m in busy], .5))
        slowed = [move(bench, runtime, '512M', 'mib=64 rate=256 strict=1', '--bandwidth', '128M', '--downtime', '20ms', '--throttle', '99',
                       '--time-limit', '60s') for _ in range(3)]
        report('64 MiB written over at 256 MiB/s, over 128 MiB/s', [m[0] for m in slowed], '<= 20 ms')
        row('migration', '  slowed down by, all of it', 'p50 %d %%, %.1f s' % (percentile([m[2]['throttle_most_percent'] for m in slowed], .5),
                                                                              percentile([m[1] for m in slowed], .5) / 1000))
        early = [move(bench, runtime, '512M', 'mib=256 rate=%d' % rate, '--downtime', '1ms', '--postcopy') for _ in range(bench.here_runs)]
        report('256 MiB written over as fast as can be sent, by post-copy', [m[0] for m in early], '<= 10 ms')
        row('migration', '  all of it, memory too', 'p50 %.0f ms' % percentile([m[1] for m in early], .5))
