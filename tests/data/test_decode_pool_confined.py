"""The pool works with as few rights as a container may have: a test of its own, since it needs root to take them away.

No network, no /dev/shm and no folder that can be written, an unknown user without capabilities.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from data.images import is_image_file
from support.drawing import draw_faces

CODE = Path(__file__).parents[2] / "code"
# A Python that lies in a home folder, which others cannot read, is mounted there once more.
CONFINED = """
if [ "$LOCKED" ]; then
    mount --bind "$PYTHON" /mnt && mount -t tmpfs -o mode=755 tmpfs "$LOCKED" && mkdir -p "$PYTHON" &&
    mount --move /mnt "$PYTHON" && mount -o remount,ro,bind "$LOCKED" || exit 1
fi
mount -t tmpfs -o ro,size=4k tmpfs /dev/shm && mount -o remount,ro,bind / || exit 1
exec setpriv --reuid 12345 --regid 12345 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs "$0" "$@"
"""
DECODE = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from data.decode_pool import DecodePool, SharedPixels
from data.images import Preparation
assert os.getuid() == 12345
assert not any(os.access(folder, os.W_OK) for folder in ("/tmp", "/dev/shm", "/", os.getcwd()))
paths = [Path(name) for name in sys.argv[2:]]
pool = DecodePool(paths, Preparation((8, 8)), SharedPixels.in_memory((len(paths), 8, 8, 3)), processes=2)
pool.wait()
assert not pool.bad, pool.bad
print(len(pool.pixels.any((1, 2, 3))), "decoded", end="")
"""


def locked_folder(folder: Path) -> str:
    """Return the topmost parent of a folder that others cannot enter, or an empty string."""
    return next((str(parent) for parent in [*reversed(folder.parents), folder] if not parent.stat().st_mode & 1), "")


def test_the_pool_needs_no_rights_no_network_and_no_place_to_write() -> None:
    python = Path(sys.executable).resolve().parents[1]
    environ = {"PYTHON": str(python), "LOCKED": locked_folder(python), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    confined = ["unshare", "--mount", "--net", "sh", "-c", CONFINED]
    tools = shutil.which("unshare") and shutil.which("setpriv")
    if not tools or subprocess.run([*confined, "true"], env=environ, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        paths = [str(path) for path in draw_faces(Path(name) / "images", 2).rglob("*") if is_image_file(path.name)]
        command = [*confined, sys.executable, "-c", DECODE, str(CODE), *paths]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environ)
    assert (done.stdout, done.stderr) == ("14 decoded", "")
