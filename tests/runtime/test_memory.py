"""Out of memory has many names; every one is recognized, and nothing else is."""

import pytest
import torch

from runtime.memory import is_out_of_memory, no_memory

OTHER_NAMES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`"),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("FIND was unable to find an engine to execute this computation"),
]


@pytest.mark.parametrize("error", OTHER_NAMES, ids=str)
def test_a_device_without_memory_is_recognized_by_every_name(error: RuntimeError) -> None:
    assert is_out_of_memory(error)
    reason = str(error).partition("\n")[0]
    assert str(no_memory(error)).startswith(f"the device has no memory left ({reason}); lower --batch-size")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shapes differ"),
        RuntimeError("CUDA error: device-side assert triggered"),
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        ValueError("CUDA error: out of memory"),
        MemoryError(),
    ],
    ids=repr,
)
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_the_first_line_is_told_whole_with_what_to_do() -> None:
    first = f"CUDA out of memory. {'Of the allocated memory some is reserved. ' * 9}See the documentation."
    sentence = str(no_memory(torch.OutOfMemoryError(f"{first}\nadvice")))
    assert sentence.startswith(f"the device has no memory left ({first}); lower --batch-size")
