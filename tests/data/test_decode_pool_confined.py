"""The pool works with as few rights as a container may have."""

import tempfile
from pathlib import Path

from data.images import is_image_file
from support.confined import run_confined
from support.drawing import draw_faces

CODE = Path(__file__).parents[2] / "code"
DECODE = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from data.decode_pool import DecodePool, SharedPixels
from data.images import Preparation
paths = [Path(name) for name in sys.argv[2:]]
pool = DecodePool(paths, Preparation((8, 8)), SharedPixels.in_memory((len(paths), 8, 8, 3)), processes=2)
pool.wait()
assert not pool.bad, pool.bad
print(len(pool.pixels.any((1, 2, 3))), "decoded", end="")
"""


def test_the_pool_needs_no_rights_no_network_and_no_place_to_write() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        paths = [str(path) for path in draw_faces(Path(name) / "images", 2).rglob("*") if is_image_file(path.name)]
        done = run_confined(DECODE, str(CODE), *paths)
    assert (done.stdout, done.stderr) == ("14 decoded", "")
