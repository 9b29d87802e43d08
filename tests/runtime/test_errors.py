"""Every mistake is one sentence with an exit code, and the nearest name is suggested for a mistyped one."""

import pytest

from runtime.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    ImageError,
    JobError,
    ModelError,
    TrainingError,
    reason_of,
    unknown_name,
)


@pytest.mark.parametrize("kind", [ConfigError, DataError, ImageError, ModelError, CheckpointError, TrainingError])
def test_every_mistake_of_the_user_is_a_job_error(kind: type[JobError]) -> None:
    error = kind("it broke")
    assert isinstance(error, JobError)
    assert str(error) == "it broke"
    assert kind.exit_code == (2 if kind is ConfigError else 1)


def test_a_bad_image_is_a_data_error_with_a_code() -> None:
    assert issubclass(ImageError, DataError)
    assert ImageError("cut off").code == "undecodable_image"
    assert ImageError("too many pixels", "too_large").code == "too_large"


def test_the_nearest_name_is_suggested_and_listed_first() -> None:
    sentence = unknown_name("optimizer", "adamv", ["SGD", "Adagrad", "AdamW", "Adam"])
    assert sentence.startswith("unknown optimizer 'adamv' (did you mean 'Adam")
    assert sentence.index("AdamW") < sentence.index("SGD")


def test_a_name_in_another_case_is_suggested_in_its_spelling() -> None:
    assert "(did you mean 'AdamW'?)" in unknown_name("optimizer", "ADAMW", ["SGD", "AdamW"])


def test_without_a_near_name_the_choices_are_sorted_and_nothing_is_suggested() -> None:
    assert unknown_name("loss", "zzz", ["focal", "f1"]) == "unknown loss 'zzz'; choose from f1, focal"


def test_a_long_list_is_cut_and_says_how_many_more_there_are() -> None:
    sentence = unknown_name("model", "x", [f"name{number}" for number in range(100)], most=3)
    assert sentence.endswith("name0, name1, name10 and 97 more")


def test_the_reason_of_a_library_is_one_line_even_if_it_gives_none() -> None:
    assert reason_of(ValueError("\nit broke\nin many lines")) == "it broke"
    assert reason_of(ValueError("x" * 300), 100) == "x" * 100
    assert [reason_of(error) for error in (EOFError(), ValueError("\n"))] == ["EOFError", "ValueError"]
