"""JSON from outside: one reader with limits of size and depth, whose errors are one phrase. No torch."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from runtime.files import read_regular

MAX_BYTES = 64 << 20  # the model.json of 100,000 classes has 5 MB
MAX_DEPTH = 64

Hook = Callable[[Iterable[tuple[str, Any]]], Any]


def parse_json(data: bytes | str, *, most_depth: int = MAX_DEPTH, object_pairs_hook: Hook | None = None) -> Any:
    """Return the value of a JSON text; a byte order mark is ignored, as editors may write one.

    Raises ValueError with a short reason for anything else, and for lists and objects more than `most_depth` deep.
    `object_pairs_hook` is that of `json.loads`.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=object_pairs_hook)
    except RecursionError:
        raise ValueError(f"nested more than {most_depth} deep") from None
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, list | dict)]:
        depth += 1
        if depth > most_depth:
            raise ValueError(f"nested more than {most_depth} deep")
        level = [part for item in level for part in _parts(item)]
    return value


def read_json(path: Path, *, most_bytes: int = MAX_BYTES, object_pairs_hook: Hook | None = None) -> Any:
    """Return the JSON value in a regular file; raises as `parse_json` and `read_regular` do."""
    return parse_json(read_regular(path, most_bytes), object_pairs_hook=object_pairs_hook)


def read_json_object(
    path: Path, *, most_bytes: int = MAX_BYTES, object_pairs_hook: Hook | None = None
) -> dict[str, Any]:
    """Return the JSON object in a regular file; raises as `read_json` does, and ValueError for any other value."""
    value = read_json(path, most_bytes=most_bytes, object_pairs_hook=object_pairs_hook)
    if not isinstance(value, dict):
        raise ValueError(f"it is a {type(value).__name__}, expected an object of names and values")
    return value


def _parts(item: list[Any] | dict[str, Any]) -> Iterable[Any]:
    return item.values() if isinstance(item, dict) else item
