"""Cross-validate: train on each fold, predict every image by the model that has not seen it, publish the ensemble.

    SM_CHANNEL_TRAIN=data/train SM_MODEL_DIR=model python code/cv.py --folds 5 --epochs 30 --model resnet18

In: what train.py takes, with any of its options. Out: the ensemble of all folds in SM_MODEL_DIR; oof.csv, cv.json and a
report about all images in SM_OUTPUT_DATA_DIR; the runs and models of the folds in its folder cv. The folds are trained
one after the other, each in a process of its own. The same command resumes, and ends with the same files.
"""

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from config import TrainConfig, TrainPaths
from options.cv import FOLDS, CvConfig
from recipes import AUTO, choose, explain, has_initial_weights
from runtime.arguments import flag_of, parse
from runtime.errors import ConfigError, DataError
from runtime.failure import guard, write_message
from runtime.files import check_writable, replacing
from runtime.locks import locked
from runtime.process import name_unknown_user
from training.hosts import read_hosts

if __name__ == "__main__":  # answer --help and a mistyped flag before pandas is imported
    guard(lambda: parse("cv.py", sys.argv[1:], os.environ, TrainPaths, CvConfig, TrainConfig))
    name_unknown_user()

from calibration import UnsureThresholds, announce_thresholds, fit_thresholds
from data.images import Preparation, prepare
from data.names import first_names
from data.out_of_fold import CV_JSON, OOF_CSV, PREDICTIONS_CSV, OutOfFold, join_folds
from data.readers import read_apart, read_dataset
from data.samples import Samples
from data.several_labels import apply_task
from data.split import check_folds
from labels import LabelScheme, require_one_label
from report.folds import summarize, summary_lines
from runtime.json_files import read_json_object
from training.folds import Fold
from training.worker_processes import StopSignals


