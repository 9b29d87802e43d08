"""Class numbers mean the same as in the original, and can be encoded and decoded."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labels import MASK_OF_STEM, MASKED_FACES, AgeLabels, GenderLabels, LabelScheme, MaskLabels, Task
from runtime.errors import DataError

TASKS = st.lists(st.integers(2, 5), min_size=1, max_size=4)


def test_a_class_is_mask_times_six_plus_gender_times_three_plus_age() -> None:
    for mask, gender, age in product(range(3), range(2), range(3)):
        label = mask * 6 + gender * 3 + age
        assert MASKED_FACES.encode(mask, gender, age) == label
        assert MASKED_FACES.decode(label) == ((label // 6) % 3, (label // 3) % 2, label % 3)
    assert MASKED_FACES.num_classes == len(set(MASKED_FACES.classes)) == 18


def test_a_class_is_described_by_the_values_of_its_tasks() -> None:
    assert MASKED_FACES.describe(7) == {"mask": "incorrect", "gender": "male", "age": "30-59"}
    assert MASKED_FACES.classes[7] == "mask incorrect, male, 30-59"


@given(TASKS)
def test_decoding_is_the_inverse_of_encoding_in_any_scheme(sizes: list[int]) -> None:
    tasks = tuple(Task(f"task{index}", tuple(map(str, range(size)))) for index, size in enumerate(sizes))
    classes = tuple(map(" ".join, product(*(task.classes for task in tasks))))
    scheme = LabelScheme("any", classes, tasks)
    for label, name in enumerate(classes):
        assert scheme.encode(*scheme.decode(label)) == label
        assert " ".join(scheme.describe(label).values()) == name


@pytest.mark.parametrize("scheme", [MASKED_FACES, LabelScheme("plain", ("cat", "dog"))])
def test_a_scheme_can_be_written_to_a_dict_and_read_back(scheme: LabelScheme) -> None:
    assert LabelScheme.from_dict(scheme.to_dict()) == scheme


def test_a_plain_scheme_has_no_tasks() -> None:
    assert LabelScheme("plain", ("cat", "dog")).decode(1) == ()
    assert LabelScheme("plain", ("cat", "dog")).describe(1) == {}


def test_too_few_classes_and_tasks_that_do_not_multiply_are_errors() -> None:
    with pytest.raises(DataError, match="has 1 classes; at least 2 are needed"):
        LabelScheme("one", ("cat",))
    with pytest.raises(DataError, match="do not multiply to 3 classes"):
        LabelScheme("odd", ("a", "b", "c"), (Task("pair", ("a", "b")),))


@pytest.mark.parametrize("text", ["male", "MALE", "Male", "female", "FeMale"])
def test_gender_is_parsed_in_any_case(text: str) -> None:
    assert GenderLabels.from_str(text) is (GenderLabels.FEMALE if "f" in text.lower() else GenderLabels.MALE)


@pytest.mark.parametrize("text", ["", "man", "maleX", "0"])
def test_an_unknown_gender_lists_the_known_ones(text: str) -> None:
    with pytest.raises(DataError, match=r"unknown gender .*choose from (fe)?male, (fe)?male"):
        GenderLabels.from_str(text)


@pytest.mark.parametrize(
    ("age", "group"),
    [
        ("0", "YOUNG"),
        ("29", "YOUNG"),
        ("30", "MIDDLE"),
        ("59", "MIDDLE"),
        ("60", "OLD"),
        ("100", "OLD"),
        (45, "MIDDLE"),
    ],
)
def test_age_groups_begin_at_thirty_and_sixty(age: str | int, group: str) -> None:
    assert AgeLabels.from_number(age) is AgeLabels[group]


@pytest.mark.parametrize("text", ["", "x", "45.5", "-1", "151", "9" * 5000])
def test_a_text_that_is_not_an_age_is_an_error(text: str) -> None:
    with pytest.raises(DataError, match=r"^age .* (is not a whole number|is not between)"):
        AgeLabels.from_number(text)


def test_a_profile_has_seven_file_stems() -> None:
    assert len(MASK_OF_STEM) == 7
    assert [MASK_OF_STEM[f"mask{number}"] for number in range(1, 6)] == [MaskLabels.MASK] * 5
    assert MASK_OF_STEM["incorrect_mask"] is MaskLabels.INCORRECT
    assert MASK_OF_STEM["normal"] is MaskLabels.NORMAL
