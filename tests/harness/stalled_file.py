# SPDX-License-Identifier: Apache-2.0
"""A file whose reads and writes are answered when the test says so: one directory with one file, "disk", by FUSE (the kernel's
include/uapi/linux/fuse.h), without libfuse. Needs root and /dev/fuse.

    with StalledFile(directory, size) as file:
        file.stall()            what comes from now on waits
        file.wait_until_held()
        file.go_on()
"""
import ctypes
import errno
import os
import struct
import threading

LOOKUP, FORGET, GETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH = 1, 2, 3, 14, 15, 16, 17, 18, 20, 25
INIT, INTERRUPT, BATCH_FORGET = 26, 36, 42
DIRECT_IO = 1
ROOT, DISK = 1, 2
MNT_DETACH = 2
libc = ctypes.CDLL(None, use_errno=True)


class StalledFile:
    def __init__(self, directory, size):
        self.directory, self.content = directory, bytearray(size)
        self.path = os.path.join(directory, 'disk')
        self.changed, self.stalls, self.held = threading.Condition(), False, []

    def __enter__(self):
        self.fd = os.open('/dev/fuse', os.O_RDWR | os.O_CLOEXEC)
        text = 'fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other' % self.fd
        if libc.mount(b'stalled', self.directory.encode(), b'fuse', 6, text.encode()) != 0:
            os.close(self.fd)
            raise OSError(ctypes.get_errno(), 'mount')
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.go_on()
        libc.umount2(self.directory.encode(), MNT_DETACH)
        self.thread.join(10)
        os.close(self.fd)

    def stall(self):
        with self.changed:
            self.stalls = True

    def go_on(self):
        with self.changed:
            self.stalls = False
            held, self.held = self.held, []
        for request in held:
            self._transfer(*request)

    def wait_until_held(self, patience):
        with self.changed:
            return self.changed.wait_for(lambda: self.held, patience)

    def _attributes(self, node):
        size, mode = (0, 0o40755) if node == ROOT else (len(self.content), 0o100666)
        return struct.pack('<QQQQQQIIIIIIIIII', node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def _answer(self, unique, data=b'', error=0):
        try:
            os.write(self.fd, struct.pack('<IiQ', 16 + len(data), -error, unique) + data)
        except OSError:
            pass  # it was interrupted, or the file system is gone

    def _transfer(self, opcode, unique, offset, data):
        if opcode == READ:
            self._answer(unique, bytes(self.content[offset:offset + data]))
        else:
            self.content[offset:offset + len(data)] = data
            self._answer(unique, struct.pack('<II', len(data), 0))

    def _handle(self, opcode, unique, node, body):
        if opcode == INIT:
            self._answer(unique, struct.pack('<IIIIHHIIHHI28x', 7, 31, 0, 0, 16, 12, 1 << 17, 1, 0, 0, 0))
        elif opcode == LOOKUP and node == ROOT and body == b'disk\0':
            self._answer(unique, struct.pack('<QQQQII', DISK, 1, 3600, 3600, 0, 0) + self._attributes(DISK))
        elif opcode == LOOKUP:
            self._answer(unique, error=errno.ENOENT)
        elif opcode == GETATTR:
            self._answer(unique, struct.pack('<QII', 3600, 0, 0) + self._attributes(node))
        elif opcode == OPEN:
            self._answer(unique, struct.pack('<QII', 1, DIRECT_IO, 0))
        elif opcode == STATFS:
            self._answer(unique, struct.pack('<QQQQQIIII24x', 1 << 20, 1 << 20, 1 << 20, 1, 1, 4096, 255, 4096, 0))
        elif opcode in (RELEASE, FSYNC, FLUSH):
            self._answer(unique)
        elif opcode in (READ, WRITE):
            offset, size = struct.unpack_from('<QI', body, 8)
            data = size if opcode == READ else body[40:40 + size]
            with self.changed:
                if self.stalls:
                    self.held.append((opcode, unique, offset, data))
                    self.changed.notify_all()
                    return
            self._transfer(opcode, unique, offset, data)
        elif opcode == INTERRUPT:
            self._interrupt(struct.unpack_from('<Q', body)[0])
        elif opcode not in (FORGET, BATCH_FORGET):
            self._answer(unique, error=errno.ENOSYS)

    def _interrupt(self, unique):
        """Who waits is about to end; the kernel lets nobody go whom the file system has not answered."""
        with self.changed:
            mine = [request for request in self.held if request[1] == unique]
            self.held = [request for request in self.held if request[1] != unique]
        for request in mine:
            self._answer(request[1], error=errno.EINTR)

    def _serve(self):
        while True:
            try:
                request = os.read(self.fd, (1 << 17) + 4096)
            except OSError as e:
                if e.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    continue
                return  # ENODEV: unmounted
            _, opcode, unique, node = struct.unpack_from('<IIQQ', request)
            self._handle(opcode, unique, node, request[40:])
