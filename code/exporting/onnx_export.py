"""The export of a model folder: model.onnx, checked against torch, and its golden pack."""

from pathlib import Path

import torch

from description import DESCRIPTION
from engines.onnx_metadata import MODEL_ONNX, metadata
from engines.onnxruntime_engine import OnnxRuntimeEngine
from exporting.golden import GoldenPack
from exporting.network import ExportedNetwork
from exporting.onnx_file import to_onnx
from exporting.parity import check_parity, largest_differences
from labelling.outputs import outputs_of
from model_files import load
from model_folder import MAX_BYTES, MAX_DESCRIPTION_BYTES, WEIGHTS, find, require_folder, sha256
from predictor import Predictor
from runtime.determinism import use_deterministic_kernels
from runtime.devices import configure_process
from runtime.files import read_regular, replacing
from runtime.process import cpu_count


def export(model_dir: Path, golden_dir: Path, tta: str = "none") -> str:
    """Write model.onnx into the folder of a model, and the golden pack; return a line that says so.

    `tta` is a name in predictor.VIEWS. Raises ModelError, and leaves no model.onnx, for a model that cannot be
    exported, or whose probabilities differ.
    """
    configure_process()
    use_deterministic_kernels(True, gradients=False)
    folder = require_folder(find(model_dir), "export")
    model, description = load(folder)
    text = read_regular(folder / DESCRIPTION, MAX_DESCRIPTION_BYTES)
    identity = metadata(sha256(read_regular(folder / WEIGHTS, MAX_BYTES)), text, description.scheme.classes, tta)

    path = folder / MODEL_ONNX
    path.unlink(missing_ok=True)  # that of an earlier model
    network = ExportedNetwork(model, description, tta)
    pack = GoldenPack.of(network, description.preparation)
    exported = to_onnx(network, description.preparation.size, identity)
    predictor = Predictor(
        *(model, description.preparation, torch.device("cpu"), None),
        tta=tta,
        temperature=description.temperature,
        activation=outputs_of(description.scheme).activation,
    )
    engine = OnnxRuntimeEngine(exported, identity, cpu_count(), path)
    differences = largest_differences(predictor.probabilities, engine.probabilities, pack.prepared)
    check_parity(differences)

    pack.write(golden_dir, network, description, identity)
    with replacing(path, "wb") as file:
        file.write(exported)
    worst, megabytes = max(differences.values()), len(exported) / 1e6
    return f"exported: {path} ({megabytes:.1f} MB); largest_difference={worst:.1e}; golden: {golden_dir}"
