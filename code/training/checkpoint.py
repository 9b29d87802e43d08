"""Checkpoints that survive whatever happens to the machine. The rules:

1. A checkpoint is two files: the state, `step-000000120-epoch-000003.pt`, and its manifest, the same name with `.json`.
2. Each is written under a temporary name, flushed, synced, and renamed; the manifest last, then the folder is synced.
   A checkpoint exists if, and only if, its manifest is whole and the sha256 in it is that of the state.
3. What holds is never written over, and the two newest that hold are kept.
4. The state is frozen to bytes between two steps, and a thread writes the bytes while training goes on, one checkpoint
   at a time. What goes wrong there is raised in training, by the next call; the last call is `wait`.
5. Loading takes the newest that holds; one that is damaged is named, and the one before is used.
6. A checkpoint of other data or another configuration is refused, unless the user insists (`--resume force`) or it
   was made before the first step. On another processor, or with other versions, training goes on; that its bits may
   differ is said.
7. What a killed run left half-written is removed when the next one starts. Anything else in the folder, such as the
   `.sagemaker-uploading` of SageMaker's copy to S3, is not ours and is ignored.

The state is read back with `weights_only=True`: tensors, numbers, strings, lists and dicts, nothing else.
"""

import hashlib
import io
import json
import sys
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch.utils.serialization import config as serialization

from runtime.errors import CheckpointError
from runtime.files import replacing
from training.tracking import say

KEEP = 2
State = dict[str, Any]


