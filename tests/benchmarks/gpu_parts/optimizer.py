"""SGD as the job creates it on this device, against plain SGD, when fp16 overflows in the first step and later.

Torch's fused SGD has a fault there: without momentum buffers that are set before, the buffer of a first step that is
skipped is uninitialised memory (torch 2.10). The gradients are given, so that only the optimizers differ.
"""

import torch
from torch import Tensor, nn, optim
from torch.amp.grad_scaler import GradScaler

from benchmarks.gpu_parts.check import Check
from benchmarks.gpu_parts.networks import start
from model import TinyModel
from optimization import create_optimizer
from runtime.devices import to_device

OVERFLOWS = (0, 3)  # steps
STEPS = 8


def run(check: Check) -> None:
    """Take the same steps with both and compare the weights."""
    device = start(check.device)
    for momentum, decay in ((0.9, 0.0005), (0.0, 0.0)):
        ours, theirs = steps(device, momentum, decay, plain=False), steps(device, momentum, decay, plain=True)
        title = f"SGD with momentum {momentum:g} and weight decay {decay:g}"
        difference = (ours - theirs).abs().nan_to_num(torch.inf).max()
        check.at_most(f"{title}: weights, relative difference", float(difference / theirs.abs().max()), 1e-6)
        check.computes(f"{title}: the steps change the weights", bool((theirs - start_weights(device)).any()))


def start_weights(device: torch.device) -> Tensor:
    return weights_of(new_model(device))


def new_model(device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    return to_device(TinyModel(18), device)


def weights_of(model: nn.Module) -> Tensor:
    """Return all weights in one vector on the CPU."""
    return torch.cat([parameter.detach().cpu().flatten() for parameter in model.parameters()])


def steps(device: torch.device, momentum: float, decay: float, *, plain: bool) -> Tensor:
    """Return the weights after some scaled steps, of which those in OVERFLOWS have an infinite gradient."""
    model = new_model(device)
    optimizer = create_optimizer("SGD", model, lr=0.1, momentum=momentum, weight_decay=decay)
    if plain:
        groups = [{key: group[key] for key in ("params", "weight_decay")} for group in optimizer.param_groups]
        optimizer = optim.SGD(groups, lr=0.1, momentum=momentum, foreach=False, fused=False)
    scaler = GradScaler(device.type)
    scaler.scale(torch.zeros((), device=device))
    for step in range(STEPS):
        draw = torch.Generator().manual_seed(step)
        for parameter in model.parameters():
            gradient = torch.randn(parameter.shape, generator=draw) * 0.01
            parameter.grad = (gradient.to(device) * scaler.get_scale()).contiguous(memory_format=_layout(parameter))
        if step in OVERFLOWS:
            next(model.parameters()).grad[0] = torch.inf  # type: ignore[index]
        scaler.step(optimizer)
        scaler.update()
    return weights_of(model)


def _layout(parameter: Tensor) -> torch.memory_format:
    return torch.channels_last if parameter.ndim == 4 else torch.contiguous_format
