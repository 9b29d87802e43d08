"""Every loss agrees with a reference, computes in float32 for half-precision logits, and checks its arguments."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.nn import functional

import loss
from config import CRITERIA
from loss import (
    CrossEntropyLoss,
    F1Loss,
    FocalLoss,
    LabelSmoothingLoss,
    _criterion_entrypoints,
    balanced_class_weights,
    create_criterion,
    criterion_entrypoint,
    is_criterion,
)
from runtime.errors import ConfigError

CLASSES = 18
WEIGHTED = ("cross_entropy", "focal", "label_smoothing")


def batch(size: int = 64, spread: float = 3.0) -> tuple[Tensor, Tensor]:
    """Return logits (size, 18) that require a gradient, and class numbers (size,)."""
    return (torch.randn(size, CLASSES) * spread).requires_grad_(), torch.randint(CLASSES, (size,))


def weights() -> Tensor:
    return torch.rand(CLASSES) + 0.1


@pytest.mark.parametrize("weight", [None, weights()], ids=["plain", "weighted"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_focal_loss_with_gamma_zero_is_cross_entropy(weight: Tensor | None, reduction: str) -> None:
    logits, labels = batch()
    expected = functional.cross_entropy(logits, labels, weight, reduction=reduction)
    torch.testing.assert_close(FocalLoss(weight, gamma=0, reduction=reduction)(logits, labels), expected)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_loss_is_the_formula_of_the_paper(gamma: float) -> None:
    logits, labels = batch()
    p = logits.detach().double().softmax(1)[torch.arange(64), labels]
    expected = (-((1 - p) ** gamma) * p.log()).mean()
    torch.testing.assert_close(FocalLoss(gamma=gamma)(logits, labels).double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weight", [None, weights()], ids=["plain", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_label_smoothing_is_that_of_torch_with_smoothing_rescaled(weight: Tensor | None, smoothing: float) -> None:
    logits, labels = batch()
    rescaled = smoothing * CLASSES / (CLASSES - 1)
    expected = functional.cross_entropy(logits, labels, weight, label_smoothing=rescaled)
    torch.testing.assert_close(LabelSmoothingLoss(smoothing=smoothing, weight=weight)(logits, labels), expected)


def test_label_smoothing_is_the_formula_of_the_original() -> None:
    logits, labels = batch()
    target = torch.full((64, CLASSES), 0.1 / (CLASSES - 1)).scatter_(1, labels[:, None], 0.9)
    expected = torch.mean(torch.sum(-target * logits.log_softmax(-1), dim=-1))
    torch.testing.assert_close(LabelSmoothingLoss()(logits, labels), expected)
    torch.testing.assert_close(target.sum(1), torch.ones(64))


@pytest.mark.parametrize("weight", [None, weights()], ids=["plain", "weighted"])
def test_label_smoothing_works_with_the_classes_in_any_dimension(weight: Tensor | None) -> None:
    logits, labels = torch.randn(2, CLASSES, 5), torch.randint(CLASSES, (2, 5))
    loss = LabelSmoothingLoss(dim=1, weight=weight)(logits, labels)
    flat = LabelSmoothingLoss(weight=weight)(logits.movedim(1, -1).reshape(-1, CLASSES), labels.reshape(-1))
    torch.testing.assert_close(loss, flat)


def soft_f1(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return macro F1 with probabilities instead of counts, computed one class at a time."""
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    scores = []
    for number in range(logits.shape[1]):
        positive, p = labels == number, probabilities[:, number]
        true, false, missed = p[positive].sum(), p[~positive].sum(), (1 - p[positive]).sum()
        scores.append(2 * true / (2 * true + false + missed) if true + missed else 0.0)
    return float(np.mean(scores))


@pytest.mark.parametrize("size", [7, 64, 500])
def test_f1_loss_is_one_minus_a_soft_macro_f1(size: int) -> None:
    logits, labels = batch(size)
    expected = 1 - soft_f1(logits.detach().double().numpy(), labels.numpy())
    assert F1Loss()(logits, labels).item() == pytest.approx(expected, abs=1e-5)


