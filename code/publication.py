"""The end of a training: the published model, and the report about it."""

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from data.out_of_fold import PREDICTIONS_CSV, OutOfFold
from description import Description
from model import load_state
from model_files import publish
from report.layer_cam import LayerCam
from report.write import write_report
from training.inputs import Data
from training.run import Run
from training.straddling import describe_straddling, find_straddling


def publish_best(run: Run, data: Data, model_dir: Path) -> None:
    """Publish the best network so far; before the first epoch is complete, the network as it is.

    Every worker loads it, and the first one publishes it.
    """
    state, args, model = run.state, run.args, run.trainer.evaluated
    if state.best_weights is not None:
        load_state(model, state.best_weights)
    if not run.workers.is_first:
        return
    description = Description(
        args.model, args.head, data.scheme, data.augmentation.preparation, run.best_scores, asdict(args)
    )
    publish(model_dir, model.state_dict(), description)
    done = "finished" if run.is_finished else "stopped, and can be resumed"
    print(f"{done}: best epoch {state.best_epoch} of {state.epoch}; model: {model_dir}", flush=True)


def report(run: Run, data: Data) -> None:
    """Write the report about the published network's predictions for the validation images.

    All workers predict, and the first one writes; with `--fold` also predictions.csv, for cross-validation. It warns of
    validation images that are in training, too, with the scores without them.
    """
    predictions = run.trainer.predict(data.val_loader)
    if not run.workers.is_first:
        return
    if run.args.fold_numbers:
        folds = np.full(len(predictions.labels), run.args.fold_numbers[0])
        found = OutOfFold(data.val_names, predictions.labels, folds, predictions.probabilities)
        found.write(run.tracker.folder / PREDICTIONS_CSV)
    straddling = find_straddling(data.store, data.train_loader.indices, data.val_indices)
    for sentence in describe_straddling(straddling, predictions.labels, predictions.classes, data.scheme):
        print(f"warning: {sentence}", file=sys.stderr)
    page = write_report(
        run.tracker.folder / "report",
        title=f"{run.state.run_name}: {run.args.model}",
        scheme=data.scheme,
        history=run.state.history,
        labels=predictions.labels,
        probabilities=predictions.probabilities,
        names=data.val_names,
        pixels=data.val_image,
        settings=asdict(run.args),
        explain=LayerCam(
            run.trainer.evaluated, run.trainer.augmentation.normalize, run.trainer.device, run.trainer.release
        ),
    )
    print(f"report: {page}", flush=True)
