"""A step of the optimizer is taken exactly once, wherever in it the device runs out of memory."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim
from torch.amp.grad_scaler import GradScaler

from runtime.errors import DeviceError
from training.once import step_once

OPTIMIZERS: list[Callable[[list[dict[str, Any]]], optim.Optimizer]] = [
    lambda groups: optim.SGD(groups, lr=0.1, momentum=0.9, foreach=True),
    lambda groups: optim.SGD(groups, lr=0.1, momentum=0.9, fused=True),
    lambda groups: optim.AdamW(groups, lr=0.1, fused=True),
    lambda groups: optim.RMSprop(groups, lr=0.1, momentum=0.9, foreach=True),
    lambda groups: optim.NAdam(groups, lr=0.1),
]


def parts(create: Callable[[list[dict[str, Any]]], optim.Optimizer]) -> tuple[list[nn.Parameter], optim.Optimizer]:
    torch.manual_seed(1)
    parameters = [nn.Parameter(torch.rand(3, 2)) for _ in range(3)] + [nn.Parameter(torch.rand(2)) for _ in range(2)]
    groups: list[dict[str, Any]] = [{"params": parameters[:3], "weight_decay": 0.1}, {"params": parameters[3:]}]
    return parameters, create(groups)


def steps(
    create: Callable[[list[dict[str, Any]]], optim.Optimizer],
    scaler: GradScaler,
    before: Callable[[int], object] = lambda step: None,
    release: Callable[[], bool] = lambda: False,
) -> list[Tensor]:
    """Take three steps; return the parameters and the state of the optimizer afterwards."""
    parameters, optimizer = parts(create)
    for step in range(3):
        scaler.scale(sum((parameter**2).sum() for parameter in parameters)).backward()  # type: ignore[arg-type, no-untyped-call]
        before(step)
        step_once(scaler, optimizer, release)
        scaler.update()
        optimizer.zero_grad()
    return [*parameters, *(value for state in optimizer.state.values() for value in state.values())]


def thaw(optimizer: optim.Optimizer) -> None:
    """Take a step in which only the first group has gradients, as the second one is frozen."""
    for group, gradient in zip(optimizer.param_groups, (0.5, None), strict=True):
        for parameter in group["params"]:
            parameter.grad = None if gradient is None else torch.full_like(parameter, gradient)
    optimizer.step()


def scalers() -> list[GradScaler]:
    return [GradScaler("cpu", enabled=False), GradScaler("cpu", init_scale=1024.0)]


def failing_allocations(monkeypatch: pytest.MonkeyPatch, at: int) -> Callable[[int], None]:
    """Return a function that lets the `at`-th tensor that a later optimizer step creates run out of memory, once."""
    left = [-1]
    for place, name in ((torch, "zeros_like"), (torch, "_foreach_add"), (torch, "clone"), (torch, "empty_like")):
        create = getattr(place, name)

        def limited(*arguments: Any, create: Any = create, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return create(*arguments, **options)

        monkeypatch.setattr(place, name, limited)
    return lambda step: left.__setitem__(0, at) if step in (0, 2) else None


@pytest.mark.parametrize("create", OPTIMIZERS)
@pytest.mark.parametrize("scaled", [0, 1])
@pytest.mark.parametrize("at", range(1, 7))
def test_a_step_without_memory_ends_as_one_with_memory_or_in_a_sentence(
    create: Callable[..., optim.Optimizer], scaled: int, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = steps(create, scalers()[scaled])
    try:
        found = steps(create, scalers()[scaled], failing_allocations(monkeypatch, at))
    except DeviceError:
        return
    assert len(found) == len(expected)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("create", OPTIMIZERS)
@pytest.mark.parametrize("scaled", [0, 1])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_first_step_that_had_no_memory_for_its_state_is_taken_again(
    create: Callable[..., optim.Optimizer], scaled: int, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = steps(create, scalers()[scaled])
    fail = failing_allocations(monkeypatch, at)
    found = steps(create, scalers()[scaled], lambda step: step or fail(step), lambda: True)
    assert len(found) == len(expected)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("create", OPTIMIZERS)
@pytest.mark.parametrize("at", range(1, 5))
def test_the_first_step_after_a_thaw_is_taken_once_or_ends_in_a_sentence(
    create: Callable[..., optim.Optimizer], at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for failing in (False, True):
        parameters, optimizer = parts(create)
        thaw(optimizer)
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        if failing:
            failing_allocations(monkeypatch, at)(0)
        try:
            step_once(scalers()[0], optimizer, lambda: True)
        except DeviceError:
            return
        found.append(parameters)
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("create", OPTIMIZERS)
def test_a_step_that_has_changed_something_is_not_taken_again(create: Callable[..., optim.Optimizer]) -> None:
    parameters, optimizer = parts(create)
    step, calls = optimizer.step, []

    def half(*arguments: Any) -> None:
        calls.append(1)
        step()  # a part of it would do
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB.")

    optimizer.step = half  # type: ignore[method-assign, assignment]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    with pytest.raises(DeviceError, match=r"^the device has no memory left \(CUDA out of memory\. Tried to"):
        step_once(scalers()[0], optimizer, lambda: True)
    assert calls == [1]


def test_a_step_that_never_fits_is_a_sentence() -> None:
    parameters, optimizer = parts(OPTIMIZERS[0])
    calls: list[int] = []

    def full(*arguments: Any) -> None:
        calls.append(1)
        raise RuntimeError("CUDA error: out of memory")

    optimizer.step = full  # type: ignore[method-assign, assignment]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    with pytest.raises(DeviceError, match="no memory left"):
        step_once(scalers()[0], optimizer, lambda: False)
    assert calls == [1, 1]
