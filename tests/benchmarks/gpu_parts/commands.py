"""`python code/train.py` on drawn images, undisturbed, killed and resumed, with or without a store cache."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from benchmarks.gpu_parts.check import BLACK
from support.drawing import draw_faces

CODE = Path(__file__).resolve().parents[3] / "code"
ALWAYS = "--lr 0.003 --checkpoint-steps 3 --log-interval 5 --name exp"


def draw_images(folder: Path, people: int) -> Path:
    """Draw profile folders of seven images each; black ones on the stand-in, see networks.pixels_of."""
    draw_faces(folder, people)
    for path in folder.rglob("*.jpg") if BLACK in os.environ else ():
        Image.new("RGB", (48, 64)).save(path)
    return folder


@dataclass
class Training:
    """A run in a folder of its own; `program` is what Python executes instead of train.py."""

    folder: Path
    images: Path
    flags: str
    store: Path | None = None
    program: tuple[str, ...] = (str(CODE / "train.py"),)
    environ: dict[str, str] = field(default_factory=dict)

    def finish(self, seconds: float) -> None:
        """Run to the end; raises RuntimeError with the end of the log if that fails or takes longer."""
        with self._start() as process:
            try:
                code = process.wait(max(1.0, seconds))
            except subprocess.TimeoutExpired:
                process.kill()
                raise RuntimeError(f"not done within {seconds:.0f} s") from None
        if code:
            raise RuntimeError(f"exit code {code}: {' '.join(self.log[-400:].split())}")

    def kill(self, steps: int, seconds: float) -> bool:
        """Start, send SIGKILL once a checkpoint of `steps` steps exists; returns False if the run ended before."""
        ends = time.monotonic() + seconds
        with self._start() as process:
            while process.poll() is None and time.monotonic() < ends and self.steps_saved < steps:
                time.sleep(0.005)
            process.kill()
        return process.returncode == -signal.SIGKILL and self.steps_saved >= steps

    def _start(self) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        environ = os.environ | self.environ | {
            "SM_CHANNEL_TRAIN": str(self.images),
            "SM_MODEL_DIR": str(self.folder / "model"),
            "SM_CHECKPOINT_DIR": str(self.folder / "checkpoints"),
            "SM_OUTPUT_DATA_DIR": str(self.folder / "output"),
        }  # fmt: skip
        environ |= {"SM_STORE_DIR": str(self.store)} if self.store else {}
        with (self.folder / "log").open("ab") as log:
            line = [sys.executable, *self.program, *ALWAYS.split(), *self.flags.split()]
            return subprocess.Popen(line, env=environ, stdout=log, stderr=log)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    @property
    def steps_saved(self) -> int:
        """Return the steps of the newest committed checkpoint; -1 without one."""
        return max(
            (int(path.name.split("-")[1]) for path in (self.folder / "checkpoints").glob("step-*.json")), default=-1
        )

    def digests(self) -> tuple[str, str]:
        """Return the sha256 of the model and of the metrics."""
        files = (self.folder / "model" / "model.safetensors", self.folder / "output" / "exp" / "metrics.jsonl")
        first, second = (hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in files)
        return first, second
