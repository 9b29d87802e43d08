"""An image gets a prediction in the format that the client accepts; anything else gets a message, and never a 5xx."""

import base64
import csv
import gzip
import io
import json
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

from config import InferenceConfig
from data.decoding import stream
from inference import inference
from labels import MASKED_FACES, LabelScheme
from server import app as server_app
from server.settings import ServeConfig
from support.hostile_images import BOMBS
from support.serving import Held, HttpResponse, InProcess, encoded_image, publish_model

EvalFolder = Callable[..., tuple[Path, list[int]]]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_model(tmp_path_factory.mktemp("served") / "model")


@pytest.fixture(scope="module")
def config(model_dir: Path) -> ServeConfig:
    return ServeConfig(model_dir=model_dir, device="cpu", max_payload_mb=1)


@pytest.fixture(scope="module")
def server(config: ServeConfig) -> Iterator[InProcess]:
    with InProcess(config) as server:
        yield server.until_ready()


@pytest.fixture(scope="module")
def batch_server(config: ServeConfig) -> Iterator[InProcess]:
    with InProcess(replace(config, batch=True)) as server:
        yield server.until_ready()


def csv_row(response: HttpResponse) -> list[str]:
    """Return the cells of a response that is one line of csv."""
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    (row,) = csv.reader(io.StringIO(response.text))
    return row


# requests


@pytest.mark.parametrize("content_type", [None, "", "application/octet-stream", "application/x-image", "image/png"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_the_kind_of_an_image_is_told_by_its_bytes_not_by_its_content_type(
    server: InProcess, kind: str, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"content_type": content_type}
    response = server.post(encoded_image(1, kind), **headers)
    assert response.status == 200
    assert response.json()["prediction"] in range(18)


@pytest.mark.parametrize("content_type", ["IMAGE/JPEG", "image/jpeg; q=1", "image/webp", "image/bmp"])
def test_content_types_are_parsed_as_http_defines_them(server: InProcess, content_type: str) -> None:
    assert server.post(encoded_image(1), content_type=content_type).status == 200


def test_a_gzipped_image_is_the_same_image(server: InProcess) -> None:
    packed = server.post(gzip.compress(encoded_image(2)), content_encoding="gzip")
    assert packed.status == 200
    assert packed.body == server.post(encoded_image(2)).body


# responses


def test_a_prediction_has_the_class_and_its_attributes(server: InProcess) -> None:
    response = server.post(encoded_image(3))
    assert response.headers["content-type"] == "application/json"
    record = response.json()
    assert list(record) == ["prediction", "label", "mask", "gender", "age", "probability"]
    label = record["prediction"]
    assert record["label"] == MASKED_FACES.classes[label]
    assert {name: record[name] for name in ("mask", "gender", "age")} == MASKED_FACES.describe(label)
    assert 1 / 18 < record["probability"] <= 1


@pytest.mark.parametrize("accept", ["application/json;verbose", "application/json; verbose=true", "*/*;verbose"])
def test_verbose_adds_every_probability_and_the_names_of_the_classes(server: InProcess, accept: str) -> None:
    record = server.post(encoded_image(3), accept=accept).json()
    assert record["labels"] == list(MASKED_FACES.classes)
    assert sum(record["probabilities"]) == pytest.approx(1, abs=1e-4)
    assert record["probabilities"][record["prediction"]] == record["probability"] == max(record["probabilities"])


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("text/*", "text/csv; charset=utf-8"),
        ("text/html, */*;q=0.1", "application/json"),
        ("text/csv;q=0.5, application/jsonlines", "application/jsonlines"),
        ("application/json;q=0, text/csv", "text/csv; charset=utf-8"),
        ("application/json;q=nonsense, application/jsonlines;q=0.1", "application/jsonlines"),
    ],
)
def test_the_client_chooses_the_format(server: InProcess, accept: str, media_type: str) -> None:
    response = server.post(encoded_image(3), accept=accept)
    assert (response.status, response.headers["content-type"]) == (200, media_type)


