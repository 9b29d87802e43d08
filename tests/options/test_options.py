"""Every option has help, a default that it accepts, and names that exist; --help needs no torch."""

import os
import re
import subprocess
import sys
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from torch import nn

import augmentation
import config
import dataset
import loss
from config import TrainConfig, TrainPaths
from data import fitting
from faces.options import DemoConfig
from optimization import create_optimizer, create_schedule
from options.audit import AuditConfig, AuditPaths
from options.cv import CvConfig
from options.evaluation import EvaluationConfig, EvaluationPaths
from options.export import ExportConfig, ExportPaths
from options.inference import TTA, InferenceConfig, InferencePaths
from predictor import VIEWS
from runtime.arguments import parse
from runtime.conversion import show
from runtime.errors import ConfigError

CODE = Path(__file__).parents[2] / "code"
COMMANDS: dict[str, tuple[type[Any], ...]] = {
    "train.py": (TrainPaths, TrainConfig),
    "cv.py": (TrainPaths, CvConfig, TrainConfig),
    "inference.py": (InferencePaths, InferenceConfig),
    "evaluation.py": (EvaluationPaths, EvaluationConfig),
    "audit.py": (AuditPaths, AuditConfig),
    "export.py": (ExportPaths, ExportConfig),
    "demo.py": (DemoConfig,),
}
OPTIONS = [(command, cls, field) for command, classes in COMMANDS.items() for cls in classes for field in fields(cls)]
NAMES = [f"{command}-{field.name}" for command, _, field in OPTIONS]


def default(field: Field[Any]) -> Any:
    return {} if callable(field.default_factory) else field.default


@pytest.mark.parametrize(("command", "cls", "field"), OPTIONS, ids=NAMES)
def test_every_option_has_help_and_accepts_its_default(command: str, cls: type[Any], field: Field[Any]) -> None:
    assert re.fullmatch(r"\S.*[^.\s]", field.metadata["help"])
    flag = f"--{field.name.replace('_', '-')}"
    assert getattr(parse(command, [flag, show(default(field))], {}, cls)[0], field.name) == default(field)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_flags_of_a_command_are_unique(command: str) -> None:
    names = [field.name for cls in COMMANDS[command] for field in fields(cls)]
    assert len(names) == len(set(names))


def test_the_names_on_the_command_line_are_those_of_the_registries() -> None:
    assert set(config.DATASETS) == {"auto", *dataset._datasets}
    assert set(config.AUGMENTATIONS) == set(augmentation._augmentations)
    assert config.FITS == fitting.FITS
    assert set(TTA) == set(VIEWS)
    assert set(config.CRITERIA) == set(loss._criterion_entrypoints)
    for name in config.OPTIMIZERS:
        assert type(create_optimizer(name, nn.Linear(2, 2), lr=0.1)).__name__ == name
    for name in config.SCHEDULES:
        assert 0 <= create_schedule(name, steps_per_epoch=2, epochs=3)(5) <= 1


def test_the_flags_and_defaults_of_the_original_are_kept() -> None:
    paths, options = parse("train.py", [], {}, TrainPaths, TrainConfig)
    original = {
        "seed": 42,
        "epochs": 1,
        "augmentation": "BaseAugmentation",
        "resize": (128, 96),
        "batch_size": 64,
        "valid_batch_size": 1000,
        "model": "BaseModel",
        "optimizer": "SGD",
        "lr": 1e-3,
        "val_ratio": 0.2,
        "criterion": "cross_entropy",
        "lr_decay_step": 20,
        "log_interval": 20,
        "name": "exp",
    }
    assert {name: getattr(options, name) for name in original} == original
    assert paths.data_dir == Path("/opt/ml/input/data/train/images")
    assert paths.model_dir == Path("model")
    (options, _) = parse("inference.py", [], {}, InferencePaths, InferenceConfig)
    assert options.data_dir == Path("/opt/ml/input/data/eval")
    assert options.output_dir == Path("output")


def test_folders_come_from_the_variables_of_sagemaker() -> None:
    environ = {"SM_CHANNEL_TRAIN": "/in", "SM_MODEL_DIR": "/model", "SM_OUTPUT_DATA_DIR": "/out"}
    environ |= {"SM_CHANNEL_EVAL": "/eval", "SM_CHANNEL_MODEL": "/trained", "SM_GROUND_TRUTH_DIR": "/truth"}
    (train,) = parse("train.py", [], environ, TrainPaths)
    (infer,) = parse("inference.py", [], environ, InferencePaths)
    (evaluate,) = parse("evaluation.py", [], environ, EvaluationPaths)
    assert (train.data_dir, train.model_dir, train.output_dir) == (Path("/in"), Path("/model"), Path("/out"))
    assert (infer.data_dir, infer.model_dir, infer.output_dir) == (Path("/eval"), Path("/trained"), Path("/out"))
    assert (evaluate.gt_dir, evaluate.output_dir) == (Path("/truth"), Path("/out"))


