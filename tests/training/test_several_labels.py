"""A step with several labels is that of plain torch, and every option of training that accepts them trains."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from config import TrainConfig
from model_files import load
from recipes import RECIPES
from support.several_labels import planted
from support.trainers import CPU, PLAIN, first_batch, trainer_of, without_dropout
from train import train
from training.inputs import Data, read_data
from training.part_loss import whole_loss


def data_of(root: Path, *weights: float, **changes: Any) -> Data:
    """Return a data set whose images have weights, if any, that repeat."""
    planted(root, 24)
    if weights:
        header, *rows = (root / "labels.csv").read_text().splitlines()
        cells = [f"{row},{weights[index % len(weights)]}" for index, row in enumerate(rows)]
        (root / "labels.csv").write_text("\n".join([f"{header},weight", *cells]))
    return read_data(root, replace(PLAIN, **changes), CPU)


@pytest.mark.parametrize("parts", [1, 7])
@pytest.mark.parametrize("weights", [(), (0, 1, 2.5)], ids=["plain", "weighted"])
def test_a_step_is_that_of_plain_torch(tmp_path: Path, weights: tuple[float, ...], parts: int) -> None:
    data = data_of(tmp_path, *weights, class_weights="balanced")
    trainer, twin = (without_dropout(trainer_of(data, model="BaseModel", parts=parts)) for _ in range(2))
    batch = first_batch(data)
    loss, predicted = trainer.step(batch, epoch=0, steps_done=0)

    optimizer = torch.optim.SGD(twin.model.parameters(), lr=0.1, momentum=0.9)
    logits = twin.model.train()(twin.augmentation.normalize(batch.pixels))
    each = nn.functional.binary_cross_entropy_with_logits(
        logits, batch.labels.float(), pos_weight=data.class_weights, reduction="none"
    ).mean(1)
    times = torch.ones(len(each)) if batch.weights is None else batch.weights
    expected = (times * each).sum() / times.sum()
    expected.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    torch.testing.assert_close(loss, expected.detach())
    assert predicted.tolist() == (logits.sigmoid() > 0.5).int().tolist()
    for mine, theirs in zip(trainer.model.parameters(), twin.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("weights", [(), (0, 1, 2.5)], ids=["plain", "weighted"])
def test_mixed_images_have_the_loss_of_mixed_labels(tmp_path: Path, weights: tuple[float, ...]) -> None:
    data = data_of(tmp_path, *weights)
    trainer, twin = (without_dropout(trainer_of(data, model="BaseModel", mixup=0.5)) for _ in range(2))
    batch = first_batch(data)
    mixing = {"permutation": torch.arange(14).roll(3), "lam": torch.tensor((0.25, 0.75))}
    for one in (trainer, twin):
        object.__setattr__(one.mixer, "draw", lambda shape, generator: mixing)
    loss, _ = trainer.step(batch, epoch=0, steps_done=0)
    logits = twin.model.train()(twin.mixer.mix(twin.augmentation.normalize(batch.pixels), mixing))
    times = torch.ones(14) if batch.weights is None else batch.weights
    each = [
        lam * weight * nn.functional.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none").mean(1)
        for lam, labels, weight in ((0.25, batch.labels, times), (0.75, batch.labels.roll(3, 0), times.roll(3)))
    ]
    torch.testing.assert_close(loss, (torch.stack(each).sum() / times.sum()).detach())


def test_the_validation_loss_is_weighted_and_its_predictions_are_not(tmp_path: Path) -> None:
    data, plain = data_of(tmp_path / "weighted", 1, 5), data_of(tmp_path / "plain")
    trainer, twin = trainer_of(data), trainer_of(plain)
    found, expected = trainer.predict(data.val_loader), twin.predict(plain.val_loader)
    assert found.probabilities.tolist() == expected.probabilities.tolist()
    assert found.probabilities == pytest.approx(torch.from_numpy(expected.logits).sigmoid().numpy())
    weights = torch.from_numpy(data.val_loader.weights_of(0)).float()
    arguments = torch.from_numpy(expected.logits), torch.from_numpy(expected.labels)
    assert found.loss == pytest.approx(float(whole_loss(twin.criterion, *arguments, weights)), rel=1e-5)
    assert found.loss != pytest.approx(expected.loss, rel=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {**RECIPES["scratch"], "epochs": 1},
        {**RECIPES["finetune"], "epochs": 2, "resize": (32, 32), "freeze": "all", "freeze_epochs": 1, "patience": 1},
        {"criterion": "focal", "criterion_args": {"gamma": 1.5}, "fold": "1/3", "metric": "accuracy"},
        {"cutmix": 0.5, "mixup": 0.5, "parts": 2, "precision": "bf16", "fit": "pad"},
    ],
    ids=["scratch", "finetune", "focal", "mixed"],
)
def test_a_training_with_each_option_gives_thresholds_and_a_report(tmp_path: Path, changes: dict[str, Any]) -> None:
    planted(tmp_path / "data", 24)
    quick: dict[str, Any] = {"epochs": 1, "resize": (32, 32), "model": "TinyModel", "batch_size": 8, "val_ratio": 0.34}
    options = TrainConfig(**{**quick, "device": "cpu", "threads": 1, **changes})
    train(tmp_path / "data", tmp_path / "model", options, output_dir=tmp_path / "runs")
    assert len(load(tmp_path / "model")[1].thresholds) == 4
    assert (tmp_path / "runs/exp/report/report.html").is_file()
