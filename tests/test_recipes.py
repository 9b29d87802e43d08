"""A recipe is a set of options that any option overrides, and a run keeps its recipe when it is resumed."""

import inspect
import json
import os
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from config import TrainConfig
from labels import MASKED_FACES
from model import create_model
from recipes import RECIPES, choose, describe, has_initial_weights
from runtime.arguments import parse
from runtime.conversion import show
from runtime.errors import CheckpointError, ConfigError
from train import main
from training.start import read_kept

Faces = Callable[..., Path]
QUICK = (
    "--epochs 1 --batch-size 16 --resize 32 24 --val-ratio 0.5 --device cpu --threads 1 --augmentation BaseAugmentation"
)


def options(*words: str) -> TrainConfig:
    (config,) = parse("train.py", words, {}, TrainConfig)
    assert isinstance(config, TrainConfig)
    return config


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_sets_its_options_and_no_others(name: str) -> None:
    found, default = options("--recipe", name), TrainConfig()
    for field in fields(TrainConfig):
        if field.name != "recipe":
            assert getattr(found, field.name) == RECIPES[name].get(field.name, getattr(default, field.name))
    assert found == TrainConfig(recipe=name, **RECIPES[name])


def test_without_a_recipe_the_options_are_those_of_the_original() -> None:
    assert options() == options("--recipe", "original") == TrainConfig()


@pytest.mark.parametrize(("name", "option"), [(name, option) for name in RECIPES for option in RECIPES[name]])
def test_each_option_of_a_recipe_is_overridden_by_its_flag(name: str, option: str) -> None:
    default = getattr(TrainConfig(), option)
    words = [f"--{option}", "none" if default is None else "{}" if default == {} else show(default)]
    found = options(*words, "--recipe", name)
    assert getattr(found, option) == default
    kept = {key: value for key, value in RECIPES[name].items() if key not in (option, "criterion_args")}
    assert {key: getattr(found, key) for key in kept} == kept


def test_arguments_of_a_recipe_go_with_what_they_are_arguments_of() -> None:
    assert options("--recipe", "scratch").criterion_args == {"label_smoothing": 0.1}
    assert options("--recipe", "scratch", "--criterion", "focal").criterion_args == {}
    found = options("--recipe", "scratch", "--criterion", "focal", "--criterion-args", "gamma=1")
    assert found.criterion_args == {"gamma": 1}


@pytest.mark.parametrize("words", ["--patience 5", "--metric accuracy"])
def test_whoever_asks_for_the_best_epoch_gets_it_from_every_recipe(words: str) -> None:
    assert options("--recipe", "finetune").select == "last"
    assert options("--recipe", "finetune", *words.split()).select == "best"
    with pytest.raises(ConfigError, match="for the best epoch"):
        options("--recipe", "finetune", *words.split(), "--select", "last")


def test_an_empty_value_leaves_that_of_the_recipe() -> None:
    assert options("--recipe", "scratch", "--lr", "").lr == RECIPES["scratch"]["lr"]


