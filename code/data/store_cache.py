"""Prepared images kept in a folder, so that the next job on the same data starts warm. The rules:

1. A kept store is two files: `KEY.pixels`, the array as it lies in memory, and `KEY.json`, its manifest.
2. KEY is a digest of everything the array depends on: path and content of every file, size and crop of the
   preparation, and the versions of the decoders. Modification times are not: SageMaker copies the data anew each time.
3. The array is filled in a temporary file, synced, and renamed; the manifest is written last. A kept store exists if,
   and only if, its manifest does and the sha256 in it is that of the array. Whatever else is there is decoded anew.
4. Jobs that fill the same store at once each have a temporary file of their own, locked; the last to finish wins, and
   all have the same bits. A temporary file without a lock is what a killed job left, and goes.
5. The three that were used last stay. A job that has one open keeps it, whatever happens to its name.

A folder that fails is a cold start and a warning, never the end of a run: nothing but time depends on it.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
import PIL
from PIL import features

from data.images import Pixels, Preparation
from runtime.errors import ImageError
from runtime.files import fsync_folder, replacing
from runtime.process import cpu_count

KEEP = 3
FORMAT = 1  # count up when images.py makes other pixels of the same file
_SUFFIX = ".pixels.tmp"
_CHUNK = 1 << 24


class StoreCache:
    """One data set in one preparation, in a folder."""

    def __init__(self, folder: Path, root: Path, paths: Sequence[Path], preparation: Preparation) -> None:
        """Reads every file below `root` once, to know their contents."""
        key = _store_key(root, paths, preparation)
        self.array, self.manifest = folder / f"{key}.pixels", folder / f"{key}.json"
        self.paths, self.shape = paths, (len(paths), *preparation.size, 3)
        self._temporary: IO[bytes] | None = None

    def load(self) -> tuple[Pixels, dict[int, ImageError]] | None:
        """The array, mapped read-only, and why some rows hold no image; None if there is none that holds."""
        try:
            manifest = json.loads(self.manifest.read_text())
            pixels: Pixels = np.memmap(self.array, np.uint8, "r", shape=self.shape)
            bad = {int(row): self._error(int(row), *found) for row, found in manifest["bad"].items()}
            if manifest["sha256"] != _digest(pixels):
                raise ValueError("sha256 differs")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            print(f"warning: kept images are damaged ({error}), decoding anew: {self.array}", file=sys.stderr)
            return None
        with contextlib.suppress(OSError):  # a folder that is read-only; else the newest are those used last
            os.utime(self.manifest)
        return pixels, bad

    def create(self) -> Pixels | None:
        """An empty array in a temporary file, all of its room reserved; None, and a warning, if that cannot be had."""
        folder = self.array.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _tidy(folder)
            self._temporary = _create_locked(folder)
            os.posix_fallocate(self._temporary.fileno(), 0, math.prod(self.shape))
            return np.memmap(self._temporary, np.uint8, "r+", shape=self.shape)
        except OSError as error:
            self.discard()
            self._warn(error)
            return None

    def commit(self, pixels: Pixels, bad: Mapping[int, ImageError]) -> None:
        """Give the filled array its name, then its manifest."""
        assert self._temporary, "what was created is committed, once"
        manifest = {"sha256": _digest(pixels), "bad": {row: self._reason(row, error) for row, error in bad.items()}}
        temporary, self._temporary = self._temporary, None
        try:
            os.fsync(temporary.fileno())  # what was written through the map, too
            os.fchmod(temporary.fileno(), 0o644)
            Path(temporary.name).replace(self.array)
            fsync_folder(self.array.parent)
            with replacing(self.manifest) as file:
                file.write(json.dumps(manifest) + "\n")
        except OSError as error:
            self._warn(error)
        finally:
            _close(temporary)

    def discard(self) -> None:
        """Remove the temporary file of an array that will not be committed."""
        if self._temporary:
            _close(self._temporary)
            self._temporary = None

    def _warn(self, error: OSError) -> None:
        print(f"warning: the images could not be kept ({error.strerror}): {self.array}", file=sys.stderr)

    def _reason(self, row: int, error: ImageError) -> tuple[str, str]:
        return str(error).removesuffix(f": {self.paths[row]}"), error.code

    def _error(self, row: int, reason: str, code: str) -> ImageError:
        return ImageError(f"{reason}: {self.paths[row]}", code)


def _create_locked(folder: Path) -> IO[bytes]:
    """A temporary file that is locked and has its name: before it was locked, another job may have tidied it up."""
    while True:
        temporary: IO[bytes] = tempfile.NamedTemporaryFile(prefix=".", suffix=_SUFFIX, dir=folder)  # noqa: SIM115
        fcntl.flock(temporary, fcntl.LOCK_EX)
        if Path(temporary.name).exists():
            return temporary
        _close(temporary)


def _close(temporary: IO[bytes]) -> None:
    with contextlib.suppress(FileNotFoundError):  # it has got its name, and is not there to be removed
        temporary.close()


def _store_key(root: Path, paths: Sequence[Path], preparation: Preparation) -> str:
    """Rule 2. A file that cannot be read is part of the key as such."""
    made_by = [FORMAT, PIL.__version__, *(features.version(name) for name in ("libjpeg_turbo", "zlib", "webp"))]
    digest = hashlib.sha256(json.dumps([preparation.size, preparation.crop, made_by]).encode())
    with ThreadPoolExecutor(cpu_count()) as pool:
        for path, content in zip(paths, pool.map(_file_digest, paths), strict=True):
            digest.update(f"\n{path.relative_to(root).as_posix()}\t{content}".encode())
    return digest.hexdigest()[:32]


def _file_digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return f"errno {error.errno}"


def _digest(pixels: Pixels) -> str:
    digest, flat = hashlib.sha256(), pixels.reshape(-1)
    for start in range(0, len(flat), _CHUNK):
        digest.update(flat[start : start + _CHUNK].data)
    return digest.hexdigest()


def _tidy(folder: Path) -> None:
    """Make room for one more: remove what killed jobs left, and all but the stores that were used last."""
    for path in folder.glob(f".*{_SUFFIX}"):
        with contextlib.suppress(OSError), path.open("rb") as file:  # OSError: locked, so its job is alive
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    with contextlib.suppress(OSError):  # another job tidies up at the same time
        manifests = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        for manifest in manifests[KEEP - 1 :]:
            manifest.unlink()  # first, so that no manifest is ever without its array
            manifest.with_suffix(".pixels").unlink(missing_ok=True)
