# SPDX-License-Identifier: Apache-2.0
"""Python packages that no distribution has, in a virtual environment of the build directory. Imported by the tests."""
import os
import shutil
import subprocess
import sys


def install(directory, package):
    """Installs the package if it is not there yet. Returns the environment's directory of programs and None, or None and the
    reason why there is none."""
    programs, done = os.path.join(directory, 'bin'), os.path.join(directory, 'installed-' + package)
    if os.path.exists(done):
        return programs, None
    try:
        subprocess.run([sys.executable, '-m', 'venv', '--clear', directory], check=True, timeout=120, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT)
        subprocess.run([os.path.join(programs, 'pip'), 'install', '--quiet', '--disable-pip-version-check', '--retries', '1',
                        '--timeout', '15', package], check=True, timeout=400, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT)
    except (OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(directory, ignore_errors=True)
        said = (getattr(error, 'stdout', None) or b'').decode(errors='replace').strip().splitlines()
        return None, '%s cannot be installed: %s' % (package, (said[-1] if said else str(error))[:160])
    with open(done, 'w', encoding='utf-8'):
        return programs, None
