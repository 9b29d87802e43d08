"""The data of a training run: the split, every image prepared once, and loaders of batches.

Images are decoded while the first epoch trains, unless something depends on all of them before the first step: with
`--on-bad-image skip` the number of steps depends on which images are left out, and `--statistics dataset` depends on
every pixel. With `--on-bad-image error` nothing does: an image that cannot be used ends the run before its first epoch
is complete, and nothing is published.
"""

import csv
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from augmentation import BaseAugmentation, Triple, create_augmentation
from config import TrainConfig
from data.decode_board import DecodeLimits
from data.image_store import ImageStore
from data.images import IMAGENET_MEAN, IMAGENET_STD, ORIGINAL_MEAN, ORIGINAL_STD, Pixels
from data.loader import Loader
from data.readers import AUTO, LAYOUTS
from data.samples import Samples
from data.shared_store import Peers
from data.store_cache import StoreCache
from data.summary import describe_classes, describe_found, describe_untrained, find_warnings
from dataset import MaskBaseDataset, create_dataset, pixel_statistics
from labels import LabelScheme, require_one_label
from runtime.errors import DataError, ImageError
from runtime.files import replacing
from training.fingerprint import TOO_EXPENSIVE
from training.initial import Start
from training.loss_weights import balanced_weights, check_image_weights
from training.tracking import progress
from training.without_effect import describe_without_effect

SplitRow = tuple[str, str, int | str, str]


@dataclass(frozen=True)
class Data:
    """What training needs of its images."""

    dataset: str  # name of the data set, also with `--dataset auto`
    scheme: LabelScheme
    augmentation: BaseAugmentation
    train_loader: Loader
    val_loader: Loader
    val_names: list[str]  # paths of the validation images, in the order of their loader
    class_weights: Tensor | None  # (classes,) for the loss; None without --class-weights balanced
    split: list[SplitRow]  # (path, person, label, "train" | "val" | "unusable") of every image
    fingerprint: dict[str, Any]  # what a result depends on besides the options, as JSON
    store: ImageStore  # all images, which are decoded after the first epoch
    val_indices: NDArray[np.int64]  # of the validation images in `store`

    @property
    def pixels(self) -> Pixels:
        """Return all images, prepared, (images, height, width, 3); complete after the first epoch."""
        return self.store.pixels

    def val_images(self, count: int) -> Pixels:
        """Return the first validation images, at most `count`, prepared, (count, height, width, 3)."""
        return self.pixels[self.val_indices[:count]]

    def val_image(self, position: int) -> Pixels:
        """Return the validation image at a position in `val_names`, prepared, (height, width, 3)."""
        image: Pixels = self.pixels[self.val_indices[position]]
        return image


def read_data(
    data_dir: Path,
    args: TrainConfig,
    device: torch.device,
    store_dir: str | Path | None = None,
    too_expensive: Collection[str] = (),
    validation_dir: str | Path | None = None,
    peers: Peers | None = None,
    labels_dir: str | Path | None = None,
    start: Start | None = None,
) -> Data:
    """Read the table, split it, and start to decode every image, or load them from the cache in `store_dir`.

    With `validation_dir`, its images are for validation instead of a part of those in `data_dir`. With
    `labels_dir`, the labels of those in `data_dir` are there. What the run starts from has its mean and std, by default
    those of the original.

    With `--on-bad-image skip`, the images with a name in `too_expensive` are left out without being decoded: what a
    decoder costs may differ from run to run. Raises DataError for a folder that cannot be trained on.
    """
    name, dataset = _read_dataset(data_dir, args, validation_dir, labels_dir)
    known = {"imagenet": (IMAGENET_MEAN, IMAGENET_STD)}
    if start:
        known["auto"] = (start.statistics.mean, start.statistics.std)
    augmentation = _augmentation(args, known.get(args.statistics, (ORIGINAL_MEAN, ORIGINAL_STD)))
    store = _create_store(dataset.samples, augmentation, args, store_dir, too_expensive, peers)
    bad = sorted(store.bad) if args.on_bad_image == "skip" else []
    train, val = (np.setdiff1d(dataset.indices(part), bad) for part in ("train", "val"))
    if not len(train) or not len(val):
        raise DataError(f"no usable images left to train on or to validate with: {data_dir}")
    if args.statistics == "dataset":
        augmentation = _augmentation(args, pixel_statistics(store.pixels, train))
    samples = dataset.samples
    check_image_weights(samples, train, val, args.criterion)
    _print_summary(dataset, len(train), len(val), len(bad), classes=args.dataset != AUTO)
    ignored = describe_without_effect(args, has_split=samples.has_split)
    for sentence in (*ignored, *find_warnings(samples), *describe_untrained(samples, train)):
        print(f"warning: {sentence}", file=sys.stderr)
    names = samples.table["path"].tolist()
    load = partial(Loader, store, samples.labels, weights=samples.weights, device=device)
    return Data(
        dataset=name,
        scheme=dataset.scheme,
        augmentation=augmentation,
        train_loader=load(train, batch_size=args.batch_size, seed=args.seed, order=args.sampler),
        val_loader=load(val, batch_size=args.valid_batch_size),
        val_names=[names[index] for index in val],
        class_weights=balanced_weights(samples, train, val) if args.class_weights == "balanced" else None,
        split=_split_rows(dataset, bad),
        fingerprint={
            "classes": list(dataset.scheme.classes),
            "data": samples.fingerprint(),
            "unusable images": bad,
            **_name_too_expensive(samples.names, store, bad),
            **(start.fingerprint if start else {}),
        },
        store=store,
        val_indices=val,
    )


