"""`submit.py download`: the files of a job in S3, such as model and outputs, the predictions of a transform."""

import os
import subprocess
import sys
from collections.abc import Iterable, Sized
from dataclasses import dataclass
from pathlib import Path

from batch.results import Response, announce_missing_scheme, are_masked_faces, join_downloaded, read_downloaded
from data.tables import write_predictions
from jobs.aws import Aws, AwsError
from jobs.checks import pair_problems, pairs
from jobs.common import Connection, JobName
from jobs.job import TRAINING, Job, describe, find, find_folds, fold_name, look_up, no_fold
from jobs.resuming import fold_of
from jobs.s3 import MAX_UNPACKED_BYTES, extract, fetch, fetch_folder
from labels import LabelScheme
from options.inference import ANSWERS, ANSWERS_HELP, STATUS_HELP
from runtime.archives import ArchiveError, read_top_file
from runtime.arguments import option
from runtime.errors import ConfigError, DataError, JobError
from runtime.json_files import MAX_BYTES, parse_json

_CV = Path(__file__).parents[2] / "code" / "cv.py"


@dataclass(frozen=True, kw_only=True)
class DownloadOptions:
    """The files of a job."""

    to: Path = option(Path("./download"), "folder to write to")
    info: Path | None = option(None, "for a transform: info.csv with the rows of output.csv, in their order")
    answers: str = option("index", f"for a transform: {ANSWERS_HELP}", choices=ANSWERS)
    status: bool = option(False, f"for a transform: {STATUS_HELP}")
    fold_jobs: str = option("", "for a cross-validation: other jobs that trained a fold, such as 2=JOB,5=JOB")

    def problems(self) -> list[str]:
        """Return a sentence for each part of --fold-jobs that is malformed."""
        return pair_problems("fold-jobs", self.fold_jobs)


def download_command(connection: Connection, name: JobName, options: DownloadOptions) -> None:
    """Download the files of a job and print where they are."""
    for path in download(Aws(connection), name.job, options):
        print(path)


def download(aws: Aws, name: str, options: DownloadOptions) -> list[Path]:
    """Write the files of a job into the folder `to`; return where to look, most important first.

    Training and tuning (its best job): model/ and output/. Cross-validation: the ensemble in model/, and output/ with
    oof.csv and the folds. Transform: answers/ and output.csv, with the rows of `info` and its classes as --answers and
    with --status, as code/inference.py writes it. Evaluation: evaluation.json. Raises JobError if there are no files
    yet, and ConfigError for options of a transform with another job.
    """
    folder = options.to
    job = look_up(aws, name)
    if job is None or options.fold_jobs:
        return _join_folds(aws, name, options)
    if job.kind.noun != "TransformJob":
        _check_options(options, job.title)
    match job.kind.noun:
        case "TrainingJob":
            return _fetch_training(aws, job, folder)
        case "HyperParameterTuningJob":
            if (best := job.best_training_job) is None:
                raise JobError(f"{job.title} has no best training job yet; `submit.py wait {name}`")
            return _fetch_training(aws, describe(aws, TRAINING, best), folder)
        case "TransformJob":
            _check_over(job)
            outputs = fetch_folder(aws, job.facts["TransformOutput"]["S3OutputPath"], folder / "answers")
            _check_files(job, outputs)
            table, responses = read_downloaded(outputs, options.info)
            table = join_downloaded(table, responses, options.answers, options.status)
            scheme = find_scheme(aws, job.facts["ModelName"], responses.values(), folder)
            return [write_predictions(folder, table, scheme, options.answers), folder / "answers"]
        case "ProcessingJob":
            _check_over(job)
            uris = [output["S3Output"]["S3Uri"] for output in job.facts["ProcessingOutputConfig"]["Outputs"]]
            paths = [path for uri in uris for path in fetch_folder(aws, uri, folder).values()]
            _check_files(job, paths)
            return paths
    raise JobError(f"{job.title} has no files; give the name of a job")


def _fetch_training(aws: Aws, job: Job, folder: Path) -> list[Path]:
    """Unpack model.tar.gz and output.tar.gz into model/ and output/; the archives are deleted."""
    model_uri = job.facts.get("ModelArtifacts", {}).get("S3ModelArtifacts")
    if not model_uri:
        raise JobError(f"{job.title} has no model: {job.line()}")
    folders = []
    for name in ("model", "output"):
        archive = _archive(folder, name, job.name)
        try:
            fetch(aws, f"{model_uri.rpartition('/')[0]}/{name}.tar.gz", archive)
            extract(archive, folder / name)
        except AwsError as error:
            if not error.is_absent:
                raise
            if name == "model":
                raise AwsError(f"{error}; {job.title} has no {name}.tar.gz", error.code) from None
            continue
        finally:
            archive.unlink(missing_ok=True)
        folders.append(folder / name)
    return folders


def _archive(folder: Path, content: str, owner: str) -> Path:
    """Return where an archive lies until it is unpacked, which no file of the user is called."""
    return folder / f".{content}-of-{owner}.tar.gz"


