"""A hostile image costs the server no more than its limits, and honest clients keep their predictions.

tests/benchmarks/attack_serve.py measures times and memory.
"""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.hostile_images import COSTLY
from support.processes import descendants, is_running, killing, wait_until
from support.serving import Running, encoded_image, publish_model, running

SETTINGS: dict[str, Any] = {"SERVE_DECODE_SECONDS": 0.1, "SERVE_DECODE_MEMORY_MB": 512, "SERVE_THREADS": 2}
FILES = {name: (build(), exceeds_limits) for name, (build, exceeds_limits) in COSTLY.items()}
GOOD = encoded_image(1, size=(384, 512))


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_model(tmp_path_factory.mktemp("served") / "model")


@pytest.fixture(scope="module")
def server(model_dir: Path) -> Iterator[Running]:
    with running(model_dir, **SETTINGS) as server:
        yield server
        code, output = server.stop()
        assert code == 0
        assert [line.split(":")[0].split(";")[0] for line in output.splitlines()] == ["ready", "ended"], output


@pytest.mark.parametrize("name", FILES)
def test_honest_clients_are_served_while_one_costly_file_is_sent_again_and_again(server: Running, name: str) -> None:
    body, exceeds_limits = FILES[name]
    with ThreadPoolExecutor(12) as pool:
        hostile = [pool.submit(server.post, body) for _ in range(12)]
        honest = [server.post(GOOD) for _ in range(20)]
        codes = Counter(response.result().error for response in hostile if response.result().status != 200)
    assert {response.status for response in honest} == {200}
    assert codes.keys() <= {"too_expensive", "undecodable_image", "too_large", "overloaded"}
    assert (codes["too_expensive"] > 0) >= exceeds_limits
    assert server.post(GOOD).status == 200


def test_an_image_that_is_too_expensive_is_a_413(server: Running) -> None:
    body, _ = FILES["a comment inside a number"]
    response = server.post(body)
    assert (response.status, response.error) == (413, "too_expensive")
    message = response.json()["error"]["message"]
    assert message == "takes more than the 0.1 s of CPU time allowed to decode: the image"


def test_in_batch_transform_an_image_that_is_too_expensive_gets_a_row(model_dir: Path) -> None:
    body, _ = FILES["a comment inside a number"]
    with running(model_dir, SAGEMAKER_BATCH="true", **SETTINGS) as server:
        response = server.post(body)
        assert (response.status, response.error) == (200, "too_expensive")


def test_processes_that_are_killed_cost_no_client_its_prediction(model_dir: Path) -> None:
    bodies = [encoded_image(seed) for seed in range(12)]
    with running(model_dir) as server:
        expected = [server.post(body).json() for body in bodies]
        with (
            killing(lambda: descendants(descendants(server.process.pid)[0])) as killed,
            ThreadPoolExecutor(4) as pool,
        ):
            found = [response.json() for response in pool.map(server.post, bodies * 6)]
        assert len(killed) > 5
        assert [each["label"] for each in found] == [each["label"] for each in expected] * 6
        probabilities = np.array([[each["probability"] for each in many] for many in (found, expected * 6)])
        np.testing.assert_allclose(probabilities[0], probabilities[1], atol=1e-5)


def test_if_the_server_is_killed_all_its_processes_end(model_dir: Path) -> None:
    with running(model_dir) as server:
        wait_until(lambda: len(descendants(server.process.pid)) >= 4)  # it may be ready before they are
        others = descendants(server.process.pid)
        server.process.kill()
        wait_until(lambda: not any(map(is_running, others)))


def test_if_the_decoding_processes_are_gone_the_server_ends_with_a_sentence(model_dir: Path) -> None:
    with running(model_dir) as server:
        os.kill(descendants(server.process.pid)[0], signal.SIGKILL)
        output, _ = server.process.communicate(timeout=30)
        assert server.process.returncode == 1
        assert "DecodingError: the decoding processes ended (SIGKILL); the machine may be out of memory" in output
        assert "Traceback" not in output
