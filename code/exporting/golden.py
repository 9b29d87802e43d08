"""The golden pack: ten images, and what each stage of the way to their probabilities has to give.

    images/jpeg.jpg        a file as a client sends it
    decoded/jpeg.png       its pixels: whole, upright, RGB
    prepared/jpeg.png      those that the network sees, of the size of the model
    normalised/jpeg.npy    (3, height, width) float32, (pixels / 255 - mean) / std
    expected.csv           the probabilities of each of these files, when it enters at its stage
    golden.json            the model, its classes, and how images are prepared

So an implementation that gives wrong probabilities for images/, and right ones for decoded/, decodes wrongly.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from data.images import Pixels, Preparation, prepare, read_upright
from description import Description
from exporting.golden_images import GoldenImage, golden_images
from exporting.network import ExportedNetwork
from exporting.pack import EXPECTED, GOLDEN, Rows, write_rows
from runtime.files import replacing
from runtime.version import version


@dataclass(frozen=True)
class GoldenPack:
    """The ten images and their values at each stage; the arrays have one row per image."""

    images: list[GoldenImage]
    decoded: list[bytes]  # PNG files
    prepared: Pixels  # (images, height, width, 3)
    prepared_of_decoded: Pixels  # the same of `decoded`, which a decoder that scales does not reach
    normalised: NDArray[np.float32]  # (images, 3, height, width)

    @classmethod
    def of(cls, network: ExportedNetwork, preparation: Preparation) -> "GoldenPack":
        """Draw the images and take them through all stages but the last."""
        images = golden_images(preparation.crop or preparation.size)
        decoded = [_png(np.asarray(read_upright(image.data))) for image in images]
        prepared = np.stack([prepare(image.data, preparation) for image in images])
        with torch.inference_mode():
            normalised = network.normalise(torch.from_numpy(prepared)).numpy()
        return cls(images, decoded, prepared, np.stack([prepare(data, preparation) for data in decoded]), normalised)

    def expected(self, network: ExportedNetwork) -> Rows:
        """Return the probabilities (classes,) of every file of the pack."""
        found: dict[str, NDArray[np.float32]] = {}
        with torch.inference_mode():
            for stage, pixels in (
                ("images", self.prepared),
                ("decoded", self.prepared_of_decoded),
                ("prepared", self.prepared),
            ):
                found |= zip(self.paths(stage), network(torch.from_numpy(pixels)).numpy(), strict=True)
            classified = network.classify(torch.from_numpy(self.normalised)).numpy()
        return found | dict(zip(self.paths("normalised"), classified, strict=True))

    def paths(self, stage: str) -> list[str]:
        """Return the paths in the pack of the ten files of a stage."""
        ending = {"decoded": ".png", "prepared": ".png", "normalised": ".npy"}.get(stage)
        names = (image.name if ending is None else Path(image.name).stem + ending for image in self.images)
        return [f"{stage}/{name}" for name in names]

    def files(self) -> dict[str, bytes]:
        """Return the content of every image and array of the pack by its path."""
        return {
            **dict(zip(self.paths("images"), (image.data for image in self.images), strict=True)),
            **dict(zip(self.paths("decoded"), self.decoded, strict=True)),
            **dict(zip(self.paths("prepared"), map(_png, self.prepared), strict=True)),
            **dict(zip(self.paths("normalised"), map(_npy, self.normalised), strict=True)),
        }

    def write(self, folder: Path, expected: Rows, description: Description, identity: Mapping[str, str]) -> None:
        """Write the pack with the expected probabilities; golden.json, with the `identity` of the model, comes last."""
        for path, data in self.files().items():
            with replacing(folder / path, "wb") as file:
                file.write(data)
        write_rows(folder / EXPECTED, expected)
        record = {
            "format": 1,
            "version": version(),
            "model": dict(identity),
            "classes": list(description.scheme.classes),
            "preparation": description.preparation.to_dict(),
        }
        with replacing(folder / GOLDEN) as file:
            file.write(json.dumps(record, indent=2) + "\n")


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _npy(array: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()