def test_help_shows_every_recipe_with_all_it_sets(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options("--help")
    printed = capsys.readouterr().out
    assert printed.rstrip().endswith(describe())
    for name, recipe in RECIPES.items():
        assert f"\n  {name}\n" in printed
        for option in recipe:
            assert f"--{option.replace('_', '-')} " in describe()


def test_no_recipe_is_for_faces_alone() -> None:
    assert not any({"crop", "head", "dataset"} & set(recipe) for recipe in RECIPES.values())


def test_weights_decide_unless_a_run_is_resumed() -> None:
    assert (choose(has_weights=True), choose(has_weights=False)) == ("finetune", "scratch")
    assert choose(has_weights=True, kept="original") == "original"
    assert [has_initial_weights(given, None) for given in ("auto", "none", "download", "a.pth")] == [
        *(False, False),
        *(True, True),
    ]
    assert [has_initial_weights(given, Path("weights")) for given in ("auto", "none")] == [True, False]


# Every rule about several options: words that break it with each recipe, and whether recipes set one of these options.
RULES = [
    ("--parts 99", "99 is more than the", True),
    ("--warmup-epochs 99", "99 is more than the", True),
    ("--freeze some", "'some' is not a number of blocks", False),
    ("--freeze-epochs 2", "2 has no effect without --freeze", False),
    ("--fit pad --statistics dataset", "is computed from images that --fit pad has padded", False),
    ("--patience 5 --select last", "--patience: 5 is for the best epoch", False),
    ("--metric accuracy --select last", "--metric: accuracy is for the best epoch", False),
    ("--fold 3/2", "'3/2' is not k/n", False),
    ("--name a/b", "'a/b' is not the name of a folder", False),
]


@pytest.mark.parametrize(("words", "sentence", "is_set"), RULES)
def test_what_recipes_set_is_checked_once_the_recipe_is_chosen(words: str, sentence: str, is_set: bool) -> None:
    for name in RECIPES:
        with pytest.raises(ConfigError, match=sentence):
            options(*words.split(), "--recipe", name)
    if is_set:
        options(*words.split(), "--recipe", "auto")
    else:
        with pytest.raises(ConfigError, match=sentence):
            options(*words.split(), "--recipe", "auto")


def test_every_rule_about_several_options_is_in_the_table() -> None:
    source = inspect.getsource(TrainConfig.problems)
    assert source.count("problems.append(") == len(RULES)


@pytest.fixture
def run(faces: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Run train.py with `--recipe auto`, and return config.json."""
    data = faces(6)

    def run(*words: str, **environ: str) -> dict[str, Any]:
        folders = {"SM_CHANNEL_TRAIN": data, "SM_MODEL_DIR": tmp_path / "model", "SM_OUTPUT_DATA_DIR": tmp_path / "out"}
        folders |= {"SM_CHECKPOINT_DIR": tmp_path / "checkpoints"}
        for name, value in (folders | environ).items():
            monkeypatch.setitem(os.environ, name, str(value))
        monkeypatch.setattr(sys, "argv", ["train.py", "--recipe", "auto", *QUICK.split(), *words])
        main()
        newest = max((tmp_path / "out").iterdir(), key=lambda folder: folder.name)
        found: dict[str, Any] = json.loads((newest / "config.json").read_text())
        return found

    return run


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    torch.save(create_model("TinyModel", MASKED_FACES).state_dict(), folder / "tiny.pth")
    return folder


@pytest.mark.usefixtures("without_report")
def test_a_resumed_run_keeps_its_recipe_with_weights_or_without(
    run: Callable[..., dict[str, Any]], weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run("--model", "TinyModel", SM_CHANNEL_PRETRAINED=str(weights))
    assert "recipe: finetune (weights to start from)" in capsys.readouterr().out
    assert (first["recipe"], first["lr"], first["epochs"]) == ("finetune", RECIPES["finetune"]["lr"], 1)
    assert read_kept(tmp_path / "checkpoints").recipe == "finetune"
    again = run("--model", "TinyModel", SM_CHANNEL_PRETRAINED="")
    said = capsys.readouterr().out
    assert "recipe: finetune (as the run that is resumed)" in said
    assert "resumed after the last epoch" in said
    assert again == first
    with pytest.raises(CheckpointError, match=r"different data or settings .*head_lr was 0.003, is None"):
        run("--recipe", "scratch")
    fresh = run("--resume", "never")
    assert "recipe: scratch (no weights to start from)" in capsys.readouterr().out
    assert (fresh["recipe"], fresh["model"], fresh["lr"]) == ("scratch", "TinyModel", 0.003)


def test_auto_is_checked_with_the_options_of_the_recipe_that_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[TrainConfig] = []
    monkeypatch.setenv("SM_OUTPUT_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("train.train", lambda data, model, config, **others: started.append(config))
    monkeypatch.setattr(sys, "argv", ["train.py", "--recipe", "auto", "--warmup-epochs", "3"])
    main()
    assert (started[0].recipe, started[0].warmup_epochs, started[0].epochs) == ("scratch", 3, 80)
    sys.argv += ["--epochs", "1"]
    with pytest.raises(ConfigError, match=r"^--warmup-epochs: 3 is more than the 1 epochs of the run$"):
        main()


def test_a_run_of_the_last_release_has_the_recipe_original() -> None:
    assert read_kept(Path(__file__).parent / "support/last_release/checkpoints").recipe == "original"
    assert read_kept(None).recipe == ""
