"""The fixtures of every test in a container: Docker, the built image, drawn faces, a hand-made /opt/ml."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.containers import IMAGE, ROOT, Job, docker


@pytest.fixture(scope="session", autouse=True)
def image() -> None:
    """Skip or fail every test here without Docker and the built image."""
    reason = ""
    if shutil.which("docker") is None or docker("info").returncode != 0:
        reason = "Docker does not respond"
    elif docker("image", "inspect", IMAGE).returncode != 0:
        reason = f"there is no image {IMAGE}; `make image` builds it"
    if reason and os.environ.get("IMAGE_TESTS") == "required":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw faces on the host: train/, eval/ and gt/, in a folder that every user may read."""
    folder = tmp_path_factory.mktemp("faces")
    command = [sys.executable, str(ROOT / "code" / "demo.py"), "--output-dir", str(folder), "--people", "18"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=300)
    return folder


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    yield Job(tmp_path / "ml")
    if os.getuid() != 0:  # only a container can remove what another user wrote in a container
        docker("run", "--rm", f"--volume={tmp_path}:/left", "--entrypoint=chmod", IMAGE, "-R", "a+rwX", "/left")


@pytest.fixture
def train_job(job: Job, faces: Path) -> Job:
    job.channel("train", faces / "train")
    return job