class Checkpoints:
    """The checkpoints of one run, in one folder that belongs to it alone."""

    def __init__(
        self,
        folder: Path,
        fingerprint: Mapping[str, Any],
        runtime_versions: Mapping[str, Any] | None = None,
        *,
        every_seconds: float = float("inf"),
        every_steps: int = 0,
    ) -> None:
        """`fingerprint` says what the state depends on: configuration, data, classes. `surroundings` says what else its
        bits depend on. Both must be JSON.
        """
        self.folder = folder
        self.fingerprint: dict[str, Any] = json.loads(json.dumps(dict(fingerprint)))
        self.runtime_versions: dict[str, Any] = json.loads(json.dumps(dict(runtime_versions or {})))
        self.every_seconds, self.every_steps = every_seconds, every_steps
        self._holding: list[str] = []  # names of those that were read or committed here, oldest first
        self._saved_at = time.monotonic()
        self._frozen = io.BytesIO()  # used again and again, as new memory takes longer than what is copied into it
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[str] | None = None

    def is_due(self, step: int) -> bool:
        """Whether it is time for another, by the steps or by the clock."""
        if self._pending and self._pending.done():
            self.wait()
        by_steps = self.every_steps > 0 and step % self.every_steps == 0
        return by_steps or time.monotonic() - self._saved_at > self.every_seconds

    def save(self, step: int, epoch: int, state: State) -> None:
        """Freeze the state after `step` optimizer steps and `epoch` whole epochs, and commit it beside training."""
        name, started = f"step-{step:09}-epoch-{epoch:06}", time.monotonic()
        self.wait()
        self._saved_at = started
        if name in self._holding:
            return
        self._frozen.seek(0)
        # A checksum of torch's own would take longer than the copy, and sha256 says more.
        with serialization.patch("save.compute_crc32", False):  # type: ignore[attr-defined]
            torch.save(state, self._frozen)
        manifest = {
            "step": step,
            "epoch": epoch,
            "fingerprint": self.fingerprint,
            "surroundings": self.runtime_versions,
        }
        pause_seconds = time.monotonic() - started
        self._pending = self._writer.submit(self._commit, name, manifest, self._frozen.tell(), pause_seconds)

    def wait(self) -> None:
        """Return when everything saved is committed; raises what kept it from being."""
        pending, self._pending = self._pending, None
        if pending:
            say(pending.result())

    def _commit(self, name: str, manifest: dict[str, Any], size_bytes: int, pause_seconds: float) -> str:
        """Write both files in order; returns what it cost, as a line of the log. Runs in the thread."""
        started = time.monotonic()
        with self._frozen.getbuffer() as memory, memory[:size_bytes] as data:
            manifest |= {"size_bytes": size_bytes, "sha256": hashlib.sha256(data).hexdigest()}
            with replacing(self.folder / f"{name}.pt", "wb") as file:
                file.write(data)
        with replacing(self.folder / f"{name}.json") as file:
            file.write(_sealed(manifest))
        self._holding = [*self._holding, name][-KEEP:]
        for path in self._manifests():
            if path.stem <= name and path.stem not in self._holding:
                _remove(path)
        return (
            f"checkpoint: step={manifest['step']}; megabytes={size_bytes / 1e6:.1f}; "
            f"pause_seconds={pause_seconds:.3f}; write_seconds={time.monotonic() - started:.3f};"
        )

    def load(self, resume: str = "auto") -> State | None:
        """The newest state that holds, on the CPU, or None; with `resume` never, all are removed.

        Raises CheckpointError if the newest was made with other settings or data and `resume` is auto.
        """
        if resume == "never":
            for path in self._manifests():
                _remove(path)
        self._remove_strays()
        for path in self._manifests():
            problem, manifest, data = _read(path)
            if problem:
                print(f"warning: a checkpoint {problem}; trying the one before: {path}", file=sys.stderr)
                continue
            if resume == "auto" and manifest["step"] == 0 and manifest["fingerprint"] != self.fingerprint:
                _remove(path)  # rule 6: the data were mended after a refusal, say, and nothing is lost
                continue
            if resume == "auto":
                self._refuse_other(manifest["fingerprint"])
            if differences := _differences(manifest["surroundings"], self.runtime_versions):
                print(f"warning: resumed, but not to the very same bits ({differences}): {path}", file=sys.stderr)
            self._holding = [path.stem]
            state: State = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            return state
        return None

    def _manifests(self) -> list[Path]:
        """Newest first; names sort by step, then by epoch."""
        return sorted(self.folder.glob("step-*.json"), reverse=True)

    def _remove_strays(self) -> None:
        """Remove what a crash left: temporary files, and a state that never got its manifest or has just lost it."""
        states = [path for path in self.folder.glob("step-*.pt") if not path.with_suffix(".json").exists()]
        for path in [*states, *self.folder.glob(".step-*.tmp")]:
            path.unlink()

    def _refuse_other(self, theirs: Mapping[str, Any]) -> None:
        if differences := _differences(theirs, self.fingerprint):
            raise CheckpointError(
                f"the checkpoint belongs to another run ({differences}); pass --resume never to start anew, "
                f"--resume force to go on all the same, or give another SM_CHECKPOINT_DIR: {self.folder}"
            )


def _sealed(manifest: Mapping[str, Any]) -> str:
    """The text of a manifest, with a sha256 of all the rest in its last entry."""
    seal = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    return json.dumps({**manifest, "manifest_sha256": seal}, indent=2) + "\n"


def _read(path: Path) -> tuple[str, dict[str, Any], bytes]:
    """What is wrong with a checkpoint, or an empty string, its manifest and its state."""
    try:
        text = path.read_bytes()
        manifest = dict(json.loads(text))
        manifest.pop("manifest_sha256")
        data = path.with_suffix(".pt").read_bytes()
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"cannot be read ({type(error).__name__}: {error})", {}, b""
    if _sealed(manifest).encode() != text:
        return "has a damaged manifest", {}, b""
    if hashlib.sha256(data).hexdigest() != manifest["sha256"]:
        return "is damaged (sha256 differs)", {}, b""
    return "", manifest, data


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], most: int = 5) -> str:
    different = [key for key in sorted({*theirs, *ours}) if theirs.get(key) != ours.get(key)]
    return ", ".join(f"{key} was {theirs.get(key)!r}, is {ours.get(key)!r}" for key in different[:most])


def _remove(manifest: Path) -> None:
    """Manifest first, so that no manifest is ever without its state."""
    manifest.unlink()
    manifest.with_suffix(".pt").unlink(missing_ok=True)
