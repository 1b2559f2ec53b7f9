# SPDX-License-Identifier: Apache-2.0
"""What is asked of both: each resource with a body that is right, and from it everything that can be wrong with one.

A case is (name, requests); a request is (method, path, body), where the body is None or text. In paths and bodies TAP stands for
the network interface of the side, which must not be the other's.
"""
import json

MISSING = object()
# One of each type that JSON has; a field is tried with all that are not its own.
TYPES = {'null': None, 'bool': True, 'number': 7, 'fraction': 1.5, 'string': 'x', 'array': [], 'object': {}}
BUCKET = {'size': 1000, 'one_time_burst': 10, 'refill_time': 100}
LIMITER = {'bandwidth': BUCKET, 'ops': BUCKET}
U64 = (1 << 64) - 1
NUMBERS = (0, 1, -1, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, U64, U64 + 1, 1e3)


class Resource:
    """`body` has every field, right; `least` names those that must be there; `values` has boundaries by field ("a/b": inside)."""

    def __init__(self, method, path, body, least=(), values=None, after=()):
        self.method, self.path, self.body, self.least = method, path, body, least
        self.values, self.after = values or {}, after

    @property
    def name(self):
        return '%s %s' % (self.method, self.path)


def drive(name):
    return {'drive_id': name, 'is_root_device': False, 'path_on_host': 'disk'}


