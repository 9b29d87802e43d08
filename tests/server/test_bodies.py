"""A compressed body is unpacked up to its limit and no further."""

import gzip
import tracemalloc

import pytest

from server.bodies import decompress
from server.responses import Problem


def test_a_gzip_bomb_is_not_unpacked_to_see_how_large_it_is() -> None:
    bomb = gzip.compress(bytes(50 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(Problem):
            decompress(bomb, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_body_of_just_the_limit_comes_through() -> None:
    assert decompress(gzip.compress(bytes(1 << 20)), 1 << 20) == bytes(1 << 20)