def main(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Run the command: train every fold, join their predictions, publish the ensemble."""
    paths, config, options = parse("cv.py", argv, environ, TrainPaths, CvConfig, TrainConfig)
    check_options(paths, options, environ)
    if options.recipe == AUTO:
        has_weights = has_initial_weights(options.pretrained, paths.pretrained_dir)
        argv = [*argv, "--recipe", recipe := choose(has_weights=has_weights)]
        print(explain(recipe, has_weights=has_weights), flush=True)
        paths, config, options = parse("cv.py", argv, environ, TrainPaths, CvConfig, TrainConfig)
    folder = paths.output_dir / "cv"
    with locked(folder):
        check_writable(paths.model_dir)
        count = config.folds or (count_folds(folder) if config.collect else FOLDS)
        folds = [Fold(number + 1, count, folder) for number in range(count)]
        samples = None
        if not config.collect or paths.data_dir.is_dir():
            samples = read_samples(paths, options, count)
        if not config.collect:
            train_folds(folds, paths, words_for_training(argv), options.resume)
        summary = join(folds, paths.output_dir, paths.model_dir, samples, options)
    print(summary, flush=True)
    write_message(summary)


def train_folds(folds: Sequence[Fold], paths: TrainPaths, words: Sequence[str], resume: str) -> None:
    """Train the folds one after the other; they share the decoded images, which are kept where SM_STORE_DIR is set."""
    stop, own_store = StopSignals(), folds[0].folder.parent / "store"
    for fold in folds:
        fold.train(paths, paths.store_dir or own_store, words, stop, resume=resume)
    shutil.rmtree(own_store, ignore_errors=True)


def check_options(paths: TrainPaths, options: TrainConfig, environ: Mapping[str, str]) -> None:
    """Raise ConfigError for what contradicts cross-validation."""
    problems = []
    if options.fold is not None:
        problems.append("--fold: cross-validation trains every fold; leave it out, or train one with train.py")
    if paths.validation_dir is not None:
        problems.append(
            "--validation-dir (SM_CHANNEL_VALIDATION): cross-validation validates with every image of the training "
            "folder once; leave it out (`make cv`: move the folder out of DATA), or use train.py (`make train`): "
            f"{paths.validation_dir}"
        )
    if (hosts := read_hosts(environ)).are_several:
        problems.append(
            f"cross-validation runs on one host, and this job has {len(hosts.names)}; submit.py cv starts a job for "
            "each fold"
        )
    if problems:
        raise ConfigError("; ".join(problems))


def read_samples(paths: TrainPaths, options: TrainConfig, folds: int) -> Samples:
    """Read the table of images, as train.py does; no image is opened.

    Raises ConfigError for images with several labels, DataError for data that cannot be divided into so many folds.
    """
    if paths.labels_dir is not None:
        samples = read_apart(options.dataset, paths.data_dir, paths.labels_dir)
    else:
        samples = read_dataset(options.dataset, paths.data_dir, "SM_CHANNEL_TRAIN")
    samples = apply_task(samples, options.task)
    require_one_label(samples.scheme, "cross-validation", f"use train.py --fold 1/{folds}: {paths.data_dir}")
    check_folds(samples, folds, options.dataset)
    return samples


def words_for_training(argv: Sequence[str]) -> list[str]:
    """Return the words of a command line that are options of training, without folders and those of CvConfig."""
    names = [field.name for cls in (TrainPaths, CvConfig) for field in fields(cls)]
    ours = {spelling for name in names for spelling in (flag_of(name), f"--{name}")}
    words, is_ours = [], False
    for word in argv:
        is_ours = word.partition("=")[0] in ours if word.startswith("--") else is_ours
        if not is_ours:
            words.append(word)
    return words


def join(
    folds: Sequence[Fold], output_dir: Path, model_dir: Path, samples: Samples | None, options: TrainConfig
) -> str:
    """Write oof.csv, the report if the images are there, the ensemble and, last, cv.json; return a line about them.

    `options` are those of the command. Raises DataError if a fold is missing, or an image is in two.
    """
    if missing := [fold.folder for fold in folds if not fold.predictions()]:
        raise DataError(
            f"{len(missing)} of {len(folds)} folds are not complete, expected output/*/{PREDICTIONS_CSV} of a training "
            f"that is finished; train them with the same --folds: {missing[0]}"
        )
    check_parts(folds)
    found = join_folds([OutOfFold.read(fold.predictions()[-1]) for fold in folds])
    if samples and (others := set(found.paths) - set(samples.table["path"])):
        raise DataError(
            f"{len(others)} images of the folds are not in the training folder ({first_names(sorted(others))}); give "
            "the folder that they were trained on as --data-dir (SM_CHANNEL_TRAIN), or none for no report"
        )
    report = output_dir / "cv" / "report"
    scheme = LabelScheme.from_dict(read_json_object(folds[0].model_dir / "model.json")["scheme"])
    summary = summarize(found, scheme)
    found.write(output_dir / OOF_CSV)
    thresholds = choose_thresholds(found, options.min_precision or precision_of(folds))
    if samples:
        write_oof_report(report, found, samples, folds, thresholds, options)
    elif report.exists():
        print(
            "warning: the report is not written again without the images, so its scores and thresholds may be others; "
            f"give them as --data-dir (SM_CHANNEL_TRAIN): {report}",
            file=sys.stderr,
        )
    publish(folds, model_dir, summary["oof"], thresholds)
    if thresholds:
        announce_thresholds(thresholds, len(found.paths), scheme.classes)
    with replacing(output_dir / CV_JSON) as file:
        file.write(json.dumps(summary, indent=2) + "\n")
    *lines, last = summary_lines(summary)
    print(*lines, sep="\n", flush=True)
    return f"{last} predictions: {output_dir / OOF_CSV}; ensemble: {model_dir}"


def count_folds(folder: Path) -> int:
    """Return the number of folds that the first one in a folder is a part of; raises DataError if there is none."""
    first = Fold(1, FOLDS, folder)
    text = str(first.settings().get("fold"))
    if numbers := TrainConfig(fold=text).fold_numbers:
        return numbers[1]
    raise DataError(f"the first fold is part {text}, expected 1/{FOLDS} or another number; give --folds: {folder}")


def check_parts(folds: Sequence[Fold]) -> None:
    """Raise ConfigError for a fold that was trained as a part of another number of folds, or as another part."""
    for fold in folds:
        found = fold.settings().get("fold")
        if found != (expected := f"{fold.number}/{fold.folds}"):
            number = str(found).rpartition("/")[2]
            remedy = f"pass --folds {number}, or train all" if number.isdecimal() else "train all"
            raise ConfigError(
                f"{fold.folder.name} is part {found}, expected {expected}; {remedy} folds with the same --folds: "
                f"{fold.model_dir}"
            )


def precision_of(folds: Sequence[Fold]) -> float:
    """Return the --min-precision that the folds were trained with; raises DataError if they differ."""
    found = {fold.settings().get("min_precision", 0.0) for fold in folds}
    if len(found) > 1:
        raise DataError(
            f"the folds were trained with different values of --min-precision ({', '.join(map(str, sorted(found)))}); "
            "give the one for the ensemble"
        )
    return float(found.pop())


def choose_thresholds(found: OutOfFold, min_precision: float) -> UnsureThresholds | None:
    """Choose the thresholds of the ensemble on the out-of-fold predictions, as training does on its validation images.

    No image is unseen by all models, so none shows how often the ensemble itself is right.
    """
    return fit_thresholds(found.labels, found.probabilities, min_precision) if min_precision else None


def publish(
    folds: Sequence[Fold], model_dir: Path, metrics: Mapping[str, float], thresholds: UnsureThresholds | None
) -> None:
    """Publish the ensemble of the folds, with the out-of-fold scores as its metrics."""
    from model_files import publish_ensemble  # torch takes seconds to import, and the memory of the trainings

    publish_ensemble(model_dir, [fold.model_dir for fold in folds], metrics, thresholds)


def write_oof_report(
    folder: Path,
    found: OutOfFold,
    samples: Samples,
    folds: Sequence[Fold],
    thresholds: UnsureThresholds | None,
    options: TrainConfig,
) -> None:
    """Write the report of training about all images, each predicted by the model of its fold."""
    from report.fold_heat import FoldCam  # torch and matplotlib take seconds
    from report.write import write_report
    from runtime.devices import select_device

    files = dict(zip(samples.table["path"], samples.paths, strict=True))
    record = read_json_object(folds[0].model_dir / "model.json")
    preparation = Preparation.from_dict(record["preparation"])
    page = write_report(
        folder,
        title=f"{len(folds)} folds: {record['architecture']}",
        scheme=LabelScheme.from_dict(record["scheme"]),
        history=[],
        labels=found.labels,
        probabilities=found.probabilities,
        names=found.paths,
        pixels=lambda index: prepare(files[found.paths[index]], preparation),
        settings={**record["settings"], "fold": f"1/{len(folds)} to {len(folds)}/{len(folds)}"},
        thresholds=thresholds,
        explain=FoldCam([fold.model_dir for fold in folds], found.folds, select_device(options.device)),
    )
    print(f"report: {page}", flush=True)


if __name__ == "__main__":
    guard(lambda: main(sys.argv[1:], os.environ))
