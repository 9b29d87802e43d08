"""The choice between kernels with the same bits in every run and the fastest kernels, for the whole process."""

import os

import torch
from torch.backends import cuda


def use_deterministic_kernels(deterministic: bool) -> None:
    """Choose for the whole process between kernels with the same bits in every run and the fastest kernels."""
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    for enable in (cuda.enable_flash_sdp, cuda.enable_mem_efficient_sdp, cuda.enable_cudnn_sdp):
        enable(not deterministic)  # their gradients of attention are summed in any order
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this set
