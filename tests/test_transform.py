"""Every object is posted once, as SageMaker does, and the table is the one that inference writes."""

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from batch import client as transform_client
from batch.client import Endpoint, ServerError
from batch.local_server import local_server
from config import InferenceConfig
from inference import inference
from labels import LabelScheme
from runtime.errors import DataError
from support.serving import ROOT, encoded_image, publish_model
from transform import TransformConfig, transform

EvalFolder = Callable[..., tuple[Path, list[int]]]


class Container:
    """A container of another make: it predicts the size of an image as its class and records the requests."""

    def __init__(self) -> None:
        self.proposal: dict[str, Any] | None = {"MaxConcurrentTransforms": 4, "MaxPayloadInMB": 6}
        self.digest = "one"
        self.sizes: Counter[int] = Counter()  # how often a body of this size was posted
        self.types: set[tuple[str | None, ...]] = set()
        self.statuses: dict[int, list[int]] = {}  # by size, statuses before the 200
        self.in_flight = self.most_in_flight = 0
        self.predict: Callable[[int], dict[str, Any]] = lambda size: {"prediction": size}
        self.on_post: Callable[[], object] = lambda: None
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> "Container":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def posted(self, handler: BaseHTTPRequestHandler) -> tuple[int, object]:
        size = len(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            self.sizes[size] += 1
            self.types.add((handler.headers["Content-Type"], handler.headers["Accept"]))
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.on_post()
        with self._lock:
            self.in_flight -= 1
            status = self.statuses[size].pop(0) if self.statuses.get(size) else 200
        return status, self.predict(size) if status == 200 else {"error": {"code": "x", "message": "no, because"}}

    def _handler(container) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                known = self.path == "/ping" or container.proposal is not None
                self.response(200 if known else 404, container.proposal if self.path != "/ping" else None)

            def do_POST(self) -> None:
                self.response(*container.posted(self))

            def response(self, status: int, record: object) -> None:
                body = json.dumps(record).encode() if record else b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("X-Model-Digest", container.digest)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        return Handler


@pytest.fixture
def container(monkeypatch: pytest.MonkeyPatch) -> Iterator[Container]:
    monkeypatch.setattr(transform_client, "BACKOFF_SECONDS", 0.01)
    with Container() as container:
        yield container


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """Objects of 1 to 9 bytes, one in a sub-folder; info.csv names them backwards."""
    folder = tmp_path / "eval" / "images"
    (folder / "deep" / "er").mkdir(parents=True)
    names = [f"{size}.jpg" for size in range(1, 9)] + ["deep/er/9.jpg"]
    for size, name in enumerate(names, 1):
        (folder / name).write_bytes(bytes(size))
    (tmp_path / "eval" / "info.csv").write_text("\n".join(["ImageID,ans", *(f"{name},0" for name in reversed(names))]))
    return tmp_path / "eval"


@pytest.fixture
def config(container: Container, objects: Path, tmp_path: Path) -> TransformConfig:
    return TransformConfig(
        data_dir=objects, output_dir=tmp_path / "output", model_dir=tmp_path / "elsewhere", url=container.url
    )


def predictions(output: Path) -> dict[str, str]:
    return dict(pd.read_csv(output, dtype=str, keep_default_na=False)[["ImageID", "ans"]].itertuples(index=False))


def outs(config: TransformConfig) -> dict[str, bytes]:
    folder = config.output_dir / "transform"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.out")}


# the protocol


def test_every_object_gets_its_out_file_and_every_row_its_prediction(
    config: TransformConfig, container: Container
) -> None:
    output = transform(config)
    assert list(predictions(output).items())[:2] == [("deep/er/9.jpg", "9"), ("8.jpg", "8")]
    assert outs(config).keys() == {*(f"{size}.jpg.out" for size in range(1, 9)), "deep/er/9.jpg.out"}
    assert outs(config)["deep/er/9.jpg.out"] == b'{"prediction": 9}'
    assert container.sizes == dict.fromkeys(range(1, 10), 1)
    assert container.types == {("application/x-image", "application/json")}


@pytest.mark.parametrize(
    ("proposal", "given", "most"),
    [
        (None, {}, 1),
        ({"MaxConcurrentTransforms": 3}, {}, 3),
        ({"MaxConcurrentTransforms": "3", "BatchStrategy": None, "MaxPayloadInMB": "6"}, {}, 3),
        ({"MaxConcurrentTransforms": None}, {}, 1),
        ([1], {}, 1),
        ({"MaxConcurrentTransforms": 9, "MaxPayloadInMB": 20}, {"max_concurrent_transforms": 2}, 2),
        ({"MaxConcurrentTransforms": 9, "MaxPayloadInMB": 50}, {"max_payload_mb": 1}, 9),
    ],
)
def test_the_concurrency_is_the_given_one_or_the_proposed_one_or_one(
    config: TransformConfig, container: Container, proposal: Any, given: dict[str, int], most: int
) -> None:
    barrier = threading.Barrier(most)
    container.proposal = proposal
    container.on_post = lambda: barrier.wait(10) if container.sizes.total() <= 9 // most * most else None
    transform(replace(config, **given))  # type: ignore[arg-type]
    assert container.most_in_flight == most


def test_more_than_a_hundred_megabytes_of_concurrent_requests_are_rejected(
    config: TransformConfig, container: Container
) -> None:
    container.proposal = {"MaxConcurrentTransforms": 9, "MaxPayloadInMB": 20}
    with pytest.raises(ServerError, match="9 concurrent requests of 20 MB exceed SageMaker's limit of 100 MB"):
        transform(config)
    assert not container.sizes


def test_a_failed_request_is_retried_three_times(config: TransformConfig, container: Container) -> None:
    container.statuses = {4: [503, 500, 502], 5: [503]}
    assert predictions(transform(config))["4.jpg"] == "4"
    assert (container.sizes[4], container.sizes[5], container.sizes[6]) == (4, 2, 1)


def test_one_failed_object_fails_the_job_and_the_other_responses_are_kept(
    config: TransformConfig, container: Container
) -> None:
    container.statuses = {3: [422], 5: [503] * 4}
    with pytest.raises(DataError, match="2 of 9 objects failed") as caught:
        transform(config)
    assert "422 Unprocessable Entity (no, because): " in str(caught.value)
    assert "503 Service Unavailable (no, because): " in str(caught.value)
    assert (container.sizes[3], container.sizes[5]) == (1, 4)
    assert len(outs(config)) == 7
    assert not (config.output_dir / "output.csv").exists()
    transform(config)
    assert container.sizes == dict.fromkeys(range(1, 10), 1) | {3: 2, 5: 5}


def test_an_object_over_the_limit_is_not_sent_and_the_option_is_named(
    config: TransformConfig, container: Container
) -> None:
    (config.data_dir / "images" / "1.jpg").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(DataError, match=r"larger than the 1 MB of --max-payload-mb: .*1\.jpg"):
        transform(replace(config, max_payload_mb=1))
    assert max(container.sizes) == 9


def test_a_server_that_disappears_ends_the_job_at_once(config: TransformConfig, container: Container) -> None:
    def leave() -> None:
        container._server.shutdown()
        container._server.server_close()
        raise ConnectionError

    container._server.handle_error = lambda *arguments: None  # type: ignore[method-assign]
    container.on_post = leave
    with pytest.raises(ServerError, match="no longer responds"):
        transform(replace(config, max_retries=0, max_concurrent_transforms=1))


def test_a_server_that_never_becomes_ready_is_reported() -> None:
    with pytest.raises(ServerError, match=r"/ping did not return 200 within 0\.2 seconds"):
        Endpoint("http://127.0.0.1:9", timeout_seconds=1, max_retries=0).wait(0.2)
    with pytest.raises(ServerError, match="exited before it was ready; see its output above"):
        Endpoint("http://127.0.0.1:9", timeout_seconds=1, max_retries=0, is_alive=lambda: False).wait(0.2)


# resuming


def command(config: TransformConfig) -> dict[str, Any]:
    """Return the arguments for subprocess that run the same transform."""
    environ = os.environ | {
        "SM_CHANNEL_EVAL": str(config.data_dir),
        "SM_CHANNEL_MODEL": str(config.model_dir),
        "SM_OUTPUT_DATA_DIR": str(config.output_dir),
        "PYTHONPATH": f"{ROOT / 'code'}:{ROOT / 'container'}",
    }
    flags = ["--url", config.url] if config.url else []
    return {"args": [sys.executable, "-W", "error", ROOT / "container" / "transform.py", *flags], "env": environ}


def test_a_killed_job_is_resumed_and_the_result_is_the_same(
    config: TransformConfig, container: Container, tmp_path: Path
) -> None:
    undisturbed = transform(replace(config, output_dir=tmp_path / "undisturbed"))
    container.sizes.clear()
    with subprocess.Popen(**command(config)) as process:

        def kill() -> None:
            if container.sizes.total() >= 7:
                process.kill()

        container.on_post = kill
    assert process.returncode == -signal.SIGKILL
    kept = len(outs(config))
    assert 1 <= kept < 9
    container.on_post = lambda: None
    container.sizes.clear()
    assert transform(config).read_bytes() == undisturbed.read_bytes()
    assert container.sizes.total() == 9 - kept


def test_only_changed_objects_are_sent_again(config: TransformConfig, container: Container) -> None:
    transform(config)
    container.sizes.clear()
    transform(config)
    assert not container.sizes
    images = config.data_dir / "images"
    os.utime(images / "3.jpg", (1, 1))  # another time: another file has replaced it
    (config.output_dir / "transform" / "5.jpg.out").write_text('{"predict')
    (config.output_dir / "transform" / "6.jpg.out").unlink()
    transform(config)
    assert container.sizes == {3: 1, 5: 1, 6: 1}


def test_an_image_without_a_prediction_is_sent_again(config: TransformConfig, container: Container) -> None:
    predict = container.predict
    bad = {"prediction": None, "error": {"code": "x", "message": "it is none"}}
    container.predict = lambda size: bad if size == 3 else predict(size)
    transform(config)
    container.sizes.clear()
    container.statuses = {3: [422]}
    with pytest.raises(DataError, match="1 of 9 objects failed"):
        transform(config)
    assert container.sizes == {3: 1}


@pytest.mark.parametrize("digest", ["two", ""])
def test_responses_of_another_model_are_not_kept(config: TransformConfig, container: Container, digest: str) -> None:
    transform(config)
    container.sizes.clear()
    container.digest = digest
    container.statuses = {4: [422]}
    with pytest.raises(DataError):
        transform(config)
    assert container.sizes.total() == 9
    assert "4.jpg.out" not in outs(config)


# the same as inference


def inferred(data: Path, model: Path, output: Path) -> dict[str, bytes]:
    inference(data, model, output, InferenceConfig(device="cpu"))
    return {path.name: path.read_bytes() for path in output.iterdir()}


def test_the_table_is_byte_for_byte_that_of_inference(
    eval_folder: EvalFolder, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data, _ = eval_folder(24)
    table = pd.read_csv(data / "info.csv", dtype=str).assign(camera="007", note='a, "b"', empty="")
    names = list(table["ImageID"])
    (data / "images" / names[3]).write_bytes(b"no image")
    (data / "images" / names[5]).unlink()
    (data / "images" / "deep").mkdir()
    (data / "images" / names[7]).rename(data / "images" / "deep" / names[7])
    table.loc[7, "ImageID"] = f"deep/{names[7]}"
    (data / "images" / "more.txt").write_text("an object without a row")
    table.to_csv(data / "info.csv", index=False)
    model = publish_model(tmp_path / "model", LabelScheme("folders", tuple(f"class {label}" for label in range(9))))
    config = TransformConfig(data_dir=data, model_dir=model, output_dir=tmp_path / "transformed")
    transform(config)
    expected = inferred(data, model, tmp_path / "inferred")
    assert {name: (config.output_dir / name).read_bytes() for name in expected} == expected
    assert expected.keys() == {"output.csv", "scheme.json"}
    assert len(outs(config)) == 24
    assert json.loads(outs(config)["more.txt.out"])["error"]["code"] == "undecodable_image"
    captured = capfd.readouterr()
    assert f"no prediction: cannot be read as an image (none of JPEG, PNG, WEBP, BMP, PPM): {data}" in captured.err
    assert f"no prediction: there is no such image: {data / 'images' / names[5]}" in captured.err
    assert "images_per_second=" in captured.out


def test_on_a_terminal_without_info_csv_and_as_a_command(eval_folder: EvalFolder, tmp_path: Path) -> None:
    data, _ = eval_folder(6)
    (data / "info.csv").unlink()
    model = publish_model(tmp_path / "model")
    config = TransformConfig(data_dir=data, model_dir=model, output_dir=tmp_path / "transformed")
    terminal, line = pty.openpty()
    termios.tcsetwinsize(line, (25, 120))
    done = subprocess.run(**command(config), stdout=subprocess.PIPE, stderr=line, text=True, timeout=60)
    os.close(line)
    shown = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert done.returncode == 0, shown
    assert "6/6" in shown
    assert "images/s" in shown
    expected = inferred(data, model, tmp_path / "inferred")
    assert {name: (config.output_dir / name).read_bytes() for name in expected} == expected


def test_without_a_single_prediction_there_is_no_table(config: TransformConfig, container: Container) -> None:
    container.predict = lambda size: {"prediction": None, "error": {"code": "x", "message": "it is none"}}
    with pytest.raises(DataError, match=r"none of the 9 images can be used: it is none: deep/er/9\.jpg"):
        transform(config)
    assert not (config.output_dir / "output.csv").exists()


# its own server


def test_a_model_that_cannot_be_served_ends_the_job_with_the_reason(
    objects: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ServerError, match="the server exited before it was ready; see its output above"):
        transform(TransformConfig(data_dir=objects, model_dir=tmp_path / "none", output_dir=tmp_path / "output"))
    assert "DataError: SM_MODEL_DIR does not exist" in capfd.readouterr().err


def test_settings_that_the_server_rejects_end_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SERVE_PRECISION", "fp8")
    with pytest.raises(ServerError, match="the server did not start"), local_server(tmp_path, 0):
        pass
    assert "SERVE_PRECISION: unknown value 'fp8'" in capfd.readouterr().err


WATCH = """
import sys, time
from pathlib import Path
from batch.local_server import local_server
with local_server(Path(sys.argv[1]), 0) as (url, is_alive):
    print(url, flush=True)
    time.sleep(60)
"""


def test_the_server_ends_with_the_process_that_started_it_even_if_that_is_killed(tmp_path: Path) -> None:
    model = publish_model(tmp_path / "model")
    environ = os.environ | {"PYTHONPATH": f"{ROOT / 'code'}:{ROOT / 'container'}"}
    line = [sys.executable, "-c", WATCH, str(model)]
    with subprocess.Popen(line, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        endpoint = Endpoint(process.stdout.readline().strip(), timeout_seconds=2, max_retries=0)
        endpoint.wait(60)
        process.kill()
    ends = time.monotonic() + 20
    while endpoint._is_ready():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_sigterm_ends_the_job_and_its_server(eval_folder: EvalFolder, tmp_path: Path) -> None:
    data, _ = eval_folder(500)
    config = TransformConfig(data_dir=data, model_dir=publish_model(tmp_path / "model"), output_dir=tmp_path / "output")
    with subprocess.Popen(**command(config), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        while not process.stdout.readline().startswith("objects=500"):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        output = process.stdout.read()  # until the server, which shares the pipe, has ended too
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in output
    assert len(outs(config)) < 500


def test_the_bytes_of_an_image_are_posted_unchanged(config: TransformConfig, container: Container) -> None:
    body = encoded_image(1, "PNG")
    (config.data_dir / "images" / "1.jpg").write_bytes(body)
    transform(config)
    assert container.sizes[len(body)] == 1
