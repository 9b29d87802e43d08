"""Whatever is sent, the server responds with a prediction or a message: no 5xx, no traceback, no growing memory.

FUZZ_REQUESTS=100000 pytest tests/server/test_fuzz.py      `make fuzz`; 10,000 without
"""

import asyncio
import gc
import io
import os
import re
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from server.settings import ServeConfig
from support.serving import HttpResponse, InProcess, Running, encoded_image, running

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "10000"))
IMAGES, HEADERS = REQUESTS * 9 // 10, REQUESTS // 20
SOCKETS = REQUESTS - IMAGES - HEADERS
AT_ONCE = 32
WARM_UP = 0.4  # of the requests, before memory is compared
GROWTH = 1.05
EXPECTED = {200, 400, 404, 405, 406, 408, 413, 415, 422, 431}


@pytest.fixture(scope="module")
def server(model_dir: Path) -> Iterator[InProcess]:
    with InProcess(ServeConfig(model_dir=model_dir, device="cpu", max_payload_mb=1)) as server:
        yield server.until_ready()
        assert server.logged == []


def check(response: HttpResponse) -> None:
    assert response.status in EXPECTED
    if (
        response.status == 200
        and response.headers.get("content-type") == "application/json"
        and b"prediction" in response.body
    ):
        assert response.json()["prediction"] in range(18)
    elif response.status != 200:
        assert response.error


def seeds() -> list[bytes]:
    """Return one file of every kind that is supported, and of some that are not."""
    exif = Image.Exif()
    exif[0x0112] = 6
    found = [
        encoded_image(1),
        encoded_image(2, "JPEG", progressive=True, quality=95),
        encoded_image(3, "JPEG", exif=exif),
    ]
    found += [encoded_image(4, kind) for kind in ("PNG", "WEBP", "BMP", "PPM", "GIF", "TIFF", "AVIF", "ICO")]
    found += [encoded_image(5, "WEBP", lossless=True), encoded_image(6, "JPEG", size=(640, 480))]
    for mode in ("CMYK", "L", "P", "1"):
        buffer = io.BytesIO()
        Image.open(io.BytesIO(encoded_image(7))).convert(mode).save(buffer, "JPEG" if mode in ("CMYK", "L") else "PNG")
        found.append(buffer.getvalue())
    return found


def mutated(data: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """Return a file with some bytes changed, cut, repeated, or taken from another file."""
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 4))):
        at = int(random.integers(0, len(changed) + 1) * random.random() ** 2)  # the headers most of all
        match int(random.integers(0, 6)):
            case 0 | 1:
                for index in random.integers(0, len(changed), int(random.integers(1, 9))) if changed else ():
                    changed[index] = int(random.integers(0, 256))
            case 2:
                changed[at : at + 4] = random.bytes(4)
            case 3:
                del changed[at : at + int(random.integers(1, 1 + len(changed)))]
            case 4:
                changed[at:at] = changed[at : at + 64]
            case 5:
                changed[at:at] = other[int(random.integers(0, len(other))) :][:256]
    return bytes(changed)


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_no_damaged_image_is_a_server_error(server: InProcess) -> None:
    random, files = np.random.default_rng(0), seeds()
    types = [b"image/jpeg", b"image/png", b"application/octet-stream", b"application/x-image", b"", b"text/plain"]
    encodings = [b"identity"] * 30 + [b"gzip", b"br"]
    statuses: Counter[int] = Counter()

    async def send() -> int:
        data, other = files[random.integers(len(files))], files[random.integers(len(files))]
        body = data if random.random() < 0.02 else mutated(data, other, random)
        headers = [
            (b"content-type", types[int(random.integers(len(types)) * random.random())]),
            (b"content-encoding", encodings[random.integers(len(encodings))]),
        ]
        response = await server.exchange("POST", "/invocations", body, headers)
        check(response)
        return response.status

    async def many(count: int) -> None:
        for start in range(0, count, AT_ONCE):
            statuses.update(await asyncio.gather(*(send() for _ in range(min(AT_ONCE, count - start)))))

    warm_up = int(IMAGES * WARM_UP)
    asyncio.run_coroutine_threadsafe(many(warm_up), server._loop).result()
    before = resident_bytes()
    asyncio.run_coroutine_threadsafe(many(IMAGES - warm_up), server._loop).result()
    assert resident_bytes() < GROWTH * before
    assert statuses.keys() >= {200, 415, 422}
    assert statuses.total() == IMAGES


