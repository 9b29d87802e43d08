"""`python code/train.py` on a few drawn images, with one worker or several, which gets signals at chosen moments.

A moment is a file operation that the kernel reports from the checkpoint folder (inotify), not a time. Only while the
command starts there is no file operation: then the moment is a fraction of the time that an undisturbed start takes, or
the first file operation if that is earlier.
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from inotify_simple import Event, INotify, flags

from support.processes import Process, wait_until

CODE = Path(__file__).parents[2] / "code"
STEPS_PER_EPOCH, EPOCHS = 5, 5
# Everything that has a state or is random, in two runs.
FLAGS = (
    "--model TinyModel --optimizer AdamW --ema-decay 0.9 --schedule onecycle --augmentation StrongAugmentation "
    "--mixup 0.2 --patience 5 --freeze 3 --freeze-epochs 2 --layer-decay 0.8 --head-lr 0.006",
    "--model BaseModel --optimizer SGD --momentum 0.9 --augmentation CustomAugmentation --sampler balanced "
    "--head factored --cutmix 1 --clip-norm 1 --freeze all --freeze-epochs 1 --head-lr 0.01",
)
PARTS = " --parts 4"  # what a run needs to have the same bits on any number of workers
ALWAYS = (
    f"--epochs {EPOCHS} --batch-size 8 --valid-batch-size 8 --resize 32 24 --val-ratio 0.5 --lr 0.003 "
    "--checkpoint-steps 1 --log-interval 1 --device cpu --threads 1 --min-precision 0.4"
)
# The file operations of a checkpoint in their order, as the kernel reports them.
SAVE_EVENTS = (
    (".step-", ".pt.", flags.CREATE),
    (".step-", ".pt.", flags.MODIFY),
    ("step-", ".pt", flags.MOVED_TO),
    (".step-", ".json.", flags.CREATE),
    (".step-", ".json.", flags.MODIFY),
    ("step-", ".json", flags.MOVED_TO),
    ("step-", ".json", flags.DELETE),
)
COMMITTED = SAVE_EVENTS[5]
MOST_SECONDS = 600  # for work of seconds, on a machine with much other work
ORPHAN_SECONDS = 10  # until no process is left of a command that has ended, on such a machine
WATCHED = flags.CREATE | flags.MODIFY | flags.MOVED_TO | flags.DELETE


@dataclass(frozen=True)
class Moment:
    """`kind` is boot, step, validation, save or publish; the other fields choose an event of it and a delay."""

    kind: str
    event: tuple[str, str, flags] = COMMITTED
    skip: int = 0
    delay_seconds: float = 0.0

    @classmethod
    def draw(cls, kind: str, draw: random.Random, boot_seconds: float) -> "Moment":
        """Draw a random moment of a kind."""
        if kind == "boot":
            return cls(kind, delay_seconds=draw.uniform(0, boot_seconds))
        event = draw.choice(SAVE_EVENTS) if kind == "save" else COMMITTED
        skip = draw.randrange(4) if kind in ("step", "save") else 0
        return cls(kind, event, skip, draw.uniform(0, 0.01) if kind in ("step", "validation") else 0.0)

    def matches(self, event: Event) -> bool:
        """Return whether an event of the kernel is of this kind."""
        if self.kind == "boot":
            return True  # the start was faster than the undisturbed one
        if self.kind == "publish":
            return bool(event.name.startswith(".model."))
        start, ending, mask = self.event
        if not (event.mask & mask and event.name.startswith(start) and ending in event.name):
            return False
        if self.kind == "save":
            return True
        _, step, _, epoch = Path(event.name).stem.split("-")
        is_validating = int(step) == (int(epoch) + 1) * STEPS_PER_EPOCH  # all steps are done, the epoch is not complete
        return is_validating == (self.kind == "validation") and int(step) > 0


class Job:
    """One run, and its processes one after the other."""

    def __init__(self, folder: Path, data: Path, flags: str) -> None:
        self.folder, self.flags = folder, flags
        self.prefix: list[str] = []  # a command that executes the job
        self.workers = 1  # of the next start
        self.seconds_to_end: list[float] = []  # from a signal to the end of the process
        for name in ("model", "checkpoints", "output"):
            (folder / name).mkdir(parents=True)
        self.environ = {
            "PATH": os.environ["PATH"],
            "OMP_NUM_THREADS": "1",
            "SM_CHANNEL_TRAIN": str(data),
            "SM_MODEL_DIR": str(folder / "model"),
            "SM_CHECKPOINT_DIR": str(folder / "checkpoints"),
            "SM_OUTPUT_DATA_DIR": str(folder / "output" / "data"),
            "SM_OUTPUT_DIR": str(folder / "output"),
        }

    def start(self) -> subprocess.Popen[str]:
        """Start a process of the run, which appends to the log."""
        line = [*self.prefix, sys.executable, str(CODE / "train.py"), *ALWAYS.split(), *self.flags.split()]
        if self.workers > 1:
            line += ["--nproc-per-node", str(self.workers)]
        log = (self.folder / "log").open("a")
        with log:
            return Process(line, env=self.environ, stdout=log, stderr=subprocess.STDOUT, text=True)

    def hit(self, moment: Moment, *numbers: signal.Signals, worker: int | None = None) -> int:
        """Start, send signals at a moment before the end of the run, and return the exit code.

        They are sent to the process that was started, or to the worker of a rank. Nothing that it started is left then.
        """
        with self.watched() as (process, happened):
            if worker is not None and moment.kind == "boot":
                wait_until(lambda: self._worker(process, worker) is not None, MOST_SECONDS)
            skipped = 0
            for event in happened(moment.delay_seconds) if moment.kind == "boot" else happened():
                skipped += moment.matches(event)
                if skipped > moment.skip:
                    time.sleep(0 if moment.kind == "boot" else moment.delay_seconds)
                    break
            assert process.poll() is None, f"ended before {moment}: {self.log[-2000:]}"
            pid = process.pid if worker is None else self._worker(process, worker)
            assert pid, f"worker {worker} ended before {moment}: {self.log[-2000:]}"
            for number in numbers:
                os.kill(pid, number)
            started = time.monotonic()
            code = process.wait(MOST_SECONDS)
            self.seconds_to_end.append(time.monotonic() - started)
            wait_until(lambda: not self.processes(), ORPHAN_SECONDS)
            return code

    def processes(self) -> list[int]:
        """Return the process ids of all processes of the run: those with its folders in their environment."""
        mark = os.fsencode(f"SM_MODEL_DIR={self.folder / 'model'}") + b"\0"
        return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if mark in _read(path)]

    def _worker(self, process: subprocess.Popen[str], rank: int) -> int | None:
        """Return the process id of a worker, None while it is not started."""
        for children in Path(f"/proc/{process.pid}/task").glob("*/children"):
            for pid in _read(children).split():
                if b"\0RANK=%d\0" % rank in b"\0" + _read(Path(f"/proc/{int(pid)}/environ")):
                    return int(pid)
        return None

    def finish(self) -> float:
        """Run to the end; returns the seconds until the first checkpoint is started."""
        with self.watched() as (process, happened):
            started = time.monotonic()
            next(happened())
            boot_seconds = time.monotonic() - started
            assert process.wait(MOST_SECONDS) == 0, self.log[-2000:]
        return boot_seconds

    @contextmanager
    def watched(self) -> Iterator[tuple[subprocess.Popen[str], Callable[..., Iterator[Event]]]]:
        """Start a process; yields it and a function that yields file operations until the process or the time ends."""
        with INotify() as watcher:
            for name in ("checkpoints", "model"):
                watcher.add_watch(self.folder / name, WATCHED)

            def happened(seconds: float = MOST_SECONDS) -> Iterator[Event]:
                end = time.monotonic() + seconds
                while process.poll() is None and (left := end - time.monotonic()) > 0:
                    yield from watcher.read(timeout=min(left, 0.2) * 1000)

            with self.start() as process:
                yield process, happened

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def failure(self) -> str:
        """Return the text of the failure file, empty if there is none."""
        file = self.folder / "output" / "failure"
        return file.read_text() if file.exists() else ""

    def description(self) -> dict[str, Any]:
        """Return the content of the model.json that the run has published."""
        return dict(json.loads((self.folder / "model/model.json").read_text()))

    def digests(self) -> dict[str, str]:
        """Return the sha256 of everything in the results that does not depend on the clock."""
        run = self.folder / "output" / "data" / "exp"
        files = [
            *(self.folder / "model" / name for name in ("model.safetensors", "model.json")),
            *(run / name for name in ("metrics.jsonl", "split.csv", "config.json")),
            *sorted((run / "report").iterdir()),
        ]
        found = {str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        newest = max((self.folder / "checkpoints").glob("*.pt"))
        state = torch.load(newest, weights_only=True)
        return found | {part: digest(value) for part, value in (state | state["trainer"]).items()}

    def temporary_files(self) -> list[str]:
        """Return the hidden files in the folders of the run."""
        return [str(path) for path in self.folder.rglob(".*")]


def _read(path: Path) -> bytes:
    """Return the bytes of a file of /proc, none if the process has ended or is another user's."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def digest(value: Any) -> str:
    """Return the sha256 of a state: every tensor with its type and shape, and every other value, by name."""
    found = hashlib.sha256()

    def walk(name: str, part: Any) -> None:
        if isinstance(part, torch.Tensor):
            found.update(f"{name} {part.dtype} {tuple(part.shape)}".encode())
            found.update(part.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(part, dict):
            for key in sorted(part, key=str):
                walk(f"{name}/{key}", part[key])
        elif isinstance(part, list | tuple):
            for index, item in enumerate(part):
                walk(f"{name}/{index}", item)
        else:
            found.update(f"{name} {json.dumps(part)}".encode())

    walk("", value)
    return found.hexdigest()
