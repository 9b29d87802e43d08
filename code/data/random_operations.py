"""The fourteen operations of TrivialAugment and RandAugment, on whole batches, each image with its own.

They are those of torchvision on uint8 images (batch, 3, height, width), but motions are always bilinear, as in its
recipes. operation_draws.py draws which operation each image gets, and how strong it is.

- On a CPU, an operation is computed for the images that have drawn it, a few at a time, which stay in the cache.
- On a GPU, it is computed for all images, and a mask chooses: shapes that depend on what was drawn would let memory
  differ from step to step.

Where images are padded (`--fit pad`), `shown` (batch, 1, height, width) is a mask of what is not padding. An operation
is then that of what is shown, as if there were no padding, and a motion moves the padding along.
"""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from data.batch_draws import BLOCK
from data.batch_transforms import warp
from data.operation_draws import MOTIONS, OPERATIONS
from data.padding import stack
from runtime.devices import constant

_LEVELS = 256
_SEEN = 1 / _LEVELS  # of a pixel, from which on it counts as shown
_NO_LEVEL = -1  # for pixels that are in no histogram


def apply_operations(
    pixels: Tensor, drawn: Mapping[str, Tensor], shown: Tensor | None = None, fill: tuple[int, int, int] = (0, 0, 0)
) -> tuple[Tensor, Tensor | None]:
    """Return uint8 images (batch, 3, height, width) changed as drawn by `draw_operations`, and what of them is shown.

    `drawn` is on their device. A motion moves in black, or with `shown` the colour `fill`. With `shown` (batch, 1,
    height, width), 1 where an image is no padding, the second result is where it is afterwards; else it is None.
    """
    # whole planes of a channel use the vector unit better than pixels of three values
    result, operation = pixels.clone(memory_format=torch.contiguous_format), drawn["operation"]
    shown = None if shown is None else shown.clone()
    first, last = OPERATIONS.index(MOTIONS[0]), OPERATIONS.index(MOTIONS[-1])
    for rows, _ in _rows((operation >= first) & (operation <= last)):  # the motion of all others is none
        _move(result, shown, rows, drawn["motion"], fill)
    for name, change in CHANGES.items():
        for rows, mask in _rows(operation == OPERATIONS.index(name)):
            before, seen = _take(result, rows), None if shown is None else _take(shown, rows) > 0
            after = change(before, _take(drawn["strength"], rows).view(-1, 1, 1, 1), seen)
            for keep in (mask, seen):
                after = after if keep is None else torch.where(keep, after, before)
            _put(result, rows, after)
    return result, shown


def _rows(chosen: Tensor) -> Iterator[tuple[Tensor | None, Tensor | None]]:
    """Yield the rows to compute, and a mask (rows, 1, 1, 1) of those to change, or None to change all of them.

    On a CPU these are a few of the chosen rows at a time, else None, which stands for the whole batch.
    """
    if chosen.device.type != "cpu":
        yield None, chosen.view(-1, 1, 1, 1)
        return
    numbers = chosen.nonzero().view(-1)
    for rows in torch.split(numbers, BLOCK) if len(numbers) else ():
        yield rows, None


def _take(batch: Tensor, rows: Tensor | None) -> Tensor:
    return batch if rows is None else batch.index_select(0, rows)


def _put(batch: Tensor, rows: Tensor | None, values: Tensor) -> None:
    """Set some rows, on a CPU with numpy, which copies whole images instead of single values."""
    if rows is None:
        batch.copy_(values)
    else:
        batch.numpy()[rows.numpy()] = values.numpy()


def _move(
    result: Tensor, shown: Tensor | None, rows: Tensor | None, motion: Tensor, fill: tuple[int, int, int]
) -> None:
    """Move some rows of images, and of what is shown, in place."""
    pixels, motion = _take(result, rows), _take(motion, rows)
    if shown is None:
        _put(result, rows, _to_levels(warp(pixels, motion, beyond="zeros").round_()))
        return
    colors, seen = torch.split(warp(stack(pixels, _take(shown, rows)), motion, beyond="zeros"), [3, 1], 1)
    color = constant(tuple(map(float, fill)), result.device).view(1, 3, 1, 1)
    _put(result, rows, _to_levels(torch.addcmul(colors, 1 - seen, color).round_()))
    _put(shown, rows, (seen > _SEEN).to(torch.uint8))


# ---- the operations: pixels, strength (batch, 1, 1, 1) and what is shown -> pixels ----


def brighten(pixels: Tensor, strength: Tensor, shown: Tensor | None) -> Tensor:
    """Return pixels times 1 + strength."""
    return _to_levels(pixels.float().mul_(1 + strength))


def saturate(pixels: Tensor, strength: Tensor, shown: Tensor | None) -> Tensor:
    """Return a blend of pixels and their own grey."""
    return _blend(pixels, _gray(pixels), strength)


