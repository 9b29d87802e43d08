"""The built image as a SageMaker model: `docker run IMAGE serve`, and `make infer` on top of it.

tests/server and tests/test_serve.py test the responses in detail. Here the server runs as SageMaker runs it: as PID 1,
with a read-only disk, no capabilities, a read-only model, any user.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.containers import HARDENED, IMAGE, ROOT, docker, wait_for_log
from support.making import own_environ
from support.processes import Process
from support.serving import HttpResponse, encoded_image, publish_model

pytestmark = pytest.mark.image

GOOD = encoded_image(1, size=(384, 512))


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = publish_model(tmp_path_factory.mktemp("served") / "model")
    folder.parent.chmod(0o755)
    return folder


class Container:
    """A server in a container, published on a port of the loopback."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self.port = name, port

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> HttpResponse:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            response = connection.getresponse()
            return HttpResponse(
                response.status, {name.lower(): text for name, text in response.getheaders()}, response.read()
            )

    def post(self, body: bytes, **headers: str) -> HttpResponse:
        return self.call("POST", "/invocations", body, **headers)

    def ping(self) -> int:
        """Return the status of /ping, 0 while nothing listens."""
        try:
            return self.call("GET", "/ping").status
        except (OSError, http.client.HTTPException):
            return 0

    def until(self, status: int) -> None:
        """Wait until /ping returns this status; fail if the container exits."""
        while self.ping() != status:
            assert docker("inspect", "--format={{.State.Running}}", self.name).stdout.strip() == "true", self.log()

    @property
    def exit_code(self) -> int:
        return int(docker("inspect", "--format={{.State.ExitCode}}", self.name).stdout)

    def log(self) -> str:
        logs = docker("logs", self.name)
        return logs.stdout + logs.stderr


@contextmanager
def serving(
    model_dir: Path, *, port: int = 8080, user: str = "0:0", options: list[str] | None = None, **settings: object
) -> Iterator[Container]:
    """Start the server as SageMaker does; remove the container after the block."""
    words: list[Any] = ["run", "--detach", f"--publish=127.0.0.1::{port}", f"--user={user}"]
    words += HARDENED if options is None else options
    words += [f"--volume={model_dir}:/opt/ml/model:ro", *(f"--env={name}={text}" for name, text in settings.items())]
    name = docker(*words, IMAGE, "serve").stdout.strip()
    try:
        published = docker("port", name).stdout
        yield Container(name, int(published.rsplit(":", 1)[1]))
    finally:
        docker("rm", "--force", name)


@pytest.mark.parametrize(
    ("user", "options"),
    [
        pytest.param("0:0", [], id="root"),
        pytest.param("12345:54321", HARDENED, id="an unknown user without capabilities on a read-only disk"),
    ],
)
def test_the_image_serves_as_sagemaker_asks(model_dir: Path, user: str, options: list[str]) -> None:
    with serving(model_dir, user=user, options=options) as server:
        server.until(200)
        proposed = server.call("GET", "/execution-parameters").json()
        assert proposed["MaxConcurrentTransforms"] * proposed["MaxPayloadInMB"] <= 100
        for content_type in ("image/jpeg", "image/png", "application/x-image", "application/octet-stream", ""):
            headers = {"content_type": content_type} if content_type else {}
            assert server.post(GOOD, **headers).json()["prediction"] in range(18)
        assert server.post(b"").status == 400
        assert server.post(b"no image").status == 422
        assert server.post(bytes((6 << 20) + 1)).status == 413
        assert server.post(b"{}", content_type="application/json").status == 415

        with ThreadPoolExecutor(64) as clients:
            responses = list(clients.map(server.post, [encoded_image(seed, size=(384, 512)) for seed in range(64)] * 4))
        assert {response.status for response in responses} == {200}
        assert docker("stop", "--time=30", server.name).returncode == 0
        assert server.exit_code == 0
        ended = server.log().splitlines()[-1]
        assert ended.startswith("ended; ")
        assert float(ended.rsplit("mean_batch=", 1)[1]) > 2, "concurrent requests are batched"


def test_docker_stop_lets_every_request_in_flight_finish(model_dir: Path) -> None:
    with serving(model_dir) as server:
        server.until(200)
        with ThreadPoolExecutor(65) as clients:
            connections = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=60) for _ in range(64)]
            for connection in connections:  # headers and half of a body have arrived before the stop
                connection.putrequest("POST", "/invocations")
                connection.putheader("Content-Length", str(len(GOOD)))
                connection.endheaders(GOOD[:1000])
            started = time.monotonic()
            stopping = clients.submit(docker, "stop", "--time=30", server.name)
            server.until(503)

            def finish(connection: http.client.HTTPConnection) -> int:
                connection.send(GOOD[1000:])
                with closing(connection):
                    return connection.getresponse().status

            assert list(clients.map(finish, connections)) == [200] * 64
            assert stopping.result().returncode == 0
        assert time.monotonic() - started < 20, "SageMaker kills after 30 seconds"
        assert server.exit_code == 0


