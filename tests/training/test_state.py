"""The training state comes back as it was saved, and a loss that is not finite is never missed."""

import pytest
import torch

from runtime.errors import TrainingError
from training.state import TrainState

CPU = torch.device("cpu")


def matrix(right: int, wrong: int) -> torch.Tensor:
    return torch.tensor([[right, wrong], [0, 0]])


def test_an_epoch_becomes_a_row_with_its_mean_loss_and_accuracy() -> None:
    state = TrainState("exp", CPU)
    state.add(torch.tensor(1.0), matrix(3, 1))
    state.add(torch.tensor(2.0), matrix(4, 0))
    state.end_epoch({"val_f1": 0.5}, score=0.5, weights={})
    assert state.history == [{"epoch": 1, "step": 2, "train_loss": 1.5, "train_accuracy": 0.875, "val_f1": 0.5}]
    assert (state.epoch, state.step, state.steps_done) == (1, 0, 2)


def test_only_a_better_score_replaces_the_best_weights() -> None:
    state, weights = TrainState("exp", CPU), {"w": torch.zeros(1)}
    for epoch, score in enumerate((0.2, 0.6, 0.6, 0.4)):
        state.add(torch.tensor(1.0), matrix(1, 0))
        weights["w"].fill_(epoch)
        state.end_epoch({}, score=score, weights=weights)
    assert state.best_epoch == 2
    assert state.epochs_since_best == 2
    assert state.best_weights is not None
    assert state.best_weights["w"].item() == 1, "the best weights are a copy, not the live ones"


def test_a_score_of_zero_is_still_a_best_epoch() -> None:
    state = TrainState("exp", CPU)
    state.add(torch.tensor(1.0), matrix(0, 1))
    state.end_epoch({}, score=0.0, weights={"w": torch.ones(1)})
    assert state.best_weights is not None


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stays_visible_in_the_sum(bad: float) -> None:
    state = TrainState("exp", CPU)
    for loss in (1.0, bad, 1.0):
        state.add(torch.tensor(loss), matrix(1, 0))
    with pytest.raises(TrainingError, match="step 3, in epoch 1"):
        state.check_finite()


def test_a_state_comes_back_from_its_state_dict() -> None:
    state = TrainState("exp2", CPU, epoch=3, step=4, steps_done=34, best_epoch=2, best_score=0.5)
    state.add(torch.tensor(1.0), matrix(1, 1))
    assert not any(name.startswith("_") for name in state.state_dict())
    again = TrainState("other", CPU)
    again.load_state_dict(state.state_dict())
    assert again.state_dict() == state.state_dict()
