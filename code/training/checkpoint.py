"""Checkpoints that survive a crash of the process or of the machine at any moment. The rules:

1. A checkpoint is two files: the state, `step-000000120-epoch-000003.pt`, and its manifest, the same name with `.json`.
2. Each is written to a temporary file, flushed, synced, and renamed; the manifest last, then the folder is synced.
   A checkpoint exists if, and only if, its manifest is intact and the sha256 in it is that of the state.
3. An intact checkpoint is never overwritten, and the two newest intact ones are kept.
4. The state is serialised between two steps, and a thread writes the bytes while training continues, one checkpoint at
   a time. An error in the thread is raised in training, by the next call; the last call is `wait`.
5. `load` takes the newest intact checkpoint. It names a damaged one and uses the one before it. One that is intact but
   does not fit a run (a missing part, a wrong type or shape) is damaged, too, unless the version in its manifest is
   another than that of the job: then the job ends with a message that names both versions.
6. A checkpoint made with different data or settings is rejected, unless `--resume force` is given or it was made
   before the first step. With a different processor or different versions training resumes, with a warning that the
   bits may differ.
7. Temporary files that a killed run left behind are removed when the next one starts. Any other file in the folder is
   ignored, also one whose name only begins like ours, such as `.sagemaker-uploading` of SageMaker's copy to S3.
8. A checkpoint of an earlier version is translated to the current names when it is read, and keeps its files. An option
   that it does not know has its default, which is how the earlier version behaved.
9. The weights mean the classes that they were trained on. So a checkpoint of other classes is rejected even with
   `--resume force`, and the message lists which are new and which are missing.
10. If something deletes the folder while a checkpoint is written, the run ends with a message that says so.
11. Images are the same if their contents are (data/digests.py). The state holds the digest of each image that was
   decoded before it was saved. A resumed run compares them as it decodes the images again: nothing is read earlier for
   it. An image that differs ends the run before it is trained on, before anything is published and before the next
   checkpoint, unless `--resume force` is given or no step was taken. Digests of images that are not decoded again yet
   are kept. A checkpoint without digests, of an earlier version, compares paths, labels and sizes only.
12. The number of parts of a batch and, with several on CPUs, the threads of each worker are fixed when a run starts
   (start.py). The number of workers is not: any may resume. Of several workers the first alone uses the folder.

The state is read with `weights_only=True`: tensors, numbers, strings, lists and dicts, nothing else.
"""

import hashlib
import io
import json
import re
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch.utils.serialization import config as serialization

from runtime.errors import CheckpointError, reason_of
from runtime.files import read_regular, replacing, target_of
from runtime.json_files import parse_json
from runtime.version import version
from training.fingerprint import adds_up_parts, explain_difference, upgrade_checkpoint, version_differences
from training.tracking import say

KEEP = 2
IN_RUN_FOLDER = "checkpoints"  # where they are without SM_CHECKPOINT_DIR
MAX_MANIFEST_BYTES = 64 << 20
_NAME = re.compile(r"step-[0-9]{9,}-epoch-[0-9]{6,}\.(json|pt)")  # of rule 1; no other file is read or removed
State = dict[str, Any]


