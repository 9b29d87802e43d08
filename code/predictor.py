"""A network at work: from prepared images to probabilities. Validation, inference.py and the server share it."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from augmentation import BaseAugmentation
from data.images import Pixels, Preparation
from runtime.devices import to_device
from runtime.memory import Release, nothing_to_release
from runtime.micro_batches import MicroBatches

# Test-time augmentation: the views of prepared images (batch, height, width, 3) whose probabilities are averaged.
VIEWS: dict[str, tuple[Callable[[Tensor], Tensor], ...]] = {
    "none": (lambda images: images,),
    "flip": (lambda images: images, lambda images: images.flip(2)),
}

_STEP = 32  # images


class Predictor:
    """A network with its normalisation, its device and its number format.

        predictor = Predictor(model, description.preparation, device, dtype)
        predictor.probabilities(pixels)  # (batch, height, width, 3) uint8 -> (batch, classes) float32

    The probabilities are the softmax of the logits divided by `temperature`; the predicted class never depends on it.

    A batch that does not fit into the memory of the device is split into micro-batches. On a GPU, each is filled up
    with black images to one of a few sizes, as cuDNN plans for every new size, in the thread that meets it first. On a
    CPU a new size costs less than the images that would fill it up (of CPU time with resnet18: 6 ms once, against 80 ms
    for each batch of 17), so batches stay as they are.
    """

    def __init__(
        self,
        model: nn.Module,
        preparation: Preparation,
        device: torch.device,
        dtype: torch.dtype | None,
        release: Release = nothing_to_release,
        tta: str = "none",
        temperature: float = 1.0,
        activation: Callable[[Tensor, float], Tensor] | None = None,
    ) -> None:
        """Move `model` to `device`; `dtype` is the autocast type, None means float32 throughout.

        `release` gives back memory of the device, before batches are split. `tta` is a name in VIEWS. `activation`
        turns logits and `temperature` into probabilities, as the label scheme says (labelling/outputs.py); by default
        it is that of one label.
        """
        self.model = to_device(model, device)
        self.device, self.dtype, self.temperature = device, dtype, temperature
        self.fills_up = device.type == "cuda"
        self.micro_batches = MicroBatches(release=release)
        self._views, self._activation = VIEWS[tta], activation or to_probabilities
        self._normalize = BaseAugmentation.of(preparation).normalize

    def batch_sizes(self, most: int) -> tuple[int, ...]:
        """Return the sizes that batches of 1 to `most` images have on the device, or on a CPU the first and the last.

        A server predicts one batch of each before it is ready, in the thread that predicts: cuDNN's plans belong to it.
        """
        sizes = range(1, most + 1)
        return tuple(sorted(set(map(_padded, sizes)) if self.fills_up else {1, most}))

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

        They are the mean over the views of test-time augmentation, each of which is a batch of its own. Raises
        DeviceError if the device has no memory for a single image.
        """
        images = torch.from_numpy(pixels)
        views = [self.logits(view(images).permute(0, 3, 1, 2)) for view in self._views]
        means = torch.stack([self._activation(logits, self.temperature) for logits in views]).mean(0)
        found: NDArray[np.float32] = means.cpu().numpy()
        return found

    def _forward(self, micro_batches: tuple[Tensor, ...]) -> Tensor:
        """Return the logits of all micro-batches, each (micro-batch, 3, height, width)."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            logits = [self._predict(pixels) for pixels in micro_batches]
        return torch.cat(logits).float()

    def _predict(self, pixels: Tensor) -> Tensor:
        """Return the logits of one micro-batch, without those of the images that fill it up."""
        filled = fill_up(pixels, _padded(len(pixels))) if self.fills_up else pixels
        logits: Tensor = self.model(self._normalize(filled.to(self.device)))
        return logits[: len(pixels)]


def to_probabilities(logits: Tensor, temperature: float) -> Tensor:
    """Return the softmax (batch, classes) of logits (batch, classes) divided by a temperature.

    The class with the highest probability is that of temperature 1, even where rounding makes probabilities equal.
    """
    plain = logits.softmax(1)
    if temperature == 1:
        return plain
    found, predicted = (logits / temperature).softmax(1), plain.argmax(1, keepdim=True)
    highest = found.amax(1, keepdim=True)
    is_kept = found.argmax(1, keepdim=True) == predicted
    return found.scatter(1, predicted, torch.where(is_kept, highest, highest.nextafter(2 * torch.ones_like(highest))))


def fill_up(pixels: Tensor, count: int) -> Tensor:
    """Return images (batch, 3, height, width) followed by black ones, (count, 3, height, width), channels last."""
    missing = count - len(pixels)
    if missing <= 0:
        return pixels
    lines = pixels.permute(0, 2, 3, 1)
    return torch.cat((lines, lines.new_zeros((missing, *lines.shape[1:])))).permute(0, 3, 1, 2)


def _padded(count: int) -> int:
    """Return the size that `count` images are filled up to: a power of two, above 32 a multiple of 32.

    Powers of two alone would almost double a large batch of validation.
    """
    return -(-count // _STEP) * _STEP if count > _STEP else 1 << max(0, count - 1).bit_length()
