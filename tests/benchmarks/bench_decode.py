"""Decoding in processes with limits, against a DataLoader with as many workers and against threads.

    python tests/benchmarks/bench_decode.py --rounds 5

Every leg decodes the same images in the same random order, in batches of 64, with workers that are ready. `own CPU` is
the CPU time of the main process for each image, which bounds what more CPUs can reach: at most 30 microseconds. The
decoding alone reaches 2.5 times the images per second of the DataLoader. A bar that is reached has a +. The legs take
turns; compare only what one run prints.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[2] / name) for name in ("code", "container", "tests"))

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from benchmarks.legs import draw_images
from benchmarks.original_pipeline import OriginalDataset, base_transform
from data.decode_pool import DecodePool, SharedPixels
from data.images import Pixels, Preparation, is_image_file, prepare
from runtime.process import cpu_count

BATCH = 64
MOST_OWN_CPU, LEAST_RATIO = 30e-6, 2.5
Cost = tuple[float, float]  # seconds, and seconds of CPU of the main process


def measured(batches: Iterator[object], count: int) -> Cost:
    """Return the cost of `count` batches after the first; starting and ending workers is not counted."""
    next(batches)
    started, own_started = time.perf_counter(), time.process_time()
    for _ in range(count):
        next(batches)
    return time.perf_counter() - started, time.process_time() - own_started


def through_pool(paths: Sequence[Path], order: NDArray[np.int64], preparation: Preparation) -> Iterator[Pixels]:
    """Decode as training does: in the order of the batches, which are copied from the shared array."""
    target = SharedPixels.in_memory((len(paths), *preparation.size, 3))
    pool = DecodePool(paths, preparation, target)
    pool.prioritize(order)
    for start in range(0, len(order), BATCH):
        indices = order[start : start + BATCH]
        pool.wait(indices)
        yield target.array.take(indices, 0)


def through_threads(paths: Sequence[Path], order: NDArray[np.int64], preparation: Preparation) -> Iterator[Pixels]:
    """Decode in threads of the main process."""
    with ThreadPoolExecutor(cpu_count()) as pool:
        found = pool.map(lambda index: prepare(paths[index], preparation), order)
        for start in range(0, len(order), BATCH):
            yield np.stack([next(found) for _ in order[start : start + BATCH]])


def through_data_loader(paths: Sequence[Path], order: NDArray[np.int64], preparation: Preparation) -> Iterator[object]:
    """Decode as the original pipeline does."""
    dataset = OriginalDataset(paths, [0] * len(paths), base_transform(preparation.size))
    yield from DataLoader(dataset, BATCH, sampler=order.tolist(), num_workers=cpu_count())


LEGS: dict[str, Callable[[Sequence[Path], NDArray[np.int64], Preparation], Iterator[object]]] = {
    "pool": through_pool,
    "threads": through_threads,
    "DataLoader": through_data_loader,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds after the first, which warms up")
    parser.add_argument("--images", type=int, default=1792, help="number of images")
    parser.add_argument("--size", nargs=2, type=int, default=(128, 96), help="height and width of the images")
    parser.add_argument("--data", type=Path, help="folder with images, instead of drawn images")
    args = parser.parse_args()
    steps = args.images // BATCH - 1
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.data or draw_images(Path(scratch) / "images", 32, -(-args.images // 7))
        paths = [path for path in sorted(folder.rglob("*")) if is_image_file(path.name)][: args.images]
        order = np.random.default_rng(0).permutation(len(paths))
        costs: dict[str, list[Cost]] = {name: [] for name in LEGS}
        for turn in range(args.rounds + 1):
            for name, leg in LEGS.items():
                cost = measured(leg(paths, order, Preparation(tuple(args.size))), steps)
                costs[name] += [cost] if turn else []
    count = steps * BATCH
    print(f"decoding {len(paths)} images with {cpu_count()} workers         images/s   own CPU, microseconds")
    rates = {}
    for name, found in costs.items():
        rates[name] = count / statistics.median(seconds for seconds, _ in found)
        own = statistics.median(own_seconds for _, own_seconds in found) / count
        bar = f"  at most {MOST_OWN_CPU * 1e6:.0f} {'+' if own <= MOST_OWN_CPU else '-'}" if name == "pool" else ""
        print(f"  {name:<44} {rates[name]:9.0f} {own * 1e6:11.1f}{bar}")
    ratio = rates["pool"] / rates["DataLoader"]
    print(f"  pool / DataLoader {ratio:36.2f}  at least {LEAST_RATIO} {'+' if ratio >= LEAST_RATIO else '-'}")


if __name__ == "__main__":
    main()