def test_f1_loss_of_perfect_predictions_is_the_share_of_absent_classes() -> None:
    labels = torch.arange(9).repeat(4)
    assert F1Loss()(100 * functional.one_hot(labels, CLASSES).float(), labels).item() == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("name", _criterion_entrypoints)
def test_a_step_against_the_gradient_lowers_every_loss(name: str) -> None:
    logits, labels = batch()
    criterion = create_criterion(name)
    before = criterion(logits, labels)
    before.backward()
    assert logits.grad is not None
    after = criterion(logits - 0.1 * logits.grad / logits.grad.norm(), labels)
    assert before.shape == ()
    assert after < before


@pytest.mark.parametrize("name", _criterion_entrypoints)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_gradients_stay_finite_for_extreme_logits(name: str, dtype: torch.dtype) -> None:
    sign = torch.randint(2, (64, CLASSES)) * 2 - 1
    logits, labels = (6e4 * sign).to(dtype).requires_grad_(), torch.randint(CLASSES, (64,))
    loss = create_criterion(name)(logits, labels)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 2.0])
def test_a_certain_and_correct_prediction_has_no_focal_loss_and_no_gradient(gamma: float) -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = FocalLoss(gamma=gamma)(logits, torch.tensor([0, 1]))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros(2, 2))


@pytest.mark.parametrize("name", _criterion_entrypoints)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_have_the_loss_of_the_same_numbers_in_float32(name: str, dtype: torch.dtype) -> None:
    logits, labels = batch()
    rounded = logits.detach().to(dtype)
    criterion = create_criterion(name)
    assert torch.equal(criterion(rounded, labels), criterion(rounded.float(), labels))


@pytest.mark.parametrize("name", _criterion_entrypoints)
def test_every_loss_works_under_autocast(name: str) -> None:
    layer, labels = nn.Linear(10, CLASSES), torch.randint(CLASSES, (32,))
    with torch.autocast("cpu", torch.bfloat16):
        logits = layer(torch.randn(32, 10))
        loss = create_criterion(name)(logits, labels)
    loss.backward()
    assert logits.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert layer.weight.grad is not None
    assert layer.weight.grad.isfinite().all()


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_a_class_of_weight_zero_does_not_count(name: str) -> None:
    logits, labels = batch()
    weight = weights().index_fill(0, torch.tensor([3]), 0.0)
    criterion = create_criterion(name, weight=weight)
    torch.testing.assert_close(criterion(logits, labels), criterion(logits[labels != 3], labels[labels != 3]))


@pytest.mark.parametrize("name", WEIGHTED)
def test_weights_move_with_the_loss_and_are_not_part_of_its_state(name: str) -> None:
    criterion = create_criterion(name, weight=weights())
    assert [tensor.device.type for tensor in criterion.to("meta").buffers()] == ["meta"]
    assert all("weight" not in key for key in create_criterion("focal", weight=weights()).state_dict())


def test_the_registry_has_the_choices_of_the_command_line() -> None:
    assert tuple(_criterion_entrypoints) == CRITERIA
    assert all(is_criterion(name) for name in CRITERIA)
    assert criterion_entrypoint("focal") is FocalLoss
    assert issubclass(CrossEntropyLoss, nn.CrossEntropyLoss)
    assert not is_criterion("Focal")


@pytest.mark.parametrize("function", [criterion_entrypoint, create_criterion])
def test_an_unknown_loss_names_the_nearest(function: Any) -> None:
    with pytest.raises(ConfigError, match=r"^unknown criterion 'focl' \(did you mean 'focal'\?\); choose from focal, "):
        function("focl")


