"""Training and batch inference against the original pipeline and against their own ceiling, in one run.

    GOMP_SPINCOUNT=10000 python tests/benchmarks/bench_train.py --rounds 3

train.py and inference.py set that variable themselves.

    original  Pillow, torchvision's transforms, a DataLoader with 2 workers; original/2 with half as many as CPUs
    cold      ours in the first epoch, while images are decoded
    warm      ours in the first epoch of a second job on the same data, from the store cache
    later     ours in every later epoch
    ceiling   the same network on a batch that is in memory and normalised

Every leg takes the same steps of the same network in the same number format on the same images. The legs take turns,
the medians over the rounds are compared, and only the ratios mean something. On a machine with other work, look at the
ratio per second of CPU. A target that is reached has a +.
The last lines are the tables of README.md.
"""

import argparse
import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

sys.path.extend(str(Path(__file__).resolve().parents[2] / name) for name in ("code", "container", "tests"))

import numpy as np
import PIL
import torch
from torch import Tensor

from augmentation import BaseAugmentation
from benchmarks.command_legs import bench_commands
from benchmarks.legs import Bench, draw_images, show
from benchmarks.original_pipeline import OriginalLoader, base_transform, custom_transform
from benchmarks.train_table import inference_row, short_name, training_row, training_table, worker_table
from benchmarks.worker_legs import MODELS, bench_workers
from config import TrainConfig
from data.batch_draws import Draws
from data.loader import Batch, Loader
from data.samples import Samples
from dataset import create_dataset
from description import Description
from inference import inference
from labels import MASKED_FACES
from model_files import publish
from options.inference import InferenceConfig
from runtime.devices import configure_process, select_device
from runtime.process import cpu_count
from training.build import build_trainer
from training.inputs import Data, read_data
from training.trainer import Trainer

Item = TypeVar("Item")
TRANSFORMS = {"BaseAugmentation": base_transform, "CustomAugmentation": custom_transform}


@dataclass
class Training:
    """One network, and the ways to bring images to it."""

    config: TrainConfig
    folder: Path
    store_dir: Path
    device: torch.device
    steps: int

    def __post_init__(self) -> None:
        data = self.read(self.store_dir)
        self.loader = data.train_loader
        for _ in self.loader.epoch(0):  # until every image is decoded
            pass
        self.trainer = build_trainer(
            self.config, data.scheme, data.augmentation, self.device, steps_per_epoch=self.steps
        )
        self.bare = replace(self.trainer, augmentation=Ready(self.config.resize))
        images = self.trainer.augmentation.normalize(next(self.loader.epoch(0)).pixels).clone()
        labels = torch.arange(len(images), device=self.device) % 18
        self.resident = Batch(0, images, labels, np.arange(len(images)))

    @property
    def samples(self) -> Samples:
        """The table of the images, as the original read it."""
        return create_dataset(self.config.dataset, self.folder, val_ratio=self.config.val_ratio).samples

    def original_loader(self, workers: int) -> OriginalLoader:
        """Create the original's loader of the same training images."""
        samples = self.samples
        return OriginalLoader(
            [samples.paths[index] for index in self.loader.indices],
            samples.labels[self.loader.indices].tolist(),
            TRANSFORMS[self.config.augmentation](self.config.resize),
            batch_size=self.config.batch_size,
            workers=workers,
            device=self.device,
        )

    def ours(self, loader: Loader, trainer: Trainer | None) -> int:
        """Take the steps of an epoch; without a trainer, only create the batches."""
        count = 0
        for batch in limited(loader.epoch(1), self.steps):
            if trainer is None:
                augmentation, draw = self.trainer.augmentation, torch.Generator().manual_seed(batch.step)
                augmentation.augment(batch.pixels, augmentation.draw(batch.pixels.shape, draw).to(self.device))
            else:
                trainer.step(batch, 1, batch.step)
            count += len(batch.pixels)
        return count

    def original(self, loader: OriginalLoader, trainer: Trainer | None) -> int:
        """Take the same steps on batches of the original's loader."""
        count = 0
        for step, (images, labels) in enumerate(limited(loader.epoch(), self.steps)):
            if trainer:
                images = images.contiguous(memory_format=torch.channels_last)
                trainer.step(Batch(step, images, labels, np.arange(len(images))), 1, step)
            count += len(images)
        return count

    def read(self, store_dir: Path | None) -> Data:
        with contextlib.redirect_stdout(io.StringIO()):
            return read_data(self.folder, self.config, self.device, store_dir)

    def fresh(self, store_dir: Path | None) -> Loader:
        """Return a loader of images that are still to be decoded, or that are in the cache of an earlier job."""
        return self.read(store_dir).train_loader

    def ceiling(self) -> int:
        """Take the same steps on one batch in memory."""
        for step in range(self.steps):
            self.bare.step(self.resident, 1, step)
        return self.steps * len(self.resident.labels)


