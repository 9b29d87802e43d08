"""Heat maps: where in an image a network finds a class. LayerCAM (Jiang et al., 2021), for any classifier.

The heat at a position is the sum over channels of activation times gradient of the class's logit, where that product is
positive, at the output of one module. LayerCAM takes positive gradients, which is the same where no activation is
negative. Those of transformers can be, and speak for a class if their gradient is negative, too.

The module is found by trying: of all whose output is a grid of positions that the logit depends on, the last one with
the coarsest grid of at least 6 x 6. It is the last stage of a convolutional network for images of 224 x 224, the one
before it at 128 x 96, and what attention reads in the last block of a transformer whose head reads a class token alone.

A grid is (batch, channels, rows, columns), as of most networks, (batch, rows, columns, channels), as of Swin, or
(batch, tokens, channels) with up to eight tokens of another kind before those of the image, as of ViT.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from report.heat import Explained, NoHeatMap
from runtime.errors import DeviceError, reason_of
from runtime.memory import Release, nothing_to_release
from runtime.micro_batches import MicroBatches

_FEWEST = 6  # rows and columns of a grid that shows more than a blot
_AT_ONCE = 8  # images
_MOST_PREFIX = 8  # tokens before those of the image: class, distillation, registers
_MOST_DISTORTION = math.log(2)  # of the grid's aspect ratio against that of the image


class Grid(NamedTuple):
    """How an output is a grid: its rows and columns, the dimension of the channels, and the tokens before the grid."""

    rows: int
    columns: int
    channels: int
    prefix: int = 0

    @classmethod
    def of(cls, shape: torch.Size, height: int, width: int) -> "Grid | None":
        """Return the grid that an output of `shape` is for images of this size, or None if it is not any."""
        if len(shape) == 4:
            found = [cls(shape[2], shape[3], 1), cls(shape[1], shape[2], 3)]
            fit = [grid for grid in found if grid._distortion(height, width) < _MOST_DISTORTION]
            return min(fit, key=lambda grid: grid._distortion(height, width), default=None)
        if len(shape) == 3:
            return cls._of_tokens(shape[1], height, width)
        return None

    @classmethod
    def _of_tokens(cls, tokens: int, height: int, width: int) -> "Grid | None":
        """Return the grid of patches, all of one size, that leaves the fewest tokens over."""
        grids = {(height // side, width // side) for side in range(1, min(height, width) + 1)}
        found = [cls(*grid, 2, tokens - math.prod(grid)) for grid in grids]
        fit = [grid for grid in found if 0 <= grid.prefix <= _MOST_PREFIX and grid.positions > 1]
        return min(fit, key=lambda grid: grid.prefix, default=None)

    def _distortion(self, height: int, width: int) -> float:
        """Return how much its aspect ratio differs from the image's; infinity for a grid that cannot be one."""
        if self.positions < 2 or self.rows > height or self.columns > width:
            return math.inf
        return abs(math.log((self.rows / self.columns) / (height / width)))

    @property
    def positions(self) -> int:
        return self.rows * self.columns

    def arrange(self, output: Tensor) -> Tensor:
        """Return an output, or its gradient, as (batch, channels, rows, columns)."""
        if output.dim() == 4:
            return output.movedim(self.channels, 1)
        tokens = output[:, self.prefix :].transpose(1, 2)
        return tokens.reshape(*tokens.shape[:2], self.rows, self.columns)


@dataclass(frozen=True)
class Target:
    """The module whose output is looked at: its name, which of its calls in a forward pass, and its grid."""

    name: str
    module: nn.Module
    call: int
    grid: Grid