NAMES = st.sampled_from(
    [*("content-type", "content-length", "content-encoding", "accept", "expect", "transfer-encoding", "x-y")]
)
VALUES = st.one_of(
    st.sampled_from(
        [
            *("image/jpeg", "application/json;verbose", "text/csv", "*/*", "application/*;q=0.5", "text/*;q=x"),
            *("gzip", "identity", "chunked", "100-continue", "0", "-1", "1048577", "9" * 30, "1e3", ""),
        ]
    ),
    st.text(st.characters(max_codepoint=255), max_size=40),
)
BODIES = st.one_of(st.binary(max_size=300), st.binary(max_size=50).map(lambda tail: encoded_image(1) + tail))


@settings(
    max_examples=HEADERS,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    method=st.sampled_from(["POST", "POST", "POST", "GET", "HEAD", "PUT", "OPTIONS", "x"]),
    path=st.one_of(st.sampled_from(["/invocations", "/ping", "/execution-parameters", "/"]), st.text(max_size=20)),
    headers=st.lists(st.tuples(NAMES, VALUES), max_size=6),
    parts=st.lists(BODIES, max_size=3),
)
def test_no_headers_and_no_parts_of_a_body_are_a_server_error(
    server: InProcess, method: str, path: str, headers: list[tuple[str, str]], parts: list[bytes]
) -> None:
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    check(server.run(server.exchange(method, path, iter(parts), encoded)))


def wire(random: np.random.Generator, files: list[bytes]) -> bytes:
    """Return the bytes for a connection: a few requests, most of them damaged."""
    requests = []
    for _ in range(int(random.integers(1, 4))):
        body = files[random.integers(len(files))]
        head = [b"POST /invocations HTTP/1.1", b"Host: here", b"Content-Type: image/jpeg"]
        if random.random() < 0.3:
            head.append(b"Transfer-Encoding: chunked")
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        else:
            head.append(b"Content-Length: %d" % len(body))
        requests.append(b"\r\n".join([*head, b"", b""]) + body)
    data = b"".join(requests)
    return data if random.random() < 0.1 else mutated(data, requests[0], random)


def talk(server: Running, data: bytes) -> list[int]:
    """Send everything, close the sending side, and return the statuses of the responses."""
    got = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            while part := client.recv(1 << 16):
                got += part
        except (ConnectionResetError, BrokenPipeError):
            pass  # the server closed the connection first
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([2-5]\d\d) ", got)]  # not the interim 100


def test_no_bytes_on_a_connection_are_a_server_error(model_dir: Path) -> None:
    random, files = np.random.default_rng(1), seeds()
    statuses: Counter[int] = Counter()
    with running(model_dir, SERVE_RECEIVE_SECONDS=2) as server:
        for number in range(SOCKETS):
            statuses.update(talk(server, wire(random, files)))
            if number == int(SOCKETS * WARM_UP):
                before = server.resident_bytes()
        assert server.resident_bytes() < GROWTH * before
        assert server.post(files[0]).status == 200
        code, output = server.stop()
    assert statuses.keys() <= EXPECTED
    assert statuses.keys() >= {200, 400}
    assert code == 0
    assert [line.split(":")[0].split(";")[0] for line in output.splitlines()] == ["ready", "ended"], output


def test_the_parts_make_up_the_whole() -> None:
    counts: list[Any] = [IMAGES, HEADERS, SOCKETS]
    assert sum(counts) == REQUESTS
