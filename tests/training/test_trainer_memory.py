"""A device without memory for a batch: the same step in micro-batches, and the same bits."""

from typing import Any

import numpy as np
import pytest
import torch

from support.trainers import first_batch, trainer_of
from training.inputs import Data
from training.trainer import Trainer


def without_memory_for_more_than(most: int, trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Make the network run out of memory with more than `most` images; returns a list that gets the sizes tried."""
    tried: list[int] = []
    forward = trainer.model.forward

    def limited(images: torch.Tensor) -> torch.Tensor:
        tried.append(len(images))
        logits = forward(images)
        if len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return logits  # type: ignore[no-any-return]

    monkeypatch.setattr(trainer.model, "forward", limited)
    return tried


def test_without_memory_a_step_is_that_of_micro_batches_planned_for(
    data: Data, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes: dict[str, Any] = {"model": "BaseModel", "optimizer": "AdamW", "lr": 1e-3, "mixup": 0.5}
    planned, surprised = trainer_of(data, parts=4, **changes), trainer_of(data, **changes)
    tried = without_memory_for_more_than(4, surprised, monkeypatch)
    batch = first_batch(data)
    for steps_done in range(2):
        results = [trainer.step(batch, epoch=0, steps_done=steps_done) for trainer in (planned, surprised)]
        assert torch.equal(results[0][0], results[1][0])
    assert tried == [14, 7, 4, 4, 4, 2, 4, 4, 4, 2], "halves, quarters, and the next step starts there"
    for mine, theirs in zip(surprised.model.parameters(), planned.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert capsys.readouterr().err.count("no memory") == 2


def test_gradients_from_before_memory_ran_out_do_not_count_twice(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    planned, surprised = (trainer_of(data, model="BaseModel", parts=parts) for parts in (4, 2))
    forward, sizes = surprised.model.forward, []

    def out_of_memory_once(images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        if len(sizes) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(images)  # type: ignore[no-any-return]

    monkeypatch.setattr(surprised.model, "forward", out_of_memory_once)
    for trainer in (planned, surprised):
        trainer.step(first_batch(data), epoch=0, steps_done=0)
    assert sizes == [7, 7, 4, 4, 4, 2]
    assert all(map(torch.equal, planned.model.parameters(), surprised.model.parameters()))


def test_without_memory_validation_gives_the_same_predictions(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of(data, model="BaseModel")
    whole = trainer.predict(data.val_loader.epoch(0))
    without_memory_for_more_than(4, trainer, monkeypatch)
    halved = trainer.predict(data.val_loader.epoch(0))
    np.testing.assert_allclose(halved.probabilities, whole.probabilities, rtol=1e-5)
    assert halved.loss == pytest.approx(whole.loss)


def test_a_resumed_run_splits_batches_as_before(data: Data) -> None:
    trainer = trainer_of(data)
    trainer.micro_batches.count = 4
    resumed = trainer_of(data)
    resumed.load_state_dict(trainer.state_dict())
    assert (resumed.micro_batches.count, resumed.predictor.micro_batches.count) == (4, 1)
