"""One optimizer step, and one pass of predictions: the network with everything that changes it."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from augmentation import BaseAugmentation
from config import TrainConfig
from data.batch_transforms import Mixer
from data.loader import Batch, derive_seed, generator
from loss import balanced_class_weights, create_criterion
from metrics import confusion_matrix
from model import create_model, download_pretrained, load_pretrained
from optimization import ExponentialMovingAverage, create_optimizer, create_schedule, set_lr
from predictor import Predictor
from runtime.devices import select_dtype, to_device
from runtime.errors import CheckpointError, ConfigError, DataError, TrainingError
from runtime.micro_batches import MicroBatches
from training.inputs import Data


@dataclass(frozen=True)
class Predictions:
    """What a network says about labelled images: mean loss, true labels (n,), probabilities (n, classes)."""

    loss: float
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    def matrix(self) -> NDArray[np.int64]:
        """The confusion matrix (classes, classes): rows are the truth."""
        return confusion_matrix(self.labels, self.probabilities.argmax(1), self.probabilities.shape[1])


@dataclass
class Trainer:
    """A network in training; all randomness of a step is a function of (seed, epoch, step), so none of it is state."""

    model: nn.Module
    criterion: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Callable[[int], float]  # optimizer steps done so far -> share of the peak learning rate
    augmentation: BaseAugmentation
    mixer: Mixer
    average: ExponentialMovingAverage | None
    device: torch.device
    dtype: torch.dtype | None  # of autocast; None is float32 throughout
    seed: int
    peak_lr: float
    clip_norm: float = 0.0
    parts: int = 1  # micro-batches of a batch

    def __post_init__(self) -> None:
        self.scaler = GradScaler(self.device.type, enabled=self.dtype is torch.float16)
        self.micro_batches = MicroBatches(self.parts)
        self.predictor = Predictor(self.evaluated, self.augmentation.preparation, self.device, self.dtype)

    @property
    def evaluated(self) -> nn.Module:
        """The network to validate and publish: the moving average where one is kept."""
        return self.average.module if self.average else self.model

    def step(self, batch: Batch, epoch: int, steps_done: int) -> tuple[Tensor, Tensor]:
        """Learn from one batch; returns the loss () and the predicted classes (batch,), both on the device."""
        set_lr(self.optimizer, self.peak_lr * self.schedule(steps_done))
        draw = generator(self.seed, epoch, batch.step, "augmentation")
        images = self.augmentation.augment(batch.pixels, draw)  # (batch, 3, height, width)
        images, partners, share = self.mixer(images, draw)
        seed = derive_seed(self.seed, epoch, batch.step, "dropout")

        loss, predicted = self.micro_batches.run(
            lambda count: self._gradients(images, batch.labels, partners, share, seed, count), len(images)
        )
        self._update()
        return loss, predicted

    def _gradients(
        self, images: Tensor, labels: Tensor, partners: Tensor, share: float, seed: int, parts: int
    ) -> tuple[Tensor, Tensor]:
        """Add up the gradients of a batch that is learnt from in so many parts; returns its loss and predictions."""
        torch.manual_seed(seed)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        predicted = []
        for part in torch.arange(len(images), device=self.device).chunk(parts):
            logits = self._forward(images[part])
            loss = self._loss(logits, labels, part)
            if share < 1:  # against two labels each, as images were mixed
                loss = share * loss + (1 - share) * self._loss(logits, labels[partners], part)
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            predicted.append(logits.detach().argmax(1))
        return total, torch.cat(predicted)

    def _loss(self, logits: Tensor, labels: Tensor, part: Tensor) -> Tensor:
        """What the rows `part` of a batch add to its mean loss (), from their logits and the labels of all (batch,).

        Where the mean divides by the classes' weights, a part counts as much as the weights in it. The F1 loss alone is
        no mean over images: there it is the mean of the parts.
        """
        weight = getattr(self.criterion, "weight", None)  # (classes,)
        counts = torch.ones_like(labels, dtype=torch.float32) if weight is None else weight[labels]
        loss: Tensor = self.criterion(logits, labels[part]) * (counts[part].sum() / counts.sum())
        return loss

    def _forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) in float32."""
        try:
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
                logits: Tensor = self.model(images).float()
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ConfigError(
                "batch norm needs more than one image at a time; raise --batch-size or lower --parts"
            ) from None
        return logits

    def _update(self) -> None:
        if self.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.update(self.model)

    @torch.inference_mode()
    def predict(self, batches: Iterable[Batch]) -> Predictions:
        """Predict every image once, not changed at random; raises TrainingError if the loss is not finite."""
        outputs, labels = [], []
        for batch in batches:
            outputs.append(self.predictor.logits(batch.pixels))
            labels.append(batch.labels)
        logits, truth = torch.cat(outputs), torch.cat(labels)
        loss = float(self.criterion(logits, truth))  # over all at once: a mean of batches is another number for some
        if not math.isfinite(loss):
            raise TrainingError("the validation loss is not finite; lower --lr, or train with --precision fp32")
        return Predictions(loss, truth.cpu().numpy(), logits.softmax(1).cpu().numpy())

    def state_dict(self) -> dict[str, Any]:
        """All that later steps depend on; the tensors are the live ones, not copies."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "optimizer_name": type(self.optimizer).__name__,
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "parts": {"training": self.micro_batches.count, "validation": self.predictor.micro_batches.count},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the state of a run, perhaps one with other settings (`--resume force`): those of this one hold.

        What has no state in the other run starts anew. Raises CheckpointError if its network is another.
        """
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError:
            raise CheckpointError(
                "the checkpoint holds another network; give its --model and --head, or pass --resume never"
            ) from None
        ours, theirs = self.optimizer.state_dict()["param_groups"], state["optimizer"]["param_groups"]
        momenta = [bool(groups[0].get("momentum")) for groups in (ours, theirs)]  # without, there is no buffer for it
        if state["optimizer_name"] == type(self.optimizer).__name__ and momenta[0] == momenta[1]:
            # The rate of the last step is not a setting: an epoch whose steps are all done is still to be written down.
            taken = [{name: group[name] for name in ("params", "lr")} for group in theirs]
            groups = [group | other for group, other in zip(ours, taken, strict=True)]
            self.optimizer.load_state_dict({**state["optimizer"], "param_groups": groups})
        if state["scaler"]:  # empty where the other run had no need of one
            self.scaler.load_state_dict(state["scaler"])
        if self.average and state["average"]:
            self.average.load_state_dict(state["average"])
        elif self.average:
            self.average.start_from(self.model)
        for name, ours in (("training", self.micro_batches), ("validation", self.predictor.micro_batches)):
            ours.count = max(state["parts"][name], ours.count)  # fewer micro-batches would sum to other bits


