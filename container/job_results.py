"""Fetch what a job left in S3: the model and the outputs of training, the answers of a transform, an evaluation."""

import csv
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from aws import Aws, AwsError
from environment import replacing
from errors import DataError, JobError
from images import is_image_file
from job_watch import KINDS, Job, describe, find
from s3_files import extract, fetch, fetch_folder

ANSWER = ".out"  # what SageMaker puts behind the name of a picture


def download(aws: Aws, name: str, folder: Path, info: Path | None = None) -> list[Path]:
    """Write what a job left into a folder; returns where to look, most important first.

    Training and tuning (its best job): model/ and output/. Transform: answers/ and output.csv, with the rows of `info`.
    Evaluation: evaluation.json. Raises JobError if there is nothing yet.
    """
    job = find(aws, name)
    match job.kind.noun:
        case "TrainingJob":
            return _fetch_training(aws, job, folder)
        case "HyperParameterTuningJob":
            best = job.facts.get("BestTrainingJob", {}).get("TrainingJobName")
            if best is None:
                raise JobError(f"{job.title} has no best training job yet; `submit.py wait {name}`")
            return _fetch_training(aws, describe(aws, KINDS[0], best), folder)
        case "TransformJob":
            answers = fetch_folder(aws, job.facts["TransformOutput"]["S3OutputPath"], folder / "answers")
            _refuse_nothing(job, answers)
            return [write_output(answers, folder / "answers", info, folder / "output.csv"), folder / "answers"]
        case "ProcessingJob":
            outputs = job.facts["ProcessingOutputConfig"]["Outputs"]
            paths = [path for output in outputs for path in fetch_folder(aws, output["S3Output"]["S3Uri"], folder)]
            _refuse_nothing(job, paths)
            return paths
    raise JobError(f"{job.title} leaves no files; name a job")


def write_output(answers: Iterable[Path], root: Path, info: Path | None, output: Path) -> Path:
    """Join the answers of one transform, NAME.out each below `root`, to output.csv: ImageID,ans; returns its path.

    With an info.csv: its rows, order and other columns. Without: every answer, sorted by name. A picture that has no
    answer, or an error as its answer, has an empty `ans`, as inference.py writes it, and is named on stderr.
    """
    found = {path.relative_to(root).as_posix().removesuffix(ANSWER): path for path in answers}
    found = {name: path for name, path in found.items() if is_image_file(name)}  # an info.csv got an answer too
    if found and all(name.startswith("images/") for name in found):
        found = {name.removeprefix("images/"): path for name, path in found.items()}
    if info is None:
        rows, columns = [{"ImageID": name} for name in sorted(found)], ["ImageID"]
    else:
        rows, columns = _read_info(info)
    predictions = {row["ImageID"]: _prediction(found.get(row["ImageID"])) for row in rows}
    with replacing(output) as file:
        writer = csv.DictWriter(file, [column for column in columns if column != "ans"] + ["ans"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | {"ans": predictions[row["ImageID"]]} for row in rows)
    if missing := [name for name, prediction in predictions.items() if not prediction]:
        names = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        print(f"{len(missing)} of {len(rows)} pictures have no answer: {names}", file=sys.stderr)
    return output


def _prediction(path: Path | None) -> str:
    """The class number in an answer, or an empty text if there is none or the picture could not be read."""
    if path is None:
        return ""
    try:
        prediction = json.loads(path.read_text())["prediction"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"not an answer of this image, expected JSON with `prediction` ({error!r}): {path}") from None
    return "" if prediction is None else str(prediction)


def _read_info(info: Path) -> tuple[list[dict[str, str]], list[str]]:
    if not info.is_file():
        raise DataError(f"--info does not exist, expected a csv file with a column ImageID: {info}")
    with info.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), list(reader.fieldnames or [])
    if "ImageID" not in columns:
        raise DataError(f"--info has no column ImageID, its columns are {', '.join(columns)}: {info}")
    return rows, columns


def _fetch_training(aws: Aws, job: Job, folder: Path) -> list[Path]:
    """model.tar.gz and output.tar.gz, unpacked into model/ and output/; the archives are not kept."""
    model_uri = job.facts.get("ModelArtifacts", {}).get("S3ModelArtifacts")
    if not model_uri:
        raise JobError(f"{job.title} has left no model: {job.line()}")
    places = []
    for name in ("model", "output"):
        archive = folder / f"{name}.tar.gz"
        try:
            fetch(aws, f"{model_uri.rpartition('/')[0]}/{archive.name}", archive)
        except AwsError as error:
            if name == "model" or not error.is_absent:
                raise AwsError(f"{error}; {job.title} left no {archive.name}", error.code) from None
            continue
        extract(archive, folder / name)
        archive.unlink()
        places.append(folder / name)
    return places


def _refuse_nothing(job: Job, paths: list[Path]) -> None:
    if not paths:
        raise JobError(f"{job.title} has left no files yet: {job.line()}")
