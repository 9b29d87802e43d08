"""The choice between kernels with the same bits in every run and the fastest kernels, for the whole process."""

import os

import torch
from torch import nn
from torch.backends import cuda


def use_deterministic_kernels(deterministic: bool, *, gradients: bool = True) -> None:
    """Choose for the whole process between kernels with the same bits in every run and the fastest kernels.

    The fast kernels of attention have the same bits forward in every run, but sum their gradients in any order. They
    stay on for a process that computes no `gradients`. See `use_deterministic_attention` for those of a network.
    """
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    _choose_attention(fast=not deterministic or not gradients, cudnn=not deterministic)
    if torch.are_deterministic_algorithms_enabled():  # of another network; setting it imports torch's compiler
        torch.use_deterministic_algorithms(False)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this set


def use_deterministic_attention(network: nn.Module, device: torch.device) -> None:
    """Let a network with attention use the fast kernels of it on a GPU, in their deterministic variants.

    Call this after `use_deterministic_kernels(True)`. Torch has those variants in its strict mode only, which rejects
    the pooling of AlexNet and VGG, so that other networks keep the mode that they are in. Of torchvision's classifiers
    only ViT uses these kernels: Swin and MaxViT compute attention as products of matrices. Nothing changes on a CPU.
    """
    if device.type == "cuda" and any(isinstance(module, nn.MultiheadAttention) for module in network.modules()):
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs time
        torch.use_deterministic_algorithms(True)
        _choose_attention(fast=True, cudnn=False)


def _choose_attention(*, fast: bool, cudnn: bool) -> None:
    """Switch the kernels of attention on and off: flash and memory-efficient ones, and those of cuDNN."""
    cuda.enable_flash_sdp(fast)
    cuda.enable_mem_efficient_sdp(fast)
    cuda.enable_cudnn_sdp(cudnn)
