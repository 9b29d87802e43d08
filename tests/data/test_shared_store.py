"""Workers of one host share one array of decoded images; here they are threads."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.digests import file_digests
from data.image_store import ImageStore
from data.images import Preparation
from data.store_cache import StoreCache
from runtime.errors import DataError
from support.worker_threads import raised, run_workers
from training.workers import Workers

PREPARATION = Preparation((32, 24))


@pytest.fixture
def paths(faces: Callable[..., Path]) -> list[Path]:
    return sorted(faces(3).rglob("*.jpg"))


def share(paths: list[Path], work: Callable[[ImageStore], Any], size: int = 3, **options: Any) -> list[Any]:
    """Return `work(store)` of each worker."""

    def start(worker: Workers) -> Any:
        peers = worker.host_peers()
        cache = options.get("cache") if worker.is_first else None
        store = ImageStore(paths, PREPARATION, processes=2, peers=peers, **options | {"cache": cache})
        found = work(store)
        if peers:
            peers.meet()
        return found

    return run_workers(size, start)


def contents(store: ImageStore) -> tuple[bytes, bytes, list[str]]:
    store.wait(np.arange(3))
    store.wait()
    assert store.complete
    return store.pixels.tobytes(), store.digests.known().tobytes(), [str(store.bad[i]) for i in sorted(store.bad)]


@pytest.mark.parametrize("memory_share", [0.5, 0.0])
def test_all_workers_read_what_one_has_decoded(paths: list[Path], memory_share: float) -> None:
    (expected,) = share(paths, contents, size=1)
    assert share(paths, contents, memory_share=memory_share) == [expected] * 3


def test_workers_share_one_piece_of_memory(paths: list[Path]) -> None:
    def change(store: ImageStore) -> int:
        store.wait()
        if store.pixels.flags.writeable:
            store.pixels[0] = 7
            store.pixels[1] = 8
        while not (store.pixels[1] == 8).all():
            pass
        return int(store.pixels[0].max())

    assert share(paths, change) == [7, 7, 7]


def test_a_bad_image_is_the_same_sentence_on_every_worker(paths: list[Path]) -> None:
    paths[4].write_bytes(b"text")
    sentences = share(paths, lambda store: raised(store.wait, DataError))
    assert len(set(sentences)) == 1
    assert f"1 of {len(paths)} images cannot be used" in sentences[0]
    assert str(paths[4]) in sentences[0]
    for _, _, bad in share(paths, contents, on_bad_image="skip", max_bad_ratio=0.5):
        assert [str(paths[4]) in sentence for sentence in bad] == [True]


def test_a_warm_cache_is_read_by_all_and_a_cold_one_is_written_once(paths: list[Path], tmp_path: Path) -> None:
    paths[4].write_bytes(b"text")
    (expected,) = share(paths, contents, size=1, on_bad_image="skip", max_bad_ratio=0.5)

    def open_cache() -> StoreCache:
        return StoreCache(tmp_path / "store", [path.name for path in paths], paths, PREPARATION)

    options: dict[str, Any] = {"on_bad_image": "skip", "max_bad_ratio": 0.5}
    for _ in ("cold", "warm"):
        assert share(paths, contents, cache=open_cache(), **options) == [expected] * 3
        assert len(list((tmp_path / "store").iterdir())) == 2
    assert next(iter(file_digests(paths[:1]))) == expected[1][:32]
