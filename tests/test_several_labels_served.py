"""A model of several labels answers alike in inference, in the server and in a batch transform, with every engine."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from batch.results import join_downloaded, read_downloaded
from data.images import prepare
from engines.engine import ENGINES
from exporting.onnx_export import export
from exporting.pack import read_pack
from inference import inference
from labelling.labelling import labelling_of
from labels import MULTI, LabelScheme
from model_files import load
from options.inference import InferenceConfig
from predictor import Predictor
from server.classifier import Classifier
from server.responses import CSV, Format, Writer
from server.settings import ServeConfig
from support.serving import InProcess, csv_row, encoded_image, publish_model

SCHEME = LabelScheme("labels", ("cat", "dog", "tree"), kind=MULTI)
NAMES = [f"{number}.jpg" for number in range(6)]


@pytest.fixture(scope="module", params=["none", "flip"])
def tta(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tta: str) -> Path:
    """Return a folder with images, and an exported model with a threshold for each class."""
    root = tmp_path_factory.mktemp("served")
    publish_model(root / "model", SCHEME, thresholds=(0.3, 0.6, 0.5))
    export(root / "model", root / "golden", tta)
    (root / "eval").mkdir()
    for number, name in enumerate(NAMES):
        (root / "eval" / name).write_bytes(encoded_image(number))
    return root


def expected(folder: Path, tta: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return the probabilities (images, classes) as plain torch computes them."""
    model, description = load(folder / "model")
    predictor = Predictor(model, description.preparation, torch.device("cpu"), None)
    pixels = np.stack([prepare(folder / "eval" / name, description.preparation) for name in NAMES])
    views = (pixels, pixels[:, :, ::-1].copy()) if tta == "flip" else (pixels,)
    batches = [torch.from_numpy(view).permute(0, 3, 1, 2) for view in views]
    return torch.stack([predictor.logits(batch).sigmoid() for batch in batches]).mean(0).numpy()


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_gives_the_sigmoid_of_the_logits(folder: Path, tta: str, engine: str) -> None:
    classifier = Classifier(ServeConfig(model_dir=folder / "model", device="cpu", threads=1, engine=engine, tta=tta))
    pixels = np.stack([prepare(folder / "eval" / name, classifier.preparation) for name in NAMES])
    assert classifier(pixels) == pytest.approx(expected(folder, tta), abs=1e-5)
    rows, mistakes, _ = read_pack(folder / "golden")
    assert max(row.sum() for row in rows.values()) > 1.01, "these are no shares of one"
    assert {"the sigmoid is left out", "the sigmoid is applied twice"} <= {mistake.name for mistake in mistakes}


def test_inference_the_server_and_a_batch_transform_say_the_same(folder: Path, tta: str, tmp_path: Path) -> None:
    config = InferenceConfig(device="cpu", threads=1, tta=tta, answers="name", save_probabilities=True)
    with inference(folder / "eval", folder / "model", tmp_path, config).open() as file:
        rows = list(csv.DictReader(file))
    found = np.array([[row[f"probability_{label}"] for label in range(3)] for row in rows], np.float32)
    assert found == pytest.approx(expected(folder, tta), abs=1e-5)
    assert len({row["ans"] for row in rows}) > 2
    outputs = {}
    with InProcess(ServeConfig(model_dir=folder / "model", device="cpu", threads=1, tta=tta)) as server:
        server.until_ready()
        for row in rows:
            body = (folder / "eval" / row["ImageID"]).read_bytes()
            response = server.post(body, accept="application/json;verbose=1").json()
            assert "|".join(response["labels"]) == row["ans"].strip("|")
            assert response["all_labels"] == list(SCHEME.classes)
            assert [SCHEME.classes[label] for label in response["prediction"]] == response["labels"]
            assert csv_row(server.post(body, accept="text/csv"))[1] == row["ans"]
            outputs[f"{row['ImageID']}.out"] = tmp_path / f"{row['ImageID']}.out"
            outputs[f"{row['ImageID']}.out"].write_text(json.dumps(response))
    table = join_downloaded(*read_downloaded(outputs, None), "name", status=True)
    assert [row["ans"] for row in table.rows] == [row["ans"] for row in rows]
    assert {row["status"] for row in table.rows} == {"ok"}
    assert Writer(labelling_of(SCHEME)).error("empty", "no bytes", Format(CSV)).body == b",,,empty: no bytes\n"
    table = join_downloaded(*read_downloaded(outputs, None))
    assert {row["ans"] for row in table.rows} <= {"|", "0", "1", "2", "0|1", "0|2", "1|2", "0|1|2"}