@pytest.mark.parametrize("fold", ["1/2", "5/5", "3/10"])
def test_a_fold_is_a_part_of_several(fold: str) -> None:
    settings = TrainConfig(fold=fold)
    assert settings.problems() == []
    assert settings.fold_numbers == tuple(map(int, fold.split("/")))


@pytest.mark.parametrize("fold", ["", "3", "0/5", "6/5", "1/1", "a/b", "1/2/3", "-1/5", "1/", "\u00b2/5"])
def test_an_invalid_fold_is_a_sentence(fold: str) -> None:
    (problem,) = TrainConfig(fold=fold).problems()
    assert problem.startswith(f"--fold: {fold!r} is not k/n")


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", ".."])
def test_an_invalid_run_name_is_a_sentence(name: str) -> None:
    assert TrainConfig(name=name).problems() == [f"--name: {name!r} is not the name of a folder"]


@pytest.mark.parametrize("freeze", ["none", "0"])
def test_epochs_to_freeze_no_block_are_a_sentence(freeze: str) -> None:
    (problem,) = TrainConfig(freeze=freeze, freeze_epochs=2).problems()
    assert problem.startswith("--freeze-epochs: 2 has no effect without --freeze")


def test_options_that_contradict_each_other_are_sentences() -> None:
    problems = TrainConfig(parts=9, batch_size=4, warmup_epochs=3, epochs=2).problems()
    assert [problem.split(":")[0] for problem in problems] == ["--parts", "--warmup-epochs"]
    assert TrainConfig(parts=4, batch_size=4, warmup_epochs=2, epochs=2).problems() == []
    assert TrainConfig().fold_numbers is None
    (problem,) = TrainConfig(fit="pad", statistics="dataset").problems()
    assert problem.startswith("--statistics: dataset is computed from images that --fit pad has padded")


def test_options_that_change_no_bit_may_differ_between_a_run_and_its_resumption() -> None:
    plain = TrainConfig()
    assert plain.fingerprint() == replace(plain, name="other", threads=4, log_interval=1).fingerprint()
    assert plain.fingerprint() != replace(plain, lr=0.5).fingerprint()
    assert plain.fingerprint()["resize"] == [128, 96], "as JSON"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_a_typo_are_answered_before_torch_is_imported(command: str) -> None:
    environ = os.environ | {"COLUMNS": "300"}
    line = [sys.executable, "-X", "importtime", str(CODE / command)]
    shown = subprocess.run([*line, "--help"], capture_output=True, text=True, env=environ)
    assert shown.returncode == 0
    for cls in COMMANDS[command]:
        for field in fields(cls):
            assert field.metadata["help"] in shown.stdout
    refused = subprocess.run([*line, "--sede", "1"], capture_output=True, text=True, env=environ)
    assert refused.returncode == 2
    assert "ConfigError: unknown argument '--sede'" in refused.stderr
    for run in (shown, refused):
        assert not re.search(r"\| +(torch|torchvision|pandas)$", run.stderr, re.MULTILINE)


@pytest.mark.parametrize("cls", [TrainConfig, InferenceConfig, EvaluationConfig, DemoConfig])
def test_every_number_has_a_lower_and_an_upper_limit(cls: type[Any]) -> None:
    hints = get_type_hints(cls)
    for field in fields(cls):
        if any(kind in str(hints[field.name]) for kind in ("int", "float")) and "dict" not in str(hints[field.name]):
            limits = field.metadata["limits"]
            assert {"at least", "above"} & limits.keys(), field.name
            assert {"at most", "below"} & limits.keys(), field.name


@pytest.mark.parametrize("flag", ["--lr", "--mixup", "--cutmix", "--weight-decay", "--clip-norm", "--epochs"])
def test_a_number_that_no_training_needs_is_rejected(flag: str) -> None:
    with pytest.raises(ConfigError, match=r"out of range, must be .*at most"):
        parse("train.py", [flag, "1e308"], {}, TrainConfig)
