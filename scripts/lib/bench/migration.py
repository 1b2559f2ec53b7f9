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
import threading
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


def receive_part(connection, total, memory):
    view, got = memoryview(memory), 0
    with connection:
        while got < total:
            at = got % len(view)
            n = connection.recv_into(view[at:at + 256 * 1024])
            if n == 0:
                return
            got += n
        connection.sendall(b'!')


def receive_all(port, ready, total, connections, keeps):
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', port))
        listener.listen(connections)
        ready.set()
        threads = []
        for _ in range(connections):
            memory = mmap.mmap(-1, total // connections if keeps else 4 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            memory.madvise(mmap.MADV_HUGEPAGE)
            threads.append(threading.Thread(target=receive_part, args=(listener.accept()[0], total // connections, memory)))
            threads[-1].start()
        for thread in threads:
            thread.join()


def send_part(connection, total, data):
    with connection:
        for _ in range(total // len(data)):
            connection.sendall(data)
        connection.recv(1)


def plain_copy(total, connections, keeps=False):
    """Milliseconds of so many bytes over TCP connections, with nothing done to them. keeps: into fresh memory, as a VM's is that comes; otherwise
    both sides use the same 4 MiB again and again, which never leave a processor's cache."""
    port, ready = free_port(), multiprocessing.Event()
    process = multiprocessing.Process(target=receive_all, args=(port, ready, total, connections, keeps))
    process.start()
    ready.wait(60)
    data = os.urandom(4 * MIB)
    threads = [threading.Thread(target=send_part, args=(socket.create_connection(('127.0.0.1', port)), total // connections, data))
               for _ in range(connections)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
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


def against_plain(bench, runtime, runs=3):
    """1 GiB of random data, over several connections, each time beside plain copies over as many: what one connection took."""
    counts, results = (1, 2, 4), {}
    for _ in range(runs):
        for count in counts:
            warm(3072)
            moved = move(bench, runtime, '1280M', 'mib=1024 rest=1', '--connections', str(count))
            warm(3072)
            results.setdefault(count, []).append((moved, plain_copy(1024 * MIB, count), plain_copy(1024 * MIB, count, keeps=True)))
    for count, rows in results.items():
        took = percentile([moved[1] for moved, _, _ in rows], .5)
        plain, kept = (percentile([r[i] for r in rows], .5) for i in (1, 2))
        row('migration', '1 GiB of random data over %d: all of it' % count, 'p50 %.0f ms' % took, 'a TCP copy %.0f' % plain,
            percentile([r[1] / r[0][1] for r in rows], .5), '>= 0.95 x its rate')
        row('migration', '  against one that is kept, in fresh memory', '', 'a TCP copy %.0f' % kept, percentile([r[2] / r[0][1] for r in rows], .5))
    return [moved for moved, _, _ in results[1]]


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
        full = against_plain(bench, runtime)
        packed = [move(bench, runtime, '1280M', 'mib=1024 rest=1', '--compress')[1] for _ in range(3)]
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
