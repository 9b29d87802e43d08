"""A finished run publishes a calibrated model, the same one however often it is started; a stopped one does not."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from calibration import fit_temperature
from config import TrainConfig
from data.decoding import stream
from inference import inference
from model_files import load
from options.inference import InferenceConfig
from predictor import Predictor
from runtime.process import StopRequest
from train import train

QUICK = TrainConfig(
    epochs=3,
    batch_size=16,
    resize=(32, 24),
    model="TinyModel",
    head="factored",
    optimizer="AdamW",
    lr=1e-2,
    schedule="onecycle",
    val_ratio=0.5,
    min_precision=0.8,
    precision="fp32",
    device="cpu",
    threads=1,
)
CPU = torch.device("cpu")
Faces = Callable[..., Path]


class StopAtOnce(StopRequest):
    """A stop request from the first step on."""

    def __init__(self) -> None:
        pass

    def listen(self) -> None:
        """Leave the signal handlers of the test process as they are."""

    @property
    def requested(self) -> bool:  # type: ignore[override]
        return True


def validation_images(data: Path, run: Path) -> tuple[list[Path], list[int]]:
    """Return the validation images of a run and their labels."""
    with (run / "split.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "val"]
    return [data / row["path"] for row in rows], [int(row["label"]) for row in rows]


@pytest.mark.usefixtures("without_report")
def test_the_temperature_is_that_of_the_published_weights_on_the_validation_images(
    faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = faces(24)
    scores = train(data, tmp_path / "model", QUICK, output_dir=tmp_path / "output")
    model, description = load(tmp_path / "model")
    paths, labels = validation_images(data, tmp_path / "output/exp")
    predictor = Predictor(model, description.preparation, CPU, None)
    logits = np.concatenate(
        [
            predictor.logits(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()
            for pixels, _ in stream(paths, description.preparation, batch_size=84)
        ]
    )
    scaling = description.calibration
    assert scaling is not None
    assert scaling.temperature == pytest.approx(fit_temperature(logits, np.array(labels)), rel=1e-4)
    assert (scaling.images, scaling.temperature != 1) == (84, True)
    assert description.metrics == {**scores, "expected_calibration_error": scaling.error_after}
    assert 0 < scaling.error_after < scaling.error_before
    printed = capsys.readouterr().out
    assert (
        f"temperature={scaling.temperature:.4f}; val_expected_calibration_error={scaling.error_after:.4f};" in printed
    )
    assert "expected_calibration_error" not in (tmp_path / "output/exp/metrics.jsonl").read_text()


def test_sure_predictions_of_inference_have_their_precision_on_the_validation_images(
    faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = faces(24)
    train(data, tmp_path / "model", QUICK, output_dir=tmp_path / "output")
    said = capsys.readouterr()
    thresholds = load(tmp_path / "model")[1].unsure_thresholds
    assert thresholds is not None
    paths, labels = validation_images(data, tmp_path / "output/exp")
    table = pd.DataFrame({"ImageID": [str(path.relative_to(data)) for path in paths]})
    for folder in {path.parent for path in paths}:
        (tmp_path / "eval/images" / folder.relative_to(data)).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "eval/images" / folder.relative_to(data)).symlink_to(folder)
    table.to_csv(tmp_path / "eval/info.csv", index=False)
    config = InferenceConfig(device="cpu", status=True)
    found = pd.read_csv(inference(tmp_path / "eval", tmp_path / "model", tmp_path / "labelled", config))
    sure = found["status"] == "ok"
    assert set(found["status"]) == {"ok", "unsure"}
    assert found["ans"].notna().all(), "an unsure prediction stays"
    right = found["ans"] == labels
    precision = right[sure].groupby(found["ans"][sure]).mean()
    assert (precision > 0.799).all()
    assert found["ans"][sure].value_counts().to_dict() == {
        label: count for label, count in enumerate(thresholds.images) if count
    }
    assert f"{sure.sum()} of 84 validation images are sure, with a precision of 0.8\n" in said.out
    assert f"unsure={(~sure).sum()}; " in capsys.readouterr().out
    assert f"warning: predictions of {len(thresholds.never_sure)} of 18 classes are always unsure" in said.err
    page = (tmp_path / "output/exp/report/report.html").read_text()
    assert f"  {sure.sum()} of 84 predictions are sure, and\n  {right[sure].sum()} of these are right;" in page
    assert "The published model divides its logits by the temperature" in page


@pytest.mark.usefixtures("without_report")
def test_a_finished_run_that_is_started_again_publishes_the_same_bytes(faces: Faces, tmp_path: Path) -> None:
    """As after a run that was killed while it published."""
    places: dict[str, Any] = {"output_dir": tmp_path / "output", "checkpoint_dir": tmp_path / "checkpoints"}
    data, files = faces(), [tmp_path / "model" / name for name in ("model.json", "model.safetensors")]
    train(data, tmp_path / "model", QUICK, **places)
    first = [path.read_bytes() for path in files]
    assert json.loads(first[0])["calibration"]["images"] == 42
    for path in files:
        path.unlink()
    train(data, tmp_path / "model", QUICK, **places)
    assert [path.read_bytes() for path in files] == first


@pytest.mark.usefixtures("without_report")
def test_the_model_of_a_stopped_run_is_not_calibrated_and_has_no_thresholds(
    faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places: dict[str, Any] = {"output_dir": tmp_path / "output", "checkpoint_dir": tmp_path / "checkpoints"}
    data = faces()
    train(data, tmp_path / "model", QUICK, stop=StopAtOnce(), **places)
    assert not {"calibration", "unsure_thresholds"} & json.loads((tmp_path / "model/model.json").read_text()).keys()
    warning = "warning: the model of a stopped run has no thresholds; resume the run to get them"
    assert warning in capsys.readouterr().err
    train(data, tmp_path / "model", QUICK, **places)
    assert {"calibration", "unsure_thresholds"} <= json.loads((tmp_path / "model/model.json").read_text()).keys()
    assert warning not in capsys.readouterr().err


@pytest.mark.usefixtures("without_report")
def test_without_min_precision_all_predictions_are_sure(faces: Faces, tmp_path: Path) -> None:
    train(faces(), tmp_path / "model", replace(QUICK, epochs=1, min_precision=0.0), output_dir=tmp_path / "output")
    description = load(tmp_path / "model")[1]
    assert description.calibration is not None
    assert description.unsure_thresholds is None