def test_the_port_is_the_one_that_sagemaker_sets(model_dir: Path) -> None:
    with serving(model_dir, port=9123, SAGEMAKER_BIND_TO_PORT=9123) as server:
        server.until(200)
        assert "listening: http://0.0.0.0:9123" in server.log()


def test_a_model_that_cannot_be_served_stops_the_container_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    with serving(tmp_path) as server:
        assert docker("wait", server.name).stdout.strip() == "1"
        assert "ModelError: model.safetensors is missing" in server.log()
        assert "Traceback" not in server.log()


# make infer


def make_infer(data: Path, out: Path, *words: str) -> dict[str, Any]:
    """Return the arguments for subprocess that run `make infer` in Docker."""
    given = f"DATA={data}", f"OUT={out}", f"IMAGE={IMAGE}", "RUNTIME=docker", "GPU="
    command = ["make", "--no-print-directory", "infer", *given, *words]
    return {"args": command, "cwd": ROOT, "env": own_environ(), "stderr": subprocess.STDOUT}


def containers_left(out: Path) -> list[str]:
    """Return the containers that mount a folder of `out`."""
    listed = docker("ps", "--all", "--quiet").stdout.split()
    found = json.loads(docker("inspect", *listed).stdout) if listed else []
    return [each["Name"] for each in found if str(out) in json.dumps(each["Mounts"])]


@pytest.fixture
def out(model_dir: Path, tmp_path: Path) -> Path:
    """Create a folder as training leaves it; containers mount the model read-only, so that all tests share one."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model").symlink_to(model_dir)
    return tmp_path / "out"


def test_make_infer_writes_what_inference_writes_and_leaves_no_container(
    faces: Path, model_dir: Path, out: Path, tmp_path: Path
) -> None:
    done = subprocess.run(**make_infer(faces, out) | {"stderr": None}, capture_output=False, timeout=300)
    assert done.returncode == 0
    environ = os.environ | {
        "SM_CHANNEL_EVAL": str(faces / "eval"),
        "SM_CHANNEL_MODEL": str(model_dir),
        "SM_OUTPUT_DATA_DIR": str(tmp_path / "inferred"),
    }
    subprocess.run([sys.executable, ROOT / "code" / "inference.py"], env=environ, check=True, timeout=300)
    labelled = out / "output" / "data"
    assert (labelled / "output.csv").read_bytes() == (tmp_path / "inferred" / "output.csv").read_bytes()
    images = {path.name for path in (faces / "eval" / "images").iterdir()}
    assert {path.name.removesuffix(".out") for path in (labelled / "transform").glob("*.out")} == images
    assert containers_left(out) == []


def test_make_infer_reports_a_bad_model_and_leaves_no_container(faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "model").mkdir(parents=True)
    (out / "model" / "model.json").write_text("{}")
    done = subprocess.run(**make_infer(faces, out), stdout=subprocess.PIPE, text=True, timeout=300)
    assert done.returncode != 0
    assert "ModelError: model.safetensors is missing" in done.stdout
    assert containers_left(out) == []


def test_an_interrupted_make_infer_leaves_no_container(faces: Path, out: Path) -> None:
    with Process(**make_infer(faces, out), stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        while not containers_left(out):
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)  # Ctrl-C reaches all of a terminal's foreground
        process.communicate(timeout=120)
    assert process.returncode != 0
    assert containers_left(out) == []


def test_compose_serves_on_a_port_of_the_loopback(model_dir: Path, out: Path) -> None:
    environ = os.environ | {"IMAGE": IMAGE, "OUT": str(out), "DATA": "/none", "PORT": "0"}
    environ |= {"COMPOSE_PROJECT_NAME": f"serve-{os.getpid()}", "USER_ID": "23456", "GROUP_ID": "23456"}

    def compose(*words: str) -> str:
        command = ["docker", "compose", "--project-directory", str(ROOT), *words]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120).stdout

    try:
        compose("up", "--detach", "serve")
        name = compose("ps", "--quiet", "serve").strip()
        wait_for_log(name, "ready: ")
        address, port = compose("port", "serve", "8080").strip().rsplit(":", 1)
        assert address == "127.0.0.1"
        assert Container(name, int(port)).post(GOOD).status == 200
    finally:
        compose("--profile", "serve", "down")
