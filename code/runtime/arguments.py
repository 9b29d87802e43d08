"""From a command line, SageMaker's strings and the environment to frozen dataclasses. No torch, no pandas.

    @dataclass(frozen=True, kw_only=True)
    class Config:
        epochs: int = option(1, "passes over the training set", minimum=1)
        data_dir: Path = folder("SM_CHANNEL_TRAIN", "/opt/ml/input/data/train", "images to learn from")

    config, = parse("train.py", argv, os.environ, Config)

The type of a field decides how its text is read:

    int, float, str, Path      as written; SageMaker's extra quotes ("\\"256\\"") are removed
    bool                       true/false, True/False, 1/0, yes/no, on/off; the bare flag means true
    tuple[int, int]            128 96, 128,96, [128, 96]
    dict[str, Value]           gamma=1.5,reduction=sum or {"gamma": 1.5}
    X | None                   as X; none means None

A class may have `presets`, a function of the values that are given, which returns those that replace defaults, and
`notes`, which returns text for the end of `--help`.

An empty string, `null` and `None`, which is how SageMaker and its users send null, leave the default. `--batch-size`
and `--batch_size` are the same flag: both with different values are a mistake. One ConfigError reports every mistake on
the command line.
"""

import argparse
import dataclasses
import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from runtime.conversion import check, convert, explain_mistaken, is_null, show
from runtime.errors import ConfigError, unknown_name
from runtime.help_text import default_of, help_of, metavar_of
from runtime.version import NAME, version

T = TypeVar("T")
Schema = tuple[type[Any], ...]
_Spelled = dict[str, list[str]]  # the words after each spelling of one flag
_QUESTIONS = ("-h", "--help", "--version")  # answered at once, whatever else is on the command line


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubCommand:
    """What `parse_command` knows of a command: a line of help, its configurations, and how it is called.

    `first` names the option whose value may come first, without its flag.
    """

    help: str
    schema: Schema
    usage: str = "[flags]"
    first: str = ""


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
    mistaken_names: Sequence[str] = (),
) -> Any:
    """Return a field of a configuration: its default, one line of help, and what it accepts.

    `old_names` and `old_values` are the names that the option and its choices had in earlier versions. They are
    accepted, and `upgrade` translates them in stored settings. `mistaken_names` are rejected with what they may mean.
    """
    limits = {"at least": minimum, "above": above, "at most": maximum, "below": below}
    metadata = {
        "help": help,
        "choices": tuple(choices),
        "limits": {name: limit for name, limit in limits.items() if limit is not None},
        "old_names": tuple(old_names),
        "old_values": dict(old_values or {}),
        "mistaken_names": tuple(mistaken_names),
    }
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def folder(variable: str, default: str | None, help: str, *, also: str = "") -> Any:
    """Return a field for a folder: its flag, else the environment variable (or `also`), else the default."""
    metadata = {"help": help, "choices": (), "limits": {}, "variable": variable, "also": also}
    return dataclasses.field(default=None if default is None else Path(default), metadata=metadata)


def parse(prog: str, argv: Sequence[str], environ: Mapping[str, str], *classes: type[Any]) -> tuple[Any, ...]:
    """Return one instance of each dataclass, built from the flags; raise ConfigError that names every mistake.

    `--help` prints all flags with their defaults, `--version` the version; both end the process with exit code 0.
    """
    question = _question(argv)
    parser = _Parser(
        prog=prog,
        usage="%(prog)s [flags]",
        epilog="\n\n".join(cls.notes() for cls in classes if hasattr(cls, "notes")),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=bool(question),
    )
    _add_flags(parser, classes, for_help=bool(question))
    given, unknown = parser.parse_known_args([question] if question else list(argv))
    return _build(given, unknown, environ, classes)


