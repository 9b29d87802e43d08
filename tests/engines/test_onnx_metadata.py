"""A model.onnx belongs to one model.safetensors and one model.json, and is rejected beside any other."""

import json
import shutil
from pathlib import Path

import onnx
import pytest

from engines.onnx_metadata import check_metadata
from engines.onnxruntime_engine import OnnxRuntimeEngine
from runtime.errors import ModelError
from support.exported import Exported
from support.serving import publish_model


@pytest.fixture
def copied(exported: Exported, tmp_path: Path) -> Exported:
    shutil.copytree(exported.model, tmp_path / "model")
    return Exported(tmp_path / "model", exported.golden)


def test_a_file_of_this_model_loads(copied: Exported) -> None:
    copied.engine()


def test_a_file_of_other_weights_is_rejected(copied: Exported) -> None:
    onnx_bytes = copied.onnx.read_bytes()
    publish_model(copied.model, seed=4)
    copied.onnx.write_bytes(onnx_bytes)
    with pytest.raises(ModelError, match=r"model\.onnx was exported from another model\.safetensors"):
        copied.engine()


def test_a_file_of_another_description_is_rejected(copied: Exported) -> None:
    path = copied.model / "model.json"
    record = json.loads(path.read_text())
    record["preparation"]["mean"] = [0.5, 0.5, 0.5]
    path.write_text(json.dumps(record))
    with pytest.raises(ModelError, match=r"model\.onnx was exported from another model\.json"):
        copied.engine()


def test_a_file_with_other_test_time_augmentation_is_rejected_with_the_remedy(copied: Exported) -> None:
    with pytest.raises(ModelError, match=r"exported with --tta none, expected flip; run make export TTA=flip"):
        copied.engine("flip")


def test_a_file_that_something_else_wrote_is_rejected(copied: Exported) -> None:
    model = onnx.load(copied.onnx)
    del model.metadata_props[:]
    onnx.save(model, copied.onnx)
    with pytest.raises(ModelError, match=r"was not written by export\.py"):
        copied.engine()


def test_a_damaged_file_is_rejected_in_one_sentence(copied: Exported) -> None:
    copied.onnx.write_bytes(copied.onnx.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"model\.onnx cannot be loaded \(.*\); run make export") as error:
        copied.engine()
    assert "\n" not in str(error.value)


def test_the_message_names_the_file_and_the_remedy() -> None:
    with pytest.raises(ModelError, match=r"run make export: /somewhere/model\.onnx"):
        check_metadata({}, {}, Path("/somewhere/model.onnx"))


def test_the_engine_needs_no_path_of_the_file(copied: Exported) -> None:
    """It takes bytes, so that what was checked is what is computed."""
    data = copied.onnx.read_bytes()
    copied.onnx.unlink()
    OnnxRuntimeEngine(data, copied.identity, 1, copied.onnx)
