"""looking.py: what is known of an image after it was decoded once."""

from pathlib import Path

import numpy as np
from PIL import Image

from data.digests import file_digest
from data.looking import look, thumbnails
from data.signatures import SIDE
from support.smooth_images import smooth_image


def test_sizes_are_those_of_the_upright_images_and_digests_those_of_the_files(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    smooth_image(0, (640, 70_000 // 640)).save(tmp_path / "a.jpg")
    smooth_image(1, (50, 80)).save(tmp_path / "b.jpg", exif=exif)
    smooth_image(2, (300, 2)).save(tmp_path / "c.png")
    paths = sorted(tmp_path.iterdir())
    looked = look(paths, 1)
    assert looked.sizes.tolist() == [[640, 109], [80, 50], [300, 2]]
    assert [digest.tobytes() for digest in looked.digests] == [file_digest(path) for path in paths]
    assert looked.signatures.shape == (3, SIDE, SIDE, 3)
    assert looked.usable.all()


def test_an_image_that_cannot_be_used_is_named_and_costs_no_other(tmp_path: Path) -> None:
    for number in range(3):
        smooth_image(number).save(tmp_path / f"{number}.jpg")
    (tmp_path / "1.jpg").write_bytes(b"\xff\xd8\xff")
    paths = [*sorted(tmp_path.iterdir()), tmp_path / "missing.jpg"]
    looked = look(paths, 1)
    assert sorted(looked.errors) == [1, 3]
    assert looked.errors[3].code == "missing"
    assert looked.usable.tolist() == [True, False, True, False]
    assert looked.signatures[0].any()
    assert not looked.signatures[1].any()


def test_more_images_than_a_batch_keep_their_places(tmp_path: Path) -> None:
    paths = []
    for number in range(6):
        paths.append(tmp_path / f"{number}.png")
        smooth_image(number, (30 + number, 40)).save(paths[-1])
    looked = look(paths * 50, 1)
    assert looked.sizes[:, 0].tolist() == [30, 31, 32, 33, 34, 35] * 50
    assert np.array_equal(looked.signatures, np.tile(looked.signatures[:6], (50, 1, 1, 1)))


def test_a_thumbnail_has_the_shape_of_its_image(tmp_path: Path) -> None:
    smooth_image(0, (400, 100)).save(tmp_path / "wide.jpg")
    (tmp_path / "x.jpg").write_bytes(b"")
    (small, black) = thumbnails([tmp_path / "wide.jpg", tmp_path / "x.jpg"], np.array([[400, 100], [0, 0]]), 1)
    (tmp_path / "small.jpg").write_bytes(small)
    with Image.open(tmp_path / "small.jpg") as image:
        assert image.size == (160, 40)
    assert len(black) < 2000
