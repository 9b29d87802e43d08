"""The stand-in for a GPU: torch's CUDA backend runs on it, and it counts what happens."""

import sys
from typing import Unpack

import pytest

from gpu.standin.build import linked_functions, stubs
from gpu.standin.run import Done, Settings, run_on_standin

STEP = """
import torch
from torch import nn

model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
model.cuda().to(memory_format=torch.channels_last)
images = torch.zeros(2, 3, 8, 8, device="cuda").to(memory_format=torch.channels_last)
with torch.autocast("cuda", torch.{dtype}):
    loss = nn.functional.cross_entropy(model(images), torch.zeros(2, dtype=torch.long, device="cuda"))
loss.backward()
assert float(loss.detach()) == 0
"""


def python(code: str, **settings: Unpack[Settings]) -> Done:
    return run_on_standin([sys.executable, "-W", "error", "-c", code], **settings)


@pytest.mark.parametrize(("dtype", "capability"), [("bfloat16", 90), ("float16", 75)])
def test_a_network_runs_forward_and_backward(dtype: str, capability: int) -> None:
    done = python(STEP.format(dtype=dtype), capability=capability)
    assert done.returncode == 0, done.stderr
    assert done.counters["cuDNN plans"] >= 2, "forward, and the gradient of the weights"
    assert done.counters["kernels"] == sum(count for name, count in done.counters.items() if name.startswith("kernel "))


def test_copies_carry_their_bytes_and_tell_pinned_memory_from_other() -> None:
    done = python(
        "import torch; there = torch.arange(5).pin_memory().cuda(); again = torch.arange(7).cuda()\n"
        "assert there.cpu().tolist() == list(range(5)) and again.clone().cpu().tolist() == list(range(7))"
    )
    assert done.returncode == 0, done.stderr
    copies = {name: count for name, count in done.counters.items() if name.startswith("copy")}
    assert copies == {
        "copy to device, pinned": 1,
        "copy to device, pageable": 1,
        "copy on device": 1,
        "copy to host, pageable": 2,
    }


def test_memory_ends_where_the_setting_says() -> None:
    done = python("import torch; torch.empty(200 << 20, dtype=torch.uint8, device='cuda')", memory_mb=100)
    assert done.returncode == 1
    assert "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 200.00 MiB" in done.stderr


def test_what_is_not_there_is_an_error_and_no_silence() -> None:
    done = python("import torch; graph = torch.cuda.CUDAGraph(); torch.cuda.graph(graph).__enter__()")
    assert done.returncode == 1
    assert "operation not supported" in done.stderr


def test_every_function_that_torch_links_is_there() -> None:
    names = linked_functions()
    assert {"cudaMalloc", "cublasGemmEx", "cudnnBackendExecute", "cuLaunchKernel"} <= names
    generated = stubs(names)
    assert all(f"int {name}(" in generated for name in names)
