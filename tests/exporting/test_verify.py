"""--verify names the stage at which another implementation differs, and its mistake where that is a known one.

The other implementation here is numpy, Pillow and onnxruntime, with one stage at a time done wrong.
"""

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from data.images import Preparation, prepare
from exporting.pack import STAGES
from exporting.verify import verify
from model_files import load
from runtime.errors import DataError
from support.exported import Exported

ROOT = Path(__file__).parents[2]
Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Other:
    """Another implementation: four stages, each of which a test may replace."""

    exported: Exported
    decode: Callable[[Path], Image.Image]
    resize: Callable[[Image.Image], Pixels]
    normalise: Callable[[Pixels], Floats]
    network: Callable[[Floats], Floats]

    def rows(self, *folders: str) -> dict[str, Floats]:
        """Return its probabilities for the files of some folders of the golden pack, each entering at its stage."""
        found = {}
        for folder in folders or STAGES:
            for path in sorted((self.exported.golden / folder).iterdir()):
                normalised = np.load(path) if folder == "normalised" else self.normalise(self._pixels(folder, path))
                found[f"{folder}/{path.name}"] = self.network(normalised)
        return found

    def _pixels(self, folder: str, path: Path) -> Pixels:
        if folder == "prepared":
            return np.asarray(Image.open(path))
        return self.resize(self.decode(path) if folder == "images" else Image.open(path))

    def write(self, path: Path, *folders: str) -> Path:
        return write(path, self.rows(*folders))


def write(path: Path, rows: Mapping[str, Floats], *, header: list[str] | None = None) -> Path:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(header or ["input", *(f"probability_{label}" for label in range(18))])
        table.writerows([name, *values.tolist()] for name, values in rows.items())
    return path


@pytest.fixture(scope="module")
def right(exported: Exported) -> Other:
    """Return an implementation without a mistake; the network takes normalised values, so it is that of torch."""
    import torch

    model, description = load(exported.model)
    preparation = description.preparation

    def decode(path: Path) -> Image.Image:
        if path.name != "jpeg.jpg":
            return ImageOps.exif_transpose(_eight_bits(Image.open(path))).convert("RGB")
        image = Image.open(path)
        image.draft("RGB", preparation.size[::-1])
        return image.convert("RGB")

    def resize(image: Image.Image) -> Pixels:
        return np.asarray(image.resize(preparation.size[::-1], Image.Resampling.BILINEAR))

    def normalise(pixels: Pixels) -> Floats:
        mean, std = np.array(preparation.mean, np.float32), np.array(preparation.std, np.float32)
        normalised: Floats = (pixels.astype(np.float32) / np.float32(255) - mean) / std
        return normalised.transpose(2, 0, 1)

    def network(normalised: Floats) -> Floats:
        with torch.no_grad():
            found: Floats = model(torch.from_numpy(normalised[None])).softmax(1).numpy()[0]
        return found

    return Other(exported, decode, resize, normalise, network)


def _eight_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if image.mode == "I;16" else image


def _lower_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image).astype(np.uint8))


def replaced(other: Other, **stages: Callable[..., object]) -> Other:
    return Other(**{**other.__dict__, **stages})


def test_a_right_implementation_passes_at_every_stage(right: Other, tmp_path: Path) -> None:
    compared = verify(right.exported.golden, right.write(tmp_path / "theirs.csv"), 1e-4)
    assert [(each.stage, each.count, len(each.differences)) for each in compared] == [
        (stage, 10, 0) for stage in ("decode", "resize", "normalise", "network")
    ]


def fails(other: Other, path: Path, *folders: str) -> str:
    with pytest.raises(DataError) as error:
        verify(other.exported.golden, other.write(path, *folders), 1e-4)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "decode", "mistake"),
    [
        ("exif.jpg", lambda path: Image.open(path).convert("RGB"), "the EXIF orientation is ignored"),
        ("jpeg.jpg", lambda path: Image.open(path).convert("RGB"), "a large JPEG is decoded whole"),
        (
            "16-bit.png",
            lambda path: Image.fromarray(np.asarray(Image.open(path)).astype(np.uint8)).convert("RGB"),
            "16",
        ),
        ("webp.webp", lambda path: ImageOps.mirror(Image.open(path).convert("RGB")), "most of all in images/webp.webp"),
    ],
)
def test_wrong_decoding_is_found(
    right: Other, tmp_path: Path, name: str, decode: Callable[[Path], Image.Image], mistake: str
) -> None:
    wrong = replaced(right, decode=lambda path: (decode if path.name == name else right.decode)(path))
    message = fails(wrong, tmp_path / "theirs.csv")
    assert message.startswith("the predictions differ at the stage decode: 1 of 10 files in images/ by up to ")
    assert mistake in message


