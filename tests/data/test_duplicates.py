"""duplicates.py: finds what comparing all pairs would find, and the work grows with the number of images."""

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from data.digests import as_array, content_digest
from data.duplicates import (
    CANDIDATES_PER_IMAGE,
    MOST_BLOCK_LEVELS,
    MOST_LEVELS,
    Pairs,
    are_blank,
    candidates,
    components,
    connecting,
    find_duplicates,
)
from data.images import Preparation, prepare
from data.signatures import signatures_of
from support.smooth_images import as_jpeg, scaled, smooth_image

SIZE = Preparation((96, 96))


def found_in(files: Sequence[bytes]) -> Pairs:
    pixels = np.stack([prepare(data, SIZE) for data in files])
    digests = as_array([content_digest(data) for data in files])
    return find_duplicates(signatures_of(pixels), digests, np.ones(len(files), np.bool_))


def changed(image: Image.Image, how: str) -> bytes:
    if how == "saved at quality 60":
        return as_jpeg(image, 60)
    if how == "resized to 0.7":
        return as_jpeg(scaled(image, 0.7))
    if how == "mirrored":
        return as_jpeg(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 80)
    return as_jpeg(image)


@pytest.mark.parametrize("how", ["copied", "saved at quality 60", "resized to 0.7", "mirrored"])
def test_every_planted_duplicate_is_found_and_nothing_else(how: str) -> None:
    images = [smooth_image(number) for number in range(300)]
    files = [*map(as_jpeg, images), *(changed(image, how) for image in images[:60])]
    found = found_in(files)
    assert sorted(map(tuple, found.indices.tolist())) == [(number, 300 + number) for number in range(60)]
    assert found.are_exact.tolist() == [how == "copied"] * 60
    assert found.are_mirrored.tolist() == [how == "mirrored"] * 60


def test_the_groups_are_those_that_comparing_all_pairs_finds() -> None:
    """Images that are alike by degrees, so that some pairs lie just within the limits and others just outside."""
    generator = np.random.default_rng(5)
    bases = [np.asarray(smooth_image(number, (24, 24)), np.int64) for number in range(40)]
    steps = generator.integers(-14, 15, (240, 6, 6, 3)).repeat(4, 1).repeat(4, 2) * generator.random((240, 1, 1, 1))
    signatures = (
        np.stack([bases[number % 40] + step for number, step in enumerate(steps)]).clip(0, 255).astype(np.uint8)
    )
    found = find_duplicates(signatures, np.zeros((240, 32), np.uint8), np.ones(240, np.bool_))

    whole = signatures.astype(np.float32)
    difference = whole[:, None] - whole[None]
    blocks = np.abs(difference.reshape(240, 240, 6, 4, 6, 4, 3).mean((3, 5))).max((2, 3, 4))
    close = (np.sqrt((difference**2).mean((2, 3, 4))) <= MOST_LEVELS) & (blocks <= MOST_BLOCK_LEVELS)
    expected = np.argwhere(np.triu(close, 1))
    assert len(expected) > 50
    assert set(map(tuple, found.indices.tolist())) <= set(map(tuple, expected.tolist()))
    assert np.array_equal(components(found.indices, 240), components(expected, 240))


@pytest.mark.parametrize("alike", [False, True], ids=["all different", "all the same"])
def test_the_work_grows_with_the_number_of_images_and_not_with_its_square(alike: bool) -> None:
    generator = np.random.default_rng(0)
    for images in (500, 1000, 2000):
        hashes = generator.random((2 * images, 64)) < 0.5
        if alike:
            hashes[:] = hashes[0]
        compared = sum(map(len, candidates(hashes, images)))
        assert images <= compared <= CANDIDATES_PER_IMAGE * images


def test_all_copies_of_an_image_are_connected_however_many_there_are() -> None:
    file = as_jpeg(smooth_image(0))
    versions = [as_jpeg(smooth_image(0), 60 + number % 30) for number in range(80)]
    found = found_in([*[file] * 50, *versions])
    assert components(found.indices, 130).tolist() == [0] * 130
    fewest = connecting(found, ())
    assert len(fewest) == 129
    assert components(fewest.indices, 130).tolist() == [0] * 130


def test_blank_images_are_no_duplicates_unless_their_bytes_are_the_same() -> None:
    grey, black = (as_jpeg(Image.new("RGB", (64, 64), (level,) * 3)) for level in (40, 41))
    assert found_in([grey, black]).indices.tolist() == []
    assert found_in([grey, black, grey]).indices.tolist() == [[0, 2]]
    assert are_blank(np.full((1, 24, 24, 3), 9, np.uint8)).tolist() == [True]


def test_images_that_cannot_be_used_are_not_compared() -> None:
    signatures = np.repeat(signatures_of(np.asarray(smooth_image(1))[None]), 3, 0)
    digests = np.ones((3, 32), np.uint8)
    found = find_duplicates(signatures, digests, np.array([True, False, True]))
    assert found.indices.tolist() == [[0, 2]]
    for count in (0, 1):
        usable = np.ones(count, np.bool_)
        assert len(find_duplicates(signatures[:count], digests[:count], usable)) == 0


def test_a_symmetric_image_is_no_duplicate_of_itself() -> None:
    half = np.asarray(smooth_image(2, (48, 96)))
    whole = Image.fromarray(np.concatenate([half, half[:, ::-1]], 1))
    assert found_in([as_jpeg(whole), as_jpeg(smooth_image(3))]).indices.tolist() == []


def test_preferred_pairs_connect_first_and_then_the_nearest() -> None:
    pairs = Pairs(
        np.array([[0, 1], [1, 2], [0, 2]]), np.array([0.1, 0.2, 0.3], np.float32), np.zeros(3, bool), np.zeros(3, bool)
    )
    assert connecting(pairs, ()).indices.tolist() == [[0, 1], [1, 2]]
    assert connecting(pairs, (np.array([False, False, True]),)).indices.tolist() == [[0, 2], [0, 1]]
