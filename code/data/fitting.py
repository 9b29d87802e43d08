"""How an image of another shape comes to the size of the model (`--fit`), as sizes and offsets. No torch, no Pillow.

- stretch: both sides become those of the model, whatever the shape of the image.
- crop: the image is scaled until it covers the size, and the centre is cut out: torchvision's Resize and CenterCrop.
- pad: the image is scaled until it fits into the size, and bars of one colour are added: Pillow's ImageOps.pad.
"""

from dataclasses import dataclass

Size = tuple[int, int]  # width and height in pixels

FITS = ("stretch", "crop", "pad")


@dataclass(frozen=True)
class Fitting:
    """The size that a whole image is scaled to, and where the size of the model lies in it.

    A positive offset is cut off, a negative one is padded.
    """

    target: Size
    scaled: Size
    offset: tuple[int, int]  # of the target's left top corner in the scaled image

    @classmethod
    def of(cls, size: Size, target: Size, fit: str) -> "Fitting":
        """Return how an image of `size` comes to `target`; `fit` is one of FITS."""
        scaled = {"stretch": _stretched, "crop": _covering, "pad": _contained}[fit](size, target)
        # Rounded as in torchvision's CenterCrop and in Pillow's ImageOps.pad.
        left, top = (round((side - wanted) / 2) for side, wanted in zip(scaled, target, strict=True))
        return cls(target, scaled, (left, top))

    @property
    def visible(self) -> tuple[int, int, int, int]:
        """Return the box of the scaled image that the model sees: left, top, right, bottom."""
        (left, top), (width, height) = self.offset, self.target
        return max(left, 0), max(top, 0), min(left + width, self.scaled[0]), min(top + height, self.scaled[1])

    def source_box(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """Return what the model sees of a box of the image, both left, top, right, bottom; `scaled` is of the box."""
        left, top, right, bottom = self.visible
        across, down = (box[2] - box[0]) / self.scaled[0], (box[3] - box[1]) / self.scaled[1]
        return (
            *(box[0] + left * across, box[1] + top * down),
            *(box[2] - (self.scaled[0] - right) * across, box[3] - (self.scaled[1] - bottom) * down),
        )


def _stretched(size: Size, target: Size) -> Size:
    return target


def _covering(size: Size, target: Size) -> Size:
    """Scale the side that is shorter for the target; the other is rounded down, as in torchvision's Resize."""
    (width, height), (wide, tall) = size, target
    return (wide, height * wide // width) if width * tall <= wide * height else (width * tall // height, tall)


def _contained(size: Size, target: Size) -> Size:
    """Scale the side that is longer for the target; the other is rounded, as in Pillow's ImageOps.contain."""
    (width, height), (wide, tall) = size, target
    if width * tall >= wide * height:
        return wide, min(tall, max(1, round(height / width * wide)))
    return min(wide, max(1, round(width / height * tall))), tall
