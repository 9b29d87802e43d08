"""What model.onnx says about itself: which model it was exported from. No torch, no onnx.

A model.onnx has the normalisation and the temperature inside, so it belongs to one model.safetensors and to one
model.json. It is rejected beside any other.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from model_folder import sha256
from runtime.errors import ModelError

MODEL_ONNX = "model.onnx"
IMAGES, PROBABILITIES = "images", "probabilities"  # names of its input and of its first output
WEIGHTS_SHA256, DESCRIPTION_SHA256 = "model.safetensors.sha256", "model.json.sha256"
CLASSES, TTA = "classes", "tta"


def metadata(weights_sha256: str, description: bytes, classes: Sequence[str], tta: str) -> dict[str, str]:
    """Return the metadata of a model.onnx, from the checksum of the weights and the bytes of model.json.

    `classes` are their names, and `tta` is the test-time augmentation that is inside.
    """
    return {
        WEIGHTS_SHA256: weights_sha256,
        DESCRIPTION_SHA256: sha256(description),
        CLASSES: json.dumps(list(classes)),
        TTA: tta,
    }


def check_metadata(found: Mapping[str, str], expected: Mapping[str, str], path: Path) -> None:
    """Raise ModelError if a model.onnx with the metadata `found` was exported from another model than `expected`."""
    for key, file in ((WEIGHTS_SHA256, "model.safetensors"), (DESCRIPTION_SHA256, "model.json")):
        if key not in found:
            raise ModelError(f"{path.name} was not written by export.py (it has no {key}); run make export: {path}")
        if found[key] != expected[key]:
            raise ModelError(f"{path.name} was exported from another {file} (sha256 differs); run make export: {path}")
    if found.get(TTA) != expected[TTA]:
        raise ModelError(
            f"{path.name} was exported with --tta {found.get(TTA)}, expected {expected[TTA]}; run make export"
            f" TTA={expected[TTA]}: {path}"
        )
