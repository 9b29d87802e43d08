"""Train an image classifier.

    SM_CHANNEL_TRAIN=data/train SM_MODEL_DIR=model python code/train.py --epochs 30 --model resnet18

In: a folder of images, one folder per person. Out: `model.safetensors` and `model.json` in SM_MODEL_DIR; the
settings, the split, metrics.jsonl, TensorBoard events and a report in SM_OUTPUT_DATA_DIR/exp; checkpoints in
SM_CHECKPOINT_DIR. Everything random is a function of the seed and of where training stands, so a run that was stopped
and goes on from its checkpoint ends as one that was not.
"""

import json
import os
import random
import sys
import time
from dataclasses import asdict
from pathlib import Path

from config import TrainConfig, TrainPaths
from runtime.arguments import parse
from runtime.failure import guard
from runtime.files import check_writable, replacing
from runtime.process import Stopped, StopRequest, limit_openmp_spinning

if __name__ == "__main__":  # a mistyped flag and --help are answered before the seconds that importing torch takes
    guard(lambda: parse("train.py", sys.argv[1:], os.environ, TrainPaths, TrainConfig))
    limit_openmp_spinning()

import numpy as np
import torch

from data.loader import Loader
from metrics import device_confusion_matrix, log_name, scores
from model import load_state
from model_files import Description, publish
from optimization import get_lr
from report.write import grid_image, write_report
from runtime.devices import configure_process, runtime_versions, select_device, use_deterministic_kernels
from training.checkpoint import Checkpoints
from training.inputs import Data, read_data
from training.state import TrainState
from training.tracking import Tracker, increment_path, progress
from training.trainer import Predictions, Trainer, build_trainer

__all__ = ["get_lr", "grid_image", "increment_path", "main", "seed_everything", "train"]


def main() -> None:
    """The command: flags and SM_* variables in, a published model out."""
    paths, config = parse("train.py", sys.argv[1:], os.environ, TrainPaths, TrainConfig)
    train(
        paths.data_dir,
        paths.model_dir,
        config,
        output_dir=paths.output_dir,
        checkpoint_dir=paths.checkpoint_dir,
        pretrained_dir=paths.pretrained_dir,
        store_dir=paths.store_dir,
        stop=StopRequest(),
    )


def train(
    data_dir: str | Path,
    model_dir: str | Path,
    args: TrainConfig,
    *,
    output_dir: str | Path = "./output",
    checkpoint_dir: str | Path | None = None,
    pretrained_dir: str | Path | None = None,
    store_dir: str | Path | None = None,
    stop: StopRequest | None = None,
) -> dict[str, float]:
    """Train on the images in `data_dir`, publish the best model in `model_dir`, return its validation scores.

    `stop` listens to signals from the first step on; before that there is nothing to save, and they end the process.
    Raises a JobError, with nothing half-written, for whatever the user can mend.
    """
    check_writable(Path(model_dir))
    configure_process()
    seed_everything(args.seed, args.deterministic)
    device = select_device(args.device)

    # the data: one table, split by person; every image prepared once, while the first epoch trains already
    data = read_data(Path(data_dir), args, Path(store_dir) if store_dir else None)
    train_loader, val_loader = data.loaders(args, device)

    # the network, or where it stood when the last run ended
    trainer = build_trainer(args, data, device, len(train_loader), Path(pretrained_dir) if pretrained_dir else None)
    run_dir = increment_path(Path(output_dir) / args.name)
    checkpoints = Checkpoints(
        Path(checkpoint_dir or run_dir / "checkpoints"),
        data.fingerprint(args),
        runtime_versions(device),
        every_seconds=args.checkpoint_seconds,
        every_steps=args.checkpoint_steps,
    )
    state = TrainState(run_dir.name)
    if (saved := checkpoints.load(args.resume)) is not None:
        state = TrainState.load_state_dict(saved["position"], device)
        trainer.load_state_dict(saved["learner"])
        run_dir = Path(output_dir) / state.run_name
        print(f"resumed at epoch {state.epoch + 1}, after {state.steps_done} steps", flush=True)
    run = Run(args, data, trainer, state, checkpoints, Tracker(run_dir))
    run.begin()

    # the epochs; from here on a signal saves first
    if stop:
        stop.listen()
    run.train(train_loader, val_loader, stop or StopRequest())

    # the best of them; a stopped run has seconds left, so its report is written when it is resumed
    run.publish(Path(model_dir))
    if run.is_finished:
        run.report(val_loader, run_dir / "report")
    return run.best_scores()


