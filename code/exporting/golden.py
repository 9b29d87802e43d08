"""The golden pack: ten images, and what each stage of the way to their probabilities has to give.

    images/jpeg.jpg        a file as a client sends it
    decoded/jpeg.png       its pixels: whole, upright, RGB
    prepared/jpeg.png      those that the network sees, of the size of the model
    normalised/jpeg.npy    (3, height, width) float32, (pixels / 255 - mean) / std
    expected.csv           the probabilities of each of these files, when it enters at its stage
    mistakes.csv           those that known mistakes give
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
from exporting.mistakes import DECODE, normalise_mistakes, resize_mistakes
from exporting.network import ExportedNetwork
from exporting.pack import EXPECTED, GOLDEN, MISTAKES, Mistake, Rows, write_mistakes, write_rows
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
            normalised = network.normalise(torch.from_numpy(prepared)).permute(0, 3, 1, 2).numpy()
        return cls(images, decoded, prepared, np.stack([prepare(data, preparation) for data in decoded]), normalised)

    def expected(self, network: ExportedNetwork) -> Rows:
        """Return the probabilities (classes,) of every file of the pack."""
        whole, of_decoded = network.probabilities(self.prepared), network.probabilities(self.prepared_of_decoded)
        of_normalised = network.of_normalised(self.normalised.transpose(0, 2, 3, 1))
        return {
            **_rows(self.paths("images"), whole),
            **_rows(self.paths("decoded"), of_decoded),
            **_rows(self.paths("prepared"), whole),
            **_rows(self.paths("normalised"), of_normalised),
        }

    def mistakes(self, network: ExportedNetwork, preparation: Preparation) -> list[Mistake]:
        """Return what known mistakes give for the files of the pack at whose stages they are made."""
        found = []
        by_name = {image.name: image.data for image in self.images}
        for mistake, (name, decode) in DECODE.items():
            rows = _rows([f"images/{name}"], network.probabilities(decode(by_name[name], preparation)[None]))
            found.append(Mistake("decode", mistake, rows))
        opened = [Image.open(io.BytesIO(data)) for data in self.decoded]
        for mistake, resize in resize_mistakes(preparation).items():
            pixels = np.stack([resize(image, preparation) for image in opened])
            found.append(Mistake("resize", mistake, _rows(self.paths("decoded"), network.probabilities(pixels))))
        for mistake, normalise in normalise_mistakes(preparation).items():
            rows = _rows(self.paths("prepared"), network.of_normalised(normalise(self.prepared, preparation)))
            found.append(Mistake("normalise", mistake, rows))
        for mistake, probabilities in network.mistaken(self.normalised.transpose(0, 2, 3, 1)).items():
            rows = _rows(self.paths("normalised"), probabilities) | _rows(self.paths("prepared"), probabilities)
            found.append(Mistake("network", mistake, rows))
        return found

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

    def write(
        self, folder: Path, network: ExportedNetwork, description: Description, identity: Mapping[str, str]
    ) -> None:
        """Write the pack; golden.json, with the `identity` of the model, is written last.

        That of an earlier pack is removed first, so that files of two packs are never taken for one.
        """
        (folder / GOLDEN).unlink(missing_ok=True)
        for path, data in self.files().items():
            with replacing(folder / path, "wb") as file:
                file.write(data)
        write_rows(folder / EXPECTED, self.expected(network))
        write_mistakes(folder / MISTAKES, self.mistakes(network, description.preparation))
        record = {
            "format": 1,
            "version": version(),
            "model": dict(identity),
            "classes": list(description.scheme.classes),
            "preparation": description.preparation.to_dict(),
        }
        with replacing(folder / GOLDEN) as file:
            file.write(json.dumps(record, indent=2) + "\n")


def _rows(paths: list[str], probabilities: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    return dict(zip(paths, probabilities, strict=True))


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _npy(array: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()