BEFORE = [
    Resource('PUT', '/boot-source', {'kernel_image_path': 'kernel', 'boot_args': 'a', 'initrd_path': 'text'}, ('kernel_image_path',), {
        'kernel_image_path': ('', '/', '.', 'text', '/dev/null', 'nowhere', 'a\0b'),
        'initrd_path': ('', '/', 'nowhere', '/dev/null'),
        'boot_args': ('', 'a\tb\nc', 'é', '\x01\x7f', 'a -- b', '-- b', 'a --', 'a--b', 'x' * 2047, 'x' * 2048, 'a\0b')}),
    Resource('PUT', '/machine-config', {'vcpu_count': 2, 'mem_size_mib': 128, 'smt': True, 'cpu_template': 'None',
                                        'track_dirty_pages': True, 'huge_pages': 'None'}, ('vcpu_count', 'mem_size_mib'), {
        'vcpu_count': (0, 1, 3, 31, 32, 33, 255, 256, *NUMBERS),
        'mem_size_mib': (2, 3, 31, 32, 33, 1 << 20, 1 << 44, 1 << 54, *NUMBERS),
        'huge_pages': ('Transparent', '2M', '1G', 'none', ''), 'cpu_template': ('T2', 'T2A', 'V1N1', 'C3', 'none', '')}),
    Resource('PATCH', '/machine-config', {'vcpu_count': 1, 'mem_size_mib': 256, 'smt': False, 'cpu_template': 'None',
                                          'track_dirty_pages': False, 'huge_pages': '2M'}, (), {
        'vcpu_count': (0, 1, 32, 33, 256), 'mem_size_mib': (0, 1, 2, 3, 31)}),
    Resource('PUT', '/cpu-config', {'kvm_capabilities': [], 'cpuid_modifiers': [], 'msr_modifiers': []}, (), {
        'kvm_capabilities': (['1'], ['!1'], ['x'], [1]),
        'cpuid_modifiers': ([{}], [{'leaf': '0x1', 'subleaf': '0x0', 'flags': 0, 'modifiers': [
            {'register': 'eax', 'bitmap': '0bxx01'}]}], [{'leaf': '0x1', 'subleaf': '0x0', 'flags': 0, 'modifiers': []}],
            [{'leaf': '1', 'subleaf': '0x0', 'flags': 0, 'modifiers': []}]),
        'msr_modifiers': ([{}], [{'addr': '0x10', 'bitmap': '0b1'}], [{'addr': '0x10', 'bitmap': '0bx'}],
                          [{'addr': 'x', 'bitmap': '0b1'}])}),
    Resource('PUT', '/drives/d1', {'drive_id': 'd1', 'partuuid': 'a-b', 'is_root_device': True, 'cache_type': 'Writeback',
                                   'is_read_only': True, 'path_on_host': 'disk', 'rate_limiter': LIMITER, 'io_engine': 'Sync',
                                   'socket': None}, ('drive_id', 'is_root_device', 'path_on_host'), {
        'drive_id': ('d2', '', 'd 1'), 'partuuid': ('', 'no uuid', 'é', '\n'), 'cache_type': ('Unsafe', 'writeback', ''),
        'path_on_host': ('', 'nowhere', '.', '/dev/null', 'empty', 'odd'), 'io_engine': ('Async', 'sync', ''),
        'socket': ('', 's'), 'rate_limiter': ({}, {'bandwidth': BUCKET}, {'ops': None}),
        'rate_limiter/bandwidth/size': NUMBERS, 'rate_limiter/ops/refill_time': NUMBERS,
        'rate_limiter/ops/one_time_burst': NUMBERS}),
    Resource('PUT', '/network-interfaces/e1', {'iface_id': 'e1', 'host_dev_name': 'TAP', 'guest_mac': '02:00:00:00:00:01',
                                               'mtu': 1400, 'rx_rate_limiter': LIMITER, 'tx_rate_limiter': LIMITER},
             ('iface_id', 'host_dev_name'), {
        'iface_id': ('e2', '', 'e 1'), 'host_dev_name': ('', 'TAP' + 'x' * 7, 'TAP' + 'x' * 8, 'a b', 'a/b', 'tap%d'),
        'guest_mac': ('', '01:00:00:00:00:00', '00:00:00:00:00:00', 'AA:bb:cc:dd:ee:FE', '02-00-00-00-00-01', '02:00:00:00:00'),
        'mtu': (0, 67, 68, 1500, 65535, 65536), 'rx_rate_limiter/bandwidth/size': NUMBERS,
        'tx_rate_limiter/ops/refill_time': (0, U64)}),
    Resource('PUT', '/serial', {'serial_out_path': 'serial.log', 'rate_limiter': BUCKET}, (), {
        'serial_out_path': ('', 'nowhere/x', '/dev/null'), 'rate_limiter/size': NUMBERS}),
    Resource('PUT', '/entropy', {'rate_limiter': LIMITER}, (), {'rate_limiter': ({}, {'ops': None}),
                                                                'rate_limiter/ops/size': (0, U64)}),
    Resource('PUT', '/logger', {'log_path': 'vm.log', 'level': 'Info', 'show_level': True, 'show_log_origin': True,
                                'module': 'api'}, (), {
        'log_path': ('', 'nowhere/x', '.', '/dev/null'),
        'level': ('Off', 'off', 'TRACE', 'wArN', 'Warning', 'Debug', 'Error', 'Notice', ''), 'module': ('', 'a\nb')}),
    Resource('PUT', '/metrics', {'metrics_path': 'metrics.log', 'emit_id': True, 'properties': {'a': 'b'}}, ('metrics_path',), {
        'metrics_path': ('', 'nowhere/x', '/dev/null'), 'properties': ({},)}),
    Resource('PUT', '/actions', {'action_type': 'SendCtrlAltDel'}, ('action_type',), {
        'action_type': ('FlushMetrics', 'Reset', 'sendctrlaltdel', '')}),
    Resource('PATCH', '/vm', {'state': 'Paused'}, ('state',), {'state': ('Resumed', 'paused', 'Running', '')}),
    Resource('PATCH', '/drives/d1', {'drive_id': 'd1', 'path_on_host': 'disk2', 'rate_limiter': LIMITER}, ('drive_id',), {
        'drive_id': ('d2', ''), 'path_on_host': ('', 'nowhere', 'empty', 'odd', '.'), 'rate_limiter': ({}, {'ops': None}),
        'rate_limiter/ops/size': (0, 1, U64)}),
    Resource('PATCH', '/network-interfaces/e1', {'iface_id': 'e1', 'rx_rate_limiter': LIMITER, 'tx_rate_limiter': LIMITER},
             ('iface_id',), {'iface_id': ('e2', ''), 'rx_rate_limiter': ({}, {'ops': None}),
                             'tx_rate_limiter/bandwidth/refill_time': (0, 1, U64)}),
    # What vmm does not have yet: right, and one field at a time missing.
    Resource('PUT', '/vsock', {'guest_cid': 3, 'uds_path': 'v.sock'}, ('guest_cid', 'uds_path')),
    Resource('PUT', '/balloon', {'amount_mib': 1, 'deflate_on_oom': False, 'stats_polling_interval_s': 1},
             ('amount_mib', 'deflate_on_oom')),
    Resource('PATCH', '/balloon', {'amount_mib': 1}, ('amount_mib',)),
    Resource('PATCH', '/balloon/statistics', {'stats_polling_interval_s': 1}, ('stats_polling_interval_s',)),
    Resource('PATCH', '/balloon/hinting/start', {'acknowledge_on_stop': True}),
    Resource('PUT', '/mmds', {'a': 'b'}),
    Resource('PATCH', '/mmds', {'a': 'b'}),
    Resource('PUT', '/mmds/config', {'network_interfaces': ['e1']}, ('network_interfaces',)),
    Resource('PUT', '/pmem/p1', {'id': 'p1', 'path_on_host': 'disk'}, ('id', 'path_on_host')),
    Resource('PATCH', '/pmem/p1', {'id': 'p1'}, ('id',)),
    Resource('PUT', '/hotplug/memory', {'total_size_mib': 1024}, ('total_size_mib',)),
    Resource('PATCH', '/hotplug/memory', {'requested_size_mib': 128}, ('requested_size_mib',)),
    Resource('PUT', '/snapshot/create', {'snapshot_path': 's', 'mem_file_path': 'm'}, ('snapshot_path', 'mem_file_path')),
    Resource('PUT', '/snapshot/load', {'snapshot_path': 's', 'mem_backend': {'backend_type': 'File', 'backend_path': 'm'}},
             ('snapshot_path', 'mem_backend')),
]
AFTER = BEFORE

