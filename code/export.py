"""Export a trained model to ONNX, with a golden pack for those who run it in another language.

    SM_MODEL_DIR=model SM_GOLDEN_DIR=golden python code/export.py

In: a model folder. Out: model.onnx beside model.json, and the golden pack: ten images with their pixels and
probabilities at each stage. model.onnx maps prepared uint8 images (batch, height, width, 3) to probabilities; it is
written only if onnxruntime and torch agree on them.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from options.export import ExportPaths
from runtime.arguments import parse
from runtime.failure import guard, write_message
from runtime.process import cpu_count, limit_openmp_spinning, name_unknown_user

if __name__ == "__main__":  # answer --help and a mistyped flag before torch, which takes seconds to import
    guard(lambda: parse("export.py", sys.argv[1:], os.environ, ExportPaths))
    name_unknown_user()
    limit_openmp_spinning()

import torch

from description import DESCRIPTION
from engines.onnx_metadata import MODEL_ONNX, metadata
from engines.onnxruntime_engine import OnnxRuntimeEngine
from exporting.golden import GoldenPack
from exporting.network import ExportedNetwork
from exporting.onnx_file import to_onnx
from exporting.parity import check_parity, largest_differences
from model_files import MAX_BYTES, MAX_DESCRIPTION_BYTES, WEIGHTS, find, load
from predictor import Predictor
from runtime.determinism import use_deterministic_kernels
from runtime.devices import configure_process
from runtime.errors import ModelError
from runtime.files import read_regular, replacing


def main(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Run the command: read options and SM_* variables, export."""
    (paths,) = parse("export.py", argv, environ, ExportPaths)
    configure_process()
    use_deterministic_kernels(True, gradients=False)
    export(paths.model_dir, paths.golden_dir)


def export(model_dir: Path, golden_dir: Path) -> Path:
    """Write model.onnx into the folder of a model, and the golden pack; return the path of model.onnx.

    Raises ModelError, and leaves no model.onnx, for a model that cannot be exported, or whose probabilities differ.
    """
    folder = find(model_dir)
    if not folder.is_dir():
        raise ModelError(f"exporting needs {WEIGHTS} and {DESCRIPTION} in a folder, found {folder.name}: {folder}")
    model, description = load(folder)
    weights, text = read_regular(folder / WEIGHTS, MAX_BYTES), read_regular(folder / DESCRIPTION, MAX_DESCRIPTION_BYTES)
    identity = metadata(weights, text, description.scheme.classes)
    del weights

    network = ExportedNetwork(model, description)
    pack = GoldenPack.of(network, description.preparation)
    path = folder / MODEL_ONNX
    path.unlink(missing_ok=True)  # that of an earlier model
    exported = to_onnx(network, description.preparation.size, identity)
    predictor = Predictor(model, description.preparation, torch.device("cpu"), None)
    engine = OnnxRuntimeEngine(exported, identity, cpu_count(), path)
    differences = largest_differences(predictor.probabilities, engine.probabilities, pack.prepared)
    check_parity(differences)

    pack.write(golden_dir, pack.expected(network), description, identity)
    with replacing(path, "wb") as file:
        file.write(exported)
    worst, megabytes = max(differences.values()), len(exported) / 1e6
    summary = f"exported: {path} ({megabytes:.1f} MB); largest_difference={worst:.1e}; golden: {golden_dir}"
    print(summary, flush=True)
    write_message(summary)
    return path


if __name__ == "__main__":
    guard(lambda: main(sys.argv[1:], os.environ))
