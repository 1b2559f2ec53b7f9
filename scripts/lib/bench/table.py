# SPDX-License-Identifier: Apache-2.0
"""What every part of scripts/bench writes into: the table of results, and the commands that gave them."""
import collections
import statistics
import sys

rows = []
commands = collections.OrderedDict()


class Unable(Exception):
    """A part cannot run on this machine."""


def row(part, what, value, against='', ratio=None, target=''):
    rows.append((part, what, value, against, '' if ratio is None else '%.2f' % ratio, target))


def say(text):
    print(text, file=sys.stderr, flush=True)


def remember(name, command):
    commands.setdefault(name, ' '.join(command))


def spread(values):
    return 'median %.2f, %.2f-%.2f of %d' % (statistics.median(values), min(values), max(values), len(values))