class Checkpoints:
    """The checkpoints of one run, in one folder that belongs to it alone."""

    def __init__(
        self,
        folder: Path,
        fingerprint: Mapping[str, Any],
        runtime_versions: Mapping[str, Any] | None = None,
        *,
        recipe: str = "original",
        every_seconds: float = float("inf"),
        every_steps: int = 0,
    ) -> None:
        """Use a folder, which need not exist yet.

        `fingerprint` holds what the state depends on: settings, data, classes. `runtime_versions` holds what else its
        bits depend on. Both must be JSON. `recipe` is where the settings are from.
        A checkpoint is due after `every_seconds` or `every_steps`, 0 for never.
        """
        self.folder = folder
        self.fingerprint: dict[str, Any] = json.loads(json.dumps(dict(fingerprint)))
        self.runtime_versions: dict[str, Any] = json.loads(json.dumps(dict(runtime_versions or {})))
        self.recipe, self.every_seconds, self.every_steps = recipe, every_seconds, every_steps
        self._intact: list[str] = []  # names of those that were loaded or committed here, oldest first
        self._saved_at = time.monotonic()
        self._buffer = io.BytesIO()  # reused: allocating the memory takes longer than copying into it
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[str] | None = None

    def is_due(self, step: int) -> bool:
        """Return whether a checkpoint is due after `step` steps, by the number of steps or by the clock."""
        if self._pending and self._pending.done():
            self.wait()
        by_steps = self.every_steps > 0 and step % self.every_steps == 0
        return by_steps or time.monotonic() - self._saved_at > self.every_seconds

    def save(self, step: int, epoch: int, state: State) -> None:
        """Serialise the state after `step` optimizer steps and `epoch` complete epochs, and start to write it.

        Raises the OSError of an earlier write that failed.
        """
        name, started = f"step-{step:09}-epoch-{epoch:06}", time.monotonic()
        self.wait()
        self._saved_at = started
        if name in self._intact:
            return
        self._buffer.seek(0)
        # Torch's own checksum takes longer than the copy, and sha256 is stronger. From a GPU, copies by way of pinned
        # memory are several times as fast.
        options = {"save.compute_crc32": False, "save.use_pinned_memory_for_d2h": True}
        with serialization.patch(options):  # type: ignore[attr-defined]
            torch.save(state, self._buffer)
        manifest = {
            "version": version(),
            "step": step,
            "epoch": epoch,
            "recipe": self.recipe,
            "fingerprint": self.fingerprint,
            "runtime_versions": self.runtime_versions,
        }
        pause_seconds = time.monotonic() - started
        self._pending = self._writer.submit(self._commit, name, manifest, self._buffer.tell(), pause_seconds)

    def wait(self) -> None:
        """Wait until everything saved is committed; raises the OSError of a write that failed.

        Raises CheckpointError if the folder was deleted meanwhile (rule 10).
        """
        pending, self._pending = self._pending, None
        if pending:
            try:
                say(pending.result())
            except FileNotFoundError:
                raise CheckpointError(
                    "the checkpoint folder was deleted while a checkpoint was written; stop what deletes it, or give "
                    f"another SM_CHECKPOINT_DIR: {self.folder}"
                ) from None

    def _commit(self, name: str, manifest: dict[str, Any], size_bytes: int, pause_seconds: float) -> str:
        """Write both files in order and return the line of the log with their cost. Runs in the thread."""
        started = time.monotonic()
        with self._buffer.getbuffer() as memory, memory[:size_bytes] as data:
            manifest |= {"size_bytes": size_bytes, "sha256": hashlib.sha256(data).hexdigest()}
            with replacing(self.folder / f"{name}.pt", "wb") as file:
                file.write(data)
        with replacing(self.folder / f"{name}.json") as file:
            file.write(_sealed(manifest))
        self._intact = [*self._intact, name][-KEEP:]
        for path in find_manifests(self.folder):
            if path.stem <= name and path.stem not in self._intact:
                _remove(path)
        return (
            f"checkpoint: step={manifest['step']}; megabytes={size_bytes / 1e6:.1f}; "
            f"pause_seconds={pause_seconds:.3f}; write_seconds={time.monotonic() - started:.3f};"
        )

    def load(self, resume: str = "auto", restore: Callable[[State], None] | None = None) -> State | None:
        """Return the newest intact state, on the CPU, or None if there is none.

        `restore` takes the state and raises an error if it does not fit the run (rule 5). With `resume` "never" all
        checkpoints are removed. Raises CheckpointError if the newest was made with different data or settings and
        `resume` is "auto", or with other classes, and if there are checkpoints but none of them fits.
        """
        if resume == "never":
            for path in find_manifests(self.folder):
                _remove(path)
        self._remove_temporary_files()
        misfit = ""
        for path in find_manifests(self.folder):
            problem, manifest, data = _read(path)
            if not problem:
                try:
                    state: State = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
                    manifest, state = upgrade_checkpoint(manifest, state, self.fingerprint)
                    if self._reject_other(path, manifest, resume):
                        continue
                    if restore:
                        restore(state)
                except (MemoryError, torch.OutOfMemoryError, CheckpointError):
                    raise
                except Exception as error:  # torch and what a wrong state makes Python raise: errors of many types
                    problem = _explain_misfit(error, manifest, self.folder)
                    misfit = misfit or problem
            if problem:
                print(f"warning: a checkpoint {problem}; trying the one before: {path}", file=sys.stderr)
                continue
            theirs, adds_up = manifest["runtime_versions"], adds_up_parts(manifest, state)
            if differences := version_differences(theirs, self.runtime_versions, adds_up_parts=adds_up):
                print(f"warning: resumed, but the bits may differ ({differences}): {path}", file=sys.stderr)
            self._intact = [path.stem]
            return state
        if misfit:
            raise CheckpointError(
                f"every checkpoint {misfit}; pass --resume never to start from scratch, or give another "
                f"SM_CHECKPOINT_DIR: {self.folder}"
            )
        return None

    def _reject_other(self, path: Path, manifest: Mapping[str, Any], resume: str) -> bool:
        """Raise CheckpointError for a checkpoint of different data or settings; return True if it was removed."""
        difference = explain_difference(manifest["fingerprint"], self.fingerprint, is_forced=resume == "force")
        if difference and manifest["step"] == 0:
            _remove(path)  # rule 6: no step is lost, and the data or settings may have been corrected since
        elif difference:
            raise CheckpointError(f"{difference}, or give another SM_CHECKPOINT_DIR: {self.folder}")
        return difference is not None

    def _remove_temporary_files(self) -> None:
        """Remove what a crash left: temporary files, and states without a manifest."""
        states = [path for path in _find(self.folder, ".pt") if not path.with_suffix(".json").exists()]
        hidden = [path for path in self.folder.glob(".step-*.tmp") if _NAME.fullmatch(target_of(path.name) or "")]
        for path in [*states, *hidden]:
            path.unlink(missing_ok=True)


