# SPDX-License-Identifier: Apache-2.0
"""What tests of the command line share: TAP, running vmm, and looking at a tiny guest that works (test=work) and notices what is lost."""
import json
import os
import re
import subprocess
import sys
import time

PATIENCE = 180
# A whole line of a guest that works.
ROUND = r'^round \d+ [0-9a-f]+\r?\n'


class Tap:
    def __init__(self):
        self.count = self.failed = 0

    def report(self, good, name, why=''):
        self.count += 1
        self.failed += not good
        print('%sok %d - %s' % ('' if good else 'not ', self.count, name))
        for line in str(why).splitlines() if not good else []:
            print('# ' + line)
        sys.stdout.flush()
        return good

    def check(self, name, done, code=0, out=None, err=None):
        """out: a pattern, or a function of the text; err: a pattern, None for silence."""
        good = done.returncode == code
        good = good and (out is None or (bool(out(done.stdout)) if callable(out) else re.search(out, done.stdout) is not None))
        good = good and (done.stderr == '' if err is None else re.search(err, done.stderr) is not None)
        self.report(good, name, 'exit code %d, not %d; output: %s\nmessages: %s' % (done.returncode, code, done.stdout, done.stderr))
        return done

    def skip(self, name, why):
        self.count += 1
        print('ok %d - %s # SKIP %s' % (self.count, name, why), flush=True)

    def end(self):
        print('1..%d' % self.count)
        sys.exit(1 if self.failed else 0)


def eventually(look):
    end = time.monotonic() + PATIENCE
    while not look() and time.monotonic() < end:
        time.sleep(0.02)
    return look()


def nonce_of(text):
    return set(re.findall(r'^(?:work|round \d+) ([0-9a-f]+)\r?\n', text, re.M))


class Host:
    """A host of its own, as far as names of VMs go: a runtime and a state directory."""

    def __init__(self, program, work, name):
        self.program, self.work = program, work
        self.env = dict(os.environ)
        for key, folder in (('VMM_RUNTIME_DIR', 'run'), ('VMM_STATE_DIR', 'state')):
            place = os.path.join(work, name, folder)
            os.makedirs(place, mode=0o700, exist_ok=True)
            self.env[key] = place

    def vmm(self, *args, **keywords):
        keywords.setdefault('stdin', subprocess.DEVNULL)
        return subprocess.run([self.program, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=PATIENCE, text=True,
                              cwd=self.work, env=self.env, **keywords)

    def popen(self, *args, **keywords):
        keywords.setdefault('stdout', subprocess.PIPE)
        return subprocess.Popen([self.program, *args], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=self.work, env=self.env,
                                **keywords)

    def api(self, name, path):
        """What GET says; None: there is no such VM."""
        done = self.vmm('api', name, 'GET', path)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def said(self, name):
        return self.vmm('logs', name).stdout.replace('\r', '')

    def runs(self, name):
        vm = self.api(name, '/vm')
        return vm is not None and vm['state'] == 'running'

    def works(self, name, nonce=None):
        """The guest goes on, and is the one that it was."""
        before = len(re.findall(ROUND, self.said(name), re.M))
        eventually(lambda: 'FAIL' in self.said(name) or len(re.findall(ROUND, self.said(name), re.M)) > before)
        text = self.said(name)
        return ('FAIL' not in text and len(re.findall(ROUND, text, re.M)) > before and
                (nonce is None or nonce_of(text) == {nonce}))
