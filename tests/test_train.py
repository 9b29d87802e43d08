"""Training, by function and by command, learns, leaves its files, and can be interrupted and resumed."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import train as command_module
from config import TrainConfig
from model import BaseModel
from model_files import load
from runtime.errors import CheckpointError, DataError, TrainingError
from runtime.process import StopRequest
from train import seed_everything, train
from training.state import TrainState
from training.trainer import Trainer

QUICK = TrainConfig(
    epochs=2, batch_size=16, resize=(32, 24), model="TinyModel", optimizer="AdamW", lr=3e-3, val_ratio=0.5, device="cpu"
)
# With state in all its parts. A stop may also come between two batches of validation.
STATEFUL = replace(
    QUICK, epochs=3, ema_decay=0.9, model="BaseModel", momentum=0.9, valid_batch_size=30, schedule="onecycle"
)
Faces = Callable[..., Path]


class StopAfter(StopRequest):
    """A stop request after `looks` checks: one in each step and in each batch of validation."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def listen(self) -> None:
        """Leave the signal handlers of the test process as they are."""

    @property
    def requested(self) -> bool:  # type: ignore[override]
        self.looks -= 1
        return self.looks < 0


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load(folder)[0].state_dict()


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_leaves_a_model_and_everything_about_it(faces: Faces, tmp_path: Path) -> None:
    found = train(faces(), tmp_path / "model", QUICK, output_dir=tmp_path / "output")
    run = tmp_path / "output" / "exp"
    assert {"config.json", "split.csv", "metrics.jsonl", "tensorboard", "report", "checkpoints"} <= {
        path.name for path in run.iterdir()
    }
    assert (run / "report" / "report.html").is_file()
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in history] == [1, 2]
    description = load(tmp_path / "model")[1]
    assert description.metrics["f1"] == found["f1"] == max(row["val_f1"] for row in history)
    assert description.preparation.size == (32, 24)


@pytest.mark.parametrize("select", ["best", "last"])
def test_the_model_is_that_of_the_best_or_the_last_epoch(
    faces: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], select: str
) -> None:
    scores, kept = iter([0.2, 0.9, 0.4]), []
    end_epoch = TrainState.end_epoch

    def end(self: TrainState, values: dict[str, float], *, weights: dict[str, torch.Tensor], **given: Any) -> None:
        kept.append({name: tensor.clone() for name, tensor in weights.items()})
        score = next(scores)
        end_epoch(self, {**values, "val_f1": score}, weights=weights, **{**given, "score": score})

    monkeypatch.setattr(TrainState, "end_epoch", end)
    config = replace(QUICK, epochs=3, select=select)
    found = train(faces(), tmp_path / "model", config, output_dir=tmp_path / "output")
    epoch = {"best": 2, "last": 3}[select]
    assert same(weights(tmp_path / "model"), kept[epoch - 1])
    assert found["f1"] == load(tmp_path / "model")[1].metrics["f1"] == {"best": 0.9, "last": 0.4}[select]
    record = json.loads((tmp_path / "output/exp/report/metrics.json").read_text())
    assert (record["best_epoch"], record["best_by"]) == (epoch, {"best": "f1", "last": "last"}[select])
    assert f"by the network of\n  the {select} epoch" in (tmp_path / "output/exp/report/report.html").read_text()
    assert f"finished: {select} epoch {epoch} of 3" in capsys.readouterr().out


@pytest.mark.usefixtures("without_report")
def test_a_run_warns_of_validation_images_that_are_in_training_too(
    faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, config = faces(), replace(QUICK, epochs=1)
    train(data, tmp_path / "model", config, output_dir=tmp_path / "output")
    assert "nearly the same" not in capsys.readouterr().err
    first, *others = sorted(data.glob("*/normal.jpg"))
    for path in others:
        path.write_bytes(first.read_bytes())
    train(data, tmp_path / "model", config, output_dir=tmp_path / "output")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "nearly the same" in line]
    assert line.startswith("warning: 6 of 42 validation images are nearly the same as training images")
    assert re.search(r"without them accuracy is 0\.\d{4} instead of 0\.\d{4}, macro F1 0\.\d{4} instead of", line)