def test_several_mistakes_of_decoding_are_all_named(right: Other, tmp_path: Path) -> None:
    message = fails(
        replaced(right, decode=lambda path: _eight_bits(Image.open(path)).convert("RGB")), tmp_path / "x.csv"
    )
    assert "2 of 10 files" in message
    assert message.endswith(
        "as if the EXIF orientation is ignored; a large JPEG is decoded whole, not at the smallest scale that suffices"
    )


@pytest.mark.parametrize(
    ("resample", "mistake"),
    [
        (Image.Resampling.NEAREST, "as if scaled with the filter nearest"),
        (Image.Resampling.BICUBIC, "as if scaled with the filter bicubic"),
        (Image.Resampling.HAMMING, "most of all in decoded/"),
    ],
)
def test_wrong_scaling_is_found(right: Other, tmp_path: Path, resample: Image.Resampling, mistake: str) -> None:
    wrong = replaced(right, resize=lambda image: np.asarray(image.resize((24, 32), resample)))
    message = fails(wrong, tmp_path / "theirs.csv")
    assert message.startswith("the predictions differ at the stage resize: ")
    assert mistake in message


@pytest.mark.parametrize("rows", [(), ("images", "decoded", "prepared")])
@pytest.mark.parametrize(
    ("normalise", "count", "mistake"),
    [
        (lambda right, pixels: right(pixels[..., ::-1]), 8, "as if red and blue are swapped"),  # two are grey
        (lambda right, pixels: (pixels / 255).transpose(2, 0, 1).astype(np.float32), 10, "mean and std are left out"),
    ],
)
def test_wrong_normalisation_is_found_with_rows_of_normalised_and_without(
    right: Other, tmp_path: Path, normalise: Callable[..., Floats], count: int, mistake: str, rows: tuple[str, ...]
) -> None:
    wrong = replaced(right, normalise=lambda pixels: normalise(right.normalise, pixels))
    message = fails(wrong, tmp_path / "theirs.csv", *rows)
    assert message.startswith(f"the predictions differ at the stage normalise: {count} of 10 files in prepared/")
    assert mistake in message


@pytest.mark.parametrize("rows", [(), ("prepared",), ("images", "prepared")])
def test_a_wrong_network_is_found(right: Other, tmp_path: Path, rows: tuple[str, ...]) -> None:
    wrong = replaced(right, network=lambda normalised: np.log(right.network(normalised)))
    message = fails(wrong, tmp_path / "theirs.csv", *rows)
    stage = "network" if not rows else "normalise or network"
    assert message.startswith(f"the predictions differ at the stage {stage}: 10 of 10 files")
    twice = replaced(right, network=lambda normalised: _softmax(right.network(normalised)))
    message = fails(twice, tmp_path / "theirs.csv", *rows)
    assert message.startswith("the predictions differ at the stage network: 10 of 10 files")
    assert message.endswith("as if the softmax is applied twice")


def _softmax(values: Floats) -> Floats:
    powers: Floats = np.exp(values)
    found: Floats = (powers / powers.sum()).astype(np.float32)
    return found


def test_what_the_rows_cannot_tell_is_said_with_the_rows_that_would(right: Other, tmp_path: Path) -> None:
    wrong = replaced(right, decode=lambda path: ImageOps.mirror(right.decode(path)))
    message = fails(wrong, tmp_path / "theirs.csv", "images", "prepared")
    assert message.startswith("the predictions differ at the stage decode or resize: ")
    assert message.endswith("; add rows for decoded/ to tell which")


def test_names_of_classes_and_paths_of_windows_are_read(right: Other, tmp_path: Path) -> None:
    classes = load(right.exported.model)[1].scheme.classes
    order = list(reversed(range(18)))
    rows = {"C:\\golden\\" + name.replace("/", "\\"): values[order] for name, values in right.rows("images").items()}
    path = write(tmp_path / "theirs.csv", rows, header=["file", *(classes[label] for label in order)])
    assert verify(right.exported.golden, path, 1e-4)[0].count == 10