def _read_dataset(
    data_dir: Path, args: TrainConfig, validation_dir: str | Path | None, labels_dir: str | Path | None
) -> tuple[str, MaskBaseDataset]:
    """Return the name of the data set and its table with the split; print what `--dataset auto` found."""
    dataset = create_dataset(
        args.dataset,
        data_dir,
        val_ratio=args.val_ratio,
        seed=args.seed,
        fold=args.fold_numbers,
        validation_dir=Path(validation_dir) if validation_dir else None,
        labels_dir=Path(labels_dir) if labels_dir else None,
        allow_leaks=args.allow_leaks,
        task=args.task,
    )
    if args.sampler == "balanced":
        require_one_label(dataset.scheme, "--sampler balanced", "pass --class-weights balanced")
    if args.min_precision:
        require_one_label(dataset.scheme, "--min-precision", "leave it out, as each class has its own threshold")
    name = type(dataset).__name__
    if args.dataset == AUTO:
        print(describe_found(dataset.samples, LAYOUTS[name].title), flush=True)
    if dataset.people_in_both_parts and not dataset.samples.has_split:
        print(
            f"warning: {name} splits by image, so the same person can be in both parts, which inflates the "
            "validation scores",
            file=sys.stderr,
        )
    return name, dataset


def write_split(path: Path, rows: Iterable[SplitRow]) -> None:
    """Write split.csv: the part that each image is in, which is train, val or unusable."""
    with replacing(path) as file:
        writer = csv.writer(file)
        writer.writerow(("path", "person", "label", "split"))
        writer.writerows(rows)


def _split_rows(dataset: MaskBaseDataset, bad: Iterable[int]) -> list[SplitRow]:
    """Return path, person, label and part of every image."""
    table, parts = dataset.samples.table, dataset.split.tolist()
    for index in bad:
        parts[index] = "unusable"
    return list(zip(table["path"], table["person"], table["label"], parts, strict=True))


def _name_too_expensive(names: Sequence[str], store: ImageStore, bad: Iterable[int]) -> dict[str, list[str]]:
    """Return the entry of the fingerprint with the images that cost too much to decode; nothing if there are none."""
    found = [names[index] for index in bad if store.bad[index].code == "too_expensive"]
    return {TOO_EXPENSIVE: found} if found else {}


def _create_store(
    samples: Samples,
    augmentation: BaseAugmentation,
    args: TrainConfig,
    store_dir: str | Path | None,
    too_expensive: Collection[str],
    peers: Peers | None,
) -> ImageStore:
    """Create the store, which decodes in the background; wait for it where something depends on every image."""
    paths, preparation = samples.paths, augmentation.preparation
    is_owner = peers is None or peers.is_owner
    store = ImageStore(
        paths,
        preparation,
        processes=args.threads,
        limits=DecodeLimits.from_options(args.decode_seconds, args.decode_memory_mb),
        memory_share=args.store_memory,
        cache=StoreCache(Path(store_dir), samples.names, paths, preparation) if store_dir and is_owner else None,
        on_bad_image=args.on_bad_image,
        max_bad_ratio=args.max_bad_ratio,
        left_out=_left_out(samples, too_expensive) if args.on_bad_image == "skip" else None,
        peers=peers,
    )
    if args.on_bad_image == "skip" or args.statistics == "dataset":
        for index in progress(range(len(paths)), len(paths), "decode"):
            store.wait(np.array([index]))
        store.wait()
        for index in sorted(store.bad):
            print(f"left out: {store.bad[index]}", file=sys.stderr)
    return store


def _left_out(samples: Samples, too_expensive: Collection[str]) -> dict[int, ImageError]:
    """Return the errors of images that are left out again, by index."""
    reason = "took more to decode than was allowed before this run was resumed"
    return {
        index: ImageError(f"{reason}: {samples.paths[index]}", "too_expensive")
        for index, name in enumerate(samples.names)
        if name in too_expensive
    }


def _augmentation(args: TrainConfig, statistics: tuple[Triple, Triple]) -> BaseAugmentation:
    """Create the augmentation that the options name, with a mean and a standard deviation."""
    arguments: dict[str, Any] = dict(args.augmentation_args)
    return create_augmentation(args.augmentation, args.resize, *statistics, args.crop, args.fit, **arguments)


def _print_summary(dataset: MaskBaseDataset, train: int, val: int, bad: int, *, classes: bool) -> None:
    """Print how many images are in each part and, with `classes`, in each class of class folders."""
    samples = dataset.samples
    groups = f"{samples.table['person'].nunique()} {'people' if samples.scheme.tasks else 'groups'}, "
    print(
        f"data: {train} images to train on, {val} to validate with, "
        f"{groups if samples.has_groups else ''}{dataset.num_classes} classes, "
        f"{bad} left out, {samples.ignored_files} other files ignored",
        *(describe_classes(samples) if classes else ()),
        sep="\n",
        flush=True,
    )