def test_json_lines_and_csv_are_one_line_with_the_same_prediction(server: InProcess) -> None:
    record = server.post(encoded_image(3), accept="application/json;verbose").json()
    probabilities = [str(value) for value in record.pop("probabilities")]
    del record["labels"]
    lines = server.post(encoded_image(3), accept="application/jsonlines").text
    assert lines.endswith("}\n")
    assert json.loads(lines) == record
    cells = [*(str(value) for value in record.values()), ""]
    assert csv_row(server.post(encoded_image(3), accept="text/csv")) == cells
    assert csv_row(server.post(encoded_image(3), accept="text/csv;verbose")) == cells + probabilities


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "PPM"])
@pytest.mark.parametrize(
    "media_type", ["image/jpg", "image/x-portable-pixmap", "IMAGE/PNG; q=1", "application/x-image"]
)
def test_any_image_content_type_goes_with_any_kind_of_image(server: InProcess, kind: str, media_type: str) -> None:
    assert server.post(encoded_image(3, kind), content_type=media_type).status == 200


# rejected requests


def chunks(size: int, sent: list[int]) -> Iterator[bytes]:
    """Yield a body without a length; `sent` records how much of it was read."""
    for _ in range(size >> 16):
        sent.append(1 << 16)
        yield bytes(1 << 16)


GOOD = encoded_image(1)
REJECTED: dict[str, tuple[int, str, Any, dict[str, str]]] = {
    "nothing": (400, "empty", b"", {}),
    "text": (422, "undecodable_image", b"not an image", {}),
    "half an image": (422, "undecodable_image", GOOD[: len(GOOD) // 2], {}),
    "base64": (422, "undecodable_image", base64.b64encode(GOOD), {}),
    "a kind that is not read": (422, "undecodable_image", encoded_image(1, "GIF"), {"content_type": "image/jpeg"}),
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


def test_a_body_of_exactly_the_limit_is_accepted(server: InProcess) -> None:
    body = encoded_image(1, "BMP")
    assert server.post(body + bytes((1 << 20) - len(body))).status == 200


def test_a_body_without_a_length_is_rejected_as_soon_as_it_exceeds_the_limit(server: InProcess) -> None:
    sent: list[int] = []
    response = server.post(chunks(50 << 20, sent))
    assert (response.status, response.error) == (413, "payload_too_large")
    assert sum(sent) <= (1 << 20) + (2 << 16)


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
    digest, precision = response.headers["x-model-digest"].split()
    assert (len(digest), precision) == (64, "fp32")


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
    classifier = server.ready.classifier
    ((expected, _),) = stream(files, classifier.preparation, batch_size=8)
    for path, pixels in zip(files, expected, strict=True):
        assert (classifier.prepare(path.read_bytes()) == pixels).all()


def test_bf16_is_a_setting_and_off_by_default(config: ServeConfig, server: InProcess) -> None:
    with InProcess(replace(config, precision="bf16")) as other:
        fast = other.until_ready().post(GOOD, accept="*/*;verbose").json()["probabilities"]
    exact = server.post(GOOD, accept="*/*;verbose").json()["probabilities"]
    assert fast != exact
    np.testing.assert_allclose(fast, exact, atol=0.2)


def test_classes_of_another_scheme_have_names_and_no_attributes(tmp_path: Path) -> None:
    scheme = LabelScheme("folders", ("cat", "d\N{LATIN SMALL LETTER O WITH DIAERESIS}g, wet"))
    with InProcess(ServeConfig(model_dir=publish_model(tmp_path / "pets", scheme), device="cpu")) as server:
        record = server.until_ready().post(GOOD).json()
        assert list(record) == ["prediction", "label", "probability"]
        assert record["label"] == scheme.classes[record["prediction"]]
        cells = csv_row(server.post(GOOD, accept="text/csv;verbose"))
    assert cells[1] == record["label"]
    assert len(cells) == 4 + 2


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
