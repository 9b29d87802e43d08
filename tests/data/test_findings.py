"""findings.py: what is found in images, in which order, and what audit.csv says of it."""

import csv
import io
from pathlib import Path

import numpy as np

from data.audited import AuditedImage
from data.duplicates import Pairs
from data.findings import (
    Finding,
    as_csv,
    by_severity,
    class_findings,
    duplicate_findings,
    image_findings,
    suspect_findings,
)
from data.looking import Looked
from data.signatures import signatures_of
from data.suspects import Suspect
from labels import MULTI, LabelScheme
from runtime.errors import ImageError
from support.smooth_images import smooth_image


def image(name: str, part: str = "train", label: str = "cat") -> AuditedImage:
    return AuditedImage(Path("/somewhere") / name, f"{part}/{name}", part, label)


def looked(*sizes: tuple[int, int], errors: dict[int, ImageError] | None = None, blank: tuple[int, ...] = ()) -> Looked:
    pixels = np.stack([np.asarray(smooth_image(number)) for number in range(len(sizes))])
    pixels[list(blank)] = 90
    digests = np.zeros((len(sizes), 32), np.uint8)
    return Looked(np.array(sizes), digests, signatures_of(pixels), errors or {})


def pairs(*indices: tuple[int, int]) -> Pairs:
    count = len(indices)
    distances = np.arange(count, dtype=np.float32)
    return Pairs(np.array(indices).reshape(-1, 2), distances, np.arange(count) == 0, np.arange(count) == 2)


def test_each_kind_of_duplicate_says_what_it_means() -> None:
    images = [image("a"), image("b"), image("c", label="dog"), image("d", "eval", ""), image("e", "validation")]
    found = duplicate_findings(images, pairs((0, 1), (0, 3), (0, 2), (0, 4)))
    texts = {finding.other_path: (finding.kind, finding.message) for finding in found}
    assert texts == {
        "train/b": ("exact_duplicate", "the same file"),
        "eval/d": ("near_duplicate", "nearly the same image in train and eval, which inflates the eval scores"),
        "train/c": (
            "mirrored_duplicate",
            "nearly the same image, mirrored, with the labels 'cat' and 'dog'; one of them is wrong",
        ),
        "validation/e": (
            "near_duplicate",
            "nearly the same image in train and validation, which inflates the validation scores",
        ),
    }


def test_a_leak_is_reported_before_a_copy_in_the_same_part() -> None:
    """Of three copies two pairs connect all; the leaks of both copies in eval are among them."""
    images = [image("a"), image("b", "eval", ""), image("c", "eval", "")]
    found = duplicate_findings(images, pairs((1, 2), (0, 1), (0, 2)))
    assert {(finding.path, finding.other_path) for finding in found} == {("train/a", "eval/b"), ("train/a", "eval/c")}
    assert duplicate_findings(images, pairs()) == []


def test_images_are_unreadable_blank_tiny_or_of_an_extreme_shape() -> None:
    images = [image(name) for name in "abcde"]
    error = ImageError("an empty file is not an image: /somewhere/a", "empty")
    found = image_findings(
        images,
        looked((0, 0), (100, 100), (10, 20), (400, 50), (31, 33), errors={0: error}, blank=(0, 1)),
        min_side=32,
        max_ratio=4,
    )
    assert [(finding.kind, finding.path, finding.score) for finding in found] == [
        ("unreadable", "train/a", 0),
        ("blank", "train/b", 0),
        ("tiny", "train/c", 10),
        ("extreme_shape", "train/d", 8),
        ("tiny", "train/e", 31),
    ]
    assert found[0].message == "an empty file is not an image"


def test_only_images_that_can_be_read_count_for_a_class() -> None:
    images = [image("a"), image("b"), image("c", label="dog"), image("d", "eval", "")]
    error = ImageError("x", "empty")
    found = class_findings(
        images, looked(*[(9, 9)] * 4, errors={1: error}), LabelScheme("pets", ("cat", "dog", "fish")), 2
    )
    assert [(finding.label, finding.score) for finding in found] == [("cat", 1), ("dog", 1), ("fish", 0)]
    assert class_findings(images, looked(*[(9, 9)] * 4), LabelScheme("pets", ("cat", "dog")), 2)[1:] == []
    several = [image("a", label="cat|dog"), image("b", label="dog"), image("c", label="|")]
    found = class_findings(several, looked(*[(9, 9)] * 3), LabelScheme("pets", ("cat", "dog"), kind=MULTI), 2)
    assert [(finding.label, finding.score) for finding in found] == [("cat", 1)]


def test_a_suspected_label_names_what_the_model_says() -> None:
    (found,) = suspect_findings([image("a", "validation")], [Suspect(0, "cat", "dog", 0.98)])
    assert (found.path, found.label, found.other_label, found.score) == ("validation/a", "cat", "dog", 0.98)


def test_the_worst_come_first() -> None:
    worst = [
        Finding("near_duplicate", "a", "b", label="cat", other_label="dog", score=3),
        Finding("exact_duplicate", "a", "b", "train", "eval"),
        Finding("suspected_label", "a", score=0.9),
        Finding("suspected_label", "b", score=0.8),
        Finding("near_duplicate", "a", "b", score=0.5),
        Finding("near_duplicate", "a", "b", score=0.7),
        Finding("unreadable", "a"),
        Finding("few_images", label="cat"),
    ]
    assert by_severity(reversed(worst)) == worst


def test_a_table_reader_gets_every_field_back() -> None:
    hostile = 'a,"b"\n=1+1.jpg'
    rows = list(csv.DictReader(io.StringIO(as_csv([Finding("tiny", hostile, label="é", score=3.0, message="x")]))))
    assert rows == [
        {
            **{"kind": "tiny", "path": hostile, "other_path": "", "part": "", "other_part": ""},
            **{"label": "é", "other_label": "", "score": "3.0", "message": "x"},
        }
    ]