METHODS = ('GET', 'PUT', 'PATCH', 'DELETE', 'POST', 'HEAD', 'OPTIONS')
PATHS = ('/', '//', '/version', '/version/', '/version/x', '//version', '/vm', '/vm/', '/vm/x', '/vm/config', '/vm/config/x', '/actions',
         '/actions/x', '/boot-source', '/machine-config', '/machine-config/x/y', '/cpu-config', '/drives', '/drives/', '/drives//',
         '/drives/d1', '/drives/d1/x', '/network-interfaces', '/network-interfaces/e1', '/network-interfaces/e1/x', '/serial',
         '/entropy', '/logger', '/metrics', '/vsock', '/vsock/vsock0', '/balloon', '/balloon/statistics', '/balloon/hinting/status',
         '/mmds', '/mmds/config', '/pmem', '/pmem/p1', '/hotplug/memory', '/snapshot/create', '/snapshot', '/nothing', '/VERSION')
IDS = ('a', 'A_9', 'a-b', 'a.b', 'a%5fb', 'é', '漢字_1', 'x' * 65, 'x' * 500, '%20', 'a%2fb')


def put(body, path, value):
    """A copy of the body with the member at path ("a/b") set, or MISSING."""
    head, _, rest = path.partition('/')
    copy = dict(body)
    if rest:
        copy[head] = put(copy[head], rest, value)
    elif value is MISSING:
        copy.pop(head, None)
    else:
        copy[head] = value
    return copy


def members(body, prefix=''):
    """Each member's path, those of embedded objects too."""
    for key, value in body.items():
        yield prefix + key, value
        if isinstance(value, dict):
            yield from members(value, prefix + key + '/')


def type_name(value):
    names = {type(None): 'null', bool: 'bool', int: 'number', float: 'fraction', str: 'string', list: 'array', dict: 'object'}
    return names[type(value)]