def find_manifests(folder: Path) -> list[Path]:
    """Return the manifests of a checkpoint folder, newest first; names sort by step, then by epoch."""
    return sorted(_find(folder, ".json"), reverse=True)


def _find(folder: Path, ending: str) -> list[Path]:
    return [path for path in folder.glob(f"step-*{ending}") if _NAME.fullmatch(path.name)]


def _explain_misfit(error: Exception, manifest: Mapping[str, Any], folder: Path) -> str:
    """Return why an intact checkpoint cannot be restored; raise CheckpointError if another version made it."""
    reason = f"it has no part {error}" if isinstance(error, KeyError) else reason_of(error)
    if (made_by := str(manifest.get("version", "0.1.0"))) != version():  # 0.1.0 did not write it
        raise CheckpointError(
            f"version {made_by} made the checkpoint, and version {version()} cannot read it ({reason}); resume with "
            f"that version, pass --resume never to start from scratch, or give another SM_CHECKPOINT_DIR: {folder}"
        ) from error
    return f"is damaged ({reason})"


def _sealed(manifest: Mapping[str, Any]) -> str:
    """Return the text of a manifest, whose last entry is the sha256 of all others."""
    seal = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    return json.dumps({**manifest, "manifest_sha256": seal}, indent=2) + "\n"


def _read(path: Path) -> tuple[str, dict[str, Any], bytes]:
    """Return what is wrong with a checkpoint, or an empty string, then its manifest and its state."""
    try:
        text = read_regular(path, MAX_MANIFEST_BYTES)
        manifest = dict(parse_json(text))
        manifest.pop("manifest_sha256")
        if _sealed(manifest).encode() != text:
            return "has a damaged manifest", {}, b""
        data = read_regular(path.with_suffix(".pt"), int(manifest["size_bytes"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"cannot be read ({type(error).__name__}: {error})", {}, b""
    if hashlib.sha256(data).hexdigest() != manifest.get("sha256"):
        return "is damaged (sha256 differs)", {}, b""
    return "", manifest, data


def _remove(manifest: Path) -> None:
    """Remove a checkpoint, its manifest first, so that no manifest is ever without its state."""
    manifest.unlink(missing_ok=True)
    manifest.with_suffix(".pt").unlink(missing_ok=True)
