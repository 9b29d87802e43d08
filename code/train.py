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
from dataclasses import asdict, replace
from pathlib import Path

from config import TrainConfig, TrainPaths
from data.template_process import start_early
from runtime.arguments import parse
from runtime.failure import guard
from runtime.files import check_writable
from runtime.locks import locked
from runtime.process import Stopped, StopRequest, limit_openmp_spinning, name_unknown_user

if __name__ == "__main__":  # answer --help and a mistyped flag before torch, which takes seconds to import
    guard(lambda: parse("train.py", sys.argv[1:], os.environ, TrainPaths, TrainConfig))
    name_unknown_user()
    limit_openmp_spinning()
    start_early()

import numpy as np
import torch

from data.digests import check_digests
from model import load_state
from model_files import Description, publish
from optimization import get_lr
from report.write import grid_image, write_report
from runtime.determinism import use_deterministic_attention, use_deterministic_kernels
from runtime.devices import configure_process, runtime_versions, select_device
from runtime.errors import CheckpointError
from training.build import build_trainer
from training.checkpoint import Checkpoints, State, read_too_expensive
from training.inputs import Data, read_data
from training.run import Run
from training.state import TrainState
from training.tracking import Tracker, increment_path
from training.trainer import Predictions, Trainer

__all__ = ["get_lr", "grid_image", "increment_path", "main", "seed_everything", "train"]


def main() -> None:
    """Run the command: read options and SM_* variables, train in folders of its own, publish a model."""
    paths, config = parse("train.py", sys.argv[1:], os.environ, TrainPaths, TrainConfig)
    with locked(*filter(None, (paths.output_dir, paths.checkpoint_dir))):
        train(
            paths.data_dir,
            paths.model_dir,
            config,
            output_dir=paths.output_dir,
            checkpoint_dir=paths.checkpoint_dir,
            validation_dir=paths.validation_dir,
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
    validation_dir: str | Path | None = None,
    pretrained_dir: str | Path | None = None,
    store_dir: str | Path | None = None,
    stop: StopRequest | None = None,
) -> dict[str, float]:
    """Train on the images in `data_dir`, publish the best model in `model_dir`, and return its validation scores.

    `stop` handles signals from the first step on; before that there is nothing to save, and a signal ends the process.
    With `validation_dir`, its images are for validation.
    Raises a JobError for every mistake that users can correct; nothing is published then.
    """
    configure_process()
    seed_everything(args.seed, args.deterministic)
    device = select_device(args.device)
    check_writable(Path(model_dir))

    # the images: split by person, decoded once
    too_expensive = read_too_expensive(Path(checkpoint_dir)) if checkpoint_dir and args.resume != "never" else ()
    validation = Path(validation_dir) if validation_dir else None
    cache = Path(store_dir) if store_dir else None
    data = read_data(Path(data_dir), args, device, cache, too_expensive, validation)

    args = replace(args, dataset=data.dataset)  # what was found; a checkpoint is compared with it

    # the network, with everything that changes it
    trainer = build_trainer(
        args,
        data.scheme,
        data.augmentation,
        device,
        steps_per_epoch=len(data.train_loader),
        class_weights=data.class_weights,
        pretrained_dir=Path(pretrained_dir) if pretrained_dir else None,
        release=data.store.resident.release,
    )

    if args.deterministic:
        use_deterministic_attention(trainer.model, device)

    # the epochs; from here on a signal saves first
    run = create_run(args, data, trainer, Path(output_dir), Path(checkpoint_dir) if checkpoint_dir else None)
    if stop:
        stop.listen()
    train_epochs(run, data, stop or StopRequest())

    # the best of them; a run that is stopped has seconds left, so its report is written when it is resumed
    publish_best(run, data, Path(model_dir))
    if run.is_finished:
        report(run, data)
    return run.best_scores


def seed_everything(seed: int, deterministic: bool = True) -> None:
    """Seed torch, numpy and random, and choose between the same bits in every run and the fastest kernels."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    use_deterministic_kernels(deterministic)


def create_run(args: TrainConfig, data: Data, trainer: Trainer, output_dir: Path, checkpoint_dir: Path | None) -> Run:
    """Start from scratch, or resume from the newest checkpoint; either way a checkpoint is committed afterwards.

    Raises CheckpointError for a checkpoint that was made with different data or settings, or lacks a part.
    """
    run_dir = increment_path(output_dir / args.name)
    checkpoints = Checkpoints(
        checkpoint_dir or run_dir / "checkpoints",
        args.fingerprint() | data.fingerprint,
        runtime_versions(trainer.device),
        every_seconds=args.checkpoint_seconds,
        every_steps=args.checkpoint_steps,
    )
    state = TrainState(run_dir.name, trainer.device)

    if checkpoints.load(args.resume, lambda saved: restore(saved, state, trainer, data, args.resume == "force")):
        print(f"resumed at epoch {state.epoch + 1}, after {state.steps_done} steps", flush=True)
    run = Run(args, data.scheme, trainer, state, checkpoints, Tracker(output_dir / state.run_name), data.store)
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
    with run.tracker:
        try:
            while not run.is_finished:
                run.train_epoch(data.train_loader, stop)
                predictions = run.end_epoch(data.val_loader, stop)
                show_grid(run, data, predictions)
            run.compare_images(stop)
        except Stopped:
            run.save()
        run.checkpoints.wait()


def show_grid(run: Run, data: Data, predictions: Predictions) -> None:
    """Draw the original's grid of validation images in TensorBoard."""
    images = data.val_images(16)
    count = len(images)
    predicted = predictions.probabilities[:count].argmax(1)
    figure = grid_image(images, predictions.labels[:count], predicted, data.scheme)
    run.tracker.figure("results", figure, run.state.epoch)


def publish_best(run: Run, data: Data, model_dir: Path) -> None:
    """Publish the best network so far; before the first epoch is complete, the network as it is."""
    state, args, model = run.state, run.args, run.trainer.evaluated
    if state.best_weights is not None:
        load_state(model, state.best_weights)
    description = Description(
        args.model, args.head, data.scheme, data.augmentation.preparation, run.best_scores, asdict(args)
    )
    publish(model_dir, model.state_dict(), description)
    done = "finished" if run.is_finished else "stopped, and can be resumed"
    print(f"{done}: best epoch {state.best_epoch} of {state.epoch}; model: {model_dir}", flush=True)


def report(run: Run, data: Data) -> None:
    """Write the report about the published network's predictions for the validation images."""
    predictions = run.trainer.predict(data.val_loader.epoch(0))
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
    )
    print(f"report: {page}", flush=True)


if __name__ == "__main__":
    guard(main)
