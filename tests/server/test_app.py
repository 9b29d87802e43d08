"""The routes and the states of the server: a prediction, or a message that says why not, and never a 5xx."""

import base64
import gzip
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data.decoding import stream
from inference import inference
from options.inference import InferenceConfig
from server import app as server_app
from server.settings import ServeConfig
from support.hostile_images import BOMBS
from support.serving import Held, InProcess, chunks, csv_row, encoded_image

EvalFolder = Callable[..., tuple[Path, list[int]]]


@pytest.fixture(scope="module")
def batch_server(config: ServeConfig) -> Iterator[InProcess]:
    with InProcess(replace(config, batch=True)) as server:
        yield server.until_ready()


GOOD = encoded_image(1)
REJECTED: dict[str, tuple[int, str, Any, dict[str, str]]] = {
    "nothing": (400, "empty", b"", {}),
    "text": (422, "undecodable_image", b"not an image", {}),
    "half an image": (422, "undecodable_image", GOOD[: len(GOOD) // 2], {}),
    "base64": (422, "undecodable_image", base64.b64encode(GOOD), {}),
    "a kind that is not read": (422, "undecodable_image", encoded_image(1, "ICO"), {"content_type": "image/jpeg"}),
    "json": (415, "unsupported_media_type", b"{}", {"content_type": "application/json"}),
    "a form": (415, "unsupported_media_type", GOOD, {"content_type": "multipart/form-data; boundary=x"}),
    "an unknown type": (415, "unsupported_media_type", GOOD, {"content_type": "\t/" + "x" * 9999}),
    "brotli": (415, "unsupported_encoding", GOOD, {"content_encoding": "br"}),
    "no gzip": (400, "bad_gzip", GOOD, {"content_encoding": "gzip"}),
    "half a gzip": (400, "bad_gzip", gzip.compress(GOOD)[:-9], {"content_encoding": "gzip"}),
    "gzip and more": (400, "bad_gzip", gzip.compress(GOOD) + b"more", {"content_encoding": "gzip"}),
    "an empty gzip": (400, "empty", gzip.compress(b""), {"content_encoding": "gzip"}),
    "a gzip bomb": (413, "payload_too_large", gzip.compress(bytes(100 << 20)), {"content_encoding": "gzip"}),
    "one byte too many": (413, "payload_too_large", bytes((1 << 20) + 1), {}),
    "only xml accepted": (406, "not_acceptable", GOOD, {"accept": "application/xml"}),
    "nothing accepted": (406, "not_acceptable", GOOD, {"accept": "*/*;q=0"}),
}


@pytest.mark.parametrize("name", REJECTED)
def test_a_request_that_cannot_be_served_is_rejected_with_a_message(server: InProcess, name: str) -> None:
    status, code, body, headers = REJECTED[name]
    response = server.post(body, **headers)
    assert (response.status, response.error) == (status, code)


@pytest.mark.parametrize("name", BOMBS)
def test_a_decompression_bomb_is_rejected_at_once(server: InProcess, name: str) -> None:
    started = time.process_time()
    response = server.post(BOMBS[name])
    assert (response.status, response.error) == (413, "too_large")
    assert time.process_time() - started < 0.1


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/ping/", 404, "not_found"),
        ("POST", "/models", 404, "not_found"),
        ("GET", "/invocations", 405, "method_not_allowed"),
        ("POST", "/ping", 405, "method_not_allowed"),
        ("DELETE", "/execution-parameters", 405, "method_not_allowed"),
    ],
)
def test_other_routes_and_methods_are_rejected(
    server: InProcess, method: str, path: str, status: int, code: str
) -> None:
    response = server.call(method, path)
    assert (response.status, response.error) == (status, code)
    assert ("allow" in response.headers) == (status == 405)


def test_the_response_to_an_unsupported_encoding_names_the_supported_one(server: InProcess) -> None:
    assert server.post(GOOD, content_encoding="br").headers["accept-encoding"] == "gzip"


# batch transform


