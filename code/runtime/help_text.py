"""What `--help` shows of a field of a configuration: its default, the kind of its value, one line. No torch."""

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any

from runtime.conversion import show


def default_of(field: dataclasses.Field[Any]) -> Any:
    """Return the default of a field."""
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def metavar_of(field: dataclasses.Field[Any], hint: Any) -> str:
    """Return what stands for the value of a field with this type."""
    if field.metadata["choices"]:
        return "{" + ",".join(field.metadata["choices"]) + "}"
    (kind, *_) = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if typing.get_origin(kind) is tuple:
        return " ".join("N" for _ in typing.get_args(kind))
    if typing.get_origin(kind) is dict:
        return "NAME=VALUE,..."
    if kind is Path and "variable" in field.metadata:
        return "DIR"
    return {bool: "[BOOL]", int: "N", float: "NUMBER", Path: "PATH"}.get(kind, "TEXT")


def help_of(field: dataclasses.Field[Any]) -> str:
    """Return the line of help of a field, with its variables and its default."""
    default = default_of(field)
    parts = [f"default {show(default)}"] if default not in (None, {}, "") else []
    if "variable" in field.metadata:
        parts.insert(0, " or ".join(filter(None, (field.metadata["variable"], field.metadata["also"]))))
    return str(field.metadata["help"]) + (f" ({', '.join(parts)})" if parts else "")
