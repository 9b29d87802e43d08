"""Train an image classifier.

    SM_CHANNEL_TRAIN=data/train SM_MODEL_DIR=model python code/train.py --epochs 30 --model resnet18

In: a folder of images, one folder per person. Out: `model.safetensors` and `model.json` in SM_MODEL_DIR; options,
split, metrics.jsonl, TensorBoard events and a report in SM_OUTPUT_DATA_DIR/exp; checkpoints in SM_CHECKPOINT_DIR. All
randomness is a function of the seed and the number of the step, so a run that was stopped and resumed ends with the
same bits as one that was not.
"""

import os
import random
import sys
from dataclasses import replace
from pathlib import Path

from config import TrainConfig, TrainPaths
from data.template_process import start_early
from runtime.arguments import parse
from runtime.failure import guard
from runtime.files import check_writable
from runtime.locks import locked
from runtime.process import Stopped, StopRequest, limit_openmp_spinning, name_unknown_user
from training.workers_main import start_workers

if __name__ == "__main__":  # before torch, which takes seconds to import

    def start() -> None:
        """Answer --help and a mistyped flag; if training takes several workers, start them and wait for them."""
        _, config = parse("train.py", sys.argv[1:], os.environ, TrainPaths, TrainConfig)
        start_workers([sys.executable, *sys.orig_argv[1:]], config.nproc_per_node, config.device)

    name_unknown_user()
    limit_openmp_spinning()
    guard(start)
    if os.environ.get("LOCAL_RANK", "0") == "0":  # the first worker of a host decodes for all
        start_early()

import numpy as np
import torch

from data.digests import check_digests
from optimization import get_lr
from publication import publish_best, report
from recipes import AUTO
from report.several import draw_grid
from report.write import grid_image
from runtime.determinism import use_deterministic_kernels
from runtime.devices import configure_process, select_device
from runtime.errors import CheckpointError
from training.build import build_trainer
from training.checkpoint import IN_RUN_FOLDER, Checkpoints, State
from training.initial import Start, choose_start
from training.inputs import Data, read_data
from training.rendezvous import join, quiet
from training.run import Run
from training.start import Kept, choose_recipe, find_kept, require_same_data, settle, share_state, versions_of
from training.state import TrainState
from training.tracking import Silent, Tracker, increment_path
from training.trainer import Predictions, Trainer
from training.unfinished import mention_unfinished
from training.workers import Control, Workers

__all__ = ["get_lr", "grid_image", "increment_path", "main", "seed_everything", "train"]


def main() -> None:
    """Run the command: read options and SM_* variables, train in folders of its own, publish a model."""
    paths, config = parse("train.py", sys.argv[1:], os.environ, TrainPaths, TrainConfig)
    with join(os.environ) as workers, quiet(not workers.is_first), locked(*_own_folders(paths, workers)):
        kept = find_kept(paths.checkpoint_dir, config, workers)
        if workers.is_first and not paths.checkpoint_dir and config.resume != "never":
            mention_unfinished(paths.output_dir / config.name)
        if config.recipe == AUTO:
            words = [*sys.argv[1:], "--recipe", choose_recipe(paths, config, workers, kept)]
            paths, config = parse("train.py", words, os.environ, TrainPaths, TrainConfig)
        train(
            paths.data_dir,
            paths.model_dir,
            config,
            output_dir=paths.output_dir,
            checkpoint_dir=paths.checkpoint_dir,
            validation_dir=paths.validation_dir,
            labels_dir=paths.labels_dir,
            pretrained_dir=paths.pretrained_dir,
            store_dir=paths.store_dir,
            stop=StopRequest(),
            workers=workers,
            kept=kept,
        )


def _own_folders(paths: TrainPaths, workers: Workers) -> list[Path]:
    """Return the folders that belong to this process alone; those of a run belong to its first worker."""
    return [folder for folder in (paths.output_dir, paths.checkpoint_dir) if folder and workers.is_first]


def train(
    data_dir: str | Path,
    model_dir: str | Path,
    args: TrainConfig,
    *,
    output_dir: str | Path = "./output",
    checkpoint_dir: str | Path | None = None,
    validation_dir: str | Path | None = None,
    labels_dir: str | Path | None = None,
    pretrained_dir: str | Path | None = None,
    store_dir: str | Path | None = None,
    stop: StopRequest | None = None,
    workers: Workers | None = None,
    kept: Kept | None = None,
) -> dict[str, float]:
    """Train on the images in `data_dir`, publish the model in `model_dir`, and return its validation scores.

    `stop` handles signals from the first step on; before that there is nothing to save, and a signal ends the process.
    With `validation_dir`, its images are for validation. With `labels_dir`, the labels are there. Of several
    `workers` the first one writes all files. `kept` is what `find_kept` has returned, if it was called already. Raises
    a JobError for every mistake that users can correct; nothing is published then.
    """
    configure_process()
    seed_everything(args.seed, args.deterministic)
    workers = workers or Workers()
    device = workers.place(select_device(args.device))
    if workers.is_first:
        check_writable(Path(model_dir))
    kept = kept or find_kept(checkpoint_dir, args, workers)
    args, too_expensive = settle(args, workers, device, kept)
    args, start = choose_start(args, workers, pretrained_dir, kept)

    # the images: split by person, decoded once
    places = (store_dir, too_expensive, validation_dir, workers.host_peers(), labels_dir)
    data = read_data(Path(data_dir), args, device, *places, start=start)
    args = replace(args, dataset=data.dataset)  # what was found; a checkpoint is compared with it

    # the network, with everything that changes it
    trainer = build_trainer(
        args,
        data.scheme,
        data.augmentation,
        device,
        steps_per_epoch=len(data.train_loader),
        class_weights=data.class_weights,
        initial=start.weights,
        release=data.store.resident.release,
        workers=workers,
    )

    # the epochs; from here on a signal saves first
    if stop:
        stop.listen()
    run = create_run(args, data, trainer, Path(output_dir), Path(checkpoint_dir) if checkpoint_dir else None, start)
    train_epochs(run, data, stop or StopRequest())

    # the one that --select names; a run that is stopped has seconds left: it is calibrated and reported when resumed
    if published := publish_best(run, data, Path(model_dir)):
        report(run, data, published)
    return run.best_scores


