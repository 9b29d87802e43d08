"""The store cache: a folder with decoded images, so that the next job on the same data does not decode. The rules:

1. An entry is two files: `KEY.pixels`, the array as it lies in memory, and `KEY.json`, its manifest.
2. KEY is a digest of everything the pixels depend on: name and content of every file, size, crop and fit of the
   preparation, and the versions of the decoders. Modification times do not count: SageMaker copies the data each time.
   The names hold the first half of KEY, the manifest holds it whole, and the whole is compared. An array whose images
   changed between the computation of KEY and decoding gets no manifest.
3. The array is filled in a temporary file, synced and renamed; the manifest is written last. An entry is valid if, and
   only if, it has a manifest whose sha256 is that of the array. Anything else is ignored and decoded again.
4. Jobs that fill the same entry at the same time each have their own locked temporary file. The last to finish wins;
   all have the same bits. A temporary file, or an array without a manifest, that nobody has locked was left by a
   killed job and is removed.
5. The three entries used last are kept. A job that has one open can read it to the end even if it is removed.
6. The folder may be shared: a file whose name is none of these is left alone.

A folder that cannot be read or written costs time and prints a warning; it never stops a run.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import re
import sys
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import PIL
from PIL import features

from data.decode_pool import SharedPixels
from data.digests import DigestArray, as_array, file_digests
from data.images import MAX_BYTES, Pixels, Preparation, is_outdated
from runtime.errors import ImageError
from runtime.files import ANY_SIZE, RANDOM_CHARACTERS, fsync_folder, open_regular, replacing
from runtime.json_files import read_json_object
from runtime.version import version

KEEP = 3  # entries
FORMAT = 1  # increase when images.py makes different pixels from the same file
_SUFFIX = ".pixels.tmp"
_MANIFEST, _ARRAY = re.compile(r"[0-9a-f]{32}\.json"), re.compile(r"[0-9a-f]{32}\.pixels")
_TEMPORARY = re.compile(rf"\.{RANDOM_CHARACTERS}{re.escape(_SUFFIX)}")
_CHUNK = 1 << 24  # bytes


class StoreCache:
    """The entry of one data set in one preparation."""

    def __init__(self, folder: Path, names: Sequence[str], paths: Sequence[Path], preparation: Preparation) -> None:
        """Compute the key of the entry from the `names` of the images and their `paths`; reads every file once."""
        digests = list(file_digests(paths))
        self.digests = as_array(digests)  # of all images
        self.key = _entry_key(names, paths, digests, preparation)
        self.array, self.manifest = folder / f"{self.key[:32]}.pixels", folder / f"{self.key[:32]}.json"
        self.paths, self.shape = paths, (len(paths), *preparation.size, 3)
        self._temporary: IO[bytes] | None = None
        self._loaded: IO[bytes] | None = None

    @property
    def descriptor(self) -> int:
        """Return a descriptor of the array that was loaded; `discard` closes it."""
        assert self._loaded, "descriptor follows load"
        return self._loaded.fileno()

    def load(self) -> tuple[Pixels, dict[int, ImageError]] | None:
        """Return the array (n, height, width, 3), mapped read-only, and the bad images by index; None if not valid.

        Prints a warning if the entry is damaged.
        """
        try:
            manifest = read_json_object(self.manifest)
            self.discard()
            self._loaded = open_regular(self.array, math.prod(self.shape))
            weakref.finalize(self, self._loaded.close)
            pixels: Pixels = np.memmap(self._loaded, np.uint8, "r", shape=self.shape)
            bad = dict(self._read_bad(index, *found) for index, found in manifest["bad"].items())
            if manifest.get("key", self.key) != self.key:  # version 0.1.0 did not write it
                raise ValueError("it is of other images")
            if any(is_outdated(error) for error in bad.values()):  # of a version that read fewer formats
                return None
            if manifest["sha256"] != _digest(pixels):
                raise ValueError("sha256 differs")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            print(f"warning: the store cache is damaged ({reason}), decoding again: {self.array}", file=sys.stderr)
            return None
        with contextlib.suppress(OSError):  # marks it as used; the folder may be read-only
            os.utime(self.manifest)
        return pixels, bad

    def create(self) -> SharedPixels | None:
        """Create an empty array in a temporary file with its disk space reserved; on failure, warn and return None."""
        folder = self.array.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _remove_stale(folder)
            self._temporary = _create_locked(folder)
            os.posix_fallocate(self._temporary.fileno(), 0, math.prod(self.shape))
            return SharedPixels.in_file(self._temporary, self.shape)
        except OSError as error:
            self.discard()
            self._warn(error)
            return None

    def commit(self, pixels: Pixels, bad: Mapping[int, ImageError], digests: DigestArray) -> None:
        """Rename the filled array to its final name, then write the manifest; on failure, warn.

        `digests` (n, 32) are those of the decoded files; if they are not those of the key, discard the array and warn.
        """
        assert self._temporary, "commit follows create, once"
        if (digests != self.digests).any():
            self.discard()
            print(
                f"warning: images changed while they were read, so the store cache is not written: {self.array}",
                file=sys.stderr,
            )
            return
        if any(error.code == "too_expensive" for error in bad.values()):  # the limits are not a part of the key
            self.discard()
            print(
                f"warning: an image is too expensive, so the store cache is not written: {self.array}", file=sys.stderr
            )
            return
        manifest = {
            "version": version(),
            "key": self.key,
            "sha256": _digest(pixels),
            "bad": {index: self._reason(index, error) for index, error in bad.items()},
        }
        temporary, self._temporary = self._temporary, None
        try:
            os.fsync(temporary.fileno())  # this includes what was written through the mapping
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
        """Remove the temporary file of an array that will not be committed, and close the one that was loaded."""
        if self._loaded:
            self._loaded.close()
            self._loaded = None
        if self._temporary:
            _close(self._temporary)
            self._temporary = None

    def _warn(self, error: OSError) -> None:
        print(f"warning: cannot write to the store cache ({error.strerror}): {self.array}", file=sys.stderr)

    def _reason(self, index: int, error: ImageError) -> tuple[str, str]:
        return str(error).removesuffix(f": {self.paths[index]}"), error.code

    def _read_bad(self, text: str, reason: str, code: str) -> tuple[int, ImageError]:
        """Return the index of a bad image and its error, from the manifest; raises ValueError if there is no such."""
        index = int(text)
        if not 0 <= index < len(self.paths):
            raise ValueError(f"there is no image {index}")
        return index, ImageError(f"{reason}: {self.paths[index]}", code)


def _create_locked(folder: Path) -> IO[bytes]:
    """Create a temporary file and lock it; try again if another job removed it as stale before it was locked."""
    while True:
        temporary: IO[bytes] = tempfile.NamedTemporaryFile(prefix=".", suffix=_SUFFIX, dir=folder)  # noqa: SIM115
        fcntl.flock(temporary, fcntl.LOCK_EX)
        if Path(temporary.name).exists():
            return temporary
        _close(temporary)


def _close(temporary: IO[bytes]) -> None:
    with contextlib.suppress(FileNotFoundError):  # it was renamed, and closing would remove the old name
        temporary.close()


def _entry_key(names: Sequence[str], paths: Sequence[Path], digests: Sequence[bytes], preparation: Preparation) -> str:
    """Return the digest of rule 2; a file that cannot be read counts with its error."""
    made_by = [FORMAT, PIL.__version__, *(features.version(name) for name in _decoders(paths))]
    key = hashlib.sha256(json.dumps([preparation.size, preparation.crop, made_by, *_fit(preparation)]).encode())
    for name, path, digest in zip(names, paths, digests, strict=True):
        key.update(f"\n{name}\t{digest.hex() or _read_error(path)}".encode())
    return key.hexdigest()


def _decoders(paths: Iterable[Path]) -> list[str]:
    """Return the libraries that decode; those of AVIF and TIFF only with such files, as 0.1.0 did not read them."""
    endings = {path.suffix.lower() for path in paths}
    further = {"avif": {".avif"}, "libtiff": {".tif", ".tiff"}}
    return ["libjpeg_turbo", "zlib", "webp", *(name for name, its in further.items() if its & endings)]


def _fit(preparation: Preparation) -> list[Any]:
    """Return what a key holds of the fit: nothing for stretch, as in 0.1.0, and for pad the colour of the padding."""
    if preparation.fit == "stretch":
        return []
    return [preparation.fit, *(preparation.fill if preparation.fit == "pad" else ())]


def _read_error(path: Path) -> str:
    try:
        open_regular(path, MAX_BYTES).close()
    except OSError as error:
        return f"errno {error.errno}"
    return "errno 0"  # it could not be read a moment ago


def _digest(pixels: Pixels) -> str:
    digest, flat = hashlib.sha256(), pixels.reshape(-1)
    for start in range(0, len(flat), _CHUNK):
        digest.update(flat[start : start + _CHUNK].data)
    return digest.hexdigest()


def _remove_stale(folder: Path) -> None:
    """Remove what killed jobs left, and entries until one more fits: those used longest ago."""
    for path in (*_find(folder, _TEMPORARY), *filter(_lacks_manifest, _find(folder, _ARRAY))):
        with contextlib.suppress(OSError), open_regular(path, ANY_SIZE) as file:
            # An OSError means that it is locked, so its job is running. It keeps the lock until the manifest is there.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _lacks_manifest(path):
                path.unlink()
    with contextlib.suppress(OSError):  # another job does the same at this moment
        manifests = sorted(_find(folder, _MANIFEST), key=lambda path: path.stat().st_mtime, reverse=True)
        for manifest in manifests[KEEP - 1 :]:
            manifest.unlink()  # first, so that no manifest is ever without its array
            manifest.with_suffix(".pixels").unlink(missing_ok=True)


def _lacks_manifest(path: Path) -> bool:
    return not path.with_suffix(".json").exists()


def _find(folder: Path, names: re.Pattern[str]) -> list[Path]:
    return [path for path in folder.glob("*") if names.fullmatch(path.name)]
