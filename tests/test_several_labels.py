"""Images with several labels, end to end: trained on, labelled, evaluated, served; the same bits however a run goes."""

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

import audit
from augmentation import BaseAugmentation
from config import TrainConfig
from data.audited import read_images
from data.predictions import LabelledSets, read_predictions
from dataset import create_dataset
from description import Description, describe_ensemble
from evaluation import evaluation, quality_report
from inference import inference
from labelling.labelling import labelling_of
from model_files import load
from options.inference import InferenceConfig
from runtime.errors import ConfigError, DataError, ModelError
from server.responses import Format, Writer
from support.several_labels import CLASSES, planted
from support.trainers import CPU
from support.worker_pool import Ending, WorkerPool
from train import train
from training.build import build_trainer
from training.inputs import read_data

QUICK = TrainConfig(
    epochs=6,
    batch_size=16,
    resize=(32, 32),
    model="TinyModel",
    optimizer="AdamW",
    lr=0.01,
    schedule="onecycle",
    val_ratio=0.25,
    device="cpu",
    precision="fp32",
    threads=1,
)
FLAGS = (
    "--epochs 2 --batch-size 12 --resize 32 32 --model TinyModel --optimizer AdamW --lr 0.003 --device cpu --threads 1 "
    "--checkpoint-steps 1 --class-weights balanced --mixup 0.3 --cutmix 0.3 --ema-decay 0.9 --parts 3"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("several")
    planted(root / "train", 160)
    return root


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """Train once for all tests of what comes after it; returns the folder of the run."""
    train(folder / "train", folder / "model", QUICK, output_dir=folder / "output")
    return folder


def last_row(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "output/exp/metrics.jsonl").read_text().splitlines()[-1]))


def test_planted_attributes_are_learned_in_seconds(trained: Path) -> None:
    row = last_row(trained)
    assert row["val_map"] > 0.9
    assert row["val_f1"] > 0.9
    record = json.loads((trained / "model/model.json").read_text())
    assert record["scheme"]["kind"] == "multi"
    assert len(record["thresholds"]) == 4
    assert load(trained / "model")[1].thresholds == tuple(record["thresholds"])
    with (trained / "output/exp/split.csv").open() as file:
        labels = {row["label"] for row in csv.DictReader(file)}
    assert "0|1" in labels
    assert "|" in labels


def test_the_report_has_classes_with_thresholds_and_the_worst_images(trained: Path) -> None:
    report = trained / "output/exp/report"
    page, found = (report / "report.html").read_text(), json.loads((report / "metrics.json").read_text())
    assert {path.name for path in report.iterdir()} == {
        "report.html",
        "metrics.json",
        "curves.png",
        "precision_recall.png",
    }
    assert [row["name"] for row in found["classes"]] == list(CLASSES)
    assert found["scores"]["f1"] == pytest.approx(
        max(json.loads(line)["val_f1"] for line in (trained / "output/exp/metrics.jsonl").read_text().splitlines())
    )
    assert "Mean average precision" in page


def test_inference_evaluation_and_server_say_the_same(trained: Path, tmp_path: Path) -> None:
    truth = planted(tmp_path / "eval", 40, seed=1)
    (tmp_path / "eval/labels.csv").unlink()
    bad = tmp_path / "eval/0007.png"
    bad.write_bytes(b"text")
    config = InferenceConfig(device="cpu", threads=1, answers="name", save_probabilities=True)
    with (inference(tmp_path / "eval", trained / "model", tmp_path, config)).open() as file:
        rows = list(csv.DictReader(file))
    rows = [row for row in rows if row["ImageID"].endswith(".png")]
    assert rows[7]["ans"] == ""
    _, description = load(trained / "model")
    writer = Writer(labelling_of(description.scheme, description.thresholds))
    for row in rows[:7]:
        probabilities = np.array([row[f"probability_{label}"] for label in range(4)], np.float32)
        response = json.loads(bytes(writer.prediction(probabilities, Format()).body))
        assert "|".join(response["labels"]) == row["ans"].strip("|")
        assert [CLASSES[label] for label in response["prediction"]] == response["labels"]
        text = bytes(writer.prediction(probabilities, Format("text/csv")).body).decode()
        assert text.split(",")[1] == row["ans"]

    (tmp_path / "gt.csv").write_text(
        "ImageID,ans\n" + "".join(f"{number:04}.png,{'|'.join(own) or '|'}\n" for number, own in enumerate(truth))
    )
    labelled = read_predictions(tmp_path, tmp_path)
    assert isinstance(labelled, LabelledSets)
    report = quality_report(labelled, 20, 1)
    scores = report["multilabel_classification_metrics"]
    matrix = np.array([[name in own for name in CLASSES] for own in truth])
    decided = np.array([[name in row["ans"].split("|") for name in CLASSES] for row in rows])
    assert scores["macro_f1"]["value"] == pytest.approx(f1_score(matrix, decided, average="macro"))
    assert scores["macro_f1"]["value"] > 0.9
    assert scores["micro_f1"]["standard_deviation"] > 0
    assert report["details"]["unanswered"] == 1
    assert json.loads(evaluation(tmp_path, tmp_path))["f1"]["value"] == f"{scores['macro_f1']['value'] * 100:.2f}%"
    (tmp_path / "gt.csv").write_text((tmp_path / "gt.csv").read_text().replace(",|", ","))
    with pytest.raises(DataError, match=r"row \d+ of gt.csv has no ans, expected labels such as a\|b, or \| for none"):
        read_predictions(tmp_path, tmp_path)


