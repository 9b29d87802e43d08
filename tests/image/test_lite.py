"""The lite image: the same server without torch, small, quick to start, and with wheels for ARM.

IMAGE=mask-classifier pytest -m image tests/image/test_lite.py       tests mask-classifier-lite
"""

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from support.containers import HARDENED, IMAGE, ROOT, docker
from support.exported import Exported, export_tiny
from support.serving import HttpResponse, encoded_image, running

pytestmark = pytest.mark.image

LITE = f"{IMAGE}-lite"
GOOD = encoded_image(1, size=(384, 512))
MOST_MB, MOST_SECONDS = 450, 2.0
ARM = [f"manylinux_2_{minor}_aarch64" for minor in (35, 34, 31, 28, 27, 17)]  # Ubuntu 22.04 has glibc 2.35


@pytest.fixture(scope="module", autouse=True)
def lite_image() -> None:
    """Skip or fail every test here without the built image."""
    if docker("image", "inspect", LITE).returncode != 0:
        reason = f"there is no image {LITE}; `make image-lite` builds it"
        (pytest.fail if os.environ.get("IMAGE_TESTS") == "required" else pytest.skip)(reason)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Export a tiny model into a folder that every user may read."""
    folder = tmp_path_factory.mktemp("lite")
    folder.chmod(0o755)
    return export_tiny(folder)


def ask(port: int, method: str, path: str, body: bytes | None = None) -> HttpResponse:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method, path, body, {"Content-Type": "image/jpeg"} if body else {})
        response = connection.getresponse()
        return HttpResponse(response.status, dict(response.getheaders()), response.read())


@contextmanager
def serving(model: Path, *words: str, user: str = "12345:54321") -> Iterator[tuple[str, int]]:
    """Start the lite image as SageMaker does, yield its container and port, and remove it."""
    mounted = f"--volume={model}:/opt/ml/model:ro"
    started = docker("run", "--detach", "--publish=127.0.0.1::8080", f"--user={user}", *HARDENED, mounted, *words, LITE)
    name = started.stdout.strip()
    try:
        yield name, int(docker("port", name).stdout.rsplit(":", 1)[1])
    finally:
        docker("rm", "--force", name)


def until_ready(name: str, port: int) -> None:
    while True:
        try:
            if ask(port, "GET", "/ping").status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        assert docker("inspect", "--format={{.State.Running}}", name).stdout.strip() == "true", docker("logs", name)
        time.sleep(0.01)


@pytest.mark.parametrize("user", ["0:0", "12345:54321"])
def test_it_serves_on_a_read_only_disk_what_torch_answers(served: Exported, user: str) -> None:
    with running(served.model) as reference:
        expected = reference.post(GOOD).json()
    with serving(served.model, user=user) as (name, port):
        until_ready(name, port)
        found = json.loads(ask(port, "POST", "/invocations", GOOD).body)
        assert found["prediction"] == expected["prediction"]
        assert found["probability"] == pytest.approx(expected["probability"], abs=1e-5)
        assert ask(port, "POST", "/invocations", b"no image").status == 422
        assert ask(port, "GET", "/execution-parameters").status == 200
        assert docker("stop", "--time=30", name).returncode == 0
        assert docker("inspect", "--format={{.State.ExitCode}}", name).stdout.strip() == "0"
        logs = docker("logs", name).stdout
        assert "; engine=openvino" in logs
        assert "ended; pictures=1" in logs


def test_it_is_small_and_has_no_torch_and_no_pip() -> None:
    """What counts is what is unpacked; a base image may bring caches that no layer above can take back."""
    script = "du -xsm / | cut -f1; ls /opt/venv/lib/python3*/site-packages"
    size, *packages = docker("run", "--rm", "--entrypoint=/bin/sh", LITE, "-c", script).stdout.split()
    assert int(size) <= MOST_MB
    assert not {"torch", "torchvision", "pip", "pandas", "onnx"} & set(packages)
    assert "openvino" in packages


def test_a_model_that_was_not_exported_stops_the_container_with_the_remedy(served: Exported, tmp_path: Path) -> None:
    for name in ("model.json", "model.safetensors"):
        (tmp_path / name).write_bytes((served.model / name).read_bytes())
    tmp_path.chmod(0o755)
    with serving(tmp_path) as (name, _):
        assert docker("wait", name).stdout.strip() == "1"
        logs = docker("logs", name)
        assert "there is no model.onnx, which this engine needs; run make export" in logs.stdout + logs.stderr


def test_another_command_is_refused_in_one_sentence() -> None:
    done = docker("run", "--rm", LITE, "train")
    assert done.returncode == 2
    assert "this image has no command 'train'" in done.stderr
    assert "Traceback" not in done.stderr


def test_starting_and_the_first_answer_take_little_time_of_a_cpu(served: Exported) -> None:
    """CPU time, as other work on the machine does not count; on free CPUs the first answer comes as early as that."""
    with serving(served.model) as (name, port):
        until_ready(name, port)
        assert ask(port, "POST", "/invocations", GOOD).status == 200
        pid = docker("inspect", "--format={{.State.Pid}}", name).stdout.strip()
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]  # own, and of ended children
        assert sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK") < MOST_SECONDS


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_every_package_has_a_wheel_for_arm(python: str, tmp_path: Path) -> None:
    lock = ROOT / "container" / "requirements-lite.lock"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--python-version", python, "--dest", str(tmp_path), "--requirement", str(lock)]
    done = subprocess.run([*command, *(f"--platform={tag}" for tag in ARM)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = {line.partition("==")[0] for line in lock.read_text().splitlines() if "==" in line and line[0].isalpha()}
    assert len(list(tmp_path.glob("*.whl"))) == len(names)
    assert {path.name.rsplit("-", 1)[1].removesuffix(".whl").rpartition("_")[2] for path in tmp_path.iterdir()} <= {
        *("aarch64", "any"),
    }
