"""`submit.py download`: the files of a job in S3, such as model and outputs, the predictions of a transform."""

import subprocess
import sys
from collections.abc import Iterable, Sized
from dataclasses import dataclass
from pathlib import Path

from batch.results import Response, announce_missing_scheme, are_masked_faces, join_downloaded, read_downloaded
from data.tables import write_predictions
from jobs.aws import Aws, AwsError
from jobs.common import Connection, JobName
from jobs.job import TRAINING, Job, count_folds, describe, find, fold_name, look_up
from jobs.s3 import MAX_UNPACKED_BYTES, extract, fetch, fetch_folder
from labels import LabelScheme
from options.inference import ANSWERS, ANSWERS_HELP, STATUS_HELP
from runtime.archives import ArchiveError, members, open_archive, read_member
from runtime.arguments import option
from runtime.errors import DataError, JobError
from runtime.json_files import MAX_BYTES, parse_json

_CV = Path(__file__).parents[2] / "code" / "cv.py"


@dataclass(frozen=True, kw_only=True)
class DownloadOptions:
    """The files of a job."""

    to: Path = option(Path("./download"), "folder to write to")
    info: Path | None = option(None, "for a transform: info.csv with the rows of output.csv, in their order")
    answers: str = option("index", f"for a transform: {ANSWERS_HELP}", choices=ANSWERS)
    status: bool = option(False, f"for a transform: {STATUS_HELP}")


def download_command(connection: Connection, name: JobName, options: DownloadOptions) -> None:
    """Download the files of a job and print where they are."""
    for path in download(Aws(connection), name.job, options.to, options.info, options.answers, options.status):
        print(path)


def download(
    aws: Aws, name: str, folder: Path, info: Path | None = None, answers: str = "index", status: bool = False
) -> list[Path]:
    """Write the files of a job into a folder; return where to look, most important first.

    Training and tuning (its best job): model/ and output/. Cross-validation: the ensemble in model/, and output/ with
    oof.csv and the folds. Transform: answers/ and output.csv, with the rows of `info` and its classes as --answers and
    with --status, as code/inference.py writes it. Evaluation: evaluation.json. Raises JobError if there are no files
    yet.
    """
    if (job := look_up(aws, name)) is None:
        return _join_folds(aws, name, folder)
    match job.kind.noun:
        case "TrainingJob":
            return _fetch_training(aws, job, folder)
        case "HyperParameterTuningJob":
            if (best := job.best_training_job) is None:
                raise JobError(f"{job.title} has no best training job yet; `submit.py wait {name}`")
            return _fetch_training(aws, describe(aws, TRAINING, best), folder)
        case "TransformJob":
            outputs = fetch_folder(aws, job.facts["TransformOutput"]["S3OutputPath"], folder / "answers")
            _check_files(job, outputs)
            table, responses = read_downloaded(outputs, info)
            table = join_downloaded(table, responses, answers, status)
            scheme = find_scheme(aws, job.facts["ModelName"], responses.values(), folder)
            return [write_predictions(folder, table, scheme, answers), folder / "answers"]
        case "ProcessingJob":
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
        archive = folder / f"{name}.tar.gz"
        try:
            fetch(aws, f"{model_uri.rpartition('/')[0]}/{archive.name}", archive)
        except AwsError as error:
            if name == "model" or not error.is_absent:
                raise AwsError(f"{error}; {job.title} has no {archive.name}", error.code) from None
            continue
        extract(archive, folder / name)
        archive.unlink()
        folders.append(folder / name)
    return folders


def _join_folds(aws: Aws, name: str, folder: Path) -> list[Path]:
    """Download the folds of a cross-validation and join them, as code/cv.py does; raises JobError without folds."""
    folds = count_folds(aws, name)
    if not folds:
        find(aws, name)  # raises that nothing is called so
    output, model = folder / "output", folder / "model"
    for number in range(1, folds + 1):
        job = describe(aws, TRAINING, fold_name(name, number))
        _fetch_training(aws, job, output / "cv" / f"fold-{number}")
    words = ["--collect", f"--folds={folds}", f"--output-dir={output}", f"--model-dir={model}"]
    # A process of its own, because submit.py does without torch; what it prints goes to stderr.
    done = subprocess.run([sys.executable, str(_CV), *words], stdout=2)  # noqa: S603
    if done.returncode:
        raise JobError(f"the {folds} folds of {name!r} cannot be joined, see the message above: {output / 'cv'}")
    return [model, output]


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
    archive = folder / "model.tar.gz"
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
        data = _read_description(archive)
    except ArchiveError as error:
        raise DataError(f"model.json does not describe its classes ({error.reason})") from None
    if data is None:
        raise DataError("the archive of the model has no model.json")
    try:
        return LabelScheme.from_dict(parse_json(data)["scheme"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"model.json does not describe its classes ({error!r})") from None


def _read_description(archive: Path) -> bytes | None:
    """Return the model.json in a model.tar.gz, or None if there is none."""
    with open_archive(archive) as tar:
        for member in members(tar, MAX_UNPACKED_BYTES):
            if member.name.removeprefix("./") == "model.json" and member.isreg():
                return read_member(tar, member, MAX_BYTES)
    return None
