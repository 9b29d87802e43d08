"""Stores that use a store cache, as a training job does."""

from pathlib import Path

from data.image_store import ImageStore
from data.images import Pixels, Preparation
from data.samples import Samples
from data.store_cache import StoreCache

PREPARATION = Preparation((32, 24), (50, 40))


def entry(folder: Path, samples: Samples, preparation: Preparation = PREPARATION) -> StoreCache:
    return StoreCache(folder, samples.names, samples.paths, preparation)


def job(folder: Path, samples: Samples, **options: object) -> ImageStore:
    """Fill the store of a training job, with the folder as its cache."""
    store = ImageStore(samples.paths, PREPARATION, cache=entry(folder, samples), **options)  # type: ignore[arg-type]
    store.wait()
    return store


def is_warm(folder: Path, samples: Samples) -> bool:
    return entry(folder, samples).load() is not None


def fresh(samples: Samples) -> Pixels:
    store = ImageStore(samples.paths, PREPARATION)
    store.wait()
    return store.pixels