def read_item(folder: Path) -> object:
    """Return the label of an image as a usual DataLoader gets it."""
    dataset = create_dataset("auto", folder)
    dataset.set_transform(BaseAugmentation((32, 32), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)))
    return dataset[0][1]


def test_what_needs_one_label_of_each_image_is_refused_by_name(trained: Path) -> None:
    data = trained / "train"
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"sampler": "balanced"}, "--sampler balanced is for one label of each image"),
        ({"min_precision": 0.9}, "--min-precision is for one label of each image"),
        ({"criterion": "f1"}, "--criterion f1 is for one label of each image"),
        ({"criterion": "label_smoothing"}, "--criterion label_smoothing is for one label of each image"),
    )
    for changes, sentence in refused:
        with pytest.raises(ConfigError, match=sentence):
            read_data(data, replace(QUICK, **changes), CPU)
    read = read_data(data, QUICK, CPU)
    assert isinstance(read_item(data), np.ndarray)
    with pytest.raises(ConfigError, match="--head factored"):
        build_trainer(replace(QUICK, head="factored"), read.scheme, read.augmentation, CPU, steps_per_epoch=1)
    description = load(trained / "model")[1]
    with pytest.raises(ModelError, match="a model of several labels for each image cannot be in an ensemble"):
        describe_ensemble({"one": description, "two": description})
    record = {"format": 2, **replace(description, thresholds=(0.1, 0.2, 0.3)).to_dict()}
    with pytest.raises(ModelError, match="3 thresholds for 4 classes"):
        Description.from_dict(record, "model")


def test_an_audit_knows_the_labels_of_images_with_several(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, scheme = read_images("auto", trained / "train", None, None, {})
    assert scheme.classes == CLASSES
    assert {image.label for image in images} >= {"blue|green", "|"}
    folders = {"SM_CHANNEL_TRAIN": trained / "train", "SM_CHANNEL_MODEL": trained / "model"}
    folders |= {"SM_OUTPUT_DATA_DIR": trained / "output", "SM_AUDIT_DIR": trained / "audit"}
    audit.main([], {name: str(path) for name, path in folders.items()})
    assert "labels are suspected only where each image has one" in capsys.readouterr().err
    assert (trained / "audit/audit.html").is_file()


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2) as processes:
        yield processes


def test_a_run_has_the_same_bits_resumed_and_on_two_workers(pool: WorkerPool, tmp_path: Path) -> None:
    planted(tmp_path / "data", 60)
    results = []
    for name, sizes, fault in (("whole", (1,), ""), ("two", (2,), ""), ("resumed", (1, 2), "signal_in_the_third_step")):
        run = tmp_path / name
        for size in sizes:
            assert pool.train(size, run, tmp_path / "data", FLAGS, fault=fault) == [Ending(0, "")] * size
            fault = ""
        weights = (run / "model/model.safetensors").read_bytes()
        thresholds = json.loads((run / "model/model.json").read_text())["thresholds"]
        results.append((weights, thresholds, (run / "output/exp/metrics.jsonl").read_text()))
    assert results[0] == results[1] == results[2]
