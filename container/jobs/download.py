"""Fetch what a job left in S3: the model and the outputs of training, the answers of a transform, an evaluation."""

import json
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

from batch.results import Response, join_downloaded, read_downloaded
from data.tables import SCHEME_JSON, write_predictions
from jobs.aws import Aws, AwsError
from jobs.s3 import extract, fetch, fetch_folder
from jobs.watch import KINDS, Job, describe, find
from labels import MASKED_FACES, LabelScheme
from runtime.errors import DataError, JobError


def download(aws: Aws, name: str, folder: Path, info: Path | None = None) -> list[Path]:
    """Write what a job left into a folder; returns where to look, most important first.

    Training and tuning (its best job): model/ and output/. Transform: answers/ and output.csv, with the rows of `info`,
    as code/inference.py writes it. Evaluation: evaluation.json. Raises JobError if there is nothing yet.
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
            responses = read_downloaded(answers, folder / "answers")
            table = join_downloaded(responses, info)
            scheme = find_scheme(aws, job.facts["ModelName"], responses.values(), folder)
            return [write_predictions(folder, table, scheme), folder / "answers"]
        case "ProcessingJob":
            outputs = job.facts["ProcessingOutputConfig"]["Outputs"]
            paths = [path for output in outputs for path in fetch_folder(aws, output["S3Output"]["S3Uri"], folder)]
            _refuse_nothing(job, paths)
            return paths
    raise JobError(f"{job.title} leaves no files; name a job")


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


def find_scheme(aws: Aws, model: str, responses: Iterable[Response], folder: Path) -> LabelScheme | None:
    """Return the classes that the predictions of a transform number, from its model's archive in S3.

    Returns None where they are those of masked faces, which evaluation assumes. If the model is gone, prints that
    scheme.json is missing and returns None too.
    """
    if all(_is_masked_face(response) for response in responses):
        return None
    archive = folder / "model.tar.gz"
    try:
        described = aws.call("sagemaker", "DescribeModel", ModelName=model)
        fetch(aws, described["PrimaryContainer"]["ModelDataUrl"], archive)
        return _scheme_of(archive)
    except (AwsError, DataError) as error:
        print(f"{SCHEME_JSON} is missing, without it these classes cannot be evaluated: {error}", file=sys.stderr)
        return None
    finally:
        archive.unlink(missing_ok=True)


def _is_masked_face(response: Response) -> bool:
    number = response["prediction"]
    if number is None:
        return True
    if not isinstance(number, int) or not 0 <= number < MASKED_FACES.num_classes:
        return False
    return response.get("label") in (None, MASKED_FACES.classes[number])


def _scheme_of(archive: Path) -> LabelScheme:
    """Return the label scheme in the model.json of a model.tar.gz; raise DataError if there is none."""
    try:
        with tarfile.open(archive, "r|*") as tar:
            for member in tar:
                if member.name.removeprefix("./") == "model.json" and (file := tar.extractfile(member)):
                    return LabelScheme.from_dict(json.load(file)["scheme"])
    except (tarfile.TarError, ValueError, KeyError, TypeError, EOFError) as error:
        raise DataError(f"model.json does not describe its classes ({error!r})") from None
    raise DataError("the archive of the model has no model.json")
