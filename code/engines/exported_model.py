"""A model folder with a model.onnx, read without torch."""

import os
from dataclasses import dataclass
from pathlib import Path

from description import DESCRIPTION, Description, read_described
from engines.onnx_metadata import MODEL_ONNX, metadata
from model_folder import MAX_BYTES, MAX_DESCRIPTION_BYTES, WEIGHTS, parse_record, sha256
from runtime.errors import ModelError
from runtime.files import UnusableFile, read_regular


@dataclass(frozen=True)
class ExportedModel:
    """The bytes of a model.onnx, the metadata that it has to have, and the description of its network."""

    path: Path
    data: bytes
    expected: dict[str, str]
    description: Description
    digest: str  # of model.json, which names the weights

    @classmethod
    def read(cls, folder: Path, tta: str) -> "ExportedModel":
        """Read a folder; raises ModelError if it has no model.onnx, or files that do not belong together.

        model.onnx is a copy of the weights, so model.safetensors is only compared with model.json.
        """
        path = folder / MODEL_ONNX
        if not os.path.lexists(path):
            raise ModelError(f"there is no {MODEL_ONNX}, which this engine needs; run make export: {folder}")
        if path.is_symlink():
            raise ModelError(f"{MODEL_ONNX} is a link, expected a regular file; copy what it points to: {folder}")
        try:
            weights = sha256(read_regular(folder / WEIGHTS, MAX_BYTES))
            text = read_regular(folder / DESCRIPTION, MAX_DESCRIPTION_BYTES)
            data = read_regular(path, MAX_BYTES)
        except UnusableFile as error:
            raise ModelError(f"{error.strerror}: {error.filename}") from None
        except OSError as error:
            raise ModelError(f"cannot be read ({error.strerror}): {error.filename}") from None
        description = read_described(parse_record(text, weights, str(folder)), folder)
        expected = metadata(weights, text, description.scheme.classes, tta)
        return cls(path, data, expected, description, sha256(text))
