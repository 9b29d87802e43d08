"""What a run depends on is compared entry by entry, and other classes are never forced."""

from typing import Any

import pytest

from labels import MASKED_FACES
from training.fingerprint import (
    adds_up_parts,
    explain_difference,
    list_differences,
    upgrade_checkpoint,
    version_differences,
)

FOLDERS = {"dataset": "ImageFolderDataset", "data": "0", "classes": ["cat", "dog"]}


def test_a_checkpoint_of_0_1_0_is_read_under_the_current_names() -> None:
    manifest = {"step": 5, "surroundings": {"torch": "2.9.0"}, "fingerprint": {"accumulate": 2, "statistics": "seed"}}
    manifest["fingerprint"] |= {"unusable pictures": [3], "data": "0"}  # type: ignore[operator]
    current, saved = upgrade_checkpoint(manifest, {"position": {"epoch": 1}, "learner": {"model": 2}}, {"parts": 1})
    assert current == {
        "step": 5,
        "runtime_versions": {"torch": "2.9.0"},
        "fingerprint": {"parts": 2, "statistics": "original", "unusable images": [3], "data": "0"},
    }
    assert saved == {"state": {"epoch": 1}, "trainer": {"model": 2}}


@pytest.mark.parametrize(
    ("theirs", "ours", "is_accepted"),
    [
        ({"dataset": "ImageFolderDataset", "data": "0"}, FOLDERS, True),
        ({"dataset": "ImageFolderDataset", "data": "1"}, FOLDERS, False),
        ({"dataset": "MaskBaseDataset", "data": "0"}, FOLDERS | {"data": "1"}, False),
        (
            {"dataset": "MaskBaseDataset", "data": "0"},
            {"dataset": "MaskSplitByProfileDataset", "data": "1", "classes": list(MASKED_FACES.classes)},
            True,
        ),
    ],
)
def test_a_checkpoint_of_0_1_0_is_forced_only_if_it_certainly_has_the_same_classes(
    theirs: dict[str, Any], ours: dict[str, Any], is_accepted: bool
) -> None:
    manifest, _ = upgrade_checkpoint({"step": 5, "runtime_versions": {}, "fingerprint": theirs}, {}, ours)
    difference = explain_difference(manifest["fingerprint"], ours, is_forced=True)
    assert (difference is None) == is_accepted
    assert is_accepted or "version 0.1.0 did not write their names" in str(difference)


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (["cat", "dog"], ["ape", "cat"], "(missing: 'dog'; new: 'ape')"),
        (["cat", "dog"], ["cat", "dog", "owl"], "(new: 'owl')"),
        (["cat", "dog"], ["dog", "cat"], "(the same in another order)"),
        ([*"abcdefgh", "z"], ["x", "z"], "(missing: 'a', 'b', 'c', 'd', 'e' and 3 more; new: 'x')"),
    ],
)
@pytest.mark.parametrize("is_forced", [True, False])
def test_other_classes_are_named_and_never_forced(
    before: list[str], now: list[str], said: str, is_forced: bool
) -> None:
    difference = explain_difference(
        {"classes": before, "data": "0"}, {"classes": now, "data": "1"}, is_forced=is_forced
    )
    assert difference is not None
    assert said in difference
    assert "data was" not in difference


def test_other_settings_are_listed_and_may_be_forced() -> None:
    assert list_differences({"lr": 1, "seed": 2}, {"lr": 2, "seed": 2}) == "lr was 1, is 2"
    assert "(lr was 1, is 2); pass --resume never" in str(explain_difference({"lr": 1}, {"lr": 2}, is_forced=False))
    assert explain_difference({"lr": 1}, {"lr": 2}, is_forced=True) is None
    assert explain_difference({"lr": 1}, {"lr": 1}, is_forced=False) is None


def test_a_gpu_checkpoint_of_0_1_0_lacks_driver_and_size_of_the_gpu_without_a_warning() -> None:
    before = {"torch": "2.10.0", "processor": "NVIDIA A10G"}
    now = before | {"SMs": 80, "driver": "570.124.06"}
    assert version_differences(before, now) == version_differences(now, now) == ""
    assert version_differences(before, now | {"torch": "2.11.0"}) == "torch was '2.10.0', is '2.11.0'"
    assert version_differences(now, now | {"SMs": 72}) == "SMs was 80, is 72"
    assert version_differences(now, before) == "SMs was 80, is None, driver was '570.124.06', is None"


@pytest.mark.parametrize(("parts", "count", "said"), [(1, 1, ""), (2, 2, "sum format was None, is 1"), (1, 2, "sum")])
def test_the_format_of_sums_matters_to_a_run_whose_parts_were_chosen_or_grew(parts: int, count: int, said: str) -> None:
    state = {"trainer": {"parts": {"training": count, "validation": 4}}}
    adds_up = adds_up_parts({"fingerprint": {"parts": parts}}, state)
    assert version_differences({}, {"sum format": 1}, adds_up_parts=adds_up).startswith(said)
    assert bool(version_differences({"sum format": 1}, {"sum format": 2}, adds_up_parts=adds_up)) == bool(said)
