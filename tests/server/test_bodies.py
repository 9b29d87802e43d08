"""A body is an image of any supported kind, perhaps compressed, and never larger than the limit."""

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator
from typing import cast

import pytest
from starlette.requests import Request

from server.bodies import PART_BYTES, Body, BodyReader
from server.compression import CompressionError, decompress
from server.responses import RequestError
from support.serving import InProcess, chunks, encoded_image


def test_a_gzip_bomb_is_not_decompressed_beyond_the_limit() -> None:
    bomb = gzip.compress(bytes(50 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(CompressionError):
            decompress(bomb, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_body_of_exactly_the_limit_is_decompressed() -> None:
    assert decompress(gzip.compress(bytes(1 << 20)), 1 << 20) == bytes(1 << 20)


@pytest.mark.parametrize(
    "content_type", [None, "", "application/octet-stream", "binary/octet-stream", "application/x-image", "image/png"]
)
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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "PPM", "GIF", "TIFF", "AVIF"])
@pytest.mark.parametrize(
    "media_type", ["image/jpg", "image/x-portable-pixmap", "IMAGE/PNG; q=1", "application/x-image"]
)
def test_any_image_content_type_goes_with_any_kind_of_image(server: InProcess, kind: str, media_type: str) -> None:
    assert server.post(encoded_image(3, kind), content_type=media_type).status == 200


def test_a_body_of_exactly_the_limit_is_accepted(server: InProcess) -> None:
    body = encoded_image(1, "BMP")
    assert server.post(body + bytes((1 << 20) - len(body))).status == 200


def test_a_body_without_a_length_is_rejected_as_soon_as_it_exceeds_the_limit(server: InProcess) -> None:
    sent: list[int] = []
    response = server.post(chunks(50 << 20, sent))
    assert (response.status, response.error) == (413, "payload_too_large")
    assert sum(sent) <= (1 << 20) + (2 << 16)


# the budget of all bodies together


class Arriving:
    """A request whose body arrives in part, and its end when the client sends it."""

    def __init__(self, reader: BodyReader, size: int) -> None:
        self.headers: dict[str, str] = {}
        self.size, self.end, self.responded = size, asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self._read(reader))

    async def stream(self) -> AsyncIterator[bytes]:
        yield bytes(self.size)
        await self.end.wait()
        yield b"x"

    async def _read(self, reader: BodyReader) -> int:
        with reader.buffer() as body:
            await reader.read(cast(Request, self), body)
            size = body.size
            await self.responded.wait()
            return size


async def some_steps() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def outcome(request: Arriving) -> int | str:
    """Return the size of the body, or the code of the error."""
    try:
        return await request.task
    except RequestError as error:
        return f"{error.status} {error.code}"


def test_when_the_budget_is_used_up_the_oldest_body_that_still_arrives_is_given_up() -> None:
    async def scenario() -> None:
        reader = BodyReader(limit=100, budget=100)
        slow = [Arriving(reader, 30) for _ in range(3)]
        await some_steps()
        for _ in range(2):
            quick = Arriving(reader, 20)
            quick.end.set()
            quick.responded.set()
            assert await outcome(quick) == 21
        assert reader.buffered == 60
        for request in slow:
            request.end.set()
            request.responded.set()
        assert [await outcome(request) for request in slow] == ["503 overloaded", 31, 31]
        assert reader.buffered == 0

    asyncio.run(scenario())


def test_a_body_that_has_arrived_is_never_given_up() -> None:
    async def scenario() -> None:
        reader = BodyReader(limit=100, budget=100)
        whole = [Arriving(reader, 40) for _ in range(2)]
        for request in whole:
            request.end.set()
        await some_steps()
        assert await outcome(Arriving(reader, 30)) == "503 overloaded"
        for request in whole:
            request.responded.set()
        assert [await outcome(request) for request in whole] == [41, 41]
        assert reader.buffered == 0

    asyncio.run(scenario())


def test_giving_up_ends_what_still_arrives_and_nothing_else() -> None:
    async def scenario() -> None:
        reader = BodyReader(limit=100, budget=100)
        slow, whole, cancelled = (Arriving(reader, 10) for _ in range(3))
        whole.end.set()
        whole.responded.set()
        await some_steps()
        cancelled.task.cancel()
        reader.give_up(RequestError(503, "stopping", "stop"))
        assert await outcome(slow) == "503 stopping"
        assert await outcome(whole) == 11
        with pytest.raises((asyncio.CancelledError, RequestError)):
            await cancelled.task
        assert reader.buffered == 0

    asyncio.run(scenario())


def test_a_cancelled_request_stays_cancelled() -> None:
    async def scenario() -> None:
        reader = BodyReader(limit=100, budget=100)
        request = Arriving(reader, 10)
        await some_steps()
        request.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request.task
        assert reader.buffered == 0

    asyncio.run(scenario())


def test_a_body_in_small_pieces_takes_no_more_memory_than_its_bytes() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(50_000):
            yield b"x"

    class InPieces:
        headers: dict[str, str] = {}  # noqa: RUF012
        stream = staticmethod(pieces)

    body = Body()
    tracemalloc.start()
    try:
        asyncio.run(BodyReader(100_000, 100_000).read(cast(Request, InPieces()), body))
        assert body.size == len(b"".join(body.parts)) == 50_000
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


def test_the_parts_of_a_body_are_those_that_arrived_and_only_small_ones_are_joined() -> None:
    body, large = Body(), bytes(PART_BYTES)
    sent = [b"a", b"b", b"c", large, b"d", large, b"e" * (PART_BYTES - 1), b"f", b"g"]
    for chunk in sent:
        body.append(chunk)
    parts = body.take()
    assert b"".join(parts) == b"".join(sent)
    assert [len(part) for part in parts] == [1, 2, PART_BYTES, 1, PART_BYTES, PART_BYTES, 1]
    assert sum(part is large for part in parts) == 2
    assert (body.size, body.parts) == (sum(map(len, sent)), [])
