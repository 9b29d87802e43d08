"""export.py: a model.onnx that gives what torch gives, of this model alone, or one sentence why there is none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from calibration import TemperatureScaling
from data.images import Preparation
from export import main
from exporting import onnx_export
from exporting.network import ExportedNetwork
from exporting.onnx_export import export
from model_files import load, publish_ensemble
from predictor import Predictor
from runtime.errors import ConfigError, ModelError
from support.exported import Exported
from support.serving import publish_model

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("batch", [1, 2, 5, 33])
def test_the_probabilities_are_those_of_torch_whatever_the_batch(exported: Exported, batch: int) -> None:
    model, description = load(exported.model)
    pixels = np.random.default_rng(batch).integers(0, 256, (batch, 32, 24, 3), dtype=np.uint8)
    expected = Predictor(model, description.preparation, torch.device("cpu"), None).probabilities(pixels)
    found = exported.engine().probabilities(pixels)
    assert found.dtype == np.float32
    assert found == pytest.approx(expected, abs=1e-5)


def test_the_file_takes_uint8_images_of_any_number_and_gives_probabilities_first(exported: Exported) -> None:
    model = onnx.load(exported.onnx)
    onnx.checker.check_model(model)
    (images,) = model.graph.input
    assert (images.name, images.type.tensor_type.elem_type) == ("images", onnx.TensorProto.UINT8)
    sides = [side.dim_param or side.dim_value for side in images.type.tensor_type.shape.dim]
    assert sides == ["batch", 32, 24, 3]
    probabilities = model.graph.output[0]
    assert (probabilities.name, probabilities.type.tensor_type.elem_type) == ("probabilities", onnx.TensorProto.FLOAT)


def test_the_file_names_its_model_and_its_classes(exported: Exported) -> None:
    found = {prop.key: prop.value for prop in onnx.load(exported.onnx).metadata_props}
    record = json.loads((exported.model / "model.json").read_text())
    assert found["model.safetensors.sha256"] == record["sha256"]
    assert json.loads(found["classes"]) == record["scheme"]["classes"]


def test_the_command_exports_and_says_what_it_wrote(tmp_path: Path) -> None:
    environ = os.environ | {
        "SM_MODEL_DIR": str(
            publish_model(tmp_path / "model", calibration=TemperatureScaling(3.0, 0.2, 0.1, 84)),
        ),
        "SM_GOLDEN_DIR": str(tmp_path / "golden"),
    }
    done = subprocess.run([sys.executable, ROOT / "code/export.py"], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"exported: {tmp_path / 'model/model.onnx'} (")
    assert float(done.stdout.partition("largest_difference=")[2].partition(";")[0]) <= 1e-5
    assert done.stderr == ""
    assert (tmp_path / "golden/golden.json").is_file()


@pytest.mark.parametrize("command", [["--help"], ["--mistyped"]])
def test_questions_and_mistakes_are_answered_without_torch(command: list[str]) -> None:
    program = f"import sys, runpy; sys.argv = ['export.py', *{command}]; sys.modules['torch'] = None\n"
    program += f"runpy.run_path({str(ROOT / 'code/export.py')!r}, run_name='__main__')"
    environ = os.environ | {"PYTHONPATH": str(ROOT / "code")}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True)
    assert done.returncode == (0 if command == ["--help"] else 2)
    assert "Traceback" not in done.stderr


def test_a_network_that_onnxruntime_computes_differently_is_refused_with_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Colours(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3))

    class Sharper(ExportedNetwork):
        def classify(self, normalised: Tensor) -> Tensor:
            logits: Tensor = 1.01 * self.logits(normalised)
            return logits.softmax(1)

    model = publish_model(tmp_path / "model")
    (model / "model.onnx").write_bytes(b"of an earlier model")
    description = load(model)[1]
    monkeypatch.setattr(onnx_export, "load", lambda folder: (Colours(), description))
    monkeypatch.setattr(onnx_export, "ExportedNetwork", Sharper)
    with pytest.raises(ModelError, match=r"\(\d\.\de-0\d at batch 1, .*e-0\d at batch 2, .*e-0\d at batch 33; at most"):
        export(model, tmp_path / "golden")
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"model.json", "model.safetensors"}


def test_a_network_that_torch_cannot_export_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DependsOnValues(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((1, 2)) if images.sum() > 0 else images.flatten(1)[:, :3]

    model = publish_model(tmp_path / "model")
    description = load(model)[1]
    monkeypatch.setattr(onnx_export, "load", lambda folder: (DependsOnValues(), description))
    with pytest.raises(ModelError, match="torch cannot export this network to ONNX"):
        export(model, tmp_path / "golden")
    assert not (model / "model.onnx").exists()


def test_an_ensemble_is_exported_with_the_mean_and_std_of_each_and_both_views(tmp_path: Path) -> None:
    own = Preparation((32, 24), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    members = [
        publish_model(tmp_path / "1", seed=1),
        publish_model(tmp_path / "2", seed=2, preparation=own, calibration=TemperatureScaling(3.0, 0.2, 0.1, 84)),
    ]
    publish_ensemble(tmp_path / "model", members)
    export(tmp_path / "model", tmp_path / "golden", "flip")
    model, description = load(tmp_path / "model")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 24, 3), dtype=np.uint8)
    found = Exported(tmp_path / "model", tmp_path / "golden").engine("flip").probabilities(pixels)
    for tta, is_equal in (("flip", True), ("none", False)):
        predictor = Predictor(model, description.preparation, torch.device("cpu"), None, tta=tta)
        assert (found == pytest.approx(predictor.probabilities(pixels), abs=1e-5)) == is_equal


def test_an_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.tar.gz").write_bytes(b"")
    with pytest.raises(ModelError, match=r"found model\.tar\.gz; unpack it: "):
        export(tmp_path, tmp_path / "golden")


def test_a_file_in_the_place_of_a_model_is_refused_with_what_to_give(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_bytes(b"{}")
    with pytest.raises(ModelError, match=r"found model\.json; give the folder of a model: "):
        export(tmp_path / "model.json", tmp_path / "golden")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--predictions", "theirs.csv"], "--predictions needs --verify"),
        (["--verify", "golden"], "--verify needs --predictions"),
        (["--verify", "golden", "--predictions", "theirs.csv", "--tta", "flip"], "--tta is for an export"),
        (["--tolerance", "1e-3"], "--tolerance is for --verify"),
    ],
)
def test_options_that_would_be_ignored_are_rejected(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        main(words, {})
