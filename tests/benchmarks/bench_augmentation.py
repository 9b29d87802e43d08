"""TrivialAugment and RandAugment on whole batches against torchvision's transforms of one image, in one run.

    python tests/benchmarks/bench_augmentation.py --rounds 9

Both take uint8 images that are in memory, operate on them, and normalise; torchvision's get tensors (its faster way)
and PIL images (the usual way). Everything runs in this process, on one thread, and CPU time is compared.
"""

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.extend(str(Path(__file__).resolve().parents[2] / name) for name in ("code", "tests"))

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode

from augmentation import create_augmentation
from data.images import ORIGINAL_MEAN, ORIGINAL_STD
from runtime.devices import configure_process

TWINS: dict[str, Callable[..., Callable[[Any], Any]]] = {
    "TrivialAugment": v2.TrivialAugmentWide,
    "RandAugment": v2.RandAugment,
}
BATCH = 64


def legs_of(name: str, size: tuple[int, int], generator: torch.Generator) -> dict[str, Callable[[], Tensor]]:
    """Return what is compared: ours, and torchvision's with tensors and PIL images."""
    coarse = torch.rand(BATCH, 3, 9, 7, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic")
    pixels = (smooth.clamp(0, 1) * 255).to(torch.uint8).contiguous(memory_format=torch.channels_last)
    tensors = list(pixels.contiguous())
    images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in pixels]
    ours = create_augmentation(name, size, ORIGINAL_MEAN, ORIGINAL_STD)
    steps = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(ORIGINAL_MEAN, ORIGINAL_STD)]
    theirs = v2.Compose([TWINS[name](interpolation=InterpolationMode.BILINEAR), *steps])

    def one_by_one(sources: Sequence[Any]) -> Tensor:
        return torch.stack([theirs(source) for source in sources])

    return {
        "ours": lambda: ours.augment(pixels, ours.draw(pixels.shape, generator)),
        "torchvision, tensors": lambda: one_by_one(tensors),
        "torchvision, PIL": lambda: one_by_one(images),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="rounds after the first, which warms up")
    rounds = parser.parse_args().rounds
    configure_process(1)
    for name in TWINS:
        for size in ((128, 96), (224, 224)):
            seconds = defaultdict(list)
            legs = legs_of(name, size, torch.Generator().manual_seed(0))
            for turn in range(rounds + 1):
                for leg, work in legs.items():
                    started = time.process_time()
                    work()
                    if turn:  # the first round warms up
                        seconds[leg].append(time.process_time() - started)
            rates = {leg: BATCH / statistics.median(times) for leg, times in seconds.items()}
            shown = "  ".join(f"{leg} {rate:,.0f} ({rates['ours'] / rate:.1f} x)" for leg, rate in rates.items())
            print(f"{name}, {size[0]} x {size[1]}, images per second of CPU: {shown}", flush=True)


if __name__ == "__main__":
    main()
