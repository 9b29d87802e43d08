"""A body is an image of any supported kind, perhaps compressed, and never larger than the limit."""

import gzip
import tracemalloc

import pytest

from server.bodies import decompress
from server.responses import RequestError
from support.serving import InProcess, chunks, encoded_image


def test_a_gzip_bomb_is_not_decompressed_beyond_the_limit() -> None:
    bomb = gzip.compress(bytes(50 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(RequestError):
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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "PPM"])
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