def _join_folds(aws: Aws, name: str, options: DownloadOptions) -> list[Path]:
    """Download the folds of a cross-validation and join them, as code/cv.py does; raises JobError without folds."""
    found = find_folds(aws, name)
    if not found:
        job = find(aws, name)  # raises that nothing is called so
        raise ConfigError(f"--fold-jobs: {job.title} is not a cross-validation; leave it out")
    _check_options(options, f"cross-validation {name!r}")
    for text, other in pairs(options.fold_jobs).items():
        number = _number(text, len(found))
        found[number] = _other_fold(aws, f"{number}/{len(found)}", other)
    problems = [
        _fold_problem(name, number, job) if job else no_fold(name, number, len(found)) for number, job in found.items()
    ]
    if any(problems):
        raise JobError("; ".join(filter(None, problems)))
    jobs = {number: job for number, job in found.items() if job}
    output, model = options.to / "output", options.to / "model"
    for number, job in jobs.items():
        if job.name != fold_name(name, number):
            print(f"fold {number} of {name!r} is that of {job.title}", file=sys.stderr)
        _fetch_training(aws, job, output / "cv" / f"fold-{number}")
    folds = len(jobs)
    words = ["--collect", f"--folds={folds}", f"--output-dir={output}", f"--model-dir={model}"]
    # A process of its own, because submit.py does without torch; what it prints goes to stderr. It has no channels.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SM_")}
    done = subprocess.run([sys.executable, str(_CV), *words], env=environment, stdout=2)  # noqa: S603
    if done.returncode:
        raise JobError(f"the {folds} folds of {name!r} cannot be joined, see the message above: {output / 'cv'}")
    return [model, output]


def _number(text: str, folds: int) -> int:
    """Return the number of a fold; raise ConfigError if there is none of that number."""
    if not text.isdecimal() or not 1 <= int(text) <= folds:
        raise ConfigError(f"--fold-jobs: {text!r} is not the number of a fold, expected 1 to {folds}")
    return int(text)


def _other_fold(aws: Aws, fold: str, name: str) -> Job:
    """Return a job that trained a fold; raise ConfigError if it trained another one, or all images."""
    job = describe(aws, TRAINING, name)
    if (theirs := fold_of(job.facts)) != fold:
        what = f"fold {theirs}" if theirs else "no fold"
        raise ConfigError(f"--fold-jobs: {job.title} trained {what}, expected {fold}; name one with -- --fold {fold}")
    return job


def _fold_problem(name: str, number: int, job: Job) -> str:
    """Return why a fold has no model and which commands train it; empty if it has one, also if it was stopped."""
    if job.status in ("Completed", "Stopped"):
        return ""
    problem = f"fold {number} of {name!r} has no model: {job.title} is {job.status}"
    if not job.is_over:
        return f"{problem}; `submit.py wait {name}` waits for it"
    resume = f"`{command}` resumes it; " if (command := job.resume_command) else ""
    fresh = f"train it from scratch with -- --fold {fold_of(job.facts)}, and pass --fold-jobs {number}=JOB"
    return f"{problem}; {resume}without a checkpoint, {fresh}"


def _check_options(options: DownloadOptions, title: str) -> None:
    """Raise ConfigError for options of a transform, which no other job has."""
    given = {"--info": options.info is not None, "--answers": options.answers != "index", "--status": options.status}
    if flags := [flag for flag, is_given in given.items() if is_given]:
        raise ConfigError(f"{', '.join(flags)}: only a transform job has predictions, not {title}; leave it out")


def _check_over(job: Job) -> None:
    """Raise JobError for a job that still writes files; warn of one that did not write them all."""
    if not job.is_over:
        raise JobError(f"{job.title} has not ended: {job.line()}; `submit.py wait {job.name}` waits for its files")
    if job.status != "Completed":
        print(f"warning: {job.title} is {job.status}, so files may be missing", file=sys.stderr)


def _check_files(job: Job, paths: Sized) -> None:
    """Raise JobError if there is no file."""
    if not paths:
        raise JobError(f"{job.title} has no files yet: {job.line()}")


def find_scheme(aws: Aws, model: str, responses: Iterable[Response], folder: Path) -> LabelScheme | None:
    """Return the classes that the predictions of a transform number, from its model's archive in S3.

    Returns None where they are those of masked faces, which evaluation assumes. If the model is gone, prints that
    scheme.json is missing and returns None too.
    """
    if are_masked_faces(responses):
        return None
    archive = _archive(folder, "model", model)
    try:
        described = aws.call("sagemaker", "DescribeModel", ModelName=model)
        fetch(aws, described["PrimaryContainer"]["ModelDataUrl"], archive)
        return _scheme_of(archive)
    except (AwsError, DataError) as error:
        announce_missing_scheme(error)
        return None
    finally:
        archive.unlink(missing_ok=True)


def _scheme_of(archive: Path) -> LabelScheme:
    """Return the label scheme in the model.json of a model.tar.gz; raise DataError if there is none."""
    try:
        data = read_top_file(archive, "model.json", most_bytes=MAX_BYTES, most_unpacked_bytes=MAX_UNPACKED_BYTES)
    except ArchiveError as error:
        raise DataError(f"model.json does not describe its classes ({error.reason})") from None
    if data is None:
        raise DataError("the archive of the model has no model.json")
    try:
        return LabelScheme.from_dict(parse_json(data)["scheme"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"model.json does not describe its classes ({error!r})") from None
