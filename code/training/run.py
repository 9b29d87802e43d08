"""The epochs of a run: what an epoch does, what its end does, and what is saved in between."""

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import torch

from config import TrainConfig
from data.image_store import ImageStore
from data.loader import Loader
from labelling.labelling import Labelling, labelling_of
from labels import LabelScheme
from metrics import log_name
from optimization import get_lr
from runtime.errors import CheckpointError
from runtime.files import replacing
from training.checkpoint import Checkpoints
from training.inputs import SplitRow, write_split
from training.state import TrainState, are_right
from training.tracking import LateCurves, Tracker, progress
from training.trainer import Predictions, Trainer


class Run:
    """A trainer with its progress, and where both are saved and logged."""

    def __init__(
        self,
        args: TrainConfig,
        scheme: LabelScheme,
        trainer: Trainer,
        state: TrainState,
        checkpoints: Checkpoints | None,
        tracker: Tracker,
        store: ImageStore,
    ) -> None:
        """Only the first worker has `checkpoints`; all others compute the same, and save nothing."""
        self.args, self.scheme, self.trainer, self.state = args, scheme, trainer, state
        self.checkpoints, self.tracker, self.store = checkpoints, tracker, store
        self.workers, self.labelling = trainer.workers, labelling_of(scheme)
        # with --resume force, --metric may be another one than that of the run so far
        state.best_score = state.best_row.get(f"val_{args.metric}", state.best_score)
        if checkpoints:
            self.workers.control.wants_save = lambda: checkpoints.is_due(state.steps_done + 1)
        self.images_per_second = 0.0  # of the last epoch

    @property
    def is_finished(self) -> bool:
        """Return True once all epochs are complete, or the last `--patience` of them brought no better score."""
        patience = self.args.patience
        return self.state.epoch >= self.args.epochs or 0 < patience <= self.state.epochs_since_best

    @property
    def best_labelling(self) -> Labelling:
        """Return how the network of the selected epoch labels images: several labels with its thresholds."""
        return labelling_of(self.scheme, self.state.best_thresholds)

    @property
    def best_scores(self) -> dict[str, float]:
        """Return the validation scores of the selected epoch; empty before the first epoch is complete."""
        best = self.state.best_row
        return {name.removeprefix("val_"): value for name, value in best.items() if name.startswith("val_")}

    def begin(self, split: list[SplitRow]) -> None:
        """Commit the first checkpoint, then write the options, the split and the history so far into the run folder.

        In this order: the checkpoint holds the name of the folder, so a run that is killed here resumes into it.
        Raises CheckpointError if the network to publish is gone, before anything is written.
        """
        self._require_selected()
        self.save()
        self.wait()
        if not self.workers.is_first:
            return
        with replacing(self.tracker.folder / "config.json") as file:
            file.write(json.dumps(asdict(self.args), indent=2) + "\n")
        write_split(self.tracker.folder / "split.csv", split)
        self.tracker.write_history(self.state.history)  # a complete run that is resumed elsewhere has no epoch left

    def _require_selected(self) -> None:
        """Raise CheckpointError if --resume force selects the last epoch of a run that has kept another as its best."""
        state = self.state
        if self.is_finished and self.args.select == "last" and state.best_epoch != state.epoch:
            raise CheckpointError(
                f"--select: last, but the run to resume has kept the network of epoch {state.best_epoch}, the best of "
                f"{state.epoch}, and has no epoch left; raise --epochs above {state.epoch}, or pass --select best"
            )

    def train_epoch(self, loader: Loader) -> None:
        """Take the remaining steps of the epoch; raises Stopped between two of them."""
        state, trainer, started, first = self.state, self.trainer, time.monotonic(), self.state.step
        curves = LateCurves(self.tracker.step)
        batches = progress(loader.epoch(state.epoch, first), len(loader), f"epoch {state.epoch + 1}", first)
        with contextlib.closing(curves):
            for batch in self.workers.watch(batches):
                loss, predicted = trainer.step(batch, state.epoch, state.steps_done)
                state.check_finite()  # of the steps before: a GPU computes this step meanwhile
                curves.write()
                state.add(loss, batch.labels, predicted)
                if state.steps_done % self.args.log_interval == 0:
                    accuracy = are_right(batch.labels, predicted).float().mean()
                    curves.add(state.steps_done, loss, accuracy, get_lr(trainer.optimizer))
                if self._is_due():
                    self.save()
        taken = min((len(loader) - first) * loader.batch_size, loader.samples_per_epoch)
        self.images_per_second = taken / (time.monotonic() - started)

    def _is_due(self) -> bool:
        """Return whether a checkpoint is due after the last step; with several workers they have agreed on it."""
        if self.checkpoints and self.workers.size == 1:
            return self.checkpoints.is_due(self.state.steps_done)
        return self.workers.control.save

    def end_epoch(self, loader: Loader) -> Predictions:
        """Validate, log the scores, keep the network if it is selected, and save; returns the predictions.

        Raises Stopped between two batches of validation, which then starts over when the run is resumed, and
        TrainingError if the workers do not have the same weights.
        """
        state, started = self.state, time.monotonic()
        state.check_finite()
        self.workers.require_same_weights(self.trainer.checksum() if self.workers.size > 1 else 0)
        predictions = self.trainer.predict(loader, state.epoch)
        thresholds = self.labelling.thresholds_of(predictions.labels, predictions.probabilities)
        validation = self._validation_row(predictions, labelling_of(self.scheme, thresholds))
        state.end_epoch(
            {"learning_rate": get_lr(self.trainer.optimizer), **validation},
            score=validation[f"val_{self.args.metric}"],
            weights=self.trainer.evaluated.state_dict(),
            thresholds=thresholds,
            select=self.args.select,
        )
        speed = {"images_per_second": self.images_per_second, "validation_seconds": time.monotonic() - started}
        self.tracker.epoch(state.history, speed)
        self.save()
        return predictions

    def compare_images(self) -> None:
        """Wait until all images are decoded and compared with those of the checkpoint that the run was resumed from.

        A run that trains at least one epoch has done so. Raises CheckpointError for an image that has changed,
        DataError for one that cannot be used, and Stopped.
        """
        for indices in self.workers.watch(np.array_split(np.arange(len(self.store.paths)), 100)):
            self.workers.agree(0)
            self.store.wait(indices)
        self.store.wait()

    def save(self) -> None:
        """Save a checkpoint of everything that later steps and the published files depend on.

        Raises CheckpointError if an image has changed since the checkpoint that the run was resumed from.
        """
        self.state.check_finite()
        self.store.digests.check()
        if not self.checkpoints:
            return
        digests = torch.from_numpy(self.store.digests.to_save())
        saved = {"state": self.state.state_dict(), "trainer": self.trainer.state_dict(), "digests": digests}
        self.checkpoints.save(self.state.steps_done, self.state.epoch, saved)

    def wait(self) -> None:
        """Wait until everything saved is committed."""
        if self.checkpoints:
            self.checkpoints.wait()

    def _validation_row(self, predictions: Predictions, labelling: Labelling) -> Mapping[str, float]:
        """Return the loss and the scores under their names in the history and the log: val_loss, val_f1, ..."""
        found = labelling.scores(predictions.labels, predictions.probabilities)
        return {"val_loss": predictions.loss} | {f"val_{log_name(name)}": value for name, value in found.items()}
