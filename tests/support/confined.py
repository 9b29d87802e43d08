"""A Python program with as few rights as a container may have; it takes root to take them away.

No network, no /dev/shm and no folder that can be written, an unknown user without capabilities.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# A Python that lies in a home folder, which others cannot read, is mounted there once more.
CONFINED = """
if [ "$LOCKED" ]; then
    mount --bind "$PYTHON" /mnt && mount -t tmpfs -o mode=755 tmpfs "$LOCKED" && mkdir -p "$PYTHON" &&
    mount --move /mnt "$PYTHON" && mount -o remount,ro,bind "$LOCKED" || exit 1
fi
mount -t tmpfs -o ro,size=4k tmpfs /dev/shm && mount -o remount,ro,bind / || exit 1
exec setpriv --reuid 12345 --regid 12345 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs "$0" "$@"
"""
CHECK = """
import os
assert os.getuid() == 12345
assert not any(os.access(folder, os.W_OK) for folder in ("/tmp", "/dev/shm", "/", os.getcwd()))
"""


def locked_folder(folder: Path) -> str:
    """Return the topmost parent of a folder that others cannot enter, or an empty string."""
    return next((str(parent) for parent in [*reversed(folder.parents), folder] if not parent.stat().st_mode & 1), "")


def run_confined(program: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a Python program; skip the test where the rights cannot be taken away."""
    python = Path(sys.executable).resolve().parents[1]
    environ = {"PYTHON": str(python), "LOCKED": locked_folder(python), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    confined = ["unshare", "--mount", "--net", "sh", "-c", CONFINED]
    tools = shutil.which("unshare") and shutil.which("setpriv")
    if not tools or subprocess.run([*confined, "true"], env=environ, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    command = [*confined, sys.executable, "-c", CHECK + program, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environ)