@pytest.mark.parametrize("name", ["nothing", "text", "half an image", "a kind that is not read"])
def test_in_batch_transform_a_bad_image_gets_a_row_with_the_error(batch_server: InProcess, name: str) -> None:
    _, code, body, headers = REJECTED[name]
    response = batch_server.post(body, **headers)
    assert (response.status, response.error) == (200, code)
    cells = csv_row(batch_server.post(body, **headers, accept="text/csv;verbose"))
    assert len(cells) == len(csv_row(batch_server.post(GOOD, accept="text/csv;verbose")))
    assert [cell for cell in cells if cell] == [cells[6]]
    assert cells[6].startswith(f"{code}: ")


def test_in_batch_transform_only_bad_images_get_rows_other_errors_stay_errors(batch_server: InProcess) -> None:
    for name in ("json", "no gzip", "one byte too many", "only xml accepted"):
        status, code, body, headers = REJECTED[name]
        response = batch_server.post(body, **headers)
        assert (response.status, response.error) == (status, code)


def test_a_bad_image_can_fail_the_transform_job(config: ServeConfig) -> None:
    with InProcess(replace(config, batch=True, bad_input="fail")) as server:
        assert server.until_ready().post(b"no image").status == 422


@pytest.mark.parametrize(
    ("settings", "device", "cpus", "concurrency"),
    [
        ({}, "cpu", 1, 8),
        ({}, "cpu", 2, 16),
        ({}, "cpu", 64, 16),
        ({"max_payload_mb": 2}, "cpu", 64, 50),
        ({"max_payload_mb": 1}, "cuda", 8, 64),
        ({"max_payload_mb": 100}, "cuda", 8, 1),
        ({"max_payload_mb": 0}, "cuda", 8, 1),
        ({"max_payload_mb": 60}, "cpu", 8, 1),
        ({"max_payload_mb": 1, "max_waiting": 5}, "cpu", 8, 5),
    ],
)
def test_execution_parameters_respect_the_hundred_megabytes_of_batch_transform(
    settings: dict[str, int], device: str, cpus: int, concurrency: int
) -> None:
    parameters = ServeConfig(**settings).execution_parameters(device, cpus)  # type: ignore[arg-type]
    assert parameters["MaxConcurrentTransforms"] == concurrency
    assert parameters["BatchStrategy"] == "SINGLE_RECORD"
    assert concurrency * int(parameters["MaxPayloadInMB"]) <= 100


def test_execution_parameters_are_served_with_the_digest_of_the_model(server: InProcess, config: ServeConfig) -> None:
    response = server.get("/execution-parameters")
    assert response.json()["MaxPayloadInMB"] == config.max_payload_mb
    digest, precision, tta = response.headers["x-model-digest"].split()
    assert (len(digest), precision, tta) == (64, "fp32", "none")


# the same predictions as inference


def test_predictions_are_those_of_inference_whatever_batch_an_image_is_in(
    eval_folder: EvalFolder, config: ServeConfig, tmp_path: Path
) -> None:
    data, _ = eval_folder(60)
    asked = InferenceConfig(device="cpu", save_probabilities=True, batch_size=7)
    table = pd.read_csv(inference(data, config.model_dir, tmp_path, asked))
    bodies = [(data / "images" / name).read_bytes() for name in table["ImageID"]]
    for clients in (1, 3, 30):
        with InProcess(config) as server, ThreadPoolExecutor(clients) as pool:
            post = partial(server.until_ready().post, accept="*/*;verbose")
            responses = [response.json() for response in pool.map(post, bodies)]
            batches = server.ready.batcher.batches
        assert (batches < len(bodies)) == (clients > 1)
        assert [response["prediction"] for response in responses] == table["ans"].tolist()
        found = [response["probabilities"] for response in responses]
        np.testing.assert_allclose(found, table.filter(like="probability_").to_numpy(), atol=1e-5)
    assert table["ans"].nunique() > 3


