"""A device without memory for a batch: the same step in micro-batches, and the same bits."""

from typing import Any

import numpy as np
import pytest
import torch

from data.mixing import Mixer
from runtime.errors import ConfigError, DeviceError
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


def run_out(trainer: Trainer, place: str, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a trainer run out of memory once, after the work at `place` was done for the `at`-th time."""
    holder, name = {
        "augment": (trainer.augmentation, "augment"),
        "mix": (Mixer, "mix"),
        "forward": (trainer.model, "forward"),
        "backward": (torch.Tensor, "backward"),
        "update": (torch, "zeros_like"),
    }[place]
    work, calls = getattr(holder, name), 0

    def limited(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        result = work(*arguments, **options)
        calls += 1
        if calls == at:
            raise RuntimeError("GET was unable to find an engine to execute this computation")
        return result

    monkeypatch.setattr(holder, name, limited)


def tensors_of(trainer: Trainer) -> list[torch.Tensor]:
    """Return everything that a step changes."""
    networks = {id(network): network for network in (trainer.model, trainer.evaluated)}.values()
    states = [value for state in trainer.optimizer.state.values() for value in state.values()]
    return [tensor for network in networks for tensor in network.state_dict().values()] + states


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
    assert tried == [14, 7, 4, 4, 3, 3, 4, 4, 3, 3], "halves, quarters, and the next step starts there"
    for mine, theirs in zip(surprised.model.parameters(), planned.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert capsys.readouterr().err.count("no memory") == 2


@pytest.mark.parametrize("place", ["augment", "mix", "forward", "backward"])
def test_wherever_memory_ran_out_the_step_is_that_of_micro_batches_planned_for(
    data: Data, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {"augmentation": "StrongAugmentation", "cutmix": 1.0, "ema_decay": 0.9}
    planned, surprised = trainer_of(data, parts=2, **changes), trainer_of(data, **changes)
    batch = first_batch(data)
    for trainer in (planned, surprised):
        for step in range(2):
            trainer.step(batch, epoch=0, steps_done=step)
        run_out(surprised, place, 1, monkeypatch)
    assert surprised.micro_batches.count == 2
    for mine, theirs in zip(tensors_of(surprised), tensors_of(planned), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("place", ["augment", "mix", "forward", "backward", "update"])
def test_after_something_was_given_back_the_step_is_that_with_enough_memory(
    data: Data, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {"augmentation": "CustomAugmentation", "mixup": 0.5, "optimizer": "AdamW", "lr": 1e-3}
    undisturbed, surprised = trainer_of(data, **changes), trainer_of(data, **changes)
    released: list[int] = []

    def release() -> bool:
        released.append(1)
        return True

    surprised.micro_batches.release = surprised.release = release
    batch = first_batch(data)
    for trainer in (undisturbed, surprised):
        for step in range(2):
            trainer.step(batch, epoch=0, steps_done=step)
        run_out(surprised, place, 1 if place == "update" else 2, monkeypatch)
    assert (released, surprised.micro_batches.count) == ([1], 1)
    for mine, theirs in zip(tensors_of(surprised), tensors_of(undisturbed), strict=True):
        assert torch.equal(mine, theirs)


def test_batch_norm_without_memory_for_two_images_is_a_sentence(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of(data)

    def limited(images: torch.Tensor) -> torch.Tensor:
        if len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        raise ValueError("Expected more than 1 value per channel when training, got input size [1, 8, 1, 1]")

    monkeypatch.setattr(trainer.model, "forward", limited)
    with pytest.raises(DeviceError, match="no memory for two images at a time, which batch norm needs"):
        trainer.step(first_batch(data), epoch=0, steps_done=0)


def test_batch_norm_of_one_image_is_a_sentence_with_every_way_out(data: Data) -> None:
    batch = first_batch(data)
    trainer = trainer_of(data, parts=len(batch.labels))
    sentence = r"^batch norm needs more than one image at a time, got 1; raise --batch-size, lower --parts, or train on"
    with pytest.raises(ConfigError, match=sentence):
        trainer.step(batch, epoch=0, steps_done=0)


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
    assert sizes == [7, 7, 4, 4, 3, 3]
    assert all(map(torch.equal, planned.model.parameters(), surprised.model.parameters()))


def test_without_memory_validation_gives_the_same_predictions(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of(data, model="BaseModel")
    whole = trainer.predict(data.val_loader)
    without_memory_for_more_than(4, trainer, monkeypatch)
    halved = trainer.predict(data.val_loader)
    np.testing.assert_allclose(halved.probabilities, whole.probabilities, rtol=1e-5)
    assert halved.loss == pytest.approx(whole.loss)


def test_a_resumed_run_splits_batches_as_before(data: Data) -> None:
    trainer = trainer_of(data)
    trainer.micro_batches.count = 4
    resumed = trainer_of(data)
    resumed.load_state_dict(trainer.state_dict())
    assert (resumed.micro_batches.count, resumed.predictor.micro_batches.count) == (4, 1)