def test_a_probability_that_is_no_number_differs(right: Other, tmp_path: Path) -> None:
    rows = right.rows("prepared")
    rows["prepared/png.png"][3] = np.nan
    with pytest.raises(DataError, match=r"1 of 10 files in prepared/ by up to inf "):
        verify(right.exported.golden, write(tmp_path / "theirs.csv", rows), 1e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no column probability_0 .*; it starts with '', expected input,probability_0"),
        ("input,probability_0\nimages/png.png,0.5\n", "there is no column probability_1"),
        ("input;probability_0\n", "it starts with 'input;probability_0', expected .*, with commas"),
        ("input,{columns}\n \n\nimages/png.png,x\n", "row 4 does not have a number"),
        ("input,{columns}\nimages/other.png{values}\n", "'images/other.png' is no file of the golden pack"),
        (
            "input,{columns}\nimages/png.png{values}\n",
            "1 of 10 files of images/ have a row, 'images/j",
        ),
        ("input,{columns}\nimages/png.png,x\n", "row 2 does not have a number for each of 18 classes"),
        ("input,{columns}\nimages/png.png{values}\nimages/png.png{values}\n", "two rows for 'images/png.png'"),
        ("input,{columns}\n", "no row for any file of the golden pack"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_one_sentence(
    exported: Exported, tmp_path: Path, text: str, message: str
) -> None:
    columns = ",".join(f"probability_{label}" for label in range(18))
    (tmp_path / "theirs.csv").write_text(text.format(columns=columns, values=",0.5" * 18))
    with pytest.raises(DataError, match=message):
        verify(exported.golden, tmp_path / "theirs.csv", 1e-4)


def test_a_folder_that_is_no_golden_pack_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a golden pack"):
        verify(tmp_path, tmp_path / "theirs.csv", 1e-4)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("resize,a mistake,decoded/jpeg.png,0.5", "1 probabilities of 18 classes in mistakes.csv"),
        (f"resize,{'x' * 200_000},decoded/jpeg.png,0.5", "field larger than field limit"),
    ],
)
def test_a_golden_pack_with_damaged_mistakes_is_refused_in_one_sentence(
    exported: Exported, tmp_path: Path, text: str, reason: str
) -> None:
    shutil.copytree(exported.golden, tmp_path / "golden")
    (tmp_path / "golden" / "mistakes.csv").write_text(f"stage,mistake,input\n{text}\n")
    with pytest.raises(DataError, match=rf"^not a golden pack \({reason}.*\); expected the folder that make export"):
        verify(tmp_path / "golden", exported.golden / "expected.csv", 1e-4)


@pytest.mark.parametrize("is_right", [True, False])
def test_the_command_answers_without_torch(right: Other, tmp_path: Path, is_right: bool) -> None:
    other = right if is_right else replaced(right, normalise=lambda pixels: right.normalise(pixels[::-1]))
    words = ["--verify", str(right.exported.golden), "--predictions", str(other.write(tmp_path / "theirs.csv"))]
    program = f"import sys, runpy; sys.argv = ['export.py', *{words}]; sys.modules['torch'] = None\n"
    program += f"runpy.run_path({str(ROOT / 'code/export.py')!r}, run_name='__main__')"
    environ = os.environ | {"PYTHONPATH": str(ROOT / "code")}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True)
    assert done.returncode == (0 if is_right else 1)
    assert done.stdout.count("stage=") == 4
    assert ("verified: " in done.stdout) == is_right
    assert ("differ at the stage normalise" in done.stderr) == (not is_right)
    assert "Traceback" not in done.stderr


def test_a_preparation_with_a_crop_and_padding_has_its_own_mistakes() -> None:
    from exporting.mistakes import resize_mistakes

    assert "the crop is left out" in resize_mistakes(Preparation(crop=(100, 80)))
    assert "the crop is left out" not in resize_mistakes(Preparation())
    assert {"fit is stretch", "fit is crop"} < resize_mistakes(Preparation(fit="pad")).keys()
    assert "fit is pad" not in resize_mistakes(Preparation(fit="pad"))


@pytest.mark.parametrize("preparation", [Preparation((40, 30)), Preparation((40, 40), (60, 50), fit="pad")])
def test_the_mistakes_of_scaling_differ_from_the_right_pixels_by_the_filter_alone(preparation: Preparation) -> None:
    """Scaled with the right filter, the same code gives what the job gives, up to rounding."""
    from exporting.mistakes import _scaled, _with_filter

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8))
    scaled = _scaled(
        image, preparation, scale=lambda cut, size: _with_filter(cut, size, resample=Image.Resampling.BILINEAR)
    )
    buffer = _png(image)
    difference = scaled.astype(int) - prepare(buffer, preparation)
    assert np.abs(difference).max() <= 1


def _png(image: Image.Image) -> bytes:
    import io

    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