@pytest.mark.usefixtures("without_report")
def test_it_learns_what_the_images_show(faces: Faces, tmp_path: Path) -> None:
    config = replace(QUICK, epochs=12, schedule="onecycle", head="factored", lr=1e-2)
    found = train(faces(24), tmp_path / "model", config, output_dir=tmp_path / "output")
    assert found["f1"] > 0.8


@pytest.mark.usefixtures("without_report")
def test_a_person_is_in_one_part_of_the_split_file(faces: Faces, tmp_path: Path) -> None:
    train(faces(), tmp_path / "model", replace(QUICK, epochs=1), output_dir=tmp_path / "output")
    table = pd.read_csv(tmp_path / "output/exp/split.csv", dtype=str)
    assert len(table) == 12 * 7
    assert (table.groupby("person")["split"].nunique() == 1).all()
    assert set(table["split"]) == {"train", "val"}


@pytest.mark.usefixtures("without_report")
def test_the_same_seed_gives_the_same_bits_and_another_does_not(faces: Faces, tmp_path: Path) -> None:
    data = faces()
    config = replace(QUICK, augmentation="StrongAugmentation", mixup=0.4, cutmix=1.0, ema_decay=0.9, epochs=1)
    for name, seed, threads in (("a", 42, 1), ("b", 42, 2), ("c", 43, 1)):
        train(data, tmp_path / name, replace(config, seed=seed, threads=threads), output_dir=tmp_path / "output")
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


