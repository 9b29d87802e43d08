"""Schedules equal torch's at every step, weight decay skips biases and norms, and the average follows its formula."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn, optim
from torch.amp.grad_scaler import GradScaler
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from config import OPTIMIZERS, SCHEDULES
from model import TinyModel
from optimization import (
    _OPTIMIZERS,
    ExponentialMovingAverage,
    _groups,
    _schedules,
    create_optimizer,
    create_schedule,
    get_lr,
    preset_momentum,
    set_lr,
)
from runtime.errors import ConfigError

PEAK = 0.3
Scheduler = Callable[[optim.Optimizer], lr_scheduler.LRScheduler]


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def take_step(model: nn.Module, optimizer: optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.randn(16, 4)).square().mean().backward()
    optimizer.step()


def rates(scheduler: Scheduler, steps: int, every: int = 1) -> list[float]:
    """Return the learning rate of each step with a scheduler of torch that advances after `every` steps."""
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=PEAK)
    schedule, found = scheduler(optimizer), []
    for step in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % every == 0 and step + 1 < steps:
            schedule.step()
    return found


def ours(name: str, steps_per_epoch: int, epochs: int, **options: float) -> list[float]:
    factor = create_schedule(name, steps_per_epoch=steps_per_epoch, epochs=epochs, **options)  # type: ignore[arg-type]
    return [PEAK * factor(step) for step in range(steps_per_epoch * epochs)]


def test_the_registries_have_the_choices_of_the_command_line() -> None:
    assert tuple(_OPTIMIZERS) == OPTIMIZERS
    assert tuple(_schedules) == SCHEDULES


@pytest.mark.parametrize("name", _OPTIMIZERS)
def test_every_optimizer_changes_the_weights(name: str) -> None:
    model = nn.Linear(4, 3)
    before = copy.deepcopy(model.state_dict())
    optimizer = create_optimizer(name, model, lr=1e-2, momentum=0.9, weight_decay=0.1)
    assert type(optimizer) is getattr(optim, name)
    take_step(model, optimizer)
    assert all(not torch.equal(before[key], value) for key, value in model.named_parameters())


def test_an_unknown_optimizer_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown optimizer 'adamw' \(did you mean 'AdamW'\?\)"):
        create_optimizer("adamw", network(), lr=0.1)


def test_sgd_equals_torchs_with_momentum_and_without_nesterov() -> None:
    model = network()
    twin = copy.deepcopy(model)
    optimizer = create_optimizer("SGD", model, lr=0.1, momentum=0.8)
    reference = optim.SGD(twin.parameters(), lr=0.1, momentum=0.8)
    for seed in range(3):
        for net, optimiser in ((model, optimizer), (twin, reference)):
            torch.manual_seed(seed)
            take_step(net, optimiser)
    torch.testing.assert_close(model.state_dict(), twin.state_dict())


@pytest.mark.parametrize(("name", "momentum"), [("SGD", 0.7), ("RMSprop", 0.7), ("Adam", None), ("NAdam", None)])
def test_momentum_is_passed_to_the_optimizers_that_have_one(name: str, momentum: float | None) -> None:
    assert create_optimizer(name, network(), lr=0.1, momentum=0.7).param_groups[0].get("momentum") == momentum


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_biases_and_norms_are_not_decayed(name: str) -> None:
    model = TinyModel(18)
    optimizer = create_optimizer(name, model, lr=0.1, momentum=0.0, weight_decay=0.5)
    before = copy.deepcopy(model.state_dict())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for key, parameter in model.named_parameters():
        expected = before[key] * (0.95 if parameter.ndim > 1 else 1.0)
        torch.testing.assert_close(parameter.detach(), expected)


def test_only_frozen_weights_are_left_out() -> None:
    model = network()
    for parameter in model[0].parameters():  # type: ignore[index]
        parameter.requires_grad_(False)
    for name in ("AdamW", "Rprop"):  # with groups for weight decay, and without
        groups = create_optimizer(name, model, lr=0.1, weight_decay=0.1).param_groups
        listed = {id(parameter) for group in groups for parameter in group["params"]}
        assert listed == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}


def test_the_learning_rate_is_set_for_all_groups() -> None:
    optimizer = create_optimizer("AdamW", network(), lr=0.1, weight_decay=0.1)
    assert get_lr(optimizer) == 0.1
    set_lr(optimizer, 0.025)
    assert [group["lr"] for group in optimizer.param_groups] == [0.025, 0.025]
    assert get_lr(optimizer) == 0.025


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_the_fused_form_on_a_cpu_equals_the_plain_one_and_resumes_from_its_state(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)
    )  # no norm: a bias before it has a gradient of rounding errors only
    twin = copy.deepcopy(model)
    optimizer = create_optimizer(name, model, lr=0.1, weight_decay=0.1)
    assert optimizer.param_groups[0]["fused"]
    reference = getattr(optim, name)(list(_groups(twin, 0.1)), lr=0.1, foreach=False)
    for step in range(3):
        for trained, stepper in ((model, optimizer), (twin, reference)):
            torch.manual_seed(step)
            take_step(trained, stepper)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    resumed = copy.deepcopy(model)
    other = create_optimizer(name, resumed, lr=0.1, weight_decay=0.1)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for trained, stepper in ((model, optimizer), (resumed, other)):
        torch.manual_seed(3)
        take_step(trained, stepper)
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), resumed.parameters(), strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("name", _OPTIMIZERS)
def test_every_optimizer_changes_the_weights_on_a_gpu(name: str) -> None:
    model = nn.Linear(4, 3).cuda()
    before = model.weight.detach().clone()
    optimizer = create_optimizer(name, model, lr=1e-2)
    model(torch.ones(2, 4, device="cuda")).sum().backward()
    optimizer.step()
    assert not torch.equal(before, model.weight)
    assert bool(optimizer.param_groups[0].get("fused")) == (name in ("Adam", "AdamW", "SGD"))


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("overflow_at", [0, 2])
def test_fused_sgd_with_preset_momentum_takes_the_steps_of_plain_sgd(clip: bool, overflow_at: int) -> None:
    """All sizes are multiples of 16: fused, a CPU rounds what does not fill its vector unit in another way."""
    plain = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))
    fused = copy.deepcopy(plain)
    optimizers = [optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=model is fused) for model in (plain, fused)]
    preset_momentum(optimizers[1])
    scalers = [GradScaler("cpu", init_scale=2.0**10) for _ in optimizers]
    for step in range(5):
        for model, optimizer, scaler in zip((plain, fused), optimizers, scalers, strict=True):
            optimizer.zero_grad()
            torch.manual_seed(step)
            loss = model(torch.randn(8, 16)).square().mean() * (math.inf if step == overflow_at else 1)
            scaler.scale(loss).backward()
            if clip:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
        for mine, theirs in zip(fused.parameters(), plain.parameters(), strict=True):
            assert torch.equal(mine, theirs)
    assert scalers[0].get_scale() == scalers[1].get_scale() == 2.0**9


def test_momentum_that_a_checkpoint_lacks_is_preset_too() -> None:
    """In fp16 the first steps may all overflow: plain SGD has saved no momentum then."""
    before = optim.SGD(network().parameters(), lr=0.1, momentum=0.9)
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer.register_load_state_dict_post_hook(preset_momentum)
    optimizer.load_state_dict(before.state_dict())
    assert [float(optimizer.state[parameter]["momentum_buffer"].abs().sum()) for parameter in model.parameters()] == (
        [0.0] * len(list(model.parameters()))
    )


def test_a_learning_rate_that_is_a_tensor_is_set_in_place() -> None:
    first = network()
    models = first, copy.deepcopy(first)
    rate = torch.tensor(0.1)
    optimizers = optim.SGD(models[0].parameters(), lr=0.1), optim.SGD(models[1].parameters(), lr=rate)
    for lr in (0.5, 0.25):
        for model, optimizer in zip(models, optimizers, strict=True):
            set_lr(optimizer, lr)
            torch.manual_seed(0)
            take_step(model, optimizer)
    assert optimizers[1].param_groups[0]["lr"] is rate
    assert get_lr(optimizers[1]) == 0.25
    assert all(map(torch.equal, models[0].parameters(), models[1].parameters()))


def test_the_constant_schedule_is_constant() -> None:
    assert set(ours("constant", 5, 4)) == {PEAK}


@pytest.mark.parametrize("lr_decay_step", [1, 3, 20])
def test_the_step_schedule_is_the_step_lr_of_the_original(lr_decay_step: int) -> None:
    expected = rates(lambda optimizer: lr_scheduler.StepLR(optimizer, lr_decay_step, gamma=0.5), 7 * 10, every=7)
    assert ours("step", 7, 10, lr_decay_step=lr_decay_step) == pytest.approx(expected)


def test_the_cosine_schedule_equals_torchs_and_ends_at_zero() -> None:
    expected = rates(lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 60), 60)
    assert ours("cosine", 6, 10) == pytest.approx(expected)
    assert create_schedule("cosine", steps_per_epoch=6, epochs=10)(60) == 0


@pytest.mark.parametrize(("steps_per_epoch", "epochs"), [(1, 1), (1, 2), (1, 3), (10, 1), (7, 9), (50, 20)])
def test_the_one_cycle_schedule_equals_torchs(steps_per_epoch: int, epochs: int) -> None:
    steps = steps_per_epoch * epochs
    expected = rates(lambda optimizer: lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=steps), steps)
    assert ours("onecycle", steps_per_epoch, epochs) == pytest.approx(expected)


@pytest.mark.parametrize("warmup_epochs", [0.5, 2, 4.5])
def test_warm_up_sets_the_rising_part_of_one_cycle(warmup_epochs: float) -> None:
    expected = rates(
        lambda optimizer: lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=90, pct_start=warmup_epochs / 9),
        steps=90,
    )
    assert ours("onecycle", 10, 9, warmup_epochs=warmup_epochs) == pytest.approx(expected)


@pytest.mark.parametrize("warmup_epochs", [0.01, 9])
def test_one_cycle_reaches_its_peak_after_any_warm_up(warmup_epochs: float) -> None:
    found = ours("onecycle", 10, 9, warmup_epochs=warmup_epochs)
    assert max(found) == pytest.approx(PEAK, rel=1e-2)
    assert found.index(max(found)) == (0 if warmup_epochs < 1 else 89)


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("constant", lambda optimizer: lr_scheduler.ConstantLR(optimizer, factor=1.0)),
        ("cosine", lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 90 - 15)),
    ],
)
def test_warm_up_rises_linearly_and_the_rest_follows(name: str, after: Scheduler) -> None:
    def scheduler(optimizer: optim.Optimizer) -> lr_scheduler.LRScheduler:
        rising = lr_scheduler.LinearLR(optimizer, start_factor=1 / 15, total_iters=14)
        return lr_scheduler.SequentialLR(optimizer, [rising, after(optimizer)], milestones=[15])

    expected = rates(scheduler, 90)
    assert ours(name, 10, 9, warmup_epochs=1.5) == pytest.approx(expected)


def test_warm_up_works_with_the_step_schedule() -> None:
    found = ours("step", 10, 9, warmup_epochs=1, lr_decay_step=3)
    assert found[:10] == pytest.approx([PEAK * (step + 1) / 10 for step in range(10)])
    assert found[10:] == ours("step", 10, 9, lr_decay_step=3)[10:]


@pytest.mark.parametrize("name", _schedules)
@pytest.mark.parametrize("warmup_epochs", [0, 0.3, 1, 3])
def test_a_factor_is_between_zero_and_one(name: str, warmup_epochs: float) -> None:
    factor = create_schedule(name, steps_per_epoch=4, epochs=3, warmup_epochs=warmup_epochs)
    assert all(0 <= factor(step) <= 1 for step in range(4 * 3 + 5))


def test_an_unknown_schedule_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown schedule 'cosin' \(did you mean 'cosine'\?\)"):
        create_schedule("cosin", steps_per_epoch=1, epochs=1)


def states(steps: int) -> list[dict[str, Tensor]]:
    """Return the weights of a network after each of `steps` optimizer steps."""
    model, found = network(), []
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        take_step(model, optimizer)
        found.append(copy.deepcopy(model.state_dict()))
    return found


def average(decay: float, history: list[dict[str, Tensor]]) -> ExponentialMovingAverage:
    model = network()
    found = ExponentialMovingAverage(model, decay)
    for state in history:
        model.load_state_dict(state)
        found.update(model)
    return found


def test_the_average_follows_the_formula_and_starts_from_the_first_step() -> None:
    history = states(30)
    expected = history[0]
    for steps, state in enumerate(history[1:], start=1):
        decay = min(0.7, (1 + steps) / (10 + steps))
        expected = {key: decay * expected[key] + (1 - decay) * state[key] for key in expected}
    found = average(0.7, history).module.state_dict()
    for key in ("0.weight", "0.bias", "1.running_mean", "1.running_var", "3.weight"):
        torch.testing.assert_close(found[key], expected[key])


def test_with_a_low_decay_the_average_equals_torchs() -> None:
    history, model = states(10), network()
    twin = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.1), use_buffers=True)  # type: ignore[no-untyped-call]
    for state in history:
        model.load_state_dict(state)
        twin.update_parameters(model)
    found = average(0.1, history).module.state_dict()
    for name, tensor in twin.module.state_dict().items():
        assert not tensor.is_floating_point() or torch.equal(found[name], tensor), name


def test_a_saved_and_loaded_average_resumes_with_the_same_bits() -> None:
    history = states(20)
    whole, first = average(0.9, history), average(0.9, history[:8])
    resumed, model = ExponentialMovingAverage(network(), 0.9), network()
    resumed.load_state_dict(copy.deepcopy(first.state_dict()))
    for state in history[8:]:
        model.load_state_dict(state)
        resumed.update(model)
    for key, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[key]), key


def test_whole_numbers_of_the_average_are_those_of_the_network() -> None:
    model = network()
    model.register_buffer("positions", torch.arange(169))  # as in Swin's attention: an average would be one too low
    followed = ExponentialMovingAverage(model, 0.99)
    for _ in range(20):
        take_step(model, optim.SGD(model.parameters(), lr=0.1))
        followed.update(model)
    for name, tensor in model.state_dict().items():
        assert tensor.is_floating_point() or torch.equal(followed.module.state_dict()[name], tensor), name


def test_an_average_in_the_state_of_torchs_is_continued_with_the_same_bits() -> None:
    """The last release saved the state of an AveragedModel, and averaged with torch's own function."""
    history, model = states(12), network()
    twin = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.1), use_buffers=True)  # type: ignore[no-untyped-call]
    resumed = ExponentialMovingAverage(network(), 0.1)
    for step, state in enumerate(history):
        model.load_state_dict(state)
        twin.update_parameters(model)
        if step >= 8:
            resumed.update(model)
        if step == 7:
            resumed.load_state_dict(copy.deepcopy(twin.state_dict()))
    assert resumed.state_dict().keys() == twin.state_dict().keys()
    for name, tensor in twin.state_dict().items():
        if tensor.is_floating_point() or name == "n_averaged":
            assert torch.equal(resumed.state_dict()[name], tensor), name


def test_the_average_shares_no_weights_with_the_network() -> None:
    model = network()
    followed = ExponentialMovingAverage(model, 0.9)
    followed.update(model)
    before = copy.deepcopy(followed.module.state_dict())
    take_step(model, optim.SGD(model.parameters(), lr=1.0))
    torch.testing.assert_close(followed.module.state_dict(), before)
