"""The golden pack: ten images that show ten things, their pixels and probabilities at each stage."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.images import MAX_PIXELS, Preparation, prepare
from exporting.golden import GoldenPack
from exporting.golden_images import drawn_size, golden_images
from exporting.network import ExportedNetwork
from exporting.pack import STAGES, read_pack
from model_files import load
from runtime.errors import DataError
from support.exported import Exported


def expected(exported: Exported) -> dict[str, list[float]]:
    with (exported.golden / "expected.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["input", *(f"probability_{label}" for label in range(18))]
    return {row[0]: [float(cell) for cell in row[1:]] for row in rows}


def test_there_are_ten_images_of_all_kinds() -> None:
    opened = {image.name: Image.open(io.BytesIO(image.data)) for image in golden_images((128, 96))}
    assert len(opened) == 10
    kinds = {name: (str(image.format), image.mode) for name, image in opened.items()}
    assert kinds == {
        "jpeg.jpg": ("JPEG", "RGB"),
        "png.png": ("PNG", "RGB"),
        "webp.webp": ("WEBP", "RGB"),
        "exif.jpg": ("JPEG", "RGB"),
        "cmyk.jpg": ("JPEG", "CMYK"),
        "grey.jpg": ("JPEG", "L"),
        "rgba.png": ("PNG", "RGBA"),
        "16-bit.png": ("PNG", "I;16"),
        "tiny.png": ("PNG", "RGB"),
        "wide.png": ("PNG", "RGB"),
    }
    assert opened["exif.jpg"].getexif()[0x0112] == 6
    assert max(opened["tiny.png"].size) < 10
    assert opened["wide.png"].size[0] >= 10 * opened["wide.png"].size[1]


def test_the_images_are_the_same_each_time() -> None:
    assert golden_images((64, 48)) == golden_images((64, 48))


@pytest.mark.parametrize("crop", [(8, 100_000), (100_000, 8)])
def test_images_for_a_huge_crop_can_be_encoded_and_prepared(crop: tuple[int, int]) -> None:
    prepared = [prepare(image.data, Preparation((16, 16), crop)).shape for image in golden_images(crop)]
    assert prepared == [(16, 16, 3)] * 10


@pytest.mark.parametrize("size", [(100_000, 100_000), (5000, 5000), (3000, 90_000)])
def test_images_are_never_larger_than_those_that_are_accepted(size: tuple[int, int]) -> None:
    height, width = drawn_size(size)
    assert 0.9 * MAX_PIXELS < 2.5**2 * height * width <= MAX_PIXELS
    assert drawn_size((2048, 2048)) == (2048, 2048), "the largest --resize"


@pytest.mark.parametrize("preparation", [Preparation((128, 96)), Preparation((64, 64), (160, 128), fit="pad")])
def test_libjpeg_decodes_the_large_one_at_a_smaller_scale(preparation: Preparation) -> None:
    (large,) = [image for image in golden_images(preparation.crop or preparation.size) if image.name == "jpeg.jpg"]
    whole = Image.open(io.BytesIO(large.data)).convert("RGB")
    buffer = io.BytesIO()
    whole.save(buffer, "PNG")
    assert (prepare(large.data, preparation) != prepare(buffer.getvalue(), preparation)).any()


def test_every_stage_has_a_file_and_probabilities_for_each_image(exported: Exported) -> None:
    rows = expected(exported)
    files = {str(path.relative_to(exported.golden)) for path in exported.golden.glob("*/*")}
    assert set(rows) == files
    assert [sum(name.startswith(f"{stage}/") for name in rows) for stage in STAGES] == [10, 10, 10, 10]
    assert all(sum(row) == pytest.approx(1, abs=1e-5) for row in rows.values())


def test_the_values_of_each_stage_are_those_of_the_job(exported: Exported) -> None:
    """A program that takes each file in at its stage gets what expected.csv says."""
    preparation, engine, rows = load(exported.model)[1].preparation, exported.engine(), expected(exported)
    for path in sorted(exported.golden.glob("*/*")):
        stage, data = path.parent.name, path.read_bytes()
        if stage == "normalised":
            normalised = np.load(path)
            assert (normalised.shape, normalised.dtype) == ((3, 32, 24), np.float32)
            scaled = normalised.transpose(1, 2, 0) * np.array(preparation.std) + np.array(preparation.mean)
            pixels = (255 * scaled).round().astype(np.uint8)
        else:
            pixels = np.asarray(Image.open(path)) if stage == "prepared" else prepare(data, preparation)
        found = engine.probabilities(pixels[None])[0]
        assert found == pytest.approx(rows[f"{stage}/{path.name}"], abs=1e-5), path


def test_the_record_names_the_model_its_classes_and_the_preparation(exported: Exported) -> None:
    record = json.loads((exported.golden / "golden.json").read_text())
    description = load(exported.model)[1]
    assert record["model"] == exported.identity
    assert record["classes"] == list(description.scheme.classes)
    assert Preparation.from_dict(record["preparation"]) == description.preparation


def test_a_pack_that_is_written_by_half_is_not_taken_for_one(exported: Exported, tmp_path: Path) -> None:
    model, description = load(exported.model)
    network = ExportedNetwork(model, description, "none")
    shutil.copytree(exported.golden, tmp_path / "golden")
    shutil.rmtree(tmp_path / "golden/prepared")
    (tmp_path / "golden/prepared").touch()
    with pytest.raises(OSError, match="prepared"):
        GoldenPack.of(network, description.preparation).write(tmp_path / "golden", network, description, {})
    with pytest.raises(DataError, match="not a golden pack"):
        read_pack(tmp_path / "golden")
