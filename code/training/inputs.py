"""The data of a training run: samples, split, every image prepared once, and how images are changed.

Decoding goes on while the first epoch trains, unless something depends on all images before the first step: under
`--on-bad-image skip` the split and the number of steps depend on who is left out, and `--statistics dataset` on every
pixel. Under `error` nothing does: an image that cannot be used ends the run before its first epoch is over, and
nothing is published.
"""

import csv
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from augmentation import BaseAugmentation, Triple, create_augmentation
from config import MAY_DIFFER, TrainConfig
from data.image_store import ImageStore
from data.images import IMAGENET_MEAN, IMAGENET_STD, ORIGINAL_MEAN, ORIGINAL_STD
from data.loader import Loader
from data.store_cache import StoreCache
from dataset import MaskBaseDataset, create_dataset, pixel_statistics
from runtime.errors import DataError
from runtime.files import replacing
from training.tracking import progress


@dataclass
class Data:
    """Samples, their prepared pixels, who is in which part, and how images are changed."""

    dataset: MaskBaseDataset
    store: ImageStore
    indices: dict[str, NDArray[np.int64]]
    bad: list[int]
    augmentation: BaseAugmentation

    def loaders(self, args: TrainConfig, device: torch.device) -> tuple[Loader, Loader]:
        """(training, validation)."""
        labels = self.dataset.samples.labels
        return (
            Loader(
                self.store,
                labels,
                self.indices["train"],
                batch_size=args.batch_size,
                device=device,
                seed=args.seed,
                order=args.sampler,
            ),
            Loader(self.store, labels, self.indices["val"], batch_size=args.valid_batch_size, device=device),
        )

    def write_split(self, path: Path) -> None:
        """Write who is where: path, person, label, and train, val or unusable."""
        table = self.dataset.samples.table
        parts = self.dataset.split.tolist()
        for row in self.bad:
            parts[row] = "unusable"
        with replacing(path) as file:
            writer = csv.writer(file)
            writer.writerow(("path", "person", "label", "split"))
            writer.writerows(zip(table["path"], table["person"], table["label"], parts, strict=True))

    def fingerprint(self, args: TrainConfig) -> dict[str, Any]:
        """What the result depends on; a checkpoint with another one is not continued."""
        options = {name: value for name, value in asdict(args).items() if name not in MAY_DIFFER}
        return options | {"data": self.dataset.samples.fingerprint(), "unusable pictures": self.bad}


def read_data(data_dir: Path, args: TrainConfig, store_dir: Path | None = None) -> Data:
    """Read the table, split it, and start to decode every image once; a `store_dir` keeps them for the next job."""
    dataset = create_dataset(args.dataset, data_dir, val_ratio=args.val_ratio, seed=args.seed, fold=args.fold_numbers)
    if dataset.people_in_both_parts:
        print(
            "warning: MaskBaseDataset splits by image, so people are in both parts; its scores flatter",
            file=sys.stderr,
        )
    statistics = {"imagenet": (IMAGENET_MEAN, IMAGENET_STD)}.get(args.statistics, (ORIGINAL_MEAN, ORIGINAL_STD))
    augmentation = _augmentation(args, statistics)
    store = _fill_store(dataset, augmentation, args, store_dir)
    bad = sorted(store.bad) if args.on_bad_image == "skip" else []

    indices = {part: np.setdiff1d(dataset.indices(part), bad) for part in ("train", "val")}
    if not len(indices["train"]) or not len(indices["val"]):
        raise DataError(f"no usable images left to train on or to validate with: {data_dir}")
    if args.statistics == "dataset":
        augmentation = _augmentation(args, pixel_statistics(store.pixels, indices["train"]))
    people = dataset.samples.table["person"].nunique()  # of class folders, every image is its own
    whose = f"{people} people, " if people < len(dataset.samples.table) else ""
    print(
        f"data: {len(indices['train'])} images to train on, {len(indices['val'])} to validate with, {whose}"
        f"{dataset.num_classes} classes, {len(bad)} left out, {dataset.samples.ignored_files} other files passed over",
        flush=True,
    )
    return Data(dataset, store, indices, bad, augmentation)


def _fill_store(
    dataset: MaskBaseDataset, augmentation: BaseAugmentation, args: TrainConfig, store_dir: Path | None
) -> ImageStore:
    """The store, filling, or full where something depends on every image."""
    paths, preparation = dataset.samples.paths, augmentation.preparation
    kept = StoreCache(store_dir, dataset.samples.root, paths, preparation) if store_dir else None
    store = ImageStore(
        paths,
        preparation,
        threads=args.threads,
        memory_share=args.store_memory,
        cache=kept,
        on_bad_image=args.on_bad_image,
        max_bad_ratio=args.max_bad_ratio,
    )
    if args.on_bad_image == "skip" or args.statistics == "dataset":
        for row in progress(range(len(paths)), len(paths), "decode"):
            store.wait(np.array([row]))
        store.wait()
        for row in sorted(store.bad):
            print(f"left out: {store.bad[row]}", file=sys.stderr)
    return store


def _augmentation(args: TrainConfig, statistics: tuple[Triple, Triple]) -> BaseAugmentation:
    arguments: dict[str, Any] = dict(args.augmentation_args)
    return create_augmentation(args.augmentation, args.resize, *statistics, args.crop, **arguments)