def build_trainer(
    args: TrainConfig, data: Data, device: torch.device, steps_per_epoch: int, pretrained_dir: Path | None = None
) -> Trainer:
    """Put together what the configuration names: network, loss, optimizer, schedule, mixing, average."""
    scheme = data.dataset.scheme
    model = create_model(args.model, scheme, head=args.head, size=args.resize)
    start_from_pretrained(model, args, pretrained_dir)
    model = to_device(model, device)
    return Trainer(
        model=model,
        criterion=_criterion(args, data).to(device),
        optimizer=create_optimizer(
            args.optimizer, model, lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay
        ),
        schedule=create_schedule(
            args.schedule,
            steps_per_epoch=steps_per_epoch,
            epochs=args.epochs,
            lr_decay_step=args.lr_decay_step,
            warmup_epochs=args.warmup_epochs,
        ),
        augmentation=data.augmentation,
        mixer=Mixer(args.mixup, args.cutmix, args.cutmix_shape),
        average=ExponentialMovingAverage(model, args.ema_decay) if args.ema_decay else None,
        device=device,
        dtype=select_dtype(args.precision, device),
        seed=args.seed,
        peak_lr=args.lr,
        clip_norm=args.clip_norm,
        parts=args.parts,
    )


def _criterion(args: TrainConfig, data: Data) -> nn.Module:
    plain = create_criterion(args.criterion, **args.criterion_args)
    if args.class_weights == "none":
        return plain
    labels = data.dataset.samples.labels
    weights = balanced_class_weights(labels[data.indices["train"]], data.dataset.num_classes)
    weighted = create_criterion(args.criterion, weight=weights, **args.criterion_args)
    if not weights[labels[data.indices["val"]]].any():
        raise DataError(
            "--class-weights balanced: no validation image is of a class that is trained on, so all weigh nothing; "
            "pass --class-weights none, or give images of more people"
        )
    return weighted


def start_from_pretrained(model: nn.Module, args: TrainConfig, pretrained_dir: Path | None) -> None:
    """Apply `--pretrained`: the channel where there is one, a file, a download if it is asked for, or nothing."""
    if args.pretrained == "none" or (args.pretrained == "auto" and pretrained_dir is None):
        return
    if args.pretrained == "download":
        loaded = download_pretrained(model, args.model)
    else:
        source = pretrained_dir if args.pretrained == "auto" and pretrained_dir else Path(args.pretrained)
        loaded = load_pretrained(model, source, args.model)
    print(f"pretrained: {loaded}", flush=True)
