"""The state of a trainer comes back, also under other settings, and never in another network."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from optimization import get_lr
from runtime.errors import CheckpointError
from support.trainers import first_batch, trainer_of
from training.inputs import Data


def test_the_state_of_a_trainer_comes_back(data: Data) -> None:
    trainer = trainer_of(data, ema_decay=0.9)
    trainer.step(first_batch(data), epoch=0, steps_done=0)
    again = trainer_of(data, ema_decay=0.9, seed=5)
    again.load_state_dict(copy.deepcopy(trainer.state_dict()))
    again = replace(again, seed=42)
    for one in (trainer, again):
        one.step(first_batch(data), epoch=0, steps_done=1)
    for mine, theirs in ((trainer.model, again.model), (trainer.evaluated, again.evaluated)):
        found = theirs.state_dict()
        assert all(torch.equal(tensor, found[name]) for name, tensor in mine.state_dict().items())


def test_a_resumed_run_knows_the_learning_rate_of_the_last_step(data: Data) -> None:
    trainer, again = (trainer_of(data, schedule="onecycle") for _ in range(2))
    trainer.step(first_batch(data), epoch=0, steps_done=0)
    assert get_lr(trainer.optimizer) != get_lr(again.optimizer)
    again.load_state_dict(trainer.state_dict())
    assert get_lr(again.optimizer) == get_lr(trainer.optimizer)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "AdamW", "lr": 1e-3},
        {"ema_decay": 0.5},
        {"weight_decay": 0.5, "momentum": 0.1},
        {"optimizer": "RMSprop", "momentum": 0.5},
        {"criterion": "focal", "clip_norm": 1.0},
        {"layer_decay": 0.5},
        {"head_lr": 0.5},
        {"freeze": "all"},
    ],
)
def test_a_run_resumed_by_force_has_its_own_settings(data: Data, changes: dict[str, Any]) -> None:
    plain: dict[str, Any] = {"optimizer": "RMSprop", "momentum": 0.0} if changes.get("optimizer") == "RMSprop" else {}
    before = trainer_of(data, weight_decay=0.01, **plain)
    before.step(first_batch(data), epoch=0, steps_done=0)
    forced, fresh = trainer_of(data, **changes), trainer_of(data, **changes)
    forced.load_state_dict(copy.deepcopy(before.state_dict()))
    for part in (forced.model, forced.evaluated):
        assert all(torch.equal(*pair) for pair in zip(part.parameters(), before.model.parameters(), strict=True))
    forced.step(first_batch(data), epoch=0, steps_done=1)
    options = [
        [{name: value for name, value in group.items() if name != "params"} for group in one.optimizer.param_groups]
        for one in (forced, fresh)
    ]
    assert options[0] == options[1]


@pytest.mark.parametrize("changes", [{"model": "BaseModel"}, {"head": "factored"}])
def test_another_network_cannot_be_forced(data: Data, changes: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="a different network; give its --model and --head"):
        trainer_of(data, **changes).load_state_dict(trainer_of(data).state_dict())


@pytest.mark.parametrize(("before", "after"), [(None, torch.float16), (torch.float16, None)])
def test_a_run_resumes_in_another_number_format(
    data: Data, before: torch.dtype | None, after: torch.dtype | None
) -> None:
    trainer, resumed = replace(trainer_of(data), dtype=before), replace(trainer_of(data), dtype=after)
    resumed.load_state_dict(trainer.state_dict())
    assert resumed.scaler.is_enabled() == (after is not None)
    assert float(resumed.scaler.get_scale()) > 0
