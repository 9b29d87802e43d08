"""Text from a command line, a hyperparameter or a variable as a typed value, and back. No torch, no pandas.

convert(["128", "96"], tuple[int, int])    (128, 96)
check(0, (), {"at least": 1})              ValueError: 0 is out of range, must be at least 1
show((128, 96))                            "128,96"
"""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runtime.errors import unknown_name

Value = bool | int | float | str
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def convert(texts: Sequence[str], hint: Any) -> Any:
    """Return the words after a flag as a value of type `hint`; raise ValueError that says what was expected."""
    if _may_be_none(hint):
        if len(texts) == 1 and unquote(texts[0]).lower() in ("none", "null"):
            return None
        hint = typing.get_args(hint)[0]
    if hint is bool and not texts:
        return True
    if not texts:
        raise ValueError("expected a value")
    if typing.get_origin(hint) is tuple:
        return _convert_tuple(texts, typing.get_args(hint))
    if typing.get_origin(hint) is dict:
        return _convert_dict(texts)
    if len(texts) != 1:
        raise ValueError(f"takes one value, got {len(texts)}: {' '.join(texts)}")
    text = unquote(texts[0])
    if hint is bool:
        if text.lower() not in _BOOLEANS:
            raise ValueError(f"{text!r} is neither true nor false")
        return _BOOLEANS[text.lower()]
    return _convert_number(text, hint) if hint in (int, float) else hint(text)


def is_null(texts: Sequence[str], hint: Any) -> bool:
    """Return whether the words after a flag leave the default: an empty string, `null` or `None`.

    `none` is a text like any other, which some options have among their values. A type that includes None reads all
    three as None.
    """
    if len(texts) != 1:
        return False
    text = unquote(texts[0])
    return not text or (not _may_be_none(hint) and (text.lower() == "null" or text == "None"))


def _may_be_none(hint: Any) -> bool:
    return isinstance(hint, types.UnionType) and type(None) in typing.get_args(hint)


def _convert_number(text: str, hint: type[int] | type[float]) -> int | float:
    try:
        number = float(text)
        if hint is float:
            if number != number or number in (float("inf"), float("-inf")):
                raise ValueError
            return number
        if number != int(number):
            raise ValueError
        return int(text) if text.lstrip("+-").isdigit() else int(number)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a {'whole ' if hint is int else 'finite '}number") from None


def _convert_tuple(texts: Sequence[str], hints: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a tuple from `128 96`, `128,96`, `[128, 96]` or `(128, 96)`."""
    text = " ".join(unquote(text) for text in texts)
    parts = text.strip("[]() ").replace(",", " ").split()
    if len(parts) != len(hints):
        example = ",".join(["128", "96", "64"][: len(hints)])
        raise ValueError(f"takes {len(hints)} numbers such as {example}, got {text!r}")
    return tuple(convert([part], hint) for part, hint in zip(parts, hints, strict=True))


def _convert_dict(texts: Sequence[str]) -> dict[str, Value]:
    """Return a dict from `gamma=1.5,reduction=sum`, from the same in several words, or from a JSON object."""
    text = unquote(" ".join(texts))
    if text.startswith("{"):
        return _read_json_object(text)
    values: list[tuple[str, Value]] = []
    for pair in text.replace(",", " ").split():
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise ValueError(f"{pair!r} is not of the form name=value")
        values.append((key, _literal(value)))
    return _check_finite(distinct(values))


def distinct(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return pairs as a dict; raise ValueError for a name with two values, of which a dict would keep the last."""
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values and values[name] != value:
            raise ValueError(f"{name!r} is given twice, as {values[name]!r} and {value!r}; give it once")
        values[name] = value
    return values


def _read_json_object(text: str) -> dict[str, Value]:
    try:
        record = json.loads(text, object_pairs_hook=distinct)
    except (json.JSONDecodeError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "too deeply nested"
        raise ValueError(f"{text!r} is not a JSON object ({reason})") from None
    for name, value in record.items():
        if not isinstance(value, Value):
            raise ValueError(f"{name}={json.dumps(value)} is neither a number, a boolean nor a text")
    return _check_finite(dict(record))


def _check_finite(values: dict[str, Value]) -> dict[str, Value]:
    """Return the values; raise ValueError for a number that is none, or infinite."""
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name}={value} is not a finite number")
    return values


def _literal(text: str) -> Value:
    """Return a number where the text is one, a boolean for true and false, else the text."""
    for hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            pass
    return {"true": True, "false": False}.get(text.lower(), text)


def unquote(text: str) -> str:
    """Remove the JSON quotes that SageMaker's SDK and tuner put around strings: '"256"' -> '256'."""
    text = text.strip()
    while len(text) > 1 and text[0] == text[-1] == '"':
        try:
            text = str(json.loads(text))
        except json.JSONDecodeError:
            break
    return text


def check(value: Any, choices: Sequence[str], limits: Mapping[str, float]) -> None:
    """Raise ValueError if a value is not among its choices, is outside its limits, or is a text that is not UTF-8."""
    if isinstance(value, str | Path) and not _is_utf8(str(value)):
        raise ValueError(f"{str(value)!a} is not UTF-8 or has a zero byte; rename it")
    if choices and value is not None and value not in choices:
        raise ValueError(unknown_name("value", str(value), choices, most=len(choices)))
    passes = {
        "at least": lambda number, limit: number >= limit,
        "above": lambda number, limit: number > limit,
        "at most": lambda number, limit: number <= limit,
        "below": lambda number, limit: number < limit,
    }
    for number in value if isinstance(value, tuple) else (value,):
        if number is not None and not all(passes[rule](number, limit) for rule, limit in limits.items()):
            expected = " and ".join(f"{rule} {limit:g}" for rule, limit in limits.items())
            raise ValueError(f"{number:g} is out of range, must be {expected}")


def _is_utf8(text: str) -> bool:
    """Return True for a text that can be the name of a file, a line of a log and a cell of a table."""
    return "\0" not in text and text.encode(errors="replace").decode() == text


def show(value: Any) -> str:
    """Return a value as a user types it after its flag."""
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    if isinstance(value, dict):
        return ",".join(f"{key}={part}" for key, part in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)


def explain_mistaken(flag: str, classes: Iterable[type[Any]]) -> str:
    """Return the message for a flag that may mean several options of these dataclasses; empty for any other flag."""
    name = flag.removeprefix("--").replace("-", "_")
    fields = [field for cls in classes for field in dataclasses.fields(cls)]
    meant = [field for field in fields if name in field.metadata.get("mistaken_names", ())]
    choices = [f"--{field.name.replace('_', '-')} ({field.metadata['help']})" for field in meant]
    return f"{flag} may mean several options; give {' or '.join(choices)}" if choices else ""