class Ready(BaseAugmentation):
    """An augmentation for images that are normalised already."""

    def augment(self, pixels: Tensor, draws: Draws) -> Tensor:
        return pixels


def limited(items: Iterable[Item], most: int) -> Iterator[Item]:
    """Yield at most `most` items."""
    for index, item in enumerate(items):
        if index == most:
            return
        yield item


def legs_of(
    training: Training, trainer: Trainer | None, bare: Trainer | None, prefix: str = ""
) -> dict[str, Callable[[], int]]:
    """Return the legs of one network, or of batches alone without trainers."""
    two, half = training.original_loader(2), training.original_loader(max(1, cpu_count() // 2))
    return {
        f"{prefix}original": lambda: training.original(two, bare),
        f"{prefix}original/2": lambda: training.original(half, bare),
        f"{prefix}cold": lambda: training.ours(training.fresh(None), trainer),
        f"{prefix}warm": lambda: training.ours(training.fresh(training.store_dir), trainer),
        f"{prefix}later": lambda: training.ours(training.loader, trainer),
    }


def bench_loader(plain: TrainConfig, folder: Path, store_dir: Path, device: torch.device, rounds: int) -> list[str]:
    """Batches alone, without a network; returns rows of the table."""
    bench = Bench(device, rounds)
    for name, config in (("Base", plain), ("Custom", replace(plain, augmentation="CustomAugmentation"))):
        bench.legs |= legs_of(Training(config, folder, store_dir, device, 10**9), None, None, f"{name} ")
    rates = bench.run()
    show(
        "loader, no network",
        rates,
        [
            ("first epoch / original, BaseAugmentation", "Base cold", "Base original", 3),
            ("first epoch of a second job / original", "Base warm", "Base original", 0),
            ("later epochs / original, BaseAugmentation", "Base later", "Base original", 25),
            ("first epoch / original, CustomAugmentation", "Custom cold", "Custom original", 0),
            ("later epochs / original, CustomAugmentation", "Custom later", "Custom original", 12),
        ],
    )
    return [training_row(f"loader, {name}Augmentation", rates, f"{name} ") for name in ("Base", "Custom")]


def bench_network(
    config: TrainConfig, steps: int, folder: Path, store_dir: Path, device: torch.device, rounds: int
) -> str:
    """A network trained from each source of images; returns a row of the table."""
    training = Training(config, folder, store_dir, device, steps)
    bench = Bench(device, rounds)
    bench.legs = legs_of(training, training.trainer, training.bare) | {"ceiling": training.ceiling}
    tiny, dtype, rates = config.model == "TinyModel", training.trainer.dtype or torch.float32, bench.run()
    show(
        f"{config.model}, {dtype}, {steps} steps of {config.batch_size}",
        rates,
        [
            ("first epoch / original", "cold", "original", 0),
            ("first epoch of a second job / original", "warm", "original", 0),
            ("later epochs / original", "later", "original", 3.5 if tiny else 0),
            ("later epochs / ceiling", "later", "ceiling", 0.85 if tiny and device.type == "cpu" else 0.95),
        ],
    )
    return training_row(f"{config.model}, {short_name(dtype)}", rates)


def bench_inference(folder: Path, scratch: Path, device: torch.device, rounds: int) -> str:
    """All of code/inference.py but its start-up, against a DataLoader and the same network; returns a row."""
    config = TrainConfig(model="TinyModel", precision="fp32")
    training = Training(config, folder, scratch / "store", device, 10**9)
    model = training.trainer.model.eval()
    preparation = training.trainer.augmentation.preparation
    publish(scratch / "model", model.state_dict(), Description("TinyModel", "joint", MASKED_FACES, preparation))
    eval_dir = scratch / "eval"
    eval_dir.mkdir()
    paths = training.samples.paths
    for index, path in enumerate(paths):
        os.link(path, eval_dir / f"{index:06}.jpg")
    labels = [0] * len(paths)
    usual = OriginalLoader(paths, labels, base_transform(config.resize), batch_size=256, workers=2, device=device)
    usual.loader = torch.utils.data.DataLoader(usual.loader.dataset, 256, num_workers=2, persistent_workers=True)

    @torch.inference_mode()
    def original() -> int:
        return sum(len(model(images).argmax(1).cpu()) for images, _ in usual.epoch())

    def ours() -> int:
        with contextlib.redirect_stdout(io.StringIO()):
            inference(eval_dir, scratch / "model", scratch / "output", InferenceConfig())
        return len(paths)

    bench = Bench(device, rounds)
    bench.legs = {"original": original, "ours": ours}
    rates = bench.run()
    show("batch inference, TinyModel, float32", rates, [("inference.py / original", "ours", "original", 0)])
    return inference_row("batch inference, TinyModel, fp32", rates)


def bench_training(
    args: argparse.Namespace, models: list[str], plain: TrainConfig, scratch: Path, device: torch.device
) -> list[str]:
    """Run the parts that read images; returns the rows of the table."""
    folder, store_dir = args.data or draw_images(scratch / "train", 32, 256), scratch / "store"
    rows = bench_loader(plain, folder, store_dir, device, args.rounds) if "loader" in args.parts else []
    for model in models if "networks" in args.parts else ():
        name, steps = model.split("=")
        rows.append(bench_network(replace(plain, model=name), int(steps), folder, store_dir, device, args.rounds))
    if "inference" in args.parts:
        rows.append(bench_inference(folder, scratch, device, args.rounds))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parts = ("commands", "workers", "loader", "networks", "inference")
    parser.add_argument("--rounds", type=int, default=3, help="rounds after the first, which warms up")
    parser.add_argument("--parts", nargs="+", default=parts, choices=parts, help="parts of the benchmark")
    parser.add_argument("--models", nargs="+", help="NAME=STEPS of each network; default: for minutes on this machine")
    parser.add_argument("--size", nargs=2, type=int, default=(128, 96), help="height and width of the images")
    parser.add_argument("--batch-size", type=int, default=64, help="images per step")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--data", type=Path, help="profile folders with images, instead of drawn images")
    args = parser.parse_args()
    configure_process()
    device = select_device(args.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{cpu_count()} CPUs, no GPU"
    print(f"{name}; torch {torch.__version__}, Pillow {PIL.__version__}, load average {os.getloadavg()[0]:.1f}")
    gpu = ["BaseModel=22", "TinyModel=22", "resnet18=22"]
    models = args.models or (gpu if device.type == "cuda" else ["BaseModel=4", "TinyModel=22", "resnet18=5"])
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)
        if "commands" in args.parts:  # first: the peak memory of a process includes that of the process that started it
            bench_commands(scratch)
        # validation images are decoded in the first epoch, too, and not counted: few
        plain = TrainConfig(resize=tuple(args.size), batch_size=args.batch_size, optimizer="AdamW", val_ratio=0.02)
        columns: dict[str, dict[str, str]] = {}
        for model in args.models or MODELS if "workers" in args.parts else ():
            name, steps = model.split("=")
            columns |= bench_workers(replace(plain, model=name), int(steps), args.rounds)
        rows = bench_training(args, models, plain, scratch, device) if {*args.parts} - {"commands", "workers"} else []
    if columns:
        print(f"\n{worker_table(columns)}")
    if rows:
        print(f"\n{training_table(rows)}")


if __name__ == "__main__":
    main()
