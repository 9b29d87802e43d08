"""The end of a training: the published model with its temperature and thresholds, and the report about it."""

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from calibration import Fitted, UnsureThresholds, announce_thresholds, calibrate, fit_thresholds
from data.out_of_fold import PREDICTIONS_CSV, OutOfFold
from description import Description
from labelling.labelling import SeveralLabels
from labels import MULTI, SINGLE, LabelScheme
from metrics import log_line
from model_files import publish
from predictor import to_probabilities
from pretrained import replace_weights
from report.layer_cam import LayerCam
from report.several import write_several_report
from report.write import write_report
from training.checkpoint import IN_RUN_FOLDER
from training.inputs import Data
from training.run import Run
from training.straddling import describe_straddling, find_straddling
from training.trainer import Predictions
from training.unfinished import REPORT, resume_flag


@dataclass(frozen=True)
class Published:
    """The predictions of a published network for the validation images, and what was fitted on them."""

    predictions: Predictions
    probabilities: NDArray[np.float32]  # (images, classes), calibrated
    fitted: Fitted | None  # None for several labels, as is what follows
    thresholds: UnsureThresholds | None

    @property
    def metrics(self) -> dict[str, float]:
        """Return what the calibration adds to the metrics in model.json."""
        return {"expected_calibration_error": self.fitted.scaling.error_after} if self.fitted else {}


def publish_best(run: Run, data: Data, model_dir: Path) -> Published | None:
    """Publish the network of the selected epoch; before the first epoch is complete, the network as it is.

    Every worker loads it and takes part in its predictions, and the first one publishes it. A network of a run that was
    stopped is published as it is. Returns None then, and on the other workers.
    """
    state, args, model = run.state, run.args, run.trainer.evaluated
    if state.best_weights is not None:
        replace_weights(model, state.best_weights)
    predictions = run.trainer.predict(data.val_loader) if run.is_finished else None
    if not run.workers.is_first:
        return None
    published = None if predictions is None else _calibrate(predictions, data, args.min_precision)
    description = Description(
        *(args.model, args.head, data.scheme, data.augmentation.preparation),
        metrics=run.best_scores | (published.metrics if published else {}),
        settings=asdict(args),
        calibration=published.fitted.scaling if published and published.fitted else None,
        unsure_thresholds=published.thresholds if published else None,
        thresholds=tuple(state.best_thresholds),
    )
    publish(model_dir, model.state_dict(), description)
    if published:
        _announce(published, data.scheme)
    elif args.min_precision:
        print("warning: the model of a stopped run has no thresholds; resume the run to get them", file=sys.stderr)
    done = "finished" if run.is_finished else f"stopped, and can be resumed{_how_to_resume(run)}"
    print(f"{done}: {args.select} epoch {state.best_epoch} of {state.epoch}; model: {model_dir}", flush=True)
    return published


def _how_to_resume(run: Run) -> str:
    """Return what the same command needs to resume the run: nothing if it was given its checkpoint folder."""
    folder = run.checkpoints.folder if run.checkpoints else None
    if folder != run.tracker.folder / IN_RUN_FOLDER:
        return ""
    return f" by the same command with {resume_flag(folder)}"


def _calibrate(predictions: Predictions, data: Data, min_precision: float) -> Published:
    """Fit a temperature on the predictions for the validation images and, with `min_precision`, thresholds.

    Nothing is fitted to several labels, whose decision thresholds are those of the selected epoch.
    """
    if data.scheme.kind == MULTI:
        return Published(predictions, predictions.probabilities, None, None)
    people = [data.split[index][1] for index in data.val_indices.tolist()]
    fitted = calibrate(predictions.logits, predictions.labels, people)
    probabilities = to_probabilities(torch.from_numpy(predictions.logits), fitted.scaling.temperature).numpy()
    thresholds = fit_thresholds(predictions.labels, probabilities, min_precision) if min_precision else None
    return Published(predictions, probabilities, fitted, thresholds)


def _announce(published: Published, scheme: LabelScheme) -> None:
    """Print what was fitted; warn of classes whose predictions are always unsure."""
    if published.fitted is None:
        return
    scaling, thresholds = published.fitted.scaling, published.thresholds
    if published.fitted.reason:
        print(f"the temperature stays 1, because {published.fitted.reason}", flush=True)
    line = {"temperature": scaling.temperature, "val_expected_calibration_error": scaling.error_after}
    print(log_line({**line, "uncalibrated": scaling.error_before}), flush=True)
    if thresholds:
        announce_thresholds(thresholds, scaling.images, scheme.classes)


def report(run: Run, data: Data, published: Published) -> None:
    """Write the report about the published network's predictions for the validation images.

    With `--fold` also write predictions.csv, for cross-validation (of one label). Warn of validation images that are in
    training, too, with the scores without them.
    """
    predictions = published.predictions
    if run.args.fold_numbers and data.scheme.kind == SINGLE:
        folds = np.full(len(predictions.labels), run.args.fold_numbers[0])
        found = OutOfFold(data.val_names, predictions.labels, folds, published.probabilities)
        found.write(run.tracker.folder / PREDICTIONS_CSV)
    straddling = find_straddling(data.store, data.train_loader.indices, data.val_indices)
    labelling, labels, probabilities = run.best_labelling, predictions.labels, predictions.probabilities
    for sentence in describe_straddling(straddling, labels, probabilities, labelling):
        print(f"warning: {sentence}", file=sys.stderr)
    trainer = run.trainer
    cam = LayerCam(trainer.evaluated, trainer.augmentation.normalize, trainer.device, trainer.release)
    write: Callable[..., Path] = partial(
        write_report,
        scheme=data.scheme,
        explain=lambda _, pixels, classes: cam(pixels, classes),
        calibration=published.fitted,
        thresholds=published.thresholds,
    )
    if isinstance(labelling, SeveralLabels):
        write = partial(write_several_report, labelling=labelling)
    page = write(
        run.tracker.folder / REPORT,
        title=f"{run.state.run_name}: {run.args.model}",
        history=run.state.history,
        labels=labels,
        probabilities=published.probabilities,
        names=data.val_names,
        pixels=data.val_image,
        settings=asdict(run.args),
    )
    print(f"report: {page}", flush=True)
