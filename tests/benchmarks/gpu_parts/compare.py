"""The CPU against the GPU in float32: augmentation, losses, the gradient of one step, predictions.

Networks amplify rounding: two steps of resnet18 in float32 and float64 on one CPU differ by 0.1. So the gradient of a
single step is compared, with what float32 itself loses against float64 on the CPU: the most in a few orders of the
batch, because in each order other values round across a ReLU.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from augmentation import create_augmentation
from benchmarks.gpu_parts.check import Check
from benchmarks.gpu_parts.networks import batch_of, pixels_of, size_of, start, trainer_of, without_randomness
from data.images import ORIGINAL_MEAN, ORIGINAL_STD, Preparation
from loss import balanced_class_weights, create_criterion
from predictor import Predictor
from training.trainer import Trainer

AUGMENTATIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("BaseAugmentation", {}),
    ("CustomAugmentation", {"noise": 0.0}),  # each device draws its own noise
    ("StrongAugmentation", {}),
    ("StrongAugmentation", {"area": 0.5, "erase": 1.0}),
)
LOSSES = ("cross_entropy", "focal", "label_smoothing", "f1")
NETWORKS = {
    "tiny": ("TinyModel",),
    "short": ("TinyModel", "resnet18"),
    "long": ("TinyModel", "resnet18", "efficientnet_b0", "vit_b_16", "convnext_tiny", "BaseModel"),
}
SPREAD = 3.0  # the GPU may differ from float64 by as many times what float32 on the CPU does
ORDERS = 3  # of the batch
ALWAYS_FINE = 1e-5  # relative error of a gradient; TF32 would lose 1e-3
CPU = torch.device("cpu")


def run(check: Check) -> None:
    """Compare, in the order of what a difference would break."""
    device = start(check.device)
    compare_augmentations(check, device)
    compare_losses(check, device)
    for name in check.while_time(NETWORKS[check.form], 6, "gradient and predictions of"):
        compare_gradient(check, device, name)
        compare_predictions(check, device, name)


def compare_augmentations(check: Check, device: torch.device) -> None:
    """Augment the same batch with the same generator on both."""
    count = 8 if check.form == "tiny" else 64
    pixels = torch.from_numpy(pixels_of(count, (128, 96)).copy()).permute(0, 3, 1, 2)

    def both(name: str, arguments: dict[str, Any]) -> list[torch.Tensor]:
        augmentation = create_augmentation(name, (128, 96), ORIGINAL_MEAN, ORIGINAL_STD, None, **arguments)
        return [
            augmentation.augment(pixels.to(where), augmentation.draw(pixels.shape, seeded()).to(where)).cpu()
            for where in (CPU, device)
        ]

    for name, arguments in AUGMENTATIONS:
        check.at_most(f"augment, {' '.join((name, *arguments))}", largest_difference(*both(name, arguments)), 1e-4)
    level = 1.01 / 255 / min(ORIGINAL_STD)  # a motion can round a value in another way
    check.at_most("augment, TrivialAugment", largest_difference(*both("TrivialAugment", {})), level)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def compare_losses(check: Check, device: torch.device) -> None:
    """Compare every loss and its gradient, with class weights where it takes them."""
    logits, labels = 3 * torch.randn(64, 18, generator=torch.Generator().manual_seed(1)), torch.arange(64) % 17
    for name in LOSSES:
        for weight in (None, balanced_class_weights(labels, 18)):
            if name == "f1" and weight is not None:
                continue
            (ours, ours_gradient), (theirs, theirs_gradient) = (
                _loss(create_criterion(name, weight=weight).to(where), logits.to(where), labels.to(where))
                for where in (CPU, device)
            )
            difference = max(largest_difference(ours, theirs), largest_difference(ours_gradient, theirs_gradient))
            check.at_most(f"loss and gradient, {name}{'' if weight is None else ', class weights'}", difference, 1e-5)


def _loss(criterion: nn.Module, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.clone().requires_grad_()
    loss: Tensor = criterion(logits, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    return loss.detach().cpu(), logits.grad.cpu()


def compare_gradient(check: Check, device: torch.device, name: str) -> None:
    """Compare the gradient of a first step with that of float64 on the CPU, relative to its length."""
    count = 4 if check.form == "tiny" else 16
    trainer = trainer_of(CPU, model=name, precision="fp32", resize=size_of(name), head="joint")
    without_randomness(trainer.model)
    images = batch_of(CPU, count, size_of(name))
    exact = gradient_of(trainer, images.pixels, images.labels, CPU, torch.float64)

    def error(device: torch.device, order: Tensor) -> float:
        found = gradient_of(trainer, images.pixels[order], images.labels[order], device, torch.float32)
        return float((found - exact).norm() / exact.norm())

    spread = max(error(CPU, torch.arange(count).roll(by)) for by in range(ORDERS))
    title = f"gradient, {name}, relative error; float32 on the CPU has {spread:.1e}"
    check.at_most(title, error(device, torch.arange(count)), max(SPREAD * spread, ALWAYS_FINE))


def gradient_of(trainer: Trainer, pixels: Tensor, labels: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the gradient of all weights in one vector, float64 on the CPU, without changing the trainer."""
    model = copy.deepcopy(trainer.model).to(device, dtype).train()
    images = trainer.augmentation.normalize(pixels).to(device, dtype)
    # the losses of this project compute in float32, which would hide what the network itself does
    nn.functional.cross_entropy(model(images), labels.to(device)).backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    return torch.cat(gradients).double().cpu()


def compare_predictions(check: Check, device: torch.device, name: str) -> None:
    """Compare the probabilities of the same images."""
    size = size_of(name)
    model = trainer_of(CPU, model=name, precision="fp32", resize=size).model
    preparation, pixels = Preparation(size, None, ORIGINAL_MEAN, ORIGINAL_STD), pixels_of(8, size)
    ours, theirs = (
        torch.from_numpy(Predictor(copy.deepcopy(model), preparation, where, None).probabilities(pixels))
        for where in (CPU, device)
    )
    check.at_most(f"probabilities, {name}", largest_difference(ours, theirs), 1e-5)


def largest_difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference; infinity where only one of both is a finite number."""
    difference = (ours.double() - theirs.double()).abs()
    return float(difference.nan_to_num(torch.inf).max())
