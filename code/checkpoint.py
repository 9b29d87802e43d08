"""Checkpoints that survive whatever happens to the machine. The rules:

1. A checkpoint is two files: `step-000000120.pt`, the state, and `step-000000120.json`, its manifest.
2. Each is written under a temporary name, flushed, synced, and renamed; the manifest last, then the folder is synced.
   A checkpoint exists if, and only if, its manifest does and the sha256 in it is that of the state.
3. The two newest are kept; an older one goes only after a newer one is complete.
4. Loading takes the newest that holds; one that is damaged is named, and the one before is used.
5. A checkpoint of other data or another configuration is refused, unless the user insists (`--resume force`).
6. Anything else in the folder (half-written files, what SageMaker's upload leaves) is not ours and is ignored.

The state is read back with `weights_only=True`: tensors, numbers, strings, lists and dicts, nothing else.
"""

import hashlib
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from environment import replacing
from errors import CheckpointError

KEEP = 2
State = dict[str, Any]


class Checkpoints:
    """The checkpoints of one run, in one folder."""

    def __init__(self, folder: Path, fingerprint: Mapping[str, Any]) -> None:
        """`fingerprint` says what the state depends on: configuration, data, classes. It must be JSON."""
        self.folder = folder
        self.fingerprint: dict[str, Any] = json.loads(json.dumps(dict(fingerprint)))

    def save(self, step: int, state: State) -> Path:
        """Commit the state after `step` optimizer steps; returns its file."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        data = buffer.getvalue()
        path = self.folder / f"step-{step:09}.pt"
        manifest = {
            "file": path.name,
            "step": step,
            "size_bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "fingerprint": self.fingerprint,
        }
        with replacing(path, "wb") as file:
            file.write(data)
        with replacing(path.with_suffix(".json")) as file:
            file.write(json.dumps(manifest, indent=2) + "\n")
        self._remove_older(step)
        return path

    def load(self, resume: str = "auto", device: torch.device | None = None) -> State | None:
        """The newest state that holds, or None; with `resume` never, all are removed.

        Raises CheckpointError if the newest was made with other settings or data and `resume` is auto.
        """
        if resume == "never":
            self._clear()
            return None
        for manifest_path in sorted(self.folder.glob("step-*.json"), reverse=True):
            problem, manifest, data = self._read(manifest_path)
            if problem:
                print(f"warning: {problem}; trying the checkpoint before: {manifest_path}", file=sys.stderr)
                continue
            if resume == "auto":
                self._refuse_other(manifest)
            state: State = torch.load(io.BytesIO(data), map_location=device or "cpu", weights_only=True)
            return state
        return None

    def _read(self, manifest_path: Path) -> tuple[str, dict[str, Any], bytes]:
        """What is wrong with a checkpoint, or an empty string, its manifest and its bytes."""
        try:
            manifest = json.loads(manifest_path.read_text())
            data = (self.folder / Path(manifest["file"]).name).read_bytes()
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"a checkpoint cannot be read ({type(error).__name__}: {error})", {}, b""
        if hashlib.sha256(data).hexdigest() != manifest.get("sha256"):
            return "a checkpoint is damaged (sha256 differs)", {}, b""
        return "", manifest, data

    def _refuse_other(self, manifest: dict[str, Any]) -> None:
        theirs = manifest["fingerprint"]
        different = [
            key for key in sorted({*theirs, *self.fingerprint}) if theirs.get(key) != self.fingerprint.get(key)
        ]
        if different:
            pairs = ", ".join(
                f"{key} was {theirs.get(key)!r}, is {self.fingerprint.get(key)!r}" for key in different[:5]
            )
            raise CheckpointError(
                f"the checkpoint belongs to another run ({pairs}); pass --resume never to start anew, --resume force to"
                f" go on all the same, or give another SM_CHECKPOINT_DIR: {self.folder}"
            )

    def _remove_older(self, step: int) -> None:
        manifests = sorted(self.folder.glob("step-*.json"), reverse=True)
        for path in [path for path in manifests if path.stem <= f"step-{step:09}"][KEEP:]:
            self._remove(path)

    def _clear(self) -> None:
        for path in self.folder.glob("step-*.json"):
            self._remove(path)

    def _remove(self, manifest_path: Path) -> None:
        """Manifest first, so that no manifest is ever without its state."""
        manifest_path.unlink()
        manifest_path.with_suffix(".pt").unlink(missing_ok=True)