def parse_command(
    prog: str,
    argv: Sequence[str],
    environ: Mapping[str, str],
    commands: Mapping[str, SubCommand],
    *,
    description: str = "",
) -> tuple[str, tuple[Any, ...]]:
    """Return the name of the command that `argv` starts with, and its configurations as `parse` builds them.

    Without a command, `--help` is assumed: it lists the commands. Raise ConfigError as `parse` does, and for an unknown
    command.
    """
    name, *words = argv or ["--help"]
    question = _question(argv or ["--help"])
    if name not in commands and name not in _QUESTIONS:
        raise ConfigError(unknown_name("command", name, commands, most=len(commands)))
    lines = [f"  {known:<12}{command.help}" for known, command in commands.items()]  # argparse would wrap the longest
    parser = _Parser(
        prog=prog,
        usage="%(prog)s COMMAND [flags]",
        description=description,
        epilog="\n".join(["commands:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{NAME} {version()}", help="print the version")
    choice = parser.add_subparsers(dest="command", help=argparse.SUPPRESS, prog=prog)
    for known, command in commands.items():
        usage = f"%(prog)s {command.usage}"
        child = choice.add_parser(
            known, description=command.help, usage=usage, allow_abbrev=False, add_help=bool(question)
        )
        _add_flags(child, command.schema, for_help=bool(question))
    if question:
        parser.parse_args([question] if name == question else [name, question])
    if commands[name].first and words and not words[0].startswith("-"):
        words = [f"--{commands[name].first}", *words]
    given, unknown = parser.parse_known_args([name, *words])
    return name, _build(given, unknown, environ, commands[name].schema)


def peek(argv: Sequence[str], environ: Mapping[str, str], cls: type[T]) -> T:
    """Return a dataclass from those words that are its flags; ignore all others, and values that cannot be read."""
    parser = _Parser(allow_abbrev=False, add_help=False)
    _add_flags(parser, (cls,), for_help=False)
    return cls(**_read_fields(cls, vars(parser.parse_known_args(list(argv))[0]), environ)[0])


def override(flags: Sequence[str], by: Sequence[str], *classes: type[Any]) -> list[str]:
    """Return those of `flags`, each `--name=value`, whose options are not among the words `by` under any spelling."""
    fields = {name: field.name for cls in classes for field in dataclasses.fields(cls) for name in _spellings(field)}
    overridden = {fields.get(word.partition("=")[0]) for word in by} - {None}
    return [flag for flag in flags if fields.get(flag.partition("=")[0]) not in overridden]


def upgrade(stored: Mapping[str, Any], cls: type[Any]) -> dict[str, Any]:
    """Return stored settings (JSON) under the current names and values.

    An option that did not exist when the settings were stored gets its default, which is how the job behaved then.
    """
    settings = dict(stored)
    for field in dataclasses.fields(cls):
        for name in field.metadata.get("old_names", ()):
            if name in settings:
                settings[field.name] = settings.pop(name)
        settings.setdefault(field.name, json.loads(json.dumps(default_of(field), default=str)))
        settings[field.name] = _current(field, settings[field.name])
    return settings


def flag_of(name: str) -> str:
    """Return the flag of a field: `--batch-size` for `batch_size`, and `--from` for `from_`, as `from` is Python's."""
    return f"--{name.rstrip('_').replace('_', '-')}"


def _build(
    given: argparse.Namespace, unknown: Sequence[str], environ: Mapping[str, str], classes: Schema
) -> tuple[Any, ...]:
    """Return the configurations; raise ConfigError for unknown words, unreadable values and what does not fit."""
    flags = [flag_of(field.name) for cls in classes for field in dataclasses.fields(cls)] + ["--help", "--version"]
    words = [word.split("=")[0] for word in unknown if word.startswith("-")] or unknown
    problems = [
        f"{word} takes no value; leave it out"
        if word in _QUESTIONS
        else explain_mistaken(word, classes) or unknown_name("argument", word, flags, most=3)
        for word in words
    ]
    built = []
    for cls in classes:
        values, unreadable = _read_fields(cls, vars(given), environ)
        problems += unreadable
        if not unreadable:
            built.append(cls(**({**cls.presets(values), **values} if hasattr(cls, "presets") else values)))
            problems += built[-1].problems() if hasattr(cls, "problems") else []
    if problems:
        raise ConfigError("; ".join(problems))
    return tuple(built)


def _read_fields(
    cls: type[Any], given: Mapping[str, _Spelled | None], environ: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Return the values of all fields that do not keep their default, and a sentence for each unreadable one."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        spelled = given[field.name] or _from_environment(field, environ)
        read: dict[str, Any] = {}
        for source, texts in spelled.items():
            try:
                if not is_null(texts, hints[field.name]):
                    read[source] = _current(field, convert(texts, hints[field.name]))
                    check(read[source], field.metadata["choices"], field.metadata["limits"])
            except ValueError as error:
                problems.append(f"{source}: {error}")
        if any(value != values.setdefault(field.name, value) for value in read.values()):
            both = " and ".join(f"{source} {show(value)}" for source, value in read.items())
            problems.append(f"{both} are the same option with different values; give one of them")
    return values, problems


def _from_environment(field: dataclasses.Field[Any], environ: Mapping[str, str]) -> _Spelled:
    """Return the value of the first variable of a field that is set, under the name of the variable."""
    variables = (field.metadata.get("variable", ""), field.metadata.get("also", ""))
    return next(({name: [environ[name]]} for name in variables if environ.get(name)), {})


class _Spelling(argparse.Action):
    """Keep the words after each spelling of a flag; of the same spelling, the last ones."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        spelled = getattr(namespace, self.dest) or {}
        setattr(namespace, self.dest, spelled | {option_string: values})


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def _question(argv: Sequence[str]) -> str:
    return next((word for word in argv if word in _QUESTIONS), "")


def _add_flags(parser: argparse.ArgumentParser, classes: Schema, *, for_help: bool) -> None:
    """Add a flag for each field.

    A parser that reads keeps every value as a list of words, so that all mistakes can be reported together. argparse
    would show `--batch-size [N ...], --batch_size [N ...]` then, so the parser that prints help knows one spelling of
    each flag, and one value.
    """
    if for_help:
        parser.add_argument("--version", action="version", version=f"{NAME} {version()}", help="print the version")
    for cls in classes:
        group = parser.add_argument_group((cls.__doc__ or cls.__name__).splitlines()[0].rstrip("."))
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            if for_help:
                metavar, text = metavar_of(field, hints[field.name]), help_of(field).replace("%", "%%")
                group.add_argument(flag_of(field.name), metavar=metavar, help=text)
            else:
                group.add_argument(*_spellings(field), dest=field.name, nargs="*", action=_Spelling)


def _spellings(field: dataclasses.Field[Any]) -> Iterator[str]:
    """Yield `--batch-size`, SageMaker's `--batch_size`, and both for each old name."""
    for name in (field.name, *field.metadata.get("old_names", ())):
        yield from dict.fromkeys((flag_of(name), f"--{name.rstrip('_')}"))


def _current(field: dataclasses.Field[Any], value: Any) -> Any:
    """Return the current name of a value."""
    return field.metadata.get("old_values", {}).get(value, value) if isinstance(value, str) else value
