"""The augmentation that all others are made from: how an image is prepared, and how a batch is normalised.

What an augmentation is, and how its two halves are used, is in augmentation.py.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from data.batch_draws import Draws
from data.batch_transforms import in_blocks, normalize
from data.images import ORIGINAL_MEAN, ORIGINAL_STD, Pixels, Preparation, fit, prepare

Triple = tuple[float, float, float]  # red, green, blue


class BaseAugmentation:
    """Resize and normalise, without randomness (the original's Resize, ToTensor, Normalize)."""

    default_crop: tuple[int, int] | None = None

    def __init__(
        self,
        resize: tuple[int, int] = (128, 96),
        mean: Triple = ORIGINAL_MEAN,
        std: Triple = ORIGINAL_STD,
        crop: tuple[int, int] | None = None,
        fit: str = "stretch",
    ) -> None:
        """`resize` and `crop` are (height, width) in pixels, `fit` is a name; mean and std are of pixels 0..1."""
        self.preparation = Preparation(resize, crop or self.default_crop, mean, std, fit)

    @property
    def is_padded(self) -> bool:
        """Return True if images may have padding."""
        return self.preparation.fit == "pad"

    @classmethod
    def of(cls, preparation: Preparation) -> "BaseAugmentation":
        """Create the augmentation without randomness for a preparation."""
        return BaseAugmentation(preparation.size, preparation.mean, preparation.std, preparation.crop, preparation.fit)

    def prepare(self, source: Path | bytes) -> Pixels:
        """Decode, crop and fit one image to (height, width, 3), uint8; raises ImageError."""
        return prepare(source, self.preparation)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return (pixels / 255 - mean) / std as float32, for uint8 (batch, 3, height, width)."""
        mean, std = self.preparation.mean, self.preparation.std
        return in_blocks(lambda block: normalize(block, mean, std), pixels)

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Draws:
        """Draw on the CPU what `augment` needs for pixels of `shape` (batch, 3, height, width); here nothing."""
        return Draws()

    def augment(self, pixels: Tensor, draws: Draws) -> Tensor:
        """Augment and normalise uint8 (batch, 3, height, width), to float32; this class only normalises.

        `draws` are those of `draw` on the device of the pixels. The result is a function of the two.
        """
        return self.normalize(pixels)

    def __call__(self, source: Image.Image | Path | bytes) -> Tensor:
        """Return one image prepared, augmented with torch's global random state as in the original, and normalised."""
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ()).item()))
        pixels = fit(source, self.preparation) if isinstance(source, Image.Image) else self.prepare(source)
        batch = torch.from_numpy(pixels.copy()).permute(2, 0, 1).unsqueeze(0)
        return self.augment(batch, self.draw(batch.shape, generator)).squeeze(0)  # (3, height, width)
