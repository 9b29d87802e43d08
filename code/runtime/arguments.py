"""From a command line, SageMaker's strings and the environment to frozen dataclasses. No torch, no pandas.

    @dataclass(frozen=True, kw_only=True)
    class Config:
        epochs: int = option(1, "passes over the training set", minimum=1)
        data_dir: Path = folder("SM_CHANNEL_TRAIN", "/opt/ml/input/data/train", "images to learn from")

    config, = parse("train.py", argv, os.environ, Config)

The type of a field decides how its text is read:

    int, float, str, Path      as written; SageMaker's extra quotes ("\\"256\\"") are taken off
    bool                       true/false, True/False, 1/0, yes/no, on/off; the bare flag means true
    tuple[int, int]            128 96, 128,96, [128, 96]
    dict[str, Value]           gamma=1.5,reduction=sum or {"gamma": 1.5}
    X | None                   as X; none means None

An empty string (SageMaker's way to send null) leaves the default. `--batch-size` and `--batch_size` are the same flag.
Every mistake on the line is reported, in one ConfigError.
"""

import argparse
import dataclasses
import json
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from runtime.errors import ConfigError, unknown_name

Value = bool | int | float | str
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def option(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] = (),
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
    old_names: Sequence[str] = (),
    old_values: Mapping[str, str] | None = None,
) -> Any:
    """Return a field of a configuration: its default, one line of help, and what it accepts.

    `old_names` and `old_values` are what the option and its choices were called in earlier versions. They are accepted
    without a word, and `upgrade` translates them in settings that were stored.
    """
    limits = {"at least": minimum, "above": above, "at most": maximum, "below": below}
    metadata = {
        "help": help,
        "choices": tuple(choices),
        "limits": {name: limit for name, limit in limits.items() if limit is not None},
        "old_names": tuple(old_names),
        "old_values": dict(old_values or {}),
    }
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def folder(variable: str, default: str | None, help: str, *, also: str = "") -> Any:
    """A folder: from its flag, else from the environment variable (or `also`), else the default (None: not needed)."""
    metadata = {"help": help, "choices": (), "limits": {}, "variable": variable, "also": also}
    return dataclasses.field(default=None if default is None else Path(default), metadata=metadata)


def parse(prog: str, argv: Sequence[str], environ: Mapping[str, str], *classes: type[Any]) -> tuple[Any, ...]:
    """Build one instance of each dataclass from the flags; raises ConfigError that names every mistake.

    `--help` prints all fields with their defaults and leaves the process with exit code 0.
    """
    parser = _build_parser(prog, classes)
    given, strangers = parser.parse_known_args(list(argv))
    flags = [option for option in parser._option_string_actions if "_" not in option and option.startswith("--")]
    unknown = [word.split("=")[0] for word in strangers if word.startswith("-")] or strangers
    problems = [unknown_name("argument", name, flags, most=3) for name in unknown]
    built = []
    for cls in classes:
        values, wrong = _read_fields(cls, vars(given), environ)
        problems += wrong
        if not problems:
            built.append(cls(**values))
            problems += built[-1].problems() if hasattr(cls, "problems") else []
    if problems:
        raise ConfigError("; ".join(problems))
    return tuple(built)


