"""A step is the same as in plain torch, and is a function of seed, epoch and step."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from data.loader import Batch, generator
from data.mixing import Mixer
from labelling.labelling import labelling_of
from labels import LabelScheme
from model import TinyModel
from optimization import get_lr
from runtime.errors import ConfigError, ModelError, TrainingError
from support.trainers import CPU, PLAIN, Faces, first_batch, trainer_of, without_dropout
from training.build import build_trainer
from training.inputs import Data, read_data


def test_a_step_is_that_of_plain_torch(data: Data) -> None:
    trainer, twin = (without_dropout(trainer_of(data)) for _ in range(2))
    batch = first_batch(data)
    loss, predicted = trainer.step(batch, epoch=0, steps_done=0)

    optimizer = torch.optim.SGD(twin.model.parameters(), lr=0.1, momentum=0.9)
    logits = twin.model.train()(twin.augmentation.normalize(batch.pixels))
    expected = nn.functional.cross_entropy(logits, batch.labels)
    expected.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    torch.testing.assert_close(loss, expected.detach())
    assert torch.equal(predicted, logits.argmax(1))
    for mine, theirs in zip(trainer.model.parameters(), twin.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(
    ("criterion", "class_weights"),
    [
        ("cross_entropy", "none"),
        ("cross_entropy", "balanced"),
        ("focal", "balanced"),
        ("label_smoothing", "none"),
        ("label_smoothing", "balanced"),
    ],
)
def test_parts_give_the_gradient_of_the_whole_batch(faces: Faces, criterion: str, class_weights: str) -> None:
    config = replace(PLAIN, class_weights=class_weights)
    data = read_data(faces(18), config, CPU)  # enough for every class to be in both parts
    changes: dict[str, Any] = {"model": "BaseModel", "criterion": criterion}
    whole, parts = (without_dropout(trainer_of(data, parts=count, **changes)) for count in (1, 4))
    losses = [float(trainer.step(first_batch(data), epoch=0, steps_done=0)[0]) for trainer in (whole, parts)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for mine, theirs in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_each_part_is_mixed_within_itself_by_draws_of_its_own(faces: Faces, class_weights: str) -> None:
    data = read_data(faces(18), replace(PLAIN, class_weights=class_weights), CPU)
    trainer, twin = (without_dropout(trainer_of(data, parts=3, mixup=0.5, momentum=0.0)) for _ in range(2))
    batch = first_batch(data)
    loss, predicted = trainer.step(batch, epoch=0, steps_done=0)

    weight = torch.ones(18) if data.class_weights is None else data.class_weights
    model, losses, outputs, statistics = twin.model.train(), [], [], []
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    for part, rows in enumerate(torch.arange(14).tensor_split(3)):
        draw, labels = generator(42, 0, 0, "augmentation", part), batch.labels[rows]
        images = twin.augmentation.normalize(batch.pixels[rows])
        mixing = twin.mixer.draw(images.shape, draw)
        model.load_state_dict(before, strict=False)
        outputs.append(model(twin.mixer.mix(images, mixing)))
        pairs = zip((labels, labels[mixing["permutation"]]), mixing["lam"], strict=True)
        mixed = [lam * nn.functional.cross_entropy(outputs[-1], wanted, weight) for wanted, lam in pairs]
        losses.append((mixed[0] + mixed[1]) * weight[labels].sum() / weight[batch.labels].sum())
        losses[-1].backward()
        statistics.append({name: buffer.clone() for name, buffer in model.named_buffers()})
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    torch.testing.assert_close(loss, torch.stack(losses).sum().detach())
    assert torch.equal(predicted, torch.cat(outputs).argmax(1))
    for mine, theirs in zip(trainer.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
    for name, buffer in trainer.model.named_buffers():
        torch.testing.assert_close(buffer.float(), torch.stack([found[name].float() for found in statistics]).mean(0))


def test_clipping_bounds_the_gradient(data: Data) -> None:
    trainer = trainer_of(data, clip_norm=1e-3, momentum=0.0)
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer.step(first_batch(data), epoch=0, steps_done=0)
    moved = torch.cat(
        [(b - a.detach()).flatten() for b, a in zip(before, trainer.model.parameters(), strict=True)]
    ).norm()
    assert float(moved) == pytest.approx(0.1 * 1e-3, rel=1e-2)


def test_mixed_images_have_the_labels_of_both_weighted_by_lam(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, batch = trainer_of(data, model="BaseModel"), first_batch(data)
    seen: list[tuple[list[int], float]] = []
    trainer.criterion.register_forward_hook(
        lambda _, given, loss: seen.append((given[1].tolist(), float(loss.detach())))
    )
    permutation = torch.arange(len(batch.labels)).roll(1)
    draws = {"permutation": permutation, "lam": torch.tensor((0.75, 0.25))}
    monkeypatch.setattr(Mixer, "draw", lambda *_: draws)
    loss, _ = trainer.step(batch, epoch=0, steps_done=0)
    assert [labels for labels, _ in seen] == [batch.labels.tolist(), batch.labels[permutation].tolist()]
    assert float(loss) == pytest.approx(0.75 * seen[0][1] + 0.25 * seen[1][1])


def test_each_step_has_the_learning_rate_that_the_schedule_says(data: Data) -> None:
    trainer, batch = trainer_of(data, momentum=0.0), first_batch(data)
    trainer.schedule = {0: 0.0, 1: 0.5}.__getitem__
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer.step(batch, epoch=0, steps_done=0)
    assert all(map(torch.equal, before, trainer.model.parameters()))
    trainer.step(batch, epoch=0, steps_done=1)
    assert not all(map(torch.equal, before, trainer.model.parameters()))
    assert get_lr(trainer.optimizer) == 0.05


def test_a_step_after_a_validation_is_in_training_mode(data: Data) -> None:
    trainer, modes = trainer_of(data), []
    trainer.predict(data.val_loader)
    trainer.model.register_forward_pre_hook(lambda model, _: modes.append(model.training))
    trainer.step(first_batch(data), epoch=0, steps_done=0)
    assert modes == [True]


def test_every_flag_of_the_steps_has_its_effect(data: Data) -> None:
    changes: dict[str, Any] = {
        **{"optimizer": "RMSprop", "weight_decay": 0.25, "momentum": 0.125, "precision": "bf16", "parts": 3},
        **{"schedule": "step", "warmup_epochs": 1.0, "lr_decay_step": 2, "epochs": 8, "clip_norm": 0.5},
        **{"mixup": 0.1, "cutmix": 0.2, "cutmix_shape": "strip", "ema_decay": 0.75},
    }
    trainer = trainer_of(data, **changes)
    matrices, vectors = trainer.optimizer.param_groups
    assert (matrices["weight_decay"], vectors["weight_decay"], matrices["momentum"]) == (0.25, 0.0, 0.125)
    assert trainer.dtype is torch.bfloat16
    assert [trainer.schedule(step) for step in (0, 1, 3, 4, 8)] == [0.5, 1.0, 1.0, 0.5, 0.25]
    assert trainer.mixer == Mixer(0.1, 0.2, "strip")
    assert (trainer.clip_norm, trainer.micro_batches.count) == (0.5, 3)
    assert trainer.average
    assert trainer.average.decay == 0.75


@pytest.mark.parametrize("what", ["augmentation", "dropout"])
def test_every_seed_epoch_and_step_has_draws_of_its_own(data: Data, what: str) -> None:
    batch = first_batch(data)
    changes: dict[str, Any] = (
        {"augmentation": "StrongAugmentation"} if what == "augmentation" else {"model": "BaseModel"}
    )

    def loss(seed: int, epoch: int, step: int) -> float:
        options: dict[str, Any] = {"seed": seed, **changes}
        trainer = trainer_of(data, **options)
        if what == "augmentation":
            without_dropout(trainer)
        return float(trainer.step(Batch(step, batch.pixels, batch.labels, batch.indices), epoch, 0)[0])

    losses = [loss(*at) for at in ((1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1))]
    assert len(set(losses)) == 4


def test_a_step_consumes_no_global_randomness_and_repeats_itself(data: Data) -> None:
    losses = []
    for noise in (1, 2):
        trainer = trainer_of(data, augmentation="StrongAugmentation", mixup=0.5)
        torch.manual_seed(noise)
        np.random.seed(noise)
        losses.append(float(trainer.step(first_batch(data), epoch=3, steps_done=7)[0]))
    assert losses[0] == losses[1]


def test_validating_in_between_changes_no_bit_of_later_steps(data: Data) -> None:
    states = []
    for validate in (False, True):
        trainer = trainer_of(
            data, augmentation="CustomAugmentation", mixup=0.5, ema_decay=0.9, optimizer="AdamW", lr=1e-3
        )
        for epoch in range(2):
            for batch in data.train_loader.epoch(epoch):
                trainer.step(batch, epoch, steps_done=epoch * 2 + batch.step)
                if validate:
                    trainer.predict(data.val_loader, epoch)
        states.append([*trainer.model.state_dict().values(), *trainer.evaluated.state_dict().values()])
    assert all(torch.equal(alone, validated) for alone, validated in zip(*states, strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("changes", [{}, {"mixup": 0.5, "cutmix": 0.5}, {"class_weights": "balanced"}])
def test_a_step_does_not_wait_for_the_gpu(
    faces: Faces, changes: dict[str, Any], waiting_is_an_error: Callable[[], AbstractContextManager[None]]
) -> None:
    config, gpu = replace(PLAIN, augmentation="StrongAugmentation", precision="bf16", **changes), torch.device("cuda")
    data = read_data(faces(18), config, gpu)
    weights = data.class_weights
    trainer = build_trainer(config, data.scheme, data.augmentation, gpu, steps_per_epoch=2, class_weights=weights)
    batch = first_batch(data)
    trainer.step(batch, epoch=0, steps_done=0)
    with waiting_is_an_error():
        trainer.step(batch, epoch=0, steps_done=1)


def test_the_average_is_what_is_validated(data: Data) -> None:
    trainer, plain = trainer_of(data, ema_decay=0.5), trainer_of(data)
    assert plain.evaluated is plain.model
    averages = [trainer.evaluated.state_dict()["fc.weight"].clone()]
    for steps_done in (0, 1):
        trainer.step(first_batch(data), epoch=0, steps_done=steps_done)
        averages.append(trainer.evaluated.state_dict()["fc.weight"].clone())
    assert not torch.equal(averages[0], averages[1])
    assert not torch.equal(averages[1], averages[2])
    assert not torch.equal(averages[2], trainer.model.state_dict()["fc.weight"]), (
        "the first copies, the second averages"
    )


def test_predictions_count_every_image_and_compare_with_torch(data: Data) -> None:
    trainer = trainer_of(data)
    data.val_loader.batch_size = 5
    predictions = trainer.predict(data.val_loader)
    assert len(predictions.labels) == len(data.val_names) == 14
    logits = torch.from_numpy(predictions.probabilities).log()
    expected = nn.functional.cross_entropy(logits, torch.from_numpy(predictions.labels))
    assert predictions.loss == pytest.approx(float(expected), rel=1e-4)
    assert predictions.probabilities.shape == (14, 18)


def test_a_validation_loss_that_is_not_finite_is_an_error(data: Data) -> None:
    trainer = trainer_of(data)
    with torch.no_grad():
        next(trainer.model.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match="validation loss is not finite"):
        trainer.predict(data.val_loader)


def test_the_predicted_class_is_the_most_probable_one() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], np.float32)
    assert labelling_of(LabelScheme("pets", ("cat", "dog"))).decide(probabilities).tolist() == [0, 0, 1]


def test_pretrained_weights_come_from_a_file_the_channel_or_not_at_all(data: Data, tmp_path: Path) -> None:
    source = trainer_of(data, seed=9).model
    assert isinstance(source, TinyModel)
    with torch.no_grad():
        source.fc.weight.fill_(0.5)
    torch.save(source.state_dict(), tmp_path / "TinyModel.pth")
    for pretrained, folder, expected in (
        ("auto", tmp_path, True),
        (str(tmp_path / "TinyModel.pth"), None, True),
        ("none", tmp_path, False),
    ):
        model = trainer_of(data, pretrained=pretrained, pretrained_dir=folder).model
        assert isinstance(model, TinyModel)
        assert bool((model.fc.weight == 0.5).all()) is expected
    with pytest.raises(ModelError, match="expected"):
        trainer_of(data, pretrained_dir=tmp_path / "empty")


def test_class_weights_for_a_loss_without_weights_are_rejected(faces: Faces) -> None:
    data = read_data(faces(18), replace(PLAIN, class_weights="balanced"), CPU)
    with pytest.raises(ConfigError, match="takes no class weights"):
        trainer_of(data, criterion="f1")


def test_one_image_at_a_time_is_too_few_for_batch_norm(data: Data) -> None:
    trainer, batch = trainer_of(data), first_batch(data)
    with pytest.raises(ConfigError, match="more than one image"):
        trainer.step(Batch(0, batch.pixels[:1], batch.labels[:1], batch.indices[:1]), epoch=0, steps_done=0)


@pytest.mark.parametrize("criterion", ["cross_entropy", "focal", "f1"])
def test_the_validation_loss_does_not_depend_on_the_batch_size(faces: Faces, criterion: str) -> None:
    config = replace(PLAIN, class_weights="none" if criterion == "f1" else "balanced")
    data = read_data(faces(18), config, CPU)  # enough for every class to be in both parts
    trainer, losses = trainer_of(data, criterion=criterion), []
    for size in (1, 5, 100):
        data.val_loader.batch_size = size
        losses.append(trainer.predict(data.val_loader).loss)
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
@pytest.mark.parametrize("argument", ["weight", "criterion_name"])
def test_arguments_that_are_not_for_the_command_line_are_a_sentence(
    faces: Faces, argument: str, class_weights: str
) -> None:
    data = read_data(faces(18), replace(PLAIN, class_weights=class_weights), CPU)
    with pytest.raises(ConfigError, match="--criterion-args"):
        trainer_of(data, criterion_args={argument: 3})


def test_drop_path_reaches_the_network(data: Data) -> None:
    trainer = trainer_of(data, model="efficientnet_b0", resize=(32, 32), drop_path=0.5)
    rates = [module.p for module in trainer.model.modules() if isinstance(module, StochasticDepth)]
    assert max(rates) == pytest.approx(0.5)
