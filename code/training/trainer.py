"""The network in training: one optimizer step, the predictions to validate with, and the state of both.

The rules of a step, so that the host runs ahead of a GPU, and the step can be captured as a CUDA graph one day:

1. The host reads nothing that the GPU computes. Losses are read by HostCopy, after the next step is queued. Only fp16
   with an optimizer that has no fused form waits, in GradScaler: torch skips a step that overflows on the host.
2. All that is random is drawn on the CPU before the step, and reaches the device in one copy. On the host stay two
   seeds, of dropout and of noise, and whether a batch is mixed by mixup or by CutMix.
3. Shapes depend on the options and the size of the batch, never on what was drawn: boxes are masks, not slices.
4. A copy to or from the device is pinned, and nothing waits for it.
5. Of the host's numbers the learning rate, the decay of the moving average and the steps that some optimizers count
   change from step to step. `set_lr` also sets a learning rate that is a tensor.
6. What a step changes it changes once, even if memory runs out on the way (training/once.py).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from augmentation import BaseAugmentation
from data.batch_draws import Draws
from data.loader import Batch, Loader, derive_seed, generator
from data.mixing import Mixer
from labelling.outputs import ONE_LABEL, Outputs
from optimization import ExponentialMovingAverage, set_lr
from predictor import Predictor
from runtime.errors import CheckpointError, ConfigError, DeviceError, TrainingError
from runtime.memory import Release, nothing_to_release
from runtime.micro_batches import MicroBatches
from training.checksum import checksum
from training.freezing import Freezing
from training.once import RunningStatistics, step_once
from training.optimizer_state import load_optimizer
from training.ordered_sum import share
from training.part_loss import part_loss, whole_loss
from training.part_sum import PartSum
from training.turns import predict_in_turns
from training.workers import Workers


@dataclass(frozen=True)
class Predictions:
    """Predictions for images: mean loss, labels as in the loader, probabilities and logits (images, classes)."""

    loss: float
    labels: NDArray[Any]
    probabilities: NDArray[np.float32]  # not calibrated
    logits: NDArray[np.float32]


@dataclass
class Trainer:
    """A network with everything that changes it.

    All randomness of a part of a step is a function of (seed, epoch, step, part), so no generator has a state to save.
    """

    model: nn.Module
    criterion: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Callable[[int], float]  # optimizer steps done -> factor of the peak learning rate
    augmentation: BaseAugmentation
    mixer: Mixer
    freezing: Freezing
    average: ExponentialMovingAverage | None
    device: torch.device
    dtype: torch.dtype | None  # of autocast; None means float32 throughout
    seed: int
    peak_lr: float
    clip_norm: float = 0.0  # 0 means no clipping
    parts: int = 1  # that a batch is cut into, at least
    release: Release = nothing_to_release  # gives back memory of the device, before batches are cut further
    workers: Workers = field(default_factory=Workers)
    outputs: Outputs = ONE_LABEL  # what the logits mean

    def __post_init__(self) -> None:
        self.scaler = GradScaler(self.device.type, enabled=self.dtype is torch.float16)
        self.micro_batches = MicroBatches(self.parts, self.release)
        self.freezing.enter(0)
        self._find_what_changes()
        self.predictor = Predictor(self.evaluated, self.augmentation.preparation, self.device, self.dtype, self.release)

    def _find_what_changes(self) -> None:
        """Find what is not frozen: the running statistics and gradients that a step changes, on all workers alike."""
        self.statistics = RunningStatistics(self.model, self.freezing.names)
        self.part_sum = PartSum(self.model, self.statistics, self.workers)

    @property
    def evaluated(self) -> nn.Module:
        """Return the network to validate and publish: the moving average with `--ema-decay`, else the network."""
        return self.average.module if self.average else self.model

    def own_rows(self, batch_size: int) -> range:
        """Return the rows of a batch that are in the parts of this worker."""
        count = min(self.micro_batches.count, batch_size)
        own = [share(batch_size, count, part) for part in self.workers.parts(count)]
        return range(own[0].start, own[-1].stop) if own else range(0)

    def step(self, batch: Batch, epoch: int, steps_done: int) -> tuple[Tensor, Tensor]:
        """Take one optimizer step; returns the loss () and the predictions as the labels, both on the device.

        They are those of the whole batch, whichever parts of it this worker computes.
        """
        if self.freezing.enter(epoch):
            self._find_what_changes()
        set_lr(self.optimizer, self.peak_lr * self.schedule(steps_done))
        self.statistics.save()
        finish = self.micro_batches.run(
            lambda count: self._attempt(batch, epoch, count),
            len(batch.labels),
            undo=self._start_over,
            agree=self.workers.agree,
        )
        loss, predicted = finish()
        self._update()
        return loss, predicted

    def _start_over(self) -> None:
        """Undo what a failed attempt of a step has changed, and free its gradients before memory is given back."""
        self.statistics.restore()
        self.optimizer.zero_grad(set_to_none=True)

    def _attempt(self, batch: Batch, epoch: int, count: int) -> Callable[[], tuple[Tensor, Tensor]]:
        """Compute the gradients of this worker's parts, of `count` in all; returns what completes the step.

        That sets the gradients and returns the loss () and the predicted classes (batch,) of the whole batch. Each
        attempt makes the same draws.
        """
        if self.workers.size == 1 and count == 1:
            whole = self._compute(batch.pixels, batch, slice(None), (epoch, batch.step), ())
            return lambda: whole
        self.part_sum.begin(tuple(batch.labels.shape), count)
        for part in self.workers.parts(count):
            own = share(len(batch.labels), count, part)
            rows, draw = slice(own.start, own.stop), (part,) if count > 1 else ()
            self.statistics.restore()
            found = self._compute(batch.rows(own), batch, rows, (epoch, batch.step), draw)
            self.part_sum.add(part, *found, rows)
        return self._finish

    def _finish(self) -> tuple[Tensor, Tensor]:
        """Complete a step whose parts are computed."""
        self.scaler.scale(torch.zeros((), device=self.device))  # it wants to be called, also without parts
        return self.part_sum.finish()

    def _compute(
        self, pixels: Tensor, batch: Batch, rows: slice, step: tuple[int, int], part: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        """Compute the gradients of a part: the `rows` of a batch, and their pixels.

        `part` is empty if the batch has one part. Returns what the part adds to the loss (), and its predicted classes.
        """
        draws = self._draw(pixels.shape, generator(self.seed, *step, "augmentation", *part))
        torch.manual_seed(derive_seed(self.seed, *step, "dropout", *part))
        self.model.train()
        self.freezing.keep_norms()
        self.optimizer.zero_grad(set_to_none=True)
        images = self.mixer.mix(self.augmentation.augment(pixels, draws), draws.tensors)
        logits = self._forward(images)
        loss = part_loss(self.criterion, self.mixer, logits, batch, rows, draws.tensors)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach(), self.outputs.decide(logits.detach())

    def _draw(self, shape: Sequence[int], draw: torch.Generator) -> Draws:
        """Draw how images of `shape` are augmented and mixed, and start to copy that to the device."""
        augmentation = self.augmentation.draw(shape, draw)
        mixing = self.mixer.draw(shape, draw)
        return Draws({**augmentation.tensors, **mixing}, augmentation.noise_seeds).to(self.device)

    def _forward(self, images: Tensor) -> Tensor:
        """Return the logits (batch, classes), float32, of the network in training."""
        try:
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
                logits: Tensor = self.model(images).float()
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            if self.micro_batches.count > self.parts:
                raise DeviceError(
                    "the device has no memory for two images at a time, which batch norm needs; lower --batch-size or "
                    "--resize, choose a smaller --model, or use a larger device"
                ) from None
            raise ConfigError(
                f"batch norm needs more than one image at a time, got {len(images)}; raise --batch-size, lower "
                "--parts, or train on more images"
            ) from None
        return logits

    def _update(self) -> None:
        """Apply the gradients: clip them, take the optimizer's step, and update the moving average."""
        if self.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        step_once(self.scaler, self.optimizer, self.release)
        self.scaler.update()
        if self.average:
            self.average.update(self.model, self.freezing.names)

    @torch.inference_mode()
    def predict(self, loader: Loader, epoch: int = 0) -> Predictions:
        """Predict every image of an epoch once, without augmentation; the workers take turns with the batches.

        Raises Stopped between two batches if a stop is requested, and TrainingError if the loss is not finite.
        """
        self.optimizer.zero_grad(set_to_none=True)  # a run that was resumed here has no gradients
        logits = torch.cat(predict_in_turns(self.predictor, loader, epoch, self.workers)).to(self.device)
        truth = torch.from_numpy(loader.labels_of(epoch)).to(self.device)
        weights = loader.weights_of(epoch)
        found = None if weights is None else torch.from_numpy(weights).to(self.device)
        loss = float(whole_loss(self.criterion, logits, truth, found))  # of all images: some losses are no mean
        if not math.isfinite(loss):
            raise TrainingError("the validation loss is not finite; lower --lr, or train with --precision fp32")
        probabilities = self.outputs.activation(logits, 1.0)
        return Predictions(loss, truth.cpu().numpy(), probabilities.cpu().numpy(), logits.cpu().numpy())

    def checksum(self) -> int:
        """Return a number that changes with any bit of what is trained: weights, statistics, optimizer, average."""
        state = self.state_dict()
        found = [state["model"], state["optimizer"]["state"], state["average"]]
        return checksum(found, self.device)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that later steps depend on; the tensors are the live ones, not copies."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "optimizer_name": type(self.optimizer).__name__,
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "parts": {"training": self.micro_batches.count, "validation": self.predictor.micro_batches.count},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the state of a run; with `--resume force` its options may differ, and those of this run apply.

        What has no state in the other run starts from scratch. Raises CheckpointError if its network is different.
        """
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError:
            raise CheckpointError(
                "the checkpoint holds a different network; give its --model and --head, or pass --resume never"
            ) from None
        load_optimizer(self.optimizer, state["optimizer"], state["optimizer_name"])
        if state["scaler"]:  # empty if the other run did not scale its loss
            self.scaler.load_state_dict(state["scaler"])
        if self.average and state["average"]:
            self.average.load_state_dict(state["average"])
        elif self.average:
            self.average.start_from(self.model)
        for name, ours in (("training", self.micro_batches), ("validation", self.predictor.micro_batches)):
            if type(count := state["parts"][name]) is not int:
                raise ValueError("the number of micro-batches is not a number")
            ours.count = max(count, ours.count)  # fewer micro-batches have sums with other bits

    def check_weights(self, weights: Mapping[str, Tensor] | None) -> None:
        """Raise ValueError if stored weights, such as the best ones of a run, do not fit the network."""
        expected = {name: tensor.shape for name, tensor in self.evaluated.state_dict().items()}
        if weights is not None and {name: tensor.shape for name, tensor in weights.items()} != expected:
            raise ValueError("the best weights are those of another network")
