"""The training state comes back as it was saved, and a loss that is not finite is never missed."""

import pytest
import torch

from runtime.errors import TrainingError
from training.state import TrainState

CPU = torch.device("cpu")


def batch(right: int, wrong: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the labels and predictions of a batch."""
    return torch.zeros(right + wrong, dtype=torch.int64), torch.tensor([0] * right + [1] * wrong)


def test_an_epoch_becomes_a_row_with_its_mean_loss_and_accuracy() -> None:
    state = TrainState("exp", CPU)
    state.add(torch.tensor(1.0), *batch(3, 1))
    state.add(torch.tensor(2.0), *batch(4, 0))
    state.end_epoch({"val_f1": 0.5}, score=0.5, weights={})
    assert state.history == [{"epoch": 1, "step": 2, "train_loss": 1.5, "train_accuracy": 0.875, "val_f1": 0.5}]
    assert (state.epoch, state.step, state.steps_done) == (1, 0, 2)


def test_only_a_better_score_replaces_the_best_weights() -> None:
    state, weights = TrainState("exp", CPU), {"w": torch.zeros(1)}
    for epoch, score in enumerate((0.2, 0.6, 0.6, 0.4)):
        state.add(torch.tensor(1.0), *batch(1, 0))
        weights["w"].fill_(epoch)
        state.end_epoch({}, score=score, weights=weights)
    assert state.best_epoch == 2
    assert state.epochs_since_best == 2
    assert state.best_weights is not None
    assert state.best_weights["w"].item() == 1, "the best weights are a copy, not the live ones"


def test_the_last_weights_are_kept_where_they_are_selected() -> None:
    state, weights = TrainState("exp", CPU), {"w": torch.zeros(1)}
    for epoch, score in enumerate((0.6, 0.2)):
        state.add(torch.tensor(1.0), *batch(1, 0))
        weights["w"].fill_(epoch)
        state.end_epoch({}, score=score, weights=weights, thresholds=[score], select="last")
    assert (state.best_epoch, state.best_score, state.best_thresholds) == (2, 0.2, [0.2])
    assert state.best_weights is not None
    assert state.best_weights["w"].item() == 1


def test_a_score_of_zero_is_still_a_best_epoch() -> None:
    state = TrainState("exp", CPU)
    state.add(torch.tensor(1.0), *batch(0, 1))
    state.end_epoch({}, score=0.0, weights={"w": torch.ones(1)})
    assert state.best_weights is not None


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stays_visible_in_the_sum(bad: float) -> None:
    state = TrainState("exp", CPU)
    for loss in (1.0, bad, 1.0):
        state.add(torch.tensor(loss), *batch(1, 0))
    with pytest.raises(TrainingError, match="step 3, in epoch 1"):
        state.check_finite()


def test_a_state_comes_back_from_its_state_dict() -> None:
    history = [{"epoch": float(epoch)} for epoch in (1, 2, 3)]
    state = TrainState("exp2", CPU, epoch=3, step=4, steps_done=34, history=history, best_epoch=2, best_score=0.5)
    state.add(torch.tensor(1.0), *batch(1, 1))
    assert not any(name.startswith("_") for name in state.state_dict())
    again = TrainState("other", CPU)
    again.load_state_dict(state.state_dict())
    assert again.state_dict() == state.state_dict()


def test_the_best_weights_of_a_resumed_run_are_where_an_epoch_leaves_them() -> None:
    state = TrainState("exp", CPU)
    state.add(torch.tensor(1.0), *batch(1, 1))
    state.end_epoch({}, score=0.5, weights={"w": torch.ones(2)})
    resumed = TrainState("exp", torch.device("meta"))
    resumed.load_state_dict(state.state_dict())
    assert resumed.best_weights is not None
    assert resumed.best_weights["w"].device == resumed.device


def test_a_state_of_an_earlier_version_gives_the_accuracy_of_its_matrix() -> None:
    state = TrainState("exp", CPU)
    state.add(torch.tensor(1.0), *batch(3, 1))
    stored = {name: value for name, value in state.state_dict().items() if name not in ("hits", "images")}
    again = TrainState("other", CPU)
    again.load_state_dict(stored | {"matrix": torch.tensor([[2, 1], [0, 1]])})
    assert again.state_dict() == state.state_dict()
    again.load_state_dict(stored | {"matrix": None, "loss_sum": None})  # between two epochs
    assert (again.hits, again.images) == (None, 0)


@pytest.mark.parametrize(("right", "images"), [(1, 3), (16_777_217, 33_554_435), (5, 7)])
def test_the_accuracy_has_the_bits_of_earlier_versions(right: int, images: int) -> None:
    state = TrainState("exp", CPU, loss_sum=torch.tensor(1.0), hits=torch.tensor(right), images=images, step=1)
    state.end_epoch({}, score=0.0, weights={})
    assert state.history[0]["train_accuracy"] == float(torch.tensor(right) / torch.tensor(images))


def test_a_step_reads_nothing_back_from_the_device() -> None:
    state, labels = TrainState("exp", CPU), torch.empty(7, dtype=torch.int64, device="meta")  # it has no values to read
    state.add(torch.tensor(1.0), labels, labels)
    assert state.images == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("run_name", value) for value in ("../../evil", "/evil", "..", ".ssh", "", "a\0b", 3)),
        *(("epoch", value) for value in (-1, 1.5, "1", True, 4)),
        ("history", [{"epoch": 1}]),
        ("history", ["a", "b", "c"]),
        ("history", None),
        ("best_epoch", 4),
        ("best_score", "high"),
        ("best_weights", {"w": 1}),
        ("best_weights", ["w"]),
        ("loss_sum", torch.zeros(3)),
        ("hits", 5),
    ],
)
def test_a_state_that_no_run_has_is_rejected(name: str, value: object) -> None:
    history = [{"epoch": float(epoch)} for epoch in (1, 2, 3)]
    state = TrainState("exp", CPU, epoch=3, steps_done=9, best_epoch=1, history=history)
    stored = state.state_dict()
    TrainState("other", CPU).load_state_dict(stored)
    with pytest.raises((ValueError, AttributeError), match=f"{name}|history|values"):
        TrainState("other", CPU).load_state_dict(stored | {name: value})


def test_a_state_that_lacks_a_part_is_rejected() -> None:
    stored = TrainState("exp", CPU).state_dict()
    for name in stored.keys() - {"best_thresholds"}:  # 0.1.0 had none
        with pytest.raises(KeyError, match=name):
            TrainState("other", CPU).load_state_dict({key: stored[key] for key in stored if key != name})