def seed_everything(seed: int, deterministic: bool = True) -> None:
    """Seed torch, numpy and random, and choose between the same bits in every run and the fastest kernels."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    use_deterministic_kernels(deterministic)


def create_run(
    args: TrainConfig,
    data: Data,
    trainer: Trainer,
    output_dir: Path,
    checkpoint_dir: Path | None,
    start: Start | None = None,
) -> Run:
    """Start from scratch, or resume from the newest checkpoint; either way a checkpoint is committed afterwards.

    Raises CheckpointError for a checkpoint that was made with different data or settings, or lacks a part.
    """
    workers, saved = trainer.workers, None
    require_same_data(data.fingerprint, args, workers)
    data.train_loader.own_rows = trainer.own_rows
    state, checkpoints = TrainState("", trainer.device), None
    if workers.is_first:
        run_dir = increment_path(output_dir / args.name)
        state.run_name = run_dir.name
        checkpoints = Checkpoints(
            checkpoint_dir or run_dir / IN_RUN_FOLDER,
            args.fingerprint() | data.fingerprint,
            versions_of(trainer.device),
            recipe=args.recipe,
            every_seconds=args.checkpoint_seconds,
            every_steps=args.checkpoint_steps,
        )
        saved = checkpoints.load(
            args.resume, lambda saved: restore(saved, state, trainer, data, args.resume == "force")
        )
        if start:
            start.require_weights(is_resumed=saved is not None)
    if workers.size > 1:
        own = saved or {"state": state.state_dict(), "trainer": trainer.state_dict()}
        shared = share_state(own if workers.is_first else None, workers)
        if not workers.is_first:
            restore(shared, state, trainer, data, args.resume == "force")
    tracker = (Tracker if workers.is_first else Silent)(output_dir / state.run_name)
    run = Run(args, data.scheme, trainer, state, checkpoints, tracker, data.store)
    if saved:
        where = "after the last epoch" if run.is_finished else f"at epoch {state.epoch + 1}"
        print(f"resumed {where}, after {state.steps_done} steps", flush=True)
        if state.epoch > args.epochs:  # by force
            print(
                f"warning: the run has {state.epoch} epochs, more than --epochs {args.epochs}, so none is trained",
                file=sys.stderr,
            )
    run.begin(data.split)
    return run


def restore(saved: State, state: TrainState, trainer: Trainer, data: Data, is_forced: bool) -> None:
    """Continue from a checkpoint; raises an error of any type if it does not fit, CheckpointError if it is forced."""
    state.load_state_dict(saved["state"])
    try:
        trainer.load_state_dict(saved["trainer"])
    except CheckpointError as error:
        if is_forced:
            raise
        raise ValueError(str(error)) from None  # the settings are the same, so the network has to be the same
    trainer.check_weights(state.best_weights)
    if is_forced:
        return
    if state.step > len(data.train_loader):
        raise ValueError(f"step {state.step} is after the last of an epoch")
    if "digests" in saved and state.steps_done:
        data.store.digests.expect(check_digests(saved["digests"].numpy(), len(data.store.paths)))


def train_epochs(run: Run, data: Data, stop: StopRequest) -> None:
    """Train to the end, or until a stop is requested; everything is committed afterwards."""
    run.workers.control.wants_stop = lambda: stop.requested
    with run.tracker:
        try:
            while not run.is_finished:
                run.train_epoch(data.train_loader)
                predictions = run.end_epoch(data.val_loader)
                if run.workers.is_first:
                    show_grid(run, data, predictions)
            run.compare_images()
        except Stopped:
            run.save()
        run.wait()
    run.workers.control = Control()  # what follows takes seconds, and is not stopped


def show_grid(run: Run, data: Data, predictions: Predictions) -> None:
    """Draw the original's grid of validation images in TensorBoard."""
    images = data.val_images(16)
    count = len(images)
    labels, predicted = predictions.labels[:count], run.labelling.decide(predictions.probabilities[:count])
    figure = draw_grid(images, labels, predicted, data.scheme)
    run.tracker.figure("results", figure, run.state.epoch)


if __name__ == "__main__":
    guard(main)
