"""The GPU and its software: what they are, whether they work together, and one convolution."""

import ctypes
import os
import platform
import subprocess

from benchmarks.gpu_parts.check import Check
from runtime.process import cpu_count

LOWEST_TORCH = (2, 10)


def run(check: Check) -> None:
    """Record what is here, then compute one convolution; without a usable GPU, say so in one sentence."""
    check.note("Python", platform.python_version())
    check.note("CPUs", cpu_count())
    _note_driver(check)
    import torch  # a driver that hangs here has been named by now

    check.note("torch", str(torch.__version__))
    check.holds("torch 2.10 or newer", _numbers(str(torch.__version__)) >= LOWEST_TORCH, str(torch.__version__))
    status = _cu_init()
    if not torch.cuda.is_available():
        check.without_gpu(f"there is no GPU that torch can use ({status}), so nothing was checked")
        return
    check.holds("cuInit", status == "cuInit returns 0", status)
    _note_card(check)
    _convolve(check)


def _note_driver(check: Check) -> None:
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        check.skip("nvidia-smi", type(error).__name__)
        return
    if done.returncode:
        check.skip("nvidia-smi", f"exit code {done.returncode}: {done.stdout.strip() or done.stderr.strip()}")
        return
    for name, value in zip(("card", "driver", "memory"), done.stdout.splitlines()[0].split(", "), strict=False):
        check.note(name, value)


def _cu_init() -> str:
    """Return what the driver's first function returns, in words."""
    try:
        return f"cuInit returns {ctypes.CDLL('libcuda.so.1').cuInit(0)}"
    except (OSError, AttributeError):
        return "libcuda.so.1 is not installed"


def _note_card(check: Check) -> None:
    import torch

    capability = torch.cuda.get_device_capability()
    check.note("GPUs", torch.cuda.device_count())
    check.note("torch's name of the card", torch.cuda.get_device_name())
    check.note("capability", "{}.{}".format(*capability))
    check.note("cuDNN", torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    check.note("CUDA of torch", torch.version.cuda)
    check.note("bf16", torch.cuda.is_bf16_supported(including_emulation=False))
    check.note("torchvision", _version("torchvision"))
    for name in ("CUDA_VISIBLE_DEVICES", "PYTORCH_ALLOC_CONF", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"):
        if name in os.environ:
            check.note(name, os.environ[name])


def _convolve(check: Check) -> None:
    """Compare one convolution, forwards and backwards, with the CPU's."""
    import torch

    from runtime.devices import configure_process

    configure_process()
    torch.manual_seed(0)
    convolution, images = torch.nn.Conv2d(3, 16, 3), torch.randn(8, 3, 32, 32)
    gradients = []
    for device in ("cpu", check.device):
        here = torch.nn.Conv2d(3, 16, 3).to(device)
        here.load_state_dict(convolution.state_dict())
        here(images.to(device)).square().mean().backward()
        assert here.weight.grad is not None
        gradients.append(here.weight.grad.cpu())
    check.at_most(
        "gradient of one convolution, GPU against CPU", float((gradients[0] - gradients[1]).abs().max()), 1e-5
    )


def _version(name: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("+")[0].split(".")[:2] if part.isdecimal())
