"""Images with planted attributes: each class is a patch of its own colour at its own place, there or not."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("blue", "green", "red", "white")
_COLORS = {"blue": (40, 40, 220), "green": (40, 200, 40), "red": (220, 40, 40), "white": (240, 240, 240)}


def planted(root: Path, count: int, seed: int = 0, header: str = "path,label") -> list[list[str]]:
    """Write `count` images of 32 x 32 and labels.csv with `a|b`; returns the labels of each image."""
    draw = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    rows, labels = [header], []
    for number in range(count):
        pixels = draw.integers(90, 130, (32, 32, 3)).astype(np.uint8)
        own = [name for name, chance in zip(CLASSES, (0.5, 0.4, 0.3, 0.2), strict=True) if draw.random() < chance]
        for name in own:
            place = CLASSES.index(name)
            top, left = 3 + 16 * (place // 2), 3 + 16 * (place % 2)
            pixels[top : top + 10, left : left + 10] = _COLORS[name]
        Image.fromarray(pixels).save(root / f"{number:04}.png")
        rows.append(f"{number:04}.png,{'|'.join(own) or '|'}")
        labels.append(own)
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return labels