def test_pixels_are_bit_for_bit_those_of_inference(eval_folder: EvalFolder, server: InProcess) -> None:
    data, _ = eval_folder(8)
    files = list((data / "images").iterdir())
    ready, seen = server.ready, list[np.ndarray[Any, Any]]()
    predict = ready.batcher.predict
    ready.batcher.predict = lambda pixels: seen.append(pixels) or predict(pixels)  # type: ignore[func-returns-value]
    try:
        for path in files:
            assert server.post(path.read_bytes()).status == 200
    finally:
        ready.batcher.predict = predict
    ((expected, _),) = stream(files, ready.classifier.preparation, batch_size=8)
    assert np.array_equal(np.concatenate(seen), expected)


def test_bf16_is_a_setting_and_off_by_default(config: ServeConfig, server: InProcess) -> None:
    with InProcess(replace(config, precision="bf16")) as other:
        fast = other.until_ready().post(GOOD, accept="*/*;verbose").json()["probabilities"]
    exact = server.post(GOOD, accept="*/*;verbose").json()["probabilities"]
    assert fast != exact
    np.testing.assert_allclose(fast, exact, atol=0.2)


# states of the server


def test_overload_is_rejected_at_once_and_ends_with_the_load(config: ServeConfig) -> None:
    with InProcess(replace(config, max_waiting=4)) as server, ThreadPoolExecutor(4) as pool:
        held = Held(server.until_ready())
        accepted = [pool.submit(server.post, GOOD) for _ in range(4)]
        held.until_waiting(4)
        sent: list[int] = []
        for body in (GOOD, chunks(50 << 20, sent)):
            response = server.post(body)
            assert (response.status, response.error, response.headers["retry-after"]) == (503, "overloaded", "1")
        assert sent == [], "the body of a rejected request is not read"
        assert server.get("/ping").status == 200, "the health of a server is not its queue"
        held.gate.set()
        assert [response.result().status for response in accepted] == [200] * 4
        assert server.post(GOOD).status == 200


def test_all_bodies_together_have_a_limit_as_well(config: ServeConfig) -> None:
    body = encoded_image(1, "BMP", (256, 256))
    with InProcess(config) as server, ThreadPoolExecutor(2) as pool:
        bodies = server.until_ready().service.bodies
        bodies.budget = 2 * len(body)
        held = Held(server)
        accepted = [pool.submit(server.post, body) for _ in range(2)]
        held.until_waiting(2)
        assert bodies.buffered == 2 * len(body)
        assert server.post(body).error == "overloaded"
        held.gate.set()
        assert [response.result().status for response in accepted] == [200] * 2
        assert bodies.buffered == 0
        assert server.post(body).status == 200


def test_until_the_model_is_loaded_requests_get_a_503(config: ServeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    load_classifier, gate = server_app._load_classifier, threading.Event()
    monkeypatch.setattr(server_app, "_load_classifier", lambda config: gate.wait(20) and load_classifier(config))
    with InProcess(config) as server:
        assert (server.get("/ping").status, server.get("/ping").body) == (503, b"")
        for response in (server.post(GOOD), server.get("/execution-parameters")):
            assert (response.status, response.error, response.headers["retry-after"]) == (503, "loading", "1")
        gate.set()
        server.until_ready()
        assert (server.get("/ping").status, server.get("/ping").body) == (200, b"")
        assert server.post(GOOD).status == 200


def test_a_server_that_is_stopping_still_responds_and_closes_connections(config: ServeConfig) -> None:
    with InProcess(config) as server:
        server.until_ready().service.is_stopping = True
        assert server.get("/ping").status == 503
        response = server.post(GOOD)
        assert (response.status, response.headers["connection"]) == (200, "close")


def test_a_client_that_disconnects_leaves_nothing_behind(server: InProcess) -> None:
    server.post(iter([GOOD[:100], None]))
    assert server.logged == []
    assert (server.service.bodies.buffered, server.ready.batcher.waiting) == (0, 0)
    assert server.post(GOOD).status == 200


def test_our_own_bugs_are_logged_and_hidden_from_the_client(config: ServeConfig) -> None:
    def broken(pixels: Any) -> Any:
        raise RuntimeError("secret")

    with InProcess(config) as server:
        server.until_ready().ready.batcher.predict = broken
        response = server.post(GOOD)
        assert (response.status, response.error) == (500, "internal_error")
        assert "secret" not in response.text
        assert [str(error) for error in server.logged] == ["secret"]
