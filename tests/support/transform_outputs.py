"""The files that a batch transform leaves in S3."""

import json
from pathlib import Path


def write_outputs(folder: Path, **predictions: int | str | None) -> Path:
    """Write a NAME.jpg.out for each name (`__` stands for a slash) and return the folder."""
    for name, prediction in predictions.items():
        path = folder / f"{name.replace('__', '/')}.jpg.out"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"prediction": prediction, "probability": 0.9}) + "\n")
    return folder
