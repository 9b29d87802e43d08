"""A number that no machine can hold or wait for is rejected by every option, in a sentence that names it."""

from collections.abc import Iterator
from dataclasses import Field, fields
from typing import Any, get_type_hints

import pytest

import submit
import transform
from config import TrainConfig
from faces.options import DemoConfig
from options.audit import AuditConfig
from options.cv import CvConfig
from options.evaluation import EvaluationConfig
from options.export import ExportConfig
from options.inference import InferenceConfig
from runtime.arguments import parse
from runtime.errors import ConfigError
from server.settings import ServeConfig

CONFIGURATIONS: tuple[type[Any], ...] = (
    *(TrainConfig, CvConfig, InferenceConfig, EvaluationConfig, AuditConfig, ExportConfig, DemoConfig, ServeConfig),
    transform.TransformConfig,
    *(cls for command in submit.COMMANDS.values() for cls in command.schema),
)


def numbers() -> Iterator[tuple[type[Any], Field[Any]]]:
    """Yield every option that is a number."""
    for cls in dict.fromkeys(CONFIGURATIONS):
        hints = get_type_hints(cls)
        for field in fields(cls):
            if hints[field.name] in (int, float, int | None, float | None):
                yield cls, field


@pytest.mark.parametrize(
    ("cls", "field"), [pytest.param(*each, id=f"{each[0].__name__}-{each[1].name}") for each in numbers()]
)
def test_an_absurd_number_is_a_sentence(cls: type[Any], field: Field[Any]) -> None:
    flag = f"--{field.name.strip('_').replace('_', '-')}"
    with pytest.raises(ConfigError) as caught:
        parse("program", [flag, "1e300"], {}, cls)
    assert f"{flag}: 1" in str(caught.value) or f"{flag} 1" in str(caught.value)
