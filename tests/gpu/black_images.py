"""Data sets of black images: on the stand-in, memory that is used again then holds zeros, which are finite numbers."""

from pathlib import Path

from PIL import Image

from support.drawing import draw_eval, draw_faces


def black_faces(root: Path, people: int = 12, size: tuple[int, int] = (48, 64)) -> Path:
    """Create `people` profile folders with seven black images each; return their folder."""
    return _blacken(draw_faces(root, people, size))


def black_eval(root: Path, count: int) -> Path:
    """Create an eval folder with info.csv and black images; return the folder."""
    return _blacken(draw_eval(root, {f"{index:040x}.jpg": index % 18 for index in range(count)}))


def _blacken(root: Path) -> Path:
    for path in root.rglob("*.jpg"):
        with Image.open(path) as image:
            size = image.size
        Image.new("RGB", size).save(path)
    return root