@dataclass(frozen=True)
class LayerCam:
    """Heat maps of a network on its device; `normalize` takes uint8 images (batch, 3, height, width).

    Neither weights nor gradients nor running statistics change, and no random number is drawn.
    """

    network: nn.Module
    normalize: Callable[[Tensor], Tensor]
    device: torch.device
    release: Release = nothing_to_release  # gives back memory of the device

    def __call__(self, pixels: NDArray[np.uint8], classes: NDArray[np.int64]) -> Explained:
        """Return the heat of one of the `classes` (n,) for each of the images (n, height, width, 3).

        Raises NoHeatMap if the network has none, or the device no memory for them.
        """
        images, wanted = torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(classes)
        batches, found = MicroBatches(release=self.release), []
        try:
            with evaluating(self.network):
                target = find_target(self.network, self._on_device(images[:1])[0])
                for batch, labels in zip(torch.split(images, _AT_ONCE), torch.split(wanted, _AT_ONCE), strict=True):
                    found.append(batches.run(partial(self._heat, target, batch, labels), len(batch)))
        except (RuntimeError, DeviceError) as error:  # of torch: no deterministic gradient, or no memory
            raise NoHeatMap(reason_of(error, None)) from error
        return Explained(torch.cat(found).cpu().numpy(), target.name, target.grid[:2])

    def _heat(self, target: "Target", images: Tensor, classes: Tensor, count: int) -> Tensor:
        """Return the heat of a batch that is split into micro-batches."""
        parts = zip(images.chunk(count), classes.to(self.device).chunk(count), strict=True)
        return torch.cat([heat_of(self.network, target, self._on_device(part), wanted) for part, wanted in parts])

    def _on_device(self, images: Tensor) -> Tensor:
        return self.normalize(images.to(self.device))


def find_target(network: nn.Module, image: Tensor) -> Target:
    """Return the module to look at, for a network in evaluation mode and one normalised image (3, height, width).

    Raises NoHeatMap if there is none.
    """
    seen: list[tuple[Target, Tensor]] = []
    with torch.enable_grad(), ExitStack() as hooks:
        for name, module in network.named_modules():
            if name:
                hooks.callback(module.register_forward_hook(partial(_note, seen, name, [0], image.shape[1:])).remove)
        images = image.expand(2, -1, -1, -1).clone().requires_grad_()  # two, to tell a batch from windows of an image
        logits = network(images)
        outputs = [output for _, output in seen]
        gradients = torch.autograd.grad(logits.amax(1).sum(), outputs, allow_unused=True) if outputs else ()
    fit = [
        target
        for (target, _), gradient in zip(seen, gradients, strict=True)
        if gradient is not None and _matters(target.grid.arrange(gradient))
    ]
    if not fit:
        raise NoHeatMap("no layer has an output that is a grid of positions, and that the predictions depend on")
    # without a grid that is fine enough, the finest there is
    sizes = {target.grid.positions for target in fit if min(target.grid.rows, target.grid.columns) >= _FEWEST}
    wanted = min(sizes, default=max(target.grid.positions for target in fit))
    return [target for target in fit if target.grid.positions == wanted][-1]


def _note(
    seen: list[tuple[Target, Tensor]],
    name: str,
    calls: list[int],
    size: torch.Size,
    module: nn.Module,
    _: Any,
    output: Any,
) -> None:
    """Add the output of a module if it is a grid; the hook of `find_target`."""
    calls[0] += 1
    if isinstance(output, Tensor) and output.requires_grad and len(output) == 2:
        grid = Grid.of(output.shape, *size)
        if grid:
            seen.append((Target(name, module, calls[0], grid), output))


def _matters(gradient: Tensor) -> bool:
    """Return True if a gradient (batch, channels, rows, columns) differs from 0 at several positions."""
    return bool((gradient[0].abs().amax(0) > 0).sum() > 1)


def heat_of(network: nn.Module, target: Target, images: Tensor, classes: Tensor) -> Tensor:
    """Return the heat of one class for each normalised image (batch, 3, height, width), (batch, rows, columns), 0..1.

    The largest value of each image is 1, unless nothing speaks for the class. The network is in evaluation mode. Memory
    for gradients is taken from the target on alone.
    """
    leaf: list[Tensor] = []
    calls = [0]

    def cut(module: nn.Module, _: Any, output: Tensor) -> Tensor | None:
        calls[0] += 1
        if calls[0] != target.call:
            return None
        leaf.append(output.detach().requires_grad_())
        return leaf[0].clone()  # what follows may change it in place

    hook = target.module.register_forward_hook(cut)
    try:
        with torch.enable_grad():
            logits = network(images)
            scores = logits.float().gather(1, classes.view(-1, 1)).sum()
            (gradient,) = torch.autograd.grad(scores, leaf)
    finally:
        hook.remove()
    heat = target.grid.arrange(leaf[0].detach() * gradient).float().relu().sum(1).nan_to_num(0.0, 0.0)
    return heat / heat.amax((1, 2), keepdim=True).clamp(min=torch.finfo(heat.dtype).tiny)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and each of its modules back into its own mode afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
