"""A network at work: from prepared images to probabilities. Validation, inference.py and the server share it."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from augmentation import BaseAugmentation
from data.images import Pixels, Preparation
from runtime.devices import to_device
from runtime.memory import Release, nothing_to_release
from runtime.micro_batches import MicroBatches


class Predictor:
    """A network with its normalisation, its device and its number format.

        predictor = Predictor(model, description.preparation, device, dtype)
        predictor.probabilities(pixels)  # (batch, height, width, 3) uint8 -> (batch, classes) float32

    A batch that does not fit into the memory of the device is split into micro-batches.
    """

    def __init__(
        self,
        model: nn.Module,
        preparation: Preparation,
        device: torch.device,
        dtype: torch.dtype | None,
        release: Release = nothing_to_release,
    ) -> None:
        """Move `model` to `device`; `dtype` is the autocast type, None means float32 throughout.

        `release` gives back memory of the device, before batches are split.
        """
        self.model = to_device(model, device)
        self.device, self.dtype = device, dtype
        self.micro_batches = MicroBatches(release=release)
        self._normalize = BaseAugmentation.of(preparation).normalize

    @torch.inference_mode()
    def logits(self, pixels: Tensor) -> Tensor:
        """Return the logits (batch, classes), float32 on the device, of uint8 images (batch, 3, height, width).

        The images are prepared, not normalised, and may be on any device. The network is in evaluation mode
        afterwards. Raises DeviceError if the device has no memory for a single image.
        """
        self.model.eval()
        return self.micro_batches.run(lambda count: self._forward(pixels.chunk(count)), len(pixels))

    def probabilities(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return the probabilities (batch, classes) of prepared uint8 images (batch, height, width, 3), on the host.

        Raises DeviceError if the device has no memory for a single image.
        """
        found: NDArray[np.float32] = self.logits(torch.from_numpy(pixels).permute(0, 3, 1, 2)).softmax(1).cpu().numpy()
        return found

    def _forward(self, micro_batches: tuple[Tensor, ...]) -> Tensor:
        """Return the logits of all micro-batches, each (micro-batch, 3, height, width)."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            logits = [self.model(self._normalize(pixels.to(self.device))) for pixels in micro_batches]
        return torch.cat(logits).float()
