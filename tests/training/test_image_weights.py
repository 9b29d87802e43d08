"""The column weight of a label table multiplies losses, divided by the weights of the whole batch."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from config import TrainConfig
from loss import ImageLoss, balanced_class_weights, create_criterion
from runtime.errors import ConfigError, DataError
from support.trainers import CPU, PLAIN, first_batch, trainer_of, without_dropout
from training.inputs import Data, read_data
from training.part_loss import whole_loss

Weighted = Callable[..., Data]
LOSSES = ("cross_entropy", "focal", "label_smoothing")


@pytest.fixture
def weighted(faces: Callable[..., Path]) -> Weighted:
    """Return a function that reads images with a label table, whose weights repeat."""
    folder = faces(9)

    def read(*weights: float, config: TrainConfig = PLAIN, **changes: Any) -> Data:
        paths = sorted(folder.rglob("*.jpg"))
        rows = [f"{path.relative_to(folder)},{path.stem}" for path in paths]
        cells = [f",{weights[index % len(weights)]}" if weights else "" for index in range(len(rows))]
        header = "path,label,weight" if weights else "path,label"
        table = "\n".join([header, *(row + cell for row, cell in zip(rows, cells, strict=True))])
        (folder / "labels.csv").write_text(table)
        return read_data(folder, replace(config, **changes), CPU)

    return read


@pytest.mark.parametrize("parts", [1, 4])
def test_a_step_is_that_of_plain_torch(weighted: Weighted, parts: int) -> None:
    data = weighted(0, 1, 2.5)
    trainer, twin = (without_dropout(trainer_of(data, model="BaseModel", parts=parts)) for _ in range(2))
    batch = first_batch(data)
    assert batch.weights is not None
    loss, _ = trainer.step(batch, epoch=0, steps_done=0)

    optimizer = torch.optim.SGD(twin.model.parameters(), lr=0.1, momentum=0.9)
    logits = twin.model.train()(twin.augmentation.normalize(batch.pixels))
    each = nn.functional.cross_entropy(logits, batch.labels, reduction="none")
    expected = (batch.weights * each).sum() / batch.weights.sum()
    expected.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    torch.testing.assert_close(loss, expected.detach())
    for mine, theirs in zip(trainer.model.parameters(), twin.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("criterion", LOSSES)
@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_parts_give_the_gradient_of_the_whole_batch(weighted: Weighted, criterion: str, class_weights: str) -> None:
    data = weighted(0, 1, 2.5, 0, class_weights=class_weights)  # some parts weigh nothing
    changes: dict[str, Any] = {"model": "BaseModel", "criterion": criterion}
    whole, parts = (without_dropout(trainer_of(data, parts=count, **changes)) for count in (1, 14))
    losses = [float(trainer.step(first_batch(data), epoch=0, steps_done=0)[0]) for trainer in (whole, parts)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for mine, theirs in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("criterion", LOSSES)
@pytest.mark.parametrize("class_weights", [None, torch.tensor((0.5, 2.0, 1.0))], ids=["plain", "class weights"])
def test_a_weight_of_two_is_the_image_twice(criterion: str, class_weights: Tensor | None) -> None:
    loss = create_criterion(criterion, weight=class_weights)
    assert isinstance(loss, ImageLoss)
    logits, labels, weights = torch.randn(5, 3), torch.tensor((0, 1, 2, 2, 1)), torch.tensor((2.0, 1.0, 0.0, 3.0, 1.0))
    times = weights.int()
    expected = loss(logits.repeat_interleave(times, 0), labels.repeat_interleave(times))
    torch.testing.assert_close(whole_loss(loss, logits, labels, weights), expected)
    torch.testing.assert_close(whole_loss(loss, logits, labels, torch.full((5,), 7.0)), loss(logits, labels))


def test_mixed_images_have_the_weights_of_both_labels(weighted: Weighted) -> None:
    data = weighted(0, 1, 2.5)
    trainer, twin = (without_dropout(trainer_of(data, model="BaseModel", mixup=0.5, momentum=0.0)) for _ in range(2))
    batch = first_batch(data)
    assert batch.weights is not None
    mixing = {"permutation": torch.arange(14).roll(3), "lam": torch.tensor((0.25, 0.75))}
    for one in (trainer, twin):
        object.__setattr__(one.mixer, "draw", lambda shape, generator: mixing)
    loss, _ = trainer.step(batch, epoch=0, steps_done=0)
    logits = twin.model.train()(twin.mixer.mix(twin.augmentation.normalize(batch.pixels), mixing))
    pairs = ((batch.labels, batch.weights, 0.25), (batch.labels.roll(3), batch.weights.roll(3), 0.75))
    each = [
        lam * weights * nn.functional.cross_entropy(logits, labels, reduction="none") for labels, weights, lam in pairs
    ]
    torch.testing.assert_close(loss, (torch.stack(each).sum() / batch.weights.sum()).detach())


def test_the_validation_loss_is_weighted_and_its_predictions_are_not(weighted: Weighted) -> None:
    data, plain = weighted(1, 5), weighted()
    trainer, twin = trainer_of(data), trainer_of(plain)
    found, expected = trainer.predict(data.val_loader), twin.predict(plain.val_loader)
    assert np.array_equal(found.probabilities, expected.probabilities)
    each = nn.functional.cross_entropy(
        torch.from_numpy(expected.probabilities).log(), torch.from_numpy(expected.labels), reduction="none"
    )
    weights = torch.from_numpy(data.val_loader.weights_of(0))
    assert found.loss == pytest.approx(float((weights * each).sum() / weights.sum()), rel=1e-4)
    assert found.loss != pytest.approx(expected.loss, rel=1e-6)


def test_a_batch_without_any_weight_has_no_loss_and_no_gradient(weighted: Weighted) -> None:
    data = weighted(1)
    trainer = trainer_of(data, momentum=0.0)
    before = [parameter.clone() for parameter in trainer.model.parameters()]
    loss, _ = trainer.step(replace(first_batch(data), weights=torch.zeros(14)), epoch=0, steps_done=0)
    assert loss == 0
    assert all(map(torch.equal, before, trainer.model.parameters()))


def test_balanced_class_weights_count_images_by_weight() -> None:
    labels, weights = np.array([0, 0, 2, 1, 0]), np.array([1.0, 0.5, 4.0, 2.0, 1.0])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels, sample_weight=weights)
    np.testing.assert_allclose(balanced_class_weights(labels, 3, weights).numpy(), expected, rtol=1e-6)


def test_weights_that_cannot_count_are_rejected(weighted: Weighted) -> None:
    with pytest.raises(
        ConfigError, match=r"--criterion f1 is no mean over images, so the column weight .* cannot count"
    ):
        weighted(1, criterion="f1")
    with pytest.raises(DataError, match="the weights of all training images are 0, expected one above 0"):
        weighted(0)