def short(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else '%s...(%d)' % (text[:30], len(text))


def variations(resource):
    """(what, body as text)"""
    body = resource.body
    yield 'right', json.dumps(body)
    yield 'least', json.dumps({key: body[key] for key in resource.least})
    yield 'of null', json.dumps({key: None for key in body})
    for name, text in (('empty', ''), ('no JSON', '{'), ('blank', ' '), ('null', 'null'), ('array', '[]'), ('string', '"x"'), ('number', '1'),
                       ('behind it', json.dumps(body) + 'x'), ('space around', '\n\t ' + json.dumps(body) + ' \r\n')):
        yield 'body ' + name, text
    yield 'extra', json.dumps({**body, 'unknown': 1})
    for path, value in members(body):
        yield path + ' missing', json.dumps(put(body, path, MISSING))
        for name, other in TYPES.items():
            if name != type_name(value):
                yield '%s is %s' % (path, name), json.dumps(put(body, path, other))
        if isinstance(value, dict):
            yield path + ' extra', json.dumps(put(body, path + '/unknown', 1))
    for key in body:
        yield key + ' twice', json.dumps(body)[:-1] + ', %s: %s}' % (json.dumps(key), json.dumps(body[key]))
    for path, values in resource.values.items():
        for value in values:
            yield '%s = %s' % (path, short(value)), json.dumps(put(body, path, value), ensure_ascii=False)


def body_cases(resources):
    for resource in resources:
        for what, text in variations(resource):
            yield '%s: %s' % (resource.name, what), [(resource.method, resource.path, text)]


def method_cases():
    for path in PATHS:
        for method in METHODS:
            for name, body in (('no body', None), ('body', '{}')):
                yield '%s %s: %s' % (method, path, name), [(method, path, body)]


def id_cases():
    for name in IDS:
        decoded = name if '%' not in name else {'a%5fb': 'a_b', '%20': ' ', 'a%2fb': 'a/b'}[name]
        label = name if len(name) < 20 else '%s*%d' % (name[0], len(name))
        yield 'PUT /drives/ID: id ' + label, [('PUT', '/drives/' + name, json.dumps(drive(decoded), ensure_ascii=False))]
        net = {'iface_id': decoded, 'host_dev_name': 'TAP'}
        yield 'PUT /network-interfaces/ID: id ' + label, [('PUT', '/network-interfaces/' + name, json.dumps(net, ensure_ascii=False))]


def sequences_before():
    """What depends on what was before."""
    root = {**drive('d1'), 'is_root_device': True}
    metrics = json.dumps({'metrics_path': 'metrics.log'})
    start = ('PUT', '/actions', json.dumps({'action_type': 'InstanceStart'}))
    kernel = ('PUT', '/boot-source', json.dumps({'kernel_image_path': 'kernel'}))
    mac = {'guest_mac': '02:00:00:00:00:01'}
    yield 'metrics twice', [('PUT', '/metrics', metrics)] * 2
    yield 'logger twice', [('PUT', '/logger', json.dumps({'level': 'Info'}))] * 2
    yield 'entropy twice', [('PUT', '/entropy', '{}')] * 2
    yield 'two root drives', [('PUT', '/drives/d1', json.dumps(root)), ('PUT', '/drives/d2', json.dumps({**root, 'drive_id': 'd2'}))]
    yield 'a root drive again', [('PUT', '/drives/d1', json.dumps(root))] * 2
    yield 'a drive becomes the root', [('PUT', '/drives/d0', json.dumps(drive('d0'))), ('PUT', '/drives/d1', json.dumps(drive('d1'))),
                                       ('PUT', '/drives/d1', json.dumps(root))]
    yield 'one file, two drives', [('PUT', '/drives/d1', json.dumps(drive('d1'))), ('PUT', '/drives/d2', json.dumps(drive('d2')))]
    yield 'sixteen drives', [('PUT', '/drives/d%d' % i, json.dumps(drive('d%d' % i))) for i in range(16)]
    yield 'one address, two cards', [
        ('PUT', '/network-interfaces/e1', json.dumps({'iface_id': 'e1', 'host_dev_name': 'TAP', **mac})),
        ('PUT', '/network-interfaces/e2', json.dumps({'iface_id': 'e2', 'host_dev_name': 'TAP2', **mac}))]
    yield 'a card again', [('PUT', '/network-interfaces/e1', json.dumps({'iface_id': 'e1', 'host_dev_name': 'TAP', **mac}))] * 2
    yield 'a CPU template, then a machine', [('PUT', '/cpu-config', '{"msr_modifiers": []}'),
                                             ('PUT', '/machine-config', '{"vcpu_count": 1, "mem_size_mib": 128}')]
    yield 'a start without a kernel, then with one', [start, kernel, start, start]
    yield 'a start of no kernel, then of one', [('PUT', '/boot-source', json.dumps({'kernel_image_path': 'text'})), start, kernel,
                                               start, ('GET', '/', None)]
    yield 'a start in 3 MiB', [kernel, ('PUT', '/machine-config', '{"vcpu_count": 1, "mem_size_mib": 3}'), start, ('GET', '/', None)]
    yield 'a start with tabs and init words', [
        ('PUT', '/boot-source', json.dumps({'kernel_image_path': 'kernel', 'boot_args': 'a\tb\n-- c'})),
        ('PUT', '/drives/d1', json.dumps({**root, 'partuuid': 'no uuid'})), start]


def sequences_after():
    keys = ('PUT', '/actions', json.dumps({'action_type': 'SendCtrlAltDel'}))
    pause = ('PATCH', '/vm', json.dumps({'state': 'Paused'}))
    resume = ('PATCH', '/vm', json.dumps({'state': 'Resumed'}))
    flush = ('PUT', '/actions', json.dumps({'action_type': 'FlushMetrics'}))
    yield 'Ctrl-Alt-Del', [keys]
    yield 'pause twice, keys, resume twice', [pause, pause, ('GET', '/', None), keys, resume, resume, ('GET', '/', None)]
    yield 'changes while paused', [pause, ('PATCH', '/drives/d1', json.dumps({'drive_id': 'd1', 'path_on_host': 'disk2'})), resume]
    yield 'Ctrl-Alt-Del ten times', [keys] * 10
    yield 'FlushMetrics', [flush]
    yield 'a second start', [('PUT', '/actions', json.dumps({'action_type': 'InstanceStart'}))]


def wire_cases():
    """(name, bytes, how many answers are wanted): a connection, and whether it goes on after that."""
    get = 'GET /version HTTP/1.%d\r\n%s\r\n'
    body = '{"vcpu_count": 1, "mem_size_mib": 128}'
    put_machine = 'PUT /machine-config HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s'
    for name, text, answers in (
            ('HTTP/1.0', get % (0, ''), 1), ('HTTP/1.0 keep-alive', get % (0, 'Connection: keep-alive\r\n'), 1),
            ('Connection: close', get % (1, 'Connection: close\r\n'), 1),
            ('Connection: close after a PUT', put_machine % ('Connection: close\r\n', len(body), body), 1),
            ('two requests at once', get % (1, '') * 2, 2), ('an absolute target', 'GET http://localhost/version HTTP/1.1\r\n\r\n', 1),
            ('a query', 'GET /version?x=1 HTTP/1.1\r\n\r\n', 1), ('no Host, no Accept', get % (1, ''), 1),
            ('another Accept', get % (1, 'Accept: image/png\r\n'), 1), ('another Content-Type', put_machine % ('Content-Type: text/x\r\n', len(body), body), 1),
            ('Accept-Encoding without identity', get % (1, 'Accept-Encoding: identity;q=0\r\n'), 1),
            ('a header without a colon', get % (1, 'nonsense\r\n'), 1), ('HTTP/2.0', 'GET / HTTP/2.0\r\n\r\n', 1),
            ('no version', 'GET /\r\n\r\n', 1), ('a small method', 'get / HTTP/1.1\r\n\r\n', 1),
            ('Content-Length -1', put_machine.replace('%d', '-%d') % ('', 1, ''), 1),
            ('Content-Length of words', 'PUT /machine-config HTTP/1.1\r\nContent-Length: ten\r\n\r\n', 1),
            ('a body of 51201 bytes', put_machine % ('', 51201, body + ' ' * (51201 - len(body))), 1),
            ('a header line of 1500 bytes', get % (1, 'X: %s\r\n' % ('x' * 1500)), 1),
            ('a target of 1500 bytes', 'GET /version/%s HTTP/1.1\r\n\r\n' % ('x' * 1500), 1)):
        yield 'wire: ' + name, text.encode(), answers
