"""Training and batch inference against the original's pipeline and against their own ceiling, in one run.

    GOMP_SPINCOUNT=10000 PYTHONPATH=code:container python tests/benchmarks/bench_train.py --rounds 3

The first variable is what train.py and inference.py set for themselves.

    seed      Pillow, torchvision's transforms, a DataLoader with 2 workers; seed/2 with half as many as there are CPUs
    cold      ours in the first epoch: decode and all
    warm      ours in the first epoch of a second job on the same data, whose images were kept
    later     ours in every later epoch
    ceiling   the same network on a batch that is in memory and normalised

Every leg takes the same steps of the same network in the same number format on the same images. The legs take turns,
the medians over the rounds are compared, and only ratios are worth quoting. On a machine that others use, too, the
ratio per second of CPU is the one to look at. A bar that was reached has a +.
"""

import argparse
import contextlib
import io
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import PIL
import torch
from legs import Bench, draw_images, show, timed
from original_pipeline import SeedLoader, base_transform, custom_transform
from torch import Tensor

from augmentation import BaseAugmentation
from config import InferenceConfig, TrainConfig
from data.loader import Batch, Loader
from inference import inference
from labels import MASKED_FACES
from model_files import Description, publish
from runtime.devices import configure_process, select_device
from runtime.process import cpu_count
from training.inputs import Data, read_data
from training.trainer import Trainer, build_trainer

ROOT = Path(__file__).parents[2]


@dataclass
class Training:
    """One network, and the ways to bring images to it."""

    config: TrainConfig
    folder: Path
    store_dir: Path
    device: torch.device
    steps: int

    def __post_init__(self) -> None:
        self.data = self.read(self.store_dir)
        self.data.store.wait()
        self.loader = self.data.loaders(self.config, self.device)[0]
        self.trainer = build_trainer(self.config, self.data, self.device, self.steps)
        self.bare = replace(self.trainer, augmentation=Ready(self.config.resize))
        transform = {"BaseAugmentation": base_transform, "CustomAugmentation": custom_transform}
        self.make_seed = lambda workers: SeedLoader(
            [self.data.dataset.samples.paths[row] for row in self.loader.indices],
            self.data.dataset.samples.labels[self.loader.indices],
            transform[self.config.augmentation](self.config.resize),
            batch_size=self.config.batch_size,
            workers=workers,
            device=self.device,
        )
        images = self.trainer.augmentation.normalize(next(self.loader.epoch(0)).pixels).clone()
        labels = torch.arange(len(images), device=self.device) % 18
        self.resident = Batch(0, images, labels, np.arange(len(images)))

    def ours(self, loader: Loader, trainer: Trainer | None) -> int:
        """Steps of an epoch; without a learner, the batches alone."""
        count = 0
        for batch in limited(loader.epoch(1), self.steps):
            if trainer is None:
                self.trainer.augmentation.augment(batch.pixels, torch.Generator().manual_seed(batch.step))
            else:
                trainer.step(batch, 1, batch.step)
            count += len(batch.pixels)
        return count

    def seed(self, loader: SeedLoader, trainer: Trainer | None) -> int:
        count = 0
        for step, (images, labels) in enumerate(limited(loader.epoch(), self.steps)):
            if trainer:
                images = images.contiguous(memory_format=torch.channels_last)
                trainer.step(Batch(step, images, labels, np.arange(len(images))), 1, step)
            count += len(images)
        return count

    def read(self, store_dir: Path | None) -> Data:
        with contextlib.redirect_stdout(io.StringIO()):
            return read_data(self.folder, self.config, store_dir)

    def fresh(self, store_dir: Path | None) -> Loader:
        """A loader of images that are still to be decoded, or that the job before has kept."""
        return self.read(store_dir).loaders(self.config, self.device)[0]

    def ceiling(self) -> int:
        for step in range(self.steps):
            self.bare.step(self.resident, 1, step)
        return self.steps * len(self.resident.labels)


