# SPDX-License-Identifier: Apache-2.0
"""What the drivers of Python clients share (drive_*.py). Each is run by clients.py, with the client's packages, as

    DRIVER FIRECRACKER KERNEL DISK DIRECTORY

and takes machines through their lives by the client's public calls. A step is a function that raises where something is not as it
should be; it becomes a line of JSON: test, result, what was said.
"""
import json
import socket
import sys
import traceback

program, kernel, disk, directory = sys.argv[1:]


def run(steps):
    """steps: (test, function), in order; one that fails does not end the others."""
    for test, function in steps:
        try:
            result, said = "pass", str(function() or "")
        except Exception:
            result, said = "fail", traceback.format_exc()
        print(json.dumps({"test": test, "result": result, "said": said}), flush=True)


def same(got, wanted):
    assert got == wanted, f"{got!r}, not {wanted!r}"


def taps(prefix):
    return [name for _, name in socket.if_nameindex() if name.startswith(prefix)]