@pytest.fixture(scope="module")
def undisturbed(module_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that trains with an augmentation, once, without an interruption; it returns the folder."""

    @cache
    def folder_of(augmentation: str) -> Path:
        folder, config = tmp_path_factory.mktemp("undisturbed"), replace(STATEFUL, augmentation=augmentation)
        train(module_faces, folder / "model", config, output_dir=folder / "output")
        return folder

    return folder_of


@pytest.mark.usefixtures("without_report")
@pytest.mark.parametrize(
    ("looks", "augmentation"), [*((looks, "CustomAugmentation") for looks in (0, 1, 2, 3, 5, 8, 9)), (3, "RandAugment")]
)
def test_a_stopped_run_resumes_to_the_same_bits(
    undisturbed: Callable[[str], Path], module_faces: Path, tmp_path: Path, looks: int, augmentation: str
) -> None:
    whole, config = undisturbed(augmentation), replace(STATEFUL, augmentation=augmentation)
    places: dict[str, Any] = {"output_dir": tmp_path / "output", "checkpoint_dir": tmp_path / "checkpoints"}
    train(module_faces, tmp_path / "model", config, stop=StopAfter(looks), **places)
    assert load(tmp_path / "model"), "a stopped run leaves a model"
    train(module_faces, tmp_path / "model", config, **places)
    assert same(weights(whole / "model"), weights(tmp_path / "model"))
    metrics = [folder / "output/exp/metrics.jsonl" for folder in (tmp_path, whole)]
    assert metrics[0].read_bytes() == metrics[1].read_bytes()


@pytest.mark.usefixtures("without_report")
def test_a_checkpoint_made_with_different_settings_is_rejected(faces: Faces, tmp_path: Path) -> None:
    places: dict[str, Any] = {"output_dir": tmp_path / "output", "checkpoint_dir": tmp_path / "checkpoints"}
    data = faces()
    train(data, tmp_path / "model", QUICK, **places)
    with pytest.raises(CheckpointError, match=r"lr was 0\.003, is 0\.1"):
        train(data, tmp_path / "model", replace(QUICK, lr=0.1), **places)
    train(data, tmp_path / "model", replace(QUICK, lr=0.1, resume="never"), **places)


@pytest.mark.usefixtures("without_report")
def test_a_finished_run_started_again_publishes_the_same_model(faces: Faces, tmp_path: Path) -> None:
    places: dict[str, Any] = {"output_dir": tmp_path / "output", "checkpoint_dir": tmp_path / "checkpoints"}
    data = faces()
    train(data, tmp_path / "model", QUICK, **places)
    first = weights(tmp_path / "model")
    train(data, tmp_path / "model", QUICK, **places)
    assert same(first, weights(tmp_path / "model"))
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["exp"]


@pytest.mark.usefixtures("without_report")
def test_early_stopping_ends_a_run_without_a_better_score(faces: Faces, tmp_path: Path) -> None:
    config = replace(QUICK, epochs=30, lr=1e-9, patience=2, model="BaseModel")  # no batch norm, so nothing moves
    train(faces(), tmp_path / "model", config, output_dir=tmp_path / "output")
    assert len((tmp_path / "output/exp/metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.usefixtures("without_report")
def test_a_loss_that_is_not_finite_stops_the_run_and_publishes_nothing(
    faces: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer.step

    def poisoned(self: Trainer, batch: object, epoch: int, steps_done: int) -> tuple[torch.Tensor, torch.Tensor]:
        loss, predicted = step(self, batch, epoch, steps_done)  # type: ignore[arg-type]
        return (loss * float("nan") if steps_done == 1 else loss), predicted

    monkeypatch.setattr(Trainer, "step", poisoned)
    with pytest.raises(TrainingError, match="at step 2, in epoch 1"):
        train(faces(), tmp_path / "model", QUICK, output_dir=tmp_path / "output")
    assert not (tmp_path / "model").exists()


@pytest.mark.usefixtures("without_report")
def test_a_run_without_memory_for_its_batches_ends_as_one_with_micro_batches(
    faces: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, forward = faces(), BaseModel.forward
    config = replace(QUICK, model="BaseModel", valid_batch_size=4)
    train(data, tmp_path / "planned", replace(config, parts=4), output_dir=tmp_path / "output")

    def limited(self: BaseModel, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, images)

    monkeypatch.setattr(BaseModel, "forward", limited)
    places: dict[str, Any] = {"output_dir": tmp_path / "output", "checkpoint_dir": tmp_path / "checkpoints"}
    train(data, tmp_path / "surprised", config, stop=StopAfter(3), **places)
    assert capsys.readouterr().err.count("no memory") == 2, "16 images, 8, 4; and not again"
    train(data, tmp_path / "surprised", config, **places)
    assert "no memory" not in capsys.readouterr().err, "the resumed run starts with micro-batches"
    assert same(weights(tmp_path / "planned"), weights(tmp_path / "surprised"))


@pytest.mark.usefixtures("without_report")
def test_a_learning_rate_far_too_high_ends_in_a_sentence(faces: Faces, tmp_path: Path) -> None:
    config = replace(QUICK, optimizer="SGD", lr=1e30, epochs=3, model="BaseModel", precision="fp32")
    with pytest.raises(TrainingError, match="not finite"):
        train(faces(), tmp_path / "model", config, output_dir=tmp_path / "output")
    assert not (tmp_path / "model").exists()


@pytest.mark.usefixtures("without_report")
def test_bad_images_stop_the_run_or_are_left_out(faces: Faces, tmp_path: Path) -> None:
    data = faces(24)
    victim = next(data.iterdir()) / "mask1.jpg"
    victim.write_bytes(victim.read_bytes()[:200])
    with pytest.raises(DataError, match=r"1 of 168 images cannot be used.*mask1\.jpg"):
        train(data, tmp_path / "model", QUICK, output_dir=tmp_path / "output")
    config = replace(QUICK, on_bad_image="skip", epochs=1)
    train(data, tmp_path / "model", config, output_dir=tmp_path / "output")
    table = pd.read_csv(next((tmp_path / "output").glob("exp*/split.csv")))
    assert (table["split"] == "unusable").sum() == 1


@pytest.mark.usefixtures("without_report")
def test_every_image_of_a_small_validation_set_counts(faces: Faces, tmp_path: Path) -> None:
    train(faces(6), tmp_path / "model", replace(QUICK, val_ratio=0.34, epochs=1), output_dir=tmp_path / "output")
    table = pd.read_csv(tmp_path / "output/exp/split.csv")
    assert (table["split"] == "val").sum() == 14


@pytest.mark.usefixtures("without_report")
def test_a_run_that_named_its_data_set_is_resumed_by_auto_which_stores_what_it_found(
    faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = faces(6)
    places: Any = {"output_dir": tmp_path / "output", "checkpoint_dir": tmp_path / "checkpoints"}
    named = replace(QUICK, dataset="MaskSplitByProfileDataset", epochs=1)
    first = train(data, tmp_path / "model", named, **places)
    assert "found" not in capsys.readouterr().out
    assert train(data, tmp_path / "model", replace(named, dataset="auto"), **places) == first
    printed = capsys.readouterr().out
    assert "found profile folders: 42 images of 18 classes; classes: mask x gender x age; 6 people" in printed
    assert "resumed after the last epoch" in printed
    stored = json.loads((tmp_path / "output/exp/config.json").read_text())
    assert stored["dataset"] == "MaskSplitByProfileDataset"
    with pytest.raises(CheckpointError, match="dataset was 'MaskSplitByProfileDataset', is 'MaskBaseDataset'"):
        train(data, tmp_path / "model", replace(named, dataset="MaskBaseDataset"), **places)


@pytest.mark.usefixtures("without_report")
def test_a_run_that_is_resumed_with_fewer_epochs_than_it_has_says_that_none_is_trained(
    faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places: Any = {"output_dir": tmp_path / "output", "checkpoint_dir": tmp_path / "checkpoints"}
    data = faces(6)
    train(data, tmp_path / "model", replace(QUICK, epochs=2), **places)
    train(data, tmp_path / "model", replace(QUICK, epochs=1, resume="force"), **places)
    warned = "warning: the run has 2 epochs, more than --epochs 1, so none is trained\n"
    assert warned in capsys.readouterr().err


@pytest.mark.usefixtures("without_report")
def test_a_label_table_with_groups_trains_and_no_group_is_in_both_parts(faces: Faces, tmp_path: Path) -> None:
    paths = sorted(path.relative_to(tmp_path).as_posix() for path in faces(6).rglob("*.jpg"))
    rows = [f"{path};{'covered' if 'mask' in path[-10:] else 'bare'};{path.split('/')[2]}" for path in paths]
    (tmp_path / "labels.csv").write_text("path;label;group\r\n" + "\r\n".join(rows), "utf-8-sig")
    train(tmp_path, tmp_path / "model", replace(QUICK, val_ratio=0.34), output_dir=tmp_path / "output")
    assert load(tmp_path / "model")[1].scheme.classes == ("bare", "covered")
    table = pd.read_csv(tmp_path / "output/exp/split.csv")
    assert table["path"].tolist() == paths
    assert (table.groupby("person")["split"].nunique() == 1).all()
    assert (table["split"] == "val").sum() == 14


@pytest.mark.usefixtures("without_report")
def test_a_validation_folder_is_validated_with_and_leaks_are_rejected_unless_allowed(
    faces: Faces, tmp_path: Path
) -> None:
    shown = sorted(faces(6).rglob("*.jpg"))
    for part, images in (("train", shown[:28]), ("validation", shown[28:])):
        (tmp_path / "data" / part / "images").mkdir(parents=True)
        rows = []
        for number, image in enumerate(images):
            image.rename(tmp_path / "data" / part / f"images/{number}.jpg")
            rows.append(f"images/{number}.jpg,{'ba'[image.stem.startswith('mask')]},{part[0]}{number // 7}\n")
        (tmp_path / "data" / part / "labels.csv").write_text("path,label,group\n" + "".join(rows))
    places: Any = {"output_dir": tmp_path / "output", "store_dir": tmp_path / "store"}
    places["validation_dir"] = tmp_path / "data/validation"
    data, config = tmp_path / "data/train", replace(QUICK, epochs=1)
    scores = train(data, tmp_path / "model", config, **places)
    table = pd.read_csv(tmp_path / "output/exp/split.csv")
    assert table["split"].tolist() == ["train"] * 28 + ["val"] * 14
    assert table["path"].iloc[28] == table["path"].iloc[0] == "images/0.jpg"
    assert train(data, tmp_path / "again", replace(config, name="again"), **places) == scores, "from the store cache"
    labels = tmp_path / "data/validation/labels.csv"
    labels.write_text(labels.read_text().replace(",v1", ",t2"))
    with pytest.raises(DataError, match=r"1 groups are in training and in validation, .*: t2"):
        train(data, tmp_path / "model", config, **places)
    assert train(data, tmp_path / "model", replace(config, allow_leaks=True), **places) == scores


@pytest.mark.usefixtures("without_report")
def test_a_manifest_in_the_train_channel_trains(faces: Faces, tmp_path: Path) -> None:
    metadata = {"type": "groundtruth/image-classification", "confidence": 0.9}
    lines = []
    for path in sorted(faces(6).rglob("*.jpg")):
        kind = {"class-name": "covered" if path.stem.startswith("mask") else "bare"}
        source = f"s3://bucket/faces/{path.relative_to(tmp_path).as_posix()}"
        lines.append(json.dumps({"source-ref": source, "mask": 0, "mask-metadata": metadata | kind}))
    (tmp_path / "output.manifest").write_text("\n".join(lines))
    train(tmp_path, tmp_path / "model", replace(QUICK, epochs=1), output_dir=tmp_path / "output")
    model = load(tmp_path / "model")[1]
    assert model.scheme.classes == ("bare", "covered")
    assert len(pd.read_csv(tmp_path / "output/exp/split.csv")) == 42


@pytest.mark.usefixtures("without_report")
def test_the_command_trains_with_a_labels_channel_as_with_a_manifest_beside_the_images(
    faces: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    profiles = faces(6)
    lines = []
    for path in sorted(profiles.rglob("*.jpg")):
        kind = {"class-name": "covered" if path.stem.startswith("mask") else "bare"}
        metadata = {"type": "groundtruth/image-classification"} | kind
        source = f"s3://bucket/{path.relative_to(profiles).as_posix()}"
        lines.append(json.dumps({"source-ref": source, "mask": 0, "mask-metadata": metadata}))
    (tmp_path / "labels").mkdir()
    manifest = tmp_path / "labels/output.manifest"
    manifest.write_text("\n".join(lines))
    folders = {"TRAIN": str(profiles), "LABELS": str(tmp_path / "labels")}
    environ = {f"SM_CHANNEL_{name}": folder for name, folder in folders.items()}
    environ |= {"SM_MODEL_DIR": str(tmp_path / "model"), "SM_OUTPUT_DATA_DIR": str(tmp_path / "output")}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    flags = ("--resize=32,32", "--model=resnet18", "--epochs=1", "--device=cpu", "--nproc-per-node=1")
    monkeypatch.setattr("sys.argv", ["train.py", *flags])
    command_module.main()
    assert (
        "found manifest: 42 images of 2 classes; images per class: bare (12), covered (30)" in capsys.readouterr().out
    )
    assert load(tmp_path / "model")[1].scheme.classes == ("bare", "covered")

    manifest.rename(profiles / "output.manifest")
    monkeypatch.delenv("SM_CHANNEL_LABELS")
    monkeypatch.setenv("SM_MODEL_DIR", str(tmp_path / "beside"))
    command_module.main()
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("model", "beside")]
    assert weights[0] == weights[1]
    splits = [(tmp_path / "output" / name / "split.csv").read_text() for name in ("exp", "exp2")]
    assert splits[0] == splits[1]


@pytest.mark.usefixtures("without_report")
def test_other_folders_of_images_train_too(faces: Faces, tmp_path: Path) -> None:
    profiles = faces(12)
    for index, image in enumerate(sorted(profiles.rglob("*.jpg"))):
        kind = "covered" if image.stem.startswith("mask") else "bare"
        target = tmp_path / "animals" / kind / f"{index}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        image.rename(target)
    config = replace(QUICK, dataset="ImageFolderDataset", val_ratio=0.2)
    train(tmp_path / "animals", tmp_path / "model", config, output_dir=tmp_path / "output")
    assert load(tmp_path / "model")[1].scheme.classes == ("bare", "covered")


@pytest.mark.parametrize(
    "changes",
    [
        {"criterion": "focal", "criterion_args": {"gamma": 1.5}, "class_weights": "balanced", "sampler": "balanced"},
        {"criterion": "f1", "clip_norm": 1.0, "parts": 4, "schedule": "cosine", "warmup_epochs": 0.5},
        {"criterion": "label_smoothing", "statistics": "dataset", "precision": "bf16", "metric": "accuracy"},
        {"dataset": "MaskBaseDataset", "statistics": "imagenet", "schedule": "constant", "fold": "2/3"},
        {"mixup": 0.2, "cutmix": 1.0, "cutmix_shape": "strip", "optimizer": "RMSprop", "deterministic": False},
        {"fit": "pad", "resize": (24, 32), "augmentation": "StrongAugmentation", "augmentation_args": {"noise": 0.1}},
        {"fit": "crop", "resize": (24, 32), "crop": (60, 30), "statistics": "dataset"},
        {"fit": "pad", "augmentation": "RandAugment", "augmentation_args": {"num_ops": 3, "magnitude": 20}},
    ],
)
def test_every_option_reaches_the_end_of_a_run(
    faces: Faces, tmp_path: Path, changes: dict[str, object], request: pytest.FixtureRequest
) -> None:
    if "mixup" not in changes and "class_weights" not in changes:  # one report for options of images, one for labels
        request.getfixturevalue("without_report")
    config = replace(QUICK, epochs=1, **changes)  # type: ignore[arg-type]
    found = train(faces(), tmp_path / "model", config, output_dir=tmp_path / "output")
    assert 0 <= found["accuracy"] <= 1
    preparation = load(tmp_path / "model")[1].preparation
    assert (preparation.size, preparation.crop, preparation.fit) == (config.resize, config.crop, config.fit)


def test_seeding_reaches_every_generator() -> None:
    import random

    import numpy as np

    drawn = []
    for _ in range(2):
        seed_everything(7)
        drawn.append((torch.rand(1).item(), np.random.rand(), random.random()))
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("deterministic", [True, False])
def test_kernels_that_sum_in_any_order_are_disabled(deterministic: bool) -> None:
    try:
        seed_everything(7, deterministic)
        assert torch.backends.cudnn.deterministic == deterministic
        attention: Any = torch.backends.cuda  # its functions are untyped
        for is_enabled in (attention.flash_sdp_enabled, attention.mem_efficient_sdp_enabled):
            assert is_enabled() != deterministic
        assert attention.cudnn_sdp_enabled() != deterministic
        assert attention.math_sdp_enabled()
    finally:
        seed_everything(7)


def test_the_names_of_the_original_exist() -> None:
    for name in ("seed_everything", "get_lr", "grid_image", "increment_path", "train"):
        assert callable(getattr(command_module, name))
