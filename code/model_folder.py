"""The files of a published model as bytes: where they are, and whether they belong together. No torch."""

import hashlib
from pathlib import Path
from typing import Any

from description import DESCRIPTION, Description
from runtime.archives import ArchiveError, members, open_archive, read_member, read_top_file
from runtime.errors import ModelError
from runtime.files import UnusableFile, existing_folder, read_regular
from runtime.json_files import parse_json
from runtime.process import free_memory_bytes

WEIGHTS, LEGACY, ARCHIVE = "model.safetensors", "best.pth", "model.tar.gz"
MAX_BYTES = 4 << 30  # of the weights, in a file or in an archive; anything larger is no model of this job
MAX_DESCRIPTION_BYTES = 10 << 20


def find(location: Path) -> Path:
    """Return the model folder, archive or best.pth at a location: itself, in it, or in its only run folder.

    Raises ModelError if there is none, or more than one.
    """
    if location.is_file():
        return location
    if not location.is_dir():
        raise ModelError(f"no model, expected a folder with {WEIGHTS} and {DESCRIPTION}, or a {ARCHIVE}: {location}")
    if (found := _model_in(location)) is not None:
        return found
    runs = [(run, found) for run in sorted(location.iterdir()) if run.is_dir() and (found := _model_in(run))]
    if len(runs) > 1:
        names = ", ".join(run.name for run, _ in runs)
        raise ModelError(f"several models ({names}), expected one; give the folder of one of them: {location}")
    if not runs:
        raise ModelError(f"no model, expected {WEIGHTS} and {DESCRIPTION}, {ARCHIVE} or {LEGACY}: {location}")
    return runs[0][1]


def _model_in(folder: Path) -> Path | None:
    """Return the folder if it holds a model, the archive or best.pth in it, or None."""
    if (folder / DESCRIPTION).is_file() or (folder / WEIGHTS).is_file():
        return folder
    return next((folder / name for name in (ARCHIVE, LEGACY) if (folder / name).is_file()), None)


def find_folder(location: Path, variable: str) -> Path:
    """Return the folder with the two files of a model at a location, which `variable` names in messages.

    The folder may be hostile: raises ModelError for an archive or a pickle, a link, and a file that is too large.
    """
    existing_folder(location, variable, f"{WEIGHTS} and {DESCRIPTION}")
    found = require_folder(find(location), "serving")
    for name, most in ((WEIGHTS, MAX_BYTES), (DESCRIPTION, MAX_DESCRIPTION_BYTES)):
        if (found / name).is_symlink():
            raise ModelError(f"{name} is a link, expected a regular file; copy what it points to: {found}")
        if (found / name).is_file() and (found / name).stat().st_size > most:
            raise ModelError(f"{name} is larger than the {most} bytes allowed: {found}")
    return found


def require_folder(found: Path, command: str) -> Path:
    """Return what `find` has found; raises ModelError for an archive or a pickle, which `command` does not read."""
    if not found.is_dir():
        is_archive = found.name.endswith(".tar.gz")
        remedy = "unpack it" if is_archive else "train again" if found.name == LEGACY else "give the folder of a model"
        raise ModelError(f"{command} reads {WEIGHTS} and {DESCRIPTION} only, found {found.name}; {remedy}: {found}")
    return found


def read_parts(source: Path) -> tuple[bytes, bytes]:
    """Return the description and the weights in a folder or a model.tar.gz; raises ModelError."""
    return _read_folder(source) if source.is_dir() else _read_archive(source)


def read_description(source: Path) -> tuple[Description, str]:
    """Return the description in a model folder or a model.tar.gz, and the sha256 of its model.json.

    The weights are not read. Raises ModelError for anything else.
    """
    if source.name == LEGACY:
        raise ModelError(f"{LEGACY} does not describe its classes, expected a folder with {DESCRIPTION}: {source}")
    try:
        text = read_regular(source / DESCRIPTION, MAX_DESCRIPTION_BYTES) if source.is_dir() else _archived(source)
        record = parse_json(text)
    except ArchiveError as error:
        raise ModelError(f"cannot be read as an archive ({error.reason}), expected a {ARCHIVE}: {source}") from None
    except OSError as error:
        raise ModelError(f"{DESCRIPTION} cannot be read ({error.strerror}): {source}") from None
    except ValueError as error:
        raise ModelError(_not_json(error, str(source))) from None
    return Description.from_dict(record, str(source)), sha256(text)


def _archived(path: Path) -> bytes:
    """Return the model.json in a model.tar.gz; raises ModelError if it has none, and as `open_archive` does."""
    found = read_top_file(path, DESCRIPTION, most_bytes=MAX_DESCRIPTION_BYTES, most_unpacked_bytes=MAX_BYTES)
    if found is None:
        raise ModelError(f"the archive lacks {DESCRIPTION} at its top level: {path}")
    return found


def parse_record(description: bytes, weights_sha256: str, where: str) -> dict[str, Any]:
    """Return the content of a model.json, whose checksum proves that it belongs to the weights and no bit changed."""
    try:
        record = parse_json(description)
    except ValueError as error:
        raise ModelError(_not_json(error, where)) from None
    if not isinstance(record, dict) or record.get("sha256") != weights_sha256:
        raise ModelError(f"{WEIGHTS} is damaged or belongs to another {DESCRIPTION} (sha256 differs): {where}")
    return record


def _not_json(error: ValueError, where: str) -> str:
    return f"{DESCRIPTION} is not JSON ({error}); train again or give another: {where}"


def sha256(data: bytes) -> str:
    """Return the checksum of a file's content in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _read_folder(folder: Path) -> tuple[bytes, bytes]:
    """Return the description and the weights in a folder."""
    for name in (DESCRIPTION, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(f"{name} is missing, the model is incomplete; train again or give another: {folder}")
    try:
        return read_regular(folder / DESCRIPTION, MAX_DESCRIPTION_BYTES), read_regular(folder / WEIGHTS, _most_bytes())
    except UnusableFile as error:
        raise ModelError(f"{error.strerror}: {error.filename}") from None


def _most_bytes() -> int:
    """Return how many bytes of weights are read: those that fit into memory twice, as bytes and as a network."""
    return min(MAX_BYTES, free_memory_bytes() // 2)


def _read_archive(path: Path) -> tuple[bytes, bytes]:
    """Return the description and the weights in a model.tar.gz; nothing is unpacked onto the disk."""
    found: dict[str, bytes] = {}
    limits = {DESCRIPTION: MAX_DESCRIPTION_BYTES, WEIGHTS: _most_bytes()}
    try:
        with open_archive(path) as archive:
            for member in members(archive, MAX_BYTES):
                name = member.name.removeprefix("./")
                if name not in limits or not member.isreg():
                    continue
                if name in found:
                    raise ModelError(f"{name} is in the archive twice: {path}")
                found[name] = read_member(archive, member, limits[name])
    except ArchiveError as error:
        raise ModelError(f"cannot be read as an archive ({error.reason}), expected a {ARCHIVE}: {path}") from None
    except OSError as error:
        raise ModelError(f"cannot be read as an archive ({error.strerror}), expected a {ARCHIVE}: {path}") from None
    if len(found) < 2:
        raise ModelError(f"the archive lacks {DESCRIPTION} or {WEIGHTS} at its top level: {path}")
    return found[DESCRIPTION], found[WEIGHTS]
