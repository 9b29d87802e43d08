"""Tiny generated data sets: masked faces, and two class folders of noise.

The pixels of the faces never change: files of earlier releases were made from them.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

STEMS = ("mask1", "mask2", "mask3", "mask4", "mask5", "incorrect_mask", "normal")
PEOPLE = (("male", 25), ("female", 25), ("male", 45), ("female", 45), ("male", 60), ("female", 60))


def draw_image(label: int, person: int, size: tuple[int, int] = (48, 64)) -> Image.Image:
    """Draw an image (width, height) whose colours tell its class: mask above, gender in the middle, age below."""
    mask, gender, age = label // 6, label // 3 % 2, label % 3
    pixels = np.random.default_rng([label, person]).integers(0, 40, (size[1], size[0], 3))
    third = size[1] // 3
    pixels[:third, :, mask] += 200
    pixels[third : 2 * third] += np.array([200, 60, 0]) if gender else np.array([0, 60, 200])
    pixels[2 * third :] += 100 * age
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def label_of(stem: str, gender: str, age: int) -> int:
    """Return the class of an image by its file stem, `male` or `female`, and age in years."""
    mask = {"incorrect_mask": 1, "normal": 2}.get(stem, 0)
    return mask * 6 + (gender == "female") * 3 + (age >= 30) + (age >= 60)


def draw_faces(root: Path, people: int, size: tuple[int, int] = (48, 64), ending: str = ".jpg") -> Path:
    """Create `people` profile folders with seven images each, in all six groups in turn; return their folder."""
    for person in range(people):
        gender, age = PEOPLE[person % len(PEOPLE)]
        profile = root / f"{person:06}_{gender}_Asian_{age}"
        profile.mkdir(parents=True)
        for stem in STEMS:
            draw_image(label_of(stem, gender, age), person, size).save(profile / f"{stem}{ending}", quality=95)
    return root


def draw_pets(root: Path, images: int, size: tuple[int, int], ending: str = ".png", seed: int = 0) -> Path:
    """Create the class folders cat and dog, each with so many images (width, height) of noise; return their folder."""
    draw = np.random.default_rng(seed)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(images):
            Image.fromarray(draw.integers(0, 256, (*size[::-1], 3), np.uint8)).save(root / name / f"{number}{ending}")
    return root


def draw_eval(root: Path, labels: Mapping[str, int]) -> Path:
    """Create an eval folder with info.csv: an image of a class for each file name; return the folder."""
    (root / "images").mkdir(parents=True)
    for index, (name, label) in enumerate(labels.items()):
        draw_image(label, 1000 + index).save(root / "images" / name, quality=95)
    (root / "info.csv").write_text("".join(f"{line}\n" for line in ("ImageID,ans", *(f"{name},0" for name in labels))))
    return root
