"""`make` hands weights on to training: those that are given, or those of the model that are cached."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.making import HOSTILE, ROOT, Make, options_of
from weights_cache import find

MOUNT = "docker-compose.yml:container/local/pretrained.yml"


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return Make(tmp_path)


class Weights:
    """A cache with weights of some models, and what `make train` hands on."""

    def __init__(self, make: Make, folder: Path) -> None:
        self.make, self.cache, self.out, self.data = make, folder / "cache", folder / "out", folder / "data"
        self.data.mkdir()

    def add(self, model: str) -> Path:
        folder = self.cache / model
        folder.mkdir(parents=True)
        (folder / "weights.pth").write_bytes(b"0")
        (folder / "weights.pth.json").write_text("{}")
        return folder

    def train(self, *words: str, runtime: str = "host", goal: str = "train") -> dict[str, Any]:
        self.make.record.unlink(missing_ok=True)
        given = (f"DATA={self.data}", f"OUT={self.out}", f"WEIGHTS_CACHE={self.cache}", f"RUNTIME={runtime}")
        return self.make.calls(goal, *given, *words)[-1]

    def handed(self, *words: str, runtime: str = "host", goal: str = "train") -> str | None:
        channel: str | None = self.train(*words, runtime=runtime, goal=goal)["environ"].get("SM_CHANNEL_PRETRAINED")
        return channel


@pytest.fixture
def weights(make: Make, tmp_path: Path) -> Weights:
    return Weights(make, tmp_path)


@pytest.mark.parametrize("runtime", ["host", "docker"])
@pytest.mark.parametrize("goal", ["train", "cv"])
def test_cached_weights_of_the_model_are_the_channel(weights: Weights, runtime: str, goal: str) -> None:
    folder = weights.add("timm/resnet10t")
    call = weights.train("MODEL=timm/resnet10t", runtime=runtime, goal=goal)
    assert call["environ"]["SM_CHANNEL_PRETRAINED"] == str(folder)
    assert call["environ"]["COMPOSE_FILE"] == MOUNT
    assert "--pretrained" not in call["words"]
    assert weights.handed("ARGS=--epochs 3 --model timm/resnet10t --lr 1", runtime=runtime, goal=goal) == str(folder)
    assert all((ROOT / name).is_file() for name in MOUNT.split(":"))


@pytest.mark.parametrize(
    "model", ["resnet18", "timm/resnet10t", "timm", "", "..", "../cache/resnet18", "a/b/c", "BaseModel"]
)
def test_make_finds_what_training_and_submit_find(weights: Weights, model: str) -> None:
    for name in ("resnet18", "timm/resnet10t", "a/b/c"):
        weights.add(name)
    found = find(model, weights.cache)
    assert weights.handed(f"MODEL={model}") == (str(found) if found else None)


def test_without_cached_weights_there_is_no_channel(weights: Weights) -> None:
    call = weights.train("MODEL=resnet18")
    assert not {"SM_CHANNEL_PRETRAINED", "COMPOSE_FILE"} & call["environ"].keys()


@pytest.mark.parametrize("words", [["PRETRAINED=none"], ["ARGS=--pretrained none"], ["ARGS=--pretrained=x.pth"]])
def test_weights_that_are_given_or_refused_count_before_the_cache(weights: Weights, words: list[str]) -> None:
    weights.add("resnet18")
    assert weights.handed("MODEL=resnet18", *words) is None
    assert weights.handed("MODEL=resnet18", "PRETRAINED=auto")


@pytest.mark.parametrize(("goal", "fold"), [("train", ""), ("cv", "fold-1"), ("cv", "fold-10")])
def test_a_run_that_began_without_weights_is_resumed_without_them(weights: Weights, goal: str, fold: str) -> None:
    folder, checkpoints = weights.add("resnet18"), weights.out / "checkpoints" / fold
    other = {"train": "fold-1", "cv": "."}[goal]  # of the other command
    for path in (checkpoints, checkpoints.with_name("fold-2"), weights.out / "checkpoints" / other):
        path.mkdir(parents=True, exist_ok=True)
    (weights.out / "checkpoints" / other / "step-000000009-epoch-000001.json").write_text("{}")
    if goal == "cv":
        (checkpoints.with_name("fold-2") / "step-000000009-epoch-000001.json").write_text('{"initial weights": "abc"}')
    (checkpoints / "step-000000001-epoch-000001.json").write_text('{"initial weights": "abc"}')
    assert weights.handed("MODEL=resnet18", goal=goal) == str(folder)
    for content in ('{"initial weights": null}', "{}"):
        (checkpoints / "step-000000002-epoch-000001.json").write_text(content)
        assert weights.handed("MODEL=resnet18", goal=goal) is None
        assert weights.handed("MODEL=resnet18", "RESUME=never", goal=goal) == str(folder)
        assert weights.handed("MODEL=resnet18", "ARGS=--resume never", goal=goal) == str(folder)
    where = (f"DATA={weights.data}", f"OUT={weights.out}", f"WEIGHTS_CACHE={weights.cache}", "RUNTIME=host")
    said = weights.make.run(goal, "MODEL=resnet18", *where).stdout
    assert f"weights of resnet18: those in the cache, {folder}, are ignored, as the run to resume began without" in said
    assert f"; RESUME=never starts from scratch with them: {weights.out}/checkpoints" in said


@pytest.mark.parametrize(("goal", "fold"), [("train", ""), ("cv", "fold-1")])
def test_a_run_that_has_taken_no_step_starts_with_the_cached_weights(weights: Weights, goal: str, fold: str) -> None:
    """Training takes them, too: a checkpoint before the first step fixes nothing."""
    folder, checkpoints = weights.add("resnet18"), weights.out / "checkpoints" / fold
    checkpoints.mkdir(parents=True)
    (checkpoints / "step-000000000-epoch-000000.json").write_text('{"initial weights": null}')
    assert weights.handed("MODEL=resnet18", goal=goal) == str(folder)


@pytest.mark.parametrize("goal", ["train", "cv", "submit", "tune", "weights"])
def test_options_in_the_environment_are_ignored_and_named(weights: Weights, tmp_path: Path, goal: str) -> None:
    weights.add("resnet18")
    environ = {"MODEL": "resnet18", "EPOCHS": "3", "WEIGHTS_CACHE": str(weights.cache), "OUT": str(weights.out)}
    done = weights.make.run(goal, f"DATA={weights.data}", "RUNTIME=host", **environ)
    assert (
        "warning: options in the environment are ignored (MODEL EPOCHS); give them to make: "
        f"make {goal} MODEL=...\n" in done.stderr
    )
    words, seen = json.loads(weights.make.record.read_text().splitlines()[-1])
    assert not {"--model", "--epochs"} & set(words)
    assert not {"MODEL", "EPOCHS", "SM_CHANNEL_PRETRAINED"} & seen.keys()
    assert "ignored" not in weights.make.run(goal, f"DATA={weights.data}", "RUNTIME=host", "MODEL=resnet18").stderr


@pytest.mark.parametrize("is_in_environment", [False, True])
def test_a_tilde_in_the_folder_of_the_cache_is_the_home_folder(
    weights: Weights, tmp_path: Path, is_in_environment: bool
) -> None:
    folder = weights.add("resnet18")
    given = {"WEIGHTS_CACHE": "~/cache"}
    words = () if is_in_environment else ("WEIGHTS_CACHE=~/cache",)
    where = ("MODEL=resnet18", f"DATA={weights.data}", f"OUT={weights.out}", "RUNTIME=host")
    for goal in ("train", "weights"):
        weights.make.record.unlink(missing_ok=True)
        environ = {"HOME": str(tmp_path)} | (given if is_in_environment else {})
        call = weights.make.calls(goal, *where, *words, **environ)[-1]
        assert call["environ"]["WEIGHTS_CACHE"] == str(weights.cache)
    weights.make.record.unlink()
    call = weights.make.calls("train", *where, *words, **environ)[-1]
    assert call["environ"]["SM_CHANNEL_PRETRAINED"] == str(folder)


@pytest.mark.parametrize("name", ["my weights.pth", HOSTILE])
def test_a_file_is_an_option_here_and_mounted_in_docker(weights: Weights, tmp_path: Path, name: str) -> None:
    weights.add("resnet18")
    file = tmp_path / "given" / name
    file.parent.mkdir()
    file.write_bytes(b"0")
    here = weights.train("MODEL=resnet18", f"PRETRAINED={file}")
    assert options_of(here, "train.py")[:2] == ["--pretrained", str(file)]
    assert "SM_CHANNEL_PRETRAINED" not in here["environ"]
    there = weights.train("MODEL=resnet18", f"PRETRAINED={file}", runtime="docker")
    words = there["words"]
    assert words[words.index("--pretrained") + 1] == f"/opt/ml/input/data/pretrained/{name}"
    assert there["environ"]["SM_CHANNEL_PRETRAINED"] == str(file.parent)
    assert there["environ"]["COMPOSE_FILE"] == MOUNT


def test_a_folder_is_an_option_here_and_the_channel_in_docker(weights: Weights, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    here = weights.train(f"PRETRAINED={tmp_path}/model")
    assert options_of(here, "train.py")[:2] == ["--pretrained", f"{tmp_path}/model"]
    there = weights.train(f"PRETRAINED={tmp_path}/model", runtime="docker")
    assert "--pretrained" not in there["words"]
    assert there["environ"]["SM_CHANNEL_PRETRAINED"] == f"{tmp_path}/model"


def test_validation_images_and_weights_are_mounted_together(weights: Weights) -> None:
    weights.add("resnet18")
    (weights.data / "validation").mkdir()
    files = weights.train("MODEL=resnet18", runtime="docker")["environ"]["COMPOSE_FILE"]
    assert files == "docker-compose.yml:container/local/validation.yml:container/local/pretrained.yml"


@pytest.mark.parametrize("goal", ["submit", "tune"])
def test_what_is_given_is_uploaded_or_a_hyperparameter_on_sagemaker(weights: Weights, goal: str) -> None:
    words = weights.train("PRETRAINED=/some/weights", goal=goal)["words"]
    assert words[words.index("--pretrained-data") + 1] == "/some/weights"
    words = weights.train("PRETRAINED=none", goal=goal)["words"]
    assert words[words.index("--") + 1 :] == ["--pretrained", "none"]
    assert "--pretrained-data" not in words