class Ready(BaseAugmentation):
    """For images that are normalised already."""

    def augment(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        return pixels


def limited(batches: Iterable, most: int) -> Iterable:
    for index, batch in enumerate(batches):
        if index == most:
            return
        yield batch


def bench_loader(plain: TrainConfig, folder: Path, store_dir: Path, device: torch.device, rounds: int) -> None:
    """Batches alone, without a network."""
    bench = Bench(device, rounds)
    for name, config in (("Base", plain), ("Custom", replace(plain, augmentation="CustomAugmentation"))):
        training = Training(config, folder, store_dir, device, 10**9)
        two, half = training.make_seed(2), training.make_seed(max(1, cpu_count() // 2))
        bench.legs |= {
            f"{name} seed": lambda t=training, loader=two: t.seed(loader, None),
            f"{name} seed/2": lambda t=training, loader=half: t.seed(loader, None),
            f"{name} cold": lambda t=training: t.ours(t.fresh(None), None),
            f"{name} warm": lambda t=training: t.ours(t.fresh(store_dir), None),
            f"{name} later": lambda t=training: t.ours(t.loader, None),
        }
    show(
        "loader, no network",
        bench.run(),
        [
            ("first epoch / seed, BaseAugmentation", "Base cold", "Base seed", 3),
            ("first epoch of a second job / original", "Base warm", "Base seed", 0),
            ("later epochs / seed, BaseAugmentation", "Base later", "Base seed", 25),
            ("first epoch / seed, CustomAugmentation", "Custom cold", "Custom seed", 0),
            ("later epochs / seed, CustomAugmentation", "Custom later", "Custom seed", 12),
        ],
    )


def bench_network(
    config: TrainConfig, steps: int, folder: Path, store_dir: Path, device: torch.device, rounds: int
) -> None:
    """A network trained from each source of images."""
    training = Training(config, folder, store_dir, device, steps)
    two, half = training.make_seed(2), training.make_seed(max(1, cpu_count() // 2))
    bench = Bench(device, rounds)
    bench.legs = {
        "seed": lambda: training.seed(two, training.bare),
        "seed/2": lambda: training.seed(half, training.bare),
        "cold": lambda: training.ours(training.fresh(None), training.trainer),
        "warm": lambda: training.ours(training.fresh(store_dir), training.trainer),
        "later": lambda: training.ours(training.loader, training.trainer),
        "ceiling": training.ceiling,
    }
    tiny = config.model == "TinyModel"
    show(
        f"{config.model}, {training.trainer.dtype or torch.float32}, {steps} steps of {config.batch_size}",
        bench.run(),
        [
            ("first epoch / original", "cold", "seed", 0),
            ("first epoch of a second job / original", "warm", "seed", 0),
            ("later epochs / original", "later", "seed", 3.5 if tiny else 0),
            ("later epochs / ceiling", "later", "ceiling", 0.85 if tiny and device.type == "cpu" else 0.95),
        ],
    )


def bench_inference(folder: Path, scratch: Path, device: torch.device, rounds: int) -> None:
    """All of code/inference.py but its start-up, against a DataLoader and the same network."""
    config = TrainConfig(model="TinyModel", precision="fp32")
    training = Training(config, folder, scratch / "store", device, 10**9)
    model = training.trainer.model.eval()
    preparation = training.trainer.augmentation.preparation
    publish(scratch / "model", model.state_dict(), Description("TinyModel", "joint", MASKED_FACES, preparation))
    eval_dir = scratch / "eval"
    eval_dir.mkdir()
    paths = training.data.dataset.samples.paths
    for index, path in enumerate(paths):
        os.link(path, eval_dir / f"{index:06}.jpg")
    labels = np.zeros(len(paths), np.int64)
    seed = SeedLoader(paths, labels, base_transform(config.resize), batch_size=256, workers=2, device=device)
    seed.loader = torch.utils.data.DataLoader(seed.loader.dataset, 256, num_workers=2, persistent_workers=True)

    @torch.inference_mode()
    def plain() -> int:
        return sum(len(model(images).argmax(1).cpu()) for images, _ in seed.epoch())

    def ours() -> int:
        with contextlib.redirect_stdout(io.StringIO()):
            inference(eval_dir, scratch / "model", scratch / "output", InferenceConfig())
        return len(paths)

    bench = Bench(device, rounds)
    bench.legs = {"seed": plain, "ours": ours}
    show("batch inference, TinyModel, float32", bench.run(), [("inference.py / original", "ours", "seed", 0)])


def bench_commands(scratch: Path) -> None:
    """The commands as they are started: how long they take to begin, and how cost grows with the images."""
    environ = {**os.environ, "SM_MODEL_DIR": str(scratch / "m"), "SM_OUTPUT_DATA_DIR": str(scratch / "o")}
    helps = [timed([str(ROOT / "code/train.py"), "--help"], environ).seconds for _ in range(5)]
    median = statistics.median(helps)
    print(f"\ncommands\n  train.py --help {median:37.2f} s   bar 0.3: {'reached' if median < 0.3 else 'missed'}")
    print("\ntrain.py --model TinyModel --epochs 2, from start to end")
    for factor in (1, 2, 4):
        folder = draw_images(scratch / f"times{factor}", 16, 64 * factor)
        environ |= {"SM_CHANNEL_TRAIN": str(folder), "OUR_START": str(time.time())}
        first_step = (
            "import os, sys, time, learner; step = learner.Learner.step\n"
            "def spy(*a):\n"
            "    learner.Learner.step = step\n"
            "    print('first', time.time() - float(os.environ['OUR_START']), flush=True)\n"
            "    return step(*a)\n"
            "learner.Learner.step = spy; import train; train.main()"
        )
        flags = ["--model", "TinyModel", "--epochs", "2", "--valid-batch-size", "256", "--resume", "never"]
        done = timed(["-c", first_step, *flags], environ)
        first = next(line for line in done.output.splitlines() if line.startswith("first")).split()[1]
        print(
            f"  {factor} x {64 * 7:<5} images {done.seconds:8.1f} s, first step after {float(first):4.1f} s, "
            f"{done.cpu_seconds:6.1f} s of CPU, peak memory {done.peak_bytes / 2**20:6.0f} MiB"
        )
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", default=["commands", "loader", "networks", "inference"])
    parser.add_argument("--models", nargs="+", help="NAME=STEPS; default: what the machine manages in minutes")
    parser.add_argument("--size", nargs=2, type=int, default=(128, 96))
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="auto")
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
        if "commands" in args.parts:  # first: Linux counts the memory of whoever starts a process as the process's own
            bench_commands(scratch)
        folder, store_dir = args.data or draw_images(scratch / "train", 32, 256), scratch / "store"
        # who validates is decoded in the first epoch, too, and not counted: few
        plain = TrainConfig(resize=tuple(args.size), batch_size=args.batch_size, optimizer="AdamW", val_ratio=0.02)
        if "loader" in args.parts:
            bench_loader(plain, folder, store_dir, device, args.rounds)
        for model in models if "networks" in args.parts else ():
            name, steps = model.split("=")
            bench_network(replace(plain, model=name), int(steps), folder, store_dir, device, args.rounds)
        if "inference" in args.parts:
            bench_inference(folder, scratch, device, args.rounds)


if __name__ == "__main__":
    main()