def _read_fields(
    cls: type[Any], given: Mapping[str, list[str] | None], environ: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """The values of all fields that are not left at their default, and a sentence for each that cannot be read."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        texts = given[field.name]
        source = f"--{field.name.replace('_', '-')}"
        variables = (field.metadata.get("variable", ""), field.metadata.get("also", ""))
        variable = next((name for name in variables if environ.get(name)), None)
        if texts is None and variable:
            texts, source = [environ[variable]], variable
        if texts is None or (len(texts) == 1 and not unquote(texts[0])):
            continue
        try:
            value = _today(field, convert(texts, hints[field.name]))
            check(value, field.metadata["choices"], field.metadata["limits"])
            values[field.name] = value
        except ValueError as error:
            problems.append(f"{source}: {error}")
    return values, problems


def _today(field: dataclasses.Field[Any], value: Any) -> Any:
    """Return what a value is called now."""
    return field.metadata.get("old_values", {}).get(value, value) if isinstance(value, str) else value


def upgrade(stored: Mapping[str, Any], cls: type[Any]) -> dict[str, Any]:
    """Return stored settings (JSON) under the names and values of today.

    An option that did not exist when they were stored gets its default, which is what the job did then.
    """
    settings = dict(stored)
    for field in dataclasses.fields(cls):
        for name in field.metadata.get("old_names", ()):
            if name in settings:
                settings[field.name] = settings.pop(name)
        settings.setdefault(field.name, json.loads(json.dumps(_default(field), default=str)))
        settings[field.name] = _today(field, settings[field.name])
    return settings


def convert(texts: Sequence[str], hint: Any) -> Any:
    """Turn the words after a flag into a value of type `hint`; raises ValueError with what was expected."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else ()
    if type(None) in options:
        if len(texts) == 1 and unquote(texts[0]).lower() in ("none", "null"):
            return None
        hint = options[0]
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
    if hint in (int, float):
        return _convert_number(text, hint)
    return hint(text)


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
    """`128 96`, `128,96`, `[128, 96]` and `(128, 96)` are the same pair."""
    text = " ".join(unquote(text) for text in texts)
    parts = text.strip("[]() ").replace(",", " ").split()
    if len(parts) != len(hints):
        raise ValueError(
            f"takes {len(hints)} numbers such as {','.join(['128', '96', '64'][: len(hints)])}, got {text!r}"
        )
    return tuple(convert([part], hint) for part, hint in zip(parts, hints, strict=True))


def _convert_dict(texts: Sequence[str]) -> dict[str, Value]:
    """`gamma=1.5,reduction=sum`, the same in several words, or a JSON object."""
    text = unquote(" ".join(texts))
    if text.startswith("{"):
        return _read_json_object(text)
    values: dict[str, Value] = {}
    for pair in text.replace(",", " ").split():
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise ValueError(f"{pair!r} is not of the form name=value")
        values[key] = _literal(value)
    return values


def _read_json_object(text: str) -> dict[str, Value]:
    try:
        record = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "too deeply nested"
        raise ValueError(f"{text!r} is not a JSON object ({reason})") from None
    for name, value in record.items():
        if not isinstance(value, Value):
            raise ValueError(f"{name}={json.dumps(value)} is neither a number, a boolean nor a text")
    return dict(record)


def _literal(text: str) -> Value:
    """A number where the text is one, a boolean for true and false, else the text."""
    for hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            pass
    return {"true": True, "false": False}.get(text.lower(), text)


def unquote(text: str) -> str:
    """Take off the JSON quotes that SageMaker's SDK and tuner put around strings: '"256"' -> '256'."""
    text = text.strip()
    while len(text) > 1 and text[0] == text[-1] == '"':
        try:
            text = str(json.loads(text))
        except json.JSONDecodeError:
            break
    return text


def check(value: Any, choices: Sequence[str], limits: Mapping[str, float]) -> None:
    """Raise ValueError if a value is not among its choices or is outside its limits."""
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


def show(value: Any) -> str:
    """A value as it would be typed after its flag."""
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    if isinstance(value, dict):
        return ",".join(f"{key}={part}" for key, part in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def _build_parser(prog: str, classes: Sequence[type[Any]]) -> argparse.ArgumentParser:
    """All values stay lists of words here, so that every mistake can be reported together afterwards."""
    parser = _Parser(prog=prog, usage="%(prog)s [flags]", allow_abbrev=False, formatter_class=_Formatter)
    for cls in classes:
        group = parser.add_argument_group((cls.__doc__ or cls.__name__).splitlines()[0].rstrip("."))
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            names = (field.name, *field.metadata.get("old_names", ()))
            group.add_argument(
                *(spelling for name in names for spelling in _spellings(name)),
                dest=field.name,
                nargs="*" if hints[field.name] is bool else "+",
                action=_Words,
                metavar=_metavar(field, hints[field.name]),
                help=_help(field).replace("%", "%%"),
            )
    return parser


def _spellings(name: str) -> list[str]:
    """`--batch-size` and, as SageMaker passes hyperparameters, `--batch_size`."""
    return list(dict.fromkeys((f"--{name.replace('_', '-')}", f"--{name}")))


class _Formatter(argparse.HelpFormatter):
    """Shows each flag in one form, and what it takes once: for argparse, every flag takes several words."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not isinstance(action, _Words):
            return super()._format_action_invocation(action)
        return f"{action.option_strings[0]} {action.metavar}"


class _Words(argparse.Action):
    """Keep the words after a flag; a bare boolean flag means true. The last of several wins, as on SageMaker."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, list(values) or ["true"])


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _metavar(field: dataclasses.Field[Any], hint: Any) -> str:
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


def _help(field: dataclasses.Field[Any]) -> str:
    default = _default(field)
    parts = [f"default {show(default)}"] if default not in (None, {}, "") else []
    if "variable" in field.metadata:
        parts.insert(0, " or ".join(filter(None, (field.metadata["variable"], field.metadata["also"]))))
    return str(field.metadata["help"]) + (f" ({', '.join(parts)})" if parts else "")
