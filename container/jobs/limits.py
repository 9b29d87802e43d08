"""The limits of an AWS request, read from botocore's description of the service: names, lengths, patterns.

boto3 itself checks types, required members and lower bounds only; AWS would report the rest after the upload.
"""

import functools
import re
from collections.abc import Iterator
from typing import Any

import botocore.session
from botocore.validate import ParamValidator

from runtime.errors import ConfigError, unknown_name


def check_request(service: str, operation: str, request: dict[str, Any]) -> None:
    """Raise ConfigError that names every member that AWS would reject; send nothing."""
    shape = service_model(service).operation_model(operation).input_shape
    report = ParamValidator().validate(request, shape)
    problems = report.generate_report().splitlines() if report.has_errors() else list(_exceeded(request, shape, ""))
    if problems:
        raise ConfigError(f"{operation}: " + "; ".join(problems))


@functools.cache
def service_model(service: str) -> Any:
    """Return botocore's description of a service: operations and shapes."""
    return botocore.session.get_session().get_service_model(service)


def _exceeded(value: Any, shape: Any, path: str) -> Iterator[str]:
    """Yield a sentence for each value that exceeds a bound or does not match a pattern or a list of choices."""
    most = shape.metadata.get("max")
    if shape.type_name in ("integer", "long", "float", "double"):
        if most is not None and value > most:
            yield f"{path} is {value}, at most {most} is allowed"
        return
    if shape.type_name not in ("string", "list", "map", "structure"):
        return
    if most is not None and len(value) > most:
        unit = "characters" if shape.type_name == "string" else "entries"
        yield f"{path} has {len(value)} {unit}, at most {most} are allowed"
    elif shape.type_name == "string":
        yield from _misspelled(value, shape, path)
    elif shape.type_name == "list":
        for index, item in enumerate(value):
            yield from _exceeded(item, shape.member, f"{path}[{index}]")
    elif shape.type_name == "map":
        for key, item in value.items():
            yield from _exceeded(key, shape.key, f"the name {key[:40]!r} in {path}")
            yield from _exceeded(item, shape.value, f"{path}[{key[:40]!r}]")
    else:
        for name, item in value.items():
            yield from _exceeded(item, shape.members[name], f"{path}.{name}".lstrip("."))


def _misspelled(text: str, shape: Any, path: str) -> Iterator[str]:
    if shape.enum and text not in shape.enum:
        yield unknown_name(path, text, shape.enum)
    pattern = shape.metadata.get("pattern")
    if pattern and not re.fullmatch(_for_python(pattern), text):
        wrong = "contains a line break" if pattern == ".*" else f"does not match {pattern}"
        yield f"{path} {wrong}: {text[:80]!r}"


def _for_python(pattern: str) -> str:
    """Return the pattern with Python's classes: \\w for letters and digits, \\s for separators.

    Java's pairs of surrogates are one range of characters.
    """
    pattern = pattern.replace(r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010FFFF")
    pattern = pattern.replace(r"\p{Print}", r"[^\x00-\x1f\x7f]")
    return pattern.replace(r"\p{L}", r"\w").replace(r"\p{N}", r"\w").replace(r"\p{Z}", r"\s")