def contrast(pixels: Tensor, strength: Tensor, shown: Tensor | None) -> Tensor:
    """Return a blend of pixels and the mean grey of their image."""
    gray = _gray(pixels)
    if shown is None:
        mean = gray.mean((1, 2, 3), keepdim=True)
    else:
        mean = (gray * shown).sum((1, 2, 3), keepdim=True) / shown.sum((1, 2, 3), keepdim=True).clamp(min=1)
    return _blend(pixels, mean, strength)


def sharpen(pixels: Tensor, strength: Tensor, shown: Tensor | None) -> Tensor:
    """Return a blend of pixels and what a 3 x 3 filter makes of them; pixels at an edge stay as they are."""
    images = pixels.float()
    smooth = ((_box(images) + 4 * images[..., 1:-1, 1:-1]) / 13).round_()
    inner = images[..., 1:-1, 1:-1]
    change = (smooth - inner) * -strength
    if shown is not None:
        change *= _box(shown.float()) == 9
    images[..., 1:-1, 1:-1] += change
    return _to_levels(images)


def posterize(pixels: Tensor, strength: Tensor, shown: Tensor | None) -> Tensor:
    """Return pixels of which `strength` upper bits are left."""
    dropped = (8 - strength).int().clamp_(0, 8)
    return pixels & (_LEVELS - (torch.ones_like(dropped) << dropped)).to(torch.uint8)


def solarize(pixels: Tensor, strength: Tensor, shown: Tensor | None) -> Tensor:
    """Return pixels whose values from 255 times `strength` on are inverted."""
    return pixels ^ (pixels >= 255 * strength).to(torch.uint8) * 255


def stretch_contrast(pixels: Tensor, strength: Tensor, shown: Tensor | None) -> Tensor:
    """Return pixels whose values reach from 0 to 255 in each channel (autocontrast)."""
    low = (pixels if shown is None else torch.where(shown, pixels, 255)).amin((2, 3), keepdim=True).float()
    high = (pixels if shown is None else torch.where(shown, pixels, 0)).amax((2, 3), keepdim=True).float()
    varies = high > low
    low, scale = torch.where(varies, low, 0.0), torch.where(varies, (high - low) * (1 / 255), 1.0)
    return _to_levels(pixels.float().sub_(low).div_(scale))


def equalize(pixels: Tensor, strength: Tensor, shown: Tensor | None) -> Tensor:
    """Return pixels whose values are spread as evenly as can be in each channel, by Pillow's table."""
    count = pixels.shape[0] * pixels.shape[1]  # of channels
    index = pixels + torch.arange(0, count * _LEVELS, _LEVELS, device=pixels.device).view(*pixels.shape[:2], 1, 1)
    found = _histogram(index if shown is None else torch.where(shown, index, _NO_LEVEL), count)
    sums = found.cumsum(1)
    total = sums[:, -1:]
    highest = found.gather(1, (sums == total).int().argmax(1, keepdim=True))  # how many have the highest level
    step = (total - highest) // 255
    table = ((sums - found + step // 2) // step.clamp(min=1)).clamp_(0, 255)
    return torch.where(step > 0, table, torch.arange(_LEVELS, device=pixels.device)).to(torch.uint8).take(index)


def _histogram(index: Tensor, rows: int) -> Tensor:
    """Return how often each level occurs, (rows, 256), of indices 256 * row + level; negative ones do not count."""
    if index.device.type == "cpu":
        return torch.bincount(index.reshape(-1) + 1, minlength=rows * _LEVELS + 1)[1:].view(rows, _LEVELS)
    # bincount waits for a GPU; this has the same bits in every run, as numbers are whole
    return torch.histc(index, rows * _LEVELS, 0, rows * _LEVELS).view(rows, _LEVELS)


def _to_levels(values: Tensor) -> Tensor:
    """Return values as uint8, cut off as in torchvision; by way of int16, for which CPUs have an instruction."""
    return values.clamp_(0, 255).to(torch.int16).to(torch.uint8)


def _blend(pixels: Tensor, other: Tensor, strength: Tensor) -> Tensor:
    """Return 1 + strength parts of pixels and -strength parts of another image."""
    return _to_levels(pixels.float().mul_(1 + strength).addcmul_(other, -strength))


def _gray(pixels: Tensor) -> Tensor:
    """Return whole grey levels (batch, 1, height, width), float32, with torchvision's weights."""
    red, green, blue = torch.split(pixels, 1, 1)
    return (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).floor_()


def _box(values: Tensor) -> Tensor:
    """Return the sums of 3 x 3 neighbours, (batch, channels, height - 2, width - 2)."""
    lines = values[..., :-2, :] + values[..., 1:-1, :] + values[..., 2:, :]
    return lines[..., :-2] + lines[..., 1:-1] + lines[..., 2:]


CHANGES: Mapping[str, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "Brightness": brighten,
    "Color": saturate,
    "Contrast": contrast,
    "Sharpness": sharpen,
    "Posterize": posterize,
    "Solarize": solarize,
    "AutoContrast": stretch_contrast,
    "Equalize": equalize,
}
