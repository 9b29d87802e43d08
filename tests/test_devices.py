"""The number format and the device are what was asked for, or a sentence."""

import pytest
import torch

from devices import select_device, select_dtype
from errors import ConfigError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("seen", "name", "expected"), [(True, "auto", "cuda"), (False, "auto", "cpu"), (True, "cpu", "cpu")]
)
def test_a_gpu_is_used_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, seen: bool, name: str, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen)
    assert select_device(name).type == expected


def test_asking_for_a_gpu_in_vain_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device"):
        select_device("cuda")


def test_half_precision_is_chosen_by_what_the_hardware_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: not including_emulation)
    assert select_dtype("auto", CUDA) is torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert select_dtype("auto", CUDA) is torch.float16
    assert select_dtype("fp32", CUDA) is None
    assert select_dtype("bf16", CPU) is torch.bfloat16
    assert select_dtype("auto", CPU) in (None, torch.bfloat16)


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a GPU"):
        select_dtype("fp16", CPU)
