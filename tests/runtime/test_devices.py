"""The number format and the device are those asked for, and process-wide settings are made in one place."""

import pytest
import torch

from runtime import devices
from runtime.devices import HostCopy, configure_process, runtime_versions, select_device, select_dtype
from runtime.errors import ConfigError

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


def test_fp16_on_a_cpu_is_rejected() -> None:
    with pytest.raises(ConfigError, match="needs a GPU"):
        select_dtype("fp16", CPU)


def test_no_more_threads_compute_than_the_container_has_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    for asked, cpus, expected in ((4, 2, 2), (1, 8, 1)):  # OMP_NUM_THREADS may ask for fewer
        torch.set_num_threads(asked)
        monkeypatch.setattr(devices, "cpu_count", lambda cpus=cpus: cpus)
        configure_process()
        assert torch.get_num_threads() == expected


def test_as_many_threads_compute_as_asked_for() -> None:
    configure_process(3)
    assert torch.get_num_threads() == 3


def test_float32_is_float32_on_a_gpu_once_the_process_is_set_up() -> None:
    torch.backends.cudnn.allow_tf32 = True
    configure_process()
    assert not torch.backends.cudnn.allow_tf32


def test_selecting_a_device_and_a_number_format_changes_nothing_in_the_process() -> None:
    torch.backends.cudnn.allow_tf32 = True
    threads = torch.get_num_threads()
    select_dtype("fp32", select_device("cpu"))
    assert torch.backends.cudnn.allow_tf32
    assert torch.get_num_threads() == threads


def test_runtime_versions_name_everything_that_bits_depend_on() -> None:
    found = runtime_versions(CPU)
    assert found.keys() == {"torch", "torchvision", "numpy", "PIL", "processor", "threads"}
    assert found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()


def test_a_copy_on_the_host_is_what_the_tensor_was() -> None:
    total = torch.tensor(1.5, requires_grad=True) * 2
    copy = HostCopy(total)
    total = total + 1
    assert copy.read().item() == 3
    assert not copy.read().requires_grad


@pytest.mark.gpu
def test_a_copy_from_a_gpu_does_not_wait_for_later_work() -> None:
    copy = HostCopy(torch.full((), 2.0, device="cuda"))
    large = torch.rand((4096, 4096), device="cuda")
    for _ in range(200):
        large = (large @ large).clamp(0, 1)
    after = torch.cuda.current_stream().record_event()  # type: ignore[no-untyped-call]
    assert copy.read().item() == 2
    assert not after.query(), "what was queued later is still under way"