def test_arguments_are_passed_to_the_loss() -> None:
    logits, labels = batch()
    for name, arguments in (
        ("focal", {"gamma": 0}),
        ("label_smoothing", {"smoothing": 0.0, "classes": CLASSES}),
        ("cross_entropy", {"label_smoothing": 0.0, "weight": None}),
    ):
        loss = create_criterion(name, **arguments)(logits, labels)
        torch.testing.assert_close(loss, functional.cross_entropy(logits, labels))
    smoothed = create_criterion("cross_entropy", label_smoothing=0.2)(logits, labels)
    torch.testing.assert_close(smoothed, functional.cross_entropy(logits, labels, label_smoothing=0.2))
    assert create_criterion("f1", epsilon=1e-3, weight=None)(logits, labels) > F1Loss()(logits, labels)


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("cross_entropy", {"gamma": 1.0}, "unknown argument of cross_entropy 'gamma'; choose from label_smoothing"),
        ("focal", {"gama": 1.0}, "unknown argument of focal 'gama' (did you mean 'gamma'?); choose from gamma"),
        ("focal", {"reduction": "sum"}, "unknown argument of focal 'reduction'; choose from gamma"),
        ("focal", {"gamma": "x"}, "gamma='x' is not a number; focal takes gamma"),
        ("label_smoothing", {"smoothing": True}, "smoothing=True is not a number; label_smoothing takes classes, sm"),
        ("focal", {"gamma": -1}, "gamma=-1 is out of range, must be at least 0"),
        ("focal", {"gamma": float("inf")}, "gamma=inf is out of range, must be at least 0"),
        ("focal", {"gamma": float("nan")}, "gamma=nan is out of range, must be at least 0"),
        ("label_smoothing", {"smoothing": 1.0}, "smoothing=1.0 is out of range, must be at least 0 and below 1"),
        ("cross_entropy", {"label_smoothing": -0.1}, "label_smoothing=-0.1 is out of range, must be at least 0 and be"),
        ("label_smoothing", {"classes": 17.5}, "classes=17.5 is out of range, must be a whole number of at least 2"),
        ("f1", {"classes": 1}, "classes=1 is out of range, must be a whole number of at least 2"),
        ("f1", {"epsilon": 0}, "epsilon=0 is out of range, must be above 0 and below 0.5"),
    ],
)
def test_a_wrong_argument_is_an_error_that_says_what_is_expected(
    name: str, arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        create_criterion(name, **arguments)
    assert str(caught.value).startswith(f"--criterion-args: {sentence}")


class Mine(torch.nn.Module):
    """A loss of a user: a class, and a line in the registry."""

    def __init__(self, sharpness: float = 1.0) -> None:
        super().__init__()
        self.sharpness = sharpness


def test_a_new_loss_gets_its_arguments_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loss._criterion_entrypoints, "mine", Mine)
    found = create_criterion("mine", sharpness=2.5)
    assert isinstance(found, Mine)
    assert found.sharpness == 2.5
    with pytest.raises(ConfigError, match=r"unknown argument of mine 'sharpnes' \(did you mean 'sharpness'"):
        create_criterion("mine", sharpnes=2.5)


def test_an_unknown_reduction_is_an_error() -> None:
    with pytest.raises(ConfigError, match="reduction='median' is out of range, must be mean, sum or none"):
        FocalLoss(reduction="median")


def test_class_weights_for_the_f1_loss_are_an_error() -> None:
    with pytest.raises(ConfigError, match="--class-weights: the loss 'f1' takes no class weights"):
        create_criterion("f1", weight=weights())


@pytest.mark.parametrize("name", ["label_smoothing", "f1"])
def test_the_number_of_classes_is_that_of_the_logits(name: str) -> None:
    for classes in (2, 5, CLASSES):
        assert create_criterion(name)(torch.randn(8, classes), torch.randint(classes, (8,))).isfinite()
    with pytest.raises(ConfigError, match="the loss has 3 classes and the model has 18"):
        create_criterion(name, classes=3)(*batch())


@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_balanced_weights_are_those_of_scikit_learn(kind: str) -> None:
    labels = np.random.default_rng(0).choice([0, 1, 2, 5, 17], size=300, p=[0.6, 0.2, 0.1, 0.05, 0.05])
    labels.flags.writeable = kind == "tensor"
    found = balanced_class_weights(torch.from_numpy(labels) if kind == "tensor" else labels, CLASSES)
    present = np.unique(labels)
    expected = np.zeros(CLASSES)
    expected[present] = compute_class_weight("balanced", classes=present, y=labels)
    assert found.dtype == torch.float32
    assert found.shape == (CLASSES,)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
