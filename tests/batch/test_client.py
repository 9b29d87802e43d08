"""Every object is posted as SageMaker posts it, failed ones are retried, and a stopped transform is resumed."""

import os
import re
import shutil
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from batch.client import Endpoint, ServerError
from runtime.arguments import parse
from runtime.errors import ConfigError, DataError
from support.processes import Process
from support.serving import encoded_image
from support.transform_container import Container, command, outs
from transform import TransformConfig, transform


def predictions(output: Path) -> dict[str, str]:
    return dict(pd.read_csv(output, dtype=str, keep_default_na=False)[["ImageID", "ans"]].itertuples(index=False))


def replace_keeping_times(path: Path, data: bytes) -> None:
    """Replace a file as tools do that keep the modification time."""
    times = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


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


def test_an_object_that_vanishes_fails_and_the_other_responses_are_kept(
    config: TransformConfig, container: Container
) -> None:
    container.on_post = lambda: (config.data_dir / "images" / "8.jpg").unlink(missing_ok=True)
    with pytest.raises(DataError, match=r"1 of 9 objects failed.*: cannot be opened \(No such file.*8\.jpg"):
        transform(replace(config, max_concurrent_transforms=1))
    assert len(outs(config)) == 8


@pytest.mark.parametrize("body", [[1], {"predictions": [0.5]}, {"prediction": 0.5}])
def test_a_response_that_is_none_of_this_image_is_named(
    config: TransformConfig, container: Container, body: Any
) -> None:
    container.predict = lambda size: body
    with pytest.raises(DataError, match=r"^not a response of this image, expected JSON with `prediction`.*\.jpg\.out$"):
        transform(config)


@pytest.mark.parametrize(
    ("headers", "reason"), [({"Content-Encoding": "gzip"}, "DecodeError"), ({"Location": "/"}, "ResponseError")]
)
def test_a_response_that_cannot_be_read_fails_its_object_or_the_job(
    config: TransformConfig, container: Container, headers: dict[str, str], reason: str
) -> None:
    container.headers, container.status = headers, 302 if "Location" in headers else 200
    with pytest.raises(ServerError, match=rf"^no response \({reason}\) to /execution-parameters, expected"):
        transform(replace(config, max_retries=0))
    endpoint = Endpoint(container.url, timeout_seconds=5, max_retries=0)
    with pytest.raises(DataError, match=rf"^no response \({reason}\)$"):
        endpoint.invoke(b"x")


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:8080", "ftp://x", "http://", "http://127.0.0.1:99999", "a server", "http://[::1", "http://x?y"),
        *("http://127.0.0.1:8080/invocations", "http://127.0.0.1:8080/ping/"),
    ],
)
def test_a_url_at_which_no_server_can_be_is_rejected_at_once(url: str) -> None:
    with pytest.raises(ConfigError, match=rf"^--url: {re.escape(repr(url))} is not the address of a server, expected"):
        parse("transform.py", ["--url", url], {}, TransformConfig)


def test_every_address_of_a_server_is_accepted() -> None:
    for url in ("http://127.0.0.1:8080", "https://x/", "http://[::1]:80", "127.0.0.1:8080", "http://x/behind/a/proxy"):
        assert parse("transform.py", ["--url", url], {}, TransformConfig)[0].url == url


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
    with pytest.raises(ServerError, match=r"/ping did not return 200 within 0\.2 seconds \(NewConnectionError\), "):
        Endpoint("http://127.0.0.1:9", timeout_seconds=1, max_retries=0).wait(0.2)
    with pytest.raises(ServerError, match="exited before it was ready; see its output above"):
        Endpoint("http://127.0.0.1:9", timeout_seconds=1, max_retries=0, is_alive=lambda: False).wait(0.2)


# resuming


def test_a_killed_job_is_resumed_and_the_result_is_the_same(
    config: TransformConfig, container: Container, tmp_path: Path
) -> None:
    undisturbed = transform(replace(config, output_dir=tmp_path / "undisturbed"))
    container.sizes.clear()
    with Process(**command(config)) as process:

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
    replace_keeping_times(images / "3.jpg", b"one")  # of the same size
    os.utime(images / "4.jpg", (1, 1))  # the same bytes
    (config.output_dir / "transform" / "5.jpg.out").write_text('{"predict')
    (config.output_dir / "transform" / "6.jpg.out").unlink()
    transform(config)
    assert container.sizes == {3: 1, 5: 1, 6: 1}


def test_images_that_were_swapped_under_the_same_names_and_times_are_sent_again(
    config: TransformConfig, container: Container
) -> None:
    images = config.data_dir / "images"
    assert predictions(transform(config))["1.jpg"] == "1"
    first, second = (images / name for name in ("1.jpg", "2.jpg"))
    contents = first.read_bytes(), second.read_bytes()
    replace_keeping_times(first, contents[1])
    replace_keeping_times(second, contents[0])
    found = predictions(transform(config))
    assert (found["1.jpg"], found["2.jpg"], found["3.jpg"]) == ("2", "1", "3")
    assert container.sizes == dict.fromkeys(range(1, 10), 1) | {1: 2, 2: 2}


def test_another_folder_with_the_same_names_and_times_is_sent(config: TransformConfig, container: Container) -> None:
    transform(config)
    other = config.data_dir.with_name("other")
    shutil.copytree(config.data_dir, other)  # keeps the times
    for path in (other / "images").rglob("*.jpg"):
        replace_keeping_times(path, path.read_bytes() * 20)
    assert predictions(transform(replace(config, data_dir=other)))["8.jpg"] == "160"
    assert container.sizes.total() == 18


def test_a_response_that_is_not_kept_is_removed_even_if_its_object_then_fails(
    config: TransformConfig, container: Container
) -> None:
    transform(config)
    replace_keeping_times(config.data_dir / "images" / "3.jpg", b"one")
    container.statuses = {3: [422]}
    with pytest.raises(DataError, match="1 of 9 objects failed"):
        transform(config)
    assert "3.jpg.out" not in outs(config)


def test_responses_of_version_0_1_0_are_requested_again(config: TransformConfig, container: Container) -> None:
    """That version recorded the model and compared modification times."""
    transform(config)
    folder = config.output_dir / "transform"
    (folder / ".transform.journal").unlink()
    (folder / ".transform.json").write_text('{"model": "one"}')
    container.sizes.clear()
    transform(config)
    assert container.sizes.total() == 9
    assert not (folder / ".transform.json").exists()


def test_an_image_that_is_gone_loses_its_prediction(config: TransformConfig, container: Container) -> None:
    transform(config)
    (config.data_dir / "images" / "3.jpg").unlink()
    container.digest = "two"
    found = predictions(transform(config))
    assert (found["3.jpg"], found["4.jpg"]) == ("", "4")
    assert "3.jpg.out" not in outs(config)


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


def test_without_a_single_prediction_there_is_no_table(config: TransformConfig, container: Container) -> None:
    container.predict = lambda size: {"prediction": None, "error": {"code": "x", "message": "it is none"}}
    with pytest.raises(DataError, match=r"none of the 9 images can be used: it is none: deep/er/9\.jpg"):
        transform(config)
    assert not (config.output_dir / "output.csv").exists()


def test_the_bytes_of_an_image_are_posted_unchanged(config: TransformConfig, container: Container) -> None:
    body = encoded_image(1, "PNG")
    (config.data_dir / "images" / "1.jpg").write_bytes(body)
    transform(config)
    assert container.sizes[len(body)] == 1
