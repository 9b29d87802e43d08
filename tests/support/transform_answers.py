"""What a batch transform leaves in S3."""

import json
from pathlib import Path
from typing import Any


def answers(folder: Path, **predictions: Any) -> Path:
    """Answers of a transform: NAME.out for each name."""
    for name, prediction in predictions.items():
        path = folder / f"{name.replace('__', '/')}.jpg.out"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"prediction": prediction, "probability": 0.9}) + "\n")
    return folder
