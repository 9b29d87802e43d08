"""Frozen blocks keep their bits and cost no gradient memory; they thaw at an epoch, also in a run that is resumed."""

import copy
import hashlib
from collections.abc import Collection
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from data.loader import Batch
from model import TinyModel
from optimization import get_lr
from runtime.errors import ConfigError
from support.trainers import first_batch, trainer_of
from training.depth import depths
from training.freezing import Freezing
from training.inputs import Data
from training.trainer import Trainer

EVERYTHING: dict[str, Any] = {"optimizer": "AdamW", "lr": 0.01, "weight_decay": 0.5, "ema_decay": 0.9}
STEPS_PER_EPOCH = 2


def digests(model: nn.Module, names: Collection[str]) -> dict[str, str]:
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: hashlib.sha256(state[name].detach().numpy().tobytes()).hexdigest() for name in sorted(names)}


def take_steps(trainer: Trainer, batch: Batch, steps: range) -> None:
    for step in steps:
        one = Batch(step % STEPS_PER_EPOCH, batch.pixels, batch.labels, batch.indices)
        trainer.step(one, epoch=step // STEPS_PER_EPOCH, steps_done=step)


def below(model: nn.Module, depth: int) -> set[str]:
    return {name for name, found in depths(model).items() if found < depth}


@pytest.mark.parametrize("changes", [EVERYTHING, {"weight_decay": 0.5, "clip_norm": 1.0}, {"optimizer": "RMSprop"}])
@pytest.mark.parametrize(("freeze", "blocks"), [("1", 1), ("4", 4), ("all", 5)])
@pytest.mark.parametrize("parts", [1, 3])
def test_frozen_blocks_keep_their_bits_and_all_others_learn(
    data: Data, changes: dict[str, Any], freeze: str, blocks: int, parts: int
) -> None:
    trainer = trainer_of(data, freeze=freeze, parts=parts, **changes)
    for tensor in trainer.model.parameters():  # an average of -0.0 with itself would be 0.0
        tensor.data[tensor.data == 0] = -0.0
    if trainer.average:
        trainer.average.start_from(trainer.model)
    frozen = below(trainer.model, blocks)
    others = {name for name, _ in trainer.model.named_parameters()} - frozen
    before = digests(trainer.model, frozen), digests(trainer.model, others)
    take_steps(trainer, first_batch(data), range(4))
    for model in (trainer.model, trainer.evaluated):
        assert digests(model, frozen) == before[0]
        after = digests(model, others)
        assert all(after[name] != digest for name, digest in before[1].items())
    learned = trainer.optimizer.state
    assert not any(name in frozen for name, found in trainer.model.named_parameters() if found in learned)


def test_a_frozen_batch_norm_uses_its_running_statistics() -> None:
    torch.manual_seed(0)
    model = TinyModel(5)
    freezing = Freezing(model, "all")
    freezing.enter(0)
    model.train()
    freezing.keep_norms()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert model.dropout.training, "what is trained stays in training mode"


def test_what_is_before_the_first_trained_block_is_not_kept_for_the_backward_pass() -> None:
    images, kept = torch.rand(4, 3, 32, 32), {}
    for freeze in ("none", "3", "all"):
        model = TinyModel(5)
        sizes: list[int] = []
        Freezing(model, freeze).enter(0)

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(images).sum().backward()
        kept[freeze] = sum(sizes)
        with_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        assert with_gradient == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert kept["all"] < kept["3"] / 100 < kept["none"] / 100
    assert kept["all"] <= 4 * 256 * 4, "the input of the head and the mask of its dropout"


@pytest.mark.parametrize("changes", [EVERYTHING, {"layer_decay": 0.9, "head_lr": 0.2, "schedule": "cosine"}])
@pytest.mark.parametrize("parts", [1, 3])
def test_a_run_that_is_resumed_before_at_or_after_the_thaw_has_the_same_bits(
    data: Data, changes: dict[str, Any], parts: int
) -> None:
    options = {"freeze": "3", "freeze_epochs": 1, "epochs": 3, "parts": parts, **changes}
    batch, steps = first_batch(data), 3 * STEPS_PER_EPOCH
    whole, states = trainer_of(data, **options), []
    for step in range(steps):
        states.append(copy.deepcopy(whole.state_dict()))
        take_steps(whole, batch, range(step, step + 1))
    frozen = below(whole.model, 3)
    first, thawed, last = (states[0]["model"], states[STEPS_PER_EPOCH]["model"], whole.model.state_dict())
    assert all(torch.equal(first[name], thawed[name]) for name in frozen)
    assert not any(torch.equal(thawed[name], last[name]) for name, _ in whole.model.named_parameters())
    for step, state in enumerate(states):
        resumed = trainer_of(data, **options, seed=42)
        resumed.load_state_dict(copy.deepcopy(state))
        take_steps(resumed, batch, range(step, steps))
        assert resumed.checksum() == whole.checksum(), f"resumed after {step} steps"


def test_the_logged_learning_rate_is_that_of_the_option(data: Data) -> None:
    trainer = trainer_of(data, lr=0.1, head_lr=0.5, layer_decay=0.5, schedule="cosine", warmup_epochs=0.5)
    assert get_lr(trainer.optimizer) == pytest.approx(0.1)
    take_steps(trainer, first_batch(data), range(1))
    rates = {group["lr_scale"]: group["lr"] for group in trainer.optimizer.param_groups}
    assert rates == pytest.approx({5.0: 0.5} | {0.5**depth: 0.1 * 0.5**depth for depth in range(1, 6)})
    assert get_lr(trainer.optimizer) == pytest.approx(0.1)


def test_layer_decay_moves_the_first_blocks_least(data: Data) -> None:
    trainer = trainer_of(data, lr=0.1, layer_decay=0.1, momentum=0.0, parts=1)
    before = copy.deepcopy(trainer.model.state_dict())
    take_steps(trainer, first_batch(data), range(1))
    found = depths(trainer.model)
    for name, parameter in trainer.model.named_parameters():
        assert parameter.grad is not None
        expected = before[name] - 0.1 * 0.1 ** (5 - found[name]) * parameter.grad
        torch.testing.assert_close(parameter.detach(), expected)


def test_more_blocks_than_there_are_is_a_sentence(data: Data) -> None:
    with pytest.raises(ConfigError, match=r"^--freeze: 6 is more than the 5 blocks of 'TinyModel' before its head"):
        trainer_of(data, freeze="6")


def test_what_is_frozen_is_printed(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    trainer_of(data, freeze="2", freeze_epochs=3)
    said = capsys.readouterr().out
    assert "frozen: the first 2 of 6 blocks, before blocks.1.conv1: 2" in said
    assert said.endswith("weights, until epoch 4\n")
    trainer_of(data, freeze="all")
    assert "before fc: " in capsys.readouterr().out