def seed_everything(seed: int, deterministic: bool = True) -> None:
    """Seed torch, numpy and random, and choose between the same bits every time and the fastest kernels."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    use_deterministic_kernels(deterministic)


class Run:
    """Training between two points of time: what an epoch does, what its end does, and what is left at the very end."""

    def __init__(
        self,
        args: TrainConfig,
        data: Data,
        trainer: Trainer,
        state: TrainState,
        checkpoints: Checkpoints,
        tracker: Tracker,
    ) -> None:
        self.args, self.data, self.trainer, self.state = args, data, trainer, state
        self.checkpoints, self.tracker = checkpoints, tracker

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are done, or the last `--patience` of them brought nothing better."""
        patience = self.args.patience
        return self.state.epoch >= self.args.epochs or 0 < patience <= self.state.epochs_since_best

    def begin(self) -> None:
        """Commit the first checkpoint, then write what the run folder says from its beginning.

        In this order, so that the folder's name stays that of this run, whenever it is killed and started again.
        """
        self.save()
        self.checkpoints.wait()
        folder = self.tracker.folder
        with replacing(folder / "config.json") as file:
            file.write(json.dumps(asdict(self.args), indent=2) + "\n")
        self.data.write_split(folder / "split.csv")
        self.tracker.write_history(self.state.history)  # a resumed run may have no epoch left, on another machine

    def train(self, train_loader: Loader, val_loader: Loader, stop: StopRequest) -> None:
        """Train to the end, or until a stop is requested; either way everything is committed then."""
        with self.tracker:
            try:
                while not self.is_finished:
                    self.train_epoch(train_loader, stop)
                    self.end_epoch(val_loader, stop)
            except Stopped:
                self.save()
            self.checkpoints.wait()

    def train_epoch(self, loader: Loader, stop: StopRequest) -> None:
        """Take the steps of this epoch that are still to be taken; raises Stopped between two of them."""
        state, trainer, started, first = self.state, self.trainer, time.monotonic(), self.state.step
        batches = progress(loader.epoch(state.epoch, first), len(loader), f"epoch {state.epoch + 1}", first)
        for batch in stop.watch(batches):
            loss, predicted = trainer.step(batch, state.epoch, state.steps_done)
            state.check_finite()  # of the steps before, so that a GPU has this one to work on meanwhile
            state.add(loss, device_confusion_matrix(batch.labels, predicted, self.data.dataset.num_classes))
            if state.steps_done % self.args.log_interval == 0:
                accuracy = float((batch.labels == predicted).float().mean())
                values = {"loss": float(loss), "accuracy": accuracy, "learning_rate": get_lr(trainer.optimizer)}
                self.tracker.step(state.steps_done, values)
            if self.checkpoints.is_due(state.steps_done):
                self.save()
        taken = min((len(loader) - first) * loader.batch_size, loader.samples_per_epoch)
        self.images_per_second = taken / (time.monotonic() - started)

    def end_epoch(self, loader: Loader, stop: StopRequest) -> None:
        """Validate, write it down, keep the network if it is the best so far, and save.

        Raises Stopped while it validates, which begins anew when the run is resumed: nothing has changed yet.
        """
        state, started = self.state, time.monotonic()
        state.check_finite()
        predictions = self.trainer.predict(stop.watch(loader.epoch(state.epoch)))
        found = scores(predictions.matrix(), self.data.dataset.scheme)
        found = {log_name(name): value for name, value in found.items()}
        state.end_epoch(
            {"learning_rate": get_lr(self.trainer.optimizer), "val_loss": predictions.loss}
            | {f"val_{name}": value for name, value in found.items()},
            score=found[self.args.metric],
            weights=self.trainer.evaluated.state_dict(),
        )
        speed = {"images_per_second": self.images_per_second, "validation_seconds": time.monotonic() - started}
        self.tracker.epoch(state.history, speed)
        self._show_images(predictions, loader)
        self.save()

    def save(self) -> None:
        """Save a checkpoint of everything that later steps, and the files left at the end, depend on."""
        self.state.check_finite()
        saved = {"position": self.state.state_dict(), "learner": self.trainer.state_dict()}
        self.checkpoints.save(self.state.steps_done, self.state.epoch, saved)

    def best_scores(self) -> dict[str, float]:
        """The validation scores of the best epoch; empty before the first epoch ended."""
        best = next((row for row in self.state.history if row["epoch"] == self.state.best_epoch), {})
        return {name.removeprefix("val_"): value for name, value in best.items() if name.startswith("val_")}

    def publish(self, model_dir: Path) -> None:
        """Publish the best network so far; before the first epoch ended, the network as it is."""
        state, args = self.state, self.args
        if state.best_weights is not None:
            load_state(self.trainer.evaluated, state.best_weights)
        description = Description(
            args.model,
            args.head,
            self.data.dataset.scheme,
            self.data.augmentation.preparation,
            self.best_scores(),
            asdict(args),
        )
        publish(model_dir, self.trainer.evaluated.state_dict(), description)
        done = "finished" if self.is_finished else "stopped, and can be resumed"
        print(f"{done}: best epoch {state.best_epoch} of {state.epoch}; model: {model_dir}", flush=True)

    def report(self, loader: Loader, folder: Path) -> None:
        """Write the report about the published network's validation answers."""
        dataset = self.data.dataset
        predictions = self.trainer.predict(loader.epoch(0))
        page = write_report(
            folder,
            title=f"{self.state.run_name}: {self.args.model}",
            scheme=dataset.scheme,
            history=self.state.history,
            labels=predictions.labels,
            probabilities=predictions.probabilities,
            names=[str(dataset.samples.table["path"].iat[row]) for row in loader.indices],
            pixels=lambda index: self.data.store.pixels[loader.indices[index]],
            settings=asdict(self.args),
        )
        print(f"report: {page}", flush=True)

    def _show_images(self, predictions: Predictions, loader: Loader) -> None:
        """Put the original's grid of validation images into TensorBoard, as many as make a grid."""
        indices = loader.indices[:16]
        guesses = predictions.probabilities[: len(indices)].argmax(1)
        figure = grid_image(
            self.data.store.pixels[indices], predictions.labels[: len(indices)], guesses, self.data.dataset.scheme
        )
        self.tracker.figure("results", figure, self.state.epoch)


if __name__ == "__main__":
    guard(main)
