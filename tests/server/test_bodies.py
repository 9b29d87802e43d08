"""A compressed body is decompressed up to its limit and no further."""

import gzip
import tracemalloc

import pytest

from server.bodies import decompress
from server.responses import RequestError


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
