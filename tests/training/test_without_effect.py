"""An option that has no effect beside the others is named, and one that has is not."""

import inspect
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import optim

from config import OPTIMIZERS, TrainConfig
from recipes import RECIPES
from support.trainers import CPU, PLAIN, Faces
from training.inputs import read_data
from training.without_effect import WITH_MOMENTUM, WITHOUT_WEIGHT_DECAY, describe_without_effect


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"momentum": 0.5, "optimizer": "AdamW"}, "--momentum: 0.5 has no effect with --optimizer AdamW; leave it out"),
        ({"weight_decay": 0.1, "optimizer": "Rprop"}, "--weight-decay: 0.1 has no effect with --optimizer Rprop; .*"),
        ({"lr_decay_step": 5, "schedule": "cosine"}, "--lr-decay-step: 5 has no effect with --schedule cosine; .*"),
        ({"cutmix_shape": "strip", "mixup": 0.2}, "--cutmix-shape: strip has no effect with --cutmix 0; leave it out"),
        ({"max_bad_ratio": 0.5}, "--max-bad-ratio: 0.5 has no effect with --on-bad-image error; leave it out"),
        ({"val_ratio": 0.5, "fold": "1/5"}, "--val-ratio: 0.5 has no effect with --fold 1/5; leave it out"),
    ],
)
def test_an_option_without_effect_is_named_with_the_one_that_decides(options: dict[str, Any], sentence: str) -> None:
    (found,) = describe_without_effect(TrainConfig(**options))
    assert re.fullmatch(sentence, found)


@pytest.mark.parametrize(
    "options",
    [
        *({"recipe": name, **values} for name, values in RECIPES.items()),
        {"recipe": "scratch", **RECIPES["scratch"], "cutmix": 0.0, "optimizer": "Rprop"},  # the recipe sets the others
        {"momentum": 0.5, "optimizer": "RMSprop"},
        {"lr_decay_step": 5},
        {"cutmix_shape": "strip", "cutmix": 1.0},
        {"max_bad_ratio": 0.5, "on_bad_image": "skip"},
        {"val_ratio": 0.5},
    ],
)
def test_an_option_with_an_effect_is_not_named(options: dict[str, Any]) -> None:
    assert describe_without_effect(TrainConfig(**options)) == []


def test_the_optimizers_are_told_apart_as_torch_does() -> None:
    accepted = {name: inspect.signature(getattr(optim, name)).parameters for name in OPTIMIZERS}
    assert [name for name in OPTIMIZERS if "momentum" in accepted[name]] == list(WITH_MOMENTUM)
    assert [name for name in OPTIMIZERS if "weight_decay" not in accepted[name]] == list(WITHOUT_WEIGHT_DECAY)


def test_a_share_to_validate_with_is_named_beside_a_folder_of_validation_images(
    faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(PLAIN, val_ratio=0.4, allow_leaks=True)
    read_data(train := faces(6), config, CPU)
    assert "no effect" not in capsys.readouterr().err
    val = shutil.copytree(train, tmp_path / "validation")
    read_data(train, config, CPU, validation_dir=val)
    assert "warning: --val-ratio: 0.4 has no effect with a given split; leave it out" in capsys.readouterr().err
