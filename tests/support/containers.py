"""Real containers of the built image, with hand-made /opt/ml trees and the limits that careful administrators set."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.processes import Process

ROOT = Path(__file__).parents[2]
IMAGE = os.environ.get("IMAGE", "mask-classifier")
HARDENED = ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
QUICK: dict[str, object] = {
    "epochs": "1",
    "batch_size": '"16"',
    "resize": "[32, 24]",
    "model": '"TinyModel"',
    "lr": "1e-3",
    "deterministic": "True",
    "threads": "1",
}


def docker(*words: object, seconds: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *map(str, words)], capture_output=True, text=True, timeout=seconds)


class Job:
    """A hand-made /opt/ml, and the containers that run on it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.mounts: dict[str, str] = {}  # folder in the container -> its option --volume or --tmpfs of docker
        for folder in ("input/config", "input/data"):
            (base / folder).mkdir(parents=True)
        for folder in ("model", "output", "checkpoints"):
            self.writable(folder)
        self.mounts["/opt/ml/input"] = f"--volume={base}/input:/opt/ml/input:ro"
        self.config("hyperparameters", QUICK)
        self.config("inputdataconfig", {"train": {"TrainingInputMode": "File", "RecordWrapperType": "None"}})
        self.config("resourceconfig", {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"})

    def config(self, name: str, content: object) -> None:
        (self.base / "input" / "config" / f"{name}.json").write_text(json.dumps(content))

    def writable(self, folder: str) -> Path:
        """Create a folder that any user may write to and mount it under /opt/ml; return it."""
        path = self.base / folder
        path.mkdir(parents=True)
        path.chmod(0o777)
        self.mounts[f"/opt/ml/{folder}"] = f"--volume={path}:/opt/ml/{folder}"
        return path

    def channel(self, name: str, source: Path) -> None:
        """Mount a folder as an input, read-only."""
        (self.base / "input" / "data" / name).mkdir(exist_ok=True)
        self.mounts[f"/opt/ml/input/data/{name}"] = f"--volume={source}:/opt/ml/input/data/{name}:ro"

    def command(self, *words: str, user: str = "0:0", options: list[str] | None = None) -> list[str]:
        limits = HARDENED if options is None else options
        return ["run", "--network=none", f"--user={user}", *limits, *self.mounts.values(), IMAGE, *words]

    def run(self, *words: str, **how: Any) -> subprocess.CompletedProcess[str]:
        command = self.command(*words, **how)
        return docker(command[0], "--rm", *command[1:])

    @contextmanager
    def running(self, *words: str, until: str, **how: Any) -> Iterator[str]:
        """Start a container and yield it once a line of its log contains `until`; remove it after the block."""
        command = self.command(*words, **how)
        container = docker(command[0], "--detach", *command[1:]).stdout.strip()
        try:
            wait_for_log(container, until)
            yield container
        finally:
            docker("rm", "--force", container)

    @property
    def failure(self) -> str:
        """Return the text that SageMaker would show as FailureReason."""
        return self._read("failure")

    @property
    def message(self) -> str:
        """Return the text that SageMaker would show as the ExitMessage of a processing job."""
        return self._read("message")

    def _read(self, name: str) -> str:
        written = (self.base / "output" / name).read_bytes()
        assert len(written) <= 1024
        return written.decode()


def wait_for_log(container: str, text: str) -> None:
    with Process(
        ["docker", "logs", "--follow", container], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as logs:
        assert logs.stdout is not None
        seen = []
        for line in logs.stdout:
            seen.append(line)
            if text in line:
                logs.terminate()
                return
    pytest.fail(f"the container ended without {text!r}: {''.join(seen)[-2000:]}")
