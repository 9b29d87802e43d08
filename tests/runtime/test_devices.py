"""The number format and the device are those asked for, and process-wide settings are made in one place."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torchvision

from runtime import cuda_errors, devices
from runtime.devices import HostCopy, configure_process, runtime_versions, select_device, select_dtype
from runtime.errors import ConfigError, DeviceError
from support.drivers import NEW_VERSION, OLD_VERSION

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@dataclass
class Card:
    """What torch says of a GPU of this process that is not there."""

    name: str = "NVIDIA H100"
    capability: tuple[int, int] = (9, 0)
    kernels: str = "sm_70 sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"

    def insert(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answers: dict[str, Any] = {
            "is_available": True,
            "get_device_name": self.name,
            "get_device_capability": self.capability,
            "get_arch_list": self.kernels.split(),
        }
        for function, answer in answers.items():
            monkeypatch.setattr(torch.cuda, function, lambda *_, answer=answer: answer)

        def supports(including_emulation: bool = True) -> bool:
            return including_emulation or self.capability >= (8, 0)

        monkeypatch.setattr(torch.cuda, "is_bf16_supported", supports)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch see no GPU, on a host that has none as far as its variables say."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(devices, "has_gpu", lambda environ: environ.get("SM_NUM_GPUS") == "1")
    for name in ("SM_NUM_GPUS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def test_a_gpu_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    Card().insert(monkeypatch)
    assert [select_device(name).type for name in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]


@pytest.mark.usefixtures("no_gpu")
def test_the_cpu_is_used_where_there_is_no_gpu() -> None:
    assert [select_device(name).type for name in ("auto", "cpu")] == ["cpu", "cpu"]


@pytest.mark.usefixtures("no_gpu")
def test_asking_for_a_gpu_in_vain_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match="no CUDA device"):
        select_device("cuda")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("name", ["auto", "cuda"])
@pytest.mark.parametrize(
    ("number", "version", "visible", "sentence"),
    [
        (
            804,
            NEW_VERSION,
            None,
            r"\(CUDA error 804: as said\); restart the host or install its driver again, or",
        ),
        (999, NEW_VERSION, None, r"\(CUDA error 999: as said\)"),
        (
            35,
            OLD_VERSION,
            None,
            r"error 35: as said, the driver offers 11\.4 and PyTorch needs 12\.0\); install driver 525",
        ),
        (35, None, None, r"libcuda\.so\.1 is missing\); install the driver, or start the container with --gpus all"),
        (100, NEW_VERSION, "7", r"CUDA_VISIBLE_DEVICES is '7'\); correct CUDA_VISIBLE_DEVICES"),
        (0, NEW_VERSION, None, r"\(CUDA counts none\)"),
        (None, None, None, r"built without CUDA\); install the versions of container/requirements\.lock"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_never_replaced_by_the_cpu_in_silence(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    number: int | None,
    version: int | None,
    visible: str | None,
    sentence: str,
) -> None:
    monkeypatch.setenv("SM_NUM_GPUS", "1")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(cuda_errors, "counting_error", lambda: (number, "as said"))
    monkeypatch.setattr(cuda_errors, "driver_version", lambda: version)
    with pytest.raises(DeviceError, match=f"{sentence}.*--device cpu .*SERVE_DEVICE=cpu"):
        select_device(name)
    assert select_device("cpu") == CPU


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("visible", ["", "-1"])
def test_a_gpu_that_is_hidden_on_purpose_is_not_missed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], visible: str
) -> None:
    monkeypatch.setenv("SM_NUM_GPUS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert select_device("auto") == CPU
    assert capsys.readouterr().err == ""
    with pytest.raises(ConfigError, match="no CUDA device"):
        select_device("cuda")


@pytest.mark.usefixtures("no_gpu")
def test_a_broken_driver_without_a_gpu_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(devices, "counting_error", lambda: (803, "as said"))
    assert select_device("auto") == CPU
    assert capsys.readouterr().err == "warning: CUDA reports error 803 (as said) and no GPU; using the CPU\n"


@pytest.mark.parametrize(
    ("capability", "kernels"),
    [((6, 1), "sm_70 sm_75 sm_90"), ((7, 0), "sm_75 sm_80"), ((13, 0), "sm_90a sm_120"), ((6, 1), "sm_70 compute_70")],
)
def test_a_gpu_without_kernels_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], kernels: str
) -> None:
    Card("Tesla P40", capability, kernels).insert(monkeypatch)
    major, minor = capability
    sentence = rf"the Tesla P40 has compute capability {major}\.{minor}, and this PyTorch has kernels for [\d., ]+; use"
    with pytest.raises(DeviceError, match=f"{sentence} another GPU.*--device cpu .*SERVE_DEVICE=cpu"):
        select_device("auto")


@pytest.mark.parametrize(
    ("capability", "kernels"),
    [((7, 0), "sm_70 sm_75"), ((8, 9), "sm_86 sm_90"), ((9, 0), "sm_90a"), ((13, 0), "sm_90 compute_90"), ((9, 0), "")],
)
def test_a_gpu_runs_kernels_of_its_generation_and_intermediate_code(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], kernels: str
) -> None:
    Card(capability=capability, kernels=kernels).insert(monkeypatch)
    assert select_device("auto") == CUDA


@pytest.mark.parametrize("capability", [(7, 0), (7, 5)])
def test_bf16_on_a_gpu_without_it_is_rejected(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    Card("Tesla T4", capability).insert(monkeypatch)
    assert select_dtype("auto", CUDA) is select_dtype("fp16", CUDA) is torch.float16
    with pytest.raises(
        ConfigError, match=r"--precision bf16 needs .* 8\.0 or newer, and the Tesla T4 has 7\.\d; pass auto"
    ):
        select_dtype("bf16", CUDA)


def test_bf16_is_accepted_on_a_gpu_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    Card(capability=(8, 6)).insert(monkeypatch)
    assert select_dtype("bf16", CUDA) is select_dtype("auto", CUDA) is torch.bfloat16


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
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    configure_process()
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


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
    assert found["torchvision"] == torchvision.__version__
    assert found["threads"] == torch.get_num_threads()


def test_runtime_versions_of_a_gpu_tell_its_parts_and_drivers_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        multi_processor_count = 60

    Card("NVIDIA H100 MIG 3g").insert(monkeypatch)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties())
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    monkeypatch.setattr(devices, "driver_release", lambda: "570.124.06")
    found = runtime_versions(CUDA)
    assert found.keys() == {"torch", "torchvision", "numpy", "PIL", "processor", "SMs", "driver", "CUDA", "cuDNN"}
    assert (found["processor"], found["SMs"], found["driver"]) == ("NVIDIA H100 MIG 3g", 60, "570.124.06")


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
